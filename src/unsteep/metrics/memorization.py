"""Does the model copy? The distances of samples to their nearest training examples, beside those of held-out data.

    d_1 <= d_2 <= ...   distances from an example to its nearest training examples
    d_1 / mean(d_1 .. d_k)          how much nearer the nearest is than its k neighbours (Carlini et al. 2023, sec. 4)
    d_1 < d_2 / 3                   a replica (Yoon et al. 2023)
    P(d_1 of a sample < d_1 of a held-out example)      1/2 for fresh data, more where samples are copies (the
                                    Mann-Whitney statistic of Meehan et al. 2020); its error by DeLong et al. 1988

Held-out data show what is near for data that nobody could copy, and so nothing here needs a threshold in pixels. Where
the training set repeats a picture, d_2 of its copy is as small as d_1, and only the mean of many tells.

Rows are pictures uint8 (n, c, h, w), whose distance is the root mean square difference of their grey values, 0..255,
or features float (n, d), whose distance is Euclidean. They are compared block by block: memory does not grow with the
product of the sizes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from unsteep.core.noise import permutation
from unsteep.metrics.interval import Interval, Z, wilson

REPLICA = 1 / 3  # of the second nearest distance
SPARE = 8  # neighbours looked for beyond those asked for: float32 may order near ones wrongly
ASKED, SEARCHED = 512, 8192  # rows of a block
SHOWN = 8


@dataclass(frozen=True)
class Pair:
    """Two near examples, `first` and `second` by position, `second` in the training set; `ratio`: the distance to the
    mean of the nearest k, None where it was not looked for."""

    first: int
    second: int
    distance: float
    ratio: float | None = None


@dataclass(frozen=True)
class Nearness:
    """How near examples are to the training set: quartiles (low, median, high) of the nearest distance and of its
    ratio to the mean of the nearest k, and the share of replicas."""

    distance: tuple[float, float, float]
    ratio: tuple[float, float, float]
    replicas: Interval


@dataclass(frozen=True)
class Memorization:
    """What says that samples are copies. `near`: the share of samples nearer to the training set than `threshold`,
    the `quantile` of held-out distances, and so `quantile` for fresh data; `alike`: the same of the ratios;
    `nearer`: the probability that a sample is nearer than a held-out example, 1/2 for fresh data; `pairs`: the
    closest. The intervals of `near` and `alike` take the threshold as given."""

    samples: Nearness
    held_out: Nearness
    quantile: float
    threshold: float
    near: Interval
    alike: Interval
    nearer: Interval
    pairs: tuple[Pair, ...]
    neighbours: int


@dataclass(frozen=True)
class Duplicates:
    """Repeated examples of a set. `exact`: how many equal an earlier one, and `exact_pairs`, the first of them; `near`:
    how many of the `searched` different ones have another within `threshold`, and `pairs`, the closest."""

    exact: int
    near: int
    searched: int
    threshold: float
    exact_pairs: tuple[Pair, ...]
    pairs: tuple[Pair, ...]


def memorization(
    samples: Tensor, training: Tensor, held_out: Tensor, *, neighbours: int = 50, quantile: float = 0.01
) -> Memorization:
    """Samples and held-out examples, each against the training set: rows of one kind. ValueError where they are not,
    or too few to compare."""
    if not 0 < quantile < 1:
        raise ValueError(f"quantile: expected a share between 0 and 1, got {quantile}")
    k = min(neighbours, len(training))
    if k < 2 or len(samples) < 2 or len(held_out) < 2:
        raise ValueError(
            f"memorization: expected at least 2 samples, 2 training and 2 held-out examples and 2 neighbours, got "
            f"{len(samples)}, {len(training)}, {len(held_out)} and {neighbours}"
        )
    distance, place = nearest(samples, training, k)
    fresh, _ = nearest(held_out, training, k)
    ratio, fresh_ratio = _ratio(distance), _ratio(fresh)
    threshold = float(torch.quantile(fresh[:, 0], quantile))
    closest = distance[:, 0].argsort(stable=True)[:SHOWN].tolist()
    return Memorization(
        samples=_nearness(distance),
        held_out=_nearness(fresh),
        quantile=quantile,
        threshold=threshold,
        near=_share(distance[:, 0] < threshold),
        alike=_share(ratio < torch.quantile(fresh_ratio, quantile)),
        nearer=_nearer(distance[:, 0], fresh[:, 0]),
        pairs=tuple(Pair(i, int(place[i, 0]), float(distance[i, 0]), float(ratio[i])) for i in closest),
        neighbours=k,
    )


def nearest(rows: Tensor, training: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k <= m nearest of `training` (m rows) for each of n rows: distances float64 (n, k), ascending, and positions
    int64 (n, k). Candidates are found by float32 products, and their distances then taken in float64."""
    if rows.shape[1:] != training.shape[1:] or rows.dtype != training.dtype:
        raise ValueError(
            f"nearest: expected rows like those of the training set, {training.dtype} {tuple(training.shape[1:])}, "
            f"got {rows.dtype} {tuple(rows.shape[1:])}"
        )
    if not 1 <= k <= len(training):
        raise ValueError(f"nearest: expected from 1 to {len(training)} neighbours, got {k}")
    centre = _centre(training)
    found = [_nearest(block, training, k, centre) for block in rows.split(ASKED)]
    return torch.cat([d for d, _ in found]), torch.cat([i for _, i in found])


