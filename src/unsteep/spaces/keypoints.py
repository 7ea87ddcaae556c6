"""Clips of the points of a skeleton: sequences whose numbers are scaled part by part, and that can be looked at.

Inside, each number is less its mean over the known frames of the training data, by a deviation that is one for all
numbers of a part: the mean of theirs. So a point that hardly moves is not magnified to noise, and the face, the body
and the hands weigh alike. Outside, a sample is (frames, features) in shoulder widths, as the data are read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from unsteep.core.protocols import DataSet
from unsteep.poses import PoseClip, Skeleton, numbered, write_clip
from unsteep.spaces.sequences import Sequences
from unsteep.spaces.standardized import moments

if TYPE_CHECKING:
    from unsteep.pages.skeletons import Moving


@dataclass(frozen=True, kw_only=True)
class Keypoints(Sequences):
    """Sequences of the points of a skeleton."""

    skeleton: Skeleton | None = None
    """Whose points; none: filled from the data."""
    fps: float = 0.0
    """Frames a second; 0: filled from the data."""
    relative: bool = False
    """Whether the points of hands are relative to their wrists; filled from the data, where these say so."""
    normalised: bool = True
    """Whether clips are moved and scaled by their shoulders; filled from the data, where these say so."""
    suffixes: ClassVar[tuple[str, ...]] = (".pose", ".npz")  # of files that `write` makes
    films: ClassVar[tuple[str, ...]] = (".gif", ".webp", ".png", ".html")  # and `play`

    def fitted(self, data: DataSet) -> Self:
        """With the skeleton, the longest clip, and the moments of the data."""
        if self.mean:
            return self
        skeleton, fps = self.skeleton or getattr(data, "skeleton", None), self.fps or getattr(data, "fps", 0.0)
        if skeleton is None or not fps > 0:
            raise ValueError(f"space: these data name no skeleton ({data.source}); set space.skeleton and space.fps")
        frames, mean, std = moments(data)
        if len(mean) != len(skeleton) * len(skeleton.axes):
            raise ValueError(f"data: expected {skeleton.describe()}, got frames of {len(mean)} numbers; name another")
        relative = self.relative or getattr(data, "relative", False)
        normalised = self.normalised and getattr(data, "normalised", True)
        filled = replace(self, skeleton=skeleton, fps=float(fps), relative=relative, normalised=normalised)
        for group in filled.groups:
            std[group] = std[group].mean() or 1.0
        return replace(filled, frames=frames, mean=tuple(mean.tolist()), std=tuple(std.tolist()))

    @property
    def of(self) -> Skeleton:
        """The skeleton. ValueError before there is one."""
        if self.skeleton is None:
            raise ValueError("space.skeleton: expected one, got none; name it, or fit the space to data that have one")
        return self.skeleton

    @property
    def groups(self) -> list[np.ndarray]:
        """The features that have one deviation: those of a part, and of a root that others are relative to."""
        roots = set(self.of.roots[self.of.roots != np.arange(len(self.of))].tolist()) if self.relative else set()
        places = [[i for i in span if i not in roots] for span in self.of.spans]
        return [self._features(np.array(one)) for one in (*places, *([root] for root in sorted(roots))) if one]

    @property
    def weights(self) -> tuple[float, ...]:
        """Of each feature in a loss that asks for it."""
        return tuple(np.repeat(self.of.weights, len(self.of.axes)).tolist())

    @property
    def bones(self) -> tuple[tuple[tuple[int, ...], tuple[int, ...]], ...]:
        """Features of the two ends of each limb that is drawn, whose difference is the bone; the first are none where
        the second is relative to it already."""
        skeleton = self.of
        drawn = [(a, b) for a, b in skeleton.limbs.tolist() if skeleton.drawn[a]]
        found = []
        for a, b in drawn:
            near, far = (b, a) if self.relative and skeleton.roots[a] == b else (a, b)
            relative = self.relative and skeleton.roots[far] == near
            ends = ((), self._features(np.array([far]))) if relative else map(self._features, ([near], [far]))
            first, second = (tuple(int(i) for i in end) for end in ends)
            found.append((first, second))
        return tuple(found)

    def _features(self, points: Any) -> np.ndarray:
        axes = len(self.of.axes)
        features: np.ndarray = (np.asarray(points)[:, None] * axes + np.arange(axes)).ravel()
        return features

    def clip(self, sample: Tensor) -> PoseClip:
        """A sample (frames, features) as a clip, hands where they are; a point of which a number is none is missing."""
        data = sample.detach().cpu().float().unflatten(1, (len(self.of), -1)).numpy()
        clip = PoseClip(data, np.ones(data.shape[:2], np.float32), self.fps, self.of)
        return clip.absolute() if self.relative else clip

    def opened(self, clip: PoseClip) -> tuple[Tensor, Tensor]:
        """A clip of any skeleton that has these points as the model's data have theirs: (frames, features) in their
        units, and which of its numbers are known, bool. ValueError for another number of frames a second, too many
        frames, or none of the points."""
        if clip.fps != self.fps:
            raise ValueError(
                f"clip: the model makes {self.fps:g} frames a second, and it has {clip.fps:g}; bring it to these "
                f"(PoseClip.resampled)"
            )
        clip = clip.reduced(self.of)
        if len(clip) > self.frames:
            raise ValueError(f"clip: the model makes up to {self.frames} frames, and it has {len(clip)}; cut it")
        clip = clip.normalised() if self.normalised else clip
        clip = clip.relative() if self.relative else clip
        known = np.repeat(clip.known, len(self.of.axes), 1)
        x = np.where(known, clip.data.reshape(len(clip), -1), self.mean)
        return torch.from_numpy(x.astype(np.float32)), torch.from_numpy(known)

    def closed(self, sample: Tensor, clip: PoseClip, kept: Tensor) -> PoseClip:
        """A sample (frames, features) that was made of a clip, where that is, with the points that were `kept` bool
        (frames, points) as they are there, missing ones too."""
        own, made = clip.reduced(self.of), self.clip(sample)
        made = made.seated(*own.seat()) if self.normalised else made
        there = kept.numpy()
        data = np.where(there[..., None], own.data, made.data)
        found = replace(own, data=data, confidence=np.where(there, own.confidence, made.confidence))
        return found.reduced(replace(self.of, y=clip.skeleton.y))  # turned as it was

    @property
    def parts(self) -> dict[str, Tensor]:
        """Which points are of each part of the skeleton: bool (points,), by its name."""
        places, skeleton = torch.arange(len(self.of)), self.of
        spans = zip(skeleton.parts, skeleton.spans, strict=True)
        return {part.name: (places >= span.start) & (places < span.stop) for part, span in spans}

    def write(self, samples: Sequence[Tensor], path: Path) -> list[Path]:
        """Writes samples as .pose or .npz: one as `path`, several as path-1, path-2 ... A .pose stands in a picture of
        512 pixels, as viewers expect it."""
        clips = [self.clip(one) for one in samples]
        if path.suffix.lower() == ".pose":
            clips = [clip.placed() for clip in clips]
        return [write_clip(clip, where) for clip, where in zip(clips, numbered(path, len(clips)), strict=True)]

    def play(self, samples: Sequence[Tensor], path: Path, captions: Sequence[str] | None = None) -> Path:
        """Writes samples side by side as an animation, or as a page that plays in a browser."""
        from unsteep.pages import skeletons

        return skeletons.movie([moving(self.clip(one)) for one in samples], path, captions)

    def tiles(self, samples: Sequence[Tensor]) -> Tensor:
        """Every sample as a row of stills, all on the scale of the training data."""
        from unsteep.pages import skeletons

        usual = self.clip(torch.tensor(self.mean)[None]).data[0, self.of.drawn, :2]
        spread = 1.5 * torch.tensor(self.std).unflatten(0, (len(self.of), -1)).numpy()[self.of.drawn, :2]
        low, high = (usual - spread).min(0), (usual + spread).max(0)
        low, high = (low, high) if self.of.y == "down" else (low * [1, 0] - high * [0, 1], high * [1, 0] - low * [0, 1])
        window = skeletons.Window.around(low, high)
        return torch.from_numpy(skeletons.tiles([moving(self.clip(one)) for one in samples], window))

    def check(self, x: Tensor) -> None:
        """ValueError where x (b, frames, features) are no such clips."""
        try:
            super().check(x)
        except ValueError as error:
            raise ValueError(f"{error}; the model knows {self.of.describe()}") from None

    def describe(self) -> str:
        """In words."""
        return f"clips of up to {self.frames} frames at {self.fps:g} a second, {self.of.describe()}"


def moving(clip: PoseClip) -> Moving:
    """A clip as it is drawn: y down, and of what is hidden or missing nothing."""
    from unsteep.pages.skeletons import Moving

    skeleton = clip.skeleton
    points = clip.data[..., :2] * np.array([1, 1 if skeleton.y == "down" else -1])
    points = np.where((clip.known & skeleton.drawn)[..., None], points, np.nan)
    limbs = skeleton.limbs[skeleton.drawn[skeleton.limbs].all(1)]
    return Moving(points, limbs, skeleton.colours, clip.fps)
