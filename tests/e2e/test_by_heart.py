"""Next to nothing to learn: one picture, two, twenty that are one, a channel that never changes. Each trains, reports
and is evaluated to its end, with a word about it: one picture is everybody's first check."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import unsteep
from command_line import made, unsteep_
from unsteep.features import domain
from unsteep.features.domain import DomainNet
from unsteep.metrics.frechet import fid

QUICK = [
    *("schedule=CosineBetas", "schedule.steps=5", "train.steps=4", "train.batch=4", "train.warmup=1"),
    *("model.network.width=8", "model.network.groups=4", "model.network.blocks=1", "model.network.attention="),
    *("train.preview_every=2",),
]
HEART = "by heart, which is a fine first check"


def pictures() -> dict[str, np.ndarray]:
    draws = np.random.default_rng(0)
    several = draws.integers(0, 256, (44, 8, 8, 3), dtype=np.uint8)
    constant = several.copy()
    constant[..., 1] = 77
    return {
        "one": several[:1],
        "two": several[:2],
        "alike": np.repeat(several[:1], 20, 0),
        "many-alike": np.repeat(several[:1], 50, 0),
        "flat": np.full((20, 8, 8, 3), 200, np.uint8),
        "constant": constant,
    }


@pytest.fixture(scope="module", autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    folder = tmp_path_factory.mktemp("home")
    with contextlib.chdir(folder), pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        patch.setattr(domain, "DomainNet", lambda: DomainNet(steps=20, batch=16, width=4, dimension=4))
        for name, some in pictures().items():
            np.save(f"{name}.npy", some)
            Path(name).mkdir()
            for i, one in enumerate(some):
                Image.fromarray(one).save(f"{name}/{i:02}.png")
        yield


@pytest.mark.parametrize(
    ("recipe", "name", "word", "measured"),
    [
        ("folder", "one", f"1 picture: the model will learn it {HEART}", "1 real picture: too few"),
        ("array", "one", f"1 picture: the model will learn it {HEART}", "1 real picture: too few"),
        ("folder", "two", f"2 pictures: the model will learn them {HEART}", "2 real pictures: too few"),
        (
            "array",
            "alike",
            f"all 20 pictures are the same: the model will learn it {HEART}",
            "20 real pictures, all the",
        ),
        ("folder", "many-alike", f"all 50 pictures are the same: the model will learn it {HEART}", "50 real pictures"),
        ("array", "flat", "the pictures show nothing: each channel has one value everywhere", "the pictures show noth"),
        ("folder", "constant", "channel 2 of 3 is 77 everywhere", "channel 2 of 3 is 77 everywhere"),
    ],
)
def test_it_trains_reports_and_is_evaluated(recipe: str, name: str, word: str, measured: str) -> None:
    size = ["data.size=8"] if recipe == "folder" else []
    data = name if recipe == "folder" else f"{name}.npy"
    run = f"{recipe}-{name}"
    said = made("train", recipe, "--data", data, *[p for s in [*QUICK, *size] for p in ("--set", s)], "--out", run)
    assert f"mind  {word}" in said
    page = Path(made("report", run).strip()).read_text()
    assert word in page
    assert "Samples" in page
    code, out, err = unsteep_("evaluate", run, "-n", 12, "--steps", 2)
    assert code == 0, err
    assert measured in " ".join(err.split())
    page = Path(run, "evaluation/index.html").read_text()
    assert measured in page
    found = json.loads(Path(run, "evaluation/results.json").read_text())
    if name == "constant":
        assert "fid" in found["values"]
        assert "fid" in out
        return
    assert set(found["values"]) == {"nearest"}
    assert "nearest" in out
    real = np.load(f"{name}.npy").astype(float).transpose(0, 3, 1, 2)
    samples = unsteep.load(run).sample(12, steps=2, seed=0).numpy().astype(float)
    apart = np.sqrt(((samples[:, None] - real[None]) ** 2).mean((2, 3, 4))).min(1).mean()
    assert found["values"]["nearest"]["value"] == pytest.approx(apart, rel=1e-6)
    assert made(*found["command"].split()[1:-1], "again")  # as the page says


def test_copies_are_at_no_distance_and_what_was_asked_for_is_refused_still() -> None:
    x = torch.from_numpy(pictures()["two"]).permute(0, 3, 1, 2)
    with pytest.warns(UserWarning, match="2 real pictures: too few"):
        found = unsteep.evaluate(x.repeat(3, 1, 1, 1), x)
    assert found.values["nearest"].value == found.values["nearest"].high == 0
    with pytest.raises(ValueError, match="expected at least 10 samples and 40 real pictures"):
        unsteep.evaluate(x.repeat(10, 1, 1, 1), x, metrics=["fid"])


def test_measuring_on_the_way_is_refused_of_so_few() -> None:
    for name, words in (("one", "got 1000 and 1"), ("many-alike", "from 40 different pictures or more")):
        code, _, err = unsteep_(
            "train", "array", "--data", f"{name}.npy", "--set", "train.evaluate_every=5", "--out", "no"
        )
        assert code == 2
        assert words in err
        assert not Path("no").exists()


def test_vectors_that_are_one(tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", np.ones((5, 3), np.float32))
    some = ("train.steps=2", "train.batch=4", "schedule.steps=5", "train.warmup=1")
    sets = [p for s in ("schedule=CosineBetas", *some) for p in ("--set", s)]
    said = made("train", "vectors", "--data", tmp_path / "rows.npy", *sets, "--out", tmp_path / "run")
    assert f"all 5 examples are the same: the model will learn it {HEART}" in said


def test_a_frechet_distance_to_what_does_not_vary() -> None:
    """|mean_a - mean_b|^2 + tr(A): the other Gaussian is a point."""
    x = torch.randn(80, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    point = torch.full((60, 4), 2.0, dtype=torch.float64)
    expected = float((x.mean(0) - 2).square().sum() + x.var(0).sum())
    assert fid(x, point).value == pytest.approx(expected, rel=1e-9)
    assert fid(point, point[:20]).value == 0


def test_the_range_of_a_models_own_samples_is_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that learned little draws grey pictures, which are of its scale all the same."""
    run = "grey-run"
    made("train", "array", "--data", "constant.npy", *[p for s in QUICK for p in ("--set", s)], "--out", run)

    def grey(self: Any, n: int, **_: Any) -> torch.Tensor:
        return torch.randint(120, 130, (n, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))

    monkeypatch.setattr(unsteep.Model, "sample", grey)
    made("evaluate", run, "-n", 12, "--metrics", "fid", "--out", "grey")
