"""Noise levels: adding noise, the variances of a pair, and the one place where coefficients are cast."""

import math
from typing import Any

import pytest
import torch

from unsteep.core.chains import Chain, LinearBetas
from unsteep.core.level import NoiseLevel, add_noise, as_time, like, step_variances
from unsteep.core.schedules import Flow, Schedule


def close(a: torch.Tensor, b: torch.Tensor, rtol: float = 0.0, atol: float = 0.0) -> None:
    torch.testing.assert_close(a, b, rtol=rtol, atol=atol)


def grid(schedule: Schedule) -> NoiseLevel:
    """Levels of different noise, clean first."""
    level = schedule(torch.linspace(0, 1, 11, dtype=torch.float64))
    return level[torch.cat([torch.tensor([True]), level.t.diff() > 0])]


class TestAddNoise:
    def test_moments(self) -> None:
        """Over many draws x_t has mean alpha x0 and standard deviation sigma, each row at its own level."""
        eps = torch.randn(3, 40_000, generator=torch.Generator().manual_seed(0))
        level = LinearBetas()(torch.tensor([0.01, 0.3, 1.0]))
        x_t = add_noise(torch.full_like(eps, 2.0), eps, level)
        close(x_t.mean(1).double(), 2 * level.alpha, atol=0.02)
        close(x_t.std(1).double(), level.sigma, rtol=0.02)

    def test_clean_data_stay_bit_for_bit(self, schedule: Schedule) -> None:
        x0, eps = torch.randn(2, 4, 3, 2, 2, generator=torch.Generator().manual_seed(0))
        assert torch.equal(add_noise(x0, eps, schedule(0.0)), x0)
        assert torch.equal(add_noise(x0, eps, schedule(torch.tensor([1.0, 0.0, 0.5, 0.0])))[[1, 3]], x0[[1, 3]])

    def test_one_level_or_one_per_example(self) -> None:
        x0, eps = torch.randn(2, 3, 2, 4, 4, generator=torch.Generator().manual_seed(0))
        level = Flow()(torch.tensor([0.1, 0.5, 0.9]))
        together = add_noise(x0, eps, level)
        for i in range(3):
            assert torch.equal(together[i], add_noise(x0[i : i + 1], eps[i : i + 1], level[i])[0])
            assert torch.equal(together[i], add_noise(x0, eps, level[i].expand(3))[i])

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
    def test_the_first_levels_hold_noise_in_every_precision(self, dtype: torch.dtype) -> None:
        """1 - alpha_bar formed in bf16 is exactly 0 on the first ten linear steps; sigma cast once is not."""
        level = LinearBetas()(torch.arange(1, 11) / 1000)
        eps = torch.ones(10, 1, dtype=dtype)
        noise = add_noise(torch.zeros_like(eps), eps, level).double()[:, 0]
        close(noise, level.sigma, rtol=torch.finfo(dtype).eps)
        assert noise.dtype == torch.float64
        assert add_noise(eps, eps, level).dtype == dtype


