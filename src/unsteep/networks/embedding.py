"""How a network hears its conditions: one vector per sample, from the noise label and the class label.

The noise label n is spread over sines and cosines of geometrically spaced frequencies (Vaswani et al. 2017),

    sin(n f_i), cos(n f_i)    with    f_i = 10000^(-i / (half - 1)),  i = 0 .. half - 1,

first all sines, then all cosines, as in the code of Ho et al. 2020; two linear layers with a SiLU between them
turn these into the embedding. A class label adds a learned row of a table, whose last row is the null: "no label".
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

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

    def __init__(self, width: int, features: int) -> None:
        super().__init__()
        self.linear_1 = initialized(nn.Linear(width, features))
        self.linear_2 = initialized(nn.Linear(features, features))

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
    """A network that hears a noise label and a class label as one vector; subclasses call `condition`.

    width: how many sines and cosines; features: length of the vector; labels: number of classes, 0 for none;
    time_embedding=False: deaf to the noise label.
    """

    def __init__(self, *, width: int, features: int, labels: int, time_embedding: bool = True) -> None:
        super().__init__()
        self.time_embedding = TimeEmbedding(width, features) if time_embedding else None
        self.class_embedding = LabelEmbedding(labels, features) if labels else None
        self.condition_features = features if time_embedding or labels else 0  # 0: there is nothing to hear

    def condition(self, noise_label: Tensor, label: Tensor | None) -> Tensor | None:
        """SiLU of the summed embeddings, (b, features), ready for each block's projection; None if nothing to hear.

        Raises ValueError for a label given to a network without classes.
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
        return F.silu(sum(parts[1:], parts[0])) if parts else None
