"""The page of an ablation: a table in the layout of Ho et al. 2020's Table 2, what it says, samples, curves, costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np

from unsteep.data.examples import Examples
from unsteep.metrics.interval import Interval
from unsteep.pages import pictures, plots
from unsteep.pages.files import write_json
from unsteep.pages.html import Cell, Page, unbroken
from unsteep.spaces import Pixels
from unsteep.storage import config
from unsteep.studies.ablation.ablation import GRID, Combination, Plan
from unsteep.studies.ablation.claims import claims, ranking, verdict
from unsteep.studies.ablation.result import Finding, Judge, read_samples
from unsteep.training.log import read_log

SHOWN, WIDE = 10, 52  # samples of each cell; the pixels that one may take across, for the sheet to fit the page
POINTS = 400  # of a curve
PREDICTIONS = {"mean": "μ̃", "eps": "ε", "x0": "x₀", "v": "v"}
OBJECTIVES = {"bound": "L", "simple": "L_simple", "hybrid": "L_hybrid"}


def write_page(out: Path, plan: Plan, judge: Judge, command: str) -> None:
    """Draws whatever cells of `out` are done into report.html, and writes their numbers to report.json."""
    folders = {cell.name: out / "cells" / cell.name for cell in GRID}
    results = {name: result for name, folder in folders.items() if (result := Finding.read(folder))}
    found = claims(results)
    page = Page("What to predict, and what to train on", f"The ablation of Ho et al. 2020 on {judge.held.source}")
    page.text(_best(results)).text(verdict(found))
    page.section("The table", _how(judge))
    page.table(
        [*(_row(cell, results.get(cell.name)) for cell in GRID), _reference(judge)],
        ["predicted", "loss", "variance", "bits/dim", "1000 × energy distance", "as asked"],
    )
    page.text(
        "Lower is better, but for the last column. Intervals are of 95%. All cells were measured on the same "
        "images with the same noise, so a difference between two is known better than their intervals say."
    )
    page.section(
        "Does it rank as the paper does?",
        "The paper's numbers are FIDs (or bits/dim) on CIFAR-10, those here energy distances (or bits/dim). Where the "
        "intervals of two cells overlap, it is too close to tell; a cell that diverged is worse than one that did not.",
    )
    page.table(
        [(claim.says, claim.there, claim.here, claim.holds) for claim in found],
        ["the paper finds", "there", "here: 1000 × energy distance, or bits/dim", "holds here"],
    )
    _show_samples(page, folders, judge, out)
    _show_losses(page, folders, out)
    page.section("What it cost").facts(_cost(plan, judge, results))
    page.section("To repeat it", "The same command goes on where it was interrupted; every cell is a run of its own.")
    page.code(command or "the call of unsteep.studies.ablation.ablation.ablate that made this page")
    page.section("Configuration", "What the cells share; what they predict and are trained on is each one's own.")
    page.code(config.dumps(plan.run))
    write_json(
        {
            "command": command,
            "steps": plan.run.train.steps,
            "budget": plan.budget,
            "images_per_second": plan.speed,
            "reference": [None if value is None else asdict(value) for value in judge.reference],
            "cells": {name: asdict(result) for name, result in results.items()},
            "findings": [asdict(claim) for claim in found],
            "configuration": config.to_dict(plan.run),
        },
        out / "report.json",
    )
    page.write(out / "report.html")


def _best(results: Mapping[str, Finding]) -> str:
    """The winners in words."""
    by_bits, by_energy = ranking(results, "bits"), ranking(results, "energy")
    lost = [f"{name} ({result.diverged})" for name, result in results.items() if result.diverged]
    if not by_bits:
        return "No cell has been trained to its end."
    words = f"Fewest bits: {by_bits[0]}. Samples nearest to the data: {by_energy[0]}."
    return f"{words} Diverged: {', '.join(lost)}." if lost else words


def _how(judge: Judge) -> str:
    measure = judge.measure
    data = "unseen data" if judge.unseen else "the training data, of which nothing was held out"
    parts = [
        f"Bits/dim is the variational bound on {min(measure.images, len(judge.held))} examples of {data}, with the "
        f"variance that the cell was trained for and up to {measure.terms} terms of the chain for each, drawn without "
        "bias.",
        f"The energy distance is between {measure.samples} samples and {len(judge.held)} examples of the same data, "
        "in pixels; samples take every step of the chain, with the cell's own variance.",
        "As asked is the share of them that a support vector machine, trained on the real data, takes for "
        "the class that was asked for."
        if judge.classifier
        else "",
        "Neither of the two is an FID, nor comparable with one.",
        "\n\nPredicted is μ̃, the mean of the step; ε, the noise; x₀, the data; or v. L is the bound, with the variance "
        "fixed at β, or learned as in the paper: a diagonal, its logarithm put out as it is. L_simple is the error "
        "without weights. L_hybrid came after the paper (Nichol and Dhariwal 2021) and learns a variance between β̃ "
        "and β.",
    ]
    return " ".join(part for part in parts if part)


def _row(cell: Combination, result: Finding | None) -> list[Cell]:
    # A prediction is named once, as in the paper's table.
    first = cell.objective == "bound" and cell.variance == "diagonal"
    head = [PREDICTIONS[cell.prediction] if first else "", OBJECTIVES[cell.objective], cell.variance]
    if result is None:
        return [*head, "not run", None, None]
    if result.bits is None:
        return [*head, f"diverged {result.diverged}", None, None]
    bits = f"{result.bits.value:.3f} ± {result.bits.high - result.bits.value:.3f}"
    return [*head, unbroken(bits), _energy(result.energy), _share(result.agreement)]


def _reference(judge: Judge) -> list[Cell]:
    energy, agreement = judge.reference
    return ["real data", "", "", None, _energy(energy), _share(agreement)]


def _energy(value: Interval | None) -> str | None:
    if value is None:
        return None
    return unbroken(f"{1000 * value.value:.1f} [{1000 * value.low:.1f}, {1000 * value.high:.1f}]")


def _share(value: Interval | None) -> str | None:
    return (
        None if value is None else unbroken(f"{100 * value.value:.0f}% [{100 * value.low:.0f}, {100 * value.high:.0f}]")
    )


def _show_samples(page: Page, folders: Mapping[str, Path], judge: Judge, out: Path) -> None:
    drawn = {name: samples for name, folder in folders.items() if (samples := read_samples(folder))}
    page.section("Samples")
    if not drawn:
        page.text("No cell has been trained to its end.")
    elif isinstance(judge.space, Pixels):
        rows = {"real data": judge.held, **drawn}
        names = judge.held.names if judge.classifier else ()
        classes = [i % len(names) for i in range(SHOWN)] if names else []
        sheet = pictures.strip(
            np.stack([_shown(data, classes) for data in rows.values()]),
            row_labels=list(rows),
            column_labels=[names[i] for i in classes] or None,
            scale=max(1, WIDE // judge.space.size),
        )
        pictures.save(sheet, out / "samples.png")
        page.figure(out / "samples.png", "The first samples of each cell, none chosen by eye. Equal seeds by column.")
    else:
        for prediction, words in PREDICTIONS.items():
            own = {name.split("-", 1)[1]: data for name, data in drawn.items() if name.startswith(f"{prediction}-")}
            clouds = {"real data": judge.held, **own}
            picture = out / f"samples-{prediction}.png"
            plots.scatter(picture, {name: data.x.numpy() for name, data in clouds.items()}, title=f"{words} predicted")
            page.figure(picture)


def _shown(data: Examples, classes: list[int]) -> np.ndarray:
    """The first examples, or the first of each class in `classes`: (SHOWN, c, h, w), paper where there are none."""
    chosen = np.full((SHOWN, *data.x.shape[1:]), pictures.PAPER, dtype=np.uint8)
    places = list(range(len(data)))
    for i in range(SHOWN):
        wanted = classes[i] if classes and data.labels is not None else None
        place = next((k for k in places if wanted is None or int(data.labels[k]) == wanted), None)  # type: ignore[index]
        if place is not None:
            places.remove(place)
            chosen[i] = data.x[place].numpy()
    return chosen


def _show_losses(page: Page, folders: Mapping[str, Path], out: Path) -> None:
    page.section(
        "Training losses",
        "Each is in its own units: an objective's losses compare between cells that predict the same, and bounds, in "
        "nats per dimension, between all. Smoothed.",
    )
    kinds = dict.fromkeys((cell.objective, cell.variance) for cell in GRID)
    for objective, variance in kinds:
        names = [cell.name for cell in GRID if (cell.objective, cell.variance) == (objective, variance)]
        logs = {name: log for name in names if (log := read_log(folders[name] / "log.jsonl"))}
        if not logs:
            continue
        series = {}
        for name, log in logs.items():
            losses = plots.smoothed([record["loss"] for record in log], max(1.0, len(log) / 60))
            every = max(1, len(log) // POINTS)
            series[name] = (np.array([record["step"] for record in log])[::every], losses[::every])
        title = f"{OBJECTIVES[objective]}, variance {variance}"
        ylog = plots.spans_decades(np.concatenate([losses for _, losses in series.values()]))
        path = out / f"loss-{objective}-{variance}.png"
        plots.lines(path, series, xlabel="training step", ylabel="loss", title=title, ylog=ylog)
        page.figure(path)


def _cost(plan: Plan, judge: Judge, results: Mapping[str, Finding]) -> list[tuple[str, Cell]]:
    train = plan.run.train
    times = [result.seconds for result in results.values() if result.seconds is not None]
    facts: list[tuple[str, Cell]] = [
        ("each cell", f"{train.steps:,} steps of {train.batch} examples, seed {train.seed}"),
        ("cells done", f"{len(results)} of {len(GRID)}"),
    ]
    if plan.budget is not None and plan.speed is not None:
        facts.append(
            ("budget", f"{plan.budget:.0f} s of training a cell, at {plan.speed:.0f} examples/s, measured once")
        )
    if times:
        facts.append(
            ("trained", f"{sum(times) / 60:.1f} min in all, {sum(times) / len(times):.0f} s a cell on average")
        )
    return [*facts, *judge.held.summary()[:1], ("examples held against", f"{len(judge.held):,}")]
