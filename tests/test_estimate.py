"""Estimates: every kind is another reading of one pair (x0, eps), and what is undefined says so."""

import itertools
import math
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from unsteep.core.estimate import PREDICTIONS, Estimate, Prediction
from unsteep.core.level import NoiseLevel, add_noise
from unsteep.core.schedules import VP, Cosine, Flow, Schedule

EXPLODING = NoiseLevel(  # alpha = 1, sigma up to 80: no variance is preserved
    *(torch.tensor(values, dtype=torch.float64) for values in zip(
        *((t, -2 * math.log(sigma), 1.0, sigma) for t, sigma in ((0.1, 0.02), (0.5, 1.0), (1.0, 80.0))), strict=True
    ))
)  # fmt: skip


def pair(b: int) -> tuple[Tensor, Tensor]:
    x0, eps = torch.randn(2, b, 2, 3, generator=torch.Generator().manual_seed(b), dtype=torch.float64)
    return x0, eps


def truth(x0: Tensor, eps: Tensor, level: NoiseLevel) -> dict[Prediction, Tensor]:
    """Each kind by its definition, one example at a time, in plain numbers."""
    rows: dict[Prediction, list[Tensor]] = {kind: [] for kind in PREDICTIONS}
    for i in range(len(x0)):
        alpha, sigma = float(level.alpha[i]), float(level.sigma[i])
        rows["x0"].append(x0[i])
        rows["eps"].append(eps[i])
        rows["v"].append((alpha * eps[i] - sigma * x0[i]) / math.hypot(alpha, sigma))
        rows["score"].append(eps[i] / -sigma if sigma else torch.full_like(eps[i], math.nan))
        rows["flow"].append(eps[i] - x0[i])
    return {kind: torch.stack(values) for kind, values in rows.items()}


def inner_levels(schedule: Schedule) -> NoiseLevel:
    level = schedule(torch.tensor([1e-3, 0.05, 0.3, 0.5, 0.8, 0.97, 1.0], dtype=torch.float64))
    return level[level.alpha > 0]


def conversions(level: NoiseLevel) -> Iterator[tuple[Prediction, Prediction, Tensor, Tensor]]:
    x0, eps = pair(len(level))
    x_t, values = add_noise(x0, eps, level), truth(x0, eps, level)
    for kind, wanted in itertools.product(PREDICTIONS, PREDICTIONS):
        yield kind, wanted, Estimate(kind, values[kind], x_t, level).as_(wanted), values[wanted]


def agree_everywhere(level: NoiseLevel) -> None:
    """To float64 rounding, times what the level itself multiplies errors by: 1/alpha and 1/sigma, twice for a score."""
    for kind, wanted, got, expected in conversions(level):
        condition = 1 / (level.alpha * level.sigma) * (1 + 1 / level.sigma) * (1 + level.sigma)
        relative = (got - expected).abs().amax((1, 2)) / (1 + expected.abs().amax((1, 2)))
        assert bool((relative < 1e-14 * condition.clamp(min=1)).all()), (kind, wanted)


def test_every_kind_from_every_kind(schedule: Schedule) -> None:
    agree_everywhere(inner_levels(schedule))


def test_every_kind_from_every_kind_where_the_variance_explodes() -> None:
    agree_everywhere(EXPLODING)


@pytest.mark.parametrize("kind", PREDICTIONS)
def test_the_native_kind_is_the_very_tensor(kind: Prediction) -> None:
    x_t, value = pair(3)
    for t in (0.0, 0.5, 1.0):  # also where no other kind could be had
        assert Estimate(kind, value, x_t, Flow()(t)).as_(kind) is value


def test_properties_are_the_kinds() -> None:
    level = Flow()(0.3)
    x_t, value = pair(2)
    estimate = Estimate("v", value, x_t, level)
    for kind in PREDICTIONS:
        assert torch.equal(getattr(estimate, kind), estimate.as_(kind))


