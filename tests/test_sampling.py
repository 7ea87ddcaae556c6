"""Sampling: laws of every solver on every grid, exact moments on Gaussian data, and orders against the exact flow."""

import itertools
import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
import scipy.integrate
import torch
from torch import Tensor

from unsteep.analytic import Mixture
from unsteep.core.chains import Betas, Chain, CosineBetas, LinearBetas
from unsteep.core.estimate import Estimate, Prediction
from unsteep.core.level import NoiseLevel, add_noise
from unsteep.core.noise import NoiseSource
from unsteep.core.schedules import VP, Cosine, Flow, Schedule, levels_of
from unsteep.denoiser import Denoise
from unsteep.sampling import (
    DDIM,
    SOLVERS,
    SPACINGS,
    Ancestral,
    GaussianFrame,
    SDEDPMSolver,
    Solver,
    given,
    grid,
    initial_noise,
    levels_at,
    sample,
    traits,
    trajectory,
)

ALL_SOLVERS: dict[str, Solver] = {
    **SOLVERS,
    "ancestral-beta_tilde": Ancestral(variance="beta_tilde"),
    "ancestral-learned": Ancestral(variance="learned"),
    "ddim-half": DDIM(eta=0.5),
    "ddim-full": DDIM(eta=1.0),
    "dpmpp-sde-still": SDEDPMSolver(eta=0.0),
    "gaussian-frame-free": GaussianFrame(start="free"),
}
STOCHASTIC = {name: solver for name, solver in ALL_SOLVERS.items() if traits(solver).draws}
DETERMINISTIC = {name: solver for name, solver in ALL_SOLVERS.items() if not traits(solver).draws}
# Those for which the way towards a known point is straight: in a frame that is not that point it is not.
STRAIGHT = [name for name, solver in ALL_SOLVERS.items() if traits(solver).flows and not hasattr(solver, "frame")]
MARKOV = {name: solver for name, solver in STOCHASTIC.items() if name.startswith(("ancestral", "ddim"))}
WALKED: dict[str, Any] = {
    "linear": LinearBetas(),
    "linear-interpolated": LinearBetas().interpolated(),
    "linear-zero": LinearBetas(zero_terminal=True),
    "cosine-interpolated": CosineBetas().interpolated(),
    "vp": VP(),
    "cosine": Cosine(),
    "cosine-whole": Cosine(logsnr_min=-math.inf, logsnr_max=math.inf),
    "flow": Flow(),
}
every_solver = pytest.mark.parametrize("solver", ALL_SOLVERS.values(), ids=ALL_SOLVERS)
every_walk = pytest.mark.parametrize("walked", WALKED.values(), ids=WALKED)


