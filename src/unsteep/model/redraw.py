"""An example drawn again, as a model would, from part of the way to noise (Meng et al. 2022; `inverse.redraw`)."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from unsteep.core.arguments import MOST_SAMPLES, kind, number, whole
from unsteep.core.noise import NoiseSource
from unsteep.guidance.setting import Guidance
from unsteep.inverse.redraw import redraw as redrawn
from unsteep.inverse.redraw import step_of
from unsteep.model.given import after, cut, joined, one_of
from unsteep.model.model import Model
from unsteep.pages.progress import bar


def redraw(
    model: Model,
    picture: Tensor,
    strength: float = 0.5,
    n: int = 8,
    *,
    label: Any = None,
    prompt: Any = None,
    given: Tensor | None = None,
    guidance: float | Guidance = 1.0,
    steps: int | None = None,
    solver: Any = None,
    seed: int = 0,
    batch_size: int = 64,
    progress: bool = False,
    **others: Any,
) -> Any:
    """n drawings after one example (*shape) in the data's own units, those of the seeds from `seed` on.

    `strength`: how far to go towards noise, as a time in [0, 1]: near 0 little changes, near 1 little is left. `label`,
    `prompt`, `given` (an aligned picture) and `others`: as of `Model.sample`; what is not named is none. `steps` from
    there to the clean example: default 20, or the chain's below there if these are fewer. `solver`: default, ancestral
    with the variance beta_tilde. ValueError for what does not fit the model.
    """
    kind("model", model, Model, "a model", "open one with unsteep.load")
    whole("batch_size", batch_size, 1, MOST_SAMPLES)
    original, schedule = one_of(model, picture, "picture"), model.denoiser.schedule
    strength, n = number("strength", strength), whole("n", n, most=MOST_SAMPLES)
    usual = max(1, min(model.default_steps, step_of(schedule, strength)))
    asks = {"label": label, "prompt": prompt, **others}
    steps = usual if steps is None else steps
    of = after(model, original, n, asks, given, seed=seed, guidance=guidance, steps=steps, solver=solver)
    x0, done = model.encoded(original[None]), []
    with model.fitting(), bar(progress, -(-n // batch_size), "drawing") as advance:
        for start in range(0, n, batch_size):
            part = of.select(slice(start, start + batch_size))
            chosen = model.resolved(part.solver, part.condition, part.guidance, steps)
            denoise, wide = model.denoise(part.condition, guidance=part.guidance), x0.expand(part.n, *x0.shape[1:])
            x = redrawn(denoise, wide, schedule, strength, steps, chosen, NoiseSource(part.seeds))
            done.append(cut(model, x, part.condition))
            advance()
    return joined(done)
