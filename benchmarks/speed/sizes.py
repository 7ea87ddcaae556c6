"""The networks that are timed, and at which batch sizes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Size:
    """Square pictures, and batch sizes that a user would choose for them."""

    name: str
    says: str
    channels: int
    size: int
    batches: tuple[int, ...]

    def shape(self, batch: int) -> tuple[int, int, int, int]:
        """Of a batch."""
        return batch, self.channels, self.size, self.size


SIZES = {
    size.name: size
    for size in (
        Size("small", "grey pictures of 32x32, DDPM's U-Net at width 32, 1.6M parameters", 1, 32, (1, 64)),
        Size("cifar10", "colour pictures of 32x32, DDPM's U-Net at width 128, 35.7M parameters", 3, 32, (16,)),
        Size("dit", "colour pictures of 32x32, DiT-S/2 on 256 tokens, 32.5M parameters", 3, 32, (16,)),
    )
}
