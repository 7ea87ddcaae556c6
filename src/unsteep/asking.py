"""What is asked of a model, checked: the seeds of samples, their classes by number or name, and that they came out."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from unsteep.core.noise import NoiseSource
from unsteep.description import Description
from unsteep.networks import MLPConfig, TextEncoderConfig, Vocabulary

Label = int | str
Labels = Label | Sequence[Label] | None  # one for all, one for each, or drawn
_STREAM = -2  # where a sample draws its own label; the steps of a sampler use 0, 1, 2, ...


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
    """The pieces of n prompts, int64 (n, length), and which are real, bool; (None, None) for a model without text.

    `prompt`: one for all, one for each, or None for no text. Prompts that are too long are cut, with a warning.
    """
    if not description.vocabulary:
        if prompt is not None:
            raise ValueError("prompt: this model was trained without text; train with condition.text=bpe on captions")
        return None, None
    prompts = [prompt or ""] * n if prompt is None or isinstance(prompt, str) else list(prompt)
    if len(prompts) != n:
        raise ValueError(f"prompt: expected one or {n}, one for each sample; got {len(prompts)}")
    network = description.model.network
    assert not isinstance(network, MLPConfig)
    assert isinstance(network.text, TextEncoderConfig)
    return Vocabulary.from_json(description.vocabulary).encode(prompts, network.text.limit)


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
