"""A clip: points of a skeleton that move, and what is done to one before it is learned from.

Nothing here invents a point. Where a number is made of several, as a frame between two, or a finger relative to a
wrist, it is missing where one of them is, and its confidence is the least of theirs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from unsteep.poses.skeleton import Skeleton

WIDTH = 512  # pixels of a picture that a normalised clip is placed in
MARGIN = 1.25  # shoulder widths from its middle to its sides


@dataclass(frozen=True, eq=False)
class PoseClip:
    """data: float32 (frames, points, axes). confidence: float32 (frames, points) from 0, a point that is missing, to 1.
    fps: frames a second. size: width, height and depth of the picture that it was found in; 0 where that is unknown.

    A point whose numbers or confidence are not finite is missing, and so is one of a negative confidence.
    """

    data: np.ndarray
    confidence: np.ndarray
    fps: float
    skeleton: Skeleton
    size: tuple[int, int, int] = (0, 0, 0)

    def __post_init__(self) -> None:
        points, axes = len(self.skeleton), len(self.skeleton.axes)
        if self.data.ndim != 3 or self.data.shape[1:] != (points, axes) or not len(self.data):
            raise ValueError(f"data: expected (frames, {points}, {axes}), a frame at least, got {self.data.shape}")
        if self.confidence.shape != self.data.shape[:2]:
            raise ValueError(f"confidence: expected {self.data.shape[:2]}, got {self.confidence.shape}")
        if not 0 < self.fps < 1e6:
            raise ValueError(f"fps: expected frames a second, above 0, got {self.fps:g}")
        finite = np.isfinite(self.data).all(2) & np.isfinite(self.confidence) & (self.confidence >= 0)
        if not finite.all():
            object.__setattr__(self, "confidence", np.where(finite, self.confidence, 0).astype(np.float32))
            object.__setattr__(self, "data", np.where(finite[..., None], self.data, 0).astype(np.float32))

    def __len__(self) -> int:
        return len(self.data)

    @property
    def seconds(self) -> float:
        """How long it takes."""
        return len(self) / self.fps

    @property
    def known(self) -> np.ndarray:
        """Which points are not missing: bool (frames, points)."""
        known: np.ndarray = self.confidence > 0
        return known

    def reduced(self, skeleton: Skeleton) -> PoseClip:
        """To the points of another skeleton, by their names, and its second axis turned as there. ValueError where it
        lacks one."""
        places = skeleton.within(self.skeleton)
        if places is None:
            raise ValueError(f"skeleton: expected the points of {skeleton.describe()}, got {self.skeleton.describe()}")
        data = self.data[:, places]
        if skeleton.y != self.skeleton.y:
            data = data * np.where(np.arange(data.shape[2]) == 1, -1, 1).astype(np.float32)
        return replace(self, data=data, confidence=self.confidence[:, places], skeleton=skeleton)

    def trimmed(self) -> PoseClip:
        """Without the frames before the first and after the last in which any point is known; as it is where none
        is."""
        there = np.flatnonzero(self.known.any(1))
        return self[there[0] : there[-1] + 1] if len(there) else self

    def __getitem__(self, frames: slice) -> PoseClip:
        return replace(self, data=self.data[frames], confidence=self.confidence[frames])

    def normalised(self) -> PoseClip:
        """With the middle of the shoulders, on average over the frames in which both are known, at 0, and their
        distance, on average, 1. ValueError where they are never known together, or one point."""
        middle, width = self.seat()
        return self._moved((self.data - middle) / width)

    def seat(self) -> tuple[np.ndarray, float]:
        """Where the middle of the shoulders is, (axes,), and their distance, as `normalised` takes them: 0 and 1 for a
        skeleton without shoulders. ValueError as there."""
        if not self.skeleton.shoulders:
            return np.zeros(self.data.shape[2]), 1.0
        a, b = map(self.skeleton.place, self.skeleton.shoulders)
        both = self.known[:, a] & self.known[:, b]
        one, other = (self.data[both, place].astype(np.float64) for place in (a, b))
        width = float(np.linalg.norm(one - other, axis=1).mean()) if both.any() else 0.0
        if not width > 0:
            raise ValueError(f"no frame shows both {' and '.join(self.skeleton.shoulders)}, by which it is normalised")
        return ((one + other) / 2).mean(0), width

    def seated(self, middle: np.ndarray, width: float) -> PoseClip:
        """A normalised clip where the shoulders of another are: the inverse of `normalised`."""
        return self._moved(self.data * width + middle)

    def resampled(self, fps: float) -> PoseClip:
        """At so many frames a second, between two frames linearly. Its first frame stays, and it takes as long, to
        less than a frame."""
        if fps == self.fps:
            return self
        count = math.floor((len(self) - 1) * fps / self.fps + 1e-6) + 1
        at = np.clip(np.arange(count) * (self.fps / fps), 0, len(self) - 1)
        below = np.floor(at).astype(np.int64)
        above, share = np.minimum(below + 1, len(self) - 1), (at - below)[:, None, None]
        above = np.where(share[:, 0, 0] > 0, above, below)
        data = (1 - share) * self.data[below] + share * self.data[above]
        confidence = np.minimum(self.confidence[below], self.confidence[above])
        return replace(self, data=data.astype(np.float32), confidence=confidence, fps=fps)

    def relative(self) -> PoseClip:
        """With the points of each part that has a root relative to it; the root stays where it is."""
        roots, self_rooted = self.skeleton.roots, self.skeleton.roots == np.arange(len(self.skeleton))
        shift = np.where(self_rooted[:, None], 0, self.data[:, roots])
        confidence = np.where(self_rooted, self.confidence, np.minimum(self.confidence, self.confidence[:, roots]))
        return replace(self._moved(self.data - shift), confidence=confidence)

    def absolute(self) -> PoseClip:
        """The inverse of `relative`."""
        roots, self_rooted = self.skeleton.roots, self.skeleton.roots == np.arange(len(self.skeleton))
        return self._moved(self.data + np.where(self_rooted[:, None], 0, self.data[:, roots]))

    def placed(self, width: int = WIDTH) -> PoseClip:
        """A normalised clip in a picture of this width and height: its origin in the middle, y down."""
        scale = width / (2 * MARGIN)
        turned = np.ones(self.data.shape[2])
        turned[1] = 1 if self.skeleton.y == "down" else -1
        shift = np.zeros(self.data.shape[2])
        shift[:2] = width / 2
        skeleton = replace(self.skeleton, y="down")
        return replace(self._moved(self.data * turned * scale + shift), skeleton=skeleton, size=(width, width, 0))

    def _moved(self, data: Any) -> PoseClip:
        return replace(self, data=data.astype(np.float32))
