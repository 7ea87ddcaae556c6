"""A trained model: a denoiser, the space its tensors live in, what it hears, and what was measured on its data.

model = unsteep.load("runs/demo")
pictures = model.sample(16, label=4, steps=50, seed=0)      # uint8 (16, c, h, w)
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from unsteep.core.arguments import choice, flag, whole
from unsteep.core.arguments import path as path_of
from unsteep.core.condition import Condition
from unsteep.core.level import NoiseLevel
from unsteep.data.choosing import shorten
from unsteep.guidance.setting import as_condition
from unsteep.hearing import Label
from unsteep.hearing.picture import noised
from unsteep.likelihood import BoundTerms, ReverseVariance
from unsteep.model.bounded import bounded
from unsteep.model.kept import read, write
from unsteep.model.request import request, seeds
from unsteep.model.sampled import Sampled
from unsteep.networks.counting import check_beside
from unsteep.networks.wrapping import load_weights, weights_of
from unsteep.pages.html import fragment
from unsteep.storage.foreign import reading
from unsteep.storage.meanings import in_words
from unsteep.storage.schema import spelled

CLASSES = 20  # that a notebook names


class Model(Sampled):
    """A denoiser that knows what its numbers mean: sampled, measured, asked and kept."""

    def likelihood(
        self,
        examples: Tensor,
        condition: Condition | Tensor | None = None,
        *,
        levels: NoiseLevel | None = None,
        terms: int | None = None,
        draws: int = 1,
        variance: ReverseVariance | None = None,
        decoder: Literal["pair", "ho"] = "pair",
        clip: bool = True,
        seed: int = 0,
        batch_size: int = 64,
        progress: bool = False,
    ) -> BoundTerms:
        """The variational bound on the likelihood of examples in the data's own units, every term of it, in nats: of
        the probability of pictures of whole numbers, of the density of other data per unit of each of their numbers.

        `condition` of n rows, or labels (n,). `levels`: default, every step of the chain. `terms`: evaluate only so
        many of the KLs for each example, one in each of as many strata of the chain; unbiased. `draws` of the noise
        to average over. `variance` of the model's steps: default "learned" where the model has it, else "beta".
        `decoder`: the variance of the last term, the pair's own or Ho's. Example i draws its noise from seed + i.
        ValueError for examples that are not of the model's space, and for none.
        """
        return bounded(
            self,
            examples,
            as_condition(condition),
            levels=levels,
            terms=terms,
            draws=draws,
            variance=variance,
            decoder=decoder,
            clip=clip,
            seed=seed,
            batch_size=batch_size,
            progress=progress,
        )

    def labels_of(self, n: int, label: Any = None, seed: int = 0) -> Tensor | None:
        """The class of each of n samples, int64 (n,), or None for a model without classes (see `sample`)."""
        n = whole("n", n)
        kind = self.description.hearing("label")
        if kind is None:
            if label is not None:
                raise ValueError(f"label: this model {Label.lacks}")
            return None
        found: Tensor = kind.asked(label, n, seeds(seed, n))["label"]
        return found

    def condition_of(
        self,
        n: int,
        label: Any = None,
        prompt: str | Sequence[str] | None = None,
        seed: int = 0,
        picture: Tensor | None = None,
        augment: float = 0.0,
        **others: Any,
    ) -> Condition | None:
        """What n samples are asked to be, or None for an unconditional model (see `sample`)."""
        asks = {"label": label, "prompt": prompt, "picture": noised(picture, augment), **others}
        return request(self, n, seed=seed, asks=asks).condition

    def _repr_html_(self) -> str:
        """What it is, for a notebook, which shows `model.space.show(samples)`, a PIL picture of them all, as well."""
        of, parameters = self.description, sum(p.numel() for p in self.denoiser.parameters())
        facts = [
            ("network", f"{spelled(type(of.model.network))}, {parameters:,} parameters"),
            ("predicts", of.predicts),
            ("schedule", in_words(of.schedule, usual=True)),
            ("makes", self.space.describe()),
            ("hears", of.heard or "nothing"),
            *([("classes", shorten(self.names, CLASSES))] if self.names else []),
            ("runs on", f"{self.device}{'' if self.precision == 'float32' else f' in {self.precision}'}"),
            *([("weights", self.origin)] if self.origin else []),
        ]
        return fragment(facts)

    def save(self, path: str | Path) -> None:
        """Writes the model as a folder of safetensors, its description, and a manifest; atomically. A saved model that
        is there is replaced; ValueError for anything else that is."""
        write(path_of("path", path), weights_of(self.denoiser), self.statistics, self.description)

    @classmethod
    def open(
        cls,
        path: str | Path,
        weights: str | None = None,
        device: torch.device | str = "cpu",
        *,
        trust: bool = False,
        origin: str = "",
    ) -> Model:
        """Reads a folder written by `save` or a checkpoint of a run, after verifying it against its manifest.
        `weights`: "ema" or "weights"; default: the averaged ones where there are any. `trust`: import parts of the
        user's own that model.toml names."""
        if weights is not None:
            choice("weights", weights, ("ema", "weights"))
        tensors, statistics, description = read(path_of("path", path), weights, flag("trust", trust))
        check_beside(path_of("path", path), description.filled().model.network.build, tensors, "model.toml")
        with torch.random.fork_rng(devices=[]):  # its first weights are drawn, and replaced
            denoiser = description.build()
        with reading(path_of("path", path), "weights of the network that model.toml describes", "use another copy"):
            load_weights(denoiser, tensors)
        return cls(denoiser, description, statistics, origin or str(path)).to(device)
