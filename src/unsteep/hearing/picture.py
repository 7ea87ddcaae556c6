"""An aligned picture: `sample(..., picture=small, augment=0.1)`.

A network hears `picture` (b, c, h, w) beside its input, in [-1, 1], and `picture_logsnr` (b,), how noisy it is. It may
be noised first, as it was in training (the conditioning augmentation of Ho et al. 2021, "Cascaded diffusion models"):
x_t of it, at a time t of the `Cosine` schedule, whatever the model's own is. No picture is one of pure noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self

import torch
from torch import Tensor

from unsteep.core.arguments import number
from unsteep.core.level import add_noise
from unsteep.core.noise import NoiseSource, Purpose
from unsteep.core.protocols import DataSet, Rows
from unsteep.core.schedules import Cosine
from unsteep.data.reading import shape_of
from unsteep.hearing.pairs import Aligned, unit

if TYPE_CHECKING:
    from unsteep.core.noise import Draw

STREAM = -4  # where the noise of a sample's picture comes from


class Noised(NamedTuple):
    """An aligned picture, or one for each sample, and the time that it is to be noised to."""

    picture: Tensor
    augment: float = 0.0


def noised(picture: Tensor | None, augment: float) -> Noised | None:
    """An aligned picture with the time it is noised to. ValueError for a time without a picture."""
    number("augment", augment)
    if picture is None and augment:
        raise ValueError(f"augment: {augment} is the noise of a picture; give one")
    return None if picture is None else Noised(picture, augment)


@dataclass(frozen=True, kw_only=True)
class Picture:
    """`what`: low-resolution:8, sketch or given (see `pairs`). `augment`: the latest time that it was noised to in
    training. `channels`, `height`, `width` of the pictures that the model makes; 0: filled from the data."""

    what: str
    augment: float = 0.5
    channels: int = 0
    height: int = 0
    width: int = 0
    name: ClassVar[str] = "picture"
    lacks: ClassVar[str] = "was trained without one; train with condition.picture=low-resolution:8"

    def __post_init__(self) -> None:
        Aligned.of(self.what)
        if not 0 <= self.augment <= 1:
            raise ValueError(f"augment: expected a time from 0 to 1, got {self.augment}")

    @property
    def aligned(self) -> Aligned:
        """Which picture stands beside each."""
        return Aligned.of(self.what)

    @property
    def beside(self) -> int:
        """Channels of the aligned picture."""
        return self.aligned.channels(self.channels)

    def fitted(self, data: DataSet) -> Self:
        """With the sizes of the data."""
        shape = shape_of(data)
        if len(shape) != 3:
            raise ValueError("condition.picture: these data are rows of numbers, not pictures; set it to none")
        channels, height, width = shape
        if self.aligned.kind == "low-resolution":
            self.aligned.small(height, width)
        if self.aligned.kind == "given" and data.rows(torch.tensor([0])).beside is None:
            raise ValueError(
                f"condition.picture: nothing is given beside these pictures ({data.source}); set data.aligned to the "
                "folder of their aligned pictures"
            )
        return replace(self, channels=channels, height=height, width=width)

    def of(self, rows: Rows, draw: Draw | None = None) -> dict[str, Tensor]:
        """The aligned pictures of examples: in training noised to a time drawn evenly from [0, augment], else clean."""
        picture = unit(self.of_rows(rows))
        if draw is None:
            return _heard(picture, torch.full((len(picture),), torch.inf, dtype=torch.float64))
        t = self.augment * draw.uniform(Purpose.PICTURE_TIME)
        return _heard(*augmented(picture, t, draw.normal(picture, Purpose.PICTURE_NOISE)))

    def of_rows(self, rows: Rows) -> Tensor:
        """The aligned pictures of examples, as pictures (b, c', h, w)."""
        if self.aligned.kind != "given":
            return self.aligned.made_from(rows.x)
        if rows.beside is None:
            raise ValueError(
                "data: the model was trained with aligned pictures, and these have none; set data.aligned to theirs"
            )
        return rows.beside

    def asked(self, value: Any, n: int, seeds: Sequence[int]) -> dict[str, Tensor]:
        """`value`: a picture for all or one for each, (1 or n, c, h, w), or `Noised`; None for no picture."""
        if value is None:
            return self.null(n)
        picture, augment = value if isinstance(value, Noised) else Noised(value)
        if not isinstance(picture, Tensor) or len(picture) not in (1, n):
            got = len(picture) if isinstance(picture, Tensor) else type(picture).__name__
            raise ValueError(f"picture: expected one or {n}, one for each sample; got {got}")
        if not 0 <= augment <= self.augment:
            raise ValueError(
                f"augment: expected a time from 0 to {self.augment:g}, as this model has learned it, got {augment}"
            )
        whole = unit(self.aligned.fitted(picture, self.channels, self.height, self.width))
        x = whole.expand(n, *whole.shape[1:])
        noise = NoiseSource(seeds, STREAM).normal(x, 0)
        return _heard(*augmented(x, torch.full((n,), augment, dtype=torch.float64), noise))

    def null(self, n: int) -> dict[str, Tensor]:
        """No picture: pure noise, of which nothing is seen."""
        picture = torch.zeros(n, self.beside, self.height, self.width)
        return _heard(picture, torch.full((n,), -torch.inf, dtype=torch.float64))

    @property
    def conditioning(self) -> dict[str, Any]:
        """How a run's `condition` asks for it."""
        return {"picture": self.what, "augment": self.augment}

    @property
    def meaning(self) -> object:
        """What decides whether two models mean the same."""
        return self.name, self.what

    def tiles(self, rows: Rows, channels: int) -> Tensor:
        """The aligned pictures of examples as bytes with 1 or 3 `channels`, to be looked at: uint8 (b, channels, h,
        w)."""
        shown = ((unit(self.of_rows(rows)) + 1) * 127.5).round().to(torch.uint8)
        first = shown[:, :channels] if shown.shape[1] >= channels else shown[:, :1]
        return first.expand(-1, channels, -1, -1)

    def describe(self) -> str:
        return self.what


def augmented(x: Tensor, t: Tensor, eps: Tensor) -> tuple[Tensor, Tensor]:
    """x (b, c, h, w) noised to times t (b,), and their log-SNR, float64 (b,)."""
    level = Cosine()(t)
    return add_noise(x, eps, level), level.logsnr


def _heard(picture: Tensor, logsnr: Tensor) -> dict[str, Tensor]:
    return {"picture": picture, "picture_logsnr": logsnr}