class TestEnds:
    @pytest.mark.parametrize("kind", ["x0", "v", "flow"])
    @pytest.mark.parametrize("schedule", [Flow(), Cosine(logsnr_min=-math.inf)], ids=["flow", "cosine"])
    def test_without_signal_these_heads_are_fine(self, schedule: Schedule, kind: Prediction) -> None:
        level = schedule(torch.ones(2))
        x0, eps = pair(2)
        values = truth(x0, eps, level)
        estimate = Estimate(kind, values[kind], add_noise(x0, eps, level), level)
        for wanted in PREDICTIONS:
            torch.testing.assert_close(estimate.as_(wanted), values[wanted], rtol=1e-14, atol=1e-14)

    @pytest.mark.parametrize("kind", ["eps", "score"])
    @pytest.mark.parametrize("wanted", ["x0", "v", "flow"])
    def test_without_signal_noise_says_nothing_of_the_data(self, kind: Prediction, wanted: Prediction) -> None:
        x_t, value = pair(2)
        estimate = Estimate(kind, value, x_t, Flow()(torch.tensor([0.5, 1.0])))  # one bad row is enough
        with pytest.raises(ValueError, match=f"x0 of a {kind} estimate is undefined where alpha = 0: .*x0, v or flow"):
            estimate.as_(wanted)
        assert estimate.eps.isfinite().all()

    @pytest.mark.parametrize("wanted", ["eps", "v", "score", "flow"])
    def test_clean_data_say_nothing_of_the_noise(self, wanted: Prediction) -> None:
        x_t, value = pair(2)
        estimate = Estimate("x0", value, x_t, Flow()(torch.tensor([0.5, 0.0])))
        with pytest.raises(ValueError, match="of a x0 estimate is undefined where sigma = 0: there is no noise"):
            estimate.as_(wanted)

    @pytest.mark.parametrize("kind", ["x0", "eps", "v", "flow"])
    def test_clean_data_have_no_score(self, kind: Prediction) -> None:
        x_t, value = pair(2)
        with pytest.raises(ValueError, match=f"score of a {kind} estimate is undefined where sigma = 0"):
            _ = Estimate(kind, value, x_t, Flow()(0.0)).score

    @pytest.mark.parametrize("kind", ["eps", "v", "flow"])
    def test_at_no_noise_x0_is_what_is_seen(self, kind: Prediction) -> None:
        x0, eps = pair(2)
        level = Flow()(torch.zeros(2))
        estimate = Estimate(kind, truth(x0, eps, level)[kind], x0, level)
        assert torch.equal(estimate.x0, x0)
        torch.testing.assert_close(estimate.eps, eps, rtol=1e-15, atol=1e-15)

    def test_unknown_kind(self) -> None:
        x_t, value = pair(2)
        with pytest.raises(ValueError, match="unknown prediction kind 'mu'; the kinds are x0, eps, v, score, flow"):
            Estimate("x0", value, x_t, Flow()(0.5)).as_("mu")  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", PREDICTIONS)
@pytest.mark.parametrize(
    "level", [inner_levels(VP()), inner_levels(Flow()), EXPLODING], ids=["vp", "flow", "exploding"]
)
def test_another_x0_moves_every_kind_with_it(kind: Prediction, level: NoiseLevel) -> None:
    """The new estimate explains the same x_t, and keeps what was learned about the variance."""
    x0, eps = pair(len(level))
    x_t, clipped = add_noise(x0, eps, level), x0.clamp(-0.5, 0.5)
    fraction = torch.rand_like(x_t)
    estimate = Estimate(kind, truth(x0, eps, level)[kind], x_t, level, fraction, x_t).replace_x0(clipped)
    assert estimate.x0 is clipped
    assert estimate.variance_fraction is fraction
    assert estimate.log_variance is x_t
    at = level.like(x_t)
    torch.testing.assert_close(at.alpha * clipped + at.sigma * estimate.eps, x_t, rtol=1e-13, atol=1e-13)
    for other in PREDICTIONS:
        torch.testing.assert_close(
            estimate.as_(other), truth(clipped, estimate.eps, level)[other], rtol=1e-12, atol=1e-12
        )


@pytest.mark.parametrize("kind", PREDICTIONS)
def test_one_level_or_one_per_example(kind: Prediction) -> None:
    x_t, value = pair(3)
    row = EXPLODING
    together = Estimate(kind, value, x_t, row)
    for i, wanted in itertools.product(range(3), PREDICTIONS):
        alone = Estimate(kind, value, x_t, row[i]).as_(wanted)
        torch.testing.assert_close(together.as_(wanted)[i], alone[i], rtol=1e-12, atol=1e-12)


def test_precision_is_that_of_x_t() -> None:
    level = Flow()(torch.tensor([0.2, 0.7, 0.9]))
    x_t, value = (x.float() for x in pair(3))
    for kind, wanted in itertools.product(PREDICTIONS, PREDICTIONS):
        got = Estimate(kind, value, x_t, level).as_(wanted)
        exact = Estimate(kind, value.double(), x_t.double(), level).as_(wanted)
        assert got.dtype == torch.float32
        torch.testing.assert_close(got.double(), exact, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", PREDICTIONS)
def test_gradients_pass_through_value_and_level(kind: Prediction) -> None:
    x_t, value = pair(1)

    def readings(value: Tensor, logsnr: Tensor) -> tuple[Tensor, ...]:
        level = NoiseLevel(torch.tensor(0.5), logsnr, torch.sigmoid(logsnr).sqrt(), torch.sigmoid(-logsnr).sqrt())
        return tuple(Estimate(kind, value * 1, x_t, level).as_(wanted) for wanted in PREDICTIONS)

    logsnr = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(readings, (value.requires_grad_(), logsnr))
