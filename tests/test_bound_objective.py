"""Training on the bound: each term is the bound's own, and what learns by it arrives at the optimum."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from unsteep.core.chains import Betas, Chain, CosineBetas, LinearBetas
from unsteep.core.condition import Condition
from unsteep.core.level import NoiseLevel
from unsteep.core.noise import Draw, Purpose
from unsteep.core.schedules import VP, Flow, Schedule
from unsteep.data.batch import Batch
from unsteep.denoiser import Denoiser, Head, LearnVariance
from unsteep.likelihood import Decoder, bound
from unsteep.objectives import VLB, Bound, Hybrid, Importance, Simple, fitted
from unsteep.objectives.bound import Values, Which
from unsteep.spaces import Pixels, Vectors


def close(a: Tensor, b: Tensor, rtol: float = 0.0, atol: float = 0.0) -> None:
    torch.testing.assert_close(a, b, rtol=rtol, atol=atol)


def randn(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64)


class Given(Draw):
    """Given times and noise."""

    def __init__(self, t: Tensor, eps: Tensor) -> None:
        super().__init__(0, 0, torch.arange(len(t)), len(t))
        self.t, self.eps = t, eps

    def uniform(self, purpose: Purpose) -> Tensor:
        return self.t

    def normal(self, like: Tensor, draw: int) -> Tensor:
        return self.eps.to(like)


class Network(nn.Module):
    """A small answer to everything: tanh of the input times one gain, and a variance half that depends on x, too."""

    def __init__(self, learns: bool = False) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.tensor(0.8, dtype=torch.float64))
        self.spread = nn.Parameter(torch.tensor(0.3, dtype=torch.float64))
        self.learns = learns

    def forward(self, x: Tensor, noise_label: Tensor, **condition: Tensor) -> Tensor:
        said = self.mean.to(x) * x.tanh()
        return torch.cat([said, self.spread.to(x) * x.cos()], 1) if self.learns else said


def module_of(schedule: Schedule, head: Head = "x0", learns: LearnVariance = False) -> Denoiser:
    return Denoiser(Network(bool(learns)), schedule, head, learn_variance=learns)


def batch(x: Tensor) -> Batch:
    return Batch(x, None, torch.arange(len(x)))


def every_step(chain: Chain, examples: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    """Data of 17 values, noise and times: each example at each step of the chain, steps mixed in the batch."""
    x0 = (8 * randn(examples, 4)).round().clamp(-8, 8) / 8
    t = torch.arange(1, chain.steps + 1, dtype=torch.float64) / chain.steps
    return x0.repeat(chain.steps, 1), randn(examples, 4).sin().repeat(chain.steps, 1), t.repeat_interleave(examples)


VARIANCES: list[tuple[Which, LearnVariance]] = [
    ("beta", False),
    ("beta_tilde", False),
    ("beta", "fraction"),
    ("learned", "fraction"),
    ("learned", "diagonal"),
]
CHAINS: dict[str, Chain] = {
    "cosine-8": CosineBetas(steps=8),
    "linear-21": LinearBetas(steps=21),
    "zero-terminal": CosineBetas(steps=5, zero_terminal=True),
    "two": Betas((0.2, 0.9)),
    "one": Betas((0.7,)),
}


class TestBound:
    @pytest.mark.parametrize("values", [17, 256, "continuous"])
    @pytest.mark.parametrize(("variance", "learns"), VARIANCES, ids=str)
    @pytest.mark.parametrize("name", CHAINS)
    def test_its_mean_over_the_steps_is_the_bound(
        self, name: str, variance: Which, learns: LearnVariance, values: Values
    ) -> None:
        """Without L_T, per dimension, of every example; the same noise on both sides."""
        chain = CHAINS[name]
        x0, eps, t = every_step(chain)
        module = module_of(chain, learns=learns)
        loss = Bound(variance=variance, values=values)(module, batch(x0), Given(t, eps))
        got = loss.value.detach().reshape(chain.steps, 3).mean(0)
        decoder = Decoder(levels=None if values == "continuous" else int(values))
        levels = chain(torch.linspace(1, 0, chain.steps + 1, dtype=torch.float64))
        terms = bound(module, x0[:3], levels, decoder, variance, Given(t[:3], eps[:3]))
        close(got, (terms.total() - terms.prior) / 4, rtol=1e-9)
        assert torch.equal(loss.terms["bound"], loss.value)

    @pytest.mark.parametrize("head", ["eps", "v", "score", "flow", "mean"])
    def test_heads(self, head: Head) -> None:
        chain = CHAINS["cosine-8"]
        x0, eps, t = every_step(chain)
        module = module_of(chain, head)
        loss = Bound(values=17)(module, batch(x0), Given(t, eps))
        levels = chain(torch.linspace(1, 0, 9, dtype=torch.float64))
        terms = bound(module, x0[:3], levels, Decoder(levels=17), "beta", Given(t[:3], eps[:3]))
        close(loss.value.detach().reshape(8, 3).mean(0), (terms.total() - terms.prior) / 4, rtol=1e-7)

    @pytest.mark.parametrize("schedule", [VP(), Flow(), LinearBetas().interpolated()], ids=["vp", "flow", "chain"])
    @pytest.mark.parametrize(("variance", "learns"), VARIANCES, ids=str)
    def test_off_a_chain_steps_are_thousandths(
        self, schedule: Schedule, variance: Which, learns: LearnVariance
    ) -> None:
        """At any t; from below 1/1000 the step ends clean, and the decoder's pair is its own."""
        module, x0, eps = module_of(schedule, learns=learns), randn(4, 3), randn(4, 3).cos()
        t = torch.tensor([1.0, 0.3337, 0.0013, 0.0004], dtype=torch.float64)
        got = Bound(variance=variance, values="continuous")(module, batch(x0), Given(t, eps)).value.detach()
        for i in range(4):
            end = [float(t[i]), float(t[i]) - 0.001, 0] if t[i] > 0.001 else [float(t[i]), 0]
            levels = schedule(torch.tensor(end, dtype=torch.float64))
            draw = Given(t[i : i + 1], eps[i : i + 1])
            terms = bound(module, x0[i : i + 1], levels, Decoder(levels=None), variance, draw)
            wanted = terms.kl[:, 0] if len(end) == 3 else terms.decoder
            close(got[i : i + 1], 1000 * wanted / 3, rtol=1e-8)

    @pytest.mark.parametrize("name", CHAINS)
    @pytest.mark.parametrize(("variance", "learns"), VARIANCES, ids=str)
    @pytest.mark.parametrize("head", ["x0", "eps", "v", "flow", "mean"])
    def test_values_and_gradients_are_numbers(
        self, name: str, head: Head, variance: Which, learns: LearnVariance
    ) -> None:
        """In single precision, with both kinds of rows in the batch and estimates far off; nothing hides in a mask."""
        chain = CHAINS[name]
        if chain.logsnr_min == -math.inf and head == "eps":
            return  # refused by the denoiser
        x0, eps, t = every_step(chain)
        for wild in (1.0, 300.0):
            module = module_of(chain, head, learns)
            network = module.network
            assert isinstance(network, Network)
            network.mean.data *= wild
            objective: Any = Bound(variance=variance, values=17)
            loss = objective(module, batch(x0.float()), Given(t, eps))
            assert loss.value.dtype == torch.float32
            loss.value.sum().backward()
            assert bool(loss.value.isfinite().all())
            for parameter in module.parameters():
                assert parameter.grad is None or bool(parameter.grad.isfinite())
            assert network.mean.grad is not None

    def test_padding_costs_nothing(self) -> None:
        chain, valid = CHAINS["two"], torch.tensor([[1, 1, 1, 0], [1, 0, 0, 0]]).bool()
        x0, eps = randn(2, 4, 3), randn(2, 4, 3).sin()
        t = torch.tensor([0.5, 1.0], dtype=torch.float64)
        objective, module = Bound(values="continuous"), module_of(chain)
        padded = objective(module, Batch(x0, Condition(valid=valid), torch.arange(2)), Given(t, eps)).value
        alone = torch.cat(
            [
                objective(module, batch(x0[i : i + 1, :n]), Given(t[i : i + 1], eps[i : i + 1, :n])).value
                for i, n in ((0, 3), (1, 1))
            ]
        )
        close(padded, alone, rtol=1e-12)

    def test_importance_sampling_leaves_its_mean(self) -> None:
        """Enumerated: the corrected losses, at the times that evenly spaced u become, average to those of uniform u."""
        chain, u = CHAINS["cosine-8"], (torch.arange(4000, dtype=torch.float64) + 0.5) / 4000
        x0, eps = (8 * randn(1, 2)).round() / 8, randn(1, 2).cos()
        times = Importance(bins=4, history=2, uniform=0.05)
        for _ in range(2):
            times.observe((torch.arange(4) + 0.5) / 4, torch.tensor([9.0, 1.0, 0.1, 0.0]))

        def mean(of: Bound) -> float:
            draw = Given(u, eps.expand(4000, 2))
            return float(of(module_of(chain), batch(x0.expand(4000, 2)), draw).value.detach().mean())

        assert mean(Bound(values=17, times=times)) == pytest.approx(mean(Bound(values=17)), rel=0.01)
        skewed = times(Given(u, eps))
        assert float((skewed <= 0.25).double().mean()) == pytest.approx(0.95 * 9 / 10.1 + 0.0125, abs=1e-3)


