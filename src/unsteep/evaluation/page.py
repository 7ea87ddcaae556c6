"""An evaluation as a page and as numbers: index.html, results.json, and the pictures beside them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from unsteep.evaluation.evaluate import SHOWN, Evaluation
from unsteep.evaluation.protocol import Fact
from unsteep.metrics.interval import Interval
from unsteep.metrics.measures import SAYS, titled
from unsteep.metrics.memorization import Memorization, Nearness
from unsteep.pages import Page, pictures
from unsteep.pages.files import write_json
from unsteep.pages.html import unbroken
from unsteep.storage.foreign import plain, reading

RESULTS = "results.json"


def rows(evaluation: Evaluation) -> list[tuple[str, Interval, Interval | None]]:
    """Each metric with its value and its floor."""
    return [(name, value, evaluation.floors.get(name)) for name, value in evaluation.values.items()]


def kind(evaluation: Evaluation) -> str:
    """What was measured, in a word."""
    return str(evaluation.protocol.get("kind", "pictures"))


def beside(evaluation: Evaluation, name: str) -> list[str]:
    """A metric of each of what stands beside the samples."""
    return [f"{one[name].value:.3g}" if name in one else "–" for one in evaluation.beside.values()]


def shown(value: Interval | None) -> str:
    """As in 12.34 [11.90, 12.81]; a dash for none."""
    return "–" if value is None else value.bracketed()


def brief(value: Interval | None) -> str:
    """As in 12.34 ± 0.46, on one line, for tables of many columns."""
    return "–" if value is None else unbroken(str(value))


def write(evaluation: Evaluation, out: Path, title: str, command: str) -> Path:
    """Writes all into the folder `out`; the page's path."""
    out.mkdir(parents=True, exist_ok=True)
    page = Page(f"How good are the samples of {title}?", _subtitle(evaluation.protocol))
    for note in evaluation.notes:
        page.text(f"Mind: {note}.")
    page.section(
        "The numbers",
        f"Intervals are of 95%. The floor is the same metric of real {kind(evaluation)}, as many as there are samples "
        f"({evaluation.protocol['floor']}): a perfect model would get it. A number belongs to its protocol, below; "
        "others are not comparable with it.",
    )
    page.table(
        [
            (*map(unbroken, (titled(name), shown(value), shown(floor), *beside(evaluation, name))), SAYS.get(name, ""))
            for name, value, floor in rows(evaluation)
        ],
        ["metric", "samples", f"floor: real {kind(evaluation)}", *evaluation.beside, "what it is"],
    )
    page.section("What was measured", f"Samples and real {kind(evaluation)}, none chosen by eye.")
    for name, some in (("samples", evaluation.kept[:SHOWN]), (f"real {kind(evaluation)}", evaluation.real)):
        sheet = pictures.grid(some.numpy())
        pictures.save(sheet, out / f"{name.split()[0]}.png")
        page.figure(out / f"{name.split()[0]}.png", name)
    if evaluation.copies is not None:
        _memorization(page, evaluation, out)
    page.section("Protocol", "All that these numbers depend on.")
    page.facts([(name, _fact(value)) for name, value in evaluation.protocol.items() if value is not None])
    page.facts([("took", f"{evaluation.seconds:.0f} s")])
    page.section("To repeat it").code(command)
    where = page.write(out / "index.html")
    write_json(content(evaluation, command), out / RESULTS)
    return where


def content(evaluation: Evaluation, command: str) -> dict[str, Any]:
    """What results.json holds."""
    copies = evaluation.copies
    return {
        "command": command,
        "values": {name: asdict(value) for name, value in evaluation.values.items()},
        "floors": {name: asdict(value) for name, value in evaluation.floors.items()},
        **({"beside": told} if (told := {name: _plain(one) for name, one in evaluation.beside.items()}) else {}),
        "protocol": dict(evaluation.protocol),
        "notes": list(evaluation.notes),
        "seconds": evaluation.seconds,
        **({} if copies is None else {"memorization": asdict(copies)}),
    }


def _plain(values: Mapping[str, Interval]) -> dict[str, Any]:
    return {name: asdict(value) for name, value in values.items()}


def read(path: Path) -> tuple[dict[str, Interval], dict[str, Fact]]:
    """The values and the protocol in a results.json, or in the folder that it lies in. ValueError if it is none."""
    file = path / RESULTS if path.is_dir() else path
    with reading(file, "the results of an evaluation", "evaluate again"):
        stored = json.loads(plain(file).read_bytes())
        return {name: Interval(**value) for name, value in stored["values"].items()}, stored["protocol"]


def _subtitle(protocol: dict[str, Fact]) -> str:
    of = protocol.get("kind", "pictures")
    words = f"{protocol['samples']:,} samples against {protocol['reference pictures']:,} real {of}"
    return f"{words}, {protocol['features']} features"


def _fact(value: Fact) -> str:
    text = str(value)
    return text[:16] + "…" if len(text) == 64 and text.isalnum() else text


def _memorization(page: Page, evaluation: Evaluation, out: Path) -> None:
    copies, training = evaluation.copies, evaluation.training
    assert copies is not None
    assert training is not None
    page.section(
        "Does it copy?",
        "Distances of samples to the nearest training picture, beside those of real pictures that were held out: a "
        "model that copies comes nearer than fresh data do. Too near is the share of samples nearer than the 1% "
        "quantile of held-out pictures, so 1% for fresh data; nearer is the probability that a sample is nearer than "
        "a held-out picture, 50% for fresh data; replicas are at less than a third of the second nearest distance.",
    )
    page.table(
        [
            row
            for name, found in (("pixels", copies.pixels), ("features", copies.features))
            for row in _memorized(name, found)
        ],
        ["distance in", "of", "quartiles", "too near", "nearer", "replicas"],
    )
    repeated = copies.duplicates
    page.text(
        f"Within the training set, {repeated.exact:,} pictures are exact repeats, and {repeated.near:,} pairs lie at "
        f"less than half of that quantile of each other."
    )
    chosen = [pair.first for pair in copies.pixels.pairs]
    partners = [pair.second for pair in copies.pixels.pairs]
    if chosen:
        held = torch.stack([evaluation.kept[chosen], training[partners]])
        sheet = pictures.strip(
            held.numpy(),
            row_labels=["sample", "nearest"],
            column_labels=[f"{pair.distance:.0f}" for pair in copies.pixels.pairs],
        )
        pictures.save(sheet, out / "closest.png")
        page.figure(
            out / "closest.png", "The samples closest to a training picture, and the root mean square difference."
        )


def _memorized(name: str, found: Memorization) -> list[Sequence[str]]:
    return [
        (
            name,
            "samples",
            _quartiles(found.samples),
            _share(found.near),
            _share(found.nearer),
            _replicas(found.samples),
        ),
        (
            "",
            "held-out pictures",
            _quartiles(found.held_out),
            f"{found.quantile:.0%}",
            "50%",
            _replicas(found.held_out),
        ),
    ]


def _quartiles(of: Nearness) -> str:
    return " / ".join(f"{value:.3g}" for value in of.distance)


def _replicas(of: Nearness) -> str:
    return _share(of.replicas)


def _share(value: Interval) -> str:
    return (value * 100).bracketed("%")
