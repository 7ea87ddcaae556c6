"""Opening what lies on disk: a run, one of its checkpoints, or a saved model."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from unsteep.core.arguments import choice, flag, kind
from unsteep.core.arguments import path as path_of
from unsteep.model import Model
from unsteep.networks import compiling
from unsteep.networks.precision import Asked
from unsteep.storage.checkpoint import load_text, with_latest
from unsteep.storage.foreign import reading
from unsteep.storage.lock import held_by


def load(
    path: str | Path,
    *,
    weights: str | None = None,
    device: torch.device | str = "auto",
    precision: Asked = "float32",
    compile: compiling.Asked = "off",
    trust: bool = False,
) -> Model:
    """The model at `path`: a run's folder (its latest checkpoint that verifies), a checkpoint, or a saved model.

    `weights`: "ema" (the default where there are averaged weights) or "weights". `device`: "auto" is the best there is;
    the model's repr says which. `precision`: in which the network runs, whatever it was trained in; "auto" is the
    fastest, by a measurement, and `model.took` says why. `compile`: on, off or auto, as
    `Model.to` has it. `trust`: import the parts of a user's own that the model names, as its network; without it they
    must have been imported before. ValueError if `path` is none of these, or a file was damaged.
    """
    path, trust = path_of("path", path), flag("trust", trust)
    if weights is not None:
        choice("weights", weights, ("ema", "weights"))
    device = chosen_device(device)
    if (path / "model.toml").exists():
        model = Model.open(path, weights, device, trust=trust, origin=_origin(path, weights))
        return model.to(precision=precision, compile=compile)
    if not (path / "run.toml").exists():
        what = "does not exist" if not path.exists() else "is neither a run nor a saved model"
        raise ValueError(f"{path} {what}; give the folder that unsteep train wrote")

    def opened(folder: Path) -> Model:
        if not (folder / "model.toml").exists():
            raise ValueError(
                f"{path} is a run, but of no denoiser; a classifier is opened by open_classifier, and guides another "
                "model"
            )
        return Model.open(folder, weights, device, trust=trust, origin=_origin(folder, weights))

    found = with_latest(path / "checkpoints", opened)
    if found is None:
        if any((path / "checkpoints").glob("step-*")):
            raise ValueError(f"{path}: every checkpoint is damaged; use a fresh copy, or train anew")
        raise ValueError(f"{path} {lacking(path, f'train it with: unsteep train --resume --out {path}')}")
    return found.to(precision=precision, compile=compile)


def lacking(run: Path, advice: str) -> str:
    """That a run has no checkpoint yet, and what to do: to wait while it is being trained, else the advice."""
    trainer = held_by(run)
    if trainer is None:
        return f"has no checkpoint yet; {advice}"
    return f"is being trained by {trainer} and has no checkpoint yet: the first comes after about a minute; wait for it"


def chosen_device(device: str | torch.device = "auto") -> str:
    """The torch device of this name; "auto" is the first accelerator that is there, else the CPU. ValueError where it
    is not."""
    kind("device", device, (str, torch.device), "a device, as auto or cpu", "name one")
    name = str(device)
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        torch.empty(1, device=name)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ValueError(
            f"device {' '.join(name.split())}: not available here; use auto or cpu ({str(error).splitlines()[0]})"
        ) from None
    return name


def _origin(folder: Path, weights: str | None) -> str:
    """In words, after how many steps, and which of the weights."""
    averaged = weights != "weights" and (folder / "ema.safetensors").exists()
    if not (folder / "state.json").exists():
        return f"from {folder}"
    with reading(folder / "state.json", "the state of a training"):
        step = int(json.loads(load_text(folder, "state.json"))["step"])
    return f"after {step:,} steps, {'averaged' if averaged else 'last'} weights"
