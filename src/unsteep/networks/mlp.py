"""A residual network for vectors (b, d): points of the plane, latents, and small tests of everything else; examples
of other shapes are flattened.

A linear layer to `width` features, `depth` residual blocks (LayerNorm, linear, condition added, SiLU, linear), and a
last LayerNorm and linear layer. Conditions are heard as in the U-Net; the untrained network answers 0.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from math import prod
from typing import Self

import torch.nn.functional as F
from torch import Tensor, nn

from unsteep.core.arguments import checked
from unsteep.core.protocols import Hears, Space
from unsteep.networks.checks import check_at_least, check_depth, check_filled, check_width
from unsteep.networks.embedding import ConditionedNetwork
from unsteep.networks.fitting import check_heard, labels_of
from unsteep.networks.initialization import initialized


@dataclass(frozen=True, kw_only=True)
class MLPConfig:
    """An MLP, before it is built. A wrong field is a ValueError that begins with the field's name."""

    features: int = 0
    """Numbers of an example; 0: filled from the data."""
    labels: int = 0
    """Number of classes; 0: no labels."""
    out_features: int = 0
    """Length of the output; 0: as long as `features`."""
    width: int = 256
    """Features inside, and number of sines and cosines of the noise label."""
    depth: int = 3
    """Number of residual blocks."""
    nxt: bool = False
    """Whether it hears where a step ends, as a map does; filled from the objective."""
    scale: bool = False
    """Whether it hears the scale of guidance; filled from the objective."""

    def __post_init__(self) -> None:
        checked(self)
        check_at_least(0, features=self.features, labels=self.labels, out_features=self.out_features)
        check_width(self.width)
        check_depth(depth=self.depth)

    def fitted(self, space: Space, outputs: int, heard: Mapping[str, Hears]) -> Self:
        """For examples of any shape, flattened, and their classes."""
        check_heard(heard, ("label", "nxt", "guidance"), "an MLP")
        features = prod(space.shape)
        sizes = {"features": features, "out_features": outputs * features, "labels": labels_of(heard)}
        return replace(self, **sizes, nxt="nxt" in heard, scale="guidance" in heard)

    def build(self) -> "MLP":
        """The untrained network; ValueError if `features` is still to be filled from the data."""
        check_filled(features=self.features)
        return MLP(self)


class VectorBlock(nn.Module):
    """x + linear(SiLU(linear(norm(x)) + linear(condition))): (b, width) -> (b, width)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.enter = initialized(nn.Linear(width, width))
        self.hear = initialized(nn.Linear(width, width))
        self.leave = initialized(nn.Linear(width, width), gain=0.0)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        return x + self.leave(F.silu(self.enter(self.norm(x)) + self.hear(condition)))


class MLP(ConditionedNetwork):
    """The network of an MLPConfig: x (b, ...) of so many features, noise_label (b,), label (b,) -> as many examples
    joined along their first axis as out_features are."""

    def __init__(self, config: MLPConfig) -> None:
        super().__init__(
            width=config.width, features=config.width, labels=config.labels, nxt=config.nxt, scale=config.scale
        )
        self.config = config
        self.enter = initialized(nn.Linear(config.features, config.width))
        self.blocks = nn.ModuleList(VectorBlock(config.width) for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.width)
        self.leave = initialized(nn.Linear(config.width, config.out_features or config.features), gain=0.0)

    def forward(
        self,
        x: Tensor,
        noise_label: Tensor,
        *,
        label: Tensor | None = None,
        noise_label_nxt: Tensor | None = None,
        scale: Tensor | None = None,
    ) -> Tensor:
        condition = self.condition(noise_label, label, noise_label_nxt=noise_label_nxt, scale=scale)
        h = self.enter(x.flatten(1))
        for block in self.blocks:
            h = block(h, condition)
        return self.leave(self.norm(h)).reshape(len(x), -1, *x.shape[2:])

    def recomputable(self) -> Iterator[nn.Module]:
        """The blocks (see `recomputing`)."""
        return iter(self.blocks)
