"""What training keeps in memory: blocks that are computed again give the same bits, and keep less."""

import re
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from command_line import made, unsteep_
from small_models import saved
from unsteep.cli import allocator
from unsteep.cli.writing import write_samples
from unsteep.core import budget
from unsteep.core.chains import LinearBetas
from unsteep.core.noise import Draw
from unsteep.data import Examples
from unsteep.data.batch import Batch
from unsteep.denoiser import Denoiser
from unsteep.evaluation.evaluate import evaluate
from unsteep.evaluation.held import KEPT, Real
from unsteep.evaluation.subjects import BATCH
from unsteep.metrics import manifold
from unsteep.metrics.seen import Seen
from unsteep.networks import DiTConfig, MLPConfig, SequenceConfig, SequenceDiTConfig, UNetConfig, recomputing, taking
from unsteep.networks.blocks import ResidualBlock
from unsteep.networks.encoder import EncoderConfig
from unsteep.objectives import Simple
from unsteep.pages.arrays import read_samples, write_parts
from unsteep.starting import configured
from unsteep.training import memory
from unsteep.training import run as runs
from unsteep.training.loop import Single, State, train
from unsteep.training.settings import TrainConfig

PICTURE = (2, 8, 8)
SMALL: dict[str, Any] = {"channels": 2, "size": 8, "width": 8, "groups": 2}
NETWORKS: dict[str, tuple[Any, tuple[int, ...]]] = {
    "unet": (UNetConfig(**SMALL, multipliers=(1, 2), attention=(4,), dropout=0.3), PICTURE),
    "dit": (DiTConfig(channels=2, size=8, width=16, depth=3, heads=2), PICTURE),
    "sequence": (SequenceConfig(features=2, width=16, depth=3, dropout=0.3), (5, 2)),
    "sequence-dit": (SequenceDiTConfig(features=2, width=16, depth=3), (5, 2)),
    "mlp": (MLPConfig(features=3, width=16, depth=3), (3,)),
}  # fmt: skip
each_network = pytest.mark.parametrize("name", NETWORKS)


def trained(name: str, steps: int = 3, **settings: Any) -> tuple[list[float], dict[str, Tensor]]:
    """Losses and averaged weights of a short training."""
    config, shape = NETWORKS[name]
    of = TrainConfig(steps=steps, batch=4, warmup=1, learning_rate=1e-2, ema=0.5, **settings)
    torch.manual_seed(0)
    state = State(Denoiser(config.build(), LinearBetas()), of, Simple())
    x = torch.randn(4, *shape, generator=torch.Generator().manual_seed(1))

    def parts(step: int) -> Iterator[tuple[Batch, Draw]]:
        for places in torch.arange(4).chunk(of.accumulate):
            yield Batch(x[places], None, places), Draw(0, step, places, 4)

    losses = [record.loss for record in train(Single(state, parts), of)]
    return losses, dict(state.ema.module.state_dict())


def kept_by(forward: Callable[[], Tensor]) -> int:
    """Bytes that a forward pass keeps for the gradient."""
    storages: dict[int, tuple[Tensor, int]] = {}

    def note(x: Tensor) -> Tensor:
        storages[x.untyped_storage().data_ptr()] = x, x.untyped_storage().nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(note, lambda x: x):
        answer = forward()
    assert answer.requires_grad
    return sum(size for _, size in storages.values())


@each_network
def test_training_with_checkpointing_gives_the_same_bits(name: str) -> None:
    plain, again = trained(name), trained(name, checkpointing=True)
    assert again[0] == plain[0]
    assert again[1].keys() == plain[1].keys()
    assert all(torch.equal(again[1][key], value) for key, value in plain[1].items())


@pytest.mark.parametrize("name", [*NETWORKS, "encoder"])
def test_checkpointing_keeps_less_and_only_while_training(name: str) -> None:
    config, shape = NETWORKS.get(name, (EncoderConfig(channels=2, classes=3, width=16, groups=4), PICTURE))
    network = config.build()
    x, level = torch.randn(16, *shape), torch.rand(16)
    for mode, shrinks in ((network.train, True), (network.eval, False)):
        mode()
        whole = kept_by(lambda: network(x, level))
        copy = config.build().train(network.training)
        recomputing.recomputing(copy)
        fewer = kept_by(lambda copy=copy: copy(x, level))  # type: ignore[misc]
        assert fewer < 0.6 * whole if shrinks else fewer == whole


