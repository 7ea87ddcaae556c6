"""Questions asked of one trained model: which solver for a number of network calls, and how strong a guidance.

Distances to the answer are those of a deterministic solver to the sample that the model's own probability flow ends in,
from the same noise, found by a third-order method in many steps: root mean squares on the scale of grey values.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unsteep.core.arguments import number
from unsteep.core.condition import Condition
from unsteep.core.schedules import steps_of
from unsteep.evaluation.examples import heard_of
from unsteep.metrics.interval import Interval
from unsteep.model import Model
from unsteep.model.cost import counting, weights_digest
from unsteep.model.request import request
from unsteep.sampling import DEIS, SOLVERS, Driver, Solver, traits
from unsteep.studies.page import write_page
from unsteep.studies.questions.examiner import SHOWN, Examiner
from unsteep.studies.study import Cell, Outcome, Plot, Study

CALLS = (5, 10, 20)
ANSWER = 200  # steps to it
APART = 64  # samples whose distance to the answer is measured
SCALES = (0.0, 1.0, 1.5, 2.0, 3.0, 5.0)


def solvers(
    examiner: Examiner,
    model: Model,
    calls: Sequence[int] = CALLS,
    chosen: Mapping[str, Solver | None] | None = None,
) -> Study:
    """Solvers with each number of network calls: quality, the distance to the answer, and the time it took. `chosen`:
    which, by name, None for the model's own; default, all of ours."""
    usual = type(model.resolved(None))  # under its own name it would be there twice
    every = {"default": None, **{name: solver for name, solver in SOLVERS.items() if type(solver) is not usual}}
    chosen = chosen or every
    for name, solver in chosen.items():
        if isinstance(solver, Driver):
            raise ValueError(f"solvers: {name} lays its own levels; give one that walks a grid")
    calls = list(dict.fromkeys(calls))
    if not calls or min(calls) < 2:
        raise ValueError(f"calls: expected at least 2 of the network, got {', '.join(map(str, calls)) or 'none'}")
    heard = None
    if model.description.beyond_classes:  # asked as the samples of the metrics are
        real = examiner.real.reference
        heard = heard_of(model, real.select(torch.arange(APART) % len(real)))
    answer, longest = Answer(model, examiner.counts.seed, heard), steps_of(model.denoiser.schedule)
    metrics = ("fid", "kid", "precision", "recall", "distance")
    cells = []
    for most in calls:
        for name, solver in chosen.items():
            steps = most // traits(solver or model.resolved(None)).calls
            if not 2 <= steps <= longest:  # of a chain no more than it has
                continue
            do = _solved(examiner, model, answer, solver, steps)
            says = f"{steps} steps, {'the default' if solver is None else type(solver).__name__}"
            cells.append(Cell(f"{name}-{most}", says, do, {"calls": float(most)}))
    if not cells:
        raise ValueError(f"calls: no solver takes {', '.join(map(str, calls))} of the network here; ask for others")
    many, few = max(calls), min(calls)
    return Study(
        name="solvers",
        question="Which solver, for how many network calls?",
        cells=cells,
        asked={**examiner.asked(), "model": weights_digest(model), "calls": list(calls), "solvers": list(chosen)},
        metrics=metrics,
        page=write_page,
        facts=[
            ("samples", f"{examiner.counts.samples} of each, seeds {examiner.counts.seed} and up"),
            *(fact for fact in examiner.facts() if fact[0] != "samples"),
            (
                "calls",
                f"{few} to {many} of the network for each sample, at most; each solver on its own grid, trailing",
            ),
            (
                "distance",
                f"RMS of grey values to {answer.steps} steps of DEIS-3, {APART} samples; no stochastic solver's",
            ),
        ],
        plots=[
            Plot("calls", "fid", "Frechet distance against network calls", xlog=True, ylog=True),
            Plot("calls", "distance", "Distance to the answer against network calls", xlog=True, ylog=True),
        ],
        floors=examiner.floors(("fid", "kid", "precision", "recall")),
        group=lambda name: name.rsplit("-", 1)[0],
        best_of=lambda cell: f"{cell.axes['calls']:.0f} calls",
    )


class Answer:
    """Where the probability flow takes the first samples: found once."""

    def __init__(self, model: Model, seed: int, condition: Condition | None = None) -> None:
        self.model, self.seed, self.condition = model, seed, condition
        self.steps = min(ANSWER, steps_of(model.denoiser.schedule))

    @cached_property
    def pictures(self) -> Tensor:
        """(APART, c, h, w) uint8."""
        return self.drawn(DEIS(order=3), self.steps)

    def distance(self, drawn: Tensor) -> Interval:
        """The root mean square difference to it of each of the samples of the same seeds, in mean."""
        return Interval.of((drawn.double() - self.pictures.double()).square().flatten(1).mean(1).sqrt())

    def drawn(self, solver: Solver | None, steps: int) -> Tensor:
        """The first samples by a solver."""
        how: Any = {"condition": self.condition, "solver": solver, "steps": steps}
        return self.model.sample(APART, seed=self.seed, batch_size=128, **how)


def guidance(examiner: Examiner, model: Model, scales: Sequence[float] = SCALES) -> Study:
    """How strong a guidance: what is asked for and how typical it is, against how varied."""
    scales = [float(number("scales", scale)) for scale in dict.fromkeys(scales)]
    if not model.names:
        raise ValueError("study guidance: this model knows no classes to be guided to; train with condition.label=true")
    for scale in scales:  # what cannot be asked is refused before anything is measured, or removed
        request(model, 1, guidance=scale)
    metrics = ("agreement", "fid", "precision", "recall", "density", "coverage", "intra-class")

    def of(scale: float) -> Callable[[Path], Outcome]:
        def do(folder: Path) -> Outcome:
            with counting(model) as asked:
                found = examiner.evaluated(model, metrics, guidance=scale)
            facts = {"network calls": asked.rows / examiner.counts.samples}
            return Outcome(dict(found.values), found.kept[:SHOWN].numpy(), facts, found.protocol)

        return do

    cells = [Cell(f"scale-{scale:g}", f"guidance {scale:g}", of(scale), {"scale": scale}) for scale in scales]
    return Study(
        name="guidance",
        question="How strong a guidance?",
        cells=cells,
        asked={**examiner.asked(), "model": weights_digest(model), "scales": list(scales)},
        metrics=metrics,
        facts=examiner.facts(),
        page=write_page,
        plots=[
            Plot("scale", "agreement", "Samples named as asked"),
            Plot("scale", "fid", "Frechet distance"),
            Plot("recall", "precision", "Quality against diversity, scale by scale"),
            Plot("scale", "intra-class", "Likeness within a class"),
        ],
        floors=examiner.floors(metrics),
        group=lambda name: "guidance",
    )


def _solved(
    examiner: Examiner, model: Model, answer: Answer, solver: Solver | None, steps: int
) -> Callable[[Path], Outcome]:
    def do(folder: Path) -> Outcome:
        began = time.monotonic()
        with counting(model) as asked:
            drawn = answer.drawn(solver, steps)  # timed apart from features and metrics
        facts = {"network calls": asked.rows / APART, "ms a sample": 1000 * (time.monotonic() - began) / APART}
        found = examiner.evaluated(model, ("fid", "kid", "precision", "recall"), solver=solver, steps=steps)
        values = dict(found.values)
        if traits(solver or model.resolved(None)).flows:
            values["distance"] = answer.distance(drawn)
        return Outcome(values, found.kept[:SHOWN].numpy(), facts, found.protocol)

    return do
