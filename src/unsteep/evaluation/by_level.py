"""How well a classifier of noisy data tells classes apart, level by level, beside one that was trained without noise.

Guidance asks it at every level, from pure noise, where nobody can do better than chance, to clean data. The common
classifier knows clean data alone: its gradient at a noisy x_t says nothing of the class.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from unsteep.core.level import add_noise
from unsteep.core.noise import NoiseSource, permutation
from unsteep.core.protocols import DataSet, Space
from unsteep.core.schedules import AnySchedule
from unsteep.data.reading import in_memory
from unsteep.guidance.noisy import NoisyClassifier
from unsteep.metrics.interval import Interval, wilson
from unsteep.pages import Page, plots
from unsteep.pages.files import write_json

TIMES = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
CONTROL = "without-noise"


@dataclass(frozen=True)
class ByLevel:
    """The share of pictures named rightly at each of `times`."""

    times: tuple[float, ...]
    accuracy: tuple[Interval, ...]

    @property
    def mean(self) -> float:
        """Over the levels."""
        return sum(one.value for one in self.accuracy) / len(self.accuracy)


@torch.no_grad()
def by_level(
    classifier: NoisyClassifier,
    data: DataSet,
    space: Space,
    schedule: AnySchedule,
    *,
    n: int = 1000,
    times: Sequence[float] = TIMES,
    seed: int = 0,
    batch_size: int = 128,
) -> ByLevel:
    """Measured on n random examples of `data`, each with noise of its own at every level."""
    chosen = in_memory(data, permutation(len(data), seed, epoch=0)[:n])
    if chosen.labels is None:
        raise ValueError(f"by_level: these data have no labels ({data.source}); give labelled data")
    device = next(classifier.parameters()).device
    right = [0] * len(times)
    for start in range(0, len(chosen), batch_size):
        x0 = space.encode(chosen.x[start : start + batch_size]).to(device)
        labels = chosen.labels[start : start + batch_size]
        for i, t in enumerate(times):
            level = schedule(torch.tensor(t, dtype=torch.float64))
            noise = NoiseSource(range(seed + start, seed + start + len(x0)), i).normal(x0, draw=0)
            told = classifier(add_noise(x0, noise, level), level).argmax(1).cpu()
            right[i] += int((told == labels).sum())
    return ByLevel(tuple(times), tuple(wilson(hits, len(chosen)) for hits in right))


def write(found: Mapping[str, ByLevel], out: Path, facts: Sequence[tuple[str, str]], command: str) -> Path:
    """accuracy.png, accuracy.json and index.html in `out`; the page's path. `found`: by the classifier's name, the one
    that is meant for guidance first."""
    series = {
        name: (
            one.times,
            [value.value for value in one.accuracy],
            [value.low for value in one.accuracy],
            [value.high for value in one.accuracy],
        )
        for name, one in found.items()
    }
    title = "Pictures named rightly, by noise"
    plots.lines(out / "accuracy.png", series, xlabel="$t$", ylabel="accuracy", title=title)
    names = list(found)
    page = Page("A classifier of noisy pictures", _verdict(found))
    page.figure(out / "accuracy.png", "With 95% intervals.")
    rows = []
    for i, t in enumerate(found[names[0]].times):
        values = [found[name].accuracy[i] for name in names]
        rows.append([f"{t:g}", *(value.bracketed() for value in values)])
    page.table(rows, ["t", *names])
    page.section("How").facts(list(facts))
    page.section("To repeat it").code(command)
    where = page.write(out / "index.html")
    write_json(
        {"command": command, "facts": dict(facts), **{k: asdict(v) for k, v in found.items()}}, out / "accuracy.json"
    )
    return where


def _verdict(found: Mapping[str, ByLevel]) -> str:
    (name, first), *others = found.items()
    words = f"Trained {name}, {first.mean:.1%} right on average over the levels"
    for other, one in others:
        better = sum(b.below(a) is True for a, b in zip(first.accuracy, one.accuracy, strict=True))
        words += (
            f"; the same trained {other}, {one.mean:.1%}: worse at {better} of {len(first.times)} levels, and no guide"
        )
    return words + "."
