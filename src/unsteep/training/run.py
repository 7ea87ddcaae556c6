"""A run: one typed configuration, and the folder in which it trains, stops, resumes and shows its results.

    run.toml                    the configuration; its `type` says what is trained, a denoiser where there is none
    log.jsonl                   one line a step; times.jsonl says when
    checkpoints/step-00001000/  weights, their average, optimizer, statistics, a manifest; the newest few are kept
    previews/                   what the averaged weights give while training
    samples.png, ... report.html   what the task draws at the end; report.html from the first preview on

Nothing is written before the data are read and the model is built, so a mistake in the configuration leaves nothing.
"""

from __future__ import annotations

import json
import time
import tomllib
from collections.abc import Callable, Iterable
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from unsteep.core.machine import machine
from unsteep.core.open import Components, listed
from unsteep.core.protocols import DataSet
from unsteep.data.choosing import shorten
from unsteep.pages.files import check_place, replacing
from unsteep.storage import config
from unsteep.storage.checkpoint import latest, load_text, prune
from unsteep.storage.lock import RunLock
from unsteep.storage.schema import spelled
from unsteep.training import checkpoints, page
from unsteep.training.belongings import others_in, remove
from unsteep.training.classifying import ClassifierRun
from unsteep.training.clock import Clock
from unsteep.training.denoising import Run
from unsteep.training.forecast import Forecast, forecast
from unsteep.training.interrupts import interruptible
from unsteep.training.log import Log, Progress, Sittings, speed
from unsteep.training.loop import Diverged, skips, train
from unsteep.training.tasks import Configuration, Task

AnyRun = Annotated[Configuration, Components(Run, ClassifierRun)]


@dataclass(frozen=True, kw_only=True)
class _Written:
    """A run of a user's own class, as a part of something: so is its class looked for and checked."""

    run: AnyRun


RESUMABLE = ("steps", "preview_every", "checkpoint_every", "keep")
MOVED = ("path", "aligned")  # of data, which may lie elsewhere: their digest is compared

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
) -> bool:
    """Trains a new run in `out`. True if it reached its end, False if it was interrupted and saved. `data`: its own,
    where they were read already."""
    run, data, task = _made(run, out, force, device, trust, data)
    text = config.dumps(run)
    _introduce(run, data, task, out, say)
    if out.exists():
        with RunLock(out):  # refuses to remove what another process is training
            remove(out)
    with RunLock(out):
        _write(out, written(run, text))
        return _go_on(run, out, data, task, say)


def plan(run: Any, out: Path, *, force: bool = False, device: str = "cpu", say: Say = print, trust: Any = False) -> Any:
    """Says what `start` would do, and how long it would take, of a few steps that are then forgotten; the run, as it
    would be written. Writes nothing."""
    run, data, task = _made(run, out, force, device, trust)
    config.dumps(run)  # refuses what could not be written
    _introduce(run, data, task, out, say)
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
    if (out / "run.toml").exists() and not force:
        raise ValueError(f"out: {out} holds a run already; go on with resume=True, or overwrite it with force=True")
    if out.exists() and not (out / "run.toml").exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"out: {out} exists and is not a run; choose another")
    source = Path(run.start_from).resolve() if run.start_from else None
    if source is not None and out.resolve() in (source, *source.parents):
        raise ValueError(f"out: {out} holds {run.start_from}, from which the run starts; choose another")
    others = others_in(out)
    if others:
        raise ValueError(
            f"out: {out} holds {shorten(others, 3)}, which no run wrote; move it, or choose another folder"
        )
    data = run.data.read("train") if data is None else data
    task = run.made(data, device, trust)
    if not run.start_from:
        task.check_new()
    first, *others = task.trained.values()
    for state in others:
        state.take(first.precision)
    run = replace(run, train=replace(run.train, precision=first.precision.precision))
    return run, data, task


def resume(
    settings: Iterable[str],
    out: Path,
    *,
    device: str = "cpu",
    say: Say = print,
    trust: Any = "file",
    data: Any = None,
) -> bool:
    """Goes on with the run in `out` from its latest checkpoint. `settings` may change how long it trains, what it
    keeps, and where the same data now lie."""
    run = _changed(read_run(out, trust=trust), settings)
    if data is not None:
        run = replace(run, data=_holding(run.data, data))
    data = run.data.read("train")
    with RunLock(out):
        folder = latest(out / "checkpoints")
        if folder is None and any((out / "checkpoints").glob("step-*")):
            raise ValueError(
                f"resume: every checkpoint in {out} is damaged; use a fresh copy, or start with force=True"
            )
        if folder is not None and json.loads(load_text(folder, "state.json"))["data"] != data.digest:
            raise ValueError(f"resume: the data are not those that {out} was trained on; start another run")
        again = replace(run, start_from=str(folder)) if run.start_from and folder is not None else run
        task = again.made(data, device, trust)  # what it once started from may be gone
        if folder is not None:
            task.check_stored(folder)
            checkpoints.restore(task, folder)
            if task.step > run.train.steps:
                raise ValueError(f"resume: {out} has done {task.step} steps already; train.steps must be at least that")
        say(f"resuming {out} at step {task.step} of {run.train.steps}")
        _write(out, written(run, config.dumps(run)))
        return _go_on(run, out, data, task, say)


def _write(out: Path, text: str) -> None:
    with replacing(out / "run.toml") as beside:
        beside.write_text(text, encoding="utf-8")


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
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"expected TOML, got a syntax error: {error}") from None
    kind, ours = table.pop("type", "Run"), {spelled(one): one for one in listed(AnyRun)}
    if kind in ours:
        return config.from_dict(ours[kind], table, trust=trust)
    return config.from_dict(_Written, {"run": {**table, "type": kind}}, trust=trust).run


