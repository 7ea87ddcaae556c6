"""What joins the rooms: the few things that a part of one's own has to be, and what they pass to each other.

    Space           what a model's tensors mean outside it: pictures, vectors, sequences
    Hears           one kind of condition: class, text, aligned picture, length
    NetworkConfig   a network before it is built
    Source          where data come from, and DataSet, what it gives: random access by position, as `Rows`

None of them is a base class: whatever has these methods is one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, Self, runtime_checkable

import torch
from torch import Tensor

from unsteep.core import masked

if TYPE_CHECKING:
    from unsteep.core.noise import Draw

Split = Literal["train", "test", "all"]


@dataclass(frozen=True, eq=False)
class Rows:
    """Examples as their source has them, raw: `x` (b, ...), and what there is beside, None where there is nothing.

    `valid` bool (b, frames): which frames of a sequence are real. `weight` float (b, frames, features), from 0: how
    much each of its numbers counts in what is learned and measured, 0 for one that is missing. `label` (b,) int64, an
    index into the data's names. `caption`: a text each. `beside` (b, ...): something aligned with x, as a mask or a
    skeleton. `index` (b,) int64: their positions in the data.
    """

    x: Tensor
    valid: Tensor | None = None
    label: Tensor | None = None
    caption: tuple[str, ...] | None = None
    beside: Tensor | None = None
    index: Tensor | None = None
    weight: Tensor | None = None

    @property
    def known(self) -> Tensor | None:
        """Which numbers of x are known: bool (b, frames), or finer where some are missing; None where all are."""
        return masked.known(self.valid, self.weight)

    def __len__(self) -> int:
        return len(self.x)

    def select(self, index: Tensor) -> Rows:
        """Some of them, by position or mask."""
        chosen = {f.name: _selected(getattr(self, f.name), index) for f in fields(self)}
        return Rows(**chosen)

    def mirrored(self, which: Tensor) -> Rows:
        """With those in the mask `which` (b,) flipped along the last axis, and what stands beside them with them."""

        def flipped(x: Tensor) -> Tensor:
            turned = x[..., torch.arange(x.shape[-1] - 1, -1, -1)]  # flip knows no uint16
            return torch.where(which.reshape(-1, *(1,) * (x.ndim - 1)), turned, x)

        return replace(self, x=flipped(self.x), beside=None if self.beside is None else flipped(self.beside))


def _selected(value: Any, index: Tensor) -> Any:
    if isinstance(value, tuple):
        places = torch.arange(len(value))[index].tolist()
        return tuple(value[place] for place in places)
    return None if value is None else value[index]


class Space(Protocol):
    """What a model's tensors mean outside it."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one example inside the model."""
        ...

    @property
    def bounds(self) -> tuple[float, float] | None:
        """The range of values inside, to clip estimates to; None where there is none."""
        ...

    @property
    def levels(self) -> int | None:
        """How many equally spaced values data take between the bounds; None where they are continuous."""
        ...

    def fitted(self, data: DataSet) -> Self:
        """With what it takes from the data, as sizes and scales. ValueError for data that it does not know."""
        ...

    def log_volume(self, valid: Tensor | None = None) -> float | Tensor:
        """What turns minus a log-density of the model's numbers into that of numbers in the data's own units: the sum
        of the logarithms of their scales, nats for each example."""
        ...

    def encode(self, x: Tensor, valid: Tensor | None = None) -> Tensor:
        """Raw rows (b, ...) to the model's units, float32 (b, *shape), on the device of x. `valid`: bool, of the first
        axes of x; what it leaves out changes nothing."""
        ...

    def decode(self, x: Tensor, valid: Tensor | None = None) -> Any:
        """And back, on the CPU, cut to what is valid."""
        ...

    def check(self, x: Tensor) -> None:
        """ValueError, with what was expected, what was got and what to do, where raw rows (b, ...) are not of this
        space: another shape, another type, values out of its range."""
        ...

    def tiles(self, samples: Any) -> Tensor | None:
        """Samples as `decode` gives them, each as a small picture to be laid in sheets, strips and animations: uint8
        (n, 1 or 3, h, w). None where one sample is no picture."""
        ...

    def show(self, samples: Any, **how: Any) -> Any:
        """Samples as `decode` gives them, as one picture (`PIL.Image.Image`) that a person can look at. `how`: titles,
        labels of rows and columns, `data` to compare with; what does not fit is left aside."""
        ...

    def describe(self) -> str:
        """In words, as "pictures, 3 x 64 x 64 (channels x height x width)"."""
        ...


class Hears(Protocol):
    """One kind of condition."""

    name: ClassVar[str]
    """What a user asks by: `sample(..., label=4)`."""

    def fitted(self, data: DataSet) -> Self:
        """With what is learned from the data: vocabulary, names of classes. ValueError where they lack it."""
        ...

    def of(self, rows: Rows, draw: Draw | None = None) -> dict[str, Tensor]:
        """What examples have, by the names that networks hear. `draw`: a training step's randomness. ValueError where
        they lack it."""
        ...

    def asked(self, value: Any, n: int, seeds: Sequence[int]) -> dict[str, Tensor]:
        """What a user asks for, for n samples of these seeds; `value` None: what is usual. ValueError for others."""
        ...

    def null(self, n: int) -> dict[str, Tensor]:
        """No condition, in n rows; shapes beside the rows may be 1, to broadcast."""
        ...

    def describe(self) -> str:
        """In a word or two, as "class" or "caption"."""
        ...


class NetworkConfig(Protocol):
    """A network before it is built: a frozen dataclass."""

    def fitted(self, space: Space, outputs: int, heard: Mapping[str, Hears]) -> Self:
        """With its sizes. `outputs`: numbers for each of the space's, 1, or 2 with a learned variance: the network's
        answer is as many examples, joined along their first axis. ValueError for a space or a condition that it does
        not know."""
        ...

    def build(self) -> Any:
        """The untrained network, an `nn.Module` called as network(x, noise_label, **heard)."""
        ...


@runtime_checkable
class DataSet(Protocol):
    """Examples by position: from memory, files or anywhere else.

    Raw pictures are (c, h, w) of uint8, of uint16 where the source has more than 256 values, of float32 where it is
    continuous; vectors (d,), sequences (frames, features). `names` of the classes, () without. `source`: one line.
    `skipped`: (what, why). `levels`: how many values the source takes, None where it is continuous.
    """

    @property
    def names(self) -> tuple[str, ...]: ...

    @property
    def source(self) -> str: ...

    @property
    def skipped(self) -> Sequence[tuple[str, str]]: ...

    @property
    def levels(self) -> int | None: ...

    @property
    def digest(self) -> str:
        """SHA-256 (64 hex digits) of all that a run learns from."""
        ...

    def __len__(self) -> int: ...

    def rows(self, index: Tensor) -> Rows:
        """The examples at the positions `index` (b,) int64."""
        ...

    def summary(self) -> list[tuple[str, str]]:
        """Rows (name, text) to print before training."""
        ...


class Source(Protocol):
    """Where data come from: a frozen dataclass whose fields are its settings."""

    def read(self, split: Split = "train") -> DataSet:
        """The examples of a split. ValueError saying what was expected, what was found, and what to do."""
        ...