class TestHybrid:
    chain = CHAINS["cosine-8"]

    def gradients(self, objective: Any, learns: LearnVariance = "fraction") -> tuple[float, float]:
        """With respect to the mean half, and the variance half."""
        module = module_of(self.chain, "eps", learns)
        x0, eps, t = every_step(self.chain)
        objective(module, batch(x0), Given(t, eps)).value.mean().backward()
        network = module.network
        assert isinstance(network, Network)
        mean, spread = (0.0 if p.grad is None else float(p.grad) for p in (network.mean, network.spread))
        return mean, spread

    @pytest.mark.parametrize("learns", ["fraction", "diagonal"])
    def test_the_bound_teaches_the_variance_alone(self, learns: LearnVariance) -> None:
        simple, whole = self.gradients(Simple(), learns), self.gradients(Bound(variance="learned", values=17), learns)
        hybrid = self.gradients(Hybrid(scale=0.03, values=17), learns)
        assert hybrid[0] == pytest.approx(simple[0], rel=1e-12)
        assert hybrid[1] == pytest.approx(0.03 * whole[1], rel=1e-12)
        assert simple[1] == 0
        assert abs(whole[0]) > 1e-3  # which Hybrid has cut off
        assert abs(whole[1]) > 1e-3

    def test_its_value_is_the_sum(self) -> None:
        module = module_of(self.chain, "v", "fraction")
        x0, eps, t = every_step(self.chain)
        simple, whole, hybrid = (
            objective(module, batch(x0), Given(t, eps))
            for objective in (Simple(), Bound(variance="learned", values=17), Hybrid(values=17))
        )
        close(hybrid.value, simple.value + 0.001 * whole.value, rtol=1e-12)
        close(hybrid.terms["simple"], simple.value)
        close(hybrid.terms["bound"], whole.value)


