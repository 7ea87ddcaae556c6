"""The classifier of noisy data: its training, its accuracy by level, and its folder."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from unsteep.core.schedules import VP
from unsteep.data import DataSet
from unsteep.evaluation.by_level import ByLevel, by_level, write
from unsteep.metrics.interval import Interval
from unsteep.networks.encoder import EncoderConfig
from unsteep.objectives.classification import Classification
from unsteep.training.classifier import ClassifierConfig, open_classifier, train_classifier
from unsteep.training.loop import TrainConfig

NETWORK = EncoderConfig(width=8, groups=4, multipliers=(1, 2), dropout=0.0, middle_attention=False)


def settings(steps: int = 120, **changes: object) -> ClassifierConfig:
    train = TrainConfig(
        steps=steps, batch=32, learning_rate=5e-3, final_learning_rate=1e-4, warmup=5, ema=0.9, checkpoint_every=40
    )
    return replace(ClassifierConfig(network=NETWORK, train=train), **changes)  # type: ignore[arg-type]


def bars(n: int = 200, seed: int = 0) -> DataSet:
    """Bright upper or lower halves: two classes that noise hides only late."""
    draw = torch.Generator().manual_seed(seed)
    labels = torch.randint(2, (n,), generator=draw)
    x = torch.randint(0, 60, (n, 1, 8, 8), generator=draw)
    for i, label in enumerate(labels.tolist()):
        x[i, :, 4 * label : 4 * label + 4] += 190
    return DataSet(x.byte(), labels, ("upper", "lower"), source="bars")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """With noise, and without."""
    folders = tuple(tmp_path_factory.mktemp("classifiers") / name for name in ("with", "without"))
    for folder, noisy in zip(folders, (True, False), strict=True):
        assert train_classifier(settings(objective=Classification(noisy=noisy)), bars(), folder, say=lambda _: None)
    return folders  # type: ignore[return-value]


def measured(folder: Path) -> ByLevel:
    classifier, described = open_classifier(folder)
    return by_level(classifier, bars(seed=1), described.space, described.objective.schedule, n=200)


def test_it_is_right_where_there_is_little_noise_and_guesses_where_there_is_nothing_else(
    trained: tuple[Path, Path],
) -> None:
    found = measured(trained[0])
    assert found.accuracy[0].value > 0.97
    assert found.accuracy[-1].low < 0.5 < found.accuracy[-1].high
    assert found.accuracy[0].value > found.accuracy[-1].value + 0.3


def test_trained_without_noise_it_is_worse(trained: tuple[Path, Path]) -> None:
    """Over the levels between, and not on clean data."""
    noisy, clean = (measured(folder) for folder in trained)
    assert clean.accuracy[0].value > 0.97
    assert noisy.mean > clean.mean + 0.03


def test_what_it_learned_holds_on_another_schedule(trained: tuple[Path, Path]) -> None:
    classifier, described = open_classifier(trained[0])
    found = by_level(classifier, bars(seed=1), described.space, VP(), n=200, times=(0.05, 0.3))
    assert found.accuracy[0].value > 0.95


def test_it_goes_on_where_it_was(tmp_path: Path, trained: tuple[Path, Path]) -> None:
    """Bit for bit: nothing depends on the steps having been done in one go."""
    calls = 0

    def interrupt(text: str) -> None:
        nonlocal calls
        calls += 1

    short = settings()
    whole = open_classifier(trained[0])[0]
    again = tmp_path / "again"
    assert train_classifier(short, bars(), again, say=interrupt)
    (again / "checkpoints" / "step-00000120").rename(tmp_path / "gone")
    assert train_classifier(short, bars(), again, say=interrupt)
    resumed = open_classifier(again)[0]
    for name, weight in whole.state_dict().items():
        assert torch.equal(weight, resumed.state_dict()[name]), name


class TestRefused:
    def test_other_settings_or_data(self, trained: tuple[Path, Path]) -> None:
        with pytest.raises(ValueError, match="other settings"):
            train_classifier(settings(steps=99), bars(), trained[0])
        with pytest.raises(ValueError, match="not those that this classifier"):
            train_classifier(settings(objective=Classification()), bars(seed=5), trained[0])

    def test_data_without_labels(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="no labels"):
            train_classifier(settings(), replace(bars(), labels=None, names=()), tmp_path / "x")

    def test_a_folder_that_is_none(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="not a classifier"):
            open_classifier(tmp_path)
        (tmp_path / "mine.txt").write_text("mine")
        with pytest.raises(ValueError, match="exists and is not a classifier"):
            train_classifier(settings(), bars(), tmp_path)


def test_the_page_says_which_is_no_guide(tmp_path: Path) -> None:
    def at(*values: float) -> ByLevel:
        accuracy = tuple(Interval(value, value - 0.02, value + 0.02) for value in values)
        return ByLevel((0.0, 0.5, 1.0), accuracy)

    page = write({"with noise": at(0.9, 0.8, 0.1), "without noise": at(0.95, 0.3, 0.1)}, tmp_path, [("n", "9")], "cmd")
    text = page.read_text()
    assert "worse at 1 of 3 levels, and no guide" in text
    assert "0.800 [0.780, 0.820]" in text
    assert (tmp_path / "accuracy.json").exists()


def test_an_untrained_classifier_favours_no_class() -> None:
    network = replace(NETWORK, channels=1, classes=3).build()
    assert torch.count_nonzero(network(torch.randn(2, 1, 8, 8), torch.tensor([0.0, 500.0]))) == 0
