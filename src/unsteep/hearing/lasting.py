"""How long a sequence lasts, from the words that ask for it: a line through the logarithms of lengths.

    log length = base + each * (number of words) + what each different word adds + error

by least squares with a penalty on what words add (Hoerl & Kennard 1970), which is chosen, as the errors are measured,
on examples that are left out one at a time: their errors are those on new examples, in closed form (Allen 1974). Their
quantiles are kept, so that an interval between two of them holds as much of new lengths as it says.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

MOST_WORDS = 512
ROWS = 4096  # at a time
PENALTIES = (0.01, 0.1, 1.0, 10.0, 100.0)
QUANTILES = 41  # from the least error to the greatest
FEWEST = 8  # examples to learn from


@dataclass(frozen=True, kw_only=True)
class Lasting:
    """`base`, `each`, and what each of `words` `adds`: see the module; `errors`: their quantiles, evenly spaced."""

    base: float = 0.0
    each: float = 0.0
    words: tuple[str, ...] = ()
    adds: tuple[float, ...] = ()
    errors: tuple[float, ...] = (0.0,)

    @classmethod
    def learned(cls, texts: Sequence[str], lengths: Tensor) -> Self | None:
        """From texts and lengths (n,); None of too few."""
        if len(texts) < FEWEST:
            return None
        often = Counter(word for text in texts for word in set(_words(text)))
        words = tuple(sorted(word for word, count in often.most_common(MOST_WORDS) if count < len(texts)))
        y = lengths.double().log()
        x = _design(texts, words)
        gram, right = torch.zeros(x.shape[1], x.shape[1], dtype=torch.float64), torch.zeros(x.shape[1]).double()
        for rows, values in zip(x.split(ROWS), y.split(ROWS), strict=True):
            gram, right = gram + rows.T.double() @ rows.double(), right + rows.T.double() @ values
        free = torch.eye(x.shape[1], dtype=torch.float64)
        free[0, 0] = 0  # the base has no penalty
        found = []
        for penalty in PENALTIES:
            inverse = torch.linalg.inv(gram + penalty * free)
            line = inverse @ right
            off = [
                (values - rows.double() @ line) / (1 - ((rows.double() @ inverse) * rows).sum(1)).clamp(min=1e-6)
                for rows, values in zip(x.split(ROWS), y.split(ROWS), strict=True)
            ]
            found.append((torch.cat(off), line))
        errors, line = min(found, key=lambda one: float(one[0].square().sum()))
        spread = torch.quantile(errors, torch.linspace(0, 1, QUANTILES, dtype=torch.float64))
        base, each, *adds = line.tolist()
        return cls(base=base, each=each, words=words, adds=tuple(adds), errors=tuple(spread.tolist()))

    def at(self, texts: Sequence[str], share: Tensor) -> Tensor:
        """The length below which a `share` (n,) of those of such texts lie: float64 (n,), in frames."""
        line = torch.tensor([self.base, self.each, *self.adds], dtype=torch.float64)
        errors = torch.tensor(self.errors, dtype=torch.float64)
        place = share.double().clamp(0, 1) * (len(errors) - 1)
        below = place.floor().long()
        above = (below + 1).clamp(max=len(errors) - 1)
        return (_design(texts, self.words).double() @ line + errors[below].lerp(errors[above], place - below)).exp()


def _words(text: str) -> list[str]:
    return text.lower().split()


def _design(texts: Sequence[str], words: Sequence[str]) -> Tensor:
    """Of each text 1, how many words it has, and which: float32 (n, 2 + words)."""
    places = {word: 2 + i for i, word in enumerate(words)}
    x = torch.zeros(len(texts), 2 + len(words))
    x[:, 0] = 1
    for row, text in enumerate(texts):
        said = _words(text)
        x[row, 1] = len(said)
        x[row, [places[word] for word in set(said) if word in places]] = 1
    return x
