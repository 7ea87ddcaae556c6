"""A model: what it makes, how its samples depend on seeds and labels, and how it is kept on disk."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import unsteep
from unsteep.core.chains import CosineBetas, LinearBetas
from unsteep.core.noise import NoiseSource
from unsteep.core.schedules import AnySchedule, Flow
from unsteep.hearing import Label
from unsteep.model import Description, Model, ModelConfig
from unsteep.networks import MLPConfig, UNetConfig
from unsteep.networks.sequence import SequenceConfig
from unsteep.sampling import DDIM, Ancestral
from unsteep.spaces import Pixels, Vectors
from unsteep.storage import config
from unsteep.storage.manifest import Corrupt

TINY = UNetConfig(width=8, groups=4, multipliers=(1, 2), blocks=1, attention=())
NAMES = ("cat", "dog", "7", "owl")
COUNTS = torch.tensor([10, 0, 60, 30])
STEPS = 5


def pictures(names: tuple[str, ...] = NAMES, channels: int = 1, schedule: AnySchedule | None = None) -> Description:
    space = Pixels(channels=channels, size=8)
    return Description(
        model=ModelConfig(network=TINY),
        schedule=schedule or LinearBetas(),
        space=space,
        hears=(Label(names=names),) if names else (),
    ).filled()


def vectors(prediction: Any = "x0") -> Description:
    return Description(
        model=ModelConfig(network=MLPConfig(width=16, depth=1), prediction=prediction),
        schedule=LinearBetas(),
        space=Vectors(mean=(100.0, -5.0), std=(3.0, 0.1)),
    ).filled()


def model_of(description: Description, *, stirred: bool = True, statistics: dict[str, Tensor] | None = None) -> Model:
    """An untrained network answers 0 to everything; `stirred`, its weights are random and it hears what it is told."""
    torch.manual_seed(0)
    denoiser = description.build()
    if stirred:
        for weight in denoiser.parameters():
            weight.data += 0.2 * torch.randn_like(weight)
    return Model(denoiser, description, statistics)


@pytest.fixture(scope="module")
def model() -> Model:
    return model_of(pictures(), statistics={"label_counts": COUNTS})


@pytest.fixture(scope="module")
def unlabelled() -> Model:
    return model_of(pictures(names=()))


def last(model: Model, seed: int, n: int, labels: Tensor | None = None, **how: Any) -> Tensor:
    """The x that sampling ends with, before it is decoded."""
    *_, step = model.trajectory(seed, n, labels, STEPS, **how)
    return step.x


# What comes out.


@pytest.mark.parametrize("n", [1, 5])
@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_are_bytes(n: int, channels: int) -> None:
    samples = model_of(pictures(channels=channels)).sample(n, steps=2, batch_size=3)
    assert samples.shape == (n, channels, 8, 8)
    assert samples.dtype == torch.uint8
    assert samples.float().std() > 10


def test_an_untrained_x0_head_makes_the_middle_of_the_space() -> None:
    """Its estimate of x0 is 0 and the last step ends at the estimate: middle grey, or the mean of the vectors."""
    grey = pictures(names=())
    grey = replace(grey, model=replace(grey.model, prediction="x0"))
    assert set(model_of(grey, stirred=False).sample(3, steps=3).unique().tolist()) == {128}
    rows = model_of(vectors(), stirred=False).sample(3, steps=3, solver="ddim")
    assert rows.dtype == torch.float32
    assert torch.equal(rows, torch.tensor([[100.0, -5.0]] * 3))


def test_sampling_starts_from_the_noise_of_the_seeds() -> None:
    """A head that sees no noise anywhere lets DDIM only rescale: x / alpha stays what it was at the first level."""
    model = model_of(vectors("eps"), stirred=False)
    z = NoiseSource(range(7, 10)).normal(torch.empty(3, 2), draw=0)
    alpha = float(model.denoiser.schedule(1.0).alpha)
    expected = model.space.decode(z / alpha)
    torch.testing.assert_close(model.sample(3, seed=7, steps=4, solver="ddim"), expected, rtol=1e-4, atol=0)


def test_steps_walk_down_to_the_clean_level(model: Model) -> None:
    steps = list(model.trajectory(0, 2, torch.tensor([0, 1]), 4))
    times = [float(step.level.t) for step in steps]
    assert len(steps) == 4
    assert times == sorted(times, reverse=True)
    assert float(steps[0].estimate.level.t) == 1
    assert times[-1] == 0
    assert [float(step.estimate.level.t) for step in steps[1:]] == times[:-1]
    assert torch.equal(model.space.decode(steps[-1].x), model.sample(2, label=[0, 1], steps=4))


def test_clip_keeps_estimates_in_the_range_of_pictures(unlabelled: Model) -> None:
    def largest(clip: bool) -> float:
        return max(float(step.estimate.x0.abs().max()) for step in unlabelled.trajectory(0, 2, steps=STEPS, clip=clip))

    assert largest(clip=False) > 2
    assert largest(clip=True) <= 1 + 1e-5


def test_sampling_leaves_gradients_as_they_were(unlabelled: Model) -> None:
    assert not unlabelled.sample(1, steps=1).requires_grad
    for step in unlabelled.trajectory(0, 1, steps=2):
        assert torch.is_grad_enabled()
        assert not step.x.requires_grad


def test_flow_starts_where_nothing_of_the_data_is_left() -> None:
    description = pictures(names=(), schedule=Flow())
    description = replace(description, model=replace(description.model, prediction="flow"))
    assert model_of(description).sample(2, steps=3).shape == (2, 1, 8, 8)


# Seeds.

SOLVERS = [DDIM(), DDIM(eta=1.0), Ancestral()]


@pytest.mark.parametrize("solver", SOLVERS, ids=str)
def test_a_seed_is_a_sample_whatever_its_batch(model: Model, solver: Any) -> None:
    together = last(model, 3, 8, torch.full((8,), 1), solver=solver)
    for i in (0, 5, 7):
        alone = last(model, 3 + i, 1, torch.tensor([1]), solver=solver)
        torch.testing.assert_close(together[i : i + 1], alone, rtol=0, atol=2e-4)  # float32, after five steps
    assert (together[1:] - together[:-1]).abs().amax((1, 2, 3)).min() > 0.01


@pytest.mark.parametrize("solver", SOLVERS, ids=str)
def test_the_same_call_is_bit_equal(model: Model, solver: Any) -> None:
    """A seed at another place in a batch is the same to rounding."""
    label = torch.full((4,), 2)
    once = last(model, 0, 4, label, solver=solver)
    assert torch.equal(last(model, 0, 4, label, solver=solver), once)
    torch.testing.assert_close(last(model, 2, 4, label, solver=solver)[:2], once[2:], rtol=0, atol=2e-4)


def test_samples_are_those_of_consecutive_seeds(model: Model) -> None:
    """Labels included, which a seed draws for itself; split over batches or one by one."""
    together = model.sample(7, seed=10, steps=STEPS).int()
    assert (together - model.sample(7, seed=10, steps=STEPS, batch_size=2).int()).abs().max() <= 1
    for i in range(7):
        alone = model.sample(1, seed=10 + i, steps=STEPS).int()
        assert (together[i : i + 1] - alone).abs().max() <= 1


def test_batches_of_equal_size_are_bit_equal(model: Model) -> None:
    assert torch.equal(
        model.sample(8, steps=STEPS, batch_size=4)[4:], model.sample(4, seed=4, steps=STEPS, batch_size=4)
    )


# Labels.


def test_labels_by_number_name_and_one_each(model: Model) -> None:
    for label, numbers in [(3, [3, 3]), ("owl", [3, 3]), ("3", [3, 3]), (["dog", 2], [1, 2]), ("7", [2, 2])]:
        labels = model.labels_of(2, label)
        assert labels is not None
        assert labels.dtype == torch.int64
        assert labels.tolist() == numbers


def test_the_label_reaches_the_network(model: Model) -> None:
    cats, owls = model.sample(2, label="cat", steps=STEPS), model.sample(2, label="owl", steps=STEPS)
    assert not torch.equal(cats, owls)
    assert torch.equal(model.sample(2, label=["cat", "owl"], steps=STEPS), torch.stack([cats[0], owls[1]]))


def test_a_digit_alone_is_known_by_its_name() -> None:
    assert model_of(pictures(names=("4",))).labels_of(1, "4") == torch.tensor([0])


@pytest.mark.parametrize("label", ["cow", 4, -1, "-1", ["cat", "cow"]])
def test_an_unknown_label_lists_the_classes(model: Model, label: Any) -> None:
    with pytest.raises(ValueError, match=r"is not a class .* 0 \(cat\), 1 \(dog\), 2 \(7\), 3 \(owl\)$"):
        model.labels_of(2, label)


def test_as_many_labels_as_samples(model: Model) -> None:
    with pytest.raises(ValueError, match="one label or 3, one for each sample; got 2"):
        model.sample(3, label=["cat", "dog"])


def test_an_unconditional_model_takes_no_label(unlabelled: Model) -> None:
    assert unlabelled.labels_of(3) is None
    with pytest.raises(ValueError, match=r"trained without labels.*condition\.label=true"):
        unlabelled.sample(1, label=0)


def test_without_a_label_classes_come_as_often_as_in_the_data(model: Model) -> None:
    n = 3000
    labels = model.labels_of(n)
    assert labels is not None
    drawn, expected = torch.bincount(labels, minlength=4), n * COUNTS / COUNTS.sum()
    assert drawn[1] == 0
    assert ((drawn - expected).abs() <= 5 * expected.sqrt()).all()
    far = model.labels_of(4, seed=n - 2)
    assert far is not None
    assert far[:2].tolist() == labels[-2:].tolist()


def test_without_statistics_classes_come_alike() -> None:
    labels = model_of(pictures()).labels_of(2000)
    assert labels is not None
    assert (torch.bincount(labels, minlength=4) - 500).abs().max() < 5 * 500**0.5


def test_the_labels_drawn_are_the_labels_sampled(model: Model) -> None:
    labels = model.labels_of(5, seed=3)
    assert labels is not None
    assert len(set(labels.tolist())) > 1
    assert torch.equal(model.sample(5, seed=3, steps=2), model.sample(5, seed=3, steps=2, label=labels.tolist()))


# Mistakes.


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"n": 0}, "n: expected at least 1 sample, got 0"),
        ({"n": -2}, "n: expected at least 1 sample, got -2"),
        ({"n": 1, "steps": 0}, "steps: expected at least 1, got 0"),
        ({"n": 1, "steps": 1001}, "chain has 1000 levels, got 1001"),
        ({"n": 1, "batch_size": 0}, "batch_size: expected at least 1"),
        ({"n": 1, "seed": 2**63}, "seed: expected a whole number of 64 bits"),
        ({"n": 1, "grid": "karas"}, "unknown grid 'karas'; known: trailing"),
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", ["model", "unlabelled"])
def test_what_sample_refuses(kind: str, how: dict[str, Any], words: str, request: pytest.FixtureRequest) -> None:
    with pytest.raises(ValueError, match=words):
        request.getfixturevalue(kind).sample(**how)


def test_a_class_is_no_name_of_a_solver(unlabelled: Model) -> None:
    with pytest.raises(ValueError, match=r"^solver: expected a name, got 'mine:Own', which names a class; give an ins"):
        unlabelled.sample(1, solver="mine:Own")


def test_the_whole_range_of_seeds(unlabelled: Model) -> None:
    first, second = (unlabelled.sample(1, seed=s, steps=1) for s in (-(2**63), 2**63 - 1))
    assert not torch.equal(first, second)


def test_a_network_of_the_wrong_kind_for_the_data() -> None:
    with pytest.raises(
        ValueError, match=r"a U-Net takes pictures, and these data are rows of 2 numbers; set model\.network=MLP"
    ):
        replace(vectors(), model=ModelConfig(network=TINY)).filled()
    with pytest.raises(ValueError, match=r"transformer for sequences .* pictures of 1 x 8 x 8.*; set model\.network="):
        replace(pictures(), model=ModelConfig(network=SequenceConfig())).filled()


@pytest.mark.parametrize("variance", ["fixed", "learned"])
def test_sizes_are_those_of_the_data(variance: Any) -> None:
    twice = 2 if variance == "learned" else 1
    unet = replace(pictures(channels=3), model=ModelConfig(network=TINY, variance=variance)).filled().model.network
    assert isinstance(unet, UNetConfig)
    assert (unet.channels, unet.size, unet.labels, unet.out_channels) == (3, 8, 4, 3 * twice)
    mlp = replace(vectors(), model=ModelConfig(network=MLPConfig(), variance=variance)).filled().model.network
    assert isinstance(mlp, MLPConfig)
    assert (mlp.features, mlp.labels, mlp.out_features) == (2, 0, 2 * twice)


def test_a_learned_variance_samples() -> None:
    description = pictures()
    description = replace(description, model=replace(description.model, variance="learned")).filled()
    model = model_of(description)
    learned, fixed = (model.sample(2, steps=STEPS, solver=Ancestral(variance=v)) for v in ("learned", "beta"))
    assert not torch.equal(learned, fixed)


def test_no_bar_where_there_is_no_terminal(unlabelled: Model, capfd: pytest.CaptureFixture[str]) -> None:
    unlabelled.sample(2, steps=2, progress=True)
    assert capfd.readouterr() == ("", "")


# On disk.


@pytest.mark.parametrize("description", [pictures(), pictures(schedule=CosineBetas(steps=7)), vectors()], ids=str)
def test_saved_and_opened_it_is_bit_equal(description: Description, tmp_path: Path) -> None:
    model = model_of(description, statistics={"label_counts": COUNTS})
    model.save(tmp_path / "a" / "model")
    again = unsteep.load(tmp_path / "a" / "model")
    assert again.description == model.description
    assert again.names == model.names
    assert not again.denoiser.training
    weights = model.denoiser.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in again.denoiser.state_dict().items())
    assert torch.equal(again.statistics["label_counts"], COUNTS)
    assert torch.equal(again.sample(4, steps=STEPS), model.sample(4, steps=STEPS))
    assert config.loads(Description, (tmp_path / "a" / "model" / "model.toml").read_text()) == model.description


def test_saving_replaces_a_model_and_nothing_else(tmp_path: Path) -> None:
    first, second = model_of(pictures()), model_of(pictures(names=()))
    first.save(tmp_path / "model")
    second.save(tmp_path / "model")
    assert unsteep.load(tmp_path / "model").names == ()
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "1.png").write_bytes(b"dear")
    for precious in (photos, photos / "1.png"):
        with pytest.raises(ValueError, match="is not a saved model; choose another path"):
            first.save(precious)
    assert (photos / "1.png").read_bytes() == b"dear"


@pytest.mark.parametrize("file", ["weights.safetensors", "statistics.safetensors", "model.toml"])
def test_a_flipped_bit_is_noticed_and_named(file: str, tmp_path: Path) -> None:
    model_of(pictures(), statistics={"label_counts": COUNTS}).save(tmp_path / "model")
    path = tmp_path / "model" / file
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    with pytest.raises(Corrupt, match=f"{file}: its bytes are not those that were written"):
        unsteep.load(tmp_path / "model")


def test_what_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nowhere does not exist"):
        unsteep.load(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="is neither a run nor a saved model; give the folder that unsteep train"):
        unsteep.load(tmp_path)
    (tmp_path / "file").write_text("?")
    with pytest.raises(ValueError, match="file is neither a run nor a saved model"):
        unsteep.load(tmp_path / "file")
    (tmp_path / "run.toml").write_text("")
    with pytest.raises(ValueError, match="has no checkpoint yet; train it with: unsteep train --resume --out"):
        unsteep.load(tmp_path)
    model_of(pictures()).save(tmp_path / "model")
    with pytest.raises(ValueError, match=r"ema\.safetensors: expected a safetensors file, got nothing"):
        unsteep.load(tmp_path / "model", weights="ema")


def test_an_ancestral_sampler_takes_the_variance_of_the_model() -> None:
    """Without a name, its own; "optimal" by the error it measured, beta_tilde where it makes none; unknown, refused."""
    table = torch.tensor([[-10.0, 10.0], [1e-30, 1e-30]], dtype=torch.float64)
    exact = model_of(pictures(names=()), statistics={"x0_error": table})
    assert torch.equal(last(exact, 3, 2, solver=Ancestral()), last(exact, 3, 2, solver=Ancestral(variance="beta")))
    tilde = last(exact, 3, 2, solver=Ancestral(variance="beta_tilde"))
    torch.testing.assert_close(last(exact, 3, 2, solver=Ancestral(variance="optimal")), tilde, rtol=0, atol=1e-6)
    with pytest.raises(ValueError, match="this model has none"):
        last(model_of(pictures(names=())), 3, 2, solver=Ancestral(variance="optimal"))
    learned = pictures(names=())
    learned = replace(learned, model=replace(learned.model, variance="learned")).filled()
    model = model_of(learned)
    assert torch.equal(last(model, 3, 2, solver=Ancestral()), last(model, 3, 2, solver=Ancestral(variance="learned")))
    assert not torch.equal(last(model, 3, 2, solver=Ancestral()), last(model, 3, 2, solver=Ancestral(variance="beta")))
