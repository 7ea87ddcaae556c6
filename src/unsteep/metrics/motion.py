"""Metrics of points that move, each by its definition; what is missing weighs nothing in any.

With x (frames, points, axes) and how much each point counts in each frame, w (frames, points):

    dtw          the mean distance of the points of two clips along the warping in time of least sum (Sakoe & Chiba
                 1978; steps of one frame in either clip or in both): the mean over the pairs of frames on its path
    displacement the mean distance that a point goes from a frame to the next
    bones        the standard deviation of a bone's length over its mean, frame by frame, averaged over bones
    jerk         the mean of |x[i+3] - 3 x[i+2] + 3 x[i+1] - x[i]| fps^3
    apart        the mean distance of two clips frame by frame, the shorter one stretched to the longer
    features     of each part: where its middle is on average and how much that varies along each axis, how wide the
                 part is, how fast and how unsteadily its points go; and how long the clip is. A Frechet distance in
                 these, each over its deviation in the reference, is named after them

A pair of points counts as much as the one that counts less. Distances are in the data's units, shoulder widths where
clips are normalised. Nothing is trimmed here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from unsteep.metrics import frechet as gaussians
from unsteep.metrics.interval import Interval, Z, wilson

Better = Literal["lower", "higher", ""]

TINY = 1e-12
ROUNDING = 1e-6  # of lengths of bones in float32


@dataclass(frozen=True, eq=False)
class Track:
    """A clip as it is measured: x float64 (frames, points, axes); weight float64 (frames, points), 0 for a point that
    is missing, where x may be anything."""

    x: Tensor
    weight: Tensor

    def __post_init__(self) -> None:
        seen = self.weight > 0
        object.__setattr__(self, "x", torch.where(seen[..., None], self.x, 0).double())
        object.__setattr__(self, "weight", torch.where(seen, self.weight, 0).double())

    def __len__(self) -> int:
        return len(self.x)

    def stretched(self, frames: int) -> Track:
        """The same motion in so many frames, between two of its own linearly."""
        if frames == len(self):
            return self
        at = torch.linspace(0, len(self) - 1, frames, dtype=torch.float64)
        below, above = at.floor().long(), at.ceil().long()
        x = self.x[below].lerp(self.x[above], (at - below)[:, None, None])
        return Track(x, torch.minimum(self.weight[below], self.weight[above]))


def _mean(values: Tensor, weight: Tensor) -> float:
    return float((values * weight).sum() / weight.sum().clamp(min=TINY))


def _difference(track: Track, order: int) -> tuple[Tensor, Tensor]:
    x, weight = track.x, track.weight
    for _ in range(order):
        x, weight = x.diff(dim=0), torch.minimum(weight[1:], weight[:-1])
    return x.norm(dim=2), weight


def dtw(a: Track, b: Track) -> float:
    """See the module."""
    costs = torch.zeros(len(a), len(b), dtype=torch.float64)
    counts = torch.zeros_like(costs)
    for point in range(a.x.shape[1]):
        both = torch.minimum(a.weight[:, None, point], b.weight[None, :, point])
        costs += both * torch.cdist(a.x[:, point], b.x[:, point], compute_mode="donot_use_mm_for_euclid_dist")
        counts += both
    return warped(costs / counts.clamp(min=TINY), counts > 0)


def warped(costs: Tensor, counts: Tensor) -> float:
    """The mean of costs (f, g) along the path of least sum from the first pair to the last, over the pairs on it where
    `counts`; others cost nothing."""
    f, g = costs.shape
    best = torch.full((f + 1, g + 1), torch.inf, dtype=torch.float64)
    met = torch.zeros(f + 1, g + 1, dtype=torch.float64)
    best[0, 0] = 0
    for diagonal in range(f + g - 1):
        i = torch.arange(max(0, diagonal - g + 1), min(f, diagonal + 1))
        j = diagonal - i
        before = torch.stack([best[i, j], best[i, j + 1], best[i + 1, j]])
        least, way = before.min(0)
        passed = torch.stack([met[i, j], met[i, j + 1], met[i + 1, j]]).gather(0, way[None])[0]
        best[i + 1, j + 1] = least + torch.where(counts[i, j], costs[i, j], 0)
        met[i + 1, j + 1] = passed + counts[i, j]
    return float(best[f, g] / met[f, g].clamp(min=1))


def displacement(track: Track) -> float:
    """See the module; 0 for one frame."""
    return _mean(*_difference(track, 1)) if len(track) > 1 else 0.0


def jerk(track: Track, fps: float) -> float:
    """See the module; 0 for fewer than four frames."""
    return _mean(*_difference(track, 3)) * fps**3 if len(track) > 3 else 0.0


def bone_drift(track: Track, limbs: Tensor) -> float:
    """Of bones (k, 2), places of points; those that are known in fewer than two frames, or have no length, count for
    nothing."""
    first, second = track.x[:, limbs[:, 0]], track.x[:, limbs[:, 1]]
    lengths = (second - first).norm(dim=2)
    weight = torch.minimum(track.weight[:, limbs[:, 0]], track.weight[:, limbs[:, 1]])
    sums = weight.sum(0).clamp(min=TINY)
    mean = (lengths * weight).sum(0) / sums
    spread = ((lengths - mean).square() * weight).sum(0).div(sums).sqrt()
    there = ((weight > 0).sum(0) > 1) & (mean > TINY)
    share = spread[there] / mean[there]
    return float(torch.where(share > ROUNDING, share, 0).mean()) if bool(there.any()) else 0.0


def apart(a: Track, b: Track) -> float:
    """See the module."""
    frames = max(len(a), len(b))
    a, b = a.stretched(frames), b.stretched(frames)
    return _mean((a.x - b.x).norm(dim=2), torch.minimum(a.weight, b.weight))


def features(track: Track, parts: Sequence[Tensor], fps: float) -> Tensor:
    """See the module: float64 (d,). `parts`: the places of the points of each."""
    found = [torch.tensor([len(track) / fps])]
    for part in parts:
        one = Track(track.x[:, part], track.weight[:, part])
        counts = one.weight[..., None]
        middle = (one.x * counts).sum(1) / counts.sum(1).clamp(min=TINY)
        often = one.weight.sum(1, keepdim=True)
        share = often / often.sum().clamp(min=TINY)
        mean = (middle * share).sum(0)
        spread = ((middle - mean).square() * share).sum(0).sqrt()
        width = _mean((one.x - middle[:, None]).norm(dim=2), one.weight)
        speed = displacement(one) * fps
        unsteady = _mean(*_difference(one, 2)) * fps**2 if len(one) > 2 else 0.0
        found += [mean, spread, torch.tensor([width, speed, unsteady])]
    return torch.cat([one.double() for one in found])


@dataclass(frozen=True, eq=False)
class Danced:
    """What metrics of motion are taken of: `tracks`, each asked for as the one of `reference` in its place is, whose
    text, or class, stands in `texts`. `limbs` (k, 2), `parts`: of the skeleton; `truths`: the true clip of every text
    there may be, where it is known; `named`: which text a clip is taken for among some, by a net that knows both."""

    tracks: Sequence[Track]
    reference: Sequence[Track]
    texts: Sequence[str]
    limbs: Tensor
    parts: Sequence[Tensor]
    fps: float
    truths: Mapping[str, Track]
    named: Callable[[Sequence[Track], Sequence[str]], Sequence[str]] | None = None

    @property
    def repeats(self) -> list[tuple[int, int]]:
        """Pairs of places of one text, where other real clips stand."""
        same = ((i, j) for j, b in enumerate(self.texts) for i, a in enumerate(self.texts[:j]) if a == b)
        return [(i, j) for i, j in same if self.reference[i] is not self.reference[j]]

    def of(self, tracks: Sequence[Track]) -> Danced:
        """Others in the place of its tracks."""
        return replace(self, tracks=tracks)


def _each(values: Sequence[float]) -> Interval:
    return Interval.of(torch.tensor(values, dtype=torch.float64))


def _ratio(above: Sequence[float], below: Sequence[float]) -> Interval:
    """A ratio of means, and its interval by the errors of both (Cochran 1977, section 6.4)."""
    a, b = (torch.tensor(one, dtype=torch.float64) for one in (above, below))
    value = float(a.mean() / b.mean().clamp(min=TINY))
    half = Z * float((a - value * b).std() / b.mean().clamp(min=TINY)) / len(a) ** 0.5
    return Interval(value, value - half, value + half)


def _dtw(e: Danced) -> Interval:
    return _each([dtw(*pair) for pair in zip(e.tracks, e.reference, strict=True)])


def _disp_ratio(e: Danced) -> Interval:
    return _ratio([displacement(one) for one in e.tracks], [displacement(one) for one in e.reference])


def _frechet(e: Danced) -> Interval:
    seen, reference = (torch.stack([features(one, e.parts, e.fps) for one in some]) for some in (e.tracks, e.reference))
    spread = reference.std(0)
    varies = spread > 1e-9 * (1 + reference.abs().amax(0))
    return gaussians.fid(seen[:, varies] / spread[varies], reference[:, varies] / spread[varies])


def _retrieval(e: Danced) -> Interval:
    assert e.named is not None
    return _right(e.named(e.tracks, list(dict.fromkeys(e.texts))), e.texts)


def _asked(e: Danced) -> Interval:
    """By the nearest of the true clips; texts whose true clips are the same are not told apart."""
    right = 0
    for track, text in zip(e.tracks, e.texts, strict=True):
        far = {one: apart(track, true) + abs(math.log(len(track) / len(true))) for one, true in e.truths.items()}
        right += far[text] <= min(far.values()) + TINY
    return wilson(right, len(e.texts))


def _right(found: Sequence[str], texts: Sequence[str]) -> Interval:
    return wilson(sum(a == b for a, b in zip(found, texts, strict=True)), len(texts))


def _diversity(e: Danced) -> Interval:
    """The mean distance of two clips of one text, as a share of the same of the reference."""
    of, reference = ([apart(some[i], some[j]) for i, j in e.repeats] for some in (e.tracks, e.reference))
    return _ratio(of, reference)


@dataclass(frozen=True)
class MotionMeasure:
    """`better`: which way is; `take`: its value; `needs`: texts, repeated texts, truths or names, besides clips;
    `signature`: what another program would have to do alike."""

    better: Better
    take: Callable[[Danced], Interval]
    says: str
    signature: str
    needs: str = ""


MOTIONS: dict[str, MotionMeasure] = {
    "dtw": MotionMeasure(
        "lower",
        _dtw,
        "mean distance of points to the true clip, warped in time (Sakoe & Chiba 1978)",
        "mean over the known points of a pair of frames, mean over the path of least sum, euclidean, all drawn parts",
    ),
    "disp-ratio": MotionMeasure(
        "",
        _disp_ratio,
        "how far points go from frame to frame, over the same of true clips: 1 is right, less is frozen",
        "mean over known points and frames of a clip, ratio of the means over clips",
    ),
    "bone-drift": MotionMeasure(
        "lower",
        lambda e: _each([bone_drift(one, e.limbs) for one in e.tracks]),
        "how much bones change their length within a clip",
        "standard deviation over mean along the frames, mean over drawn limbs, mean over clips",
    ),
    "jerk": MotionMeasure(
        "",
        lambda e: _each([jerk(one, e.fps) for one in e.tracks]),
        "how jerky points move: as much as real ones is right",
        "third difference times fps^3, mean over known points, mean over clips",
    ),
    "retrieval": MotionMeasure(
        "higher",
        _retrieval,
        "share whose text is found among all texts of the reference, by a net trained on the training clips",
        "first of the reference's different texts",
        "texts",
    ),
    "frechet": MotionMeasure(
        "lower",
        _frechet,
        "Frechet distance of hand-written features of motion",
        "duration; of each part middle, its spread, width, speed, acceleration; over the reference's deviations",
    ),
    "asked": MotionMeasure(
        "higher",
        _asked,
        "share that is nearest to the true clip of its own text, of those of all texts",
        "mean distance frame by frame, the shorter stretched, plus the logarithm of the ratio of lengths",
        "truths",
    ),
    "diversity": MotionMeasure(
        "",
        _diversity,
        "how much clips of one text differ, over the same of real ones: 1 is right",
        "mean distance of pairs of one text frame by frame, the shorter stretched",
        "repeated texts",
    ),
}
