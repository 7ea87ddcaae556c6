"""Noise levels and the Gaussian algebra of a pair of them.

The forward process noises clean data x0 with one standard normal eps (Ho et al. 2020, eq. 4):

    x_t = alpha x0 + sigma eps,        logsnr = log(alpha^2 / sigma^2)

A level is the point (t, logsnr, alpha, sigma) of a schedule. Time runs from t = 0, clean data with
(alpha, sigma, logsnr) = (1, 0, +inf), to t = 1, the noisiest level. Between a level `now` and a cleaner one `nxt`,

    q(x_now | x_nxt) = N(r x_nxt, beta),                 r = alpha_now / alpha_nxt
    beta       = sigma_now^2 (1 - snr_now / snr_nxt)   = -sigma_now^2 expm1(logsnr_now - logsnr_nxt)
    beta_tilde = beta sigma_nxt^2 / sigma_now^2          the variance of q(x_nxt | x_now, x0)

which on neighbouring steps of a chain are the beta_t and beta_tilde_t of Ho et al. 2020 (eq. 1 and 7), and on any
other pair what a chain of just these two levels would have. Levels are float64 on the CPU until `like` casts them,
once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from unsteep.core.arguments import floats, kind, number, shown

Time = Tensor | float


def like(coefficient: Tensor, x: Tensor) -> Tensor:
    """`coefficient`, of shape () or (b,), on x's device and dtype, with dimensions added on the right to broadcast
    with x (b, ...)."""
    if coefficient.ndim and (
        coefficient.ndim > x.ndim
        or (coefficient.shape[0] != x.shape[0] and 1 not in (coefficient.shape[0], x.shape[0]))
    ):
        raise ValueError(
            f"level: expected one, or one for each of the rows of {shown(x)}, got {tuple(coefficient.shape)}"
        )
    coefficient = coefficient.to(device=x.device, dtype=x.dtype)
    return coefficient.reshape(coefficient.shape + (1,) * (x.ndim - coefficient.ndim))


def has_float64(device: torch.device | str) -> bool:
    """Whether tensors of float64 can be on a device; Apple's MPS has none."""
    kind = torch.device(device).type
    if kind not in _FLOAT64:
        try:
            _FLOAT64[kind] = torch.zeros((), dtype=torch.float64, device=device).dtype == torch.float64
        except (TypeError, RuntimeError, NotImplementedError):
            _FLOAT64[kind] = False
    return _FLOAT64[kind]


_FLOAT64 = {"cpu": True}


def on_device(x: Tensor, device: torch.device | str) -> Tensor:
    """x on a device, in float32 where it is float64 and the device has none."""
    if x.dtype == torch.float64 and not has_float64(device):
        x = x.float()
    return x.to(device)


def float64_device(device: torch.device) -> torch.device:
    """Where numbers of a device can be in float64: there, or on the CPU."""
    return device if has_float64(device) else torch.device("cpu")


def wide(x: Tensor) -> Tensor:
    """x in float64, on its device, or on the CPU where the device has none."""
    return x.to(float64_device(x.device)).double()


@dataclass(frozen=True)
class NoiseLevel:
    """One noise level, or a row of them: float64 tensors on the CPU, all of shape (), (b,) or (n,).

    `t` in [0, 1]; `logsnr` in [-inf, +inf]; `alpha` and `sigma` >= 0. They may carry gradients (learned schedules).
    """

    t: Tensor
    logsnr: Tensor
    alpha: Tensor
    sigma: Tensor

    def __post_init__(self) -> None:
        for name in ("t", "logsnr", "alpha", "sigma"):
            one = getattr(self, name)
            if not isinstance(one, Tensor) or not one.is_floating_point() or one.layout != torch.strided:
                raise ValueError(f"{name}: expected a tensor of floats, got {shown(one)}; levels come of a schedule(t)")

    def like(self, x: Tensor) -> NoiseLevel:
        """The same level on x's device and dtype, shaped to broadcast with x (b, ...)."""
        return NoiseLevel(like(self.t, x), like(self.logsnr, x), like(self.alpha, x), like(self.sigma, x))

    def __getitem__(self, i: int | slice | Tensor) -> NoiseLevel:
        return NoiseLevel(self.t[i], self.logsnr[i], self.alpha[i], self.sigma[i])

    def __len__(self) -> int:
        return len(self.t)

    def expand(self, batch: int) -> NoiseLevel:
        """The same level for each of `batch` examples: shape (batch,)."""
        return NoiseLevel(*(c.expand(batch) for c in (self.t, self.logsnr, self.alpha, self.sigma)))

    @property
    def scale(self) -> Tensor:
        """sqrt(alpha^2 + sigma^2): the standard deviation of x_t when x0 has unit variance. 1 when variance
        preserving."""
        return torch.hypot(self.alpha, self.sigma)


