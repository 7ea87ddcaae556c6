"""Linear measurements y = A x + noise of pictures x (b, c, h, w), each row measured alike.

A posterior needs A, its adjoint A^T (<A x, y> = <x, A^T y>), and the solution of (A A^T + s I) u = r for s >= 0. Here
A A^T is diagonal in a known basis, so that the solution is exact:

    Mask        the known pixels, 0 in place of the others     A A^T = A, diagonal in pixels
    Blur        circular convolution with a kernel k           A A^T = |k^|^2 in the Fourier basis
    BlockMean   the mean of each f x f block                   A A^T = I / f^2

With s = 0 the solution is the pseudo-inverse's: 0 along what A A^T does not reach, so that A^T solve(y, 0) = A^+ y. In
the Fourier basis that is what a rounding error could have made.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol, Self

import torch
from torch import Tensor


class LinearOperator(Protocol):
    """A; `noise_ratio` is s, of shape () or broadcasting with the residual r."""

    def forward(self, x: Tensor) -> Tensor: ...

    def adjoint(self, y: Tensor) -> Tensor: ...

    def solve(self, residual: Tensor, noise_ratio: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class Mask:
    """`known`: bool, of the picture's shape (c, h, w) or (b, c, h, w), 1 where it is the same along a dimension. A
    measurement has the picture's shape, and 0 where nothing is known: `mask.forward(picture)`."""

    known: Tensor

    def __post_init__(self) -> None:
        if self.known.dtype != torch.bool:
            raise ValueError(f"known: expected a mask of bool, true where kept, got {self.known.dtype}; compare it")

    def forward(self, x: Tensor) -> Tensor:
        return torch.where(self.on(x), x, 0)

    def adjoint(self, y: Tensor) -> Tensor:
        return self.forward(y)

    def solve(self, residual: Tensor, noise_ratio: Tensor) -> Tensor:
        return _divided(residual, self.on(residual).to(residual.dtype) + noise_ratio, 0)

    def on(self, x: Tensor) -> Tensor:
        """`known` on x's device. ValueError where it does not fit x (b, c, h, w)."""
        fits = self.known.ndim in (x.ndim - 1, x.ndim) and all(
            a in (1, b) for a, b in zip(reversed(self.known.shape), reversed(x.shape), strict=False)
        )
        if not fits:
            raise ValueError(
                f"known: a mask of shape {tuple(self.known.shape)} does not fit pictures of {tuple(x.shape[1:])}; "
                f"give one of the same size"
            )
        return self.known.to(x.device)


@dataclass(frozen=True)
class Blur:
    """Convolution with `kernel` (kh, kw) about its middle, of odd sizes; the picture goes on periodically."""

    kernel: Tensor

    def __post_init__(self) -> None:
        if self.kernel.ndim != 2 or not all(n % 2 for n in self.kernel.shape):
            raise ValueError(f"kernel: expected two odd sizes, around a middle, got {tuple(self.kernel.shape)}")

    @classmethod
    def gaussian(cls, std: float) -> Self:
        """A Gaussian of `std` pixels, sampled to four of them and of sum 1."""
        if not std > 0:
            raise ValueError(f"std: expected a number of pixels above 0, got {std}")
        radius = math.ceil(4 * std)
        line = torch.exp(-0.5 * (torch.arange(-radius, radius + 1, dtype=torch.float64) / std) ** 2)
        line = line / line.sum()
        return cls(torch.outer(line, line))

    def forward(self, x: Tensor) -> Tensor:
        return self._filtered(x, self._response(x))

    def adjoint(self, y: Tensor) -> Tensor:
        return self._filtered(y, self._response(y).conj())

    def solve(self, residual: Tensor, noise_ratio: Tensor) -> Tensor:
        power = self._response(residual).abs() ** 2
        least = torch.finfo(residual.dtype).eps * float(power.max())
        spectrum = torch.fft.rfft2(residual)
        return torch.fft.irfft2(_divided(spectrum, power + noise_ratio, least), s=residual.shape[-2:])

    def _response(self, x: Tensor) -> Tensor:
        """The kernel's Fourier transform on the grid of x: (h, w // 2 + 1)."""
        (kh, kw), (h, w) = self.kernel.shape, x.shape[-2:]
        rows, columns = (torch.arange(kh) - kh // 2) % h, (torch.arange(kw) - kw // 2) % w
        wrapped = torch.zeros(h * w, dtype=torch.float64)
        wrapped.index_add_(0, (rows[:, None] * w + columns).flatten(), self.kernel.double().cpu().flatten())
        response = torch.fft.rfft2(wrapped.reshape(h, w))
        return response.to(torch.complex(x.new_zeros(()), x.new_zeros(())).dtype).to(x.device)

    def _filtered(self, x: Tensor, response: Tensor) -> Tensor:
        return torch.fft.irfft2(response * torch.fft.rfft2(x), s=x.shape[-2:])


@dataclass(frozen=True)
class BlockMean:
    """Each `factor` x `factor` block to its mean: (b, c, h, w) to (b, c, h / factor, w / factor)."""

    factor: int

    def __post_init__(self) -> None:
        if self.factor < 1:
            raise ValueError(f"factor: expected at least 1, got {self.factor}")

    def forward(self, x: Tensor) -> Tensor:
        h, w = x.shape[-2:]
        f = self.factor
        if h % f or w % f:
            raise ValueError(f"factor: {f} does not divide pictures of {h} x {w}; take one that divides both sides")
        return x.reshape(*x.shape[:-2], h // f, f, w // f, f).mean((-3, -1))

    def adjoint(self, y: Tensor) -> Tensor:
        return y.repeat_interleave(self.factor, -2).repeat_interleave(self.factor, -1) / self.factor**2

    def solve(self, residual: Tensor, noise_ratio: Tensor) -> Tensor:
        return residual / (self.factor**-2 + noise_ratio)


def _divided(r: Tensor, eigenvalues: Tensor, least: float) -> Tensor:
    """r / eigenvalues, and 0 where these are no larger than `least`."""
    reached = eigenvalues > least
    return torch.where(reached, r / torch.where(reached, eigenvalues, 1), 0)
