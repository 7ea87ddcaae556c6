"""Clips in files: `.pose`, the field's own, versions 0.1 and 0.2, and `.npz`.

A .pose file is little-endian. A head: version f32; width, height, depth u16; the number of components u16; of each its
name, its format (a letter an axis, and C), the numbers of points, limbs and colours u16, the points' names, pairs of
places for limbs, three u16 for a colour. A text is its length in bytes u16, and UTF-8. Then a body:

    0.1     fps u16, frames u16, people u16
    0.2     fps f32, frames u32, people u16

and data f32 (frames, people, points, axes), confidence f32 (frames, people, points). What a head says is believed after
it was held against the size of the file; where 0.1 counts its frames in 16 bits, that size alone says how many.

A .npz has data (frames, points, axes), confidence (frames, points), fps, size, and the skeleton as TOML.
"""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from unsteep.pages.files import PathLike, by_suffix, replacing
from unsteep.pages.ours import MARK
from unsteep.poses.clip import PoseClip
from unsteep.poses.skeleton import INK, MOST, Part, Skeleton, told
from unsteep.storage import config
from unsteep.storage.foreign import reading

FORMATS = {".pose": "pose", ".npz": "npz"}
VERSION = 0.2
LARGEST = 1 << 32  # bytes of a file that is read


def read_clip(path: PathLike, person: int | None = None) -> PoseClip:
    """The clip in a .pose or .npz file. `person`: which, from 0, where there are several. ValueError of one line for
    files that hold none, several, or something else."""
    path, kind = Path(path), by_suffix(path, FORMATS, "a clip")
    if not path.is_file():
        raise ValueError(f"{path}: there is no such file; give a .pose or .npz")
    if kind == "npz":
        return _read_npz(path)
    with reading(path, "a .pose file"):
        if path.stat().st_size > LARGEST:
            raise ValueError(f"{path.stat().st_size:,} bytes")
        bytes_ = Bytes(path.read_bytes())
        version, axes, parts, size = _head(bytes_)
        fps, people, data, confidence = _body(bytes_, version, sum(len(part.points) for part in parts), len(axes))
        if people == 0 or not len(data):
            raise ValueError("no person in it" if people == 0 else "not a single frame")
        if people > 1 and person is None:
            raise ValueError(f"{people} people where one was expected")
        if person is not None and not 0 <= person < people:
            raise ValueError(f"{people} people, and no number {person}")
        which = person or 0
        return PoseClip(data[:, which], confidence[:, which], fps, told(parts, axes), size)


def write_clip(clip: PoseClip, path: PathLike) -> Path:
    """Writes a clip, whole or not at all: .pose, version 0.2, or .npz."""
    if by_suffix(path, FORMATS, "a clip") == "npz":
        arrays: dict[str, Any] = {
            "data": clip.data,
            "confidence": clip.confidence,
            "fps": np.float64(clip.fps),
            "size": np.array(clip.size),
            "skeleton": np.array(config.dumps(clip.skeleton)),
        }
        with replacing(path) as beside:
            np.savez_compressed(beside, **arrays)
            with zipfile.ZipFile(beside, "a") as stored:
                stored.comment = MARK.encode()
        return Path(path)
    head = [struct.pack("<f3HH", VERSION, *(min(MOST, max(0, side)) for side in clip.size), len(clip.skeleton.parts))]
    for part in clip.skeleton.parts:
        head += [_text(part.name), _text(clip.skeleton.axes.upper() + "C")]
        head.append(struct.pack("<3H", len(part.points), len(part.pairs), len(part.colours)))
        head += [_text(point) for point in part.points]
        head += [struct.pack("<2H", *pair) for pair in part.pairs]
        head += [struct.pack("<3H", *colour) for colour in part.colours]
    body = struct.pack("<fIH", clip.fps, len(clip), 1)
    with replacing(path) as beside:
        numbers = (clip.data[:, None], clip.confidence[:, None])
        beside.write_bytes(b"".join([*head, body, *(np.asarray(one, "<f4").tobytes() for one in numbers)]))
    return Path(path)


