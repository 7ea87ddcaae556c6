"""What a study measures a model on: data read as its run reads them, held against the model, and drawn at random."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from unsteep.core.condition import Condition
from unsteep.core.noise import permutation
from unsteep.data import DataSet, Digits, Folder, Shapes, Split
from unsteep.model import Model
from unsteep.spaces import Pixels
from unsteep.training.conditions import Conditions
from unsteep.training.run import AnyData, read_run


def source_of(run: Path, path: Path | None = None) -> AnyData:
    """Where the data of the run in a folder come from, or the same kind of source at `path`."""
    source = read_run(run).data
    if path is None:
        return source
    if isinstance(source, Digits | Shapes):
        raise ValueError(f"--data: the data that {run} was trained on come from no folder; leave it out")
    if isinstance(source, Folder) and source.aligned:
        raise ValueError(
            f"--data: {run} hears the pictures in {source.aligned}, too, which would not move; leave it out"
        )
    return replace(source, path=str(path))


def open_data(run: Path, path: Path | None = None, split: Split = "test") -> DataSet:
    """The data of the run in a folder, or data of the same kind from `path`."""
    return open_split(run, source_of(run, path), split)


def labelled_source(run: Path, path: Path | None = None) -> AnyData:
    """The same source with classes, where sub-folders can be taken for them: a model without classes did not."""
    source = source_of(run, path)
    return replace(source, labelled=True) if isinstance(source, Folder) else source


def open_split(run: Path, source: AnyData, split: Split = "test") -> DataSet:
    """A split of a source of the run's. ValueError where nothing was held out."""
    if split == "test" and getattr(source, "holdout", 1) == 0:
        raise ValueError(
            f"--split test: {run} held nothing out of its data; measure on --split train, or on other data with "
            "--data DIR --split all"
        )
    data = source.read(split)
    return replace(data, source=f"{data.source}, {split} split" if split != "all" else data.source)


def examples_of(model: Model, data: DataSet, n: int, seed: int) -> DataSet:
    """`n` of `data`, or all of fewer, in a random order of `seed`, with the classes numbered as the model's.

    ValueError where they are not what the model was trained on: another shape, other grey levels, other classes.
    """
    if n < 2:
        raise ValueError(f"n: expected at least 2 examples, for an interval, got {n}")
    _check_shape(model, data)
    chosen = data.select(permutation(len(data), seed, epoch=0)[:n])
    if len(chosen) < 2:
        raise ValueError(f"data: expected at least 2 examples, for an interval, got {len(chosen)} ({data.source})")
    _check_range(model, data)
    if isinstance(model.space, Pixels) and not model.space.holds(chosen.x):
        raise ValueError(
            f"data: the model knows the {model.space.levels} grey levels of its training data, and these pictures have "
            f"values between them ({data.source}); give data of the same kind"
        )
    if not model.names:
        return replace(chosen, labels=None, names=())
    if chosen.labels is None:
        raise ValueError(
            f"data: the model was trained with {len(model.names)} classes and these data have no labels "
            f"({data.source}); give labelled data"
        )
    unknown = sorted(set(data.names) - set(model.names))
    if unknown:
        raise ValueError(f"data: class {unknown[0]} is none of the model's ({', '.join(model.names)}); leave it out")
    number = torch.tensor([model.names.index(name) for name in data.names])
    return replace(chosen, labels=number[chosen.labels], names=model.names)


def heard_of(model: Model, examples: DataSet) -> Condition | None:
    """What the model hears of examples as `examples_of` gives them; None for an unconditional model."""
    return Conditions(model.description, examples)(torch.arange(len(examples)))


def _check_shape(model: Model, data: DataSet) -> None:
    wanted, got = model.space.shape, tuple(data.x.shape[1:])
    if wanted != got:
        raise ValueError(
            f"data: the model was trained on {_kind(wanted)}, these are {_kind(got)}; give data like those"
        )
    if isinstance(model.space, Pixels) and model.space.levels != data.levels:
        raise ValueError(
            f"data: the model was trained on pictures of {model.space.levels} grey levels, these have {data.levels} "
            f"({data.source}); give data of the same kind"
        )


def _check_range(model: Model, data: DataSet) -> None:
    """Data of another scale: a range less than half or more than twice as wide as that of the training data."""
    if "range" not in model.statistics:
        return
    (low, high), (least, most) = model.statistics["range"].tolist(), (float(data.x.min()), float(data.x.max()))
    if not 0.5 <= (most - least) / (high - low) <= 2:
        raise ValueError(
            f"data: the model was trained on values from {low:g} to {high:g}, these run from {least:g} to {most:g} "
            f"({data.source}); give data of the same range"
        )


def _kind(shape: tuple[int, ...]) -> str:
    what = "rows of numbers" if len(shape) == 1 else "pictures (channels x height x width)"
    return f"{' x '.join(map(str, shape))} {what}"