class Spread(nn.Module):
    """The best linear denoiser of N(0, c), and a free number for the variance half at each step of the chain."""

    def __init__(self, chain: Chain, c: float, start: float) -> None:
        super().__init__()
        self.chain, self.c = chain, c
        self.raw = nn.Parameter(torch.full((chain.steps,), start, dtype=torch.float64))

    def forward(self, x: Tensor, noise_label: Tensor, **condition: Tensor) -> Tensor:
        step = noise_label.round().long()
        at = self.chain.levels[step + 1].like(x)
        x0 = at.alpha * self.c / (at.alpha**2 * self.c + at.sigma**2) * x
        return torch.cat([x0, self.raw[step][:, None].expand_as(x)], 1)


class TestLearning:
    chain, c = CosineBetas(steps=8), 0.25

    def learned(self, objective: Any, learns: LearnVariance, start: float) -> Tensor:
        """The variance of each step after training the free numbers on the objective's exact expectation: nodes +-1 of
        data and noise."""
        network = Spread(self.chain, self.c, start)
        module = Denoiser(network, self.chain, "x0", learn_variance=learns)
        x0, eps = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0], dtype=torch.float64)] * 2).T[..., None]
        t = torch.arange(1, 9, dtype=torch.float64).repeat_interleave(4) / 8
        of, draw = batch((math.sqrt(self.c) * x0).repeat(8, 1)), Given(t, eps.repeat(8, 1))
        optimizer = torch.optim.LBFGS(network.parameters(), max_iter=200, line_search_fn="strong_wolfe")

        def closure() -> Tensor:
            optimizer.zero_grad()
            loss = objective(module, of, draw).value.sum()
            loss.backward()
            return loss

        optimizer.step(closure)
        raw = network.raw.detach()
        if learns == "diagonal":
            return raw.exp()
        betas = 1 - (self.chain.levels.alpha[1:] / self.chain.levels.alpha[:-1]) ** 2
        sigma = self.chain.levels.sigma
        beta_tilde = betas * (sigma[:-1] / sigma[1:]) ** 2
        return torch.exp(torch.lerp(beta_tilde.log(), betas.log(), (raw + 1) / 2))

    def optimum(self) -> Tensor:
        """The variance of x_(n-1) given x_n, n = 1 .. 8, from the joint covariance of the two."""

        def spread(level: NoiseLevel) -> Tensor:
            return level.alpha**2 * self.c + level.sigma**2

        now, nxt = self.chain.levels[1:], self.chain.levels[:-1]
        return spread(nxt) - (now.alpha / nxt.alpha * spread(nxt)) ** 2 / spread(now)

    @pytest.mark.parametrize(
        "objective",
        [Bound(variance="learned", values="continuous"), Hybrid(scale=1.0, values="continuous")],
        ids=["bound", "hybrid"],
    )
    def test_a_learned_fraction_becomes_optimal(self, objective: Any) -> None:
        """At every step but the first, where beta_tilde is taken to be beta and nothing can be learned."""
        close(self.learned(objective, "fraction", 0.3)[1:], self.optimum()[1:], rtol=1e-5)

    @pytest.mark.parametrize(
        "objective",
        [Bound(variance="learned", values="continuous"), Hybrid(scale=1.0, values="continuous")],
        ids=["bound", "hybrid"],
    )
    def test_a_learned_diagonal_becomes_optimal(self, objective: Any) -> None:
        close(self.learned(objective, "diagonal", -1.0), self.optimum(), rtol=1e-5)


