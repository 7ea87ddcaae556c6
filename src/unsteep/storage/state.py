"""Nested state, such as an optimizer's, <-> named tensors and JSON; bit for bit and type for type.

JSON knows no tensors, tuples, integer keys or infinities, so those stand in it as an object of one entry, tagged:

    tensor      {"tensor": name}        the tensor itself is in the flat dictionary, named by its path in the state
    dict        {"dict": [[key, value], ...]}
    tuple       {"tuple": [...]}
    inf, nan    {"float": "inf"}

None, bool, int, float, str and lists stand for themselves. There are no other objects in it, hence no ambiguity.
"""

import math
from typing import Any

from torch import Tensor


def flatten_state(state: dict[Any, Any]) -> tuple[dict[str, Tensor], Any]:
    """(tensors by name, the rest as JSON values) of a state of dicts, lists, tuples, tensors and plain values.

    Tensors are detached, not copied: save them before the state moves on. Raises TypeError for any other value.
    """
    tensors: dict[str, Tensor] = {}
    return tensors, _flatten(state, "", tensors)


def unflatten_state(tensors: dict[str, Tensor], rest: Any) -> dict[Any, Any]:
    """The state that `flatten_state` took apart; its tensors are those of `tensors`, not copies."""
    state: dict[Any, Any] = _unflatten(rest, tensors)
    return state


def _flatten(value: Any, path: str, tensors: dict[str, Tensor]) -> Any:
    match value:
        case Tensor():
            name = path
            while name in tensors:  # the keys 0 and "0" have one path
                name += "'"
            tensors[name] = value.detach()
            return {"tensor": name}
        case dict():
            items = [(k, v, f"{path}.{k}" if path else str(k)) for k, v in value.items()]
            return {"dict": [[_flatten(k, f"{at} (key)", tensors), _flatten(v, at, tensors)] for k, v, at in items]}
        case list() | tuple():
            items = [_flatten(v, f"{path}.{i}", tensors) for i, v in enumerate(value)]
            return {"tuple": items} if isinstance(value, tuple) else items
        case float() if not math.isfinite(value):
            return {"float": str(float(value))}
        case None | bool() | int() | float() | str():
            return value
    raise TypeError(f"{path}: expected tensors, plain values, dicts, lists and tuples, got {type(value).__name__}")


def _unflatten(rest: Any, tensors: dict[str, Tensor]) -> Any:
    match rest:
        case {"tensor": name}:
            return tensors[name]
        case {"dict": pairs}:
            return {_unflatten(k, tensors): _unflatten(v, tensors) for k, v in pairs}
        case {"tuple": items}:
            return tuple(_unflatten(v, tensors) for v in items)
        case {"float": text}:
            return float(text)
        case list():
            return [_unflatten(v, tensors) for v in rest]
    return rest
