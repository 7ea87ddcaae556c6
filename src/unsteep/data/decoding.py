"""Pictures from where they lie, brought to one form, and at which moment: all at once, or each when it is asked for.

Every file is decoded once, before a run begins, so that none is found broken in the middle of it. What that gave is
kept in the cache (see `cache`), and the next run takes it from there. Few pictures are then held in memory. Many are
read when they are asked for: from a memory map of the cache where all of them fit there, else from their files.
Pillow frees the interpreter while it decodes, so a pool of threads is enough.
"""

from __future__ import annotations

import json
import mmap
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import cached_property
from io import BufferedReader
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from unsteep.core.budget import share
from unsteep.data import cache
from unsteep.data.choosing import shorten
from unsteep.data.pictures import DRAWN, Crop, load_picture, reason
from unsteep.data.places import Places
from unsteep.data.reading import taken
from unsteep.pages.progress import bar

IN_MEMORY = 256 << 20  # bytes; more pictures than that are read when they are asked for
WORTH = 200  # pictures that are worth keeping
CHUNK = 512  # pictures decoded ahead of the one being stored
VALUES, WHAT = "pictures.bin", "kept.json"

Bad = list[tuple[str, str]]


@dataclass(frozen=True, kw_only=True)
class Form:
    """What pictures are brought to: see `load_picture`."""

    channels: int
    height: int
    width: int
    crop: Crop = "center"
    bits: int = 8

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.channels, self.height, self.width

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(np.uint8 if self.bits == 8 else np.uint16)

    def size(self, n: int) -> int:
        """Bytes of n pictures."""
        return n * int(np.prod(self.shape)) * self.dtype.itemsize

    def load(self, places: Places, i: int, several: Callable[[], object] = lambda: None) -> np.ndarray:
        """A picture of this form (see `load_picture`). ValueError, or whatever Pillow raises on a damaged file."""
        return load_picture(places.open(i), **asdict(self), ours=False, several=several)


