"""The page of the benchmark, and the same numbers for a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.table import Table

from solvers.cells import Cell
from unsteep.pages import plots
from unsteep.pages.html import Page

Side = Literal["unsteep", "diffusers"]
KNOWN = {  # the schedulers of diffusers that are drawn whatever they reach
    "diffusers DDIM": "DDIM(trailing)",
    "diffusers DPM-Solver++ 2M, karras": "DPMSolverMultistep(order 2, karras)",
    "diffusers UniPC": "UniPCMultistep(order 2, linspace)",
}
INTRODUCTION = """
Every solver starts from the same noise at t = 1 and asks the same denoiser. Its error is the distance, RMS per element,
to where the probability-flow equation takes that noise: {answer} Calls are calls of the denoiser: a solver that needs
two a step takes half the steps, and a guided call counts once. Flips are samples that end in {basins}.

The best of a side is the one of the smallest median error in that one cell, chosen afterwards; the default is one
choice for all cells. Schedulers of diffusers are given the denoiser's v, nothing clipped.
"""


@dataclass(frozen=True)
class Row:
    """The cells of one task, chain and number of calls that are shown; None where no solver of that side has one."""

    calls: int
    default: Cell | None
    ours: Cell | None
    theirs: Cell | None

    @property
    def ratio(self) -> float | None:
        """The default's median error over that of diffusers' best."""
        return _ratio(self.default, self.theirs)

    @property
    def best_ratio(self) -> float | None:
        """The same of our best."""
        return _ratio(self.ours, self.theirs)


class Results:
    """Cells by task and chain."""

    def __init__(self, cells: Iterable[Cell], default: str) -> None:
        self.default = default
        self._cells: dict[tuple[str, str], list[Cell]] = {}
        for cell in cells:
            if cell.median is not None:
                self._cells.setdefault((cell.chain, cell.task), []).append(cell)

    @property
    def chains(self) -> list[str]:
        """Their names."""
        return list(dict.fromkeys(chain for chain, _ in self._cells))

    def tasks(self, chain: str) -> list[str]:
        """Their names."""
        return [task for each, task in self._cells if each == chain]

    def rows(self, chain: str, task: str) -> list[Row]:
        """One for each number of calls."""
        cells = self._cells[chain, task]
        rows = []
        for calls in sorted({cell.calls for cell in cells}):
            here = [cell for cell in cells if cell.calls == calls]
            default = next((cell for cell in here if cell.side == "unsteep" and cell.solver == self.default), None)
            rows.append(Row(calls, default, _best(here, "unsteep"), _best(here, "diffusers")))
        return rows

    def series(self, chain: str, task: str) -> dict[str, tuple[list[float], list[float]]]:
        """Name -> (calls, median errors), for the plot."""
        rows = self.rows(chain, task)
        chosen: dict[str, list[Cell | None]] = {
            f"unsteep {self.default}, the default": [row.default for row in rows],
            "unsteep, the best": [row.ours for row in rows],
            "diffusers, the best": [row.theirs for row in rows],
        }
        for label, name in KNOWN.items():
            chosen[label] = [cell for cell in self._cells[chain, task] if cell.solver == name]
        found = {}
        for label, line in chosen.items():
            there = sorted((cell.calls, cell.median) for cell in line if cell is not None and cell.median is not None)
            if there:
                found[label] = ([float(calls) for calls, _ in there], [median for _, median in there])
        return found


def _best(cells: Sequence[Cell], side: Side) -> Cell | None:
    return min((cell for cell in cells if cell.side == side), key=lambda cell: cell.median or 0.0, default=None)


def _ratio(ours: Cell | None, theirs: Cell | None) -> float | None:
    if ours is None or theirs is None or ours.median is None or not theirs.median:
        return None
    return ours.median / theirs.median


@dataclass(frozen=True)
class Summary:
    """One number a cell, tasks by calls."""

    title: str
    of: Callable[[Row], str | None]

    def lines(self, results: Results, chain: str) -> tuple[list[str], list[list[str | None]]]:
        """Header and rows."""
        table = {task: {row.calls: row for row in results.rows(chain, task)} for task in results.tasks(chain)}
        calls = sorted({calls for rows in table.values() for calls in rows})
        header = ["task", *(f"{each} calls" for each in calls)]
        return header, [
            [task, *(self.of(rows[c]) if c in rows else None for c in calls)] for task, rows in table.items()
        ]


def summaries(default: str) -> list[Summary]:
    """What is shown of each chain before its tasks."""
    return [
        Summary(f"Median error of our default, {default}, over that of diffusers' best", lambda row: _short(row.ratio)),
        Summary("Median error of our best over that of diffusers' best", lambda row: _short(row.best_ratio)),
        Summary("Flips of our default (of diffusers' best)", _flips),
    ]


def show(results: Results, console: Console) -> None:
    """Prints the tables."""
    for chain in results.chains:
        for each in summaries(results.default):
            header, lines = each.lines(results, chain)
            console.print(_table(f"{chain}: {each.title}", header, lines))
        lines = [[task, *_line(row)] for task in results.tasks(chain) for row in results.rows(chain, task)]
        console.print(_table(f"{chain}: median / 90th percentile / flips", HEADER, lines))


def _table(title: str, header: Sequence[str], lines: Iterable[Sequence[str | None]]) -> Table:
    table = Table(*header, title=title)
    for line in lines:
        table.add_row(*(cell or "-" for cell in line))
    return table


def _flips(row: Row) -> str | None:
    sides = [
        None if cell is None or cell.flips is None else f"{100 * cell.flips:.1f}%" for cell in (row.default, row.theirs)
    ]
    return None if sides == [None, None] else "{} ({})".format(*(side or "-" for side in sides))


HEADER = ("task", "calls", "our default", "our best", "its name", "diffusers' best", "its name", "ratio", "best ratio")


def _line(row: Row) -> list[str | None]:
    sides = [_numbers(row.ours), _name(row.ours), _numbers(row.theirs), _name(row.theirs)]
    return [str(row.calls), _numbers(row.default), *sides, _short(row.ratio), _short(row.best_ratio)]


def _name(cell: Cell | None) -> str | None:
    return None if cell is None else cell.solver


def _numbers(cell: Cell | None) -> str | None:
    if cell is None or cell.p90 is None or cell.flips is None:
        return None
    text = f"{cell.median:.2g} / {cell.p90:.2g} / {100 * cell.flips:.1f}%"
    return text.replace(" ", "\N{NO-BREAK SPACE}")


def _short(value: float | None) -> str | None:
    return None if value is None else f"{value:.2f}"


def write(
    results: Results,
    introduction: str,
    says: Mapping[str, str],
    facts: Sequence[tuple[str, str]],
    command: str,
    out: Path,
) -> Path:
    """The page at `out`, with its plots inlined. `says`: what each task is."""
    page = Page("Solvers: error against network calls", "unsteep beside every deterministic scheduler of diffusers")
    page.text(introduction).facts(facts)
    for chain in results.chains:
        page.section(chain)
        for each in summaries(results.default):
            header, lines = each.lines(results, chain)
            page.table([[says.get(str(line[0]), line[0]), *line[1:]] for line in lines], header, each.title)
    plotted = out.parent / "plots"
    for chain in results.chains:
        for task in results.tasks(chain):
            path = plotted / f"{chain}-{task}.svg"
            axes = {"xlabel": "calls of the denoiser", "ylabel": "median error"}
            plots.lines(path, results.series(chain, task), **axes, xlog=True, ylog=True)
            page.section(f"{says.get(task, task)}, {chain}").figure(path)
            rows = [_line(row) for row in results.rows(chain, task)]
            page.table(rows, HEADER[1:], "Median error / 90th percentile / flips.")
    page.section("To repeat it").code(command)
    return page.write(out)
