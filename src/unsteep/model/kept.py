"""A model as a folder: model.toml, weights.safetensors, statistics.safetensors and a manifest; so is a checkpoint."""

from __future__ import annotations

import tomllib
from pathlib import Path

from torch import Tensor

from unsteep.model.description import Description
from unsteep.model.old import upgraded
from unsteep.storage import config
from unsteep.storage.checkpoint import load_tensors, load_text, save_folder
from unsteep.storage.foreign import reading
from unsteep.storage.manifest import verify

Tensors = dict[str, Tensor]


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
    return load_tensors(folder, name), load_tensors(folder, "statistics"), description


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
