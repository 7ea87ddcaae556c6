"""Examples to the latents that they come from, along the probability-flow equation, and back again.

The flow maps data to noise one to one (Song et al. 2021), so x at t = 1 says all of an example that the model can tell.
It is integrated with adaptive steps, so the latents are those of the equation itself: any deterministic solver takes
them back, as well as its steps allow.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from unsteep.core import masked
from unsteep.core.arguments import MOST_SAMPLES, kind, shown, whole
from unsteep.core.condition import VALID, Condition
from unsteep.model.model import Model
from unsteep.model.request import request
from unsteep.pages.progress import bar
from unsteep.sampling import Adaptive


@dataclass(frozen=True)
class Inverted:
    """`latents` (n, ...) at t = 1, in the model's units; `calls` (n,): network evaluations for each; `error` (n,): RMS
    between each example and what comes back from its latent, in the model's units."""

    latents: Tensor
    calls: Tensor
    error: Tensor


def invert(
    model: Model,
    examples: Tensor,
    label: Any = None,
    *,
    condition: Condition | None = None,
    tolerance: float = 1e-4,
    batch_size: int = 64,
    progress: bool = False,
    **others: Any,
) -> Inverted:
    """The latents of examples (n, ...) in the data's own units, and how well they come back.

    `label`: one class for all, or one for each; `others` as of `Model.sample`; what is not named is none. `condition`:
    of n rows, in place of these. `tolerance`: of each step of the integration. ValueError for examples that are not of
    the model's space.
    """
    kind("model", model, Model, "a model", "open one with unsteep.load")
    whole("batch_size", batch_size, 1, MOST_SAMPLES)
    if not isinstance(examples, Tensor) or not examples.ndim or len(examples) == 0:
        raise ValueError(f"data: expected a tensor of at least one example, got {shown(examples)}; give some")
    asks = {"label": label, **others}
    of = request(model, len(examples), asks=asks, usual=False, condition=condition)
    valid = None if of.condition is None else of.condition.get(VALID)
    if valid is not None and valid.shape == examples.shape[:2]:  # what pads a sequence has no part in it
        examples = masked.kept(examples, valid.to(examples.device))
    model.space.check(examples)
    if examples.is_floating_point() and not bool(examples.isfinite().all()):
        raise ValueError("examples: expected finite numbers, got NaN or infinite ones; fill them in first")
    driver, schedule = Adaptive(pair="dormand-prince", tolerance=tolerance), model.denoiser.schedule
    done: list[tuple[Tensor, Tensor, Tensor]] = []
    starts = range(0, len(examples), batch_size)
    with model.fitting(), bar(progress, len(starts), "inverting") as advance:
        for start in starts:
            rows = slice(start, start + batch_size)
            part = of.select(rows)
            x0 = model.encoded(examples[rows], part.condition)
            denoise = model.denoise(part.condition, clip=False)
            latents, calls = driver.invert(denoise, x0, schedule)
            again, _ = driver.sample(denoise, latents, schedule)
            error = ((again - x0) ** 2).flatten(1).mean(1).sqrt()
            done.append((latents.cpu(), calls.cpu(), error.cpu()))
            advance()
    return Inverted(*(torch.cat(parts) for parts in zip(*done, strict=True)))
