"""What is evaluated: pictures that a model draws, or pictures from any tool in a folder or an array; and the real ones.

Pictures come as uint8 (b, c, h, w), batch after batch. Nothing is resized unless it is asked for by a size, and then by
Pillow's Lanczos kernel, and the protocol says so.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from unsteep.data.examples import Examples
from unsteep.evaluation.pictures import bytes_of
from unsteep.evaluation.protocol import Fact
from unsteep.guidance.noisy import OpenedClassifier
from unsteep.guidance.setting import Guidance, guidance_of
from unsteep.hearing import Label, condition_of
from unsteep.model import Model
from unsteep.model.cost import digest_of, weights_digest
from unsteep.sampling import Driver, solver_named
from unsteep.storage.checkpoint import latest

BATCH = 256


class Subject(Protocol):
    """Pictures to be measured."""

    @property
    def n(self) -> int:
        """How many."""
        ...

    @property
    def shape(self) -> tuple[int, ...]:
        """(c, h, w)."""
        ...

    @property
    def labels(self) -> Tensor | None:
        """The class of each, int64 (n,), where they have any."""
        ...

    @property
    def names(self) -> tuple[str, ...]:
        """Of the classes."""
        ...

    def batches(self) -> Iterator[Tensor]:
        """uint8 (b, c, h, w), n in all."""
        ...

    def facts(self) -> dict[str, Fact]:
        """What they are, for the protocol."""
        ...


@dataclass(frozen=True, eq=False)
class Stored:
    """Pictures that are there, those at `order`, or all: files come class by class, and a part of them must not."""

    data: Examples
    kind: str
    order: Tensor | None = None

    def __post_init__(self) -> None:
        if self.data.x.ndim != 4 or self.data.x.dtype != torch.uint8:
            raise ValueError(f"evaluate: expected pictures of bytes, got {_numbers(self.data.x)} ({self.data.source})")

    @property
    def n(self) -> int:
        """How many."""
        return len(self.data) if self.order is None else len(self.order)

    @property
    def shape(self) -> tuple[int, ...]:
        """(c, h, w)."""
        return tuple(self.data.x.shape[1:])

    @property
    def labels(self) -> Tensor | None:
        """(n,)."""
        return self.data.labels if self.order is None or self.data.labels is None else self.data.labels[self.order]

    @property
    def names(self) -> tuple[str, ...]:
        """Of the classes."""
        return self.data.names

    def batches(self) -> Iterator[Tensor]:
        """In their order."""
        for start in range(0, self.n, BATCH):
            rows = slice(start, start + BATCH)
            yield self.data.x[rows if self.order is None else self.order[rows]]

    def facts(self) -> dict[str, Fact]:
        """Where they came from."""
        return {"samples from": self.kind, "subject": self.data.source, "samples digest": self.data.digest}


@dataclass(frozen=True, eq=False)
class Drawn:
    """Pictures that `model` draws with the seeds from `seed` on; `how` goes to `Model.sample`."""

    model: Model
    n: int
    seed: int
    source: str
    how: dict[str, Any] = field(default_factory=dict)
    label: list[int | str] | None = None
    """Classes asked for in turn; None: as often as in the data."""
    weights: str | None = None
    """Which of a run's weights these are, as `weights_at` says it."""
    real: Examples | None = None
    """Examples; a model that hears text or a picture is asked for what these have, in turn."""

    def __post_init__(self) -> None:
        if len(self.model.space.shape) != 3:
            raise ValueError(
                f"evaluate: expected a model of pictures, and this one makes {self.model.space.describe()}"
            )

    @property
    def shape(self) -> tuple[int, ...]:
        """(c, h, w)."""
        return self.model.space.shape

    @property
    def labels(self) -> Tensor | None:
        """The class asked for in each."""
        real = self._examples
        if real is not None:
            return None if real.labels is None else real.labels[torch.arange(self.n) % len(real)]
        asked = None if self.label is None else [self.label[i % len(self.label)] for i in range(self.n)]
        by = self._classifier
        if by is None:
            return self.model.labels_of(self.n, asked, self.seed)
        named = Label(names=by.names)
        turns = list(range(len(by.names))) if self._guidance.labels is None else [*self._guidance.labels]
        told: Tensor = named.asked(asked or [turns[i % len(turns)] for i in range(self.n)], self.n, range(self.n))[
            "label"
        ]
        return told

    @property
    def names(self) -> tuple[str, ...]:
        """Of the classes."""
        return tuple(self.model.names) if self._classifier is None else self._classifier.names

    @property
    def _guidance(self) -> Guidance:
        return guidance_of(self.how.get("guidance", 1.0))

    @property
    def _classifier(self) -> OpenedClassifier | None:
        """The classifier that knows the classes in a model's place."""
        return None if self.model.names else self._guidance.opened

    def batches(self, at_once: int | None = None) -> Iterator[Tensor]:
        """In the order of their seeds, drawn as they are asked for."""
        labels, real, at_once = self.labels, self._examples, at_once or BATCH
        for start in range(0, self.n, at_once):
            count = min(at_once, self.n - start)
            asked: dict[str, Any] = {"label": None if labels is None else labels[start : start + count].tolist()}
            if real is not None:
                rows = real.rows(torch.arange(start, start + count) % len(real))
                asked = {"condition": condition_of(self.model.description.hears, rows)}
            drawn = self.model.sample(count, seed=self.seed + start, **asked, **self.how)
            yield bytes_of(drawn, getattr(self.model.space, "low", 0.0), getattr(self.model.space, "high", 1.0))

    @cached_property
    def _examples(self) -> Examples | None:
        """What samples are asked by in turn, where the model hears more than classes."""
        of = self.model.description
        if not of.beyond_classes:
            return None
        if self.label is not None:
            raise ValueError(f"label: this model hears a {of.heard}, and is asked as real pictures are; leave it out")
        if self.real is None:
            raise ValueError(f"evaluate: this model hears a {of.heard}; give examples that have it")
        labels = aligned(self.real.labels, self.real.names, of.names) if of.names else None
        return replace(self.real, labels=labels)

    def facts(self) -> dict[str, Fact]:
        """Weights, seeds, and how they were drawn."""
        of = self.model.description
        solver, steps, grid = (self.how.get(name) for name in ("solver", "steps", "grid"))
        default = solver is None
        if default:
            most = steps or self.model.default_steps
            labels = None if self._classifier is not None else self.labels
            solver = self.model.resolved(None, labels, self._guidance, most)
        solver = solver_named(solver) if isinstance(solver, str) else solver
        adaptive = isinstance(solver, Driver)
        return {
            "samples from": "model",
            "subject": self.source,
            "model": weights_digest(self.model),
            "weights": self.weights,
            "seeds": f"{self.seed} to {self.seed + self.n - 1}",
            "solver": said(solver) + (" (default)" if default else ""),
            "steps": None if adaptive else steps or self.model.default_steps,
            "grid": None if adaptive else "the solver's own" if grid is None else str(grid),
            **({} if self.model.precision == "float32" else {"precision": self.model.precision}),
            **_guided(self._guidance),
            "classes": "as often as in the data" if self.label is None else ", ".join(map(str, self.label)),
            **({} if self._examples is None else {"asked": f"the {of.heard} of {self._examples.source}"}),
        }


