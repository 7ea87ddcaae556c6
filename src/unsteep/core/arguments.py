"""What a caller gives, looked at before it is used: of the right kind, or a ValueError that says what is.

Each takes the argument's name first. Numbers may come from Python, NumPy or torch, and leave as Python's. A component
looks at all its fields with `checked(self)` in its `__post_init__`: their annotations say what they may be.
"""

from __future__ import annotations

import math
import operator
import types
from collections.abc import Collection, Iterable
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import torch
from torch import Tensor

MOST_SAMPLES = 2**31 - 1
MOST_STEPS = 1_000_000  # a table of levels of these is still small
SHOWN = 60  # characters


def shown(value: Any) -> str:
    """A value in one short line, for an error."""
    if isinstance(value, Tensor):
        return f"a tensor {str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
    if hasattr(value, "shape") and hasattr(value, "dtype") and bool(getattr(value, "ndim", None)):
        return f"an array {value.dtype} {tuple(value.shape)}"
    try:
        text = repr(value) if isinstance(value, str) else " ".join(repr(value).split())
    except (ValueError, RuntimeError):  # a number of too many digits, or a repr that fails
        text = "one that cannot be shown"
    text = text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}..."
    return text if isinstance(value, str) else f"{type(value).__name__} {text}"


def whole(name: str, value: Any, least: int | None = None, most: int | None = None) -> int:
    """A whole number of Python, NumPy or torch as an int. ValueError for anything else, and outside `least` to
    `most`."""
    try:
        if isinstance(value, bool) or (isinstance(value, Tensor) and (value.ndim or value.dtype == torch.bool)):
            raise TypeError
        number = operator.index(value)
    except (TypeError, RuntimeError, ValueError):
        raise ValueError(f"{name}: expected a whole number, got {shown(value)}; give one, as 4") from None
    if least is not None and number < least:
        raise ValueError(f"{name}: expected at least {least}, got {number}; give a larger one")
    if most is not None and number > most:
        raise ValueError(f"{name}: expected at most {most}, got {shown(number)}; give a smaller one")
    return number


def number(name: str, value: Any, low: float = -math.inf, high: float = math.inf, *, finite: bool = True) -> float:
    """A real number of Python, NumPy or torch as a float (an int stays one). ValueError for anything else, for NaN,
    where it is not `finite`, and outside `low` to `high`."""
    found = value.item() if hasattr(value, "item") and getattr(value, "ndim", None) == 0 else value
    try:
        if isinstance(found, bool) or not isinstance(found, int | float):
            raise TypeError
        size = float(found)
    except (TypeError, OverflowError):
        raise ValueError(f"{name}: expected a number, got {shown(value)}; give one, as 0.5") from None
    if math.isnan(size) or (finite and math.isinf(size)):
        raise ValueError(f"{name}: expected a finite number, got {found}; give one, as 0.5")
    if not low <= size <= high:
        raise ValueError(f"{name}: expected {low:g} to {high:g}, got {found}; give one between them")
    return found


def flag(name: str, value: Any) -> bool:
    """True or False. ValueError for anything else."""
    if not isinstance(value, bool):
        raise ValueError(f"{name}: expected True or False, got {shown(value)}; give one of the two")
    return value


def choice(name: str, value: Any, known: Collection[Any]) -> Any:
    """One of the names that are `known`. ValueError for another, and for what is no name."""
    if not any(type(one) is type(value) and one == value for one in known):
        raise ValueError(f"{name}: expected one of {', '.join(map(str, known))}, got {shown(value)}; choose one")
    return value


def kind(name: str, value: Any, kinds: type | tuple[type, ...], what: str, cure: str = "") -> Any:
    """The value, of one of some classes, in words: `what`. ValueError for another."""
    if not isinstance(value, kinds):
        raise ValueError(f"{name}: expected {what}, got {shown(value)}; {cure or 'give one'}")
    return value


def floats(name: str, value: Any, axes: int | None = None) -> Tensor:
    """A tensor of real floats, of so many axes where it is said, at least one where not. ValueError for another."""
    if not isinstance(value, Tensor) or not value.is_floating_point() or value.layout != torch.strided:
        raise ValueError(f"{name}: expected a tensor of floats, got {shown(value)}; convert it, as torch.tensor(x)")
    if (value.ndim < 1) if axes is None else (value.ndim != axes):
        raise ValueError(
            f"{name}: expected a tensor with {'a row for each sample' if axes is None else f'{axes} axes'}, got "
            f"{shown(value)}; reshape it"
        )
    return value


def integers(name: str, value: Any) -> Tensor:
    """A row of whole numbers, as an int64 tensor (b,): a tensor, an array, a range, or any sequence of them. ValueError
    for what is no such row, and for numbers beyond 64 bits."""
    cure = "give one for each row, as range(4)"
    if isinstance(value, Tensor):
        if value.ndim != 1 or value.is_floating_point() or value.is_complex() or value.dtype == torch.bool:
            raise ValueError(f"{name}: expected whole numbers (b,), got {shown(value)}; {cure}")
        return value.to(torch.int64)
    if isinstance(value, str | bytes | dict | set) or not isinstance(value, Iterable) or getattr(value, "ndim", 1) != 1:
        raise ValueError(f"{name}: expected whole numbers, got {shown(value)}; {cure}")
    if isinstance(value, range) and len(value) > MOST_SAMPLES:
        raise ValueError(f"{name}: expected at most {MOST_SAMPLES}, got {shown(value)}; {cure}")
    each = value if isinstance(value, range) else [whole(name, one) for one in value]
    if any(not -(2**63) <= one < 2**63 for one in ((min(each), max(each)) if len(each) else ())):
        raise ValueError(f"{name}: expected whole numbers of 64 bits, got larger ones; take smaller ones")
    return torch.tensor(list(each), dtype=torch.int64)


