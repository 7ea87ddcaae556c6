"""Training in one call: from a recipe or a run and whatever the data are; going on, and starting from others."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

import unsteep
import unsteep.training.run
from command_line import made, unsteep_
from unsteep.data import Digits, Given, as_dataset
from unsteep.model import Model

SETTINGS = [
    "model.network.width=8",
    "model.network.groups=4",
    "model.network.multipliers=1,2",
    "model.network.blocks=1",
]
SETTINGS += ["model.network.attention="]
TRAIN = {"batch": 4, "warmup": 1, "checkpoint_every": 2, "preview_every": 50}
X = torch.randint(0, 256, (24, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def quiet(_: str) -> None:
    pass


def trained(out: Path, data: object = X, steps: int = 4, **how: object) -> Model:
    options = {"settings": SETTINGS, "device": "cpu", "say": quiet, **how}
    return unsteep.train("array", data=data, out=out, steps=steps, **TRAIN, **options)  # type: ignore[no-any-return, arg-type]


def same(a: Model, b: Model) -> bool:
    pairs = zip(a.denoiser.parameters(), b.denoiser.parameters(), strict=True)
    return all(torch.equal(one, other) for one, other in pairs)


class Pairs(Dataset[tuple[Tensor, int]]):
    """A torch data set of pictures and classes."""

    def __len__(self) -> int:
        return len(X)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return X[index], index % 2


def test_a_tensor_an_array_and_a_file_are_the_same_data(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", X.numpy()[:, 0])
    of_tensor, of_array, of_file = (
        trained(tmp_path / name, data) for name, data in (("a", X), ("b", X.numpy()), ("c", tmp_path / "x.npy"))
    )
    assert same(of_tensor, of_array)
    assert same(of_tensor, of_file)


def test_a_torch_data_set_with_classes(tmp_path: Path) -> None:
    model = trained(tmp_path / "run", Pairs(), settings=[*SETTINGS, "condition.label=true", "condition.drop=0.1"])
    assert model.names == ("0", "1")
    assert model.sample(2, label=torch.tensor(1), solver="ddim", steps=2, guidance=2.0).shape == (2, 1, 8, 8)


def test_what_was_given_goes_on_with_the_same_and_no_other(tmp_path: Path) -> None:
    constant = [*SETTINGS, "train.final_learning_rate=none", "train.ema=0.9"]  # 4 steps and 2 are then 6
    whole = trained(tmp_path / "whole", steps=6, settings=constant)
    trained(tmp_path / "run", steps=4, settings=constant)
    again = unsteep.train(None, data=X, out=tmp_path / "run", resume=True, steps=6, device="cpu", say=quiet)
    assert same(whole, again)
    for data, words in ((X[:20], "expected the 24 examples"), (None, "given from Python and lie in no file")):
        with pytest.raises(ValueError, match=words):
            unsteep.train(None, data=data, out=tmp_path / "run", resume=True, steps=8, device="cpu", say=quiet)


def test_repr_says_what_it_is(tmp_path: Path) -> None:
    said = repr(trained(tmp_path / "run"))
    for words in ("UNet", "parameters", "1 x 8 x 8", "unconditional", "on cpu", "after 4 steps", "averaged"):
        assert words in said


def test_the_callers_randomness_is_left_alone(tmp_path: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    trained(tmp_path / "run", settings=[*SETTINGS, "model.network.dropout=0.3"])
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"stepz": 5}, "stepz: unknown keyword; did you mean steps"),
        ({"settings": "train.steps=5"}, r"settings: expected a list"),
        ({"data": 5}, "data: expected a tensor, an array, a torch Dataset or a DataSet, got int"),
        ({"data": X[:0]}, "empty|at least one example"),
        ({"resume": True, "force": True}, "resume: goes on with a run as it is"),
        ({"device": "abacus"}, "device abacus: not available here"),
        ({"steps": 0}, "steps: expected at least 1, got 0"),
    ],
    ids=str,
)
def test_mistakes_leave_nothing(how: dict[str, object], words: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=words):
        trained(tmp_path / "run", **how)  # type: ignore[arg-type]
    assert not (tmp_path / "run").exists()


def test_a_recipe_that_nobody_knows(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="unknown recipe 'aray'; did you mean array"):
        unsteep.train("aray", data=X, out=tmp_path / "run")
    with pytest.raises(ValueError, match="expected the name of a recipe, or a run, got Given"):
        unsteep.train(Given(), data=X, out=tmp_path / "run")


def test_a_run_whose_checkpoints_are_all_damaged_is_not_trained_over(tmp_path: Path) -> None:
    trained(tmp_path / "run")
    for manifest in (tmp_path / "run" / "checkpoints").glob("*/manifest.json"):
        manifest.unlink()
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*.safetensors")}
    for call in (
        lambda: unsteep.load(tmp_path / "run"),
        lambda: unsteep.train(None, data=X, out=tmp_path / "run", resume=True, say=quiet),
    ):
        with pytest.warns(UserWarning, match="skipped step-"), pytest.raises(ValueError, match=r"every .*damaged"):
            call()
    assert {path: path.read_bytes() for path in (tmp_path / "run").rglob("*.safetensors")} == before


def test_half_precision_of_torch_is_read(tmp_path: Path) -> None:
    assert trained(tmp_path / "run", torch.rand(9, 1, 8, 8).bfloat16()).space.levels is None


# Starting from another's weights.


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("first") / "run"
    trained(out, settings=[*SETTINGS, "schedule=CosineBetas", "schedule.steps=50", "model.prediction=v"])
    return out


def test_weights_are_those_it_starts_from(first: Path, tmp_path: Path) -> None:
    """With a rate of nothing they stay; network, schedule and head come with them."""
    before = unsteep.load(first, device="cpu")
    for name, of in (("run", first), ("checkpoint", next((first / "checkpoints").iterdir()))):
        tuned = trained(tmp_path / name, 255 - X, start_from=of, settings=[], learning_rate=1e-12)
        assert tuned.description == before.description
        for a, b in zip(tuned.denoiser.parameters(), before.denoiser.parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-6)
    before.save(tmp_path / "saved")
    learned = trained(tmp_path / "more", 255 - X, start_from=tmp_path / "saved", settings=[], learning_rate=1e-2)
    assert not same(learned, before)


def test_it_goes_on_though_what_it_started_from_is_gone(first: Path, tmp_path: Path) -> None:
    unsteep.load(first, device="cpu").save(tmp_path / "saved")
    whole = trained(tmp_path / "whole", start_from=tmp_path / "saved", settings=[], steps=6)
    trained(tmp_path / "run", start_from=tmp_path / "saved", settings=[], steps=4)
    (tmp_path / "saved").rename(tmp_path / "elsewhere")
    again = unsteep.train(None, data=X, out=tmp_path / "run", resume=True, steps=6, device="cpu", say=quiet)
    assert same(whole, again)


@pytest.mark.parametrize(
    ("data", "settings", "words"),
    [
        (X.repeat(1, 3, 1, 1), (), "start_from: .* expected pictures of 1 x 8 x 8"),
        (X, ("schedule=LinearBetas",), "schedule: it stays what it is"),
        (X, ("model.prediction=eps",), "model: it stays what it is"),
    ],
)
def test_what_does_not_fit_is_refused(
    data: Tensor, settings: tuple[str, ...], words: str, first: Path, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=words):
        trained(tmp_path / "run", data, start_from=first, settings=list(settings))
    assert not (tmp_path / "run").exists()


def test_a_model_to_start_from_is_kept_first(first: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^start_from: expected the path of .*, got Model .*; save the model first"):
        trained(tmp_path / "run", start_from=unsteep.load(first, device="cpu"), settings=[])


def test_on_the_command_line(first: Path, tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    for i in range(8):
        Image.fromarray(X[i, 0].numpy()).save(tmp_path / "more" / f"{i}.png")
    options = [f"--set=train.{name}={value}" for name, value in {**TRAIN, "steps": 2, "learning_rate": 1e-5}.items()]
    run = tmp_path / "tuned"
    made("train", "folder", "--data", tmp_path / "more", "--start-from", first, *options, "--out", run)
    assert unsteep.load(run, device="cpu").description == unsteep.load(first, device="cpu").description
    assert f'start_from = "{first}"' in (run / "run.toml").read_text()
    code, _, err = unsteep_("train", "folder", "--data", tmp_path / "more", "--start-from", tmp_path / "nothing")
    assert code == 2
    assert "nothing" in err


def test_a_run_says_what_it_started_from(first: Path, tmp_path: Path) -> None:
    run = replace(unsteep.training.run.read_run(first), data=Given(), start_from=str(first))
    said: list[str] = []
    unsteep.train(run, data=X, out=tmp_path / "run", device="cpu", say=said.append)
    assert any("starts from" in line and str(first) in line for line in said)


def test_a_bare_array_is_read_as_the_recipes_kind_of_data(tmp_path: Path) -> None:
    """(n, a, b) is grey pictures for most, and sequences for the recipe that trains on them: resumed, too."""
    x = torch.randn(12, 8, 3)
    small = ["model.network.width=16", "model.network.depth=1", "train.batch=4"]
    for steps, resume in ((2, False), (3, True)):
        again = {} if resume else {"settings": small}
        model = unsteep.train("sequences", data=x, out=tmp_path / "run", steps=steps, resume=resume, **again)
        assert model.space.shape == (8, 3)
    with pytest.raises(ValueError, match="expected finite floats"):
        unsteep.train("sequences", data=torch.zeros(4, 8, 3, dtype=torch.uint8), out=tmp_path / "other", steps=1)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        (["model.network.groups=5"], "model.network.groups: expected a divisor"),
        (["model.network.attention=[5]"], r"model.network.attention: expected sizes among 8, 4"),
        (["train.steps=0"], "train.steps: expected at least 1"),
        (["schedule.steps=0"], "schedule.steps: "),
        (["condition.drop=2"], "condition.drop: "),
    ],
)
def test_a_wrong_setting_is_named_by_its_whole_key(settings: list[str], named: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"^{named}"):
        unsteep.train("digits", out=tmp_path / "run", settings=settings)


@pytest.mark.parametrize("size", [4, 7, 12, 24])
def test_a_recipes_network_fits_any_size(size: int, tmp_path: Path) -> None:
    x = torch.randint(0, 256, (8, 3, size, size), dtype=torch.uint8)
    small = ["model.network.width=8", "model.network.blocks=1"]
    for recipe in ("folder", "array"):
        model = unsteep.train(recipe, data=x, out=tmp_path / recipe, steps=1, batch=2, settings=small)
        assert model.space.shape == (3, size, size)


def test_a_model_is_saved_before_another_run_starts_from_it(tmp_path: Path) -> None:
    model = unsteep.train("digits", out=tmp_path / "run", steps=1, batch=2, settings=["model.network.width=8"])
    with pytest.raises(ValueError, match=r"start_from: expected the path .*model\.save\(PATH\)"):
        unsteep.train("digits", out=tmp_path / "other", start_from=model)


def test_classes_that_are_not_heard_are_said(tmp_path: Path) -> None:
    for heard in ("true", "false"):
        said: list[str] = []
        settings = ["model.network.width=8", f"condition.label={heard}"]
        unsteep.train("digits", out=tmp_path / heard, steps=1, batch=2, settings=settings, say=said.append)
        assert any("condition.label=true" in line for line in said) == (heard == "false")


def items(labels: list[Any]) -> list[tuple[torch.Tensor, Any]]:
    return [(torch.zeros(1, 8, 8, dtype=torch.uint8), label) for label in labels]


@pytest.mark.parametrize(
    "labels", [[0.7, 0.2], [0, -1], ["cat", "dog"], [[1, 0], [0, 1]], [torch.tensor(0.5)] * 2, [True, False]], ids=str
)
def test_labels_that_number_no_class_are_refused(labels: list[Any], tmp_path: Path) -> None:
    """Not cut to whole numbers, and not in torch's words."""
    data, settings = items(labels), ["condition.label=true"]
    with pytest.raises(ValueError, match=r"label: expected the number of a class, from 0"):
        unsteep.train("array", data=data, out=tmp_path / "run", steps=1, settings=settings)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ((4, 2, 9, 3), (2, 9, 3)),  # channels first, whatever the width
        ((4, 2, 5, 1), (2, 5, 1)),
        ((4, 2, 1, 1), (2, 1, 1)),
        ((4, 16, 8, 8), (16, 8, 8)),
        ((4, 3, 8, 3), (3, 8, 3)),
        ((4, 8, 8, 3), (3, 8, 8)),  # but square colours last
        ((4, 30, 20, 3), (3, 30, 20)),  # and where channels would be too many
        ((4, 17, 8, 8), None),
        ((4, 20, 20, 20), None),
    ],
)
def test_tensors_have_their_channels_first(given: tuple[int, ...], read: tuple[int, ...] | None) -> None:
    x = torch.randint(0, 256, given, dtype=torch.uint8)
    if read is None:
        with pytest.raises(ValueError, match="expected uint8"):
            as_dataset(x)
        return
    data: Any = as_dataset(x)
    assert tuple(data.x.shape[1:]) == read
    assert ("channels last" in data.source) == (read != given[1:])
    assert torch.equal(data.x, x if read == given[1:] else x.permute(0, 3, 1, 2))


