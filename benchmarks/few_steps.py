"""Which way to few steps, where the answer is known? `python benchmarks/few_steps.py [plane digits] [--seeds 3]`

Students of every method learn from exact fields: of nine unequal Gaussians in the plane, and of the class-conditional
density of scikit-learn's digits, a Gaussian of standard deviation 0.12 around each. All start from the same trained
denoiser and take as long as it, counted in steps of the plain one. Two numbers tell how near their samples are at 1, 2
and 4 calls, from the same noise:

    energy    the energy distance to exact samples, with the floor of exact samples among themselves
    map       the root mean square, by coordinate, to where the exact flow leads from that noise

Prints a table for each density, mean and range over the seeds: some 15 minutes of a CPU core.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from unsteep.analytic import Mixture
from unsteep.core.condition import Condition
from unsteep.core.maps import Maps
from unsteep.core.noise import Draw, NoiseSource
from unsteep.core.schedules import Cosine, Schedule
from unsteep.data import Digits
from unsteep.data.batch import Batch
from unsteep.denoiser import Conditioned, Denoiser
from unsteep.distill import METHODS, Method
from unsteep.evaluation.quality import energy_distance
from unsteep.networks import MLPConfig
from unsteep.networks.wrapping import load_weights, weights_of
from unsteep.objectives import Simple
from unsteep.sampling import DDIM, Heun, grid, sample
from unsteep.training.loop import Parts, State, train
from unsteep.training.settings import TrainConfig

CALLS = (1, 2, 4)
ANSWER = 60  # steps of Heun to where the exact flow leads
WIDE = 0.12  # of the density around each digit


@dataclass(frozen=True, eq=False)
class Known:
    """A density whose field is known, the network that learns it, and how: `steps` of the plain denoiser, which the
    students take again."""

    density: Mixture
    network: MLPConfig
    steps: int
    batch: int
    schedule: Schedule = field(default_factory=Cosine)

    @property
    def classes(self) -> int:
        return self.network.labels

    def condition(self, n: int, seed: int) -> Condition | None:
        """Classes as often as the density has them; None where it has none."""
        if not self.classes:
            return None
        u = NoiseSource(range(seed, seed + n), -3).uniform(torch.empty(n, 1, dtype=torch.float64), 0).squeeze(1)
        assert self.density.labels is not None
        label = self.density.labels[(u * len(self.density.labels)).long()]
        return Condition({"label": label}, nulls={"label": torch.tensor([-1])})

    def examples(self, n: int, seed: int) -> Batch:
        """Exact samples of the seeds seed .. seed + n - 1."""
        condition = self.condition(n, seed)
        return Batch(self.density.sample(n, seed, condition).float(), condition, torch.arange(n))

    def config(self, steps: int, seed: int) -> TrainConfig:
        """How all learn."""
        warmup, rate = min(50, steps // 10), 2e-3
        of = TrainConfig(steps=steps, batch=self.batch, learning_rate=rate, warmup=warmup, ema=0.98, seed=seed)
        return replace(of, final_learning_rate=rate / 100)


def plane(steps: int = 1000) -> Known:
    """Nine unequal Gaussians."""
    places = torch.cartesian_prod(torch.linspace(-1, 1, 3), torch.linspace(-1, 1, 3))
    density = Mixture(places, torch.full((9,), 0.08**2), torch.arange(1, 10).float())
    return Known(density, MLPConfig(features=2, width=64, depth=3), steps, batch=256)


def digits(steps: int = 1000) -> Known:
    """The digits, by class."""
    data = Digits(holdout=0.0).read("train")
    rows = data.rows(torch.arange(len(data)))
    x = rows.x.flatten(1).double() / 127.5 - 1
    density = Mixture(x, torch.full((len(x),), WIDE**2), labels=rows.label)
    return Known(density, MLPConfig(features=64, width=128, depth=3, labels=10), steps, batch=128)


class Learning:
    """A student on its way, for `training.loop.train`."""

    def __init__(self, of: Known, config: TrainConfig, states: Mapping[str, State]) -> None:
        self.of, self.config, self.trained, self.step = of, config, states, 0

    def turn(self, step: int) -> str:
        turn = getattr(self.trained["model"].objective, "turn", None)
        return "model" if turn is None else str(turn(step))

    def parts(self, step: int) -> Parts:
        b = self.config.batch
        yield (
            self.of.examples(b, (self.config.seed * 10_000 + step) * b),
            Draw(self.config.seed, step, torch.arange(b), b),
        )


def denoiser(of: Known, seed: int) -> Denoiser:
    torch.manual_seed(seed)
    return Denoiser(replace(of.network, nxt=True).build(), of.schedule, "v", maps=True)


def learned(of: Known, objective: Any, begin: Denoiser, steps: int, seed: int) -> Denoiser:
    """What `begin` becomes by an objective, averaged; one that has a teacher is taught by the exact field."""
    config, module = of.config(steps, seed), denoiser(of, seed)
    load_weights(module, weights_of(begin))
    states = {"model": State(module, config, objective)}
    for name, own in getattr(objective, "beside", {}).items():
        beside = denoiser(of, seed)
        load_weights(beside, weights_of(begin))
        states[name] = State(beside, config, own)
    for state in states.values():
        if hasattr(state.objective, "meets"):
            state.objective.meets({name: one.module for name, one in states.items()})
        if hasattr(state.objective, "follow"):
            state.objective.follow(of.density)
    for _ in train(Learning(of, config, states), config):
        pass
    found = states["model"].ema.module
    assert isinstance(found, Denoiser)
    return found


class Judge:
    """Exact samples, and where the exact flow leads from the noise that all begin with."""

    def __init__(self, of: Known, n: int) -> None:
        self.of, self.n = of, n
        self.noise = NoiseSource(range(n))
        self.condition = of.condition(n, 5_000_000)
        self.begin = self.noise.normal(torch.empty(n, *of.density.shape), 0)
        self.exact = of.density.sample(n, 6_000_000, self.condition)

    @cached_property
    def ends(self) -> Tensor:
        """Of the exact flow."""
        return self.drawn(self.of.density, ANSWER, Heun())

    @property
    def floor(self) -> float:
        """The energy distance of exact samples to others."""
        return energy_distance(self.of.density.sample(self.n, 7_000_000, self.condition), self.exact).value

    def drawn(self, denoise: Any, steps: int, solver: Any) -> Tensor:
        levels = grid(self.of.schedule, steps)
        begin = self.begin * levels[0].scale
        return sample(Conditioned(denoise, self.condition), begin, levels, solver, self.noise, self.of.schedule.inverse)

    def of_calls(self, denoise: Any, calls: int) -> tuple[float, float]:
        """(energy, map) of so many DDIM steps."""
        found = self.drawn(denoise, calls, DDIM()).double()
        return energy_distance(found, self.exact).value, float((found - self.ends).square().mean().sqrt())


def measured(of: Known, method: Method, begin: Denoiser, seed: int, judge: Judge) -> dict[int, tuple[float, float]]:
    """(energy, map) by calls of the students of one method: one for all calls, or one for each number of them."""
    found, kind = {}, METHODS[method]
    steps = max(1, round(of.steps / kind.cost))
    several = kind.suited(CALLS[-1], steps, None)
    student = None
    for calls in CALLS:
        if student is None or not _any(several.maps):
            student = learned(of, kind.suited(calls, steps, None), begin, steps, seed)
        found[calls] = judge.of_calls(student, calls)
    return found


def _any(maps: Maps) -> bool:
    """Whether one student does for all numbers of calls."""
    return all(maps.knows(calls) for calls in CALLS)


def rows(of: Known, seeds: int, n: int, methods: list[Method], say: Callable[[str], None]) -> Iterator[tuple[str, Any]]:
    """(name, values by calls over the seeds) of the beginning, of it trained as long again, and of each method."""
    judge = Judge(of, n)
    begins = [learned(of, Simple(), denoiser(of, seed), of.steps, seed) for seed in range(seeds)]
    yield "exact field", {calls: [judge.of_calls(of.density, calls)] for calls in CALLS}
    yield "the beginning", {calls: [judge.of_calls(one, calls) for one in begins] for calls in CALLS}
    longer = [learned(of, Simple(), one, of.steps, seed + 100) for seed, one in enumerate(begins)]
    yield "as long again", {calls: [judge.of_calls(one, calls) for one in longer] for calls in CALLS}
    for method in methods:
        say(method)
        each = [measured(of, method, one, seed, judge) for seed, one in enumerate(begins)]
        yield method, {calls: [one[calls] for one in each] for calls in CALLS}
    yield "floor", {calls: [(judge.floor, 0.0)] for calls in CALLS}


def brief(values: list[float]) -> str:
    """The mean, and the range over the seeds."""
    mean = sum(values) / len(values)
    return f"{mean:.4f}" if len(values) == 1 else f"{mean:.4f} [{min(values):.4f}, {max(values):.4f}]"


DENSITIES = {"plane": plane, "digits": digits}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("densities", nargs="*", default=list(DENSITIES), metavar="DENSITY", help="plane, digits")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=1000, help="of the plain denoiser; methods take as long")
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    chosen = parser.parse_args()
    console = Console(width=160)
    for name in chosen.densities:
        of = DENSITIES[name](chosen.steps)
        columns = [f"{what}, {calls}" for what in ("energy", "map") for calls in CALLS]
        table = Table("", *columns, title=f"{name}: {chosen.samples} samples, {chosen.seeds} seeds", box=None)
        for row, found in rows(of, chosen.seeds, chosen.samples, chosen.methods, console.print):
            table.add_row(row, *(brief([one[i] for one in found[calls]]) for i in (0, 1) for calls in CALLS))
        console.print(table)


if __name__ == "__main__":
    main()
