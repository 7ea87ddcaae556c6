"""What a network need not keep while it trains: computed again when the gradient is taken, bit for bit, dropout
included.

    cheap         norms, activations, dropout, padding and joining before a convolution: only what goes into them is
                  kept, and the convolution is not done twice. The blocks of U-Nets do this always
    recomputing   whole blocks: only what goes from one to the next is kept, for about a third more time. A network
                  names them by a method `recomputable() -> Iterable[nn.Module]`, which one of one's own may have, too
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from unsteep.networks.forward_mode import in_forward_mode

LEAST = 2**20  # bytes of an input below which the bookkeeping costs more than they do


def cheap(of: nn.Module, function: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
    """function(*inputs), a part of the module `of`. It ends in an operation that keeps its own input, as a convolution:
    all before it is computed again, and that one is not. What is cheap within it is computed once more, after the
    gradient of the convolution was taken, and not held meanwhile."""
    large = sum(x.numel() * x.element_size() for x in inputs) >= LEAST
    if torch.compiler.is_compiling() or not (large and _again_later(of)):
        return function(*inputs)  # a compiler decides itself what it keeps
    again: Tensor = checkpoint(function, *inputs, use_reentrant=False)
    return again


def recomputing(module: nn.Module) -> None:
    """Lets the networks within `module` compute their blocks again for the gradient. ValueError where none can."""
    networks: list[Any] = [one for one in module.modules() if hasattr(one, "recomputable")]
    if not networks:
        raise ValueError(
            "checkpointing: no network here says which of its blocks may be computed again; set it to false, or give "
            "the network a method recomputable() that returns them"
        )
    for network in networks:
        for block in network.recomputable():
            block.forward = partial(_again, block)


def _again(block: nn.Module, *inputs: Any, **named: Any) -> Any:
    """The forward pass of a block, of whose inside nothing is kept for the gradient of a training step."""
    forward = partial(type(block).forward, block)
    if not _again_later(block):
        return forward(*inputs, **named)
    return checkpoint(forward, *inputs, use_reentrant=False, **named)


def _again_later(module: nn.Module) -> bool:
    """Whether it is asked in a training step, of which not all is to be kept."""
    return module.training and torch.is_grad_enabled() and not in_forward_mode()
