"""What a model can be conditioned on: one file for each kind, and what all of them make together.

A kind is a frozen dataclass with the methods of `core.protocols.Hears`; one of a user's own is as good.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from unsteep.core.condition import VALID, WEIGHT, Condition
from unsteep.core.open import Components, listed
from unsteep.core.protocols import Hears, Rows
from unsteep.hearing.label import Label
from unsteep.hearing.length import Length
from unsteep.hearing.picture import Noised, Picture
from unsteep.hearing.prompt import Prompt
from unsteep.hearing.scale import Scale

if TYPE_CHECKING:
    from unsteep.core.noise import Draw

ELSEWHERE = {  # what is asked for in other ways than conditions
    "batch": "batch_size=...",
    "precision": "model.to(precision=...) before",
    "tolerance": "solver=unsteep.Adaptive(tolerance=...)",
    **dict.fromkeys(
        ("interval", "rescale", "threshold", "negative", "classifier", "weaker"),
        "guidance=unsteep.Guidance(scale=2, ...)",
    ),
}
AnyHears = Annotated[Hears, Components(Label, Prompt, Picture, Length, Scale)]


@runtime_checkable
class Says(Protocol):
    """A kind of condition that can be said in words."""

    def said(self, value: Any, n: int, seeds: Sequence[int]) -> list[str]:
        """What is asked for by `value`, as `asked` takes it, in words, one for each sample; empty for none."""
        ...


@runtime_checkable
class Follows(Protocol):
    """A kind of condition that, where nobody asks for it, follows from what is asked for by others."""

    def usual(self, told: Mapping[str, Sequence[str]], n: int, seeds: Sequence[int]) -> Any:
        """A value that `asked` takes, from the words of the others by their names; None where it follows from none."""
        ...


def condition_of(hears: Sequence[Hears], rows: Rows, draw: Draw | None = None) -> Condition | None:
    """What examples have of all that a model hears; None for an unconditional model."""
    return _together(hears, [one.of(rows, draw) for one in hears])


def asked(
    hears: Sequence[Hears], values: Mapping[str, Any], n: int, seeds: Sequence[int], *, usual: bool = True
) -> tuple[Condition | None, list[str]]:
    """What a user asks for, by the names of `hears`, and which conditions, in words, are hidden by it.

    What is not named is as usual, as a class drawn as often as in the data; without `usual` it is none. ValueError for
    a name that the model does not hear.
    """
    known = {one.name for one in hears}
    for name, value in values.items():
        if value is not None and name not in known:
            raise ValueError(f"{name}: {_deaf(name, hears)}")
    parts, without = [], []
    told = {one.name: one.said(values.get(one.name), n, seeds) for one in hears if isinstance(one, Says)}
    for one in hears:
        value, null = values.get(one.name), one.null(n)
        if value is None and usual and isinstance(one, Follows):
            value = one.usual(told, n, seeds)
        part = null if value is None and not usual and null else one.asked(value, n, seeds)
        if value is None and null and all(torch.equal(part[name], null[name]) for name in null):
            without.append(one.describe())
        parts.append(part)
    return _together(hears, parts), without


def _together(hears: Sequence[Hears], parts: Sequence[Mapping[str, Tensor]]) -> Condition | None:
    tensors: dict[str, Tensor] = {}
    for one, part in zip(hears, parts, strict=True):
        if twice := tensors.keys() & part.keys():
            raise ValueError(f"{one.name}: two conditions make {min(twice)}; leave one of them out")
        tensors |= part
    nulls = {name: null for one in hears for name, null in one.null(1).items() if name not in (VALID, WEIGHT)}
    return Condition(tensors, nulls=nulls) if tensors else None


def _deaf(name: str, hears: Sequence[Hears]) -> str:
    for kind in listed(AnyHears):
        if kind.name == name:
            return f"this model {kind.lacks}"
    if name in ELSEWHERE:
        return f"no keyword of this call; give {ELSEWHERE[name]}"
    close = difflib.get_close_matches(name, [one.name for one in hears], 1)
    if close:
        return f"unknown; did you mean {close[0]}?"
    told = f"what can be asked is {', '.join(one.name for one in hears)}" if hears else "this model hears no condition"
    return f"no keyword of this call, and no condition of this model; {told}"


__all__ = [
    "AnyHears",
    "Follows",
    "Label",
    "Length",
    "Noised",
    "Picture",
    "Prompt",
    "Says",
    "Scale",
    "asked",
    "condition_of",
]
