"""The probability-flow equation with steps as long as a tolerance allows, between noise and data, either way.

In Y = x / sqrt(alpha^2 + sigma^2), with the angle phi = atan2(sigma, alpha) as time, the flow of every schedule is

    dY / dphi = v

and finite at both ends, alpha = 0 too. It is followed from t = 1 to the cleanest level that a sampler uses, t = 1/1000
or step 1 of a chain, by an embedded pair of formulas whose difference measures the error of each step (`runge_kutta`).
There the denoiser itself has the last word: x0 = (cos(phi) Y - sin(phi) v) / sqrt(alpha^2 + sigma^2).

    heun             of order 2, with Euler's inside it: two calls a step, one if it is rejected
    dormand-prince   of order 5, with one of order 4: six, for the last of a step is the first of the next

Heun's keeps its word at any tolerance; the other takes fewer calls from 1e-3 on, but looser than that its few long
steps see too little of the data for their errors to be known. Every sample has its own steps, and so its own levels, of
shape (b,): it is what it would be alone, to rounding.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from unsteep.core import masked
from unsteep.core.arguments import checked
from unsteep.core.estimate import Estimate
from unsteep.core.level import NoiseLevel, like
from unsteep.core.noise import NoiseSource
from unsteep.core.precision import arithmetic
from unsteep.core.runge_kutta import DORMAND_PRINCE, HEUN, EmbeddedPair, Walk, walks
from unsteep.core.schedules import Schedule, continuous, finite_range
from unsteep.denoiser import Denoise
from unsteep.sampling.loop import Step

Pair = Literal["heun", "dormand-prince"]
PAIRS: dict[Pair, EmbeddedPair] = {"heun": HEUN, "dormand-prince": DORMAND_PRINCE}


@dataclass(frozen=True, kw_only=True)
class Adaptive:
    """A driver of its own, in place of a solver on a grid: it lays its levels as it goes.

    A step is accepted if its error in Y, RMS over the valid elements of a sample in units of `absolute` + `tolerance`
    |Y|, is at most 1. `absolute`: default, the tolerance. `max_calls`: of the network, for one sample. A chain is
    interpolated: its network hears fractions of steps.
    """

    pair: Pair = "heun"
    tolerance: float = 1e-3
    absolute: float | None = None
    max_calls: int = 10_000

    def __post_init__(self) -> None:
        checked(self)
        if self.pair not in PAIRS:
            raise ValueError(f"pair: expected {' or '.join(get_args(Pair))}, got {self.pair!r}")
        for name, value in (("tolerance", self.tolerance), ("absolute", self.absolute)):
            if value is not None and not value > 0:
                raise ValueError(f"{name}: expected a number above 0, such as 1e-3, got {value}")

    @torch.no_grad()
    def walk(self, denoise: Denoise, x: Tensor, schedule: Schedule, noise: NoiseSource | None = None) -> Iterator[Step]:
        """The steps of `sample`, one after each try that takes some sample farther, at levels (b,); the last to clean
        data. Nothing is drawn."""
        schedule, noisy, clean = _ends(schedule)
        before: tuple[Tensor, Estimate] | None = None
        for walk, estimate in self._down(denoise, x, schedule, noisy, clean):
            if before is not None and not torch.equal(walk.time, before[0]):
                yield Step(estimate.x_t, before[1], estimate.level)
            before = walk.time, estimate
        yield Step(_last(walk, clean), estimate, schedule(0.0).expand(len(x)))

    @torch.no_grad()
    @arithmetic()
    def sample(self, denoise: Denoise, x: Tensor, schedule: Schedule) -> tuple[Tensor, Tensor]:
        """x0 (b, ...) from x (b, ...) at t = 1, and the calls of each sample (b,), int64, rejected steps included.

        ValueError, which says how far it came, where the tolerance cannot be met.
        """
        schedule, noisy, clean = _ends(schedule)
        walk, _ = deque(self._down(denoise, x, schedule, noisy, clean), maxlen=1).pop()
        return _last(walk, clean), walk.calls

    @torch.no_grad()
    @arithmetic()
    def invert(self, denoise: Denoise, x0: Tensor, schedule: Schedule) -> tuple[Tensor, Tensor]:
        """The x (b, ...) at t = 1 from which `sample` comes back to x0 (b, ...), and the calls (b,), as there.

        It starts at the cleanest level with x = alpha x0: what the flow has moved till there, sigma^2 / 2 times the
        score for data with a density, is left out.
        """
        schedule, noisy, clean = _ends(schedule)
        y = like(clean.alpha / clean.scale, x0) * x0
        walk, _ = deque(self._walks(denoise, y, schedule, clean, noisy, first=0.01), maxlen=1).pop()
        return like(noisy.scale, x0) * walk.y, walk.calls

    def _down(
        self, denoise: Denoise, x: Tensor, schedule: Schedule, noisy: NoiseLevel, clean: NoiseLevel
    ) -> Iterator[tuple[Walk, Estimate]]:
        """From x at the noisiest level on. There the flow is almost an even turn: a tenth of the way is a fair first
        step."""
        return self._walks(denoise, x / like(noisy.scale, x), schedule, noisy, clean, first=0.1)

    def _walks(
        self, denoise: Denoise, y: Tensor, schedule: Schedule, start: NoiseLevel, end: NoiseLevel, first: float
    ) -> Iterator[tuple[Walk, Estimate]]:
        """Y on its way from one level to another, both (), and what the denoiser says there; time is the angle turned
        since, (b,), and the slope is v."""
        way = torch.atan2(end.sigma, end.alpha) - torch.atan2(start.sigma, start.alpha)
        cos, sin = start.alpha / start.scale, start.sigma / start.scale

        def level(turned: Tensor) -> NoiseLevel:
            """By turning (cos(phi), sin(phi)): alpha = 0 is met exactly, as by a tangent it would not."""
            c, s = torch.cos(turned), torch.sin(turned)
            return schedule.inverse(2 * (torch.log((cos * c - sin * s).clamp(min=0)) - torch.log(sin * c + cos * s)))

        valid: Tensor | None = None

        def field(turned: Tensor, y: Tensor) -> Tensor:
            nonlocal valid
            at = level(turned)
            estimate = denoise(like(at.scale, y) * y, at)
            valid = estimate.valid
            return estimate.v

        least = torch.finfo(y.dtype).eps
        if self.tolerance < least:
            name = str(y.dtype).removeprefix("torch.")
            raise ValueError(f"tolerance: {self.tolerance:g} is less than {name} resolves, {least:.2g}; raise it")
        pair, rows = PAIRS[self.pair], torch.zeros(len(y), dtype=torch.float64)
        for walk in walks(
            field,
            y,
            rows,
            rows + way,
            pair,
            self.tolerance,
            absolute=self.absolute,
            first=first,
            max_calls=self.max_calls,
            norm=lambda error: masked.rms(error, valid),
        ):
            if bool(walk.lost.any()):
                raise self._lost(walk, level(walk.time), start, end)
            at = level(walk.time)
            yield walk, Estimate("v", walk.slope, like(at.scale, y) * walk.y, at, valid=valid)

    def _lost(self, walk: Walk, at: NoiseLevel, start: NoiseLevel, end: NoiseLevel) -> ValueError:
        """What went wrong, and how far it came: to the levels (b,) `at`."""
        i = int(walk.lost.nonzero()[0])
        calls = int(walk.calls[i])
        spent = calls + PAIRS[self.pair].calls > self.max_calls
        return ValueError(
            f"tolerance: {self.tolerance:g} cannot be met by {'max_calls' if spent else 'any step'}: after {calls} "
            f"calls sample {i} stands at t = {float(at.t[i]):.4g}, on its way from {float(start.t):.4g} to "
            f"{float(end.t):.4g}, and the last step tried errs by {float(walk.error[i]):.3g} times what is allowed; "
            f"raise tolerance{' or max_calls' if spent else ''}"
        )


def _last(walk: Walk, clean: NoiseLevel) -> Tensor:
    """The denoiser's last word, x0, where the walk has come to the level `clean`."""
    at = clean.like(walk.y)
    return (at.alpha * walk.y - at.sigma * walk.slope) / like(clean.scale, walk.y)


def _ends(schedule: Schedule) -> tuple[Schedule, NoiseLevel, NoiseLevel]:
    """The schedule in continuous time, its noisiest level, and the cleanest that a sampler uses."""
    schedule = continuous(schedule)
    return schedule, schedule(1.0), schedule.inverse(finite_range(schedule)[1])
