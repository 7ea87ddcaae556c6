"""A run: one typed configuration, and the folder in which it trains, stops, resumes and shows its results.

    run.toml                    the configuration; its `type` says what is trained, a denoiser where there is none
    log.jsonl                   one line a step, and one more where it was measured; times.jsonl says when
    history.jsonl, diagnosis.json      what was changed on the way, and what was seen where it diverged
    log.csv, tensorboard/       the same for other readers, where `train.log` asks for it
    checkpoints/step-00001000/  weights, their average, optimizer, statistics, a manifest; the newest few, and the best
    previews/                   what the averaged weights give while training
    samples.png, ... report.html   what the task draws at the end; report.html from the first preview on

Nothing is written before the data are read and the model is built, so a mistake in the configuration leaves nothing.
"""

from __future__ import annotations

import time
import tomllib
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from unsteep.core.open import Components, listed
from unsteep.core.protocols import DataSet
from unsteep.pages.files import check_place, replacing
from unsteep.storage import config
from unsteep.storage.checkpoint import latest, load_text
from unsteep.storage.foreign import check_format, reading, text_of, why
from unsteep.storage.lock import FolderLock
from unsteep.storage.schema import spelled
from unsteep.training import checkpoints, page
from unsteep.training.belongings import check_free, remove, sweep
from unsteep.training.changes import changed, check_as_trained, differences, holding, how, remember
from unsteep.training.classifying import ClassifierRun
from unsteep.training.curing import cured, task_of
from unsteep.training.denoising import Run
from unsteep.training.forecast import forecast
from unsteep.training.interrupts import interruptible
from unsteep.training.introduction import described, introduce
from unsteep.training.listening import check_logs
from unsteep.training.log import speed
from unsteep.training.loop import Diverged, skips, taken, train
from unsteep.training.measuring import Measures, Measuring, check_count, measuring_of
from unsteep.training.memory import check_memory
from unsteep.training.resuming import check_unsaved, keeping, restored, told
from unsteep.training.sitting import Sitting
from unsteep.training.tasks import Configuration, Task

AnyRun = Annotated[Configuration, Components(Run, ClassifierRun)]


@dataclass(frozen=True, kw_only=True)
class _Written:
    """A run of a user's own class, as a part of something: so is its class looked for and checked."""

    run: AnyRun


SLOW = 0.1  # of the time spent on reading examples, which is then said
Say = Callable[[str], None]


def start(
    run: Any,
    out: Path,
    *,
    force: bool = False,
    device: str = "cpu",
    say: Say = print,
    trust: Any = False,
    data: DataSet | None = None,
    measures: Measures | None = None,
) -> bool:
    """Trains a new run in `out`. True if it reached its end, False if it was interrupted and saved. `data`: its own,
    where they were read already. `measures`: what measures it on the way, where it is to be."""
    run, data, task = _made(run, out, force, device, trust, data)
    measuring = measuring_of(run, data, task, measures)
    text = config.dumps(run)
    introduce(run, data, task, measuring, out, say)
    with FolderLock(out):
        check_free(out, force)  # once more: another may have come while the data were read
        remove(out)
        _write(out, written(run, text))
        return _go_on(run, out, data, task, measuring, say, trust)


def plan(
    run: Any,
    out: Path,
    *,
    force: bool = False,
    device: str = "cpu",
    say: Say = print,
    trust: Any = False,
    measures: Measures | None = None,
) -> Any:
    """Says what `start` would do, and how long it would take, of a few steps that are then forgotten; the run, as it
    would be written. Writes nothing."""
    if (out / "run.toml").exists() and not force:
        say(f"{'out':>12}  {out} holds a run already, which stays as it is; train this one into another folder")
    run, data, task = _made(run, out, True, device, trust)
    config.dumps(run)  # refuses what could not be written
    introduce(run, data, task, measuring_of(run, data, task, measures), out, say)
    began, few = time.monotonic(), min(3, run.train.steps)
    for record in train(task, replace(run.train, steps=few)):
        if record.step == 1:  # which sets up much
            began = time.monotonic()
    each = (time.monotonic() - began) / max(1, few - 1)
    for line in forecast(each, run.train.steps, next(iter(task.trained.values())).device):
        say(line)
    return run


def _made(
    run: Any, out: Path, force: bool, device: str, trust: Any, data: DataSet | None = None
) -> tuple[Any, DataSet, Task]:
    """The run with what it took, its data, and its task. ValueError for whatever does not fit, or lies in `out`."""
    check_place(out)
    check_logs(run.train.log)
    check_free(out, force)
    source = Path(run.start_from).resolve() if run.start_from else None
    if source is not None and out.resolve() in (source, *source.parents):
        raise ValueError(f"out: {out} holds {run.start_from}, from which the run starts; choose another")
    data = run.data.read("train") if data is None else data
    task = run.made(data, device, trust)
    if not run.start_from:
        task.check_new()
    for name, text in task.texts().items():  # what every checkpoint will say
        with reading(name, "names that are text", "rename what has another"):
            text.encode("utf-8")
    return replace(run, train=taken(task, run.train)), data, task


