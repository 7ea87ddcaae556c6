"""What training keeps in memory: blocks that are computed again give the same bits, and keep less."""

import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from unsteep.cli import allocator
from unsteep.core.chains import LinearBetas
from unsteep.core.noise import Draw
from unsteep.data.batch import Batch
from unsteep.denoiser import Denoiser
from unsteep.networks import DiTConfig, MLPConfig, SequenceConfig, UNetConfig, recomputing
from unsteep.networks.encoder import EncoderConfig
from unsteep.objectives import Simple
from unsteep.pages.arrays import read_samples, write_parts
from unsteep.training.loop import Single, State, train
from unsteep.training.settings import TrainConfig

PICTURE = (2, 8, 8)
SMALL: dict[str, Any] = {"channels": 2, "size": 8, "width": 8, "groups": 2}
NETWORKS: dict[str, tuple[Any, tuple[int, ...]]] = {
    "unet": (UNetConfig(**SMALL, multipliers=(1, 2), attention=(4,), dropout=0.3), PICTURE),
    "dit": (DiTConfig(channels=2, size=8, width=16, depth=3, heads=2), PICTURE),
    "sequence": (SequenceConfig(features=2, width=16, depth=3, dropout=0.3), (5, 2)),
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
