"""A run: one typed configuration, and the folder in which it trains, stops, resumes and shows its results.

    run.toml                    the configuration
    log.jsonl                   one line a step
    checkpoints/step-00001000/  weights, their average, optimizer, statistics, a manifest; the newest few are kept
    previews/                   samples from the averaged weights while training
    samples.png, ... report.html   what `report` draws at the end

Nothing is written before the data are read and the model is built, so a mistake in the configuration leaves nothing.
"""

from __future__ import annotations

import json
import shutil
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from unsteep.core.schedules import AnySchedule, LinearBetas
from unsteep.data import Array, Captions, DataSet, Digits, Emoji, Folder, Idx, Shapes
from unsteep.model import Description, Model, ModelConfig
from unsteep.objectives import AnyObjective, Simple, fitted
from unsteep.pages.files import replacing
from unsteep.spaces import AnySpace, Pixels, Vectors
from unsteep.storage import config
from unsteep.storage.checkpoint import latest, load_text, prune
from unsteep.storage.lock import RunLock
from unsteep.training import checkpoints
from unsteep.training.batches import Batches
from unsteep.training.conditions import Conditioning
from unsteep.training.log import Log, Progress
from unsteep.training.loop import Diverged, State, TrainConfig, train
from unsteep.training.report import preview, report
from unsteep.training.statistics import measure, probe

AnyData = Digits | Idx | Folder | Array | Shapes | Captions | Emoji
RESUMABLE = ("steps", "preview_every", "checkpoint_every", "keep")


@dataclass(frozen=True, kw_only=True)
class Run:
    """Everything that decides what a training run computes."""

    data: AnyData
    condition: Conditioning = field(default_factory=Conditioning)
    model: ModelConfig = field(default_factory=ModelConfig)
    schedule: AnySchedule = field(default_factory=LinearBetas)
    objective: AnyObjective = field(default_factory=Simple)
    train: TrainConfig = field(default_factory=TrainConfig)

    def describe(self, data: DataSet) -> Description:
        """The model that this run trains on `data`, with every size filled in; ValueError where the parts do not
        fit."""
        space: AnySpace
        if data.x.ndim == 2:
            if self.train.flip:
                raise ValueError("train.flip: these data are rows of numbers, not pictures; set train.flip=false")
            space = Vectors.of(data.x)
        else:
            if self.train.flip and isinstance(self.data, Shapes):
                raise ValueError("train.flip: the captions say left and right, and a mirror would make them untrue")
            channels, height, width = data.x.shape[1:]
            if height != width:
                raise ValueError(f"data: expected square pictures, got {height} x {width}; crop or pad them first")
            space = Pixels(channels=channels, size=height, levels=data.levels)
        plain = Description(model=self.model, schedule=self.schedule, space=space)
        return self.condition.described(plain, data).filled()


def start(run: Run, out: Path, *, force: bool = False, device: str = "cpu", say: Callable[[str], None] = print) -> bool:
    """Trains a new run in `out`. True if it reached its end, False if it was interrupted and saved."""
    if (out / "run.toml").exists() and not force:
        raise ValueError(f"{out} holds a run already; go on with --resume, or overwrite it with --force")
    if out.exists() and not (out / "run.toml").exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{out} exists and is not a run; choose another --out")
    data = run.data.read("train")
    description = run.describe(data)
    state = _state(run, description, device)
    _introduce(run, data, state, out, say)
    if out.exists():
        with RunLock(out):  # refuses to remove what another process is training
            shutil.rmtree(out)
    with RunLock(out):
        (out / "run.toml").write_text(config.dumps(run), encoding="utf-8")
        return _go_on(run, out, data, description, state, device, say)


def resume(settings: Iterable[str], out: Path, *, device: str = "cpu", say: Callable[[str], None] = print) -> bool:
    """Goes on with the run in `out` from its latest checkpoint. `settings` may change how long it trains, what it
    keeps, and where the same data now lie."""
    run = _changed(read_run(out), settings)
    data = run.data.read("train")
    description = run.describe(data)
    state = _state(run, description, device)
    with RunLock(out):
        folder = latest(out / "checkpoints")
        if folder is not None:
            stored = json.loads(load_text(folder, "state.json"))
            if stored["data"] != data.digest():
                raise ValueError(f"--resume: the data are not those that {out} was trained on; start another run")
            if config.loads(Description, load_text(folder, "model.toml")).language != description.language:
                raise ValueError(f"--resume: the text encoder is not the one that {out} was trained with; put it back")
            checkpoints.restore(state, folder)
            if state.step > run.train.steps:
                raise ValueError(
                    f"--resume: {out} has done {state.step} steps already; train.steps must be at least that"
                )
        say(f"resuming {out} at step {state.step} of {run.train.steps}")
        with replacing(out / "run.toml") as beside:
            beside.write_text(config.dumps(run), encoding="utf-8")
        return _go_on(run, out, data, description, state, device, say)


