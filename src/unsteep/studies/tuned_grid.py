"""Noise levels optimised for one model: the grid on which so many steps of a solver come nearest the exact answer.

The exact answer is that of a third-order method in many times as many steps, from the same noise. Levels are sought on
some seeds (see `sampling.tuning`) and judged on as many others. A grid belongs to the solver, the number of steps and
the guidance scale that it was made for, and is kept under their names in the model's statistics. Training on makes
another model and measures its statistics anew: the grids of the old one go with it.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unsteep.core.level import NoiseLevel
from unsteep.core.schedules import steps_of
from unsteep.model import Model
from unsteep.progress import bar
from unsteep.sampling import DPMMultistep, Solver, Spacing, grid
from unsteep.sampling.tuning import Walk, grid_name, log_error, tune
from unsteep.storage.checkpoint import latest, update_tensors
from unsteep.studies.measuring import counted

REFERENCE = DPMMultistep(order=3)
FINE = 100, 8  # steps of the exact answer: at least, and for each step that is tuned
OTHERS: tuple[Spacing, ...] = ("trailing", "logsnr", "karras")  # tried beside the solver's own levels


@dataclass(frozen=True, kw_only=True)
class TunedGrid:
    """What came of it. `tuning`, `held_out`: the geometric mean, over the samples of the seeds that were tuned on and
    of others, of the root mean square distance to the exact answer, in the model's units, before and after.
    `calls`: evaluations of the network, over all samples; `walks`: how often all seeds were sampled in the search."""

    name: str
    before: NoiseLevel
    after: NoiseLevel
    tuning: tuple[float, float]
    held_out: tuple[float, float]
    walks: int
    calls: int
    seconds: float

    @property
    def gain(self) -> float:
        """How many times smaller the error on held-out seeds became."""
        return self.held_out[0] / self.held_out[1]


def tune_grid(
    model: Model,
    *,
    steps: int,
    solver: Solver | None = None,
    guidance: float = 1.0,
    seeds: int = 32,
    seed: int = 0,
    evaluations: int = 100,
    batch_size: int = 64,
    progress: bool = False,
) -> TunedGrid:
    """The best levels found for `steps` steps of `solver` (default: the model's own choice), tried on `seeds` samples
    from `seed` on in at most `evaluations` walks. The next `seeds` samples are held out."""
    for what, number, least in (("steps", steps, 2), ("seeds", seeds, 1), ("evaluations", evaluations, 1)):
        if number < least:
            raise ValueError(f"{what}: expected at least {least}, got {number}")
    schedule, began = model.denoiser.schedule, time.monotonic()
    labels = model.labels_of(2 * seeds, None, seed)
    how: dict[str, Any] = {"guidance": guidance, "steps": steps, "solver": solver}
    chosen = model.resolved(solver, labels, guidance, steps)
    own = model.levels(None, steps, chosen)
    starts = [own]
    for spacing in OTHERS:
        with contextlib.suppress(ValueError):  # a spacing that has no such grid on this schedule
            starts.append(grid(schedule, len(own) - 1, spacing))
    fine = grid(schedule, min(steps_of(schedule), max(FINE[0], FINE[1] * steps)), "logsnr")
    batches = 2 * math.ceil(seeds / batch_size)
    total = batches * (len(fine) - 1) + batches // 2 * (evaluations + 2) * (len(own) - 1)
    with counted(model, "", None, shown=False) as calls, bar(progress, total, "tuning") as advance:
        walk = partial(_walk, model, labels, seed, batch_size, advance)
        _check_silent(model, own, labels, how)
        exact = walk(slice(0, 2 * seeds), {**how, "solver": REFERENCE}, fine)
        on: Walk = partial(walk, slice(0, seeds), how)
        found = tune(on, exact[:seeds], schedule, starts, evaluations)
        held = [walk(slice(seeds, 2 * seeds), how, levels) for levels in (own, found.levels)]
    errors = [float(log_error((rows - exact[seeds:]).flatten(1)).mean().exp()) for rows in held]
    return TunedGrid(
        name=grid_name(chosen, steps, guidance),
        before=own,
        after=found.levels,
        tuning=(math.exp(found.first), math.exp(found.error)),
        held_out=(errors[0], errors[1]),
        walks=found.walks,
        calls=calls.count,
        seconds=time.monotonic() - began,
    )


def folder_of(path: Path) -> Path:
    """The folder that `unsteep.load(path)` opens: `path` itself, or the latest checkpoint of the run there."""
    return path if (path / "model.toml").exists() else latest(path / "checkpoints") or path


def keep(tuned: TunedGrid, model: Model, folder: Path) -> None:
    """Puts the grid into the statistics of `model`, and of the saved model or checkpoint `folder`."""
    model.statistics[tuned.name] = tuned.after.t
    update_tensors(folder, "statistics", {tuned.name: tuned.after.t})


def _walk(
    model: Model,
    labels: Tensor | None,
    seed: int,
    batch_size: int,
    advance: Callable[[], None],
    rows: slice,
    how: dict[str, Any],
    levels: NoiseLevel,
) -> Tensor:
    """Where the samples `rows` of all that are drawn end, in the model's units."""
    ends = []
    for first in range(rows.start, rows.stop, batch_size):
        last = min(first + batch_size, rows.stop)
        chosen = None if labels is None else labels[first:last]
        for step in model.trajectory(seed + first, last - first, chosen, grid=levels, **how):
            x = step.x
            advance()
        ends.append(x)
    return torch.cat(ends)


def _check_silent(model: Model, levels: NoiseLevel, labels: Tensor | None, how: dict[str, Any]) -> None:
    """Refuses a solver that draws noise on its way: it ends elsewhere on every grid, however good."""
