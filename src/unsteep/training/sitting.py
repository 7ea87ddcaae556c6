"""A run while one process trains it: its logs and its clock, and what it saves, shows and measures between steps.

What is measured is no training: the clock stands, and speed and forecasts know nothing of it. A step is saved before it
is measured, so that nothing waits for a measurement to be safe; stopped in the midst of one, it is made again when the
run goes on.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch

from unsteep.networks.compiling import seconds_in
from unsteep.storage.checkpoint import prune, step_folder
from unsteep.training import checkpoints, page
from unsteep.training.clock import Clock, Watch, in_words
from unsteep.training.doctor import Doctor, check_finite, proven_by
from unsteep.training.forecast import Forecast
from unsteep.training.listening import Listeners
from unsteep.training.log import Log, Progress, Sittings, read_log, told
from unsteep.training.log_csv import SPEED
from unsteep.training.loop import train, trial
from unsteep.training.measuring import Measurements, Measuring
from unsteep.training.resuming import where
from unsteep.training.tasks import Task


class Sitting:
    """A run while one process trains it: its logs, its clock, and what it saves, shows and measures between steps."""

    def __init__(
        self,
        run: Any,
        out: Path,
        text: str,
        digest: str,
        task: Task,
        measuring: Measuring | None,
        say: Callable[[str], None],
        interrupted: Callable[[], bool],
    ) -> None:
        self.run, self.out, self.digest, self.task, self.say, self.interrupted = (
            run,
            out,
            digest,
            task,
            say,
            interrupted,
        )
        self.watch = Watch()  # stands while something is measured
        self.text, self.doctor = (
            text,
            Doctor(read_log(out / "log.jsonl", until=task.step), run),
        )
        self.log, self.times = Log(out / "log.jsonl", task.step), Sittings(out / "times.jsonl", task.step)
        self.listeners = Listeners(run.train.log, out, task.step)
        self.where = where(next(iter(task.trained.values())).device)
        self.saved = task.step > 0
        self.measuring, self.measurements = measuring, Measurements(measuring, run.train, out)

    def train(self, device: torch.device) -> None:
        """To the end, or until it is interrupted."""
        run, task, watch, steps = self.run.train, self.task, self.watch, self.run.train.steps
        clock, expected = Clock(watch), Forecast(task.step, steps, watch)
        if self.saved:  # killed right after it was, that was neither noted nor was what is older removed
            page.note_saved(self.out)
            self.prune(step_folder(self.out / "checkpoints", task.step))
        if 0 < task.step < steps and task.step % run.preview_every == 0 and not self.drawn.exists():
            self.show()  # it was stopped after it was saved
        if self.measurements.due(task.step):  # it was stopped before it was measured
            self.measure()
        with Progress(task.step, steps, run.batch, now=watch) as progress:
            first, since, shown = task.step, watch(), -run.preview_every
            for record in train(task, run):
                self.log.write(record)
                self.listeners.write(record.step, {**told(record), SPEED: run.batch / (watch() - since)})
                progress.update(record)
                if record.step == first + 1:
                    self.tell_compiled()
                for line in expected.after(record.step, device):
                    self.say(line)
                if odd := self.doctor.hear(record.step, record.loss, record.gradient_norm):
                    self.say(f"step {record.step}: {odd}")
                last, stop = record.step == steps, self.interrupted()
                self.times.mark(record.step, record.waited, last=last or stop)
                if last:
                    self.doctor.check_end(trial(task, run))
                    task.finish()
                due, measured = clock.due and not last, self.measurements.due(record.step)
                with clock.showing() if due else nullcontext():
                    if record.step % run.checkpoint_every == 0 or last or stop or due or measured:
                        self.save()
                    usual = record.step % run.preview_every == 0 and record.step - shown >= run.preview_every // 10
                    if not (last or stop) and (due or usual):
                        shown = record.step
                        self.show()
                if measured and not stop:
                    self.measure()
                    stop = self.interrupted()  # in the midst of it; what was trained is saved
                if stop and not last:
                    page.write(self.out, steps=steps)
                    break
                since = watch()

    def tell_compiled(self) -> None:
        took = sum(seconds_in(state.module) for state in self.task.trained.values())
        if took:
            self.say(f"{'compiled':>12}  in {in_words(took)}, the first step among it")

    def save(self) -> None:
        check_finite(self.task.trained, self.task.step)
        texts = {**self.task.texts(), checkpoints.TRAINED: self.text}
        good = self.doctor.healthy
        root = self.out / "checkpoints"
        checkpoints.save(root, self.task, texts, self.task.statistics, self.digest, good, self.where)
        if not self.saved:
            self.saved = True
            page.note_saved(self.out)
        self.prune()

    def prune(self, *also: Path) -> None:
        root = self.out / "checkpoints"
        good = None
        if not self.doctor.healthy:  # else the newest but one is, where two are kept
            good = checkpoints.known_good(root, proven_by(read_log(self.out / "log.jsonl")))
        prune(root, self.run.train.keep, [*self.measurements.kept, *([good] if good else []), *also])

    @property
    def drawn(self) -> Path:
        """The preview of this step."""
        return self.out / "previews" / f"step-{self.task.step:08d}.png"

    def show(self) -> None:
        self.task.preview(self.drawn)
        self.listeners.picture(self.task.step, self.drawn)
        page.write(self.out, steps=self.run.train.steps)

    def measure(self) -> None:
        with self.watch.stopped(), self.times.away(self.task.step):
            found = self.measurements.take(self.task, self.interrupted, self.say)
            if found and self.measuring is not None:
                page.note_measuring(self.out, self.measuring)
                self.log.add(self.task.step, found)
                self.listeners.write(self.task.step, found)
                self.prune()
                page.write(self.out, steps=self.run.train.steps)

    def close(self) -> None:
        self.log.close()
        self.listeners.close()
