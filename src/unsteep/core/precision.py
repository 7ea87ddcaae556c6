"""In which precision networks run, and what does not.

Half precision, bf16 or fp16, is for a network's products and convolutions (`running`), whose weights stay float32.
What is made of its answers is not computed in it, even where a caller has `torch.autocast` on (`arithmetic`): the
products of a solver's frame alone would cost three digits.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any, Literal

import torch

Precision = Literal["float32", "bf16", "fp16"]
HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}

KINDS = ("cpu", "cuda", "mps", "xpu")

_CALLER: ContextVar[dict[str, torch.dtype] | None] = ContextVar("caller", default=None)


@contextmanager
def arithmetic() -> Iterator[None]:
    """Out of the caller's autocast, to which networks go back."""
    some = torch._C._is_any_autocast_enabled()  # the way without, which each step of a walk takes, is short
    on = {kind: torch.get_autocast_dtype(kind) for kind in KINDS if torch.is_autocast_enabled(kind)} if some else {}
    if not on:
        yield
        return
    before = _CALLER.set(on)
    try:
        with ExitStack() as off:
            for kind in on:
                off.enter_context(torch.autocast(kind, enabled=False))
            yield
    finally:
        _CALLER.reset(before)


def running(device: torch.device, precision: Precision) -> AbstractContextManager[Any]:
    """Where a network runs on a device: in half precision, or in float32 as its weights are. There the caller's
    autocast holds, if one is on."""
    half = HALF.get(precision) or (_CALLER.get() or {}).get(device.type)
    return nullcontext() if half is None else torch.autocast(device.type, half)
