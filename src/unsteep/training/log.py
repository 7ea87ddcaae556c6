"""The log of a run, one JSON object a line, and the live progress line."""

from __future__ import annotations

import itertools
import json
import sys
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

from unsteep.pages.progress import clock_of
from unsteep.training.loop import Record


def read_log(path: Path) -> list[dict[str, Any]]:
    """The records of a log, in order of steps; a last line cut short by a crash is left out."""
    records = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return records


class Log:
    """Appends to `log.jsonl`. Opened to go on after `step`, it first drops what was logged beyond it."""

    def __init__(self, path: Path, step: int) -> None:
        kept = [record for record in read_log(path) if record["step"] <= step]
        beside = path.with_suffix(".tmp")
        beside.write_text("".join(json.dumps(record) + "\n" for record in kept), encoding="utf-8")
        beside.replace(path)
        self._file = path.open("a", encoding="utf-8")

    def write(self, record: Record) -> None:
        """One line, at the operating system at once."""
        told = {name: value for name, value in asdict(record).items() if value is not None and name != "waited"}
        self._file.write(json.dumps(told) + "\n")
        self._file.flush()

    def close(self) -> None:
        """No more lines."""
        self._file.close()


class Sittings:
    """When steps were done, and the share of time spent on `waiting` for examples: lines of `times.jsonl`, apart from
    the log, which is the same for the same run. A sitting is a process that trained: the first line of each says
    `begins`. `waited`: seconds in this one."""

    EVERY = 10.0  # seconds between lines

    def __init__(self, path: Path, step: int) -> None:
        self._path, self.waited = path, 0.0
        self._write(step, begins=True)

    def mark(self, step: int, waited: float = 0.0, *, last: bool = False) -> None:
        """A step was done, after waiting for its examples. Seldom a line, but for the last."""
        self._waited += waited
        self.waited += waited
        if last or time.monotonic() - self._said >= self.EVERY:
            self._write(step, waiting=round(self._waited / max(1e-9, time.monotonic() - self._said), 4))

    def _write(self, step: int, **more: bool | float) -> None:
        self._said, self._waited = time.monotonic(), 0.0
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, "at": round(time.time(), 2), **more}) + "\n")

    @staticmethod
    def spent(path: Path) -> tuple[float, float, float] | None:
        """When the first sitting began and the last line was written, seconds of Unix time, and the seconds that all
        sittings took; None where nothing was written."""
        lines = read_log(path)
        if not lines:
            return None
        pairs = itertools.pairwise(lines)
        seconds = sum(max(0.0, b["at"] - a["at"]) for a, b in pairs if not b.get("begins"))
        return lines[0]["at"], lines[-1]["at"], seconds


class Progress:
    """Loss, speed and time left while training: a live line on a terminal, else a plain line now and then. Whoever
    reads them may go away: training goes on."""

    def __init__(self, done: int, total: int, batch: int, stream: TextIO | None = None) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
        from rich.progress import Progress as Bar

        self._console = Console(file=stream or sys.stderr)
        self._total, self._batch, self._first = total, batch, done
        self._began = self._said = time.monotonic()
        self._loss = 0.0
        columns = (TextColumn("training"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[state]}"))
        self._bar = Bar(*columns, console=self._console, disable=not self._console.is_terminal)
        self._task = self._bar.add_task("training", total=total, completed=done, state="")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def update(self, record: Record) -> None:
        """Shows the step that was just done. The loss shown is averaged over the last steps."""
        steps = record.step - self._first
        self._loss += (record.loss - self._loss) * max(1 / steps, 0.02)
        each = (time.monotonic() - self._began) / steps
        left = (self._total - record.step) * each
        state = f"loss {self._loss:.4f}  {speed(each, self._batch)}  {clock_of(left)} left"
        self._bar.update(self._task, completed=record.step, state=state)
        last = record.step == self._total
        if not self._console.is_terminal and (time.monotonic() - self._said > 10 or last):
            self._said = time.monotonic()
            with suppress(OSError):
                print(f"step {record.step} of {self._total}  {state}", file=self._console.file, flush=True)


def speed(seconds: float, batch: int) -> str:
    """That of steps of so many seconds: images a second, or where a step takes one or more, seconds a step."""
    return f"{batch / seconds:.0f} images/s" if seconds < 1 else f"{seconds:.2g} s/step"