def test_what_is_cheap_is_computed_again_bit_for_bit_and_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    kept, told = [], []
    for least in (10**9, 1):
        monkeypatch.setattr(recomputing, "LEAST", least)
        told.append(trained("unet"))
        network = NETWORKS["unet"][0].build().train()
        kept.append(kept_by(lambda network=network: network(torch.randn(64, 2, 8, 8), torch.rand(64))))  # type: ignore[misc]
    assert told[0][0] == told[1][0]
    assert all(torch.equal(told[1][1][key], value) for key, value in told[0][1].items())
    assert kept[1] < 0.6 * kept[0]


def test_a_network_without_blocks_is_refused_and_one_of_ones_own_opts_in() -> None:
    class Own(nn.Sequential):
        def recomputable(self) -> Iterator[nn.Module]:
            return iter(self)

    layers = [nn.Sequential(nn.Linear(8, 64), nn.Tanh(), nn.Linear(64, 8)) for _ in range(4)]
    x = torch.randn(4, 8)
    with pytest.raises(ValueError, match=r"checkpointing: .*recomputable"):
        recomputing.recomputing(nn.Sequential(*layers))
    own = Own(*layers)
    before = kept_by(lambda: own(x))
    recomputing.recomputing(own)
    assert kept_by(lambda: own(x)) < 0.5 * before


def test_samples_are_written_as_they_come(tmp_path: Path) -> None:
    """However many there are, the first and the last part are all that is held."""
    alive: list[weakref.ref[np.ndarray]] = []

    def parts() -> Iterator[np.ndarray]:
        for i in range(5):
            assert sum(one() is not None for one in alive) <= 2
            part = np.full((4, 3, 2, 2), i, np.uint8)
            alive.append(weakref.ref(part))
            yield part
            del part

    write_parts(tmp_path / "x.npz", parts(), 20, np.arange(20))
    x, labels = read_samples(tmp_path / "x.npz")
    assert x.shape == (20, 3, 2, 2)
    assert x[:, 0, 0, 0].tolist() == [i // 4 for i in range(20)]
    assert labels is not None
    assert labels.tolist() == list(range(20))


def test_the_allocator_is_left_alone_where_it_is_another_one_or_a_users_own(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[int, int]] = []
    library = type("Library", (), {"mallopt": lambda self, name, value: calls.append((name, value)) or 1})()
    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda name: library)
    for name in allocator.OWN:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(allocator.platform, "libc_ver", lambda: ("", ""))
    assert not allocator.keep_freed()
    monkeypatch.setattr(allocator.platform, "libc_ver", lambda: ("glibc", "2.36"))
    monkeypatch.setenv("MALLOC_MMAP_THRESHOLD_", "1")
    assert not allocator.keep_freed()
    assert calls == []
    monkeypatch.delenv("MALLOC_MMAP_THRESHOLD_")
    assert allocator.keep_freed()
    assert {name for name, _ in calls} == {allocator.TRIM, allocator.MMAP}


class Streaming:
    """Pictures that are made as they are asked for: no more than two batches are ever held."""

    labels, names, shape = None, (), (1, 4, 4)

    def __init__(self, n: int) -> None:
        self.n, self.alive = n, list[weakref.ref[Any]]()

    def batches(self) -> Iterator[Tensor]:
        for start in range(0, self.n, BATCH):
            assert sum(one() is not None for one in self.alive) <= 2
            batch = torch.randint(0, 256, (min(BATCH, self.n - start), *self.shape), dtype=torch.uint8)
            self.alive.append(weakref.ref(batch.untyped_storage()))
            yield batch
            del batch

    def facts(self) -> dict[str, Any]:
        return {}


