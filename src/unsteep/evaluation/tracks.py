"""What motion is measured on: clips that a model draws, asked for by the texts or classes of real ones and by nothing
else of them; the real ones, in halves; and what needs no model at all, to hold it against.

    mean pose    the mean of the training data, at rest
    lookup       the training clip whose text shares most words with the one that is asked for
    nearest      the training clip that is nearest to the true one, which only who knows that can choose
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from unsteep.core.noise import permutation
from unsteep.data.examples import Examples
from unsteep.evaluation.subjects import Drawn
from unsteep.features.wording import Wording, texts_of
from unsteep.metrics.motion import Track, apart
from unsteep.spaces import Keypoints

FRAMES = 12  # in which clips are compared to find the nearest
CHOICE = 20  # of those nearest so, which are compared frame by frame


@dataclass(frozen=True, eq=False)
class DrawnClips(Drawn):
    """Clips that `model` draws: see `Drawn`."""

    def __post_init__(self) -> None:
        if not isinstance(self.model.space, Keypoints):
            raise ValueError(
                f"evaluate: expected a model of clips of a skeleton, and this one makes {self.model.space.describe()}"
            )

    def of(self, clips: Clips) -> Iterator[Tensor]:
        """n samples (frames, features) in the data's units, asked for as `clips` are in turn, by text and class; how
        long they are, the model says."""
        data, model = clips.data, self.model
        order = torch.arange(self.n) % len(data)
        told: dict[str, Sequence[Any]] = {}
        if model.description.hearing("prompt") is not None:
            told["prompt"] = [data.captions[i] for i in order.tolist()]
        if model.names:
            assert data.labels is not None
            told["label"] = [data.names[i] for i in data.labels[order].tolist()]
        at_once = int(self.how.get("batch_size", 64))
        for start in range(0, self.n, at_once):
            some = slice(start, min(start + at_once, self.n))
            asked: dict[str, Any] = {name: list(values[some]) for name, values in told.items()}
            yield from model.sample(some.stop - start, seed=self.seed + start, **asked, **self.how)


@dataclass(frozen=True, eq=False)
class Clips:
    """Real clips: `data`, whose numbers `space` knows; points that are never drawn weigh nothing."""

    data: Examples
    space: Keypoints

    def __len__(self) -> int:
        return len(self.data)

    @cached_property
    def texts(self) -> tuple[str, ...]:
        """Of each: a caption, the name of a class, or ()."""
        return texts_of(self.data)

    @cached_property
    def tracks(self) -> list[Track]:
        """As they are measured."""
        data = self.data
        lengths = [data.x.shape[1]] * len(data) if data.valid is None else data.valid.sum(1).tolist()
        weights = [None] * len(data) if data.weight is None else list(data.weight)
        return [
            self.track(x[:n], None if w is None else w[:n]) for x, w, n in zip(data.x, weights, lengths, strict=True)
        ]

    def track(self, x: Tensor, weight: Tensor | None = None) -> Track:
        """Of a clip (frames, features), NaN where a number is missing."""
        clip, points = self.space.clip(x), len(self.space.of)
        counts = torch.from_numpy(clip.confidence) * torch.from_numpy(self.space.of.drawn)
        if weight is not None:
            counts = counts * weight.unflatten(1, (points, -1)).amin(2)
        return Track(torch.from_numpy(clip.data), counts)

    def select(self, index: Tensor | Sequence[int]) -> Clips:
        """Some of them."""
        return Clips(self.data.select(torch.as_tensor(index)), self.space)

    def halves(self) -> tuple[Clips, Clips]:
        """Two parts of them, at random."""
        first, second = permutation(len(self), 0, 0).tensor_split(2)
        return self.select(first), self.select(second)

    def alike(self, others: Clips) -> list[tuple[int, int]]:
        """Pairs (i, j): clip i here, and clip j of the others that has its text, another one each time while there
        are."""
        places: dict[str, list[int]] = {}
        for j, text in enumerate(others.texts):
            places.setdefault(text, []).append(j)
        taken: dict[str, int] = {}
        found = []
        for i, text in enumerate(self.texts):
            if text in places:
                found.append((i, places[text][taken.get(text, 0) % len(places[text])]))
                taken[text] = taken.get(text, 0) + 1
        return found


def baselines(reference: Clips, training: Clips) -> Mapping[str, list[Track]]:
    """For each of the reference, what each baseline gives: see the module."""
    mean = torch.tensor(training.space.mean)[None]
    usual = round(sum(map(len, training.tracks)) / len(training))
    still = training.track(mean.expand(usual, -1))
    found = {"mean pose": [still] * len(reference)}
    if reference.texts and training.texts:
        words = [frozenset(text.lower().split()) for text in training.texts]
        order = permutation(len(training), 0, 1).tolist()
        best: dict[str, int] = {}
        for text in dict.fromkeys(reference.texts):
            asked = frozenset(text.lower().split())
            best[text] = max(order, key=lambda j: len(asked & words[j]) / max(1, len(asked | words[j])))
        found["lookup"] = [training.tracks[best[text]] for text in reference.texts]
    found["nearest"] = [_nearest(one, training) for one in reference.tracks]
    return found


def _nearest(track: Track, training: Clips) -> Track:
    """By a few frames of all, and frame by frame of the best of them."""
    x, counts = _in_few([track])
    others, theirs = _few(training)
    both = torch.minimum(counts, theirs)
    far = ((x - others).norm(dim=3) * both).sum((1, 2)) / both.sum((1, 2)).clamp(min=1e-12)
    near = far.topk(min(CHOICE, len(training)), largest=False).indices.tolist()
    return min((training.tracks[j] for j in near), key=lambda one: apart(track, one))


def _few(clips: Clips) -> tuple[Tensor, Tensor]:
    kept = clips.__dict__.get("few")
    if kept is None:
        kept = clips.__dict__["few"] = _in_few(clips.tracks)
    return kept


def _in_few(tracks: Sequence[Track]) -> tuple[Tensor, Tensor]:
    few = [one.stretched(FRAMES) for one in tracks]
    return torch.stack([one.x for one in few]), torch.stack([one.weight for one in few])


def namer(net: Wording, space: Keypoints) -> Any:
    """What names tracks by the net of the training clips, in whose numbers `space` has them."""

    def named(tracks: Sequence[Track], texts: Sequence[str]) -> list[str]:
        frames = max(map(len, tracks))
        width = len(space.mean)
        x, there = torch.zeros(len(tracks), frames, width), torch.zeros(len(tracks), frames, width, dtype=torch.bool)
        roots = torch.from_numpy(space.of.roots)
        moved = roots != torch.arange(len(roots))
        for i, track in enumerate(tracks):
            one, known = track.x, track.weight > 0
            if space.relative:
                one = torch.where(moved[:, None], one - one[:, roots], one)
                known = known & known[:, roots]
            x[i, : len(track)] = one.flatten(1).float()
            there[i, : len(track)] = known.repeat_interleave(one.shape[2], 1)
        return net.named(x, there, texts)

    return named
