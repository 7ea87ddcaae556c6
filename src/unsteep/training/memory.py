"""How much memory a training will take, told before its first step.

    now + gradients and what is kept for them, at their most + the two moments of the optimizer

`now` is what is taken already, by weights, their average and data. The rest is of one step of the network (see
`networks.taking`). The objective's own tensors, as large as a batch, are not among them.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from unsteep.core.budget import in_words
from unsteep.core.machine import memory_now, memory_of
from unsteep.core.precision import arithmetic
from unsteep.networks.taking import LOST, taken
from unsteep.networks.wrapping import networks_in
from unsteep.training.loop import State, Trains
from unsteep.training.settings import TrainConfig

KERNELS = 120 << 20  # bytes that the kernels of a first step take on a CPU


def expected_memory(task: Trains) -> int | None:
    """Bytes that training takes at its most, to a fifth or so. None for a network that looks at numbers on its way, or
    where nobody tells what is taken now."""
    try:
        state, network, given, named = _called(task)
        before = memory_now(state.device)
        step = taken(network, given, named, state.device, state.precision.precision, True)
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