class TestErrors:
    def test_the_number_of_values_comes_from_the_data(self) -> None:
        module = module_of(CHAINS["two"], learns="fraction")
        greys, rows = Pixels(channels=1, size=2, levels=17), Vectors(mean=(0.0,), std=(1.0,))
        for objective in (Bound(), Bound(variance="learned"), Hybrid(), Hybrid(scale=0.1)):
            assert fitted(objective, greys, module) == replace(objective, values=17)
            assert fitted(objective, rows, module) == replace(objective, values="continuous")
        assert fitted(Bound(values=256), greys, module) == Bound(values=256)
        assert fitted(Simple(), greys, module) == Simple()

    def test_ones_own_objective_needs_no_fitting(self) -> None:
        def mine(module: Any, batch: Any, draw: Any) -> Any: ...

        assert fitted(mine, Vectors(mean=(0.0,), std=(1.0,)), module_of(CHAINS["two"])) is mine

    @pytest.mark.parametrize("objective", [Bound(variance="learned"), Hybrid(), Hybrid(values=17)])
    def test_a_model_without_a_variance_is_refused_before_training(self, objective: Any) -> None:
        greys, module = Pixels(channels=1, size=2, levels=17), module_of(CHAINS["two"])
        match = f"objective: {type(objective).__name__} trains a learned variance, and this model has none"
        with pytest.raises(ValueError, match=match):
            fitted(objective, greys, module)
        assert fitted(Bound(), greys, module).values == 17

    @pytest.mark.parametrize("objective", [Bound(variance="learned"), Hybrid()])
    def test_until_then_there_is_no_decoder(self, objective: Any) -> None:
        x0, eps, t = every_step(CHAINS["two"])
        with pytest.raises(ValueError, match=r"^objective.values: state how many values the data take, or continuous"):
            objective(module_of(CHAINS["two"], learns="fraction"), batch(x0), Given(t, eps))

    def test_a_fixed_variance_cannot_be_learned(self) -> None:
        x0, eps, t = every_step(CHAINS["two"])
        with pytest.raises(ValueError, match=r"this model has none: set model.variance=learned"):
            Hybrid(values=17)(module_of(CHAINS["two"]), batch(x0), Given(t, eps))
        with pytest.raises(ValueError, match=r"this model learned no variance.*choose variance beta or beta_tilde"):
            Bound(variance="learned", values=17)(module_of(CHAINS["two"]), batch(x0), Given(t, eps))


@pytest.mark.parametrize("head", ["x0", "eps", "v", "flow", "mean"])
@pytest.mark.parametrize("chain", [CosineBetas(steps=8), LinearBetas(steps=21)], ids=["cosine", "linear"])
def test_the_weight_of_the_bound(chain: Chain, head: Head) -> None:
    """With it the squared error is the bound with fixed variance beta, up to what no network changes."""
    x0, eps, t = every_step(chain)
    constants, values = [], []
    for gain in (0.8, -0.3):
        module = module_of(chain, head)
        module.network.mean.data.fill_(gain)
        draw = Given(t, eps)
        values.append(Bound(values="continuous")(module, batch(x0), draw).value.detach())
        constants.append(values[-1] - Simple(weight=VLB())(module, batch(x0), draw).value.detach())
    close(constants[0], constants[1], rtol=1e-7, atol=1e-7)
    assert float((values[0] - values[1]).abs().mean()) > 1e-3
