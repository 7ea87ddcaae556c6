"""What CONTRIBUTING shows runs as it stands there."""

import re
import sys
import types
from pathlib import Path

import pytest

import unsteep
from unsteep.model import ModelConfig
from unsteep.training.settings import TrainConfig

GUIDE = Path(__file__).parents[2] / "CONTRIBUTING.md"


@pytest.fixture(scope="module")
def shown() -> types.ModuleType:
    """All its blocks, as the one module that a reader would write."""
    module = types.ModuleType("shown_in_the_guide")
    sys.modules[module.__name__] = module
    for block in re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL):
        exec(compile(block, str(GUIDE), "exec"), module.__dict__)  # what a reader would run
    return module


def test_its_parts_train_and_sample_together(shown: types.ModuleType, tmp_path: Path) -> None:
    run = unsteep.Run(
        data=shown.Checkers(),
        schedule=shown.CubicBetas(steps=50),
        model=ModelConfig(network=shown.Tiny(width=8)),
        train=TrainConfig(steps=3, batch=4, warmup=1, preview_every=3),
    )
    model = unsteep.train(run, out=tmp_path / "run", device="cpu", say=lambda _: None)
    assert model.sample(2, solver=shown.Straight(), steps=3).shape == (2, 1, 8, 8)
    again = unsteep.load(tmp_path / "run", device="cpu")  # which the guide's module is imported for
    assert again.description == model.description


def test_its_condition_keeps_the_protocol(shown: types.ModuleType) -> None:
    from unsteep.data.reading import every
    from unsteep.hearing import asked, condition_of

    heard = (shown.Brightness().fitted(None),)
    of = condition_of(heard, every(shown.Checkers().read()))
    assert of is not None
    assert of["brightness"].tolist() == pytest.approx([0.5] * 64)
    told, without = asked(heard, {"brightness": 0.8}, 2, range(2))
    assert told is not None
    assert told["brightness"].tolist() == pytest.approx([0.8, 0.8])
    assert without == []