def numbered(path: Path, count: int) -> list[Path]:
    """Where so many clips are written: one as `path`, several as path-1, path-2 ..."""
    if count == 1:
        return [path]
    digits = len(str(count))
    return [path.with_name(f"{path.stem}-{i:0{digits}d}{path.suffix}") for i in range(1, count + 1)]


class Bytes:
    """Bytes, read from the front. ValueError where there are fewer than are asked for."""

    def __init__(self, content: bytes) -> None:
        self._content, self._at = content, 0

    @property
    def left(self) -> int:
        """How many are not yet read."""
        return len(self._content) - self._at

    def take(self, count: int) -> bytes:
        """The next so many."""
        if not 0 <= count <= self.left:
            raise ValueError("a file that ends too early")
        self._at += count
        return self._content[self._at - count : self._at]

    def numbers(self, form: str) -> tuple[Any, ...]:
        """The next numbers, as `struct` names their form."""
        return struct.unpack(form, self.take(struct.calcsize(form)))

    def text(self) -> str:
        """The next text."""
        return self.take(self.numbers("<H")[0]).decode("utf-8")

    def array(self, *shape: int) -> np.ndarray:
        """The next float32 of this shape."""
        return np.frombuffer(self.take(4 * int(np.prod(shape, dtype=object))), "<f4").reshape(shape).astype(np.float32)


def _head(of: Bytes) -> tuple[float, str, tuple[Part, ...], tuple[int, int, int]]:
    """The version, 0.1 or 0.2, the axes, the parts and the size of the picture."""
    version, width, height, depth, count = of.numbers("<f3HH")
    if round(version, 3) not in (0.1, 0.2):
        raise ValueError(f"version {version:.3g}, of which nothing is known (0.1 and 0.2 are read)")
    parts, axes = [], ""
    for _ in range(count):
        name, form = of.text(), of.text()
        points, limbs, colours = of.numbers("<3H")
        names = tuple(of.text() for _ in range(points))
        pairs = tuple(of.numbers("<2H") for _ in range(limbs))
        shades = tuple(tuple(min(255, one) for one in of.numbers("<3H")) for _ in range(colours))
        parts.append(Part(name=name, points=names, limbs=pairs, colours=shades or (INK,)))
        axes = max(axes, form.lower().removesuffix("c"), key=len)
    if not parts:
        raise ValueError("no component in it")
    Skeleton(parts=tuple(parts), axes=axes)  # refuses what is none
    return round(version, 3), axes, tuple(parts), (width, height, depth)


def _body(of: Bytes, version: float, points: int, axes: int) -> tuple[float, int, np.ndarray, np.ndarray]:
    """Frames a second, people, data and confidence."""
    fps, frames, people = of.numbers("<3H" if version == 0.1 else "<fIH")
    each = 4 * people * points * (axes + 1)
    if each and version == 0.1:
        frames = of.left // each
    if each * frames != of.left:
        raise ValueError(f"{of.left:,} bytes for {frames:,} frames of {people} people, each of {points} points")
    return float(fps), people, of.array(frames, people, points, axes), of.array(frames, people, points)


def _text(words: str) -> bytes:
    content = words.encode("utf-8")
    return struct.pack("<H", len(content)) + content


def _read_npz(path: Path) -> PoseClip:
    names = ("data", "confidence", "fps", "skeleton")
    with reading(path, f"a .npz with {', '.join(names)}"), np.load(path, allow_pickle=False) as stored:
        if most := [info.filename for info in stored.zip.infolist() if info.file_size > LARGEST]:
            raise ValueError(f"{most[0]} of more bytes than are read")
        data, confidence, fps, text = (stored[name] for name in names)
        size = tuple(stored["size"].tolist()) if "size" in stored else (0, 0, 0)
        skeleton = config.loads(Skeleton, str(text))
        return PoseClip(data.astype(np.float32), confidence.astype(np.float32), float(fps), skeleton, size)
