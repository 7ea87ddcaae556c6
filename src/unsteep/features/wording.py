"""What clips say: a small net that brings clips and their texts to one place, trained once on the training clips.

A clip is read frame by frame, by convolutions along time that padding and missing numbers have no part in, and
averaged; a text is the mean of vectors of its words. Both become unit vectors, and a clip's is to be nearer to its own
text's than to the other texts of the batch (Radford et al. 2021, figure 3): cross-entropy of v.u / tau, both ways, in
which a text that stands twice in the batch is no error. Whether an unknown clip is named rightly says that it looks
like those of its words, to this net; the floor is how often real clips are.

The net is a function of the data, the settings and this file, and so is the name of its folder in the cache.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unsteep.core.condition import VALID
from unsteep.core.noise import Draw
from unsteep.data.batch import Batch
from unsteep.data.examples import Examples
from unsteep.features.stored import Stored, digest_of, stored
from unsteep.hearing import Length, Prompt
from unsteep.objectives import Loss
from unsteep.pages.progress import bar
from unsteep.spaces import Sequences
from unsteep.training.batches import Batches
from unsteep.training.loop import Single, State, train
from unsteep.training.settings import TrainConfig

TEMPERATURE = 0.1
WORDS = Prompt(by="bpe", pieces=2048)


@dataclass(frozen=True, kw_only=True)
class WordingNet:
    """The net and its training: about a quarter of a minute of one CPU core for clips of 50 frames."""

    width: int = 64
    steps: int = 600
    batch: int = 64
    learning_rate: float = 2e-3
    seed: int = 0

    def training(self) -> TrainConfig:
        """How it trains."""
        return TrainConfig(
            steps=self.steps,
            batch=self.batch,
            learning_rate=self.learning_rate,
            final_learning_rate=0.0,
            warmup=self.steps // 10,
            weight_decay=0.01,
            ema=0.0,
            seed=self.seed,
        )


class Reader(nn.Module):
    """`clip`: (b, frames, features) to unit vectors (b, width); `text`: pieces (b, length) to such."""

    def __init__(self, features: int, pieces: int, width: int) -> None:
        super().__init__()
        self.enter = nn.Linear(features, width)
        self.along = nn.ModuleList(nn.Conv1d(width, width, 5, stride, padding=2) for stride in (2, 2))
        self.leave = nn.Linear(2 * width, width)
        self.words = nn.Embedding(pieces, width)

    def clip(self, x: Tensor, valid: Tensor) -> Tensor:
        """What stands in padding changes nothing."""
        there = valid[..., None].to(x.dtype)
        h = F.relu(self.enter(x)) * there
        for layer in self.along:
            there = there[:, ::2]
            h = F.relu(layer(h.transpose(1, 2)).transpose(1, 2)) * there
        mean = h.sum(1) / there.sum(1)
        return F.normalize(self.leave(torch.cat([mean, h.amax(1)], 1)), dim=1)

    def text(self, pieces: Tensor, valid: Tensor) -> Tensor:
        there = valid[..., None].to(self.words.weight.dtype)
        return F.normalize((self.words(pieces) * there).sum(1), dim=1)

    def forward(self, batch: Batch) -> Tensor:
        assert batch.condition is not None
        heard = batch.condition
        return self.clip(batch.x, heard[VALID]) @ self.text(heard["text"], heard["text_valid"]).T / TEMPERATURE


def contrast(module: nn.Module, batch: Batch, draw: Draw) -> Loss:
    """The objective: see the module."""
    assert batch.condition is not None
    text = batch.condition["text"].masked_fill(~batch.condition["text_valid"], -1)
    same = (text[:, None] == text[None]).all(2)
    likeness = module(batch)
    each = [-(F.log_softmax(likeness, dim).masked_fill(~same, -torch.inf).logsumexp(dim)) for dim in (0, 1)]
    value = (each[0] + each[1]) / 2
    return Loss(value, torch.zeros(len(value), device=value.device))


@dataclass(frozen=True, eq=False)
class Wording:
    """The trained net. `space`: what its numbers are; `digest`: of its weights."""

    network: Reader
    space: Sequences
    words: Prompt
    digest: str

    @torch.no_grad()
    def named(self, x: Tensor, valid: Tensor, texts: Sequence[str]) -> list[str]:
        """The text of `texts` that each clip (b, frames, features), in the data's own units, is taken for. `valid`:
        which of its frames (b, frames), or of its numbers (b, frames, features), are there."""
        frames = valid if valid.ndim == 2 else valid.any(2)
        heard = self.words.heard(texts, warn=False)
        space = replace(self.space, frames=max(self.space.frames, x.shape[1]))
        whole = F.pad(frames, (0, space.frames - frames.shape[1]))
        likeness = self.network.clip(space.encode(x, valid), whole) @ self.network.text(*heard.values()).T
        return [texts[i] for i in likeness.argmax(1).tolist()]


def wording(
    data: Examples,
    space: Sequences,
    counts: Tensor,
    cache: Path | None = None,
    settings: WordingNet | None = None,
    progress: bool = False,
) -> Wording:
    """The net of clips with captions, or with classes, which are the training data: from the cache or trained. `space`:
    whose numbers they are; `counts` (features,): which of them it may look at."""
    settings = settings or WordingNet()
    weight = torch.ones_like(data.x) if data.weight is None else data.weight
    data = replace(data, captions=texts_of(data), weight=weight * counts)
    space = replace(space, frames=0, mean=(), std=()).fitted(data)
    words = WORDS.fitted(data)
    key = [data.digest, asdict(settings), hashlib.sha256(Path(__file__).read_bytes()).hexdigest()]
    weights, _ = stored("wording", key, partial(_trained, data, space, words, settings, progress), cache)
    network = _blank(space, words, settings)
    network.load_state_dict(weights)
    return Wording(network.eval().requires_grad_(False), space, words, digest_of(weights))


def texts_of(data: Examples) -> tuple[str, ...]:
    """A text of each clip: its caption, or the name of its class; () without either."""
    if data.captions or data.labels is None:
        return data.captions
    return tuple(data.names[i] for i in data.labels.tolist())


def _blank(space: Sequences, words: Prompt, settings: WordingNet) -> Reader:
    """The net before training, a function of the seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        return Reader(space.shape[1], len(words.words), settings.width)


def _trained(
    data: Examples, space: Sequences, words: Prompt, settings: WordingNet, progress: bool
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    config = settings.training()
    state = State(_blank(space, words, settings), config, contrast)
    task = Single(state, Batches(data, space, (words, Length().fitted(data)), config))
    with bar(progress, config.steps, "training what clips say") as advance:
        for _ in train(task, config):
            advance()
    facts: dict[str, Any] = {"settings": asdict(settings), "source": data.source, "data": data.digest}
    made: Stored = ({name: value.cpu() for name, value in state.module.state_dict().items()}, facts)
    return made