class TestStepVariances:
    def test_on_a_chain_they_are_its_betas(self, chain: Chain) -> None:
        """Unit steps: beta_n, and beta_tilde_n = (1 - alpha_bar_{n-1}) / (1 - alpha_bar_n) beta_n (Ho et al. 2020)."""
        if chain.zero_terminal:
            return  # moves the betas
        betas, alpha_bar = chain.betas(), torch.cumprod(1 - chain.betas(), 0)
        beta, beta_tilde = step_variances(chain.levels[1:], chain.levels[:-1])
        close(beta, betas, rtol=1e-11)
        before = torch.cat([torch.ones(1, dtype=torch.float64), alpha_bar[:-1]])
        close(beta_tilde, (1 - before) / (1 - alpha_bar) * betas, rtol=1e-9, atol=1e-16)

    def test_on_a_sub_grid_they_are_the_rederived_betas(self) -> None:
        """A sub-sequence is a chain too, of betas 1 minus the ratios of alpha_bar (Nichol & Dhariwal 2021)."""
        for stride in (10, 100, 250):
            level = LinearBetas().levels[::stride]
            alpha_bar = level.alpha**2
            beta, _ = step_variances(level[1:], level[:-1])
            close(beta, 1 - alpha_bar[1:] / alpha_bar[:-1], atol=2e-15)

    def test_to_clean_data(self, schedule: Schedule) -> None:
        level = grid(schedule)
        beta, beta_tilde = step_variances(level[1:], level[0])
        close(beta, level.sigma[1:] ** 2)
        close(beta_tilde, torch.zeros_like(beta))

    def test_a_noisier_level_is_no_next_one(self, schedule: Schedule) -> None:
        """Its variance would be negative."""
        now, nxt = schedule(torch.tensor([0.9, 0.5, 0.8])), schedule(torch.tensor([0.3, 0.9, 0.2]))
        match = r"levels: expected noise first and clean last.*got t = [\d.]+ after t = [\d.]+; put them in that order"
        for pair in ((now[1], nxt[1]), (now, nxt), (schedule(0.0), schedule(1.0)), (now[1], nxt)):
            if bool((pair[1].logsnr < pair[0].logsnr).any()):
                with pytest.raises(ValueError, match=match):
                    step_variances(*pair)

    def test_forward_variances_add_up(self, schedule: Schedule) -> None:
        """Chapman-Kolmogorov: q(middle | early), then q(late | middle), is q(late | early), x0 included."""
        level = grid(schedule)
        triples = torch.combinations(torch.arange(len(level)), 3)
        early, middle, late = (level[i] for i in triples.T)
        direct, _ = step_variances(late, early)
        first, _ = step_variances(middle, early)
        second, _ = step_variances(late, middle)
        close((late.alpha / middle.alpha) ** 2 * first + second, direct, rtol=1e-12)

    def test_nothing_is_ever_nan(self, schedule: Schedule) -> None:
        level = grid(schedule)
        for i in range(1, len(level)):
            beta, beta_tilde = step_variances(level[i], level[:i])
            assert bool((beta > 0).all())
            assert bool((beta_tilde >= 0).all())
            assert bool((beta_tilde <= beta).all())


class TestLike:
    def test_broadcasts_on_the_right(self) -> None:
        level = LinearBetas()(torch.tensor([0.1, 0.5]))
        at = level.like(torch.zeros(2, 3, 4, 4, dtype=torch.float16))
        assert all(field.shape == (2, 1, 1, 1) and field.dtype == torch.float16 for field in vars(at).values())
        assert level[0].like(torch.zeros(2, 3)).alpha.shape == (1, 1)
        assert like(torch.ones(5), torch.zeros(5)).shape == (5,)

    def test_gradients_pass(self) -> None:
        """A learned schedule: the slope of a loss in the parameter of its levels is the finite difference."""

        def loss(logsnr: torch.Tensor) -> torch.Tensor:
            level = NoiseLevel(torch.tensor(0.5), logsnr, torch.sigmoid(logsnr).sqrt(), torch.sigmoid(-logsnr).sqrt())
            x0, eps = torch.tensor([[0.3, -2.0]], dtype=torch.float64), torch.tensor([[1.0, 0.5]], dtype=torch.float64)
            beta, beta_tilde = step_variances(level, level_before)
            return add_noise(x0, eps, level).pow(2).sum() + beta + beta_tilde

        level_before = LinearBetas()(0.1)
        logsnr = torch.tensor(-1.0, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(loss, (logsnr,))

    def test_scale(self) -> None:
        level = Flow()(torch.tensor([0.0, 0.5, 1.0]))
        close(level.scale, torch.tensor([1.0, math.sqrt(0.5), 1.0], dtype=torch.float64), atol=1e-15)


@pytest.mark.parametrize("t", [0.25, 1, torch.tensor(0.25), torch.tensor([0, 1])])
def test_times_become_float64(t: Any) -> None:
    assert as_time(t).dtype == torch.float64
    assert as_time(t).tolist() == torch.as_tensor(t).tolist()
