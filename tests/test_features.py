"""What features see, batch by batch: all of it, none of it held, and what is broken named."""

import weakref
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from unsteep.features.looking import gather
from unsteep.metrics.seen import Seen


@dataclass(frozen=True)
class Sums:
    """The sum and the largest value of each picture; as logits, their negatives."""

    told: bool = True
    name: str = "sums"
    digest: str = "0" * 64
    dimension: int = 2
    resize: str = "none"

    def __call__(self, pictures: Tensor) -> Seen:
        x = pictures.float().flatten(1)
        features = torch.stack([x.sum(1), x.amax(1)], 1)
        features = torch.where(features == 0, torch.nan, features)  # black pictures break it
        return Seen(features, -features if self.told else None)


def some(n: int, c: int = 1) -> Tensor:
    return torch.randint(1, 256, (n, c, 3, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("sizes", [[11], [1] * 11, [4, 4, 3]], ids=str)
@pytest.mark.parametrize("channels", [1, 3])
def test_batches_are_seen_as_a_whole(sizes: list[int], channels: int) -> None:
    pictures = some(11, channels)
    found, whole = gather(Sums(), pictures.split(sizes)), Sums()(pictures)
    assert torch.equal(found.features, whole.features)
    assert found.logits is not None
    assert torch.equal(found.logits, -found.features)
    assert len(found) == 11
    part = found.select(torch.tensor([7, 2]))
    assert part.logits is not None
    assert torch.equal(part.features, whole.features[[7, 2]])
    assert torch.equal(part.logits, -part.features)
    assert gather(Sums(told=False), [pictures]).logits is None


def test_no_more_than_one_batch_is_held() -> None:
    alive: list[weakref.ref[Tensor]] = []
    most = 0

    def batches() -> Iterator[Tensor]:
        nonlocal most
        for _ in range(20):
            batch = some(5)
            alive.append(weakref.ref(batch))
            most = max(most, sum(reference() is not None for reference in alive))
            yield batch
            del batch

    assert len(gather(Sums(), batches())) == 100
    assert most <= 2  # the one that was seen, while the next one is made


def test_nothing_learns() -> None:
    weight = torch.ones(1, requires_grad=True)

    class Learning(Sums):
        def __call__(self, pictures: Tensor) -> Seen:
            return Seen(pictures.float().flatten(1) * weight)

    assert not gather(Learning(), [some(2)]).features.requires_grad


def test_what_is_not_finite_is_counted_and_named() -> None:
    pictures = some(9)
    pictures[[2, 5, 8]] = 0
    with pytest.raises(ValueError, match=r"3 of 9 pictures .* not finite, .* positions \[2, 5, 8\]; .* than sums"):
        gather(Sums(), pictures.split(2))


@pytest.mark.parametrize("wrong", [some(2).float(), some(2)[0]], ids=["floats", "one"])
def test_what_is_no_picture_is_refused(wrong: Tensor) -> None:
    with pytest.raises(ValueError, match=r"expected uint8 pictures \(b, c, h, w\), got torch"):
        gather(Sums(), [wrong])


def test_none_at_all() -> None:
    with pytest.raises(ValueError, match="at least one picture, got none"):
        gather(Sums(), [])
