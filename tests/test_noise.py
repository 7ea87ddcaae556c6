"""Randomness: published answers of the generator, the laws of its streams, and their statistics."""

import itertools
from typing import Any

import pytest
import scipy.stats  # type: ignore[import-untyped]
import torch
from torch import Tensor

from unsteep.core import noise
from unsteep.core.chains import ConstantBetas
from unsteep.core.level import NoiseLevel
from unsteep.core.noise import Draw, NoiseSource, Purpose, clock, permutation, philox
from unsteep.core.schedules import Flow

SHAPES = [(1,), (3,), (4,), (5, 7), (3, 8, 8), (1, 33)]


def words(text: str) -> tuple[Any, ...]:
    return tuple(torch.tensor(int(word, 16)) for word in text.split())


def level(t: Any) -> NoiseLevel:
    return Flow()(torch.as_tensor(t, dtype=torch.float64))


@pytest.mark.parametrize(
    ("counter", "key", "answer"),
    [
        ("0 0 0 0", "0 0", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
    ],
)
def test_philox_known_answers(counter: str, key: str, answer: str) -> None:
    """The published test vectors of Random123 for philox4x32-10."""
    assert philox(words(counter), words(key)) == words(answer)


class TestStreams:
    @pytest.mark.parametrize("shape", SHAPES)
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
    def test_a_batch_is_its_samples_one_by_one(self, shape: tuple[int, ...], dtype: torch.dtype) -> None:
        """Bit for bit, whatever the batch, and whichever way the seeds are handed over."""
        seeds = [0, 1, 7, 2**31, 2**40 + 3, 2**63 - 1, -1, -(2**63)]
        like = torch.empty(8, *shape, dtype=dtype)
        together = NoiseSource(seeds, 5)
        for draw, kind in itertools.product((0, 3), ("normal", "uniform")):
            batch = getattr(together, kind)(like, draw)
            assert batch.shape == like.shape
            assert batch.dtype == dtype
            for i, seed in enumerate(seeds):
                assert torch.equal(getattr(NoiseSource([seed], 5), kind)(like[:1], draw)[0], batch[i])
            assert torch.equal(getattr(NoiseSource(torch.tensor(seeds), 5), kind)(like, draw), batch)
            assert torch.equal(getattr(together[2:5], kind)(like[2:5], draw), batch[2:5])

    def test_a_longer_sequence_begins_with_the_shorter_one(self) -> None:
        source = NoiseSource([3, 4])
        long = source.normal(torch.empty(2, 41, 6), 2)
        for frames in (1, 7, 40):
            assert torch.equal(source.normal(torch.empty(2, frames, 6), 2), long[:, :frames])

    def test_one_stream_for_all_or_one_each(self) -> None:
        like = torch.empty(2, 10)
        each = NoiseSource([8, 9], torch.tensor([4, 2**40])).normal(like, 0)
        assert torch.equal(each[0], NoiseSource([8, 9]).at(4).normal(like, 0)[0])
        assert torch.equal(each[1], NoiseSource([9], 2**40).normal(like[:1], 0)[0])
        assert torch.equal(NoiseSource([8, 9], torch.tensor([4, 2**40]))[1:].normal(like[1:], 0), each[1:])

    def test_values_depend_on_nothing_in_like_but_its_shape(self) -> None:
        source = NoiseSource([1, 2])
        assert torch.equal(source.normal(torch.full((2, 9), torch.nan), 0), source.normal(torch.zeros(2, 9), 0))
        assert torch.equal(source.normal(torch.zeros(9, 2).T, 0), source.normal(torch.zeros(2, 9), 0))
        high = source.normal(torch.zeros(2, 9, dtype=torch.float64), 0)
        assert torch.equal(source.normal(torch.zeros(2, 9), 0), high.float())

    @pytest.mark.parametrize("rows", [1, 4])
    def test_a_seed_for_each_row(self, rows: int) -> None:
        like, source = torch.empty(rows, 3), NoiseSource(range(2))
        match = rf"noise: expected a seed for each of {rows} rows, got 2; make it with NoiseSource\(range\("
        for draw in (source.normal, source.uniform):
            with pytest.raises(ValueError, match=match):
                draw(like, 0)
        with pytest.raises(ValueError, match=match):
            source.brownian(like, level(0.5), level(0.2))

    def test_streams_do_not_correlate(self) -> None:
        """Nor neighbouring seeds, draws and places, nor the high halves of their words, nor one draw's values."""
        like = torch.empty(1, 20_000, dtype=torch.float64)
        keys = [(0, 0, 0), (1, 0, 0), (2**32, 0, 0), (0, 1, 0), (0, 2, 0), (0, 0, 1), (0, 0, 2), (0, 0, 2**32)]
        keys += [(1, 0, 1), (-1, 0, 0), (0, 0, -1)]
        rows = torch.cat([NoiseSource([seed], stream).normal(like, draw) for seed, draw, stream in keys])
        rows = torch.cat([rows, *(rows[:1].roll(k, 1) for k in (1, 2, 3, 4))])
        apart = torch.corrcoef(rows) - torch.eye(len(rows), dtype=torch.float64)
        assert float(apart.abs().max()) < 4.5 / 20_000**0.5
        assert float((torch.corrcoef(rows.abs()) - torch.eye(len(rows))).abs().max()) < 4.5 / 20_000**0.5


class TestStatistics:
    """Of 400 000 numbers: a defect would show far below the 1 in 1000 at which these tests give up."""

    numbers = NoiseSource(range(100)).normal(torch.empty(100, 4000, dtype=torch.float64), 0).flatten()
    parts = NoiseSource(range(100)).uniform(torch.empty(100, 4000, dtype=torch.float64), 0).flatten()

    def test_normal(self) -> None:
        """The first four moments, within four standard errors, and the whole distribution."""
        n = len(self.numbers)
        for power, moment, spread in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
            assert float((self.numbers**power).mean()) == pytest.approx(moment, abs=4 * (spread / n) ** 0.5)
        assert scipy.stats.kstest(self.numbers.numpy(), "norm").pvalue > 1e-3
        assert 4.5 < float(self.numbers.abs().max()) < 7

    def test_each_of_the_four_places_of_a_block_is_normal(self) -> None:
        for place in range(4):
            assert scipy.stats.kstest(self.numbers[place::4].numpy(), "norm").pvalue > 1e-3

    def test_uniform(self) -> None:
        assert scipy.stats.kstest(self.parts.numpy(), "uniform").pvalue > 1e-3
        counts = torch.histc(self.parts, 64, 0, 1)
        assert scipy.stats.chisquare(counts.numpy()).pvalue > 1e-3

    @pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
    def test_uniform_never_reaches_its_ends(self, dtype: torch.dtype) -> None:
        """In bf16 one number in 500 would round to 1."""
        numbers = NoiseSource(range(4)).uniform(torch.empty(4, 25_000, dtype=dtype), 0)
        assert bool(((numbers > 0) & (numbers < 1)).all())


def blocks_asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many blocks of four numbers each call of the generator makes, from here on."""
    blocks: list[int] = []

    def recording(counter: Any, key: Any) -> Any:
        blocks.append(counter[0].numel())
        return philox(counter, key)

    monkeypatch.setattr(noise, "philox", recording)
    return blocks


class TestBrownian:
    seeds = (0, 1, -5, 2**63 - 1)
    like = torch.empty(4, 3, 5, dtype=torch.float64)
    source = NoiseSource(seeds)

    def between(self, now: Any, nxt: Any) -> Tensor:
        return self.source.brownian(self.like, level(now), level(nxt))

    def test_increments_add_up_on_any_grid(self) -> None:
        whole = self.between(1.0, 0.0)
        for grid in ([0, 0.5, 1], [0, 0.1, 0.35, 0.350001, 0.8, 1], torch.linspace(0, 1, 8).tolist()):
            pieces = sum(self.between(late, early) for early, late in itertools.pairwise(grid))
            torch.testing.assert_close(pieces, whole, rtol=0, atol=1e-13)

    def test_the_path_does_not_depend_on_what_was_asked_before(self) -> None:
        first = self.between(0.7, 0.3)
        self.between(0.5, 0.4)
        self.source.normal(self.like, 0)
        assert torch.equal(self.between(0.7, 0.3), first)
        assert torch.equal(
            self.source.at(9).brownian(self.like, level(0.7), level(0.3)), first
        )  # one path for all streams

    def test_no_time_no_change(self) -> None:
        assert torch.equal(self.between(0.4, 0.4), torch.zeros_like(self.like))
        assert torch.equal(self.between(0.3, 0.7), -self.between(0.7, 0.3))

    def test_a_batch_is_its_samples_one_by_one(self) -> None:
        """With one time for all, and with a time for each."""
        shared = self.between(0.9, 0.2)
        late, early = torch.tensor([1.0, 0.5, 0.123456, 1e-5]), torch.tensor([0.5, 0.0, 0.1, 0.0])
        each = self.between(late, early)
        for i, seed in enumerate(self.seeds):
            one, like = NoiseSource([seed]), self.like[:1]
            assert torch.equal(one.brownian(like, level(0.9), level(0.2))[0], shared[i])
            assert torch.equal(one.brownian(like, level(late)[i], level(early)[i])[0], each[i])
            assert torch.equal(one.brownian(like, level(late)[i : i + 1], level(early)[i : i + 1])[0], each[i])

    @pytest.mark.parametrize(
        ("late", "early"), [(1.0, 0.0), (0.5, 0.25), (0.7, 0.1), (0.301, 0.3), (1.0, 0.9999), (1e-6, 0)]
    )
    def test_variance_is_the_time_between(self, late: float, early: float) -> None:
        like = torch.empty(50, 400, dtype=torch.float64)
        increment = NoiseSource(range(50)).brownian(like, level(late), level(early)).flatten()
        ticks = round(late * 2**24) - round(early * 2**24)
        increment = increment / (ticks / 2**24) ** 0.5
        assert float(increment.var()) == pytest.approx(1, abs=4 * (2 / 20_000) ** 0.5)
        assert scipy.stats.kstest(increment.numpy(), "norm").pvalue > 1e-3

    def test_increments_are_independent(self) -> None:
        """Of each other over disjoint times, and of the source's other numbers."""
        like, source = torch.empty(50, 400, dtype=torch.float64), NoiseSource(range(50))
        grid = [0.0, 0.1, 0.25, 0.3, 0.5, 0.7, 0.7001, 1.0]
        rows = [source.brownian(like, level(b), level(a)).flatten() for a, b in itertools.pairwise(grid)]
        rows += [
            source.normal(like, 0).flatten(),
            NoiseSource(range(50, 100)).brownian(like, level(0.1), level(0)).flatten(),
        ]
        apart = torch.corrcoef(torch.stack(rows)) - torch.eye(len(rows), dtype=torch.float64)
        assert float(apart.abs().max()) < 4 / 20_000**0.5

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
    def test_small_increments_survive_coarse_precision(self, dtype: torch.dtype) -> None:
        """The step is cast, not the two ends of it, which differ by less than bf16 resolves."""
        now, nxt = level(0.5001), level(0.5)
        coarse = self.source.brownian(self.like.to(dtype), now, nxt)
        exact = self.source.brownian(self.like, now, nxt)
        assert coarse.dtype == dtype
        torch.testing.assert_close(coarse.double(), exact, rtol=torch.finfo(dtype).eps, atol=1e-6)

    @pytest.mark.parametrize(
        ("late", "early", "expected"),
        [
            (0.7, 0.3, "0x1.d545ab1cfb8e8p-2 -0x1.5379879de1847p+0 -0x1.d1e2c5bb933b8p-5 0x1.0e69faad12601p-1"),
            (1.0, 0.123456, "0x1.50227ed4b3c6ep+0 -0x1.a428ca754a63fp-1 0x1.66a9b9976225cp-1 0x1.69f3e40151bdbp-2"),
            (0.5, 0.0, "0x1.c408310adc7adp-1 -0x1.66e603e82f12ap+0 0x1.31bdf90a13450p-1 -0x1.b1390b32f4f42p-2"),
        ],
    )
    def test_the_path_of_a_seed_stays_what_it_was(self, late: float, early: float, expected: str) -> None:
        like = torch.empty(2, 2, dtype=torch.float64)
        increment = NoiseSource([0, -5]).brownian(like, level(late), level(early)).flatten()
        golden = torch.tensor([float.fromhex(number) for number in expected.split()], dtype=torch.float64)
        torch.testing.assert_close(increment, golden, rtol=1e-12, atol=1e-12)

    def test_a_walk_makes_each_end_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """And all nodes of one at once, whatever streams and other numbers lie between: a step costs about what other
        noise does."""
        calls, levels = blocks_asked(monkeypatch), level(torch.linspace(1, 0.01, 9, dtype=torch.float64))
        source = NoiseSource(self.seeds)
        walked = [source.at(i).brownian(self.like, levels[i], levels[i + 1]) for i in range(8)]
        assert len(calls) == 9
        for i, increment in enumerate(walked):
            assert torch.equal(increment, NoiseSource(self.seeds).brownian(self.like, levels[i], levels[i + 1]))

    def test_what_is_kept_fits_what_is_asked(self) -> None:
        """Another shape, another part of the batch, another precision: the numbers are those of a new source."""
        source, ends = NoiseSource(self.seeds), itertools.pairwise(level(t) for t in (0.7, 0.3, 0.1, 0.6, 0.2, 0.9))
        likes = (self.like, self.like[:, :2], self.like.float(), self.like.new_empty(4, 15), self.like)
        for like, (now, nxt) in zip(likes, ends, strict=True):
            assert torch.equal(source.brownian(like, now, nxt), NoiseSource(self.seeds).brownian(like, now, nxt))
            for part, first, then in ((slice(1, 3), nxt, now), (slice(0, 2), now, nxt)):
                rows, alone = source[part], NoiseSource(list(self.seeds)[part])
                assert torch.equal(rows.brownian(like[part], first, then), alone.brownian(like[part], first, then))

    def test_large_data_have_few_nodes_at_a_time(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """And the same numbers."""
        together = NoiseSource(self.seeds).brownian(self.like, level(0.7), level(0.3))
        monkeypatch.setattr(noise, "_AT_ONCE", 2 * self.like.numel())
        blocks = blocks_asked(monkeypatch)
        assert torch.equal(NoiseSource(self.seeds).brownian(self.like, level(0.7), level(0.3)), together)
        assert max(blocks) == 2 * 4 * 4  # nodes, samples, blocks

    def test_clock(self) -> None:
        """Times as the path knows them: between two that it cannot tell apart nothing happens."""
        t = torch.tensor([0.0, 1.0, 0.3, 1e-9], dtype=torch.float64)
        assert torch.equal(clock(t) * 2**24, torch.tensor([0, 2**24, 5033165, 0], dtype=torch.float64))
        assert not self.between(1e-9, 1e-10).any()
        assert bool(self.between(clock(t[2]), t[2]).eq(0).all())

    def test_on_a_chain(self) -> None:
        """A walk down a whole grid ends at W(1)."""
        levels = ConstantBetas(steps=12).levels
        walk = [self.source.brownian(self.like, levels[i + 1], levels[i]) for i in range(12)]
        torch.testing.assert_close(torch.stack(walk).sum(0), self.between(1.0, 0.0), rtol=0, atol=1e-12)


class TestPermutation:
    @pytest.mark.parametrize("n", [0, 1, 2, 3, 1000, 4097])
    def test_is_an_order_of_all(self, n: int) -> None:
        order = permutation(n, seed=3, epoch=1)
        assert order.dtype == torch.int64
        assert torch.equal(order.sort().values, torch.arange(n))

    def test_is_a_function_of_seed_and_epoch(self) -> None:
        seen = {tuple(permutation(50, seed, epoch).tolist()) for seed in (0, 1, -1, 2**40) for epoch in range(4)}
        assert len(seen) == 16
        assert torch.equal(permutation(50, 7, 3), permutation(50, 7, 3))

    @pytest.mark.parametrize(
        ("seed", "epoch", "order"),
        [
            (0, 0, [4, 0, 6, 1, 5, 2, 10, 3, 11, 7, 8, 9]),
            (3, 0, [10, 3, 5, 6, 11, 4, 2, 8, 0, 7, 9, 1]),
            (0, 1, [3, 5, 8, 11, 4, 7, 9, 1, 6, 0, 10, 2]),
            (2**40 + 1, 5, [4, 3, 1, 0, 5, 2, 6]),
        ],
    )
    def test_the_order_of_training_stays_what_it_was(self, seed: int, epoch: int, order: list[int]) -> None:
        """Or a run would not go on as it began."""
        assert permutation(len(order), seed, epoch).tolist() == order

    def test_the_order_of_many_stays_what_it_was(self) -> None:
        """Of so many some share a first word: these pairs, which the second word turned round."""
        order = permutation(2**17, 0, 0)
        for at, pair in ((9316, [104683, 9465]), (79490, [81904, 30960]), (123054, [129586, 70888])):
            assert order[at : at + 2].tolist() == pair

    def test_the_second_word_decides_between_equals_and_then_the_place(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Of the second all but its last bit: 63 bits in all."""
        last = 2**32 - 1
        first, second = torch.tensor([[[last, 1, 0, 0, 1, 1, 0], [0, 7, last, 2, 6, 5, 2]]]).unbind(1)
        monkeypatch.setattr(noise, "philox", lambda counter, key: (first, second, first, second))
        assert permutation(7, 0, 0).tolist() == [3, 6, 2, 5, 1, 4, 0]
        monkeypatch.setattr(noise, "philox", lambda counter, key: (torch.zeros(1, 100, dtype=torch.int64),) * 4)
        assert torch.equal(permutation(100, 0, 0), torch.arange(100))

    def test_shares_no_numbers_with_the_training_steps(self) -> None:
        """Whose examples are drawn for under the same seed: sorting their numbers gives another order."""
        for purpose in set(Purpose) - {Purpose.ORDER}:
            every = NoiseSource([7], 3).uniform(torch.empty(1, 400, dtype=torch.float64), purpose)[0]
            for place in range(4):
                assert not torch.equal(every[place::4].argsort(), permutation(100, 7, 3))

    def test_orders_are_equally_likely(self) -> None:
        orders = torch.stack([permutation(4, seed, epoch) for seed in range(10) for epoch in range(48)])
        code = (orders * torch.tensor([64, 16, 4, 1])).sum(1)
        counts = code.unique(return_counts=True)[1]
        assert len(counts) == 24
        assert scipy.stats.chisquare(counts.numpy()).pvalue > 1e-3


class TestDraw:
    like = torch.empty(6, 3, 2)

    def test_an_example_does_not_know_how_its_batch_was_split(self) -> None:
        whole, parts = (
            Draw(5, 9, torch.arange(6), 6),
            [Draw(5, 9, torch.tensor(p), 6) for p in ([0, 1], [4, 2], [5, 3])],
        )
        order = torch.tensor([0, 1, 4, 2, 5, 3])
        for purpose in Purpose:
            normal = torch.cat([part.normal(self.like[:2], purpose) for part in parts])
            assert torch.equal(normal, whole.normal(self.like, purpose)[order])
            uniform = torch.cat([part.uniform(purpose) for part in parts])
            assert torch.equal(uniform, whole.uniform(purpose)[order])
            assert len({float(part.shared(purpose)) for part in [whole, *parts]}) == 1
        assert whole.uniform(Purpose.TIME).dtype == torch.float64
        assert whole.shared(Purpose.TIME).shape == ()

    def test_the_numbers_of_a_training_step_stay_what_they_were(self) -> None:
        """Or a run would not go on as it began: those of each purpose, of an example and of the whole step."""
        draw = Draw(3, 7, torch.tensor([5]), 8)
        uniform = [0.790772341075, 0.065354075632, 0.961562947021, 0.029037746019, 0.237017918495, 0.480505572516]
        shared = [0.956171840546, 0.253992712009, 0.56020909932, 0.544270848273, 0.198540727026, 0.689775767154]
        purposes = (Purpose.TIME, Purpose.NOISE, Purpose.DROP, Purpose.FLIP, Purpose.ORDER, Purpose.PICTURE_TIME)
        assert [float(draw.uniform(one)) for one in purposes] == pytest.approx(uniform, abs=1e-12)
        assert [float(draw.shared(one)) for one in purposes] == pytest.approx(shared, abs=1e-12)
        like = torch.empty(1, 2, dtype=torch.float64)
        assert draw.normal(like, Purpose.NOISE)[0].tolist() == pytest.approx([-0.635131557858, 2.247771975423])
        late = Draw(2**31 - 1, 1000, torch.tensor([0, 63]), 64)
        assert late.uniform(Purpose.TIME).tolist() == pytest.approx([0.706255850033, 0.711659351015], abs=1e-12)

    def test_no_number_is_drawn_twice(self) -> None:
        """Over seeds, steps, places, purposes, and the numbers that a whole step shares."""
        drawn: list[float] = []
        for seed, step, purpose in itertools.product((0, 1), range(4), Purpose):
            draw = Draw(seed, step, torch.arange(6), 6)
            drawn += [*draw.uniform(purpose).tolist(), float(draw.shared(purpose))]
        assert len(set(drawn)) == len(drawn) == 2 * 4 * len(Purpose) * 7


def test_noise_does_not_depend_on_how_many_blocks_are_made_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    like = torch.empty(3, 2, 31)
    whole = NoiseSource(range(3)).normal(like, draw=4)
    monkeypatch.setattr("unsteep.core.noise._BLOCKS", 5)
    assert torch.equal(NoiseSource(range(3)).normal(like, draw=4), whole)
