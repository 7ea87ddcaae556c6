"""What samples are conditioned on: tensors by name, one row for each sample; and which frames of a sequence are real.

    Condition(label=torch.tensor([3, 1]))        what a network is called with: network(x, noise_label, label=...)

Which names there are is nobody's list: kinds of condition (`hearing`) make them, networks hear them. A condition is
bound to a denoiser once (`partial(denoiser, condition=c)`). For classifier-free guidance (Ho & Salimans 2022) a network
must also know "no condition". What that is for a name, its kind says by `nulls`; where nobody does, its form does:

    (b,) whole numbers              -1, the null label
    (b, n) or (b, n, width)         a sequence: hidden by its mask, `<name>_valid` (b, n), all False; it stays itself
    (b, c, h, w)                    a picture: zeros, at the log-SNR `<name>_logsnr` (b,) of -inf, pure noise

`valid` (b, frames), bool, says which frames of x exist, and `weight` (b, frames, features), from 0, how much each
number of x counts, 0 being one that is missing. They are no conditions, and dropping never touches them; a network
hears the first and not the second, which there is only of data.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType

import torch
from torch import Tensor

from unsteep.core import masked
from unsteep.core.arguments import kind, shown
from unsteep.core.level import on_device

NULL_LABEL = -1
VALID, WEIGHT = "valid", "weight"
SCALE = "scale"  # of guidance, which a student hears
MASK, LOGSNR = "_valid", "_logsnr"


class Condition(Mapping[str, Tensor]):
    """A frozen mapping: name -> tensor (b, ...). Names whose tensor is None are left out.

    `nulls`: what "no condition" is for a name, tensors that broadcast with one row (1, ...). ValueError where tensors
    have different numbers of rows.
    """

    def __init__(
        self,
        tensors: Mapping[str, Tensor | None] | None = None,
        /,
        *,
        nulls: Mapping[str, Tensor] | None = None,
        **named: Tensor | None,
    ) -> None:
        if not isinstance(tensors, Mapping | None) or not isinstance(nulls, Mapping | None):
            wrong, value = ("nulls", nulls) if isinstance(tensors, Mapping | None) else ("tensors", tensors)
            raise ValueError(f"{wrong}: expected a mapping of names to tensors, got {shown(value)}; give a dict")
        given = {**(tensors or {}), **named}
        for name, null in (nulls or {}).items():
            kind(str(name), null, Tensor, "a tensor for no condition", "make it one, as torch.tensor([...])")
        for name, one in given.items():
            if one is not None and (not isinstance(one, Tensor) or one.ndim == 0 or one.layout != torch.strided):
                raise ValueError(
                    f"{name}: expected a tensor with a row for each sample, got {_kind(one)}; make it one, as "
                    f"torch.tensor([...])"
                )
        self._tensors = MappingProxyType({name: one for name, one in given.items() if one is not None})
        self._nulls = MappingProxyType(dict(nulls or {}))
        counts = {name: len(one) for name, one in self._tensors.items()}
        if len(set(counts.values())) > 1:
            told = ", ".join(f"{name} has {count}" for name, count in counts.items())
            raise ValueError(f"condition: expected as many rows of each, got {told}; give one for each sample")

    def __getitem__(self, name: str) -> Tensor:
        return self._tensors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def __repr__(self) -> str:
        return f"Condition({', '.join(f'{name}: {_kind(one)}' for name, one in self.items())})"

    @property
    def count(self) -> int:
        """How many rows there are; 0 where nothing is conditioned on."""
        return next((len(one) for one in self.values()), 0)

    @property
    def nulls(self) -> Mapping[str, Tensor]:
        """What "no condition" is for a name, where its form does not say it."""
        return self._nulls

    @property
    def known(self) -> Tensor | None:
        """Which numbers of x are known: bool (b, frames), finer where some are missing; None where all are."""
        return masked.known(self.get(VALID), self.get(WEIGHT))

    @property
    def heard(self) -> dict[str, Tensor]:
        """What a network is called with."""
        return {name: one for name, one in self.items() if name != WEIGHT}

    def select(self, index: slice | Tensor) -> Condition:
        """That of some rows."""
        return self._with({name: one[index] for name, one in self.items()})

    def to(self, device: torch.device | str) -> Condition:
        """The same condition on another device; float64 becomes float32 where a device has none."""
        return self._with({name: on_device(one, device) for name, one in self.items()})

    def null(self) -> Condition:
        """No condition, in the same shapes."""
        return self.drop(torch.ones(self.count, dtype=torch.bool))

    def drop(self, rows: Tensor) -> Condition:
        """The condition with `rows` (b,) bool nulled, as training for classifier-free guidance does at random.

        ValueError for a name of which neither `nulls` nor its form says what none is.
        """
        if not isinstance(rows, Tensor) or rows.dtype != torch.bool or tuple(rows.shape) != (self.count,):
            raise ValueError(f"rows: expected bools ({self.count},), got {shown(rows)}; give one for each row")
        whole = self._completed()
        return self._with({name: self._nulled(name, one, rows, whole) for name, one in whole.items()})

    def _with(self, tensors: Mapping[str, Tensor]) -> Condition:
        return Condition(tensors, nulls=self._nulls)

    def _completed(self) -> dict[str, Tensor]:
        """With what a sequence or a picture alone takes for granted: that all of it counts, that it is clean."""
        whole = dict(self)
        for name, one in self.items():
            if name in self._nulls or name in (VALID, WEIGHT) or name.endswith((MASK, LOGSNR)):
                continue
            if one.ndim in (2, 3) and name + MASK not in whole:
                whole[name + MASK] = torch.ones(one.shape[:2], dtype=torch.bool, device=one.device)
            if one.ndim == 4 and name + LOGSNR not in whole:
                whole[name + LOGSNR] = on_device(torch.full((len(one),), torch.inf, dtype=torch.float64), one.device)
        return whole

    def _nulled(self, name: str, one: Tensor, rows: Tensor, whole: Mapping[str, Tensor]) -> Tensor:
        if name in (VALID, WEIGHT):
            return one
        if name in self._nulls:
            null = self._nulls[name].to(one)
        elif name.endswith(MASK):
            null = torch.zeros((), dtype=torch.bool, device=one.device)
        elif name.endswith(LOGSNR):
            null = one.new_full((), -torch.inf)
        elif name + MASK in whole:
            return one
        elif name + LOGSNR in whole:
            null = one.new_zeros(())
        elif one.ndim == 1 and not one.is_floating_point():
            null = one.new_full((), NULL_LABEL)
        else:
            raise ValueError(
                f"{name}: what is none of it? expected `nulls` to say so for {_kind(one)}; give "
                f"Condition({name}=..., nulls={{{name!r}: torch.tensor([...])}})"
            )
        mask = rows.to(one.device).reshape(rows.shape + (1,) * (one.ndim - 1))
        return torch.where(mask, null, one)


def joined(conditions: list[Condition]) -> Condition:
    """Conditions, one after another as the rows of one. All have the same names; shorter sequences are padded."""
    names = dict.fromkeys(name for one in conditions for name in one)
    nulls = {name: null for one in conditions for name, null in one.nulls.items()}
    columns = {name: _padded([one[name] for one in conditions]) for name in names}
    return Condition({name: torch.cat(column) for name, column in columns.items()}, nulls=nulls)


def _padded(parts: list[Tensor]) -> list[Tensor]:
    """Tensors (b, n, ...) of different n, with zeros up to the longest."""
    if parts[0].ndim < 2 or len({part.shape[1] for part in parts}) == 1:
        return parts
    longest = max(part.shape[1] for part in parts)
    return [torch.cat([part, part.new_zeros(len(part), longest - part.shape[1], *part.shape[2:])], 1) for part in parts]


def _kind(value: object) -> str:
    if not isinstance(value, Tensor):
        return type(value).__name__
    return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
