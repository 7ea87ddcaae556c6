"""Numbers of sequences that are missing, one by one: they weigh nothing in loss, gradient, statistics or picture,
whatever stands in their place; and what counts half counts half."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import unsteep
from building import batches_for
from unsteep.core import masked
from unsteep.core.condition import Condition
from unsteep.core.noise import Draw, NoiseSource
from unsteep.core.protocols import Rows
from unsteep.data import Examples
from unsteep.data.reading import every, in_memory
from unsteep.likelihood import Decoder, bound
from unsteep.model import Description
from unsteep.objectives import Simple
from unsteep.recipes import RECIPES
from unsteep.spaces import Sequences
from unsteep.training.statistics import measure, range_of

N, FRAMES, FEATURES = 12, 6, 4
LENGTHS = torch.tensor([6, 3, 4, 2] * 3)
VALID = torch.arange(FRAMES) < LENGTHS[:, None]
WEIGHT = torch.rand(N, FRAMES, FEATURES, generator=torch.Generator().manual_seed(1)) * (
    torch.rand(N, FRAMES, FEATURES, generator=torch.Generator().manual_seed(2)) > 0.3
)
KNOWN = (WEIGHT > 0) & VALID[..., None]
JUNK = pytest.mark.parametrize("junk", [1e4, -3.0, float("nan"), float("inf")])


def data(junk: float = 0.0) -> Examples:
    x = torch.randn(N, FRAMES, FEATURES, generator=torch.Generator().manual_seed(0)) * torch.tensor([1, 5, 0.1, 2]) + 3
    return Examples(x.masked_fill(~KNOWN, junk), levels=None, valid=VALID, weight=WEIGHT, source="mine")


def test_by_definition() -> None:
    x = torch.randn(N, FRAMES, FEATURES, generator=torch.Generator().manual_seed(3)).double()
    found = masked.mean(x, VALID, WEIGHT)
    for i in range(N):
        w = WEIGHT[i].double() * VALID[i, :, None]
        assert float(found[i]) == pytest.approx(float((w * x[i]).sum() / w.sum()), rel=1e-12)
    assert masked.mean(x, VALID, torch.zeros_like(WEIGHT)).tolist() == [0.0] * N
    assert torch.equal(masked.known(VALID, WEIGHT), KNOWN)  # type: ignore[arg-type]
    assert masked.known(VALID, None) is VALID


@JUNK
def test_the_space_is_fitted_to_what_is_known(junk: float) -> None:
    clean, other = (Sequences().fitted(data(value)) for value in (0.0, junk))
    assert clean == other
    x, w = data().x.double(), (WEIGHT * VALID[..., None]).double()
    mean = (w * x).sum((0, 1)) / w.sum((0, 1))
    variance = (w * (x - mean).square()).sum((0, 1)) / w.sum((0, 1))
    assert np.allclose(clean.mean, mean)
    assert np.allclose(clean.std, variance.sqrt())
    inside = [clean.encode(of.x, of.known) for of in (data(), data(junk))]
    assert torch.equal(*inside)
    assert not bool(inside[0][~KNOWN].any())
    outside = clean.decode(inside[0], KNOWN)
    for i, one in enumerate(outside):
        last = int(KNOWN[i].any(1).nonzero().max()) + 1
        assert one.shape == (last, FEATURES)
        assert torch.equal(one.isfinite(), KNOWN[i, :last])
    assert len(set(clean.tiles(outside).flatten().tolist())) > 2  # drawn, with gaps


@JUNK
def test_statistics(junk: float) -> None:
    assert torch.equal(range_of(data()), range_of(data(junk)))
    description: Any = Description(space=Sequences().fitted(data()))
    clean, other = (measure(data(value), description) for value in (0.0, junk))
    assert clean.keys() == other.keys()
    assert all(torch.equal(one, other[name]) for name, one in clean.items())
    assert clean["mean"].shape == (1, FEATURES)
    assert float(clean["mean"].abs().max()) < 1e-6
    assert float(clean["std"]) == pytest.approx(1, abs=0.2)


def batch_of(of: Examples, extra: int = 0) -> tuple[Any, Any]:
    """A denoiser and a batch whose padding is `extra` frames longer."""
    made = replace(RECIPES["sequences"]("nothing.npz"), data=unsteep.data.Given.of(of))
    whole = in_memory(of)
    description = made.describe(whole)
    space = replace(description.space, frames=FRAMES + extra)
    hears = tuple(replace(one, frames=FRAMES + extra) for one in description.hears)
    torch.manual_seed(0)
    denoiser = description.build()
    for weight in denoiser.parameters():
        torch.nn.init.normal_(weight, std=0.1)
    batches = batches_for(made, whole, replace(description, space=space, hears=hears))
    return denoiser, batches.batch(whole.rows(torch.arange(N)), Draw(0, 0, torch.arange(N), N))


@JUNK
def test_losses_and_their_gradients(junk: float) -> None:
    found = []
    for value, extra in ((0.0, 0), (junk, 0), (junk, 5)):
        denoiser, batch = batch_of(data(value), extra)
        assert batch.weight.shape == (N, FRAMES + extra, FEATURES)
        assert "weight" not in batch.condition.heard
        loss = Simple()(denoiser, batch, Draw(0, 0, torch.arange(N), N))
        loss.value.sum().backward()
        found.append((loss.value.detach(), [weight.grad for weight in denoiser.parameters()]))
    for value, gradients in found[1:]:
        torch.testing.assert_close(value, found[0][0], rtol=1e-5, atol=1e-5)
        for one, other in zip(gradients, found[0][1], strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_what_counts_less_moves_the_loss_less() -> None:
    """The loss of two numbers is the mean of their errors, by how much each counts."""
    draw = Draw(0, 0, torch.arange(N), N)

    def loss_of(first: float, second: float) -> Tensor:
        weight = torch.zeros_like(WEIGHT)
        weight[:, 0, 2], weight[:, 1, 1] = first, second
        denoiser, batch = batch_of(data())  # the same numbers go in, whatever counts
        told = Condition({**batch.condition, "weight": weight})
        return Simple()(denoiser, replace(batch, condition=told), draw).value.detach()

    one, other = loss_of(1.0, 0.0), loss_of(0.0, 1.0)
    torch.testing.assert_close(loss_of(0.25, 0.75), 0.25 * one + 0.75 * other)
    torch.testing.assert_close(loss_of(0.1, 0.1), (one + other) / 2)
    assert not torch.allclose(one, other)


def test_the_bound_knows_what_is_missing() -> None:
    found = []
    for junk in (0.0, 1e4):
        denoiser, batch = batch_of(data(junk))
        levels = denoiser.schedule(torch.linspace(1, 0, 4, dtype=torch.float64))
        denoise = lambda x, level, batch=batch, denoiser=denoiser: denoiser(x, level, batch.condition)  # noqa: E731
        with torch.no_grad():
            terms = bound(denoise, batch.x, levels, Decoder(levels=None), "beta", NoiseSource(range(N)))
        found.append(terms)
        assert terms.dimensions.tolist() == KNOWN.flatten(1).sum(1).tolist()
    assert torch.equal(found[0].kl, found[1].kl)
    assert torch.equal(found[0].prior, found[1].prior)


def test_rows_and_copies_keep_it() -> None:
    of = data()
    assert torch.equal(every(of).weight, WEIGHT)  # type: ignore[arg-type]
    assert torch.equal(of.select(torch.tensor([3, 1])).weight, WEIGHT[[3, 1]])  # type: ignore[arg-type]
    assert torch.equal(every(of).select(torch.tensor([2])).weight, WEIGHT[[2]])  # type: ignore[arg-type]
    assert of.digest != replace(of, weight=None).digest
    condition = Condition(valid=VALID, weight=WEIGHT, label=torch.zeros(N, dtype=torch.int64))
    dropped = condition.null()
    assert torch.equal(dropped["weight"], WEIGHT)
    assert set(dropped) == {"valid", "weight", "label"}
    with pytest.raises(ValueError, match="weight: expected floats"):
        replace(of, weight=WEIGHT[..., 0])
    with pytest.raises(ValueError, match="weight: expected finite numbers of at least 0"):
        replace(of, weight=-WEIGHT)


def test_a_dataset_from_python_may_say_so() -> None:
    of = data(7.0)
    items = [{"x": of.x[i], "valid": VALID[i], "weight": WEIGHT[i]} for i in range(N)]
    rows = every(unsteep.data.Given.of(items).read())
    assert torch.equal(rows.weight, WEIGHT)  # type: ignore[arg-type]
    assert torch.equal(rows.known, KNOWN)  # type: ignore[arg-type]


def test_rows_without_weights_are_as_before() -> None:
    rows = Rows(torch.zeros(2, 3, 4), valid=VALID[:2, :3])
    assert rows.known is rows.valid
    x: Tensor = torch.randn(2, 3, 4)
    assert torch.equal(masked.mean(x, VALID[:2, :3]), masked.mean(x, VALID[:2, :3], None))
