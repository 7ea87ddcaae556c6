"""Networks compiled by `torch.compile`: the same values to rounding, and fewer passes over memory.

A network is compiled in its place, so its weights keep their names, and copies of it are not compiled. Dropout draws as
it does uncompiled. On CUDA the kernels are recorded as graphs, which are replayed. Compiling takes a minute, and a C++
compiler on a CPU, Triton on CUDA; the next process finds what was compiled in a folder.
"""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from unsteep.core.arguments import choice
from unsteep.networks.forward_mode import in_forward_mode
from unsteep.networks.wrapping import networks_in

Asked = Literal["off", "auto", "on"]
FOLDER = "TORCHINDUCTOR_CACHE_DIR"  # where torch keeps what it compiled
WORTH = 1200.0  # seconds of training, of which compiling saves about a fifth and costs about a minute
GRAPHS = "triton.cudagraphs"


@dataclass(frozen=True)
class Taken:
    """Whether a network is compiled, and why, in words."""

    compiled: bool
    why: str = ""

    def __str__(self) -> str:
        return f"{'on' if self.compiled else 'off'}{': ' * bool(self.why)}{self.why}"


def decided(asked: Asked, device: torch.device | str, seconds: Callable[[], float] | None = None) -> Taken:
    """Whether to compile for a device. "auto": where that is possible, and `seconds` of work, if they are told, are
    enough to win back what it costs. ValueError for "on" where it is not possible."""
    choice("compile", asked, get_args(Asked))
    if asked == "off":
        return Taken(False)
    lacking = lacks(torch.device(device))
    if lacking and asked == "on":
        raise ValueError(f"compile: {lacking}; set it to off, or to auto, which does without")
    if lacking:
        return Taken(False, lacking)
    if asked == "auto" and seconds is not None and (work := seconds()) < WORTH:
        return Taken(False, f"too little to do, {work / 60:.1f} minutes, to win back what compiling takes")
    return Taken(True)


def lacks(device: torch.device) -> str:
    """What is missing to compile for a device, in words; empty where nothing is."""
    if device.type == "cpu":
        from torch._inductor.cpp_builder import get_cpp_compiler

        try:
            get_cpp_compiler()
        except Exception as error:  # whatever it looked for and did not find
            return f"no C++ compiler was found ({_in_a_line(error)})"
        return ""
    if device.type == "cuda":
        from torch.utils._triton import has_triton

        return "" if has_triton() else "no Triton was found, or the GPU is too old for it"
    return f"torch does not compile for {device.type}"


def options(device: torch.device) -> dict[str, Any]:
    """What the compiler is told for a device."""
    return {"fallback_random": True, **({GRAPHS: True} if device.type == "cuda" else {})}


def compile_in(module: nn.Module, decision: Taken, cache: Path | None = None) -> None:
    """Compiles the networks within a module for the mode that it is in, training or not, when they are first called; or
    undoes it. `cache`: the folder in which what was compiled is kept, unless the environment names one."""
    if decision.compiled and cache is not None:
        os.environ.setdefault(FOLDER, str(cache))
    for network in networks_in(module):
        network._compiled_call_impl = Compiled(network) if decision.compiled else None  # as nn.Module.compile does


class Compiled:
    """What is called in the place of a network, in the mode that it is in now. Where compiling fails, the network runs
    as it is, with a warning. `seconds`: what first calls took, which compile."""

    def __init__(self, network: nn.Module) -> None:
        self.network, self.training, self.seconds = network, network.training, 0.0
        self._options = options(next(network.parameters(), torch.empty(0)).device)
        self._call = torch.compile(network._call_impl, options=self._options)
        self._first = {True, False}  # with gradients and without

    def __call__(self, *given: Any, **named: Any) -> Tensor:
        network, began = self.network, time.perf_counter()
        if network.training != self.training or in_forward_mode():
            return network._call_impl(*given, **named)
        try:
            answer: Tensor = self._call(*given, **named)
        except (torch._dynamo.exc.TorchDynamoException, torch._inductor.exc.InductorError) as error:
            warnings.warn(f"compile: failed, and the network runs as it is ({_in_a_line(error)})", stacklevel=2)
            network._compiled_call_impl = None
            return network._call_impl(*given, **named)
        if torch.is_grad_enabled() in self._first:
            self._first.remove(torch.is_grad_enabled())
            self.seconds += time.perf_counter() - began
        return answer.clone() if GRAPHS in self._options else answer  # the next replay writes over it

    def of(self, network: nn.Module) -> Compiled:
        """The same for a copy of the network, which is compiled no second time."""
        return Compiled(network)


def seconds_in(module: nn.Module) -> float:
    """What compiling the networks within a module took so far."""
    calls = (network._compiled_call_impl for network in networks_in(module))
    return sum(call.seconds for call in calls if isinstance(call, Compiled))


def _in_a_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
