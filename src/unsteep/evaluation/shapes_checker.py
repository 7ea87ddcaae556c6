"""Reading pictures of drawn shapes: which things stand where, and whether that is what a caption says.

A pixel p of ink c on paper w, with the share a covered, is w + a (c - w): a point on the segment between two colours.
So each pixel belongs to the colour whose segment is nearest, with the coverage a = <p - w, c - w> / |c - w|^2 of its
foot, cut to [0, 1]. Connected pixels of one colour with a >= 1/2 are a thing; its coverage is summed one pixel
further, where its soft edge ends. The area and the centre of mass fix how each shape would lie there, sharp or
blurred; the shape is the one that fits best, by sum(min) / sum(max) of the two coverages (1 when equal).

Nothing is learned, so that no reader and model can share a weakness.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from unsteep.data.shapes import COLOURS, PAPER, SHAPES, SMALL, Scene, coverage
from unsteep.metrics.interval import Interval, wilson

AROUND = 4  # pixels around a thing that are looked at
SPECK = 0.25  # a spot smaller than this share of the smallest thing drawn is dirt
BLURS = (0.0, 0.7, 1.4)  # standard deviations in pixels, of the edges to try
FIT = 0.7  # what fits no shape better than this is of no shape


@dataclass(frozen=True)
class Found:
    """A thing in a picture: `shape` ("" for none known), its centre of mass (x, y) in pixels from the upper left
    corner, its `area` in pixels, its bounding `box` (left, top, right, bottom; the last two outside), and how well the
    shape fits, at most 1."""

    colour: str
    shape: str
    x: float
    y: float
    area: float
    box: tuple[int, int, int, int]
    fit: float


def read_picture(picture: Tensor | np.ndarray) -> tuple[Found, ...]:
    """The things in a picture, uint8 (3, h, w), the largest first. ValueError for another kind of picture."""
    from scipy.ndimage import binary_dilation, find_objects, label  # takes long to import

    pixels = np.asarray(picture)
    if pixels.ndim != 3 or len(pixels) != 3 or pixels.dtype != np.uint8:
        raise ValueError(f"expected a colour picture, uint8 (3, h, w), got {pixels.dtype} {pixels.shape}")
    covered, nearest = _unmix(pixels.astype(np.float64))
    least = SPECK * math.pi * (SMALL * min(pixels.shape[1:])) ** 2
    found = []
    for k, colour in enumerate(COLOURS):
        spots, _ = label((covered >= 0.5) & (nearest == k))
        for i, box in enumerate(find_objects(spots), start=1):
            near = tuple(slice(max(0, side.start - AROUND), side.stop + AROUND) for side in box)
            spot = spots[near] == i
            if spot.sum() >= least:
                inside = binary_dilation(spot, np.ones((3, 3)))
                found.append(_found(colour, np.where(inside, covered[near], 0), near, box))
    return tuple(sorted(found, key=lambda thing: -thing.area))


def check(picture: Tensor | np.ndarray, caption: str) -> dict[str, bool]:
    """Whether a picture, uint8 (3, h, w), shows what `caption` says, by attribute.

    "count": as many things; "colour", "shape": these colours and no others, these shapes and no others; "binding":
    these shapes in these colours and no others; "relation", where the caption has one: two such things, the first on
    that side of the second, by their centres and the axis along which they are farther apart; "all": all of it.
    ValueError for a caption out of the grammar.
    """
    scene, found = Scene.of(caption), read_picture(picture)
    right = {
        "count": len(found) == len(scene.things),
        "colour": {thing.colour for thing in found} == {colour for colour, _ in scene.things},
        "shape": {thing.shape for thing in found} == {shape for _, shape in scene.things},
        "binding": {(thing.colour, thing.shape) for thing in found} == set(scene.things),
    }
    if scene.relation:
        first, second = ([one for one in found if (one.colour, one.shape) == thing] for thing in scene.things)
        right["relation"] = any(_relation(a, b) == scene.relation for a in first for b in second)
    return right | {"all": all(right.values())}


def attribute_accuracy(pictures: Tensor | np.ndarray, captions: Sequence[str]) -> dict[str, Interval]:
    """The share of pictures, uint8 (n, 3, h, w), that show each attribute of their captions, with its interval.

    "relation" is of the captions that have one, and left out where none has. ValueError where the numbers differ.
    """
    if len(pictures) != len(captions) or not captions:
        raise ValueError(f"expected a caption for each picture, got {len(captions)} for {len(pictures)}")
    rows = [check(picture, caption) for picture, caption in zip(pictures, captions, strict=True)]
    names = dict.fromkeys(name for row in sorted(rows, key=len, reverse=True) for name in row)
    answers = {name: [row[name] for row in rows if name in row] for name in names}
    return {name: wilson(sum(right), len(right)) for name, right in answers.items()}


def _unmix(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of pixels (3, h, w): the coverage of each by the colour nearest to it, and which that is, both (h, w)."""
    ink = np.array(list(COLOURS.values()), np.float64) - PAPER
    dark = pixels - PAPER
    share = np.einsum("kc,chw->khw", ink, dark) / (ink**2).sum(1)[:, None, None]
    share = np.clip(share, 0, 1)
    rest = ((dark - share[:, None] * ink[:, :, None, None]) ** 2).sum(1)
    nearest = rest.argmin(0)
    return np.take_along_axis(share, nearest[None], 0)[0], nearest


def _found(colour: str, covered: np.ndarray, near: tuple[slice, ...], box: tuple[slice, ...]) -> Found:
    """The thing of this coverage, in the part `near` of a picture, whose well covered pixels lie in `box`."""
    from scipy.ndimage import gaussian_filter

    rows, columns = np.indices(covered.shape) + np.array([side.start + 0.5 for side in near])[:, None, None]
    area = covered.sum()
    x, y = (columns * covered).sum() / area, (rows * covered).sum() / area
    fits = []
    for shape in SHAPES:
        sharp = coverage(shape, columns - x, rows - y, math.sqrt(area / math.pi))
        for blur in BLURS:
            common = np.minimum(gaussian_filter(sharp, blur), covered).sum()
            fits.append((common / (2 * area - common), shape))  # sum(min) + sum(max) is the sum of both areas
    fit, shape = max(fits)
    corners = (box[1].start, box[0].start, box[1].stop, box[0].stop)
    return Found(colour, shape if fit >= FIT else "", float(x), float(y), float(area), corners, float(fit))


def _relation(a: Found, b: Found) -> str:
    """Where a is, seen from b."""
    x, y = a.x - b.x, a.y - b.y
    if abs(x) > abs(y):
        return "left of" if x < 0 else "right of"
    return "above" if y < 0 else "below"
