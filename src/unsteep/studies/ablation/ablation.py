"""The ablation of Ho et al. 2020 (Table 2) on any data, as a study: every cell of `grid` trained alike, and measured.

All have the same seed, hence the same batches, times and noise (and the same initial weights, where the variance has
no output of its own), and the same number of steps. More cells may be added to a study later, and all of them measured
more closely, from the runs that are there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

from unsteep.data.reading import in_memory
from unsteep.storage import config
from unsteep.studies import study as studies
from unsteep.studies.ablation.grid import GRID, Combination
from unsteep.studies.ablation.page import write_page
from unsteep.studies.ablation.result import Extent, Judge
from unsteep.studies.study import Cell, Outcome, Study
from unsteep.studies.trained import check, of_steps, steps_for, trained
from unsteep.training.run import Run


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
) -> dict[str, Outcome] | None:
    """Trains and measures what is not there yet of `cells` in `out`, and writes the page of all that are. Each has
    `steps`, or as many as fit in `budget` seconds of training. None if it was interrupted; the same call goes on.

    `command`: what the page says to type. ValueError, before anything is written: a run that no cell can be made
    from, or an `out` that holds something else.
    """
    if steps is not None and steps < 1:
        raise ValueError(f"steps: expected at least 1, got {steps}")
    data = in_memory(run.data.read("train"))
    check({cell.name: cell.of(run) for cell in cells}, data, "; or name the cells to train, with only")
    judge = Judge(run, data, measure or Extent())
    run = of_steps(run, steps or steps_for(GRID[-1].of(run), budget, device, None if force else out))
    train = run.train
    facts = [
        ("each cell", f"{train.steps:,} steps of {train.batch} examples, seed {train.seed}"),
        *judge.held.summary()[:1],
        ("examples held against", f"{len(judge.held):,}"),
    ]
    if steps is None:
        speed = f"{train.steps * train.batch / budget:.3g} examples/s, measured once"
        facts.insert(1, ("budget", f"{budget:.0f} s of training a cell, at {speed}"))

    def do(choice: Combination, folder: Path) -> Outcome | None:
        model = trained(choice.of(run), folder / "run", device)
        return None if model is None else judge.measured(model, train.seed)

    study = Study(
        name="ablation",
        question="What to predict, and what to train on?",
        cells=[Cell(choice.name, choice.says, partial(do, choice)) for choice in GRID],
        asked={"run": config.dumps(run), "budget": budget if steps is None else None},
        metrics=("bits-per-dim", "energy", "agreement"),
        facts=facts,
        page=partial(write_page, run, judge),
        protocol=asdict(judge.measure),
        floors=judge.reference,
    )
    return studies.run(study, out, only=[cell.name for cell in cells], command=command, force=force, say=say)
