"""Gaussians and the steps between two levels: Bayes' rule by other routes, closed bounds, masses of bins."""

import math

import numpy as np
import pytest
import scipy.integrate  # type: ignore[import-untyped]
import scipy.stats  # type: ignore[import-untyped]
import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from unsteep.core.chains import Chain, LinearBetas
from unsteep.core.estimate import Estimate
from unsteep.core.gaussian import Gaussian, discretized_log_prob, kl, posterior, reverse, step_term
from unsteep.core.level import NoiseLevel, add_noise, step_variances
from unsteep.core.schedules import VP, Cosine, Flow, Schedule


def close(a: Tensor, b: Tensor, rtol: float = 0.0, atol: float = 0.0) -> None:
    torch.testing.assert_close(a, b, rtol=rtol, atol=atol)


def real(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def randn(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64)


def pairs(schedule: Schedule) -> tuple[NoiseLevel, NoiseLevel]:
    """Every pair (now, nxt) of a grid that has both ends."""
    level = schedule(torch.linspace(0, 1, 9, dtype=torch.float64))
    level = level[torch.cat([torch.tensor([True]), level.t.diff() > 0])]
    nxt, now = torch.combinations(torch.arange(len(level))).T
    return level[now], level[nxt]


class TestGaussian:
    mean, std, other_mean, other_std = randn(5, 3), randn(5, 3).exp(), randn(5, 3) + 1, (2 * randn(5, 3)).exp()

    def test_log_prob(self) -> None:
        x = randn(5, 3) * 3
        close(Gaussian(self.mean, self.std**2).log_prob(x), Normal(self.mean, self.std).log_prob(x), rtol=1e-13)

    def test_kl(self) -> None:
        q, p = Gaussian(self.mean, self.std**2), Gaussian(self.other_mean, self.other_std**2)
        expected = kl_divergence(Normal(self.mean, self.std), Normal(self.other_mean, self.other_std))
        close(kl(q, p), expected, rtol=1e-12)
        assert torch.equal(kl(q, q), torch.zeros_like(self.mean))

    def test_kl_of_close_gaussians_in_single_precision(self) -> None:
        """The many terms of a long chain are small: they keep their digits, and none is negative."""
        ratio = 1 + torch.logspace(-4, -1, 40, dtype=torch.float64)
        for variance in (ratio.float(), 1 / ratio.float()):
            single = kl(Gaussian(torch.zeros(40), variance), Gaussian(torch.zeros(40), torch.ones(40)))
            exact = kl_divergence(Normal(real(0.0), variance.double().sqrt()), Normal(real(0.0), real(1.0)))
            assert bool((single > 0).all())
            close(single.double(), exact, rtol=1e-2)

    def test_sample(self) -> None:
        draws = Gaussian(real(3.0), real(4.0)).sample(randn(100_000))
        assert float(draws.mean()) == pytest.approx(3, abs=0.02)
        assert float(draws.std()) == pytest.approx(2, rel=0.01)
        assert torch.equal(Gaussian(self.mean, torch.zeros(())).sample(self.std), self.mean)


class TestPosterior:
    def test_is_the_joint_gaussian_conditioned(self, schedule: Schedule) -> None:
        """Given x0, cov(x_nxt, x_now) = r sigma_nxt^2 with r = alpha_now / alpha_nxt: condition on x_now."""
        now, nxt = pairs(schedule)
        x0, x_t = randn(2, len(now.t))
        covariance = now.alpha / nxt.alpha * nxt.sigma**2
        mean = nxt.alpha * x0 + covariance / now.sigma**2 * (x_t - now.alpha * x0)
        variance = nxt.sigma**2 - covariance**2 / now.sigma**2
        q = posterior(x0, x_t, now, nxt)
        close(q.mean, mean, atol=1e-13)
        close(q.variance, variance, atol=1e-14)

    @pytest.mark.parametrize(
        "schedule", [LinearBetas(), VP(), Cosine(), Flow()], ids=["linear", "vp", "cosine", "flow"]
    )
    @pytest.mark.parametrize(("early", "late"), [(0.2, 0.3), (0.5, 0.9), (0.05, 0.95)])
    def test_is_the_product_of_the_two_densities(self, schedule: Schedule, early: float, late: float) -> None:
        """Bayes' rule by quadrature: q(x_now | x_nxt) q(x_nxt | x0), normalised over x_nxt."""
        now, nxt, x0, x_t = schedule(late), schedule(early), 0.7, -0.4
        forward = math.sqrt(step_variances(now, nxt)[0])
        ratio = float(now.alpha / nxt.alpha)

        def moment(power: int) -> float:
            def density(x: float) -> float:
                onwards = scipy.stats.norm.pdf(x_t, ratio * x, forward)
                return float(x**power * onwards * scipy.stats.norm.pdf(x, float(nxt.alpha) * x0, float(nxt.sigma)))

            return float(scipy.integrate.quad(density, -8, 8, limit=200, epsabs=1e-13)[0])

        mass, first, second = moment(0), moment(1), moment(2)
        q = posterior(real(x0), real(x_t), now, nxt)
        assert float(q.mean) == pytest.approx(first / mass, abs=1e-9)
        assert float(q.variance) == pytest.approx(second / mass - (first / mass) ** 2, abs=1e-9)

    def test_unit_steps_are_those_of_ho(self, chain: Chain) -> None:
        """Eq. 7 in the betas: the weights of x0 and x_t, and beta_tilde."""
        if chain.zero_terminal:
            return  # whose betas are others
        beta = chain.betas()
        zero, one = torch.zeros_like(beta), torch.ones_like(beta)
        alpha_bar = torch.cumprod(1 - beta, 0)
        before = torch.cat([real(1.0), alpha_bar[:-1]])
        now, nxt = chain.levels[1:], chain.levels[:-1]
        close(posterior(one, zero, now, nxt).mean, before.sqrt() * beta / (1 - alpha_bar), rtol=1e-9)
        of_x_t = posterior(zero, one, now, nxt)
        close(of_x_t.mean, (1 - beta).sqrt() * (1 - before) / (1 - alpha_bar), rtol=1e-9)
        close(of_x_t.variance, beta * (1 - before) / (1 - alpha_bar), rtol=1e-9)

    def test_keeps_the_marginals(self, schedule: Schedule) -> None:
        """x_now drawn from q(x_now | x0), then a posterior step, is x_nxt drawn from q(x_nxt | x0)."""
        now, nxt = pairs(schedule)
        zero, one = torch.zeros_like(now.t), torch.ones_like(now.t)
        from_x0, from_x_t = posterior(one, zero, now, nxt).mean, posterior(zero, one, now, nxt).mean
        variance = posterior(one, one, now, nxt).variance
        close(from_x0 + from_x_t * now.alpha, nxt.alpha, atol=1e-14)
        close(from_x_t**2 * now.sigma**2 + variance, nxt.sigma**2, rtol=1e-13)

    def test_at_clean_data_is_the_point_x0(self, schedule: Schedule) -> None:
        x0, x_t = randn(2, 4, 3, 2)
        q = posterior(x0, x_t, schedule(real(0.3, 0.5, 0.9, 1.0)), schedule(0.0).expand(4))
        assert torch.equal(q.mean, x0)
        assert torch.equal(q.variance, torch.zeros(4, 1, 1, dtype=torch.float64))

    @pytest.mark.parametrize(
        "schedule",
        [Flow(), Cosine(logsnr_min=-math.inf), LinearBetas(zero_terminal=True)],
        ids=["flow", "cosine", "linear"],
    )
    def test_from_no_signal_forgets_x_t(self, schedule: Schedule) -> None:
        """What holds no signal tells nothing: the posterior is q(x_nxt | x0)."""
        nxt = schedule(real(0.0, 0.2, 0.9))
        x0, x_t = randn(2, 3, 5)
        q = posterior(x0, x_t, schedule(torch.ones(3)), nxt)
        close(q.mean, nxt.alpha[:, None] * x0, rtol=1e-15)
        close(q.variance, nxt.sigma[:, None] ** 2, rtol=1e-15)


class TestReverse:
    now, nxt = LinearBetas()(real(0.5, 0.3)), LinearBetas()(real(0.4, 0.0))
    x0, x_t = randn(2, 2, 3)

    def estimate(self, fraction: Tensor | None = None, log_variance: Tensor | None = None) -> Estimate:
        return Estimate("x0", self.x0, self.x_t, self.now, fraction, log_variance)

    def test_mean_is_the_posterior_of_the_estimate(self, schedule: Schedule) -> None:
        now, nxt = pairs(schedule)
        keep = now.alpha > 0
        now, nxt = now[keep], nxt[keep]
        x0, eps = randn(2, len(now.t), 3)
        x_t = add_noise(x0, eps, now)
        p = reverse(Estimate("eps", eps, x_t, now), nxt)
        close(p.mean, posterior(x0, x_t, now, nxt).mean, atol=1e-10)
        assert p.variance.shape == (len(now.t), 1)

    def test_named_variances(self) -> None:
        beta, beta_tilde = (v[:, None] for v in step_variances(self.now, self.nxt))
        assert torch.equal(reverse(self.estimate(), self.nxt).variance, beta)
        assert torch.equal(reverse(self.estimate(), self.nxt, "beta").variance, beta)
        assert torch.equal(reverse(self.estimate(), self.nxt, "beta_tilde").variance, beta_tilde)
        double = reverse(self.estimate(), self.nxt, lambda now, nxt: 2 * step_variances(now, nxt)[0])
        assert torch.equal(double.variance, 2 * beta)

    def test_learned_fraction_runs_from_beta_tilde_to_beta(self) -> None:
        """In log space (Nichol & Dhariwal 2021, eq. 15); at the last step, where beta_tilde is 0, without a NaN."""
        beta, beta_tilde = (v[:, None].expand(2, 3) for v in step_variances(self.now, self.nxt))
        fractions = {f: torch.full((2, 3), f, dtype=torch.float64) for f in (0.0, 0.5, 1.0)}
        at = {f: reverse(self.estimate(row), self.nxt, "learned").variance for f, row in fractions.items()}
        close(at[0], beta_tilde, rtol=1e-15)
        close(at[1], beta, rtol=1e-15)
        close(at[0.5], (beta * beta_tilde).sqrt(), rtol=1e-14)
        assert all(bool(variance.isfinite().all()) for variance in at.values())

    def test_learned_fraction_has_a_gradient(self) -> None:
        fraction = torch.tensor([[0.0, 0.3, 1.0]] * 2, dtype=torch.float64, requires_grad=True)
        reverse(self.estimate(fraction), self.nxt, "learned").variance.sum().backward()
        assert fraction.grad is not None
        assert bool(fraction.grad.isfinite().all())
        beta, beta_tilde = step_variances(self.now[0], self.nxt[0])
        slope = (beta / beta_tilde).log() * beta_tilde  # of beta_tilde (beta / beta_tilde)^f at f = 0
        assert float(fraction.grad[0, 0]) == pytest.approx(float(slope), rel=1e-12)

    def test_learned_log_variance(self) -> None:
        log_variance = randn(2, 3)
        p = reverse(self.estimate(log_variance=log_variance), self.nxt, "learned")
        close(p.variance.log(), log_variance, atol=1e-15)

    def test_floor_stands_in_where_the_variance_is_zero(self) -> None:
        floor = real(1e-3, 1e-4)
        beta, beta_tilde = step_variances(self.now, self.nxt)
        for floor_, last in ((floor, 1e-4), (torch.tensor(0.5), 0.5)):
            p = reverse(self.estimate(), self.nxt, "beta_tilde", floor=floor_)
            close(p.variance[:, 0], real(float(beta_tilde[0]), last), rtol=1e-15)
            learned = reverse(self.estimate(torch.zeros(2, 3).double()), self.nxt, "learned", floor=floor_)
            close(learned.variance[:, 2], real(float(beta_tilde[0]), last), rtol=1e-15)
        close(reverse(self.estimate(), self.nxt, "beta", floor=floor).variance[:, 0], beta)
        nothing = reverse(self.estimate(), self.nxt, lambda now, nxt: torch.zeros_like(now.t), floor=floor)
        close(nothing.variance[:, 0], floor)

    def test_errors(self) -> None:
        with pytest.raises(ValueError, match=r"learned no variance.*choose variance beta or beta_tilde"):
            reverse(self.estimate(), self.nxt, "learned")
        with pytest.raises(ValueError, match="unknown variance 'large'; choose beta, beta_tilde, learned or"):
            reverse(self.estimate(), self.nxt, "large")  # type: ignore[arg-type]

    def test_step_term_vanishes_for_the_truth_and_only_for_it(self, schedule: Schedule) -> None:
        now, nxt = pairs(schedule)
        keep = nxt.sigma > 0
        now, nxt = now[keep], nxt[keep]
        x0, eps = randn(2, len(now.t), 3)
        x_t = add_noise(x0, eps, now)
        right, wrong = Estimate("x0", x0, x_t, now), Estimate("x0", x0 + 0.5, x_t, now)
        close(step_term(x0, right, nxt, "beta_tilde"), torch.zeros_like(x0), atol=1e-14)
        assert bool((step_term(x0, wrong, nxt, "beta_tilde") > 0).all())


class TestGaussianData:
    """Data N(0, c) and the optimal denoiser, on the linear chain: the whole bound and the samples in closed form."""

    chain = LinearBetas()

    def levels(self, steps: Tensor) -> NoiseLevel:
        """Noise first, clean last."""
        return self.chain.levels[torch.cat([steps.long(), torch.tensor([0])])]

    def trailing(self, n: int) -> NoiseLevel:
        return self.chain(torch.linspace(1, 0, n + 1, dtype=torch.float64))

    @staticmethod
    def optimum(c: float, x_t: Tensor, level: NoiseLevel) -> Estimate:
        at = level.like(x_t)
        return Estimate("x0", at.alpha * c / (at.alpha**2 * c + at.sigma**2) * x_t, x_t, level)

    def gap(self, c: float, levels: NoiseLevel, variance: object, decoder: object) -> float:
        """Bound minus entropy in bits: every term is quadratic in (x0, eps), so 3 x 3 Gauss-Hermite nodes are exact."""
        node, weight = (torch.from_numpy(part) for part in np.polynomial.hermite_e.hermegauss(3))
        weight = (weight[:, None] * weight).flatten() / (2 * math.pi)
        now, nxt = levels[:-1], levels[1:]
        x0 = math.sqrt(c) * node.repeat_interleave(3).expand(len(now), 9)
        x_t = add_noise(x0, node.repeat(3).expand(len(now), 9), now)
        first, last = now[0], len(now) - 1
        prior = kl(Gaussian(first.alpha * x0[0], first.sigma**2), Gaussian(torch.zeros(9), torch.ones(9)))
        inner = self.optimum(c, x_t[:last], now[:last])
        terms = step_term(x0[:last], inner, nxt[:last], variance)  # type: ignore[arg-type]
        end = reverse(self.optimum(c, x_t[last:], now[last:]), nxt[last:], decoder)  # type: ignore[arg-type]
        bound = (weight * (prior + terms.sum(0) - end.log_prob(x0[last:])[0])).sum()
        return (float(bound) - 0.5 * math.log(2 * math.pi * math.e * c)) / math.log(2)

    @pytest.mark.parametrize(
        ("energy", "bits"), [(0.25, "7.28e-06"), (1 / 3, "9.70e-06"), (1.0, "2.91e-05")], ids=["1/4", "1/3", "1"]
    )
    def test_prior_term(self, energy: float, bits: str) -> None:
        last = self.chain(1.0)
        prior = kl(Gaussian(last.alpha * math.sqrt(energy), last.sigma**2), Gaussian(real(0.0), real(1.0)))
        assert f"{float(prior) / math.log(2):.2e}" == bits

    @pytest.mark.parametrize("c", [0.25, 1.0])
    @pytest.mark.parametrize("n", [1000, 100, 50, 10, 2])
    def test_the_bound_is_tight_on_any_grid_with_the_optimal_variance(self, c: float, n: int) -> None:
        def optimal(now: NoiseLevel, nxt: NoiseLevel) -> Tensor:
            """beta_tilde, and what is not known of x0 through the posterior mean."""
            beta, beta_tilde = step_variances(now, nxt)
            unknown = c * now.sigma**2 / (now.alpha**2 * c + now.sigma**2)
            return beta_tilde + (nxt.alpha * beta / now.sigma**2) ** 2 * unknown

        assert self.gap(c, self.trailing(n), optimal, optimal) == pytest.approx(0, abs=1e-5)

    @pytest.mark.parametrize(
        ("c", "variance", "n", "bits"),
        [
            *((0.25, "beta", n, bits) for n, bits in ((1000, 0.16543), (100, 0.01652), (50, 0.03142))),
            *((0.25, "beta_tilde", n, bits) for n, bits in ((1000, 0.82223), (100, 13.818), (50, 41.81))),
            *((1.0, "beta", n, bits) for n, bits in ((1000, 0.16404), (100, 0.00079), (50, 0.00009))),
            *((1.0, "beta_tilde", n, bits) for n, bits in ((1000, 0.83474), (100, 14.041), (50, 42.887))),
        ],
    )
    def test_gap_with_the_decoder_of_ho(self, c: float, variance: str, n: int, bits: float) -> None:
        """The decoder takes beta_tilde of the last pair but one, on the grid round(linspace(1000, 1, n))."""
        levels = self.levels(torch.linspace(1000, 1, n, dtype=torch.float64).round())
        decoder = step_variances(levels[-3], levels[-2])[1]
        gap = self.gap(c, levels, variance, lambda now, nxt: decoder)
        assert gap == pytest.approx(bits, abs=6e-6, rel=5e-5)

    @pytest.mark.parametrize(
        ("c", "variance", "n", "bits"),
        [
            *((0.25, "beta", n, bits) for n, bits in ((1000, 0.00158), (100, 0.01558), (50, 0.03075))),
            *((0.25, "beta_tilde", n, bits) for n, bits in ((1000, 0.65837), (100, 1.15346), (50, 1.15769))),
            *((1.0, "beta", n, 0.0) for n in (1000, 100, 50)),
            *((1.0, "beta_tilde", n, bits) for n, bits in ((1000, 0.67070), (100, 1.28339), (50, 1.42210))),
        ],
    )
    def test_gap_with_beta_at_the_decoder(self, c: float, variance: str, n: int, bits: float) -> None:
        assert self.gap(c, self.trailing(n), variance, "beta") == pytest.approx(bits, abs=6e-6)

    @pytest.mark.parametrize(
        ("variance", "expected"),
        [
            ("beta_tilde", "0.33348 0.39151 0.44410 0.46822 0.48580 0.49611"),
            ("beta", "0.49390 0.51683 0.51172 0.50672 0.50290 0.50075"),
        ],
    )
    def test_spread_of_ancestral_samples(self, variance: str, expected: str) -> None:
        """The standard deviation after N linear steps from N(0, 1), no noise in the last one; the data's is 0.5."""
        spreads = []
        for n in (10, 20, 50, 100, 250, 1000):
            levels = self.trailing(n)
            step = reverse(self.optimum(0.25, torch.ones(n, dtype=torch.float64), levels[:-1]), levels[1:], variance)  # type: ignore[arg-type]
            added = step.variance.clone()
            added[-1] = 0
            spread = real(1.0)
            for gain, noise in zip(step.mean, added, strict=True):
                spread = gain**2 * spread + noise
            spreads.append(f"{float(spread) ** 0.5:.5f}")
        assert " ".join(spreads) == expected


def bins(levels: int) -> Tensor:
    return 2 * torch.arange(levels, dtype=torch.float64) / (levels - 1) - 1


def log_mass(x: float, mean: float, std: float, levels: int) -> float:
    """log of the integral of the density over the bin, by Gauss-Legendre in log space; tails end after 40 std."""
    half = 1 / (levels - 1)
    low, high = x - half, x + half
    if x > 1 - half:
        high = max(low, mean) + 40 * std
    if x < -1 + half:
        low = min(high, mean) - 40 * std
    edges = np.linspace(low, high, 101)
    node, weight = np.polynomial.legendre.leggauss(20)
    half_width = np.diff(edges)[:, None] / 2
    at = edges[:-1, None] + half_width * (node + 1)
    return float(scipy.special.logsumexp(scipy.stats.norm.logpdf(at, mean, std), b=weight * half_width))


@pytest.mark.parametrize("levels", [17, 256])
class TestDiscretizedLogProb:
    @pytest.mark.parametrize("std", [1e-4, 0.01, 0.3, 5.0])
    @pytest.mark.parametrize("mean", [-1.7, -1.0, 0.0123, 0.5, 3.0])
    def test_masses_sum_to_one(self, levels: int, mean: float, std: float) -> None:
        p = Gaussian(real(mean), real(std**2))
        close(discretized_log_prob(p, bins(levels), levels).exp().sum(), torch.tensor(1.0).double(), atol=1e-12)

    @pytest.mark.parametrize(("mean", "std"), [(0.1, 0.3), (-0.9, 0.05), (0.0, 2.0), (0.5, 0.02), (1.3, 0.5)])
    def test_is_the_integral_over_the_bin(self, levels: int, mean: float, std: float) -> None:
        got = discretized_log_prob(Gaussian(real(mean), real(std**2)), bins(levels), levels)
        every = range(0, levels, max(1, levels // 16))
        expected = real(*(log_mass(float(bins(levels)[i]), mean, std, levels) for i in every))
        close(got[list(every)], expected, rtol=1e-9, atol=1e-10)

    def test_far_tails_keep_their_true_logarithm(self, levels: int) -> None:
        """Thousands of nats out, where every cdf is 0 or 1 to float64."""
        for x, mean, std in ((-1.0, 1.0, 0.02), (1.0, -1.0, 0.02), (0.5, -0.5, 0.01), (-0.5, 0.5, 0.01)):
            at = bins(levels)[(bins(levels) - x).abs().argmin()]
            got = discretized_log_prob(Gaussian(real(mean), real(std**2)), at.reshape(1), levels)
            assert float(got) < -4000
            assert float(got) == pytest.approx(log_mass(float(at), mean, std, levels), rel=1e-9)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_value_and_gradient_are_finite(self, levels: int, dtype: torch.dtype) -> None:
        for std in (1e-3, 0.1, 10.0):
            mean = torch.linspace(-3, 3, 13, dtype=dtype)[:, None].requires_grad_()
            variance = torch.tensor(std**2, dtype=dtype, requires_grad=True)
            value = discretized_log_prob(Gaussian(mean, variance), bins(levels).to(dtype), levels)
            value.sum().backward()
            assert mean.grad is not None
            assert variance.grad is not None
            for tensor in (value, mean.grad, variance.grad):
                assert bool(tensor.isfinite().all())
            assert bool((value <= 0).all())

    def test_gradient(self, levels: int) -> None:
        def summed(mean: Tensor, variance: Tensor) -> Tensor:
            return discretized_log_prob(Gaussian(mean, variance), bins(levels)[:: levels // 8], levels)

        assert torch.autograd.gradcheck(summed, (real(0.2).requires_grad_(), real(0.04).requires_grad_()))

    def test_symmetry(self, levels: int) -> None:
        def value(sign: float) -> Tensor:
            return discretized_log_prob(Gaussian(real(sign * 0.3), real(0.01)), sign * bins(levels), levels)

        close(value(1.0), value(-1.0), rtol=1e-12)

    def test_single_precision_pixels(self, levels: int) -> None:
        """Values that went through float32 still fall in their bins, the outermost ones too."""
        p = Gaussian(torch.tensor([0.2]), torch.tensor([0.09]))
        single = discretized_log_prob(p, bins(levels).float(), levels)
        exact = discretized_log_prob(Gaussian(p.mean.double(), p.variance.double()), bins(levels), levels)
        close(single.double(), exact, rtol=1e-4, atol=1e-4)