class Apart(Protocol):
    """Pictures (n, c, h, w) that are not in memory."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def where(self) -> str:
        """In words."""
        ...

    def take(self, index: np.ndarray) -> Tensor:
        """Some, in memory."""
        ...


@dataclass(frozen=True, eq=False)
class Mapped:
    """In one file of numbers, which stays open: the cache may have made room meanwhile. It is mapped while it is read,
    so that what was read leaves no trace in memory."""

    file: BufferedReader
    shape: tuple[int, ...]
    dtype: np.dtype
    where: str

    def take(self, index: np.ndarray) -> Tensor:
        with mmap.mmap(self.file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            return torch.from_numpy(np.frombuffer(mapped, self.dtype).reshape(self.shape)[index])


@dataclass(frozen=True, eq=False)
class Encoded:
    """As they lie, decoded when they are asked for."""

    places: Places
    index: np.ndarray
    form: Form
    where: str = "decoded when they are asked for, since there is no room to keep them decoded"

    @property
    def shape(self) -> tuple[int, ...]:
        return len(self.index), *self.form.shape

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor()

    def take(self, index: np.ndarray) -> Tensor:
        x = np.empty((len(index), *self.form.shape), self.form.dtype)
        for row, picture in enumerate(self._pool.map(self._one, self.index[index].tolist())):
            x[row] = picture
        return torch.from_numpy(x)

    def _one(self, i: int) -> np.ndarray:
        try:
            return self.form.load(self.places, i)
        except Exception as error:  # decoders raise nearly anything on damaged files
            where, name = self.places.where, self.places.names[i]
            raise ValueError(f"{where}: {name} could be read before, and not now ({reason(error)})") from None


@dataclass(frozen=True, eq=False)
class Decoded:
    """`x`: pictures (n, c, h, w), in memory or apart; `kept` (n,): their positions in what was chosen; `bad`: (name,
    reason) of the others; `range`: the smallest and the largest value; `entry`: where in the cache this is kept;
    `several`: how many have more frames or pages than the first, which was taken."""

    x: Tensor | Apart
    kept: np.ndarray
    bad: Bad
    range: tuple[int, int]
    entry: cache.Entry | None = None
    several: int = 0

    @property
    def words(self) -> list[str]:
        """What else is to be told of them."""
        return [f"the first frame of {self.several:,} with several"] if self.several else []


def decode(
    places: Places, chosen: np.ndarray, form: Form, *, limit: int = 0, max_bad: float = 0.1, watched: bool = True
) -> Decoded:
    """The pictures at the positions `chosen`, at most `limit` of them (0: all). ValueError where none can be read, or
    more than the share `max_bad` cannot."""
    wanted = min(limit, len(chosen)) if limit else len(chosen)
    kept = wanted >= WORTH and cache.entry(
        "pictures", {"form": asdict(form), "of": places.stamp(chosen), "limit": limit, "version": 2}
    )
    entry = kept or None
    found = None if entry is None else _read(entry, places, chosen, form)
    if found is None:
        found = _made(places, chosen, form, wanted, entry, watched)
    _check(places.where, found, max_bad)
    return found


def _check(where: str, found: Decoded, max_bad: float) -> None:
    ours = [name for name, why in found.bad if why == DRAWN]
    bad = [(name, why) for name, why in found.bad if why != DRAWN]
    examples = shorten([f"{name} ({why})" for name, why in bad], 3)
    n = len(found.kept)
    if not n and not bad:
        raise ValueError(f"{where}: all {len(ours)} pictures in it were {DRAWN}: give a folder of data")
    if not n:
        raise ValueError(f"{where}: none of its {len(bad)} picture files can be read, {examples}: check the folder")
    if len(bad) > max_bad * (len(bad) + n):
        raise ValueError(
            f"{where}: {len(bad)} of {len(bad) + n} picture files cannot be read, {examples}: "
            "mend or remove them, or raise data.max_bad"
        )


def _made(
    places: Places, chosen: np.ndarray, form: Form, wanted: int, entry: cache.Entry | None, watched: bool
) -> Decoded:
    """Decodes every picture once, and keeps what that gave."""
    size = form.size(wanted)
    shape = (wanted, *form.shape)
    if entry is None:
        x = np.empty(shape, form.dtype) if size <= share(IN_MEMORY) else None
        made, rows = _walked(places, chosen, form, wanted, x, watched)
        return _found(places, chosen, form, made, None if x is None else torch.from_numpy(x[:rows]), None)
    try:
        with entry.writing() as folder:
            fits = size <= cache.room()
            x = reserved(folder / VALUES, form.dtype, shape) if fits and size else None
            made, rows = _walked(places, chosen, form, wanted, x, watched)
            if x is not None:
                x.flush()
                del x
                with (folder / VALUES).open("r+b") as file:
                    file.truncate(form.size(rows))
            (folder / WHAT).write_text(json.dumps(made), encoding="utf-8")
    except OSError:  # it cannot be kept
        return _made(places, chosen, form, wanted, None, watched)
    found = _read(entry, places, chosen, form)
    return _found(places, chosen, form, made, None, None) if found is None else found


def reserved(path: Path, dtype: np.dtype, shape: tuple[int, ...]) -> np.memmap | None:
    """Numbers of this shape in a file; None where there is no space for them."""
    x = np.memmap(path, dtype, mode="w+", shape=shape)
    with path.open("r+b") as file:
        if taken(file.fileno(), x.nbytes):
            return x
    path.unlink(missing_ok=True)
    return None


def _walked(
    places: Places, chosen: np.ndarray, form: Form, wanted: int, x: np.ndarray | None, watched: bool
) -> tuple[dict, int]:
    """Fills x with the pictures that can be read: which these are, which are bad, and their range; and how many."""

    def attempt(i: int) -> np.ndarray | str:
        try:
            return form.load(places, i, lambda: several.add(i))
        except Exception as error:  # decoders raise nearly anything on damaged files
            return reason(error)

    several: set[int] = set()
    kept: list[int] = []
    bad: list[tuple[int, str]] = []
    low, high = (1 << 16), 0
    chunks = (chosen[at : at + CHUNK].tolist() for at in range(0, len(chosen), CHUNK))
    with ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        warnings.filterwarnings("ignore", module="PIL")  # what cannot be read is told once, in `skipped`
        advance = stack.enter_context(bar(watched, wanted, "reading pictures"))
        pool = ThreadPoolExecutor()
        stack.callback(pool.shutdown, cancel_futures=True)  # at the limit, or interrupted: no more is decoded
        for position, result in enumerate(result for chunk in chunks for result in pool.map(attempt, chunk)):
            if isinstance(result, str):
                bad.append((position, result))
                continue
            if x is not None:
                x[len(kept)] = result
            low, high = min(low, int(result.min())), max(high, int(result.max()))
            kept.append(position)
            advance()
            if len(kept) == wanted:
                break
    whole = len(kept) == len(chosen)
    made = {"n": len(kept), "kept": None if whole else kept, "bad": bad, "range": [low, high]}
    return made | {"several": len(several.intersection(chosen[kept].tolist())) if several else 0}, len(kept)


def _read(entry: cache.Entry, places: Places, chosen: np.ndarray, form: Form) -> Decoded | None:
    """What was kept; None where nothing was, or it will not do."""
    if not entry.holds(WHAT):
        return None
    try:
        made = json.loads((entry.folder / WHAT).read_text("utf-8"))
        size, values = form.size(made["n"]), entry.folder / VALUES
        if not values.exists():
            return _found(places, chosen, form, made, None, entry)
        if values.stat().st_size != size:
            return None
        shape = (made["n"], *form.shape)
        if size <= share(IN_MEMORY):
            held = torch.from_numpy(np.fromfile(values, form.dtype).reshape(shape))
            return _found(places, chosen, form, made, held, entry)
        where = f"{size / 1e9:.1f} GB decoded in {entry.folder.parent}"
        return _found(places, chosen, form, made, Mapped(values.open("rb"), shape, form.dtype, where), entry)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _found(
    places: Places, chosen: np.ndarray, form: Form, made: dict, x: Tensor | Apart | None, entry: cache.Entry | None
) -> Decoded:
    kept = np.arange(made["n"]) if made["kept"] is None else np.array(made["kept"], np.int64)
    bad = [(places.names[chosen[position]], why) for position, why in made["bad"]]
    low, high = made["range"]
    stands = Encoded(places, chosen[kept], form) if x is None else x
    return Decoded(stands, kept, bad, (low, high), entry, made["several"])


def in_pieces(x: Tensor | Apart, size: int = CHUNK) -> Iterator[Tensor]:
    """All of them in their order, some at a time."""
    n = x.shape[0]
    for at in range(0, n, size):
        yield x[at : at + size] if isinstance(x, Tensor) else x.take(np.arange(at, min(n, at + size)))


def chosen_of(names: Sequence[str], of: Sequence[int] | np.ndarray) -> tuple[str, ...]:
    """Some of the names, as they are."""
    return tuple(map(names.__getitem__, of))
