"""The encoder half of the U-Net with a linear head: pictures to logits, as the classifier of Dhariwal & Nichol 2021.

A convolution, the levels of the encoder, the middle; then GroupNorm, SiLU, the mean over all positions, and one linear
layer that starts at zero, so that the untrained network holds all classes equally likely.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Self

import torch.nn.functional as F
from torch import Tensor, nn

from unsteep.core.arguments import checked
from unsteep.core.protocols import Space
from unsteep.networks.blocks import (
    Attention,
    DownLevel,
    Downsample,
    Middle,
    NoAttention,
    ResidualBlock,
    conv3,
    group_norm,
)
from unsteep.networks.checks import check_at_least, check_depth, check_filled, check_levels, check_width, groups_of
from unsteep.networks.embedding import ConditionedNetwork
from unsteep.networks.fitting import axes_of
from unsteep.networks.initialization import initialized
from unsteep.networks.unet import mirrored


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """An encoder before it is built; its fields as those of `UNetConfig`. `classes`: how many logits."""

    channels: int = 0
    classes: int = 0
    width: int = 32
    multipliers: tuple[int, ...] = (1, 2, 2)
    blocks: int = 1
    groups: int | None = None
    dropout: float = 0.1
    middle_attention: bool = True

    def __post_init__(self) -> None:
        checked(self)
        check_at_least(0, channels=self.channels, classes=self.classes)
        check_width(self.width)
        check_depth(blocks=self.blocks)
        check_at_least(1, groups=self.norm_groups)
        check_levels(self.multipliers)
        if self.width % self.norm_groups:
            raise ValueError(
                f"groups: expected a divisor of width {self.width}, got {self.norm_groups}; change either one"
            )

    @property
    def norm_groups(self) -> int:
        """Groups of every GroupNorm."""
        return groups_of(self.width) if self.groups is None else self.groups

    def fitted(self, space: Space, outputs: int, heard: Mapping[str, Any]) -> Self:
        """For pictures (c, h, w), and the classes that it tells apart."""
        channels, _, _ = axes_of(space, 3, "a classifier's encoder takes pictures")
        return replace(self, channels=channels, classes=len(heard["label"].names))

    def build(self) -> "Encoder":
        """The untrained network; ValueError if `channels` or `classes` is still to be filled from the data."""
        check_filled(channels=self.channels, classes=self.classes)
        return Encoder(self)


class Encoder(ConditionedNetwork):
    """x (b, channels, h, w), noise_label (b,) -> logits (b, classes)."""

    def __init__(self, config: EncoderConfig) -> None:
        width, groups = config.width, config.norm_groups
        super().__init__(width=width, features=4 * width, labels=0)
        self.multiple = 2 ** (len(config.multipliers) - 1)
        block = partial(
            ResidualBlock, condition_features=self.condition_features, groups=groups, dropout=config.dropout
        )
        self.conv_in = conv3(config.channels, width)
        self.down_blocks = nn.ModuleList()
        before, last = width, len(config.multipliers) - 1
        for level, channels in enumerate(width * multiplier for multiplier in config.multipliers):
            resnets = [block(before if i == 0 else channels, channels) for i in range(config.blocks)]
            downsample = Downsample(channels) if level < last else None
            self.down_blocks.append(DownLevel(resnets, [NoAttention() for _ in resnets], downsample))
            before = channels
        attention = Attention(before, groups) if config.middle_attention else NoAttention()
        self.mid_block = Middle([block(before, before), block(before, before)], attention)
        self.norm_out = group_norm(groups, before)
        self.head = initialized(nn.Linear(before, config.classes), gain=0.0)

    def forward(self, x: Tensor, noise_label: Tensor) -> Tensor:
        condition = self.condition(noise_label, None)
        h = self.conv_in(mirrored(x, self.multiple))
        for level in self.down_blocks:
            h = level(h, condition)[-1]
        h = F.silu(self.norm_out(self.mid_block(h, condition)))
        return self.head(h.mean((2, 3)))

    def recomputable(self) -> Iterator[nn.Module]:
        """The blocks (see `recomputing`)."""
        return (block for block in self.modules() if isinstance(block, ResidualBlock | Attention))
