"""Deterministic solvers: their measured orders, both ends of the flow, chains, and what they keep and round."""

import itertools
import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field, is_dataclass, replace
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
from unsteep.core.noise import NoiseSource
from unsteep.core.schedules import VP, Cosine, Flow, Karras, Schedule
from unsteep.sampling import (
    DDIM,
    DEIS,
    LMS,
    SOLVERS,
    DPMMultistep,
    Euler,
    GaussianFrame,
    Heun,
    Known,
    SDEDPMSolver,
    Singlestep,
    Solver,
    UniPC,
    fitted,
    grid,
    own_levels,
    sample,
    traits,
    trajectory,
)

# Every deterministic method, in every order that is measured here. They say which.
MEASURED: dict[str, Solver] = {
    **{name: solver for name, solver in SOLVERS.items() if traits(solver).flows},
    **{f"deis-2-{form}": DEIS(order=2, form=form) for form in ("eps", "x0", "v")},
    **{f"deis-3-{form}": DEIS(order=3, form=form) for form in ("x0", "v")},
    "lms-2": LMS(order=2),
    **{f"unip-{p}": UniPC(order=p, corrector=False) for p in (1, 2, 3)},
    "unip-2-bh1": UniPC(order=2, variant="bh1", corrector=False),
    **{f"unipc-{p}-{bh}": UniPC(order=p, variant=bh) for p in (1, 2) for bh in ("bh1", "bh2")},
    "unipc-3-bh1": UniPC(order=3, variant="bh1"),
    **{f"frame-{p}": GaussianFrame(order=p, corrector=False) for p in (1, 2, 3)},
    **{f"frame-{p}-corrected": GaussianFrame(order=p) for p in (1, 2)},
    "dpmpp-sde-without": SDEDPMSolver(eta=0.0),
}
SOLVED: dict[str, Solver] = {
    **{name: solver for name, solver in MEASURED.items() if name != "dpmpp-sde-without"},
    "dpmpp-3m-published": DPMMultistep(order=3, published=True),
    "deis-4": DEIS(order=4),
    "frame-4": GaussianFrame(order=4),
    "frame-free": GaussianFrame(start="free"),
}
STAGED = [name for name, solver in SOLVERS.items() if traits(solver).flows and traits(solver).calls > 1]
NAMED = {name: solver for name, solver in SOLVERS.items() if name in MEASURED and name != "gaussian-frame"}
STEADY = {name: solver for name, solver in SOLVED.items() if name != "dpmpp-3m-published"}  # that one as published
every_solver = pytest.mark.parametrize("solver", SOLVED.values(), ids=SOLVED)

MIXTURE = Mixture(
    torch.tensor([[-1.0, 0.3], [0.5, 0.8], [0.9, -0.9]]), torch.tensor([0.7, 0.6, 0.8]) ** 2, torch.tensor([3, 4, 3])
)
SMOOTH: dict[str, Any] = {"linear": LinearBetas().interpolated(), "cosine": Cosine(), "vp": VP()}
WITHOUT_SIGNAL: dict[str, Any] = {
    "linear-zero": LinearBetas(zero_terminal=True),
    "flow": Flow(),
    "cosine-whole": Cosine(logsnr_min=-math.inf, logsnr_max=math.inf),
}
WALKED = {**SMOOTH, **WITHOUT_SIGNAL, "karras": Karras(), "chain": LinearBetas()}


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


START = normal(16, 2)
NOISE = NoiseSource(range(16))


def close(a: Tensor, b: Tensor, rtol: float = 0.0, atol: float = 0.0) -> None:
    torch.testing.assert_close(a, b, rtol=rtol, atol=atol)


