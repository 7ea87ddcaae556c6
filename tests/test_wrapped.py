"""Denoisers in wrappers, for several devices or compiled, and compiled inside: trained and measured as bare."""

import copy
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import unsteep
from unsteep.core.chains import LinearBetas
from unsteep.core.noise import Draw, NoiseSource
from unsteep.core.schedules import VP
from unsteep.data import Examples, Given
from unsteep.data.batch import Batch
from unsteep.denoiser import Denoiser, unwrapped
from unsteep.likelihood import Decoder, bound, flow_log_prob
from unsteep.model import Description, Model, ModelConfig
from unsteep.networks import MLPConfig
from unsteep.objectives import VLB, Bound, Hybrid, MinSNR, Simple
from unsteep.sampling import DDIM, grid, sample
from unsteep.spaces import Vectors
from unsteep.training import checkpoints
from unsteep.training.loop import train
from unsteep.training.settings import TrainConfig


class Network(nn.Module):
    """A linear map, twice as wide where a variance is learned."""

    def __init__(self, out: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(3, out).double()

    def forward(self, x: Tensor, noise_label: Tensor) -> Tensor:
        y: Tensor = torch.tanh(self.linear(x))
        return y


class Parallel(nn.Module):
    """As DistributedDataParallel wraps: what is called is the wrapper, and nothing else is passed on."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module, self.calls = module, 0

    def forward(self, *given: Any, **named: Any) -> Any:
        self.calls += 1
        return self.module(*given, **named)


def bare(learns: bool = False) -> Denoiser:
    return Denoiser(Network(6 if learns else 3), LinearBetas(steps=40), "v", learn_variance=learns)


def compiled(module: nn.Module) -> nn.Module:
    whole: nn.Module = torch.compile(module, backend="eager")
    return whole


def inside(denoiser: Denoiser) -> Denoiser:
    """The network is what `torch.compile` is for."""
    denoiser.network = compiled(denoiser.network)
    return denoiser


WRAPPERS: dict[str, Any] = {
    "parallel": Parallel,
    "data-parallel": nn.DataParallel,
    "compiled": compiled,
    "compiled inside": inside,
    "parallel, compiled": lambda denoiser: Parallel(compiled(denoiser)),
    "compiled, parallel": lambda denoiser: compiled(Parallel(denoiser)),
}
wrapped = pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)
X = (0.5 * torch.randn(4, 3, generator=torch.Generator().manual_seed(0))).double()


@wrapped
def test_the_denoiser_inside(wrap: Any) -> None:
    denoiser = bare()
    assert unwrapped(wrap(denoiser)) is denoiser
    assert unwrapped(denoiser) is denoiser


@wrapped
@pytest.mark.parametrize(
    "objective",
    [Simple(), Simple(weight=MinSNR()), Simple(weight=VLB()), Bound(values=17), Hybrid(values=17)],
    ids=["native", "min-snr", "vlb", "bound", "hybrid"],
)
def test_losses_are_the_same(wrap: Any, objective: Any) -> None:
    learns = isinstance(objective, Hybrid)
    batch, draw = Batch(X, None, torch.arange(4)), Draw(0, 0, torch.arange(4), 4)
    plain, other = bare(learns), wrap(bare(learns))
    wanted, loss = objective(plain, batch, draw).value, objective(other, batch, draw).value
    torch.testing.assert_close(loss, wanted, rtol=1e-12, atol=0)
    wanted.sum().backward()
    loss.sum().backward()
    for one, its in zip(plain.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(its.grad, one.grad, rtol=1e-12, atol=0)


def test_the_wrapper_is_what_is_called() -> None:
    """Or gradients would not be exchanged."""
    module = Parallel(bare())
    Simple()(module, Batch(X, None, torch.arange(4)), Draw(0, 0, torch.arange(4), 4))
    assert module.calls == 1


@wrapped
def test_likelihoods_and_samples_are_the_same(wrap: Any) -> None:
    levels = grid(LinearBetas(steps=40), 5)

    def of(denoise: Any) -> list[Tensor]:
        terms = bound(denoise, X, levels, Decoder(levels=None), "beta", NoiseSource(range(4)))
        flow = flow_log_prob(denoise, X, VP(), tolerance=1e-3)
        return [terms.total(), flow.log_prob, sample(denoise, X, levels, DDIM(), NoiseSource(range(4)))]

    for one, other in zip(of(bare()), of(partial(wrap(bare()))), strict=True):
        torch.testing.assert_close(other, one, rtol=1e-12, atol=0)


@pytest.mark.parametrize("module", [nn.Linear(3, 3), Parallel(nn.Linear(3, 3)), compiled(nn.Linear(3, 3))])
@pytest.mark.parametrize("objective", [Simple(), Bound(values=17), Hybrid(values=17)])
def test_what_is_no_denoiser_is_refused(module: nn.Module, objective: Any) -> None:
    batch, draw = Batch(X, None, torch.arange(4)), Draw(0, 0, torch.arange(4), 4)
    with pytest.raises(ValueError, match=r"module: expected a Denoiser.*, got \w+; make one"):
        objective(module, batch, draw)


@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)
def test_a_model_around_it_is_kept_as_the_bare_one_is(wrap: Any, tmp_path: Path) -> None:
    """Weights have the same names, so either opens what the other wrote."""
    description = Description(
        model=ModelConfig(network=MLPConfig(width=8, depth=1), prediction="v"),
        schedule=LinearBetas(steps=40),
        space=Vectors(mean=(0.0, 1.0), std=(1.0, 2.0)),
    ).filled()
    torch.manual_seed(0)
    plain = Model(description.build(), description)
    for weight in plain.denoiser.parameters():
        weight.data += 0.1
    around = Model(wrap(copy.deepcopy(plain.denoiser)), description)
    for name, model in (("plain", plain), ("around", around)):
        model.save(tmp_path / name)
        again = unsteep.load(tmp_path / name, device="cpu")
        assert torch.equal(again.sample(3, steps=3), plain.sample(3, steps=3))
        bits = (of.likelihood(torch.zeros(2, 2), terms=2).bits_per_dim() for of in (model, plain))
        assert torch.equal(*bits)
    stored = [load_file(tmp_path / name / "weights.safetensors") for name in ("plain", "around")]
    assert stored[0].keys() == stored[1].keys()


@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)
def test_a_run_of_it_is_resumed_as_of_the_bare_one(wrap: Any, tmp_path: Path) -> None:
    run = unsteep.Run(
        data=Given(),
        model=ModelConfig(network=MLPConfig(width=8, depth=1)),
        train=TrainConfig(steps=4, batch=4, warmup=1, checkpoint_every=2),
    )
    data = Examples(torch.randn(12, 2, generator=torch.Generator().manual_seed(0)), levels=None, source="mine")
    whole = run.made(data, "cpu")
    for _ in train(whole, run.train):
        pass
    first = run.made(data, "cpu")
    half = replace(run.train, steps=2, final_learning_rate=run.train.final_learning_rate)
    first.state.module = wrap(first.state.module)
    for _ in train(first, half):
        pass
    checkpoints.save(tmp_path, first, first.texts(), {}, "digest")
    second = run.made(data, "cpu")
    second.state.module = wrap(second.state.module)
    checkpoints.restore(second, next(tmp_path.iterdir()))
    for _ in train(second, run.train):
        pass
    for one, other in zip(whole.state.module.parameters(), unwrapped(second.state.module).parameters(), strict=True):
        assert torch.equal(one, other)