def test_what_stays_in_what_it_starts_from_is_not_asked_otherwise(tmp_path: Path) -> None:
    """Not a condition that the model never heard, nor pictures of another size."""
    files = tmp_path / "pictures"
    for name in "ab":
        (files / name).mkdir(parents=True)
        for i in range(3):
            pixels = np.random.default_rng(i).integers(0, 256, (20, 20, 3), np.uint8)
            Image.fromarray(pixels).save(files / name / f"{i}.png")
    how: dict[str, Any] = {"data": files, "device": "cpu", "say": quiet, "batch": 2, "steps": 1}
    unsteep.train("folder", out=tmp_path / "run", settings=[*SETTINGS, "data.size=16"], **how)
    again = {**how, "start_from": tmp_path / "run", "out": tmp_path / "again"}
    for settings, message in (
        (["data.labelled=true", "condition.label=true"], "^condition: what the model hears stays what it is"),
        (["data.size=24"], "^start_from: .*16 x 16"),
    ):
        with pytest.raises(ValueError, match=message):
            unsteep.train("folder", settings=settings, **again)
    assert not (tmp_path / "again").exists()
    assert unsteep.train("folder", **again).space.shape == (3, 16, 16)


def test_a_run_does_not_overwrite_what_it_starts_from(tmp_path: Path) -> None:
    small = ["model.network.width=8"]
    unsteep.train("digits", out=tmp_path / "run", steps=1, batch=2, settings=small)
    [checkpoint] = (tmp_path / "run" / "checkpoints").glob("step-*")
    before = sorted(tmp_path.rglob("*"))
    for source in (tmp_path / "run", checkpoint):
        with pytest.raises(ValueError, match=r"out: .*from which the run starts; choose another"):
            unsteep.train("digits", out=tmp_path / "run", steps=1, batch=2, start_from=source, force=True)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_space_is_held_against_the_data_before_the_first_step(tmp_path: Path) -> None:
    run = unsteep.Run(data=Digits(), space=unsteep.Vectors(mean=(0.0,) * 3, std=(1.0,) * 3))
    with pytest.raises(ValueError, match=r"^(space|data|model\.network): "):
        unsteep.train(run, out=tmp_path / "run", steps=1)
    assert not (tmp_path / "run").exists()
