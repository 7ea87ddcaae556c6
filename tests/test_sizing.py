"""What a recipe becomes on a device, for a preset, and within a time."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import unsteep
from command_line import made, unsteep_
from unsteep.data import Folder
from unsteep.networks import UNetConfig, preset
from unsteep.recipes import RECIPES, sizing
from unsteep.recipes.sizing import ASKS_MUCH, ENOUGH, TRAINING, duration, following, operations, sized, within
from unsteep.starting import configured
from unsteep.storage.meanings import settings
from unsteep.training.denoising import Run


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(4):
        pixels = np.random.default_rng(i).integers(0, 256, (24, 30, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
    monkeypatch.chdir(tmp_path)
    return folder


def run_for(photos: Path, *changes: str, device: str = "cpu", **how: Any) -> Run:
    run = configured("folder", str(photos), changes, device=device, **how)
    assert isinstance(run, Run)
    return run


def test_a_recipe_fits_its_device(photos: Path) -> None:
    """On a CPU the preset small, for the size that is read; elsewhere as it stands."""
    small, as_it_is = run_for(photos), run_for(photos, device="meta")
    assert small.model.network == preset("small", 64)
    assert small.train.steps == TRAINING["small"].steps
    assert as_it_is == RECIPES["folder"](str(photos))
    assert run_for(photos, "data.size=128").model.network == preset("small", 128)
    assert run_for(photos, "data.height=16", "data.width=8").model.network == preset("small", 16)
    assert run_for(photos, "model.network.width=16").model.network.width == 16  # type: ignore[union-attr]
    assert run_for(photos, preset="large").model.network == replace(preset("large", 64), dropout=0.1)
    assert small.train.flip == as_it_is.train.flip
    assert set(ASKS_MUCH) <= set(RECIPES)


@pytest.mark.parametrize("name", ASKS_MUCH)
def test_what_asks_for_a_gpu_has_the_network_of_a_preset(name: str) -> None:
    """The medium one, for the size that it reads, as its own dropout has it: one family, on a CPU and on a GPU."""
    run = RECIPES[name]("" if name == "emoji" else "x")
    side = getattr(run.data, "size", 0) or 32
    assert replace(run.model.network, dropout=0.0) == preset("medium", side)  # type: ignore[type-var]


def test_a_preset_is_of_pictures(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="preset: sizes are of networks of pictures, and this recipe has MLPConfig"):
        configured("vectors", "x.npy", preset="small")
    with pytest.raises(ValueError, match="budget: it chooses the size itself"):
        configured("digits", preset="small", budget="1h")
    with pytest.raises(ValueError, match=r"preset: expected .*small, medium.* large"):
        configured("digits", preset="tiny")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("30m", 1800), ("1.5h", 5400), ("1h30m", 5400), ("2d", 172800)]
)
def test_times(text: str, seconds: float) -> None:
    assert duration(text) == seconds


@pytest.mark.parametrize("text", ["", "m", "45", "0m", "-3m", "3 weeks", "1h and 2m", "nan", None, 30])
def test_what_is_no_time(text: Any) -> None:
    with pytest.raises(ValueError, match=r"budget: expected a time, as 90s, 30m"):
        duration(text)


@pytest.mark.parametrize("minutes", [0.05, 5, 60, 1000, 30_000])
def test_a_budget_is_spent_and_not_exceeded(minutes: float, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine of a million operations a microsecond: the longer, the larger."""
    rate = 1e11  # operations a second

    def seconds(run: Run, shape: Any, device: Any = "cpu") -> float:
        return 3 * run.train.batch * operations(run, shape) / rate

    monkeypatch.setattr(sizing, "step_seconds", seconds)
    run = within(Folder_run(photos), 60 * minutes)
    shape = run.data.shape  # type: ignore[attr-defined]
    took = run.train.steps * seconds(run, shape)
    assert took <= 60 * minutes or run.train.steps == sizing.FEWEST
    if run.train.steps > sizing.FEWEST:
        assert took > 0.8 * 60 * minutes
    network = run.model.network
    assert isinstance(network, UNetConfig)
    expected = {0.05: (16, 32), 5: (32, 32), 60: (64, 32), 1000: (64, 64), 30_000: (64, 128)}[minutes]
    assert (shape[1], network.width) == expected
    assert run.train.warmup < run.train.steps / 5
    assert 1 / (1 - run.train.ema) < run.train.steps
    fixed = within(Folder_run(photos), 60 * minutes, smaller=False)
    assert fixed.data.shape == (3, 64, 64)  # type: ignore[attr-defined]
    widths = {0.05: 32, 5: 32, 60: 32, 1000: 64, 30_000: 128}
    assert fixed.model.network.width == widths[minutes]  # type: ignore[union-attr]


def Folder_run(photos: Path) -> Run:
    return RECIPES["folder"](str(photos))


@pytest.mark.filterwarnings("ignore:budget")  # a machine that does much else may not keep it
def test_a_budget_is_measured_here(photos: Path) -> None:
    run = run_for(photos, "data.size=8", budget="3s")
    assert run.data == Folder(path=str(photos), size=8)
    assert sizing.FEWEST <= run.train.steps < ENOUGH["medium"]