def _changed(run: Run, settings: Iterable[str]) -> Run:
    """`run` with settings that leave its data, model and objective the same; ValueError for others. More steps also
    stretch the annealing of the learning rate, where it anneals."""
    changed = config.override(run, settings)
    allowed = {name: getattr(changed.train, name) for name in RESUMABLE}
    same = replace(run, train=replace(run.train, **allowed))
    for name in ("path", "aligned"):  # data may move: their digest is compared
        if hasattr(run.data, name) and hasattr(changed.data, name):
            same = replace(same, data=replace(same.data, **{name: getattr(changed.data, name)}))
    if changed != same:
        names = ", ".join(f"train.{name}" for name in RESUMABLE)
        raise ValueError(
            f"--resume: only {names} and where the data lie may change; start another run for anything else"
        )
    return changed


def read_run(out: Path) -> Run:
    """The configuration of the run in `out`; ValueError if there is none."""
    if not (out / "run.toml").exists():
        raise ValueError(f"{out} is not a run: it has no run.toml")
    return config.loads(Run, (out / "run.toml").read_text(encoding="utf-8"))


def _state(run: Run, description: Description, device: str) -> State:
    torch.manual_seed(run.train.seed)  # the initial weights are a function of the seed
    denoiser = description.build()
    objective = fitted(run.objective, description.space, denoiser)
    return State(denoiser.to(device), run.train, objective)


def _go_on(
    run: Run, out: Path, data: DataSet, description: Description, state: State, device: str, say: Callable[[str], None]
) -> bool:
    statistics = measure(data, description, run.train.flip)
    digest, began, first = data.digest(), time.monotonic(), state.step
    batches = Batches(run, data, description, torch.device(device))
    model = Model(state.ema.module, description, statistics)  # type: ignore[arg-type]

    def save() -> None:
        checkpoints.save(out / "checkpoints", state, {"model.toml": config.dumps(description)}, statistics, digest)
        prune(out / "checkpoints", run.train.keep)

    with interruptible() as interrupted:
        log = Log(out / "log.jsonl", state.step)
        try:
            with Progress(state.step, run.train.steps, run.train.batch) as progress:
                for record in train(state, batches, run.train):
                    log.write(record)
                    progress.update(record)
                    last, stop = record.step == run.train.steps, interrupted()
                    if last:
                        statistics["x0_error"] = probe(model, data)
                    if record.step % run.train.checkpoint_every == 0 or last or stop:
                        save()
                    if stop and not last:
                        break
                    if record.step % run.train.preview_every == 0 and not last:
                        preview(model, out / "previews" / f"step-{record.step:08d}.png", data)
        except Diverged as diverged:
            good = latest(out / "checkpoints")
            where = f"the last good checkpoint is {good}" if good else "there is no checkpoint yet"
            raise Diverged(f"{diverged}; {where}; try a lower train.learning_rate") from None
        finally:
            log.close()
        if state.step < run.train.steps:
            say(f"stopped at step {state.step} and saved; go on with: unsteep train --resume --out {out}")
            return False
        seconds, steps = time.monotonic() - began, state.step - first
        speed = steps * run.train.batch / seconds
        report(model, out, data, config.dumps(run), speed if steps else None)
        say(f"done: {steps} steps in {seconds:.0f} s, {speed:.0f} images/s" if steps else "done: no step was left")
    return True


def _introduce(run: Run, data: DataSet, state: State, out: Path, say: Callable[[str], None]) -> None:
    parameters = sum(p.numel() for p in state.module.parameters())
    rows = [
        *data.summary(),
        ("network", f"{parameters:,} parameters"),
        ("training", f"{run.train.steps:,} steps of {run.train.batch}"),
        ("run", str(out)),
    ]
    for name, value in rows:
        say(f"{name:>12}  {value}")


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Turns Ctrl-C and SIGTERM into a question that is asked between steps. A second Ctrl-C stops at once."""
    caught: list[int] = []

    def note(number: int, frame: object) -> None:
        if caught and number == signal.SIGINT:
            raise KeyboardInterrupt
        caught.append(number)

    try:
        before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not in the main thread, where signals cannot be had: nothing to interrupt
        before = {}
    try:
        yield lambda: bool(caught)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
