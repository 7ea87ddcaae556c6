"""What a machine is and what it can do at most: its processor's instructions, and the speed of bare arithmetic.

The two ceilings are a product of square matrices and a 3x3 convolution as a U-Net has it, in GFLOP/s: what networks
reach is held against them, and a precision that they show to be slow is slow for networks, too.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F

from unsteep.core.machine import settled
from unsteep.core.precision import Precision

Work = Callable[[], float]
Ceiling = Literal["matrix product", "3x3 convolution"]
CEILINGS: tuple[Ceiling, ...] = get_args(Ceiling)
DTYPES: Mapping[Precision, torch.dtype] = {"float32": torch.float32, "bf16": torch.bfloat16}
SIDE = 768  # of the matrices
PICTURES, CHANNELS, SIZE = 16, 64, 32  # of the convolution


def rate_of(work: Work, seconds: float, device: torch.device | str = "cpu") -> float:
    """How much is done a second by work that says how much each call did: called for `seconds`, once at least."""
    done, began = 0.0, time.perf_counter()
    while True:
        done += work()
        settled(device)
        if (taken := time.perf_counter() - began) >= seconds:
            return done / taken


@dataclass(frozen=True)
class Rate:
    """A speed: the median of some rounds, and the slowest and the fastest of them."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, rounds: Sequence[float]) -> Rate:
        """Of the speeds of the rounds, one at least."""
        return cls(statistics.median(rounds), min(rounds), max(rounds))


def bare(kind: Ceiling, device: str, precision: Precision) -> Work:
    """Bare arithmetic, counted in GFLOP."""
    how: dict[str, Any] = {"device": device, "dtype": DTYPES[precision]}
    if kind == "matrix product":
        a, b = (torch.full((SIDE, SIDE), 0.01, **how) for _ in range(2))
        run, flop = (lambda: torch.mm(a, b)), 2 * SIDE**3
    else:
        x = torch.full((PICTURES, CHANNELS, SIZE, SIZE), 0.01, **how)
        kernel = torch.full((CHANNELS, CHANNELS, 3, 3), 0.01, **how)
        run, flop = (lambda: F.conv2d(x, kernel, padding=1)), 2 * 9 * PICTURES * CHANNELS**2 * SIZE**2

    def work() -> float:
        run()
        return flop / 1e9

    return work
