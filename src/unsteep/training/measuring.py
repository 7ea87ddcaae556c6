"""Quality while training: what a run measures on its way, the values, and which checkpoint is the best.

What measures is given to the run from above (`unsteep.evaluation.on_the_way`). The values stand in log.jsonl, which is
all there is to know: `best` is a function of it and of the checkpoints that are there, and so the same after a run was
interrupted and went on. Nothing that is measured has a part in what is trained.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from unsteep.core.protocols import DataSet
from unsteep.metrics.interval import Interval
from unsteep.storage.checkpoint import step_folders, step_of
from unsteep.training.log import read_log
from unsteep.training.settings import TrainConfig
from unsteep.training.tasks import Task

NAME = "fid"
KEYS = (NAME, f"{NAME}_low", f"{NAME}_high")  # of a value and its 95% interval, in a line of the log


class Measuring(Protocol):
    """Measures how good a task has become; lower is better."""

    @property
    def floor(self) -> Interval | None:
        """What real examples would get, known once something was measured."""
        ...

    def about(self) -> str:
        """What is measured, of how many samples, against what."""
        ...

    def __call__(self, task: Any, stopped: Callable[[], bool]) -> Interval | None:
        """The value of the averaged weights; None where it was `stopped` before it was known."""
        ...


Measures = Callable[[Any, DataSet, Any], Measuring]
"""Of a run, its data and its task, what measures them. ValueError where they cannot be."""


def measuring_of(run: Any, data: DataSet, task: Task, measures: Measures | None) -> Measuring | None:
    """What a run measures on its way; None where it is to measure nothing."""
    if not run.train.evaluate_every:
        return None
    if measures is None:
        raise ValueError("train.evaluate_every: nothing is at hand that measures; set it to 0")
    return measures(run, data, task)


def check_count(out: Path, before: int, after: int) -> None:
    """ValueError where a run that has measured would go on with another number of samples."""
    if before != after and measured(out):
        raise ValueError(
            f"train.evaluate_count: {out} has measured {before} samples at a time, and distances of {after} are not "
            "comparable with those; leave it as it is"
        )


def as_values(of: Interval) -> dict[str, float]:
    """As a line of the log has them."""
    return dict(zip(KEYS, (of.value, of.low, of.high), strict=True))


def measured(out: Path) -> dict[int, Interval]:
    """What a run has measured, by step."""
    return measured_in(read_log(out / "log.jsonl"))


def measured_in(log: Iterable[Mapping[str, Any]]) -> dict[int, Interval]:
    """What stands in the records of a log, by step."""
    return {one["step"]: Interval(*(one[key] for key in KEYS)) for one in log if all(key in one for key in KEYS)}


class Measurements:
    """What a run has measured up to now, and when it measures again."""

    def __init__(self, measuring: Measuring | None, config: TrainConfig, out: Path) -> None:
        self._measuring, self._out, self._config = measuring, out, config
        self.values = measured(out)

    def due(self, step: int) -> bool:
        """Whether a step is to be measured, and is not yet."""
        if self._measuring is None or step == 0 or step in self.values:
            return False
        return step % self._config.evaluate_every == 0 or step == self._config.steps

    @property
    def kept(self) -> tuple[Path, ...]:
        """The best checkpoint, which is not to be deleted; none where nothing was measured."""
        found = best(self._out, self.values)
        return () if found is None else (found[1],)

    def take(self, task: Task, stopped: Callable[[], bool], say: Callable[[str], None]) -> dict[str, float]:
        """Measures a task, and says what was found; nothing where it was stopped, or where there are no numbers."""
        assert self._measuring is not None
        if self._measuring.floor is None:
            longer = "; the first time takes longest, since its features are learned from the data, unless they were"
            say(f"{'measuring':>12}  after {task.step:,} steps{longer}")
        try:
            found = self._measuring(task, stopped)
        except ValueError as error:  # as of samples that are not finite: training may get over it
            say(f"{'measured':>12}  nothing at step {task.step:,}: {error}")
            return {}
        if found is None:
            return {}
        least = min((value.value for value in self.values.values()), default=math.inf)
        self.values[task.step] = found
        which = ", the lowest so far" if found.value < least < math.inf else ""
        say(f"{'measured':>12}  FID {found} after {task.step:,} steps{which}")
        return as_values(found)

    def told(self) -> Iterator[str]:
        """At the end: which checkpoint is the best, where it is not the last."""
        found = best(self._out, self.values)
        if found is not None and found[0] != max(self.values):
            step, folder = found
            last = self.values[max(self.values)]
            unclear = "" if self.values[step].below(last) else f", not clearly below the last, {last}"
            said = f"the lowest FID, {self.values[step]}, was after {step:,} steps{unclear}"
            yield f"{said}: unsteep sample {shlex.quote(str(folder))}"


def best(out: Path, values: Mapping[int, Interval]) -> tuple[int, Path] | None:
    """The step with the lowest value of those whose checkpoint is there, and that checkpoint; of equal ones the
    first."""
    there = {step_of(folder): folder for folder in step_folders(out / "checkpoints")}
    known = [(values[step].value, step) for step in there if step in values]
    if not known:
        return None
    step = min(known)[1]
    return step, there[step]
