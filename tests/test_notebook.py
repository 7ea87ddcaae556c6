"""A model and its samples in a notebook: a table that tells, and one line from samples to a picture."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import unsteep
from small_models import saved, saved_rows
from unsteep.spaces import Pixels, Sequences


def test_a_model_tells_what_it_is_in_html(tmp_path: Path) -> None:
    model = unsteep.load(saved(tmp_path / "m", ("<b>cats</b>", *(f"class{i}" for i in range(30)))), device="cpu")
    html = model._repr_html_()
    parameters = f"{sum(p.numel() for p in model.denoiser.parameters()):,} parameters"
    said = ("UNet", parameters, "CosineBetas: steps 20", "pictures of 1 x 8 x 8", "cpu", "and 11 more", str(tmp_path))
    assert all(words in html for words in said)
    assert "&lt;b&gt;cats" in html
    assert "<b>" not in html
    assert html.count("<tr>") == html.count("</tr>") >= 7
    rows = unsteep.load(saved_rows(tmp_path / "rows"), device="cpu")._repr_html_()
    assert "rows of 2 numbers" in rows
    assert "classes" not in rows


@pytest.mark.parametrize("n", [1, 7])
def test_one_line_makes_a_picture_of_samples(tmp_path: Path, n: int) -> None:
    pictures = unsteep.load(saved(tmp_path / "m"), device="cpu")
    rows = unsteep.load(saved_rows(tmp_path / "rows"), device="cpu")
    for model in (pictures, rows):
        shown = model.space.show(model.sample(n, steps=2))
        assert isinstance(shown, Image.Image)
        assert shown._repr_png_().startswith(b"\x89PNG")  # type: ignore[union-attr]  # as a notebook asks it
    sequences = Sequences(frames=9, mean=(0.0,), std=(1.0,)).show([torch.zeros(4, 1)] * n, captions=["a"] * n)
    assert isinstance(sequences, Image.Image)


def test_one_picture_is_shown_as_a_sheet_of_it() -> None:
    space, x = Pixels(channels=3, size=8), torch.randint(0, 256, (1, 3, 8, 8), dtype=torch.uint8)
    how: dict[str, Any] = {"captions": ["it"]}
    assert np.array_equal(np.asarray(space.show(x, **how)), np.asarray(space.show(x[0], **how)))
