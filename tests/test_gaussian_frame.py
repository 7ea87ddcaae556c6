"""The multistep method in the frame of a Gaussian: what it is exact for, how it converges, what leaves it alone."""

import math
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import scipy.integrate
import torch
from torch import Tensor

from unsteep.analytic import Mixture
from unsteep.core.chains import CosineBetas, LinearBetas
from unsteep.core.estimate import Estimate
from unsteep.core.level import NoiseLevel
from unsteep.core.noise import NoiseSource
from unsteep.core.schedules import VP, Cosine, Flow, Karras, Laplace, Schedule
from unsteep.sampling import DDIM, DEIS, Frame, GaussianFrame, frame_weights, sample, trajectory
from unsteep.sampling.frame_weights import StepWeights, step_weights

SCHEDULES: dict[str, Any] = {
    "chain": LinearBetas(),
    "chain-zero": LinearBetas(zero_terminal=True),
    "cosine-chain": CosineBetas(),
    "linear": LinearBetas().interpolated(),
    "vp": VP(),
    "cosine": Cosine(),
    "cosine-whole": Cosine(logsnr_min=-math.inf, logsnr_max=math.inf),
    "flow": Flow(),
    "karras": Karras(),
    "laplace": Laplace(),
}
every_schedule = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
both_starts = pytest.mark.parametrize("start", ["call", "free"])


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def close(a: Tensor, b: Tensor, rtol: float = 0.0, atol: float = 0.0) -> None:
    torch.testing.assert_close(a, b, rtol=rtol, atol=atol)


def rotation(d: int, seed: int = 5) -> Tensor:
    return torch.linalg.qr(normal(d, d, seed=seed)).Q


def frame_for(data: Mixture) -> Frame:
    """Its mean and all of its principal directions."""
    variances, basis = torch.linalg.eigh(data.covariance())
    std = variances.clamp(min=0).sqrt()
    return Frame.of(data.mean(), torch.cat([std, std.mean()[None]]), basis)


MIXTURE = Mixture(
    torch.tensor([[-1.0, 0.3], [0.5, 0.8], [0.9, -0.9]]), torch.tensor([0.7, 0.6, 0.8]) ** 2, torch.tensor([3, 4, 3])
)
TRUE = frame_for(MIXTURE)
START, NOISE = normal(16, 2), NoiseSource(range(16))


@dataclass
class Counting:
    """A denoiser that counts its calls."""

    inner: Any
    calls: int = 0

    def __call__(self, x_t: Tensor, level: NoiseLevel) -> Estimate:
        self.calls += 1
        return self.inner(x_t, level)


