"""What every question measures its models by: the same real data, features, counts and seeds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from unsteep.core.noise import permutation
from unsteep.core.protocols import Source
from unsteep.core.schedules import steps_of
from unsteep.evaluation.evaluate import Evaluation, evaluate
from unsteep.evaluation.examples import examples_of, heard_of
from unsteep.evaluation.held import FEWEST, Held, Real
from unsteep.evaluation.pictures import in_bytes
from unsteep.evaluation.subjects import Drawn, weights_at
from unsteep.features import domain
from unsteep.features.domain import Domain, domain_features
from unsteep.metrics.interval import Interval
from unsteep.metrics.measures import MEASURES
from unsteep.model import Model
from unsteep.studies.study import Cell, Outcome
from unsteep.studies.trained import check, trained
from unsteep.training.run import Run

SHOWN = 12
REFERENCE = 5000  # real pictures at most, of the split that samples are held against
QUALITY = ("fid", "kid", "precision", "recall")


@dataclass(frozen=True, kw_only=True)
class Counts:
    """`samples` drawn by `steps` steps; `images`, whose bits/dim are measured by `terms` terms, 0: not."""

    samples: int = 1000
    steps: int = 20
    images: int = 128
    terms: int = 50
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("samples", FEWEST), ("steps", 1), ("terms", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name}: expected at least {least}, got {getattr(self, name)}")
        if self.images != 0 and self.images < 2:
            raise ValueError(f"images: expected at least 2, for an interval, or 0 for none, got {self.images}")


class Examiner:
    """Real data of a source and features trained on them, read and trained when they are first needed. `weights`: which
    those of the model are, in words, where all cells measure one model."""

    def __init__(self, source: Source, counts: Counts, device: str, weights: str | None = None) -> None:
        self.source, self.counts, self.device, self.weights = source, counts, device, weights
        self._held: Held | None = None

    @cached_property
    def real(self) -> Real:
        """The test split, and the training split beside it."""
        held_out = getattr(self.source, "holdout", 1.0) > 0
        training = in_bytes(self.source.read("train"))
        if training.x.ndim != 4:
            raise ValueError("study: these features are of pictures, and the data are rows of numbers")
        reference = in_bytes(self.source.read("test")) if held_out else training
        reference = reference.select(permutation(len(reference), 0, 0)[:REFERENCE])
        real = Real(reference, training if held_out else None, "test" if held_out else "train")
        if real.few:
            beside = f" and {len(reference)} unseen" if held_out else ""
            raise ValueError(
                f"study: too few pictures, or all alike: {len(training)} to learn from{beside}, and its measures take "
                f"{2 * domain.FEWEST} and {FEWEST} at the least; give more"
            )
        return real

    @cached_property
    def features(self) -> Domain:
        """Trained once on half of the training split."""
        return domain_features(self.real.learned_from, device=self.device, progress=True)

    def evaluated(self, model: Model, metrics: Sequence[str], weights: str | None = None, **how: Any) -> Evaluation:
        """The metrics of the model's samples; `how` goes to `Model.sample`."""
        steps = min(self.counts.steps, steps_of(model.denoiser.schedule))  # of a chain no more than it has
        seed, how = self.counts.seed, {"steps": steps, "batch_size": 128, **how}
        which, real = weights or self.weights, self.real.reference
        drawn = Drawn(model, self.counts.samples, seed, "model", how, weights=which, real=real)
        usable = [name for name in metrics if name != "agreement" or (model.names and self.features.names)]
        self.floors(usable)
        names = self.features.names
        return evaluate(drawn, self.real, self.features, usable, names=names, seed=seed, held=self._held, progress=True)

    def bits(self, model: Model) -> Interval:
        """Bits per dimension of unseen pictures."""
        data, of = self.real.reference, self.counts
        examples = examples_of(model, data, of.images, of.seed)
        heard = heard_of(model, examples)
        bound = model.likelihood(examples.x, heard, terms=of.terms, seed=of.seed, progress=True)
        return Interval.of(bound.bits_per_dim())

    def floors(self, metrics: Sequence[str]) -> dict[str, Interval]:
        """The metrics of as many real pictures."""
        known = self.features.names
        names = tuple(name for name in metrics if name in MEASURES and (name != "agreement" or known))
        if self._held is None or not set(names) <= self._held.floors.keys():
            self._held = Held.of(self.features, self.real, names, self.counts.samples, known, self.counts.seed, True)
        return self._held.floors

    def trains(self, run: Run, metrics: Sequence[str]) -> Callable[[Path], Outcome | None]:
        """What trains a run in a cell's folder and measures it."""

        def do(folder: Path) -> Outcome | None:
            model = trained(run, folder / "run", self.device)
            if model is None:
                return None
            rest = [name for name in metrics if name != "bits-per-dim"]
            found = self.evaluated(model, rest, weights_at(folder / "run"))
            values = dict(found.values)
            if self.counts.images:
                values["bits-per-dim"] = self.bits(model)
            parameters = sum(p.numel() for p in model.denoiser.parameters())
            return Outcome(values, found.kept[:SHOWN].numpy(), {"parameters": float(parameters)}, found.protocol)

        return do

    def facts(self) -> list[tuple[str, str]]:
        """How models are measured."""
        of, real = self.counts, self.real
        return [
            ("data", f"{real.reference.source}, SHA-256 {real.reference.digest[:16]}"),
            ("samples", f"{of.samples} of each, seeds {of.seed} and up, the default solver in {of.steps} steps"),
            ("held against", f"{len(real.reference):,} real pictures, {real.split} split"),
            ("floor", f"{real.floor_of(of.samples)} real pictures that features have not seen"),
            (
                "features",
                f"{self.features.name}, {self.features.dimension} dimensions, SHA-256 {self.features.digest[:16]}",
            ),
            *([("bits/dim", f"the bound on {of.images} unseen pictures, {of.terms} terms each")] if of.images else []),
        ]

    def asked(self, run: Run | None = None) -> dict[str, Any]:
        """What decides the numbers."""
        from unsteep.storage import config

        stated = None if run is None else config.dumps(run)
        return {"counts": asdict(self.counts), "data": self.real.reference.digest, "run": stated}


@dataclass(frozen=True, eq=False)
class Variant:
    """A run to be compared, by name, and what it is in words."""

    name: str
    says: str
    run: Run


def with_seed(run: Run, seed: int) -> Run:
    """The same run from other initial weights, with other batches and noise."""
    return replace(run, train=replace(run.train, seed=seed))


def cells_of(variants: Sequence[Variant], examiner: Examiner, metrics: Sequence[str]) -> list[Cell]:
    """A cell for each variant. ValueError where one cannot be built."""
    check({one.name: one.run for one in variants}, examiner.real.training or examiner.real.reference)
    return [Cell(one.name, one.says, examiner.trains(one.run, metrics)) for one in variants]
