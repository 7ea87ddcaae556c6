"""What verbs read from files for a model: pictures, masks, aligned pictures, latents, examples.

A picture that is not of the model's kind is made so, and a line says what was done to it.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from unsteep.cli.terminal import say

if TYPE_CHECKING:
    from torch import Tensor

    from unsteep.core.protocols import DataSet
    from unsteep.model import Model


def pictured(model: Model) -> Any:
    """The space of a model of pictures. ValueError for a model of anything else."""
    space: Any = model.space
    if len(space.shape) != 3:
        raise ValueError(f"this model makes {space.describe()}, not pictures; give a model of pictures")
    return space


def _loaded(path: Path, **shape: Any) -> Any:
    """A picture of this shape (see `load_picture`), and a line of what had to be changed."""
    from unsteep.data.pictures import changed, load_picture

    loaded = load_picture(path, **shape)
    if done := changed(path, **shape):
        say(f"{path}: {done}")
    return loaded


def read_picture(path: Path, model: Model) -> Tensor:
    """The picture at `path` at the model's size and channels, (c, h, w). ValueError where it cannot be read."""
    import torch

    from unsteep.data.pictures import reason

    space = pictured(model)
    channels, height, width = space.shape
    if channels not in (1, 3, 4) or space.levels is None:
        raise ValueError(
            f"{path}: no picture file holds {space.describe()} of this kind; use the library, unsteep.fill"
        )
    bits = 8 if space.levels <= 256 else 16
    try:
        read = _loaded(path, height=height, width=width, channels=channels, bits=bits)
    except Exception as error:  # decoders raise nearly anything on damaged files
        raise ValueError(f"{path}: expected a picture, got {reason(error)}; give another file") from None
    if space.levels not in (256, 65536):  # the nearest values that the model knows
        return space.decode(space.encode(torch.from_numpy(read.copy())[None]))[0]
    return torch.from_numpy(read.copy())


def read_mask(path: Path, photo: Path, model: Model) -> Tensor:
    """Where to fill in, bool (1, h, w) in the model's size: where the mask at `path` is white."""
    import torch

    from unsteep.data.pictures import load_picture, reason, shape_of

    _, height, width = pictured(model).shape
    try:
        grey = load_picture(path, height=height, width=width, channels=1)
        sizes = shape_of(path), shape_of(photo)
    except Exception as error:  # decoders raise nearly anything on damaged files
        raise ValueError(f"{path}: expected a picture, got {reason(error)}; give another file") from None
    white = torch.from_numpy(grey.copy()) > 127
    if sizes[0] != sizes[1]:
        (w, h), (pw, ph) = sizes
        raise ValueError(f"--mask {path}: {w} x {h} pixels, and {photo} has {pw} x {ph}; make a mask of its size")
    if not bool(white.any()):
        raise ValueError(f"--mask {path}: nothing is white, so nothing would be filled in; paint white what is missing")
    if bool(white.all()):
        raise ValueError(f"--mask {path}: all is white, so nothing is kept; for pictures from nothing, unsteep sample")
    return white


def read_given(path: Path, model: Model) -> Tensor:
    """Aligned pictures for a model that hears them, uint8 (n, c, h, w), as it takes them: one file, a folder of
    pictures, or the array that unsteep sample wrote."""
    import numpy as np
    import torch
    from PIL import Image

    from unsteep.data import Array
    from unsteep.data.pictures import reason
    from unsteep.data.searching import formats, search

    heard = model.description.hearing("picture")
    if heard is None:
        raise ValueError("--picture: this model was trained without one; see unsteep train upscale")
    if not path.exists():
        raise ValueError(f"--picture {path}: there is nothing; give a picture, a folder of them, or a .npz")
    if path.suffix == ".npz":
        return Array(path=str(path)).read("all").x
    of, read = heard.aligned, []
    whole = (heard.height, heard.width)
    little = of.small(*whole) if of.kind == "low-resolution" else whole
    for file in [path / name for name in search(path).files] if path.is_dir() else [path]:
        try:
            with Image.open(file, formats=formats()) as image:
                is_small = of.kind == "low-resolution" and max(image.size) <= of.side
            height, width = little if is_small else whole
            read.append(_loaded(file, height=height, width=width, channels=heard.beside))
        except Exception as error:  # decoders raise nearly anything on damaged files
            raise ValueError(f"--picture {file}: expected a picture, got {reason(error)}; give another") from None
    if len({one.shape for one in read}) > 1:
        raise ValueError(f"--picture {path}: some are small, as the model takes them, and some whole; give one kind")
    return torch.from_numpy(np.stack(read))