def read_run(out: Path, trust: Any = "file") -> Any:
    """The configuration of the run in `out`; ValueError if there is none."""
    if not (out / "run.toml").exists():
        raise ValueError(f"{out} is not a run: it has no run.toml")
    try:
        text = (out / "run.toml").read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ValueError(f"{out / 'run.toml'}: expected UTF-8 text, got something else") from None
    try:
        return parsed(text, trust)
    except ValueError as error:
        raise ValueError(f"{out / 'run.toml'}: {error}") from None


def _changed(run: Any, settings: Iterable[str]) -> Any:
    """`run` with settings that leave its data, model and objective the same; ValueError for others. More steps also
    stretch the annealing of the learning rate, where it anneals."""
    changed = config.override(run, settings)
    if changed.train.precision == "auto":  # what was taken stays
        changed = replace(changed, train=replace(changed.train, precision=run.train.precision))
    allowed = {name: getattr(changed.train, name) for name in RESUMABLE}
    same = replace(run, train=replace(run.train, **allowed))
    for name in MOVED:
        if hasattr(run.data, name) and hasattr(changed.data, name):
            same = replace(same, data=replace(same.data, **{name: getattr(changed.data, name)}))
    if changed != same:
        names = ", ".join(f"train.{name}" for name in RESUMABLE)
        raise ValueError(f"resume: only {names} and where the data lie may change; start another run for anything else")
    return changed


def _holding(source: Any, data: Any) -> Any:
    """A source that was given its data from Python, given them again."""
    if not hasattr(source, "holding"):
        raise ValueError("data: this run reads its data from where its run.toml says; leave data out")
    return source.holding(data)


def _go_on(run: Any, out: Path, data: DataSet, task: Task, say: Say) -> bool:
    digest, began, first = data.digest, time.monotonic(), task.step
    say, device = _heard(say), next(iter(task.trained.values())).device
    page.begin(out, f"{task.kind} {out.name}", _described(run, data, task), str(device), run.train.batch)

    def save() -> None:
        checkpoints.save(out / "checkpoints", task, task.texts(), task.statistics, digest)
        prune(out / "checkpoints", run.train.keep)

    with interruptible() as interrupted:
        log, times, clock = Log(out / "log.jsonl", task.step), Sittings(out / "times.jsonl", task.step), Clock()
        expected = Forecast(task.step, run.train.steps)
        try:
            with Progress(task.step, run.train.steps, run.train.batch) as progress:
                for record in train(task, run.train):
                    log.write(record)
                    progress.update(record)
                    for line in expected.after(record.step, device):
                        say(line)
                    last, stop = record.step == run.train.steps, interrupted()
                    times.mark(record.step, last=last or stop)
                    if last:
                        task.finish()
                    due = clock.due and not last
                    with clock.showing() if due else nullcontext():
                        if record.step % run.train.checkpoint_every == 0 or last or stop or due:
                            save()
                        if not (last or stop) and (due or record.step % run.train.preview_every == 0):
                            task.preview(out / "previews" / f"step-{record.step:08d}.png")
                            page.write(out, steps=run.train.steps)
                    if stop and not last:
                        page.write(out, steps=run.train.steps)
                        break
        except Diverged as diverged:
            good = latest(out / "checkpoints")
            where = f"the last good checkpoint is {good}" if good else "there is no checkpoint yet"
            raise Diverged(f"{diverged}; {where}; try a lower train.learning_rate") from None
        finally:
            log.close()
        if task.step < run.train.steps:
            say(f"stopped at step {task.step} and saved; go on with: unsteep train --resume --out {out}")
            return False
        seconds, steps = time.monotonic() - began, task.step - first
        task.report(out)
        told = f"done: {steps} steps in {seconds:.0f} s, {speed(seconds / steps, run.train.batch)}" if steps else ""
        say(told or "done: no step was left")
        if skips(task):
            say(f"fp16 overflowed in {skips(task)} steps, which made no update and halved the scale of the loss")
    return True


def _heard(say: Say) -> Say:
    """`say`, where nobody may listen any more: a run does not end with the pipe that it is told through."""

    def told(text: str) -> None:
        with suppress(BrokenPipeError):
            say(text)

    return told


def _described(run: Any, data: DataSet, task: Task) -> list[tuple[str, str]]:
    """Rows (name, text): what is trained on what, and what in it cannot be meant."""
    train = run.train
    odd = []
    if train.warmup >= train.steps:
        odd.append(f"a warm-up of {train.warmup:,} steps never reaches the full rate; set train.warmup lower")
    if train.ema and train.steps < 1 / (1 - train.ema) / 2:
        odd.append(f"the average reaches back {1 / (1 - train.ema):,.0f} steps, beyond the start; set train.ema lower")
    return [
        *data.summary(),
        *task.about(),
        *([("starts from", run.start_from)] if run.start_from else []),
        ("precision", str(next(iter(task.trained.values())).precision)),
        ("training", f"{train.steps:,} steps of {train.batch}"),
        *(("mind", one) for one in odd),
    ]


def _introduce(run: Any, data: DataSet, task: Task, out: Path, say: Say) -> None:
    rows = [("device", machine(str(next(iter(task.trained.values())).device)).brief), *_described(run, data, task)]
    for name, value in [*rows, ("run", str(out))]:
        say(f"{name:>12}  {value}")