def walk(solver: GaussianFrame, schedule: Schedule, steps: int, denoise: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    """On the solver's own grid, from x times the scale of t = 1: x at the last level above zero noise, and clean."""
    levels = solver.levels(schedule, steps)
    noise = NoiseSource(range(len(x)))
    *_, before, last = [
        x * levels[0].scale.to(x),
        *(step.x for step in trajectory(denoise, x * levels[0].scale.to(x), levels, solver, noise, schedule.inverse)),
    ]
    return before, last


@cache
def exact(name: str, last: float) -> Tensor:
    """Where the flow takes START from t = 1 to the angle atan(sigma / alpha) = `last`, in units of the scale there, by
    scipy: dY/dphi = v for Y = x / sqrt(alpha^2 + sigma^2)."""
    first = SCHEDULES[name](1.0)

    def slope(phi: float, y: np.ndarray) -> np.ndarray:
        alpha, sigma = math.cos(phi), math.sin(phi)
        level = NoiseLevel(*torch.tensor([0.5, -2 * math.log(math.tan(phi)), alpha, sigma], dtype=torch.float64))
        return MIXTURE(torch.from_numpy(y).reshape(-1, 2), level).v.numpy().ravel()

    span = (math.atan2(float(first.sigma), float(first.alpha)), last)
    y = scipy.integrate.solve_ivp(slope, span, START.numpy().ravel(), method="DOP853", rtol=1e-11, atol=1e-12).y
    return torch.from_numpy(y[:, -1]).reshape(-1, 2)


def error(solver: GaussianFrame, name: str, steps: int) -> float:
    """RMS on the solver's own grid: at its last level above zero noise, or at zero noise for a smooth end."""
    level = solver.levels(SCHEDULES[name], steps)[-2]
    before, end = walk(solver, SCHEDULES[name], steps, MIXTURE, START)
    if solver.end == "smooth":
        tiny = 1e-6  # where v is linear in the angle, and 0 at its end
        return float((end - exact(name, tiny)).pow(2).mean().sqrt())
    return float((before / level.scale - exact(name, math.atan(level.sigma / level.alpha))).pow(2).mean().sqrt())


class TestExactOnAGaussian:
    @both_starts
    @every_schedule
    @pytest.mark.parametrize("k", [0, 2, 5])
    def test_in_any_number_of_steps(self, k: int, schedule: Schedule, start: Any) -> None:
        """(x - alpha m) / sqrt(alpha^2 c^2 + sigma^2) stays what it is along each direction, and so to 1e-10 here; all
        the way to data with an end for smooth data. k of the 5 directions are told apart, the rest is isotropic."""
        std = torch.tensor([1.5, 0.02, 0.4, 0.4, 0.4]).double()
        std = std if k == 5 else std[[0, 1, 2, 2, 2]] if k else std[[2] * 5]
        basis, mean = rotation(5), normal(5, seed=2)
        data = Mixture.gaussian(mean, basis @ torch.diag(std**2) @ basis.T)
        frame = Frame.of(mean, torch.cat([std[:k], std[-1:]]), basis[:, :k] if k else None)
        x, first = normal(7, 5, seed=3), schedule(1.0)
        z = ((x * first.scale - first.alpha * mean) @ basis) / torch.hypot(first.alpha * std, first.sigma)
        for steps in (1, 2, 3, 8):
            solver = GaussianFrame(frame=frame, start=start, end="smooth")
            level = solver.levels(schedule, steps)[-2]
            before, end = walk(solver, schedule, steps, data, x)
            wanted = z * torch.hypot(level.alpha * std, level.sigma) @ basis.T + level.alpha * mean
            close(before, wanted, atol=1e-10 * float(level.scale))
            if steps > 1 or start == "free":
                close(end, mean + z * std @ basis.T, atol=1e-10)

    def test_pictures_and_frames_of_each_sample(self) -> None:
        """Of any shape, each sample with a Gaussian of its own."""
        means, stds = normal(4, 3, 2, 2), torch.tensor([0.2, 0.5, 1.0, 2.0]).double()
        frame = Frame(means, stds[:, None], spread=0.5, reach=1.0)

        def denoise(x_t: Tensor, level: NoiseLevel) -> Estimate:
            c2 = stds.reshape(4, 1, 1, 1) ** 2
            gain = level.alpha * c2 / (level.alpha**2 * c2 + level.sigma**2)
            return Estimate("x0", means + gain * (x_t - level.alpha * means), x_t, level)

        x = normal(4, 3, 2, 2, seed=1)
        _, end = walk(GaussianFrame(frame=frame, end="smooth"), Flow(), 4, denoise, x)
        close(end, means + stds.reshape(4, 1, 1, 1) * x, atol=1e-10)

    @both_starts
    def test_constant_pixels(self, start: Any) -> None:
        """Have no spread, and come out as they are, with all others finite; a smooth end leaves them the floor's."""
        data = Mixture.gaussian(torch.tensor([0.3, -0.7, 0.1]), torch.tensor([0.25, 0.0, 0.04]))
        frame = Frame.of(data.mean(), torch.tensor([0.5, 0.0, 0.2, 0.0]).double(), torch.eye(3).double())
        for schedule in (LinearBetas(), Flow(), Karras()):
            solver = GaussianFrame(frame=frame, start=start)
            _, x = walk(solver, schedule, 6, data, START[:, :1] + normal(16, 3))
            close(x[:, 1], data.mean()[1].expand(16), atol=1e-12)
            _, smooth = walk(replace(solver, end="smooth"), schedule, 6, data, START[:, :1] + normal(16, 3))
            close(smooth, x, atol=0.01)


class TestGrid:
    @both_starts
    @every_schedule
    @pytest.mark.parametrize("spread", [0.02, 0.5, 4.0])
    def test_as_many_calls_as_steps(self, spread: float, schedule: Schedule, start: Any) -> None:
        """Levels that fall strictly from t = 1 to clean, and finite samples: for data narrower than the schedule's
        least noise and wider than its most, too, and for more steps than its range asks for."""
        frame = Frame.of(torch.zeros(2), torch.tensor([spread]))
        solver = GaussianFrame(frame=frame, start=start)
        data = Mixture.gaussian(torch.ones(2) * spread, torch.tensor(spread**2))
        for steps in (1, 2, 3, 10, 400):
            levels = solver.levels(schedule, steps)
            assert levels.t[0] == 1
            assert levels.t[-1] == levels.sigma[-1] == 0
            assert bool((levels.t.diff() < 0).all())
            assert bool((levels.logsnr.diff() > 0).all())
            if steps <= 10:
                denoise, x = Counting(data), START * levels[0].scale
                assert bool(sample(denoise, x, levels, solver, NOISE, schedule.inverse).isfinite().all())
                assert denoise.calls == steps

    def test_reaches_from_the_spread_of_all_data_to_a_small_part_of_its_own(self) -> None:
        frame = Frame(torch.zeros(2), torch.tensor([0.5]), spread=0.5, reach=1.5)
        for start, high in (("call", 0.8 * 1.5), ("free", 0.55 * 1.5)):
            for steps, low in ((10, 0.0125), (50, 0.005)):
                levels = GaussianFrame(frame=frame, start=start).levels(Flow(), steps)  # type: ignore[arg-type]
                s = levels.sigma / levels.alpha
                assert float(s[1]) == pytest.approx(high * steps)
                assert float(s[-2]) == pytest.approx(low)
                root = s[1:-1] ** (1 / 7)
                close(root.diff(), root.diff().mean().expand(len(root) - 1), rtol=1e-8)

    def test_errors(self) -> None:
        with pytest.raises(ValueError, match="steps: expected at least 1, got 0"):
            GaussianFrame().levels(VP(), 0)
        chain = LinearBetas(steps=25)
        assert (GaussianFrame().levels(chain, 25).t * 25).round().tolist() == list(range(25, -1, -1))
        with pytest.raises(ValueError, match="steps: the chain has 25 levels, got 26"):
            GaussianFrame().levels(chain, 26)
        with pytest.raises(ValueError, match="steps: the chain has 25 levels, got 26"):
            GaussianFrame(start="free").levels(chain, 25)


class TestConvergence:
    @pytest.mark.parametrize("name", ["linear", "flow"])
    @pytest.mark.parametrize("start", ["call", "free"])
    def test_on_its_own_grid(self, start: Any, name: str) -> None:
        """About third order, though the grid grows at both ends, with a frame that is the data's; and the corrector
        and each value more make it more accurate."""
        few, many = (error(GaussianFrame(frame=TRUE, start=start), name, n) for n in (20, 160))
        assert math.log(few / many, 8) > 2.4
        assert few < 1e-3
        lesser = [
            error(GaussianFrame(frame=TRUE, start=start, order=order, corrector=corrector), name, 20)  # type: ignore[arg-type]
            for order, corrector in ((2, True), (2, False), (1, False))
        ]
        assert few < lesser[0] < lesser[1] < lesser[2]

    @pytest.mark.parametrize("name", ["linear", "flow"])
    def test_with_a_wrong_frame(self, name: str) -> None:
        """A first call tells where the data are: the order stays. Without it the error is that of the mean, and falls
        as slowly as the first level rises."""
        wrong = replace(TRUE, mean=TRUE.mean + 0.3, std=0.6 * TRUE.std)
        few, many = (error(GaussianFrame(frame=wrong), name, n) for n in (20, 160))
        assert math.log(few / many, 8) > 2.4
        assert many < 5 * error(GaussianFrame(frame=TRUE), name, 160)
        free = [error(GaussianFrame(frame=wrong, start="free"), name, n) for n in (20, 40)]
        assert free[0] > 10 * few
        assert 1.5 < free[0] / free[1] < 3

    @both_starts
    @pytest.mark.parametrize("name", ["linear", "flow"])
    def test_the_first_step_is_exact_for_its_law(self, name: str, start: Any) -> None:
        """Once the second call has corrected it: with a first call for G = a + b / s, without it for G = b / s^2. Seen
        after one more step that goes nowhere."""
        c, (a, b, p) = 0.7, ((0.4, 1.3, 1) if start == "call" else (0.0, 1.3, 2))

        def denoise(x_t: Tensor, level: NoiseLevel) -> Estimate:
            scale, u = torch.hypot(c * level.alpha, level.sigma), level.alpha / level.sigma
            x0 = c**2 * level.alpha / scale**2 * x_t + (a + b * u**p) * level.sigma / scale
            return Estimate("x0", x0, x_t, level)

        def gained(s: float) -> float:
            """The integral of G / (c^2 + s^2) from s on."""
            whole = (math.pi / 2 - math.atan(s / c)) / c
            return a * whole + b * (math.log1p((c / s) ** 2) / (2 * c**2) if p == 1 else (1 / s - whole) / c**2)

        schedule, solver = (
            SCHEDULES[name],
            GaussianFrame(start=start, frame=Frame.of(torch.zeros(2), torch.tensor([c]))),
        )
        levels = schedule(torch.tensor([1, 0.5, 0.5 - 1e-10], dtype=torch.float64))
        first, _, last = (torch.hypot(c * level.alpha, level.sigma) for level in levels)
        end = sample(denoise, START, levels, solver, NOISE)
        s_first, _, s = ((level.sigma / level.alpha).clamp(max=1e300) for level in levels)
        close(end / last - START / first, torch.full_like(end, gained(float(s)) - gained(float(s_first))), atol=1e-7)

    def test_what_a_free_start_counts_on(self) -> None:
        """Its first estimate is that of the Gaussian."""
        data = Mixture.gaussian(MIXTURE.mean(), MIXTURE.covariance())
        for name in ("linear", "flow"):
            levels = SCHEDULES[name](torch.tensor([1.0, 0.5, 0.0]))
            first = next(trajectory(data, START, levels, GaussianFrame(start="free", frame=TRUE), NOISE))
            close(first.estimate.x0, data(START, levels[0]).x0, atol=1e-12)

    def test_a_smooth_end(self) -> None:
        """Reaches data with a density as well as it reaches the last level; the denoiser's word is less there."""
        smooth, plain = (GaussianFrame(frame=TRUE, end=end) for end in ("smooth", "denoiser"))  # type: ignore[arg-type]
        few, many = (error(smooth, "flow", n) for n in (20, 160))
        assert math.log(few / many, 8) > 2.4
        _, word = walk(plain, Flow(), 20, MIXTURE, START)
        assert float((word - exact("flow", 1e-6)).pow(2).mean().sqrt()) > 3 * few
        atoms = Mixture.points(normal(6, 2, seed=1))
        assert float(torch.cdist(walk(plain, Flow(), 20, atoms, START)[1], atoms.means).min(1).values.max()) < 1e-9

    def test_the_forms_that_it_joins(self) -> None:
        """At order one: with c = 1 the form of v; with c far above or below every s (0 counts as 3e-3) those of eps and
        x0, which are one."""
        levels = VP().inverse(torch.linspace(-9, 2, 8, dtype=torch.float64))
        for c, other, atol in ((1.0, DEIS(order=1, form="v"), 1e-12), (1e5, DDIM(), 1e-3), (0.0, DDIM(), 1e-3)):
            solver = GaussianFrame(order=1, corrector=False, frame=Frame.of(torch.zeros(2), torch.tensor([c])))
            end = sample(MIXTURE, START, levels, solver, NOISE)
            close(end, sample(MIXTURE, START, levels, other, NOISE), atol=atol)
        assert float((end - sample(MIXTURE, START, levels, DEIS(order=1, form="v"), NOISE)).abs().max()) > 0.03


class TestInvariance:
    solvers = pytest.mark.parametrize(
        "solver", [GaussianFrame(), GaussianFrame(start="free"), GaussianFrame(order=4, corrector=False)], ids=str
    )

    @solvers
    def test_scale(self, solver: GaussianFrame) -> None:
        """Data, frame and noise in other units give the same samples in those units."""
        big = Mixture(4 * MIXTURE.means, 16 * MIXTURE.variances.squeeze(1), MIXTURE.log_weights.exp())
        frame = Frame.of(4 * TRUE.mean, 4 * TRUE.std, TRUE.basis)
        for steps in (4, 10):
            _, x = walk(replace(solver, frame=TRUE), Karras(), steps, MIXTURE, START)
            schedule = Karras(sigma_min=0.008, sigma_max=320)
            other = schedule(1.0).scale / Karras()(1.0).scale  # the noise starts with that of alpha, too
            _, y = walk(replace(solver, frame=frame), schedule, steps, big, START * 4 / other)
            close(y, 4 * x, atol=1e-9)

    @solvers
    def test_rotation(self, solver: GaussianFrame) -> None:
        turn = rotation(2)
        turned = Mixture(MIXTURE.means @ turn.T, MIXTURE.variances.squeeze(1), MIXTURE.log_weights.exp())
        assert TRUE.basis is not None
        frame = Frame.of(TRUE.mean @ turn.T, TRUE.std, turn @ TRUE.basis)
        _, x = walk(replace(solver, frame=TRUE), Cosine(), 6, MIXTURE, START)
        _, y = walk(replace(solver, frame=frame), Cosine(), 6, turned, START @ turn.T)
        close(y, x @ turn.T, atol=1e-11)

    @solvers
    def test_a_shift_of_everything(self, solver: GaussianFrame) -> None:
        """From a level without signal, where noise does not move with the data."""
        moved = Mixture(MIXTURE.means + 3, MIXTURE.variances.squeeze(1), MIXTURE.log_weights.exp())
        _, x = walk(replace(solver, frame=TRUE), Flow(), 6, MIXTURE, START)
        _, y = walk(replace(solver, frame=replace(TRUE, mean=TRUE.mean + 3)), Flow(), 6, moved, START)
        close(y, x + 3, atol=1e-11)

    @solvers
    def test_directions_left_out_share_one_spread(self, solver: GaussianFrame) -> None:
        """Naming them one by one changes nothing, nor does another basis of them."""
        basis = rotation(6)
        named = Frame.of(torch.zeros(6), torch.tensor([1.0, 0.6, 0.2, 0.2, 0.2, 0.2, 9.0]).double(), basis)
        rest = Frame.of(torch.zeros(6), torch.tensor([1.0, 0.6, 0.2]).double(), basis[:, :2])
        data, x = Mixture(normal(4, 6, seed=4), torch.full((4,), 0.04)), normal(9, 6)
        assert named.spread == pytest.approx(rest.spread)
        ends = [walk(replace(solver, frame=frame), Cosine(), 6, data, x)[1] for frame in (named, rest)]
        close(*ends, atol=1e-11)

    @solvers
    def test_a_sample_does_not_depend_on_its_batch(self, solver: GaussianFrame) -> None:
        """Frames of each sample's own: a batch of 8 is 8 of 1, to rounding."""
        means, stds = normal(8, 3, seed=6), 0.2 + normal(8, 1, seed=7).abs()
        frame = Frame(means, stds, spread=0.6, reach=1.2)

        def bound(means: Tensor) -> Any:
            def denoise(x_t: Tensor, level: NoiseLevel) -> Estimate:
                return Estimate("x0", means.to(x_t) + torch.tanh(level.alpha.to(x_t) * x_t), x_t, level)

            return denoise

        x = normal(8, 3).float()
        _, batch = walk(replace(solver, frame=frame), VP(), 5, bound(means), x)
        for i in range(8):
            rows = slice(i, i + 1)
            one = replace(solver, frame=replace(frame, mean=means[rows], std=stds[rows]))
            close(walk(one, VP(), 5, bound(means[rows]), x[rows])[1], batch[rows], atol=1e-5)
        shared = Frame(means[3], stds[3], spread=0.6, reach=1.2)
        close(walk(replace(solver, frame=shared), VP(), 5, bound(means[3]), x[3:4])[1], batch[3:4], atol=1e-5)


class TestWeights:
    """What steps weigh values with depends on levels and frame alone."""

    @both_starts
    def test_step_by_step_is_what_a_walk_finds_at_once(self, start: Any) -> None:
        solver, schedule = GaussianFrame(frame=TRUE, start=start, end="smooth"), VP()
        levels = solver.levels(schedule, 7)
        x, memory = START, None
        for i in range(len(levels) - 1):
            x, _, memory = solver.step(MIXTURE, x, levels[i], levels[i + 1], NOISE, memory, schedule.inverse)
        close(x, walk(solver, schedule, 7, MIXTURE, START)[1], atol=1e-12)

    @pytest.mark.parametrize("inference", [False, True])
    @both_starts
    def test_what_is_written_into_x_on_the_way_counts(self, start: Any, inference: bool) -> None:
        """A step goes on from where the one before came to, unless x is another since: in place or not."""
        solver, schedule = GaussianFrame(frame=TRUE, start=start, end="smooth"), VP()
        levels, ends = solver.levels(schedule, 6), []
        for how in ("left", "copied", "written", "replaced"):
            x, memory = START, None
            with torch.inference_mode(inference):
                for i in range(len(levels) - 1):
                    x, _, memory = solver.step(MIXTURE, x, levels[i], levels[i + 1], NOISE, memory, schedule.inverse)
                    if i == 3 and how == "written":
                        x[:, 0] += 0.1
                    elif i == 3 and how != "left":
                        x = x + torch.tensor([0.1 * (how == "replaced"), 0.0], dtype=x.dtype)
            ends.append(x.clone())
        close(ends[1], ends[0], atol=1e-12)
        close(ends[3], ends[2], atol=1e-12)
        assert float((ends[2] - ends[0]).abs().max()) > 1e-3

    def test_once_for_each_class_and_once_for_a_walk(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Of 64 samples of two classes two rows are weighed, in one plan."""
        found = []

        class Counting(frame_weights._Weighing):
            def of(self, places: range) -> list[StepWeights]:
                made = super().of(places)
                found.extend(one.predictor[0].shape for one in made)
                return made

        monkeypatch.setattr(frame_weights, "_Weighing", Counting)
        std = torch.tensor([[0.5, 0.2, 0.1], [0.4, 0.3, 0.2]]).double()[torch.arange(64) % 2]
        frame = Frame(torch.zeros(4), std, spread=0.3, reach=0.5, basis=rotation(4)[:, :2])
        walk(GaussianFrame(frame=frame), VP(), 8, Mixture(normal(3, 4), torch.full((3,), 0.04)), normal(64, 4))
        assert found == [(2, 3)] * 8

    @both_starts
    @pytest.mark.parametrize("schedule", [LinearBetas(), Flow()], ids=["linear", "flow"])
    def test_of_many_directions_are_those_of_each(self, schedule: Schedule, start: Any) -> None:
        """Interpolated between few: a frame of 200 directions, two rows of them, and one of each alone."""
        std = torch.logspace(-2.5, 1, 200, dtype=torch.float64)
        frame = Frame(torch.zeros(400), torch.stack([std, std.flip(0)]), 0.5, 1.0, torch.eye(400)[:, :199].double())
        solver, x = GaussianFrame(frame=frame, start=start, end="smooth"), normal(2, 400)
        levels = solver.levels(schedule, 5)
        plan = step_weights(frame, levels, 3, start == "free", x)
        for k in (0, 57, 198, 199):
            alone = Frame(torch.zeros(1), std[k : k + 1], 0.5, 1.0)
            each = step_weights(alone, levels, 3, start == "free", x[:1, :1])
            for i in range(len(levels) - 1):
                many, one = plan(i), each(i)
                assert len(many.predictor) == len(one.predictor) > 0
                for a, b in zip((*many.corrector, *many.predictor), (*one.corrector, *one.predictor), strict=True):
                    close(a[0, k] * std[k], b[0] * std[k], atol=1e-11)
                    close(a[1, 199 - k] * std[k], b[0] * std[k], atol=1e-11)
                for name in ("scale", "scale_nxt", "told", "own"):
                    close(getattr(many, name)[0, k], getattr(one, name)[0], rtol=1e-14)