def test_a_shorter_run_is_a_whole_run() -> None:
    """Warm-up and average shrink with it; what is said stays."""
    long = RECIPES["mnist"]("x")
    short = following(long, [], 500)
    assert (short.train.warmup, short.train.ema) == (12, pytest.approx(1 - 1 / 25))
    assert short.train.checkpoint_every == short.train.preview_every == 125
    said = following(long, ["train.warmup=300", "train.ema=0.9"], 500)
    assert (said.train.warmup, said.train.ema) == (long.train.warmup, long.train.ema)  # the settings come after
    assert following(long, [], long.train.steps * 2) == long
    with_settings = configured("digits", None, ["train.steps=150", "train.warmup=7"])
    assert (with_settings.train.steps, with_settings.train.warmup) == (150, 7)
    assert 1 / (1 - with_settings.train.ema) == pytest.approx(20, abs=0.1)
    assert sized(long, "small", 28).train.seed == long.train.seed


def test_what_cannot_be_meant_is_said(tmp_path: Path) -> None:
    said: list[str] = []
    how: Any = {"steps": 2, "batch": 2, "settings": ["model.network.width=8"], "say": said.append, "device": "cpu"}
    unsteep.train("digits", out=tmp_path / "run", warmup=50, ema=0.9999, **how)
    text = "\n".join(said)
    assert "a warm-up of 50 steps never reaches the full rate; set train.warmup lower" in text
    assert "the average reaches back 10,000 steps, beyond the start; set train.ema lower" in text
    assert "the rate rises" not in text
    how["settings"] += ["condition.label=false", "train.final_learning_rate=0.1"]
    unsteep.train("digits", out=tmp_path / "other", **how)
    text = "\n".join(said)
    assert "condition.drop hides what the model hears, and it hears nothing; see condition.label" in text
    assert "the rate rises to train.final_learning_rate; it is meant to fall to it" in text


def test_a_dry_run_says_everything_and_writes_nothing(photos: Path) -> None:
    before = sorted(photos.parent.rglob("*"))
    small = ("--set", "data.size=8", "--set", "model.network.width=8", "--set", "train.steps=100000")
    said = made("train", "folder", "--data", photos, "--dry-run", *small, "--device", "cpu")
    for words in ("count  4", "takes  about", "train.learning_rate", "AdamW's, at its highest", "nothing was written"):
        assert words in said
    assert sorted(photos.parent.rglob("*")) == before
    Path("runs/folder").mkdir(parents=True)
    Path("runs/folder/run.toml").write_text("")
    said = made("train", "folder", "--data", photos, "--dry-run", *small, "--device", "cpu")
    assert "runs/folder holds a run already, which stays as it is" in said
    assert (Path("runs/folder/run.toml").read_text(), "nothing was written" in said) == ("", True)
    code, _, err = unsteep_("train", "--resume", "--out", "run", "--dry-run")
    assert (code, "--dry-run is of a new run" in err) == (2, True)
    code, _, err = unsteep_("train", "folder", "--data", "nowhere", "--dry-run")
    assert (code, "found none at nowhere" in err) == (2, True)


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_setting_says_what_it_means(recipe: str) -> None:
    rows = list(settings(RECIPES[recipe]("" if recipe in ("digits", "shapes", "emoji", "signer") else "x")))
    assert [row.key for row in rows if not row.meaning] == []
    assert len({row.key for row in rows}) == len(rows)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("train", ("train.steps", "50000", "AdamW's, at its highest")),
        ("folder", ("data.size", "model.network.width", "[int, ...]")),
        ("Cosine", ("--set schedule=Cosine",)),
        ("MinSNR", ("--set objective.weight=MinSNR",)),
    ],
)
def test_settings_are_listed(name: str, words: tuple[str, ...]) -> None:
    said = made("settings", name)
    assert all(one in said for one in words)


def test_an_unknown_name_of_settings() -> None:
    code, _, err = unsteep_("settings", "Cosin")
    assert (code, "did you mean Cosine" in err) == (2, True)


def test_the_page_is_written_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    how: Any = {"steps": 2, "batch": 2, "settings": ["model.network.width=8"], "say": lambda _: None, "device": "cpu"}
    unsteep.train("digits", out="run", **how)
    page = Path("run/report.html")
    before = page.read_text()
    page.unlink()
    assert made("report", "run").strip() == "run/report.html"
    assert page.read_text() == before
    code, _, err = unsteep_("report", "nowhere")
    assert (code, "not a run" in err) == (2, True)


def test_operations_grow_with_the_area() -> None:
    run = RECIPES["folder"]("x")
    counts = [operations(sized(run, "small", side), (3, side, side)) for side in (16, 32)]
    assert 3 < counts[1] / counts[0] < 5
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("how", [{"preset": "small"}, {"budget": "1h"}])
def test_what_a_run_starts_from_has_its_size(how: Any, tmp_path: Path) -> None:
    small: Any = {"settings": ["model.network.width=8"], "say": lambda _: None, "device": "cpu"}
    unsteep.train("digits", out=tmp_path / "run", steps=1, batch=2, **small)
    with pytest.raises(ValueError, match=r"^(preset|budget): the network stays what it is in start_from"):
        unsteep.train("digits", out=tmp_path / "more", start_from=tmp_path / "run", **how, **small)