def _guided(by: Guidance) -> dict[str, Fact]:
    """Of the guidance, what the protocol should say."""
    weaker: Any = getattr(by.weaker, "denoiser", by.weaker)
    classifier: Any = getattr(by.classifier, "module", by.classifier)
    told: dict[str, Any] = {
        "interval": by.interval and "{:g} to {:g}".format(*by.interval),
        "rescale": by.rescale or None,
        "threshold": by.threshold,
        "negative": by.negative and ", ".join(f"{name}={value}" for name, value in by.negative.items()),
        "weaker": weaker and digest_of(weaker),
        "classifier": classifier and digest_of(classifier),
    }
    return {
        "guidance": float(by.scale),
        **{f"guidance: {name}": value for name, value in told.items() if value is not None},
    }


def _numbers(x: Tensor) -> str:
    kinds = {2: "rows of numbers", 3: "sequences"}
    return kinds.get(x.ndim, f"{str(x.dtype).removeprefix('torch.')} of shape {tuple(x.shape)}")


def weights_at(path: Path) -> str:
    """Which weights `load` takes of a run, a checkpoint or a saved model."""
    folder = latest(path / "checkpoints") if (path / "run.toml").exists() else path
    averaged = folder is not None and (folder / "ema.safetensors").exists()
    return "averaged while training (EMA)" if averaged else "as saved"


def said(component: object) -> str:
    """A component by its name and its settings, as in UniPC(order=3, ...); what a model put there is left out."""
    shown = [f for f in fields(component) if f.metadata.get("setting", True)]  # type: ignore[arg-type]
    return f"{type(component).__name__}({', '.join(f'{f.name}={getattr(component, f.name)!r}' for f in shown)})"


def check_alike(subject: Subject, reference: Examples) -> None:
    """ValueError where samples and real pictures are of different sizes or channels."""
    real = tuple(reference.x.shape[1:])
    if subject.shape != real:
        ours, theirs = (" x ".join(map(str, shape)) for shape in (subject.shape, real))
        raise ValueError(
            f"evaluate: samples are {ours} and real pictures {theirs} (channels x height x width); "
            "evaluate pictures of one size and one number of channels, or bring folders to one size with resize=SIZE"
        )


def check_range(kept: Tensor, reference: Tensor) -> None:
    """ValueError where pictures use less than half of the range of grey values that real ones use: another scale."""
    (low, high), (least, most) = ((int(x.min()), int(x.max())) for x in (kept, reference))
    if (high - low) * 2 < most - least:
        raise ValueError(
            f"evaluate: samples run from {low} to {high}, real pictures from {least} to {most}; "
            "save samples as bytes from 0 to 255"
        )


def aligned(labels: Tensor | None, names: tuple[str, ...], to: tuple[str, ...]) -> Tensor | None:
    """Labels numbered as `to` numbers its classes; None where a class is none of those."""
    if labels is None or not names or not set(names) <= set(to):
        return None
    return torch.tensor([to.index(name) for name in names])[labels]
