"""The page of speed.py, and the same tables for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from speed.rounds import Cell
from speed.shell import Whole
from speed.sizes import SIZES
from unsteep.benchmarks.machine import Rate
from unsteep.benchmarks.page import shown
from unsteep.core.machine import Machine
from unsteep.pages import Page, plots
from unsteep.pages.html import unbroken

CONTROL = "unsteep again"
WHATS = {"train": "training", "sample": "sampling"}
HEADER = ("", "weights", "a second", "ratio", "clock", "GB")
INTRODUCTION = """
Each library has a process of its own, pinned to the same number of threads, and they take turns: in every round each
does the same number of training steps, or of network evaluations of its own DDIM, in an order drawn anew. Training is
the loop that its own trainer or documentation writes, on noise in memory. Seconds are of CPU time, which a busy
machine disturbs less; on an accelerator, of the clock.

A second: examples of training, or evaluations of the network, one for each sample and step.

Ratio: how many times as fast unsteep is as the library in the same round, the median of the rounds, with the least and
the most; below 1 it is slower. The same by the clock on the wall stands beside it. The network is the same, or, where
it says own graph, one of the library's own with as many parameters. Unsteep again is a second process of our own, a
control: by as much as it differs from 1, others may by chance. GB is the peak of memory of the whole process, after
that work.
"""


@dataclass(frozen=True)
class Group:
    """The cells of libraries that took turns; ours is the first."""

    cells: Sequence[Cell]

    @property
    def name(self) -> str:
        """Of size, batch and precision, and what was done."""
        task = self.cells[0].task
        return f"{task.size}, batch {task.batch}, {task.precision}: {WHATS[self.cells[0].what]}"

    def ratio(self, cell: Cell, wall: bool = False) -> Rate:
        """How many times as fast ours was as a cell's library, round by round."""
        ours, theirs = ((one.wall if wall else one.seconds) for one in (self.cells[0], cell))
        return Rate.of([slow / fast for fast, slow in zip(ours, theirs, strict=True)])

    @property
    def lines(self) -> list[list[str]]:
        """Of the table, under `HEADER`."""
        lines = []
        for cell in self.cells:
            clock = f"{self.ratio(cell, wall=True).value:.2f}"
            ratios = ["", ""] if cell is self.cells[0] else [shown(self.ratio(cell)), clock]
            rate = shown(Rate.of(cell.rates))
            name = named(cell) if cell.graph == "same" else f"{named(cell)}, own graph"
            lines.append([name, f"{cell.parameters / 1e6:.2f}M", rate, *ratios, f"{cell.peak:.2f}"])
        return lines

    @property
    def ratios(self) -> dict[str, tuple[float, float, float]]:
        """Name -> (ratio, least, most) of every library but ours, for a plot."""
        found = {named(cell): self.ratio(cell) for cell in self.cells[1:]}
        return {name: (rate.value, rate.low, rate.high) for name, rate in found.items()}


def named(cell: Cell) -> str:
    """A cell's library, and what was set of it."""
    changed = ", ".join(cell.task.settings)
    return f"{cell.task.library} ({changed})" if changed else cell.task.library


