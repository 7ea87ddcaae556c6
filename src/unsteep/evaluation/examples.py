"""What is measured on: data read as a run reads them, held against the model, and drawn at random."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from unsteep.core.condition import Condition
from unsteep.core.noise import permutation
from unsteep.core.open import settings_of
from unsteep.core.protocols import DataSet, Source, Split
from unsteep.data import Examples
from unsteep.data.reading import every, in_memory
from unsteep.hearing import condition_of
from unsteep.model import Model
from unsteep.model.bounded import check_grid
from unsteep.training.run import read_run


def source_of(run: Path, path: Path | None = None, trust: Any = False) -> Any:
    """Where the data of the run in a folder come from, or the same kind of source at `path`."""
    source = read_run(run, trust).data
    if path is None:
        return source
    if not hasattr(source, "path"):
        raise ValueError(f"data: the data that {run} was trained on come from no folder; leave it out")
    if getattr(source, "aligned", ""):
        raise ValueError(f"data: {run} hears the pictures in {source.aligned}, too, which would not move; leave it out")
    return replace(source, path=str(path))


def usual_split(source: Source) -> Split:
    """The examples that were held out, or where none were, those of training."""
    return "test" if holds_out(source) else "train"


def holds_out(source: Source) -> bool:
    """Whether a source keeps examples for testing: a share of them, or some by name."""
    return bool(getattr(source, "holdout", 1) or getattr(source, "held", ()))


def open_data(run: Path, path: Path | None = None, split: Split = "test", trust: Any = False) -> DataSet:
    """The data of the run in a folder, or data of the same kind from `path`."""
    return open_split(run, source_of(run, path, trust), split)


def labelled_source(run: Path, path: Path | None = None, trust: Any = False) -> Any:
    """The same source with classes, where sub-folders can be taken for them: a model without classes did not."""
    source = source_of(run, path, trust)
    return replace(source, labelled=True) if hasattr(source, "labelled") else source


def open_split(run: Path, source: Source, split: Split = "test") -> DataSet:
    """A split of a source of the run's. ValueError where nothing was held out."""
    if split == "test" and not holds_out(source):
        raise ValueError(
            f"split: nothing of the data of {run} is held out, to test on (data.holdout=0); take split=train, or other "
            "data, whole, with split=all"
        )
    data: Any = source.read(split)
    if split == "all" or "source" not in settings_of(data):
        return data
    return replace(data, source=f"{data.source}, {split} split")


def examples_of(model: Model, data: DataSet, n: int, seed: int) -> Examples:
    """`n` of `data`, or all of fewer, in a random order of `seed`, with the classes numbered as the model's.

    ValueError where they are not what the model was trained on: another shape, other grey levels, other classes.
    """
    if n < 2:
        raise ValueError(f"n: expected at least 2 examples, for an interval, got {n}")
    chosen = in_memory(data, permutation(len(data), seed, epoch=0)[:n])
    _check_shape(model, chosen)
    if len(chosen) < 2:
        raise ValueError(f"data: expected at least 2 examples, for an interval, got {len(chosen)} ({data.source})")
    _check_range(model, chosen)
    try:
        check_grid(model.space, chosen.x)
    except ValueError as error:
        raise ValueError(f"{error} ({data.source})") from None
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
    return condition_of(model.description.hears, every(examples))


def _check_shape(model: Model, data: Examples) -> None:
    wanted, got = model.space.shape, tuple(data.x.shape[1:])
    if len(wanted) != len(got) or (len(wanted) != 2 and wanted != got):
        raise ValueError(
            f"data: the model was trained on {_kind(wanted)}, these are {_kind(got)}; give data like those"
        )
    if len(wanted) == 3 and model.space.levels != data.levels:
        levels, own = (
            "continuous values" if one is None else f"{one} grey levels" for one in (model.space.levels, data.levels)
        )
        raise ValueError(
            f"data: the model was trained on pictures of {levels}, these have {own} "
            f"({data.source}); give data of the same kind"
        )


def _check_range(model: Model, data: Examples) -> None:
    """Data of another scale: a range less than half or more than twice as wide as that of the training data."""
    if "range" not in model.statistics:
        return
    x = data.x if data.known is None else data.x[data.known]
    x = x.to(torch.int32) if x.dtype == torch.uint16 else x
    (low, high), (least, most) = model.statistics["range"].tolist(), (float(x.min()), float(x.max()))
    if not 0.5 * (high - low) <= most - least <= 2 * (high - low):
        raise ValueError(
            f"data: the model was trained on values from {low:g} to {high:g}, these run from {least:g} to {most:g} "
            f"({data.source}); give data of the same range"
        )


def _kind(shape: tuple[int, ...]) -> str:
    kinds = {1: "rows of numbers", 2: "sequences (frames x features)", 3: "pictures (channels x height x width)"}
    return f"{' x '.join(map(str, shape))} {kinds.get(len(shape), 'numbers')}"
