"""Time grids: which levels a sampler visits. steps + 1 levels, noise first, clean last.

    trailing   t = 1, 1 - 1/N, ..., 1/N                  uniform from the noisiest level; the default
    linspace   steps round(linspace(T, 1, N)) of a chain evenly spaced, both ends visited (Nichol & Dhariwal 2021)
    leading    steps 1 + k floor(T / N)                   starts below t = 1: only for other libraries' answers
    quadratic  steps 1 + (linspace(0, sqrt(0.8 T), N))^2  DDIM's for CIFAR-10 (Song et al. 2021, appendix D.2)
    logsnr     uniform in log-SNR                         (Lu et al. 2022)
    karras     sigma/alpha^(1/7) uniform                  (Karras et al. 2022, eq. 5)
    visible    as logsnr, but t = 1 alone above sigma/alpha = 20 where it lies above 1000, as on the cosine chain: there
               data of the scale of 1 show nothing, and levels would be spent

A schedule that is no chain counts as one of 1000 steps where the rule needs T. On a chain every level is a level of the
chain, those that would share one spread over the levels beside it, and sigma is the one of the time that the network is
told. Any other grid is `given` by its times.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from unsteep.core.arguments import MOST_STEPS, shown, whole
from unsteep.core.level import NoiseLevel
from unsteep.core.schedules import Schedule, finite_range, levels_of, schedule_of, steps_of

Spacing = Literal["trailing", "linspace", "leading", "quadratic", "logsnr", "karras", "visible"]
SPACINGS: tuple[Spacing, ...] = get_args(Spacing)
SHOWS, FAR = 20.0, 1000.0  # sigma/alpha below which data show; above which a grid that goes evenly there goes too far
SNR_OF_NOISE = 0.01  # a first level with more signal than this is not pure noise


def grid(schedule: Schedule, steps: int, spacing: Spacing = "trailing") -> NoiseLevel:
    """`steps` + 1 levels of `schedule`, noise first and clean last, float64.

    ValueError for steps < 1, for more steps than a chain has, and where the rule would visit a level twice.
    Warns where the first level still holds signal that a start from pure noise ignores.
    """
    schedule_of(schedule)
    steps = whole("steps", steps, 1, MOST_STEPS)
    if not isinstance(spacing, str) or spacing not in SPACINGS:
        raise ValueError(f"grid: unknown spacing {shown(spacing)}; choose {', '.join(SPACINGS)}")
    total = levels_of(schedule)
    if total is not None and steps > total:
        raise ValueError(f"steps: the chain has {total} levels, got {steps}; take at most as many")
    levels = _noisy(schedule, steps, spacing)
    if bool((levels.t.diff() >= 0).any()):
        raise ValueError(
            f"grid: {spacing} with {steps} steps visits a level of this schedule twice; use trailing"
            f"{'' if total is None else ' or the interpolated chain'}"
        )
    _warn_of_signal(schedule, levels[0], spacing)
    clean = schedule(0.0)
    parts = ("t", "logsnr", "alpha", "sigma")
    return NoiseLevel(*(torch.cat([getattr(levels, part), getattr(clean, part).reshape(1)]) for part in parts))


def given(schedule: Schedule, times: Sequence[float]) -> NoiseLevel:
    """The levels at `times`, falling to 0. ValueError where two are one level; warns where signal is left at first."""
    t = torch.tensor(times, dtype=torch.float64)
    levels = schedule(t)
    if len(t) < 2 or float(t[-1]) != 0 or bool((levels.t.diff() >= 0).any()):
        raise ValueError(
            f"grid: expected at least two times that fall to 0, as 1,0.6,0.2,0, each on a level of its own, "
            f"got {','.join(f'{float(one):g}' for one in times)}"
        )
    _warn_of_signal(schedule, levels[0], "given")
    return levels


def _noisy(schedule: Schedule, n: int, spacing: Spacing) -> NoiseLevel:
    """The n levels above zero noise, noisiest first."""
    total = steps_of(schedule)
    match spacing:
        case "trailing":
            return schedule(torch.arange(n, 0, -1, dtype=torch.float64) / n)
        case "linspace":
            chosen = torch.linspace(total, 1, n, dtype=torch.float64)
            return schedule((chosen if levels_of(schedule) is None else chosen.round()) / total)
        case "leading":
            return schedule((1 + (total // n) * torch.arange(n - 1, -1, -1, dtype=torch.float64)) / total)
        case "quadratic":
            roots = torch.linspace(0, math.sqrt(0.8 * total), n, dtype=torch.float64).flip(0)
            return schedule((1 + (roots**2).floor()).clamp(max=total) / total)
        case "logsnr" | "visible":
            low, high = finite_range(schedule)
            if spacing == "visible" and math.exp(-low / 2) > FAR:
                low = -2 * math.log(SHOWS)
            return _from_one(schedule, torch.linspace(low, high, n, dtype=torch.float64))
        case "karras":
            low, high = finite_range(schedule)
            roots = torch.linspace(math.exp(-low / 14), math.exp(-high / 14), n, dtype=torch.float64)
            return _from_one(schedule, -14 * roots.log())
    raise ValueError(f"grid: unknown spacing {spacing!r}; choose {', '.join(SPACINGS)}")


def _from_one(schedule: Schedule, logsnr: Tensor) -> NoiseLevel:
    """The levels at these rising log-SNRs, the first moved to t = 1 itself."""
    t = schedule.inverse(logsnr).t.clone()
    t[0] = 1.0
    return schedule(_distinct(schedule, t))


def levels_at(schedule: Schedule, logsnr: Tensor) -> NoiseLevel:
    """The levels at these rising log-SNRs (n,), between t = 1, which goes before them, and the clean one: n + 2.

    ValueError where a chain has not as many.
    """
    whole = levels_of(schedule)
    if whole is not None and len(logsnr) >= whole:
        raise ValueError(f"steps: the chain has {whole} levels, got {len(logsnr) + 1}; take at most as many")
    t = torch.cat([torch.ones(1, dtype=torch.float64), schedule.inverse(logsnr).t, torch.zeros(1, dtype=torch.float64)])
    return schedule(_distinct(schedule, t))


def _distinct(schedule: Schedule, t: Tensor) -> Tensor:
    """Falling times, each on its own level: on a chain, those that share one spread to the free ones beside it."""
    whole = levels_of(schedule)
    if whole is None:
        return t
    steps, place = torch.round(t * whole).long(), torch.arange(len(t))
    falling = (steps + place).cummin(0).values - place
    needed = place.flip(0) + steps[-1].clamp(max=1)  # for those that follow
    return torch.maximum(falling, needed).double() / whole


def _warn_of_signal(schedule: Schedule, first: NoiseLevel, spacing: str) -> None:
    snr = math.exp(float(first.logsnr))
    if snr > SNR_OF_NOISE:
        warnings.warn(
            f"at t = {float(first.t):.3g}, where the {spacing} grid starts, signal is left: SNR {snr:.3g}, "
            f"alpha {float(first.alpha):.3g}; samples that start from pure noise are biased",
            stacklevel=3,
        )
    elif float(first.t) < 1:
        warnings.warn(
            f"the {spacing} grid starts at t = {float(first.t):.3g}: alpha is {float(first.alpha):.3g} there and "
            f"{float(schedule(1.0).alpha):.3g} at t = 1; samples start from a little too much noise",
            stacklevel=3,
        )
