"""A device that is not there: tensors on the CPU that say they are elsewhere, and refuse what a real device refuses.

    with StandIn("mps", float64=False) as device:
        x = torch.zeros(3).to(device)         # x.device is "mps", and so is that of all that is made from it

Float64 on it is a TypeError, where it has none. An operation on tensors of it and of the CPU is a RuntimeError, but for
the copies between them, numbers () of the CPU, and indices there. Its numbers are read as arrays on the CPU alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from unsteep.core import level

DEVICE = Tensor.device.__get__  # type: ignore[attr-defined]
COPIES = {Tensor.copy_, Tensor.__setitem__, Tensor.data.__set__, Tensor.grad.__set__}  # type: ignore[attr-defined]
JOINS = {torch.stack, torch.cat}
ARRAYS = {Tensor.numpy, Tensor.__array__}


class There(Tensor):
    """A tensor that is said to be on the device."""

    __torch_function__ = torch._C._disabled_torch_function_impl

    def __deepcopy__(self, memo: dict[int, Any]) -> There:
        if id(self) not in memo:
            memo[id(self)] = there(self.detach().as_subclass(Tensor).clone()).requires_grad_(self.requires_grad)
            memo[id(self)].__dict__ = deepcopy(self.__dict__, memo)
        found: There = memo[id(self)]
        return found


def there(x: Tensor) -> Tensor:
    return x.as_subclass(There)


class StandIn(TorchFunctionMode):
    """`kind`: the type of torch.device that it stands for."""

    def __init__(self, kind: str, *, float64: bool) -> None:
        super().__init__()
        self.device, self.float64 = torch.device(kind), float64

    def __enter__(self) -> torch.device:  # type: ignore[override]
        self.patch = pytest.MonkeyPatch()
        generator = SimpleNamespace(get_rng_state=lambda: None, set_rng_state=lambda state: None)
        self.patch.setattr(torch, "get_device_module", lambda device: generator)
        self.patch.setattr(level, "_FLOAT64", {"cpu": True})  # what real devices have is not known here
        torch.__future__.set_overwrite_module_params_on_conversion(True)  # a module's move makes new parameters
        super().__enter__()
        return self.device

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self.patch.undo()
        torch.__future__.set_overwrite_module_params_on_conversion(False)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = dict(kwargs or {})
        mine = [x for x in tensors((args, given)) if isinstance(x, There)]
        if func is Tensor.__deepcopy__:  # what was copied before is among what it is given
            return func(*args)
        if func is torch._has_compatible_shallow_copy_type:
            return False
        if func == DEVICE:
            return self.device if mine else func(*args)
        if func in (Tensor.to, Tensor.cpu, Tensor.type_as):
            return self.moved(*args, **({"device": "cpu"} if func is Tensor.cpu else given))
        if mine and func in ARRAYS:
            raise TypeError(f"can't convert {self.device} device type tensor to numpy. Use Tensor.cpu() first")
        if mine and func not in COPIES and not (func is Tensor.__getitem__ and args[0] is mine[0]):
            self.check_all_there(func, tensors((args, given)))
        on = self.named(given.pop("device")) if given.get("device") is not None else bool(mine)
        if on and "device" in (kwargs or {}) and func is torch.tensor:
            return self.placed(func(*args, **given))
        if not on and "device" in (kwargs or {}):
            given["device"] = kwargs["device"]
        answer = func(*args, **given)
        return self.wrapped(answer, args) if on else answer

    def named(self, device: Any) -> bool:
        return torch.device(device).type == self.device.type

    def check_all_there(self, func: Any, found: Iterator[Tensor]) -> None:
        for x in found:
            if not isinstance(x, There) and (x.ndim or func in JOINS):
                raise RuntimeError(
                    f"Expected all tensors to be on the same device, but found at least two devices, {self.device} and "
                    f"cpu! ({func})"
                )

    def placed(self, x: Tensor) -> Tensor:
        if not self.float64 and x.dtype in (torch.float64, torch.complex128):
            raise TypeError("Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64")
        return x if isinstance(x, There) else there(x)

    def wrapped(self, answer: Any, args: Any) -> Any:
        """What an operation made, on the device: all but what it was given to write into."""
        if isinstance(answer, Tensor):
            return answer if any(answer is x for x in tensors(args)) else self.placed(answer)
        if isinstance(answer, tuple | list):
            parts = [self.wrapped(one, args) for one in answer]
            return type(answer)(parts) if not hasattr(answer, "_fields") else answer._make(parts)
        return answer

    def moved(self, x: Tensor, *to: Any, device: Any = None, **how: Any) -> Tensor:
        """`Tensor.to`; a change of the dtype is made on the device that x comes from, if that is this one."""
        dtype: list[Any] = [how.pop("dtype")] if how.get("dtype") is not None else []
        for one in to:
            if isinstance(one, Tensor):
                device, dtype = self.device if isinstance(one, There) else torch.device("cpu"), [one.dtype]
            elif isinstance(one, str | torch.device):
                device = one
            elif isinstance(one, torch.dtype):
                dtype = [one]  # what else there is, non_blocking or copy, changes no number
        was = isinstance(x, There)
        on = was if device is None else self.named(device)
        answer = x.to(*dtype) if dtype else x
        if was and answer is not x:
            answer = self.placed(answer)
        if on:
            return self.placed(answer if was or answer is not x else x.clone())
        return answer.as_subclass(Tensor).clone() if was else answer


def tensors(given: Any) -> Iterator[Tensor]:
    """Those in nested arguments."""
    if isinstance(given, Tensor):
        yield given
    elif isinstance(given, tuple | list):
        for one in given:
            yield from tensors(one)
    elif isinstance(given, dict):
        yield from tensors(list(given.values()))
