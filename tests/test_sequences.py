"""A first sequence, from a file to samples: padding changes nothing, and a length can be asked for."""

from pathlib import Path

import numpy as np
import pytest
import torch

import unsteep
from command_line import made, unsteep_
from unsteep.data.reading import every
from unsteep.data.timelines import Timelines
from unsteep.hearing import Length
from unsteep.model import Model
from unsteep.objectives import Hybrid
from unsteep.sampling import SOLVERS, Adaptive
from unsteep.training.log import read_log

FRAMES, FEATURES, N = 7, 3, 40
LENGTHS = torch.randint(2, FRAMES + 1, (N,), generator=torch.Generator().manual_seed(0)).tolist()
SETTINGS = ["model.network.width=16", "model.network.depth=1", "model.network.heads=2", "data.holdout=0.2"]
TRAIN = {"steps": 6, "batch": 8, "warmup": 1, "checkpoint_every": 6, "preview_every": 3}


def quiet(_: str) -> None:
    pass


def written(path: Path, junk: float, labels: bool = True) -> Path:
    """The same walks, of different lengths, with `junk` after their ends."""
    random = np.random.default_rng(1)
    x = (random.standard_normal((N, FRAMES, FEATURES)).cumsum(1) * (1, 5, 0.1) + (0, 40, -3)).astype(np.float32)
    for row, length in zip(x, LENGTHS, strict=True):
        row[length:] = junk
    classes = {"labels": np.arange(N) % 2} if labels else {}
    np.savez(path, x=x, lengths=np.array(LENGTHS), **classes)
    return path


