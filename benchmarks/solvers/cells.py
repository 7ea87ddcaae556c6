"""Cells of the benchmark: one solver on one task, chain and number of calls."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from solvers import ours, peers
from solvers.problems import Task
from unsteep.core.chains import Chain
from unsteep.core.estimate import Estimate, Prediction
from unsteep.core.level import NoiseLevel
from unsteep.denoiser import Denoise
from unsteep.pages.files import write_json


@dataclass(frozen=True)
class Cell:
    """`median` and `p90` over samples of the RMS distance per element to the exact answer, `flips` the share of samples
    in another basin. `asked`: the calls made, at most `calls`. A solver without a finite answer has no cell."""

    task: str
    chain: str
    calls: int
    side: Literal["unsteep", "diffusers"]
    solver: str
    asked: int
    median: float
    p90: float
    flips: float


@dataclass(frozen=True)
class Set:
    """Tasks on one chain, n samples of each, with their exact answers."""

    tasks: Sequence[Task]
    chain: Chain
    n: int
    seed: int
    cache: Path

    @property
    def name(self) -> str:
        """The chain's."""
        return type(self.chain).__name__

    @cached_property
    def starts(self) -> list[Tensor]:
        """The noise of each task."""
        return [task.start(self.n, self.seed) for task in self.tasks]

    @cached_property
    def answers(self) -> list[tuple[Tensor, Tensor]]:
        """The exact end of each task, and its basins."""
        ends = [task.exact(self.chain, self.n, self.seed, self.cache) for task in self.tasks]
        return [(end, task.basin(end)) for task, end in zip(self.tasks, ends, strict=True)]

    def cell(
        self, place: int, calls: int, side: Literal["unsteep", "diffusers"], name: str, asked: int, x: Tensor
    ) -> list[Cell]:
        """What came of x (n, *shape), the end that a solver found for the task at `place`: one cell, or none."""
        task, (exact, basins) = self.tasks[place], self.answers[place]
        if not bool(x.isfinite().all()):
            return []
        error = (x - exact).double().square().flatten(1).mean(1).sqrt()
        flips = (task.basin(x.to(exact)) != basins).double().mean()
        numbers = (float(value) for value in (error.median(), error.quantile(0.9), flips))
        return [Cell(task.name, self.name, calls, side, name, asked, *numbers)]


class Counted:
    """A denoiser that counts how often it is asked."""

    def __init__(self, denoise: Denoise) -> None:
        self.denoise, self.asked = denoise, 0

    def __call__(self, x_t: Tensor, level: NoiseLevel) -> Estimate:
        self.asked += 1
        return self.denoise(x_t, level)


class Together:
    """Every task of a set as one batch of one row, as diffusers' schedulers treat all numbers alike and their own cost
    is then paid once. Called as a network is: (x, level, kind)."""

    def __init__(self, tasks: Set) -> None:
        self.shapes = [start.shape for start in tasks.starts]
        self.denoisers = [task.denoise(tasks.n) for task in tasks.tasks]
        self.asked = 0

    def __call__(self, x: Tensor, level: NoiseLevel, kind: Prediction) -> Tensor:
        self.asked += 1
        parts = zip(self.denoisers, self.split(x), strict=True)
        return self.join([denoise(part, level).as_(kind) for denoise, part in parts])

    def join(self, parts: Sequence[Tensor]) -> Tensor:
        """(n, *shape) of each task as (1, all)."""
        return torch.cat([part.reshape(1, -1) for part in parts], 1)

    def split(self, x: Tensor) -> list[Tensor]:
        """(1, all) as (n, *shape) of each task."""
        parts = x.split([math.prod(shape) for shape in self.shapes], 1)
        return [part.reshape(shape) for part, shape in zip(parts, self.shapes, strict=True)]


def our_cells(tasks: Set, calls: Iterable[int], names: Sequence[str], snapped: bool) -> list[Cell]:
    """The cells of unsteep, on the interpolated chain, or with levels snapped to the chain's own."""
    schedule = tasks.chain if snapped else tasks.chain.interpolated()
    cells = []
    for place, task in enumerate(tasks.tasks):
        for mine in ours.ours(task.frame(tasks.n), task.atoms, names, task.scale or 1.0):
            for most in calls:
                counted = Counted(task.denoise(tasks.n))
                x = ours.run(mine, schedule, counted, tasks.starts[place], most)
                if x is not None:
                    cells += tasks.cell(place, most, "unsteep", mine.name, counted.asked, x)
    return cells


def peer_cells(tasks: Set, calls: Iterable[int], chosen: Sequence[peers.Peer]) -> list[Cell]:
    """The cells of diffusers, kept in the cache."""
    import diffusers

    prints = "".join(task.fingerprint(tasks.n, tasks.seed) for task in tasks.tasks)
    key = hashlib.sha256(f"{diffusers.__version__} {tasks.chain} {prints}".encode()).hexdigest()[:16]
    path = tasks.cache / f"diffusers-{tasks.name}-{key}.json"
    kept: dict[str, list[dict[str, object]]] = json.loads(path.read_text()) if path.exists() else {}
    together = Together(tasks)
    start = together.join(tasks.starts)
    cells = []
    for peer in chosen:
        names = {most: f"{peer.name} {most}" for most in calls}
        if not names.keys() <= {most for most, name in names.items() if name in kept}:
            for most, name in names.items():
                if name not in kept:
                    kept[name] = [asdict(cell) for cell in _peer_cells(tasks, together, start, peer, most)]
            write_json(kept, path)
        cells += [Cell(**cell) for name in names.values() for cell in kept[name]]  # type: ignore[arg-type]
    return cells


def _peer_cells(tasks: Set, together: Together, start: Tensor, peer: peers.Peer, most: int) -> list[Cell]:
    together.asked = 0
    try:
        x = peers.run(peer, tasks.chain, together, start, most)
    except IndexError:  # grids of its own making that ask for one time too often
        return []
    if x is None:
        return []
    cells = []
    for place, part in enumerate(together.split(x)):
        cells += tasks.cell(place, most, "diffusers", peer.name, together.asked, part)
    return cells
