"""Training the runs that a study compares: equally long, quietly, and where they were interrupted on."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

from unsteep.core.protocols import DataSet
from unsteep.training import run as runs
from unsteep.training.loop import train
from unsteep.training.run import Run


def of_steps(run: Run, steps: int) -> Run:
    """`run` with that many steps, a warm-up of a tenth of them at most, and no previews."""
    training = replace(
        run.train,
        steps=steps,
        warmup=min(run.train.warmup, steps // 10),
        checkpoint_every=max(1, steps // 10),
        preview_every=steps,  # none: after the last step comes a report instead
        keep=1,
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


def trained(run: Run, folder: Path, device: str) -> bool:
    """Starts a run, or goes on with it, up to its own report, which is the last thing that a run writes."""

    def quiet(_: str) -> None: ...

    if (folder / "report.html").exists():
        return True
    if (folder / "run.toml").exists():
        return runs.resume((), folder, device=device, say=quiet)
    return runs.start(run, folder, device=device, say=quiet)