def rows_of(x: Any, what: str, name: str = "data", *, shape: tuple[int, ...] = ()) -> Tensor:
    """Examples (n, ...), in words: `what`. ValueError for what is no tensor of real numbers, and for one example alone,
    of this shape."""
    if not isinstance(x, Tensor) or not x.ndim or x.is_complex() or x.layout != torch.strided:
        raise ValueError(f"{name}: expected a tensor of {what}, got {shown(x)}; convert it, as torch.as_tensor(x)")
    if shape and tuple(x.shape) == shape:
        raise ValueError(
            f"{name}: expected a batch (n, {', '.join(map(str, shape))}) of them, got one alone, {shape}; give x[None]"
        )
    return x


def scaled(name: str, mean: tuple[float, ...], scale_name: str, std: tuple[float, ...]) -> None:
    """ValueError where means and deviations are not as many finite numbers, the latter above 0."""
    for one, values in ((name, mean), (scale_name, std)):
        if not all(map(math.isfinite, values)):
            raise ValueError(f"{one}: expected finite numbers, got {shown(values)}; leave others out of the data")
    if len(mean) != len(std) or not all(one > 0 for one in std):
        raise ValueError(f"{scale_name}: expected {len(mean)} numbers above 0, got {shown(std)}; give as many")


def path(name: str, value: Any) -> Path:
    """A path. ValueError for what is none, and for the empty text."""
    if not isinstance(value, str | Path) or not str(value) or "\0" in str(value):
        raise ValueError(f"{name}: expected a path, got {shown(value)}; give that of a file or folder")
    return Path(value)


def checked(component: Any) -> None:
    """Every field of a frozen dataclass against its annotation, where that is a number, a flag, a text, a name of some,
    or a row of numbers or texts; a number of NumPy or torch becomes Python's. ValueError, by the field's name."""
    for name, hint in _hints(component.__class__):
        value = getattr(component, name)
        found = _fitting(name, value, hint)
        if found is not value:
            object.__setattr__(component, name, found)


@cache
def _hints(of: type) -> tuple[tuple[str, Any], ...]:
    hints = get_type_hints(of)
    return tuple((one.name, hints[one.name]) for one in fields(of))


def _fitting(name: str, value: Any, hint: Any) -> Any:  # noqa: PLR0911
    """The value as the hint wants it."""
    if get_origin(hint) in (Union, types.UnionType):
        options = get_args(hint)
        if value is None and type(None) in options:
            return value
        left = [one for one in options if one is not type(None)]
        return _fitting(name, value, left[0]) if len(left) == 1 else value
    if get_origin(hint) is Literal:
        return choice(name, value, get_args(hint))
    if get_origin(hint) is tuple and get_args(hint)[1:] == (...,):
        what = get_args(hint)[0]
        if what not in (int, float, str):
            return value
        kind(name, value, (tuple, list), f"a row of {'texts' if what is str else 'numbers'}", "give a tuple")
        # a float passes as it is: what is no range of such a row says its component, in its own words
        return tuple(one if what is float and type(one) is float else _fitting(name, one, what) for one in value)
    if hint is bool:
        return flag(name, value)
    if hint is int:
        return whole(name, value)
    if hint is float:
        return number(name, value, finite=False)
    return kind(name, value, str, "a text") if hint is str else value


def check_weight(name: str, weight: Any, shape: tuple[int, ...]) -> None:
    """ValueError for what does not say how much each number counts: finite floats of `shape`, from 0."""
    if not isinstance(weight, Tensor) or not weight.is_floating_point() or tuple(weight.shape) != tuple(shape):
        raise ValueError(f"{name}: expected floats {tuple(shape)}, one for each number, got {shown(weight)}; give such")
    if not bool(((weight >= 0) & weight.isfinite()).all()):
        raise ValueError(f"{name}: expected finite numbers of at least 0, got others; 0 is one that is missing")


def check_valid(name: str, valid: Any, shape: tuple[int, ...]) -> None:
    """ValueError for what does not say which frames are real: bool of `shape` (n, frames), in each row those that are
    first, one at least, and then those that pad it."""
    if not isinstance(valid, Tensor) or valid.dtype != torch.bool or tuple(valid.shape) != tuple(shape):
        raise ValueError(f"{name}: expected bool {tuple(shape)}, which frames are real, got {shown(valid)}; give such")
    held = valid.int().diff(dim=1).amax() if valid.shape[1] > 1 and len(valid) else torch.tensor(0)
    if len(valid) and (not bool(valid[:, 0].all()) or int(held) > 0):
        raise ValueError(
            f"{name}: expected the real frames of each sequence first, one at least, and padding after them, got "
            "others in between; move them, or cut the sequence"
        )
