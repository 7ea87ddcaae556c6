"""How much memory a call of a network takes, told before it is made: it runs once on tensors that have shapes and no
numbers, and the sizes of what it makes are added up as they come and go.
"""

from __future__ import annotations

import copy
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeCopyMode, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from unsteep.core.budget import in_words
from unsteep.core.machine import memory_now, memory_of
from unsteep.core.precision import Precision, running
from unsteep.networks.wrapping import called_in, inside

LOST = 1.25  # times as much as is asked for: what lies free between blocks
SMALL = 1000  # times the size of its input, which no usual network takes


def taken(network: nn.Module, given: Any, named: Any, device: torch.device, precision: Precision, back: bool) -> int:
    """Bytes that a call of a network takes beside its weights, and, if `back`, its gradient."""
    without = FakeTensorMode(allow_non_fake_inputs=True)
    with FakeCopyMode(without):
        shell = copy.deepcopy(network)
    given, named = tree_map_only(Tensor, without.from_tensor, (given, named))
    with without, Sizes() as sizes, torch.set_grad_enabled(back):
        with running(device, precision):
            answer = shell(*given, **named)
        if back:
            torch.stack([one.float().square().sum() for one in tree_leaves(answer)]).sum().backward()
    return sizes.most


@contextmanager
def fitting(module: nn.Module, device: torch.device, precision: Precision, name: str = "batch_size") -> Iterator[None]:
    """Inside it a ValueError is raised before a call of the networks in a module that takes more than may be used, with
    what may be asked for by `name` in its place. Of a network that looks at numbers nobody can tell."""
    most = 0

    def look(network: nn.Module, given: Any, named: Any) -> None:
        nonlocal most
        rows, there, now = len(given[0]), memory_of(device), memory_now(device)
        if rows <= most or there is None or now is None:
            return
        most = rows
        if now + SMALL * given[0].numel() * given[0].element_size() <= there:
            return
        try:
            takes = int(LOST * taken(inside(network), given, named, device, precision, torch.is_grad_enabled()))
        except Exception:  # of a network of one's own, on tensors without numbers
            return
        if now + takes > there:
            fewer = max(0, there - now) * rows // takes
            advice = f"take {fewer} at a time" if fewer else "take a smaller model"
            raise ValueError(
                f"{name}: {rows} rows that go through the network together take about {in_words(now + takes)} of "
                f"memory, and {in_words(there)} may be used; {advice}, or allow more"
            )

    hooks = [network.register_forward_pre_hook(look, with_kwargs=True) for network in called_in(module)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


class Sizes(TorchDispatchMode):
    """Adds up the storages that operations make, until nobody holds them. `most`: bytes, and where a convolution is
    done on a CPU, its copies in another order among them."""

    def __init__(self) -> None:
        super().__init__()
        self.live, self.most = 0, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        answer = func(*args, **(kwargs or {}))
        taken_, made = ([x for x in tree_leaves(of) if isinstance(x, Tensor)] for of in ((args, kwargs), answer))
        known = {x.untyped_storage()._cdata for x in taken_}
        for storage in {x.untyped_storage()._cdata: x.untyped_storage() for x in made}.values():
            if storage._cdata not in known:
                self.live += storage.nbytes()
                weakref.finalize(storage, self._gone, storage.nbytes())
        copies = "convolution" in str(func) and made[0].device.type == "cpu"
        again = [x.numel() * x.element_size() for x in (taken_[0], made[0])] if copies else []
        self.most = max(self.most, self.live + sum(again))
        return answer

    def _gone(self, size: int) -> None:
        self.live -= size
