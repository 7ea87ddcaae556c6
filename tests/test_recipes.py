"""Recipes: each is a complete run that survives its file, fits the data it is for, and asks for what it lacks."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from unsteep.data import Examples, PoseExamples
from unsteep.model import Description
from unsteep.networks import MLPConfig, SequenceDiTConfig, UNetConfig
from unsteep.networks.sequence import SequenceConfig
from unsteep.objectives import Bound, Hybrid
from unsteep.poses import skeleton_of
from unsteep.recipes import RECIPES
from unsteep.spaces import Keypoints, Pixels, Sequences, Vectors
from unsteep.storage import config
from unsteep.training.conditioning import Conditioning
from unsteep.training.run import Run, start

SHAPES = {  # of the data that each recipe is for
    "digits": (1, 8, 8),
    "fashion-mnist": (1, 28, 28),
    "mnist": (1, 28, 28),
    "cifar": (3, 32, 32),
    "folder": (3, 64, 64),
    "array": (3, 32, 32),
    "shapes": (3, 20, 20),
    "captions": (3, 64, 64),
    "emoji": (3, 32, 32),
    "upscale": (3, 64, 64),
    "vectors": (5,),
    "sequences": (9, 4),
    "signer": (9, 150),
    "fingerspelling": (9, 534),
    "poses": (9, 150),
}
OF_THEIR_OWN = ("digits", "shapes", "signer")  # which need no --data
CAPTIONED = ("shapes", "captions", "emoji", "signer", "fingerspelling")
SEQUENCES = {"sequences": Sequences, **dict.fromkeys(("signer", "fingerspelling", "poses"), Keypoints)}


def run_of(name: str) -> Run:
    return RECIPES[name]("" if name in OF_THEIR_OWN else "data/here")


def data_of(name: str, labelled: bool = True) -> Examples:
    shape = (6, *SHAPES[name])
    if len(shape) == 2:
        return Examples(torch.randn(shape), levels=None, source="made up")
    if len(shape) == 3:
        valid, captions = torch.ones(6, 9, dtype=torch.bool), ("HELLO fast", "NO slow") * 3 if name in CAPTIONED else ()
        x = torch.randn(shape)
        if name == "sequences":
            return Examples(x, levels=None, valid=valid, source="made up")
        of = {"skeleton": skeleton_of("skels-50"), "fps": 25.0, "captions": captions}
        if name == "fingerspelling":
            of |= {"skeleton": skeleton_of("mediapipe-178"), "labels": torch.arange(6) % 2, "names": ("a", "b")}
        return PoseExamples(x, levels=None, valid=valid, source="made up", **of)  # type: ignore[arg-type]
    x = torch.zeros(shape, dtype=torch.uint8)
    if name in CAPTIONED:
        return Examples(x, source="made up", captions=("a red circle", "two blue squares") * 3)
    return Examples(x, torch.arange(6) % 2, ("a", "b"), source="made up") if labelled else Examples(x, source="made up")


def test_every_recipe_is_tested() -> None:
    assert set(SHAPES) == set(RECIPES)


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_survives_its_file(name: str) -> None:
    run = run_of(name)
    assert config.loads(Run, config.dumps(run)) == run
    assert getattr(run.data, "path", "data/here") == "data/here"
    assert RECIPES[name].__doc__


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_fits_the_data_it_is_for(name: str) -> None:
    run, data = run_of(name), data_of(name)
    description = run.describe(data)
    names = ("a", "b") if run.condition.label else ()
    assert description.names == names
    network = description.model.network
    if isinstance(network, UNetConfig):
        channels, size, _ = SHAPES[name]
        assert description.space == Pixels(channels=channels, size=size)
        assert (network.channels, network.size, network.labels) == (channels, size, len(names))
        assert set(network.attended) <= set(network.level_sizes)
    else:
        kind = MLPConfig if name not in SEQUENCES else SequenceConfig if name == "sequences" else SequenceDiTConfig
        assert isinstance(network, kind)
        assert type(description.space) is SEQUENCES.get(name, Vectors)
        assert network.features == SHAPES[name][-1]
    assert (description.hearing("prompt") is not None) == (name in CAPTIONED)
    assert config.loads(Description, config.dumps(description)) == description
    with torch.device("meta"):
        parameters = sum(p.numel() for p in network.build().parameters())
    assert 1e5 < parameters < 4e7


@pytest.mark.parametrize("name", sorted(set(RECIPES) - {*OF_THEIR_OWN, "emoji"}))
def test_a_recipe_asks_for_its_data(name: str) -> None:
    with pytest.raises(ValueError, match=r"this recipe reads .*: give .* with data=(DIR|FILE)$"):
        RECIPES[name]("")


def test_digits_take_no_data() -> None:
    with pytest.raises(ValueError, match=r"data: digits come with scikit-learn; .*recipe folder"):
        RECIPES["digits"]("photos")
    with pytest.raises(ValueError, match=r"data: shapes are drawn; .*recipe captions"):
        RECIPES["shapes"]("photos")
    with pytest.raises(ValueError, match=r"data: the signer is made by a formula; .*recipe poses"):
        RECIPES["signer"]("clips")


def test_text_that_the_data_or_the_network_do_not_have() -> None:
    run = run_of("shapes")
    with pytest.raises(ValueError, match=r"condition\.text: these data have no captions \(made up\)"):
        run.describe(data_of("folder"))
    with pytest.raises(ValueError, match=r"an MLP hears label, and not the caption"):
        replace(run, model=replace(run.model, network=MLPConfig())).describe(data_of("shapes"))


@pytest.mark.parametrize(
    ("name", "hint"), [("folder", r"turn it off, or, for a folder, set data\.labelled=true"), ("array", "turn it off")]
)
def test_labels_that_the_data_do_not_have(name: str, hint: str) -> None:
    run = replace(run_of(name), condition=Conditioning(label=True))
    with pytest.raises(ValueError, match=rf"condition\.label: these data have no labels \(made up\); {hint}"):
        run.describe(data_of(name, labelled=False))
    assert run.describe(data_of(name)).names == ("a", "b")


@pytest.mark.parametrize("objective", [Hybrid(), Bound(variance="learned")])
def test_an_objective_that_the_model_cannot_follow(objective: Hybrid | Bound, tmp_path: Path) -> None:
    """Is refused before anything is written."""
    run = replace(run_of("digits"), objective=objective)
    with pytest.raises(ValueError, match=r"set model.variance=learned"):
        start(run, tmp_path / "run")
    assert not (tmp_path / "run").exists()
