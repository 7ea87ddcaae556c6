"""The page of the benchmark, and the same numbers for a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from solvers.cells import Cell
from unsteep.pages import plots
from unsteep.pages.html import Page

KNOWN = {  # the schedulers of diffusers that are drawn whatever they reach
    "diffusers DDIM": "DDIM(trailing)",
    "diffusers DPM++ 2M karras": "DPMSolverMultistep(order 2, karras)",
    "diffusers UniPC": "UniPCMultistep(order 2, linspace)",
}
INTRODUCTION = """
Every solver starts from the same noise at t = 1 and asks the same denoiser. Its error is the distance, RMS per element,
to where the probability-flow equation takes that noise: {answer} Calls are calls of the denoiser: a solver that needs
two a step takes half the steps, and a guided call counts once. Flips are samples that end in {basins}.

The best of a side is the one of the smallest median error in that one cell, chosen afterwards; the default is one
choice for all cells. Schedulers of diffusers are given the denoiser's v, nothing clipped.

{tasks}
"""


@dataclass(frozen=True)
class Row:
    """The cells of one task, chain and number of calls that are shown; None where a side has none."""

    calls: int
    default: Cell | None
    ours: Cell | None
    theirs: Cell | None

    def ratio(self, cell: Cell | None) -> str | None:
        """Its median error over that of diffusers' best."""
        return None if cell is None or self.theirs is None else f"{cell.median / self.theirs.median:.2f}"

    @property
    def flips(self) -> str | None:
        """Of the default and, in brackets, of diffusers' best."""
        if self.default is None or self.theirs is None:
            return None
        return f"{100 * self.default.flips:.1f}%\N{NO-BREAK SPACE}({100 * self.theirs.flips:.1f}%)"

    @property
    def lines(self) -> list[list[str | None]]:
        """One for each of the three cells."""
        sides = {"default": self.default, "our best": self.ours, "diffusers' best": self.theirs}
        lines: list[list[str | None]] = []
        for who, cell in sides.items():
            if cell is not None:
                numbers = _digits(cell.median), _digits(cell.p90), f"{100 * cell.flips:.1f}%"
                lines.append([str(self.calls), who, cell.solver, *numbers, self.ratio(cell)])
        return lines


HEADER = ("calls", "", "solver", "median", "90%", "flips", "ratio")
SUMMARIES: dict[str, Callable[[Row], str | None]] = {
    "Median error of our {default} over that of diffusers' best": lambda row: row.ratio(row.default),
    "Median error of our best over that of diffusers' best": lambda row: row.ratio(row.ours),
    "Flips of our {default} (of diffusers' best)": lambda row: row.flips,
}


def _digits(value: float) -> str:
    return f"{value:.2g}" if value >= 1e-4 else f"{value:.1e}".replace("e-0", "e\N{MINUS SIGN}")


class Results:
    """Cells by chain and task."""

    def __init__(self, cells: Iterable[Cell], default: str) -> None:
        self.default = default
        self._cells: dict[tuple[str, str], list[Cell]] = {}
        for cell in cells:
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
            ours, theirs = (
                sorted((c for c in cells if (c.calls, c.side) == (calls, side)), key=lambda c: c.median)
                for side in ("unsteep", "diffusers")
            )
            default = next((cell for cell in ours if cell.solver == self.default), None)
            rows.append(Row(calls, default, *(side[0] if side else None for side in (ours, theirs))))
        return rows

    def summary(self, chain: str, of: Callable[[Row], str | None]) -> tuple[list[str], list[list[str | None]]]:
        """Header and lines of a table of tasks by calls."""
        table = {task: {row.calls: row for row in self.rows(chain, task)} for task in self.tasks(chain)}
        calls = sorted({calls for rows in table.values() for calls in rows})
        lines = [[task, *(of(rows[each]) if each in rows else None for each in calls)] for task, rows in table.items()]
        return ["task", *(f"{each} calls" for each in calls)], lines

    def series(self, chain: str, task: str) -> dict[str, tuple[list[float], list[float]]]:
        """Name -> (calls, median errors), for the plot."""
        rows = self.rows(chain, task)
        lines: dict[str, list[Cell | None]] = {
            f"our {self.default}": [row.default for row in rows],
            "our best": [row.ours for row in rows],
            "diffusers' best": [row.theirs for row in rows],
        }
        for label, name in KNOWN.items():
            lines[label] = [cell for cell in self._cells[chain, task] if cell.solver == name]
        points = {
            label: sorted((float(cell.calls), cell.median) for cell in line if cell is not None)
            for label, line in lines.items()
        }
        return {label: ([x for x, _ in line], [y for _, y in line]) for label, line in points.items() if line}


def show(results: Results, console: Console) -> None:
    """Prints the tables."""
    for chain in results.chains:
        for title, of in SUMMARIES.items():
            header, lines = results.summary(chain, of)
            _print(console, f"{chain}: {title.format(default=results.default)}", header, lines)
        for task in results.tasks(chain):
            lines = [line for row in results.rows(chain, task) for line in row.lines]
            _print(console, f"{chain}, {task}", HEADER, lines)


def _print(console: Console, title: str, header: Sequence[str], lines: Iterable[Sequence[str | None]]) -> None:
    table = Table(*header, title=title)
    for line in lines:
        table.add_row(*(cell or "-" for cell in line))
    console.print(table)


def write(
    results: Results,
    introduction: str,
    says: Mapping[str, str],
    facts: Sequence[tuple[str, str]],
    command: str,
    out: Path,
) -> Path:
    """The page at `out`, with its plots inlined. `says`: what each task is."""
    page = Page("Solvers: error against network calls", "unsteep beside the deterministic schedulers of diffusers")
    page.text(introduction).facts(facts)
    for chain in results.chains:
        page.section(chain)
        for title, of in SUMMARIES.items():
            header, lines = results.summary(chain, of)
            rows = [[says.get(str(name), name), *numbers] for name, *numbers in lines]
            page.table(rows, header, title.format(default=results.default))
    for chain in results.chains:
        for task in results.tasks(chain):
            path = out.parent / "plots" / f"{chain}-{task}.svg"
            labels = {"xlabel": "calls of the denoiser", "ylabel": "median error"}
            plots.lines(path, results.series(chain, task), **labels, xlog=True, ylog=True)
            page.section(f"{says.get(task, task)}, {chain}").figure(path)
            page.table([line for row in results.rows(chain, task) for line in row.lines], HEADER)
    page.section("To repeat it").code(command)
    return page.write(out)
