"""What a text model makes of captions of drawn shapes, by the scale of its guidance: read in the pictures themselves.

Two sets of captions: ones of things that were in training pictures, and ones that name a thing that was in none
(`Shapes.held_out`), though its colour was, and its shape. Caption i is drawn with seed i at every scale, so that scales
differ in nothing else. The checker reads real pictures of the same captions, too: a perfect model would get what those
get.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from unsteep.data import Shapes
from unsteep.data.examples import Examples
from unsteep.evaluation.shapes_checker import attribute_accuracy, check
from unsteep.evaluation.subjects import said
from unsteep.metrics.interval import Interval
from unsteep.model import Model
from unsteep.model.cost import counting, weights_digest
from unsteep.pages import Page, pictures, plots
from unsteep.pages.files import write_json
from unsteep.pages.html import unbroken

KNOWN, HELD_OUT = "known things", "a held-out thing"
SAYS = {
    KNOWN: "Every thing in them was in training pictures; the real pictures are new ones.",
    HELD_OUT: "Each names a thing that was in no training picture, though its colour was, and its shape.",
}
ATTRIBUTES = {  # of the checker, in the words of the page
    "colour": "colour",
    "shape": "shape",
    "count": "number",
    "binding": "pairing",
    "relation": "relation",
    "all": "whole caption",
}
PLAIN, JOINT = ("colour", "shape", "count"), ("binding", "relation")  # the latter hang on the former
SHOWN, COLUMNS = 16, 4
LARGE, SMALL_PRINT = 160, 13  # pixels: the least side of a picture that is shown, the size of the words below it


@dataclass(frozen=True, eq=False)
class AtScale:
    """What a model drew at a `scale` of guidance: uint8 (n, 3, h, w), the shares of them that are right by attribute,
    and the network `calls` of one of them."""

    scale: float
    pictures: Tensor
    shares: dict[str, Interval]
    calls: float


@dataclass(frozen=True, eq=False)
class Answers:
    """What came of a set of captions: `data`, these with real pictures of theirs, in which the checker finds the shares
    `real`; and what was `drawn`, scale by scale."""

    name: str
    data: Examples
    real: dict[str, Interval]
    drawn: tuple[AtScale, ...]

    @property
    def best(self) -> AtScale:
        """Of the largest share of whole captions; the weaker guidance where equal."""
        return max(self.drawn, key=lambda one: (one.shares["all"].value, -one.scale))

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Header and rows: an attribute each, in per cent, in the real pictures and at every scale; network calls."""
        header = ["% right", "real pictures", *(f"guidance {one.scale:g}" for one in self.drawn)]
        columns = [self.real, *(one.shares for one in self.drawn)]
        rows = [[words, *(share(of.get(name)) for of in columns)] for name, words in ATTRIBUTES.items()]
        return header, [*rows, ["network calls", "–", *(f"{one.calls:.4g}" for one in self.drawn)]]


def caption_sets(shapes: Shapes, n: int) -> dict[str, Examples]:
    """n captions of each set, with pictures that a model of `shapes` was not trained on. ValueError where no thing is
    held out."""
    return {
        KNOWN: replace(shapes, seed=shapes.seed + 1, count=n).read("train"),
        HELD_OUT: replace(shapes, test_count=n).read("test"),
    }


def answers(
    model: Model, name: str, data: Examples, scales: Sequence[float], steps: int | None = None, shown: bool = False
) -> Answers:
    """Draws every caption of `data` at every scale and reads what came out. `shown`: a bar on a terminal."""
    captions, n = data.captions, len(data)
    drawn = []
    for scale in sorted(set(scales)):
        with counting(model, doing=f"{name}, guidance {scale:g}", total=None, shown=shown) as asked:
            found = model.sample(n, prompt=captions, guidance=scale, steps=steps, seed=0).cpu()
        drawn.append(AtScale(scale, found, attribute_accuracy(found, captions), asked.rows / n))
    return Answers(name, data, attribute_accuracy(data.x, captions), tuple(drawn))


def protocol(model: Model, sets: Sequence[Answers], steps: int | None) -> list[tuple[str, str]]:
    """What the numbers depend on, as facts of a page."""
    taken = model.default_steps if steps is None else steps
    solvers = dict.fromkeys(said(model.resolved(None, None, one.scale, taken)) for one in sets[0].drawn)
    return [
        *(
            (one.name, f"{len(one.data)} captions, {len(set(one.data.captions))} different; {one.data.source}")
            for one in sets
        ),
        ("seeds", f"0 to {len(sets[0].data) - 1}, the same at every scale"),
        ("solver", f"{' or '.join(solvers)} (default)"),
        ("steps", str(taken)),
        ("model", f"sha256 {weights_digest(model)}"),
        ("intervals", "95%, Wilson's"),
    ]


