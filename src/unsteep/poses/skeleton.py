"""What the points of a clip are: parts, points, limbs, colours and weights, as a small TOML file says them.

    axes = "xyz"
    shoulders = ["left shoulder", "right shoulder"]     # the first points of these names: their distance is 1

    [[parts]]
    name = "body"
    points = ["head", "left shoulder", "right shoulder"]
    limbs = [[0, 1, 2, 0]]                              # each a row of points, every one joined to the next
    colours = [[20, 64, 95]]                            # of the points, in turn
    weight = 1.0                                        # in the loss; more for hands, less for a face
    root = ""                                           # a hand's wrist: what it may be taken relative to
    hidden = false                                      # never drawn, as the world points of MediaPipe

Those of `SHIPPED` lie beside this file, as such files.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Literal

import numpy as np

from unsteep.storage import config
from unsteep.storage.foreign import text_of

Colour = tuple[int, int, int]

HERE = Path(__file__).parent / "skeletons"
SHIPPED = ("mediapipe-586", "mediapipe-178", "openpose-137", "skels-50", "smpl-22")
INK: Colour = (20, 64, 95)
MOST = 65535  # points, limbs or colours of a part: what a .pose file can count


@dataclass(frozen=True, kw_only=True)
class Part:
    """Points that belong together, as a hand: see the module."""

    name: str
    """What it is called, as the component of a .pose file."""
    points: tuple[str, ...] = ()
    """The names of its points."""
    numbered: int = 0
    """So many points called 0, 1, 2, ..., where no names are given."""
    limbs: tuple[tuple[int, ...], ...] = ()
    """Rows of points, by their places in the part: every one is joined to the next."""
    colours: tuple[Colour, ...] = (INK,)
    """Of the points, in turn: red, green, blue from 0 to 255."""
    weight: float = 1.0
    """Of its points in the loss."""
    root: str = ""
    """The point that the others may be taken relative to, as the wrist of a hand; empty: none."""
    hidden: bool = False
    """Whether it is never drawn."""

    def __post_init__(self) -> None:
        if not self.points:
            object.__setattr__(self, "points", tuple(map(str, range(self.numbered))))
        count = len(self.points)
        if not self.name or not 1 <= count <= MOST:
            raise ValueError(f"points: expected a name and 1 to {MOST} points of a part, got {self.name!r}, {count}")
        if len(set(self.points)) < count:
            raise ValueError(f"points: expected different names in {self.name}, got some twice; rename them")
        if self.numbered not in (0, count):
            raise ValueError(
                f"numbered: expected {count}, as many as there are names, got {self.numbered}; leave it out"
            )
        if any(not 0 <= place < count for limb in self.limbs for place in limb):
            raise ValueError(f"limbs: expected places from 0 to {count - 1} in {self.name}, got others; correct them")
        if not self.colours or any(not 0 <= one <= 255 for colour in self.colours for one in colour):
            raise ValueError(f"colours: expected numbers from 0 to 255 in {self.name}, three a colour; correct them")
        if not 0 <= self.weight < float("inf"):
            raise ValueError(f"weight: expected a number of at least 0, got {self.weight}")
        if self.root and self.root not in self.points:
            raise ValueError(f"root: expected a point of {self.name}, got {self.root!r}; correct it, or leave it out")

    @cached_property
    def pairs(self) -> tuple[tuple[int, int], ...]:
        """The limbs one by one, as places in the part."""
        return tuple(pair for limb in self.limbs for pair in itertools.pairwise(limb))


@dataclass(frozen=True, kw_only=True)
class Skeleton:
    """Parts in order: see the module."""

    parts: tuple[Part, ...] = ()
    """Its parts, in the order of their points."""
    axes: str = "xyz"
    """A letter for each number of a point; the first two are drawn."""
    y: Literal["down", "up"] = "down"
    """Where the second axis grows to: down, as in pictures, or up."""
    shoulders: tuple[str, ...] = ()
    """Two points, by the first of these names: clips are centred between them, and their distance is made 1; none:
    clips stay where they are."""

    def __post_init__(self) -> None:
        if not self.parts or not 2 <= len(self.axes) <= 8:
            raise ValueError(f"parts: expected a part and 2 to 8 axes, got {len(self.parts)} and {self.axes!r}")
        names = [part.name for part in self.parts]
        if len(set(names)) < len(names):
            raise ValueError(f"parts: expected different names, got {', '.join(names)}; rename some")
        if len(self.shoulders) not in (0, 2):
            raise ValueError(f"shoulders: expected two points or none, got {len(self.shoulders)}")
        for one in self.shoulders:
            if not any(one in part.points for part in self.parts):
                raise ValueError(f"shoulders: expected points of the parts, got {one!r}; correct it")

    def __len__(self) -> int:
        """How many points there are."""
        return sum(len(part.points) for part in self.parts)

    @cached_property
    def spans(self) -> tuple[range, ...]:
        """The places of each part's points."""
        ends = np.cumsum([0, *(len(part.points) for part in self.parts)]).tolist()
        return tuple(range(a, b) for a, b in itertools.pairwise(ends))

    @cached_property
    def limbs(self) -> np.ndarray:
        """All limbs (k, 2), as places among all points."""
        pairs = [
            (s.start + a, s.start + b) for part, s in zip(self.parts, self.spans, strict=True) for a, b in part.pairs
        ]
        return np.array(pairs, np.int64).reshape(-1, 2)

    @cached_property
    def colours(self) -> np.ndarray:
        """Of each point, uint8 (points, 3)."""
        each = [part.colours[i % len(part.colours)] for part in self.parts for i in range(len(part.points))]
        return np.array(each, np.uint8)

    @cached_property
    def drawn(self) -> np.ndarray:
        """Which points may be drawn: bool (points,)."""
        return np.array([not part.hidden for part in self.parts for _ in part.points])

    @cached_property
    def weights(self) -> np.ndarray:
        """Of each point in the loss: float64 (points,)."""
        return np.array([part.weight for part in self.parts for _ in part.points])

    @cached_property
    def roots(self) -> np.ndarray:
        """What each point may be taken relative to, its own place for none: int64 (points,)."""
        places = np.arange(len(self))
        for part, span in zip(self.parts, self.spans, strict=True):
            if part.root:
                places[span.start : span.stop] = span.start + part.points.index(part.root)
        return places

    def place(self, point: str) -> int:
        """The place of the first point of a name."""
        return next(
            s.start + p.points.index(point) for p, s in zip(self.parts, self.spans, strict=True) if point in p.points
        )

    def within(self, other: Skeleton) -> np.ndarray | None:
        """Where its points are among those of another, by the names of parts and points: int64 (points,); None where
        that lacks one."""
        there = {
            (part.name, point): span.start + i
            for part, span in zip(other.parts, other.spans, strict=True)
            for i, point in enumerate(part.points)
        }
        found = [there.get((part.name, point), -1) for part in self.parts for point in part.points]
        return None if min(found) < 0 or len(self.axes) != len(other.axes) else np.array(found)

    def describe(self) -> str:
        """In words."""
        parts = ", ".join(f"{part.name} {len(part.points)}" for part in self.parts)
        return f"{len(self)} points of {len(self.axes)} numbers ({parts})"


