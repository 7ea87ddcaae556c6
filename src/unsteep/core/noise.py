"""Randomness as a function: (seed, stream, draw) -> numbers, the same on every device and in every batch.

The generator is Philox4x32-10 (Salmon et al. 2011): a keyed bijection of a 128-bit counter, so any number can be had
without making the ones before it. The key is the 64-bit seed; the counter is (block, draw, stream): `block` numbers
the values of one draw in groups of four, `draw` the draws of one purpose, `stream` a 64-bit place: the step of a
sampler, or the (training step, example) of a training run. Normals come from uniforms by Box & Muller 1958, in float64.

Row i of a draw belongs to seed i alone: a sample keeps its noise whatever batch it is in, and a longer sequence
begins with the noise of the shorter one. That holds bit for bit, on every processor and for every shape, since all is
made of integers and of operations that IEEE 754 rounds exactly (see `elementary`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from enum import IntEnum

import torch
from torch import Tensor

from unsteep.core.arguments import MOST_SAMPLES, floats, integers, whole
from unsteep.core.elementary import circle, log_unit, unit
from unsteep.core.level import NoiseLevel, float64_device, level_of, wide

_WORD = 0xFFFFFFFF
_BROWNIAN_DRAW = 1 << 31  # draws from here on are the nodes of the Brownian path
_BROWNIAN_DEPTH = 24  # the path is known at multiples of 2^-24 in t
_PIECE = 1 << 13  # blocks of words turned into normal numbers at a time
_BLOCKS = 1 << 18  # blocks of words made at a time, of all rows: temporaries take 200 bytes each
_AT_ONCE = 1 << 18  # numbers of nodes to make in one call: fewer calls for small data, no more memory for large


class NoiseSource:
    """Random numbers for a batch of samples, one 64-bit seed each.

    `seeds`: b integers. `stream`: one integer for all, or b of them; `at(step)` gives the source of another stream.
    """

    def __init__(self, seeds: Sequence[int] | Tensor, stream: int | Tensor = 0) -> None:
        self.seeds = integers("seeds", seeds)
        self.stream = _stream(stream, len(self.seeds))
        self._last: list[tuple[int, Tensor]] = []  # the last time on the Brownian path, and W there

    def at(self, stream: int | Tensor) -> NoiseSource:
        """The same seeds in another stream: numbers independent of this one's, but for the Brownian path."""
        other = NoiseSource(self.seeds, stream)
        other._last = self._last
        return other

    def __getitem__(self, rows: slice) -> NoiseSource:
        return NoiseSource(self.seeds[rows], self.stream[rows])

    def normal(self, like: Tensor, draw: int) -> Tensor:
        """Standard normal numbers of the shape, device and dtype of `like` (b, ...). Draw d is always the same."""
        whole("draw", draw, 0, _WORD)
        self.check(like)
        return self._normal(like, torch.tensor(draw), self.stream)

    def uniform(self, like: Tensor, draw: int) -> Tensor:
        """Uniform numbers in (0, 1), of 32 random bits, in the shape, device and dtype of `like` (b, ...)."""
        whole("draw", draw, 0, _WORD)
        words = self._words(like, torch.tensor(draw), self.stream)
        largest = 1 - torch.finfo(like.dtype).eps / 2  # the last number below 1: a coarse dtype would round to 1
        return _shaped(unit(torch.stack(words, -1)).clamp(max=largest), like)

    def brownian(self, like: Tensor, now: NoiseLevel, nxt: NoiseLevel) -> Tensor:
        """W(now.t) - W(nxt.t), of variance clock(now.t) - clock(nxt.t), for one Brownian path W per seed.

        A finer grid refines the same path: increments add up exactly over any grid. The last end is kept, one tensor
        like `like` in float64, so that a walk from level to level makes each W once.
        """
        self.check(like)
        for name, level in (("now", now), ("nxt", nxt)):
            if level_of(name, level).t.ndim and level.t.shape not in ((1,), (len(like),)):
                raise ValueError(
                    f"{name}: expected one level, or {len(like)}, got {tuple(level.t.shape)}; give as many"
                )
        return (self._path(like, now.t) - self._path(like, nxt.t)).to(like)

    def check(self, like: Tensor) -> None:
        """ValueError where `like` are no floats (b, ...), or have other than a row for each seed."""
        floats("like", like)
        if len(like) != len(self.seeds):
            raise ValueError(
                f"noise: expected a seed for each of {len(like)} rows, got {len(self.seeds)}; make it with "
                f"NoiseSource(range(seed, seed + {len(like)}))"
            )

    def _path(self, like: Tensor, t: Tensor) -> Tensor:
        """W(t) by bisection, float64: the value in the middle of an interval, given its ends, is normal (Levy)."""
        if t.ndim:
            rows = enumerate(t.expand(len(like)))
            return torch.cat([self[i : i + 1]._path(like[i : i + 1], one) for i, one in rows])
        tick, whole = round(float(t) * 2**_BROWNIAN_DEPTH), 2**_BROWNIAN_DEPTH
        for known, w in self._last:
            if known == tick and w.shape == like.shape and w.device == float64_device(like.device):
                return w
        last_digit = (tick | whole) & -(tick | whole)  # where bisection meets the time: 1 for most, `whole` at the ends
        depths = range(_BROWNIAN_DEPTH + 1 - last_digit.bit_length())
        nodes = self._nodes(like, [0] + [2**depth + (tick >> _BROWNIAN_DEPTH - depth) for depth in depths])
        high = next(nodes)
        low = torch.zeros_like(high)
        for depth, node in zip(depths, nodes, strict=True):
            middle = (low + high) / 2 + math.sqrt(0.5**depth) / 2 * node
            low, high = (middle, high) if tick >> _BROWNIAN_DEPTH - 1 - depth & 1 else (low, middle)
        w = high if tick == whole else low
        self._last[:] = [(tick, w)]
        return w

    def _nodes(self, like: Tensor, nodes: list[int]) -> Iterator[Tensor]:
        """The normal numbers of each node, like `like` in float64; small ones are made many at a time."""
        at_once = max(1, _AT_ONCE // max(1, like.numel()))
        for start in range(0, len(nodes), at_once):
            some = torch.tensor(nodes[start : start + at_once])
            source = NoiseSource(self.seeds.repeat(len(some)), -1)  # one path for all streams
            each = wide(like.new_empty(())).expand(len(source.seeds), *like.shape[1:])
            draws = _BROWNIAN_DRAW + some.repeat_interleave(len(like))
            yield from source._normal(each, draws, source.stream).reshape(len(some), *like.shape)

    def _normal(self, like: Tensor, draw: Tensor, stream: Tensor) -> Tensor:
        blocks, some = -(-like.shape[1:].numel() // 4), max(1, _BLOCKS // max(1, len(like)))
        parts = [
            self._normal_blocks(like, draw, stream, range(first, min(first + some, blocks)))
            for first in range(0, max(1, blocks), some)
        ]
        return _shaped(parts[0] if len(parts) == 1 else torch.cat(parts, 1), like)

    def _normal_blocks(self, like: Tensor, draw: Tensor, stream: Tensor, blocks: range) -> Tensor:
        """The values of some blocks, (b, values), in the dtype of `like`."""
        a, b, c, d = (word.flatten() for word in self._words(like, draw, stream, blocks))
        radial, angular = torch.stack([a, c], -1), torch.stack([b, d], -1)
        pieces = zip(radial.split(_PIECE), angular.split(_PIECE), strict=True)  # small enough for a cache
        values = torch.cat([_box_muller(*piece) for piece in pieces])
        return values.reshape(len(like), 4 * len(blocks)).to(like.dtype)

    def _words(
        self, like: Tensor, draw: Tensor, stream: Tensor, blocks: range | None = None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Four random words for each block of four values: int64 in [0, 2^32), each (b, blocks). `blocks`: some."""
        self.check(like)
        blocks = range(-(-like.shape[1:].numel() // 4)) if blocks is None else blocks
        device = float64_device(like.device)  # the numbers are float64 till the end
        key, stream, draw = (v.to(device).reshape(-1, 1) for v in (self.seeds, stream, draw))
        counter = torch.arange(blocks.start, blocks.stop, device=device).expand(len(like), len(blocks))
        return philox((counter, draw, stream & _WORD, (stream >> 32) & _WORD), (key & _WORD, (key >> 32) & _WORD))


def _stream(stream: int | Tensor, rows: int) -> Tensor:
    """One for each row, int64."""
    if not isinstance(stream, Tensor):
        stream = torch.tensor(whole("stream", stream, -(2**63), 2**63 - 1))
    elif stream.ndim:
        stream = integers("stream", stream)
    elif stream.dtype != torch.int64:
        stream = torch.tensor(whole("stream", stream))
    if stream.ndim and len(stream) not in (1, rows):
        raise ValueError(f"stream: expected one, or one for each of {rows} seeds, got {len(stream)}; give as many")
    return stream.expand(rows)


def clock(t: Tensor) -> Tensor:
    """`t` as the Brownian path knows it: rounded to a multiple of 2^-24."""
    return torch.round(t * 2**_BROWNIAN_DEPTH) / 2**_BROWNIAN_DEPTH


def philox(
    counter: tuple[Tensor, Tensor, Tensor, Tensor], key: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Philox4x32-10 on broadcastable int64 tensors that hold 32-bit words; returns four words of the common shape."""
    a, b, c, d = counter
    k0, k1 = key
    for _ in range(10):
        # The product of two words fits in 64 bits; int64 keeps them all, with a sign that the mask removes;
        # b, d and the key only meet others by xor, so that their upper halves may wait for that mask.
        low, high = a * 0xD2511F53, c * 0xCD9E8D57
        a, b, c, d = ((high >> 32) ^ b ^ k0) & _WORD, high, ((low >> 32) ^ d ^ k1) & _WORD, low
        k0, k1 = k0 + 0x9E3779B9, k1 + 0xBB67AE85
    return a, b & _WORD, c, d & _WORD


def permutation(n: int, seed: int, epoch: int) -> Tensor:
    """A random order of 0..n-1 as a function of (seed, epoch): int64 (n,), the same on every machine."""
    source, like, draw = NoiseSource([seed], epoch), torch.empty(1, 1), torch.tensor(Purpose.ORDER)
    keys = torch.empty(n, dtype=torch.int64)
    for first in range(0, n, _BLOCKS):  # a million at once would be ten times their keys
        some = range(first, min(first + _BLOCKS, n))
        high, low, _, _ = source._words(like, draw, source.stream, some)
        keys[some.start : some.stop] = (high[0] << 31) | (low[0] >> 1)
    return torch.argsort(keys, stable=True)


def _box_muller(radial: Tensor, angular: Tensor) -> Tensor:
    """Pairs of normal numbers (..., 2), float64, from words (...)."""
    radius = torch.sqrt(-2 * log_unit(radial))
    cosine, sine = circle(angular)
    return torch.stack([radius * cosine, radius * sine], -1)


def _shaped(values: Tensor, like: Tensor) -> Tensor:
    """Values (b * blocks, ...), four a block, to the shape and dtype of `like`."""
    return (
        values.reshape(len(like), -1 if len(like) else 0)[:, : like.shape[1:].numel()]
        .reshape(like.shape)
        .to(like.dtype)
        .to(like.device)
    )


class Purpose(IntEnum):
    """What a number of a training step is drawn for: the `draw` of its counter, so that no two uses share numbers."""

    TIME = 0
    NOISE = 1
    DROP = 2
    FLIP = 3
    ORDER = 4
    PICTURE_TIME = 5
    PICTURE_NOISE = 6
    PART = 7
    STEP = 8
    START = 9
    SCALE = 10


class Draw:
    """The randomness of one training step for some of its examples, as a function of (seed, step, place in the batch).

    `places` (b,): the examples' places in the *global* batch of `batch` examples. However the batch is split over
    accumulation steps or processes, an example meets the same time, noise and augmentation.
    """

    def __init__(self, seed: int, step: int, places: Tensor, batch: int) -> None:
        whole("seed", seed, -(2**63), 2**63 - 1)
        whole("step", step, 0, 2**53)
        whole("batch", batch, 1, MOST_SAMPLES)
        places = integers("places", places)
        if len(places) and not 0 <= int(places.min()) <= int(places.max()) < batch:
            raise ValueError(f"places: expected 0 to {batch - 1}, of a batch of {batch}, got others; give those of it")
        self.step, self.places, self.batch = step, places, batch
        self._each = NoiseSource(torch.full((len(places),), seed, dtype=torch.int64), step * batch + places)
        self._shared = NoiseSource([seed], -1 - step)

    def normal(self, like: Tensor, purpose: Purpose) -> Tensor:
        """Standard normal numbers like `like` (b, ...)."""
        return self._each.normal(like, purpose)

    def uniform(self, purpose: Purpose) -> Tensor:
        """One uniform number in (0, 1) for each example: float64 (b,)."""
        return self._each.uniform(torch.empty(len(self.places), 1, dtype=torch.float64), purpose).squeeze(1)

    def shared(self, purpose: Purpose) -> Tensor:
        """One uniform number for the whole step, the same for every part of its batch: float64 ()."""
        return self._shared.uniform(torch.empty(1, 1, dtype=torch.float64), purpose).squeeze()
