"""Drawn shapes with captions: pictures whose every word can be checked, and which need no download.

A caption is one of three kinds: a thing ("a red circle"), several alike ("two red circles"), or two and where they
stand ("a red circle left of a blue square"). A thing is a colour and a shape; pairs in `held_out` ("blue circle") are
in no training picture, though their colour and their shape are, so that a model can be asked for what it never saw.

A shape of radius r has the area pi r^2 and its centre of mass where it is placed, whichever it is. Each is an
intersection of half-planes or discs, so with d the signed distance in pixels from its edge (negative inside) a pixel is
covered by clip(1/2 - d, 0, 1): exact for straight edges along the axes, and smooth for all.

Picture i of a split is a function of (seed, split, i) alone: 100 pictures are the first 100 of 100,000.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from itertools import permutations, product
from typing import ClassVar

import numpy as np
import torch

from unsteep.core.noise import NoiseSource
from unsteep.core.protocols import Split
from unsteep.data.examples import Examples

COLOURS = {
    "red": (222, 40, 44),
    "yellow": (240, 200, 20),
    "green": (36, 160, 60),
    "cyan": (40, 195, 215),
    "blue": (40, 70, 210),
    "purple": (160, 50, 190),
}
SHAPES = ("circle", "square", "triangle")
NUMBERS = ("a", "two", "three", "four")
RELATIONS = ("left of", "right of", "above", "below")
PAPER = 255  # the grey value behind the shapes
MOST = len(NUMBERS)

SMALL, LARGE, SINGLE = 0.125, 0.15, 0.26  # radii as shares of the side: from, to, and to where a shape stands alone
MARGIN = 0.047  # around each thing's room, as a share of the side: at 32 pixels no soft edges meet
SHARES = (0.2, 0.2, 0.6)  # of single things, of several, and of pairs: of these there are the most to learn
HALF = math.sqrt(math.pi) / 2  # from the centre of a square of area pi to each side
INNER = math.sqrt(math.pi) / 3**0.75  # from the centre of a triangle of area pi, its sides equal, to each side
REACH = np.array(  # of each shape of radius 1 from its centre: ((left, right), (up, down))
    [[[1, 1], [1, 1]], [[HALF, HALF], [HALF, HALF]], [[3**0.5 * INNER, 3**0.5 * INNER], [2 * INNER, INNER]]]
)
DRAWS: dict[Split, int] = {"train": 1 << 16, "test": (1 << 16) + 1}  # far from the draws of a training step
CHUNK = 1024  # pictures drawn at once

Thing = tuple[str, str]  # a colour and a shape


@dataclass(frozen=True)
class Scene:
    """What a caption says: `things`, each (colour, shape), and, of two, the `relation` of the first to the second."""

    things: tuple[Thing, ...]
    relation: str = ""

    @property
    def caption(self) -> str:
        """The one sentence for it."""
        names = [" ".join(thing) for thing in self.things]
        if self.relation:
            return f"a {names[0]} {self.relation} a {names[1]}"
        return f"{NUMBERS[len(names) - 1]} {names[0]}{'s' if len(names) > 1 else ''}"

    @classmethod
    def of(cls, caption: str) -> Scene:
        """The scene of a caption, in any case and spacing; ValueError if it is not in the grammar."""
        words = " ".join(caption.lower().split())
        if words not in _SCENES:
            raise ValueError(
                'caption: expected one like "a red circle", "two red circles" or "a red circle left of a blue square", '
                f"of {', '.join(COLOURS)}; {', '.join(SHAPES)}; {', '.join(RELATIONS)}; got {caption!r}"
            )
        return _SCENES[words]


def _scenes() -> tuple[list[Scene], list[Scene], list[Scene]]:
    """Every scene there is, by kind: single things, several alike, two different ones in a relation."""
    things = list(product(COLOURS, SHAPES))
    several = [Scene((thing,) * n) for n in range(2, MOST + 1) for thing in things]
    pairs = [Scene(pair, relation) for relation in RELATIONS for pair in permutations(things, 2)]
    return [Scene((thing,)) for thing in things], several, pairs


_KINDS = _scenes()
_SCENES = {scene.caption: scene for kind in _KINDS for scene in kind}


@dataclass(frozen=True, kw_only=True)
class Shapes:
    """Coloured shapes on white paper, captioned.

    size: side of the picture in pixels, 16 or more; count, test_count: pictures of the two splits; seed: which
    pictures; held_out: things, such as "blue circle", that only captions of the test split name, and each of those
    does.
    """

    size: int = 32
    count: int = 20_000
    test_count: int = 2_000
    seed: int = 0
    held_out: tuple[str, ...] = ("blue circle", "green square", "red triangle")
    mirrors: ClassVar[bool] = False  # captions say left and right

    def __post_init__(self) -> None:
        if self.size < 16:
            raise ValueError(f"size: expected at least 16 pixels, to tell shapes apart, got {self.size}")
        if self.count < 1 or self.test_count < 0:
            raise ValueError(
                f"count, test_count: expected a picture or more, and none or more, got {self.count}, {self.test_count}"
            )
        known = {" ".join(thing): thing for thing in product(COLOURS, SHAPES)}
        for name in self.held_out:
            if name not in known:
                raise ValueError(f"held_out: expected some of {', '.join(known)}, got {name!r}")
        kept = [known[name] for name in known if name not in self.held_out]
        for i, part in ((0, COLOURS), (1, SHAPES)):
            missing = set(part) - {thing[i] for thing in kept}
            if missing:
                raise ValueError(f"held_out: no {min(missing)} thing would be left to train on; hold out fewer")

    def read(self, split: Split = "train") -> Examples:
        """uint8 (n, 3, size, size) with captions; "all" is train, then test. ValueError for a test split of nothing."""
        if split == "test" and not (self.held_out and self.test_count):
            raise ValueError("no combination is held out for testing: set data.held_out and data.test_count")
        sizes = {"train": self.count, "test": self.test_count if self.held_out else 0}
        parts = [part for part in DRAWS if split in (part, "all") and sizes[part]]
        chunks = [(part, first) for part in parts for first in range(0, sizes[part], CHUNK)]
        made = [self._draw(part, first, min(CHUNK, sizes[part] - first)) for part, first in chunks]
        held_out = ", ".join(self.held_out) or "nothing"
        return Examples(
            torch.from_numpy(np.concatenate([x for x, _ in made])),
            source=f"drawn shapes ({' and '.join(parts)}, seed {self.seed}), held out for testing: {held_out}",
            captions=tuple(scene.caption for _, scenes in made for scene in scenes),
        )

    def scenes(self, split: Split = "all") -> tuple[list[Scene], ...]:
        """The scenes of a split, by kind: single things, several alike, two in a relation."""
        held = {tuple(name.split()) for name in self.held_out}
        is_test = [[not held.isdisjoint(scene.things) for scene in kind] for kind in _KINDS]
        return tuple(
            [scene for scene, test in zip(kind, tests, strict=True) if split == "all" or test == (split == "test")]
            for kind, tests in zip(_KINDS, is_test, strict=True)
        )

    def _draw(self, split: Split, first: int, count: int) -> tuple[np.ndarray, list[Scene]]:
        """Pictures first .. first + count - 1 of a split: uint8 (count, 3, size, size), and their scenes."""
        streams = torch.arange(first, first + count)
        source = NoiseSource(torch.full((count,), self.seed), streams)
        numbers = source.uniform(torch.empty(count, 2 + 4 * MOST, dtype=torch.float64), DRAWS[split]).numpy()
        kinds = np.searchsorted(np.cumsum(SHARES)[:-1], numbers[:, 0], side="right")
        lists = self._lists[split]
        scenes = [lists[kind][int(u * len(lists[kind]))] for kind, u in zip(kinds, numbers[:, 1], strict=True)]
        return draw(scenes, numbers[:, 2:].reshape(count, 4, MOST), self.size), scenes

    @cached_property
    def _lists(self) -> dict[Split, tuple[list[Scene], ...]]:
        return {split: self.scenes(split) for split in DRAWS}


def draw(scenes: list[Scene], u: np.ndarray, size: int) -> np.ndarray:
    """Pictures of scenes, uint8 (n, 3, size, size), from n x (radius, x, y, place) x 4 numbers in (0, 1)."""
    n, colours, inks = len(scenes), list(COLOURS), np.array(list(COLOURS.values()), np.float32)
    thing = np.full((n, MOST, 2), -1)  # the numbers of colour and shape, -1 for no thing
    for i, scene in enumerate(scenes):
        for j, (colour, shape) in enumerate(scene.things):
            thing[i, j] = colours.index(colour), SHAPES.index(shape)
    count = np.array([len(scene.things) for scene in scenes])
    relation = np.array([RELATIONS.index(scene.relation) if scene.relation else -1 for scene in scenes])
    radius = size * (SMALL + u[:, 0] * (np.where(count == 1, SINGLE, LARGE)[:, None] - SMALL))
    low, high = _cells(count, relation, u[:, 3])
    reach = radius[..., None, None] * REACH[thing[..., 1]]  # (n, 4, x or y, before or after the centre)
    low, high = (low + MARGIN) * size + reach[..., 0], (high - MARGIN) * size - reach[..., 1]
    centre = low + u[:, 1:3].swapaxes(1, 2) * (high - low)
    _straighten(centre, relation)

    grid = np.arange(size, dtype=np.float32) + 0.5
    pictures = np.full((n, 3, size, size), PAPER, np.float32)
    for j, (s, shape) in product(range(MOST), enumerate(SHAPES)):
        rows = np.flatnonzero(thing[:, j, 1] == s)
        x, y, r = np.array([*centre[rows, j].T, radius[rows, j]], np.float32)[:, :, None, None]
        covered = coverage(shape, grid[None, None, :] - x, grid[None, :, None] - y, r)[:, None]
        pictures[rows] += covered * (inks[thing[rows, j, 0], :, None, None] - pictures[rows])
    return np.rint(pictures).astype(np.uint8)


def coverage(shape: str, x: np.ndarray, y: np.ndarray, radius: np.ndarray | float) -> np.ndarray:
    """How much of each pixel, 0 to 1, a shape covers, at (x, y) pixels right of and below its centre of mass."""
    if shape == "circle":
        distance = np.hypot(x, y) - radius
    elif shape == "square":
        distance = np.maximum(abs(x), abs(y)) - radius * HALF
    else:  # a triangle on its base: three lines at the same distance from the centre
        sides = abs(x) * (math.sqrt(3) / 2) - y / 2
        distance = np.maximum(sides, y) - radius * INNER
    return np.clip(0.5 - distance, 0, 1)


def _cells(count: np.ndarray, relation: np.ndarray, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The part of the picture, from `low` to `high` in (0, 1), where each thing has its room: both (n, 4, 2), x and y.

    All of it for one thing; quarters, in an order drawn by `u` (n, 4), for several; halves for two in a relation.
    """
    low, high = np.zeros((len(u), MOST, 2)), np.ones((len(u), MOST, 2))
    several = count > 1
    quarter = np.argsort(u[several], axis=1)
    low[several] = np.stack([quarter % 2, quarter // 2], -1) / 2
    high[several] = low[several] + 0.5
    for k in range(len(RELATIONS)):
        rows = np.flatnonzero(relation == k)
        axis, order = divmod(k, 2)  # x or y; whether the first thing comes first or second along it
        low[rows], high[rows] = 0, 1
        high[rows, order, axis] = 0.5
        low[rows, 1 - order, axis] = 0.5
    return low, high


def _straighten(centre: np.ndarray, relation: np.ndarray) -> None:
    """Pull two things in a relation together across it, in place, until that distance is at most half of that along."""
    for axis in (0, 1):
        rows = np.flatnonzero(relation // 2 == axis)
        pair = centre[rows, :2]
        along, across = (abs(pair[:, 0, a] - pair[:, 1, a]) for a in (axis, 1 - axis))
        middle = pair[:, :, 1 - axis].mean(1, keepdims=True)
        factor = np.minimum(1, along / 2 / np.maximum(across, 1e-9))[:, None]
        centre[rows, :2, 1 - axis] = middle + factor * (pair[:, :, 1 - axis] - middle)
