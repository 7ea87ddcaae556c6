"""What the packaged recipe promises, trained in full: minutes, so behind the marker."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import unsteep
from unsteep.data import Digits
from unsteep.evaluation.quality import Classifier
from unsteep.recipes import digits
from unsteep.training.run import start


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_digits_are_what_was_asked_for(tmp_path: Path) -> None:
    """At least 95% of 500 class-conditional samples are named as asked by a classifier of real digits."""
    assert start(digits(), tmp_path / "run", say=lambda line: None)
    training = Digits().read("train")
    assert training.labels is not None
    asked = torch.arange(500) % 10
    samples = unsteep.load(tmp_path / "run").sample(500, label=asked.tolist(), seed=0)
    assert Classifier(training.x.float(), training.labels).agreement(samples.float(), asked).value >= 0.95
