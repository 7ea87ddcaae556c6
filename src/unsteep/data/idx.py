"""MNIST and its family: pictures and labels in idx files, plain or gzipped.

An idx file is: two zero bytes, a byte for the element type (0x08: unsigned byte, the only one read here), a byte
for the number of dimensions, each dimension as a big-endian 32-bit integer, then the elements in C order
(Y. LeCun, C. Cortes, C. Burges, The MNIST database of handwritten digits). MNIST, KMNIST and Fashion-MNIST name
their files alike; EMNIST puts the name of one of its sets in front and stores every picture transposed
(G. Cohen et al., EMNIST: an extension of MNIST to handwritten letters, 2017).
"""

import gzip
import io
import re
import zlib
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
import torch

from unsteep.core.budget import fits
from unsteep.core.protocols import Split
from unsteep.data.choosing import choose
from unsteep.data.examples import Examples
from unsteep.storage.foreign import reading

FASHION = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
PARTS: dict[Split, tuple[str, ...]] = {"train": ("train",), "test": ("test",), "all": ("train", "test")}
DEPTHS = ("*/*/*", "*/*", "*")
FILE_NAME = re.compile(r"(?:(?P<set>.+)-)?(?P<part>train|t10k|test)-(?P<kind>images|labels)[-.]idx[13]-ubyte(?:\.gz)?")


def read_idx(path: str | Path) -> np.ndarray:
    """The unsigned bytes of an idx file, gzipped or not, with the dimensions its head declares.

    ValueError naming the file when it is no such file, or is shorter or longer than its head says.
    """
    with reading(path, "an idx file"):
        return _read_idx(Path(path))


def _read_idx(path: Path) -> np.ndarray:
    content = path.read_bytes()
    if content[:2] == b"\x1f\x8b":  # what it is, not what it is called: some downloads unpack and keep the name
        content = _unpacked(content, path)
    if len(content) < 4 or content[:2] != b"\0\0":
        raise ValueError(
            f"{path}: an idx file starts with two zero bytes, got {content[:4].hex() or 'nothing'}: get it again"
        )
    if content[2] != 0x08:
        raise ValueError(
            f"{path}: only idx files of unsigned bytes (type 08) are read, got type {content[2]:02x}: convert it"
        )
    start = 4 + 4 * content[3]
    shape = tuple(int.from_bytes(content[at : at + 4], "big") for at in range(4, start, 4))
    size = len(content) - start
    if size != prod(shape):
        raise ValueError(f"{path}: the head declares {shape}, {prod(shape)} bytes, got {size}: get it again")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape).copy()


def _unpacked(content: bytes, path: Path) -> bytes:
    """What a gzip file holds, and no more of it than its head declares, and one byte."""
    try:
        with gzip.open(io.BytesIO(content)) as file:
            head = file.read(4)
            head += file.read(4 * head[3]) if len(head) == 4 else b""
            sides = [int.from_bytes(head[at : at + 4], "big") for at in range(4, len(head), 4)]
            fits(prod(sides), f"{path}: unpacked it", "get it again")
            return head + file.read(prod(sides) + 1)
    except (EOFError, OSError, zlib.error) as error:
        raise ValueError(f"{path}: broken gzip file ({error}): get it again") from error


@dataclass(frozen=True, kw_only=True)
class Idx:
    """Pictures and labels in the idx files of one folder, with the split their authors made.

    path: the folder; prefix: which set, where the folder holds several ("emnist-letters");
    labels: keep these class numbers; limit: keep the first so many.
    """

    path: str
    prefix: str = ""
    labels: tuple[int, ...] = ()
    limit: int = 0

    def read(self, split: Split = "train") -> Examples:
        """uint8 (n, 1, h, w). ValueError naming the file that is missing, broken or does not fit its fellow."""
        folder = Path(self.path).expanduser()
        name, files = _choose_set(folder, self.prefix)
        pairs = [_read_pair(files, part, name, folder) for part in PARTS[split]]
        images = np.concatenate([images for images, _ in pairs])
        numbers = np.concatenate([numbers for _, numbers in pairs])
        if name.lower().startswith("emnist"):
            images = images.swapaxes(1, 2)

        # The classes are those of train and test together, so that both splits number them alike.
        labels = [read_idx(file) for (_, kind), file in files.items() if kind == "labels"]
        classes = {int(number): str(number) for number in np.unique(np.concatenate(labels))}
        clothes = _called(files) in ("fashion", "fashionmnist") and classes.keys() <= set(range(10))
        if clothes:
            classes = dict(enumerate(FASHION))

        chosen = choose(
            len(images),
            source=str(folder),
            split="all",
            numbers=numbers,
            classes=classes,
            labels=self.labels,
            limit=self.limit,
        )
        pixels = np.ascontiguousarray(images[chosen.index])[:, None]
        source = f"{folder}, the {' and '.join(PARTS[split])} pictures" + (f" of {name}" if name else "")
        source += ", classes named as those of Fashion-MNIST" if clothes else ""
        return Examples(torch.from_numpy(pixels), chosen.labels, chosen.names, source=source)


