"""How fast a run's network trains and samples here, in float32 and in bf16, beside what the machine can do at most.

Training is the loop's own step: batch, loss, backward, clipping, AdamW, average. Sampling is a step of DDIM, one
evaluation of the network for each sample. The precisions are measured by turns, round after round, so that what else
the machine does meets both; a ratio is the median of the rounds' ratios.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, cast

from torch.utils.flop_counter import FlopCounterMode

from unsteep.benchmarks.machine import CEILINGS, DTYPES, Ceiling, Rate, Work, bare, rate_of
from unsteep.core.arguments import MOST_SAMPLES, MOST_STEPS, flag, number, shown, whole
from unsteep.core.machine import Machine, machine
from unsteep.core.precision import Precision
from unsteep.core.protocols import DataSet
from unsteep.denoiser import Denoiser
from unsteep.model import Model
from unsteep.opening import chosen_device
from unsteep.pages.progress import bar
from unsteep.sampling import DDIM, Step
from unsteep.starting import configured
from unsteep.storage.schema import spelled
from unsteep.training.denoising import Run
from unsteep.training.loop import train
from unsteep.training.run import read_run

What = Literal["training", "sampling"]
BATCHES = (1, 16, 64)
ROUNDS = 3
FORWARD: dict[What, int] = {"training": 3, "sampling": 1}
"""What a step costs, in forward passes: the backward pass is two of them."""


@dataclass(frozen=True)
class ByPrecision:
    """One thing's speed by precision. `gain`: bf16 over float32, round by round."""

    rates: Mapping[Precision, Rate]
    gain: Rate

    @classmethod
    def of(cls, rounds: Mapping[Precision, Sequence[float]]) -> ByPrecision:
        """Of the speeds of the rounds."""
        ratios = [half / full for full, half in zip(rounds["float32"], rounds["bf16"], strict=True)]
        return cls({precision: Rate.of(rates) for precision, rates in rounds.items()}, Rate.of(ratios))


@dataclass(frozen=True)
class Speed:
    """Examples a second of training, or network evaluations a second of sampling, at a batch size."""

    what: What
    batch: int
    found: ByPrecision


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """What was measured. `ceilings`: GFLOP/s of bare arithmetic by name; `gflop`: of one forward pass for one
    example."""

    machine: Machine
    subject: str
    network: str
    parameters: int
    gflop: float
    ceilings: Mapping[Ceiling, ByPrecision]
    speeds: Sequence[Speed]
    seconds: float

    def reached(self, speed: Speed, precision: Precision) -> float:
        """The share of the higher ceiling of a precision that the network reaches."""
        most = max(one.rates[precision].value for one in self.ceilings.values())
        return speed.found.rates[precision].value * FORWARD[speed.what] * self.gflop / most

    @property
    def verdict(self) -> list[str]:
        """What follows, in words."""
        said = []
        for what in FORWARD:
            gains = [speed.found.gain for speed in self.speeds if speed.what == what]
            ends = dict.fromkeys(f"{end(gain.value for gain in gains):.2f}" for end in (min, max))
            noisy = all(gain.low < 1 < gain.high for gain in gains)
            said.append(f"{what}: bf16 has {' to '.join(ends)} times the speed of float32{' (noise)' * noisy}")
        if self.machine.busy:
            said.append("the machine was busy: measure again when it is quiet")
        return said