def real(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def close(a: Tensor, b: Tensor, rtol: float = 0.0, atol: float = 0.0) -> None:
    torch.testing.assert_close(a, b, rtol=rtol, atol=atol)


def quiet(schedule: Schedule, steps: int, spacing: Any = "trailing") -> NoiseLevel:
    """A grid whose warning about its first level is not the matter here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return grid(schedule, steps, spacing)


def gaussian(c: float) -> Denoise:
    """The best denoiser of N(0, c), one element at a time: no sample can depend on its neighbours."""

    def denoise(x_t: Tensor, level: NoiseLevel) -> Estimate:
        at = level.like(x_t)
        gain = at.alpha * c / (at.alpha**2 * c + at.sigma**2)
        return Estimate("x0", gain * x_t, x_t, level, variance_fraction=torch.full_like(x_t, 0.5))

    return denoise


MIXTURE = Mixture(real(-1.5, 0.2, 2.0)[:, None], real(0.1, 0.4, 0.2) ** 2, real(0.3, 0.5, 0.2))


def mixture(x_t: Tensor, level: NoiseLevel) -> Estimate:
    return replace(MIXTURE(x_t, level), variance_fraction=torch.full_like(x_t, 0.5))


def start(seeds: Any, levels: NoiseLevel, shape: tuple[int, ...] = (1,), dtype: torch.dtype = torch.float64) -> Tensor:
    return initial_noise(torch.empty(len(seeds), *shape, dtype=dtype), levels[0], NoiseSource(seeds))


@dataclass
class Recording:
    """A solver or a denoiser that keeps the levels of its calls."""

    inner: Any
    calls: list[Any] = field(default_factory=list)

    def __call__(self, x_t: Tensor, level: NoiseLevel) -> Estimate:
        self.calls.append(float(level.t))
        return self.inner(x_t, level)

    def step(self, denoise: Any, x: Any, now: NoiseLevel, nxt: NoiseLevel, noise: NoiseSource, *rest: Any) -> Any:
        self.calls.append((float(now.t), float(nxt.t), noise.stream.tolist(), rest))
        return self.inner.step(denoise, x, now, nxt, noise, *rest)


class Given(NoiseSource):
    """Hands out the given numbers in place of random ones."""

    def __init__(self, numbers: Tensor) -> None:
        super().__init__(range(len(numbers)))
        self.numbers = numbers

    def normal(self, like: Tensor, draw: int) -> Tensor:
        return self.numbers


class Silent(NoiseSource):
    """Has no numbers to give."""

    def normal(self, like: Tensor, draw: int) -> Tensor:
        raise AssertionError("noise was drawn")

    def brownian(self, like: Tensor, now: NoiseLevel, nxt: NoiseLevel) -> Tensor:
        raise AssertionError("noise was drawn")

    def at(self, stream: int | Tensor) -> NoiseSource:
        return self


def spreads(solver: Solver, levels: NoiseLevel, c: float, first: Tensor | None = None) -> Iterator[float]:
    """The exact standard deviation of x after every step, for data N(0, c); `first`: before all, default pure noise's.

    A step on Gaussian data is linear in x and its noise z, so its two coefficients are its answers to (1, 0), (0, 1).
    """
    variance = float(levels[0].scale if first is None else first) ** 2
    denoise, basis = gaussian(c), Given(real(0, 1))
    for i in range(len(levels) - 1):
        x, _, _ = solver.step(denoise, real(1, 0), levels[i], levels[i + 1], basis, None, None)
        variance = float(x[0]) ** 2 * variance + float(x[1]) ** 2
        yield math.sqrt(variance)


class TestGrids:
    def test_laws(self, schedule: Schedule) -> None:
        """n + 1 levels of the schedule, strictly cleaner from noise to clean; a warning where the start is no pure
        noise, or where t = 1 is not visited, and nowhere else."""
        for spacing, steps in itertools.product(SPACINGS, (1, 2, 7, 50)):
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                try:
                    levels = grid(schedule, steps, spacing)
                except ValueError as error:
                    self.refused(str(error), schedule, steps, spacing)
                    continue
            self.holds(levels, schedule, steps)
            assert spacing in ("leading", "quadratic") or levels.t[0] == 1
            impure = float(levels.alpha[0] ** 2) > 0.01 * float(levels.sigma[0] ** 2)
            assert len(caught) == int(impure or float(levels.t[0]) < 1)
            for warning in caught:
                assert f"alpha {float(levels.alpha[0]):.3g}" in str(warning.message).replace("alpha is", "alpha")
                assert warning.filename == __file__

    @staticmethod
    def refused(message: str, schedule: Schedule, steps: int, spacing: str) -> None:
        total = schedule.steps or 1000
        if isinstance(schedule, Chain) and steps > total:
            assert "take at most as many" in message
        else:
            assert "visits a level of this schedule twice" in message
            assert steps > total or spacing in ("leading", "quadratic")

    @staticmethod
    def holds(levels: NoiseLevel, schedule: Schedule, steps: int) -> None:
        assert levels.t.shape == levels.logsnr.shape == levels.alpha.shape == levels.sigma.shape == (steps + 1,)
        assert levels.t.dtype == levels.sigma.dtype == torch.float64
        assert bool((levels.t.diff() < 0).all())
        assert bool((levels.logsnr.diff() > 0).all())
        assert (levels.t[-1], levels.logsnr[-1], levels.alpha[-1], levels.sigma[-1]) == (0, math.inf, 1, 0)
        for name in ("logsnr", "alpha", "sigma"):
            close(getattr(levels, name), getattr(schedule(levels.t), name), rtol=1e-12, atol=1e-12)
        if isinstance(schedule, Chain):
            close(levels.t * schedule.steps, (levels.t * schedule.steps).round(), atol=1e-9)

    def test_trailing_is_uniform_from_one(self) -> None:
        close(grid(VP(), 8).t, real(8, 7, 6, 5, 4, 3, 2, 1, 0) / 8)
        assert (grid(LinearBetas(), 10).t * 1000).tolist() == [1000, 900, 800, 700, 600, 500, 400, 300, 200, 100, 0]
        assert (grid(LinearBetas(), 3).t * 1000).round().tolist() == [1000, 667, 334, 0]
        close(grid(LinearBetas(), 1000).sigma, LinearBetas().levels.sigma.flip(0))

    def test_linspace_visits_both_ends(self) -> None:
        assert (grid(LinearBetas(), 5, "linspace").t * 1000).round().tolist() == [1000, 750, 500, 251, 1, 0]
        assert (grid(LinearBetas(), 1000, "linspace").t * 1000).round().tolist() == list(range(1000, -1, -1))
        close(grid(VP(), 5, "linspace").t * 1000, real(1000, 750.25, 500.5, 250.75, 1, 0), rtol=1e-12)

    def test_leading_steps_down_by_whole_strides(self) -> None:
        alpha = math.sqrt(np.prod(1 - np.linspace(1e-4, 0.02, 1000)[:901]))
        match = f"leading grid starts at t = 0.901: alpha is {alpha:.3g} there and 0.00635 at t = 1"
        with pytest.warns(UserWarning, match=match):
            levels = grid(LinearBetas(), 10, "leading")
        assert (levels.t * 1000).round().tolist() == [901, 801, 701, 601, 501, 401, 301, 201, 101, 1, 0]
        assert (quiet(LinearBetas(), 300, "leading").t[:3] * 1000).round().tolist() == [898, 895, 892]
        assert (grid(LinearBetas(), 1000, "leading").t[:3] * 1000).round().tolist() == [1000, 999, 998]

    def test_quadratic_is_that_of_ddim(self) -> None:
        """In whole numbers: step 1 + floor(800 i^2 / 81), i = 9 .. 0."""
        expected = [1 + 800 * i * i // 81 for i in range(9, -1, -1)]
        assert (quiet(LinearBetas(), 10, "quadratic").t * 1000).round().tolist() == [*expected, 0]
        assert expected[0] == 801

    @pytest.mark.parametrize("name", ["linear-interpolated", "vp", "cosine"])
    def test_logsnr_and_karras_are_uniform_in_theirs(self, name: str) -> None:
        levels = grid(WALKED[name], 12, "logsnr")[:-1]
        close(levels.logsnr.diff(), levels.logsnr.diff().mean().expand(11), rtol=1e-6)
        other = grid(WALKED[name], 12, "karras")[:-1]
        root = (other.sigma / other.alpha) ** (1 / 7)
        close(root.diff(), root.diff().mean().expand(11), rtol=1e-6)
        for ends in (levels.t[[0, -1]], other.t[[0, -1]]):
            close(ends, real(1, 0.001), rtol=1e-9)

    @pytest.mark.parametrize("name", ["flow", "cosine-whole"])
    def test_where_no_signal_is_left_the_rule_begins_one_step_later(self, name: str) -> None:
        low, high = (float(WALKED[name](t).logsnr) for t in (0.999, 0.001))
        levels = grid(WALKED[name], 12, "logsnr")[:-1]
        assert levels.t[0] == 1
        close(levels.logsnr[1:], torch.linspace(low, high, 12, dtype=torch.float64)[1:], rtol=1e-9, atol=1e-9)

    def test_on_a_chain_the_nearest_level_is_taken(self) -> None:
        chain = LinearBetas()
        wanted = torch.linspace(chain.logsnr_min, chain.logsnr_max, 12, dtype=torch.float64)
        nearest = (chain.levels.logsnr[1:] - wanted[:, None]).abs().argmin(1) + 1
        assert torch.equal((grid(chain, 12, "logsnr").t[:-1] * 1000).round().long(), nearest)

    @pytest.mark.parametrize("spacing", ["logsnr", "karras"])
    @pytest.mark.parametrize("chain", [LinearBetas(), CosineBetas(steps=20), LinearBetas(zero_terminal=True)], ids=str)
    def test_on_a_chain_levels_that_would_share_one_spread(self, chain: Chain, spacing: Any) -> None:
        """Any number up to its length is a grid, the whole chain at last; what shared no level stays where it was."""
        for n in (1, 2, 3, chain.steps // 2, chain.steps * 9 // 10, chain.steps - 1, chain.steps):
            steps = (quiet(chain, n, spacing).t * chain.steps).round().long()
            assert len(steps) == n + 1
            assert bool((steps.diff() < 0).all())
            assert steps[0] == chain.steps
            assert steps[-1] == 0
            assert n == 1 or steps[-2] == 1
        wanted = chain.inverse(quiet(chain.interpolated(), 8, spacing).logsnr[:-1]).t * chain.steps
        assert chain.steps == 20 or bool((wanted.diff() < 0).all())
        if chain.steps > 20:
            close((quiet(chain, 8, spacing).t[1:-1] * chain.steps), wanted[1:], atol=1)

    def test_levels_at_chosen_logsnrs(self) -> None:
        """Between t = 1 and clean data; those beyond a chain's range, or on one level of it, spread, too."""
        for schedule in (VP(), Flow(), CosineBetas().interpolated()):
            levels = levels_at(schedule, real(-3, 0.5, 4))
            close(levels.logsnr[1:-1], real(-3, 0.5, 4), rtol=1e-9)
            assert levels.t[[0, -1]].tolist() == [1, 0]
        chain = LinearBetas(steps=50)
        for logsnr, expected in (
            (real(-90, -80, -70), [50, 49, 48, 47, 0]),
            (real(70, 80, 90), [50, 3, 2, 1, 0]),
            (chain.levels.logsnr[[30, 30, 30, 29]], [50, 30, 29, 28, 27, 0]),
        ):
            assert (levels_at(chain, logsnr).t * 50).round().tolist() == expected
        whole = torch.linspace(chain.logsnr_min, chain.logsnr_max, 49, dtype=torch.float64)
        assert (levels_at(chain, whole).t * 50).round().tolist() == list(range(50, -1, -1))
        with pytest.raises(ValueError, match="steps: the chain has 50 levels, got 51; take at most as many"):
            levels_at(chain, torch.linspace(-9, 9, 50, dtype=torch.float64))

    def test_given_times(self) -> None:
        assert given(LinearBetas(), [1, 0.6, 0.2, 0]).t.tolist() == [1, 0.6, 0.2, 0]
        assert given(LinearBetas(steps=50), [1, 0.605, 0]).t.tolist() == [1, 0.62, 0]
        with pytest.warns(UserWarning, match=r"the given grid starts at t = 0\.95: alpha is 0\.05"):
            given(Flow(), [0.95, 0])
        for times in ([0.0], [1, 0.5], [1, 0.5, 0.5, 0], [1, 0.2, 0.3, 0]):
            with pytest.raises(ValueError, match=r"expected at least two times that fall to 0.* got "):
                given(VP(), times)
        with pytest.raises(ValueError, match=r"each on a level of its own, got 1,0\.605,0\.601,0"):
            given(LinearBetas(steps=50), [1, 0.605, 0.601, 0])

    @pytest.mark.parametrize(("steps", "alpha", "snr"), [(100, "0.603", "0.571"), (200, "0.364", "0.152")])
    def test_betas_that_leave_signal_are_told(self, steps: int, alpha: str, snr: str) -> None:
        """Ho's betas, not rescaled, on a shorter chain: 0.364 and 0.132 of the signal's energy are left."""
        chain = Betas(tuple(torch.linspace(1e-4, 0.02, steps, dtype=torch.float64).tolist()))
        match = f"at t = 1, where the trailing grid starts.* SNR {snr}, alpha {alpha}; .*biased"
        with pytest.warns(UserWarning, match=match):
            grid(chain, 10)

    @pytest.mark.parametrize(
        ("schedule", "steps", "spacing", "match"),
        [
            (VP(), 0, "trailing", "steps: expected at least 1, got 0"),
            (LinearBetas(), -3, "logsnr", "steps: expected at least 1, got -3"),
            (LinearBetas(steps=50), 51, "trailing", "the chain has 50 levels, got 51"),
            (LinearBetas(), 300, "quadratic", "quadratic with 300 steps visits a level of this schedule twice"),
            (VP(), 1001, "leading", "leading with 1001 steps visits a level"),
            (VP(), 10, "lu", "unknown spacing 'lu'; choose trailing, linspace, leading, quadratic, logsnr, karras"),
        ],
    )
    def test_errors(self, schedule: Schedule, steps: int, spacing: Any, match: str) -> None:
        with pytest.raises(ValueError, match=match):
            quiet(schedule, steps, spacing)


class TestLoop:
    @pytest.mark.parametrize("name", ALL_SOLVERS)
    @every_walk
    def test_walks_from_level_to_level(self, name: str, walked: Schedule) -> None:
        """Each step begins where the last one ended, with a call at the very level of the grid; further ones lie
        between it and the next, on a chain at levels of the chain. All end clean, finite, and with one call: also from
        levels without signal."""
        solver = ALL_SOLVERS[name]
        for spacing in SPACINGS:
            levels = quiet(walked, 7, spacing)
            denoise, recording = Recording(mixture), Recording(solver)
            t, total = levels.t.tolist(), levels_of(walked)
            x = start(range(3), levels)
            walk = trajectory(denoise, x, levels, recording, NoiseSource(range(3)), walked.inverse)
            for i, step in enumerate(walk):
                assert bool(step.x.isfinite().all())
                assert step.level == levels[i + 1]
                assert step.estimate.level == levels[i]
                first, *others = denoise.calls or [t[0]]
                assert first == t[i]
                assert len(others) < (1 if i == 6 else traits(solver).calls)
                assert all(t[i + 1] <= call < t[i] for call in others)
                assert not total or all((call * total).is_integer() for call in others)
                assert denoise.calls or (i == 0 and name == "gaussian-frame-free")
                denoise.calls.clear()
            assert [(now, nxt) for now, nxt, _, _ in recording.calls] == list(itertools.pairwise(t))
            close(step.x, step.estimate.x0)

    @every_solver
    @every_walk
    def test_the_last_step_draws_nothing(self, solver: Solver, walked: Schedule) -> None:
        """It gives the denoiser's x0, and nothing else, from wherever it starts."""
        clean = walked(0.0)
        for t in (0.01, 0.3, 1.0):
            x_t = 3 * torch.linspace(-1, 1, 5, dtype=torch.float64)[:, None]
            x, estimate, _ = solver.step(mixture, x_t, walked(t), clean, Silent(range(5)), None, None)
            close(x, mixture(x_t, walked(t)).x0, atol=1e-15)
            close(estimate.x0, mixture(x_t, walked(t)).x0)

    @pytest.mark.parametrize("kind", ["x0", "v", "flow"])
    @pytest.mark.parametrize("name", ["linear-zero", "cosine-whole", "flow"])
    @every_solver
    def test_every_head_starts_without_signal(self, solver: Solver, name: str, kind: Prediction) -> None:
        """And all of them walk the same way."""
        levels = quiet(WALKED[name], 10)
        assert levels.alpha[0] == 0

        def denoise(x_t: Tensor, level: NoiseLevel) -> Estimate:
            estimate = mixture(x_t, level)
            return replace(estimate, kind=kind, value=estimate.as_(kind))

        x, at = start(range(4), levels), WALKED[name].inverse
        one, other = (sample(by, x, levels, solver, NoiseSource(range(4)), at) for by in (denoise, mixture))
        close(one, other, atol=1e-9)

    def test_each_step_has_a_stream_of_its_own(self) -> None:
        """And none of them made the start; memory is handed on; `at` reaches the solver."""
        levels, at = grid(VP(), 4), VP().inverse
        recording, noise = Recording(DDIM()), NoiseSource(range(2))
        sample(mixture, start(range(2), levels), levels, recording, noise, at)
        assert [stream for _, _, stream, _ in recording.calls] == [[i, i] for i in (1, 2, 3, 4)]
        assert all(rest[1] is at for _, _, _, rest in recording.calls)

        class Counting:
            def step(self, denoise: Any, x: Any, now: Any, nxt: Any, noise: Any, memory: Any, at: Any) -> Any:
                return x, denoise(x, now), 1 if memory is None else memory + 1

        counter = Recording(Counting())
        sample(mixture, start(range(2), levels), levels, counter, noise)
        assert [rest[0] for _, _, _, rest in counter.calls] == [None, 1, 2, 3]

    @every_solver
    def test_sample_is_where_the_trajectory_ends(self, solver: Solver) -> None:
        levels, noise = grid(Flow(), 6), NoiseSource(range(3))
        x = start(range(3), levels)
        *_, last = trajectory(mixture, x, levels, solver, noise, Flow().inverse)
        assert torch.equal(sample(mixture, x, levels, solver, noise, Flow().inverse), last.x)

    @every_solver
    def test_any_row_of_levels_is_a_grid(self, solver: Solver) -> None:
        levels = VP()(torch.tensor([1.0, 0.31, 0.0]))
        denoise = Recording(mixture)
        x = sample(denoise, start(range(3), levels), levels, solver, NoiseSource(range(3)), VP().inverse)
        assert denoise.calls[0] == levels.t[0] or getattr(solver, "start", "call") == "free"
        assert denoise.calls[-1] == levels.t[1]
        assert all(0.31 <= call <= 1 for call in denoise.calls)
        assert bool(x.isfinite().all())

    @every_solver
    def test_levels_fall(self, solver: Solver) -> None:
        """A walk to noisier levels is refused before its first step; so is a step there that would draw noise."""
        levels = VP()(torch.tensor([1.0, 0.3, 0.5, 0.0]))
        x = start(range(3), levels)
        with pytest.raises(ValueError, match=r"expected noise first and clean last.*got t = 0.5 after t = 0.3"):
            trajectory(mixture, x, levels, solver, NoiseSource(range(3)), VP().inverse)
        if traits(solver).draws:
            with pytest.raises(ValueError, match=r"got t = 0.5 after t = 0.3"):
                solver.step(mixture, x, levels[1], levels[2], NoiseSource(range(3)), None, VP().inverse)

    def test_the_caller_keeps_its_gradients(self) -> None:
        """Networks run without gradients, the code between two steps with them, and guidance may switch them on."""
        weight = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)

        def denoise(x_t: Tensor, level: NoiseLevel) -> Estimate:
            assert not torch.is_grad_enabled()
            assert not torch.is_inference_mode_enabled()
            with torch.enable_grad():
                leaf = x_t.detach().requires_grad_()
                torch.autograd.grad(leaf.square().sum(), leaf)
            return Estimate("x0", weight * x_t, x_t, level)

        levels = grid(VP(), 3)
        steps = trajectory(denoise, start(range(2), levels), levels, DDIM(), NoiseSource(range(2)))
        for step in steps:
            assert torch.is_grad_enabled()
            assert not step.x.requires_grad
            break
        assert torch.is_grad_enabled()
        assert not sample(denoise, start(range(2), levels), levels, DDIM(), NoiseSource(range(2))).requires_grad

    @every_solver
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_precision_stays(self, solver: Solver, dtype: torch.dtype) -> None:
        levels = grid(VP(), 5)
        x = start(range(3), levels, dtype=dtype)
        for step in trajectory(mixture, x, levels, solver, NoiseSource(range(3)), VP().inverse):
            assert step.x.dtype == dtype

    @pytest.mark.parametrize(("alpha", "sigma", "scale"), [(0.0, 1.0, 1.0), (1.0, 80.0, 6401**0.5), (0.6, 0.8, 1.0)])
    def test_the_start_has_the_scale_of_the_first_level(self, alpha: float, sigma: float, scale: float) -> None:
        first = NoiseLevel(*real(1.0, -3.0, alpha, sigma))
        x = start(range(50), first.expand(1), (500,))
        assert float(x.std()) == pytest.approx(scale, rel=4 / math.sqrt(2 * x.numel()))
        close(x / scale, NoiseSource(range(50)).normal(x, 0), rtol=1e-14)


