"""What becomes of a run that diverged: back to where all was well, and on at a lower rate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from unsteep.core.protocols import DataSet
from unsteep.storage.checkpoint import corrupting
from unsteep.training import checkpoints, diagnosis
from unsteep.training.belongings import discard
from unsteep.training.changes import differences, history, remember
from unsteep.training.doctor import SOFTER, Doctor, cause, check_finite, proven_by, softened
from unsteep.training.log import read_log
from unsteep.training.loop import Diverged
from unsteep.training.tasks import Task

RATE, AGAIN = "train.learning_rate", "step"  # what is changed, in a run's history
DIVERGED = "diverged"  # as the reasons in a run's history begin


def task_of(run: Any, data: DataSet, device: Any, trust: Any, folder: Path | None) -> Task:
    """The task of a run, at a checkpoint or at its beginning."""
    again = replace(run, start_from=str(folder)) if run.start_from and folder is not None else run
    task: Task = again.made(data, device, trust)  # what it once started from may be gone
    if folder is not None:
        task.check_stored(folder)
        checkpoints.restore(task, folder)
        with corrupting(folder, "weights that are numbers"):
            check_finite(task.trained, task.step)
    return task


def cured(run: Any, out: Path, task: Task, diverged: Diverged, say: Callable[[str], None]) -> tuple[Any, int]:
    """The run as it goes on, and the step it goes back to, beyond which its checkpoints are removed. As it was, where
    one step failed once and all before it went well, which may have been the machine; else at a lower rate. Diverged
    where that was tried often enough, or is no cure."""
    root = out / "checkpoints"
    good = checkpoints.known_good(root, proven_by(read_log(out / "log.jsonl")))
    step = 0 if good is None else checkpoints.facts(good)["step"]
    rate, reason = run.train.learning_rate, cause(diverged, run.train.learning_rate)
    past = history(out)
    once = Doctor(read_log(out / "log.jsonl"), run).healthy and not any(line["key"] == AGAIN for line in past)
    tried = sum(line.get("why", "").startswith(DIVERGED) for line in past if line["key"] == RATE)
    over = tried >= run.train.cures or bool(diverged.details.get("examples not finite"))
    how = "on as it was, in case it was the machine" if once else f"on at a rate of {rate / SOFTER:g}"
    done = "none; the run ended" if over else f"back to step {step}, and {how}"
    diagnosis.add(out, diverged, task.step, reason, done)
    discard(root, beyond=step)
    if over:
        where = f"the last good checkpoint is {good}" if good else "there is no checkpoint yet"
        raise Diverged(
            f"{diverged}; {where}; the likely cause is {reason}; try a lower train.learning_rate, at resume, too"
        ) from None
    if once:
        remember(out, step, {AGAIN: (task.step, step)}, f"{DIVERGED}: {diverged}")
        say(f"{DIVERGED}: {diverged}; {done}")
        return run, step
    softer = replace(run, train=softened(run.train))
    remember(out, step, differences(run, softer), f"{DIVERGED}: {diverged}")
    say(f"{DIVERGED}: {diverged}. The likely cause is {reason}; {done} ({diagnosis.FILE} says more)")
    return softer, step
