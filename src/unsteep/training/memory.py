"""How much memory a run will take, from one example, before the first step takes it."""

from __future__ import annotations

import torch
from torch import Tensor

from unsteep.core.budget import in_words, memory
from unsteep.core.machine import held_memory
from unsteep.core.noise import Draw
from unsteep.core.precision import arithmetic
from unsteep.data.batch import Batch
from unsteep.training.loop import Trains, seeded_part
from unsteep.training.settings import TrainConfig


def check_memory(task: Trains, config: TrainConfig) -> str:
    """What a run takes of what may be used, in words; empty on a device that does not tell what it has. ValueError,
    with advice, where it is too much."""
    state = task.trained[task.turn(task.step)]
    there = _there(state.device)
    if there is None:
        return ""
    weights = sum(p.numel() * p.element_size() for p in state.module.parameters())
    fixed, each = held_memory(state.device) + 3 * weights, _of_an_example(task, config)  # gradient and moments
    takes = fixed + each * -(-config.batch // config.accumulate)
    said = f"about {in_words(takes)}, of {in_words(there)} that may be used"
    if takes <= there:
        return said
    parts = (2**k for k in range(1, 20) if 2**k * config.accumulate <= config.batch)
    enough = next((n for n in parts if fixed + each * -(-config.batch // (n * config.accumulate)) <= there), None)
    if enough is None:
        advice = "take a smaller network, as by model.network.width, or smaller pictures, as by data.size"
    else:
        advice = f"set train.accumulate={enough * config.accumulate}, which trains the same in parts"
    raise ValueError(f"train: its memory is {said}: {advice}, or set train.checkpointing=true, or allow more")


def _there(device: torch.device) -> int | None:
    if device.type == "cpu":
        return memory()
    if device.type != "cuda":
        return None
    return int(torch.cuda.mem_get_info(device)[0]) + held_memory(device)


def _of_an_example(task: Trains, config: TrainConfig) -> int:
    """Bytes that one example leaves for the gradient. Nothing is trained, and no generator moves."""
    state = task.trained[task.turn(task.step)]
    batch, draw = next(iter(task.parts(task.step)))
    condition = None if batch.condition is None else batch.condition.select(slice(0, 1))
    one = Batch(batch.x[:1], condition, batch.index[:1])
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    training, seed = state.module.training, (config.seed, task.step, 0, state.device)
    state.module.train()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), seeded_part(*seed), arithmetic():
        state.objective(state.module, one, Draw(config.seed, task.step, draw.places[:1], draw.batch))
    state.module.train(training)
    own = {p.untyped_storage().data_ptr() for p in state.module.parameters()}
    return sum(size for place, size in kept.items() if place not in own)
