"""The ablation of Ho et al. 2020 (Table 2) on any data: what to predict, what to train on, which variance to use.

    predict   mean (mu-tilde), eps, x0, v
    train on  bound    the true bound, its variance fixed at beta, or a learned diagonal one, as in the paper
              simple   the unweighted squared error of what is predicted, its variance fixed at beta
              hybrid   simple, and a learned variance between beta_tilde and beta (Nichol & Dhariwal 2021)

Sixteen cells. All have the same seed, hence the same batches, times and noise (and the same initial weights, where
the variance has no output of its own), and the same number of steps. Each is a run of its own, and what is done stays:

    ablation.json             what was asked, and the number of steps that a budget came to
    cells/eps-simple-fixed/   a run; beside it result.json and samples.npz
    report.html  report.json  the findings, as a page and as numbers
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from unsteep.core.protocols import DataSet
from unsteep.data.reading import in_memory
from unsteep.objectives import AnyObjective, Bound, Hybrid, Simple, Uniform
from unsteep.opening import load
from unsteep.pages.files import write_json
from unsteep.storage import config
from unsteep.storage.lock import RunLock
from unsteep.studies.ablation.result import Extent, Finding, Judge
from unsteep.studies.trained import images_per_second, of_steps, trained
from unsteep.training.log import read_log
from unsteep.training.loop import Diverged
from unsteep.training.run import Run


@dataclass(frozen=True, kw_only=True)
class Combination:
    """One choice of the three."""

    prediction: Literal["mean", "eps", "x0", "v"]
    objective: Literal["bound", "simple", "hybrid"]
    variance: Literal["fixed", "learned", "diagonal"]

    @property
    def name(self) -> str:
        """As in eps-simple-fixed."""
        return f"{self.prediction}-{self.objective}-{self.variance}"

    def of(self, run: Run) -> Run:
        """`run` with this cell's choices; the rest, the times that its objective draws too, as it is."""
        times = getattr(run.objective, "times", Uniform())
        objective: AnyObjective = Simple(times=times)
        if self.objective == "bound":
            objective = Bound(variance="beta" if self.variance == "fixed" else "learned", times=times)
        elif self.objective == "hybrid":
            objective = Hybrid(times=times)
        model = replace(run.model, prediction=self.prediction, variance=self.variance)
        return replace(run, model=model, objective=objective)


_SENSIBLE = (("bound", "diagonal"), ("bound", "fixed"), ("simple", "fixed"), ("hybrid", "learned"))
GRID = tuple(
    Combination(prediction=prediction, objective=objective, variance=variance)  # type: ignore[arg-type]
    for prediction in ("mean", "eps", "x0", "v")
    for objective, variance in _SENSIBLE
)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What every cell shares: the `run` that all are made from, with its steps and seed; `budget`, seconds a cell, and
    the images/s, `speed`, that turned it into steps; None where steps were asked for."""

    run: Run
    budget: float | None = None
    speed: float | None = None


def ablate(
    run: Run,
    out: Path,
    *,
    cells: Sequence[Combination] = GRID,
    steps: int | None = None,
    budget: float = 180.0,
    measure: Extent | None = None,
    command: str = "",
    force: bool = False,
    device: str = "cpu",
    say: Callable[[str], None] = print,
) -> bool:
    """Trains and measures what is not there yet of `cells` in `out`, and writes the page. Each has `steps`, or as many
    as fit in `budget` seconds of training. False if it was interrupted, with the page so far; the same call goes on.

    `command`: what the page says to type. ValueError, before anything is written: a run that no cell can be made
    from, or an `out` that holds something else.
    """
    from unsteep.studies.ablation.page import write_page

    if steps is not None and steps < 1:
        raise ValueError(f"steps: expected at least 1, got {steps}")
    data = in_memory(run.data.read("train"))
    _check(run, data, cells)
    asked = {"run": config.dumps(run), "steps": steps, "budget": budget if steps is None else None}
    _check_folder(out, asked, force)
    judge = Judge(run, data, measure or Extent())
    if force and out.exists():
        with RunLock(out):
            shutil.rmtree(out)
    with RunLock(out):
        plan = _plan(run, data, out, asked, device)
        say(f"{len(cells)} cells of {plan.run.train.steps:,} steps of {plan.run.train.batch}, in {out}")
        for i, cell in enumerate(cells, 1):
            folder = out / "cells" / cell.name
            result = Finding.read(folder)
            if result is None or result.measure != judge.measure:
                result = _one(cell.of(plan.run), folder, judge, device)
                if result is None:
                    say("stopped and saved; the same command goes on")
                    write_page(out, plan, judge, command)
                    return False
                result.write(folder)
            say(f"{i:>2} of {len(cells)}  {cell.name:<20} {result.words()}")
        write_page(out, plan, judge, command)
    return True


def _check(run: Run, data: DataSet, cells: Sequence[Combination]) -> None:
    """Builds every cell once: a mistake should show before hours have gone."""
    for cell in cells:
        try:
            cell.of(run).describe(data).build()
        except ValueError as error:
            raise ValueError(f"{cell.name}: {error}; or name the cells to train with --only") from None


def _check_folder(out: Path, asked: dict[str, Any], force: bool) -> None:
    if not out.exists() or (out.is_dir() and not any(path.name != ".lock" for path in out.iterdir())):
        return
    if not (out / "ablation.json").exists():
        raise ValueError(f"{out} exists and is not an ablation; choose another --out")
    if not force and json.loads((out / "ablation.json").read_text(encoding="utf-8"))["asked"] != asked:
        raise ValueError(
            f"{out} holds an ablation with other settings, another seed or budget; "
            f"repeat its command, choose another --out, or start anew with --force"
        )


def _plan(run: Run, data: DataSet, out: Path, asked: dict[str, Any], device: str) -> Plan:
    """Reads the plan in `out`, or makes it: the steps of every cell from the speed of one, where time was asked for."""
    path = out / "ablation.json"
    if path.exists():
        stored = json.loads(path.read_text(encoding="utf-8"))
        steps, speed = stored["steps"], stored["speed"]
    else:
        steps, speed = asked["steps"], None
        if steps is None:
            speed = images_per_second(GRID[-1].of(run), data, device)
            steps = max(1, int(asked["budget"] * speed / run.train.batch))
        write_json({"asked": asked, "steps": steps, "speed": speed}, path)
    return Plan(run=of_steps(run, steps), budget=asked["budget"], speed=speed)


def _one(run: Run, folder: Path, judge: Judge, device: str) -> Finding | None:
    """Trains what is left of a cell and measures it. None if the training was interrupted."""
    began, whole, before = time.monotonic(), not folder.exists(), Finding.read(folder)
    try:
        if not trained(run, folder, device):
            return None
    except Diverged:
        return Finding(measure=judge.measure, diverged=f"at step {len(read_log(folder / 'log.jsonl')) + 1}")
    seconds = time.monotonic() - began if whole else before.seconds if before else None
    return replace(judge.measured(load(folder, device=device), run.train.seed, folder), seconds=seconds)
