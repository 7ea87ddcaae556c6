"""What something costs, and which weights it was done with."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from unsteep.guidance.setting import Guidance
from unsteep.model.model import Model
from unsteep.networks.wrapping import weights_of
from unsteep.pages.progress import bar


@dataclass
class Calls:
    """How many rows have gone through networks: divided by the number of samples, the network calls of each."""

    rows: int = 0


@contextmanager
def counting(
    model: Model, guidance: Guidance | None = None, *, doing: str = "", total: int | None = None, shown: bool = False
) -> Iterator[Calls]:
    """Counts what goes through the network of a model, and through that of a weaker model or a classifier that guides
    it; shows it as a bar up to `total` (None: unknown), if `shown`."""
    so_far = Calls()
    with bar(shown, total, doing) as advance:

        def count(module: torch.nn.Module, arguments: tuple[Any, ...], output: Any) -> None:
            so_far.rows += len(output)
            advance(len(output))

        others = () if guidance is None else (guidance.weaker, guidance.classifier)
        networks = [network for network in map(_network, (model, *others)) if network is not None]
        hooks = [network.register_forward_hook(count) for network in networks]
        try:
            yield so_far
        finally:
            for hook in hooks:
                hook.remove()


def _network(of: Any) -> torch.nn.Module | None:
    """The network of a model, a denoiser or a classifier, opened or not."""
    inside = getattr(of, "denoiser", getattr(of, "module", of))
    found: torch.nn.Module | None = getattr(inside, "network", None)
    return found


def weights_digest(model: Model) -> str:
    """SHA-256 (64 hex digits) of the weights, by name."""
    return digest_of(model.denoiser)


def digest_of(module: torch.nn.Module) -> str:
    """That of any module's."""
    sha = hashlib.sha256()
    for name, tensor in sorted(weights_of(module).items()):
        sha.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        sha.update(tensor.cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return sha.hexdigest()
