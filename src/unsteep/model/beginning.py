"""Where sampling begins: noise of the seeds, or latents, at the first level of the way."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from unsteep.core.level import NoiseLevel
from unsteep.core.noise import NoiseSource
from unsteep.sampling import initial_noise

if TYPE_CHECKING:
    from unsteep.model.request import Request
    from unsteep.model.sampled import Sampled


def begun(model: Sampled, of: Request, first: NoiseLevel) -> Tensor:
    """What a request's samples begin as at their first level, in the model's units: noise, or its latents."""
    x = torch.empty(of.n, *model.space.shape, device=model.device)
    return initial_noise(x, first, NoiseSource(of.seeds)) if of.start is None else of.start.to(x)


def beginning(model: Sampled, of: Request) -> tuple[Tensor, NoiseLevel]:
    """The same, with that level, which the solver chooses."""
    if of.driven:
        first = model.denoiser.schedule(1.0)
    else:
        assert of.steps is not None
        solver = model.resolved(of.solver, of.condition, of.guidance, of.steps)
        first = model.levels(of.grid, of.steps, solver, of.guidance)[0]
    return begun(model, of, first), first
