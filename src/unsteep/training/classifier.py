"""Training a classifier of noisy data by the loop that trains everything, in a folder of its own.

    classifier.toml  log.jsonl  checkpoints/step-00001000/       as those of a run; the newest checkpoint is opened

The same call goes on where it was interrupted.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from unsteep.core.condition import Condition
from unsteep.core.noise import Draw, Purpose
from unsteep.data import DataSet
from unsteep.data.batch import Batch, shuffled
from unsteep.guidance.noisy import NoisyClassifier
from unsteep.networks.encoder import EncoderConfig
from unsteep.objectives.classification import Classification
from unsteep.spaces import Pixels
from unsteep.storage import config
from unsteep.storage.checkpoint import latest, load_tensors, load_text, prune
from unsteep.storage.lock import RunLock
from unsteep.storage.manifest import verify
from unsteep.training import checkpoints
from unsteep.training.log import Log, Progress
from unsteep.training.loop import State, TrainConfig, train
from unsteep.training.run import interruptible

FILE = "classifier.toml"


def _training() -> TrainConfig:
    return TrainConfig(
        steps=3000, batch=64, learning_rate=1e-3, final_learning_rate=1e-5, warmup=100, weight_decay=0.05, ema=0.995
    )


@dataclass(frozen=True, kw_only=True)
class ClassifierConfig:
    """Everything that decides what a classifier learns, but for its data. Sizes and names are filled from those."""

    network: EncoderConfig = field(default_factory=EncoderConfig)
    objective: Classification = field(default_factory=Classification)
    train: TrainConfig = field(default_factory=_training)
    space: Pixels = field(default_factory=lambda: Pixels(channels=0, size=0))
    names: tuple[str, ...] = ()

    def filled(self, data: DataSet) -> ClassifierConfig:
        """For `data`. ValueError where these have no classes or are no square pictures."""
        if data.labels is None:
            raise ValueError(f"classifier: these data have no labels ({data.source}); give labelled data")
        if data.x.ndim != 4 or data.x.shape[2] != data.x.shape[3]:
            raise ValueError(f"classifier: expected square pictures, got {tuple(data.x.shape[1:])}")
        channels, size = data.x.shape[1:3]
        network = replace(self.network, channels=channels, classes=len(data.names))
        space = Pixels(channels=channels, size=size, levels=data.levels)
        return replace(self, network=network, space=space, names=data.names)

    def build(self) -> NoisyClassifier:
        """Untrained."""
        return NoisyClassifier(self.network.build())


def train_classifier(
    settings: ClassifierConfig, data: DataSet, out: Path, *, device: str = "cpu", say: Callable[[str], None] = print
) -> bool:
    """Trains a classifier of `data` in `out`, or goes on. False if it was interrupted and saved.

    ValueError where `out` holds something else, or a classifier with other settings or data.
    """
    described = settings.filled(data)
    text = config.dumps(described)
    path = out / FILE
    if path.exists() and path.read_text(encoding="utf-8") != text:
        raise ValueError(f"{out} holds a classifier with other settings; choose another --out")
    if out.exists() and not path.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{out} exists and is not a classifier; choose another --out")
    torch.manual_seed(described.train.seed)
    state = State(described.build().to(device), described.train, described.objective)
    digest = data.digest()
    with RunLock(out):
        path.write_text(text, encoding="utf-8")
        folder = latest(out / "checkpoints")
        if folder is not None:
            if json.loads(load_text(folder, "state.json"))["data"] != digest:
                raise ValueError(f"{out}: the data are not those that this classifier was trained on")
            checkpoints.restore(state, folder)
        of = described.train
        log = Log(out / "log.jsonl", state.step)
        with interruptible() as interrupted, Progress(state.step, of.steps, of.batch) as progress:
            for record in train(state, lambda step: _batches(described, data, step, device), of):
                log.write(record)
                progress.update(record)
                last, stop = record.step == of.steps, interrupted()
                if record.step % of.checkpoint_every == 0 or last or stop:
                    checkpoints.save(out / "checkpoints", state, {FILE: text}, {}, digest)
                    prune(out / "checkpoints", of.keep)
                if stop and not last:
                    log.close()
                    say(f"stopped at step {state.step} and saved; the same command goes on")
                    return False
        log.close()
    return True


def _batches(of: ClassifierConfig, data: DataSet, step: int, device: str) -> Iterator[tuple[Batch, Draw]]:
    places = torch.arange(of.train.batch)
    index = shuffled(step * of.train.batch + places, len(data), of.train.seed)
    draw = Draw(of.train.seed, step, places, of.train.batch)
    x = of.space.encode(data.x[index])
    if of.train.flip:
        x = torch.where((draw.uniform(Purpose.FLIP) < 0.5)[:, None, None, None], x.flip(-1), x)
    assert data.labels is not None
    yield Batch(x, Condition(label=data.labels[index]), index).to(torch.device(device)), draw


def open_classifier(path: Path, device: str = "cpu") -> tuple[NoisyClassifier, ClassifierConfig]:
    """The averaged weights of the newest checkpoint in a classifier's folder. ValueError if it is none, or damaged."""
    if not (path / FILE).exists():
        raise ValueError(f"{path} is not a classifier: it has no {FILE}; train one with unsteep train-classifier")
    folder = latest(path / "checkpoints")
    if folder is None:
        raise ValueError(f"{path} has no checkpoint yet; go on with unsteep train-classifier")
    verify(folder)
    described = config.loads(ClassifierConfig, load_text(folder, FILE))
    module = described.build()
    module.load_state_dict(load_tensors(folder, "ema"))
    return module.to(device).eval().requires_grad_(False), described
