"""A student of a trained model, in one call: a model that samples in a few calls of its network (see `distill`)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from unsteep.core.arguments import MOST_STEPS, choice, number, whole
from unsteep.core.arguments import path as path_of
from unsteep.core.open import settings_of
from unsteep.core.schedules import levels_of
from unsteep.distill import METHODS, Method
from unsteep.starting import based, carried_out, check_how, configured, text_of, texts
from unsteep.storage.config import override
from unsteep.training import run as runs
from unsteep.training.denoising import Run

TURN = 8  # times the reach of the average is a turn


def train_student(
    run: str | Path,
    *,
    out: str | Path,
    method: Method = "consistency",
    steps: int = 4,
    guidance: float = 1.0,
    data: Any = None,
    settings: Iterable[str] = (),
    force: bool = False,
    trust: bool = False,
    device: str = "auto",
    say: Callable[[str], None] = print,
    **train: Any,
) -> Any:
    """Trains a student of the model of a run, which samples in `steps` calls of its network, in the folder `out`, and
    opens it.

    `method`: "shortcut", from the run's data (see `objectives.shortcut`), or from what the model says: "consistency",
    "dmd", "progressive", "flow-map" or "meanflow" (see the files of `distill`), and then `guidance`, the largest scale
    of guidance that the student is to know, at one call a step. The student learns on the run's data, or on `data`, and
    as the run did, for fewer steps, so that it costs no more; `settings` and further keywords change that, as for
    `train`, and it goes on by `train(..., resume=True)`. ValueError as there.
    """
    check_how(say, force=force, trust=trust)
    keys = [*texts(settings), *(f"train.{name}={text_of(name, value)}" for name, value in train.items())]
    student = student_of(run, method, steps, guidance=guidance, data=data, settings=keys, trust=trust or "file")
    return carried_out(student, path_of("out", out), force=force, trust=trust, device=device, say=say)


def student_of(
    run: str | Path,
    method: Method = "consistency",
    steps: int = 4,
    *,
    guidance: float = 1.0,
    data: Any = None,
    settings: Iterable[str] = (),
    trust: Any = "file",
) -> Any:
    """The run of a student of the model of a run (see `train_student`). ValueError where they do not fit."""
    choice("method", method, get_args(Method))
    whole("steps", steps, 1, MOST_STEPS)
    guidance, kind = number("guidance", guidance), METHODS[method]
    teacher = runs.read_run(path_of("run", run), trust)
    if not isinstance(teacher, Run):
        raise ValueError(f"run: expected one of a model, got a {type(teacher).__name__}; give another")
    known = settings_of(kind)
    if guidance != 1 and "guidance" not in known:
        raise ValueError("guidance: a shortcut learns from data, and is guided when it is sampled; leave it out")
    how = {key: getattr(teacher.objective, key) for key in ("weight", "times") if hasattr(teacher.objective, key)}
    how = {key: value for key, value in {**how, "guidance": guidance}.items() if key in known}
    trained = max(1, round(teacher.train.steps / kind.cost))
    objective = kind.suited(steps, trained, levels_of(teacher.schedule), **how)
    if getattr(kind, "alike", False):  # and the average does not reach back into the turn before
        ema = min(teacher.train.ema, max(0.0, 1 - TURN / objective.each))
        teacher = replace(teacher, train=replace(teacher.train, final_learning_rate=None, ema=ema))
    if data is not None:
        teacher = based(teacher, str(data), False)
    plain = replace(teacher, objective=objective, start_from="")
    keys = texts(settings)
    asked = override(replace(plain, train=replace(plain.train, steps=trained)), keys, trust=trust)
    return configured(plain, None, [*keys, f"train.steps={asked.train.steps}"], run, trust=trust)
