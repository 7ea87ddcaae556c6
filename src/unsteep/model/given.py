"""Examples that a user gives to a verb, checked and joined."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from unsteep.core.condition import VALID, Condition
from unsteep.hearing.picture import noised
from unsteep.model.model import Model
from unsteep.model.request import Request, request
from unsteep.sampling import Ancestral, Driver, called


def one_of(model: Model, example: Any, name: str) -> Tensor:
    """One example (*shape) in the data's own units, or such a one as a batch of one. ValueError, that begins with
    `name`, for anything else."""
    if not isinstance(example, Tensor):
        raise ValueError(f"{name}: expected a tensor of {model.space.describe()}, got {type(example).__name__}")
    shape = model.space.shape
    if example.ndim == len(shape) + 1 and len(example) == 1:
        example = example[0]
    try:
        model.space.check(example[None])
    except ValueError as error:
        raise ValueError(f"{name}: {str(error).removeprefix('data: ')}") from None
    if example.is_floating_point() and not bool(example.isfinite().all()):
        raise ValueError(f"{name}: expected finite numbers, got NaN or infinite ones; fill them in first")
    return example


def own_length(model: Model, example: Tensor) -> dict[str, Any]:
    """That what is made of a sequence has its length, where the model makes sequences."""
    return {} if model.description.hearing("length") is None else {"length": len(example)}


def after(
    model: Model, example: Tensor, n: int, asks: Mapping[str, Any], given: Tensor | None, *, solver: Any, **how: Any
) -> Request:
    """A request of n samples made after one example (*shape): as long as it is, with the aligned picture `given`, on a
    grid. `solver`: default, ancestral with the variance beta_tilde; `asks`, `how`: as of `request`; what is not asked
    is none."""
    if isinstance(solver, Driver):
        raise ValueError(f"solver: {called(solver)} lays its own levels; take one that walks a grid")
    asks = {**own_length(model, example), "picture": noised(given, 0.0), **asks}
    solver = Ancestral(variance="beta_tilde") if solver is None else solver
    return request(model, n, asks=asks, usual=False, solver=solver, **how)


def cut(model: Model, x: Tensor, condition: Condition | None) -> Any:
    """What a model made, in the data's own units, of the frames that are real."""
    return model.space.decode(x, None if condition is None else condition.get(VALID))


def joined(parts: Sequence[Any]) -> Any:
    """What the space decoded, batch after batch, as one."""
    return torch.cat(list(parts)) if isinstance(parts[0], Tensor) else [one for part in parts for one in part]
