"""What a machine is: its processor and instructions, its load, and what this process has taken of its memory."""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import torch

from unsteep.core import budget

BUSY = 0.5  # load a core, from which timings say little


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Where something was measured. `load`: processes that wanted to run in the last minute, where the system tells;
    `bf16`: whether it has instructions for bf16."""

    host: str
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
    def brief(self) -> str:
        """In a line: the device and what it can do."""
        if self.device.partition(":")[0].partition(" ")[0] != "cpu":
            return f"{self.device}, {'with' if self.bf16 else 'no'} bf16"
        return (
            f"CPU, {self.processor}, {self.threads} of {self.cores} cores, {self.instructions}, "
            f"{'with' if self.bf16 else 'no'} bf16"
        )

    @property
    def versions(self) -> str:
        """Of what computes."""
        return f"unsteep {self.unsteep}, torch {self.torch}, Python {self.python}"

    @property
    def facts(self) -> list[tuple[str, str]]:
        """Names and what to say, for a page or a terminal."""
        load = "unknown" if self.load is None else f"{self.load:.1f}{', busy: mind the ranges' if self.busy else ''}"
        return [
            ("device", self.device),
            ("processor", f"{self.processor}, {self.cores} cores, threads used: {self.threads}"),
            ("instructions", f"{self.instructions}, {'with' if self.bf16 else 'no'} bf16"),
            ("load before", load),
            ("versions", self.versions),
        ]


def machine(device: str = "cpu") -> Machine:
    """This machine, as it is now."""
    accelerated = device.partition(":")[0] != "cpu"
    named = torch.cuda.get_device_name(device) if device.startswith("cuda") else device
    return Machine(
        host=platform.node(),
        device=f"{device} ({named})" if named != device else device,
        processor=_processor(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        threads=torch.get_num_threads(),
        instructions=torch.backends.cpu.get_cpu_capability(),
        bf16=_accelerator_has_bf16(device) if accelerated else bool(torch.ops.mkldnn._is_mkldnn_bf16_supported()),
        load=os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        torch=torch.__version__,
        unsteep=version("unsteep"),
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


def peak_memory(device: torch.device | str = "cpu") -> int | None:
    """The most memory in use so far, bytes: of the device, or of this process on the CPU. None where nobody tells."""
    kind = torch.device(device).type
    if kind == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if kind != "cpu":
        return None
    try:
        import resource
    except ImportError:  # Windows
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def memory_now(device: torch.device | str = "cpu") -> int | None:
    """The memory in use now, bytes: of the device, or of this process on the CPU. None where nobody tells."""
    kind = torch.device(device).type
    if kind == "cuda":
        return torch.cuda.memory_allocated(device)
    if kind != "cpu":
        return None
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:  # no Linux: at least not less
        return peak_memory(device)
    return pages * os.sysconf("SC_PAGE_SIZE")


def memory_of(device: torch.device | str = "cpu") -> int | None:
    """What may be used, bytes: of the device, or of this machine (see `core.budget`). None where nobody tells."""
    kind = torch.device(device).type
    if kind == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return budget.memory() if kind == "cpu" else None


def give_back() -> None:
    """Gives the system what was freed and is kept for the next: on glibc, which does so for each thread. Elsewhere
    nothing."""
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)


def settled(device: torch.device | str) -> None:
    """Waits until a device has done what it was given; at once on the CPU, which does it as it is asked."""
    kind = torch.device(device).type
    if kind != "cpu":
        torch.get_device_module(kind).synchronize()
