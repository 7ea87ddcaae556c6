"""How samples are guided, as one setting: from it and a denoiser, the wrappers of `guidance`, in their order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from unsteep.core.arguments import kind, number, shown
from unsteep.core.condition import Condition
from unsteep.denoiser import Conditioned, Denoise, Denoiser
from unsteep.guidance.auto import Auto
from unsteep.guidance.bounds import DynamicThreshold
from unsteep.guidance.branches import Guided
from unsteep.guidance.classifier import ClassifierGuidance
from unsteep.guidance.classifier_free import ClassifierFree
from unsteep.guidance.interval import GuidanceInterval, check_interval
from unsteep.guidance.noisy import NoisyClassifier, OpenedClassifier
from unsteep.guidance.rescale import Rescale
from unsteep.networks.precision import held

ALONE = "guidance: by a classifier, by a weaker model and without a condition exclude each other; choose one"


@dataclass(frozen=True, kw_only=True, eq=False)
class Guidance:
    """`scale`: 1 is plain, above 1 guided. By the condition itself (Ho & Salimans 2022), away from none or from a
    `negative` one, a `Condition` or what is asked, as {"label": 5}; or by the gradient of a `classifier` (Dhariwal &
    Nichol 2021), for which 0 is plain; or away from a `weaker` model or denoiser (Karras et al. 2024).

    `interval`: guide only where low < t <= high. `rescale`: how much of the contrast to keep, 0 to 1 (Lin et al. 2024).
    `threshold`: the quantile of dynamic thresholding (Saharia et al. 2022), in place of clipping.
    """

    scale: float = 1.0
    interval: tuple[float, float] | None = None
    rescale: float = 0.0
    threshold: float | None = None
    negative: Condition | Mapping[str, Any] | None = None
    classifier: NoisyClassifier | OpenedClassifier | None = None
    labels: Any = None
    """What the classifier is asked for, classes by number, or by name of an opened one; default: the condition's."""
    weaker: Any = None

    def __post_init__(self) -> None:
        try:
            object.__setattr__(self, "scale", number("guidance", self.scale))
        except ValueError:
            raise ValueError(
                f"guidance: expected a number, 1 for none, or a Guidance, got {shown(self.scale)}; give one, as 2"
            ) from None
        number("rescale", self.rescale, 0, 1)
        if self.threshold is not None and not number("threshold", self.threshold) > 0:
            raise ValueError(f"threshold: expected a number above 0, got {self.threshold}; give one, as 0.995")
        if self.interval is not None:
            if not isinstance(self.interval, tuple | list) or len(self.interval) != 2:
                raise ValueError(f"interval: expected two times (low, high), got {shown(self.interval)}; give both")
            low, high = (number("interval", one) for one in self.interval)
            check_interval(low, high)
        if self.negative is not None:
            kind("negative", self.negative, Mapping, "what to be guided away from", 'give it, as {"label": 5}')
        if self.classifier is not None and not isinstance(self.classifier, NoisyClassifier | OpenedClassifier):
            raise ValueError(f"classifier: expected one of noisy data, got {shown(self.classifier)}; open one")
        inside = getattr(self.weaker, "denoiser", self.weaker)
        if inside is not None and (isinstance(inside, type) or not hasattr(inside, "schedule")):
            raise ValueError(f"weaker: expected a model or a denoiser, got {shown(self.weaker)}; load one")
        if sum(one is not None for one in (self.negative, self.classifier, self.weaker)) > 1:
            raise ValueError(ALONE)

    @property
    def free(self) -> bool:
        """Whether the model's own condition guides, or nothing does."""
        return self.classifier is None and self.weaker is None

    @property
    def opened(self) -> OpenedClassifier | None:
        """The classifier, where it says which classes and examples it knows."""
        return self.classifier if isinstance(self.classifier, OpenedClassifier) else None

    @property
    def asks_null(self) -> bool:
        """Whether the model is asked what it says without a condition."""
        return self.free and self.scale != 1 and self.negative is None

    @property
    def frame_scale(self) -> float:
        """How far beyond the means of classes samples are driven: what a frame of the data should know."""
        return self.scale if self.free and self.interval is None and self.negative is None else 1.0

    @property
    def idle(self) -> list[str]:
        """What is set and would do nothing, by name."""
        given = {
            "interval": self.interval is not None,
            "rescale": bool(self.rescale),
            "negative": self.negative is not None,
            "weaker": self.weaker is not None,
        }
        return [name for name, is_given in given.items() if is_given] if self.plain else []

    @property
    def plain(self) -> bool:
        """Whether nothing guides."""
        return self.scale == (0 if self.classifier is not None else 1)

    @property
    def simple(self) -> bool:
        """Whether it is a scale alone, for which a grid can have been tuned."""
        others = (self.interval, self.threshold, self.negative, self.classifier, self.labels, self.weaker)
        return not self.rescale and all(one is None for one in others)

    def select(self, rows: slice) -> Guidance:
        """That of some samples."""
        negative = self.negative.select(rows) if isinstance(self.negative, Condition) else self.negative
        return replace(self, negative=negative, labels=self.labels[rows] if isinstance(self.labels, Tensor) else None)

    def to(self, device: torch.device) -> Guidance:
        """With what has rows on another device."""
        negative = self.negative.to(device) if isinstance(self.negative, Condition) else self.negative
        return replace(self, negative=negative)

    def wrapped(self, denoiser: Denoiser, condition: Condition | None) -> Denoise:
        """`denoiser` under `condition`, guided. What is asked by name has been made a condition before (`model.request`
        does so)."""
        denoiser = held(denoiser)
        plain: Denoise = Conditioned(denoiser, condition)
        guided: Denoise | Guided = plain
        if self.classifier is not None:
            labels = condition.get("label") if self.labels is None and condition is not None else self.labels
            if labels is None:
                raise ValueError("guidance: a classifier needs a class to guide to; give label")
            module = self.classifier.module if isinstance(self.classifier, OpenedClassifier) else self.classifier
            guided = ClassifierGuidance(plain, held(module).log_prob(labels), self.scale)
        elif self.weaker is not None:
            weaker: Denoiser = getattr(self.weaker, "denoiser", self.weaker)
            if weaker.schedule != denoiser.schedule:
                raise ValueError("guidance: the weaker model has another schedule; train it on that of the better one")
            guided = Auto(plain, Conditioned(held(weaker), condition), self.scale)
        elif condition is not None and self.scale != 1:
            assert not isinstance(self.negative, Mapping) or isinstance(self.negative, Condition)
            guided = ClassifierFree(denoiser, condition, self.scale, self.negative)
        elif self.scale != 1:
            raise ValueError(
                "guidance: nothing to be guided by; give a label, a prompt or a picture to a model that hears it"
            )
        if self.rescale and isinstance(guided, Guided):
            guided = Rescale(guided, self.rescale)
        if self.interval is not None and guided is not plain:
            guided = GuidanceInterval(guided, *self.interval, plain)
        return guided

    def bounded(self, denoise: Denoise, low: float, high: float) -> Denoise:
        """Dynamic thresholding around it all, if it was asked for."""
        return denoise if self.threshold is None else DynamicThreshold(denoise, self.threshold, low, high)


def guidance_of(asked: float | Guidance) -> Guidance:
    """A bare number is the scale."""
    return asked if isinstance(asked, Guidance) else Guidance(scale=asked)


def as_condition(given: Condition | Tensor | None) -> Condition | None:
    """Bare labels (n,) are a condition."""
    if isinstance(given, Tensor):
        return Condition(label=given)
    if given is not None:
        kind(
            "condition",
            given,
            Condition,
            "a Condition, or labels (n,) as a tensor",
            "make one, as Condition(label=...)",
        )
    return given
