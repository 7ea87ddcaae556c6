"""The bound and its parts: closed forms on Gaussian data, and the laws of terms that are left out or averaged.

On data N(mean, c) with the exact denoiser every term is quadratic in (x0, eps), so the 2 x 2 Gauss-Hermite nodes, +-1
with equal weights, give its expectation to all digits: 4 rows in place of draws.
"""

import math
from dataclasses import dataclass

import numpy as np
import pytest
import scipy.stats  # type: ignore[import-untyped]
import torch
from torch import Tensor

from unsteep.analytic import Mixture
from unsteep.core.chains import CosineBetas, LinearBetas
from unsteep.core.estimate import Estimate
from unsteep.core.gaussian import Variance
from unsteep.core.level import NoiseLevel
from unsteep.core.noise import NoiseSource
from unsteep.core.schedules import Cosine, Flow, Schedule
from unsteep.likelihood import (
    BoundTerms,
    Decoder,
    bound,
    flow_log_prob,
    measure_x0_error,
    prior_term,
    spread,
    strata,
)

DENSITY = Decoder(levels=None)
SCHEDULES: dict[str, Schedule] = {
    "linear": LinearBetas(),
    "cosine-betas": CosineBetas(),
    "zero-terminal": LinearBetas(zero_terminal=True),
    "interpolated": LinearBetas().interpolated(),
    "flow": Flow(),
    "cosine": Cosine(),
}


def close(a: Tensor, b: Tensor, rtol: float = 0.0, atol: float = 0.0) -> None:
    torch.testing.assert_close(a, b, rtol=rtol, atol=atol)


