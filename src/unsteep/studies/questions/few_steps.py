"""How good are few steps: every student of a model at 1, 2 and 4 calls, and the model itself under its best solver.

Accuracy and precision alone would praise a student that draws one picture a class, so neither is measured: recall, and
how alike samples of a class are, stand beside the distances.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unsteep.core.schedules import steps_of
from unsteep.distill import METHODS
from unsteep.distill.laws import errors
from unsteep.evaluation.quality import energy_distance
from unsteep.evaluation.subjects import weights_at
from unsteep.metrics.interval import Interval
from unsteep.model import Model
from unsteep.model.cost import counting, weights_digest
from unsteep.opening import load
from unsteep.sampling import SOLVERS, Solver, traits
from unsteep.studies.page import write_page
from unsteep.studies.questions.examiner import SHOWN, Examiner
from unsteep.studies.study import Cell, Outcome, Plot, Study
from unsteep.training.run import Run, read_run

CALLS = (1, 2, 4)
LONG = 50  # steps of the model's default solver, which students are held against
TEACHERS: dict[str, Solver | None] = {"default": None, **{name: SOLVERS[name] for name in ("ddim", "unipc")}}
METRICS = ("fid", "energy", "recall", "intra-class")


@dataclass(frozen=True, eq=False)
class Student:
    """A run whose model is one, by the name of its line: its method, or its folder where several have one."""

    name: str
    run: Path
    model: Model


def found(teacher: Path, device: str, trust: bool = False) -> list[Student]:
    """The students of a run among the runs beside it."""
    beside = sorted(one.parent for one in teacher.parent.glob("*/run.toml"))
    return opened([one for one in beside if _taught(one, teacher)], device, trust)


def _taught(run: Path, teacher: Path) -> bool:
    """Whether a run began as this one, and makes a map."""
    try:
        of = read_run(run)
    except ValueError:
        return False
    first = Path(getattr(of, "start_from", "") or ".")
    return isinstance(of, Run) and hasattr(of.objective, "maps") and first.resolve() == teacher.resolve()


def opened(runs: Sequence[Path], device: str, trust: bool = False) -> list[Student]:
    """The students in these runs. ValueError for one that is none."""
    there = []
    for run in runs:
        model = load(run, device=device, trust=trust)
        if model.description.maps is None:
            raise ValueError(f"students: {run} is no student, but a model of many steps; leave it out")
        there.append((_method(run, trust), run, model))
    names = [f"{name} {one.description.maps}" for name, _, one in there]
    plain = {i for i, name in enumerate(names) if names.count(name) == 1}
    return [Student(name if i in plain else run.name, run, model) for i, (name, run, model) in enumerate(there)]


def _method(run: Path, trust: bool) -> str:
    """By which it learned."""
    of = type(getattr(read_run(run, trust or "file"), "objective", None))
    return next((name for name, kind in METHODS.items() if kind is of), of.__name__)


def few_steps(examiner: Examiner, teacher: Model, pupils: Sequence[Student], calls: Sequence[int] = CALLS) -> Study:
    """Quality against calls, of the teacher by several solvers and of each of its students at the calls that it knows.
    ValueError where there is no student, or one of other data."""
    calls = list(dict.fromkeys(calls))
    if not pupils:
        raise ValueError("students: this run has none beside it; make one with unsteep.train_student, or name them")
    if not calls or min(calls) < 1:
        raise ValueError(f"calls: expected at least 1 of the network, got {', '.join(map(str, calls)) or 'none'}")
    for one in pupils:
        if (one.model.space.shape, one.model.names) != (teacher.space.shape, teacher.names):
            raise ValueError(f"students: {one.run} makes other data than the teacher; leave it out")
    metrics = [name for name in METRICS if name != "intra-class" or teacher.names]
    cells = []
    for most in calls:
        for name, solver in TEACHERS.items():
            steps = most // traits(solver or teacher.resolved(None)).calls
            do = _drawn(examiner, teacher, metrics, None, solver=solver, steps=steps)
            cells.append(Cell(f"teacher-{name}-{most}", f"the teacher, {name} solver", do, {"calls": float(most)}))
        for one in pupils:
            maps = one.model.description.maps
            if maps is not None and maps.knows(most):
                do = _drawn(examiner, one.model, metrics, weights_at(one.run), steps=most)
                cells.append(Cell(f"{one.name}-{most}", f"{one.run}", do, {"calls": float(most)}))
    long = min(LONG, steps_of(teacher.denoiser.schedule))
    do = _drawn(examiner, teacher, metrics, None, steps=long)
    cells.append(Cell(f"teacher-default-{long}", "the teacher, default solver", do, {"calls": float(long)}))
    digests = {str(one.run): weights_digest(one.model) for one in pupils}
    laws = [[law, f"{error:.1e}"] for law, error in errors(teacher.denoiser.schedule).items()]
    return Study(
        name="few-steps",
        question="How good are few steps?",
        cells=cells,
        asked={**examiner.asked(), "model": weights_digest(teacher), "calls": calls, "students": digests},
        metrics=metrics,
        page=write_page,
        facts=[
            ("samples", f"{examiner.counts.samples} of each, seeds {examiner.counts.seed} and up"),
            *(fact for fact in examiner.facts() if fact[0] != "samples"),
            ("energy", "energy distance of pixels in [-1, 1], with a bootstrap of samples and real pictures"),
        ],
        plots=[
            Plot("calls", "fid", "Frechet distance against network calls", xlog=True, ylog=True),
            Plot("calls", "energy", "Energy distance against network calls", xlog=True),
            Plot("calls", "recall", "Variety against network calls", xlog=True),
        ],
        tables=[
            (
                "The laws of maps",
                "The largest error over 1,000 random steps of the known maps of Gaussian data, on the schedule of this "
                "model, in float64.",
                ["law", "error"],
                laws,
            )
        ],
        floors={**examiner.floors([name for name in metrics if name != "energy"]), **_energy_floor(examiner)},
        group=lambda name: name.rsplit("-", 1)[0],
        best_of=lambda cell: _in_words(int(cell.axes["calls"])),
    )


def _in_words(calls: int) -> str:
    return "1 call" if calls == 1 else f"{calls} calls"


def _drawn(
    examiner: Examiner, model: Model, metrics: Sequence[str], weights: str | None, **how: Any
) -> Callable[[Path], Outcome]:
    def do(folder: Path) -> Outcome:
        of, rest = examiner.counts, [name for name in metrics if name != "energy"]
        result = examiner.evaluated(model, rest, weights, **how)
        real = examiner.real.reference
        with counting(model) as asked:
            drawn = model.sample(min(of.samples, len(real) * 4), seed=of.seed, batch_size=128, **how)
        facts = {"network calls": asked.rows / len(drawn)}
        values: Mapping[str, Interval] = {**result.values, "energy": energy_distance(_flat(drawn), _flat(real.x))}
        return Outcome(dict(values), result.kept[:SHOWN].numpy(), facts, result.protocol)

    return do


def _energy_floor(examiner: Examiner) -> dict[str, Interval]:
    """Of real pictures of the training split, where there is one."""
    real = examiner.real
    if real.training is None:
        return {}
    some = real.training.select(torch.arange(min(len(real.training), examiner.counts.samples)))
    return {"energy": energy_distance(_flat(some.x), _flat(real.reference.x))}


def _flat(pictures: Any) -> Tensor:
    return torch.as_tensor(pictures).flatten(1).double() / 127.5 - 1