@dataclass(frozen=True, kw_only=True)
class Results:
    """All that was measured. `ceilings`: name -> precision -> GFLOP/s."""

    machine: Machine
    threads: int
    rounds: int
    ceilings: Mapping[str, Mapping[str, Rate]]
    cells: Sequence[Cell]
    whole: Sequence[Whole]
    left_out: Sequence[str]
    versions: Mapping[str, str]
    seconds: float

    @property
    def groups(self) -> Iterator[Group]:
        """The cells that took turns, in the order in which they did."""
        by: dict[tuple[str, int, str, str], list[Cell]] = {}
        for cell in self.cells:
            by.setdefault((cell.task.size, cell.task.batch, cell.task.precision, cell.what), []).append(cell)
        return map(Group, by.values())

    @property
    def facts(self) -> list[tuple[str, str]]:
        """What it was measured on."""
        return [
            *self.machine.facts,
            ("threads", f"{self.threads} for each library"),
            ("libraries", ", ".join(f"{name} {version}" for name, version in self.versions.items())),
            *([("left out", "; ".join(self.left_out))] if self.left_out else []),
            ("took", f"{self.rounds} rounds, {self.seconds / 60:.0f} min"),
        ]

    @property
    def best(self) -> list[list[str]]:
        """For each group, the fastest of the others with the same graph, and of all: whom, and our ratio to it."""
        lines = []
        for group in self.groups:
            others = [cell for cell in group.cells[1:] if cell.task.library not in (CONTROL, "unsteep")]
            line = [group.name]
            for graph in ("same", "own"):
                of = [cell for cell in others if cell.graph == graph]
                fastest = min(of, key=lambda cell: Rate.of(cell.seconds).value, default=None)
                line.append("–" if fastest is None else unbroken(f"{named(fastest)} {shown(group.ratio(fastest))}"))
            control = next((cell for cell in group.cells if cell.task.library == CONTROL), None)
            line.append("–" if control is None else shown(group.ratio(control)))
            lines.append(line)
        return lines

    @property
    def defaults(self) -> list[list[str]]:
        """Ours in bf16 against each library in float32, as it comes: medians of rounds that were not the same."""
        by = {(c.task.size, c.task.batch, c.task.precision, c.what, named(c)): c for c in self.cells}
        lines = []
        for (size, batch, precision, what, name), cell in by.items():
            ours = by.get((size, batch, "bf16", what, "unsteep"))
            if precision == "float32" and ours is not None and cell.task.library not in ("unsteep", CONTROL):
                ratio = Rate.of(ours.rates).value / Rate.of(cell.rates).value
                lines.append([f"{size}, batch {batch}: {WHATS[what]}", name, f"{ratio:.2f}"])
        return lines

    @property
    def wholes(self) -> list[list[str]]:
        """Whole processes, under `WHOLE`."""
        return [
            [one.what, one.library, shown(Rate.of(one.cpu)), shown(Rate.of(one.wall)), f"{one.peak:.2f}"]
            for one in self.whole
        ]


BEST = ("ratio to the fastest", "of the same graph", "of its own graph", "to unsteep")
DEFAULTS = ("", "library", "ratio")
WHOLE = ("", "library", "CPU s", "wall clock s", "peak GB")


def tables(results: Results) -> Iterator[tuple[str, Sequence[str], list[list[str]]]]:
    """Title, header and lines of all, the summary first."""
    yield "Against the fastest", BEST, results.best
    for group in results.groups:
        yield group.name, HEADER, group.lines
    if results.defaults:
        yield "Default against default: unsteep in bf16, others in float32", DEFAULTS, results.defaults
    if results.whole:
        yield "Whole processes, from a shell", WHOLE, results.wholes


def show(results: Results, console: Console) -> None:
    """Prints them."""
    for title, header, lines in tables(results):
        table = Table(*header, title=title, title_justify="left", box=None, pad_edge=False)
        for line in lines:
            table.add_row(*line)
        console.print(table, highlight=False)
        console.print()


def write(results: Results, command: str, out: Path) -> Path:
    """The page in the folder `out`, with its plots."""
    page = Page("Speed beside other libraries", "The same work at the same precision, round by round")
    page.text(INTRODUCTION).facts(results.facts)
    page.section("What the machine could do", "Bare arithmetic on the same number of threads, in GFLOP/s.")
    precisions = list(next(iter(results.ceilings.values())))
    page.table(
        [[name, *(shown(by[one]) for one in precisions)] for name, by in results.ceilings.items()], ["", *precisions]
    )
    shown_groups = {group.name: group for group in results.groups}
    last = None
    for title, header, lines in tables(results):
        page.section(title)
        group = shown_groups.get(title)
        if group is not None:
            size = group.cells[0].task.size
            if size != last:
                page.text(f"{size}: {SIZES[size].says}.")
                last = size
            if group.ratios:
                task = group.cells[0].task
                path = out / f"{task.size}-{task.batch}-{task.precision}-{group.cells[0].what}.png"
                page.figure(plots.brackets(path, group.ratios, xlabel="how many times as fast unsteep is"))
        page.table(lines, header)
    page.section("To repeat it", "Anywhere; the libraries need an environment of their own, once.")
    page.code(f"{INSTALL}\n{command}")
    return page.write(out / "index.html")


INSTALL = """python -m venv ../peers
../peers/bin/pip install -c constraints.txt -e .
../peers/bin/pip install --no-deps -r benchmarks/peers.txt"""
