"""The chains: which step a time falls on, the levels against exact arithmetic, published values, interpolation."""

import math
from decimal import Decimal, localcontext
from itertools import accumulate

import pytest
import torch

from unsteep.core.chains import Betas, Chain, ConstantBetas, CosineBetas, LinearBetas, QuadraticBetas, SigmoidBetas


def close(a: torch.Tensor, b: torch.Tensor, rtol: float = 0.0, atol: float = 0.0) -> None:
    torch.testing.assert_close(a, b, rtol=rtol, atol=atol)


def alpha_bar(chain: Chain) -> torch.Tensor:
    return chain.levels.alpha[1:] ** 2


class TestSteps:
    def test_a_time_is_the_step_that_it_has_reached(self, chain: Chain) -> None:
        """Step n holds for the times in ((n - 1) / T, n / T], and float noise on n / T does not move it."""
        n = torch.arange(1, chain.steps + 1, dtype=torch.float64)
        for place in (n, n + 1e-7, n - 1e-7, n - 0.5, n - 1 + 1e-5):
            assert torch.equal(chain((place / chain.steps).clamp(max=1)).t, n / chain.steps)
        for t in (1 - (chain.steps - n) / chain.steps, n * (1 / chain.steps)):
            assert torch.equal(chain(t.clamp(max=1)).t, n / chain.steps)

    def test_levels_are_the_table(self, chain: Chain) -> None:
        assert len(chain.levels) == chain.steps + 1
        every = chain(torch.arange(chain.steps + 1, dtype=torch.float64) / chain.steps)
        for mine, table in zip(vars(every).values(), vars(chain.levels).values(), strict=True):
            assert torch.equal(mine, table)

    def test_levels_in_exact_arithmetic(self, chain: Chain) -> None:
        """alpha_bar_n = prod (1 - beta_i) with 60 digits, and for zero terminal SNR sqrt(alpha_bar) moved to 0 at T and
        scaled back to its first value (Lin et al. 2023)."""
        with localcontext(prec=60):
            products = list(accumulate((1 - Decimal(beta) for beta in chain.betas().tolist()), lambda a, b: a * b))
            some = sorted({0, 1, chain.steps // 2, chain.steps - 2, chain.steps - 1} & set(range(chain.steps)))
            for i in some:
                product = products[i]
                if chain.zero_terminal:
                    first, last = products[0].sqrt(), products[-1].sqrt()
                    product = ((product.sqrt() - last) * first / (first - last)) ** 2
                level = chain.levels[i + 1]
                assert float(level.alpha) == pytest.approx(float(product.sqrt()), rel=1e-12)
                assert float(level.sigma) == pytest.approx(float((1 - product).sqrt()), rel=1e-13)
                if product > 0:
                    assert float(level.logsnr) == pytest.approx(float((product / (1 - product)).ln()), abs=4e-12)

    def test_zero_terminal(self, chain: Chain) -> None:
        last = chain.levels[-1]
        assert (float(last.alpha) == 0) == chain.zero_terminal
        assert (float(last.logsnr) == -math.inf) == chain.zero_terminal
        assert (float(last.sigma) == 1) == chain.zero_terminal


class TestFamilies:
    @pytest.mark.parametrize("steps", [50, 200, 1000, 4000])
    def test_a_chain_of_any_length_adds_the_same_noise(self, steps: int) -> None:
        """Stated for 1000 steps: the sum of the betas does not depend on T, whatever T is."""
        linear, constant = LinearBetas(steps=steps), ConstantBetas(steps=steps)
        assert float(linear.betas().sum()) == pytest.approx(1000 * (1e-4 + 0.02) / 2, rel=1e-13)
        assert float(constant.betas().sum()) == pytest.approx(10, rel=1e-13)
        assert float(SigmoidBetas(steps=steps).betas().sum()) == pytest.approx(1000 * (1e-4 + 0.02) / 2, rel=1e-13)
        assert alpha_bar(linear)[-1] < 6e-5

    def test_linear_is_linear_and_quadratic_is_a_square(self) -> None:
        ends = torch.tensor([1e-4, 0.02], dtype=torch.float64)
        for ramp in (LinearBetas().betas(), QuadraticBetas().betas().sqrt()):
            close(ramp.diff(), (ramp[-1:] - ramp[0]).expand(999) / 999, atol=1e-16)
        close(LinearBetas().betas()[[0, -1]], ends, rtol=1e-15)
        close(QuadraticBetas().betas()[[0, -1]], ends, rtol=1e-15)

    def test_sigmoid_betas_are_sigmoid(self) -> None:
        betas = SigmoidBetas(steps=101, start=0.01, end=0.05, sharpness=4.0).betas() / (1000 / 101)
        ramp = torch.logit((betas - 0.01) / 0.04)
        close(ramp, torch.linspace(-4, 4, 101, dtype=torch.float64), atol=1e-12)

    @pytest.mark.parametrize("steps", [1, 2, 20, 1000, 4000])
    def test_cosine_betas_give_a_cosine(self, steps: int) -> None:
        """alpha_bar_n = f(n/T) / f(0) with f = cos^2 wherever no beta was cut, and no beta passes 0.999."""
        cosine = CosineBetas(steps=steps)
        quarter = (torch.arange(steps + 1, dtype=torch.float64) / steps + 0.008) / 1.008 * math.pi / 2
        whole = (torch.cos(quarter) / torch.cos(quarter[0])) ** 2
        free = int((cosine.betas() < 0.999).sum())
        assert steps - free <= 1 + steps // 1000
        close(alpha_bar(cosine)[:free], whole[1 : free + 1], rtol=1e-10)
        assert float(cosine.betas().max()) <= 0.999

    def test_published_values(self) -> None:
        linear = alpha_bar(LinearBetas())
        assert f"{linear[-1]:.4e}" == "4.0358e-05"
        assert f"{linear[-1].sqrt():.7f}" == "0.0063528"
        cosine, long = CosineBetas(), CosineBetas(steps=4000)
        assert f"{alpha_bar(cosine)[-1]:.4e}" == "2.4288e-09"
        assert f"{cosine.betas()[0]:.4e}" == "4.1284e-05"
        assert f"{alpha_bar(long)[-1]:.3e}" == "1.518e-10"
        assert f"{long.betas()[0]:.3e}" == "9.866e-06"
        scaled = QuadraticBetas(start=0.00085, end=0.012)
        assert f"{alpha_bar(scaled)[-1]:.7f}" == "0.0046601"
        assert f"{math.exp(scaled.logsnr_min):.7f}" == "0.0046819"

    def test_given_betas_are_taken_as_they_are(self) -> None:
        """Ho's betas on a shorter chain, not rescaled, leave signal at the end: 0.132 and 0.364 of it."""
        for steps, left in ((200, "0.132"), (100, "0.364")):
            betas = torch.linspace(1e-4, 0.02, steps, dtype=torch.float64)
            chain = Betas(tuple(betas.tolist()))
            assert torch.equal(chain.betas(), betas)
            assert f"{alpha_bar(chain)[-1]:.3f}" == left
        assert Betas([0.1, 0.2]) == Betas((0.1, 0.2))  # type: ignore[arg-type]
        assert hash(Betas([0.1, 0.2])) == hash(Betas((0.1, 0.2)))  # type: ignore[arg-type]

    @pytest.mark.parametrize("steps", [1, 2, 10, 20])
    @pytest.mark.parametrize("family", [LinearBetas, QuadraticBetas])
    def test_twenty_steps_are_too_few(self, family: type[LinearBetas | QuadraticBetas], steps: int) -> None:
        """The last beta, 0.02 for 1000 steps, reaches 1 at T = 20."""
        with pytest.raises(ValueError, match=rf"every beta must lie in \(0, 1\).*at steps={steps}; take more steps"):
            family(steps=steps)
        assert family(steps=21).steps == 21

    def test_other_refusals(self) -> None:
        for bad in (
            lambda: SigmoidBetas(steps=1),
            lambda: ConstantBetas(steps=10),
            lambda: LinearBetas(start=0.0),
            lambda: Betas((0.1, 1.0)),
            lambda: Betas((0.0, 0.5)),
            lambda: Betas((0.1, -0.1)),
            lambda: Betas((0.1, math.nan)),
        ):
            with pytest.raises(ValueError, match=r"every beta must lie in \(0, 1\), got"):
                bad()
        with pytest.raises(ValueError, match="steps: expected at least 1, got 0"):
            Betas(())
        with pytest.raises(ValueError, match="steps: expected at least 2, got 1"):
            CosineBetas(steps=1, zero_terminal=True)


class TestInterpolated:
    def test_passes_through_the_levels_of_its_chain(self, chain: Chain) -> None:
        table, level = chain.levels, chain.interpolated()(chain.levels.t)
        close(level.alpha, table.alpha, atol=1e-12)
        close(level.sigma, table.sigma, atol=1e-12)
        close(level.logsnr, table.logsnr, rtol=1e-12, atol=1e-10)
        assert torch.equal(level.t, table.t)

    def test_log_noise_to_signal_is_linear_between_steps(self, chain: Chain) -> None:
        last = chain.steps - chain.zero_terminal
        n = torch.arange(1, last, dtype=torch.float64)[:, None]
        if len(n) == 0:
            return
        level = chain.interpolated()((n + torch.linspace(0, 1, 5, dtype=torch.float64)) / chain.steps)
        slopes = (level.sigma.log() - level.alpha.log()).diff(dim=1)
        close(slopes, slopes.mean(1, keepdim=True).expand_as(slopes), atol=1e-11)

    def test_noise_to_signal_variance_is_linear_below_the_first_step(self, chain: Chain) -> None:
        fraction = torch.tensor([1e-9, 0.1, 0.5, 0.9], dtype=torch.float64)
        level, first = chain.interpolated()(fraction / chain.steps), chain.levels[1]
        close((level.sigma / level.alpha) ** 2, fraction * (first.sigma / first.alpha) ** 2, rtol=1e-12)

    def test_signal_variance_is_linear_over_the_last_interval_where_it_ends_at_zero(self, chain: Chain) -> None:
        if not chain.zero_terminal:
            return
        left = torch.tensor([1.0, 0.6, 0.1, 1e-3, 0.0], dtype=torch.float64)
        level = chain.interpolated()((chain.steps - left) / chain.steps)
        close(level.alpha**2, left * chain.levels.alpha[-2] ** 2, rtol=1e-8)
        almost = chain.interpolated()(1 - 2.0**-50)  # whose distance from 1 is exact, and keeps its digits
        close(almost.alpha**2, chain.steps * 2.0**-50 * chain.levels.alpha[-2] ** 2, rtol=1e-12)
