"""What a machine is and what it can do at most: its processor's instructions, and the speed of bare arithmetic.

The two ceilings are a product of square matrices and a 3x3 convolution as a U-Net has it, in GFLOP/s: what networks
reach is held against them, and a precision that they show to be slow is slow for networks, too.
"""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F

from unsteep import __version__
from unsteep.core.precision import Precision

Work = Callable[[], float]
Ceiling = Literal["matrix product", "3x3 convolution"]
CEILINGS: tuple[Ceiling, ...] = get_args(Ceiling)
DTYPES: Mapping[Precision, torch.dtype] = {"float32": torch.float32, "bf16": torch.bfloat16}
SIDE = 768  # of the matrices
PICTURES, CHANNELS, SIZE = 16, 64, 32  # of the convolution
BUSY = 0.5  # load a core, from which timings say little


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Where something was measured. `load`: processes that wanted to run in the last minute, where the system tells;
    `bf16`: whether it has instructions for bf16."""

    device: str
    processor: str
    cores: int
    threads: int
    instructions: str
    bf16: bool
    load: float | None
    torch: str
    unsteep: str
    python: str

    @property
    def busy(self) -> bool:
        """Whether others were using the processor, so that timings say little."""
        return self.load is not None and self.load > BUSY * self.cores

    @property
    def facts(self) -> list[tuple[str, str]]:
        """Names and what to say, for a page or a terminal."""
        load = "unknown" if self.load is None else f"{self.load:.1f}{', busy: mind the ranges' if self.busy else ''}"
        return [
            ("device", self.device),
            ("processor", f"{self.processor}, {self.cores} cores, threads used: {self.threads}"),
            ("instructions", f"{self.instructions}, {'with' if self.bf16 else 'no'} bf16"),
            ("load before", load),
            ("versions", f"unsteep {self.unsteep}, torch {self.torch}, Python {self.python}"),
        ]


def machine(device: str = "cpu") -> Machine:
    """This machine, as it is now."""
    accelerated = device.partition(":")[0] != "cpu"
    named = torch.cuda.get_device_name(device) if device.startswith("cuda") else device
    return Machine(
        device=f"{device} ({named})" if named != device else device,
        processor=_processor(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        threads=torch.get_num_threads(),
        instructions=torch.backends.cpu.get_cpu_capability(),
        bf16=_accelerator_has_bf16(device) if accelerated else bool(torch.ops.mkldnn._is_mkldnn_bf16_supported()),
        load=os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        torch=torch.__version__,
        unsteep=__version__,
        python=platform.python_version(),
    )


def _accelerator_has_bf16(device: str) -> bool:
    return device.startswith("cuda") and torch.cuda.is_bf16_supported(including_emulation=False)


def _processor() -> str:
    """Its name, as the system tells it."""
    listed = Path("/proc/cpuinfo")
    if listed.exists():
        for line in listed.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def settled(device: torch.device | str) -> None:
    """Waits until a device has done what it was given; at once on the CPU, which does it as it is asked."""
    kind = torch.device(device).type
    if kind != "cpu":
        torch.get_device_module(kind).synchronize()


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
