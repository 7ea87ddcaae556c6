"""Conditions: what is present, what dropping nulls, and what it never touches."""

import math

import pytest
import torch

from unsteep.core.condition import Condition


def full() -> Condition:
    return Condition(
        label=torch.tensor([3, 0, 9]),
        text=torch.arange(3 * 4 * 2.0).reshape(3, 4, 2) + 1,
        text_valid=torch.tensor([[1, 1, 0, 0], [1, 0, 0, 0], [1, 1, 1, 1]]).bool(),
        picture=torch.arange(3 * 2 * 2 * 2.0).reshape(3, 2, 2, 2) + 1,
        picture_logsnr=torch.tensor([2.0, -1.0, math.inf], dtype=torch.float64),
        valid=torch.tensor([[1, 1, 0], [1, 0, 0], [1, 1, 1]]).bool(),
    )


def test_tensors_are_those_present() -> None:
    assert Condition() == {}
    label = torch.tensor([1, 2])
    assert Condition(label=label) == {"label": label}
    assert list(full()) == ["label", "text", "text_valid", "picture", "picture_logsnr", "valid"]


def test_dropping_nulls_the_given_rows() -> None:
    dropped = full().drop(torch.tensor([False, True, False]))
    assert dropped["label"].tolist() == [3, -1, 9]
    assert dropped["text_valid"].sum(1).tolist() == [2, 0, 4]
    assert not dropped["picture"][1].any()
    assert dropped["picture_logsnr"].tolist() == [2.0, -math.inf, math.inf]


@pytest.mark.parametrize("rows", [[False] * 3, [True, False, False], [False, True, True], [True] * 3])
def test_dropping_touches_nothing_else(rows: list[bool]) -> None:
    before, kept = full(), ~torch.tensor(rows)
    after = before.drop(~kept)
    for name, tensor in before.items():
        assert torch.equal(after[name][kept], tensor[kept])
        assert after[name].shape == tensor.shape
        assert after[name].dtype == tensor.dtype
        assert torch.equal(tensor, full()[name])  # the condition itself stays as it was
    assert torch.equal(after["valid"], full()["valid"])


def test_null_is_every_row_dropped() -> None:
    null, dropped = full().null(), full().drop(torch.ones(3, dtype=torch.bool))
    assert null.keys() == dropped.keys()
    assert all(torch.equal(null[name], dropped[name]) for name in null)
    assert null["label"].tolist() == [-1, -1, -1]


def test_null_of_nothing_is_nothing() -> None:
    assert Condition().null() == {}
    valid = torch.tensor([[True, False]])
    assert torch.equal(Condition(valid=valid).null()["valid"], valid)


def test_text_without_a_mask_is_dropped_too() -> None:
    """A text stands for all its tokens; dropping it has to leave none."""
    dropped = Condition(text=torch.ones(2, 3, 4)).drop(torch.tensor([True, False]))
    assert dropped["text_valid"].tolist() == [[False] * 3, [True] * 3]


def test_text_may_be_ids() -> None:
    """Ids of a vocabulary have no features; which of them count says the same mask."""
    ids = torch.tensor([[3, 4, 5], [6, 7, 8]])
    dropped = Condition(text=ids).drop(torch.tensor([True, False]))
    assert dropped["text_valid"].tolist() == [[False] * 3, [True] * 3]
    assert dropped["text"].dtype == torch.int64
    half = torch.tensor([[1, 1, 0], [1, 0, 0]]).bool()
    kept = Condition(text=ids, text_valid=half).drop(torch.tensor([True, False])).select(slice(1, None))
    assert kept["text"].tolist() == [[6, 7, 8]]
    assert kept["text_valid"].tolist() == [[True, False, False]]


def test_slicing_takes_rows() -> None:
    for rows in (slice(1, 3), torch.tensor([2, 0]), torch.tensor([True, False, True])):
        part = full().select(rows)
        assert part.keys() == full().keys()
        assert all(torch.equal(part[name], tensor[rows]) for name, tensor in full().items())
    assert Condition(label=torch.tensor([4, 5])).select(slice(1, None)).keys() == {"label"}


def test_moving_keeps_everything() -> None:
    moved = full().to("meta")
    assert {name: (t.shape, t.dtype, t.device.type) for name, t in moved.items()} == {
        name: (t.shape, t.dtype, "meta") for name, t in full().items()
    }
