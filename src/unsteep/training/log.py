"""The log of a run, one JSON object a line, and the live progress line.

A step has a line; where it was measured, a second one follows with what was found.
"""

from __future__ import annotations

import itertools
import json
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import fields
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

from unsteep.pages.files import replacing
from unsteep.pages.progress import clock_of
from unsteep.storage.foreign import plain
from unsteep.training.loop import Record

LOGGED = tuple(of.name for of in fields(Record) if of.name != "waited")  # what is the same for the same run


def read_log(path: Path, until: float = math.inf) -> list[dict[str, Any]]:
    """The records of a log `until` a step, in order of steps, one a step; damaged lines, as a last one cut short, are
    left out."""
    records: list[dict[str, Any]] = []
    for record in (record for _, record in lines_of(path) if record["step"] <= until):
        if records and records[-1].get("step") == record.get("step"):
            records[-1] |= record
        else:
            records.append(record)
    return records


def lines_of(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each good line as it stands, and what it says."""
    for line in plain(path).read_text(encoding="utf-8", errors="replace").split("\n") if path.exists() else []:
        try:
            record = json.loads(line)
            told = record.get("loss")
            if isinstance(record["step"], int) and record["step"] >= 0 and isinstance(told, float | int | None):
                yield line, record
        except Exception:  # whatever a damaged line is
            continue


def whole_steps(path: Path) -> list[dict[str, Any]]:
    """The records of a log that have a loss and a rate, as every step's has that was not damaged."""
    known = ("loss", "learning_rate")
    return [one for one in read_log(path) if all(isinstance(one.get(key), float | int) for key in known)]


def told(record: Record) -> dict[str, Any]:
    """What a record has, by name, of what is logged."""
    return {name: value for name in LOGGED if (value := getattr(record, name)) is not None}


class Log:
    """Appends to `log.jsonl`. Opened to go on after `step`, it first drops what was logged beyond it."""

    def __init__(self, path: Path, step: int) -> None:
        kept = [line for line, record in lines_of(path) if record["step"] <= step]
        with replacing(path) as beside:
            beside.write_text("".join(line + "\n" for line in kept), encoding="utf-8")
        self._file = path.open("a", encoding="utf-8")

    def write(self, record: Record) -> None:
        """One line, at the operating system at once."""
        self._line(told(record))

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """What was found of the step that was written last."""
        self._line({"step": step, **values})

    def _line(self, content: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(content) + "\n")
        self._file.flush()

    def close(self) -> None:
        """No more lines."""
        self._file.close()


def _number(value: Any) -> float:
    return float(value) if isinstance(value, float | int) and math.isfinite(value) else 0.0


class Sittings:
    """When steps were done, and the share of time spent on `waiting` for examples: lines of `times.jsonl`, apart from
    the log, which is the same for the same run. A sitting is a process that trained: the first line of each says
    `begins`. `waited`: seconds in this one."""

    LATEST = 4e9  # seconds of Unix time that may be meant
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

    @contextmanager
    def away(self, step: int) -> Iterator[None]:
        """What is done in it, after a step, is no training: the sitting ends before it, and another begins after."""
        self._write(step)
        yield
        self._write(step, begins=True)

    def _write(self, step: int, **more: bool | float) -> None:
        self._said, self._waited = time.monotonic(), 0.0
        with plain(self._path).open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, "at": round(time.time(), 2), **more}) + "\n")

    @staticmethod
    def _read(path: Path) -> list[dict[str, Any]]:
        """The lines that say when: damaged ones may say anything."""
        records = (record for _, record in lines_of(path))
        return [one for one in records if isinstance(one.get("at"), float | int) and 0 <= one["at"] < Sittings.LATEST]

    @staticmethod
    def spent(path: Path) -> tuple[float, float, float] | None:
        """When the first sitting began and the last line was written, seconds of Unix time, and the seconds that all
        sittings took; None where nothing was written."""
        lines = Sittings._read(path)
        if not lines:
            return None
        pairs = itertools.pairwise(lines)
        seconds = sum(max(0.0, b["at"] - a["at"]) for a, b in pairs if not b.get("begins"))
        return lines[0]["at"], lines[-1]["at"], seconds

    @staticmethod
    def waiting(path: Path) -> float:
        """The share of the time between its lines that was spent on getting examples."""
        lines = Sittings._read(path)
        spans = [(max(0.0, b["at"] - a["at"]), _number(b.get("waiting"))) for a, b in itertools.pairwise(lines)]
        whole = sum(seconds for seconds, share in spans if share)
        return sum(seconds * share for seconds, share in spans) / whole if whole else 0.0


class Progress:
    """Loss, speed and time left while training: a live line on a terminal, else a plain line now and then. Whoever
    reads them may go away: training goes on. `now`: seconds of training, rising."""

    def __init__(
        self,
        done: int,
        total: int,
        batch: int,
        stream: TextIO | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
        from rich.progress import Progress as Bar

        self._console = Console(file=stream or sys.stderr)
        self._total, self._batch, self._first = total, batch, done
        self._now = now
        self._began = self._said = now()
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
        each = (self._now() - self._began) / steps
        left = (self._total - record.step) * each
        state = f"loss {self._loss:.4f}  {speed(each, self._batch)}  {clock_of(left)} left"
        self._bar.update(self._task, completed=record.step, state=state)
        last = record.step == self._total
        if not self._console.is_terminal and (self._now() - self._said > 10 or last):
            self._said = self._now()
            with suppress(OSError):
                print(f"step {record.step} of {self._total}  {state}", file=self._console.file, flush=True)


def speed(seconds: float, batch: int) -> str:
    """That of steps of so many seconds: images a second, or where a step takes one or more, seconds a step."""
    return f"{batch / seconds:.0f} images/s" if seconds < 1 else f"{seconds:.2g} s/step"
