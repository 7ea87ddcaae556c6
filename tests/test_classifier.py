"""The classifier of noisy data: its training, its accuracy by level, and its folder."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from unsteep.core.schedules import VP
from unsteep.data import Examples, Given
from unsteep.evaluation.by_level import ByLevel, by_level, write
from unsteep.guidance.noisy import NoisyClassifier
from unsteep.metrics.interval import Interval
from unsteep.networks.encoder import EncoderConfig
from unsteep.objectives.classification import Classification
from unsteep.starting import train
from unsteep.training.classifying import ClassifierDescription, ClassifierRun, open_classifier, read_classifier
from unsteep.training.loop import TrainConfig
from unsteep.training.run import resume

NETWORK = EncoderConfig(width=8, groups=4, multipliers=(1, 2), dropout=0.0, middle_attention=False)


def quiet(_: str) -> None:
    pass


def settings(steps: int = 120, **changes: object) -> ClassifierRun:
    train = TrainConfig(
        steps=steps, batch=32, learning_rate=5e-3, final_learning_rate=1e-4, warmup=5, ema=0.9, checkpoint_every=40
    )
    return replace(ClassifierRun(data=Given(), network=NETWORK, train=train), **changes)  # type: ignore[arg-type]


def bars(n: int = 200, seed: int = 0) -> Examples:
    """Bright upper or lower halves: two classes that noise hides only late."""
    draw = torch.Generator().manual_seed(seed)
    labels = torch.randint(2, (n,), generator=draw)
    x = torch.randint(0, 60, (n, 1, 8, 8), generator=draw)
    for i, label in enumerate(labels.tolist()):
        x[i, :, 4 * label : 4 * label + 4] += 190
    return Examples(x.byte(), labels, ("upper", "lower"), source="bars")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """With noise, and without."""
    folders = tuple(tmp_path_factory.mktemp("classifiers") / name for name in ("with", "without"))
    for folder, noisy in zip(folders, (True, False), strict=True):
        train(settings(objective=Classification(noisy=noisy)), data=bars(), out=folder, say=quiet)
    return folders  # type: ignore[return-value]


def opened(folder: Path) -> tuple[NoisyClassifier, ClassifierDescription]:
    return open_classifier(folder, "cpu").module, read_classifier(folder)[1]


def measured(folder: Path) -> ByLevel:
    classifier, described = opened(folder)
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
    classifier, described = opened(trained[0])
    found = by_level(classifier, bars(seed=1), described.space, VP(), n=200, times=(0.05, 0.3))
    assert found.accuracy[0].value > 0.95


def test_it_goes_on_where_it_was(tmp_path: Path, trained: tuple[Path, Path]) -> None:
    """Bit for bit: nothing depends on the steps having been done in one go."""
    again = tmp_path / "again"
    shutil.copytree(trained[0], again)
    last = again / "checkpoints" / "step-00000120"
    shutil.rmtree(last)
    assert resume((), again, say=quiet, data=bars())
    whole, resumed = (opened(folder)[0].state_dict() for folder in (trained[0], again))
    for name, weight in whole.items():
        assert torch.equal(weight, resumed[name]), name


def test_its_steps_may_be_cut_into_parts(tmp_path: Path, trained: tuple[Path, Path]) -> None:
    """To rounding."""
    parts = settings(objective=Classification(noisy=True))
    parts = replace(parts, train=replace(parts.train, accumulate=4, steps=2))
    whole = replace(parts, train=replace(parts.train, accumulate=1))
    one, other = (
        train(run, data=bars(), out=tmp_path / name, say=quiet).module for run, name in ((parts, "p"), (whole, "w"))
    )
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_it_shows_what_it_takes_noisy_pictures_for(trained: tuple[Path, Path]) -> None:
    assert (trained[0] / "named.png").exists()
    assert "What it takes pictures for" in (trained[0] / "report.html").read_text()


def test_it_starts_from_another(tmp_path: Path, trained: tuple[Path, Path]) -> None:
    run = settings(steps=1, objective=Classification())
    run = replace(run, train=replace(run.train, learning_rate=1e-9, final_learning_rate=1e-9, warmup=0))
    tuned = train(run, data=bars(), out=tmp_path / "tuned", start_from=trained[0], say=quiet)
    for a, b in zip(tuned.module.parameters(), opened(trained[0])[0].parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-6)


class TestRefused:
    def test_other_data(self, trained: tuple[Path, Path]) -> None:
        with pytest.raises(ValueError, match="expected the 200 examples"):
            resume((), trained[0], data=bars(seed=5), say=quiet)

    def test_data_without_labels(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="no labels"):
            train(settings(), data=replace(bars(), labels=None, names=()), out=tmp_path / "x", say=quiet)
        assert not (tmp_path / "x").exists()

    def test_a_folder_that_is_none(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="not a classifier"):
            open_classifier(tmp_path)
        (tmp_path / "mine.txt").write_text("mine")
        with pytest.raises(ValueError, match="exists and is not a run"):
            train(settings(), data=bars(), out=tmp_path, say=quiet)


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
