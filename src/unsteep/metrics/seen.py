"""What metrics are taken of: numbers that a network of features sees in pictures."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, eq=False)
class Seen:
    """What a network sees in n pictures: `features` float32 (n, d), and where it tells classes apart, `logits`
    float32 (n, k); on the CPU."""

    features: Tensor
    logits: Tensor | None = None

    def __len__(self) -> int:
        return len(self.features)

    def select(self, index: Tensor | slice) -> Seen:
        """Those at `index`."""
        return Seen(self.features[index], None if self.logits is None else self.logits[index])
