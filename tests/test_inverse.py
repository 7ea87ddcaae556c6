"""Filling in and inverse problems: linear operators against dense matrices, posteriors against closed forms."""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from unsteep.analytic import Mixture
from unsteep.core.chains import LinearBetas
from unsteep.core.level import NoiseLevel, add_noise
from unsteep.core.noise import NoiseSource
from unsteep.core.schedules import VP, Cosine, Flow, Karras, Schedule
from unsteep.denoiser import Denoise, Denoiser
from unsteep.inverse import DPS, BlockMean, Blur, Kept, LinearOperator, Mask, PiGDM, fill, redraw
from unsteep.inverse.repaint import passes
from unsteep.sampling import DDIM, Ancestral, EulerMaruyama, SDEDPMSolver, Solver, UniPC, grid, initial_noise, sample

C, H, W = 2, 4, 6
D = C * H * W
EYE = torch.eye(D, dtype=torch.float64)


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


KNOWN = randn(C, H, W, seed=5) > -0.3
OPERATORS: dict[str, LinearOperator] = {
    "mask": Mask(KNOWN),
    "mask-of-all-channels": Mask(KNOWN[:1]),
    "blur": Blur(randn(3, 5, seed=1)),  # larger than half the picture, and not symmetric
    "blur-wide": Blur.gaussian(1.3),  # wider than the picture
    "blur-singular": Blur(torch.full((1, 3), 1 / 3)),  # leaves nothing of waves of three pixels
    "downsample": BlockMean(2),
}
every_operator = pytest.mark.parametrize("operator", OPERATORS.values(), ids=OPERATORS)


def close(a: Tensor, b: Tensor, atol: float = 1e-10, rtol: float = 0.0) -> None:
    torch.testing.assert_close(a, b, atol=atol, rtol=rtol)


def dense(operator: LinearOperator) -> Tensor:
    """A as a matrix (m, d), column by column."""
    return operator.forward(EYE.reshape(D, C, H, W)).flatten(1).T


def measured(operator: LinearOperator, b: int, seed: int = 3, noise_std: float = 0.0) -> Tensor:
    y = operator.forward(randn(b, C, H, W, seed=seed))
    return y + noise_std * operator.forward(operator.adjoint(randn(*y.shape, seed=seed + 1))).sign()


def gaussian(c: float) -> Mixture:
    return Mixture.gaussian(torch.zeros(C, H, W), torch.tensor(c, dtype=torch.float64))


def true_r2(c: float) -> Callable[[NoiseLevel], Tensor]:
    return lambda level: c * level.sigma**2 / (level.sigma**2 + c * level.alpha**2)


def quiet(schedule: Schedule, steps: int, spacing: Any = "trailing") -> NoiseLevel:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return grid(schedule, steps, spacing)


def last(walk: Any) -> Tensor:
    *_, step = walk
    return step.x


