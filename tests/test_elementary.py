"""Functions of random words that are the same to the last bit everywhere: near the truth, and in any shape."""

import hashlib

import mpmath
import pytest
import torch
from torch import Tensor

from unsteep.core.elementary import circle, log_unit, unit
from unsteep.core.noise import NoiseSource

ENDS = [0, 1, 2, 2**31 - 1, 2**31, 2**31 + 1, 2**32 - 2, 2**32 - 1]
EIGHTHS = [k * 2**29 + d for k in range(8) for d in (-1, 0, 1) if 0 <= k * 2**29 + d < 2**32]
ROOT_HALF = [int(2**32 / 2**0.5 / 2**k) + d for k in range(8) for d in (-1, 0, 1)]  # where the exponent changes
WORDS = torch.tensor(
    [*ENDS, *EIGHTHS, *ROOT_HALF, *torch.randint(2**32, (400,), generator=torch.Generator().manual_seed(0)).tolist()]
)


def true(function: str, words: Tensor) -> Tensor:
    """To 40 digits, of u = (w + 1/2) / 2^32."""
    with mpmath.workdps(40):
        u = [(mpmath.mpf(word) + 0.5) / 2**32 for word in words.tolist()]
        of = {"log": mpmath.log, "cos": lambda x: mpmath.cospi(2 * x), "sin": lambda x: mpmath.sinpi(2 * x)}[function]
        return torch.tensor([float(of(one)) for one in u], dtype=torch.float64)


def test_near_the_truth() -> None:
    torch.testing.assert_close(log_unit(WORDS), true("log", WORDS), rtol=1e-15, atol=0)
    for got, name in zip(circle(WORDS), ("cos", "sin"), strict=True):
        torch.testing.assert_close(got, true(name, WORDS), rtol=0, atol=4e-16)


def test_the_ends() -> None:
    """No word is 0 or 1: the logarithm is finite and below 0."""
    u = unit(torch.tensor([0, 2**32 - 1]))
    assert u.tolist() == [2.0**-33, 1 - 2.0**-33]
    assert bool((log_unit(torch.tensor([0, 2**32 - 1])) < 0).all())


@pytest.mark.parametrize("shift", range(9))
def test_a_number_is_the_same_wherever_it_stands(shift: int) -> None:
    """In the body of a vectorised loop and in its tail, aligned or not, alone or among many."""
    whole, part = torch.cat([WORDS, WORDS]), WORDS[shift : shift + 17]
    for function in (log_unit, lambda w: circle(w)[0], lambda w: circle(w)[1]):
        assert torch.equal(function(whole)[shift : shift + 17], function(part))
        assert torch.equal(function(part[:, None])[:, 0], function(part))


def test_normals_are_the_same_on_every_machine() -> None:
    """A hash, for once: nothing in them is rounded otherwise than IEEE 754 says."""
    x = NoiseSource(range(7), 3).normal(torch.empty(7, 5001, dtype=torch.float64), draw=2)
    digest = hashlib.sha256(x.numpy().astype("<f8").tobytes()).hexdigest()
    assert digest.startswith("1e0258da6a5df96a9bbc77a9da1c3310")
