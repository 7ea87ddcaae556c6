"""How much memory a training will take, told before its first step.

    now + gradients and what is kept for them, at their most + the two moments of the optimizer

`now` is what is taken already, by weights, their average and data. The rest is of one step of the network on tensors
that have shapes and no numbers, the sizes of which are added up as they come and go. The objective's own tensors, as
large as a batch, are not among them.
"""

from __future__ import annotations

import copy
import weakref
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeCopyMode, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from unsteep.core.budget import in_words
from unsteep.core.machine import memory_now, memory_of
from unsteep.core.precision import arithmetic, running
from unsteep.networks.wrapping import networks_in
from unsteep.training.loop import State, Trains
from unsteep.training.settings import TrainConfig

LOST = 1.25  # times as much as is asked for: what lies free between blocks
KERNELS = 120 << 20  # bytes that the kernels of a first step take on a CPU


def expected_memory(task: Trains) -> int | None:
    """Bytes that training takes at its most, to a fifth or so. None for a network that looks at numbers on its way, or
    where nobody tells what is taken now."""
    try:
        state, network, given, named = _called(task)
        before, step = memory_now(state.device), _step(state, network, given, named)
    except Exception:  # of a network of one's own, on tensors without numbers
        return None
    if before is None:
        return None
    moments = 2 * sum(p.numel() * p.element_size() for one in task.trained.values() for p in one.module.parameters())
    return before + moments + int(LOST * step) + KERNELS * (state.device.type == "cpu")


def check_memory(task: Trains, config: TrainConfig) -> str:
    """What a training takes of what may be used, in words; empty where nobody tells. ValueError, with advice, where it
    is more."""
    state = task.trained[task.turn(task.step)]
    takes, there, now = expected_memory(task), memory_of(state.device), memory_now(state.device)
    if takes is None or there is None or now is None:
        return ""
    said = f"about {in_words(takes)}, of {in_words(there)} that may be used"
    if takes <= there:
        return said
    fixed = now + 3 * sum(p.numel() * p.element_size() for p in state.module.parameters())  # gradient and moments
    parts = (2**k for k in range(1, 20) if 2**k * config.accumulate <= config.batch)
    enough = next((n for n in parts if fixed + (takes - fixed) / n <= there), None)
    if enough is None:
        advice = "take a smaller network, as by model.network.width, or smaller pictures, as by data.size"
    else:
        advice = f"set train.accumulate={enough * config.accumulate}, which trains the same in parts"
    raise ValueError(f"train: its memory is {said}: {advice}, or set train.checkpointing=true, or allow more")


def _step(state: State, network: nn.Module, given: Any, named: Any) -> int:
    """Bytes that one step of a network takes beside its weights."""
    without = FakeTensorMode(allow_non_fake_inputs=True)
    with FakeCopyMode(without):
        shell = copy.deepcopy(network)
    given, named = tree_map_only(Tensor, without.from_tensor, (given, named))
    with without, Sizes() as sizes:
        with running(state.device, state.precision.precision):
            answer = shell(*given, **named)
        torch.stack([one.float().square().sum() for one in tree_leaves(answer)]).sum().backward()
    return sizes.most


class Sizes(TorchDispatchMode):
    """Adds up the storages that operations make, until nobody holds them. `most`: bytes, and where a convolution is
    done on a CPU, its copies in another order among them."""

    def __init__(self) -> None:
        super().__init__()
        self.live, self.most = 0, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        answer = func(*args, **(kwargs or {}))
        taken, made = ([x for x in tree_leaves(of) if isinstance(x, Tensor)] for of in ((args, kwargs), answer))
        known = {x.untyped_storage()._cdata for x in taken}
        for storage in {x.untyped_storage()._cdata: x.untyped_storage() for x in made}.values():
            if storage._cdata not in known:
                self.live += storage.nbytes()
                weakref.finalize(storage, self._gone, storage.nbytes())
        copies = "convolution" in str(func) and made[0].device.type == "cpu"
        again = [x.numel() * x.element_size() for x in (taken[0], made[0])] if copies else []
        self.most = max(self.most, self.live + sum(again))
        return answer

    def _gone(self, size: int) -> None:
        self.live -= size


class _Heard(Exception):
    """What a network was called with."""

    def __init__(self, given: Any, named: Any) -> None:
        super().__init__()
        self.given, self.named = given, named


def _called(task: Trains) -> tuple[State, nn.Module, Any, Any]:
    """The state that the next step trains, its network, and what that is first called with. Nothing is updated."""
    state = task.trained[task.turn(task.step)]
    network = networks_in(state.module)[0]

    def stop(module: nn.Module, given: Any, named: Any) -> None:
        raise _Heard(given, named)

    hook = network.register_forward_pre_hook(stop, with_kwargs=True)
    try:
        batch, draw = next(iter(task.parts(task.step)))
        with torch.no_grad(), arithmetic():
            objective = copy.deepcopy(state.objective)  # which may keep a copy of the network, hook and all
            objective(state.module, batch, draw)
    except _Heard as call:
        return state, network, call.given, call.named
    finally:
        hook.remove()
    raise ValueError("the objective never calls the network")
