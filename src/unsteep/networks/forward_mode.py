"""What networks do otherwise while they are differentiated in forward mode (see `objectives.derivative`): compiled ones
run as they are, in float32, nothing is computed again for the gradient, and attention is its plain formula. The faster
ways have no such derivative, or none that a gradient can be taken of."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn.attention import SDPBackend, sdpa_kernel

_inside = [0]  # levels; no context variable, which a compiler could not look at


@contextmanager
def forward_mode() -> Iterator[None]:
    """Inside it tensors may be dual numbers, of `torch.autograd.forward_ad`."""
    _inside[0] += 1
    try:
        with forward_ad.dual_level(), sdpa_kernel(SDPBackend.MATH):  # the second is for networks of one's own
            yield
    finally:
        _inside[0] -= 1


def in_forward_mode() -> bool:
    """Whether a network is being differentiated so."""
    return _inside[0] > 0


def attended(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
    """softmax(query key^T / sqrt(c)) value, (b, heads, positions, c) each and out. `mask` bool, which broadcasts with
    (b, heads, queries, keys): what is looked at; 0 where that is nothing."""
    if not in_forward_mode():
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-2, -1)
    shares = torch.exp(scores - scores.detach().amax(-1, keepdim=True))  # torch's softmax has no gradient here
    if mask is not None:
        shares = shares * mask
    return (shares / shares.sum(-1, keepdim=True).clamp(min=torch.finfo(shares.dtype).tiny)) @ value
