"""Exact denoisers: against matrices, quadrature and plain sums, and the laws that tie their answers together."""

import itertools
import math
from typing import Any

import numpy as np
import pytest
import scipy.integrate
import scipy.stats
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from unsteep.analytic import Mixture
from unsteep.core.chains import LinearBetas
from unsteep.core.condition import Condition
from unsteep.core.level import NoiseLevel, add_noise, float64_device, on_device
from unsteep.core.noise import NoiseSource
from unsteep.core.schedules import VP, Flow


def close(a: Tensor, b: Tensor, rtol: float = 1e-11, atol: float = 1e-12) -> None:
    torch.testing.assert_close(a, b, rtol=rtol, atol=atol)


def randn(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64)


def real(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def level(alpha: float, sigma: float) -> NoiseLevel:
    return NoiseLevel(*(torch.tensor(v, dtype=torch.float64) for v in (0.5, 2 * math.log(alpha / sigma), alpha, sigma)))


def matrices(k: int, d: int) -> Tensor:
    """k different positive definite matrices."""
    factor = randn(k, d, d)
    return factor @ factor.mT / d + 0.1 * torch.eye(d, dtype=torch.float64)


LEVELS = {
    "linear-20": LinearBetas()(0.02),
    "linear-1000": LinearBetas()(1.0),
    "vp": VP()(0.4),
    "flow-early": Flow()(0.1),
    "flow-late": Flow()(0.9),
    "exploding": level(1.0, 6.0),
}
CLEAN = Flow()(0.0)
K, D = 4, 3
WEIGHTS, LABELS = real(0.1, 0.4, 0.2, 0.3), torch.tensor([0, 2, 0, 1])
COVARIANCES = {
    "isotropic": real(0.3, 0.02, 1.0, 0.1),
    "diagonal": randn(K, D) ** 2,
    "full": matrices(K, D),
    "points": torch.zeros(K),
    "half-flat": real(0.3, 0.0, 1.0) * torch.ones(K, 1),
}
LAYOUTS = {name: Mixture(randn(K, D), spread, WEIGHTS, LABELS) for name, spread in COVARIANCES.items()}
every_level = pytest.mark.parametrize("at", LEVELS.values(), ids=LEVELS)
every_layout = pytest.mark.parametrize("mixture", LAYOUTS.values(), ids=LAYOUTS)


class TestAgainstOtherRoutes:
    @every_level
    def test_gaussian_is_the_joint_gaussian_conditioned(self, at: NoiseLevel) -> None:
        """(x0, x_t) is jointly normal: its covariance matrix, conditioned by the textbook rule."""
        mean, c = randn(4), matrices(1, 4)[0]
        alpha, sigma = float(at.alpha), float(at.sigma)
        cross, noisy = alpha * c, alpha**2 * c + sigma**2 * torch.eye(4, dtype=torch.float64)
        x_t = 2 * randn(6, 4)
        expected = mean + (cross @ torch.linalg.solve(noisy, (x_t - alpha * mean).T)).T
        gaussian = Mixture.gaussian(mean, c)
        close(gaussian(x_t, at).x0, expected)
        close(gaussian.log_prob(x_t, at), MultivariateNormal(alpha * mean, noisy).log_prob(x_t))

    @every_level
    def test_mixture_of_the_line_by_quadrature(self, at: NoiseLevel) -> None:
        means, stds, weights = (-1.0, 0.5, 2.0), (0.3, 0.05, 1.0), (0.5, 0.3, 0.2)
        mixture = Mixture(real(*means)[:, None], real(*stds) ** 2, real(*weights))
        x_t = np.array([-2.0, -0.3, 0.52, 3.0])
        x0 = np.linspace(-12, 14, 40_001)
        prior = sum(w * scipy.stats.norm.pdf(x0, m, s) for w, m, s in zip(weights, means, stds, strict=True))
        joint = prior * scipy.stats.norm.pdf(x_t[:, None], float(at.alpha) * x0, float(at.sigma))
        evidence = np.trapezoid(joint, x0)
        given = torch.from_numpy(x_t)[:, None]
        close(mixture(given, at).x0[:, 0], torch.from_numpy(np.trapezoid(joint * x0, x0) / evidence), rtol=1e-9)
        close(mixture.log_prob(given, at), torch.from_numpy(np.log(evidence)), rtol=1e-9)

    @pytest.mark.parametrize("at", [VP()(0.4), Flow()(0.6)], ids=["vp", "flow"])
    def test_mixture_of_the_plane_by_quadrature(self, at: NoiseLevel) -> None:
        means, covariances, weights = randn(3, 2), matrices(3, 2), (0.2, 0.5, 0.3)
        mixture = Mixture(means, covariances, real(*weights))
        axis = np.linspace(-11, 11, 441)
        x0 = np.stack(np.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)
        parts = zip(weights, means.numpy(), covariances.numpy(), strict=True)
        prior = sum(w * scipy.stats.multivariate_normal(m, c).pdf(x0) for w, m, c in parts)
        for point in ((0.3, -0.8), (-1.5, 1.0)):
            away = np.square(np.array(point) - float(at.alpha) * x0).sum(1)
            posterior = prior * np.exp(-away / (2 * float(at.sigma) ** 2))
            expected = (posterior[:, None] * x0).sum(0) / posterior.sum()
            close(mixture(real(*point)[None], at).x0[0], torch.from_numpy(expected), rtol=1e-8, atol=1e-9)

    @every_level
    def test_points_by_plain_sums(self, at: NoiseLevel) -> None:
        mixture, x_t = LAYOUTS["points"], randn(5, D)
        for row in x_t:
            logs = [
                math.log(weight) - math.dist(row, float(at.alpha) * point) ** 2 / (2 * float(at.sigma) ** 2)
                for weight, point in zip(WEIGHTS.tolist(), randn(K, D), strict=True)
            ]
            share = [math.exp(log - max(logs)) for log in logs]
            expected = sum(s / math.fsum(share) * point for s, point in zip(share, randn(K, D), strict=True))
            assert isinstance(expected, Tensor)
            close(mixture(row[None], at).x0[0], expected, atol=1e-9)


class TestEnds:
    def test_points_with_little_noise_give_the_nearest(self) -> None:
        points, x_t = randn(20, 5), randn(30, 5)
        nearest = points[torch.cdist(x_t, points).argmin(1)]
        close(Mixture.points(points)(x_t, level(1.0, 1e-4)).x0, nearest, atol=0)

    @every_layout
    def test_without_signal_the_answer_is_the_mean(self, mixture: Mixture) -> None:
        mean = torch.stack([w * m for w, m in zip(WEIGHTS, mixture.means, strict=True)]).sum(0)
        close(mixture(5 * randn(6, D), Flow()(1.0)).x0, mean.expand(6, D))

    @pytest.mark.parametrize("name", ["isotropic", "diagonal", "full"])
    def test_clean_data_stay(self, name: str) -> None:
        x = randn(6, D)
        close(LAYOUTS[name](x, CLEAN).x0, x)

    def test_clean_density_is_the_density_of_the_data(self) -> None:
        x = randn(7, D)
        parts = zip(WEIGHTS.tolist(), randn(K, D).numpy(), matrices(K, D).numpy(), strict=True)
        density = sum(w * scipy.stats.multivariate_normal(m, c).pdf(x.numpy()) for w, m, c in parts)
        close(LAYOUTS["full"].log_prob(x, CLEAN), torch.from_numpy(np.log(density)))


class TestLayouts:
    @every_level
    def test_one_distribution_in_three_layouts(self, at: NoiseLevel) -> None:
        means, variances, x_t = randn(K, D), real(0.3, 0.02, 1.0, 0.1), randn(6, D)
        isotropic = Mixture(means, variances, WEIGHTS)
        for covariances in (variances[:, None].expand(K, D), variances[:, None, None] * torch.eye(D)):
            other = Mixture(means, covariances, WEIGHTS)
            close(other(x_t, at).x0, isotropic(x_t, at).x0, rtol=1e-9)
            close(other.log_prob(x_t, at), isotropic.log_prob(x_t, at), rtol=1e-9)
            close(other.mean(), isotropic.mean())
            close(other.covariance(), isotropic.covariance())

    @every_level
    def test_a_diagonal_is_a_matrix(self, at: NoiseLevel) -> None:
        means, variances, x_t = randn(K, D), randn(K, D) ** 2, randn(6, D)
        diagonal, full = Mixture(means, variances, WEIGHTS), Mixture(means, torch.diag_embed(variances), WEIGHTS)
        close(full(x_t, at).x0, diagonal(x_t, at).x0)
        close(full.log_prob(x_t, at), diagonal.log_prob(x_t, at))
        close(full.covariance(), diagonal.covariance())

    @every_level
    def test_rotated_data_have_a_rotated_denoiser(self, at: NoiseLevel) -> None:
        turn = torch.linalg.qr(randn(D, D)).Q
        means, covariances, x_t = randn(K, D), matrices(K, D), randn(6, D)
        turned = Mixture(means @ turn.T, turn @ covariances @ turn.T, WEIGHTS)
        close(turned(x_t @ turn.T, at).x0, LAYOUTS["full"](x_t, at).x0 @ turn.T)

    @every_level
    def test_pictures_are_flattened(self, at: NoiseLevel) -> None:
        x_t, means, spread = randn(3, 2, 2, 3), randn(K, 2, 2, 3), randn(K, 2, 2, 3) ** 2
        for covariances in (spread, spread[:, 0, 0, 0], matrices(K, 12)):
            flat = covariances.flatten(1) if covariances is spread else covariances
            pictures, vectors = Mixture(means, covariances), Mixture(means.flatten(1), flat)
            assert torch.equal(pictures(x_t, at).x0, vectors(x_t.flatten(1), at).x0.reshape(x_t.shape))
            assert torch.equal(pictures.log_prob(x_t, at), vectors.log_prob(x_t.flatten(1), at))
            assert pictures.sample(2).shape == (2, 2, 2, 3)
            assert pictures.mean().shape == (2, 2, 3)
            assert pictures.covariance().shape == (12, 12)

    @every_layout
    def test_one_level_or_one_per_example(self, mixture: Mixture) -> None:
        x_t, at = randn(4, D), Flow()(real(0.1, 0.5, 0.9, 1.0))
        together, density = mixture(x_t, at).x0, mixture.log_prob(x_t, at)
        for i in range(4):
            close(together[i], mixture(x_t, at[i]).x0[i])
            close(density[i], mixture.log_prob(x_t[i : i + 1], at[i])[0])

    @every_layout
    @every_level
    def test_single_precision_goes_in_and_out(self, mixture: Mixture, at: NoiseLevel) -> None:
        x_t = randn(6, D).float()
        single, double = mixture(x_t, at), mixture(x_t.double(), at)
        assert single.x0.dtype == torch.float32
        assert torch.equal(single.x0, double.x0.float())
        assert single.x_t is x_t
        assert mixture.log_prob(x_t, at).dtype == torch.float64

    def test_a_thousand_pictures_fit(self) -> None:
        """Batch x points x pixels, here 0.8 GB, is never formed; the points themselves are the largest tensor."""

        class Largest(TorchDispatchMode):
            numel = 0

            def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
                out = func(*args, **(kwargs or {}))
                sizes = [leaf.numel() for leaf in tree_leaves(out) if isinstance(leaf, Tensor)]
                self.numel = max(self.numel, *sizes, 0)
                return out

        points = randn(2000, 1, 28, 28)
        mixture = Mixture.points(points)
        x_t, at = add_noise(points[:64], NoiseSource(range(64)).normal(points[:64], 0), VP()(0.3)), VP()(0.3)
        with Largest() as largest:
            x0 = mixture(x_t, at).x0
        assert largest.numel <= points.numel()
        close(x0, points[:64])


class TestLaws:
    @every_layout
    @every_level
    def test_tweedie(self, mixture: Mixture, at: NoiseLevel) -> None:
        """The gradient of log q(x_t), by autograd, is the score of the denoiser, with a label and without."""
        for condition in (None, Condition(label=torch.tensor([0, 1, 2, -1, 0, 1]))):
            x_t = randn(6, D).requires_grad_()
            (gradient,) = torch.autograd.grad(mixture.log_prob(x_t, at, condition).sum(), x_t)
            close(gradient, mixture(x_t.detach(), at, condition).score, rtol=1e-8, atol=1e-8 / float(at.sigma))

    @every_layout
    @every_level
    def test_bayes(self, mixture: Mixture, at: NoiseLevel) -> None:
        x_t, prior = randn(6, D), real(0.1 + 0.2, 0.3, 0.4).log()
        posterior = mixture.label_log_prob(x_t, at)
        each = [Condition(label=torch.full((6,), label)) for label in range(3)]
        likelihood = torch.stack([mixture.log_prob(x_t, at, condition) for condition in each], 1)
        close(posterior, likelihood + prior - mixture.log_prob(x_t, at)[:, None], rtol=1e-9, atol=1e-9)
        close(posterior.exp().sum(1), torch.ones(6, dtype=torch.float64))
        answers = torch.stack([mixture(x_t, at, condition).x0 for condition in each], 1)
        close((posterior.exp()[..., None] * answers).sum(1), mixture(x_t, at).x0, atol=1e-9)

    @every_layout
    def test_a_label_selects_its_components(self, mixture: Mixture) -> None:
        """Row by row, and -1 is no label at all."""
        x_t, at = randn(6, D), VP()(0.3)
        condition = Condition(label=torch.tensor([2, 0, -1, 0, 1, -1]))
        x0, density = mixture(x_t, at, condition).x0, mixture.log_prob(x_t, at, condition)
        covariances = mixture.variances.expand(K, D)
        if mixture.basis is not None:
            covariances = mixture.basis @ torch.diag_embed(covariances) @ mixture.basis.mT
        for i, label in enumerate([2, 0, -1, 0, 1, -1]):
            rows = (label == LABELS) | (label == -1)
            part = Mixture(mixture.means[rows], covariances[rows], WEIGHTS[rows])
            close(x0[i], part(x_t, at).x0[i])
            close(density[i], part.log_prob(x_t, at)[i])

    def test_weights_need_no_sum(self) -> None:
        x_t, at = randn(6, D), Flow()(0.5)
        scaled = Mixture(randn(K, D), matrices(K, D), 7 * WEIGHTS)
        close(scaled.log_prob(x_t, at), LAYOUTS["full"].log_prob(x_t, at))
        equal = Mixture(randn(K, D), matrices(K, D)).log_prob(x_t, at)
        close(equal, Mixture(randn(K, D), matrices(K, D), torch.full((K,), 0.25)).log_prob(x_t, at))

    @every_layout
    def test_the_answer_is_the_best_there_is(self, mixture: Mixture) -> None:
        """Orthogonality: the error of a posterior mean has mean 0 and is uncorrelated with what was seen."""
        n, at = 20_000, Flow()(0.4)
        x0 = mixture.sample(n, seed=5)
        x_t = add_noise(x0, NoiseSource(range(5, 5 + n)).normal(x0, 0), at)
        error = x0 - mixture(x_t, at).x0
        for product in (error, error * x_t, error * x_t.roll(1, 1), error * torch.sin(3 * x_t)):
            assert bool((product.mean(0).abs() < 4.5 * product.std(0) / n**0.5 + 1e-12).all())


class TestSamples:
    @every_layout
    def test_moments(self, mixture: Mixture) -> None:
        """Within 4.5 standard errors: the mean, and every entry of the covariance."""
        n = 20_000
        x = mixture.sample(n, seed=1)
        assert x.shape == (n, D)
        assert x.dtype == torch.float64
        centred = x - mixture.mean()
        products = centred[:, :, None] * centred[:, None, :]
        assert bool((centred.mean(0).abs() < 4.5 * x.std(0) / n**0.5 + 1e-12).all())
        assert bool(((products.mean(0) - mixture.covariance()).abs() < 4.5 * products.std(0) / n**0.5 + 1e-12).all())

    def test_mean_and_covariance_by_the_law_of_total_covariance(self) -> None:
        means, covariances = randn(K, D).numpy(), matrices(K, D).numpy()
        second = sum(w * (c + np.outer(m, m)) for w, m, c in zip(WEIGHTS.numpy(), means, covariances, strict=True))
        mean = np.average(means, axis=0, weights=WEIGHTS.numpy())
        close(LAYOUTS["full"].mean(), torch.from_numpy(mean))
        close(LAYOUTS["full"].covariance(), torch.from_numpy(second - np.outer(mean, mean)))

    def test_distribution(self) -> None:
        means, stds, weights = (-1.0, 0.5, 2.0), (0.3, 0.05, 1.0), (0.5, 0.3, 0.2)
        x = Mixture(real(*means)[:, None], real(*stds) ** 2, real(*weights)).sample(5000, seed=3)[:, 0]

        def cdf(value: np.ndarray) -> np.ndarray:
            parts = zip(weights, means, stds, strict=True)
            return np.sum([w * scipy.stats.norm.cdf(value, m, s) for w, m, s in parts], axis=0)

        assert scipy.stats.kstest(x.numpy(), cdf).pvalue > 0.01

    @pytest.mark.parametrize("label", [0, 1, 2, -1])
    def test_by_label(self, label: int) -> None:
        """As often as its components weigh, and none of the others."""
        mixture, n = LAYOUTS["points"], 3000
        x = mixture.sample(n, seed=2, condition=Condition(label=torch.full((n,), label)))
        counts = torch.stack([(x == point).all(1).sum() for point in mixture.means])
        weights = WEIGHTS * (torch.tensor(label) == LABELS) if label >= 0 else WEIGHTS
        share = weights / weights.sum()
        assert int(counts.sum()) == n
        assert bool(((counts - n * share).abs() <= 4 * (n * share * (1 - share)).sqrt()).all())

    @every_layout
    def test_a_sample_belongs_to_its_seed(self, mixture: Mixture) -> None:
        x = mixture.sample(8, seed=100)
        for i in range(8):
            close(x[i], mixture.sample(1, seed=100 + i)[0])
        assert torch.equal(x, mixture.sample(8, seed=100))

    def test_data_share_no_numbers_with_the_noise_of_the_same_seeds(self) -> None:
        """Else x_t = alpha x0 + sigma eps of one seed would not be noised data at all."""
        n = 4000
        x0 = Mixture.gaussian(torch.zeros(4), torch.tensor(1.0)).sample(n)
        for stream in range(3):
            for draw in range(3):
                eps = NoiseSource(range(n), stream).normal(x0, draw)
                assert float(torch.corrcoef(torch.cat([x0.T, eps.T]))[:4, 4:].abs().max()) < 4.5 / n**0.5


class TestEntropy:
    def test_one_gaussian(self) -> None:
        c, isotropic = matrices(1, 4)[0], 0.7 * torch.eye(6, dtype=torch.float64)
        close(Mixture.gaussian(randn(4), c).entropy(), MultivariateNormal(randn(4), c).entropy())
        flat = Mixture.gaussian(randn(2, 3), real(0.7)[0])
        close(flat.entropy(), MultivariateNormal(randn(6), isotropic).entropy())

    @pytest.mark.parametrize(("c", "bits"), [(0.25, 1.047096), (1.0, 2.047096)])
    def test_in_bits(self, c: float, bits: float) -> None:
        entropy = Mixture.gaussian(torch.zeros(5), torch.tensor(c)).entropy()
        assert float(entropy) / 5 / math.log(2) == pytest.approx(bits, abs=5e-7)

    def test_of_far_components_is_theirs_and_that_of_the_choice(self) -> None:
        """Nothing overlaps, so H = sum_k w_k (h_k - log w_k), whatever the widths."""
        stds, weights = real(1e-4, 0.3, 2.0), real(0.2, 0.5, 0.3)
        mixture = Mixture(real(-90, 0, 90)[:, None], stds**2, weights)
        each = 0.5 * math.log(2 * math.pi * math.e) + stds.log()
        close(mixture.entropy(), (weights * (each - weights.log())).sum(), rtol=1e-7)

    @pytest.mark.parametrize("narrow", [0.5, 1e-2, 1e-4])
    def test_of_a_narrow_component_in_a_wide_one(self, narrow: float) -> None:
        def integrand(x: float) -> float:
            p = 0.5 * scipy.stats.norm.pdf(x, 0.3, narrow) + 0.5 * scipy.stats.norm.pdf(x, 0, 10)
            return -p * math.log(p)

        inner = [0.3 + narrow * cut for cut in (-40, -8, -2, 0, 2, 8, 40)]
        pieces = itertools.pairwise([-150.0, *inner, 150.0])
        expected = math.fsum(scipy.integrate.quad(integrand, *piece, epsabs=1e-11, limit=200)[0] for piece in pieces)
        mixture = Mixture(real(0.3, 0)[:, None], real(narrow, 10) ** 2)
        assert float(mixture.entropy()) == pytest.approx(expected, rel=1e-7)

    def test_is_the_mean_of_minus_log_prob(self) -> None:
        mixture = Mixture(real(-1, 0.5, 2)[:, None, None], real(0.3, 0.05, 1.0) ** 2, real(0.5, 0.3, 0.2))
        surprise = -mixture.log_prob(mixture.sample(10_000), CLEAN)
        assert float(surprise.mean()) == pytest.approx(float(mixture.entropy()), abs=4 * float(surprise.std()) / 100)

    def test_of_a_point_is_minus_infinity(self) -> None:
        assert float(Mixture(randn(2, 1), real(0.0, 1.0)).entropy()) == -math.inf
        assert float(Mixture.gaussian(randn(3), torch.zeros(3)).entropy()) == -math.inf

    def test_of_a_wide_mixture_says_what_to_do(self) -> None:
        with pytest.raises(ValueError, match="no closed form in more than one dimension; average -log_prob"):
            LAYOUTS["full"].entropy()


class TestErrors:
    @pytest.mark.parametrize("shape", [(3,), (K, 2), (K, D, 2), (D, D)])
    def test_shape_of_the_covariances(self, shape: tuple[int, ...]) -> None:
        with pytest.raises(ValueError, match=r"expected shape \(4,\), \(4, 3\) or \(4, 3, 3\), got"):
            Mixture(randn(K, D), torch.ones(shape))

    @pytest.mark.parametrize("covariance", [torch.tensor(-1e-3), torch.diag(real(1, 1, -0.01))])
    def test_negative_variances(self, covariance: Tensor) -> None:
        with pytest.raises(ValueError, match="a variance is negative"):
            Mixture.gaussian(randn(3), covariance)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_measured_covariances_are_taken(self, dtype: torch.dtype) -> None:
        """Fewer rows than features: eigenvalues that should be 0 round to either side of it, in proportion."""
        rows = (100 * randn(20, 60)).to(dtype)
        gaussian = Mixture.gaussian(rows.mean(0), torch.cov(rows.T))
        assert float(torch.linalg.eigvalsh(torch.cov(rows.T)).min()) < -1e-12
        assert bool((gaussian.variances >= 0).all())

    def test_labels_that_are_not_there(self) -> None:
        x_t, at = randn(2, D), Flow()(0.5)
        for ask in (
            lambda: Mixture.points(randn(K, D)).label_log_prob(x_t, at),
            lambda: Mixture.points(randn(K, D))(x_t, at, Condition(label=torch.tensor([0, 0]))),
        ):
            with pytest.raises(ValueError, match="this mixture has no labels"):
                ask()
        with pytest.raises(ValueError, match=r"has the labels \[0, 1, 2\], got \[1, 3\]"):
            LAYOUTS["points"](x_t, at, Condition(label=torch.tensor([1, 3])))

    def test_a_missing_class_has_probability_zero(self) -> None:
        mixture = Mixture(randn(2, D), torch.ones(2), labels=torch.tensor([0, 2]))
        assert mixture.label_log_prob(randn(4, D), Flow()(0.5))[:, 1].tolist() == [-math.inf] * 4


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("own", [False, True], ids=["of the CPU", "of the device"])
def test_it_answers_on_the_device_where_it_is_asked(layout: str, own: bool, device: torch.device) -> None:
    """Whether its own numbers are there or on the CPU."""
    given = (randn(K, D), COVARIANCES[layout], WEIGHTS, LABELS)
    mixture = Mixture(*(on_device(x, device) for x in given)) if own else Mixture(*given)
    x, at, labels = randn(5, D).float(), LEVELS["flow-late"], torch.tensor([0, 2, -1, 1, 0])

    def answers(of: Mixture, where: torch.device) -> list[Tensor]:
        told = Condition(label=labels.to(where))
        estimate, numbers = of(x.to(where), at, told), of.log_prob(x.to(where), at, told)
        names = of.label_log_prob(x.to(where), at)
        assert estimate.x0.device == where
        assert estimate.x0.dtype == torch.float32
        assert numbers.device == names.device == float64_device(where)
        one = Mixture.gaussian(of.means[0], of.variances[0].expand(D) + 1)
        line = Mixture(of.means[:, :1], of.variances[:, :1] + 1)
        alone = [of.sample(5, condition=told), of.mean(), of.covariance(), one.entropy(), line.entropy()]
        return [found.cpu().double() for found in (estimate.x0, numbers, names, *alone)]

    for found, wanted in zip(answers(mixture, device), answers(LAYOUTS[layout], torch.device("cpu")), strict=True):
        close(found, wanted, rtol=1e-4, atol=1e-5)
