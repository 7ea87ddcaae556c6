"""The variational bound of a model on examples, batch by batch."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from unsteep.core.arguments import MOST_SAMPLES, choice, flag, whole
from unsteep.core.condition import Condition
from unsteep.core.level import NoiseLevel, check_cleaner, level_of
from unsteep.core.noise import NoiseSource
from unsteep.core.protocols import Space
from unsteep.core.schedules import steps_of
from unsteep.likelihood import BoundTerms, Decoder, ReverseVariance, bound, spread, strata
from unsteep.model.request import check_condition, seeds
from unsteep.pages.progress import bar
from unsteep.sampling.grids import grid as grid_of

if TYPE_CHECKING:
    from unsteep.model.sampled import Sampled


def check_grid(space: Space, examples: Tensor) -> None:
    """ValueError where examples are not of the space, or lie between the values of the data, which alone have a
    probability."""
    space.check(examples)
    if space.levels is not None and not torch.equal(space.decode(space.encode(examples)), examples):
        raise ValueError(
            f"data: the model knows the {space.levels} grey levels of its training data, and these pictures have "
            "values between them; give data of the same kind"
        )


def bounded(
    model: Sampled,
    examples: Tensor,
    condition: Condition | None,
    *,
    levels: NoiseLevel | None,
    terms: int | None,
    draws: int,
    variance: ReverseVariance | None,
    decoder: Literal["pair", "ho"],
    clip: bool,
    seed: int,
    batch_size: int,
    progress: bool,
) -> BoundTerms:
    """As `Model.likelihood` says."""
    for name, number in (("terms", terms), ("draws", draws), ("batch_size", batch_size)):
        if number is not None or name != "terms":
            whole(name, number, 1, MOST_SAMPLES)
    clip = flag("clip", clip)
    choice("decoder", decoder, ("pair", "ho"))
    if levels is not None and (level_of("levels", levels).t.ndim != 1 or len(levels) < 2):
        raise ValueError(f"levels: expected a row of at least two, got {tuple(levels.t.shape)}; make it with grid()")
    if levels is not None:
        check_cleaner(levels[:-1], levels[1:])
    if not isinstance(examples, Tensor) or not examples.ndim or len(examples) == 0:
        got = "none" if isinstance(examples, Tensor) else type(examples).__name__
        raise ValueError(f"examples: expected a tensor of at least one, got {got}; give some")
    check_grid(model.space, examples)
    drawn = seeds(seed, len(examples))
    if condition is not None:
        check_condition(model, condition)
    if condition is not None and condition.count != len(examples):
        raise ValueError(f"condition: expected {len(examples)} rows, one for each example, got {condition.count}")
    schedule = model.denoiser.schedule
    levels = grid_of(schedule, steps_of(schedule)) if levels is None else levels
    pairs, chosen = len(levels) - 2, model.reverse_variance(variance)
    counted = Decoder(levels=model.space.levels, variance=decoder)
    done, starts = [], range(0, len(examples), batch_size)
    with model.fitting(), bar(progress, len(starts) * draws, "measuring") as advance:
        for start in starts:
            rows = slice(start, start + batch_size)
            some = None if condition is None else condition.select(rows)
            x0 = model.encoded(examples[rows], some)
            denoise = model.denoise(some, clip)
            parts = []
            for draw in range(draws):
                noise = NoiseSource(drawn[rows], draw)
                steps = weights = None
                if terms is not None and terms < pairs:
                    u = noise.uniform(torch.empty(len(x0), 1, dtype=torch.float64), pairs + 1)
                    edges = strata(levels, terms)
                    steps, weights = spread(u.squeeze(1), edges), edges.diff()
                parts.append(bound(denoise, x0, levels, counted, chosen, noise, steps, weights))
                advance()
            done.append(BoundTerms.of_draws(parts))
    terms_of_all = BoundTerms.of_examples(done)
    valid = None if condition is None else condition.known
    volume = torch.as_tensor(model.space.log_volume(valid), dtype=torch.float64).to(terms_of_all.decoder.device)
    return replace(terms_of_all, decoder=terms_of_all.decoder + volume)  # of numbers in the data's own units
