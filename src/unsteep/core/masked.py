"""Numbers of each example that padding has no part in.

x (b, ...) holds b examples. Where they are sequences (b, frames, ...), `valid` (b, frames), bool, says which frames are
real; None: all of x is. What stands elsewhere, be it infinite, changes nothing here, and no gradient comes from it.
`valid` may be finer than frames, of any first dimensions of x, as (b, frames, features) where single numbers are
missing. A `weight` of the shape of x, from 0, says how much each number counts.
Every result is (b,), on the device of x and in its dtype unless it says otherwise.
"""

from __future__ import annotations

import torch
from torch import Tensor

from unsteep.core.level import float64_device


def mask(x: Tensor, valid: Tensor) -> Tensor:
    """`valid`, of the first dimensions of x, for each entry of x: bool, of its shape."""
    return valid.to(x.device).reshape(valid.shape + (1,) * (x.ndim - valid.ndim)).expand_as(x)


def kept(x: Tensor, valid: Tensor | None) -> Tensor:
    """x with 0 in its padding."""
    return x if valid is None else x.masked_fill(~mask(x, valid), 0)


def count(x: Tensor, valid: Tensor | None = None) -> Tensor:
    """How many entries of each example are real: int64."""
    if valid is None:
        return torch.full((len(x),), x.shape[1:].numel(), device=x.device)
    return mask(x, valid).flatten(1).sum(1)


def sum(x: Tensor, valid: Tensor | None = None) -> Tensor:  # as torch names it
    """The sum of each example's entries."""
    return kept(x, valid).flatten(1).sum(1)


def known(valid: Tensor | None, weight: Tensor | None) -> Tensor | None:
    """Which entries are real and count for anything: as fine as `weight` where there is one, else `valid`."""
    if weight is None:
        return valid
    return weight > 0 if valid is None else (weight > 0) & mask(weight, valid)


def mean(x: Tensor, valid: Tensor | None = None, weight: Tensor | None = None) -> Tensor:
    """The mean of each example's entries, weighted where there is a weight: 0 where nothing counts."""
    if weight is not None:
        valid = known(valid, weight)
        counts = kept(weight.to(x), valid)
        return sum(kept(x, valid) * counts) / sum(counts).clamp(min=torch.finfo(x.dtype).tiny)
    return x.flatten(1).mean(1) if valid is None else sum(x, valid) / count(x, valid)


def std(x: Tensor, valid: Tensor | None = None) -> Tensor:
    """The standard deviation of each example's entries, as those of a whole population."""
    if valid is None:
        return x.flatten(1).std(1, correction=0)
    centred = x - mean(x, valid).reshape(-1, *(1,) * (x.ndim - 1))
    return mean(centred.square(), valid).sqrt()


def rms(x: Tensor, valid: Tensor | None = None) -> Tensor:
    """The root mean square of each example's entries: float64 on the CPU, where what order they are summed in leaves no
    trace."""
    x = kept(x, valid).to(float64_device(x.device))
    norm = torch.linalg.vector_norm(x.flatten(1), dim=1, dtype=torch.float64)
    return norm.cpu() / count(x, valid).cpu().double().sqrt()


def quantile(x: Tensor, q: float, valid: Tensor | None = None) -> Tensor:
    """The quantile `q` in [0, 1] of each example's entries, between two of them linearly."""
    if valid is None:
        return x.flatten(1).quantile(q, dim=1)
    ordered = x.masked_fill(~mask(x, valid), torch.inf).flatten(1).sort(1).values
    place = q * (count(x, valid).to(x) - 1)[:, None]
    below, above = (ordered.gather(1, end.long()) for end in (place.floor(), place.ceil()))
    return torch.lerp(below, above, place - place.floor()).squeeze(1)
