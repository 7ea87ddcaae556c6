"""Where a run stopped, and where it goes on: the checkpoint that is taken, what is told of it, and what is kept where
the system fails."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from unsteep.core.machine import machine
from unsteep.core.protocols import DataSet
from unsteep.pages.files import in_words
from unsteep.storage.checkpoint import STEP, check_whole, step_folders, step_of
from unsteep.storage.manifest import Corrupt
from unsteep.training import checkpoints, page
from unsteep.training.changes import differences, free, history, said
from unsteep.training.curing import task_of
from unsteep.training.tasks import Task


def restored(
    run: Any, out: Path, data: DataSet, device: Any, trust: Any, newest: Path | None
) -> tuple[Task, Path | None]:
    """The task at its newest checkpoint that can be gone on from, and that checkpoint; a warning names others."""
    if newest is None:
        return task_of(run, data, device, trust, None), None
    broken: ValueError | None = None
    for folder in reversed(step_folders(out / "checkpoints")):
        try:
            check_whole(folder)
            return task_of(run, data, device, trust, folder), folder
        except Corrupt as error:
            warnings.warn(f"skipped {folder.name}: {error}", stacklevel=2)
            broken = broken or error
    raise broken or ValueError(f"resume: no checkpoint of {out} can be gone on from")


def check_unsaved(out: Path) -> None:
    """ValueError where a run without a checkpoint that can be read must once have had one."""
    if any((out / "checkpoints").glob("step-*")):
        raise ValueError(f"resume: every checkpoint in {out} is damaged; use a fresh copy, or start with force=True")
    if not page.read(out).get("saved") or any("diverged" in line.get("why", "") for line in history(out)):
        return  # nothing was ever saved, or it went back to its beginning
    raise ValueError(
        f"resume: {out} has been trained, and its checkpoints are gone; put them back, or start with force=True"
    )


def where(device: torch.device) -> dict[str, str]:
    """What may decide the last bits of what is trained beside a run's configuration and its data, in words."""
    here = machine(str(device))
    return {
        "host": here.host,
        "device": here.device,
        "processor": here.processor,
        "instructions": here.instructions,
        "threads": str(here.threads),
        "unsteep": here.unsteep,
        "torch": here.torch,
        "Python": here.python,
    }


def told(out: Path, folder: Path | None, trained: Any, run: Any, task: Task, steps: int) -> Iterator[str]:
    """What is to be said of a run that goes on from a checkpoint, which was `trained` as it says; `run`: as run.toml
    says now."""
    named = ((out / "checkpoints").glob("step-*")) if folder else ()
    newest = max((int(found[1]) for one in named if (found := STEP.fullmatch(one.name))), default=0)
    lost = f", {newest - task.step} steps behind the newest checkpoint, which is damaged" * (newest > task.step)
    yield f"resuming {out} at step {task.step} of {steps}{lost}"
    if folder is None:
        return
    facts = checkpoints.facts(folder)
    if not facts["good"]:
        yield f"mind: the loss had grown when step {task.step} was saved; if it stays so, go on at a lower rate"
    edited = {key: pair for key, pair in differences(trained, run).items() if key in free()}
    if edited:
        changes = ", ".join(f"{key} from {said(before)} to {said(after)}" for key, (before, after) in edited.items())
        yield f"changed in run.toml since that step, and taken: {changes}"
    device = next(iter(task.trained.values())).device
    if moved := elsewhere(facts["where"], where(device)):
        yield f"other than when that was saved: {moved}; the last bits may not be those of a run that never stopped"


def elsewhere(before: Mapping[str, str], now: Mapping[str, str]) -> str:
    """What of `where` is another than it was; nothing is known of it for a checkpoint of an older release."""
    return ", ".join(
        f"{name} {before[name]} -> {now[name]}" for name in now if before.get(name, now[name]) != now[name]
    )


@contextmanager
def keeping(out: Path) -> Iterator[None]:
    """An error of the system while a run is trained as a ValueError that says what is kept of it."""
    try:
        yield
    except OSError as error:
        saved = step_folders(out / "checkpoints")
        kept = f"step {step_of(saved[-1]):,} was saved, and the run can go on from it" if saved else "nothing was saved"
        raise ValueError(f"{out}: stopped, {in_words(error)}; {kept}") from error
