"""Examples in memory: what most sources give, and what a tensor of one's own becomes."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from unsteep.core import masked
from unsteep.core.arguments import check_valid, check_weight, integers, kind, number, shown, whole
from unsteep.core.protocols import Rows
from unsteep.data.choosing import shorten

SHOWN_CLASSES = 12
DARK = 32  # the largest byte of pictures that may have been meant otherwise
FAINT = 0.6  # of their range, that continuous pictures fill which may have been meant otherwise
SHOWN_SKIPPED = 3
SHOWN_CAPTIONS = 3
BYTES, WORDS = 256, 65536  # values of uint8 and of uint16
KINDS = {1: "grey", 3: "colour", 4: "colour and transparency"}


@dataclass(frozen=True, eq=False)
class Examples:
    """A `DataSet` in memory.

    x: pictures (n, c, h, w) of uint8, uint16 or float32; vectors float32 (n, d); sequences float32 (n, frames,
    features), of which `valid` bool (n, frames) says which frames are real, and `weight` float32 (n, frames, features)
    how much each number counts, 0 for one that is missing; None: all alike.
    labels: int64 (n,), each an index into `names`; None without classes.
    names: the classes' names, () without classes.
    files: names relative to the folder read, () for other sources.
    captions: a text for each example, () without.
    aligned: a picture beside each (n, c', h, w) of the same size; None without.
    levels: how many values the source is taken to have; None where it is continuous, pictures then in `range`.
    skipped: (file, reason) of what could not be read.
    source: one line telling where the examples came from.
    """

    x: Tensor
    labels: Tensor | None = None
    names: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    levels: int | None = BYTES
    skipped: tuple[tuple[str, str], ...] = ()
    source: str = ""
    captions: tuple[str, ...] = ()
    aligned: Tensor | None = None
    valid: Tensor | None = None
    range: tuple[float, float] = (0.0, 1.0)
    weight: Tensor | None = None

    def __post_init__(self) -> None:
        self._check_kinds()
        for name in ("labels", "aligned", "valid", "weight"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, Tensor) or not value.ndim):
                raise ValueError(f"{name}: expected a tensor, got {shown(value)}; convert it")
            if value is not None and len(value) != len(self.x):
                raise ValueError(f"{name}: expected one for each of {len(self.x)} examples, got {len(value)}")
        for name in ("files", "captions"):
            if getattr(self, name) and len(getattr(self, name)) != len(self.x):
                raise ValueError(f"{name}: expected one for each of {len(self.x)}, got {len(getattr(self, name))}")
        if len(set(self.names)) < len(self.names):
            raise ValueError(f"names: expected one name for each class, got some twice: {', '.join(self.names)}")
        if self.labels is not None and len(self.labels):
            first, last = int(self.labels.min()), int(self.labels.max())
            if not self.names and first >= 0:
                object.__setattr__(self, "names", tuple(map(str, range(last + 1))))
            if first < 0 or last >= len(self.names):
                raise ValueError(
                    f"labels: expected numbers from 0 to {len(self.names) - 1}, one of {len(self.names)} names each, "
                    f"got {first} to {last}"
                )

    def _check_kinds(self) -> None:
        """ValueError where a field is of another type."""
        if not isinstance(self.x, Tensor) or self.x.ndim < 2 or self.x.is_complex():
            raise ValueError(f"x: expected a tensor of examples (n, ...), got {shown(self.x)}; convert it")
        for name in ("names", "files", "captions", "skipped"):
            kind(name, getattr(self, name), tuple, "a tuple", "make it one")
        for name in ("names", "files", "captions"):
            for one in getattr(self, name):
                kind(name, one, str, "texts")
        if self.levels is not None:
            whole("levels", self.levels, 2, WORDS)
        if not isinstance(self.range, tuple) or len(self.range) != 2:
            raise ValueError(f"range: expected two numbers (low, high), got {shown(self.range)}; give both")
        low, high = (number("range", one) for one in self.range)
        if not low <= high:
            raise ValueError(f"range: expected low <= high, got {low} and {high}; give them in this order")
        kind("source", self.source, str, "a text")
        self._check_masks()
        if self.x.ndim == 4 and self.x.is_floating_point():
            if self.levels is not None:
                raise ValueError(
                    f"levels: expected none, since float pictures are continuous, got {self.levels}; give levels=None "
                    "and their range, or whole numbers"
                )
            if self.x.numel() and not bool(((self.x >= low) & (self.x <= high)).all()):
                raise ValueError(
                    f"range: expected pictures from {low:g} to {high:g}, got values from {float(self.x.min()):g} to "
                    f"{float(self.x.max()):g}; give their range"
                )
        if self.labels is not None:
            integers("labels", kind("labels", self.labels, Tensor, "a tensor int64 (n,)", "convert it"))

    def _check_masks(self) -> None:
        """ValueError for masks and weights of other shapes."""
        for name, check, axes in (("valid", check_valid, 2), ("weight", check_weight, self.x.ndim)):
            if isinstance(getattr(self, name), Tensor):
                check(name, getattr(self, name), tuple(self.x.shape[:axes]))

    def __len__(self) -> int:
        return len(self.x)

    def rows(self, index: Tensor) -> Rows:
        """The examples at `index` (b,) int64. ValueError for positions that there are not."""
        check_positions(index, len(self))
        return Rows(
            x=self.x[index],
            valid=None if self.valid is None else self.valid[index],
            label=None if self.labels is None else self.labels[index],
            caption=tuple(self.captions[i] for i in index.tolist()) if self.captions else None,
            beside=None if self.aligned is None else self.aligned[index],
            index=index,
            weight=None if self.weight is None else self.weight[index],
        )

    @property
    def known(self) -> Tensor | None:
        """Which numbers of x are known: bool (n, frames), or finer where some are missing; None where all are."""
        return masked.known(self.valid, self.weight)

    def select(self, index: Tensor | slice | Sequence[int]) -> "Examples":
        """The examples at `index` (positions, a mask or a slice), in that order; the classes stay as they are."""
        rows = torch.arange(len(self))[index].tolist()
        return replace(
            self,
            x=self.x[index],
            labels=None if self.labels is None else self.labels[index],
            files=tuple(self.files[row] for row in rows) if self.files else (),
            captions=tuple(self.captions[row] for row in rows) if self.captions else (),
            aligned=None if self.aligned is None else self.aligned[index],
            valid=None if self.valid is None else self.valid[index],
            weight=None if self.weight is None else self.weight[index],
        )

    @cached_property
    def digest(self) -> str:
        """SHA-256 (64 hex digits) of the examples, labels, class names, captions, aligned pictures and masks."""
        return digest_of(self, str(self.x.dtype), [self.x], *([one] for one in (self.aligned, self.valid, self.weight)))

    def summary(self) -> list[tuple[str, str]]:
        """Rows (name, text) to print before training: what was read, how much, of what kind."""
        wide = self.x.to(torch.int32) if self.x.dtype == torch.uint16 else self.x
        real = wide if self.known is None else wide[self.known]  # what pads a sequence has no part in it
        return summary_of(self, real.min().item(), real.max().item(), self.valid)


def check_positions(index: Tensor, n: int) -> None:
    """ValueError where `index` is no tensor of positions among n examples."""
    integers("index", index)
    if len(index) and not 0 <= int(index.min()) <= int(index.max()) < n:
        raise ValueError(
            f"index: expected positions from 0 to {n - 1}, got {int(index.min())} to {int(index.max())}; give others"
        )


def digest_of(data: Any, dtype: str, x: Iterable[Tensor], *beside: Iterable[Tensor | None]) -> str:
    """SHA-256 of examples whose numbers come in parts, as `Examples.digest`."""
    head = [dtype, list(data.x.shape), data.labels is not None, data.names]
    if data.captions:
        head.append(data.captions)
    sha = hashlib.sha256(json.dumps(head).encode())
    for parts in (x, [data.labels], *beside):
        for part in parts:
            if part is not None:
                sha.update(part.contiguous().numpy().data)
    return sha.hexdigest()


def minds(low: float, high: float, levels: int | None, ends: tuple[float, float]) -> list[tuple[str, str]]:
    """What to mind of pictures with values from `low` to `high`, which leave much of their range empty."""
    if levels == WORDS and high < WORDS // 8:
        return [("mind", f"values reach {high} of {WORDS - 1}; scale them if they have fewer than 16 bits")]
    if levels == BYTES and high < DARK:
        return [("mind", f"values reach {high} of 255, nearly black; scale them if that is meant white")]
    if levels is None and high - low < FAINT * (ends[1] - ends[0]):
        said = f"values go from {low:.4g} to {high:.4g}, read as {ends[0]:g} black and {ends[1]:g} white"
        return [("mind", f"{said}; scale them if their own ends are meant so")]
    return []


def summary_of(data: Any, low: float, high: float, valid: Tensor | None = None) -> list[tuple[str, str]]:
    """Rows (name, text) of examples whose values go from `low` to `high`."""
    shape = tuple(data.x.shape[1:])
    rows = [("source", data.source), ("count", f"{len(data):,}"), *shaped(shape)]
    if data.levels is None or len(shape) != 3:
        rows.append(("value range", f"{low:.4g} to {high:.4g}"))
    else:
        rows.append(("value range", f"{low} to {high}, {data.levels} grey levels"))
    if len(shape) == 3:
        rows += minds(low, high, data.levels, data.range if data.levels is None else (0, data.levels - 1))
    if valid is not None:
        lengths = valid.sum(1)
        rows.append(("lengths", f"{int(lengths.min())} to {int(lengths.max())} frames"))
    if data.labels is not None:
        counts = torch.bincount(data.labels, minlength=len(data.names)).tolist()
        shares = [f"{name}: {count:,}" for name, count in zip(data.names, counts, strict=True)]
        rows.append(("classes", f"{len(counts):,} ({shorten(shares, SHOWN_CLASSES)})"))
        if empty := counts.count(0):
            rows.append(("", f"{empty:,} of them without an example: a network learns nothing of these"))
    if data.captions:
        different = [f'"{caption}"' for caption in dict.fromkeys(data.captions)]
        rows.append(("captions", f"{len(different):,} different: {shorten(different, SHOWN_CAPTIONS)}"))
    if data.aligned is not None:
        rows.append(("aligned", "a picture beside each"))
    if data.skipped:
        rows.append(("skipped", _skipped(data.skipped)))
    return rows


def _skipped(skipped: Sequence[tuple[str, str]]) -> str:
    by: dict[str, list[str]] = {}
    for file, reason in skipped:
        by.setdefault(reason, []).append(file)
    kinds = sorted(by.items(), key=lambda one: -len(one[1]))
    reasons = [
        f"{files[0]} and {len(files) - 1:,} more ({reason})" if files[1:] else f"{files[0]} ({reason})"
        for reason, files in kinds
    ]
    return f"{len(skipped):,}: {shorten(reasons, SHOWN_SKIPPED)}"


def shaped(shape: tuple[int, ...]) -> list[tuple[str, str]]:
    """Rows (name, text) for the shape of one example."""
    if len(shape) == 3:
        channels, height, width = shape
        kind = KINDS.get(channels, "")
        return [
            ("size", f"{height} x {width} pixels (height x width)"),
            ("channels", f"{channels} ({kind})" if kind else str(channels)),
        ]
    if len(shape) == 2:
        return [("size", f"up to {shape[0]} frames of {shape[1]} numbers")]
    return [("size", f"{' x '.join(map(str, shape))} numbers")]