Files = dict[tuple[str, str], Path]  # ("train" or "test", "images" or "labels") -> the file


def _home(file: Path) -> Path:
    """The folder of a set: that of the file, or, where each lies in a folder of its own name, the one above."""
    return file.parent.parent if file.parent.name.startswith(file.name.removesuffix(".gz")) else file.parent


def _called(files: Files) -> str:
    """The letters of the name of the folder of a set, or of the one above where that only says raw."""
    home = _home(next(iter(files.values()))).resolve()
    return re.sub(r"[^a-z]", "", (home.parent if home.name == "raw" else home).name.lower())


def idx_files(folder: Path) -> list[Path]:
    """The idx files in a folder and up to two levels below it, where archives unpack them: the deepest first, and x.gz
    before x, so that the nearest and plainest comes last."""
    found = [file for depth in DEPTHS for file in sorted(folder.glob(depth), reverse=True)]
    return [file for file in found if FILE_NAME.fullmatch(file.name) and file.is_file()]


def _choose_set(folder: Path, prefix: str) -> tuple[str, Files]:
    """The set called `prefix`, or the only one there, or the one without a prefix: its name and files."""
    if not folder.is_dir():
        raise ValueError(
            f"data.path: expected a folder of idx files, found none at {folder}: give the folder they lie in"
        )
    homes: dict[Path, dict[str, Files]] = {}
    for file in idx_files(folder):
        match = FILE_NAME.fullmatch(file.name)
        assert match is not None
        part = "train" if match["part"] == "train" else "test"
        homes.setdefault(_home(file), {}).setdefault(match["set"] or "", {})[part, match["kind"]] = file
    if len(homes) > 1 and folder in homes:  # the nearest
        homes = {folder: homes[folder]}
    if len(homes) > 1:
        there = ", ".join(str(one) for one in sorted(homes))
        raise ValueError(f"{folder} holds idx files in several folders: set data.path to one of: {there}")
    sets = next(iter(homes.values()), {})
    if prefix in sets:
        return prefix, sets[prefix]
    if len(sets) == 1 and not prefix:
        return next(iter(sets.items()))
    if not sets:
        raise ValueError(
            f"{folder} holds no idx files: looked for train-images-idx3-ubyte, train-labels-idx1-ubyte, "
            "t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte, with or without .gz and a prefix: check data.path"
        )
    wanted = f"no set {prefix!r}" if prefix else "several sets"
    there = ", ".join(name or "(empty)" for name in sorted(sets))
    raise ValueError(f"{folder} holds {wanted}: set data.prefix to one of: {there}")


def _read_pair(files: Files, part: str, name: str, folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Pictures (n, h, w) and class numbers (n,) of one part."""
    for kind, dims in (("images", 3), ("labels", 1)):
        if (part, kind) not in files:
            stem = (f"{name}-" if name else "") + ("train" if part == "train" else "{t10k,test}")
            raise ValueError(
                f"{folder} lacks the {part} {kind}: looked for {stem}-{kind}-idx{dims}-ubyte, "
                "with or without .gz: put it there"
            )
    images, numbers = read_idx(files[part, "images"]), read_idx(files[part, "labels"])
    for kind, array, dims in (("images", images, 3), ("labels", numbers, 1)):
        if array.ndim != dims:
            raise ValueError(
                f"{files[part, kind]}: {kind} have {dims} dimensions, got shape {array.shape}: "
                "see whether the files are swapped"
            )
    if len(images) != len(numbers):
        raise ValueError(
            f"{files[part, 'labels']} has {len(numbers)} labels for the {len(images)} pictures of "
            f"{files[part, 'images'].name}: get both from one place"
        )
    return images, numbers
