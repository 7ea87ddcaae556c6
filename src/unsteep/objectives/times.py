"""Which times a training batch sees: t in (0, 1], one for each example.

Uniform      t = u                       every level of a chain alike (Ho et al. 2020, algorithm 1)
Stratified   t = (u_0 + i / b) mod 1     one u_0 for the batch, its examples i evenly spaced (Kingma et al. 2021)
LogitNormal  t = sigmoid(mean + std z)   more of the middle (Esser et al. 2024)
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Annotated, Protocol, runtime_checkable

import torch
from torch import Tensor

from unsteep.core.noise import Draw, Purpose
from unsteep.core.open import Components
from unsteep.objectives.loss import Loss

SMALLEST = 1e-6  # training never asks for the clean level itself


class Times(Protocol):
    """The times (b,), float64, for the examples of a draw.

    Ones that are not what the loss is a mean over have `correction(t)` (b,), what makes up for it. Ones that learn have
    `observe(t, losses)`, `state_dict()` and `load_state_dict(state)`.
    """

    def __call__(self, draw: Draw) -> Tensor: ...


@dataclass(frozen=True, kw_only=True)
class Uniform:
    """Every time alike."""

    def __call__(self, draw: Draw) -> Tensor:
        return draw.uniform(Purpose.TIME).clamp(min=SMALLEST)


@dataclass(frozen=True, kw_only=True)
class Stratified:
    """Every time alike, and evenly spaced within a batch: the same expectation with less variance."""

    def __call__(self, draw: Draw) -> Tensor:
        t = (draw.shared(Purpose.TIME) + draw.places.double() / draw.batch) % 1
        return t.clamp(min=SMALLEST)


@dataclass(frozen=True, kw_only=True)
class LogitNormal:
    """logit(t) normal with `mean` and `std`; a positive mean looks more at noisy levels."""

    mean: float = 0.0
    std: float = 1.0

    def __post_init__(self) -> None:
        if self.std <= 0:
            raise ValueError(f"std: expected a positive number, got {self.std}")

    def __call__(self, draw: Draw) -> Tensor:
        # One number after the other: a vectorised function may give an example another last bit in another batch.
        z = NormalDist(self.mean, self.std)
        u = draw.uniform(Purpose.TIME).clamp(2**-33, 1 - 2**-33)
        t = [1 / (1 + math.exp(min(-z.inv_cdf(one), 50.0))) for one in u.tolist()]
        return torch.tensor(t, dtype=torch.float64).clamp(min=SMALLEST)


@dataclass(frozen=True, kw_only=True)
class Importance:
    """Importance sampling by the second moment of the last `history` losses in each of `bins` equal bins of t.

    Times are uniform until every bin has its history. `uniform` is the share of draws that stay so.
    """

    bins: int = 1000
    history: int = 10
    uniform: float = 0.001
    _seen: dict[str, Tensor] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.bins < 1 or self.history < 1:
            raise ValueError(f"Importance: expected bins and history of at least 1, got {self.bins} and {self.history}")
        self._seen["losses"] = torch.zeros(self.bins, self.history, dtype=torch.float64)
        self._seen["counts"] = torch.zeros(self.bins, dtype=torch.int64)

    def __call__(self, draw: Draw) -> Tensor:
        u = draw.uniform(Purpose.TIME)
        p = self.probabilities()
        ends = p.cumsum(0)
        place = torch.searchsorted(ends, u * ends[-1]).clamp(max=self.bins - 1)
        inside = (u * ends[-1] - (ends - p)[place]) / p[place]
        return ((place + inside.clamp(SMALLEST, 1)) / self.bins).clamp(SMALLEST, 1)

    def probabilities(self) -> Tensor:
        """How often each bin is drawn: float64 (bins,), summing to 1."""
        flat = torch.full((self.bins,), 1 / self.bins, dtype=torch.float64)
        if bool((self._seen["counts"] < self.history).any()):
            return flat
        p = (self._seen["losses"] ** 2).mean(1).sqrt()
        if not bool(p.sum() > 0):
            return flat
        return (1 - self.uniform) * p / p.sum() + self.uniform * flat

    def correction(self, t: Tensor) -> Tensor:
        """1 / (bins p(t)): what keeps the expectation of a loss that of uniform times."""
        return 1 / (self.bins * self.probabilities()[self._bin(t)])

    def observe(self, t: Tensor, losses: Tensor) -> None:
        """Enters losses (b,), before correction, into the history of their bins."""
        for place, loss in zip(self._bin(t).tolist(), losses.detach().double().tolist(), strict=True):
            count = int(self._seen["counts"][place])
            self._seen["losses"][place, count % self.history] = loss
            self._seen["counts"][place] = count + 1

    def state_dict(self) -> dict[str, Tensor]:
        """The history, as a checkpoint keeps it."""
        return dict(self._seen)

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restores a history."""
        self._seen.update({name: tensor.clone() for name, tensor in state.items()})

    def _bin(self, t: Tensor) -> Tensor:
        return (torch.ceil(t * self.bins).long() - 1).clamp(0, self.bins - 1)


AnyTimes = Annotated[Times, Components(Uniform, Stratified, LogitNormal, Importance)]


def corrected(times: Times, draw: Draw) -> tuple[Tensor, Tensor]:
    """The times of a batch and what its losses are multiplied by: 1, unless they say otherwise."""
    t = times(draw)
    return t, times.correction(t) if isinstance(times, Correcting) else torch.ones_like(t)


@runtime_checkable
class Correcting(Protocol):
    """Times that are not what the loss is a mean over."""

    def correction(self, t: Tensor) -> Tensor: ...


@runtime_checkable
class Learning(Protocol):
    """Times that learn from losses."""

    def observe(self, t: Tensor, losses: Tensor) -> None: ...

    def state_dict(self) -> dict[str, Tensor]: ...

    def load_state_dict(self, state: dict[str, Tensor]) -> None: ...


class WithTimes:
    """What an objective learns from the steps that were taken, kept in checkpoints: what its `times` do, if they do."""

    times: AnyTimes

    def observe(self, loss: Loss) -> None:
        """Shows the objective a loss of its own whose step was taken: its times see it without the correction that they
        had when they were drawn."""
        if isinstance(self.times, Learning):
            self.times.observe(loss.t, loss.value.detach().cpu().double() / loss.correction)

    def state_dict(self) -> dict[str, Tensor]:
        """What was learned so far."""
        return self.times.state_dict() if isinstance(self.times, Learning) else {}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restores what `state_dict` returned."""
        if isinstance(self.times, Learning):
            self.times.load_state_dict(state)
