"""Stochastic solvers: exact moments on Gaussian data, weak and strong orders, and W2 on a mixture by its quantiles."""

import itertools
import math
import warnings
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from unsteep.analytic import Mixture
from unsteep.core.chains import LinearBetas
from unsteep.core.estimate import Estimate, Prediction
from unsteep.core.level import NoiseLevel, step_variances
from unsteep.core.noise import NoiseSource, clock
from unsteep.core.schedules import VP, Cosine, Flow, Karras, Schedule
from unsteep.denoiser import Denoise
from unsteep.sampling.ancestral import Ancestral
from unsteep.sampling.ddim import DDIM
from unsteep.sampling.grids import grid
from unsteep.sampling.langevin import AnnealedLangevin, PredictorCorrector
from unsteep.sampling.loop import Solver, initial_noise, sample, trajectory
from unsteep.sampling.multistep import DPMMultistep
from unsteep.sampling.sde import EulerMaruyama, SDEDPMSolver, standard_increment

SOLVERS: dict[str, Solver] = {
    "euler-maruyama": EulerMaruyama(),
    "dpmpp-sde": SDEDPMSolver(),
    "dpmpp-sde-half": SDEDPMSolver(eta=0.5),
    "langevin": AnnealedLangevin(),
    "langevin-3": AnnealedLangevin(corrections=3, size=0.4),
    "corrected": PredictorCorrector(),
    "corrected-dpmpp-sde": PredictorCorrector(predictor=SDEDPMSolver(), corrections=2),
    "corrected-ancestral": PredictorCorrector(predictor=Ancestral()),
    "corrected-ddim": PredictorCorrector(predictor=DDIM(), ratio=0.3),
}
WALKED: dict[str, Any] = {
    "linear": LinearBetas(),
    "linear-zero": LinearBetas(zero_terminal=True),
    "cosine-whole": Cosine(logsnr_min=-math.inf, logsnr_max=math.inf),
    "flow": Flow(),
    "karras": Karras(),
}
every_solver = pytest.mark.parametrize("solver", SOLVERS.values(), ids=SOLVERS)
every_walk = pytest.mark.parametrize("walked", WALKED.values(), ids=WALKED)