@pytest.fixture(scope="module", params=["plain", "learned variance"])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two runs on the same sequences, of which one has junk of 1e4 in the padding."""
    folder = tmp_path_factory.mktemp("sequences")
    runs = []
    settings = [*SETTINGS, "condition.label=true", "condition.drop=0.2"]
    if request.param == "learned variance":
        settings += ["model.variance=learned", f"objective={Hybrid.__name__}", "schedule.steps=50"]
    for name, junk in (("clean", 0.0), ("junk", 1e4)):
        data = written(folder / f"{name}.npz", junk)
        out = folder / name
        unsteep.train("sequences", data=data, out=out, settings=settings, device="cpu", say=quiet, **TRAIN)  # type: ignore[arg-type]
        runs.append(out)
    return runs[0], runs[1]


@pytest.fixture(scope="module")
def models(pair: tuple[Path, Path]) -> tuple[Model, Model]:
    return unsteep.load(pair[0], device="cpu"), unsteep.load(pair[1], device="cpu")


def test_junk_in_the_padding_changes_nothing_of_training(pair: tuple[Path, Path], models: tuple[Model, Model]) -> None:
    clean, junk = models
    assert clean.space == junk.space
    for (name, one), other in zip(
        clean.denoiser.state_dict().items(), junk.denoiser.state_dict().values(), strict=True
    ):
        assert torch.equal(one, other), name
    assert clean.statistics.keys() == junk.statistics.keys()
    for name, one in clean.statistics.items():
        assert torch.equal(one, junk.statistics[name]), name
    losses = [[(r["loss"], r["gradient_norm"]) for r in read_log(run / "log.jsonl")] for run in pair]
    assert losses[0] == losses[1]


def test_nor_of_its_pictures(pair: tuple[Path, Path]) -> None:
    for name in ("samples.png", "previews/step-00000003.png"):
        assert (pair[0] / name).read_bytes() == (pair[1] / name).read_bytes(), name


def test_nor_of_the_bound(models: tuple[Model, Model], pair: tuple[Path, Path]) -> None:
    bits = []
    for model, run in zip(models, pair, strict=True):
        rows = every(Timelines(path=str(run.with_suffix(".npz")), holdout=0.2).read("test"))
        condition = unsteep.Condition(label=rows.label, valid=rows.valid)
        bits.append(model.likelihood(rows.x, condition, terms=4).bits_per_dim())
    assert torch.equal(*bits)
    assert float(bits[0].abs().max()) < 40


@pytest.mark.parametrize("name", SOLVERS)
def test_nor_of_what_is_drawn(models: tuple[Model, Model], name: str) -> None:
    how = {"solver": name, "length": [3, 7], "steps": 4, "label": 1, "seed": 2}
    one, other = (model.sample(2, **how) for model in models)  # type: ignore[arg-type]
    assert [len(x) for x in one] == [3, 7]
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_nor_under_guidance_with_thresholds_and_adaptive_steps(models: tuple[Model, Model]) -> None:
    guided = unsteep.Guidance(scale=2.0, rescale=0.5, interval=(0.1, 0.9))
    for how in ({"guidance": guided, "steps": 5}, {"solver": Adaptive(tolerance=0.3)}):
        one, other = (model.sample(2, length=4, label=0, **how) for model in models)  # type: ignore[arg-type]
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_a_sample_is_its_own_whoever_is_beside_it(models: tuple[Model, Model]) -> None:
    """Longer neighbours make it no other."""
    alone = models[0].sample(1, length=3, label=1, seed=4, steps=4)[0]
    beside = models[0].sample(2, length=[7, 3], label=1, seed=3, steps=4)[1]
    torch.testing.assert_close(alone, beside, rtol=1e-5, atol=1e-5)


def test_lengths_are_drawn_as_the_data_have_them(models: tuple[Model, Model]) -> None:
    lengths = [len(x) for x in models[0].sample(200, steps=1)]
    assert set(lengths) == set(LENGTHS)


@pytest.mark.parametrize("length", [0, FRAMES + 1, -1, 2.5, "three", True])
def test_a_length_that_cannot_be_is_refused(models: tuple[Model, Model], length: object) -> None:
    with pytest.raises(ValueError, match="length: expected"):
        models[0].sample(2, length=length, steps=1)


def test_the_verbs_and_the_command_line(pair: tuple[Path, Path], models: tuple[Model, Model], tmp_path: Path) -> None:
    made("show", pair[0])
    made("check", pair[0], "--only", "run")
    made("likelihood", pair[0], "-n", 4, "--terms", 3, "--out", tmp_path / "bits")
    made("sample", pair[0], "-n", 3, "--length", 5, "--steps", 3, "--out", tmp_path / "a.png")
    made("sample", pair[0], "-n", 3, "--length", 5, "--steps", 3, "--out", tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz") as stored:
        assert {name: stored[name].shape for name in stored.files}["x"][0] == 3
    again = unsteep_("evaluate", pair[0], "-n", 20, "--out", tmp_path / "no")
    assert again[0] == 2
    assert "sequences" in again[2]


def test_what_is_made_of_a_sequence_has_its_length(models: tuple[Model, Model]) -> None:
    model = models[0]
    x, y = (torch.randn(5, FEATURES, generator=torch.Generator().manual_seed(i)) for i in range(2))
    assert {len(one) for one in unsteep.redraw(model, x, n=2, steps=2, label=1)} == {5}
    mask = torch.tensor([False, False, True, True, False])[:, None]
    filled = unsteep.fill(model, x, mask, n=2, steps=3, label=1, jump=1, resamples=1)
    assert {len(one) for one in filled} == {5}
    for one in filled:
        torch.testing.assert_close(one[~mask[:, 0]], x[~mask[:, 0]], rtol=1e-6, atol=1e-6)
    assert {len(one) for one in unsteep.interpolate(model, x, y, frames=3, steps=2)} == {5}
    assert {len(one) for one in unsteep.interpolate(model, x, y, method="slerp", frames=3, steps=2)} == {5}
    with pytest.raises(ValueError, match="b: expected the shape of a"):
        unsteep.interpolate(model, x, y[:3])
    with pytest.raises(ValueError, match="picture: expected finite numbers"):
        unsteep.redraw(model, x * torch.nan)


def test_it_has_no_length_where_there_is_none() -> None:
    with pytest.raises(ValueError, match="length: this model makes no sequences"):
        unsteep.load(Path(__file__).parent / "fixtures" / "0.1" / "run", device="cpu").sample(1, length=3)


def test_a_tensor_with_lengths_trains_too(tmp_path: Path) -> None:
    x = torch.randn(12, 5, 2, generator=torch.Generator().manual_seed(0))
    valid = torch.arange(5) < torch.tensor([2, 5, 3] * 4)[:, None]
    data = unsteep.Examples(x, levels=None, valid=valid, source="mine")
    model = unsteep.train("sequences", data=data, out=tmp_path / "run", settings=SETTINGS[:3], say=quiet, **TRAIN)  # type: ignore[arg-type]
    assert model.description.hearing("length") == Length(counts=(0, 0, 4, 4, 0, 4), frames=5)