def resume(
    settings: Iterable[str],
    out: Path,
    *,
    device: str = "cpu",
    say: Say = print,
    trust: Any = "file",
    data: Any = None,
    measures: Measures | None = None,
) -> bool:
    """Goes on with the run in `out` from its latest checkpoint. `settings` may change how long it trains, what it
    keeps, shows and measures (`changes.RESUMABLE`), and where the same data now lie."""
    before = read_run(out, trust=trust)
    run = changed(before, settings)
    check_logs(run.train.log)
    check_count(out, before.train.evaluate_count, run.train.evaluate_count)
    if data is not None:
        run = replace(run, data=holding(run.data, data))
    data = run.data.read("train")
    with FolderLock(out):
        root = out / "checkpoints"
        folder = latest(root)
        if folder is None:
            check_unsaved(out)
        elif checkpoints.facts(folder)["data"] != data.digest:
            raise ValueError(f"resume: the data are not those that {out} was trained on; start another run")
        else:
            check_as_trained(out, _as_trained(folder, before, trust), before)
        task, folder = restored(run, out, data, device, trust, folder)
        if task.step > run.train.steps:
            raise ValueError(f"resume: {out} has done {task.step} steps already; train.steps must be at least that")
        check_memory(task, run.train)
        measuring = measuring_of(run, data, task, measures)
        trained = before if folder is None else _as_trained(folder, before, trust)
        for line in told(out, folder, trained, before, task, run.train.steps):
            say(line)
        if others := how(made := differences(before, run)):
            remember(out, task.step, {key: made[key] for key in others}, "asked for at resume")
            say(f"changed from here on: {', '.join(others)}; the run is no longer the same as one that never stopped")
        _write(out, written(run, config.dumps(run)))
        return _go_on(run, out, data, task, measuring, say, trust)


def _as_trained(folder: Path, run: Any, trust: Any) -> Any:
    """The configuration that a checkpoint was saved under; `run` for one of an older release, which did not say."""
    if not (folder / checkpoints.TRAINED).exists():
        return run
    with reading(folder / checkpoints.TRAINED, "a configuration", "use another checkpoint"):
        return parsed(load_text(folder, checkpoints.TRAINED), trust)


def _write(out: Path, text: str) -> None:
    with replacing(out / "run.toml") as beside:
        beside.write_bytes(text.encode())


def written(run: Any, text: str) -> str:
    """run.toml: the configuration, after what it trains; a denoiser's says nothing of that, as it always did."""
    if type(run) is Run:
        return text
    name = spelled(type(run)) if type(run) in listed(AnyRun) else f"{type(run).__module__}:{type(run).__qualname__}"
    return f'type = "{name}"\n{text}'


def parsed(text: str, trust: Any = "file") -> Any:
    """The configuration that a run.toml describes. ValueError where it is none."""
    try:
        table = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ValueError(f"expected TOML, got a syntax error: {why(error)}") from None
    table = check_format(table)
    kind, ours = table.pop("type", "Run"), {spelled(one): one for one in listed(AnyRun)}
    if kind in ours:
        return config.from_dict(ours[kind], table, trust=trust)
    return config.from_dict(_Written, {"run": {**table, "type": kind}}, trust=trust).run


def read_run(out: Path, trust: Any = "file") -> Any:
    """The configuration of the run in `out`; ValueError if there is none."""
    if not (out / "run.toml").exists():
        raise ValueError(f"{out} is not a run: it has no run.toml")
    text = text_of(out / "run.toml")
    try:
        return parsed(text, trust)
    except ValueError as error:
        raise ValueError(f"{out / 'run.toml'}: {error}") from None


def _go_on(
    run: Any, out: Path, data: DataSet, task: Task, measuring: Measuring | None, say: Say, trust: Any = False
) -> bool:
    say = _heard(say)
    sweep(out)
    while True:
        try:
            with keeping(out):
                return _sit(run, out, data, task, measuring, say)
        except Diverged as diverged:
            run, step = cured(run, out, task, diverged, say)
            _write(out, written(run, config.dumps(run)))
            device = next(iter(task.trained.values())).device
            task = task_of(run, data, device, trust, checkpoints.known_good(out / "checkpoints") if step else None)


def _sit(run: Any, out: Path, data: DataSet, task: Task, measuring: Measuring | None, say: Say) -> bool:
    device, first = next(iter(task.trained.values())).device, task.step
    page.begin(out, f"{task.kind} {out.name}", described(run, data, task, measuring), str(device), run.train.batch)
    with interruptible() as interrupted:
        text = written(run, config.dumps(run))
        sitting = Sitting(run, out, text, data.digest, task, measuring, say, interrupted)
        try:
            sitting.train(device)
        finally:
            sitting.close()
        if task.step < run.train.steps:
            say(f"stopped at step {task.step} and saved; go on with: unsteep train --resume --out {out}")
            return False
        seconds, steps = sitting.watch(), task.step - first
        if run.train.report:
            task.report(out)
        else:
            page.write(out, steps=run.train.steps)
        said = f"done: {steps} steps in {seconds:.0f} s, {speed(seconds / steps, run.train.batch)}" if steps else ""
        if steps and sitting.times.waited > SLOW * seconds:
            said += f", {sitting.times.waited / seconds:.0%} of the time spent on reading examples"
        say(said or "done: no step was left")
        if skips(task):
            say(f"fp16 overflowed in {skips(task)} steps, which made no update and halved the scale of the loss")
        for line in sitting.measurements.told():
            say(line)
    return True


def _heard(say: Say) -> Say:
    """`say`, where nobody may listen any more: a run does not end with the pipe that it is told through."""

    def told(text: str) -> None:
        with suppress(OSError, ValueError):  # gone, full or closed
            say(text)

    return told
