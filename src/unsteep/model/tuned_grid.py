"""Noise levels optimised for one model: the grid on which so many steps of a solver come nearest the exact answer.

The exact answer is that of a third-order method in many more steps, from the same noise. Levels are sought on some
seeds (see `sampling.tuning`) and judged on as many others. A grid belongs to the solver, the number of steps and the
guidance scale that it was made for, and is kept under their names in the model's statistics. Training on makes another
model and measures its statistics anew: the grids of the old one go with it.
"""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unsteep.core.arguments import MOST_SAMPLES, MOST_STEPS, kind, number, whole
from unsteep.core.level import NoiseLevel
from unsteep.core.schedules import steps_of
from unsteep.model.cost import counting
from unsteep.model.model import Model
from unsteep.pages.progress import bar
from unsteep.sampling import DPMMultistep, Driver, Solver, Spacing, called, grid, solver_named
from unsteep.sampling.tuning import grid_name, log_error, tune
from unsteep.storage.checkpoint import latest, update_tensors
from unsteep.storage.lock import FolderLock

EXACT = DPMMultistep(order=3)
FINE = 100, 8  # steps of the exact answer: at least, and for each step that is tuned
OTHERS: tuple[Spacing, ...] = ("trailing", "logsnr", "karras")  # tried beside the solver's own levels


@dataclass(frozen=True, kw_only=True)
class TunedGrid:
    """What came of it. `tuning`, `held_out`: before and after, on the seeds that were tuned on and on others, the root
    mean square distance to the exact answer in the model's units, its geometric mean over samples. `walks`: how often
    all seeds were sampled in the search. `calls`: evaluations of the network, over all samples."""

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
    solver: Any = None,
    guidance: float = 1.0,
    seeds: int = 32,
    seed: int = 0,
    evaluations: int = 100,
    batch_size: int = 64,
    progress: bool = False,
) -> TunedGrid:
    """The best levels found for `steps` steps of `solver` (default: the model's own) guided by `guidance`, in at most
    `evaluations` walks of the samples of `seeds` seeds, from `seed` on. As many seeds after them are held out."""
    kind("model", model, Model, "a model", "open one with unsteep.load")
    steps, seeds = whole("steps", steps, 2, MOST_STEPS), whole("seeds", seeds, 1, MOST_SAMPLES // 2)
    evaluations = whole("evaluations", evaluations, 1, MOST_STEPS)
    batch_size, seed = whole("batch_size", batch_size, 1, MOST_SAMPLES), whole("seed", seed)
    guidance = number("guidance", guidance)
    if isinstance(solver, Driver):
        raise ValueError(f"solver: {called(solver)} chooses its own steps, and no grid is tuned for it")
    solver = solver_named(solver) if isinstance(solver, str) else solver
    schedule, began = model.denoiser.schedule, time.monotonic()
    labels = model.labels_of(2 * seeds, None, seed)
    how: Any = {"guidance": guidance}
    chosen = model.resolved(solver, labels, guidance, steps)
    own = model.levels(None, steps, chosen)
    starts = [own]
    for spacing in OTHERS:
        with contextlib.suppress(ValueError):  # a spacing that has no such grid on this schedule
            starts.append(grid(schedule, len(own) - 1, spacing))
    fine = grid(schedule, min(steps_of(schedule), max(FINE[0], FINE[1] * steps)), "logsnr")
    parts = range(0, seeds, batch_size)
    total = len(parts) * (2 * (len(fine) - 1) + (evaluations + 2) * (len(own) - 1))

    with counting(model) as calls, bar(progress, total, "tuning") as advance:

        def ends(levels: NoiseLevel, solver: Solver | None = solver, after: int = 0) -> Tensor:
            """Where the samples of the seeds from `seed` + `after` on end."""
            done = []
            for part in parts:
                rows = slice(after + part, after + min(part + batch_size, seeds))
                given = None if labels is None else labels[rows]
                n = rows.stop - rows.start
                for step in model.trajectory(seed + rows.start, n, given, solver=solver, grid=levels, **how):
                    x = step.x
                    advance()
                done.append(x.cpu())
            return torch.cat(done)

        if solver is not None:
            _refuse_noise(model, solver, own, labels, how)
        exact, others = ends(fine, EXACT), ends(fine, EXACT, after=seeds)
        found = tune(ends, exact, schedule, starts, evaluations)
        rows = [(ends(levels, after=seeds) - others).flatten(1) for levels in (own, found.levels)]
    before, after = (float(log_error(each).mean().exp()) for each in rows)
    return TunedGrid(
        name=grid_name(chosen, steps, guidance),
        before=own,
        after=found.levels,
        tuning=(math.exp(found.first), math.exp(found.error)),
        held_out=(before, after),
        walks=found.walks,
        calls=calls.rows,
        seconds=time.monotonic() - began,
    )


def _refuse_noise(model: Model, solver: Solver, levels: NoiseLevel, labels: Tensor | None, how: Any) -> None:
    """ValueError for a solver that draws noise on its way: no grid brings it to the exact answer of the same start."""
    start = torch.zeros(1, *model.space.shape)
    label = None if labels is None else labels[:1]
    one, other = (
        [step.x for step in model.trajectory(seed, 1, label, solver=solver, grid=levels, start=start, **how)]
        for seed in (0, 1)
    )
    if not torch.equal(one[-1], other[-1]):
        raise ValueError(
            f"solver: {called(solver)} draws noise on its way, so it ends elsewhere on any grid; "
            f"tune one that draws none, such as gaussian-frame, unipc or dpmpp-2m"
        )


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Path]:
    """The folder that `unsteep.load(path)` reads, `path` itself or the latest checkpoint of the run there, held to be
    written to: ValueError if it cannot be, or while the run is being trained; training cannot start meanwhile."""
    run = path if (path / "run.toml").exists() else path.resolve().parent.parent
    held = next((one for one in (run / "run.toml", path / "model.toml") if one.exists()), None)
    with FolderLock(held.parent) if held else contextlib.nullcontext():
        folder = path if (path / "model.toml").exists() else latest(path / "checkpoints") or path
        if folder.exists() and not os.access(folder, os.W_OK):
            raise ValueError(f"{folder}: the grid is kept there, and it cannot be written to; tune a copy of it")
        yield folder


def keep(tuned: TunedGrid, model: Model, folder: Path) -> None:
    """Puts the grid into the statistics of `model`, and of the saved model or checkpoint in `folder`."""
    model.statistics[tuned.name] = tuned.after.t
    update_tensors(folder, "statistics", {tuned.name: tuned.after.t})
