"""The measured error of x0 estimates, and the reverse variance that it makes optimal.

On Gaussian data with a linear denoiser the nodes +-1 with equal weights give expectations to all digits.
"""

import math
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from unsteep.analytic import Mixture
from unsteep.core.chains import Chain, LinearBetas
from unsteep.core.estimate import Estimate
from unsteep.core.gaussian import optimal_variance
from unsteep.core.level import NoiseLevel
from unsteep.core.noise import NoiseSource
from unsteep.core.schedules import VP, Cosine, Flow, Schedule
from unsteep.denoiser import Denoise
from unsteep.likelihood import Decoder, X0Error, bound, measure_x0_error, probing_levels

C = 0.25


def close(a: Tensor, b: Tensor, rtol: float = 0.0, atol: float = 0.0) -> None:
    torch.testing.assert_close(a, b, rtol=rtol, atol=atol)


def real(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


@dataclass
class Fixed:
    """The same noise whatever the draw."""

    eps: Tensor

    def normal(self, like: Tensor, draw: int) -> Tensor:
        return self.eps.to(like)


def nodes() -> tuple[Tensor, Fixed]:
    x0, eps = torch.cartesian_prod(real(-1, 1), real(-1, 1)).T[..., None]
    return math.sqrt(C) * x0, Fixed(eps)


def shrunk(by: float) -> Denoise:
    """The best denoiser of N(0, C), its estimates multiplied by a number."""

    def denoise(x_t: Tensor, level: NoiseLevel) -> Estimate:
        at = level.like(x_t)
        return Estimate("x0", by * at.alpha * C / (at.alpha**2 * C + at.sigma**2) * x_t, x_t, level)

    return denoise


def ignorance(logsnr: Tensor) -> Tensor:
    """The variance of x0 given x_t: precisions add."""
    return 1 / (1 / C + logsnr.exp())


class TestMeasuring:
    @pytest.mark.parametrize("name", ["linear", "vp", "flow"])
    def test_the_best_denoiser_errs_by_its_ignorance(self, name: str) -> None:
        """From draws: within the standard error of a mean of squares, at every level."""
        schedules: dict[str, Schedule] = {"linear": LinearBetas(), "vp": VP(), "flow": Flow()}
        schedule = schedules[name]
        data = Mixture.gaussian(torch.zeros(4), torch.tensor(C))
        levels = probing_levels(schedule, 12)
        logsnr, error = measure_x0_error(data, data.sample(2000, seed=1), levels, NoiseSource(range(2000)))
        z = (error / ignorance(logsnr) - 1) / (2 / 8000) ** 0.5
        assert float(z.abs().max()) < 4.5
        assert float((z**2).mean()) > 0.1  # a measurement, not the formula

    def test_a_wrong_denoiser_errs_more(self) -> None:
        x0, noise = nodes()
        levels = LinearBetas()(real(0.1, 0.5, 0.9))
        logsnr, best = measure_x0_error(shrunk(1.0), x0, levels, noise)
        _, worse = measure_x0_error(shrunk(0.8), x0, levels, noise)
        close(best, ignorance(logsnr), rtol=1e-12)
        close(worse - best, 0.04 * (C - ignorance(logsnr)), rtol=1e-9)  # (1 - 0.8)^2 of the estimate's own variance

    def test_the_noisiest_level_comes_first(self) -> None:
        x0, noise = nodes()
        levels = VP()(real(0.2, 0.9, 0.5))
        table = measure_x0_error(shrunk(1.0), x0, levels, noise)
        assert table.dtype == torch.float64
        assert torch.equal(table[0], levels.logsnr.sort().values)
        close(table[1], ignorance(table[0]), rtol=1e-12)

    def test_single_precision_in_double_precision_out(self) -> None:
        x0, noise = nodes()
        table = measure_x0_error(shrunk(1.0), x0.float(), VP()(real(0.2, 0.9)), noise)
        close(table[1], ignorance(table[0]), rtol=1e-5)

    def test_probing_levels(self, schedule: Schedule) -> None:
        """Noisy levels of the schedule, noise increasing, from the first step to the last that holds signal."""
        steps = schedule.steps or 1000
        levels = probing_levels(schedule, 9)
        assert 1 <= len(levels) <= 9
        assert bool((levels.t.diff() > 0).all())
        assert bool((levels.sigma > 0).all())
        assert bool(levels.logsnr.isfinite().all())
        again = schedule(levels.t)
        assert torch.equal(again.logsnr, levels.logsnr)
        assert float(levels.t[0]) == pytest.approx(1 / steps, rel=1e-6) or float(levels.logsnr[0]) > 8.99
        end = 1.0 if schedule.logsnr_min > -math.inf else 1 - 1 / steps
        assert float(levels.t[-1]) == pytest.approx(end, rel=1e-6)

    def test_probing_levels_are_even(self) -> None:
        levels = probing_levels(Cosine(), 20)
        gaps = levels.logsnr.diff()
        close(gaps, gaps.mean().expand(19), rtol=1e-6)


class TestInterpolation:
    table = torch.stack([real(-8, -3, 1, 2), real(0.4, 0.3, 0.05, 1e-4)])

    @staticmethod
    def at(*logsnr: float) -> NoiseLevel:
        return Cosine(logsnr_min=-math.inf, logsnr_max=math.inf).inverse(real(*logsnr))

    def test_measurements_come_back(self) -> None:
        close(X0Error(self.table)(self.at(-8, -3, 1, 2)), self.table[1], rtol=1e-12)

    def test_constant_beyond(self) -> None:
        got = X0Error(self.table)(self.at(-math.inf, -50, 2.1, 40))
        close(got, real(0.4, 0.4, 1e-4, 1e-4), rtol=1e-12)

    def test_geometric_between(self) -> None:
        got = X0Error(self.table)(self.at(-1, -5.5))
        close(got, real((0.3 * 0.05) ** 0.5, (0.4 * 0.3) ** 0.5), rtol=1e-12)

    def test_shapes(self) -> None:
        level = self.at(0.0, 1.5, -4.0)
        together = X0Error(self.table)(level)
        for i in range(3):
            alone = X0Error(self.table)(level[i])
            assert alone.shape == ()
            close(alone, together[i], rtol=1e-12)

    def test_one_measurement(self) -> None:
        close(X0Error(self.table[:, 1:2])(self.at(-9, -3, 5)), real(0.3, 0.3, 0.3), rtol=1e-12)

    def test_of_the_best_denoiser_it_is_good_between_the_measurements(self) -> None:
        schedule = Cosine()
        levels = probing_levels(schedule)
        x0, noise = nodes()
        error = X0Error(measure_x0_error(shrunk(1.0), x0, levels, noise))
        every = schedule(torch.linspace(0.001, 1, 1000, dtype=torch.float64))
        close(error(every), ignorance(every.logsnr), rtol=0.03)


class TestOptimum:
    @staticmethod
    def total(by: float, chain: Chain, n: int, factor: float = 1.0) -> float:
        """The bound of a shrunk denoiser with `factor` times the variance that its measured error makes optimal."""
        levels = chain(torch.linspace(1, 0, n + 1, dtype=torch.float64))
        x0, noise = nodes()
        optimal = optimal_variance(X0Error(measure_x0_error(shrunk(by), x0, levels[:-1], noise)))

        def variance(now: NoiseLevel, nxt: NoiseLevel) -> Tensor:
            return factor * optimal(now, nxt)

        terms = bound(shrunk(by), x0, levels, Decoder(levels=None), variance, noise)
        return float(terms.total().mean())

    @pytest.mark.parametrize("n", [2, 10, 50])
    def test_with_the_best_denoiser_it_reaches_the_entropy(self, n: int) -> None:
        assert self.total(1.0, LinearBetas(), n) == pytest.approx(0.5 * math.log(2 * math.pi * math.e * C), abs=1e-5)

    @pytest.mark.parametrize("by", [1.0, 0.7])
    @pytest.mark.parametrize("n", [2, 10, 50])
    def test_it_is_the_best_factor(self, by: float, n: int) -> None:
        """Also for a wrong denoiser, whose larger error it has measured."""
        best = self.total(by, LinearBetas(), n)
        assert min(self.total(by, LinearBetas(), n, factor) for factor in (0.9, 1.1)) > best + 1e-3
        slope = self.total(by, LinearBetas(), n, 1 + 1e-4) - self.total(by, LinearBetas(), n, 1 - 1e-4)
        assert abs(slope) / 2e-4 < 1e-6 * n