class TestOperators:
    @every_operator
    def test_the_adjoint(self, operator: LinearOperator) -> None:
        x = randn(3, C, H, W)
        y = randn(*operator.forward(x).shape, seed=1)
        close((operator.forward(x) * y).sum(), (x * operator.adjoint(y)).sum())

    @every_operator
    @pytest.mark.parametrize("noise_ratio", [1e-3, 0.7, 40.0])
    def test_the_solution_against_dense_matrices(self, operator: LinearOperator, noise_ratio: float) -> None:
        a = dense(operator)
        r = randn(2, *operator.forward(randn(1, C, H, W)).shape[1:])
        solved = torch.linalg.solve(a @ a.T + noise_ratio * torch.eye(len(a), dtype=torch.float64), r.flatten(1).T).T
        close(operator.solve(r, torch.tensor(noise_ratio, dtype=torch.float64)).flatten(1), solved, rtol=1e-9)

    @every_operator
    def test_without_noise_it_is_the_pseudo_inverse(self, operator: LinearOperator) -> None:
        a, y = dense(operator), measured(operator, 2)
        found = operator.adjoint(operator.solve(y, torch.zeros(())))
        close(found.flatten(1), y.flatten(1) @ torch.linalg.pinv(a, rtol=1e-8).T, atol=1e-6)

    def test_a_blur_by_its_sum(self) -> None:
        """y[i, j] = sum k[m, n] x[i - m, j - n], periodic, in plain numpy."""
        kernel, x = randn(3, 5, seed=1), randn(1, 1, H, W)
        told = Blur(kernel).forward(x)[0, 0].numpy()
        want = sum(
            float(kernel[m + 1, n + 2]) * np.roll(x[0, 0].numpy(), (m, n), (0, 1))
            for m in range(-1, 2)
            for n in range(-2, 3)
        )
        np.testing.assert_allclose(told, want, atol=1e-12)

    def test_a_gaussian_blur_by_the_spread_it_gives_a_point(self) -> None:
        point = torch.zeros(1, 1, 41, 41, dtype=torch.float64)
        point[..., 20, 20] = 1
        spread = Blur.gaussian(2.0).forward(point)[0, 0]
        place = torch.arange(41, dtype=torch.float64) - 20
        close(spread.sum(), torch.tensor(1.0).double())
        assert float((spread.sum(0) * place**2).sum()) == pytest.approx(4, rel=2e-3)  # cut off at four of them

    def test_a_block_is_its_mean(self) -> None:
        x = torch.arange(16.0).reshape(1, 1, 4, 4)
        assert BlockMean(2).forward(x).flatten().tolist() == [2.5, 4.5, 10.5, 12.5]

    @every_operator
    def test_the_dtype_stays(self, operator: LinearOperator) -> None:
        x = randn(2, C, H, W).float()
        y = operator.forward(x)
        assert {y.dtype, operator.adjoint(y).dtype, operator.solve(y, torch.ones(())).dtype} == {torch.float32}

    def test_refusals(self) -> None:
        with pytest.raises(ValueError, match=r"bool.*float32"):
            Mask(torch.ones(C, H, W))
        with pytest.raises(ValueError, match=r"\(2, 4, 7\) does not fit pictures of \(2, 4, 6\)"):
            Mask(torch.ones(C, H, W + 1, dtype=torch.bool)).forward(randn(1, C, H, W))
        with pytest.raises(ValueError, match="4 does not divide pictures of 4 x 6"):
            BlockMean(4).forward(randn(1, C, H, W))
        with pytest.raises(ValueError, match="factor"):
            BlockMean(0)
        with pytest.raises(ValueError, match="odd"):
            Blur(torch.ones(2, 3))
        with pytest.raises(ValueError, match="above 0"):
            Blur.gaussian(0.0)


def bayes(operator: LinearOperator, x_t: Tensor, level: NoiseLevel, y: Tensor, noise_std: float, c: float) -> Tensor:
    """E[x0 | x_t, y] of data N(0, c I), by information: precisions add."""
    a, alpha, sigma = dense(operator), float(level.alpha), float(level.sigma)
    precision = EYE / c + EYE * (alpha / sigma) ** 2 + a.T @ a / noise_std**2
    pulled = alpha / sigma**2 * x_t.flatten(1) + y.flatten(1) @ a / noise_std**2
    return torch.linalg.solve(precision, pulled.T).T.reshape(x_t.shape)


