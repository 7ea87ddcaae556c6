"""What is asked of a model, checked: the seeds of samples, their classes, prompts and pictures, and that they came out.

A picture that samples are to fit may be noised first, as it was in training (the conditioning augmentation of Ho et al.
2021, "Cascaded diffusion models"): x_t of it, at a time t of the `Cosine` schedule, whatever the model's own is.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

from unsteep.core.condition import Condition
from unsteep.core.level import add_noise
from unsteep.core.noise import NoiseSource
from unsteep.core.schedules import Cosine
from unsteep.data.pairs import Aligned
from unsteep.model.description import Description
from unsteep.networks import FrozenTextConfig, MLPConfig, TextEncoderConfig, Vocabulary
from unsteep.networks.text.pretrained import PretrainedText, pretrained_text
from unsteep.spaces import Pixels

Label = int | str
Labels = Label | Sequence[Label] | None  # one for all, one for each, or drawn
_STREAM = -2  # where a sample draws its own label; the steps of a sampler use 0, 1, 2, ...
_PICTURE_STREAM = -4  # and where the noise of its picture


def labels_of(names: Sequence[str], counts: Tensor, seeds: Sequence[int], label: Labels) -> Tensor | None:
    """The class of each of n samples of these seeds, int64 (n,), or None where there are no classes.

    `names` of the classes, and `counts` (classes,) in the data. `label`: one for all, one for each, or None to draw.
    """
    n = len(seeds)
    if not names:
        if label is not None:
            raise ValueError("label: this model was trained without labels; train with condition.label=true")
        return None
    if label is None:
        u = NoiseSource(seeds, _STREAM).uniform(torch.empty(n, 1, dtype=torch.float64), 0).squeeze(1)
        shares = (counts.double() / counts.sum()).cumsum(0)
        return torch.searchsorted(shares, u.contiguous()).clamp(max=len(counts) - 1)
    if isinstance(label, int | str):
        return torch.full((n,), number_of(names, label))
    if len(label) != n:
        raise ValueError(f"label: expected one label or {n}, one for each sample; got {len(label)}")
    return torch.tensor([number_of(names, one) for one in label])


def text_of(
    description: Description, n: int, prompt: str | Sequence[str] | None
) -> tuple[Tensor, Tensor] | tuple[None, None]:
    """The text of n prompts and which of it is real, as `tokens_of` has them; (None, None) for a model without text.

    `prompt`: one for all, one for each, or None for no text.
    """
    if not description.hears_text:
        if prompt is not None:
            raise ValueError("prompt: this model was trained without text; train with condition.text=bpe on captions")
        return None, None
    prompts = [prompt or ""] * n if prompt is None or isinstance(prompt, str) else list(prompt)
    if len(prompts) != n:
        raise ValueError(f"prompt: expected one or {n}, one for each sample; got {len(prompts)}")
    return tokens_of(description, prompts)


def check_null(description: Description) -> None:
    """ValueError for a model that never learned to go without its condition."""
    if description.drop == 0 and description.heard:
        raise ValueError(
            f"this model was trained with condition.drop=0, and never learned to go without its {description.heard}; "
            "give it, or train with --set condition.drop=0.1"
        )


def tokens_of(description: Description, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
    """What a network hears of prompts: pieces int64 (n, length) of the model's vocabulary, or tokens (n, length, width)
    of its frozen encoder; and which of them are real, bool (n, length). Prompts that are too long are cut, with a
    warning. ValueError where the frozen encoder is not where the model expects it, or another."""
    network = description.model.network
    assert not isinstance(network, MLPConfig)
    text = network.text
    if isinstance(text, TextEncoderConfig):
        return Vocabulary.from_json(description.vocabulary).encode(prompts, text.limit)
    assert isinstance(text, FrozenTextConfig)
    try:
        encoder = frozen_encoder(text.folder, text.limit)
    except ValueError as error:
        raise ValueError(f"prompt: this model hears text through a pretrained encoder: {error}") from None
    if encoder.digest != text.digest:
        raise ValueError(
            f"prompt: the text encoder in {text.folder} is not the one that this model was trained with; put that one "
            f"(SHA-256 {text.digest[:16]}...) there"
        )
    tokens, valid = encoder.embed(prompts)
    return tokens, valid & torch.tensor([bool(prompt.strip()) for prompt in prompts])[:, None]


@lru_cache(maxsize=1)
def frozen_encoder(folder: str, limit: int) -> PretrainedText:
    """The text encoder in a folder, read once."""
    return pretrained_text(folder, limit=limit or None)


def picture_of(
    description: Description, drawn: range, picture: Tensor | None, augment: float = 0.0
) -> tuple[Tensor, Tensor] | tuple[None, None]:
    """The aligned pictures of the samples of these seeds, in the model's units, and their log-SNR.

    `picture` uint8, one for all or one for each (see `Aligned.fitted`); `augment`: the time that it is noised to, as
    far as the model has learned. (None, None) where none is given: a model that knows what to do without is asked so.
    """
    if not description.picture:
        if picture is not None:
            raise ValueError(
                "picture: this model was trained without one; train with --set condition.picture=low-resolution:8"
            )
        return None, None
    if picture is None:
        return None, None
    if len(picture) not in (1, len(drawn)):
        raise ValueError(f"picture: expected one or {len(drawn)}, one for each sample; got {len(picture)}")
    if not 0 <= augment <= description.augment:
        raise ValueError(
            f"augment: expected a time from 0 to {description.augment:g}, as this model has learned it, got {augment}"
        )
    assert isinstance(description.space, Pixels)
    of = description.space
    x = encoded(Aligned.of(description.picture).fitted(picture, of.channels, of.size)).expand(len(drawn), -1, -1, -1)
    noise = NoiseSource(drawn, _PICTURE_STREAM).normal(x, 0)
    return augmented(x, torch.full((len(drawn),), augment, dtype=torch.float64), noise)


def encoded(pictures: Tensor) -> Tensor:
    """Aligned pictures, uint8, as floats in [-1, 1]."""
    return Pixels(channels=pictures.shape[1], size=pictures.shape[-1]).encode(pictures)


def augmented(x: Tensor, t: Tensor, eps: Tensor) -> tuple[Tensor, Tensor]:
    """x (b, c, h, w) noised to times t (b,), and their log-SNR, float64 (b,)."""
    level = Cosine()(t)
    return add_noise(x, eps, level), level.logsnr


def condition_of(
    description: Description,
    drawn: range,
    labels: Tensor | None = None,
    prompt: str | Sequence[str] | None = None,
    picture: Tensor | None = None,
    augment: float = 0.0,
) -> Condition | None:
    """What the samples of these seeds are asked to be, or None for an unconditional model; see the parts."""
    text, valid = text_of(description, len(drawn), prompt)
    aligned, logsnr = picture_of(description, drawn, picture, augment)
    hidden = description.hears_text and prompt is None, bool(description.names) and labels is None
    if any(hidden) or (description.picture and picture is None):
        check_null(description)
    found = Condition(label=labels, text=text, text_valid=valid, picture=aligned, picture_logsnr=logsnr)
    return found if found.tensors() else None


def number_of(names: Sequence[str], label: Label) -> int:
    """The number of a class by number or name."""
    if label in names:  # a name first: a model of the digit "4" alone has it as class 0
        return names.index(str(label))
    if str(label).isdigit() and int(label) < len(names):
        return int(label)
    known = ", ".join(f"{i} ({name})" if str(i) != name else name for i, name in enumerate(names))
    raise ValueError(f"label: {label!r} is not a class of this model; its classes are {known}")


def seeds(first: int, n: int) -> range:
    """The seeds of n samples."""
    if n < 1:
        raise ValueError(f"n: expected at least 1 sample, got {n}")
    if not -(2**63) <= first <= 2**63 - n:
        raise ValueError(f"seed: expected a whole number of 64 bits, got {first}; take a smaller one")
    return range(first, first + n)


class NotFinite(ValueError):
    """Samples that are not finite."""


def check_finite(samples: Tensor, first: int) -> None:
    """NotFinite where some of the samples (n, ...), of the seeds from `first` on, are not finite."""
    broken = (~samples.isfinite().flatten(1).all(1)).nonzero().flatten() + first
    if len(broken):
        named = ", ".join(map(str, broken[:5].tolist()))
        raise NotFinite(
            f"sampling: {len(broken)} of {len(samples)} samples are not finite, those of seeds {named}"
            f"{' and more' if len(broken) > 5 else ''}; take more steps or another solver, or see how training ended"
        )
