"""The page of a study: what follows, the table, plots, samples, cost, and how to repeat it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from unsteep.metrics.measures import BETTER
from unsteep.pages import Page, plots
from unsteep.studies.evaluation_page import shown
from unsteep.studies.measuring import write_json
from unsteep.studies.study import Outcome, Plot, Study, conclusions, numbers, strip


def write_page(study: Study, done: Mapping[str, Outcome], out: Path, command: str) -> Path:
    """index.html and results.json in `out`, with pictures; the page's path."""
    found = conclusions(study, done)
    page = Page(study.question, f"A study of {len(done)} cells")
    page.section("What follows", "\n\n".join(found) if found else "Nothing can be compared yet.")
    metrics = [name for name in study.metrics if any(name in outcome.values for outcome in done.values())]
    page.section("The table", "Intervals are of 95%; better: " + ", ".join(f"{m} {BETTER.get(m, '')}" for m in metrics))
    rows: list[list[str]] = []
    for cell in study.cells:
        if cell.name in done:
            outcome = done[cell.name]
            values = [shown(outcome.values.get(metric)) for metric in metrics]
            says = cell.says if outcome.values else f"{cell.says}: training diverged"
            rows.append([cell.name, says, *values, f"{outcome.seconds:.0f}"])
    if study.floors:
        rows.append(
            ["real data", "as many real pictures", *(shown(study.floors.get(metric)) for metric in metrics), ""]
        )
    page.table(rows, ["cell", "what it is", *metrics, "seconds"])
    drawn = [path for plot in study.plots if (path := _plot(plot, study, done, out))]
    if drawn:
        page.section("As pictures")
        for path in drawn:
            page.figure(path)
    samples = {name: outcome.samples for name, outcome in done.items() if outcome.samples is not None}
    if samples:
        page.section("Samples", "The first of each cell, none chosen by eye; equal seeds by column.")
        page.figure(strip(samples, out / "samples.png"))
    total = sum(outcome.seconds for outcome in done.values())
    page.section("How it was measured").facts([*study.facts, ("total cost", f"{total / 60:.1f} min")])
    page.section("To repeat it", "The same command goes on where it was interrupted.")
    page.code(command or f"the call of unsteep.studies.study.run for {study.name!r}")
    write_json(
        {
            "study": study.name,
            "question": study.question,
            "asked": dict(study.asked),
            "measured": [list(fact) for fact in study.facts],
            "command": command,
            "conclusions": found,
            "floors": {name: asdict(value) for name, value in study.floors.items()},
            "rows": [
                {"cell": cell.name, "says": cell.says, "axes": dict(cell.axes), **numbers(done[cell.name])}
                for cell in study.cells
                if cell.name in done
            ],
        },
        out / "results.json",
    )
    return page.write(out / "index.html")


def _plot(plot: Plot, study: Study, done: Mapping[str, Outcome], out: Path) -> Path | None:
    """One line for each group, with bands; None where no cell has both numbers."""
    series: dict[str, list[tuple[float, float, float, float]]] = {}
    for cell in study.cells:
        outcome = done.get(cell.name)
        if outcome is None or plot.y not in outcome.values:
            continue
        x = {**cell.axes, **outcome.facts, **{name: value.value for name, value in outcome.values.items()}}.get(plot.x)
        if x is None:
            continue
        y = outcome.values[plot.y]
        series.setdefault(study.group(cell.name), []).append((x, y.value, y.low, y.high))
    lines = {}
    for name, points in series.items():
        if plot.x not in BETTER:  # along a metric the cells' own order is the path
            points.sort()
        lines[name] = tuple(zip(*points, strict=True))
    if not lines:
        return None
    path = out / f"{plot.y}-{plot.x}.png".replace(" ", "-").replace("/", "-")
    return plots.lines(path, lines, xlabel=plot.x, ylabel=plot.y, title=plot.title, xlog=plot.xlog, ylog=plot.ylog)
