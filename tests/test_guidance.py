"""Guidance: what a wrapper changes in an estimate, and what follows from it."""

import pytest
import torch
from torch import Tensor

from unsteep.analytic import Mixture
from unsteep.core.chains import LinearBetas
from unsteep.core.estimate import PREDICTIONS, Estimate, Prediction
from unsteep.core.level import NoiseLevel, add_noise
from unsteep.core.noise import NoiseSource
from unsteep.core.schedules import VP, Flow, Schedule
from unsteep.denoiser import Denoise
from unsteep.guidance import Clip
from unsteep.sampling import DDIM, Ancestral, grid, initial_noise, trajectory


def randn(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64)


def says(kind: Prediction, x0: Tensor) -> Denoise:
    """A denoiser that always means `x0`, in the words of `kind`."""

    def denoise(x_t: Tensor, level: NoiseLevel) -> Estimate:
        value = Estimate("x0", x0, x_t, level).as_(kind)
        return Estimate(kind, value, x_t, level, variance_fraction=torch.full_like(x0, 0.3))

    return denoise


@pytest.mark.parametrize("schedule", [VP(), Flow(), LinearBetas()], ids=["vp", "flow", "linear"])
class TestClip:
    @pytest.mark.parametrize("kind", PREDICTIONS)
    @pytest.mark.parametrize(("low", "high"), [(-1.0, 1.0), (0.0, 0.5)])
    def test_x0_is_clipped_and_all_else_follows(
        self, schedule: Schedule, kind: Prediction, low: float, high: float
    ) -> None:
        """x_t is still alpha x0 + sigma eps: of the new x0 and its eps."""
        x0, x_t, level = 2 * randn(4, 50), randn(50, 4).T, schedule(torch.tensor([0.05, 0.3, 0.6, 0.95]))
        clipped = Clip(says(kind, x0), low, high)(x_t, level)
        expected = torch.tensor([[min(max(float(v), low), high) for v in row] for row in x0], dtype=torch.float64)
        torch.testing.assert_close(clipped.x0, expected, rtol=1e-10, atol=1e-10)
        assert float(clipped.x0.min()) >= low
        assert float(clipped.x0.max()) <= high
        torch.testing.assert_close(add_noise(clipped.x0, clipped.eps, level), x_t, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(clipped.flow, clipped.eps - clipped.x0, rtol=1e-12, atol=1e-12)

    def test_what_is_in_range_stays(self, schedule: Schedule) -> None:
        """x0 bit for bit; and x_t, the level and a learned variance are the estimate's own."""
        x0, x_t, level = torch.rand(3, 5, dtype=torch.float64) * 2 - 1, randn(3, 5), schedule(0.4)
        clipped = Clip(says("x0", x0))(x_t, level)
        assert torch.equal(clipped.x0, x0)
        assert clipped.x_t is x_t
        assert clipped.level is level
        assert clipped.variance_fraction is not None
        assert torch.equal(clipped.variance_fraction, torch.full_like(x0, 0.3))

    @pytest.mark.parametrize("solver", [DDIM(), Ancestral()], ids=["ddim", "ancestral"])
    def test_samples_end_within_the_range(self, schedule: Schedule, solver: DDIM | Ancestral) -> None:
        """Of data that reach further, too."""
        denoise = Mixture(torch.tensor([[-1.4], [1.5]]), torch.tensor([0.1, 0.1]))
        levels, noise = grid(schedule, 8), NoiseSource(range(40))
        x = initial_noise(torch.empty(40, 1), levels[0], noise)
        *_, free = trajectory(denoise, x, levels, solver, noise)
        *_, kept = trajectory(Clip(denoise), x, levels, solver, noise)
        assert float(free.x.abs().max()) > 1.2
        assert float(kept.x.abs().max()) <= 1
