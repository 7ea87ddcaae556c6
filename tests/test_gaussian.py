"""Gaussians and the steps between two levels: Bayes' rule by other routes, and what the reverse step promises."""

import math

import pytest
import scipy.integrate  # type: ignore[import-untyped]
import scipy.stats  # type: ignore[import-untyped]
import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from unsteep.core.chains import Chain, LinearBetas
from unsteep.core.estimate import Estimate
from unsteep.core.gaussian import Gaussian, kl, posterior, reverse, step_term
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
            shift = (ratio - 1).float()  # so that both parts of the divergence count
            single = kl(Gaussian(shift, variance), Gaussian(torch.zeros(40), torch.ones(40)))
            exact = kl_divergence(Normal(shift.double(), variance.double().sqrt()), Normal(real(0.0), real(1.0)))
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
        close(q.mean, mean, rtol=1e-13, atol=1e-13)
        close(q.variance, variance, rtol=1e-14, atol=1e-14)

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

    def test_a_noisier_level_is_no_next_one(self) -> None:
        """Nor for the model's step, whatever its variance."""
        x, now, nxt = torch.zeros(2, 3).double(), VP()(torch.tensor([0.5, 0.3])), VP()(torch.tensor([0.2, 0.7]))
        with pytest.raises(ValueError, match=r"got t = 0.7 after t = 0.3; put them in that order, as grid\(\) does"):
            posterior(x, x, now, nxt)
        estimate = Estimate("x0", x, x, now, variance_fraction=x, log_variance=None)
        for variance in ("beta", "beta_tilde", "learned", lambda now, nxt: now.sigma):
            with pytest.raises(ValueError, match=r"got t = 0.7 after t = 0.3"):
                reverse(estimate, nxt, variance)  # type: ignore[arg-type]

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
