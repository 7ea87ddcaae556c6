"""What metrics look at: numbers that a network sees in a picture.

A number of a metric belongs to its features: which network, which weights, and how pictures came to its size. All are
named here, and go into the protocol of every result.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

import torch
from torch import Tensor

from unsteep.metrics.seen import Seen


class Features(Protocol):
    """A network of features."""

    @property
    def name(self) -> str:
        """As reports name it."""
        ...

    @property
    def digest(self) -> str:
        """SHA-256 of its weights, so that two results can be told to have used the same."""
        ...

    @property
    def dimension(self) -> int:
        """d."""
        ...

    @property
    def resize(self) -> str:
        """How pictures come to its size, as in "none" or "bicubic 224"."""
        ...

    def __call__(self, pictures: Tensor) -> Seen:
        """uint8 (b, c, h, w). ValueError for channels that it does not know."""
        ...


def gather(features: Features, batches: Iterable[Tensor]) -> Seen:
    """What is seen in uint8 batches (b, c, h, w), one after the other: no more than one is held. On the CPU,
    wherever the features look. ValueError where features are not finite, counted and named by position."""
    seen = list(_each(features, batches))
    if not seen:
        raise ValueError("features: expected at least one picture, got none")
    logits = [one.logits for one in seen if one.logits is not None]
    found = Seen(torch.cat([one.features for one in seen]).cpu(), torch.cat(logits).cpu() if logits else None)
    broken = (~found.features.isfinite().all(1)).nonzero().flatten().tolist()
    if broken:
        raise ValueError(
            f"features: {len(broken)} of {len(found)} pictures give features that are not finite, the first at "
            f"positions {broken[:5]}; leave them out, or use other features than {features.name}"
        )
    return found


def grey_or_colour(pictures: Tensor, who: str) -> None:
    """ValueError for pictures (b, c, h, w) of other channels than a network knows that was trained on photographs."""
    if pictures.ndim != 4 or pictures.shape[1] not in (1, 3):
        raise ValueError(
            f"{who}: knows grey and colour pictures, of 1 or 3 channels, got shape {tuple(pictures.shape)}; "
            "take domain features, and leave LPIPS and CLIP scores out"
        )


@torch.no_grad()
def _each(features: Features, batches: Iterable[Tensor]) -> Iterator[Seen]:
    for batch in batches:
        if batch.dtype != torch.uint8 or batch.ndim != 4:
            raise ValueError(f"features: expected uint8 pictures (b, c, h, w), got {batch.dtype} {tuple(batch.shape)}")
        yield features(batch)
