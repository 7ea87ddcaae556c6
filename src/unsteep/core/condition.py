"""What a sample is conditioned on: a label, text, an aligned picture; and which frames of a sequence are real.

A condition is bound to a denoiser once (`partial(denoiser, condition=c)`). For classifier-free guidance (Ho &
Salimans 2022) a network must also know "no condition": the null label -1, a text without a valid token, a picture at
pure noise. `valid` says which frames exist; it is no condition, and dropping never touches it.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

NULL_LABEL = -1


@dataclass(frozen=True)
class Condition:
    """Tensors with one row per sample; None where the model has no such condition.

    `label` (b,) int64 in 0..k-1, or -1 for none. `text`: ids int64 (b, length) of a vocabulary, for a network that
    holds the encoder, or tokens (b, length, width) of an encoder; `text_valid` bool (b, length), which of them count:
    none, where the text is dropped. `picture` (b, c, h, w) aligned with x, `picture_logsnr` (b,) float64 the noise
    level it was augmented with. `valid` bool (b, frames).
    """

    label: Tensor | None = None
    text: Tensor | None = None
    text_valid: Tensor | None = None
    picture: Tensor | None = None
    picture_logsnr: Tensor | None = None
    valid: Tensor | None = None

    def tensors(self) -> dict[str, Tensor]:
        """The tensors that are present, by name: the keyword arguments of a network."""
        present = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: tensor for name, tensor in present.items() if tensor is not None}

    def __getitem__(self, i: slice | Tensor) -> Condition:
        return Condition(**{name: tensor[i] for name, tensor in self.tensors().items()})

    def to(self, device: torch.device | str) -> Condition:
        """The same condition on another device."""
        return Condition(**{name: tensor.to(device) for name, tensor in self.tensors().items()})

    def null(self) -> Condition:
        """No condition, in the same shapes."""
        rows = next(iter(self.tensors().values()), None)
        return self if rows is None else self.drop(torch.ones(len(rows), dtype=torch.bool, device=rows.device))

    def drop(self, rows: Tensor) -> Condition:
        """The condition with `rows` (b,) bool nulled, as training for classifier-free guidance does at random."""

        def nulled(tensor: Tensor | None, value: float) -> Tensor | None:
            if tensor is None:
                return None
            mask = rows.to(tensor.device).reshape(rows.shape + (1,) * (tensor.ndim - 1))
            return tensor.masked_fill(mask, value)

        text_valid = self.text_valid
        if self.text is not None and text_valid is None:
            text_valid = torch.ones(self.text.shape[:2], dtype=torch.bool, device=self.text.device)
        logsnr = self.picture_logsnr
        if self.picture is not None and logsnr is None:  # a dropped picture is not a clean grey one
            logsnr = torch.full((len(self.picture),), torch.inf, dtype=torch.float64, device=self.picture.device)
        return replace(
            self,
            label=nulled(self.label, NULL_LABEL),
            text_valid=nulled(text_valid, False),
            picture=nulled(self.picture, 0.0),
            picture_logsnr=nulled(logsnr, -torch.inf),
        )
