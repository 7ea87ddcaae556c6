"""A run that trains a classifier of noisy data, for classifier guidance (Dhariwal & Nichol 2021, section 4.1)."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from unsteep.core.level import add_noise
from unsteep.core.noise import NoiseSource, permutation
from unsteep.core.protocols import DataSet
from unsteep.data import AnyData
from unsteep.guidance.noisy import NoisyClassifier, OpenedClassifier
from unsteep.hearing import Label
from unsteep.networks.checks import check_hears
from unsteep.networks.counting import check_beside, check_trained
from unsteep.networks.encoder import EncoderConfig
from unsteep.networks.precision import Asked, decided, run_in
from unsteep.networks.wrapping import load_weights
from unsteep.objectives.classification import Classification
from unsteep.opening import chosen_device, lacking
from unsteep.pages import pictures
from unsteep.pages.lettering import settable
from unsteep.spaces import AnySpace, space_of
from unsteep.storage import config
from unsteep.storage.checkpoint import load_tensors, load_text, with_latest
from unsteep.storage.foreign import plain, reading
from unsteep.storage.manifest import verify
from unsteep.training.batches import Batches
from unsteep.training.loop import Parts, State
from unsteep.training.page import note, write
from unsteep.training.settings import TrainConfig
from unsteep.training.tasks import parameters, seeded

FILE = "classifier.toml"
SHOWN, LEVELS = 10, (0.0, 0.1, 0.2, 0.4, 0.6)


def _training() -> TrainConfig:
    return TrainConfig(
        steps=3000, batch=64, learning_rate=1e-3, final_learning_rate=1e-5, warmup=100, weight_decay=0.05, ema=0.995
    )


@dataclass(frozen=True, kw_only=True)
class ClassifierDescription:
    """All that is needed to rebuild a classifier around its weights; `classifier.toml` of a checkpoint. `objective`
    says on which schedule it was trained, and whether with noise."""

    network: EncoderConfig = field(default_factory=EncoderConfig)
    objective: Classification = field(default_factory=Classification)
    space: AnySpace
    names: tuple[str, ...] = ()

    def build(self) -> NoisyClassifier:
        """Untrained."""
        return NoisyClassifier(self.network.build())


@dataclass(frozen=True, kw_only=True)
class ClassifierRun:
    """Everything that decides what a classifier learns. `start_from`: a classifier whose weights it starts from."""

    data: AnyData
    network: EncoderConfig = field(default_factory=EncoderConfig)
    objective: Classification = field(default_factory=Classification)
    train: TrainConfig = field(default_factory=_training)
    start_from: str = ""

    def describe(self, data: DataSet) -> ClassifierDescription:
        """The classifier that this run trains. ValueError where the data have no classes or are no pictures."""
        space = space_of(data)
        try:
            label = Label().fitted(data)
        except ValueError:
            raise ValueError(f"classifier: these data have no labels ({data.source}); give labelled data") from None
        network = self.network.fitted(space, 1, {"label": label})
        return ClassifierDescription(network=network, objective=self.objective, space=space, names=label.names)

    @staticmethod
    def opened(out: Path, device: str) -> OpenedClassifier:
        """What such a run trained."""
        return open_classifier(out, device)

    def made(self, data: DataSet, device: torch.device | str, trust: Any = False) -> ClassifierTask:
        """The task, its weights a function of the seed, or those that it starts from."""
        description = self.describe(data)
        check_trained(description.build, "network")
        with seeded(self.train.seed):
            module = description.build()
        if self.start_from:
            first, told = read_classifier(Path(self.start_from))
            if (told.network, told.names, told.space.shape) != (
                description.network,
                description.names,
                description.space.shape,
            ):
                raise ValueError(
                    f"start_from: {self.start_from} is a classifier of other classes, another size or another network; "
                    "give one like this"
                )
            load_weights(module, first)
        state = State(module.to(device), self.train, self.objective, description.space.shape)
        return ClassifierTask(self, data, description, state, device)


class ClassifierTask:
    """A classifier on its way."""

    kind = "Classifier"

    def __init__(
        self,
        run: ClassifierRun,
        data: DataSet,
        description: ClassifierDescription,
        state: State,
        device: torch.device | str,
    ) -> None:
        self.run, self.data, self.description, self.state, self.step = run, data, description, state, 0
        self.trained: Mapping[str, State] = {"model": state}
        self.statistics: dict[str, Tensor] = {}
        self.batches = Batches(data, description.space, (Label(names=description.names),), run.train, device=device)

    def turn(self, step: int) -> str:
        return "model"

    def parts(self, step: int) -> Parts:
        return self.batches(step)

    def texts(self) -> Mapping[str, str]:
        return {FILE: config.dumps(self.description)}

    def check_new(self) -> None:
        check_hears(self.state.module, "network")

    def check_stored(self, folder: Path) -> None:
        if _read(folder, load_text(folder, FILE)).names != self.description.names:
            raise ValueError("resume: the classes are not those that the classifier was trained on")

    def finish(self) -> None:
        """Nothing is measured at the end."""

    def preview(self, path: Path) -> None:
        """Examples at ever more noise, each under what the classifier takes it for."""
        chosen = permutation(len(self.data), seed=0, epoch=0)[:SHOWN]
        rows, space = self.data.rows(chosen), self.description.space
        assert rows.label is not None
        module = cast(NoisyClassifier, self.state.ema.module)
        device = next(module.parameters()).device
        x0 = space.encode(rows.x)
        eps = NoiseSource(range(len(x0))).normal(x0, draw=0)
        sheet, labels = [], []
        for t in LEVELS:
            level = self.run.objective.schedule(torch.tensor(t, dtype=torch.float64))
            x = add_noise(x0, eps, level)
            with torch.no_grad():
                told = module(x.to(device), level).argmax(1).cpu()
            sheet.append(space.decode(x))
            labels.append(f"t = {t:g}\n{int((told == rows.label).sum())} of {len(told)} right")
        tiles = space.tiles(torch.cat(sheet))
        if tiles is not None:
            said = settable(self.description.names)
            names = [said[i] for i in rows.label.tolist()]
            shown = tiles.unflatten(0, (len(LEVELS), -1)).numpy()
            pictures.save(pictures.strip(shown, row_labels=labels, column_labels=names), path)

    def report(self, out: Path) -> None:
        self.preview(out / "named.png")
        if (out / "named.png").exists():
            note(out, "named.png", "Training pictures at ever more noise; at the left, how many it names rightly.")
        write(out, steps=self.run.train.steps, finished=True)

    def about(self) -> list[tuple[str, str]]:
        return [("classifier", f"{parameters(self.trained):,} parameters")]


def read_classifier(path: Path) -> tuple[dict[str, Tensor], ClassifierDescription]:
    """The averaged weights of the newest checkpoint in a classifier's folder, and what it is. ValueError if it is
    none, or damaged."""
    if (path / FILE).exists() and (path / "ema.safetensors").exists():
        return _opened(path)
    found = with_latest(path / "checkpoints", lambda folder: _opened(folder) if (folder / FILE).exists() else None)
    if found is None:
        run = path / "run.toml"
        is_one = (path / FILE).exists() or (run.exists() and plain(run).read_text().startswith('type = "Classifier'))
        if is_one:
            raise ValueError(f"{path} {lacking(path, 'go on with unsteep train-classifier')}")
        raise ValueError(f"{path} is not a classifier: it has no {FILE}; train one with unsteep train-classifier")
    return found


def _opened(folder: Path) -> tuple[dict[str, Tensor], ClassifierDescription]:
    verify(folder)
    return load_tensors(folder, "ema"), _read(folder, load_text(folder, FILE))


def open_classifier(path: Path | str, device: str = "auto", precision: Asked = "float32") -> OpenedClassifier:
    """A classifier of noisy data from its folder, to guide by; `precision`: as `load` has it. ValueError if it is none,
    or damaged."""
    weights, described = read_classifier(Path(path))
    check_beside(Path(path), described.build, weights, FILE)
    with seeded(0):  # its first weights are drawn, and replaced
        module = described.build()
    load_weights(module, weights)
    where = chosen_device(device)
    module = module.to(where).eval().requires_grad_(False)
    shape = described.space.shape
    run_in(module, decided(precision, module, where, shape).precision)
    return OpenedClassifier(module, described.names, shape)


def _read(folder: Path, text: str) -> ClassifierDescription:
    """The description in a checkpoint; release 0.1 knew pictures alone, and wrote how it was trained into it, too."""
    with reading(folder / FILE, "the description of a classifier"):
        table = {k: v for k, v in tomllib.loads(text).items() if k != "train"}
        table["space"] = {"type": "Pixels", **table.get("space", {})}
    try:
        return config.from_dict(ClassifierDescription, table)
    except ValueError as error:
        raise ValueError(f"{folder / FILE}: {error}") from None


def with_noise(run: ClassifierRun, noisy: bool) -> ClassifierRun:
    """The same run, trained with noise or without."""
    return replace(run, objective=replace(run.objective, noisy=noisy))
