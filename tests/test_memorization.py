"""Copies: neighbours against brute force, and the laws that a copy is found and fresh data are not."""

import numpy as np
import pytest
import torch
from torch import Tensor

from unsteep.metrics.memorization import memorization, near_duplicates, nearest


def brute_force(rows: Tensor, training: Tensor) -> np.ndarray:
    """All distances (n, m): Euclidean, and for pictures the root mean square difference of grey values."""
    a = rows.flatten(1).numpy().astype(np.float64)
    b = training.flatten(1).numpy().astype(np.float64)
    squares = ((a[:, None] - b) ** 2).sum(2)
    return np.sqrt(squares / a.shape[1] if rows.dtype == torch.uint8 else squares)


def pictures(n: int, seed: int) -> Tensor:
    """uint8 (n, 1, 6, 6), smooth enough to have neighbours."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(n, 1, 3, 3, generator=generator)
    return (torch.nn.functional.interpolate(coarse, size=6, mode="bilinear") * 255).to(torch.uint8)


def features(n: int, seed: int, mean: float = 100.0) -> Tensor:
    """float32 (n, 5), far from the origin, where products of float32 lose the small distances."""
    return mean + torch.randn(n, 5, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unsteep.metrics.memorization.ASKED", 7)
    monkeypatch.setattr("unsteep.metrics.memorization.SEARCHED", 11)


@pytest.mark.parametrize("rows", [pictures, features])
@pytest.mark.parametrize("k", [1, 4, 60])
def test_neighbours_are_those_of_brute_force(rows: object, k: int) -> None:
    asked, training = rows(20, 0), rows(60, 1)  # type: ignore[operator]
    distance, place = nearest(asked, training, k)
    expected = brute_force(asked, training)
    np.testing.assert_allclose(distance, np.sort(expected, 1)[:, :k], rtol=1e-12, atol=0)
    np.testing.assert_allclose(np.take_along_axis(expected, place.numpy(), 1), distance, rtol=1e-12, atol=0)
    assert all(len(set(row)) == k for row in place.tolist())


@pytest.mark.parametrize("rows", [pictures, features])
def test_a_copy_is_at_distance_zero_exactly(rows: object) -> None:
    training = rows(60, 1)  # type: ignore[operator]
    distance, place = nearest(training[[5, 41]], training, 2)
    assert distance[:, 0].tolist() == [0, 0]
    assert place[:, 0].tolist() == [5, 41]
    assert bool((distance[:, 1] > 0).all())


def test_a_copied_sample_is_found_and_fresh_ones_are_not() -> None:
    training, held_out, samples = features(400, 1), features(200, 2), features(100, 3)
    samples[17] = training[123] + 0.01
    found = memorization(samples, training, held_out)
    assert (found.pairs[0].first, found.pairs[0].second) == (17, 123)
    assert found.pairs[0].distance == pytest.approx(0.01 * 5**0.5, rel=1e-3)
    assert found.samples.replicas.value == 0.01
    assert found.held_out.replicas.value <= 0.01
    assert found.near.low <= found.quantile <= found.near.high  # one of a hundred is what fresh data give
    assert found.nearer.low < 0.5 < found.nearer.high


def test_a_model_that_copies_is_told_from_one_that_does_not() -> None:
    training, held_out = features(400, 1), features(200, 2)
    found = memorization(training[:100] + 0.05 * (features(100, 4) - 100), training, held_out)
    assert found.near.low > 0.5
    assert found.alike.low > 0.5
    assert found.nearer.low > 0.9
    assert found.samples.replicas.low > found.held_out.replicas.high
    assert found.samples.distance[2] < found.held_out.distance[0]
    assert found.samples.ratio[2] < found.held_out.ratio[0]


def test_a_copy_of_a_repeated_example_is_a_replica_too() -> None:
    training = features(100, 1)
    training[7] = training[3]
    found = memorization(training[2:6], training, features(50, 2))
    assert found.samples.replicas.value == 1


def test_held_out_data_are_compared_with_themselves() -> None:
    training, held_out = pictures(200, 1), pictures(101, 2)
    found = memorization(held_out, training, held_out, quantile=0.05, neighbours=9)
    assert found.samples == found.held_out
    assert found.nearer.value == pytest.approx(0.5, abs=1e-12)
    assert found.near.value == pytest.approx(5 / 101)  # 5 of 101 lie below the quantile at place 0.05 * 100
    assert found.alike.value == pytest.approx(5 / 101)


def test_numbers_are_those_of_their_definitions() -> None:
    training, held_out, samples = features(90, 1), features(40, 2), features(30, 3, mean=100.3)
    found = memorization(samples, training, held_out, neighbours=6, quantile=0.2)
    ours, fresh = (np.sort(brute_force(rows, training), 1)[:, :6] for rows in (samples, held_out))
    threshold = np.quantile(fresh[:, 0], 0.2)
    assert found.threshold == pytest.approx(threshold, rel=1e-12)
    assert found.near.value == np.mean(ours[:, 0] < threshold)
    ratio, fresh_ratio = (d[:, 0] / d.mean(1) for d in (ours, fresh))
    assert found.alike.value == np.mean(ratio < np.quantile(fresh_ratio, 0.2))
    np.testing.assert_allclose(found.samples.ratio, np.quantile(ratio, [0.25, 0.5, 0.75]), rtol=1e-12)
    np.testing.assert_allclose(found.held_out.distance, np.quantile(fresh[:, 0], [0.25, 0.5, 0.75]), rtol=1e-12)
    assert found.samples.replicas.value == np.mean(ours[:, 0] < ours[:, 1] / 3)
    assert found.nearer.value == pytest.approx(np.mean(ours[:, 0, None] < fresh[:, 0]), abs=1e-12)


def test_the_interval_of_nearer_holds_the_truth_as_often_as_it_says() -> None:
    hits = 0
    for seed in range(100):
        training = torch.zeros(2, 1)  # so that distances are those of the rows from 0
        samples, held_out = (features(30, 3 * seed + i, mean=0.0)[:, :1] for i in (1, 2))
        nearer = memorization(samples, training, held_out).nearer
        hits += nearer.low <= 0.5 <= nearer.high
    assert 89 <= hits <= 99


@pytest.mark.parametrize("most", [100, 5000])
@pytest.mark.parametrize("rows", [pictures, features])
def test_duplicates_are_those_of_brute_force(rows: object, most: int) -> None:
    training = rows(80, 1)  # type: ignore[operator]
    training[50] = training[20] + 1  # as near as pictures can be
    training = torch.cat([training, training[:3]])
    distances = brute_force(training[:80], training[:80]) + np.diag(np.full(80, np.inf))
    threshold = float(np.quantile(distances, 0.02))
    found = near_duplicates(training, threshold, most=most)
    assert (found.exact, found.searched) == (3, 80)
    assert {(pair.first, pair.second) for pair in found.exact_pairs} == {(0, 80), (1, 81), (2, 82)}
    assert found.near == int((distances < threshold).any(1).sum())
    expected = np.sort(distances[np.triu_indices(80)])
    expected = expected[expected < threshold][:8]
    np.testing.assert_allclose([pair.distance for pair in found.pairs], expected, rtol=1e-12)
    assert all(distances[pair.first, pair.second] == pytest.approx(pair.distance) for pair in found.pairs)


def test_duplicates_of_a_part_when_there_are_too_many() -> None:
    training = features(80, 1)
    found = near_duplicates(training, 1.0, most=30, seed=1)
    assert found.searched == 30
    assert 0 < found.near < near_duplicates(training, 1.0).near
    assert found == near_duplicates(training, 1.0, most=30, seed=1)
    assert found != near_duplicates(training, 1.0, most=30, seed=2)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: nearest(features(2, 0), pictures(5, 0), 1), "like those of the training set"),
        (lambda: nearest(features(2, 0), features(5, 0), 6), "from 1 to 5"),
        (lambda: memorization(features(1, 0), features(5, 0), features(5, 0)), "at least 2"),
        (lambda: memorization(features(4, 0), features(5, 0), features(5, 0), quantile=1.0), "between 0 and 1"),
        (lambda: near_duplicates(features(4, 0), 0.0), "positive"),
    ],
)
def test_what_cannot_be_compared_is_refused(call: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        call()  # type: ignore[operator]
