"""Random numbers and schedules against published values and their own laws.

Values in strings are published ones: of Salmon et al. 2011, or computed in float64 from the definitions.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from unsteep.checks.rows import Check, Row, below, holds, near, published
from unsteep.core.chains import Betas, CosineBetas, Interpolated, LinearBetas, QuadraticBetas
from unsteep.core.level import step_variances
from unsteep.core.noise import NoiseSource, philox
from unsteep.core.open import listed
from unsteep.core.schedules import AnySchedule, Flow, Schedule, Shifted, levels_of
from unsteep.likelihood import prior_term

GOLDEN = (0.991137683391571, -0.9246625900268555, -0.6176089644432068, -0.48206859827041626, -0.15363822877407074)

LACKED: dict[Any, dict[str, Any]] = {  # settings without a default
    Betas: {"values": tuple(torch.linspace(1e-4, 0.02, 300, dtype=torch.float64).tolist())},
    Interpolated: {"chain": LinearBetas()},
    Shifted: {"size": 256},
}


def real(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def numbers(device: str) -> list[Check]:
    return [
        ("float64", partial(_float64, device)),
        ("Philox", _philox),
        ("normals", partial(_normals, device)),
        ("Brownian path", _brownian),
    ]


def _float64(device: str) -> Iterator[Row]:
    one = torch.ones((), dtype=torch.float64, device=device)
    yield below(f"error of 1 + 2^-52 on {device}", 1e-30, float((one + 2.0**-52) - one) - 2.0**-52)
    x = torch.linspace(-1, 1, 64 * 64, dtype=torch.float64).reshape(64, 64)
    product = (x.to(device) @ x.to(device)).cpu()
    yield below(f"error of a float64 product on {device}", 1e-13, largest(product - (x[:, :, None] * x).sum(1)))


def _philox() -> Iterator[Row]:
    """The test vectors of its authors' library."""
    for counter, key, expected in (
        ("0 0 0 0", "0 0", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
    ):
        words: Any = [[torch.tensor(int(word, 16)) for word in text.split()] for text in (counter, key)]
        got = " ".join(f"{int(word):08x}" for word in philox(*words))
        yield holds(f"Philox4x32-10 of {counter[:8]}...", f"{expected[:8]}...", f"{got[:8]}...", got == expected)


def _normals(device: str) -> Iterator[Row]:
    same = torch.equal(NoiseSource([0]).normal(torch.empty(1, 5), draw=0)[0], torch.tensor(GOLDEN))
    yield holds("normals of seed 0", "bit-equal", "bit-equal" if same else "other", same)
    x = NoiseSource(range(100)).normal(torch.empty(100, 10_000, dtype=torch.float64), draw=0)
    yield near("mean of 10^6 normals", 0, 0.004, float(x.mean()))
    yield near("variance of 10^6 normals", 1, 0.006, float(x.var()))
    if device != "cpu":
        like = torch.empty(100, 10_000)
        apart = NoiseSource(range(100)).normal(like.to(device), draw=0).cpu() - NoiseSource(range(100)).normal(like, 0)
        yield below(f"normals, {device} against cpu", 1e-6, largest(apart))


def _brownian() -> Iterator[Row]:
    """A finer grid refines the same path, whose increments have the variance of the time that passed."""
    like, levels = torch.empty(2000, 1, dtype=torch.float64), Flow()(real(0.9, 0.7, 0.35, 0.1))
    noise = NoiseSource(range(2000))
    parts = sum(noise.brownian(like, levels[i], levels[i + 1]) for i in range(3))
    whole = noise.brownian(like, levels[0], levels[3])
    yield below("error of a sum of increments of W", 1e-12, largest(parts - whole))
    yield near("variance of W(0.9) - W(0.1)", 0.8, 0.1, float(whole.var()))


def schedules() -> list[Check]:
    return [
        *((family.__name__, partial(_lawful, family)) for family in listed(AnySchedule)),
        ("published values", _published_schedules),
        ("sub-grids", _respaced),
    ]


def _lawful(family: Any) -> Iterator[Row]:
    schedule: Schedule = family(**LACKED.get(family, {}))
    law, error = worst(schedule)
    name = family.__name__
    yield holds(f"laws of {name}", "< 1e-9", f"{error:.2g}" if error < 1e-9 else f"{law}: {error:.2g}", error < 1e-9)


def worst(schedule: Schedule) -> tuple[str, float]:
    """The law that a schedule misses by most, and by how much: levels are finite, the log-SNR falls, inverse takes it
    back to t, alpha^2 + sigma^2 = 1 where it says so, logsnr is that of alpha and sigma, and t = 0 is clean."""
    steps = levels_of(schedule) or 1000
    t = torch.arange(1, steps + 1, dtype=torch.float64) / steps
    level, clean = schedule(t), schedule(0.0)
    inside = level.logsnr.isfinite()
    rises = float((level.logsnr[inside].diff() >= 0).sum())
    snr = 2 * (level.alpha.log() - level.sigma.log())
    laws = {
        "finite": float((~(level.alpha + level.sigma).isfinite()).sum()) + float((~inside[:-1]).sum()),
        "log-SNR": rises + largest((snr - level.logsnr)[inside] / (1 + level.logsnr[inside].abs())),
        "inverse": largest(schedule.inverse(level.logsnr).t - t),
        "clean": largest(torch.stack([clean.alpha - 1, clean.sigma])) + float(clean.logsnr != math.inf),
    }
    if getattr(schedule, "preserving", False):
        laws["preserving"] = largest(level.alpha**2 + level.sigma**2 - 1)
    return max(laws.items(), key=lambda law: law[1] if law[1] == law[1] else math.inf)


def _published_schedules() -> Iterator[Row]:
    linear, cosine, long = LinearBetas(), CosineBetas(), CosineBetas(steps=4000)
    scaled = QuadraticBetas(start=0.00085, end=0.012)
    yield published("alpha_bar_T, linear", "4.0358e-5", float(linear(1.0).alpha ** 2))
    yield published("alpha_bar_T, cosine", "2.4288e-9", float(cosine(1.0).alpha ** 2))
    yield published("beta_1, cosine", "4.1284e-5", float(cosine(0.001).sigma ** 2))
    yield published("alpha_bar_T, cosine, T = 4000", "1.518e-10", float(long(1.0).alpha ** 2))
    yield published("SNR_T, scaled linear", "0.0046819", float(scaled(1.0).logsnr.exp()))
    for energy, expected in ((0.25, "7.28e-6"), (1.0, "2.91e-5")):
        prior = prior_term(real(math.sqrt(energy))[:, None], linear(1.0))
        yield published(f"L_T in bits/dim, E x0^2 = {energy:g}", expected, float(prior) / math.log(2))


def _respaced() -> Iterator[Row]:
    """A sub-grid is the chain of its own betas."""
    kept = LinearBetas().levels[torch.arange(0, 1001, 50)]
    betas, _ = step_variances(kept[1:], kept[:-1])
    yield below("sub-grid against chain of its betas", 1e-12, largest(Betas(tuple(betas)).levels.sigma - kept.sigma))


def largest(x: Tensor) -> float:
    """The largest magnitude; NaN where there is one."""
    return float(x.abs().max())