def real(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def close(a: Tensor, b: Tensor, rtol: float = 0.0, atol: float = 0.0) -> None:
    torch.testing.assert_close(a, b, rtol=rtol, atol=atol)


def quiet(schedule: Schedule, steps: int, spacing: Any = "trailing") -> NoiseLevel:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return grid(schedule, steps, spacing)


def gaussian(c: float) -> Denoise:
    """The best denoiser of N(0, c), one element at a time."""

    def denoise(x_t: Tensor, level: NoiseLevel) -> Estimate:
        at = level.like(x_t)
        return Estimate("x0", at.alpha * c / (at.alpha**2 * c + at.sigma**2) * x_t, x_t, level)

    return denoise


# The mixture of solvers' figures: two narrow peaks beside a broad one.
MIXTURE = Mixture(real(-1.0, 0.3, 0.9)[:, None], real(0.1, 0.2, 0.05) ** 2, real(0.3, 0.4, 0.3))


def start(seeds: Any, levels: NoiseLevel, shape: tuple[int, ...] = (1,), dtype: torch.dtype = torch.float64) -> Tensor:
    return initial_noise(torch.empty(len(seeds), *shape, dtype=dtype), levels[0], NoiseSource(seeds))


class Silent(NoiseSource):
    """Has no numbers to give."""

    def normal(self, like: Tensor, draw: int) -> Tensor:
        raise AssertionError("noise was drawn")

    def brownian(self, like: Tensor, now: NoiseLevel, nxt: NoiseLevel) -> Tensor:
        raise AssertionError("noise was drawn")


class Given(NoiseSource):
    """Hands out the given numbers in place of random ones."""

    def __init__(self, numbers: Tensor) -> None:
        super().__init__(torch.arange(len(numbers)))
        self.numbers = numbers

    def at(self, stream: int | Tensor) -> "Given":
        return self

    def normal(self, like: Tensor, draw: int) -> Tensor:
        return self.numbers

    def brownian(self, like: Tensor, now: NoiseLevel, nxt: NoiseLevel) -> Tensor:
        return self.normal(like, 0) * (clock(now.t) - clock(nxt.t)).sqrt()


class Basis(Given):
    """Row 0 has no noise; each draw is 1 in a row and place of its own: rows of what every draw does to the end."""

    def __init__(self, steps: int, draws: int = 1, d: int = 1, step: int = 0) -> None:
        super().__init__(torch.zeros(1 + (1 + steps * draws) * d, d, dtype=torch.float64))
        self.steps, self.draws, self.d, self.step = steps, draws, d, step

    def at(self, stream: int | Tensor) -> "Basis":
        return Basis(self.steps, self.draws, self.d, int(stream))

    def normal(self, like: Tensor, draw: int) -> Tensor:
        first = 0 if self.step == 0 else 1 + (self.step - 1) * self.draws + draw
        rows = slice(1 + first * self.d, 1 + (first + 1) * self.d)
        numbers = self.numbers.clone()
        numbers[rows] = torch.eye(self.d, dtype=torch.float64)
        return numbers


def moments(
    solver: Solver, levels: NoiseLevel, mean: Tensor, covariance: Tensor, draws: int = 1
) -> tuple[Tensor, Tensor]:
    """The exact mean (d,) and covariance (d, d) of what a sampler makes of Gaussian data from its exact x at levels[0]:
    a step is affine in x and its noise, so the answers to each unit of noise alone are all there is to know."""
    first, basis = levels[0], Basis(len(levels) - 1, draws, len(mean))
    root = torch.linalg.cholesky(marginal(covariance, first))
    x = first.alpha * mean + basis.normal(basis.numbers, 0) @ root.T
    x = sample(Mixture.gaussian(mean, covariance), x, levels, solver, basis)
    effect = x[1:] - x[0]
    return x[0], effect.T @ effect


def marginal(covariance: Tensor, level: NoiseLevel) -> Tensor:
    """The covariance of x_t (d, d) at `level`."""
    return level.alpha**2 * covariance + level.sigma**2 * torch.eye(len(covariance), dtype=torch.float64)


def point() -> tuple[Tensor, Tensor]:
    """Data at 0."""
    return real(0), real(0)[None]


class TestLaws:
    @every_solver
    @every_walk
    def test_the_last_step_is_the_denoiser(self, solver: Solver, walked: Schedule) -> None:
        """Without noise, without corrections, in one call, from wherever it starts."""
        for t in (0.01, 0.3, 1.0):
            x_t = 3 * torch.linspace(-1, 1, 5, dtype=torch.float64)[:, None]
            x, estimate, _ = solver.step(MIXTURE, x_t, walked(t), walked(0.0), Silent(range(5)), None, None)
            close(x, MIXTURE(x_t, walked(t)).x0, atol=1e-15)
            close(estimate.x0, x, atol=1e-15)
            assert estimate.level.t == t

    @pytest.mark.parametrize(
        ("kind", "name"), [("v", "linear-zero"), ("flow", "flow"), ("v", "karras"), ("eps", "linear")]
    )
    @every_solver
    def test_every_head_walks_the_same_way(self, solver: Solver, name: str, kind: Prediction) -> None:
        """Finite at every step, also from levels without signal."""

        def denoise(x_t: Tensor, level: NoiseLevel) -> Estimate:
            estimate = MIXTURE(x_t, level)
            return replace(estimate, kind=kind, value=estimate.as_(kind))

        levels, noise = quiet(WALKED[name], 5), NoiseSource(range(4))
        x = start(range(4), levels)
        for step in trajectory(denoise, x, levels, solver, noise):
            assert bool(step.x.isfinite().all())
        close(step.x, sample(MIXTURE, x, levels, solver, noise), atol=1e-8)

    @pytest.mark.parametrize(("name", "calls"), [("euler-maruyama", 1), ("langevin-3", 3), ("corrected-dpmpp-sde", 3)])
    def test_calls_of_a_step(self, name: str, calls: int) -> None:
        """The corrector asks at the new level, Langevin's sampler at the old one."""
        asked: list[float] = []

        def denoise(x_t: Tensor, level: NoiseLevel) -> Estimate:
            asked.append(float(level.t))
            return MIXTURE(x_t, level)

        levels = quiet(VP(), 3)
        sample(denoise, start(range(2), levels), levels, SOLVERS[name], NoiseSource(range(2)))
        first, second, third, _ = levels.t.tolist()
        if name == "langevin-3":
            assert asked == [first] * calls + [second] * calls + [third]
        else:
            more = calls - 1
            assert asked == [first, *[second] * more, second, *[third] * more, third]

    @every_solver
    @every_walk
    def test_a_batch_is_its_samples_one_by_one(self, solver: Solver, walked: Schedule) -> None:
        """To rounding, whatever else is in the batch: a norm, too, is a sample's own. And again the same, bit for
        bit."""
        levels, seeds = quiet(walked, 4), [0, 1, 7, 2**40, -1, 3, 4, 5]
        x, denoise = start(seeds, levels, (3, 5, 7), torch.float32), gaussian(0.25)
        x = x * torch.arange(1, 9).reshape(8, 1, 1, 1)  # no two of one norm
        batch = sample(denoise, x, levels, solver, NoiseSource(seeds))
        for i in (0, 3, 7):
            alone = sample(denoise, x[i : i + 1], levels, solver, NoiseSource(seeds[i : i + 1]))
            close(alone[0], batch[i], rtol=1e-5, atol=1e-6)
        other = sample(denoise, x, levels, solver, NoiseSource(range(20, 28)))
        assert not bool((other == batch).flatten(1).all(1).any())
        assert torch.equal(sample(denoise, x, levels, solver, NoiseSource(seeds)), batch)

    @every_solver
    @pytest.mark.parametrize("name", ["linear", "flow", "karras"])
    def test_single_precision_is_enough(self, solver: Solver, name: str) -> None:
        levels, noise = quiet(WALKED[name], 8), NoiseSource(range(16))
        wide = start(range(16), levels, (8,))
        narrow = sample(gaussian(0.25), wide.float(), levels, solver, noise)
        assert narrow.dtype == torch.float32
        close(narrow.double(), sample(gaussian(0.25), wide, levels, solver, noise), atol=1e-4)

    @pytest.mark.parametrize(
        ("solver", "wrong", "match"),
        [
            (SDEDPMSolver, {"eta": 1.1}, "eta: expected a number from 0"),
            (SDEDPMSolver, {"eta": math.nan}, "eta: expected a finite number, got nan"),
            (PredictorCorrector, {"corrections": 0}, "corrections: expected at least 1"),
            (PredictorCorrector, {"ratio": 0.0}, "ratio: expected a number between 0 and 1"),
            (AnnealedLangevin, {"corrections": -1}, "corrections: expected at least 1"),
            (AnnealedLangevin, {"size": 1.5}, "size: expected a share"),
        ],
    )
    def test_errors(self, solver: Any, wrong: dict[str, float], match: str) -> None:
        with pytest.raises(ValueError, match=match):
            solver(**wrong)


class TestRelatives:
    """Solvers that are others in disguise, on the same start and with the same noise."""

    x = real(-2.0, -0.4, 0.1, 1.5)[:, None]

    def walk(self, solver: Solver, levels: NoiseLevel, noise: NoiseSource) -> Iterator[Tensor]:
        return (step.x for step in trajectory(MIXTURE, self.x * levels[0].scale, levels, solver, noise))

    def same(self, one: Solver, other: Solver, levels: NoiseLevel) -> None:
        noise = Given(real(0.3, -1.2, 0.8, 2.0)[:, None])
        for x, y in zip(self.walk(one, levels, noise), self.walk(other, levels, noise), strict=True):
            close(x, y, rtol=1e-9, atol=1e-9)

    @every_walk
    def test_the_first_step_of_the_sde_solver(self, walked: Schedule) -> None:
        """Has one estimate: ancestral with beta_tilde for eta = 1, DDIM for eta = 0."""
        levels = quiet(walked, 5)
        for i in range(5):
            self.same(SDEDPMSolver(), Ancestral(variance="beta_tilde"), levels[i : i + 2])
            self.same(SDEDPMSolver(eta=0), DDIM(), levels[i : i + 2])

    @every_walk
    def test_without_noise_it_is_the_multistep_solver(self, walked: Schedule) -> None:
        levels = quiet(walked, 9)
        noise = Silent(range(4))
        pairs = zip(*(self.walk(s, levels, noise) for s in (SDEDPMSolver(eta=0), DPMMultistep(order=2))), strict=True)
        for x, y in itertools.islice(pairs, 9):
            close(x, y, rtol=1e-9, atol=1e-9)

    def test_where_noise_explodes_euler_maruyama_is_ancestral(self) -> None:
        """With the pair's beta as variance. Elsewhere the two differ by the square of a small step."""
        ancestral: Any = Ancestral(variance=lambda now, nxt: step_variances(now, nxt)[0])  # type: ignore[arg-type]
        for spacing in ("trailing", "logsnr"):
            self.same(EulerMaruyama(), ancestral, quiet(Karras(), 8, spacing))
        gaps = []
        for width in (0.02, 0.01):
            levels, z = VP()(torch.tensor([0.5, 0.5 - width])), Given(torch.zeros(4, 1, dtype=torch.float64))
            one, other = (next(self.walk(solver, levels, z)) for solver in (EulerMaruyama(), ancestral))
            gaps.append(float((one - other).abs().max()))
        assert math.log2(gaps[0] / gaps[1]) == pytest.approx(2, abs=0.1)


class TestMoments:
    @pytest.mark.parametrize(
        ("solver", "order"),
        [(EulerMaruyama(), 1), (SDEDPMSolver(), 2), (SDEDPMSolver(eta=0.5), 2)],
        ids=["euler-maruyama", "dpmpp-sde", "dpmpp-sde-half"],
    )
    @pytest.mark.parametrize("name", ["vp", "flow", "karras"])
    def test_weak_order(self, solver: Solver, order: int, name: str) -> None:
        """Of mean and covariance at the last level above zero noise, against those of the level itself. The mean of
        the SDE solver is exact: it goes on with the mean of x0, whose estimate is the mean of the data all the way."""
        schedule: Any = {"vp": VP(), "flow": Flow(), "karras": Karras()}[name]
        mean, covariance = real(0.5, -0.3), torch.tensor([[0.3, 0.15], [0.15, 0.2]], dtype=torch.float64)
        errors = []
        for n in (100, 200):
            levels = quiet(schedule, n, "logsnr")[:-1]
            x, spread = moments(solver, levels, mean, covariance)
            last = levels[-1]
            errors.append((float((x - last.alpha * mean).norm()), float((spread - marginal(covariance, last)).norm())))
        for coarse, fine in zip(*errors, strict=True):
            assert fine < 1e-12 or math.log2(coarse / fine) == pytest.approx(order, abs=0.15)
            assert fine < (0.03 if order == 1 else 1e-3)
        assert errors[1][1] > 1e-6
        assert order == 1 or errors[1][0] < 1e-12

    @pytest.mark.parametrize("solver", [SDEDPMSolver(), SDEDPMSolver(eta=0.3)], ids=str)
    @every_walk
    def test_one_point_is_noised_backwards(self, solver: Solver, walked: Schedule) -> None:
        """Where x0 is known, x at each level has that very level's noise: on any grid."""
        levels = quiet(walked, 9)
        for n in range(2, 10):
            _, spread = moments(solver, levels[:n], *point())
            close(spread.squeeze(), levels[n - 1].sigma ** 2, rtol=1e-9)

    @pytest.mark.parametrize("solver", [EulerMaruyama(), SDEDPMSolver(), AnnealedLangevin()], ids=str)
    @pytest.mark.parametrize("name", ["linear-zero", "cosine-whole", "flow"])
    def test_the_step_from_no_signal(self, solver: Solver, name: str) -> None:
        """Is to the mean of the data, with the noise of the new level."""
        levels, mean = quiet(WALKED[name], 9)[:2], real(0.5, -0.3)
        x, spread = moments(solver, levels, mean, torch.eye(2, dtype=torch.float64))
        assert levels.alpha[0] == 0
        close(x, levels.alpha[1] * mean, rtol=1e-12)
        close(spread, levels.sigma[1] ** 2 * torch.eye(2, dtype=torch.float64), rtol=1e-12, atol=1e-12)

    @pytest.mark.parametrize("name", ["euler-maruyama", "dpmpp-sde", "langevin-3"])
    def test_samples_spread_as_computed(self, name: str) -> None:
        """The noise of the steps is independent of each other's and of the start's, or the variances would not add."""
        levels, n = quiet(VP(), 10), 4000
        x = sample(gaussian(0.25), start(range(n), levels, (8,)), levels, SOLVERS[name], NoiseSource(range(n)))
        _, spread = moments(SOLVERS[name], levels, real(0), real(0.25)[None], draws=3)
        assert float(x.var()) == pytest.approx(float(spread), rel=4.5 * math.sqrt(2 / (8 * n)))
        assert float(x.mean()) == pytest.approx(0, abs=4.5 * float(spread) ** 0.5 / math.sqrt(8 * n))

    def test_langevin_of_a_fixed_size_has_its_known_bias(self) -> None:
        """About a point, steps of q sigma^2 keep the variance sigma^2 / (1 - q / 2), if the levels are close."""
        for size, corrections in ((0.2, 1), (0.8, 3)):
            solver = AnnealedLangevin(size=size, corrections=corrections)
            _, spread = moments(solver, self.geometric(1e-5, 100), *point(), draws=corrections)
            assert float(spread) == pytest.approx(1 / (1 - size / 2), rel=1e-3)

    @pytest.mark.parametrize("corrections", [1, 3])
    def test_langevin_converges_at_order_one_half(self, corrections: int) -> None:
        solver, steps = AnnealedLangevin(corrections=corrections), (4e-4, 1e-4)
        coarse, fine = (
            float(moments(solver, self.geometric(h, 200), *point(), draws=corrections)[1]) - 1 for h in steps
        )
        assert math.log2(coarse / fine) / 2 == pytest.approx(0.5, abs=0.02)
        assert fine == pytest.approx(math.sqrt(2e-4 / corrections), rel=0.05)

    @staticmethod
    def geometric(h: float, n: int) -> NoiseLevel:
        """n + 1 levels, h apart in log sigma, that end at sigma = 1; alpha is 1."""
        log_sigma = h * torch.arange(n, -1, -1, dtype=torch.float64)
        return NoiseLevel(log_sigma / (h * n), -2 * log_sigma, torch.ones_like(log_sigma), log_sigma.exp())


class TestCorrector:
    @pytest.mark.parametrize(("t", "bounded"), [(0.02, True), (0.2, False), (0.7, False)])
    def test_many_corrections_reach_their_known_balance(self, t: float, bounded: bool) -> None:
        """From anywhere. On N(0, c) in many dimensions norms are their means, and with S for the variance of x_t the
        rule balances at S (1 + r^2); steps of sigma^2, its bound, at S / (1 - sigma^2 / (2 S))."""
        level, c, ratio = VP()(torch.tensor(t, dtype=torch.float64)), 0.04, 0.3
        variance = level.alpha**2 * c + level.sigma**2
        expected = variance / (1 - level.sigma**2 / (2 * variance)) if bounded else variance * (1 + ratio**2)
        solver = PredictorCorrector(predictor=DDIM(), ratio=ratio, corrections=30)
        x = 0.5 * variance.sqrt() * NoiseSource(range(4)).normal(torch.empty(4, 4000, dtype=torch.float64), 0)
        corrected, _, _ = solver.step(gaussian(c), x, level, level, NoiseSource(range(4), 1), None, None)
        assert float(corrected.var() / expected) == pytest.approx(1, abs=4 * math.sqrt(2 / 16_000))

    def test_the_length_of_a_step(self) -> None:
        """Goes with 1 / |eps|^2 of the sample alone, for |eps|^2 of at least 1, up to sigma^2."""
        level, ratio = VP()(torch.tensor(0.5, dtype=torch.float64)), 0.2
        for d, squared in ((12, (1e-4, 0.9, 1.1, 60.0)), (300, (1e-4, 23.9, 24.1, 60.0))):
            eps = torch.linspace(-1, 1, d, dtype=torch.float64).expand(4, d)
            eps = eps * (real(*squared) / eps[0].square().sum()).sqrt()[:, None]

            def denoise(x_t: Tensor, level: NoiseLevel, eps: Tensor = eps) -> Estimate:
                return Estimate("eps", eps, x_t, level)

            solver, x, z = PredictorCorrector(predictor=DDIM(), ratio=ratio), torch.zeros_like(eps), Given(0 * eps)
            moved = solver.step(denoise, x, level, level, z, None, None)[0]
            share = (-moved / (level.sigma * eps)).mean(1)
            close(share, real(*(min(1.0, 2 * ratio**2 * d / max(1.0, n)) for n in squared)), rtol=1e-6)

    def test_it_mends_what_the_predictor_did(self) -> None:
        """DDIM in few steps makes too little of Gaussian data."""
        levels, n = quiet(LinearBetas(), 10), 200
        x = start(range(n), levels, (64,))
        alone, mended = (
            float(sample(gaussian(0.25), x, levels, solver, NoiseSource(range(n))).std())
            for solver in (DDIM(), PredictorCorrector(predictor=DDIM(), corrections=4))
        )
        assert alone == pytest.approx(0.37, abs=0.01)
        assert mended == pytest.approx(0.42, abs=0.02)


class Walk(NoiseSource):
    """A Brownian path on 512 ticks, made at once."""

    def __init__(self, like: Tensor) -> None:
        super().__init__(range(len(like)))
        steps = (
            torch.randn(512, *like.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64) / 512**0.5
        )
        self.path = torch.cat([torch.zeros_like(steps[:1]), steps.cumsum(0)])

    def at(self, stream: int | Tensor) -> "Walk":
        return self

    def brownian(self, like: Tensor, now: NoiseLevel, nxt: NoiseLevel) -> Tensor:
        return self.path[round(float(now.t) * 512)] - self.path[round(float(nxt.t) * 512)]


class TestOnePath:
    """The noise is that of a Brownian path: a finer grid refines the same sample."""

    @pytest.mark.parametrize("solver", [EulerMaruyama(), SDEDPMSolver(), SDEDPMSolver(eta=0.5)], ids=str)
    @pytest.mark.parametrize("schedule", [VP(), Flow()], ids=["vp", "flow"])
    def test_strong_order_one(self, solver: Solver, schedule: Any) -> None:
        x = torch.randn(2000, 1, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        noise, ends = Walk(x), {}
        for n in (28, 56, 112, 448):
            levels = schedule(torch.linspace(1, 1 / 8, n + 1, dtype=torch.float64))
            ends[n] = sample(gaussian(0.25), x, levels, solver, noise)
        coarse, middle, fine = (float((ends[n] - ends[448]).square().mean().sqrt()) for n in (28, 56, 112))
        assert 0.8 < math.log2(coarse / middle) < 1.5
        assert 0.8 < math.log2(middle / fine) < 1.5
        assert fine < 0.03

    @pytest.mark.parametrize("name", ["euler-maruyama", "dpmpp-sde"])
    def test_a_seed_has_one_path(self, name: str) -> None:
        levels, ends = VP()(torch.linspace(1, 0.1, 33, dtype=torch.float64)), []
        for seeds, chosen in ((range(20), levels), (range(20), levels[::2]), (range(20, 40), levels[::2])):
            x = start(range(20), levels, (50,))
            ends.append(sample(gaussian(0.25), x, chosen, SOLVERS[name], NoiseSource(seeds)))
        assert float((ends[0] - ends[1]).std()) < 0.25 * float((ends[0] - ends[2]).std())

    def test_increments_are_standard_normal(self) -> None:
        """Also over times that the path's clock resolves badly, or not at all."""
        like = torch.empty(50, 400, dtype=torch.float64)
        for now, nxt in ((0.9, 0.1), (1e-6, 9e-7), (2**-24, 0.0), (1e-9, 1e-10)):
            levels = Flow()(real(now, nxt))
            z = standard_increment(NoiseSource(range(50), 3), like, levels[0], levels[1])
            assert float(z.var()) == pytest.approx(1, abs=4 * (2 / 20_000) ** 0.5)


class TestDistance:
    """W2 between the samples of a mixture in one dimension and the mixture itself, by their quantiles. The density of
    x goes from level to level on n points: a step moves each of them, in the mean, and blurs."""

    @pytest.mark.parametrize(
        ("solver", "expected"),
        [
            (Ancestral(variance="beta_tilde"), (0.208, 0.145)),
            (Ancestral(variance="beta"), (0.106, 0.069)),
            (DDIM(), (0.152, 0.097)),
            (EulerMaruyama(), (0.115, 0.057)),
            (SDEDPMSolver(), (0.109, 0.052)),
            (SDEDPMSolver(eta=0.5), (0.104, 0.048)),
            (AnnealedLangevin(), (0.220, 0.137)),
        ],
        ids=str,
    )
    def test_on_the_linear_chain(self, solver: Solver, expected: tuple[float, float]) -> None:
        """In 10 and 20 calls. The first three are of the size that was found for them on another mixture (0.226 and
        0.133, 0.102 and 0.065, 0.154 and 0.084), and stand here for the measurement itself."""
        remembers, wide = isinstance(solver, SDEDPMSolver), isinstance(solver, AnnealedLangevin)
        for steps, value in zip((10, 20), expected, strict=True):
            reach, n = (25.0, 1501) if wide else (5.0, 301) if remembers else (8.0, 1601)
            assert self.w2(solver, steps, reach, n, remembers) == pytest.approx(value, abs=0.004)

    @staticmethod
    def w2(solver: Solver, steps: int, reach: float, n: int, remembers: bool) -> float:
        levels, points = quiet(LinearBetas(), steps), torch.linspace(-reach, reach, n, dtype=torch.float64)[:, None]
        mass = torch.softmax(-points.T.square() / 2, 1)  # of x_now in columns; in rows that of x before, if it matters
        for i in range(steps):
            now, nxt, x, memory = levels[i], levels[i + 1], points.repeat(len(mass), 1), None
            if len(mass) > 1:
                last = MIXTURE(points, levels[i - 1]).x0.repeat_interleave(n, 0)
                memory = (last, (now.logsnr - levels[i - 1].logsnr) / 2)
            to, blurred = (
                solver.step(MIXTURE, x, now, nxt, Given(torch.full_like(x, z)), memory, None)[0] for z in (0.0, 1.0)
            )
            if i == steps - 1:
                break
            place = ((to.reshape(-1, n) + reach) / (2 * reach) * (n - 1)).clamp(0, n - 1.001)
            low, row = place.long(), torch.arange(n) * n * remembers
            moved = torch.zeros(n * n if remembers else n, dtype=torch.float64)
            for cell, share in ((low, 1 - (place - low)), (low + 1, place - low)):
                moved.index_add_(0, (row + cell).flatten(), (mass * share).flatten())
            std = max(1e-9, float((blurred - to)[0]))
            edges = (torch.arange(2 * n, dtype=torch.float64) - n + 0.5) * (2 * reach / (n - 1)) / std
            mass = moved.reshape(-1, n) @ torch.special.ndtr(edges).diff().unfold(0, n, 1).flip(0)
        u = (torch.arange(40_000, dtype=torch.float64) + 0.5) / 40_000
        samples = to[:n, 0][torch.searchsorted(mass.sum(0).cumsum(0), u).clamp(max=n - 1)]
        fine = torch.linspace(-5, 5, 200_001, dtype=torch.float64)[:, None]
        parts = torch.special.ndtr((fine - MIXTURE.means[:, 0]) / MIXTURE.variances[:, 0].sqrt())
        exact = fine[torch.searchsorted(parts @ MIXTURE.log_weights.exp(), u), 0]
        return math.sqrt(float((samples - exact).square().mean()))
