"""The handwritten digits that come inside scikit-learn: the smallest real data set, always at hand.

1797 grey pictures of 8 x 8 with 17 grey values (0 to 16), from E. Alpaydin and C. Kaynak, Optical Recognition
of Handwritten Digits, UCI Machine Learning Repository, 1998: the part that UCI offers for testing. It has no
split of its own, so a fixed tenth is held out.
"""

from dataclasses import dataclass

import numpy as np
import torch

from unsteep.core.protocols import Split
from unsteep.data.choosing import choose
from unsteep.data.examples import Examples


@dataclass(frozen=True, kw_only=True)
class Digits:
    """Grey 8 x 8 digits.

    labels: keep these classes (0 to 9); limit: keep the first so many; holdout: the fraction kept for testing.
    """

    labels: tuple[int, ...] = ()
    limit: int = 0
    holdout: float = 0.1

    def read(self, split: Split = "train") -> Examples:
        """uint8 (n, 1, 8, 8), v of 16 as round(255 v / 16). ValueError for a class or split that is empty."""
        from sklearn.datasets import load_digits  # takes seconds to import, and only this source needs it

        values, numbers = load_digits(return_X_y=True)
        source = "the digits of scikit-learn"
        chosen = choose(
            len(values),
            source=source,
            split=split,
            holdout=self.holdout,
            numbers=numbers,
            classes={digit: str(digit) for digit in range(10)},
            labels=self.labels,
            limit=self.limit,
        )
        pixels = np.rint(values[chosen.index] * (255 / 16)).astype(np.uint8).reshape(-1, 1, 8, 8)
        return Examples(torch.from_numpy(pixels), chosen.labels, chosen.names, levels=17, source=source)
