"""The laws of every schedule, and the closed forms of the continuous families."""

import math
from decimal import Decimal, localcontext
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from unsteep.core.chains import Chain
from unsteep.core.level import NoiseLevel
from unsteep.core.schedules import VP, Cosine, Flow, Schedule

few = settings(derandomize=True, max_examples=60, deadline=None)


def times(schedule: Schedule) -> Tensor:
    """Both ends, their neighbourhoods, and the times where a chain has its steps, sorted."""
    near = torch.tensor([0.0, 1e-12, 1e-9, 1e-6, 1e-4], dtype=torch.float64)
    anywhere = torch.rand(50, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    steps = getattr(schedule, "steps", 10)
    return torch.cat([near, 1 - near, anywhere, torch.arange(1, steps, dtype=torch.float64) / steps]).unique()


def close(a: Tensor, b: Tensor, rtol: float = 0.0, atol: float = 0.0) -> None:
    torch.testing.assert_close(a, b, rtol=rtol, atol=atol)


def same(a: NoiseLevel, b: NoiseLevel, atol: float = 0.0) -> None:
    for mine, other in zip(vars(a).values(), vars(b).values(), strict=True):
        close(mine, other, atol=atol)


class TestEverySchedule:
    def test_begins_at_exactly_clean_data(self, schedule: Schedule) -> None:
        for level in (schedule(0.0), schedule(torch.tensor([0.0, 1.0]))[0]):
            assert (float(level.t), float(level.alpha), float(level.sigma), float(level.logsnr)) == (0, 1, 0, math.inf)

    def test_snr_falls_strictly_with_time(self, schedule: Schedule) -> None:
        level = schedule(times(schedule))
        moved = level.t.diff() > 0
        assert bool((level.t.diff() >= 0).all())
        assert bool((level.logsnr[1:] < level.logsnr[:-1])[moved].all())
        assert bool((level.alpha.diff() <= 0).all())
        assert bool((level.sigma.diff() >= 0).all())

    def test_inverse_undoes_the_schedule(self, schedule: Schedule) -> None:
        level = schedule(times(schedule))
        back = schedule.inverse(level.logsnr)
        close(back.t, level.t, atol=1e-12)
        close(back.alpha, level.alpha, atol=1e-12)
        close(back.sigma, level.sigma, atol=1e-12)
        close(back.logsnr, level.logsnr)
        if schedule.logsnr_max == math.inf:  # then t itself is known to its own digits near 0
            close(back.t, level.t, rtol=1e-10)

    def test_inverse_gives_a_level_of_the_schedule(self, schedule: Schedule) -> None:
        """Any log-SNR, of any shape: the ends for what is out of range, and always a time that the schedule takes."""
        asked = torch.linspace(-12, 40, 301, dtype=torch.float64)
        level = schedule.inverse(asked)
        if isinstance(schedule, Chain):  # no step is nearer
            distance = (schedule.levels.logsnr - asked[:, None]).abs().amin(1)
            close((level.logsnr - asked).abs(), distance, atol=1e-12)
        else:
            close(level.logsnr, asked.clamp(schedule.logsnr_min, schedule.logsnr_max))
        below = level[asked < schedule.logsnr_max]  # above it, t is 0, where the data are clean at once
        same(schedule(below.t), below, atol=1e-6)
        ends = schedule.inverse(torch.tensor([-math.inf, math.inf]))
        same(ends[0], schedule(1.0), atol=1e-15)
        same(ends[1], schedule(0.0))
        assert schedule.inverse(-1.0).t.shape == ()
        assert schedule.inverse(asked.reshape(7, 43)).t.shape == (7, 43)

    def test_fields_agree(self, schedule: Schedule) -> None:
        level = schedule(times(schedule))
        ratio = 2 * (level.alpha.log() - level.sigma.log())
        close(ratio, level.logsnr, rtol=1e-13, atol=1e-13)

    def test_preserves_variance(self, preserving: Schedule) -> None:
        level = preserving(times(preserving))
        close(level.alpha**2 + level.sigma**2, torch.ones_like(level.t), atol=1e-15)
        close(level.scale, torch.ones_like(level.t), atol=1e-15)

    def test_range_of_the_log_snr(self, schedule: Schedule) -> None:
        assert schedule.logsnr_min == float(schedule(1.0).logsnr)
        level = schedule(times(schedule)[1:])
        seen = level.logsnr[level.t > 0]
        assert bool((seen <= schedule.logsnr_max).all())
        if math.isfinite(schedule.logsnr_max):
            assert float(seen.max()) == pytest.approx(schedule.logsnr_max, abs=1e-6)
        else:
            assert float(seen.max()) > 20

    def test_shapes_types_and_indexing(self, schedule: Schedule) -> None:
        row = schedule(torch.tensor([0.0, 0.25, 0.7, 1.0]))
        assert len(row) == 4
        for t, i in ((0.0, 0), (torch.tensor(0.25), 1), (1, 3)):
            one = schedule(t)
            for field, of_row in zip(vars(one).values(), vars(row[i]).values(), strict=True):
                assert field.shape == of_row.shape == ()
                assert field.dtype == torch.float64
                assert field.device.type == "cpu"
                close(field, of_row, rtol=1e-15, atol=1e-15)
        assert row[1:3].alpha.shape == (2,)
        same(row[torch.tensor([3, 0])][1], row[0])
        assert schedule(torch.tensor([0.5])).logsnr.shape == (1,)
        assert schedule(torch.empty(0)).t.shape == (0,)

    def test_no_field_is_ever_nan(self, schedule: Schedule) -> None:
        for level in (schedule(times(schedule)), schedule.inverse(schedule(times(schedule)).logsnr)):
            assert not any(bool(field.isnan().any()) for field in vars(level).values())
            assert bool((level.alpha >= 0).all())
            assert bool((level.sigma >= 0).all())

    def test_refuses_other_times(self, schedule: Schedule) -> None:
        for t in (-1e-9, 1 + 1e-9, math.nan):
            with pytest.raises(ValueError, match=r"must lie in \[0, 1\], got"):
                schedule(torch.tensor([0.5, t], dtype=torch.float64))


def test_continuous_schedules_keep_their_time(continuous: Schedule) -> None:
    close(continuous(times(continuous)).t, times(continuous))


class TestVP:
    def test_solves_its_differential_equation(self) -> None:
        """Song et al. 2021: d log alpha = -beta(t) dt / 2, with beta linear from beta_min to beta_max;
        alpha by 50-digit arithmetic, the integral of a linear function by its middle value."""
        vp = VP(beta_min=0.1, beta_max=20.0)
        for t in (1e-12, 1e-5, 0.1, 0.5, 1.0):
            level = vp(t)
            middle = Fraction(0.1) + (Fraction(20) - Fraction(0.1)) * Fraction(t) / 2
            integral = Fraction(t) * middle
            with localcontext(prec=50):
                alpha_bar = (-Decimal(integral.numerator) / Decimal(integral.denominator)).exp()
                alpha, sigma = float(alpha_bar.sqrt()), float((1 - alpha_bar).sqrt())
                logsnr = float(alpha_bar.ln() - (1 - alpha_bar).ln())
            assert float(level.alpha) == pytest.approx(alpha, rel=1e-14)
            assert float(level.sigma) == pytest.approx(sigma, rel=1e-14)
            assert float(level.logsnr) == pytest.approx(logsnr, rel=1e-14)

    @few
    @given(st.floats(0.01, 5), st.floats(0, 30))
    def test_the_inverse_of_the_last_level_is_a_time(self, beta_min: float, more: float) -> None:
        vp = VP(beta_min=beta_min, beta_max=beta_min + more)
        same(vp(vp.inverse(vp(1.0).logsnr).t), vp(1.0), atol=1e-13)  # and t is not refused: never 1 + 2^-52

    @pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (2.0, 1.0), (-1.0, 1.0)])
    def test_refuses_a_falling_beta(self, low: float, high: float) -> None:
        with pytest.raises(ValueError, match=r"0 < beta_min <= beta_max, got"):
            VP(beta_min=low, beta_max=high)


