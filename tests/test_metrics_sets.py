"""Distances between sets of features: against the papers' definitions in numpy, closed forms and torchmetrics."""

import math

import numpy as np
import pytest
import torch
from scipy import linalg, stats
from torch import Tensor

from unsteep.core.noise import permutation
from unsteep.metrics.frechet import (
    Moments,
    bias,
    fid,
    fid_infinity,
    frechet_distance,
    moments,
    too_few,
)
from unsteep.metrics.inception_score import inception_score
from unsteep.metrics.kid import discrepancy, kid


def normal(n: int, d: int, seed: int, scale: float = 1.0, shift: float = 0.0) -> Tensor:
    noise = torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return noise * scale * torch.linspace(1, 0.3, d, dtype=torch.float64) + shift


def numpy_fid(x: Tensor, y: Tensor) -> float:
    a, b = x.double().numpy(), y.double().numpy()
    cov_a, cov_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = linalg.sqrtm(cov_a @ cov_b)
    return float(((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(cov_a + cov_b - 2 * np.real(root)))


X, Y = normal(300, 6, 1, 1.2, 0.3), normal(400, 6, 2) @ torch.linalg.qr(normal(6, 6, 3))[0]


def test_fid_is_heusels() -> None:
    ours = frechet_distance(moments(X), moments(Y))
    assert ours == pytest.approx(numpy_fid(X, Y), rel=1e-9)
    assert fid(X, Y).value == pytest.approx(ours, rel=1e-9)
    assert frechet_distance(moments(Y), moments(X)) == pytest.approx(ours, rel=1e-9)


def test_fid_is_torchmetrics() -> None:
    from torchmetrics.image.fid import _compute_fid

    theirs = _compute_fid(X.mean(0), X.T.cov(), Y.mean(0), Y.T.cov())
    assert frechet_distance(moments(X), moments(Y)) == pytest.approx(float(theirs), rel=1e-9)


def test_fid_of_gaussians_whose_axes_agree() -> None:
    a, b = torch.tensor([4.0, 1.0, 0.0], dtype=torch.float64), torch.tensor([1.0, 9.0, 4.0], dtype=torch.float64)
    mean = torch.tensor([1.0, 2.0, 2.0], dtype=torch.float64)
    distance = frechet_distance(Moments(9, mean, torch.diag(a)), Moments(9, torch.zeros_like(mean), torch.diag(b)))
    assert distance == pytest.approx(9 + 1 + 4 + 4, rel=1e-12)  # |mean|^2 + sum (sd_a - sd_b)^2


@pytest.mark.parametrize(
    "x",
    [
        normal(200, 8, 0).float(),
        normal(200, 8, 0) * (torch.arange(8) < 5),  # dead channels
        normal(20, 64, 0),  # fewer than dimensions
        normal(300, 64, 0) * torch.logspace(0, -5, 64, dtype=torch.float64),
        normal(200, 8, 0, shift=1e6),
    ],
    ids=["plain", "dead", "few", "decay", "offset"],
)
def test_fid_of_a_set_and_itself_is_0(x: Tensor) -> None:
    found = fid(x, x.flip(0))
    total = float(moments(x).covariance.trace())
    assert found.value <= 1e-9 * total
    assert found.half <= 1e-5 * total


def test_moments_are_float64_under_an_offset_of_float32_features() -> None:
    x = (normal(10_000, 4, 0) + 3e4).float()
    ours = moments(x)
    np.testing.assert_allclose(ours.covariance.numpy(), np.cov(x.double().numpy(), rowvar=False), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(ours.mean.numpy(), x.double().numpy().mean(0), rtol=1e-14)


def test_influence_is_what_leaving_one_out_does() -> None:
    """The jackknife over both sets, example by example, is the interval to first order in 1/n."""
    variance = 0.0
    for one, other in ((X, Y), (Y, X)):
        fixed, n = moments(other), len(one)
        left = torch.tensor([frechet_distance(moments(torch.cat([one[:i], one[i + 1 :]])), fixed) for i in range(n)])
        variance += float(((left - left.mean()) ** 2).sum()) * (n - 1) / n
    assert fid(X, Y).half == pytest.approx(1.959964 * variance**0.5, rel=0.02)


@pytest.mark.parametrize(("scale", "shift", "widest"), [(1.0, 0.0, 1.6), (1.2, 0.3, 1.15)])
def test_interval_of_fid_holds_its_mean(scale: float, shift: float, widest: float) -> None:
    """Known Gaussians, d = 8, n = 500, 200 times: no more than one in ten misses, and no wider than need be."""
    found = [fid(normal(500, 8, 2 * i, scale, shift), normal(500, 8, 2 * i + 1)) for i in range(200)]
    values = torch.tensor([one.value for one in found])
    hit = [one.low <= float(values.mean()) <= one.high for one in found]
    assert np.mean(hit) >= 0.9
    assert np.mean([one.half for one in found]) <= widest * 1.96 * float(values.std())


def test_bias_is_that_of_gaussian_samples() -> None:
    truth = Moments(1, torch.zeros(5, dtype=torch.float64), torch.diag(torch.linspace(1, 0.3, 5).double() ** 2))
    seen = np.mean([frechet_distance(moments(normal(200, 5, seed)), truth) for seed in range(300)])
    assert bias(truth, 200) == pytest.approx(seen, rel=0.05)


def test_bias_of_alike_variances_by_hand() -> None:
    truth = Moments(1, torch.zeros(7, dtype=torch.float64), 3 * torch.eye(7, dtype=torch.float64))
    assert bias(truth, 100) == pytest.approx(3 * 7 * (7 + 5) / 400, rel=1e-12)


def test_too_few() -> None:
    assert too_few(128, 64) is None
    assert "27%" in (too_few(64, 64) or "")  # (64 + 5) / (4 * 64)
    assert f"{bias(moments(X), 11):.3g};" in (too_few(11, 6, moments(X)) or "")


def test_fid_infinity_is_chongs_line() -> None:
    """Subsets' distances less their share of the influences, which leaving one out gives to order 1/n."""
    x = normal(300, 6, 4) @ torch.linalg.qr(normal(6, 6, 3))[0]  # like Y, where the fit's error counts most
    n, fixed, whole = len(x), moments(Y), fid(x, Y)
    left = np.array([frechet_distance(moments(torch.cat([x[:i], x[i + 1 :]])), fixed) for i in range(n)])
    influence = (n - 1) * (left.mean() - left)
    sizes = np.rint(np.linspace(n / 2, n, 15)).astype(int)
    chosen = [permutation(n, 7, draw)[:size].numpy() for draw, size in enumerate(sizes)]
    values = [numpy_fid(x[subset], Y) - influence[subset].mean() for subset in chosen]
    fit = stats.linregress(1 / sizes, values)
    found = fid_infinity(x, Y, seed=7)
    assert found.value == pytest.approx(fit.intercept, abs=0.02 * whole.half)
    assert found.half == pytest.approx((whole.half**2 + (1.959964 * fit.intercept_stderr) ** 2) ** 0.5, rel=1e-2)


def test_fid_infinity_takes_the_bias_of_the_samples_away() -> None:
    """The limit is F of the true Gaussian and the given reference; at n, F is 5 half-widths above it."""
    reference = normal(4000, 32, 10_000)
    truth = Moments(1, torch.full((32,), 0.05).double(), torch.diag((1.05 * torch.linspace(1, 0.3, 32).double()) ** 2))
    limit = frechet_distance(truth, moments(reference))
    found = [fid_infinity(normal(300, 32, i, 1.05, 0.05), reference, seed=i) for i in range(20)]
    at_n = fid(normal(300, 32, 0, 1.05, 0.05), reference)
    assert at_n.low > limit + at_n.half
    assert np.mean([one.value for one in found]) == pytest.approx(limit, abs=0.4 * found[0].half)
    assert sum(one.low <= limit <= one.high for one in found) >= 17


def test_kid_is_binkowskis() -> None:
    a, b = X.numpy(), Y.numpy()
    total = 0.0
    for one in (a, b):
        total += sum((one[i] @ one[j] / 6 + 1) ** 3 for i in range(40) for j in range(40) if i != j) / (40 * 39)
    total -= 2 * sum((a[i] @ b[j] / 6 + 1) ** 3 for i in range(40) for j in range(40)) / 1600
    assert kid(X[:40], Y[:40]).value == pytest.approx(total, rel=1e-9)


def test_kid_is_torchmetrics() -> None:
    from torchmetrics.image.kid import poly_mmd

    assert kid(X, Y[:300]).value == pytest.approx(float(poly_mmd(X, Y[:300])), rel=1e-9)
    many = kid(X, Y, subsets=60, size=100)
    whole = discrepancy(X, Y)[0]
    assert many.value == pytest.approx(float(whole), abs=0.5 * many.half)  # subsets of all that there is, on average


def test_kid_is_unbiased() -> None:
    pairs = [(normal(50, 4, 2 * i), normal(50, 4, 2 * i + 1)) for i in range(1000)]
    values = torch.stack([discrepancy(x, y)[0] for x, y in pairs])
    error = float(values.std()) / len(values) ** 0.5
    assert abs(values.mean()) < 3 * error
    assert 6 * error < 2 / 50  # less than what pairs with oneself would add, 2 (E k(x, x) - E k(x, x')) / n


@pytest.mark.parametrize(("subsets", "size"), [(1, 200), (5, 60)])
@pytest.mark.parametrize(("scale", "shift", "widest"), [(1.0, 0.0, 1.7), (1.3, 1.0, 1.25)])
def test_interval_of_kid_holds_the_truth(scale: float, shift: float, widest: float, subsets: int, size: int) -> None:
    sets = [(normal(200, 4, 2 * i, scale, shift), normal(200, 4, 2 * i + 1)) for i in range(80)]
    found = [kid(x, y, subsets=subsets, size=size, seed=i) for i, (x, y) in enumerate(sets)]
    values = torch.tensor([one.value for one in found])
    truth = 0.0 if shift == 0 else float(torch.stack([discrepancy(x, y)[0] for x, y in sets]).mean())
    assert np.mean([one.low <= truth <= one.high for one in found]) >= 0.88
    assert np.mean([one.half for one in found]) <= widest * 1.96 * float(values.std())


@pytest.mark.parametrize("metric", [fid, kid, fid_infinity])
def test_sets_of_other_features_are_refused(metric) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match="by one network"):
        metric(X, Y[:, :5])
    with pytest.raises(ValueError, match="at least 2"):
        metric(X[:1], Y)


@pytest.mark.parametrize("metric", [fid_infinity, kid])
def test_seeds_repeat_and_leave_torch_alone(metric) -> None:  # type: ignore[no-untyped-def]
    state = torch.get_rng_state()
    options = {} if metric is fid_infinity else {"subsets": 3, "size": 50}
    assert metric(X, Y, seed=3, **options) == metric(X, Y, seed=3, **options)
    assert metric(X, Y, seed=3, **options) != metric(X, Y, seed=4, **options)
    assert torch.equal(torch.get_rng_state(), state)


def test_order_does_not_matter() -> None:
    order = torch.randperm(len(X), generator=torch.Generator().manual_seed(0))
    assert fid(X[order], Y).value == pytest.approx(fid(X, Y).value, rel=1e-9)
    assert fid(X[order], Y).half == pytest.approx(fid(X, Y).half, rel=1e-9)
    assert kid(X[order], Y[:300]).value == pytest.approx(kid(X, Y[:300]).value, rel=1e-9)
    assert kid(X[order], Y[:300]).half == pytest.approx(kid(X, Y[:300]).half, rel=1e-9)


def test_score_of_certain_and_even_classes_is_their_number() -> None:
    logits = 2000.0 * torch.nn.functional.one_hot(torch.arange(1200) % 7, 7)  # so certain that others' p is 0
    assert inception_score(logits, splits=2).value == pytest.approx(7, rel=2e-3)  # a split is not quite even
    assert inception_score(torch.zeros(100, 7)).value == pytest.approx(1, rel=1e-12)
    one = inception_score(2000.0 * torch.nn.functional.one_hot(torch.full((60,), 3), 7))
    assert (one.value, one.half) == (1.0, 0.0)


def test_score_is_salimans_and_torchmetrics(monkeypatch: pytest.MonkeyPatch) -> None:
    from torchmetrics.image.inception import InceptionScore

    logits = 3 * normal(405, 10, 5).float()
    order = permutation(405, 2, 0)
    p = np.exp(logits.double().numpy())[order.numpy()]
    p /= p.sum(1, keepdims=True)
    splits = np.array_split(p, 9)
    scores = [math.exp(np.mean([sum(row * np.log(row / split.mean(0))) for row in split])) for split in splits]
    ours = inception_score(logits, splits=9, seed=2)
    low, high = stats.t.interval(0.95, 8, np.mean(scores), stats.sem(scores))
    assert (ours.value, ours.low, ours.high) == pytest.approx((np.mean(scores), low, high), rel=1e-9)

    metric = InceptionScore(feature=torch.nn.Identity(), splits=9)
    metric.update(logits)
    monkeypatch.setattr(torch, "randperm", lambda n: order)
    assert ours.value == pytest.approx(float(metric.compute()[0]), rel=1e-5)


def test_score_of_fewer_pictures_than_splits_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 10 pictures"):
        inception_score(torch.zeros(9, 3))
