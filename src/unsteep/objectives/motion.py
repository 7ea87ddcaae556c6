"""L_simple for sequences of points, and what their motion and their bones should be (Tevet et al. 2023, "Human motion
diffusion model", section 3; Tang et al. 2025, "Sign-IDD").

With d the error of the estimate of x0 in the model's units, and b, b' the bones of the data and of the estimate in the
data's own, frame by frame:

    velocity        mean |d[i+1] - d[i]|^2
    acceleration    mean |d[i+1] - 2 d[i] + d[i-1]|^2
    bones           mean (|b'| / |b| - 1)^2
    directions      mean |b' / |b'| - b / |b||^2

each times its setting, and each a term of the loss under its name. All are weighted: every feature by that of its
space, times how much it counts in the example, so that what is missing has no part; what is made of several numbers
counts as much as the one of them that counts least. What points there are, and what joins them, are lists of features
here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, Self, runtime_checkable

import torch
from torch import Tensor, nn

from unsteep.core import masked
from unsteep.core.arguments import number
from unsteep.core.noise import Draw
from unsteep.data.batch import Batch
from unsteep.denoiser import Denoiser, unwrapped
from unsteep.objectives.loss import Loss
from unsteep.objectives.mse import estimated, weighted_error
from unsteep.objectives.times import AnyTimes, Uniform, WithTimes, corrected
from unsteep.objectives.weights import AnyWeight, Native

TERMS = ("velocity", "acceleration", "bones", "directions")
SHORTEST = 1e-3  # of a bone whose length is divided by, in the data's units

End = tuple[int, ...]


@runtime_checkable
class Jointed(Protocol):
    """A space of points that are joined."""

    @property
    def weights(self) -> Sequence[float]:
        """Of each feature."""
        ...

    @property
    def bones(self) -> Sequence[tuple[End, End]]:
        """The features of both ends of each bone, which is their difference; the first are none where the second is
        relative to it already."""
        ...

    @property
    def mean(self) -> Sequence[float]: ...

    @property
    def std(self) -> Sequence[float]: ...


@dataclass(frozen=True, kw_only=True)
class Motion(WithTimes):
    """The weighted squared error with `weight`, at times drawn by `times`, and the terms of motion."""

    velocity: float = 0.0
    """How much the error of what moves from frame to frame counts."""
    acceleration: float = 0.0
    """How much that of how this changes does."""
    bones: float = 0.0
    """How much the error of the lengths of bones does."""
    directions: float = 0.0
    """How much that of their directions does."""
    weight: AnyWeight = field(default_factory=Native)
    """Of each noise level in the loss."""
    times: AnyTimes = field(default_factory=Uniform)
    """How training draws noise levels."""
    space: Jointed | None = field(default=None, metadata={"setting": False}, compare=False, repr=False)

    def __post_init__(self) -> None:
        for name in TERMS:
            number(name, getattr(self, name), 0)

    def fitted(self, space: Any, denoiser: Denoiser) -> Self:
        """For points of this space. ValueError for a space without any, and for a head whose estimates of x0 are
        errors times hundreds where there is much noise."""
        if not isinstance(space, Jointed):
            raise ValueError("objective: Motion is for the points of a skeleton, and this space has none; take Simple")
        if any(getattr(self, name) for name in TERMS) and denoiser.prediction in ("eps", "score"):
            raise ValueError(
                f"objective: motion is measured on estimates of x0, and those of a head that predicts "
                f"{denoiser.prediction} have no bound at t = 1; set model.prediction=x0"
            )
        return replace(self, space=space)

    def __call__(self, module: nn.Module, batch: Batch, draw: Draw) -> Loss:
        if self.space is None:
            raise ValueError("objective: Motion is not fitted to a space; call fitted(space, denoiser) first")
        t, correction = corrected(self.times, draw)
        estimate, eps = estimated(module, batch, t, draw)
        weight = counts(batch, self.space, estimate.valid)
        terms = {"simple": weighted_error(unwrapped(module), estimate, batch, eps, self.weight, weight)}
        if any(getattr(self, name) for name in TERMS):
            x0, true = masked.kept(estimate.x0, weight > 0), masked.kept(batch.x, weight > 0)
            found = self._moved(x0 - true, weight) | self._joined(x0, true, weight)
            terms |= {name: getattr(self, name) * term for name, term in found.items()}
        value = sum(terms.values(), torch.zeros_like(terms["simple"]))
        return Loss(value * correction.to(value), t, terms, correction)

    def _moved(self, error: Tensor, weight: Tensor) -> dict[str, Tensor]:
        """The terms that are differences between frames, (b,) each."""
        found = {}
        for name in ("velocity", "acceleration"):
            error, weight = error.diff(dim=1), torch.minimum(weight[:, 1:], weight[:, :-1])
            if getattr(self, name):
                found[name] = masked.mean(error.square(), None, weight)
        return found

    def _joined(self, x0: Tensor, true: Tensor, weight: Tensor) -> dict[str, Tensor]:
        """The terms of bones, (b,) each."""
        assert self.space is not None
        if not self.space.bones or not (self.bones or self.directions):
            return {}
        axes = len(self.space.bones[0][1])
        first, second = (torch.tensor([bone[end] or (-1,) * axes for bone in self.space.bones]) for end in (0, 1))
        first, second, there = (one.to(x0.device) for one in (first.clamp(min=0), second, first >= 0))
        mean, std = (torch.tensor(one).to(x0) for one in (self.space.mean, self.space.std))

        def bones(x: Tensor) -> tuple[Tensor, Tensor]:
            outside = x * std + mean
            bone = outside[..., second] - outside[..., first] * there
            length = bone.square().sum(-1, keepdim=True).clamp(min=SHORTEST**2).sqrt()
            return bone / length, length.squeeze(-1)

        (ways, lengths), (true_ways, true_lengths) = bones(x0), bones(true)
        one = torch.where(there, weight[..., first], torch.inf)
        each = torch.minimum(one, weight[..., second]).amin(-1)
        found = {
            "bones": (lengths / true_lengths - 1).square(),
            "directions": (ways - true_ways).square().sum(-1),
        }
        return {name: masked.mean(term, None, each) for name, term in found.items() if getattr(self, name)}


def counts(batch: Batch, space: Jointed, valid: Tensor | None) -> Tensor:
    """How much each number of a batch counts: as the space weighs its features, and the example its own."""
    weight = torch.tensor(space.weights).to(batch.x).expand(batch.x.shape)
    weight = weight if batch.weight is None else weight * batch.weight.to(weight)
    return masked.kept(weight, valid)