def bench(
    recipe_or_run: Any = "digits",
    *,
    data: Any = None,
    settings: Iterable[str] = (),
    batches: Sequence[int] = BATCHES,
    seconds: float = 60.0,
    device: str = "auto",
    trust: bool = False,
    progress: bool = False,
) -> Benchmark:
    """Measures this machine and the network of a recipe, by its name, or of a run, itself or its path.

    `data`, `settings`: as `train` takes them. `batches`: batch sizes. `seconds`: about how long it measures; slow
    machines take longer, since everything is done once at least. ValueError for a run that trains no denoiser, and
    where anything does not fit.
    """
    number("seconds", seconds, 0.0)
    flag("progress", progress)
    if not isinstance(batches, Sequence) or isinstance(batches, str | bytes):
        raise ValueError(f"batches: expected a list of whole numbers, got {shown(batches)}; give one, as [16, 64]")
    sizes = [whole("batches", one, 1, MOST_SAMPLES) for one in batches]
    where = chosen_device(device)
    run, began = _run_of(recipe_or_run, data, settings, flag("trust", trust), where), time.monotonic()
    found, examples = machine(where), run.data.read("train")

    def made(what: What, batch: int) -> Callable[[Precision], Work]:
        changed = replace(run, train=replace(run.train, batch=batch, accumulate=1))
        return lambda precision: WORKS[what](changed, examples, where, precision, trust)

    gflop = _gflop(made("sampling", 1)("float32"))
    cells: list[tuple[What, int]] = [(what, batch) for what in FORWARD for batch in sizes]
    kinds = {kind: partial(bare, kind, where) for kind in CEILINGS}
    turns = ROUNDS * (len(cells) + len(kinds))
    share = seconds / turns / len(DTYPES)
    with bar(progress, turns, "measuring") as advance:
        most = {kind: by_turns(work, share, where, advance) for kind, work in kinds.items()}
        speeds = [Speed(what, batch, by_turns(made(what, batch), share, where, advance)) for what, batch in cells]
    return Benchmark(
        machine=found,
        subject=str(recipe_or_run) if isinstance(recipe_or_run, str | Path) else type(run).__name__,
        network=spelled(type(run.model.network)),
        parameters=sum(p.numel() for p in run.describe(examples).build().network.parameters()),
        gflop=gflop,
        ceilings=most,
        speeds=speeds,
        seconds=time.monotonic() - began,
    )


def by_turns(
    made: Callable[[Precision], Work], seconds: float, device: str, advance: Callable[[], object]
) -> ByPrecision:
    """The speed of some work in each precision. The first call, which allocates, is not counted."""
    with warnings.catch_warnings(action="ignore", category=UserWarning):  # that one of them is slow: it will be seen
        works = {precision: made(precision) for precision in DTYPES}
    for work in works.values():
        work()
    rounds: dict[Precision, list[float]] = {precision: [] for precision in DTYPES}
    for _ in range(ROUNDS):
        for precision, work in works.items():
            rounds[precision].append(rate_of(work, seconds, device))
        advance()
    return ByPrecision.of(rounds)


def training(run: Run, data: DataSet, device: str, precision: Precision, trust: bool) -> Work:
    """Steps of the training loop, counted in examples."""
    run = replace(run, train=replace(run.train, precision=precision, steps=MOST_STEPS))
    records = train(run.made(data, device, trust), run.train)

    def step() -> float:
        next(records)
        return run.train.batch

    return step


def sampling(run: Run, data: DataSet, device: str, precision: Precision, trust: bool) -> Work:
    """Steps of DDIM under the conditions of a training batch, counted in evaluations of the network."""
    task = run.made(data, device, trust)
    batch, _ = next(iter(task.parts(0)))
    model = Model(cast(Denoiser, task.state.ema.module), task.description).to(precision=precision)

    def walks() -> Iterator[Step]:
        while True:
            yield from model.trajectory(0, len(batch.x), batch.condition, solver=DDIM())

    steps = walks()

    def step() -> float:
        next(steps)
        return len(batch.x)

    return step


WORKS = {"training": training, "sampling": sampling}


def _gflop(step: Work) -> float:
    """GFLOP of one forward pass for one example, by what one step of sampling did."""
    with FlopCounterMode(display=False) as counter:
        done = step()
    return counter.get_total_flops() / 1e9 / done


def _run_of(recipe_or_run: Any, data: Any, settings: Iterable[str], trust: bool, device: str) -> Run:
    """What is measured: a recipe's run, one that is given, or that of a folder."""
    folder = isinstance(recipe_or_run, str | Path) and (Path(recipe_or_run) / "run.toml").exists()
    given = read_run(Path(recipe_or_run), trust=trust) if folder else recipe_or_run
    run = configured(given, data, settings, trust="typed", device=device)
    if not isinstance(run, Run):
        raise ValueError(f"recipe_or_run: expected one that trains a denoiser, got {type(run).__name__}; name another")
    return replace(run, start_from="")  # weights do not matter
