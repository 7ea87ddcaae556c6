"""A checkpoint: everything that changes while training, and what is needed to open the model without the run.

model.toml  weights.safetensors  ema.safetensors  statistics.safetensors            the model
optimizer.safetensors  optimizer.json  objective.safetensors  state.json            the training state
"""

from __future__ import annotations

import json
from pathlib import Path

from torch import Tensor

from unsteep.storage.checkpoint import load_tensors, load_text, save_folder
from unsteep.storage.state import flatten_state, unflatten_state
from unsteep.training.loop import State


def save(root: Path, state: State, texts: dict[str, str], statistics: dict[str, Tensor], digest: str) -> None:
    """Writes the checkpoint of the state's step into `root`, atomically. `texts`: what says how to build the module, by
    file name, as model.toml; `digest`: that of the training data."""
    optimizer, structure = flatten_state(state.optimizer.state_dict())
    save_folder(
        root / f"step-{state.step:08d}",
        tensors={
            "weights": state.module.state_dict(),
            "ema": state.ema.module.state_dict(),
            "optimizer": optimizer,
            "objective": state.objective_state(),
            "statistics": statistics,
        },
        texts={
            **texts,
            "state.json": json.dumps({"step": state.step, "data": digest}),
            "optimizer.json": json.dumps(structure),
        },
    )


def restore(state: State, folder: Path) -> None:
    """Puts a checkpoint back into a state, bit for bit."""
    state.module.load_state_dict(load_tensors(folder, "weights"))
    state.ema.module.load_state_dict(load_tensors(folder, "ema"))
    structure = json.loads(load_text(folder, "optimizer.json"))
    state.optimizer.load_state_dict(unflatten_state(load_tensors(folder, "optimizer"), structure))
    state.load_objective_state(load_tensors(folder, "objective"))
    state.step = json.loads(load_text(folder, "state.json"))["step"]
