"""The page of a study: what follows, the table, plots, samples, cost, and how to repeat it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from unsteep.evaluation.page import brief
from unsteep.metrics.measures import BETTER, titled
from unsteep.pages import Page, plots
from unsteep.pages.files import write_json
from unsteep.pages.html import unbroken
from unsteep.studies.study import Outcome, Plot, Study, conclusions, numbers, strip

FOLLOWED = 7  # lines of a plot that are told apart; the others are drawn in grey


def write_page(study: Study, done: Mapping[str, Outcome], out: Path, command: str) -> Path:
    """index.html and results.json in `out`, with pictures; the page's path."""
    found = conclusions(study, done)
    page = Page(study.question, f"A study of {len(done)} cells")
    page.section("What follows", "\n\n".join(found) if found else "Nothing can be compared yet.")
    known = [name for name in study.metrics if any(name in outcome.values for outcome in done.values())]
    metrics = known or list(study.metrics[:1])  # where all diverged there is none
    page.section("The table", "Intervals are of 95%; an arrow says which way is better.")
    rows = []
    for name, outcome in done.items():
        diverged = [] if outcome.values else ["diverged"]
        values = diverged + [brief(outcome.values.get(metric)) for metric in metrics[len(diverged) :]]
        rows.append([_whole(name), *values, f"{outcome.seconds:.0f}"])
    if study.floors:
        rows.append([unbroken("real data"), *(brief(study.floors.get(metric)) for metric in metrics), ""])
    page.table(rows, ["cell", *map(titled, metrics), "seconds"])
    page.facts([(cell.name, cell.says) for cell in study.cells if cell.name in done])
    if not study.plots:
        page.section("As pictures", "The same numbers; the floor, of as many real pictures, below them.")
        for metric in known[:2]:
            page.figure(_brackets(metric, study, done, out))
    drawn = [path for plot in study.plots if (path := _plot(plot, study, done, out))]
    if drawn:
        page.section("As pictures")
        for path in drawn:
            page.figure(path)
    samples = {name: outcome.samples for name, outcome in done.items() if outcome.samples is not None}
    if samples:
        page.section("Samples", "The first of each cell, none chosen by eye; equal seeds by column.")
        page.figure(strip(samples, out / "samples.png"))
    for title, words, header, lines in study.tables:
        page.section(title, words)
        page.table(lines, header)
    total = sum(outcome.seconds for outcome in done.values())
    page.section("How it was measured").facts([*study.facts, ("total cost", f"{total / 60:.1f} min")])
    page.section("To repeat it", "The same command goes on where it was interrupted.")
    page.code(command or f"the call of unsteep.studies.study.run for {study.name!r}")
    write_results(study, done, out, command, found)
    return page.write(out / "index.html")


def write_results(
    study: Study, done: Mapping[str, Outcome], out: Path, command: str, found: Sequence[str], **more: object
) -> None:
    """All numbers, what follows from them, and what a page of its own says `more`, into results.json."""
    write_json(
        {
            "study": study.name,
            "question": study.question,
            "asked": dict(study.asked),
            "measured": [list(fact) for fact in study.facts],
            "command": command,
            "conclusions": list(found),
            "floors": {name: asdict(value) for name, value in study.floors.items()},
            "rows": [
                {"cell": cell.name, "says": cell.says, "axes": dict(cell.axes), **numbers(done[cell.name])}
                for cell in study.cells
                if cell.name in done
            ],
            **more,
        },
        out / "results.json",
    )


def _whole(name: str) -> str:
    """A cell's name on one line, hyphens and all."""
    return name.replace("-", "\N{NON-BREAKING HYPHEN}")


def _brackets(metric: str, study: Study, done: Mapping[str, Outcome], out: Path) -> Path:
    """A metric of all cells, and its floor."""
    values = {name: outcome.values[metric] for name, outcome in done.items() if metric in outcome.values}
    if metric in study.floors:
        values["real data"] = study.floors[metric]
    rows = {name: (value.value, value.low, value.high) for name, value in values.items()}
    return plots.brackets(out / f"{metric}.png", rows, xlabel=titled(metric))


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
        if plot.x in BETTER:  # along a metric the cells' own order is the path, and a band would fold
            lines[name] = tuple(zip(*[point[:2] for point in points], strict=True))
        else:
            lines[name] = tuple(zip(*sorted(points), strict=True))
    if not lines:
        return None
    path = out / f"{plot.y}-{plot.x}.png".replace(" ", "-").replace("/", "-")
    how: dict[str, Any] = {"title": plot.title, "xlog": plot.xlog, "ylog": plot.ylog, "faint": _faint(lines, plot.y)}
    return plots.lines(path, lines, xlabel=plot.x, ylabel=plot.y, **how)


def _faint(lines: Mapping[str, tuple[tuple[float, ...], ...]], metric: str) -> list[str]:
    """Of many lines, all but the first and those that are best on the whole: an eye follows so many."""
    ranks = dict.fromkeys(lines, 0.0)
    for x in {x for line in lines.values() for x in line[0]}:
        there = {name: y for name, line in lines.items() for at, y in zip(line[0], line[1], strict=True) if at == x}
        order = sorted(there, key=there.__getitem__, reverse=BETTER.get(metric) == "higher")
        for name in lines:
            ranks[name] += order.index(name) if name in order else len(lines)
    first = next(iter(lines))
    best = sorted((name for name in lines if name != first), key=ranks.__getitem__)
    return best[FOLLOWED - 1 :] if len(lines) > FOLLOWED else []
