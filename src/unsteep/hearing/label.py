"""The class of a sample: `sample(..., label=4)`, by number or name.

A network hears `label` (b,) int64, of which -1 is no class.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from torch import Tensor

from unsteep.core.arguments import shown
from unsteep.core.condition import NULL_LABEL
from unsteep.core.noise import NoiseSource
from unsteep.core.protocols import DataSet, Rows
from unsteep.data.reading import labels_of

if TYPE_CHECKING:
    from unsteep.core.noise import Draw

STREAM = -2  # where a sample draws its own class; the steps of a sampler use 0, 1, 2, ...


@dataclass(frozen=True, kw_only=True)
class Label:
    """The classes by `names`, and how many examples of each the data have, `counts`; (): filled from them."""

    names: tuple[str, ...] = ()
    counts: tuple[int, ...] = ()
    name: ClassVar[str] = "label"
    lacks: ClassVar[str] = "was trained without labels; train with condition.label=true"

    def fitted(self, data: DataSet) -> Self:
        """With the classes of the data."""
        labels = labels_of(data)
        if labels is None or not data.names:
            hint = "turn it off, or, for a folder, set data.labelled=true to take sub-folders as classes"
            raise ValueError(f"condition.label: these data have no labels ({data.source}); {hint}")
        counts = torch.bincount(labels, minlength=len(data.names)).tolist()
        return replace(self, names=data.names, counts=tuple(counts))

    def of(self, rows: Rows, draw: Draw | None = None) -> dict[str, Tensor]:
        """The classes of examples."""
        if rows.label is None:
            raise ValueError("data: the model was trained with classes, and these have none; give labelled data")
        return {"label": rows.label}

    def asked(self, value: Any, n: int, seeds: Sequence[int]) -> dict[str, Tensor]:
        """`value`: one class for all, one for each, by number or name, or None to draw them as often as the data have
        them, each by its sample's seed."""
        if value is None:
            return {"label": self.drawn(seeds)}
        if _is_one(value):
            return {"label": torch.full((n,), self.number(value))}
        if (
            isinstance(value, bytes | Mapping | Set)
            or getattr(value, "is_sparse", False)
            or not hasattr(value, "__iter__")
        ):
            raise ValueError(f"label: expected classes by number or name, got {shown(value)}; give one, or one each")
        if hasattr(value, "__len__") and len(value) != n:
            raise ValueError(f"label: expected one label or {n}, one for each sample; got {len(value)}")
        each = value.tolist() if hasattr(value, "tolist") else list(value)
        if len(each) != n:
            raise ValueError(f"label: expected one label or {n}, one for each sample; got {len(each)}")
        return {"label": torch.tensor([self.number(one) for one in each])}

    def said(self, value: Any, n: int, seeds: Sequence[int]) -> list[str]:
        """The name of the class of each of n samples, drawn where `value` is None."""
        return [self.names[i] for i in self.asked(value, n, seeds)["label"].tolist()]

    @staticmethod
    def several(text: str, names: Sequence[str]) -> list[str]:
        """The classes in a text, parted by commas; all of them for "all". The name of a class may hold commas itself:
        the longest name that stands there is taken."""
        if text == "all" and names:
            return list(names)
        parts, found, at = text.split(","), [], 0
        while at < len(parts):
            ends = range(len(parts), at, -1)
            whole = {end: ",".join(parts[at:end]).strip() for end in ends}
            end = next((end for end in ends if whole[end] in names), at + 1)
            found.append(whole[end])
            at = end
        return found

    def null(self, n: int) -> dict[str, Tensor]:
        """No class."""
        return {"label": torch.full((n,), NULL_LABEL)}

    def describe(self) -> str:
        return "class"

    def drawn(self, seeds: Sequence[int]) -> Tensor:
        """Classes as often as in the data, int64 (n,)."""
        u = NoiseSource(seeds, STREAM).uniform(torch.empty(len(seeds), 1, dtype=torch.float64), 0).squeeze(1)
        counts = torch.tensor(self.counts or [1] * len(self.names), dtype=torch.float64)
        shares = (counts / counts.sum()).cumsum(0)
        return torch.searchsorted(shares, u.contiguous()).clamp(max=len(counts) - 1)

    @property
    def conditioning(self) -> dict[str, Any]:
        """How a run's `condition` asks for it."""
        return {"label": True}

    @property
    def meaning(self) -> object:
        """What decides whether two models mean the same."""
        return self.name, self.names

    def number(self, label: Any) -> int:
        """The number of a class by number or name. ValueError for others."""
        if isinstance(label, str) and label in self.names:  # a name first: a model of the digit "4" has it as class 0
            return self.names.index(label)
        if isinstance(label, str):
            number = int(label) if label.isascii() and label.isdigit() else -1
        else:
            try:
                if isinstance(label, bool):
                    raise TypeError
                number = operator.index(label)  # whole numbers of Python, NumPy and torch
            except (TypeError, RuntimeError):
                number = -1
            if str(number) in self.names:
                return self.names.index(str(number))
        if 0 <= number < len(self.names):
            return number
        known = ", ".join(f"{i} ({name})" if str(i) != name else name for i, name in enumerate(self.names))
        got = repr(label) if isinstance(label, int | str) else shown(label)
        raise ValueError(f"label: {got} is not a class of this model; its classes are {known}")


def _is_one(value: Any) -> bool:
    """Whether it is one label, not a row of them."""
    return isinstance(value, str) or not hasattr(value, "__len__") or getattr(value, "ndim", 1) == 0
