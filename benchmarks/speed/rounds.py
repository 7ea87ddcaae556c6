"""Processes that take turns: in every round each library does the same work, in an order drawn anew."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Self

from speed.libraries import LIBRARIES, Task

What = Literal["train", "sample"]
HERE = Path(__file__).parents[1]


@dataclass(frozen=True)
class Cell:
    """What one library did of one kind of work, at one size, batch and precision: CPU seconds and wall-clock seconds of
    each round, for `times` steps of training or evaluations of the network. `peak`: GB of its process so far."""

    task: Task
    what: What
    times: int
    parameters: int
    cpu: Sequence[float]
    wall: Sequence[float]
    peak: float

    @property
    def seconds(self) -> Sequence[float]:
        """By the clock that counts: CPU time, which other processes spend less of, or a device's time."""
        return self.cpu if self.task.device == "cpu" else self.wall

    @property
    def rates(self) -> list[float]:
        """Examples, or evaluations for an example, a second."""
        return [self.times * self.task.batch / seconds for seconds in self.seconds]

    @property
    def graph(self) -> str:
        """Whether the network is the one that we time, or one of its own."""
        return "own" if self.task.settings else LIBRARIES[self.task.library].graph(self.task.size)


class Process:
    """A worker, ready for a task. ValueError where it fails, with what it said."""

    def __init__(self, task: Task, threads: int) -> None:
        self.task = task
        self._process = subprocess.Popen(
            [sys.executable, "-m", "speed.worker", json.dumps(asdict(task))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment(threads),
        )
        self.parameters = self._answer()["parameters"]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def do(self, what: What, times: int) -> dict[str, float]:
        """CPU and wall-clock seconds, and the peak of memory so far."""
        assert self._process.stdin is not None
        print(json.dumps({"do": what, "times": times}), file=self._process.stdin, flush=True)
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        said = json.loads(self._process.stdout.readline() or '{"error": "it ended without a word"}')
        if "error" in said:
            raise ValueError(f"{self.task.library}: {said['error']}")
        return said


def environment(threads: int) -> dict[str, str]:
    """Of the processes: so many threads, no progress bars, nothing asked of a network."""
    return {
        **os.environ,
        "OMP_NUM_THREADS": str(threads),
        "TQDM_DISABLE": "1",
        "HF_HUB_OFFLINE": "1",
        "PYTHONPATH": os.pathsep.join(filter(None, (str(HERE), os.environ.get("PYTHONPATH")))),
    }


def measured(
    tasks: Sequence[Task], rounds: int, seconds: float, threads: int, say: Callable[[str], None]
) -> list[Cell]:
    """The cells of libraries at one size, batch and precision, ours the first. All do as much as ours does in about
    `seconds`. A library that cannot is left out, and said."""
    with ExitStack() as stack:
        processes = []
        for task in tasks:
            try:
                processes.append(stack.enter_context(Process(task, threads)))
            except ValueError as error:
                say(f"left out  {error}")
        kinds: tuple[What, ...] = ("train", "sample")
        times: dict[What, int] = {}
        for what in kinds:
            for process in processes:
                process.do(what, 1)  # allocates
            once = processes[0].do(what, 1)
            times[what] = max(1, round(seconds / max(1e-4, once["cpu" if tasks[0].device == "cpu" else "wall"])))
        found: dict[tuple[int, What], list[dict[str, float]]] = {}
        for turn in range(rounds):
            order = list(enumerate(processes))
            random.Random(turn).shuffle(order)
            for what in kinds:
                for i, process in order:
                    found.setdefault((i, what), []).append(process.do(what, times[what]))
        return [
            Cell(
                task=process.task,
                what=what,
                times=times[what],
                parameters=process.parameters,
                cpu=[one["cpu"] for one in found[i, what]],
                wall=[one["wall"] for one in found[i, what]],
                peak=found[i, what][-1]["peak"],
            )
            for what in kinds
            for i, process in enumerate(processes)
        ]