def quiet(schedule: Schedule, steps: int, spacing: Any) -> NoiseLevel:
    """A grid whose warning about its first level is not the matter here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return grid(schedule, steps, spacing)


@cache
def exact(name: str, first: float, last: float) -> Tensor:
    """Where the flow takes START from time `first` to `last`, by scipy: with phi = atan2(sigma, alpha) and Y = x /
    sqrt(alpha^2 + sigma^2), dY/dphi = v."""
    begin, end = (SMOOTH[name](t) for t in (first, last))

    def slope(phi: float, y: np.ndarray) -> np.ndarray:
        alpha, sigma = math.cos(phi), math.sin(phi)
        level = NoiseLevel(*torch.tensor([0.5, 2 * math.log(alpha / sigma), alpha, sigma], dtype=torch.float64))
        return MIXTURE(torch.from_numpy(y).reshape(-1, 2), level).v.numpy().ravel()

    span = [float(torch.atan2(level.sigma, level.alpha)) for level in (begin, end)]
    y = scipy.integrate.solve_ivp(slope, span, START.numpy().ravel(), method="DOP853", rtol=1e-11, atol=1e-12).y
    return end.scale * torch.from_numpy(y[:, -1]).reshape(-1, 2)


def error(solver: Solver, name: str, spacing: Any, n: int) -> float:
    """RMS, at the last level above zero noise, of n + 1 levels from t = 1 on."""
    levels = quiet(SMOOTH[name], n, spacing)[:-1]
    end = sample(MIXTURE, START, levels, solver, NOISE, SMOOTH[name].inverse)
    return float((end - exact(name, float(levels.t[0]), float(levels.t[-1]))).pow(2).mean().sqrt())


@dataclass
class Recording:
    """A denoiser that keeps the levels of its calls."""

    inner: Any = MIXTURE
    levels: list[NoiseLevel] = field(default_factory=list)

    def __call__(self, x_t: Tensor, level: NoiseLevel) -> Estimate:
        self.levels.append(level)
        return self.inner(x_t, level)


class Silent(NoiseSource):
    """Has no numbers to give."""

    def normal(self, like: Tensor, draw: int) -> Tensor:
        raise AssertionError("noise was drawn")


class TestOrders:
    @pytest.mark.parametrize(
        ("name", "schedule", "spacing"),
        [
            *((name, "linear", "logsnr") for name in MEASURED),
            *((name, "cosine", "karras") for name in NAMED),
            *(
                pytest.param(name, *where, marks=pytest.mark.long)
                for where in itertools.product(("linear", "cosine", "vp"), ("logsnr", "karras"))
                for name in MEASURED
            ),
        ],
    )
    def test_slope(self, name: str, schedule: str, spacing: Any) -> None:
        """Of the error, from n / 2 to n steps: high orders without a floor at some 1e-6."""
        solver = MEASURED[name]
        order = traits(solver).order
        assert order is not None
        n = 120 if name in STAGED else {1: 80, 2: 200, 3: 400, 4: 400}[order]
        n = 600 if name == "gaussian-frame" and spacing == "karras" else n
        coarse, fine = (error(solver, schedule, spacing, steps) for steps in (n // 2, n))
        assert math.log2(coarse / fine) == pytest.approx(order, abs=0.15)
        if order >= 3 and (schedule, spacing) == ("linear", "logsnr"):
            assert fine < 3e-6

    def test_third_order_as_published_is_second(self) -> None:
        """DPM-Solver++ 3M with the second difference of its published code, which lacks a factor 2."""
        published, mended = (DPMMultistep(order=3, published=flag) for flag in (True, False))
        coarse, fine = (error(published, "linear", "logsnr", n) for n in (100, 200))
        assert math.log2(coarse / fine) == pytest.approx(traits(published).order, abs=0.15)
        assert (traits(published).order, traits(mended).order) == (2, 3)
        assert fine > 10 * error(mended, "linear", "logsnr", 200)

    @pytest.mark.parametrize("solver", NAMED.values(), ids=NAMED)
    @pytest.mark.parametrize("spacing", ["trailing", "linspace", "quadratic"])
    def test_on_other_grids_the_error_falls(self, solver: Solver, spacing: Any) -> None:
        few, many = (error(solver, "vp", spacing, n) for n in ((7, 28) if spacing == "quadratic" else (20, 80)))
        assert many < few / 2

    @pytest.mark.parametrize("form", ["eps", "x0"])
    @pytest.mark.parametrize("schedule", ["linear", "flow", "karras"])
    def test_first_order_is_ddim(self, form: Any, schedule: str) -> None:
        """DPM-Solver-1 = DDIM = Euler: the forms of x0 and of eps are one step, and so is Euler's in sigma/alpha."""
        levels = quiet(WALKED[schedule], 9, "karras")
        x = START * levels[0].scale
        ddim = sample(MIXTURE, x, levels, DDIM(), NOISE)
        for solver in (DEIS(order=1, form=form), LMS(order=1), UniPC(order=1, corrector=False), Euler()):
            close(sample(MIXTURE, x, levels, solver, NOISE), ddim, atol=1e-13)


