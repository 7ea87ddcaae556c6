"""How long a sequence is that nobody gave a length: as the texts or classes that ask for it last, with its error."""

import math

import pytest
import torch

from unsteep.data.examples import Examples
from unsteep.data.signer import SPEEDS, Signer
from unsteep.hearing import Label, Length, Prompt, asked
from unsteep.hearing.lasting import Lasting

WORDS = {"slow": 0.4, "quick": -0.4, "wide": 0.1, "small": 0.0, "left": 0.0, "right": 0.0}


def drawn(n: int, seed: int, spread: float = 0.1) -> tuple[list[str], torch.Tensor]:
    """Texts of three words and the lengths, of which the logarithm is a sum and an error."""
    generator = torch.Generator().manual_seed(seed)
    pairs = [("slow", "quick"), ("wide", "small"), ("left", "right")]
    picks = torch.randint(2, (n, 3), generator=generator)
    texts = [" ".join(pair[i] for pair, i in zip(pairs, row, strict=True)) for row in picks.tolist()]
    line = torch.tensor([math.log(300) + sum(WORDS[word] for word in text.split()) for text in texts])
    return texts, (line + spread * torch.randn(n, generator=generator)).exp()


def test_an_interval_holds_what_it_says() -> None:
    """Of new lengths, whatever words ask for them; and it is no wider for it."""
    one = Lasting.learned(*drawn(2000, 0))
    assert one is not None
    texts, lengths = drawn(4000, 1)
    for share in (0.5, 0.8, 0.95):
        low, high = (one.at(texts, torch.full((4000,), at)) for at in (0.5 - share / 2, 0.5 + share / 2))
        held = float(((lengths >= low) & (lengths <= high)).double().mean())
        assert held == pytest.approx(share, abs=0.03)
    wide = float((one.at(texts, torch.full((4000,), 0.9)) / one.at(texts, torch.full((4000,), 0.1))).log().mean())
    assert wide == pytest.approx(2 * 1.2816 * 0.1, rel=0.15)


def test_few_examples_of_many_words_promise_no_more() -> None:
    """Errors are of examples left out: a text for each clip, of which nothing can be learned, says so."""
    generator = torch.Generator().manual_seed(0)
    lengths = (5 + 0.3 * torch.randn(300, generator=generator)).exp()
    one = Lasting.learned([f"word{i}" for i in range(40)], lengths[:40])
    assert one is not None
    low, high = (one.at(["another"] * 260, torch.full((260,), at)) for at in (0.1, 0.9))
    assert 0.68 < float(((lengths[40:] >= low) & (lengths[40:] <= high)).double().mean()) < 0.92
    assert Lasting.learned(["a"] * 5, torch.ones(5)) is None


def test_combinations_that_were_never_seen_last_as_they_should() -> None:
    data = Signer(count=300).read()
    kinds = (Prompt(by="bpe").fitted(data), Length(by=("prompt",)).fitted(data))
    held = Signer(count=1, test_count=200).read("test")
    assert held.valid is not None
    lengths = held.valid.sum(1)
    ends = kinds[1].between({"prompt": held.captions})
    inside = sum(low <= length <= high for (_, low, high), length in zip(ends, lengths.tolist(), strict=True))
    assert inside > 0.76 * 200  # whole frames hold a little more
    assert all(abs(math.log(middle / SPEEDS[text.split()[1]])) < 0.05 + 0.5 / middle for (middle, *_), text in zip(
        ends, held.captions, strict=True))  # fmt: skip
    for speed, frames in SPEEDS.items():
        condition, _ = asked(kinds, {"prompt": f"HELLO {speed} left high"}, 40, range(40))
        assert condition is not None
        counts = condition["valid"].sum(1)
        assert 0.9 * frames < float(counts.double().mean()) < 1.1 * frames
        assert len(set(counts.tolist())) > 2
        again, _ = asked(kinds, {"prompt": f"HELLO {speed} left high"}, 1, [7])
        assert again is not None
        assert int(again["valid"].sum()) == int(counts[7])  # by its own seed
    asks = {"prompt": "HELLO fast left high", "length": 31}
    told, _ = asked(kinds, asks, 2, [0, 1])
    assert told is not None
    assert told["valid"].sum(1).tolist() == [31, 31]
    none, _ = asked(kinds, {}, 200, range(200))
    assert none is not None
    assert len(set(none["valid"].sum(1).tolist())) > 15  # as in the data


def test_classes_say_it_too() -> None:
    """Also one that is drawn."""
    lengths = torch.tensor([10, 40]).repeat(20)
    data = Examples(
        torch.zeros(40, 40, 1),
        torch.tensor([0, 1]).repeat(20),
        ("a short one", "long"),
        valid=torch.arange(40) < lengths[:, None],
        levels=None,
    )
    kinds = (Label().fitted(data), Length(by=("label",)).fitted(data))
    for values in ({"label": "long"}, {"label": [0, 1, 1]}, {}):
        condition, _ = asked(kinds, values, 3, [0, 1, 2])
        assert condition is not None
        assert torch.equal(condition["valid"].sum(1), torch.tensor([10, 40])[condition["label"]])
    assert Length(by=()).fitted(data).lasting is None
