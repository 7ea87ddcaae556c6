"""Denoisers in wrappers, for several devices or compiled, and compiled inside: trained and measured as bare."""

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from unsteep.core.chains import LinearBetas
from unsteep.core.noise import Draw, NoiseSource
from unsteep.core.schedules import VP
from unsteep.data.batch import Batch
from unsteep.denoiser import Denoiser, unwrapped
from unsteep.likelihood import Decoder, bound, flow_log_prob
from unsteep.objectives import VLB, Bound, Hybrid, MinSNR, Simple
from unsteep.sampling import DDIM, grid, sample


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