class Means:
    """Features that hold on to nothing: means of rows."""

    name, digest, dimension, resize = "means", "", 4, "none"

    def __call__(self, pictures: Tensor) -> Seen:
        return Seen(pictures.float().mean((1, 3)))


def test_evaluation_holds_features_and_the_first_pictures_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    widest: list[int] = []
    distances = manifold.squared_distances

    def noted(a: Tensor, b: Tensor) -> Tensor:
        widest.append(len(a) * len(b))
        return distances(a, b)

    monkeypatch.setattr(manifold, "squared_distances", noted)
    monkeypatch.setattr(manifold.manifold, "__kwdefaults__", {**manifold.manifold.__kwdefaults__, "held": 2**16})
    x = torch.randint(0, 256, (400, 1, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    real = Real(Examples(x[:200], levels=256, source="some"), Examples(x[200:], levels=256, source="others"))
    subject = Streaming(6 * BATCH)
    found = evaluate(subject, real, Means(), ("fid", "kid", "precision", "recall"))
    assert len(subject.alive) == 6
    assert len(found.kept) == min(KEPT, subject.n)
    assert max(widest) <= 2**16


def test_samples_go_to_a_folder_as_they_come(tmp_path: Path) -> None:
    alive: list[weakref.ref[Any]] = []

    def parts() -> Iterator[Tensor]:
        for i in range(5):
            assert sum(one() is not None for one in alive) <= 1
            part = torch.full((4, 3, 2, 2), i, dtype=torch.uint8)
            alive.append(weakref.ref(part.untyped_storage()))
            yield part
            del part

    write_samples(cast(Any, SimpleNamespace(names=())), tmp_path / "x", parts(), REQUEST, None, None)
    assert len(list((tmp_path / "x").glob("*.png"))) == 20


REQUEST = cast(Any, SimpleNamespace(condition=None, n=20))


# What a training will take, told before it does.


def task_of(name: str, **settings: Any) -> Single:
    config, shape = NETWORKS[name]
    of = TrainConfig(batch=64, **settings)
    state = State(Denoiser(config.build(), LinearBetas()), of, Simple())
    x = torch.randn(64, *shape)

    def parts(step: int) -> Iterator[tuple[Batch, Draw]]:
        for places in torch.arange(64).chunk(of.accumulate):
            yield Batch(x[places], None, places), Draw(0, step, places, 64)

    return Single(state, parts)


def step_of(task: Single) -> int:
    called = memory._called(task)
    assert [one.grad for one in called[1].parameters()] == [None] * len(list(called[1].parameters()))
    state, network, given, named = called
    return taking.taken(network, given, named, state.device, state.precision.precision, True)


@each_network
def test_what_a_step_is_expected_to_take_is_what_operations_make(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same sum over a step with numbers."""
    monkeypatch.setattr(recomputing, "LEAST", 1)
    task = task_of(name)
    wanted = step_of(task)
    _, network, given, named = memory._called(task)
    with taking.Sizes() as sizes:
        network(*given, **named).square().sum().backward()
    assert wanted == pytest.approx(sizes.most, rel=0.02)
    assert wanted >= sum(p.numel() * 4 for p in network.parameters())  # the gradients at least


def test_sizes_are_those_of_what_lives_and_views_take_none() -> None:
    with taking.Sizes() as sizes:
        x = torch.zeros(1000)
        y = x.view(10, 100)[3:] + 1
        del y
        z = x.reshape(20, 50)
        del x
        z.mul_(2)
    assert sizes.live == 4000
    assert sizes.most == 4000 + 2800


def test_a_norm_is_not_held_while_the_gradient_of_its_convolution_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a decoder's block: the activations, their gradient and its copy, and not what they were made from."""
    monkeypatch.setattr(recomputing, "LEAST", 1)
    block = ResidualBlock(96, 32, condition_features=0, groups=8, dropout=0.0).train()
    x = torch.randn(16, 64, 16, 16, requires_grad=True)
    with taking.Sizes() as sizes:
        block(x, None, torch.randn(16, 32, 16, 16, requires_grad=True)).square().sum().backward()
    assert sizes.most < 5.5 * 16 * 96 * 256 * 4


def test_parts_and_checkpointing_are_expected_to_take_less() -> None:
    whole = step_of(task_of("dit"))
    assert step_of(task_of("dit", accumulate=4)) < 0.5 * whole
    assert step_of(task_of("dit", checkpointing=True)) < 0.7 * whole


def test_moments_are_counted_and_nothing_is_told_where_numbers_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    task = task_of("mlp")
    weights = sum(p.numel() for p in task.trained["model"].module.parameters())
    monkeypatch.setattr(memory, "memory_now", lambda device: 1000)
    step = int(memory.LOST * step_of(task))
    assert memory.expected_memory(task) == 1000 + 2 * 4 * weights + step + memory.KERNELS
    task.trained["model"].module.network.forward = lambda x, noise_label: x * float(x.sum())
    assert memory.expected_memory(task) is None


def test_a_run_that_needs_more_than_there_is_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    x = torch.randint(0, 256, (16, 1, 8, 8), dtype=torch.uint8)
    told: list[str] = []
    run = configured("array", x, ["model.network.width=8", "train.batch=12", "train.steps=2"])
    runs.plan(run, tmp_path / "run", say=told.append)
    assert any(re.search(r"memory  about [\d.]+ [GM]B, of \d+\.\d GB that may be used", line) for line in told)
    monkeypatch.setenv(budget.VARIABLE, "100MB")
    with pytest.raises(ValueError, match=r"train: its memory is about .* that may be used: .*train.checkpointing=true"):
        runs.plan(replace(run, data=run.data), tmp_path / "run", say=told.append)


BATCHED: dict[str, tuple[object, ...]] = {
    "sample": ("sample", "model", "-n", 64, "--steps", 2),
    "guided": ("sample", "model", "-n", 64, "--steps", 2, "--label", "all", "--guidance", 2),
    "redraw": ("redraw", "model", "photo.png", "-n", 64, "--steps", 2),
    "fill": ("fill", "model", "photo.png", "--mask", "mask.png", "-n", 64, "--steps", 2),
    "invert": ("invert", "model", "photos", "--tolerance", 0.5, "--out", "x.safetensors"),
}


@pytest.mark.parametrize("verb", BATCHED)
def test_samples_that_do_not_fit_together_are_refused_with_how_many_do(
    verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    saved(Path("model"), ("a", "b"))
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8) * 3).save("photo.png")
    Path("photos").mkdir()
    for i in range(64):
        Image.new("L", (8, 8), i).save(f"photos/{i}.png")
    Image.fromarray(np.eye(8, dtype=np.uint8) * 255).save("mask.png")
    now = 10**9
    monkeypatch.setattr(taking, "memory_now", lambda device: now)
    monkeypatch.setattr(taking, "memory_of", lambda device: now + 900_000)
    code, _, err = unsteep_(*BATCHED[verb], "--batch", 64)
    assert (code, err.count("\n")) == (2, 1), err
    said = re.search(r"--batch: (\d+) rows .* memory, and .* may be used; take (\d+) at a time", err)
    assert said is not None, err
    assert int(said[1]) == (128 if verb == "guided" else 64)
    fits = int(said[2]) // (2 if verb == "guided" else 1)
    assert 1 < fits < 40
    made(*BATCHED[verb], "--batch", fits)
    assert unsteep_(*BATCHED[verb], "--batch", 2 * fits)[0] == 2


def test_what_a_call_takes_is_what_operations_make() -> None:
    network, x = UNetConfig(**SMALL, multipliers=(1, 2), attention=(4,)).build().eval(), torch.randn(16, *PICTURE)
    named = {"noise_label": torch.zeros(16)}
    said = taking.taken(network, (x,), named, torch.device("cpu"), "float32", False)
    with taking.Sizes() as sizes, torch.no_grad():
        network(x, **named)
    assert said == pytest.approx(sizes.most, rel=0.02)
    assert said < taking.taken(network, (x,), named, torch.device("cpu"), "float32", True)
