"""Probabilities of the bins of discrete data under a Gaussian: against quadrature, and out to the far tails."""

import numpy as np
import pytest
import scipy.special  # type: ignore[import-untyped]
import scipy.stats  # type: ignore[import-untyped]
import torch
from torch import Tensor

from unsteep.core.gaussian import Gaussian, discretized_log_prob


def close(a: Tensor, b: Tensor, rtol: float = 0.0, atol: float = 0.0) -> None:
    torch.testing.assert_close(a, b, rtol=rtol, atol=atol)


def real(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


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
