"""The laws of every schedule, and the closed forms of the continuous families."""

import math
from dataclasses import dataclass
from decimal import Decimal, localcontext
from fractions import Fraction
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import avg_pool2d

from conftest import SCHEDULES
from unsteep.core.chains import Chain, CosineBetas, LinearBetas
from unsteep.core.level import NoiseLevel, add_noise
from unsteep.core.open import listed
from unsteep.core.schedules import (
    VP,
    AnySchedule,
    Cosine,
    Flow,
    Karras,
    Laplace,
    Schedule,
    Shifted,
    SigmoidAlphaBar,
    finite_range,
)
from unsteep.storage import config

few = settings(derandomize=True, max_examples=60, deadline=None)


def times(schedule: Schedule) -> Tensor:
    """Both ends, their neighbourhoods, and the times where a chain has its steps, sorted."""
    near = torch.tensor([0.0, 1e-12, 1e-9, 1e-6, 1e-4], dtype=torch.float64)
    anywhere = torch.rand(50, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    steps = schedule.steps or 10
    return torch.cat([near, 1 - near, anywhere, torch.arange(1, steps, dtype=torch.float64) / steps]).unique()


def close(a: Tensor, b: Tensor, rtol: float = 0.0, atol: float = 0.0) -> None:
    torch.testing.assert_close(a, b, rtol=rtol, atol=atol)


def same(a: NoiseLevel, b: NoiseLevel, rtol: float = 0.0, atol: float = 0.0) -> None:
    for mine, other in zip(vars(a).values(), vars(b).values(), strict=True):
        close(mine, other, rtol=rtol, atol=atol)


class TestEverySchedule:
    def test_begins_at_exactly_clean_data(self, schedule: Schedule) -> None:
        for level in (schedule(0.0), schedule(torch.tensor([0.0, 1.0]))[0]):
            assert (float(level.t), float(level.alpha), float(level.sigma), float(level.logsnr)) == (0, 1, 0, math.inf)

    def test_snr_falls_strictly_with_time(self, schedule: Schedule) -> None:
        level = schedule(times(schedule))
        moved = level.t.diff() > 0
        assert bool((level.t.diff() >= 0).all())
        assert bool((level.logsnr[1:] < level.logsnr[:-1])[moved].all())
        # To the rounding of two neighbours: both are flat where the other falls fast.
        assert bool((level.alpha.diff() <= 1e-15 * level.scale[1:]).all())
        assert bool((level.sigma.diff() >= -1e-15 * level.scale[1:]).all())

    def test_inverse_undoes_the_schedule(self, schedule: Schedule) -> None:
        level = schedule(times(schedule))
        back = schedule.inverse(level.logsnr)
        close(back.t, level.t, atol=1e-12)
        close(back.alpha, level.alpha, atol=1e-12)
        close(back.sigma, level.sigma, atol=1e-12)
        close(back.logsnr, level.logsnr, rtol=1e-14)
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
        same(ends[0], schedule(1.0), rtol=1e-14)
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
        level = schedule(torch.cat([torch.tensor([1e-300], dtype=torch.float64), times(schedule)[1:]]))
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
                close(field, of_row, rtol=1e-14, atol=1e-14)
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
        close(level.alpha, torch.cos(math.pi / 2 * t), atol=1e-15)
        close(level.sigma, torch.sin(math.pi / 2 * t), atol=1e-15)
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


class TestSigmoidAlphaBar:
    @pytest.mark.parametrize(("start", "end", "tau"), [(-3.0, 3.0, 1.0), (0.0, 3.0, 0.5), (-3.0, 3.0, 0.0625)])
    def test_is_the_papers_to_every_digit(self, start: float, end: float, tau: float) -> None:
        """Chen 2023, algorithm 1, by 60-digit arithmetic; near both ends its differences cancel."""
        schedule = SigmoidAlphaBar(start=start, end=end, tau=tau)
        for t in (2.0**-40, 0.125, 0.5, 0.875, 1 - 2.0**-40):
            with localcontext(prec=60):
                z = Decimal(t) * (Decimal(end) - Decimal(start)) + Decimal(start)
                first, last, here = (1 / (1 + (-x / Decimal(tau)).exp()) for x in (Decimal(start), Decimal(end), z))
                gamma = (last - here) / (last - first)
                alpha, sigma = float(gamma.sqrt()), float((1 - gamma).sqrt())
                logsnr = float(gamma.ln() - (1 - gamma).ln())
            level = schedule(t)
            assert float(level.alpha) == pytest.approx(alpha, rel=1e-13)
            assert float(level.sigma) == pytest.approx(sigma, rel=1e-13)
            assert float(level.logsnr) == pytest.approx(logsnr, rel=1e-13, abs=1e-13)

    @few
    @given(st.floats(-6, 3), st.floats(0.1, 6), st.floats(0.02, 3), st.floats(-20, 60))
    def test_the_inverse_knows_t_to_its_digits(self, start: float, span: float, tau: float, logsnr: float) -> None:
        schedule = SigmoidAlphaBar(start=start, end=start + span, tau=tau)
        t = float(schedule.inverse(logsnr).t)
        rounded = 1e-13 + 1e-15 / (1 - t)  # t itself is rounded: near 1, the log-SNR falls fast
        assert float(schedule(t).logsnr) == pytest.approx(logsnr, abs=rounded)
        assert float(schedule.inverse(schedule(t).logsnr).t) == pytest.approx(t, rel=1e-10)

    @pytest.mark.parametrize("wrong", [{"start": 3.0}, {"tau": 0.0}, {"tau": -1.0}])
    def test_refuses_what_does_not_fall(self, wrong: dict[str, float]) -> None:
        with pytest.raises(ValueError, match=r"SigmoidAlphaBar: expected start < end and tau > 0, got"):
            SigmoidAlphaBar(**wrong)


class TestLaplace:
    @few
    @given(st.floats(-3, 3), st.floats(0.2, 3), st.floats(0.5, 9), st.floats(0.5, 9))
    def test_uniform_times_see_the_distribution_cut_to_its_range(
        self, mu: float, b: float, below: float, above: float
    ) -> None:
        laplace = Laplace(mu=mu, b=b, logsnr_min=mu - below, logsnr_max=mu + above)
        cdf = torch.distributions.Laplace(*torch.tensor([mu, b], dtype=torch.float64)).cdf
        ends = torch.tensor([laplace.logsnr_min, laplace.logsnr_max], dtype=torch.float64)
        t = torch.linspace(0, 1, 41, dtype=torch.float64)[1:]
        noisier = (cdf(laplace(t).logsnr) - cdf(ends[0])) / (cdf(ends[1]) - cdf(ends[0]))
        close(noisier, 1 - t, atol=1e-12)
        assert float(laplace(1.0).logsnr) == laplace.logsnr_min
        assert float(laplace(1e-300).logsnr) == pytest.approx(laplace.logsnr_max, abs=1e-12)
        for end in (*ends.tolist(), laplace.logsnr_max + 1):
            laplace(laplace.inverse(end).t)  # a time, whatever the rounding

    def test_half_of_the_times_are_cleaner_than_mu(self) -> None:
        for mu in (-1.0, 0.0, 2.0):
            middle = Laplace(mu=mu, logsnr_min=mu - 7, logsnr_max=mu + 7)(0.5)
            assert float(middle.alpha**2 / middle.sigma**2) == pytest.approx(math.exp(mu), rel=1e-14)

    @pytest.mark.parametrize("wrong", [{"mu": 10.0}, {"mu": -11.0}, {"b": 0.0}])
    def test_refuses_a_range_without_its_middle(self, wrong: dict[str, float]) -> None:
        with pytest.raises(ValueError, match=r"Laplace: expected logsnr_min < mu < logsnr_max and b > 0, got"):
            Laplace(**wrong)


class TestKarras:
    @pytest.mark.parametrize("n", [2, 18])
    def test_times_evenly_spaced_are_their_sigmas(self, n: int) -> None:
        """Karras et al. 2022, eq. 5, i = 0 .. n - 1, but for the last: their sigma_min is at t = 0+, the limit here."""
        schedule = Karras()
        i = torch.arange(n, dtype=torch.float64)
        sigmas = (80 ** (1 / 7) + i / (n - 1) * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7
        times = 1 - i / (n - 1)
        close(schedule(times[:-1]).sigma, sigmas[:-1], rtol=1e-13)
        assert float(schedule(1e-300).sigma) == pytest.approx(float(sigmas[-1]), rel=1e-13)

    def test_the_signal_stays(self) -> None:
        level = Karras()(torch.linspace(0, 1, 11))
        assert torch.equal(level.alpha, torch.ones(11, dtype=torch.float64))
        assert Karras().logsnr_min == pytest.approx(-2 * math.log(80), rel=1e-14)
        assert Karras().logsnr_max == pytest.approx(2 * math.log(500), rel=1e-14)

    def test_samplers_reach_nearly_sigma_min(self) -> None:
        low, high = finite_range(Karras())
        assert low == Karras().logsnr_min
        assert math.exp(-high / 2) == pytest.approx(0.002, rel=0.03)

    @pytest.mark.parametrize("wrong", [{"sigma_min": 0.0}, {"sigma_min": 90.0}, {"rho": 0.0}])
    def test_refuses_sigmas_that_do_not_rise(self, wrong: dict[str, float]) -> None:
        with pytest.raises(ValueError, match=r"Karras: expected 0 < sigma_min < sigma_max and rho > 0, got"):
            Karras(**wrong)


class TestShifted:
    def test_on_flow_it_shifts_the_times(self) -> None:
        """Esser et al. 2024, eq. 23: t -> s t / (1 + (s - 1) t)."""
        t = torch.linspace(0, 1, 101, dtype=torch.float64)
        for size, s in ((192, 3.0), (64, 1.0), (32, 0.5)):
            level, moved = Shifted(schedule=Flow(), size=size)(t), Flow()(s * t / (1 + (s - 1) * t))
            close(level.t, t)
            close(level.alpha, moved.alpha, atol=1e-15)
            close(level.sigma, moved.sigma, atol=1e-15)

    @pytest.mark.parametrize("inner", [Cosine(), Flow()], ids=["cosine", "flow"])
    def test_averaged_down_to_the_base_the_picture_has_its_noise(self, inner: Any) -> None:
        """Hoogeboom et al. 2023: what a picture of one colour, noised at 256, looks like at 64."""
        eps = torch.randn(1, 1, 256, 256, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        for t in (0.2, 0.5, 0.8):
            small = avg_pool2d(add_noise(torch.ones_like(eps), eps, Shifted(schedule=inner, size=256)(t)), 4)
            wanted = inner(t).alpha / inner(t).sigma
            assert float(small.mean() / small.std()) == pytest.approx(float(wanted), rel=0.03)

    def test_at_its_own_size_it_is_the_schedule(self, continuous: Schedule) -> None:
        if isinstance(continuous, Karras | Shifted):
            return  # which it does not take
        shifted = Shifted(schedule=continuous, size=100, base=100)  # type: ignore[arg-type]
        same(shifted(times(continuous)), continuous(times(continuous)), atol=1e-15)

    @pytest.mark.parametrize("schedule", [LinearBetas(), Karras(), Shifted(size=128)], ids=["chain", "karras", "twice"])
    def test_refuses_what_it_cannot_shift(self, schedule: Any) -> None:
        with pytest.raises(ValueError, match=r"Shifted: expected a schedule of Interpolated, VP, .*Flow, got"):
            Shifted(schedule=schedule, size=128)

    @pytest.mark.parametrize("sizes", [{"size": 0}, {"size": 64, "base": -1}])
    def test_refuses_no_pixels(self, sizes: dict[str, int]) -> None:
        with pytest.raises(ValueError, match="Shifted: expected sizes in pixels, got size="):
            Shifted(**sizes)


@dataclass(frozen=True, kw_only=True)
class Choice:
    schedule: AnySchedule


class TestConfiguration:
    def test_no_family_escapes_the_laws(self) -> None:
        assert set(listed(AnySchedule)) == {type(schedule) for schedule in SCHEDULES.values()}

    def test_every_schedule_comes_back_from_a_file(self, schedule: Any) -> None:
        assert config.loads(Choice, config.dumps(Choice(schedule=schedule))).schedule == schedule

    @pytest.mark.parametrize(
        ("settings_", "meant"),
        [
            ("schedule=Karras schedule.sigma_max=160", Karras(sigma_max=160.0)),
            ("schedule=Laplace schedule.mu=1", Laplace(mu=1.0)),
            ("schedule=SigmoidAlphaBar schedule.tau=0.5", SigmoidAlphaBar(tau=0.5)),
            ("schedule=Shifted schedule.size=256", Shifted(schedule=Cosine(), size=256)),
            ("schedule=Shifted schedule.schedule=Flow schedule.size=256", Shifted(schedule=Flow(), size=256)),
            (
                "schedule=Shifted schedule.size=32 schedule.schedule=Interpolated schedule.schedule.chain=CosineBetas",
                Shifted(schedule=CosineBetas().interpolated(), size=32),
            ),
        ],
    )
    def test_settings_reach_into_it(self, settings_: str, meant: Any) -> None:
        assert config.override(Choice(schedule=LinearBetas()), settings_.split()).schedule == meant
