"""Captions and what a model makes of them: models that draw the truth, lies of a known kind and number, or noise."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from unsteep.data import Shapes
from unsteep.data.shapes import Scene, draw
from unsteep.evaluation import shapes_accuracy
from unsteep.evaluation.shapes_accuracy import HELD_OUT, KNOWN, Answers, answers, caption_sets
from unsteep.metrics.interval import wilson
from unsteep.model import Model, ModelConfig
from unsteep.model.cost import weights_digest
from unsteep.networks import TextEncoderConfig, UNetConfig
from unsteep.pages import plots
from unsteep.sampling import UniPC
from unsteep.training.conditioning import Conditioning
from unsteep.training.run import Run

N = 40
DATA = Shapes(count=60, test_count=N + 20, seed=3)
SETS = caption_sets(DATA, N)
OTHER = {"red": "cyan", "circle": "square", "left of": "right of", "two": "three"}
"""One word for another of its kind, so that a caption with the first one in it turns into a lie about one attribute."""


class Painter:
    """Draws what it is asked for at guidance 1, and what `lies` makes of it at any other; asks its network `steps`
    times for each, and twice as often where it is guided."""

    default_steps = 5

    def __init__(self, lies: dict[int, str] | None = None) -> None:
        self.lies = lies or {}
        self.denoiser = torch.nn.ModuleDict({"network": torch.nn.Linear(1, 1)})
        self.asked: list[tuple[float, int]] = []

    def resolved(self, *how: object) -> UniPC:
        return UniPC(order=2)

    def sample(
        self, n: int, *, prompt: Sequence[str], guidance: float, steps: int | None, seed: int, batch_size: int = 64
    ) -> Tensor:
        assert len(prompt) == n
        self.asked.append((guidance, seed))
        told = [self.lies.get(i, one) if guidance != 1 else one for i, one in enumerate(prompt)]
        for _ in range((steps or self.default_steps) * (1 if guidance == 1 else 2)):
            self.denoiser["network"](torch.zeros(n, 1))
        u = np.random.default_rng(seed + 100).uniform(size=(n, 4, 4))
        return torch.from_numpy(draw([Scene.of(one) for one in told], u, 32))


def of(painter: Painter, name: str = HELD_OUT, scales: Sequence[float] = (1.0,), steps: int | None = None) -> Answers:
    return answers(painter, name, SETS[name], scales, steps)  # type: ignore[arg-type]


def lies(word: str) -> dict[int, str]:
    """Of each caption of the held-out set in which `word` stands: the same with another one."""
    captions = enumerate(SETS[HELD_OUT].captions)
    return {i: caption.replace(word, OTHER[word], 1) for i, caption in captions if word in caption.split(" a ")[0]}


# Captions


def test_the_sets_name_no_held_out_thing_and_one() -> None:
    for name, held in ((KNOWN, False), (HELD_OUT, True)):
        assert len(SETS[name]) == len(SETS[name].captions) == N
        things = [{" ".join(thing) for thing in Scene.of(caption).things} for caption in SETS[name].captions]
        assert [not one.isdisjoint(DATA.held_out) for one in things] == [held] * N


def test_no_real_picture_is_one_of_training() -> None:
    known = {picture.numpy().tobytes() for picture in DATA.read("train").x}
    assert not any(picture.numpy().tobytes() in known for data in SETS.values() for picture in data.x)
    assert torch.equal(SETS[HELD_OUT].x, DATA.read("test").x[:N])  # the run's own test split


# Answers


@pytest.mark.parametrize("name", [KNOWN, HELD_OUT])
def test_the_truth_is_read_as_well_as_real_pictures_are(name: str) -> None:
    found = of(Painter(), name)
    assert found.real["all"].value == 1
    assert found.drawn[0].shares == found.real


@pytest.mark.parametrize(
    ("word", "attribute", "kept"),
    [
        ("red", "colour", ("shape", "count")),
        ("circle", "shape", ("colour", "count")),
        ("two", "count", ("colour", "shape", "binding")),
        ("left of", "relation", ("colour", "shape", "count", "binding")),
    ],
)
def test_a_lie_costs_its_attribute_and_the_whole_caption(word: str, attribute: str, kept: tuple[str, ...]) -> None:
    told = lies(word)
    assert 1 <= len(told) < N
    found = of(Painter(told), scales=(1.0, 3.0)).drawn
    n = sum(" a " in caption for caption in SETS[HELD_OUT].captions) if attribute == "relation" else N
    assert found[0].shares[attribute].value == 1
    assert found[1].shares[attribute] == wilson(n - len(told), n)
    assert found[1].shares["all"] == wilson(N - len(told), N)
    assert all(found[1].shares[name].value == 1 for name in kept)


def test_pictures_of_other_captions_are_mostly_wrong() -> None:
    captions = SETS[HELD_OUT].captions
    found = of(Painter(dict(enumerate(captions[1:] + captions[:1]))), scales=(1.0, 2.0))
    assert found.drawn[1].shares["all"].high < 0.5 < found.drawn[0].shares["all"].low


def test_scales_are_drawn_once_each_with_the_same_seed_and_their_calls_counted() -> None:
    painter = Painter()
    found = of(painter, scales=(4.0, 1.0, 4.0), steps=3)
    assert painter.asked == [(1.0, 0), (4.0, 0)]
    assert [(one.scale, one.calls) for one in found.drawn] == [(1.0, 3), (4.0, 6)]


def test_the_best_is_the_weaker_of_equals() -> None:
    assert of(Painter(), scales=(1.0, 2.0, 4.0)).best.scale == 1
    assert of(Painter(), scales=(4.0, 2.0)).best.scale == 2
    honest, lying = of(Painter()), of(Painter(lies("red")), scales=(0.5,))
    assert Answers(HELD_OUT, honest.data, honest.real, honest.drawn + lying.drawn).best.scale == 1


def test_the_table_has_all_of_it() -> None:
    told = lies("two")
    header, rows = of(Painter(told), scales=(1.0, 2.5)).table()
    table = {row[0]: dict(zip(header[1:], row[1:], strict=True)) for row in rows}
    right = 100 * (N - len(told)) / N
    assert list(table["number"]) == ["real pictures", "guidance 1", "guidance 2.5"]
    assert table["number"]["real pictures"].startswith("100.0 [")
    assert table["number"]["guidance 2.5"].startswith(f"{right:.1f} [")
    assert table["whole caption"]["guidance 2.5"].startswith(f"{right:.1f} [")
    assert table["network calls"] == {"real pictures": "–", "guidance 1": "5", "guidance 2.5": "10"}


def test_a_text_model_is_asked_and_its_calls_counted() -> None:
    """A guided step of a network is two calls; an untrained network draws no shape."""
    text = TextEncoderConfig(width=16, depth=1, heads=2, limit=20)
    network = UNetConfig(width=16, groups=4, multipliers=(1, 2), blocks=1, attention=(8,), text=text)
    shapes = Shapes(size=16, count=20, test_count=3)
    run = Run(
        data=shapes,
        condition=Conditioning(text="bpe", pieces=64, limit=20, drop=0.1),
        model=ModelConfig(network=network, prediction="v"),
    )
    torch.manual_seed(0)
    description = run.describe(shapes.read("train"))
    model = Model(description.build(), description)
    found = answers(model, HELD_OUT, caption_sets(shapes, 3)[HELD_OUT], (1.0, 2.0), steps=2)
    assert [one.calls for one in found.drawn] == [2, 4]
    assert all(one.pictures.shape == (3, 3, 16, 16) for one in found.drawn)
    assert all(one.shares["all"].value == 0 for one in found.drawn)
    facts = dict(shapes_accuracy.protocol(model, [found], 2))
    assert weights_digest(model) in facts["model"]
    assert facts["steps"] == "2"
    assert facts["solver"].startswith("GaussianFrame(")


# The page


def test_what_is_written_is_what_was_found(tmp_path: Path) -> None:
    painter = Painter(lies("red"))
    sets = [of(painter, name, scales=(0.5, 1.0, 2.0)) for name in (KNOWN, HELD_OUT)]
    facts = shapes_accuracy.protocol(painter, sets, None)  # type: ignore[arg-type]
    page = shapes_accuracy.write(sets, facts, "the command", tmp_path).read_text()
    for words in ("the command", f"seeds</dt><dd>0 to {N - 1}", weights_digest(painter), "Samples at guidance 1"):  # type: ignore[arg-type]
        assert words in page
    stored = json.loads((tmp_path / "shapes.json").read_text())
    assert stored["protocol"] == dict(facts)
    for one, read in zip(sets, stored["sets"], strict=True):
        assert (read["captions"], read["count"], read["real"]["all"]["value"]) == (one.name, N, 1)
        for drawn, numbers in zip(one.drawn, read["drawn"], strict=True):
            assert (numbers["guidance"], numbers["calls"]) == (drawn.scale, drawn.calls)
            assert {name: numbers[name]["value"] for name in drawn.shares} == {
                name: share.value for name, share in drawn.shares.items()
            }
    assert (tmp_path / "captions.png").exists()
    with Image.open(tmp_path / "samples.png") as written:
        sheet = shapes_accuracy.sheet(sets[1].best.pictures[:16].numpy(), SETS[HELD_OUT].captions[:16])
        assert np.array_equal(np.array(written), np.array(sheet))


def test_the_plot_is_of_whole_captions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = lies("two")
    drawn = {}
    monkeypatch.setattr(plots, "lines", lambda path, series, **_: drawn.update(series))
    shapes_accuracy._plot([of(Painter(told), scales=(2.0, 1.0))], tmp_path / "plot.png")
    ends = wilson(N, N), wilson(N - len(told), N)
    assert drawn == {HELD_OUT: ([1, 2], [1, ends[1].value], [one.low for one in ends], [one.high for one in ends])}


def test_a_sheet_shows_every_pixel_and_words_below() -> None:
    """Of five pictures in two rows: enlarged by 5, each with ink between it and the next row, and none beside it."""
    pictures, captions = SETS[HELD_OUT].x[:5].numpy(), SETS[HELD_OUT].captions[:5]
    sheet = np.array(shapes_accuracy.sheet(pictures, captions))
    large = pictures.repeat(5, 2).repeat(5, 3).transpose(0, 2, 3, 1)
    for i, picture in enumerate(large):
        corners = [
            (top, left)
            for top in range(sheet.shape[0] - 159)
            for left in (10 + 170 * (i % 4),)
            if np.array_equal(sheet[top : top + 160, left : left + 160], picture)
        ]
        assert len(corners) == 1
        top, left = corners[0]
        below = sheet[top + 160 : top + 195, left : left + 160]
        assert below.min() < 60
        assert below.max() == 242
    assert np.array_equal(sheet[:, :10], np.full_like(sheet[:, :10], 242))


def test_a_label_says_what_is_wrong() -> None:
    picture = draw([Scene.of("two red circles")], np.full((1, 4, 4), 0.5), 32)[0]
    for caption, mark in (
        ("two red circles", "\N{CHECK MARK} right"),
        ("three red circles", "\N{BALLOT X} number"),
        ("two blue circles", "\N{BALLOT X} colour"),
        ("two blue squares", "\N{BALLOT X} colour, shape"),
    ):
        assert shapes_accuracy._label(picture, caption, 400).split("\n") == [caption, mark]
    swapped = draw([Scene.of("a red circle left of a blue square")], np.full((1, 4, 4), 0.5), 32)[0]
    for caption, mark in (
        ("a red circle right of a blue square", "\N{BALLOT X} relation"),
        ("a red square left of a blue circle", "\N{BALLOT X} pairing, relation"),
    ):
        assert shapes_accuracy._label(swapped, caption, 400).split("\n") == [caption, mark]