@lru_cache
def shipped(name: str) -> Skeleton:
    """One of `SHIPPED`."""
    return read_skeleton(HERE / f"{name}.toml")


def read_skeleton(path: Path) -> Skeleton:
    """The skeleton that a TOML file describes. ValueError of one line."""
    try:
        return config.loads(Skeleton, text_of(path, "a skeleton as TOML"))
    except ValueError as error:
        raise ValueError(str(error) if str(path) in str(error) else f"{path}: {error}") from None


def skeleton_of(name: str) -> Skeleton:
    """One that comes with this package, or that of a user's TOML file. ValueError for neither."""
    if name in SHIPPED:
        return shipped(name)
    path = Path(name).expanduser()
    if not path.is_file():
        raise ValueError(
            f"skeleton: expected one of {', '.join(SHIPPED)}, or a TOML file that describes one, got {name!r}; name one"
        )
    return read_skeleton(path)


def told(parts: tuple[Part, ...], axes: str) -> Skeleton:
    """The skeleton of parts as a .pose file has them, in pictures, whose y grows down. It says neither weights, nor
    what is hidden, nor the roots of hands: that is taken from the one of those that come with this package that has all
    these points."""
    plain = Skeleton(parts=parts, axes=axes)
    same = next((one for one in map(shipped, SHIPPED) if plain.within(one) is not None), None)
    if same is None:
        return plain
    traits = {part.name: part for part in same.parts}
    completed = tuple(_with_traits(part, traits[part.name]) for part in parts)
    points = {point for part in parts for point in part.points}
    return Skeleton(parts=completed, axes=axes, shoulders=same.shoulders if points.issuperset(same.shoulders) else ())


def _with_traits(part: Part, known: Part) -> Part:
    if (part.points, part.pairs, part.colours) == (known.points, known.pairs, known.colours):
        return known
    return Part(
        name=part.name,
        points=part.points,
        limbs=part.limbs,
        colours=part.colours,
        weight=known.weight,
        root=known.root if known.root in part.points else "",
        hidden=known.hidden,
    )