def laid(solver: Solver, schedule: Schedule, steps: int) -> NoiseLevel:
    """The solver's own grid, or even log-SNRs."""
    return solver.levels(schedule, steps) if hasattr(solver, "levels") else quiet(schedule, steps, "logsnr")


class TestEnds:
    @every_solver
    @pytest.mark.parametrize("name", WITHOUT_SIGNAL)
    def test_from_no_signal_the_first_step_is_ddims(self, solver: Solver, name: str) -> None:
        """In the form of x0; the Gaussian frame's own first step knows more. All are finite from there."""
        schedule, x = WITHOUT_SIGNAL[name], START
        for spacing, steps in (("trailing", 6), ("karras", 4)):
            levels = quiet(schedule, steps, spacing)
            assert levels.alpha[0] == 0
            ddim, _, _ = DDIM().step(MIXTURE, x, levels[0], levels[1], NOISE, None, None)
            walk = list(trajectory(MIXTURE, x, levels, solver, Silent(range(16)), schedule.inverse))
            assert isinstance(solver, GaussianFrame) or torch.equal(walk[0].x, ddim)
            assert all(bool(step.x.isfinite().all()) for step in walk)

    @every_solver
    @pytest.mark.parametrize("kind", ["eps", "score"])
    def test_heads_that_say_nothing_there_are_refused(self, solver: Solver, kind: Prediction) -> None:
        def denoise(x_t: Tensor, level: NoiseLevel) -> Estimate:
            return Estimate(kind, x_t, x_t, level)

        levels = grid(Flow(), 5)
        if getattr(solver, "start", "call") == "free":
            assert bool(sample(denoise, START, levels, solver, NOISE, Flow().inverse).isfinite().all())
            return
        with pytest.raises(ValueError, match="undefined where alpha = 0: use a head that predicts x0, v or flow"):
            sample(denoise, START, levels, solver, NOISE, Flow().inverse)

    @every_solver
    @pytest.mark.parametrize("name", ["chain", "linear-zero", "cosine", "flow", "karras"])
    def test_one_point_is_exact_in_any_number_of_steps(self, solver: Solver, name: str) -> None:
        """And what a walk returns is the denoiser's last answer, whatever the data; in one step, that to noise."""
        point = torch.tensor([[0.3, -0.7]])
        for steps in (1, 2, 3):
            levels = laid(solver, WALKED[name], steps)
            x = START * levels[0].scale
            end = sample(Mixture.points(point), x, levels, solver, Silent(range(16)), WALKED[name].inverse)
            close(end, point.double().expand(16, 2), atol=1e-12)
            levels = quiet(WALKED[name], steps, "trailing")
            *_, last = trajectory(MIXTURE, x, levels, solver, NOISE, WALKED[name].inverse)
            assert bool(last.x.isfinite().all())
            assert torch.equal(last.x, last.estimate.x0)
            assert steps > 1 or torch.equal(last.x, MIXTURE(x, levels[0]).x0)

    @every_solver
    @pytest.mark.parametrize("name", ["chain", "cosine", "flow", "karras"])
    def test_atoms_are_exact(self, solver: Solver, name: str) -> None:
        """Every sample ends in one of the points, to the last digits, and not all in one."""
        atoms = Mixture.points(normal(6, 2, seed=1))
        levels = laid(solver, WALKED[name], 12)
        end = sample(atoms, START * levels[0].scale, levels, solver, NOISE, WALKED[name].inverse)
        distance = torch.cdist(end, atoms.means)
        assert float(distance.min(1).values.max()) < 1e-9
        assert len(distance.argmin(1).unique()) > 3


