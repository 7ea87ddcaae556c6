"""Folders of tensors and texts that are whole or absent, and the row of them that a training run leaves.

A folder is written beside its place under a hidden name, brought to the disk file by file, given its manifest last, and
renamed. A save that is killed at any moment leaves what stood there before; what it leaves beside is hidden and is
swept later. Tensors are safetensors, everything else is text: nothing that is read here can execute.

Reading does not verify. `manifest.verify(folder)` is a call of its own, since hashing takes longer than reading.
"""

import contextlib
import errno
import json
import os
import re
import shutil
import warnings
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from unsteep.pages.files import synced
from unsteep.storage.foreign import Unreadable, reading
from unsteep.storage.manifest import (
    MANIFEST,
    Corrupt,
    replace_listed,
    verify,
    write_durably,
    write_manifest,
)
from unsteep.storage.state import flatten_state, unflatten_state

__all__ = [
    "flatten_state",
    "latest",
    "load_tensors",
    "load_text",
    "prune",
    "restore",
    "save_folder",
    "step_folders",
    "step_of",
    "unflatten_state",
    "update_tensors",
    "with_latest",
]

T = TypeVar("T")
STEP, OS_ERROR = re.compile(r"step-(\d+)"), re.compile(r"\(os error (\d+)\)")


def save_folder(path: Path, *, tensors: dict[str, dict[str, Tensor]], texts: dict[str, str]) -> None:
    """Write `<name>.safetensors` for each group of tensors, and each text under its file name, as the folder `path`.

    A folder that is already there is replaced. Tensors of any device, dtype, shape and layout; tensors that share
    memory are stored one by one. Raises ValueError, with the disk as it was before, if it is too full.
    """
    assert MANIFEST not in texts, f"{MANIFEST} is written by the save itself"
    path.parent.mkdir(parents=True, exist_ok=True)
    restore(path)
    partial = _partial(path)
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir()
        fill_folder(partial, tensors=tensors, texts=texts)
    except BaseException as error:
        shutil.rmtree(partial, ignore_errors=True)
        if _disk_is_full(error):
            raise ValueError(_full(path, tensors, texts)) from error
        raise
    _swap(partial, path)


def fill_folder(folder: Path, *, tensors: dict[str, dict[str, Tensor]], texts: dict[str, str]) -> None:
    """What `save_folder` writes, into a folder that is there and that nobody knows yet; its manifest last."""
    for name, group in tensors.items():
        _write_tensors(folder / f"{name}.safetensors", group)
    for name, text in texts.items():
        write_durably(folder / name, text)
    write_manifest(folder)


def update_tensors(path: Path, name: str, tensors: dict[str, Tensor]) -> None:
    """Add `tensors` to `<path>/<name>.safetensors`, in place of those of the same names, and to the folder's manifest.

    Killed at any moment, the folder verifies, with the old file or the new one. Raises ValueError, with the disk as it
    was before, if it is too full.
    """
    file = path / f"{name}.safetensors"
    together = load_tensors(path, name) | tensors
    beside = path / f".{file.name}.partial"
    try:
        _write_tensors(beside, together)
        replace_listed(beside, file)
    except BaseException as error:
        beside.unlink(missing_ok=True)
        if _disk_is_full(error):
            raise ValueError(_full(path, {name: together}, {})) from error
        raise


def restore(path: Path) -> None:
    """Put back the folder that a save, killed between its two renames, had moved aside from `path`."""
    if not path.exists() and _aside(path).exists():
        with contextlib.suppress(OSError):  # another process came first, or may not write here
            _aside(path).rename(path)


def load_tensors(path: Path, name: str, device: str = "cpu") -> dict[str, Tensor]:
    """The tensors of `<path>/<name>.safetensors`. Raises ValueError if there is no such file, or it is another."""
    file = path / f"{name}.safetensors"
    if not file.is_file():
        raise ValueError(f"{file}: expected a safetensors file, got nothing; is {path} the right folder?")
    with corrupting(file, "a safetensors file"):
        return load_file(file, device=device)


def load_text(path: Path, name: str) -> str:
    """The text of `<path>/<name>`. Raises ValueError if there is none or it is not UTF-8."""
    file = path / name
    if not file.is_file():
        raise ValueError(f"{file}: expected a text file, got nothing; is {path} the right folder?")
    with corrupting(file, "UTF-8 text"):
        return file.read_bytes().decode()


def step_folders(root: Path) -> list[Path]:
    """The finished folders `step-<number>` in `root`, oldest step first."""
    steps = {p: int(m[1]) for p in root.glob("step-*") if (m := STEP.fullmatch(p.name)) and (p / MANIFEST).is_file()}
    return sorted(steps, key=steps.__getitem__)


def step_folder(root: Path, step: int) -> Path:
    """Where a step is saved."""
    return root / f"step-{step:08d}"


