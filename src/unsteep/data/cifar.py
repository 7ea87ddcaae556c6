"""CIFAR-10 and CIFAR-100: colour pictures of 32 x 32, in the layouts in which their authors give them.

    cifar-10-binary.tar.gz      data_batch_1.bin ... test_batch.bin: a class and 3,072 bytes each
    cifar-100-binary.tar.gz     train.bin, test.bin: a group, a class and 3,072 bytes each
    cifar-10-python.tar.gz      data_batch_1 ... test_batch: pickles, which are read without running them
    cifar-100-python.tar.gz     train, test

packed or unpacked. The bytes are red, green and blue, row by row (A. Krizhevsky, Learning multiple layers of features
from tiny images, 2009). The names of the classes are those of the files beside, else their numbers.
"""

from __future__ import annotations

import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from unsteep.core.protocols import Split
from unsteep.data.choosing import choose
from unsteep.data.examples import Examples
from unsteep.data.pickled import unpickled
from unsteep.storage.foreign import reading

SHAPE = (3, 32, 32)
NUMBERS = 3 * 32 * 32
TEN = [f"data_batch_{i}" for i in range(1, 6)]
PARTS: dict[Split, tuple[list[str], list[str]]] = {  # of CIFAR-10, and of CIFAR-100
    "train": (TEN, ["train"]),
    "test": (["test_batch"], ["test"]),
    "all": ([*TEN, "test_batch"], ["train", "test"]),
}
NAMES = ("batches.meta", "meta", "batches.meta.txt", "fine_label_names.txt", "coarse_label_names.txt")
MOST = 200 << 20  # bytes of a file
LAYOUTS = "cifar-10-binary.tar.gz, cifar-10-python.tar.gz, those of cifar-100, or the folder that they unpack to"


@dataclass(frozen=True, kw_only=True)
class Cifar:
    """The pictures of CIFAR-10 or CIFAR-100, with the split their authors made.

    path: the archive, or the folder it unpacks to; classes: of CIFAR-100, its 100 "fine" ones or the 20 "coarse" ones;
    labels: keep these class numbers; limit: keep the first so many.
    """

    path: str
    classes: Literal["fine", "coarse"] = "fine"
    labels: tuple[int, ...] = ()
    limit: int = 0

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width."""
        return SHAPE

    def read(self, split: Split = "train") -> Examples:
        """uint8 (n, 3, 32, 32). ValueError naming the file that is missing or broken."""
        where = Path(self.path).expanduser()
        files = _files(where)
        ten, hundred = PARTS[split]
        there = {name.removesuffix(".bin") for name in files}
        if {"test_batch", "test"} <= there:
            raise ValueError(f"data.path: {where} holds CIFAR-10 and CIFAR-100; give the folder or archive of one")
        wanted = ten if "test_batch" in there else hundred
        if wanted is ten and self.classes == "coarse":
            raise ValueError(f"data.classes: {where} is CIFAR-10, which has no coarse ones; leave it out")
        read = [self._part(files, name, where) for name in wanted]
        x = np.concatenate([pixels for pixels, _ in read])
        numbers = np.concatenate([labels for _, labels in read])
        names = self._names(files, where)
        classes = {int(n): names[n] if n < len(names) else str(n) for n in np.unique(numbers)}
        chosen = choose(
            len(x),
            source=str(where),
            split="all",
            numbers=numbers,
            classes=dict(enumerate(names)) if len(names) > max(classes) else classes,
            labels=self.labels,
            limit=self.limit,
        )
        pixels = x if len(chosen.index) == len(x) else x[chosen.index]
        source = f"{where}, the {split} pictures" if split != "all" else f"{where}, all pictures"
        return Examples(torch.from_numpy(pixels), chosen.labels, chosen.names, source=source)

    def _part(self, files: dict[str, bytes], name: str, where: Path) -> tuple[np.ndarray, np.ndarray]:
        """Pictures (n, 3, 32, 32) and class numbers (n,) of one file."""
        hundred = name in ("train", "test")
        if f"{name}.bin" in files:
            content = np.frombuffer(files[f"{name}.bin"], np.uint8)
            wide = NUMBERS + 1 + hundred
            if not len(content) or len(content) % wide:
                raise ValueError(f"{where}: {name}.bin holds {len(content)} bytes, no multiple of {wide}: get it again")
            rows = content.reshape(-1, wide)
            labels = rows[:, 0 if self.classes == "coarse" or not hundred else 1]
            return rows[:, -NUMBERS:].reshape(-1, *SHAPE).copy(), labels.astype(np.int64)
        if name not in files:
            raise ValueError(f"{where} holds no {name} or {name}.bin: expected {LAYOUTS}")
        key = f"{self.classes}_labels" if hundred else "labels"
        with reading(f"{where}: {name}", "a part of CIFAR"):
            held = {_text(key): value for key, value in unpickled(files[name]).items()}
            x, labels = held["data"], np.array(held[key], np.int64)
            if x.shape != (len(labels), NUMBERS) or not len(labels) or labels.min() < 0:
                raise ValueError(f"pictures of shape {x.shape} and {len(labels)} labels")
        return x.reshape(-1, *SHAPE).copy(), labels

    def _names(self, files: dict[str, bytes], where: Path) -> list[str]:
        """The names of the classes, where a file tells them."""
        for name in ("batches.meta", "meta"):
            if name in files:
                with reading(f"{where}: {name}", "the names of classes"):
                    held = {_text(key): value for key, value in unpickled(files[name]).items()}
                    key = "label_names" if "label_names" in held else f"{self.classes}_label_names"
                    return [_text(one) for one in held[key]]
        for name in ("batches.meta.txt", f"{self.classes}_label_names.txt"):
            if name in files:
                return files[name].decode("utf-8", "replace").split()
        return []


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _wanted(name: str) -> bool:
    return name in NAMES or name.removesuffix(".bin") in (*PARTS["all"][0], *PARTS["all"][1])


def _files(where: Path) -> dict[str, bytes]:
    """The files of a data set by their names, from an archive or a folder, whatever folders they lie in."""
    if where.is_dir():
        found = [file for depth in ("*/*", "*") for file in where.glob(depth) if file.is_file() and _wanted(file.name)]
        return {file.name: file.read_bytes() for file in found if file.stat().st_size <= MOST}
    if not where.is_file():
        raise ValueError(f"data.path: expected {LAYOUTS}, found none at {where}: check the path")
    files = {}
    with reading(where, LAYOUTS), tarfile.open(where) as archive:
        for member in archive:
            name = member.name.rpartition("/")[2]
            content = archive.extractfile(member) if member.isreg() and _wanted(name) else None
            if content is not None and member.size <= MOST:
                files[name] = content.read()
    return files