def real(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def trailing(schedule: Schedule, n: int) -> NoiseLevel:
    return schedule(torch.linspace(1, 0, n + 1, dtype=torch.float64))


def quadrature(c: float, mean: float = 0.0) -> tuple[Tensor, "Fixed"]:
    """Data (4, 1) and noise at the nodes of N(mean, c) x N(0, 1)."""
    x0, eps = torch.cartesian_prod(real(-1, 1), real(-1, 1)).T[..., None]
    return mean + math.sqrt(c) * x0, Fixed(eps)


@dataclass
class Fixed:
    """The same noise whatever the draw."""

    eps: Tensor

    def normal(self, like: Tensor, draw: int) -> Tensor:
        return self.eps.expand_as(like)


@dataclass
class Oracle:
    """The best linear denoiser of data N(mean, c): exact. c, mean: floats, or (b, 1) for rows of several data sets."""

    c: Tensor | float
    mean: float = 0.0
    shrink: float = 1.0  # below 1: a denoiser that is wrong

    def __call__(self, x_t: Tensor, level: NoiseLevel) -> Estimate:
        at = level.like(x_t)
        weight = at.alpha * self.c / (at.alpha**2 * self.c + at.sigma**2)
        return Estimate("x0", self.shrink * (self.mean + weight * (x_t - at.alpha * self.mean)), x_t, level)

    def variance(self, now: NoiseLevel, nxt: NoiseLevel) -> Tensor:
        """The variance of x_nxt given x_now under the data, from their joint covariance."""
        assert isinstance(self.c, float)
        var_now, var_nxt = (at.alpha**2 * self.c + at.sigma**2 for at in (now, nxt))
        return var_nxt - (now.alpha / nxt.alpha * var_nxt) ** 2 / var_now


def entropy(c: float) -> float:
    """Of N(., c), nats."""
    return float(scipy.stats.norm(scale=math.sqrt(c)).entropy())


class TestClosedForms:
    @pytest.mark.parametrize("name", SCHEDULES)
    @pytest.mark.parametrize("n", [100, 50, 10, 2])
    def test_the_optimal_variance_reaches_the_entropy_on_any_grid(self, name: str, n: int) -> None:
        for c, mean in ((0.25, 0.0), (1.0, 0.0), (7.3, 0.0), (0.04, 0.1)):
            x0, noise = quadrature(c, mean)
            oracle = Oracle(c, mean)
            got = bound(oracle, x0, trailing(SCHEDULES[name], n), DENSITY, oracle.variance, noise).total().mean()
            assert float(got) == pytest.approx(entropy(c), abs=1e-5)

    @pytest.mark.parametrize("name", SCHEDULES)
    def test_and_on_the_whole_chain(self, name: str) -> None:
        x0, noise = quadrature(0.25)
        oracle = Oracle(0.25)
        terms = bound(oracle, x0, trailing(SCHEDULES[name], 1000), DENSITY, oracle.variance, noise)
        assert terms.kl.shape == (4, 999)
        assert float(terms.bits_per_dim().mean()) == pytest.approx(1.047096, abs=1e-5)

    def test_dimensions_add_up(self) -> None:
        """Data of shape (2, 3) whose elements have means of their own: six entropies."""
        mean = torch.linspace(-0.3, 0.2, 6, dtype=torch.float64).reshape(2, 3)
        mixture, oracle = Mixture.gaussian(mean, torch.tensor(0.25)), Oracle(0.25)
        x0, noise = quadrature(0.25)
        x0 = mean + x0[..., None]
        terms = bound(mixture, x0, trailing(LinearBetas(), 20), DENSITY, oracle.variance, Fixed(noise.eps[..., None]))
        assert terms.dimensions.tolist() == [6] * len(terms.prior)
        assert float(terms.total().mean()) == pytest.approx(6 * entropy(0.25), abs=1e-5)
        close(terms.bits_per_dim(), terms.total() / math.log(2) / 6, rtol=1e-15)

    def test_any_other_variance_is_worse(self) -> None:
        """Of all constant factors on it; also where the denoiser is wrong, and the bound above the entropy."""
        levels = trailing(LinearBetas(), 10)
        oracle = Oracle(0.25)
        x0, noise = quadrature(0.25)

        def total(factor: float) -> float:
            return float(
                bound(oracle, x0, levels, DENSITY, lambda now, nxt: factor * oracle.variance(now, nxt), noise)
                .total()
                .mean()
            )

        assert min(total(0.9), total(1.1)) > total(1.0) + 0.01

    @pytest.mark.parametrize(
        ("decoder", "variance", "n", "gaps"),
        [
            ("ho", "beta", 1000, (0.16543, 0.16404)),
            ("ho", "beta", 100, (0.01652, 0.00079)),
            ("ho", "beta", 50, (0.03142, 0.00009)),
            ("ho", "beta_tilde", 1000, (0.82223, 0.83474)),
            ("ho", "beta_tilde", 100, (13.818, 14.041)),
            ("ho", "beta_tilde", 50, (41.81, 42.887)),
            ("pair", "beta", 1000, (0.00158, 0.0)),
            ("pair", "beta", 100, (0.01558, 0.0)),
            ("pair", "beta", 50, (0.03075, 0.0)),
            ("pair", "beta_tilde", 1000, (0.65837, 0.67070)),
            ("pair", "beta_tilde", 100, (1.15346, 1.28339)),
            ("pair", "beta_tilde", 50, (1.15769, 1.42210)),
        ],
    )
    def test_gaps_of_the_fixed_variances(
        self, decoder: str, variance: Variance, n: int, gaps: tuple[float, float]
    ) -> None:
        """Bits above the entropy for c = 1/4 and 1, both conventions for the decoder on the linear chain."""
        chain = LinearBetas()
        steps = torch.linspace(1000, 1, n, dtype=torch.float64).round().long()
        levels = trailing(chain, n) if decoder == "pair" else chain.levels[torch.cat([steps, torch.tensor([0])])]
        nodes = [quadrature(c) for c in (0.25, 1.0)]
        c = real(0.25, 1.0).repeat_interleave(4)[:, None]
        noise = Fixed(torch.cat([noise.eps for _, noise in nodes]))
        last = Decoder(levels=None, variance=decoder)  # type: ignore[arg-type]  # parametrized
        terms = bound(Oracle(c), torch.cat([x0 for x0, _ in nodes]), levels, last, variance, noise)
        got = terms.bits_per_dim().reshape(2, 4).mean(1).tolist()
        for bits, c_of, gap in zip(got, (0.25, 1.0), gaps, strict=True):
            assert bits - entropy(c_of) / math.log(2) == pytest.approx(gap, abs=6e-6, rel=5e-5)

    @pytest.mark.parametrize(("energy", "bits"), [(0.25, "7.28e-06"), (1 / 3, "9.70e-06"), (1.0, "2.91e-05")])
    def test_prior(self, energy: float, bits: str) -> None:
        """L_T of the linear chain, by the energy of the data."""
        x0 = torch.full((3, 5), math.sqrt(energy), dtype=torch.float64)
        terms = bound(Oracle(0.25), x0, trailing(LinearBetas(), 5), DENSITY, "beta", Fixed(real(0)))
        assert [f"{value / math.log(2) / 5:.2e}" for value in terms.prior.tolist()] == [bits] * 3

    @pytest.mark.parametrize("name", SCHEDULES)
    @pytest.mark.parametrize("t", [1.0, 0.7, 0.2])
    def test_prior_is_a_divergence(self, name: str, t: float) -> None:
        x0, level = torch.randn(4, 2, 3, generator=torch.Generator().manual_seed(0)), SCHEDULES[name](t)
        q = torch.distributions.Normal(level.alpha * x0.double(), level.sigma)
        p = torch.distributions.Normal(0.0, (level.alpha**2 + level.sigma**2).sqrt())
        expected = torch.distributions.kl_divergence(q, p).sum((1, 2))
        close(prior_term(x0, level), expected, rtol=1e-9, atol=1e-12)

    def test_it_bounds_every_example(self) -> None:
        """-log p(x0) of the data is never above the bound of an exact model, in expectation over noise."""
        oracle = Oracle(0.25)
        x0 = real(-1.3, -0.2, 0.0, 0.6, 1.1).repeat_interleave(2)[:, None]
        noise = Fixed(real(-1, 1).repeat(5)[:, None])
        terms = bound(oracle, x0, trailing(LinearBetas(), 25), DENSITY, oracle.variance, noise)
        exact = -torch.from_numpy(scipy.stats.norm(scale=0.5).logpdf(x0[::2, 0].numpy()))
        assert bool((terms.total().reshape(5, 2).mean(1) >= exact - 1e-6).all())


class TestDecoder:
    values = 2 * torch.arange(256, dtype=torch.float64) / 255 - 1

    @pytest.mark.parametrize("convention", ["pair", "ho"])
    @pytest.mark.parametrize("variance", ["beta", "beta_tilde"])
    @pytest.mark.parametrize("name", ["linear", "flow", "interpolated"])
    def test_masses_of_bytes(self, convention: str, variance: Variance, name: str) -> None:
        """Against a cumulative distribution that knows nothing of levels."""
        levels = trailing(SCHEDULES[name], 1000 if name == "flow" else 50)
        x0 = self.values[::5, None]
        eps = torch.randn(len(x0), 1, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        decoder = Decoder(variance=convention)  # type: ignore[arg-type]  # parametrized
        oracle = Oracle(0.25)
        got = bound(oracle, x0, levels, decoder, variance, Fixed(eps)).decoder
        before, now = levels[-3], levels[-2]
        mean = oracle(now.alpha * x0 + now.sigma * eps, now).value
        variance_now = now.sigma**2 / (now.alpha**2 + now.sigma**2)  # at the scale of clean data
        if convention == "ho":  # var(x_now | x_before, x0) from the joint covariance of the two noises
            shared = before.alpha / now.alpha * now.sigma**2
            variance_now = now.sigma**2 - shared**2 / before.sigma**2
        normal = scipy.stats.norm(mean.numpy(), math.sqrt(float(variance_now)))
        edges = np.concatenate([[-np.inf], (np.arange(255) + 0.5) * 2 / 255 - 1, [np.inf]])
        place = np.arange(0, 256, 5)[:, None]
        low, high = edges[place], edges[place + 1]
        mass = np.where(low > mean.numpy(), normal.sf(low) - normal.sf(high), normal.cdf(high) - normal.cdf(low))
        close(got, -torch.from_numpy(np.log(mass))[:, 0], rtol=1e-7)

    @pytest.mark.parametrize("values", [2, 17, 256])
    def test_is_a_distribution(self, values: int) -> None:
        x0 = torch.linspace(-1, 1, values, dtype=torch.float64)[:, None]
        levels = trailing(LinearBetas(), 10)
        said = Estimate("x0", torch.full_like(x0, 0.83), torch.zeros_like(x0), levels[-2])
        total = Decoder(levels=values).log_prob(x0, said, levels, "beta").exp().sum()
        assert float(total) == pytest.approx(1, abs=1e-12)

    @pytest.mark.parametrize("shrink", [1.0, 0.6])
    @pytest.mark.parametrize("n", [1, 2, 5])
    def test_the_whole_bound_is_of_a_distribution(self, n: int, shrink: float) -> None:
        """Sum over all x0 of exp(-bound) cannot exceed 1, since every bound is above -log p(x0)."""
        node, weight = (torch.from_numpy(part) for part in np.polynomial.hermite_e.hermegauss(40))
        x0 = torch.linspace(-1, 1, 17, dtype=torch.float64).repeat_interleave(40)[:, None]
        levels = trailing(CosineBetas(steps=20), n)
        terms = bound(
            Oracle(0.3, shrink=shrink), x0, levels, Decoder(levels=17), "beta", Fixed(node.repeat(17)[:, None])
        )
        expected = terms.total().reshape(17, 40) @ (weight / weight.sum())
        assert 0.01 < float((-expected).exp().sum()) <= 1

    def test_ho_needs_two_pairs(self) -> None:
        with pytest.raises(ValueError, match="that of the pair before the last, and this grid has one pair"):
            bound(Oracle(1.0), real(0)[:, None], trailing(Flow(), 1), Decoder(variance="ho"), "beta", Fixed(real(0)))

    def test_a_grid_of_one_step_is_all_decoder(self) -> None:
        terms = bound(Oracle(0.25), real(0.1, 0.2)[:, None], trailing(Flow(), 1), DENSITY, "beta", Fixed(real(1)))
        assert terms.kl.shape == (2, 0)
        close(terms.total(), terms.prior + terms.decoder)


class TestSubsampling:
    chain = LinearBetas(steps=30)
    oracle = Oracle(0.25)

    def some(self, b: int, grid: int, steps: Tensor | None = None, weights: Tensor | None = None) -> BoundTerms:
        """The terms of b examples with the same noise at every level, so that a term depends on its pair alone."""
        x0, eps = torch.randn(2, b, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
        return bound(self.oracle, x0, trailing(self.chain, grid), DENSITY, "beta", Fixed(eps), steps, weights)

    @pytest.mark.parametrize(("terms", "pairs"), [(1, 7), (3, 9), (4, 10), (7, 9), (28, 28), (50, 999), (400, 999)])
    def test_strata(self, terms: int, pairs: int) -> None:
        """They tile the pairs; all but those held to one pair, and their neighbours, are about as wide in log-SNR."""
        levels = trailing(LinearBetas(), pairs + 1)
        edges = strata(levels, terms)
        assert edges.shape == (terms + 1,)
        assert edges[[0, -1]].tolist() == [0, pairs]
        assert bool((edges.diff() >= 1).all())
        if terms == 50:
            wide = edges.diff() > 10
            widths = levels.logsnr[edges].diff()[wide]
            assert int(wide.sum()) > 20
            assert float(widths.max() / widths.min()) < 1.3

    def test_strata_of_a_grid_that_begins_without_signal(self) -> None:
        """Which counts as one whose log-SNR is less by 1 than the next one's: the others are as wide as ever."""
        levels = trailing(LinearBetas(zero_terminal=True), 20)
        assert strata(levels, 4).tolist() == [0, 3, 8, 15, 19]
        for schedule in (LinearBetas(zero_terminal=True), Flow()):
            levels = trailing(schedule, 1000)
            edges = strata(levels, 20)
            logsnr = torch.cat([levels.logsnr[1:2] - 1, levels.logsnr[1:-1]])
            widths = (logsnr[-1] - logsnr[0]) / 20
            wide = edges.diff() > 4
            assert edges[[0, -1]].tolist() == [0, 999]
            assert int(wide.sum()) > 12
            close(logsnr[edges].diff()[wide], widths.expand(int(wide.sum())), rtol=0.15)

    def test_the_ends_of_the_offset(self) -> None:
        edges = torch.tensor([0, 3, 4, 9])
        assert spread(real(1e-12, 0.5, 1 - 1e-12), edges).tolist() == [[0, 3, 4], [1, 3, 6], [2, 3, 8]]

    @pytest.mark.parametrize(("terms", "pairs"), [(1, 7), (3, 9), (4, 10), (28, 28)])
    def test_chosen_terms_are_unbiased(self, terms: int, pairs: int) -> None:
        """Averaged over every offset, the weighted sum is the whole one."""
        whole = self.some(5, pairs + 1)
        assert whole.kl.shape == (5, pairs)
        edges = strata(trailing(self.chain, pairs + 1), terms)
        cells = math.lcm(*edges.diff().tolist())
        offsets = (torch.arange(cells, dtype=torch.float64) + 0.5) / cells
        totals = [self.some(5, pairs + 1, spread(u.expand(5), edges), edges.diff().double()).total() for u in offsets]
        close(torch.stack(totals).mean(0), whole.total(), rtol=1e-12)
        if terms < pairs:
            assert float(torch.stack(totals).std(0).min()) > 0.01

    def test_columns_are_the_pairs_they_say(self) -> None:
        whole = self.some(4, 10)
        rows = torch.tensor([[0, 3, 8], [1, 1, 2], [8, 0, 4], [5, 6, 7]])
        part = self.some(4, 10, rows)
        assert torch.equal(part.steps, rows)
        close(part.kl, whole.kl.gather(1, rows), rtol=1e-12)
        close(part.distortion[:, :-1], whole.distortion.gather(1, rows), rtol=1e-12)
        close(part.distortion[:, -1], whole.distortion[:, -1], rtol=1e-12)
        close(part.decoder, whole.decoder, rtol=1e-12)
        assert part.weights.tolist() == [3.0] * 3
        assert self.some(4, 11, rows).weights.tolist() == [10 / 3] * 3  # to all digits
        shared = self.some(4, 10, torch.tensor([2, 7]))
        close(shared.kl, whole.kl[:, [2, 7]], rtol=1e-12)
        assert shared.weights.tolist() == [4.5] * 2

    def test_distortion_is_the_error_of_the_estimates(self) -> None:
        x0, noise = quadrature(0.25)
        levels = trailing(self.chain, 30)
        got = bound(self.oracle, x0, levels, DENSITY, "beta", noise).distortion.mean(0)
        close(got, 1 / (4 + levels.logsnr[:-1].exp()), rtol=1e-12)


class TestCombining:
    @staticmethod
    def drawn(draw: int, b: int = 6, terms: int | None = None) -> BoundTerms:
        x0 = torch.randn(6, 2, generator=torch.Generator().manual_seed(3), dtype=torch.float64)[:b]
        noise = NoiseSource(range(b), draw)
        u = noise.uniform(torch.empty(b, 1, dtype=torch.float64), 99).squeeze(1)
        steps = None if terms is None else spread(u, strata(trailing(LinearBetas(), 10), terms))
        return bound(Oracle(0.25), x0, trailing(LinearBetas(), 10), DENSITY, "beta", noise, steps)

    @pytest.mark.parametrize("terms", [None, 4])
    def test_of_draws_is_the_mean_of_the_totals(self, terms: int | None) -> None:
        parts = [self.drawn(draw, terms=terms) for draw in range(3)]
        together = BoundTerms.of_draws(parts)
        close(together.total(), torch.stack([part.total() for part in parts]).mean(0), rtol=1e-13)
        close(together.distortion[:, -1], torch.stack([part.distortion[:, -1] for part in parts]).mean(0), rtol=1e-13)
        assert together.kl.shape == together.distortion[:, :-1].shape == (6, 9 if terms is None else 12)
        assert together.steps.shape == ((9,) if terms is None else (6, 12))

    @pytest.mark.parametrize("terms", [None, 4])
    def test_of_examples_keeps_their_order(self, terms: int | None) -> None:
        parts = [self.drawn(0, terms=terms), self.drawn(1, b=2, terms=terms)]
        together = BoundTerms.of_examples(parts)
        close(together.total(), torch.cat([part.total() for part in parts]), rtol=1e-12)
        assert together.distortion.shape == (8, together.kl.shape[1] + 1)
        assert torch.equal(together.steps, parts[0].steps if terms is None else torch.cat([p.steps for p in parts]))

    def test_no_examples(self) -> None:
        match = "examples: expected at least one to measure, got none"
        none = torch.empty(0, 2).double()
        with pytest.raises(ValueError, match=match):
            bound(Oracle(0.25), none, trailing(LinearBetas(), 10), DENSITY, "beta", NoiseSource([]))
        with pytest.raises(ValueError, match=match):
            flow_log_prob(Oracle(0.25), none, Flow())
        with pytest.raises(ValueError, match=match):
            measure_x0_error(Oracle(0.25), none, trailing(LinearBetas(), 10)[:-1], NoiseSource([]))
        for join in (BoundTerms.of_examples, BoundTerms.of_draws):
            with pytest.raises(ValueError, match=match):
                join([])

    def test_the_standard_error_over_examples_is_honest(self) -> None:
        """200 measurements of 30 examples each, 3 of 9 terms drawn: they miss the truth as often as they say."""
        repeats, n = 200, 30
        x0 = Mixture.gaussian(torch.zeros(2), torch.tensor(0.25)).sample(repeats * n, seed=5)
        noise = NoiseSource(range(repeats * n))
        u = noise.uniform(torch.empty(repeats * n, 1, dtype=torch.float64), 99).squeeze(1)
        levels = trailing(LinearBetas(), 10)
        edges = torch.tensor([0, 4, 7, 9])
        terms = bound(Oracle(0.25), x0, levels, DENSITY, "beta", noise, spread(u, edges), edges.diff())
        nodes, fixed = quadrature(0.25)
        truth = bound(Oracle(0.25), nodes, levels, DENSITY, "beta", fixed).bits_per_dim().mean()
        bits = terms.bits_per_dim().reshape(repeats, n)
        z = (bits.mean(1) - truth) / (bits.std(1) / n**0.5)
        assert abs(float(z.mean())) < 4 / repeats**0.5
        assert float((z**2).mean()) == pytest.approx(1, abs=4 * (2 / repeats) ** 0.5)


@pytest.mark.parametrize(
    ("chain", "n"),
    [
        (LinearBetas(), 1000),
        (LinearBetas(zero_terminal=True), 100),
        (CosineBetas(), 200),
        (CosineBetas(steps=2), 2),
        (Flow(), 300),
    ],
)
def test_single_precision_is_enough(chain: Schedule, n: int) -> None:
    """Terms of float32 pictures, summed in float64, are those of float64 pictures."""
    x0, eps = torch.randn(2, 4, 1, 4, 4, generator=torch.Generator().manual_seed(4))
    exact = bound(Oracle(0.25), x0.double(), trailing(chain, n), DENSITY, "beta", Fixed(eps.double()))
    single = bound(Oracle(0.25), x0, trailing(chain, n), DENSITY, "beta", Fixed(eps))
    for part in (single.prior, single.kl, single.decoder):
        assert part.dtype == torch.float64
    close(single.total(), exact.total(), rtol=1e-4, atol=1e-3)
