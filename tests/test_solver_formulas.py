"""Deterministic solvers against the formulas of their papers, written here as they are printed, in plain numbers."""

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.integrate
import torch
from torch import Tensor

from unsteep.analytic import Mixture
from unsteep.core.chains import LinearBetas
from unsteep.core.level import NoiseLevel
from unsteep.core.noise import NoiseSource
from unsteep.core.schedules import VP, Flow, Karras, Schedule
from unsteep.sampling import DEIS, LMS, SOLVERS, DPMMultistep, Euler, Heun, Solver, UniPC, grid, sample

MIXTURE = Mixture(
    torch.tensor([[-1.0, 0.3], [0.5, 0.8], [0.9, -0.9]]), torch.tensor([0.7, 0.2, 0.4]) ** 2, torch.tensor([3, 4, 3])
)
START = torch.randn(16, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
NOISE = NoiseSource(range(16))


def close(a: Tensor, b: Tensor, atol: float) -> None:
    torch.testing.assert_close(a, b, rtol=0, atol=atol)


def points(levels: NoiseLevel) -> list[tuple[float, float, float]]:
    """(alpha, sigma, lambda = log alpha / sigma) of each level."""
    return [(float(a), float(s), math.log(a / s)) for a, s in zip(levels.alpha, levels.sigma, strict=True)]


class Published:
    """Each method as its paper writes it, in plain numbers: from x at levels[0] to x at levels[-1]."""

    def __init__(self, schedule: Schedule, levels: NoiseLevel) -> None:
        self.schedule, self.levels, self.points = schedule, levels, points(levels)

    def at(self, lam: float, h: float, r: float) -> tuple[float, float, float, NoiseLevel]:
        """(alpha, sigma, r, level) of the stage at lambda + r h; on a chain, of the level nearest to it."""
        level = self.schedule.inverse(torch.tensor(2 * (lam + r * h), dtype=torch.float64))
        [(a, s, there)] = points(level.expand(1))
        return a, s, (there - lam) / h, level

    def dpm_solver(self, x: Tensor, order: int) -> Tensor:
        """DPM-Solver-2 and -3 (Lu et al. 2022a, algorithms 1 and 2), r1 = 1/2; r1 = 1/3, r2 = 2/3."""
        for level, (a, _, lam), (a_t, s_t, lam_t) in zip(self.levels, self.points, self.points[1:], strict=False):
            h, eps = lam_t - lam, MIXTURE(x, level).eps
            a_1, s_1, r1, level_1 = self.at(lam, h, 1 / order)
            u = a_1 / a * x - s_1 * math.expm1(r1 * h) * eps
            d = MIXTURE(u, level_1).eps - eps
            x_t = a_t / a * x - s_t * math.expm1(h) * eps
            if order == 2:
                x = x_t - s_t / (2 * r1) * math.expm1(h) * d
                continue
            a_2, s_2, r2, level_2 = self.at(lam, h, 2 / 3)
            u = a_2 / a * x - s_2 * math.expm1(r2 * h) * eps
            u = u - s_2 * r2 / r1 * (math.expm1(r2 * h) / (r2 * h) - 1) * d
            x = x_t - s_t / r2 * (math.expm1(h) / h - 1) * (MIXTURE(u, level_2).eps - eps)
        return x

    def dpm_solver_pp(self, x: Tensor, order: int) -> Tensor:
        """DPM-Solver++ 2S (Lu et al. 2022b, algorithm 1, r = 1/2) and, by the same expansion, 3S."""
        for level, (_, s, lam), (a_t, s_t, lam_t) in zip(self.levels, self.points, self.points[1:], strict=False):
            h, x0 = lam_t - lam, MIXTURE(x, level).x0
            a_1, s_1, r1, level_1 = self.at(lam, h, 1 / order)
            x0_1 = MIXTURE(s_1 / s * x - a_1 * math.expm1(-r1 * h) * x0, level_1).x0
            if order == 2:
                d = (1 - 1 / (2 * r1)) * x0 + 1 / (2 * r1) * x0_1
                x = s_t / s * x - a_t * math.expm1(-h) * d
                continue
            a_2, s_2, r2, level_2 = self.at(lam, h, 2 / 3)
            u = s_2 / s * x - a_2 * math.expm1(-r2 * h) * x0
            u = u + a_2 * r2 / r1 * (math.expm1(-r2 * h) / (r2 * h) + 1) * (x0_1 - x0)
            x0_2 = MIXTURE(u, level_2).x0
            x = s_t / s * x - a_t * math.expm1(-h) * x0 + a_t / r2 * (math.expm1(-h) / h + 1) * (x0_2 - x0)
        return x

    def dpm_solver_pp_multi(self, x: Tensor, order: int, factor: float = 1.0) -> Tensor:
        """2M (Lu et al. 2022b, algorithm 2) and 3M (their code), its second difference times `factor`."""
        told: list[Tensor] = []
        lams = [lam for _, _, lam in self.points]
        for i, ((_, s, lam), (a_t, s_t, lam_t)) in enumerate(itertools.pairwise(self.points)):
            told.append(MIXTURE(x, self.levels[i]).x0)
            h, d = lam_t - lam, told[-1]
            last = [(lams[j] - lams[j - 1]) / h for j in (i, i - 1) if j > 0]
            phi = math.expm1(-h)
            if i == 0 or order == 1:
                x = s_t / s * x - a_t * phi * d
            elif i == 1 or order == 2:
                d = (1 + 1 / (2 * last[0])) * told[-1] - 1 / (2 * last[0]) * told[-2]
                x = s_t / s * x - a_t * phi * d
            else:
                r0, r1 = last
                d1_0, d1_1 = (told[-1] - told[-2]) / r0, (told[-2] - told[-3]) / r1
                d1 = d1_0 + r0 / (r0 + r1) * (d1_0 - d1_1)
                d2 = factor / (r0 + r1) * (d1_0 - d1_1)
                phi_2 = phi / h + 1
                x = s_t / s * x - a_t * phi * d + a_t * phi_2 * d1 - a_t * (phi_2 / h - 0.5) * d2
        return x

    def unipc(self, x: Tensor, order: int, variant: str, corrector: bool) -> Tensor:
        """Zhao et al. 2023, algorithms 3 and 4 in the form of x0: R_p(h) a B(h) = phi_p(h), and a_1 = 1/2 for one a."""
        told: list[Tensor] = []
        before = x
        for i in range(len(self.points)):
            told.append(MIXTURE(x, self.levels[i]).x0)
            if corrector and i > 0:
                x = self.uni(before, told, i - 1, range(i - min(order, i), i - 1), [i], variant)
            if i == len(self.points) - 2:
                return self.uni(x, told, i, range(max(0, i - order + 1), i), [], variant)
            before, x = x, self.uni(x, told, i, range(max(0, i - order + 1), i), [], variant)
        raise AssertionError

    def uni(self, x: Tensor, told: list[Tensor], i: int, old: range, new: list[int], variant: str) -> Tensor:
        """From level i to level i + 1, with the calls at the levels `old` and `new` beside that at i."""
        (_, s, lam), (a_t, s_t, lam_t) = self.points[i : i + 2]
        h = lam_t - lam
        b = h if variant == "bh1" else -math.expm1(-h)
        nodes = [*old, *new]
        r = np.array([(self.points[m][2] - lam) / h for m in nodes])
        psi = [math.exp(-h)]
        for n in range(len(nodes) + 1):
            psi.append((1 / math.factorial(n) - psi[n]) / h)
        phi = np.array([h**n * math.factorial(n) * psi[n + 1] for n in range(1, len(nodes) + 1)])
        rows = np.array([(r * h) ** (n - 1) for n in range(1, len(nodes) + 1)])
        a = np.array([0.5]) if len(nodes) == 1 else np.linalg.solve(rows, phi) / b if nodes else []
        x = s_t / s * x - a_t * math.expm1(-h) * told[i]
        for weight, m, r_m in zip(a, nodes, r, strict=True):
            x = x + a_t * b * weight / r_m * (told[m] - told[i])
        return x

    def adams(self, x: Tensor, order: int, form: str, variable: str) -> Tensor:
        """Zhang & Chen 2023, eq. 14, by quadrature: dX = value du for X = x / alpha, x / sigma or x / scale and u =
        sigma/alpha, alpha/sigma or atan(sigma/alpha), through the last values as a polynomial in lambda or in sigma."""
        scale, u_of = {
            "eps": (lambda a, s: a, lambda a, s: s / a),
            "x0": (lambda a, s: s, lambda a, s: a / s),
            "v": (math.hypot, lambda a, s: math.atan2(s, a)),
        }[form]
        s_of = {"eps": lambda u: u, "x0": lambda u: 1 / u, "v": math.tan}[form]  # sigma/alpha of u
        place = (lambda s: -math.log(s)) if variable == "lambda" else (lambda s: s)
        told: list[Tensor] = []
        for i, (now, nxt) in enumerate(itertools.pairwise(self.points)):
            told.append(MIXTURE(x, self.levels[i]).as_(form))  # type: ignore[arg-type]
            nodes = [place(s / a) for a, s, _ in self.points[max(0, i + 1 - order) : i + 1]]
            total = x / scale(*now[:2])
            for j, value in enumerate(told[-len(nodes) :]):
                others = [node for k, node in enumerate(nodes) if k != j]

                def lagrange(u: float, j: int = j, others: list[float] = others, nodes: list[float] = nodes) -> float:
                    return math.prod((place(s_of(u)) - node) / (nodes[j] - node) for node in others)

                share, _ = scipy.integrate.quad(lagrange, u_of(*now[:2]), u_of(*nxt[:2]), epsabs=0, epsrel=1e-11)
                total = total + share * value
            x = total * scale(*nxt[:2])
        return x


Peer = Callable[[Published, Tensor], Tensor]
PUBLISHED: dict[str, tuple[Solver, Peer]] = {
    **{f"dpm{p}": (SOLVERS[f"dpm{p}"], lambda by, x, p=p: by.dpm_solver(x, p)) for p in (2, 3)},
    **{f"dpmpp-{p}s": (SOLVERS[f"dpmpp-{p}s"], lambda by, x, p=p: by.dpm_solver_pp(x, p)) for p in (2, 3)},
    "dpmpp-2m": (SOLVERS["dpmpp-2m"], lambda by, x: by.dpm_solver_pp_multi(x, 2)),
    "dpmpp-3m": (SOLVERS["dpmpp-3m"], lambda by, x: by.dpm_solver_pp_multi(x, 3, factor=2)),
    "dpmpp-3m-published": (DPMMultistep(order=3, published=True), lambda by, x: by.dpm_solver_pp_multi(x, 3)),
    **{
        f"unipc-{p}-{bh}-{c}": (
            UniPC(order=p, variant=bh, corrector=c),
            lambda by, x, p=p, bh=bh, c=c: by.unipc(x, p, bh, c),
        )
        for p in (1, 2, 3)
        for bh in ("bh1", "bh2")
        for c in (False, True)
    },
    **{
        f"deis-{p}-{form}": (DEIS(order=p, form=form), lambda by, x, p=p, form=form: by.adams(x, p, form, "lambda"))
        for p in (1, 2, 3, 4)
        for form in ("eps", "x0", "v")
    },
    **{f"lms-{p}": (LMS(order=p), lambda by, x, p=p: by.adams(x, p, "eps", "sigma")) for p in (1, 2, 3, 4)},
}


@pytest.mark.parametrize("name", PUBLISHED)
@pytest.mark.parametrize(
    ("schedule", "spacing", "steps"),
    [(VP(), "karras", 24), (Flow(), "trailing", 12), (LinearBetas(steps=60), "trailing", 16)],
    ids=["vp", "flow", "chain"],
)
def test_step_by_step(name: str, schedule: Schedule, spacing: Any, steps: int) -> None:
    """To rounding, on uneven grids, where the state has unit scale and where it has not; on a chain with the stages
    at their true places. Steps are short enough for every order asked for."""
    solver, peer = PUBLISHED[name]
    levels = schedule(grid(schedule, steps, spacing).t[1:9])
    end = sample(MIXTURE, START, levels, solver, NOISE, schedule.inverse)
    close(end, peer(Published(schedule, levels), START), atol=2e-11)


@pytest.mark.parametrize("heun", [False, True], ids=["euler", "heun"])
@pytest.mark.parametrize(("s_churn", "s_noise"), [(0.0, 1.0), (4.0, 1.003), (40.0, 1.0)])
def test_the_sampler_of_edm(heun: bool, s_churn: float, s_noise: float) -> None:
    """Karras et al. 2022, algorithms 1 and 2, in sigma itself; without the correction it is Euler's method. The noise
    is that of each step's stream."""
    steps, s_min, s_max = 9, 0.01, 50.0
    levels = grid(Karras(), steps, "karras")
    sigmas = levels.sigma.tolist()
    assert sigmas[-2] < s_min < sigmas[-3] < sigmas[1] < s_max < sigmas[0]

    def told(x: Tensor, sigma: float) -> Tensor:
        level = Karras().inverse(torch.tensor(-2 * math.log(sigma), dtype=torch.float64))
        return (x - MIXTURE(x, level).x0) / sigma

    x = expected = START * levels[0].scale
    for i, (sigma, sigma_nxt) in enumerate(itertools.pairwise(sigmas)):
        gamma = min(s_churn / steps, math.sqrt(2) - 1) if s_min <= sigma <= s_max else 0
        hat = sigma + gamma * sigma
        expected = expected + math.sqrt(hat**2 - sigma**2) * s_noise * NOISE.at(i + 1).normal(x, 0)
        d = told(expected, hat)
        after = expected + (sigma_nxt - hat) * d
        if heun and sigma_nxt != 0:
            after = expected + (sigma_nxt - hat) * (d / 2 + told(after, sigma_nxt) / 2)
        expected = after
    churn = min(s_churn / steps, math.sqrt(2) - 1)
    solver = (Heun if heun else Euler)(churn=churn, churn_min=s_min, churn_max=s_max, churn_noise=s_noise)
    close(sample(MIXTURE, x, levels, solver, NOISE, Karras().inverse), expected, atol=1e-11)


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


class TestChurn:
    def spread(self, solver: Solver, schedule: Schedule, steps: int) -> float:
        """By how much the variance of x is wrong at the last level above zero noise, for data N(0, 1/4) and S_churn =
        5: a step is linear in x and its noise z, so its answers to (1, 0) and (0, 1) say what becomes of a variance."""
        levels = grid(schedule, steps, "karras")[:-1]
        data = Mixture.gaussian(torch.zeros(1), torch.tensor(0.25))
        variance = 0.25 * levels.alpha[0] ** 2 + levels.sigma[0] ** 2
        basis = Given(torch.tensor([[0.0], [1.0]], dtype=torch.float64))
        for i in range(steps - 1):
            pair = torch.tensor([[1.0], [0.0]], dtype=torch.float64)
            (a, b), _, _ = solver.step(data, pair, levels[i], levels[i + 1], basis, None, schedule.inverse)
            variance = a**2 * variance + b**2
        return abs(float(variance / (0.25 * levels.alpha[-1] ** 2 + levels.sigma[-1] ** 2)) - 1)

    @pytest.mark.parametrize("schedule", [VP(), Karras()], ids=["vp", "karras"])
    @pytest.mark.parametrize(("method", "order"), [(Euler, 1), (Heun, 2)])
    def test_the_spread_of_samples_converges(self, method: Any, order: int, schedule: Schedule) -> None:
        """At the order of the method: the noise added is that of the forward process."""
        coarse, fine = (self.spread(method(churn=5 / n), schedule, n) for n in (100, 200))
        assert math.log2(coarse / fine) == pytest.approx(order, abs=0.15)
        assert fine < 0.1

    @pytest.mark.parametrize("method", [Euler, Heun])
    def test_where_none_is_added(self, method: Any) -> None:
        """From the noisiest level, which nothing is beyond; from no signal; to no noise; outside the range of s."""
        silent, levels = Silent(range(16)), grid(VP(), 4)
        for solver, now, nxt in (
            (method(churn=0.3), VP()(1.0), VP()(0.5)),
            (method(churn=0.3), Flow()(1.0), Flow()(0.5)),
            (method(churn=0.3), VP()(0.5), VP()(0.0)),
            (method(churn=0.3, churn_min=10.0), levels[2], levels[3]),
            (method(churn=0.3, churn_max=0.1), levels[2], levels[3]),
        ):
            at = Flow().inverse if now.alpha == 0 else VP().inverse
            x, estimate, _ = solver.step(MIXTURE, START, now, nxt, silent, None, at)
            assert estimate.level == now
            assert torch.equal(x, method().step(MIXTURE, START, now, nxt, silent, None, None)[0])
        with pytest.raises(AssertionError, match="drawn"):
            method(churn=0.3).step(MIXTURE, START, levels[2], levels[3], silent, None, VP().inverse)

    @pytest.mark.parametrize("method", [Euler, Heun])
    def test_the_call_is_at_the_level_that_x_has(self, method: Any) -> None:
        now, nxt = Karras()(0.5), Karras()(0.4)
        x, estimate, _ = method(churn=0.25).step(MIXTURE, START, now, nxt, NOISE, None, Karras().inverse)
        assert float(estimate.level.sigma / now.sigma) == pytest.approx(1.25, rel=1e-9)
        close(estimate.x_t, START + 0.75 * now.sigma * NOISE.normal(START, 0), atol=1e-9)
        assert not torch.equal(x, START)

    def test_errors(self) -> None:
        levels = grid(VP(), 3)
        with pytest.raises(ValueError, match="at: churn goes to levels between those of the grid"):
            Euler(churn=0.1).step(MIXTURE, START, levels[1], levels[2], NOISE, None, None)
        for churn in (-0.1, 0.5, math.nan):
            with pytest.raises(
                ValueError, match=r"churn: expected (0 to 0.4142, S_churn / steps|a finite number), got"
            ):
                Heun(churn=churn)
