"""The page of quality.py, and the same table for a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from rich.console import Console
from rich.table import Table

from unsteep.evaluation.page import brief, shown
from unsteep.metrics.interval import Interval
from unsteep.pages import Page, plots
from unsteep.pages.html import unbroken

HEADER = ("recipe", "sampler", "weights", "steps", "FID", "KID", "recall", "CPU s")
INTRODUCTION = """
Each recipe is the one of its library's own example or tutorial, trained on one thread until the CPU seconds were spent;
rates that anneal follow the time that is gone. All samples are measured by unsteep's own protocol against the same real
pictures. The FID with its 95% interval: over seeds where there are several, of the sample where there is one.
CPU seconds are
those of sampling, preparations of a default solver among them.
"""


@dataclass(frozen=True)
class Row:
    """A recipe with one of its samplers: what was kept of each seed."""

    name: str
    sampler: str
    cells: Sequence[Mapping[str, Any]]

    def metric(self, name: str) -> Interval:
        """Over seeds, or of the one that there is."""
        found = [Interval(**cell["samplers"][self.sampler]["values"][name]) for cell in self.cells]
        return found[0] if len(found) == 1 else Interval.of_few(torch.tensor([one.value for one in found]))

    @property
    def line(self) -> list[str]:
        """Under `HEADER`."""
        parameters, steps = (self.cells[0][key] for key in ("parameters", "steps"))
        cost = sum(cell["samplers"][self.sampler]["cpu"] for cell in self.cells) / len(self.cells)
        values = [unbroken(shown(self.metric("fid"))), *(brief(self.metric(name)) for name in ("kid", "recall"))]
        return [self.name, self.sampler, f"{parameters / 1e6:.2f}M", str(steps), *values, f"{cost:.0f}"]


def rows(cells: Iterable[Mapping[str, Any]]) -> list[Row]:
    """One for each recipe and sampler, the best FID first."""
    by: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for cell in cells:
        for sampler in cell["samplers"]:
            by.setdefault((cell["name"], sampler), []).append(cell)
    found = [Row(name, sampler, of) for (name, sampler), of in by.items()]
    return sorted(found, key=lambda row: row.metric("fid").value)


def verdict(found: Sequence[Row]) -> str:
    """Ours against the best of the others."""
    ours = [row for row in found if row.cells[0]["library"] == "unsteep"]
    theirs = [row for row in found if row.cells[0]["library"] != "unsteep"]
    if not ours or not theirs:
        return "There is nothing to compare."
    mine, best = ours[0].metric("fid"), theirs[0].metric("fid")
    low, high = mine.low / best.high, mine.high / best.low if best.low > 0 else float("inf")
    return (
        f"{ours[0].name} with {ours[0].sampler} has {mine.value / best.value:.2f} times the FID of the best of "
        f"the others, {theirs[0].name} with {theirs[0].sampler}; by the ends of the intervals {low:.2f} to {high:.2f}."
    )


def show(found: Sequence[Row], console: Console) -> None:
    """Prints the table and what follows."""
    table = Table(*HEADER, box=None, pad_edge=False)
    for row in found:
        table.add_row(*row.line)
    console.print(table, highlight=False)
    console.print(f"\n{verdict(found)}", highlight=False)


def write(
    found: Sequence[Row], sheets: Mapping[str, Image.Image], facts: Sequence[tuple[str, str]], command: str, out: Path
) -> Path:
    """The page in the folder `out`. `sheets`: samples by name."""
    page = Page("Quality for equal time", "FID after the same CPU seconds of training")
    page.section("What follows", verdict(found)).text(INTRODUCTION).facts(facts)
    page.section("The numbers").table([row.line for row in found], HEADER)
    brackets = {f"{row.name}, {row.sampler}": row.metric("fid") for row in found}
    values = {name: (fid.value, fid.low, fid.high) for name, fid in brackets.items()}
    page.figure(plots.brackets(out / "fid.png", values, xlabel="FID"))
    page.section("Samples", "The first of each, none chosen.")
    for name, sheet in sheets.items():
        page.figure(sheet, name)
    page.section("To repeat it").code(command)
    return page.write(out / "index.html")
