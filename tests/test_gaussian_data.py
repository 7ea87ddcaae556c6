"""Data N(0, c) and the optimal denoiser on the linear chain: the bound, and the samples' spread, in closed form."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from unsteep.core.chains import LinearBetas
from unsteep.core.estimate import Estimate
from unsteep.core.gaussian import Gaussian, Variance, kl, reverse, step_term
from unsteep.core.level import NoiseLevel, add_noise, step_variances


def real(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


class TestGaussianData:
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

    def gap(self, c: float, levels: NoiseLevel, variance: Variance, decoder: Variance) -> float:
        """Bound minus entropy in bits: every term is quadratic in (x0, eps), so 3 x 3 Gauss-Hermite nodes are exact."""
        node, weight = (torch.from_numpy(part) for part in np.polynomial.hermite_e.hermegauss(3))
        weight = (weight[:, None] * weight).flatten() / (2 * math.pi)
        now, nxt = levels[:-1], levels[1:]
        x0 = math.sqrt(c) * node.repeat_interleave(3).expand(len(now), 9)
        x_t = add_noise(x0, node.repeat(3).expand(len(now), 9), now)
        first, last = now[0], len(now) - 1
        prior = kl(Gaussian(first.alpha * x0[0], first.sigma**2), Gaussian(torch.zeros(9), torch.ones(9)))
        inner = self.optimum(c, x_t[:last], now[:last])
        terms = step_term(x0[:last], inner, nxt[:last], variance)
        end = reverse(self.optimum(c, x_t[last:], now[last:]), nxt[last:], decoder)
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
    def test_gap_with_the_decoder_of_ho(self, c: float, variance: Variance, n: int, bits: float) -> None:
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
    def test_gap_with_beta_at_the_decoder(self, c: float, variance: Variance, n: int, bits: float) -> None:
        assert self.gap(c, self.trailing(n), variance, "beta") == pytest.approx(bits, abs=6e-6)

    @pytest.mark.parametrize(
        ("variance", "expected"),
        [
            ("beta_tilde", "0.33348 0.39151 0.44410 0.46822 0.48580 0.49611"),
            ("beta", "0.49390 0.51683 0.51172 0.50672 0.50290 0.50075"),
        ],
    )
    def test_spread_of_ancestral_samples(self, variance: Variance, expected: str) -> None:
        """The standard deviation after N linear steps from N(0, 1), no noise in the last one; the data's is 0.5."""
        spreads = []
        for n in (10, 20, 50, 100, 250, 1000):
            levels = self.trailing(n)
            step = reverse(self.optimum(0.25, torch.ones(n, dtype=torch.float64), levels[:-1]), levels[1:], variance)
            added = step.variance.clone()
            added[-1] = 0
            spread = real(1.0)
            for gain, noise in zip(step.mean, added, strict=True):
                spread = gain**2 * spread + noise
            spreads.append(f"{float(spread) ** 0.5:.5f}")
        assert " ".join(spreads) == expected
