"""Sequences of several lengths in one batch: what stands in their padding, and how much there is, changes nothing.

Of any number here: losses, bounds, likelihoods, errors, thresholds, steps of solvers, levels of adaptive ones.
"""

import copy
import itertools
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from unsteep.core import masked
from unsteep.core.chains import LinearBetas
from unsteep.core.condition import Condition
from unsteep.core.estimate import Estimate
from unsteep.core.level import NoiseLevel
from unsteep.core.noise import Draw, NoiseSource
from unsteep.core.schedules import VP, Cosine
from unsteep.data.batch import Batch
from unsteep.denoiser import Denoise, Denoiser
from unsteep.guidance import Auto, ClassifierFree, Clip, Composed, DynamicThreshold, Rescale
from unsteep.likelihood import Decoder, bound, flow_log_prob, measure_x0_error, probing_levels, rate_distortion
from unsteep.objectives import VLB, Bound, MinSNR, Simple
from unsteep.sampling import (
    DDIM,
    PAIRS,
    SOLVERS,
    Adaptive,
    Frame,
    GaussianFrame,
    PredictorCorrector,
    Solver,
    initial_noise,
    levels_for,
    trajectory,
)

JUNK, FEATURES, LENGTHS = 1e4, 3, (6, 2, 1, 4)
B, FRAMES = len(LENGTHS), max(LENGTHS)
CHAIN = LinearBetas(steps=40)
SEEDS = range(B)


def valid_of(frames: int) -> Tensor:
    return torch.arange(frames) < torch.tensor(LENGTHS)[:, None]


def padded(x: Tensor, frames: int = FRAMES, junk: float = JUNK) -> Tensor:
    """x (b, FRAMES, ...) in so many frames, with junk in all that are not valid."""
    more = x.new_zeros(len(x), frames - FRAMES, *x.shape[2:])
    return torch.cat([x, more], 1).masked_fill(~valid_of(frames)[..., None], junk)


