"""Estimates with their error: what intervals are, and that they hold the truth as often as they say."""

import numpy as np
import pytest
import torch
from scipy import stats

from unsteep.metrics.interval import Interval, Z, intervals

NORMAL = torch.Generator().manual_seed(0)


def test_of_many_it_is_the_normal_interval() -> None:
    values = torch.randn(50, generator=NORMAL, dtype=torch.float64) * 3 + 1
    found = Interval.of(values)
    low, high = stats.norm.interval(0.95, values.mean().item(), stats.sem(values.numpy()))
    assert (found.value, found.low, found.high) == pytest.approx((float(values.mean()), low, high), abs=1e-6)
    mean, half = intervals(torch.stack([values, -2 * values], 1))
    assert mean.tolist() == pytest.approx([found.value, -2 * found.value])
    assert half.tolist() == pytest.approx([found.half, 2 * found.half])
    assert pytest.approx(stats.norm.ppf(0.975), abs=1e-6) == Z


@pytest.mark.parametrize("k", [2, 3, 8])
def test_of_few_it_is_students(k: int) -> None:
    values = torch.randn(k, generator=NORMAL, dtype=torch.float64)
    found = Interval.of_few(values)
    low, high = stats.t.interval(0.95, k - 1, values.mean().item(), stats.sem(values.numpy()))
    assert (found.value, found.low, found.high) == pytest.approx((float(values.mean()), low, high))


def test_three_replicates_hold_the_truth_as_often_as_they_say() -> None:
    draws = torch.randn(2000, 3, generator=NORMAL, dtype=torch.float64) + 5
    held = np.mean([(found := Interval.of_few(row)).low <= 5 <= found.high for row in draws])
    assert 0.93 < held < 0.97  # the normal interval holds it in 81%


@pytest.mark.parametrize(
    ("other", "answer"),
    [((2.1, 3.0), True), ((2.0, 3.0), None), ((1.5, 1.6), None), ((0.0, 1.0), None), ((0.0, 0.9), False)],
    ids=str,
)
def test_one_is_below_another_only_without_overlap(other: tuple[float, float], answer: bool | None) -> None:
    one, two = Interval(1.4, 1.0, 2.0), Interval(sum(other) / 2, *other)
    assert one.below(two) is answer
    assert two.below(one) is (None if answer is None else not answer)


@pytest.mark.parametrize("factor", [2.0, -3.0, 0.0])
def test_in_other_units(factor: float) -> None:
    found = Interval(1.0, 0.5, 2.5) * factor
    assert found.low <= found.value <= found.high
    assert (found.value, found.half) == (factor, abs(factor))
    assert {found.low, found.high} == {0.5 * factor, 2.5 * factor}


@pytest.mark.parametrize(
    ("value", "half", "said", "bracketed"),
    [
        (4.16253, 0.01234, "4.163 ± 0.012", "4.163 [4.150, 4.175]"),
        (123.456, 1.2, "123.5 ± 1.2", "123.5 [122.3, 124.7]"),
        (2712.3, 341.0, "2710 ± 340", "2710 [2370, 3050]"),
        (-0.00004, 0.02, "0.000 ± 0.020", "0.000 [-0.020, 0.020]"),
        (3e-6, 2e-7, "0.00000300 ± 0.00000020", "0.00000300 [0.00000280, 0.00000320]"),
        (1.5, 0.0, "1.5000 ± 0.0000", "1.5000 [1.5000, 1.5000]"),
    ],
)
def test_a_number_has_the_digits_that_its_interval_bears(value: float, half: float, said: str, bracketed: str) -> None:
    found = Interval(value, value - half, value + half)
    assert (str(found), found.bracketed()) == (said, bracketed)
    assert (found * 100).bracketed("%").split(" ")[0].endswith("%")
    assert Interval(1.0, 0.9, 1.1).bracketed(signed=True) == "+1.00 [+0.90, +1.10]"