def step_of(folder: Path) -> int:
    """The step that a step folder's name says."""
    return int(folder.name.removeprefix("step-"))


def latest(root: Path) -> Path | None:
    """The newest step folder that verifies, None if there is none; a warning names each newer one that does not."""
    for aside in root.glob(".step-*.aside"):
        restore(root / aside.name[1:].removesuffix(".aside"))
    named = {p: int(m[1]) for p in root.glob("step-*") if (m := STEP.fullmatch(p.name)) and p.is_dir()}
    for folder in sorted(named, key=named.__getitem__, reverse=True):
        try:
            check_whole(folder)
        except Corrupt as error:
            if not folder.exists():  # whoever trains made room meanwhile
                return latest(root)
            warnings.warn(f"skipped {folder.name}: {error}", stacklevel=2)
        else:
            return folder
    return None


def with_latest(root: Path, use: Callable[[Path], T]) -> T | None:
    """What `use` makes of the newest step folder that verifies, None without one. Whoever trains may remove it while
    it is read, having saved a newer one, which is then taken."""
    while (folder := latest(root)) is not None:
        try:
            return use(folder)
        except (ValueError, OSError):
            if folder.exists():
                raise
    return None


def check_whole(folder: Path) -> None:
    """Corrupt where a step folder is not what was written, or holds the state of another step than its name says."""
    verify(folder)
    file, step = folder / "state.json", step_of(folder)
    if file.is_file():
        with corrupting(file, "the state of a training"):
            holds = json.loads(file.read_bytes())["step"]
        if holds != step:
            raise Corrupt(f"{folder}: it holds step {holds}, so it was renamed or put there; use another save")


@contextmanager
def corrupting(file: Path, expected: str) -> Iterator[None]:
    """`foreign.reading`, of files that a save wrote: what cannot be read is damaged."""
    try:
        with reading(file, expected, "use another copy"):
            yield
    except Unreadable as error:
        raise Corrupt(str(error)) from error


def prune(root: Path, keep: int, also: Collection[Path] = ()) -> None:
    """Remove all but the newest `keep` step folders and those in `also`, and what killed saves left beside them.

    The newest one that verifies stays in any case, be it older than `keep` corrupt ones.
    """
    good = latest(root)
    folders = step_folders(root)
    for folder in folders[: max(len(folders) - keep, 0)]:
        if folder != good and folder not in also:
            take_away(folder)
    for leftover in [*root.glob(".step-*.partial"), *root.glob(".step-*.aside")]:
        shutil.rmtree(leftover)


def take_away(folder: Path) -> None:
    """Removes a folder, whole or not at all: a removal can be killed, too."""
    partial = _partial(folder)
    shutil.rmtree(partial, ignore_errors=True)  # of a save that was killed
    folder.rename(partial)
    shutil.rmtree(partial)


def _write_tensors(file: Path, tensors: dict[str, Tensor]) -> None:
    try:
        save_file(_separate(tensors), file)
    except SafetensorError as error:  # which carries the system's error in its words alone
        if code := OS_ERROR.search(str(error)):
            raise OSError(int(code[1]), os.strerror(int(code[1])), str(file)) from error
        raise
    file.chmod(file.parent.stat().st_mode & 0o666)  # the library makes files that only their owner reads
    synced(file)


def _swap(partial: Path, path: Path) -> None:
    aside = _aside(path)
    while True:
        if path.exists():
            shutil.rmtree(aside, ignore_errors=True)
            path.rename(aside)
        try:
            partial.rename(path)
            break
        except OSError:
            if not path.exists():
                raise
            # between the two renames a reader took the save for a killed one and restored: once more
    synced(path.parent)
    shutil.rmtree(aside, ignore_errors=True)


def _partial(path: Path) -> Path:
    return path.with_name(f".{path.name}.partial")


def _aside(path: Path) -> Path:
    return path.with_name(f".{path.name}.aside")


def _separate(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same values, contiguous and each in memory of its own, as the format wants them."""
    seen: set[int] = set()
    separate = {}
    for name, tensor in tensors.items():
        contiguous = tensor.detach().contiguous()
        memory = contiguous.untyped_storage().data_ptr()
        separate[name] = contiguous.clone() if memory in seen else contiguous
        seen.add(memory)
    return separate


def _disk_is_full(error: BaseException) -> bool:
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def _full(path: Path, tensors: dict[str, dict[str, Tensor]], texts: dict[str, str]) -> str:
    need = sum(t.numel() * t.element_size() for group in tensors.values() for t in group.values())
    need += sum(len(text.encode()) for text in texts.values())
    free = shutil.disk_usage(path.parent).free
    return (
        f"{path}: expected about {need / 1e6:.1f} MB of free space to save it, got {free / 1e6:.1f} MB on a full disk;"
        f" free some and save again (what was saved before is untouched)"
    )