class TestOnAChain:
    @pytest.mark.parametrize("solver", SOLVED.values(), ids=SOLVED)
    def test_every_call_is_at_a_level_of_the_chain(self, solver: Solver) -> None:
        """Those between two levels of the grid, too, with the sigma of the time that the network is told."""
        chain = LinearBetas()
        for levels in (laid(solver, chain, 20), quiet(chain, 21, "trailing"), quiet(chain, 20, "quadratic")):
            denoise = Recording()
            sample(denoise, START, levels, solver, NOISE, chain.inverse)
            for level in denoise.levels:
                step = round(float(level.t) * 1000)
                for part in ("t", "logsnr", "alpha", "sigma"):
                    assert getattr(level, part) == getattr(chain.levels[step], part)
            assert isinstance(solver, Heun) or len({float(level.t) for level in denoise.levels}) == len(denoise.levels)

    @pytest.mark.parametrize("name", ["dpm2", "dpm3", "dpmpp-2s", "dpmpp-3s"])
    def test_where_there_is_no_level_between_it_is_ddim(self, name: str) -> None:
        """The whole chain at one call a step; every second level at two, and then close to that."""
        chain, solver = LinearBetas(steps=200), SOLVERS[name]
        whole = grid(chain, 200)
        denoise = Recording()
        end = sample(denoise, START, whole, solver, NOISE, chain.inverse)
        assert [float(level.t) for level in denoise.levels] == whole.t[:-1].tolist()
        close(end, sample(MIXTURE, START, whole, DDIM(), NOISE), atol=1e-12)
        half = Recording()
        other = sample(half, START, grid(chain, 100), solver, NOISE, chain.inverse)
        assert len(half.levels) == 199  # the last step goes to no noise
        assert float((other - end).abs().max()) < 0.05

    @pytest.mark.parametrize("name", STAGED)
    def test_stages_need_the_schedule(self, name: str) -> None:
        levels = grid(VP(), 3)
        if name == "heun":  # its second call is at the next level of the grid
            assert bool(sample(MIXTURE, START, levels, SOLVERS[name], NOISE).isfinite().all())
            return
        with pytest.raises(ValueError, match="at: this solver calls the network between levels"):
            sample(MIXTURE, START, levels, SOLVERS[name], NOISE)

    def test_a_method_of_order_three_takes_what_the_chain_has(self) -> None:
        """Between steps 4 and 2 lies one level: a step of order 2 there, at two calls."""
        chain = LinearBetas()
        pair = chain.levels[4], chain.levels[2]
        for form in ("eps", "x0"):
            two, three = (
                Singlestep(order=p, form=form).step(MIXTURE, START, *pair, NOISE, None, chain.inverse)[0]
                for p in (2, 3)
            )
            assert torch.equal(two, three)


def tensors(kept: Any) -> Iterator[Tensor]:
    """Every tensor in what a solver remembers."""
    if isinstance(kept, Tensor):
        yield kept
    elif is_dataclass(kept):
        yield from tensors(list(vars(kept).values()))
    elif isinstance(kept, list | tuple):
        for one in kept:
            yield from tensors(one)