def read_latents(path: Path, model: Model) -> tuple[Tensor, Tensor | None]:
    """The latents in a file of `unsteep invert`, and the labels they were found under, if any."""
    from safetensors.torch import load_file

    from unsteep.storage.foreign import plain, reading

    with reading(f"--from {path}", "a file of latents", "give what unsteep invert wrote"):
        stored = load_file(plain(path))
    if "latents" not in stored:
        raise ValueError(f"--from {path}: holds no latents; give what unsteep invert wrote")
    latents, wanted = stored["latents"], model.space.shape
    if tuple(latents.shape[1:]) != wanted:
        raise ValueError(
            f"--from {path}: expected latents of {wanted}, as this model makes them, got {tuple(latents.shape[1:])}"
        )
    if not latents.is_floating_point() or not bool(latents.isfinite().all()):
        raise ValueError(f"--from {path}: expected finite numbers, as unsteep invert writes them; give another file")
    return latents, stored.get("labels") if model.names else None


def examples_at(path: Path, model: Model) -> DataSet:
    """What lies at `path`, as the model takes it: a picture, a folder of them, or an array in .npy or .npz.

    Sub-folders that are named as the model's classes are classes.
    """
    from unsteep.data import Array, Examples, Folder, Timelines
    from unsteep.data.pictures import shape_of
    from unsteep.data.places import places
    from unsteep.data.searching import SUFFIXES, settled
    from unsteep.data.survey import in_order

    if path.suffix in (".npy", ".npz"):
        return (Timelines if len(model.space.shape) == 2 else Array)(path=str(path)).read("all")
    if path.suffix.lower() in SUFFIXES:
        return Examples(read_picture(path, model)[None], files=(path.name,), source=str(path))
    try:
        space = pictured(model)
    except ValueError:
        raise ValueError(f"{path}: this model makes {model.space.describe()}; give them in .npy or .npz") from None
    there = places(path)
    inside = {settled(name.partition("/")[0]) for name in there.names if "/" in name}
    labelled = bool(inside) and inside <= {settled(name) for name in model.names}
    bits: Literal[8, 16] = 16 if space.levels is not None and space.levels > 256 else 8
    source = replace(Folder(path=str(path), labelled=labelled).sized(space.shape), bits=bits)
    examples = source.read("all")
    _, height, width = space.shape
    at = in_order(there.names, examples.files)
    others = [there.names[i] for i in at if shape_of(there.open(i)) != (width, height)]
    if others:
        done = f"{len(others)} of {len(examples)} pictures cropped or scaled to {width} x {height}, as {others[0]}"
        say(f"{path}: {done}")
    return examples


def labels_for(data: DataSet, model: Model, label: str | None) -> Any:
    """The class of each example: `label` for all, else its own, else none."""
    import torch

    from unsteep.data.reading import labels_of

    labels = labels_of(data)
    if label is not None or labels is None or not model.names:
        return label
    unknown = sorted(set(data.names) - set(model.names))
    if unknown:
        raise ValueError(f"data: class {unknown[0]} is none of the model's ({', '.join(model.names)}); give --label")
    return torch.tensor([model.names.index(name) for name in data.names])[labels]
