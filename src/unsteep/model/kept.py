"""A model as a folder: model.toml, weights.safetensors, statistics.safetensors and a manifest; so is a checkpoint."""

from __future__ import annotations

import tomllib
from math import prod
from pathlib import Path

from torch import Tensor

from unsteep.core.budget import fits
from unsteep.core.protocols import Space
from unsteep.model.description import Description
from unsteep.model.old import upgraded
from unsteep.storage import config
from unsteep.storage.checkpoint import load_tensors, load_text, save_folder
from unsteep.storage.foreign import reading
from unsteep.storage.manifest import verify

Tensors = dict[str, Tensor]
SAMPLED = 4 * 8  # bytes of each number of a sample: itself, its noise and estimates of it


def write(path: str | Path, weights: Tensors, statistics: Tensors, description: Description) -> None:
    """As `Model.save` says."""
    path = Path(path)
    if path.exists() and not (path / "model.toml").exists():
        raise ValueError(f"{path} exists and is not a saved model; choose another path")
    save_folder(
        path,
        tensors={"weights": weights, "statistics": statistics},
        texts={"model.toml": config.dumps(description.filled())},
    )


def read(folder: Path, weights: str | None, trust: bool) -> tuple[Tensors, Tensors, Description]:
    """Weights, statistics and description, as `Model.open` says."""
    verify(folder)
    description = read_description(folder, trust)
    name = weights or ("ema" if (folder / "ema.safetensors").exists() else "weights")
    statistics = load_tensors(folder, "statistics")
    _check_shape(folder, description.space, statistics)
    return load_tensors(folder, name), statistics, description


def _check_shape(folder: Path, space: Space, statistics: Tensors) -> None:
    """ValueError where one example takes more memory than may be used, or the means are of examples of another shape;
    one that all frames of sequences share has one side of 1."""
    shape = tuple(space.shape)
    fits(SAMPLED * prod(shape), f"{folder / 'model.toml'}: one of the {space.describe()}", "use another copy")
    for name, axes in (("mean", 0), ("class_mean", 1)):
        got = tuple(statistics[name].shape[axes:]) if name in statistics else shape
        if len(got) == len(shape) and not all(side in (1, whole) for side, whole in zip(got, shape, strict=True)):
            raise ValueError(
                f"{folder / 'statistics.safetensors'}: expected the {name} of examples of shape {shape}, as model.toml "
                f"describes them, got {got}; use another copy"
            )


def read_description(folder: Path, trust: bool = False) -> Description:
    """The description in a saved model or a checkpoint."""
    file = folder / "model.toml"
    text = load_text(folder, file.name)
    with reading(file, "the description of a model"):
        table = upgraded(tomllib.loads(text))
    try:
        return config.from_dict(Description, table, trust=trust)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None
