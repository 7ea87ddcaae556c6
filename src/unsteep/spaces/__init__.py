"""What a model's tensors mean outside it: pictures, vectors, sequences, clips of points, or a space of one's own."""

from __future__ import annotations

from typing import Annotated

import torch

from unsteep.core.open import Components
from unsteep.core.protocols import DataSet, Space
from unsteep.spaces.keypoints import Keypoints
from unsteep.spaces.pixels import Pixels
from unsteep.spaces.sequences import Sequences
from unsteep.spaces.vectors import Vectors

OURS = Components(Pixels, Vectors, Sequences, Keypoints)
AnySpace = Annotated[Space, OURS]


def space_of(data: DataSet) -> Space:
    """The space of data where nobody says which: by the number of axes of an example. ValueError for others."""
    axes = data.rows(torch.tensor([0])).x.ndim - 1
    for family in OURS.components:
        if family.axes == axes:
            fitted: Space = family().fitted(data)
            return fitted
    raise ValueError(
        f"data: expected pictures (c, h, w), sequences (frames, features) or rows of numbers, got examples with {axes} "
        f"axes ({data.source}); reshape them, or name a space of your own"
    )


__all__ = ["AnySpace", "Keypoints", "Pixels", "Sequences", "Vectors", "space_of"]