def near_duplicates(training: Tensor, threshold: float, *, most: int = 60_000, seed: int = 0) -> Duplicates:
    """Repetitions in `training`. Equal rows are found in all of it, near ones (nearer than `threshold`, in the
    distance of the rows) among different rows, of which a random `most` are searched where there are more.

    Rows are sorted along their principal axis: those that are further apart along it than `threshold` need no
    comparison, which for small thresholds leaves few blocks. For large ones the cost grows with the square of `most`.
    In pictures, 5 grey values find what one would take for the same; in features, take `Memorization.threshold`.
    """
    if threshold <= 0:
        raise ValueError(f"threshold: expected a positive distance, got {threshold}")
    first: dict[bytes, int] = {}
    hashes = (hashlib.sha256(row.numpy().data).digest() for row in training.contiguous())
    originals = [first.setdefault(digest, i) for i, digest in enumerate(hashes)]
    equal = [(original, i) for i, original in enumerate(originals) if original != i]
    kept = torch.tensor(sorted(first.values()))
    if len(kept) > most:
        kept = kept[permutation(len(kept), seed, 0)[:most].sort().values]
    close = torch.zeros(len(training), dtype=torch.bool)
    pairs: list[Pair] = []
    for i, j, distance in _close(training, kept, threshold):
        close[i] = close[j] = True
        for at in distance.argsort(stable=True)[:SHOWN].tolist():
            one, other = sorted((int(i[at]), int(j[at])))
            pairs.append(Pair(one, other, float(distance[at])))
        pairs = sorted(pairs, key=lambda pair: pair.distance)[:SHOWN]
    return Duplicates(
        exact=len(equal),
        near=int(close.sum()),
        searched=len(kept),
        threshold=threshold,
        exact_pairs=tuple(Pair(i, j, 0.0) for i, j in equal[:SHOWN]),
        pairs=tuple(pairs),
    )