class TestPiGDM:
    @every_operator
    @pytest.mark.parametrize("c", [1.0, 0.3])
    @pytest.mark.parametrize("t", [0.02, 0.5, 0.97, 1.0])
    @pytest.mark.parametrize("schedule", [VP(), Flow(), Karras()], ids=["vp", "flow", "karras"])
    def test_the_posterior_mean(self, operator: LinearOperator, c: float, t: float, schedule: Schedule) -> None:
        """Exact on isotropic Gaussian data at every level, also where nothing is left of them (flow, t = 1)."""
        level, y, x_t = schedule(t), measured(operator, 3, noise_std=0.2), randn(3, C, H, W, seed=9)
        posterior = PiGDM(gaussian(c), operator, y, 0.2, true_r2(c))
        want = bayes(operator, x_t, level, y, 0.2, c)
        close(posterior(x_t, level).x0, want, atol=1e-8)
        if c == 1:  # the paper's own choice
            close(PiGDM(gaussian(c), operator, y, 0.2)(x_t, level).x0, want, atol=1e-8)

    @pytest.mark.parametrize("name", ["mask", "blur", "downsample"])
    @pytest.mark.parametrize("c", [1.0, 0.25])
    def test_its_samples_are_the_posterior(self, name: str, c: float) -> None:
        """The flow is affine, x0 = m + M z: with basis noise its mean and covariance are had without drawing."""
        operator, noise_std = OPERATORS[name], 0.3
        y = measured(operator, 1, noise_std=noise_std)
        start = torch.cat([torch.zeros_like(EYE[:1]), EYE]).reshape(-1, C, H, W)
        denoise = PiGDM(gaussian(c), operator, y, noise_std, true_r2(c))
        levels = quiet(Cosine(logsnr_min=-math.inf), 120, "trailing")
        x = sample(denoise, start, levels, UniPC(order=3), NoiseSource([0] * len(start))).flatten(1)
        m, spread = x[0], x[1:] - x[0]
        a = dense(operator)
        covariance = torch.linalg.inv(EYE / c + a.T @ a / noise_std**2)
        close(m, covariance @ a.T @ y.flatten() / noise_std**2, atol=2e-3)
        close(spread.T @ spread, covariance, atol=2e-3)

    def test_rows_with_levels_of_their_own(self) -> None:
        operator, schedule = OPERATORS["blur"], Flow()
        y, x_t, level = measured(operator, 3), randn(3, C, H, W), schedule(torch.tensor([1.0, 0.6, 0.1]))
        posterior = PiGDM(gaussian(0.5), operator, y, 0.1)
        rows = [replace(posterior, y=y[i : i + 1])(x_t[i : i + 1], level[i]).x0 for i in range(3)]
        close(posterior(x_t, level).x0, torch.cat(rows))

    def test_no_gradient_is_left(self) -> None:
        """Neither in the estimate nor switched on: memory would grow with every step."""
        x_t, level = randn(2, C, H, W), VP()(0.5)
        with torch.no_grad():
            estimate = PiGDM(gaussian(1.0), OPERATORS["mask"], measured(OPERATORS["mask"], 2))(x_t, level)
            assert not torch.is_grad_enabled()
        assert not estimate.x0.requires_grad
        assert not estimate.x_t.requires_grad
        assert not x_t.requires_grad


class TestDPS:
    @every_operator
    def test_a_step_is_algorithm_1(self, operator: LinearOperator) -> None:
        """x' = ancestral step, x = x' - scale / |y - A x0| grad |y - A x0|^2, by hand for linear denoisers."""
        chain, c, scale = LinearBetas(steps=100), 0.4, 0.7
        now, nxt = chain(0.6), chain(0.59)
        x, y, noise = randn(3, C, H, W), measured(operator, 3), NoiseSource(range(3), 7)
        denoiser = Denoiser(nn.Identity(), chain)
        dps = DPS(gaussian(c), operator, y, denoiser.previous, scale)
        told, _, _ = Ancestral().step(dps, x, now, nxt, noise, None, None)

        a, alpha_bar, before = dense(operator).numpy(), float(now.alpha) ** 2, float(nxt.alpha) ** 2
        beta = 1 - alpha_bar / before
        gain = math.sqrt(alpha_bar) * c / (alpha_bar * c + 1 - alpha_bar)
        z = noise.normal(x, 0).flatten(1).numpy()
        for row, x_row, y_row, z_row in zip(told.flatten(1).numpy(), x.flatten(1), y.flatten(1), z, strict=True):
            x0 = gain * x_row.numpy()
            mean = (math.sqrt(before) * beta * x0 + math.sqrt(1 - beta) * (1 - before) * x_row.numpy()) / (
                1 - alpha_bar
            )
            residual = y_row.numpy() - a @ x0
            gradient = -2 * gain * a.T @ residual
            want = mean + math.sqrt(beta) * z_row - scale / np.linalg.norm(residual) * gradient
            np.testing.assert_allclose(row, want, atol=1e-10)

    @pytest.mark.parametrize("name", ["mask", "blur-wide", "downsample"])
    def test_the_residual_shrinks(self, name: str) -> None:
        operator, chain = OPERATORS[name], LinearBetas(steps=100)
        y, noise = measured(operator, 4), NoiseSource(range(4))
        plain, levels = gaussian(1.0), quiet(chain, 100)
        dps = DPS(plain, operator, y, Denoiser(nn.Identity(), chain).previous, 0.6)
        x = initial_noise(randn(4, C, H, W), levels[0], noise)
        left, before = (
            (y - operator.forward(sample(d, x, levels, Ancestral(), noise))).flatten(1).norm(dim=1)
            for d in (dps, plain)
        )
        assert bool((left < 0.5 * before).all()), (left, before)

    def test_a_residual_of_zero_asks_for_nothing(self) -> None:
        mask, x_t, level = Mask(KNOWN), randn(2, C, H, W), VP()(0.5)
        x0 = gaussian(1.0)(x_t, level).x0
        dps = DPS(gaussian(1.0), mask, mask.forward(x0), Denoiser(nn.Identity(), VP()).previous)
        close(dps(x_t, level).x0, x0, atol=0)


