"""Sums, means, spreads and quantiles of each example: by their definition in loops, padding apart."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from unsteep.core import masked

VALID = torch.tensor([[1, 1, 0, 0], [1, 0, 1, 1], [1, 1, 1, 1]]).bool()
MEASURES: dict[str, tuple[Callable[..., Tensor], Callable[[np.ndarray], float]]] = {
    "sum": (masked.sum, math.fsum),
    "mean": (masked.mean, lambda x: math.fsum(x) / len(x)),
    "std": (masked.std, lambda x: float(np.std(x))),
    "rms": (masked.rms, lambda x: math.sqrt(math.fsum(x * x) / len(x))),
    "low": (lambda x, valid=None: masked.quantile(x, 0.1, valid), lambda x: float(np.quantile(x, 0.1))),
    "high": (lambda x, valid=None: masked.quantile(x, 0.9, valid), lambda x: float(np.quantile(x, 0.9))),
    "largest": (lambda x, valid=None: masked.quantile(x, 1.0, valid), lambda x: float(np.max(x))),
}
every_measure = pytest.mark.parametrize("name", MEASURES)


def randn(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(dtype)


@every_measure
def test_by_definition(name: str) -> None:
    of, definition = MEASURES[name]
    x = randn(3, 4, 5) + 0.3
    for i in range(3):
        assert float(of(x, VALID)[i]) == pytest.approx(definition(x[i][VALID[i]].flatten().numpy()), rel=1e-13)
        assert float(of(x)[i]) == pytest.approx(definition(x[i].flatten().numpy()), rel=1e-13)


@every_measure
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_all_valid_is_no_mask(name: str, dtype: torch.dtype) -> None:
    of, x = MEASURES[name][0], randn(3, 4, 5, dtype=dtype)
    torch.testing.assert_close(of(x, torch.ones(3, 4, dtype=torch.bool)), of(x), rtol=1e-6, atol=0)


@every_measure
@pytest.mark.parametrize("junk", [0.0, 1e4, math.inf, -math.inf, math.nan])
def test_what_stands_in_padding_and_how_much_of_it_there_is(name: str, junk: float) -> None:
    of, x = MEASURES[name][0], randn(3, 4, 5)
    longer = torch.cat([x.masked_fill(~VALID[..., None], junk), torch.full((3, 6, 5), junk).double()], 1)
    valid = torch.cat([VALID, torch.zeros(3, 6, dtype=torch.bool)], 1)
    torch.testing.assert_close(of(longer, valid), of(x, VALID), rtol=1e-14, atol=0)


@pytest.mark.parametrize("name", ["sum", "mean", "std", "high"])
def test_no_gradient_comes_from_padding(name: str) -> None:
    """And that of the others is the gradient of the same without it."""
    of = MEASURES[name][0]
    x, short = randn(1, 4, 2).masked_fill(~VALID[:1, :, None], 1e4).requires_grad_(), randn(1, 4, 2)[:, :2]
    short.requires_grad_()
    of(x, VALID[:1]).sum().backward()
    of(short).sum().backward()
    assert x.grad is not None
    assert short.grad is not None
    assert not bool(x.grad[:, 2:].any())
    torch.testing.assert_close(x.grad[:, :2], short.grad, rtol=1e-12, atol=1e-14)


def test_counts() -> None:
    x = randn(3, 4, 5)
    assert masked.count(x, VALID).tolist() == [10, 15, 20]
    assert masked.count(x).tolist() == [20, 20, 20]
    assert masked.count(torch.empty(0, 4)).tolist() == []


def test_pixels_may_be_masked_one_by_one() -> None:
    """`valid` of any first dimensions of x."""
    x, valid = randn(2, 3, 4), randn(2, 3, 4) > 0
    assert masked.count(x, valid).tolist() == valid.flatten(1).sum(1).tolist()
    kept: Any = masked.kept(x, valid)
    assert torch.equal(kept[valid], x[valid])
    assert not bool(kept[~valid].any())
