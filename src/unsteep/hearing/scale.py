"""The scale of guidance, to a student of a guided teacher: `sample(..., guidance=2)`, at one call a step.

A network hears `scale` (b,), of which 1 is none. It is no condition of the data: training draws it, from 1 to the
largest that it is to know, all alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from torch import Tensor

from unsteep.core.arguments import number
from unsteep.core.condition import SCALE
from unsteep.core.noise import Purpose
from unsteep.core.protocols import DataSet, Rows

if TYPE_CHECKING:
    from unsteep.core.noise import Draw


@dataclass(frozen=True, kw_only=True)
class Scale:
    """The scales from 1 to `most`."""

    most: float = 1.0
    name: ClassVar[str] = "guidance"
    lacks: ClassVar[str] = "was not taught guidance; it is guided by two calls a step, with guidance="

    def fitted(self, data: DataSet) -> Self:
        """As it is."""
        return self

    def of(self, rows: Rows, draw: Draw | None = None) -> dict[str, Tensor]:
        """Drawn for each example in training; 1 elsewhere."""
        none = self.null(len(rows.x))
        if draw is None:
            return none
        return {SCALE: 1 + (self.most - 1) * draw.uniform(Purpose.SCALE).to(none[SCALE])}

    def asked(self, value: Any, n: int, seeds: Sequence[int]) -> dict[str, Tensor]:
        """`value`: one scale for all, None for none."""
        scale = number("guidance", 1.0 if value is None else value)
        if not 1 <= scale <= self.most:
            raise ValueError(
                f"guidance: this model was taught scales from 1 to {self.most:g}, got {scale:g}; take one of them, or "
                "ask the model that taught it"
            )
        return {SCALE: torch.full((n,), float(scale))}

    def null(self, n: int) -> dict[str, Tensor]:
        """No guidance."""
        return {SCALE: torch.ones(n)}

    def describe(self) -> str:
        return "scale of guidance"

    @property
    def conditioning(self) -> dict[str, Any]:
        """How a run's `condition` asks for it: not at all, its objective does."""
        return {}