def _close(training: Tensor, kept: Tensor, threshold: float) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Positions (p,) and (p,), and distances (p,), of pairs among the rows `kept` that are nearer than `threshold`."""
    centre = _centre(training)
    axis = _principal(training, kept, centre)
    lines = []
    longest = 0.0
    for part in kept.split(SEARCHED):
        vectors = _vectors(training[part], centre)
        lines.append(vectors @ axis)
        longest = max(longest, float((vectors**2).sum(1).max()))
    along, order = torch.cat(lines).sort()
    reach = (threshold**2 + 1e-5 * longest) ** 0.5  # the squares of float32 err by less
    blocks = kept[order].split(ASKED)
    ends = [(float(part[0]), float(part[-1])) for part in along.split(ASKED)]
    for i, left in enumerate(blocks):
        a = _vectors(training[left], centre)
        last = max(j for j in range(i, len(blocks)) if ends[j][0] - ends[i][1] <= reach)
        for j in range(i, last + 1):
            near = _squares(a, _vectors(training[blocks[j]], centre)) < reach**2
            for pairs in (near.triu(1) if i == j else near).nonzero().split(SEARCHED):
                one, other = left[pairs[:, 0]], blocks[j][pairs[:, 1]]
                distance = _distance(training[one], training[other])
                held = distance < threshold
                yield one[held], other[held], distance[held]


def _principal(training: Tensor, kept: Tensor, centre: Tensor) -> Tensor:
    """The direction (d,) in which a thousand of the rows vary most."""
    some = _vectors(training[kept[:: max(1, len(kept) // 1000)]], centre)
    return torch.linalg.svd(some - some.mean(0), full_matrices=False).Vh[0]


def _nearest(rows: Tensor, training: Tensor, k: int, centre: Tensor) -> tuple[Tensor, Tensor]:
    a, wanted = _vectors(rows, centre), min(k + SPARE, len(training))
    squares, places = torch.empty(len(rows), 0), torch.empty(len(rows), 0, dtype=torch.int64)
    for start in range(0, len(training), SEARCHED):
        some = _squares(a, _vectors(training[start : start + SEARCHED], centre))
        best = some.topk(min(wanted, some.shape[1]), largest=False)
        squares, places = torch.cat([squares, best.values], 1), torch.cat([places, best.indices + start], 1)
        squares, chosen = squares.topk(min(wanted, squares.shape[1]), largest=False)
        places = places.gather(1, chosen)
    exact = torch.stack(
        [_distance(row.expand_as(training[at]), training[at]) for row, at in zip(rows, places, strict=True)]
    )
    distance, order = exact.sort(dim=1, stable=True)
    return distance[:, :k], places.gather(1, order)[:, :k]


def _centre(rows: Tensor) -> Tensor:
    """A point amid the rows: products of what lies about it lose fewer digits."""
    return rows[:: max(1, len(rows) // 1000)].flatten(1).float().mean(0)


def _vectors(rows: Tensor, centre: Tensor) -> Tensor:
    """float32 (n, d), of which Euclidean distances are those of the rows."""
    vectors = rows.flatten(1).float() - centre
    return vectors / vectors.shape[1] ** 0.5 if rows.dtype == torch.uint8 else vectors


def _squares(a: Tensor, b: Tensor) -> Tensor:
    """The squared distances of all pairs (n, m), up to rounding."""
    return torch.addmm((a**2).sum(1)[:, None] + (b**2).sum(1), a, b.T, alpha=-2)


def _distance(rows: Tensor, others: Tensor) -> Tensor:
    """The distance of each row to its other one, float64 (n,)."""
    difference = (rows.double() - others.double()).flatten(1)
    length = torch.linalg.vector_norm(difference, dim=1)
    return length / difference.shape[1] ** 0.5 if rows.dtype == torch.uint8 else length


def _ratio(distance: Tensor) -> Tensor:
    """d_1 / mean(d_1 .. d_k), (n,); 0 for a copy of what the training set repeats k times."""
    return distance[:, 0] / distance.mean(1).clamp(min=torch.finfo(torch.float64).tiny)


def _nearness(distance: Tensor) -> Nearness:
    replicas = (distance[:, 0] < REPLICA * distance[:, 1]) | (distance[:, 0] == 0)
    return Nearness(_quartiles(distance[:, 0]), _quartiles(_ratio(distance)), _share(replicas))


def _quartiles(values: Tensor) -> tuple[float, float, float]:
    low, middle, high = torch.quantile(values, torch.tensor([0.25, 0.5, 0.75], dtype=values.dtype)).tolist()
    return low, middle, high


def _share(flags: Tensor) -> Interval:
    return wilson(int(flags.sum()), len(flags))


def _nearer(distance: Tensor, fresh: Tensor) -> Interval:
    """P(distance < fresh), ties by half, from all pairs; each side's share has an error of its own."""
    distance, fresh = distance.contiguous(), fresh.contiguous()
    of_samples = 1 - _below(fresh, distance)
    of_fresh = _below(distance, fresh)
    value = float(of_samples.mean())
    half = Z * float(of_samples.var() / len(of_samples) + of_fresh.var() / len(of_fresh)) ** 0.5
    return Interval(value, max(0.0, value - half), min(1.0, value + half))


def _below(values: Tensor, at: Tensor) -> Tensor:
    """The share of `values` below each of `at`, ties by half: float64."""
    values = values.sort().values
    return (torch.searchsorted(values, at) + torch.searchsorted(values, at, right=True)).double() / (2 * len(values))