def posterior_of(kind: str, denoise: Denoise, operator: LinearOperator, y: Tensor) -> Denoise:
    if kind == "pigdm":
        return PiGDM(denoise, operator, y, 0.1)
    return DPS(denoise, operator, y, Denoiser(nn.Identity(), LinearBetas()).previous, 0.5)


MIXED = Mixture(torch.stack([torch.full((C, H, W), 0.8), torch.full((C, H, W), -0.8)]), torch.tensor([0.02, 0.02]))


@pytest.mark.parametrize("kind", ["pigdm", "dps"])
class TestBothPosteriors:
    def test_a_batch_of_8_is_8_of_1(self, kind: str) -> None:
        """A norm over the batch would couple the rows."""
        operator, x_t, level = OPERATORS["mask"], randn(8, C, H, W), LinearBetas()(0.4)
        y = measured(operator, 8) * torch.arange(1, 9).reshape(8, 1, 1, 1)  # residuals of very different lengths
        whole = posterior_of(kind, MIXED, operator, y)(x_t, level).x0
        ones = [posterior_of(kind, MIXED, operator, y[i : i + 1])(x_t[i : i + 1], level).x0 for i in range(len(y))]
        close(whole, torch.cat(ones), rtol=1e-12, atol=1e-12)

    def test_one_measurement_for_all(self, kind: str) -> None:
        operator, x_t, level = OPERATORS["downsample"], randn(3, C, H, W), LinearBetas()(0.4)
        y = measured(operator, 1)
        told = [posterior_of(kind, MIXED, operator, z)(x_t, level).x0 for z in (y, y.expand(3, -1, -1, -1))]
        close(*told, atol=0)

    def test_a_measurement_of_another_shape(self, kind: str) -> None:
        x_t, level = randn(3, C, H, W), LinearBetas()(0.4)
        for y in (randn(3, C, H, W), randn(2, C, H // 2, W // 2), randn(C, H // 2, W // 2)):
            with pytest.raises(ValueError, match=r"y: expected a measurement of shape \(3, 2, 2, 3\)"):
                posterior_of(kind, MIXED, OPERATORS["downsample"], y)(x_t, level)


class TestKept:
    @pytest.mark.parametrize("solver", [DDIM(), Ancestral(), UniPC(), SDEDPMSolver()], ids=lambda s: type(s).__name__)
    def test_the_pixels_are_exact_at_the_end(self, solver: Solver) -> None:
        mask, x0, noise = Mask(KNOWN), randn(2, C, H, W).float(), NoiseSource([3, 4])
        denoise = Kept(PiGDM(gaussian(1.0), mask, mask.forward(x0)), mask, x0)
        levels = quiet(LinearBetas(), 8)
        x = sample(denoise, initial_noise(x0, levels[0], noise), levels, solver, noise)
        assert torch.equal(x[:, KNOWN], x0[:, KNOWN])
        assert not torch.isclose(x[:, ~KNOWN], x0[:, ~KNOWN]).any()


@dataclass(frozen=True)
class Correlated:
    """Two pixels of correlation 0.9 and unlike means, the first of them known."""

    mean = torch.tensor([0.3, -0.2], dtype=torch.float64).reshape(1, 1, 2)
    covariance = torch.tensor([[1.0, 0.9], [0.9, 1.0]], dtype=torch.float64)
    known = torch.tensor([[[True, False]]])
    at = 1.6  # the known pixel

    def filled(self, n: int, resamples: int, solver: Solver) -> Tensor:
        x0 = torch.full((n, 1, 1, 2), self.at, dtype=torch.float64)
        denoise, levels = Mixture.gaussian(self.mean, self.covariance), quiet(VP(), 60, "logsnr")
        noise = NoiseSource(range(n))
        walk = fill(denoise, x0, self.known, levels, solver, noise, jump_length=10, resamples=resamples)
        return last(walk)[:, 0, 0, 1]

    def off(self, x: Tensor) -> tuple[float, float]:
        """How many standard errors the mean and the variance of the filled pixel are away from the conditional's."""
        mean, variance = -0.2 + 0.9 * (self.at - 0.3), 1 - 0.9**2
        n = len(x)
        return (
            abs(float(x.mean()) - mean) / math.sqrt(variance / n),
            abs(float(x.var()) - variance) / (variance * math.sqrt(2 / n)),
        )


class TestRePaint:
    def test_it_tends_to_the_conditional_distribution(self) -> None:
        """Replacement alone is biased far beyond the bound that resampling keeps."""
        data, n = Correlated(), 400
        few, some, many = (data.off(data.filled(n, r, Ancestral(variance="beta_tilde"))) for r in (1, 4, 12))
        assert max(many) < 4, many
        assert max(few) > 12, few
        assert few[0] > 2 * some[0] > 2 * many[0]

    def test_a_mask_leaves_the_right_component(self) -> None:
        known = torch.zeros(1, H, W, dtype=torch.bool)
        known[:, :, :2] = True
        x0 = torch.cat([torch.full((6, C, H, W), 0.8), torch.full((6, C, H, W), -0.8)]).double()
        levels, noise = quiet(LinearBetas(), 30, "logsnr"), NoiseSource(range(12))
        x = last(fill(MIXED, x0, known, levels, Ancestral(), noise, jump_length=3, resamples=8))
        assert torch.equal(x.mean((1, 2, 3)).sign(), x0[:, 0, 0, 0].sign())
        assert float((x - x0).abs().mean()) < 0.2

    @pytest.mark.parametrize("solver", [Ancestral(), DDIM(), EulerMaruyama(), UniPC()], ids=lambda s: type(s).__name__)
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_kept_pixels_to_the_bit(self, solver: Solver, dtype: torch.dtype) -> None:
        x0, levels = randn(2, C, H, W).to(dtype), quiet(Flow(), 6)
        x = last(fill(MIXED, x0, KNOWN, levels, solver, NoiseSource([1, 2]), jump_length=2, resamples=2))
        assert torch.equal(x[:, KNOWN], x0[:, KNOWN])
        assert x.dtype == dtype
        assert bool(x.isfinite().all())

    @pytest.mark.parametrize("solver", [Ancestral(), EulerMaruyama()], ids=lambda s: type(s).__name__)
    def test_a_sample_is_its_seed(self, solver: Solver) -> None:
        x0, levels = randn(4, C, H, W), quiet(LinearBetas(), 12)
        walked = partial(fill, MIXED, levels=levels, solver=solver, known=KNOWN, jump_length=4, resamples=3)
        whole = last(walked(x0=x0, noise=NoiseSource(range(20, 24))))
        ones = [last(walked(x0=x0[i : i + 1], noise=NoiseSource([20 + i]))) for i in range(4)]
        close(whole, torch.cat(ones), rtol=1e-12, atol=1e-12)
        assert float((whole[0] - whole[1])[~KNOWN].abs().max()) > 1e-3

    @pytest.mark.parametrize("solver", [Ancestral(), EulerMaruyama()], ids=lambda s: type(s).__name__)
    def test_no_number_is_drawn_twice(self, solver: Solver, monkeypatch: pytest.MonkeyPatch) -> None:
        """Every tensor of normal numbers in a walk is another one: of solvers, of known pixels, of jumps."""
        drawn: list[tuple[float, ...]] = []
        for name in ("normal", "brownian"):
            made = getattr(NoiseSource, name)

            def spied(self: NoiseSource, *args: Any, made: Any = made, **named: Any) -> Tensor:
                drawn.append(tuple(made(self, *args, **named).flatten()[:3].tolist()))
                return made(self, *args, **named)

            monkeypatch.setattr(NoiseSource, name, spied)
        levels = quiet(LinearBetas(), 9)
        for _ in fill(MIXED, randn(1, C, H, W), KNOWN, levels, solver, NoiseSource([5]), jump_length=3, resamples=4):
            pass
        calls = 9 + 3 * 3 * 2
        assert len(drawn) >= 2 * calls - 4
        assert len(set(drawn)) == len(drawn)

    @pytest.mark.parametrize(("steps", "jump_length", "resamples"), [(250, 10, 10), (7, 2, 3), (6, 5, 2), (3, 1, 4)])
    def test_the_walk_is_the_papers(self, steps: int, jump_length: int, resamples: int) -> None:
        """Told as in the paper's appendix: down one by one; at marked places up again, as often as is left there."""
        left = dict.fromkeys(range(0, steps - jump_length, jump_length), resamples - 1)
        t, want = steps - 1, []
        while t >= 0:
            t -= 1
            want.append(t)
            if left.get(t, 0):
                left[t] -= 1
                t += jump_length
        told = [steps - i - 2 for start, stop in passes(steps, jump_length, resamples) for i in range(start, stop)]
        assert told == want
        assert len(told) == steps + (resamples - 1) * (math.ceil(steps / jump_length) - 1) * jump_length

    def test_refusals(self) -> None:
        x0, levels = randn(2, C, H, W), quiet(LinearBetas(), 5)
        walked = partial(fill, MIXED, x0, levels=levels, solver=Ancestral(), noise=NoiseSource([0, 1]))
        with pytest.raises(ValueError, match="every pixel is kept"):
            walked(torch.ones(1, H, W, dtype=torch.bool))
        with pytest.raises(ValueError, match="no pixel is kept"):
            walked(torch.zeros(1, H, W, dtype=torch.bool))
        with pytest.raises(ValueError, match="does not fit"):
            walked(torch.ones(1, H, W + 1, dtype=torch.bool))
        with pytest.raises(ValueError, match="bool"):
            walked(torch.ones(1, H, W))
        with pytest.raises(ValueError, match="fewer than the 5 steps, got 5"):
            walked(KNOWN, jump_length=5)
        with pytest.raises(ValueError, match="at least 1"):
            walked(KNOWN, jump_length=2, resamples=0)


class TestRedraw:
    def test_the_strength_is_where_it_starts(self) -> None:
        """From q(x_t | x0) at t = strength, evenly down to clean, by the loop that samples."""
        chain, x0, noise = LinearBetas(steps=100), randn(3, C, H, W), NoiseSource(range(3))
        levels = chain(torch.tensor([0.4, 0.3, 0.2, 0.1, 0.0], dtype=torch.float64))
        x = add_noise(x0, noise.at(0).normal(x0, 0), levels[0])
        want = sample(MIXED, x, levels, Ancestral(), noise)
        assert torch.equal(redraw(MIXED, x0, chain, 0.4, 4, Ancestral(), noise), want)

    def test_no_strength_is_the_picture(self) -> None:
        x0 = randn(3, C, H, W)
        assert torch.equal(redraw(MIXED, x0, VP(), 0.0, 4, DDIM(), NoiseSource(range(3))), x0)

    def test_the_whole_strength_is_a_sample_where_no_signal_is_left(self) -> None:
        x0, noise = randn(3, C, H, W), NoiseSource(range(3))
        levels = quiet(Flow(), 7)
        want = sample(MIXED, initial_noise(x0, levels[0], noise), levels, DDIM(), noise)
        close(redraw(MIXED, x0, Flow(), 1.0, 7, DDIM(), noise), want, atol=1e-12)

    def test_more_strength_leaves_less(self) -> None:
        """On N(0, I), where DDIM from t turns x0 towards fresh noise by the angle of t: correlation alpha."""
        x0 = randn(400, C, H, W)
        for strength in (0.2, 0.5, 0.8):
            x = redraw(gaussian(1.0), x0, VP(), strength, 200, DDIM(), NoiseSource(range(400)))
            correlation = float((x * x0).sum() / (x.norm() * x0.norm()))
            assert correlation == pytest.approx(float(VP()(strength).alpha), abs=0.02)

    @pytest.mark.parametrize("strength", [-0.1, 1.01, math.nan])
    def test_refusals(self, strength: float) -> None:
        with pytest.raises(ValueError, match="strength"):
            redraw(MIXED, randn(1, C, H, W), VP(), strength, 4, DDIM(), NoiseSource([0]))
