"""Sheets say what they show: classes beside their rows, what was given, seeds; letters of any script that is here."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence

import unsteep
from command_line import made, unsteep_
from small_models import saved
from unsteep.hearing import Label
from unsteep.pages import pictures
from unsteep.pages.lettering import font, legible, measure, settable, wrapped

NAMES = ("cats, dogs and all that barks", "cats", "Ελληνικά", "4")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    saved(Path("plain"))
    saved(Path("classes"), NAMES)
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8) * 3).save("photo.png")
    mask = np.zeros((8, 8), np.uint8)
    mask[2:5, 2:5] = 255
    Image.fromarray(mask).save("mask.png")


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What every sheet was told to show, in turn."""
    kept: list[dict[str, Any]] = []
    draw = pictures.grid

    def grid(images: np.ndarray, columns: int | None = None, **how: Any) -> Image.Image:
        kept.append({"images": images, "columns": columns, **how})
        return draw(images, columns, **how)

    monkeypatch.setattr(pictures, "grid", grid)
    return kept


def test_a_row_for_each_class(told: list[dict[str, Any]]) -> None:
    made("sample", "classes", "-n", 10, "--label", "all", "--steps", 2)
    [sheet] = told
    assert sheet["row_labels"] == list(NAMES)
    assert sheet["columns"] == 3
    drawn = unsteep.load("classes").sample(10, label=[i % 4 for i in range(10)], steps=2).numpy()
    blank = np.full_like(drawn[0], pictures.PAPER)
    for row in range(4):
        shown = sheet["images"][3 * row : 3 * row + 3]
        wanted = [*drawn[row::4], blank][:3]
        assert all(np.abs(a.astype(int) - b).max() <= 1 for a, b in zip(shown, wanted, strict=True)), row


@pytest.mark.parametrize(
    ("n", "label", "rows"),
    [
        (64, "all", [name for name in NAMES for name in (name, "")]),  # 16 of each, 8 in a row
        (64, "cats", ["cats", *[""] * 7]),
        (7, "cats,4", ["cats", "4"]),
    ],
)
def test_many_of_a_class_take_more_rows(told: list[dict[str, Any]], n: int, label: str, rows: list[str]) -> None:
    made("sample", "classes", "-n", n, "--label", label, "--steps", 1)
    assert told[0]["row_labels"] == rows


@pytest.mark.parametrize("n", [1, 4])
def test_one_of_each_class_stands_under_its_name(told: list[dict[str, Any]], n: int) -> None:
    made("sample", "classes", "-n", n, "--label", "all", "--steps", 1)
    assert told[0]["captions"] == list(NAMES[:n])


def test_fillings_and_drawings_are_named(told: list[dict[str, Any]]) -> None:
    made("fill", "plain", "photo.png", "--mask", "mask.png", "-n", 3, "--seed", 5, "--steps", 2)
    made("redraw", "plain", "photo.png", "-n", 2, "--steps", 2)
    seeds = ["seed 5", "seed 6", "seed 7"]
    assert [sheet["captions"] for sheet in told] == [["original", "given", *seeds], ["original", "seed 0", "seed 1"]]


def test_a_movie_begins_with_noise() -> None:
    """As often as there are levels: from t = 1, where nothing but noise is, to t = 0."""
    made("sample", "plain", "-n", 2, "--steps", 3, "--solver", "ddim", "--movie", "way.gif")
    with Image.open("way.gif") as movie:
        frames = [np.asarray(frame.convert("L")).astype(float) for frame in ImageSequence.Iterator(movie)]
    assert len(frames) == 4
    model = unsteep.load("plain")
    noise = unsteep.NoiseSource(range(2)).normal(torch.empty(2, *model.space.shape), draw=0)
    tiles = model.space.decode(noise).numpy()
    layout = pictures.plan(tiles.shape, scale=5, titles=["t = 1.00"])
    for i in range(2):
        left, top, right, bottom = layout.box(i)
        assert np.abs(frames[0][top:bottom:5, left:right:5] - tiles[i, 0]).max() <= 1


def test_a_name_with_commas_is_one_class() -> None:
    several = Label.several
    assert several("all", NAMES) == list(NAMES)
    assert several("4, cats", NAMES) == ["4", "cats"]
    assert several(NAMES[0], NAMES) == [NAMES[0]]
    assert several(f"cats,{NAMES[0]},4", NAMES) == ["cats", NAMES[0], "4"]
    assert several("all", ()) == ["all"]
    made("sample", "classes", "-n", 4, "--label", f"{NAMES[0]},4", "--steps", 1, "--out", "x.npz")
    with np.load("x.npz") as stored:
        assert stored["labels"].tolist() == [0, 3, 0, 3]
    code, _, err = unsteep_("sample", "classes", "-n", 2, "--label", "cats,dogs")
    assert (code, "'dogs' is not a class" in err) == (2, True)


def test_long_labels_are_broken_and_the_longest_cut() -> None:
    lines = wrapped("washer, automatic washer", 13, 120).split("\n")
    assert len(lines) > 1
    assert all(measure(line, 13)[0] <= 120 for line in lines)
    assert " ".join(lines) == "washer, automatic washer"
    cut = wrapped("washer, automatic washer, washing machine " * 4, 13, 120).split("\n")
    assert len(cut) == 3
    assert cut[-1].endswith("…")
    assert measure(cut[-1], 13)[0] <= 120
    assert all(measure(line, 13)[0] <= 120 for line in wrapped("x" * 60, 13, 120).split("\n"))
    assert wrapped("a\nb\nc\nd", 13, 120) == "a\nb\nc\nd"


def test_letters_that_no_font_has_leave_a_number() -> None:
    nobody = "\U00012000"  # cuneiform
    assert legible("cats Ελληνικά")
    if not legible(nobody):
        assert settable(["cats", nobody]) == ["cats", "class 1"]


def test_other_scripts_are_set_where_a_font_is_there() -> None:
    name = "猫の写真"
    if not legible(name):
        pytest.skip("no font here has these letters")
    inked = (
        np.asarray(pictures.grid(np.full((1, 1, 8, 8), pictures.PAPER, np.uint8), captions=[name])) != pictures.PAPER
    )
    boxes = np.asarray(pictures.grid(np.full((1, 1, 8, 8), pictures.PAPER, np.uint8), captions=["\U00012000" * 4]))
    assert inked.any()
    assert not np.array_equal(inked, boxes != pictures.PAPER)
    assert font(13).getlength(name) != measure(name, 13)[0]