class Mixing(nn.Module):
    """A network whose frames all hear the mean of the valid ones, and the class."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        own, common = (0.5 * torch.randn(2, FEATURES, FEATURES, generator=torch.Generator().manual_seed(seed))).double()
        self.own, self.common = nn.Parameter(own), nn.Parameter(common)

    def forward(self, x: Tensor, noise_label: Tensor, *, valid: Tensor, label: Tensor | None = None) -> Tensor:
        heard = masked.kept(torch.tanh(x), valid).sum(1, keepdim=True) / valid.sum(1)[:, None, None]
        shift = 0 if label is None else 0.3 * (label + 1)[:, None, None]
        return torch.tanh(x @ self.own + heard @ self.common + noise_label[:, None, None] / 1000 + shift)


def denoiser_of(schedule: Any = CHAIN, kind: Any = "v", seed: int = 0) -> Denoiser:
    return Denoiser(Mixing(seed), schedule, kind).double()


def condition(frames: int = FRAMES, **more: Tensor) -> Condition:
    return Condition(valid=valid_of(frames), **more)


def denoise(frames: int = FRAMES, schedule: Any = CHAIN) -> Denoise:
    return partial(denoiser_of(schedule), condition=condition(frames))


DATA = 0.6 * torch.randn(B, FRAMES, FEATURES, generator=torch.Generator().manual_seed(0)).double()
GREY = (DATA.clamp(-1, 1) * 8).round() / 8  # of 17 values


def alike(of: Callable[[Tensor, int], Any], x: Tensor = DATA) -> None:
    """`of`(x, frames) gives the same numbers, and valid frames of the same, for any junk and any length of padding."""
    first = list(of(padded(x, junk=0.0), FRAMES))
    assert all(bool(torch.as_tensor(one).isfinite().all()) for one in first)
    for frames, junk in ((FRAMES, JUNK), (FRAMES, -JUNK), (FRAMES + 1, JUNK), (FRAMES + 9, 0.3)):
        for one, other in zip(first, of(padded(x, frames, junk), frames), strict=True):
            if isinstance(one, Tensor) and one.ndim == 3:
                one, other = (masked.kept(y, valid_of(y.shape[1])) for y in (one, other))  # noqa: PLW2901
                assert not bool(other[:, FRAMES:].any())
                other = other[:, :FRAMES]  # noqa: PLW2901
            torch.testing.assert_close(torch.as_tensor(other), torch.as_tensor(one), rtol=1e-9, atol=1e-9)


def test_estimates_say_what_is_valid() -> None:
    """Those of several conditions in one batch, too, and those that are moved, clipped and replaced."""
    module, told = denoiser_of(), condition(label=torch.zeros(B, dtype=torch.int64))
    level = CHAIN(0.4)
    free = ClassifierFree(module, told, 2.0)
    both = Composed(module, (told, Condition({**told, "label": torch.ones(B, dtype=torch.int64)})), (0.5, 1.5))
    auto = Auto(partial(module, condition=told), partial(denoiser_of(seed=1), condition=told), 2.0)
    for guided in (
        partial(module, condition=told),
        free,
        both,
        auto,
        Rescale(free),
        Clip(free),
        DynamicThreshold(free),
    ):
        assert torch.equal(guided(DATA, level).valid, valid_of(FRAMES))  # type: ignore[operator]
    assert module(DATA[:, :1], level, Condition(valid=torch.ones(B, 1, dtype=torch.bool))).valid is not None


@pytest.mark.parametrize(
    "objective",
    [Simple(), Simple(weight=MinSNR()), Simple(weight=VLB()), Bound(values=17), Bound(values="continuous")],
    ids=lambda objective: f"{type(objective).__name__}",
)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_losses_and_their_gradients(objective: Any, seed: int) -> None:
    def of(x: Tensor, frames: int) -> Any:
        module = denoiser_of()
        batch = Batch(x, condition(frames), torch.arange(B))
        loss = objective(module, batch, Draw(seed, 0, torch.arange(B), B))
        loss.value.sum().backward()
        return loss.value.detach(), *loss.terms.values(), *(weight.grad for weight in module.parameters())

    def detached(x: Tensor, frames: int) -> Any:
        return [one.detach() for one in of(x, frames)]

    alike(detached, GREY)


@pytest.mark.parametrize("variance", ["beta", "beta_tilde"])
@pytest.mark.parametrize("values", [17, None])
def test_the_bound(variance: Any, values: int | None) -> None:
    """In nats and in bits per dimension: those of each example by its own length."""

    def of(x: Tensor, frames: int) -> Any:
        levels = CHAIN(torch.linspace(1, 0, 9, dtype=torch.float64))
        terms = bound(denoise(frames), x, levels, Decoder(levels=values), variance, NoiseSource(SEEDS))
        curve = rate_distortion(terms, levels)
        return (
            terms.prior,
            terms.kl,
            terms.decoder,
            terms.distortion,
            terms.bits_per_dim(),
            curve.rate,
            curve.distortion,
        )

    alike(of, GREY)


def test_the_bound_of_each_is_that_of_it_alone() -> None:
    levels = CHAIN(torch.linspace(1, 0, 9, dtype=torch.float64))
    together = bound(denoise(), padded(DATA), levels, Decoder(levels=None), "beta", NoiseSource(SEEDS))
    assert together.dimensions.tolist() == [FEATURES * length for length in LENGTHS]
    for i, length in enumerate(LENGTHS):
        alone = partial(denoiser_of(), condition=Condition(valid=torch.ones(1, length, dtype=torch.bool)))
        one = bound(alone, DATA[i : i + 1, :length], levels, Decoder(levels=None), "beta", NoiseSource([i]))
        torch.testing.assert_close(one.bits_per_dim(), together.bits_per_dim()[i : i + 1], rtol=1e-9, atol=0)


@pytest.mark.parametrize("divergence", ["exact", "hutchinson"])
def test_the_likelihood_of_the_flow(divergence: Any) -> None:
    def of(x: Tensor, frames: int) -> Any:
        told = flow_log_prob(
            denoise(frames, VP()), x, VP(), divergence=divergence, noise=NoiseSource(SEEDS), tolerance=1e-4
        )
        return told.log_prob, told.latent, told.nfe

    alike(of)


def test_what_is_measured_for_the_optimal_variance() -> None:
    def of(x: Tensor, frames: int) -> Any:
        return (measure_x0_error(denoise(frames), x, probing_levels(CHAIN, 5), NoiseSource(SEEDS))[1],)

    alike(of)


FRAME = Frame.of(torch.tensor([0.1, -0.2, 0.0]), torch.tensor([0.4, 0.6, 0.9]))
WALKERS: dict[str, Solver] = {
    **SOLVERS,
    "a scalar for each feature": GaussianFrame(frame=FRAME),
    "free and smooth": GaussianFrame(frame=FRAME, start="free", end="smooth"),
    "many corrections": PredictorCorrector(corrections=3, ratio=0.4),
}


def start(x: Tensor, first: NoiseLevel, frames: int) -> Tensor:
    """Noise of the seeds where x has valid frames, and x elsewhere."""
    noise = initial_noise(x, first, NoiseSource(SEEDS))
    return torch.where(valid_of(frames)[..., None], noise, x)


@pytest.mark.parametrize("solver", WALKERS.values(), ids=WALKERS)
@pytest.mark.parametrize("schedule", [CHAIN, Cosine()], ids=["chain", "cosine"])
def test_steps(solver: Solver, schedule: Any) -> None:
    def of(x: Tensor, frames: int) -> Any:
        levels = levels_for(None, schedule, 6, solver, {})
        y = start(x, levels[0], frames)
        walk = trajectory(denoise(frames, schedule), y, levels, solver, NoiseSource(SEEDS), schedule.inverse)
        return [step.x for step in walk]

    alike(of)


def test_steps_whose_length_is_bounded() -> None:
    """By the number of elements, where there is next to no noise to be seen."""

    def of(x: Tensor, frames: int) -> Any:
        levels, solver = CHAIN(torch.tensor([0.8, 0.5])), PredictorCorrector(predictor=DDIM(), ratio=0.1)
        said = partial(denoiser_of(kind="eps"), condition=condition(frames))

        def quiet(x_t: Tensor, level: NoiseLevel) -> Estimate:
            estimate = said(x_t, level)
            return replace(estimate, value=estimate.value / 100)

        return [step.x for step in trajectory(quiet, start(x, levels[0], frames), levels, solver, NoiseSource(SEEDS))]

    alike(of)


@pytest.mark.parametrize("pair", PAIRS)
def test_adaptive_steps(pair: Any) -> None:
    """As many, of the same lengths."""

    def of(x: Tensor, frames: int) -> Any:
        driver = Adaptive(pair=pair, tolerance=1e-2)
        y = start(x, CHAIN(1.0), frames)
        ends, calls = driver.sample(denoise(frames), y, CHAIN)
        latents, back = driver.invert(denoise(frames), x, CHAIN)
        return ends, calls, latents, back

    alike(of)


@pytest.mark.parametrize("phi", [0.7, 1.0])
def test_rescaling(phi: float) -> None:
    def of(x: Tensor, frames: int) -> Any:
        told = condition(frames, label=torch.arange(B))
        guided = Rescale(ClassifierFree(denoiser_of(), told, 4.0), phi)
        return [guided(x, CHAIN(t)).x0 for t in (0.1, 0.5, 0.9)]

    alike(of)


@pytest.mark.parametrize("quantile", [0.5, 0.9, 1.0])
def test_thresholds(quantile: float) -> None:
    def of(x: Tensor, frames: int) -> Any:
        bounded = DynamicThreshold(denoise(frames), quantile, -0.5, 0.5)
        return [bounded(x, CHAIN(t)).x0 for t in (0.1, 0.5, 0.9)]

    alike(of)


def test_junk_would_show() -> None:
    """A network that hears its padding is no such network: the laws above could fail."""

    class Hearing(Mixing):
        def forward(self, x: Tensor, noise_label: Tensor, *, valid: Tensor, label: Tensor | None = None) -> Tensor:
            return super().forward(x, noise_label, valid=torch.ones_like(valid), label=label)

    module = denoiser_of()
    module.network = copy.deepcopy(Hearing())

    def of(x: Tensor, frames: int) -> Any:
        return (module.double()(x, CHAIN(0.5), condition(frames)).x0,)

    with pytest.raises(AssertionError):
        alike(of)


def test_lengths_are_several() -> None:
    assert all(a != b for a, b in itertools.combinations(LENGTHS, 2))
