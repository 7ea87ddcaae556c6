"""Adaptive steps: the flow of known data to the tolerance asked for, calls counted, and every sample on its own."""

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
import scipy.integrate
import torch
from torch import Tensor

from unsteep.analytic import Mixture
from unsteep.core.chains import CosineBetas, LinearBetas
from unsteep.core.estimate import Estimate, Prediction
from unsteep.core.level import NoiseLevel
from unsteep.core.runge_kutta import DORMAND_PRINCE, HEUN, SAFETY, EmbeddedPair, integrate
from unsteep.core.schedules import VP, Cosine, Flow, Karras, Schedule, finite_range
from unsteep.denoiser import Denoise, Denoiser
from unsteep.sampling.adaptive import PAIRS, Adaptive
from unsteep.storage.config import override

WALKED: dict[str, Schedule] = {
    "linear": LinearBetas(),
    "linear-zero": LinearBetas(zero_terminal=True),
    "vp": VP(),
    "cosine-whole": Cosine(logsnr_min=-math.inf, logsnr_max=math.inf),
    "flow": Flow(),
    "karras": Karras(),
}
every_walk = pytest.mark.parametrize("walked", WALKED.values(), ids=WALKED)
every_pair = pytest.mark.parametrize("pair", PAIRS)


def real(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def close(a: Tensor, b: Tensor, rtol: float = 0.0, atol: float = 0.0) -> None:
    torch.testing.assert_close(a, b, rtol=rtol, atol=atol)


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


LINE = Mixture(real(-1.5, 0.2, 2.0)[:, None], real(0.1, 0.4, 0.2) ** 2, real(0.3, 0.5, 0.2))
PLANE = Mixture(
    torch.stack([real(-1.5, 1), real(1.5, 0.3), real(0.2, -1)]),
    torch.tensor([[[0.5, 0.3], [0.3, 0.4]], [[0.2, -0.1], [-0.1, 0.6]], [[0.1, 0.0], [0.0, 0.02]]]),
)


def ends(schedule: Schedule) -> tuple[NoiseLevel, NoiseLevel]:
    """t = 1, and the level of the last call."""
    return schedule(1.0), schedule.inverse(finite_range(schedule)[1])


@cache
def known(name: str) -> tuple[Tensor, Tensor]:
    """Eight x at t = 1 of PLANE's flow on a schedule, and the x0 they come to, by scipy: dY / dphi is cot(phi) Y - x0 /
    sin(phi), and the last call."""
    first, last = ends(WALKED[name])
    x = first.scale * randn(8, 2)

    def slope(phi: float, y: np.ndarray) -> np.ndarray:
        level = NoiseLevel(*real(0.5, -2 * math.log(math.tan(phi)), math.cos(phi), math.sin(phi)))
        x0 = PLANE(torch.from_numpy(y).reshape(x.shape), level).x0.numpy().ravel()
        return (y * math.cos(phi) - x0) / math.sin(phi)

    span = [math.atan2(float(level.sigma), float(level.alpha)) for level in (first, last)]
    start = (x / first.scale).numpy().ravel()
    flow = scipy.integrate.solve_ivp(slope, span, start, method="DOP853", rtol=1e-10, atol=1e-11)
    assert flow.success
    return x, PLANE(last.scale * torch.from_numpy(flow.y[:, -1]).reshape(x.shape), last).x0


class Recording:
    """A denoiser that keeps the times of its calls, of the batch's first sample, and how many there were."""

    def __init__(self, inner: Denoise) -> None:
        self.inner = inner
        self.times: list[float] = []

    def __call__(self, x_t: Tensor, level: NoiseLevel) -> Estimate:
        assert level.t.shape == (len(x_t),)
        self.times.append(float(level.t[0]))
        return self.inner(x_t, level)


def rational(x_t: Tensor, level: NoiseLevel) -> Estimate:
    """Of sums, products and quotients only, one element at a time: no sample depends on its neighbours."""
    at = level.like(x_t)
    signal = 3 * at.alpha * x_t / (at.alpha**2 + at.sigma)
    return Estimate("x0", signal / (1 + signal**2), x_t, level)


class TestAccuracy:
    @every_pair
    @pytest.mark.parametrize("name", WALKED)
    def test_of_the_exact_flow(self, pair: Any, name: str) -> None:
        x, wanted = known(name)
        for tolerance in (3e-3, 3e-4) if pair == "heun" else (1e-3, 1e-6):
            got, calls = Adaptive(pair=pair, tolerance=tolerance).sample(PLANE, x, WALKED[name])
            assert calls.dtype == torch.int64
            assert calls.shape == (8,)
            error = (got - wanted).abs()
            assert float(error.max()) < 10 * tolerance
            assert float(error.median()) < tolerance

    def test_a_gaussian_on_every_schedule(self, schedule: Schedule) -> None:
        """The flow keeps (x - alpha m) / sqrt(alpha^2 c + sigma^2), and the last call takes the mean given that."""
        mean, c = 0.4, 0.3
        data = Mixture.gaussian(real(mean), torch.tensor(c))
        first, last = ends(schedule)
        z = real(-1.7, -0.2, 0.0, 2.1)[:, None]
        std_first, std_last = (torch.sqrt(level.alpha**2 * c + level.sigma**2) for level in (first, last))
        got, _ = Adaptive(tolerance=1e-2).sample(data, first.alpha * mean + std_first * z, schedule)
        close(got, mean + last.alpha * c / std_last * z, atol=0.02)

    @every_pair
    def test_points_are_met_exactly(self, pair: Any) -> None:
        """A flow that turns sharply at the last moment; and to the same points as with a finer tolerance."""
        data = Mixture.points(randn(12, 3, seed=1))
        x = randn(30, 3, seed=2)
        got, calls = Adaptive(pair=pair, tolerance=1e-3).sample(data, x, LinearBetas())
        distance = (got[:, None] - data.means).norm(dim=2)
        assert float(distance.min(1).values.max()) < 1e-9
        fine, _ = Adaptive(pair="dormand-prince", tolerance=1e-7).sample(data, x, LinearBetas())
        close(got, fine, atol=1e-9)
        assert len(distance.argmin(1).unique()) > 3
        assert int(calls.max()) < 200

    @every_pair
    def test_single_precision(self, pair: Any) -> None:
        x = randn(8, 2)
        driver = Adaptive(pair=pair, tolerance=1e-4)
        (double, _), (single, _) = (driver.sample(PLANE, x.to(dtype), VP()) for dtype in (x.dtype, torch.float32))
        assert single.dtype == torch.float32
        close(single.double(), double, atol=1e-4)

    @pytest.mark.parametrize("kind", ["x0", "eps", "v", "score", "flow"])
    def test_of_every_head(self, kind: Prediction) -> None:
        def said(x_t: Tensor, level: NoiseLevel) -> Estimate:
            return Estimate(kind, LINE(x_t, level).as_(kind), x_t, level)

        x = randn(5, 1)
        close(Adaptive().sample(said, x, VP())[0], Adaptive().sample(LINE, x, VP())[0], atol=1e-9)

    def test_any_shape(self) -> None:
        data, x = Mixture.gaussian(torch.full((1, 4, 3), 0.2), torch.tensor(0.3)), randn(2, 1, 4, 3)
        flat = Mixture.gaussian(torch.full((12,), 0.2), torch.tensor(0.3))
        got, _ = Adaptive().sample(data, x, VP())
        assert got.shape == x.shape
        close(got.flatten(1), Adaptive().sample(flat, x.flatten(1), VP())[0], atol=1e-12)


class TestWalk:
    @every_pair
    @pytest.mark.parametrize("name", WALKED)
    def test_step_by_step_it_is_the_sample(self, pair: Any, name: str) -> None:
        """From t = 1 down to clean data, at levels of each sample's own; bit for bit the sample at the end."""
        x, driver, schedule = randn(5, 2), Adaptive(pair=pair), WALKED[name]
        wanted, calls = driver.sample(PLANE, x, schedule)
        recording = Recording(PLANE)
        walk = list(driver.walk(recording, x, schedule))
        assert torch.equal(walk[-1].x, wanted)
        assert len(recording.times) >= int(calls.max())
        t = torch.stack([step.level.t for step in walk])
        assert t.shape == (len(walk), 5)
        assert bool((t.diff(dim=0) <= 0).all())
        assert bool((t.diff(dim=0) < 0).any(1).all())
        assert t[-1].tolist() == [0.0] * 5
        assert walk[0].estimate.level.t.tolist() == pytest.approx([1.0] * 5, rel=1e-14)

    @every_pair
    def test_the_estimate_is_the_denoisers_where_the_step_began(self, pair: Any) -> None:
        before = randn(4, 2)
        for step in Adaptive(pair=pair, tolerance=1e-2).walk(PLANE, before, VP()):
            close(step.estimate.x_t, before, atol=1e-12)
            close(step.estimate.x0, PLANE(before, step.estimate.level).x0, atol=1e-9)
            before = step.x
        close(before, step.estimate.x0, atol=1e-9)

    def test_the_caller_keeps_its_gradients(self) -> None:
        for step in Adaptive().walk(PLANE, randn(2, 2), VP()):
            assert torch.is_grad_enabled()
            assert not step.x.requires_grad
        assert torch.is_grad_enabled()

    def test_what_cannot_be_met(self) -> None:
        with pytest.raises(ValueError, match="cannot be met by max_calls"):
            list(Adaptive(tolerance=1e-8, max_calls=20).walk(PLANE, randn(2, 2), VP()))


class TestTolerance:
    @every_pair
    def test_error_and_calls_follow_it(self, pair: Any) -> None:
        """The calls of a method of order p grow with tolerance^(-1/p)."""
        x, wanted = known("vp")
        errors, calls = [], []
        for tolerance in (3e-3, 3e-4, 3e-5):
            got, taken = Adaptive(pair=pair, tolerance=tolerance).sample(PLANE, x, VP())
            errors.append(float((got - wanted).square().mean().sqrt()))
            calls.append(float(taken.double().mean()))
        assert errors[0] > 3 * errors[1] > 9 * errors[2]
        assert calls[0] < calls[1] < calls[2]
        order = PAIRS[pair].order
        assert calls[2] / calls[1] == pytest.approx(10 ** (1 / order), rel=0.25)

    def test_the_absolute_one(self) -> None:
        """By default as large as the relative one; an own one counts where the sample is small."""
        x = randn(2, 2)
        default, calls = Adaptive(tolerance=1e-3).sample(PLANE, x, VP())
        same, _ = Adaptive(tolerance=1e-3, absolute=1e-3).sample(PLANE, x, VP())
        _, more = Adaptive(tolerance=1e-3, absolute=1e-6).sample(PLANE, x, VP())
        assert torch.equal(default, same)
        assert bool((more > calls).all())

    @pytest.mark.parametrize("value", [0.0, -1e-3, math.nan])
    @pytest.mark.parametrize("name", ["tolerance", "absolute"])
    def test_must_be_above_zero(self, name: str, value: float) -> None:
        with pytest.raises(ValueError, match=rf"{name}: expected a (number above 0, such as 1e-3|finite number), got"):
            Adaptive(**{name: value})

    def test_pairs_have_names(self) -> None:
        assert override(Adaptive(), ["pair=dormand-prince", "absolute=1e-4"]).absolute == 1e-4
        with pytest.raises(ValueError, match="pair: expected one of heun, dormand-prince, got 'euler'"):
            Adaptive(pair="euler")  # type: ignore[arg-type]

    @every_pair
    def test_one_that_calls_do_not_suffice_for(self, pair: Any) -> None:
        recording = Recording(PLANE)
        with pytest.raises(
            ValueError, match=r"1e-08 cannot be met by max_calls: after \d+ calls sample 0 .* t = 0\.\d+"
        ) as said:
            Adaptive(pair=pair, tolerance=1e-8, max_calls=50).sample(recording, randn(1, 2), VP())
        assert "from 1 to 0.001" in str(said.value)
        assert "raise tolerance or max_calls" in str(said.value)
        assert 44 <= len(recording.times) <= 50
        _, calls = Adaptive(pair=pair).sample(PLANE, randn(1, 2), VP())
        enough = Adaptive(pair=pair, max_calls=int(calls))
        assert int(enough.sample(PLANE, randn(1, 2), VP())[1]) == int(calls)
        with pytest.raises(ValueError, match="cannot be met"):
            Adaptive(pair=pair, max_calls=int(calls) - 1).sample(PLANE, randn(1, 2), VP())

    @every_pair
    def test_one_that_no_step_is_short_enough_for(self, pair: Any) -> None:
        """A jump, which one sample meets and the other does not."""

        def torn(x_t: Tensor, level: NoiseLevel) -> Estimate:
            jump = torch.where((x_t > 0) & (level.like(x_t).t < 0.5), 1e20, 0.0)
            return Estimate("v", jump, x_t, level)

        with pytest.raises(
            ValueError, match=r"met by any step: .* sample 1 stands at t = 0\.5, .* errs by \d+"
        ) as said:
            Adaptive(pair=pair).sample(torn, real(-1, 1)[:, None], VP())
        assert str(said.value).endswith("raise tolerance")

    @every_pair
    def test_not_a_number(self, pair: Any) -> None:
        """Ends soon, and says where."""
        recording = Recording(lambda x_t, level: Estimate("v", x_t * math.nan, x_t, level))
        with pytest.raises(ValueError, match=r"stands at t = 1, on its way .* by nan times"):
            Adaptive(pair=pair).sample(recording, randn(1, 2), VP())
        assert len(recording.times) < 200


class TestCalls:
    @every_pair
    @every_walk
    def test_are_counted(self, pair: Any, walked: Schedule) -> None:
        """All that are made for one sample; rejected steps, after which it goes back to where it came from, too."""
        recording = Recording(Mixture.points(real(-1.1, -0.2, 1.5)[:, None]))
        x = ends(walked)[0].scale * real(0.63)[:, None]
        _, calls = Adaptive(pair=pair).sample(recording, x, walked)
        assert int(calls) == len(recording.times)
        assert recording.times[0] == pytest.approx(1, rel=1e-15)
        assert recording.times[-1] == pytest.approx(float(ends(walked)[1].t), rel=1e-9)
        rejected = int((np.diff(recording.times) > 0).sum())
        assert rejected > 0
        if pair == "dormand-prince":
            assert int(calls) % 6 == 1
        else:  # two calls for a step, one for a rejected one, one at the end
            accepted = int((np.diff(recording.times) == 0).sum())
            assert int(calls) == 2 * accepted + rejected + 1

    @every_pair
    def test_one_step_of_a_chain_is_one_call(self, pair: Any) -> None:
        x = randn(3, 1)
        chain = CosineBetas(steps=1)
        got, calls = Adaptive(pair=pair).sample(LINE, x, chain)
        assert calls.tolist() == [1, 1, 1]
        close(got, LINE(x, chain(1.0)).x0, atol=1e-12)

    def test_no_gradients_are_kept(self) -> None:
        x = randn(2, 1).requires_grad_()
        for walked in (VP(), CosineBetas(steps=1)):
            for way in (Adaptive().sample, Adaptive().invert):
                assert not way(LINE, x, walked)[0].requires_grad
        assert torch.is_grad_enabled()


class TestChains:
    @every_pair
    def test_are_interpolated(self, pair: Any) -> None:
        """The network hears fractions of steps between 0 and T - 1, as of the interpolated chain itself."""
        heard = []

        class Network(torch.nn.Module):
            def forward(self, x: Tensor, noise_label: Tensor) -> Tensor:
                heard.append(noise_label)
                return x * 0.3

        x, chain = randn(3, 2), LinearBetas()
        got, _ = Adaptive(pair=pair).sample(Denoiser(Network(), chain, "v"), x, chain)
        labels = torch.stack(heard)
        close(labels.max(), real(999.0)[0], atol=1e-9)
        close(labels.min(), real(0.0)[0], atol=1e-9)
        assert bool((labels % 1 > 0.01).any())
        smooth = chain.interpolated()
        again, _ = Adaptive(pair=pair).sample(Denoiser(Network(), smooth, "v"), x, smooth)
        assert torch.equal(got, again)

    def test_a_head_that_says_nothing_at_pure_noise_is_refused(self) -> None:
        with pytest.raises(ValueError, match="undefined where alpha = 0"):
            Adaptive().sample(
                lambda x, level: Estimate("eps", x, x, level), randn(2, 1), LinearBetas(zero_terminal=True)
            )


class TestBatches:
    @every_pair
    @pytest.mark.parametrize("walked", [LinearBetas(), Flow()], ids=["linear", "flow"])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_six_are_six_of_one(self, pair: Any, walked: Schedule, dtype: torch.dtype) -> None:
        """To rounding, and in any order; some arrive long before others."""
        x = (randn(6, 20) * torch.linspace(0.1, 3, 6)[:, None]).to(dtype)
        driver = Adaptive(pair=pair, tolerance=3e-3)
        together, calls = driver.sample(rational, x, walked)
        alone = [driver.sample(rational, row[None], walked) for row in x]
        atol = 1e-5 if dtype == torch.float32 else 1e-12
        close(together, torch.cat([one for one, _ in alone]), atol=atol)
        assert calls.tolist() == [int(taken) for _, taken in alone]
        assert len(set(calls.tolist())) > 1
        backwards, _ = driver.sample(rational, x.flip(0), walked)
        close(backwards.flip(0), together, atol=atol)

    @every_pair
    def test_of_a_mixture_to_rounding(self, pair: Any) -> None:
        x, driver = randn(5, 2), Adaptive(pair=pair, tolerance=1e-3)
        together, calls = driver.sample(PLANE, x, VP())
        alone = [driver.sample(PLANE, row[None], VP()) for row in x]
        close(together, torch.cat([one for one, _ in alone]), atol=1e-11)
        assert calls.tolist() == [int(taken) for _, taken in alone]

    def test_the_batch_is_called_as_often_as_its_slowest(self) -> None:
        """All rows go through the network together; those that have arrived do not count."""
        recording, x = Recording(PLANE), randn(16, 2) * 2
        _, calls = Adaptive(pair="dormand-prince").sample(recording, x, VP())
        assert len(recording.times) == int(calls.max()) > int(calls.min())


class TestInversion:
    @every_pair
    @every_walk
    def test_of_a_gaussian(self, pair: Any, walked: Schedule) -> None:
        mean, c = 0.4, 0.3
        data = Mixture.gaussian(real(mean), torch.tensor(c))
        last, first = ends(walked)
        x0 = real(-1.0, 0.2, 0.4, 1.7)[:, None]
        std_first, std_last = (torch.sqrt(level.alpha**2 * c + level.sigma**2) for level in (first, last))
        got, calls = Adaptive(pair=pair, tolerance=1e-3).invert(data, x0, walked)
        wanted = last.alpha * mean + std_last * first.alpha * (x0 - mean) / std_first
        close(got, wanted, atol=5e-3 * float(last.scale))
        assert bool((calls > 10).all())

    @pytest.mark.parametrize("name", WALKED)
    def test_there_and_back(self, name: str) -> None:
        """From what the flow came to, without the last call that `known` makes: sigma^2 times the score there."""
        _, x0 = known(name)
        driver, last = Adaptive(pair="dormand-prince", tolerance=1e-6), ends(WALKED[name])[1]
        again, _ = driver.sample(PLANE, driver.invert(PLANE, x0, WALKED[name])[0], WALKED[name])
        close(again, x0, atol=20 * math.exp(-float(last.logsnr)))


class TestPairs:
    def test_the_tableau_of_dormand_and_prince(self) -> None:
        """Scipy's RK45, one step of a nonlinear equation: the same new y, and the same error."""

        def slope(u: float, y: np.ndarray) -> np.ndarray:
            return np.array([y[1] * math.cos(u), -math.sin(3 * y[0]) + u])

        theirs = scipy.integrate.RK45(slope, 0.3, np.array([0.7, -1.1]), 5.0, first_step=0.2, rtol=1, atol=1)
        theirs.step()
        assert theirs.t == pytest.approx(0.5)
        error = theirs._estimate_error(theirs.K, 0.2)

        def field(u: Tensor, y: Tensor) -> Tensor:
            return torch.from_numpy(slope(float(u), y[0].numpy()))[None]

        times = torch.tensor([0.3, 0.5], dtype=torch.float64)
        walk = integrate(field, real(0.7, -1.1)[None], *times, DORMAND_PRINCE, 1.0, first=1.0, max_calls=7)
        close(walk.y[0], torch.from_numpy(theirs.y), rtol=1e-14)
        scale = 1 + np.maximum(np.abs(theirs.y_old), np.abs(theirs.y))
        assert float(walk.error) == pytest.approx(float(np.sqrt(np.mean((error / scale) ** 2))), rel=1e-10)
        close(walk.slope[0], torch.from_numpy(slope(0.5, theirs.y)), rtol=1e-12)

    def test_heun(self) -> None:
        """One step of y' = a y: 1 + ah + (ah)^2 / 2, and Euler's is short of it by the last term."""
        h, a = 0.4, -1.5
        walk = integrate(
            lambda u, y: a * y, real(1)[None], *torch.tensor([0, h]).double(), HEUN, 1.0, first=1.0, max_calls=3
        )
        new = 1 + a * h + (a * h) ** 2 / 2
        assert float(walk.y) == pytest.approx(new, rel=1e-7)
        assert float(walk.error) == pytest.approx((a * h) ** 2 / 2 / (1 + 1), rel=1e-7)
        assert float(walk.slope) == pytest.approx(a * new, rel=1e-7)
        assert int(walk.calls) == 3

    @pytest.mark.parametrize("pair", [HEUN, DORMAND_PRINCE])
    def test_their_order(self, pair: EmbeddedPair) -> None:
        """One step of h of a turn, either way round: it errs with h^(p + 1), and its estimate falls with h^p."""
        turn = torch.tensor([[0.0, 1.0], [-1.0, 0.0]]).double()
        for end in (0.2, -0.2):
            logs = []
            for h in (end, end / 2):
                walk = integrate(
                    lambda u, y: y @ turn,
                    real(1, 0)[None],
                    *real(0, h),
                    pair,
                    1e-9,
                    absolute=1.0,
                    first=1.0,
                    max_calls=9,
                )
                assert float(walk.time) == h
                error = float((walk.y - real(math.cos(h), math.sin(h))).norm())
                logs.append(np.log2([error, float(walk.error)]))
            assert logs[0] - logs[1] == pytest.approx([pair.order + 1, pair.order], abs=0.1)

    def test_the_controller_settles(self) -> None:
        """Where every step errs by h^2, its length goes to where 0.9 (1 / error)^(0.3 / 2) = 1, and stays."""
        seen = []

        def field(u: Tensor, y: Tensor) -> Tensor:
            seen.append(float(u))
            return torch.full_like(y, 2 * float(u))

        integrate(field, real(0)[None], *real(0, 1), HEUN, 1e-12, absolute=1e-4, max_calls=1000)
        steps = np.diff(np.unique(seen))
        assert steps[50:-1] == pytest.approx(math.sqrt(1e-4 * SAFETY ** (2 / 0.3)), rel=1e-3)

    @pytest.mark.parametrize("pair", [HEUN, DORMAND_PRINCE])
    def test_rows_together_or_each_on_its_own(self, pair: EmbeddedPair) -> None:
        rates = real(1.0, 8.0)[:, None]

        def calls(times: Callable[[float], Tensor], rates: Tensor) -> Tensor:
            def field(u: Tensor, y: Tensor) -> Tensor:
                return (rates * u.reshape(-1, 1)).cos()

            walk = integrate(field, torch.zeros(len(rates), 1).double(), times(0), times(2), pair, 1e-4, max_calls=5000)
            close(walk.y, (2 * rates).sin() / rates, atol=1e-3)
            return walk.calls

        def one(u: float) -> Tensor:
            return torch.tensor(u, dtype=torch.float64)

        easy, hard = (int(calls(one, rate[None])) for rate in rates)
        assert calls(lambda u: real(u, u), rates).tolist() == [easy, hard]
        assert int(calls(one, rates)) == pytest.approx(hard, rel=0.02)
        assert hard > 2 * easy