class TestCost:
    @every_solver
    def test_states_kept(self, solver: Solver) -> None:
        """At most order + 2, x itself among them, and in a frame its coordinates there."""
        order = getattr(solver, "order", 1)  # a setting, and what DDIM, Euler and Heun say
        levels, x, memory = grid(VP(), 9), START, None
        for i in range(9):
            x, _, memory = solver.step(MIXTURE, x, levels[i], levels[i + 1], NOISE, memory, VP().inverse)
            large = {one.data_ptr(): one.untyped_storage().nbytes() for one in tensors(memory) if one.numel() > 1}
            large[x.data_ptr()] = x.untyped_storage().nbytes()
            assert (
                sum(large.values())
                <= (order + 2 + isinstance(solver, GaussianFrame)) * START.untyped_storage().nbytes()
            )

    @every_solver
    def test_calls(self, solver: Solver) -> None:
        """One a step, or as many as stages; the last step, and one from no signal, has one."""
        per_step = traits(solver).calls
        for schedule, single in ((VP(), 1), (Flow(), 2)):
            denoise = Recording()
            sample(denoise, START, grid(schedule, 6), solver, NOISE, schedule.inverse)
            free = getattr(solver, "start", "call") == "free"
            assert len(denoise.levels) == single + (6 - single) * per_step - free


class TestUnevenGrids:
    @pytest.mark.parametrize("solver", STEADY.values(), ids=STEADY)
    @pytest.mark.parametrize("schedule", [LinearBetas(), VP(), CosineBetas(), Flow()], ids=lambda s: type(s).__name__)
    @pytest.mark.parametrize("steps", [10, 20])
    def test_a_step_much_longer_than_those_before(self, solver: Solver, schedule: Schedule, steps: int) -> None:
        """As the last ones of a grid even in t, and the first one of the cosine chain: no method throws values far out
        of their range, where the first order makes an error of 0.05."""
        levels, truth = quiet(schedule, steps, "linspace"), self.end(DEIS(), schedule, 500, "trailing")
        end = sample(MIXTURE, START, levels, solver, NOISE, schedule.inverse)
        first_order = self.end(DDIM(), schedule, steps, "linspace")
        errors = [float((one - truth).pow(2).mean().sqrt()) for one in (end, first_order)]
        assert errors[0] < 1.6 * errors[1]

    @staticmethod
    @cache
    def end(solver: Solver, schedule: Schedule, steps: int, spacing: Any) -> Tensor:
        return sample(MIXTURE, START, quiet(schedule, steps, spacing), solver, NOISE, schedule.inverse)


