"""The U-Net of Ho et al. 2020 ("Denoising diffusion probabilistic models", appendix B), for pictures.

A convolution; an encoder of levels, each `blocks` residual blocks at half the size of the level before; a middle;
a decoder of the same levels in reverse, with one block more, each block reading one output of the encoder beside
its own input: the first convolution's, every block's and every down-sampler's, last first. Attention stands after
each block of the levels whose feature maps have a size listed in `attention`, and in the middle; with text, every
attention is followed by cross-attention to it. Initialization as theirs: see `initialization`; the untrained network
answers 0.

`UNetConfig(channels=3, size=32, dropout=0.1)` is their CIFAR-10 network: 35,746,307 parameters, and a state dict with
the names and shapes of the published google/ddpm-cifar10-32.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unsteep.core.arguments import checked
from unsteep.core.protocols import Hears, Space
from unsteep.networks.blocks import (
    BLOCKS,
    Attention,
    DownLevel,
    Downsample,
    Middle,
    NoAttention,
    UpLevel,
    Upsample,
    conv3,
    group_norm,
)
from unsteep.networks.checks import check_at_least, check_depth, check_filled, check_levels, check_width, groups_of
from unsteep.networks.cross_attention import AnyText, CrossAttention
from unsteep.networks.embedding import ConditionedNetwork
from unsteep.networks.fitting import sizes_for_pictures
from unsteep.networks.recomputing import cheap


@dataclass(frozen=True, kw_only=True)
class UNetConfig:
    """A U-Net, before it is built. A wrong field is a ValueError that begins with the field's name."""

    channels: int = 0
    """Channels of the pictures; 0: filled from the data."""
    size: int = 0
    """The longer side of the pictures, any; 0: filled from the data. Others may be given to the built network."""
    labels: int = 0
    """Number of classes; 0: no labels."""
    out_channels: int = 0
    """Channels of the output; 0: as many as `channels`."""
    width: int = 128
    """Channels of the first level at multiplier 1, and number of sines and cosines of the noise label."""
    multipliers: tuple[int, ...] = (1, 2, 2, 2)
    """Channels of each level in units of `width`; each level is half the size of the one before."""
    blocks: int = 2
    """Residual blocks of a level of the encoder; the decoder's levels have one more."""
    attention: tuple[int, ...] | Literal["auto"] = (16,)
    """Sizes, along the longer side, of the feature maps with attention, among `level_sizes`; auto: all up to 16."""
    groups: int | None = None
    """Groups of every GroupNorm, a divisor of `width`; none: at most 32, of four channels at least."""
    block: Literal["ddpm", "modulated"] = "ddpm"
    """How blocks hear conditions: added before a norm, as Ho's, or as scale, shift and gate after it (see `blocks`)."""
    stem: int = 1
    """Squares of so many pixels a side become the channels of one before the first convolution, and come out of the
    last (Shi et al. 2016): the first level is smaller by as much."""
    dropout: float = 0.0
    """Share of features dropped in each residual block while training."""
    skip_connections: bool = True
    """False, for studies: the decoder does not read the encoder."""
    time_embedding: bool = True
    """False, for studies: the network is deaf to the noise label."""
    middle_attention: bool = True
    """False, for studies: no attention in the middle."""
    text: AnyText | None = None
    """The encoder whose tokens cross-attention looks at: one that is trained along, or a frozen one's."""
    text_heads: int = 4
    """Heads of the cross-attention; a divisor of `width`."""
    picture_channels: int = 0
    """Channels of an aligned picture that the network is given beside x; 0: none."""
    nxt: bool = False
    """Whether it hears where a step ends, as a map does; filled from the objective."""
    scale: bool = False
    """Whether it hears the scale of guidance; filled from the objective."""

    def __post_init__(self) -> None:
        checked(self)
        check_at_least(0, channels=self.channels, size=self.size, labels=self.labels, out_channels=self.out_channels)
        check_width(self.width)
        check_at_least(0, picture_channels=self.picture_channels)
        check_depth(blocks=self.blocks)
        check_at_least(1, groups=self.norm_groups, stem=self.stem, text_heads=self.text_heads)
        check_levels(self.multipliers)
        if self.width % self.norm_groups:
            raise ValueError(
                f"groups: expected a divisor of width {self.width}, got {self.norm_groups}; change either one"
            )
        if self.text and self.width % self.text_heads:
            raise ValueError(f"text_heads: expected a divisor of width {self.width}, got {self.text_heads}")
        if self.text and self.attention == () and not self.middle_attention:
            raise ValueError("text: expected attention to stand somewhere, got none; add a size to `attention`")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout: expected a share in [0, 1), got {self.dropout}")
        if self.size:
            for asked in () if self.attention == "auto" else self.attention:
                if asked not in self.level_sizes:
                    there_are = ", ".join(map(str, self.level_sizes))
                    raise ValueError(f"attention: expected sizes among {there_are}, got {asked}; [] is none at all")

    @property
    def norm_groups(self) -> int:
        """Groups of every GroupNorm."""
        return groups_of(self.width) if self.groups is None else self.groups

    @property
    def multiple(self) -> int:
        """Pictures are padded to a multiple of this, so that every level halves exactly."""
        return self.stem * 2 ** (len(self.multipliers) - 1)

    @property
    def level_sizes(self) -> tuple[int, ...]:
        """Size of each level's feature maps, largest first: that of the padded picture, halved and halved again."""
        padded = self.size + -self.size % self.multiple
        return tuple(padded // self.stem >> level for level in range(len(self.multipliers)))

    @property
    def attended(self) -> tuple[int, ...]:
        """Sizes of the feature maps with attention."""
        return tuple(size for size in self.level_sizes if size <= 16) if self.attention == "auto" else self.attention

    def fitted(self, space: Space, outputs: int, heard: Mapping[str, Hears]) -> Self:
        """For pictures (c, h, w), and classes, text and aligned pictures that are heard."""
        return replace(self, **sizes_for_pictures("a U-Net", space, outputs, heard, self.text))

    def build(self) -> "UNet":
        """The untrained network; ValueError if `channels` or `size` is still to be filled from the data."""
        check_filled(channels=self.channels, size=self.size)
        return UNet(self)


def mirrored(x: Tensor, multiple: int) -> Tensor:
    """(b, c, h, w) with h and w grown to a multiple, on the bottom and the right, by reflection at the edge.

    Reflection keeps the noise in the margin as white as it is inside, which repeating the edge would not.
    """
    for axis in (2, 3):
        size = x.shape[axis]
        if size % multiple:
            there_and_back = torch.arange(size + -size % multiple, device=x.device) % (2 * size)
            x = x.index_select(axis, torch.minimum(there_and_back, 2 * size - 1 - there_and_back))
    return x


class UNet(ConditionedNetwork):
    """The network of a UNetConfig: x (b, channels, h, w), noise_label (b,), conditions -> (b, out_channels, h, w).

    Conditions as in `networks`. Any h and w will do; attention stays at the levels that have it at the config's `size`.
    """

    def __init__(self, config: UNetConfig) -> None:
        width, groups, area = config.width, config.norm_groups, config.stem**2
        super().__init__(
            width=width,
            features=4 * width,
            labels=config.labels,
            time_embedding=config.time_embedding,
            text=config.text,
            picture_channels=config.picture_channels,
            nxt=config.nxt,
            scale=config.scale,
        )
        self.config = config
        block = partial(
            BLOCKS[config.block], condition_features=self.condition_features, groups=groups, dropout=config.dropout
        )

        def attention(channels: int, stands: bool) -> nn.Module:
            if not stands:
                return NoAttention()
            cross = CrossAttention(channels, config.text.width, config.text_heads) if config.text else None
            return Attention(channels, groups, cross)

        level_channels = [width * multiplier for multiplier in config.multipliers]
        attends = [size in config.attended for size in config.level_sizes]
        last = len(level_channels) - 1

        self.conv_in = conv3((config.channels + config.picture_channels) * area, width)
        skips = [width]  # channels of all that the decoder will read
        self.down_blocks = nn.ModuleList()
        for level, channels in enumerate(level_channels):
            resnets = [block(skips[-1] if i == 0 else channels, channels) for i in range(config.blocks)]
            attentions = [attention(channels, attends[level]) for _ in resnets]
            downsample = Downsample(channels) if level < last else None
            self.down_blocks.append(DownLevel(resnets, attentions, downsample))
            skips += [channels] * (config.blocks + (level < last))

        channels = level_channels[last]
        self.mid_block = Middle(
            [block(channels, channels), block(channels, channels)], attention(channels, config.middle_attention)
        )

        self.up_blocks = nn.ModuleList()
        before = channels
        for level, channels in reversed(list(enumerate(level_channels))):
            inputs = [before] + [channels] * config.blocks
            if config.skip_connections:
                inputs = [entering + skips.pop() for entering in inputs]
            resnets = [block(entering, channels) for entering in inputs]
            attentions = [attention(channels, attends[level]) for _ in resnets]
            self.up_blocks.append(UpLevel(resnets, attentions, Upsample(channels) if level > 0 else None))
            before = channels

        self.conv_norm_out = group_norm(groups, before)
        self.conv_out = conv3(before, (config.out_channels or config.channels) * area, gain=0.0)

    def forward(
        self,
        x: Tensor,
        noise_label: Tensor,
        *,
        label: Tensor | None = None,
        text: Tensor | None = None,
        text_valid: Tensor | None = None,
        picture: Tensor | None = None,
        picture_logsnr: Tensor | None = None,
        noise_label_nxt: Tensor | None = None,
        scale: Tensor | None = None,
    ) -> Tensor:
        condition = self.condition(noise_label, label, picture, picture_logsnr, noise_label_nxt, scale)
        tokens = self.tokens(text, text_valid, len(x))
        h = self.conv_in(F.pixel_unshuffle(mirrored(self.beside(x, picture), self.config.multiple), self.config.stem))
        skips = [h]
        for level in self.down_blocks:
            skips += level(skips[-1], condition, tokens)
        h = self.mid_block(skips[-1], condition, tokens)
        if not self.config.skip_connections:
            skips = []
        for level in self.up_blocks:
            h = level(h, skips, condition, tokens)
        h = cheap(self, lambda h: self.conv_out(F.silu(self.conv_norm_out(h))), h)
        h = F.pixel_shuffle(h, self.config.stem)
        return h[:, :, : x.shape[2], : x.shape[3]]

    def recomputable(self) -> Iterator[nn.Module]:
        """The blocks (see `recomputing`)."""
        return (block for block in self.modules() if isinstance(block, (*BLOCKS.values(), Attention)))
