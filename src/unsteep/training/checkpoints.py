"""A checkpoint: everything that changes while training, and what is needed to open the model without the run.

    model.toml  weights.safetensors  ema.safetensors  statistics.safetensors            the model
    optimizer.safetensors  optimizer.json  objective.safetensors  state.json            the training state

Where a run trains several modules by turns, the files of all but the first begin with their names, as
fake.weights.safetensors.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unsteep.networks.wrapping import load_weights, weights_of
from unsteep.storage.checkpoint import corrupting, load_tensors, load_text, save_folder, step_folder, step_folders
from unsteep.storage.manifest import Corrupt, verify
from unsteep.storage.state import flatten_state, unflatten_state
from unsteep.training.loop import State, Trains, skips

TRAINED = "trained-as.toml"  # the run's configuration when it was saved


def save(
    root: Path,
    task: Trains,
    texts: Mapping[str, str],
    statistics: dict[str, Tensor],
    digest: str,
    good: bool = True,
    where: Mapping[str, str] | None = None,
) -> None:
    """Writes the checkpoint of the task's step into `root`, atomically. `texts`: what says how to build the module, by
    file name, as model.toml; `digest`: that of the training data; `good`: whether it is known to be good; `where`: on
    what it was trained."""
    tensors, more = {"statistics": statistics}, dict(texts)
    for prefix, state in _named(task):
        optimizer, structure = flatten_state(state.optimizer.state_dict())
        tensors |= {
            f"{prefix}weights": weights_of(state.module),
            f"{prefix}ema": weights_of(state.ema.module),
            f"{prefix}optimizer": optimizer,
            f"{prefix}objective": state.objective_state(),
        }
        more[f"{prefix}optimizer.json"] = json.dumps(structure)
    updates = {name: state.updates for name, state in task.trained.items()}
    about: dict[str, Any] = {"step": task.step, "data": digest, "good": good, "where": dict(where or {})}
    about |= {"updates": updates} if len(updates) > 1 or skips(task) else {}
    scalers = {name: state.scaler.state_dict() for name, state in task.trained.items() if state.scaler.is_enabled()}
    more["state.json"] = json.dumps(about | ({"scalers": scalers} if scalers else {}))
    save_folder(step_folder(root, task.step), tensors=tensors, texts=more)


def restore(task: Trains, folder: Path) -> None:
    """Puts a checkpoint back into a task, bit for bit. Corrupt where it is none of this task."""
    with corrupting(folder, "a checkpoint of this run"):
        _restore(task, folder)


def _restore(task: Trains, folder: Path) -> None:
    about = json.loads(load_text(folder, "state.json"))
    if type(about["step"]) is not int or about["step"] < 0:
        raise ValueError(f"a step of {about['step']}")
    task.step = about["step"]
    for (prefix, state), name in zip(_named(task), task.trained, strict=True):
        load_weights(state.module, load_tensors(folder, f"{prefix}weights"))
        load_weights(state.ema.module, load_tensors(folder, f"{prefix}ema"))
        structure = json.loads(load_text(folder, f"{prefix}optimizer.json"))
        _refill(state.optimizer, unflatten_state(load_tensors(folder, f"{prefix}optimizer"), structure))
        state.load_objective_state(load_tensors(folder, f"{prefix}objective"))
        state.updates = about.get("updates", {}).get(name, task.step)
        if state.scaler.is_enabled():
            state.scaler.load_state_dict(about["scalers"][name])


def _refill(optimizer: torch.optim.Optimizer, stored: Mapping[str, Any]) -> None:
    """Puts back what an optimizer remembers of each weight. Its settings are those of the run; what is remembered must
    be of the weights' shapes, which nobody checks later. ValueError where it is not."""
    current, of = optimizer.state_dict(), stored["state"]
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    if of and set(of) != set(range(len(weights))):
        raise ValueError(f"an optimizer's state of {len(of)} weights, of which there are {len(weights)}")
    for number, weight in enumerate(weights if of else []):
        for name, value in of[number].items():
            wanted = torch.Size(()) if name == "step" else weight.shape
            if not isinstance(value, Tensor) or value.shape != wanted or not value.is_floating_point():
                raise ValueError(f"an optimizer's {name} that is not of weight {number}")
        if set(of[number]) != {"step", "exp_avg", "exp_avg_sq"}:
            raise ValueError(f"an optimizer's state of other names: {', '.join(map(str, of[number]))}")
    optimizer.load_state_dict({**current, "state": dict(of)})


def facts(folder: Path) -> dict[str, Any]:
    """What a checkpoint says of itself: `step`, the digest of its `data`, whether it is known to be `good`, and `where`
    it was trained."""
    with corrupting(folder / "state.json", "the state of a training"):
        found = json.loads(load_text(folder, "state.json"))
        return {
            "step": int(found["step"]),
            "data": str(found["data"]),
            "good": bool(found.get("good", True)),
            "where": {str(name): str(value) for name, value in found.get("where", {}).items()},
        }


def known_good(root: Path, proven: Callable[[int], bool] = lambda step: True) -> Path | None:
    """The newest checkpoint that is whole and known to be good; None without. `proven`: whether the losses after its
    step say so, too."""
    for folder in reversed(step_folders(root)):
        try:
            verify(folder)
            told = facts(folder)
            if told["good"] and proven(told["step"]):
                return folder
        except Corrupt:
            continue
    return None


def _named(task: Trains) -> list[tuple[str, State]]:
    """Each state with what its files begin with."""
    return [("" if i == 0 else f"{name}.", state) for i, (name, state) in enumerate(task.trained.items())]
