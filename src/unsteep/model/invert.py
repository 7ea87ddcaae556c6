"""Pictures to the latents that they come from, along the probability-flow equation, and back again.

The flow maps data to noise one to one (Song et al. 2021), so x at t = 1 says all of a picture that the model can tell.
It is integrated with adaptive steps, so the latents are those of the equation itself: any deterministic solver takes
them back, as well as its steps allow.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from unsteep.data import Array, DataSet, Folder
from unsteep.data.pictures import SUFFIXES
from unsteep.model.asking import check_null
from unsteep.model.interpolate import read
from unsteep.model.model import Model
from unsteep.pages.progress import bar
from unsteep.sampling import Adaptive
from unsteep.spaces import Pixels


@dataclass(frozen=True)
class Inverted:
    """`latents` (n, ...) at t = 1, in the model's units; `calls` (n,): network evaluations for each; `error` (n,): RMS
    between each example and what comes back from its latent, in the model's units."""

    latents: Tensor
    calls: Tensor
    error: Tensor


def examples_at(path: Path, model: Model) -> DataSet:
    """What lies at `path`, as the model takes it: a picture, a folder of them, or an array in .npy or .npz.

    Sub-folders that are named as the model's classes are classes.
    """
    if path.suffix in (".npy", ".npz"):
        return Array(path=str(path)).read("all")
    if path.suffix.lower() in SUFFIXES:
        return DataSet(read(path, model)[None], files=(path.name,), source=str(path))
    if not isinstance(model.space, Pixels):
        raise ValueError(f"{path}: this model makes rows of numbers; give an array of them in .npy or .npz")
    inside = {folder.name for folder in path.iterdir() if folder.is_dir()} if path.is_dir() else set()
    labelled = bool(inside) and inside <= set(model.names)
    channels: Literal[1, 3] = 1 if model.space.channels == 1 else 3
    return Folder(path=str(path), size=model.space.size, channels=channels, labelled=labelled).read("all")


def labels_for(data: DataSet, model: Model, label: str | None) -> Tensor | None:
    """The class to invert each example under (n,): `label` for all, else its own, else none."""
    if label is not None:
        return model.labels_of(len(data), label)
    if data.labels is None or not model.names:
        check_null(model.description)
        return None
    unknown = sorted(set(data.names) - set(model.names))
    if unknown:
        raise ValueError(f"data: class {unknown[0]} is none of the model's ({', '.join(model.names)}); give --label")
    return torch.tensor([model.names.index(name) for name in data.names])[data.labels]


def invert(
    model: Model,
    examples: Tensor,
    labels: Tensor | None = None,
    *,
    tolerance: float = 1e-4,
    batch_size: int = 64,
    progress: bool = False,
) -> Inverted:
    """The latents of examples (n, ...) in the data's own units, and how well they come back.

    `labels` (n,): the class of each; None: of no class. `tolerance`: of each step of the integration.
    """
    shape = (len(examples), *model.space.shape)
    if examples.shape != shape:
        raise ValueError(f"data: this model takes examples of {shape[1:]}, got {tuple(examples.shape[1:])}")
    driver, schedule = Adaptive(pair="dormand-prince", tolerance=tolerance), model.denoiser.schedule
    done: list[tuple[Tensor, Tensor, Tensor]] = []
    starts = range(0, len(examples), batch_size)
    with bar(progress, len(starts), "inverting") as advance:
        for start in starts:
            rows = slice(start, start + batch_size)
            x0 = model.space.encode(examples[rows]).to(model.device)
            denoise = model.denoise(None if labels is None else labels[rows], clip=False)
            latents, calls = driver.invert(denoise, x0, schedule)
            again, _ = driver.sample(denoise, latents, schedule)
            error = ((again - x0) ** 2).flatten(1).mean(1).sqrt()
            done.append((latents.cpu(), calls.cpu(), error.cpu()))
            advance()
    return Inverted(*(torch.cat(parts) for parts in zip(*done, strict=True)))
