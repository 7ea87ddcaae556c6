"""What CONTRIBUTING shows runs as it stands there."""

from pathlib import Path

import mine
import pytest
import torch

import unsteep
from unsteep.model import ModelConfig
from unsteep.training.settings import TrainConfig


def test_its_parts_train_and_sample_together(tmp_path: Path) -> None:
    run = unsteep.Run(
        data=mine.Checkers(),
        schedule=mine.CubicBetas(steps=50),
        model=ModelConfig(network=mine.Tiny(width=8)),
        train=TrainConfig(steps=3, batch=4, warmup=1, preview_every=3),
    )
    model = unsteep.train(run, out=tmp_path / "run", device="cpu", say=lambda _: None)
    assert model.sample(2, solver=mine.Straight(), steps=3).shape == (2, 1, 8, 8)
    again = unsteep.load(tmp_path / "run", device="cpu")  # which `mine` is imported for
    assert again.description == model.description


def test_its_condition_keeps_the_protocol() -> None:
    from unsteep.data.reading import every
    from unsteep.hearing import asked, condition_of

    heard = (mine.Brightness().fitted(None),)
    of = condition_of(heard, every(mine.Checkers().read()))
    assert of is not None
    assert of["brightness"].tolist() == pytest.approx([0.5] * 64)
    told, without = asked(heard, {"brightness": 0.8}, 2, range(2))
    assert told is not None
    assert told["brightness"].tolist() == pytest.approx([0.8, 0.8])
    assert without == []


def test_its_network_is_told_the_class(tmp_path: Path) -> None:
    settings = ["model.network=mine:Tiny", "schedule.steps=50", "train.batch=8", "train.warmup=1"]
    model = unsteep.train("digits", settings=settings, steps=20, out=tmp_path / "run", device="cpu", say=lambda _: None)
    one, other = (model.sample(2, label=label, steps=3) for label in (1, 7))
    assert not torch.equal(one, other)
    with pytest.raises(ValueError, match=r"Tiny .* classes alone, got brightness"):
        mine.Tiny().fitted(model.space, 1, {"brightness": mine.Brightness()})
