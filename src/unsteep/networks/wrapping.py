"""Modules inside the wrappers that compile them or copy them to devices: their weights keep their own names.

`torch.compile` puts a module behind `_orig_mod`, data-parallel wrappers put one behind `module`. What is saved knows
neither, and what was saved goes back into either.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from torch import Tensor, nn


def inside(module: nn.Module) -> nn.Module:
    """The module within all wrappers around it."""
    while inner := _inner(module):
        module = module.get_submodule(inner)
    return module


def networks_in(module: nn.Module) -> list[nn.Module]:
    """The networks that a module calls with tensors alone: the `network` of each that has a precision, or itself."""
    return [inside(one) for one in called_in(module)] or [inside(module)]


def called_in(module: nn.Module) -> list[nn.Module]:
    """The `network` of each that has a precision, with the wrappers around it."""
    called = [getattr(one, "network", None) for one in module.modules() if hasattr(one, "precision")]
    return [one for one in called if isinstance(one, nn.Module)]


def weights_of(module: nn.Module) -> dict[str, Tensor]:
    """The state dict of a module, by the names that it has without wrappers."""
    return {plain: tensor for plain, _, tensor in _named(module)}


def load_weights(module: nn.Module, tensors: Mapping[str, Tensor], anew: Collection[str] = ()) -> None:
    """Puts a state dict without wrappers' names into a module, wrapped or not; of what it lacks, names that hold one
    of `anew` stay as they are. RuntimeError where it does not fit."""
    actual = {plain: name for plain, name, _ in _named(module)}
    stay = {plain: tensor for plain, _, tensor in _named(module) if any(one in plain for one in anew)}
    module.load_state_dict({actual.get(name, name): tensor for name, tensor in {**stay, **tensors}.items()})


def _named(module: nn.Module) -> list[tuple[str, str, Tensor]]:
    """(plain name, name, tensor) of the state dict."""
    wrappers = [(name, inner) for name, one in module.named_modules() if (inner := _inner(one))]
    found = []
    for name, tensor in module.state_dict().items():
        plain = name
        for path, inner in sorted(wrappers, key=lambda wrapper: -len(wrapper[0])):
            prefix = f"{path}.{inner}." if path else f"{inner}."
            if plain.startswith(prefix):
                plain = plain[: len(prefix) - len(inner) - 1] + plain[len(prefix) :]
        found.append((plain, name, tensor))
    return found


def _inner(module: nn.Module) -> str:
    """The name of what a wrapper wraps; empty for a module that is none."""
    if isinstance(getattr(module, "_orig_mod", None), nn.Module):
        return "_orig_mod"
    parallel = isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel)
    return "module" if parallel else ""
