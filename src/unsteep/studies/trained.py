"""Training the runs that a study compares: equally long, quietly, and where they were interrupted on."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from unsteep.core.protocols import DataSet
from unsteep.model import Model
from unsteep.opening import load
from unsteep.pages.ours import STUDY
from unsteep.storage import config
from unsteep.storage.lock import released
from unsteep.training import run as runs
from unsteep.training.loop import train
from unsteep.training.run import Run


def of_steps(run: Run, steps: int) -> Run:
    """`run` with that many steps, a warm-up of a tenth of them at most, and nothing drawn or
    measured on the way: a study measures all alike, at the end."""
    training = replace(
        run.train,
        steps=steps,
        warmup=min(run.train.warmup, steps // 10),
        checkpoint_every=max(1, steps // 10),
        preview_every=steps,  # none: after the last step comes a report instead
        keep=1,
        evaluate_every=0,
        log=(),
    )
    return replace(run, train=training)


def images_per_second(run: Run, data: DataSet, device: str, limit: float = 5.0) -> float:
    """The speed of training, from what is done in `limit` seconds, and at least three steps."""
    records = train(run.made(data, device), replace(run.train, steps=10_000))
    next(records)  # the first step allocates
    began, done = time.monotonic(), 0
    for _ in records:
        done += 1
        if done >= 3 and time.monotonic() - began > limit:
            break
    return done * run.train.batch / (time.monotonic() - began)


def steps_for(run: Run, seconds: float, device: str, out: Path | None = None) -> int:
    """How many steps fit in some seconds of training: measured on this machine, once for the study in `out`."""
    if out is not None and (out / STUDY).exists():
        try:
            stored = json.loads((out / STUDY).read_text(encoding="utf-8"))["asked"]["run"]
            return config.loads(Run, stored).train.steps
        except (ValueError, KeyError, TypeError):  # of another kind, which is refused later
            pass
    speed = images_per_second(run, run.data.read("train"), device)
    return max(1, int(seconds * speed / run.train.batch))


def check(named: Mapping[str, Run], data: DataSet, hint: str = "") -> None:
    """Builds the model of every run once: a mistake should show before hours have gone."""
    for name, run in named.items():
        try:
            run.describe(data).build()
        except ValueError as error:
            raise ValueError(f"{name}: {error}{hint}") from None


def trained(run: Run, folder: Path, device: str) -> Model | None:
    """The model of a run that is started, or gone on with, up to its own report, which is the last thing that a run
    writes. None if it was interrupted."""

    def quiet(_: str) -> None: ...

    done = (folder / "report.html").exists()
    if done:
        released(folder)
    elif (folder / "run.toml").exists():
        done = runs.resume((), folder, device=device, say=quiet)
    else:
        done = runs.start(replace(run, train=replace(run.train, cures=0)), folder, device=device, say=quiet)
    return load(folder, device=device) if done else None