class TestFewSteps:
    @pytest.mark.parametrize("name", ["linear", "cosine", "vp"])
    @pytest.mark.parametrize("steps", [3, 4, 5, 6, 7, 8])
    def test_heun_on_even_steps_in_log_snr(self, name: str, steps: int) -> None:
        """Each of them multiplies alpha / sigma by 4 to 150. No farther from the truth than Euler's method, in the
        median and in the mean square, which one sample thrown far out would show."""
        levels = quiet(SMOOTH[name], steps, "logsnr")[:-1]
        truth = exact(name, float(levels.t[0]), float(levels.t[-1]))
        heun, euler = (
            (sample(MIXTURE, START, levels, one, NOISE, SMOOTH[name].inverse) - truth).norm(dim=1)
            for one in (Heun(), Euler())
        )
        assert float(heun.median()) <= float(euler.median())
        assert float(heun.square().mean()) <= float(euler.square().mean())

    @pytest.mark.parametrize("name", ["dpmpp-2m", "dpmpp-3m", "deis", "unipc", "lms"])
    def test_where_data_show_nothing_no_levels_are_spent(self, name: str) -> None:
        """On the cosine chain, whose t = 1 lies at sigma / alpha of 20,000: and more comes of it than of DDIM."""
        chain, solver = CosineBetas(), SOLVERS[name]
        truth = sample(MIXTURE, START, grid(chain, 1000), UniPC(), NOISE, chain.inverse)
        for steps in (5, 10, 20):
            levels = own_levels(solver, chain, steps)
            assert len(levels) == steps + 1
            assert int((levels.sigma / levels.alpha > 20).sum()) == 1
        mine, ddim = (
            (sample(MIXTURE, START, some, one, NOISE, chain.inverse) - truth).norm(dim=1).median()
            for one, some in ((solver, levels), (DDIM(), grid(chain, 20)))
        )
        assert mine < 0.5 * ddim

    def test_lms_ends_smoothly_where_data_have_a_density(self) -> None:
        """With the error that its order gives, in place of one that the denoiser's step leaves."""
        schedule = SMOOTH["linear"]
        truth = sample(MIXTURE, START, grid(schedule, 600, "logsnr"), DEIS(), NOISE, schedule.inverse)
        levels = grid(schedule, 60, "trailing")
        plain, smooth = (
            float((sample(MIXTURE, START, levels, LMS(end=end), NOISE, schedule.inverse) - truth).norm())
            for end in (None, "smooth")
        )
        assert smooth < plain / 3
        known = Known(frame=None, variance=lambda name: "beta", atoms=False)
        assert fitted(LMS(), known) == LMS(end="smooth")
        assert fitted(LMS(), replace(known, atoms=True)) == LMS(end="denoiser")
        assert fitted(LMS(end="denoiser"), known) == LMS(end="denoiser")


class TestPrecision:
    @every_solver
    @pytest.mark.parametrize(
        ("schedule", "spacing"),
        [
            *itertools.product([LinearBetas(), CosineBetas()], [None, "karras"]),
            *itertools.product([Flow(), Karras()], [None]),
            *(
                pytest.param(*where, marks=pytest.mark.long)
                for where in (
                    *itertools.product([LinearBetas(), CosineBetas()], ["trailing", "linspace"]),
                    *itertools.product([Flow(), Karras()], ["trailing", "linspace", "karras"]),
                )
            ),
        ],
        ids=lambda one: one if isinstance(one, str | None) else type(one).__name__,
    )
    def test_float32_is_float64_to_1e_4(self, solver: Solver, schedule: Schedule, spacing: Any) -> None:
        """On data with and without a density, from heads of x0 and of v, also where alpha grows a thousandfold in one
        step. None: evenly in log-SNR, or the solver's own grid."""

        def v_head(x_t: Tensor, level: NoiseLevel) -> Estimate:
            return Estimate("v", MIXTURE(x_t, level).v, x_t, level)

        atoms = Mixture.points(0.5 * normal(6, 2, seed=1))
        for denoise, steps in ((MIXTURE, 8), (v_head, 20), (atoms, 12)):
            levels = laid(solver, schedule, steps) if spacing is None else quiet(schedule, steps, spacing)
            x = (START * levels[0].scale).float()
            single, double = (sample(denoise, y, levels, solver, NOISE, schedule.inverse) for y in (x, x.double()))
            assert single.dtype == torch.float32
            close(single.double(), double, atol=1e-4)

    @every_solver
    def test_a_network_in_half_precision(self, solver: Solver) -> None:
        """Its rounding passes into x0 once, and does not grow: the state stays float32."""

        def rounded(x_t: Tensor, level: NoiseLevel) -> Estimate:
            assert x_t.dtype == torch.float32
            return Estimate("v", MIXTURE(x_t, level).v.bfloat16().float(), x_t, level)

        levels = laid(solver, LinearBetas(), 12)
        x = START.float()
        end = sample(rounded, x, levels, solver, NOISE, LinearBetas().inverse)
        assert end.dtype == torch.float32
        close(end, sample(MIXTURE, x, levels, solver, NOISE, LinearBetas().inverse), atol=0.03)
