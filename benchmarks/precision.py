"""What does half precision bring here? `python benchmarks/precision.py`, a few minutes on one core

Three U-Nets: the digits recipe's, one of 1.6 million weights for grey 32x32 pictures, and the published one for
CIFAR-10. A step of training, and a call of sampling with weights held in half precision, or cast at each call; in
float32 and in half precision by turns, in CPU seconds of one thread. The table has medians, the ratio to float32, and
what `auto` would take.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, get_args

import torch

from unsteep.core.chains import LinearBetas
from unsteep.core.noise import Draw
from unsteep.core.precision import Precision
from unsteep.data.batch import Batch
from unsteep.denoiser import Denoiser
from unsteep.networks import UNetConfig
from unsteep.networks.precision import decided, held
from unsteep.objectives import Simple
from unsteep.recipes import RECIPES
from unsteep.spaces import Pixels
from unsteep.training.loop import Single, State, train
from unsteep.training.settings import TrainConfig

CASES: dict[str, tuple[Any, Pixels, int, tuple[int, ...], int]] = {
    "digits": (RECIPES["digits"]("").model.network, Pixels(channels=1, size=8), 64, (1, 64), 15),
    "small": (UNetConfig(width=32, multipliers=(1, 2, 2)), Pixels(channels=1, size=32), 32, (1, 64), 7),
    "cifar-10": (UNetConfig(width=128, multipliers=(1, 2, 2, 2)), Pixels(channels=3, size=32), 8, (1, 64), 3),
}
"""By name: the network, the data's space, the batch in training, those in sampling, and how often each is timed."""


def by_turns(calls: dict[str, Callable[[], object]], times: int) -> dict[str, float]:
    """The median CPU seconds of each, after a first call that is not counted."""
    spent: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(times + 1):
        for name, call in calls.items():
            began = time.process_time()
            call()
            if turn:
                spent[name].append(time.process_time() - began)
    return {name: statistics.median(one) for name, one in spent.items()}


def training(config: Any, space: Pixels, rows: int, half: Precision) -> dict[str, Callable[[], object]]:
    """A step in each precision."""

    def steps(precision: Precision) -> Iterator[object]:
        of = TrainConfig(steps=1000, batch=rows, precision=precision)
        state = State(fresh(config, space), of, Simple(), space.shape)
        index = torch.arange(rows)
        batch = Batch(torch.randn(rows, *space.shape), None, index)
        return train(Single(state, lambda step: [(batch, Draw(0, step, index, rows))]), of)

    return {one: partial(next, steps(one)) for one in ("float32", half)}


def sampling(config: Any, space: Pixels, rows: int, half: Precision) -> dict[str, Callable[[], object]]:
    """A call in float32, in half precision, and with weights held in it."""
    full, cast = (fresh(config, space, one).eval().requires_grad_(False) for one in ("float32", half))
    x, level = torch.randn(rows, *space.shape), LinearBetas()(0.5)

    @torch.no_grad()
    def call(denoiser: Denoiser) -> None:
        denoiser(x, level)

    return {"float32": partial(call, full), f"{half}, cast": partial(call, cast), half: partial(call, held(cast))}


def fresh(config: Any, space: Pixels, precision: Precision = "float32") -> Denoiser:
    """An untrained denoiser of unconditional pictures."""
    torch.manual_seed(0)
    return Denoiser(config.fitted(space, 1, {}).build(), LinearBetas(), precision=precision)


def main() -> None:
    """The table, in Markdown."""
    parser = argparse.ArgumentParser(description="Half precision against float32, in training and sampling.")
    parser.add_argument("--half", choices=[one for one in get_args(Precision) if one != "float32"], default="bf16")
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES))
    asked = parser.parse_args()
    torch.set_num_threads(1)
    native = torch.ops.mkldnn._is_mkldnn_bf16_supported()
    print(f"torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}, bf16 in oneDNN: {native}\n")
    print(f"| network | what | float32 | {asked.half} | ratio | ratio, weights cast at each call | auto |")
    print("|---|---|---|---|---|---|---|")
    for name in asked.only:
        config, space, batch, sampled, times = CASES[name]
        for what, rows in (("training", batch), *(("sampling", rows) for rows in sampled)):
            one = by_turns((training if what == "training" else sampling)(config, space, rows, asked.half), times)
            ratio, auto = (
                one["float32"] / one[asked.half],
                decided("auto", fresh(config, space), "cpu", space.shape, rows),
            )
            cast = f"{one['float32'] / one[f'{asked.half}, cast']:.2f}" if what == "sampling" else ""
            seconds = f"{1e3 * one['float32']:.4g} ms | {1e3 * one[asked.half]:.4g} ms | {ratio:.2f} | {cast}"
            print(f"| {name} | {what}, batch {rows} | {seconds} | {auto} |", flush=True)


if __name__ == "__main__":
    main()
