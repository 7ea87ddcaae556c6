"""Embedded Runge-Kutta pairs, and integration with the steps that they choose (Hairer et al. 1993, section II.4).

A step of size h of dy/du = f(u, y), with the s slopes k_i,

    k_i   = f(u + c_i h, y + h sum_j a_ij k_j)
    y_new = y + h sum_i b_i k_i
    error = h sum_i e_i k_i                    y_new less the answer of a formula of one order less, in the same slopes

is accepted if the RMS of error / (absolute + tolerance max(|y|, |y_new|)) is at most 1. As the error falls with h^p, p
the order of the pair, the next step is longer by (1 / error)^(0.7 / p) (error before)^(0.4 / p), a PI controller
(Hairer & Wanner 1996, section IV.2), and a rejected one is tried again shorter by (1 / error)^(1 / p).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from unsteep.core import masked
from unsteep.core.level import like

SHORTEST = 1e-14  # a step, as a share of the way: below it, time no longer moves
SAFETY, SHORTER, LONGER = 0.9, 0.2, 5.0  # of the step that would just do; bounds on the change of one


@dataclass(frozen=True)
class EmbeddedPair:
    """A tableau: for each stage after the first its `nodes` c and row of `stages` a; `weights` b, and `error` e.

    `reuses`: the last stage is evaluated at y_new (its row is b), so that it is the first of the next step.
    """

    order: int
    nodes: tuple[float, ...]
    stages: tuple[tuple[float, ...], ...]
    weights: tuple[float, ...]
    error: tuple[float, ...]

    @property
    def reuses(self) -> bool:
        return self.weights == (*self.stages[-1], 0.0)

    @property
    def calls(self) -> int:
        """Evaluations for an accepted step. A rejected one takes one for each of `stages`: it keeps its first slope."""
        return len(self.weights) - self.reuses


# Heun's method and Euler's inside it.
HEUN = EmbeddedPair(2, (1.0,), ((1.0,),), (1 / 2, 1 / 2), (-1 / 2, 1 / 2))
# Dormand & Prince 1980, RK5(4)7M.
DORMAND_PRINCE = EmbeddedPair(
    order=5,
    nodes=(1 / 5, 3 / 10, 4 / 5, 8 / 9, 1.0, 1.0),
    stages=(
        (1 / 5,),
        (3 / 40, 9 / 40),
        (44 / 45, -56 / 15, 32 / 9),
        (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
        (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
        (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
    ),
    weights=(35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84, 0.0),
    error=(71 / 57600, 0.0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40),
)


@dataclass(frozen=True)
class Walk:
    """How far an integration came: `y` (b, ...) at `time`, and its `slope` there; the evaluations it took in `calls`,
    int64; the `error` of the last step tried, 1 being what is allowed; and whether it is `lost`, bool, before the end.
    `time`, `calls`, `error` and `lost` are of the shape of the times asked for."""

    time: Tensor
    y: Tensor
    slope: Tensor
    calls: Tensor
    error: Tensor
    lost: Tensor


def walks(
    field: Callable[[Tensor, Tensor], Tensor],
    y: Tensor,
    start: Tensor,
    end: Tensor,
    pair: EmbeddedPair,
    tolerance: float,
    *,
    absolute: float | None = None,
    first: float = 0.01,
    max_calls: int,
    norm: Callable[[Tensor], Tensor] = masked.rms,
) -> Iterator[Walk]:
    """How far it has come, before the first step and after each that was tried, of dy/du = field(u, y) from y (b, ...)
    at `start` to `end`, float64 on the CPU, both () or (b,).

    With times (b,) each row takes steps of its own, to rounding as it would alone; with (), all take those that the
    worst needs. `absolute`: default, the tolerance. `first`: the length of the first step tried, as a share of the way.
    `norm`: of an error (b, ...), (b,), float64 on the CPU, that is accepted up to 1; asked for after the field was.
    Where `max_calls` for some row do not suffice, or no step is short enough, it is lost, and all stop. A row that has
    arrived goes on being evaluated with the others, which counts as no call.
    """
    absolute = tolerance if absolute is None else absolute
    time, size, last = start, first * (end - start), torch.ones_like(start)
    calls, error = torch.zeros_like(start, dtype=torch.int64), torch.zeros_like(start)
    lacking, slope = torch.ones_like(start, dtype=torch.bool), torch.zeros_like(y)
    while True:
        if bool(lacking.any()):
            slope, calls = _where(lacking, field(time, y), slope), calls + lacking
        active = time != end
        lost = active & ((size.abs() < SHORTEST * (end - start).abs()) | (calls + pair.calls > max_calls))
        yield Walk(time, y, slope, calls, error, lost)
        if bool(lost.any()) or not bool(active.any()):
            return
        nxt = torch.where(size.abs() < (end - time).abs(), time + size, end)
        size = nxt - time
        h, slopes = like(size, y), [slope]
        for node, row in zip(pair.nodes, pair.stages, strict=True):
            slopes.append(field(torch.lerp(time, nxt, node), y + h * _combine(row, slopes)))
        new = y + h * _combine(pair.weights, slopes)
        scale = absolute + tolerance * torch.maximum(y.abs(), new.abs())
        rows = norm(h * _combine(pair.error, slopes) / scale)
        error = torch.where(active, rows if start.ndim else rows.max(), error)
        accepted = active & (error <= 1)
        time, y, calls = torch.where(accepted, nxt, time), _where(accepted, new, y), calls + len(pair.stages) * active
        if pair.reuses:
            slope, lacking = _where(accepted, slopes[-1], slope), torch.zeros_like(lacking)
        else:
            lacking = accepted
        longer = SAFETY * error.clamp(min=1e-8) ** (-0.7 / pair.order) * last ** (0.4 / pair.order)
        shorter = (SAFETY * error ** (-1 / pair.order)).nan_to_num(SHORTER)
        size = size * torch.where(accepted, longer, shorter).clamp(SHORTER, LONGER)
        last = torch.where(accepted, error.clamp(min=1e-4), last)


def integrate(
    field: Callable[[Tensor, Tensor], Tensor],
    y: Tensor,
    start: Tensor,
    end: Tensor,
    pair: EmbeddedPair,
    tolerance: float,
    **how: Any,
) -> Walk:
    """Where the `walks` end."""
    return deque(walks(field, y, start, end, pair, tolerance, **how), maxlen=1).pop()


def _combine(row: tuple[float, ...], slopes: list[Tensor]) -> Tensor:
    return sum((a * k for a, k in zip(row, slopes, strict=True) if a), start=torch.zeros_like(slopes[0]))


def _where(rows: Tensor, new: Tensor, old: Tensor) -> Tensor:
    """`new` in the rows that are true, of shape () or (b,), `old` in the others."""
    return torch.where(like(rows, new).bool(), new, old)
