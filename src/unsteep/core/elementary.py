"""Elementary functions of random words, the same to the last bit on every processor and in every shape.

A library's logarithm or cosine may differ in the last bit between the body of a vectorised loop and its tail, between
processors, and from release to release. Those here take 32-bit words w, and use nothing that IEEE 754 does not round
exactly: integers, +, -, *, /. With u = (w + 1/2) / 2^32 in (0, 1),

    log u           = e log 2 + 2 artanh s,    u = 2^e m, m in [sqrt 1/2, sqrt 2),    s = (m - 1) / (m + 1)
    cos, sin 2 pi u   on the eighth of a turn beside the nearest quarter, from their series

to about 1e-15 of the true value. No operation is fused: each is a call of its own.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

# Coefficients of series in the square of the argument, lowest power first.
_ARTANH = [2 / (2 * k + 1) for k in range(11)]
_SIN = [(-1) ** k / math.factorial(2 * k + 1) for k in range(8)]
_COS = [(-1) ** k / math.factorial(2 * k) for k in range(9)]
# log 2 in two parts: the first has so few bits that its product with an exponent is exact.
_LOG2_HIGH, _LOG2_LOW = float.fromhex("0x1.62e42fefa38p-1"), float.fromhex("0x1.ef35793c7673p-45")
_TURN = float.fromhex("0x1.921fb54442d18p+2") / 2**32  # 2 pi of a word
_QUARTER = 30  # bits of a quarter of a turn


def unit(word: Tensor) -> Tensor:
    """Words, int64 in [0, 2^32), to the centres of 2^32 bins of (0, 1), float64: never 0, never 1."""
    return (word.double() + 0.5) * 2.0**-32


def log_unit(word: Tensor) -> Tensor:
    """log(unit(word)), float64."""
    m, e = torch.frexp(word.double() + 0.5)
    small = m < math.sqrt(0.5)
    m = torch.where(small, 2 * m, m)
    e = (e - small.to(e.dtype) - 32).double()
    s = (m - 1) / (m + 1)
    return e * _LOG2_HIGH + (_series(_ARTANH, s * s) * s + e * _LOG2_LOW)


def circle(word: Tensor) -> tuple[Tensor, Tensor]:
    """(cos, sin) of 2 pi unit(word), float64."""
    quarter = (word + (1 << _QUARTER - 1)) >> _QUARTER
    angle = ((word - (quarter << _QUARTER)).double() + 0.5) * _TURN
    square = angle * angle
    cosine, sine = _series(_COS, square), _series(_SIN, square) * angle
    odd = (quarter & 1).bool()
    x, y = torch.where(odd, sine, cosine), torch.where(odd, cosine, sine)
    return x * (1 - ((quarter + 1) & 2)), y * (1 - (quarter & 2))


def _series(coefficients: list[float], z: Tensor) -> Tensor:
    """The sum of coefficients[k] z^k, by Horner's rule."""
    total = z * coefficients[-1]
    for c in coefficients[-2:0:-1]:
        total.add_(c).mul_(z)
    return total.add_(coefficients[0])
