"""The page of an ablation: a table in the layout of Ho et al. 2020's Table 2, what it says, samples, curves, costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from unsteep.pages import pictures, plots
from unsteep.pages.html import Cell, Page, unbroken
from unsteep.storage import config
from unsteep.studies.ablation.claims import claims, ranking, verdict
from unsteep.studies.ablation.grid import GRID, Combination
from unsteep.studies.ablation.result import Judge
from unsteep.studies.page import write_results
from unsteep.studies.study import Outcome, Study, Values
from unsteep.training.log import whole_steps
from unsteep.training.run import Run

SHOWN, WIDE = 10, 52  # samples of each cell; the pixels that one may take across, for the sheet to fit the page
POINTS = 400  # of a curve
PREDICTIONS = {"mean": "μ̃", "eps": "ε", "x0": "x₀", "v": "v"}
OBJECTIVES = {"bound": "L", "simple": "L_simple", "hybrid": "L_hybrid"}


def write_page(run: Run, judge: Judge, study: Study, results: Mapping[str, Outcome], out: Path, command: str) -> None:
    """The cells that are done, drawn into index.html, and their numbers in results.json. `run`: what they share."""
    found = claims(results)
    says = [_best(results), verdict(found)]
    page = Page(study.question, f"The ablation of Ho et al. 2020 on {judge.held.source}")
    page.text(says[0]).text(says[1])
    page.section("The table", _how(judge))
    page.table(
        [*(_row(cell, results.get(cell.name)) for cell in GRID), ["real data", "", "", None, *_judged(study.floors)]],
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
    _show_samples(page, results, judge, out)
    _show_losses(page, out)
    times = [result.seconds for result in results.values()]
    took = f"{sum(times) / 60:.1f} min in all, {sum(times) / len(times):.0f} s a cell on average"
    done = f"{len(results)} of {len(GRID)}"
    page.section("What it cost").facts([*study.facts, ("cells done", done), ("trained and measured", took)])
    page.section("To repeat it", "The same command goes on where it was interrupted; every cell is a run of its own.")
    page.code(command or "the call of unsteep.studies.ablation.ablation.ablate that made this page")
    page.section("Configuration", "What the cells share; what they predict and are trained on is each one's own.")
    page.code(config.dumps(run))
    write_results(study, results, out, command, says, findings=[asdict(claim) for claim in found])
    page.write(out / "index.html")


def _best(results: Mapping[str, Outcome]) -> str:
    """The winners in words."""
    by_bits, by_energy = ranking(results, "bits-per-dim"), ranking(results, "energy")
    lost = [f"{name} (at {_where(result)})" for name, result in results.items() if result.diverged]
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


def _where(result: Outcome) -> str:
    """The step or part in which a cell diverged."""
    return result.diverged.split(":")[0]


def _row(cell: Combination, result: Outcome | None) -> list[Cell]:
    # A prediction is named once, as in the paper's table.
    first = cell.objective == "bound" and cell.variance == "diagonal"
    head = [PREDICTIONS[cell.prediction] if first else "", OBJECTIVES[cell.objective], cell.variance]
    if result is None:
        return [*head, "not run", None, None]
    if result.diverged:
        return [*head, f"diverged at {_where(result)}", None, None]
    bits = result.values["bits-per-dim"]
    return [*head, unbroken(str(bits)), *_judged(result.values)]


def _judged(values: Values) -> list[Cell]:
    """The energy distance, and the share that is as asked."""

    def bracketed(name: str, factor: float, unit: str = "") -> str | None:
        return unbroken((values[name] * factor).bracketed(unit)) if name in values else None

    return [bracketed("energy", 1000), bracketed("agreement", 100, "%")]


def _show_samples(page: Page, results: Mapping[str, Outcome], judge: Judge, out: Path) -> None:
    drawn = {name: (one.samples, one.labels) for name, one in results.items() if one.samples is not None}
    real = judge.held.x.numpy(), None if judge.held.labels is None else judge.held.labels.numpy()
    page.section("Samples")
    if not drawn:
        page.text("No cell has been trained to its end.")
    elif len(judge.space.shape) == 3:
        rows = {name: (_tiles(judge, x), labels) for name, (x, labels) in {"real data": real, **drawn}.items()}
        names = judge.held.names if judge.classifier else ()
        classes = [i % len(names) for i in range(SHOWN)] if names else []
        sheet = pictures.strip(
            np.stack([_shown(*data, classes) for data in rows.values()]),
            row_labels=list(rows),
            column_labels=[names[i] for i in classes] or None,
            scale=max(1, WIDE // rows["real data"][0].shape[-1]),
        )
        pictures.save(sheet, out / "samples.png")
        page.figure(out / "samples.png", "The first samples of each cell, none chosen by eye. Equal seeds by column.")
    else:
        for prediction, words in PREDICTIONS.items():
            own = {name.split("-", 1)[1]: data for name, data in drawn.items() if name.startswith(f"{prediction}-")}
            clouds = {"real data": real, **own}
            picture = out / f"samples-{prediction}.png"
            plots.scatter(picture, {name: x for name, (x, _) in clouds.items()}, title=f"{words} predicted")
            page.figure(picture)


def _tiles(judge: Judge, x: np.ndarray) -> np.ndarray:
    tiles = judge.space.tiles(torch.from_numpy(x))
    assert tiles is not None, "pictures"
    return tiles.numpy()


def _shown(x: np.ndarray, labels: np.ndarray | None, classes: list[int]) -> np.ndarray:
    """The first examples, or the first of each class in `classes`: (SHOWN, c, h, w), paper where there are none."""
    chosen = np.full((SHOWN, *x.shape[1:]), pictures.PAPER, dtype=np.uint8)
    places = list(range(len(x)))
    for i in range(SHOWN):
        place = next((k for k in places if not classes or labels is None or labels[k] == classes[i]), None)
        if place is not None:
            places.remove(place)
            chosen[i] = x[place]
    return chosen


def _show_losses(page: Page, out: Path) -> None:
    page.section(
        "Training losses",
        "Each is in its own units: an objective's losses compare between cells that predict the same, and bounds, in "
        "nats per dimension, between all. Smoothed.",
    )
    kinds = dict.fromkeys((cell.objective, cell.variance) for cell in GRID)
    for objective, variance in kinds:
        names = [cell.name for cell in GRID if (cell.objective, cell.variance) == (objective, variance)]
        logs = {name: log for name in names if (log := whole_steps(out / "cells" / name / "run" / "log.jsonl"))}
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