class TestCosine:
    def test_whole_cosine_is_a_quarter_turn(self) -> None:
        t = torch.linspace(0, 1, 101, dtype=torch.float64)
        level = Cosine(logsnr_min=-math.inf, logsnr_max=math.inf)(t)
        close(level.alpha, torch.cos(math.pi / 2 * t), atol=2e-16)
        close(level.sigma, torch.sin(math.pi / 2 * t), atol=2e-16)
        assert float(level.alpha[-1]) == 0
        assert float(level.logsnr[-1]) == -math.inf

    @few
    @given(st.floats(-20, 1), st.floats(1, 30))
    def test_a_cut_cosine_turns_evenly_between_its_ends(self, low: float, span: float) -> None:
        cosine = Cosine(logsnr_min=low, logsnr_max=low + span)
        level = cosine(torch.linspace(0, 1, 33, dtype=torch.float64))[1:]
        turn = torch.atan2(level.sigma, level.alpha).diff()
        close(turn, turn.mean().expand(31), atol=1e-14)
        assert float(level.logsnr[-1]) == pytest.approx(low, abs=1e-12)
        assert float(cosine(1e-15).logsnr) == pytest.approx(low + span, abs=1e-6)
        for end in (low, low + span, low + span + 1):
            cosine(cosine.inverse(end).t)  # a time, whatever the rounding

    def test_refuses_an_empty_range(self) -> None:
        with pytest.raises(ValueError, match=r"logsnr_min < logsnr_max, got 3\.0 and 3\.0"):
            Cosine(logsnr_min=3.0, logsnr_max=3.0)


def test_flow_is_the_straight_path() -> None:
    t = torch.linspace(0, 1, 101, dtype=torch.float64)
    level = Flow()(t)
    close(level.alpha + level.sigma, torch.ones_like(t), atol=1e-16)
    close(level.sigma, t)
    close(Flow().inverse(level.logsnr).alpha, level.alpha, atol=1e-15)
