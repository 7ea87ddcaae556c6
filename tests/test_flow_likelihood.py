"""The likelihood of the probability flow against closed forms, and the integrator on equations with known solutions."""

import math
from typing import Any

import numpy as np
import pytest
import scipy.stats  # type: ignore[import-untyped]
import torch
from torch import Tensor

from unsteep.analytic import Mixture
from unsteep.core.chains import LinearBetas
from unsteep.core.estimate import Estimate
from unsteep.core.level import NoiseLevel
from unsteep.core.noise import NoiseSource
from unsteep.core.schedules import VP, Cosine, Flow, Schedule
from unsteep.likelihood import FlowLikelihood, dequantize, flow_log_prob
from unsteep.likelihood.ode import integrate


def close(a: Tensor, b: Tensor, rtol: float = 0.0, atol: float = 0.0) -> None:
    torch.testing.assert_close(a, b, rtol=rtol, atol=atol)


def real(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


LINE = Mixture(real(-2, 0.5, 3)[:, None], real(0.1, 0.05, 0.3), real(0.2, 0.5, 0.3))
PLANE = Mixture(
    torch.stack([real(-1.5, 1), real(1.5, 0.3)]),
    torch.tensor([[[0.5, 0.3], [0.3, 0.4]], [[0.2, -0.1], [-0.1, 0.6]]]),
    real(0.4, 0.6),
)
SPACE = Mixture(
    torch.stack([real(-1, 0.4, 0.2), real(1, -0.5, 0)]), torch.stack([real(0.3, 0.1, 0.5), real(0.2, 0.4, 0.1)])
)


def smoothed(mixture: Mixture, level: NoiseLevel) -> Mixture:
    """The data with the noise of `level` added to them: x0 + (sigma / alpha) eps."""
    out = Mixture(torch.zeros(1, *mixture.shape), torch.zeros(1))
    out.__dict__.update(mixture.__dict__)
    out.variances = mixture.variances + (level.sigma / level.alpha) ** 2
    return out


def likelihood(mixture: Mixture, x: Tensor, schedule: Schedule, **options: Any) -> FlowLikelihood:
    """With the marginal of the noisiest level as the prior, where it is not the standard one."""
    end = schedule(1.0)
    prior = None if float(end.alpha) == 0 else (lambda latent: mixture.log_prob(latent, end))
    return flow_log_prob(mixture, x, schedule, **{"prior": prior, **options})


CLEAN = NoiseLevel(*(torch.tensor(value, dtype=torch.float64) for value in (0, math.inf, 1, 0)))
SCHEDULES: dict[str, Schedule] = {
    "flow": Flow(),
    "cosine": Cosine(),
    "vp": VP(),
    "interpolated": LinearBetas().interpolated(),
    "zero-terminal": LinearBetas(zero_terminal=True).interpolated(),
}


class TestMixtures:
    @pytest.mark.parametrize(
        ("name", "mixture"),
        [*((name, PLANE) for name in SCHEDULES), ("vp", LINE), ("flow", LINE), ("vp", SPACE), ("flow", SPACE)],
    )
    def test_closed_form(self, name: str, mixture: Mixture) -> None:
        """To 1e-6 for every sample: the density of data with the noise of the cleanest level."""
        schedule, x = SCHEDULES[name], mixture.sample(5, seed=1)
        first = schedule.inverse(9.0)
        got = likelihood(mixture, x, schedule, first=first, tolerance=1e-7)
        assert got.log_prob.dtype == torch.float64
        close(got.log_prob, smoothed(mixture, first).log_prob(x, CLEAN), atol=1e-6)

    def test_of_a_picture(self) -> None:
        """Shapes are kept: an isotropic Gaussian over (1, 2, 2)."""
        data = Mixture.gaussian(torch.full((1, 2, 2), 0.2), torch.tensor(0.3))
        x, schedule = data.sample(3), VP()
        got = likelihood(data, x, schedule, tolerance=1e-7)
        assert got.latent.shape == (3, 1, 2, 2)
        normal = scipy.stats.norm(0.2, math.sqrt(0.3 + math.exp(-float(schedule(0.001).logsnr))))
        close(got.log_prob, torch.from_numpy(normal.logpdf(x.numpy()).sum((1, 2, 3))), atol=1e-6)

    @pytest.mark.parametrize("name", ["linear", "flow"])
    def test_the_first_level_by_default(self, name: str) -> None:
        """Step 1 of a chain, which is interpolated for the flow, or t = 1/1000."""
        schedules: dict[str, Schedule] = {"linear": LinearBetas(), "flow": Flow()}
        schedule = schedules[name]
        x = LINE.sample(4, seed=2)
        got = likelihood(LINE, x, schedule, tolerance=1e-7)
        close(got.log_prob, smoothed(LINE, schedule(1 / 1000)).log_prob(x, CLEAN), atol=1e-6)

    @pytest.mark.parametrize("name", SCHEDULES)
    def test_latents_of_a_gaussian(self, name: str) -> None:
        """The flow keeps every quantile where it is: an affine map of the data."""
        schedule = SCHEDULES[name]
        data, first = Mixture.gaussian(real(0.4), torch.tensor(0.3)), schedule.inverse(6.0)
        x = real(-1, 0.2, 0.4, 1.7)[:, None]
        got = likelihood(data, x, schedule, first=first, tolerance=1e-8)
        end = schedule(1.0)
        clean_std = math.sqrt(0.3 + math.exp(-6))
        std = torch.sqrt(0.3 * end.alpha**2 + end.sigma**2)
        close(got.latent, end.alpha * 0.4 + std * (x - 0.4) / clean_std, atol=1e-6)

    @pytest.mark.parametrize("name", ["vp", "flow"])
    def test_the_standard_prior(self, name: str) -> None:
        """Data N(0, I) are N(0, alpha^2 + sigma^2) at the end: no prior need be given."""
        schedule, x = SCHEDULES[name], torch.randn(6, 3, generator=torch.Generator().manual_seed(0)).double()
        data = Mixture.gaussian(torch.zeros(3), torch.tensor(1.0))
        first = schedule.inverse(9.0)
        got = flow_log_prob(data, x, schedule, first=first, tolerance=1e-8)
        normal = scipy.stats.norm(0, math.sqrt(1 + math.exp(-9)))
        close(got.log_prob, torch.from_numpy(normal.logpdf(x.numpy()).sum(1)), atol=1e-6)

    def test_it_works_where_gradients_are_off(self) -> None:
        with torch.no_grad():
            got = likelihood(LINE, LINE.sample(2), VP())
        assert not got.log_prob.requires_grad
        assert not got.latent.requires_grad

    def test_single_precision(self) -> None:
        x = PLANE.sample(4)
        exact, single = (likelihood(PLANE, x.to(dtype), VP(), tolerance=1e-4) for dtype in (x.dtype, torch.float32))
        close(single.log_prob, exact.log_prob, atol=2e-3)


class TestTolerance:
    def test_it_bounds_the_error(self) -> None:
        x = PLANE.sample(6, seed=3)
        first = Cosine().inverse(9.0)
        exact = smoothed(PLANE, first).log_prob(x, CLEAN)
        errors, evaluations = [], []
        for tolerance in (1e-3, 1e-5, 1e-7):
            got = likelihood(PLANE, x, Cosine(), first=first, tolerance=tolerance)
            errors.append(float((got.log_prob - exact).abs().max()))
            evaluations.append(got.nfe)
            assert errors[-1] < 10 * tolerance
        assert errors[0] > 10 * errors[1] > 100 * errors[2]
        assert evaluations[0] < evaluations[1] < evaluations[2]

    @pytest.mark.parametrize("name", ["flow", "vp", "interpolated"])
    def test_as_it_comes_it_is_within_1e_6(self, name: str) -> None:
        """In float64; in single precision it takes no more calls than its digits are worth."""
        x, schedule = PLANE.sample(6, seed=5), SCHEDULES[name]
        first = schedule.inverse(9.0)
        got = likelihood(PLANE, x, schedule, first=first)
        close(got.log_prob, smoothed(PLANE, first).log_prob(x, CLEAN), atol=1e-6)
        assert likelihood(PLANE, x.float(), schedule, first=first).nfe < got.nfe / 2

    def test_neighbours_move_an_answer_by_less_than_it(self) -> None:
        x = PLANE.sample(5, seed=4)
        x[0] += 4  # the flow of this one needs other steps
        together = likelihood(PLANE, x, VP(), tolerance=1e-7).log_prob
        alone = torch.cat([likelihood(PLANE, row[None], VP(), tolerance=1e-7).log_prob for row in x[:2]])
        close(together[:2], alone, atol=1e-6)
        assert not torch.equal(together[:2], alone)

    def test_evaluations_are_counted(self) -> None:
        calls = 0

        def counted(x_t: Tensor, level: NoiseLevel) -> Estimate:
            nonlocal calls
            calls += 1
            return PLANE(x_t, level)

        got = flow_log_prob(counted, PLANE.sample(2), Flow(), tolerance=1e-4)
        assert got.nfe == calls
        assert calls % 6 == 1  # one to begin, six a step: the seventh is the next step's first
        assert calls > 60


class TestHutchinson:
    GAUSSIAN = Mixture.gaussian(torch.zeros(3), torch.tensor([[1.0, 0.6, 0.2], [0.6, 0.8, -0.3], [0.2, -0.3, 0.5]]))

    def test_unbiased(self) -> None:
        """Over 1000 seeds at one x, whose flow's Jacobian is far from diagonal."""
        x = real(0.5, -1.0, 0.3).expand(1000, 3)
        exact = likelihood(self.GAUSSIAN, x[:1], VP(), tolerance=1e-5).log_prob
        got = likelihood(
            self.GAUSSIAN, x, VP(), divergence="hutchinson", noise=NoiseSource(range(1000)), tolerance=1e-4
        ).log_prob
        assert float(got.std()) > 0.1
        assert abs(float(got.mean() - exact)) < 4 * float(got.std()) / 1000**0.5

    def test_exact_where_the_jacobian_is_diagonal(self) -> None:
        """The square of a sign is 1: independent dimensions have no noise."""
        data = Mixture.gaussian(torch.zeros(3), real(0.2, 1.0, 3.0))
        x = data.sample(4)
        exact = likelihood(data, x, VP())
        got = likelihood(data, x, VP(), divergence="hutchinson", noise=NoiseSource(range(4)))
        close(got.log_prob, exact.log_prob, atol=1e-10)
        assert got.nfe == exact.nfe

    def test_a_seed_is_an_answer(self) -> None:
        x = real(0.5, -1.0, 0.3).expand(3, 3)
        one, two = (
            likelihood(self.GAUSSIAN, x, VP(), divergence="hutchinson", noise=NoiseSource(seeds)).log_prob
            for seeds in ([0, 1, 6], [0, 7, 6])
        )
        close(one[[0, 2]], two[[0, 2]], atol=1e-4)
        assert abs(float(one[1] - two[1])) > 0.01

    def test_signs_need_a_source(self) -> None:
        with pytest.raises(ValueError, match="give a NoiseSource with a seed for each row"):
            flow_log_prob(LINE, LINE.sample(2), VP(), divergence="hutchinson")


class TestDequantize:
    @pytest.mark.parametrize("levels", [2, 17, 256])
    def test_within_the_bins(self, levels: int) -> None:
        values = torch.linspace(-1, 1, levels, dtype=torch.float64)
        x = values[torch.arange(4000) % levels].reshape(40, 100)
        noisy, log_volume = dequantize(x, levels, NoiseSource(range(40)))
        width = 2 / (levels - 1)
        assert log_volume == pytest.approx(math.log(width))
        assert torch.equal(((noisy + 1) / width).round(), ((x + 1) / width).round())
        place = ((noisy - x) / width + 0.5).flatten().numpy()
        assert scipy.stats.kstest(place, "uniform").pvalue > 0.01

    def test_it_bounds_a_probability(self) -> None:
        """E log p(x + u) + log volume is below the log-mass of the bin, and by little where the density is smooth."""
        values = torch.linspace(-1, 1, 17, dtype=torch.float64)
        x = values.repeat_interleave(3000)[:, None]
        noisy, log_volume = dequantize(x, 17, NoiseSource(range(len(x))))
        for std, gap in ((0.1, 5.0), (0.5, 0.02)):
            normal = scipy.stats.norm(0, std)
            log_p = torch.from_numpy(normal.logpdf(noisy[:, 0].numpy())).reshape(17, 3000)
            edges = -np.abs(values.numpy())[:, None] + [-1 / 16, 1 / 16]  # by symmetry, from the left tail
            log_mass = torch.from_numpy(np.log(np.diff(normal.cdf(edges))[:, 0]))
            short = log_mass - (log_p.mean(1) + log_volume)
            error = log_p.std(1) / 3000**0.5
            assert bool((short > -4 * error).all())
            assert bool((short < gap + 4 * error).all())
            assert float(short.mean()) > 0


class TestIntegrate:
    def test_polynomials_of_degree_four_are_exact(self) -> None:
        """Of order 5, so exact where the slope has degree 4 or less, however long the steps."""
        powers = torch.arange(6).double()

        def solve(tolerance: float) -> Tensor:
            y, _ = integrate(lambda u, y: (u**powers)[None], torch.zeros(1, 6).double(), -0.7, 1.9, tolerance)
            return y[0]

        exact = (1.9 ** (powers + 1) - (-0.7) ** (powers + 1)) / (powers + 1)
        close(solve(10.0)[:5], exact[:5], rtol=1e-12)
        assert abs(float(solve(10.0)[5] - exact[5])) > 1e-7
        close(solve(1e-10), exact, rtol=1e-9)

    def test_the_error_of_a_cubic_is_seen_to_be_nothing(self) -> None:
        """Both formulas of the pair have order 4 at least: steps grow fivefold from 1/100 of the way."""
        _, nfe = integrate(lambda u, y: torch.full_like(y, u**3), torch.zeros(1, 1).double(), 0, 1, 1e-10)
        assert nfe == 1 + 6 * 4  # 1 + 5 + 25 hundredths, and the rest: far above what rounding makes of nothing
        _, nfe = integrate(lambda u, y: torch.full_like(y, u**8), torch.zeros(1, 1).double(), 0, 1, 1e-14)
        assert nfe > 300

    def test_linear_equations(self) -> None:
        """y' = M y, a spiral inwards and a decay: the matrix exponential."""
        m = torch.tensor([[-0.2, 3.0, 0.0], [-3.0, -0.2, 0.0], [0.0, 0.0, -4.0]]).double()
        y = torch.randn(5, 3, generator=torch.Generator().manual_seed(1)).double()
        got, _ = integrate(lambda u, y: y @ m.T, y, 0.5, 2.5, 1e-10)
        close(got, y @ torch.linalg.matrix_exp(2 * m).T, atol=1e-9)

    def test_order_five(self) -> None:
        """The error falls with the fifth power of the number of steps."""
        turn, logs = torch.tensor([[0.0, 1.0], [-1.0, 0.0]]).double(), []
        for tolerance in (1e-5, 1e-6, 1e-7, 1e-8, 1e-9):
            y, nfe = integrate(lambda u, y: y @ turn, real(1, 0)[None], 0, 20, tolerance)
            error = float((y - real(math.cos(20), math.sin(20))).norm())
            logs.append((math.log(nfe), math.log(error)))
        slope = scipy.stats.linregress(*zip(*logs, strict=True)).slope
        assert -5.5 < slope < -4.7

    def test_it_ends_where_it_should(self) -> None:
        seen = []

        def field(u: float, y: Tensor) -> Tensor:
            seen.append(u)
            return torch.ones_like(y)

        y, _ = integrate(field, torch.zeros(2, 1).double(), 0.1, 0.7, 1e-6)
        close(y, torch.full((2, 1), 0.6, dtype=torch.float64), rtol=1e-14)
        assert (min(seen), max(seen)) == (0.1, 0.7)

    def test_the_worst_example_decides(self) -> None:
        """A batch takes the steps that its hardest row needs alone."""
        rates = real(1.0, 40.0)[:, None]

        def evaluations(rate: Tensor) -> int:
            return integrate(lambda u, y: (rate * u).cos(), torch.zeros(len(rate), 1).double(), 0, 6, 1e-6)[1]

        assert evaluations(rates) == evaluations(rates[1:]) > 3 * evaluations(rates[:1])

    def test_it_gives_up(self) -> None:
        def broken(u: float, y: Tensor) -> Tensor:
            return y / 0

        with pytest.raises(ValueError, match=r"beyond log sigma/alpha = 0.000 of 1.000 .*; raise the tol"):
            integrate(broken, torch.zeros(1, 1), 0, 1, 1e-5)
