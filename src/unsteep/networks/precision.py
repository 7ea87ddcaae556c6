"""Which precision a module's networks take, and how they are held in it.

Whether half precision is the faster one depends on the processor and on the size of the work: without instructions for
it, it is 5 to 28 times slower, and the smallest batches of small networks spend more on casts than they gain. `decided`
measures, in about 10 ms.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, TypeVar, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unsteep.core.arguments import choice
from unsteep.core.precision import HALF, Precision, arithmetic

Asked = Literal["float32", "bf16", "fp16", "auto"]
M = TypeVar("M")

MARGIN = 1.1  # how much faster half precision must be to be taken
SECONDS = 0.01  # spent on measuring
OPERATIONS = 60e6  # of the block that is measured, at most
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
PRODUCTS = (nn.Linear, *CONVOLUTIONS)


def run_in(module: nn.Module, precision: Precision) -> None:
    """Gives a precision to all in a module that keep theirs as `precision`, wrapped or not. ValueError where none
    does."""
    keep = [one for one in module.modules() if getattr(one, "precision", None) in get_args(Precision)]
    if not keep and precision != "float32":
        raise ValueError(f"precision: {type(module).__name__} runs in float32 alone, got {precision}; leave it out")
    for one in keep:
        one.precision = precision  # type: ignore[assignment]  # of a module's own attribute


def held(module: M) -> M:
    """A module that runs in half precision with the weights of its products held in it, for many calls: what autocast
    would make of them at each, to the bit. All else is shared. Any other as it is."""
    half = HALF.get(getattr(module, "precision", "float32"))
    return module if half is None else _held(module, half, {})


def _held(module: Any, half: torch.dtype, done: dict[int, Any]) -> Any:
    if id(module) not in done:
        copied = done[id(module)] = module.__new__(type(module))
        copied.__dict__ = dict(module.__dict__)
        if type(module) in PRODUCTS:
            weights = module._parameters.items()
            copied._parameters = {
                name: None if p is None else nn.Parameter(p.detach().to(half), requires_grad=False)
                for name, p in weights
            }
        call = module._compiled_call_impl
        copied._compiled_call_impl = call if call is None else call.of(copied)
        copied._modules = {
            name: None if one is None else _held(one, half, done) for name, one in module._modules.items()
        }
    return done[id(module)]


@dataclass(frozen=True)
class Decision:
    """What was taken, and why, in words."""

    precision: Precision
    why: str = ""

    def __str__(self) -> str:
        return f"{self.precision}: {self.why}" if self.why else self.precision


def decided(
    asked: Asked, module: nn.Module, device: torch.device | str, shape: Sequence[int] = (), rows: int = 64
) -> Decision:
    """The precision for a module on a device, on `rows` examples of `shape` at a time. "auto": half precision where it
    is measured to be faster, else float32. A slower one that was asked for is taken, with a warning."""
    choice("precision", asked, get_args(Asked))
    if asked == "float32":
        return Decision("float32")
    device = torch.device(device)
    half: Precision = half_of(device) if asked == "auto" else asked
    width, spatial = _width(module), any(isinstance(one, CONVOLUTIONS) for one in module.modules())
    positions = rows * math.prod(shape[1:] if spatial else shape[:-1])
    faster = speed_up(device, half, width, positions, spatial)
    here = f"on this {device.type}"
    if asked == "auto" and faster < MARGIN:
        what = f"{1 / faster:.2g} times slower" if faster < 1 else f"no faster ({faster:.2f} times as fast)"
        return Decision("float32", f"{half} is {what} {here}")
    if faster < 1:
        warnings.warn(
            f"precision: {half} is {1 / faster:.2g} times slower than float32 {here}; take float32, or auto",
            stacklevel=2,
        )
        return Decision(half, f"as asked, {1 / faster:.2g} times slower than float32 {here}")
    return Decision(half, f"{faster:.2g} times as fast as float32 {here}")


def half_of(device: torch.device) -> Precision:
    """The half precision of a device: bf16, whose range is that of float32, where it has it."""
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    if device.type == "mps":
        return "bf16" if torch.backends.mps.is_macos_or_newer(14, 0) else "fp16"
    return "bf16"


@cache
def speed_up(device: torch.device, half: Precision, width: int, positions: int, spatial: bool) -> float:
    """How many times as fast as float32 a block of a network runs in half precision here: a convolution, where it is
    `spatial`, a norm and a product, `width` channels at `positions` places. Both by turns, the best time of each."""
    cost = 2 * width * width * (10 if spatial else 1)
    side = max(1, min(positions // 2, int(OPERATIONS / cost)) // 8)  # half of them: deeper levels have fewer
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(1, width, 8, side, generator=draw).to(device)
    kernel = torch.randn(width, width, 3, 3, generator=draw).to(device) / (3 * width**0.5)
    product = torch.randn(width, width, generator=draw).to(device) / width**0.5

    def block() -> Tensor:
        y = F.conv2d(x, kernel, padding=1) if spatial else x
        y = F.silu(F.group_norm(y, 1))
        return F.linear(y.flatten(2).transpose(1, 2), product)

    def seconds(enabled: bool) -> float:
        with torch.no_grad(), arithmetic(), torch.autocast(device.type, HALF[half], enabled=enabled):
            began = time.perf_counter()
            block()
            if device.type != "cpu":
                torch.get_device_module(device).synchronize()
            return time.perf_counter() - began

    seconds(False), seconds(True)  # the first call of each is slower
    began = time.perf_counter()
    tries: list[tuple[float, float]] = []
    while len(tries) < 3 or time.perf_counter() - began < SECONDS:
        tries.append((seconds(False), seconds(True)))
    return min(full for full, _ in tries) / min(halved for _, halved in tries)


def _width(module: nn.Module) -> int:
    """The outputs of most of a module's products."""
    found = sorted(len(p) for p in module.parameters() if p.ndim > 1)
    return found[len(found) // 2] if found else 1
