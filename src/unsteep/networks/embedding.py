"""How a network hears its conditions: one vector per sample, tokens to look at, a picture beside its input.

The vector is a sum of embeddings, of the noise label, of that of the end of a step, the class label, the noise level of
the picture and 20 times the scale of guidance.

The noise label n is spread over sines and cosines of geometrically spaced frequencies (Vaswani et al. 2017),

    sin(n f_i), cos(n f_i)    with    f_i = 10000^(-i / (half - 1)),  i = 0 .. half - 1,

first all sines, then all cosines, as in the code of Ho et al. 2020; two linear layers with a SiLU between them
turn these into the embedding. A class label adds a learned row of a table, whose last row is the null: "no label".

An aligned picture (Saharia et al. 2021, Ho et al. 2021, "Cascaded diffusion models") becomes further channels of the
input. Its own noise level, the conditioning augmentation of the latter, is embedded like the noise label, as

    25 (20 - clamp(logsnr, -20, 20))    from 0, a clean picture, to 1000, pure noise: no picture.

Text becomes tokens for cross-attention: see `cross_attention`.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unsteep.networks.cross_attention import AnyText, TextInput, Tokens
from unsteep.networks.initialization import initialized


def sinusoidal(noise_label: Tensor, width: int) -> Tensor:
    """Sines and cosines of the noise label: (b,) -> (b, width), in the label's dtype; width even, at least 4.

    Only for float32 and float64: near 999 neighbouring bf16 numbers are 4 apart, more than half a turn of the first
    sine.
    """
    half = width // 2
    index = torch.arange(half, dtype=noise_label.dtype, device=noise_label.device)
    angle = noise_label[:, None] * torch.exp(index * (-math.log(10000) / (half - 1)))
    return torch.cat([angle.sin(), angle.cos()], dim=1)


class TimeEmbedding(nn.Module):
    """Noise label (b,) -> (b, features); the sines are taken in float32, or in float64 if the weights are."""

    def __init__(self, width: int, features: int, gain: float = 1.0) -> None:
        super().__init__()
        self.linear_1 = initialized(nn.Linear(width, features))
        self.linear_2 = initialized(nn.Linear(features, features), gain)

    def forward(self, noise_label: Tensor) -> Tensor:
        dtype = self.linear_1.weight.dtype
        exact = noise_label.to(torch.promote_types(dtype, torch.float32))
        waves = sinusoidal(exact, self.linear_1.in_features)
        return self.linear_2(F.silu(self.linear_1(waves.to(dtype))))


class LabelEmbedding(nn.Embedding):
    """Class label (b,) int64, 0 .. labels - 1 or negative for the null -> (b, features)."""

    def __init__(self, labels: int, features: int) -> None:
        super().__init__(labels + 1, features)

    def forward(self, label: Tensor) -> Tensor:
        null = self.num_embeddings - 1
        # A label past the last class must not read the null's row: it moves off the table, which is an IndexError.
        return super().forward(torch.where(label < 0, null, label + (label >= null)))


class ConditionedNetwork(nn.Module):
    """A network that hears conditions; subclasses call `condition`, and `beside` and `tokens` where they take these.

    width: how many sines and cosines; features: length of the vector; labels: number of classes, 0 for none;
    time_embedding=False: deaf to the noise label; text: the kind of tokens, None for no text; picture_channels:
    channels of the aligned picture, 0 for none; nxt: it hears the noise label of the end of a step, too, and scale: the
    scale of guidance; both at first not at all, so that it answers as the network that it was started from.
    """

    def __init__(
        self,
        *,
        width: int,
        features: int,
        labels: int,
        time_embedding: bool = True,
        text: AnyText | None = None,
        picture_channels: int = 0,
        nxt: bool = False,
        scale: bool = False,
    ) -> None:
        super().__init__()
        self.picture_channels = picture_channels
        self.time_embedding = TimeEmbedding(width, features) if time_embedding else None
        self.class_embedding = LabelEmbedding(labels, features) if labels else None
        self.picture_embedding = TimeEmbedding(width, features) if picture_channels else None
        self.nxt_embedding = TimeEmbedding(width, features, gain=0.0) if nxt else None
        self.scale_embedding = TimeEmbedding(width, features, gain=0.0) if scale else None
        self.text = TextInput(text) if text else None
        heard = time_embedding or labels or picture_channels or nxt or scale
        self.condition_features = features if heard else 0  # 0: there is nothing to hear

    def condition(
        self,
        noise_label: Tensor,
        label: Tensor | None,
        picture: Tensor | None = None,
        picture_logsnr: Tensor | None = None,
        noise_label_nxt: Tensor | None = None,
        scale: Tensor | None = None,
    ) -> Tensor | None:
        """SiLU of the summed embeddings, (b, features), ready for each block's projection; None if nothing to hear.

        A picture without a level is a clean one; a step without an end ends where it begins; no scale is 1. Raises
        ValueError for a label, a picture, an end or a scale given to a network that takes none.
        """
        parts = []
        if self.time_embedding is not None:
            parts.append(self.time_embedding(noise_label))
        if self.class_embedding is not None:
            if label is None:
                label = torch.full(noise_label.shape, -1, device=noise_label.device)
            parts.append(self.class_embedding(label))
        elif label is not None:
            raise ValueError("label: this network has labels=0 and takes none; leave it out, or build with labels=N")
        if self.picture_embedding is not None:
            if picture is None or picture_logsnr is None:
                picture_logsnr = torch.full_like(noise_label, -torch.inf if picture is None else torch.inf)
            parts.append(self.picture_embedding(25 * (20 - picture_logsnr.clamp(-20, 20))))
        elif picture is not None:
            raise ValueError(
                "picture: this network has picture_channels=0 and takes none; leave it out, or build with "
                "picture_channels=C"
            )
        if self.nxt_embedding is not None:
            parts.append(self.nxt_embedding(noise_label if noise_label_nxt is None else noise_label_nxt))
        elif noise_label_nxt is not None:
            raise ValueError("noise_label_nxt: this network has nxt=false and takes none; leave it out")
        if self.scale_embedding is not None:
            parts.append(self.scale_embedding(20 * (torch.ones_like(noise_label) if scale is None else scale)))
        elif scale is not None:
            raise ValueError("scale: this network has scale=false and takes none; leave it out")
        return F.silu(sum(parts[1:], parts[0])) if parts else None

    def beside(self, x: Tensor, picture: Tensor | None) -> Tensor:
        """x (b, c, h, w) with the picture (b, c', h', w') as further channels, zeros where there is none.

        A picture of another size is brought to that of x: bilinear, averaging where it is larger. Raises ValueError
        for other channels than the network's.
        """
        if not self.picture_channels:
            return x
        if picture is None:
            picture = x.new_zeros(len(x), self.picture_channels, *x.shape[2:])
        elif picture.shape[1] != self.picture_channels:
            raise ValueError(f"picture: expected {self.picture_channels} channels, got {picture.shape[1]}")
        elif picture.shape[2:] != x.shape[2:]:
            exact = picture.to(torch.promote_types(picture.dtype, torch.float32))
            picture = F.interpolate(exact, size=x.shape[2:], mode="bilinear", antialias=True)
        return torch.cat([x, picture.to(x.dtype)], dim=1)

    def tokens(self, text: Tensor | None, text_valid: Tensor | None, rows: int) -> Tokens | None:
        """The tokens of `rows` texts (see `TextInput`), None for a network without; there, a text is a ValueError."""
        if self.text is not None:
            return self.text(text, text_valid, rows)
        if text is not None:
            raise ValueError("text: this network has text=none and takes none; leave it out, or build with text")
        return None