class TestSeeds:
    @every_solver
    @every_walk
    def test_a_batch_is_its_samples_one_by_one(self, solver: Solver, walked: Schedule) -> None:
        """To rounding, whatever else is in the batch."""
        levels, seeds = quiet(walked, 4), [0, 1, 7, 2**40, -1, 3, 4, 5]
        shape, denoise = (2, 3), gaussian(0.25)

        def samples(of: list[int]) -> Tensor:
            x = start(of, levels, shape, torch.float32)
            return sample(denoise, x, levels, solver, NoiseSource(of), walked.inverse)

        batch = samples(seeds)
        for i, seed in list(enumerate(seeds))[::3]:
            close(samples([seed])[0], batch[i], rtol=1e-5, atol=1e-6)
        assert len({tuple(row.flatten().tolist()) for row in batch}) == 8

    @every_solver
    def test_nor_does_a_mixture_mind_the_batch(self, solver: Solver) -> None:
        levels = grid(Flow(), 6)
        at = Flow().inverse
        batch = sample(mixture, start(range(8), levels), levels, solver, NoiseSource(range(8)), at)
        for seed in range(8):
            alone = sample(mixture, start([seed], levels), levels, solver, NoiseSource([seed]), at)
            close(alone[0], batch[seed], atol=1e-12)

    @pytest.mark.parametrize("solver", STOCHASTIC.values(), ids=STOCHASTIC)
    def test_one_start_and_other_noise_is_another_sample(self, solver: Solver) -> None:
        levels = grid(VP(), 6)
        x = start([0], levels).expand(2, 1)
        one, two = sample(mixture, x, levels, solver, NoiseSource([1, 2]), VP().inverse)
        assert one != two

    @pytest.mark.parametrize("solver", DETERMINISTIC.values(), ids=DETERMINISTIC)
    @every_walk
    def test_a_deterministic_solver_draws_nothing(self, solver: Solver, walked: Schedule) -> None:
        levels = quiet(walked, 6)
        x = start([0], levels).expand(2, 1)
        one, two = sample(mixture, x, levels, solver, Silent([1, 2]), walked.inverse)
        close(one, two, atol=1e-12)


