"""The log of a run, one JSON object a line, and the live progress line."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

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
        told = {name: value for name, value in asdict(record).items() if value is not None}
        self._file.write(json.dumps(told) + "\n")
        self._file.flush()

    def close(self) -> None:
        """No more lines."""
        self._file.close()


class Progress:
    """Loss, images/s and time left while training: a live line on a terminal, else a plain line now and then."""

    def __init__(self, done: int, total: int, batch: int, stream: TextIO | None = None) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        self._console = Console(file=stream or sys.stderr)
        self._total, self._batch, self._first = total, batch, done
        self._began = self._said = time.monotonic()
        self._loss = 0.0
        columns = (
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[state]}"),
            TimeRemainingColumn(compact=True),
            TextColumn("left"),
        )
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
        seconds = time.monotonic() - self._began
        state = f"loss {self._loss:.4f}  {steps * self._batch / seconds:.0f} images/s"
        self._bar.update(self._task, completed=record.step, state=state)
        last = record.step == self._total
        if not self._console.is_terminal and (time.monotonic() - self._said > 10 or last):
            self._said = time.monotonic()
            left = (self._total - record.step) * seconds / steps
            self._console.print(f"step {record.step} of {self._total}  {state}  {_clock(left)} left", highlight=False)


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