def add_noise(x0: Tensor, eps: Tensor, level: NoiseLevel) -> Tensor:
    """x_t = alpha x0 + sigma eps, for x0 and eps of shape (b, ...) (Ho et al. 2020, eq. 4)."""
    paired(x0=x0, eps=eps)
    at = level_of("level", level).like(x0)
    return at.alpha * x0 + at.sigma * eps


def level_of(name: str, value: NoiseLevel) -> NoiseLevel:
    """A noise level. ValueError for anything else."""
    found: NoiseLevel = kind(name, value, NoiseLevel, "a noise level", "make one of a schedule, as LinearBetas()(0.5)")
    return found


def paired(**named: Tensor) -> None:
    """ValueError where two tensors that belong together are no floats of one shape."""
    (name, one), (other_name, other) = named.items()
    if floats(name, one).shape != floats(other_name, other).shape:
        raise ValueError(
            f"{other_name}: expected the shape of {name}, {tuple(one.shape)}, got {tuple(other.shape)}; give one of it"
        )


def step_variances(now: NoiseLevel, nxt: NoiseLevel) -> tuple[Tensor, Tensor]:
    """(beta, beta_tilde) of the step from `now` to the cleaner `nxt`, float64, of the levels' shape.

    At nxt.sigma = 0 this is (sigma_now^2, 0); at now.alpha = 0 it is (sigma_now^2, sigma_nxt^2). No branch is needed.
    ValueError where `nxt` is the noisier one.
    """
    check_cleaner(now, nxt)
    beta = -(now.sigma**2) * torch.expm1(now.logsnr - nxt.logsnr)
    return beta, beta * (nxt.sigma / now.sigma) ** 2


def check_cleaner(now: NoiseLevel, nxt: NoiseLevel) -> None:
    """ValueError where `nxt`, of the shape of `now`, is noisier: the variance of that step would be negative."""
    level_of("now", now), level_of("nxt", nxt)
    if now.sigma.ndim and nxt.sigma.ndim and now.sigma.shape != nxt.sigma.shape:
        raise ValueError(
            f"nxt: expected the shape of now, {tuple(now.sigma.shape)}, got {tuple(nxt.sigma.shape)}; give as many"
        )
    noisier = nxt.logsnr < now.logsnr
    if bool(noisier.any()):
        after, before = (level.t.expand(noisier.shape)[noisier].flatten()[0] for level in (nxt, now))
        raise ValueError(
            f"levels: expected noise first and clean last, none noisier than the one before it, got t = "
            f"{float(after):.4g} after t = {float(before):.4g}; put them in that order, as grid() does"
        )


def preserving_level(t: Tensor, logsnr: Tensor) -> NoiseLevel:
    """The variance-preserving level (alpha^2 + sigma^2 = 1) of a log-SNR."""
    return NoiseLevel(t, logsnr, torch.sigmoid(logsnr).sqrt(), torch.sigmoid(-logsnr).sqrt())


def as_time(t: Time) -> Tensor:
    """`t` as a float64 tensor; ValueError outside [0, 1]."""
    t = as_float64("t", t)
    if not bool(((t >= 0) & (t <= 1)).all()):
        raise ValueError(f"a time t must lie in [0, 1], got {float(t.min()):.4g} to {float(t.max()):.4g}")
    return t


def as_logsnr(logsnr: Time) -> Tensor:
    """`logsnr` as a float64 tensor; ValueError for what is no number, and for NaN."""
    found = as_float64("logsnr", logsnr)
    if bool(found.isnan().any()):
        raise ValueError("logsnr: expected numbers or infinity, got NaN; give others")
    return found


def as_float64(name: str, value: Time) -> Tensor:
    """A number, a tensor, an array or a row of numbers as a float64 tensor. ValueError for anything else."""
    if (
        isinstance(value, Tensor)
        and not value.is_complex()
        and value.dtype != torch.bool
        and value.layout == torch.strided
    ):
        return value.to(torch.float64)
    try:
        if isinstance(value, list | tuple):
            found: Any = [number(name, one, finite=False) for one in value]
        else:
            found = value if getattr(value, "ndim", 0) else number(name, value, finite=False)
        if getattr(getattr(found, "dtype", None), "kind", "f") not in "fiu" or isinstance(found, Tensor):
            raise TypeError
        return torch.as_tensor(found, dtype=torch.float64)
    except (TypeError, RuntimeError, ValueError, OverflowError):
        raise ValueError(f"{name}: expected a number, or a row of them, got {shown(value)}; give one, as 0.5") from None