class TestExactMoments:
    @pytest.mark.parametrize(
        ("solver", "expected"),
        [
            (DDIM(), ".36995 .43137 .47140 .48545 .49409 .49850"),
            (DDIM(eta=1), ".33348 .39151 .44410 .46822 .48580 .49611"),
            (Ancestral(variance="beta_tilde"), ".33348 .39151 .44410 .46822 .48580 .49611"),
            (Ancestral(), ".49390 .51683 .51172 .50672 .50290 .50075"),
        ],
        ids=["ddim", "ddim-full", "beta_tilde", "beta"],
    )
    def test_spread_of_samples(self, solver: Solver, expected: str) -> None:
        """Of data N(0, 0.25) on the linear chain, to the last printed digit."""
        ends = []
        for n in (10, 20, 50, 100, 250, 1000):
            *_, end = spreads(solver, grid(LinearBetas(), n), 0.25)
            ends.append(f"{end:.5f}"[1:])
        assert " ".join(ends) == expected

    @pytest.mark.parametrize("solver", [DDIM(), DDIM(eta=0.5), DDIM(eta=1), Ancestral(variance="beta_tilde")], ids=str)
    @every_walk
    def test_one_point_is_noised_backwards(self, solver: Solver, walked: Schedule) -> None:
        """Where x0 is known, x at each level of the walk has that very level's noise: on any grid."""
        for spacing in SPACINGS:
            levels = quiet(walked, 9, spacing)
            after = real(*spreads(solver, levels, 0.0, first=levels.sigma[0]))
            close(after, levels.sigma[1:], rtol=1e-12, atol=1e-15)

    @pytest.mark.parametrize("solver", MARKOV.values(), ids=MARKOV)
    @pytest.mark.parametrize("name", ["linear", "vp", "flow"])
    def test_samples_spread_as_computed(self, solver: Solver, name: str) -> None:
        """The noise of the steps is independent of each other's and of the start's, or the variances would not add."""
        levels, n = quiet(WALKED[name], 10), 4000
        x = start(range(n), levels, (8,))
        steps = trajectory(gaussian(0.25), x, levels, solver, NoiseSource(range(n)))
        for step, spread in zip(steps, spreads(solver, levels, 0.25), strict=True):
            assert float(step.x.std()) == pytest.approx(spread, rel=4.5 / math.sqrt(2 * 8 * n))
            assert float(step.x.mean()) == pytest.approx(0, abs=4.5 * spread / math.sqrt(8 * n))

    @every_walk
    def test_full_eta_is_ancestral(self, walked: Schedule) -> None:
        """With variance beta_tilde, and the same noise: each x on the way."""
        levels, x = quiet(walked, 8), real(-2.0, -0.4, 0.1, 1.5)[:, None]
        walks = (
            trajectory(mixture, x, levels, solver, NoiseSource(range(4)))
            for solver in (DDIM(eta=1), Ancestral(variance="beta_tilde"))
        )
        for one, other in zip(*walks, strict=True):
            close(one.x, other.x, rtol=1e-10, atol=1e-10)

    @pytest.mark.parametrize("eta", [0.2, 0.5, 1.0])
    def test_eta_is_the_share_of_the_noise(self, eta: float) -> None:
        """What a step adds to x = 0, by eq. 16 of Song et al. 2021 from Ho's betas, on neighbours and on a sub-grid."""
        alpha_bar = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))
        for now, nxt in ((1000, 999), (700, 300), (2, 1)):
            a, b = alpha_bar[now - 1], alpha_bar[nxt - 1]
            levels = LinearBetas().levels
            x, _, _ = DDIM(eta=eta).step(gaussian(1), real(0), levels[now], levels[nxt], Given(real(1)), None, None)
            assert float(x) == pytest.approx(eta * math.sqrt((1 - b) / (1 - a) * (1 - a / b)), rel=1e-9)

    @pytest.mark.parametrize(("fraction", "variance"), [(0.0, "beta_tilde"), (1.0, "beta")])
    def test_the_ends_of_a_learned_variance(self, fraction: float, variance: Any) -> None:
        def denoise(x_t: Tensor, level: NoiseLevel) -> Estimate:
            return replace(mixture(x_t, level), variance_fraction=torch.full_like(x_t, fraction))

        levels, x = grid(VP(), 8), real(-2.0, -0.4, 0.1, 1.5)[:, None]
        learned = sample(denoise, x, levels, Ancestral(variance="learned"), NoiseSource(range(4)))
        close(learned, sample(denoise, x, levels, Ancestral(variance=variance), NoiseSource(range(4))), rtol=1e-12)

    def test_a_variance_that_was_not_learned(self) -> None:
        levels = grid(VP(), 2)
        with pytest.raises(ValueError, match=r"learned no variance.*choose variance beta or beta_tilde"):
            sample(MIXTURE, start([0], levels), levels, Ancestral(variance="learned"), NoiseSource([0]))

    @pytest.mark.parametrize("eta", [-0.1, 1.1, math.nan])
    def test_eta_is_a_fraction(self, eta: float) -> None:
        with pytest.raises(ValueError, match=r"eta: expected a (number from 0|finite number)"):
            DDIM(eta=eta)


