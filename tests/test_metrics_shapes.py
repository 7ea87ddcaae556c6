"""Precision, recall, density, coverage and MS-SSIM: against the papers' definitions in numpy, and sets made by hand."""

import numpy as np
import pytest
import torch
from scipy.signal import convolve2d
from torch import Tensor

from unsteep.metrics.manifold import Manifold, manifold, radii
from unsteep.metrics.ms_ssim import BETAS, _ms_ssim, diversity, ms_ssim, settings


def normal(n: int, d: int, seed: int, scale: float = 1.0) -> Tensor:
    return scale * torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def values(found: Manifold) -> tuple[float, float, float, float]:
    return found.precision.value, found.recall.value, found.density.value, found.coverage.value


def by_definition(x: np.ndarray, y: np.ndarray, k_precision: int, k_density: int) -> tuple[float, ...]:
    def apart(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.sqrt(((a[:, None] - b[None]) ** 2).sum(-1))

    def radius(a: np.ndarray, k: int) -> np.ndarray:
        return np.array([np.sort(np.delete(row, i))[k - 1] for i, row in enumerate(apart(a, a))])

    d = apart(x, y)
    return (
        float(np.mean([any(row <= radius(y, k_precision)) for row in d])),
        float(np.mean([any(column <= radius(x, k_precision)) for column in d.T])),
        sum(float(d[i, j] < r) for j, r in enumerate(radius(y, k_density)) for i in range(len(x)))
        / (k_density * len(x)),
        float(np.mean([min(column) < r for column, r in zip(d.T, radius(y, k_density), strict=True)])),
    )


@pytest.mark.parametrize(("ks", "offset"), [((3, 5), 0.0), ((5, 2), 0.0), ((3, 5), 1e5)])
def test_manifold_is_the_papers(ks: tuple[int, int], offset: float) -> None:
    """With an offset, float32 of the products would have no digit left."""
    x, y = normal(90, 3, 0, 0.8) + offset, normal(120, 3, 1) + offset
    found = manifold(x, y, k_precision=ks[0], k_density=ks[1], held=32 * len(y))
    assert values(found) == pytest.approx(by_definition(x.numpy(), y.numpy(), *ks), rel=1e-12)
    assert 0 < found.recall.value < 1


def test_manifold_by_hand() -> None:
    reference = torch.tensor([[0.0], [1.0], [2.0], [10.0]])  # radii for k = 1: 1, 1, 1, 8
    x = torch.tensor([[3.0], [0.5], [-5.0], [30.0]])  # radii for k = 1: 2.5, 2.5, 5.5, 27
    found = manifold(x, reference, k_precision=1, k_density=1)
    assert found.precision.value == 0.5  # 3 on the edge of 2's ball, 0.5 in 0's
    assert found.recall.value == 1.0  # 10 by 30's ball
    assert found.density.value == 0.75  # 3 in 10's ball, but on the edge of 2's; 0.5 in 0's and 1's
    assert found.coverage.value == 0.75  # not 2's


@pytest.mark.parametrize("x", [normal(60, 5, 0), normal(60, 700, 0).float() + 30], ids=["5", "700"])
def test_a_set_and_itself(x: Tensor) -> None:
    """The k-th neighbour lies on the edge, whatever the rounding: in the ball for precision, not for density."""
    assert values(manifold(x, x, held=7 * len(x))) == pytest.approx((1, 1, 1, 1), rel=1e-12)


def test_the_edge_belongs_to_the_ball_whatever_the_rounding() -> None:
    """Pairs, and a sample as far beyond the second as the first is before it."""
    first, step = normal(60, 40, 0, 100.0), normal(60, 40, 1)
    reference = torch.cat([first, first + step])
    found = manifold(first + 2 * step, reference, k_precision=1, k_density=1)
    assert (found.precision.value, found.coverage.value) == (1.0, 0.0)


def test_sets_far_apart() -> None:
    found = manifold(normal(50, 4, 0), normal(50, 4, 1) + 100)
    assert values(found) == (0.0, 0.0, 0.0, 0.0)
    assert found.precision.low == 0.0
    assert 0 < found.precision.high < 0.1


def test_copies_count_as_neighbours() -> None:
    """Four copies have three neighbours at distance 0: their ball is a point, which holds a fifth copy alone."""
    reference = torch.cat([torch.full((4, 2), 7.0), normal(30, 2, 0).float()])
    assert radii(reference.double(), (3, 4))[:4, 0].tolist() == pytest.approx([0] * 4, abs=1e-12)
    assert float(radii(reference.double(), (4,))[:4].min()) > 1
    x = torch.cat([torch.full((1, 2), 7.0), torch.full((9, 2), 50.0) + normal(9, 2, 1).float()])
    assert manifold(x, reference).precision.value == 0.1
    assert manifold(x + 1e-3, reference).precision.value == 0.0


def test_manifold_knows_no_order_and_no_block() -> None:
    x, y = normal(80, 4, 0), normal(90, 4, 1)
    order = torch.randperm(80, generator=torch.Generator().manual_seed(0))
    assert values(manifold(x[order], y.flip(0))) == pytest.approx(values(manifold(x, y)), rel=1e-12)
    assert manifold(x, y, held=13 * len(y)) == manifold(x, y)


def test_intervals_of_the_manifold_hold_the_mean() -> None:
    """Of both sets' drawing: Wilson's interval of recall alone would hold it in two cases of three."""
    found = [manifold(normal(200, 4, 2 * i, 0.8), normal(800, 4, 2 * i + 1)) for i in range(60)]
    for name, widest in (("precision", 3.0), ("recall", 1.8), ("density", 1.8), ("coverage", 2.2)):
        parts = [getattr(one, name) for one in found]
        at = torch.tensor([part.value for part in parts])
        assert np.mean([part.low <= float(at.mean()) <= part.high for part in parts]) >= 0.9, name
        assert np.mean([part.half for part in parts]) <= widest * 1.96 * float(at.std()), name


def test_fewer_than_neighbours_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 6 examples"):
        manifold(normal(5, 2, 0), normal(9, 2, 1))


def pictures(n: int, c: int, h: int, w: int, seed: int = 0) -> Tensor:
    """Smooth ones with noise, so that scales differ."""
    small = torch.rand(n, c, 4, 4, generator=torch.Generator().manual_seed(seed))
    large = torch.nn.functional.interpolate(small, size=(h, w), mode="bilinear")
    noise = torch.rand(n, c, h, w, generator=torch.Generator().manual_seed(seed + 1))
    return (200 * large + 55 * noise).to(torch.uint8)


def wang(a: np.ndarray, b: np.ndarray, kernel: int, betas: tuple[float, ...]) -> float:
    """Of one picture (c, h, w) and another, from the definition."""
    at = np.arange(kernel) - (kernel - 1) / 2
    row = np.exp(-(at**2) / (2 * (1.5 * kernel / 11) ** 2))
    window = np.outer(row, row) / row.sum() ** 2
    a, b = a.astype(float), b.astype(float)
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2

    def mean(picture: np.ndarray) -> np.ndarray:
        return np.stack([convolve2d(channel, window, mode="valid") for channel in picture])

    result = 1.0
    for scale, beta in enumerate(betas):
        ma, mb = mean(a), mean(b)
        covariance = mean(a * b) - ma * mb
        structure = (2 * covariance + c2) / (mean(a * a) - ma**2 + mean(b * b) - mb**2 + c2)
        luminance = (2 * ma * mb + c1) / (ma**2 + mb**2 + c1)
        term = structure * luminance if scale == len(betas) - 1 else structure
        result *= max(0.0, float(term.mean())) ** beta
        h, w = (side // 2 * 2 for side in a.shape[1:])
        a, b = (one[:, :h, :w].reshape(len(one), h // 2, 2, w // 2, 2).mean((2, 4)) for one in (a, b))
    return result


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 40), (3, 67, 50), (1, 180, 176), (1, 8, 8)])
def test_ms_ssim_is_wangs(shape: tuple[int, int, int]) -> None:
    a, b = pictures(3, *shape), pictures(3, *shape, seed=1)
    b[1] = a[1] // 2 + 40
    b[2] = a[2]
    kernel, betas = settings(min(shape[1:]))
    theirs = [wang(p, q, kernel, betas) for p, q in zip(a.numpy(), b.numpy(), strict=True)]
    np.testing.assert_allclose(ms_ssim(a, b).numpy(), theirs, rtol=1e-9)
    assert theirs[2] == pytest.approx(1, rel=1e-12)
    assert theirs[0] < theirs[1] < 1


def test_one_scale_of_ssim_is_torchmetrics() -> None:
    """Theirs has reflected borders, too: left out here."""
    from torchmetrics.functional.image import structural_similarity_index_measure

    a, b = pictures(4, 1, 32, 32), pictures(4, 1, 32, 32, seed=5)
    _, full = structural_similarity_index_measure(
        a.double(), b.double(), data_range=255.0, return_full_image=True, reduction="none"
    )
    inside = full[..., 5:-5, 5:-5].mean((1, 2, 3)).clamp(min=0)
    np.testing.assert_allclose(_ms_ssim(a, b, 11, (1.0,)).numpy(), inside.numpy(), rtol=1e-9)


@pytest.mark.parametrize(
    ("size", "kernel", "scales"),
    [(3, 3, 1), (8, 3, 2), (16, 3, 3), (28, 7, 3), (32, 7, 3), (64, 11, 3), (128, 11, 4), (176, 11, 5), (512, 11, 5)],
)
def test_settings_by_size(size: int, kernel: int, scales: int) -> None:
    found, betas = settings(size)
    assert (found, len(betas)) == (kernel, scales)
    assert sum(betas) == pytest.approx(1, rel=1e-12)
    assert betas[-1] / betas[0] == pytest.approx(BETAS[scales - 1] / BETAS[0], rel=1e-12)


def test_diversity_within_classes() -> None:
    """Two classes of copies: alike within, and not across."""
    two = pictures(2, 1, 28, 28)
    labels = torch.arange(21) % 2
    within = diversity(two[labels], labels=labels)
    assert within.value == pytest.approx(1, rel=1e-12)
    other = float(ms_ssim(two[:1], two[1:]))
    across = diversity(two[labels], seed=1)
    assert (1 - across.value) / (1 - other) * 10 == pytest.approx(round((1 - across.value) / (1 - other) * 10))
    assert other < across.value < 1


def test_pairs_are_of_different_pictures_and_repeat() -> None:
    some = pictures(40, 1, 28, 28)
    assert diversity(some).value < 0.9  # a picture with itself has 1
    assert diversity(some, seed=2) == diversity(some, seed=2)
    assert diversity(some, seed=2) != diversity(some, seed=3)


def test_pictures_that_cannot_be_compared_are_refused() -> None:
    with pytest.raises(ValueError, match="one shape"):
        ms_ssim(pictures(2, 1, 28, 28), pictures(2, 3, 28, 28))
    with pytest.raises(ValueError, match="two pairs"):
        diversity(pictures(3, 1, 28, 28), labels=torch.arange(3))
    with pytest.raises(ValueError, match="at least 3 pixels"):
        settings(2)
