"""How large a network is, told without making it: what a file describes is held against what there is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from unsteep.core.budget import fits

TIMES, BESIDE = 2, 1_000_000  # what a network may hold beside its weights: tables that are made anew
BEYOND = 2**61  # numbers: what one size of a tensor cannot say is at least this
TRAINED = 5 * 4  # bytes a weight: itself, its average, its gradient and the two moments of Adam


def numbers(build: Callable[[], nn.Module]) -> int | None:
    """How many numbers the network holds that `build` makes; None of one that cannot be built without its tensors."""
    try:
        with torch.device("meta"):
            shell = build()
    except ValueError:
        raise
    except (RuntimeError, OverflowError) as error:
        return BEYOND if "overflow" in str(error).lower() or "symint" in str(error).lower() else None
    except Exception:  # one of the user's own, not made for that
        return None
    return sum(t.numel() for t in shell.state_dict().values())


def check_beside(path: Path, build: Callable[[], nn.Module], tensors: Mapping[str, Tensor], name: str) -> None:
    """ValueError where the file `name` of a folder describes a network far larger than the weights beside it."""
    wanted, there = numbers(build), sum(t.numel() for t in tensors.values())
    if wanted is not None and wanted > TIMES * there + BESIDE:
        raise ValueError(
            f"{path}: {name} describes a network of {wanted:,} numbers, and {there:,} lie beside it; use another copy"
        )


def check_trained(build: Callable[[], nn.Module], name: str) -> None:
    """ValueError where the network, by the key `name`, takes more memory than may be used while it is trained."""
    wanted = numbers(build)
    if wanted is not None:
        fits(
            TRAINED * wanted, f"{name}: to train a network of {wanted:,} numbers", "take a smaller one, as by its width"
        )
