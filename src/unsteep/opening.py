"""Opening what lies on disk: a run, one of its checkpoints, or a saved model."""

from __future__ import annotations

from pathlib import Path

import torch

from unsteep.model import Model
from unsteep.storage.checkpoint import latest, step_folders


def load(path: str | Path, *, weights: str | None = None, device: torch.device | str = "cpu") -> Model:
    """The model at `path`: a run's folder (its latest checkpoint that verifies), a checkpoint, or a saved model.

    `weights`: "ema" (the default where there are averaged weights) or "weights". ValueError if `path` is none of
    these, or a file was damaged.
    """
    path = Path(path)
    if (path / "model.toml").exists():
        return Model.open(path, weights, device)
    if not (path / "run.toml").exists():
        what = "does not exist" if not path.exists() else "is neither a run nor a saved model"
        raise ValueError(f"{path} {what}; give the folder that unsteep train wrote")
    folder = latest(path / "checkpoints")
    if folder is None:
        if step_folders(path / "checkpoints"):
            raise ValueError(f"{path}: every checkpoint is damaged; use a fresh copy, or train anew")
        raise ValueError(f"{path} has no checkpoint yet; train it with: unsteep train --resume --out {path}")
    return Model.open(folder, weights, device)