def write(sets: Sequence[Answers], facts: Sequence[tuple[str, str]], command: str, out: Path) -> Path:
    """index.html and shapes.json in `out`, with a plot, and samples of the last set at its best scale; the page's
    path."""
    last = sets[-1]
    page = Page("Captions, and what was drawn", verdict(sets))
    page.text(
        "Samples of a text model, read by a checker: which share shows what its caption says. Real pictures of the "
        "same captions are read, too: a perfect model would get what those get. Pairing: the shapes have the colours "
        "that they should have. Network calls are of one sample."
    )
    page.figure(_plot(sets, out / "captions.png"), "Bands are 95% intervals.")
    for one in sets:
        page.section(f"Captions of {one.name}", SAYS.get(one.name))
        page.table([[unbroken(cell) for cell in row] for row in one.table()[1]], one.table()[0])
    some = sheet(last.best.pictures[:SHOWN].numpy(), last.data.captions[:SHOWN])
    path = pictures.save(some, out / "samples.png")
    page.section(f"Samples at guidance {last.best.scale:g}")
    page.figure(path, f"The first captions of {last.name}, none chosen by eye. After a cross: what is wrong.")
    page.section("Protocol").facts(facts)
    page.section("To repeat it").code(command)
    where = page.write(out / "index.html")
    write_json(
        {"command": command, "protocol": dict(facts), "sets": [_numbers(one) for one in sets]}, out / "shapes.json"
    )
    return where


def verdict(sets: Sequence[Answers]) -> str:
    """The best share of whole captions of each set, in a sentence."""
    best = "; ".join(
        f"{share(one.best.shares['all'], '%')} of captions of {one.name}, at guidance {one.best.scale:g}"
        for one in sets
    )
    return f"AtScale right in every word: {best}. Each is the best of {len(sets[0].drawn)} scales, chosen afterwards."


def share(value: Interval | None, sign: str = "") -> str:
    """In per cent, as in 92.5 [88, 95], with a `sign` after the first number; a dash for none."""
    if value is None:
        return "–"
    return (value * 100).bracketed(sign)


def sheet(drawn: np.ndarray, captions: Sequence[str]) -> Image.Image:
    """Pictures, uint8 (n, 3, h, w), each with its caption below, and whether it is right, or what is not."""
    height, width = drawn.shape[2:]
    scale = pictures.magnification(height, width, LARGE)
    plan = pictures.plan(drawn.shape, COLUMNS, scale=scale, gap=pictures.MARGIN)
    words = [_label(picture, caption, plan.tile[0]) for picture, caption in zip(drawn, captions, strict=True)]
    room = max(pictures.measure(each, SMALL_PRINT)[1] for each in words) + pictures.MARGIN
    rows = -(-len(drawn) // COLUMNS)
    plan = replace(plan, pitch=(plan.pitch[0], plan.pitch[1] + room), size=(plan.size[0], plan.size[1] + rows * room))
    boxes = [plan.box(i) for i in range(len(drawn))]
    texts = [
        pictures.Text(words=each, box=(left, bottom + 4, right, bottom + room), align="l", size=SMALL_PRINT)
        for each, (left, _, right, bottom) in zip(words, boxes, strict=True)
    ]
    return pictures.draw(replace(plan, labels=tuple(texts)), drawn)


def _label(picture: np.ndarray, caption: str, width: int) -> str:
    right = check(picture, caption)
    wrong = [name for name in PLAIN if not right[name]] or [name for name in JOINT if not right.get(name, True)]
    mark = f"\N{BALLOT X} {', '.join(ATTRIBUTES[name] for name in wrong)}" if wrong else "\N{CHECK MARK} right"
    letters = width // (SMALL_PRINT * 3 // 5)
    return "\n".join(textwrap.fill(line, letters) for line in (caption, mark))


def _plot(sets: Sequence[Answers], path: Path) -> Path:
    series = {}
    for one in sets:
        shares = [drawn.shares["all"] for drawn in one.drawn]
        columns = ([getattr(each, end) for each in shares] for end in ("value", "low", "high"))
        series[one.name] = ([drawn.scale for drawn in one.drawn], *columns)
    return plots.lines(path, series, xlabel="guidance", ylabel="share of pictures", title="Whole captions drawn right")


def _numbers(one: Answers) -> dict[str, Any]:
    def of(shares: dict[str, Interval]) -> dict[str, Any]:
        return {name: asdict(value) for name, value in shares.items()}

    scales = [{"guidance": each.scale, "calls": each.calls, **of(each.shares)} for each in one.drawn]
    return {"captions": one.name, "count": len(one.data), "real": of(one.real), "drawn": scales}