class TestFlowOfProbability:
    """Deterministic solvers follow the flow of the data's own density."""

    def test_they_say_so(self) -> None:
        """And none that draws noise: of one start it makes many ends."""
        assert len(STRAIGHT) == 13
        assert {name for name, solver in ALL_SOLVERS.items() if traits(solver).flows} == set(DETERMINISTIC)

    @pytest.mark.parametrize("name", STRAIGHT)
    @every_walk
    def test_towards_one_point_it_is_straight(self, name: str, walked: Schedule) -> None:
        """x_t = alpha x0 + sigma eps with one and the same eps, at every level of the walk."""
        point, eps = real(0.4, -0.9), torch.randn(5, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        levels = quiet(walked, 9)
        x = add_noise(point.expand(5, 2), eps, levels[0])
        data, noise = Mixture.points(point[None]), NoiseSource(range(5))
        for step in trajectory(data, x, levels, ALL_SOLVERS[name], noise, walked.inverse):
            close(step.x, add_noise(point.expand(5, 2), eps, step.level), atol=1e-12)

    @every_walk
    def test_it_ends_in_a_point_of_the_data(self, walked: Schedule) -> None:
        points = torch.randn(12, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        for spacing in SPACINGS:
            levels = quiet(walked, 60 if spacing == "trailing" else 12, spacing)
            x = sample(Mixture.points(points), start(range(20), levels, (4,)), levels, DDIM(), NoiseSource(range(20)))
            distance = torch.cdist(x, points)
            assert float(distance.min(1).values.max()) < 1e-9
            assert len(distance.argmin(1).unique()) > 3  # not all in one

    def test_error_on_a_gaussian_has_order_one(self) -> None:
        errors = [0.5 - list(spreads(DDIM(), grid(LinearBetas(), n), 0.25))[-1] for n in (125, 250, 500)]
        slopes = [math.log2(a / b) for a, b in itertools.pairwise(errors)]
        assert slopes == pytest.approx([1, 1], abs=0.05)

    @pytest.mark.parametrize("spacing", ["logsnr", "karras"])
    @pytest.mark.parametrize("schedule", [LinearBetas().interpolated(), VP()], ids=["linear", "vp"])
    def test_order_on_a_mixture(self, schedule: Schedule, spacing: Any) -> None:
        """Against the exact flow at the last level above zero noise, for X = x / alpha and s = sigma / alpha:
        dX / dlog s = X - D."""
        x = torch.linspace(-2.2, 2.2, 9, dtype=torch.float64)[:, None]

        def slope(log_s: float, scaled: np.ndarray) -> np.ndarray:
            s = math.exp(log_s)
            alpha = 1 / math.hypot(1, s)
            level = NoiseLevel(*real(0.5, -2 * log_s, alpha, alpha * s))
            return scaled - MIXTURE(alpha * torch.from_numpy(scaled)[:, None], level).x0[:, 0].numpy()

        def ends(n: int) -> tuple[Tensor, NoiseLevel]:
            levels = grid(schedule, n, spacing)[:-1]
            return sample(MIXTURE, x, levels, DDIM(), NoiseSource(range(9))), levels

        _, levels = ends(4)
        first, last = levels[0], levels[-1]
        span = (float(-first.logsnr / 2), float(-last.logsnr / 2))
        scaled = (x[:, 0] / first.alpha).numpy()
        flow = scipy.integrate.solve_ivp(slope, span, scaled, method="DOP853", rtol=1e-10, atol=1e-12)
        exact = torch.from_numpy(flow.y[:, -1])[:, None] * last.alpha
        coarse, fine = (float((ends(n)[0] - exact).abs().median()) for n in (200, 400))
        assert math.log2(coarse / fine) == pytest.approx(1, abs=0.15)
        assert fine < 0.01
