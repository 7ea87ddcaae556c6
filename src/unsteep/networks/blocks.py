"""The blocks of the U-Net of Ho et al. 2020: residual blocks, attention, and the levels made of them.

Pictures are (b, c, h, w); `condition` is (b, features), already through its SiLU, or None; `text`, the tokens that
cross-attention looks at, or None. Every block normalizes first (GroupNorm with eps 1e-6) and ends in a layer that
starts at zero. A residual block h(x), beside its shortcut, is

    Ho's         conv(SiLU(norm(conv(SiLU(norm(x))) + W c)))                           the condition c is added
    modulated    gate conv(SiLU(conv((1 + scale) norm(x) + shift)))                    scale, shift, gate = W c

A norm takes each group's mean out again. What was added before it is heard in how channels of one group differ, and
where a group is one channel, not at all: such a block is `deaf`. What scales and shifts after it is always heard.

Submodules carry the names of the `UNet2DModel` of diffusers, the commonest store of this network, so that a state
dict needs no translation.
"""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unsteep.networks.cross_attention import CrossAttention, Tokens
from unsteep.networks.forward_mode import attended, in_forward_mode
from unsteep.networks.initialization import initialized
from unsteep.networks.recomputing import cheap

# Up to so many positions a CPU forms the whole (positions, positions) table: two batched products are as fast as the
# fused kernel in float32 and twice as fast in bf16. Beyond, memory counts for more.
PRODUCTS_UP_TO = 1024


def group_norm(groups: int, channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(groups, channels, eps=1e-6)


def conv3(channels_in: int, channels: int, *, gain: float = 1.0) -> nn.Conv2d:
    """A 3 x 3 convolution that keeps the size."""
    return initialized(nn.Conv2d(channels_in, channels, 3, padding=1), gain)


class ResidualBlock(nn.Module):
    """Two convolutions with the condition added between, plus the input (projected where the channels change). The
    input is x, with `beside` as further channels if it is given."""

    def __init__(
        self, channels_in: int, channels: int, *, condition_features: int, groups: int, dropout: float
    ) -> None:
        super().__init__()
        self.norm1 = group_norm(groups, channels_in)
        self.conv1 = conv3(channels_in, channels)
        self.time_emb_proj = initialized(nn.Linear(condition_features, channels)) if condition_features else None
        self.norm2 = group_norm(groups, channels)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = conv3(channels, channels, gain=0.0)
        self.conv_shortcut = (
            nn.Identity() if channels_in == channels else initialized(nn.Conv2d(channels_in, channels, 1))
        )

    @property
    def deaf(self) -> bool:
        """Whether the second norm removes all that the condition adds: its groups are single channels."""
        return self.time_emb_proj is not None and self.norm2.num_groups == self.norm2.num_channels

    def forward(self, x: Tensor, condition: Tensor | None, *beside: Tensor) -> Tensor:
        shortcut = cheap(self, lambda *x: self.conv_shortcut(joined(*x)), x, *beside)  # first, so its gradient is last
        h = cheap(self, lambda *x: self.conv1(cheap(self, self._first, *x)), x, *beside)
        if self.time_emb_proj is not None:
            h = h + self.time_emb_proj(condition)[:, :, None, None]
        h = cheap(self, lambda h: self.conv2(self.dropout(cheap(self, self._second, h))), h)
        return shortcut + h

    def _first(self, *x: Tensor) -> Tensor:
        return F.silu(self.norm1(joined(*x)))

    def _second(self, h: Tensor) -> Tensor:
        return F.silu(self.norm2(h))


def joined(x: Tensor, *beside: Tensor) -> Tensor:
    """x with what stands beside it as further channels."""
    return torch.cat([x, *beside], dim=1) if beside else x


class ModulatedBlock(nn.Module):
    """Two convolutions after a norm that the condition scales and shifts, what they say gated by it, plus the input
    (projected where the channels change). As the blocks of Peebles & Xie 2023, with convolutions."""

    def __init__(
        self, channels_in: int, channels: int, *, condition_features: int, groups: int, dropout: float
    ) -> None:
        super().__init__()
        self.sizes = (channels_in, channels_in, channels)  # of scale, shift and gate
        self.norm = nn.GroupNorm(groups, channels_in, eps=1e-6, affine=not condition_features)
        self.modulation = (
            initialized(nn.Linear(condition_features, sum(self.sizes)), gain=0.0) if condition_features else None
        )
        self.conv1 = conv3(channels_in, channels)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = conv3(channels, channels, gain=1.0 if condition_features else 0.0)
        self.conv_shortcut = (
            nn.Identity() if channels_in == channels else initialized(nn.Conv2d(channels_in, channels, 1))
        )

    def forward(self, x: Tensor, condition: Tensor | None, *beside: Tensor) -> Tensor:
        shortcut = cheap(self, lambda *x: self.conv_shortcut(joined(*x)), x, *beside)
        if self.modulation is None:
            h = cheap(self, lambda *x: self.conv1(self.norm(joined(*x))), x, *beside)
        else:
            scale, shift, gate = self.modulation(condition)[:, :, None, None].split(self.sizes, dim=1)
            h = cheap(self, lambda *x: self.conv1(cheap(self, self._modulated, *x)), scale, shift, x, *beside)
        h = cheap(self, lambda h: self.conv2(self.dropout(F.silu(h))), h)
        return shortcut + h if self.modulation is None else torch.addcmul(shortcut, h, gate)

    def _modulated(self, scale: Tensor, shift: Tensor, *x: Tensor) -> Tensor:
        h = self.norm(joined(*x))
        return torch.addcmul(h + shift, h, scale)


BLOCKS = {"ddpm": ResidualBlock, "modulated": ModulatedBlock}


def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """softmax(query key^T / sqrt(c)) value, one head: (b, positions, c) each and out."""
    if query.device.type == "cpu" and query.shape[1] <= PRODUCTS_UP_TO and not in_forward_mode():
        scores = (query * query.shape[2] ** -0.5) @ key.transpose(1, 2)
        return scores.softmax(dim=2) @ value
    return attended(query[:, None], key[:, None], value[:, None])[:, 0]


class Attention(nn.Module):
    """Every position looks at every other: single-head self-attention, plus the input; then `cross`, if any."""

    def __init__(self, channels: int, groups: int, cross: CrossAttention | None = None) -> None:
        super().__init__()
        self.group_norm = group_norm(groups, channels)
        self.to_q = initialized(nn.Linear(channels, channels))
        self.to_k = initialized(nn.Linear(channels, channels))
        self.to_v = initialized(nn.Linear(channels, channels))
        self.to_out = nn.Sequential(initialized(nn.Linear(channels, channels), gain=0.0))
        self.cross = cross

    def forward(self, x: Tensor, text: Tokens | None = None) -> Tensor:
        heard = cheap(self, self._heard, x)
        x = x + heard.transpose(1, 2).unflatten(2, x.shape[2:])
        if self.cross is None:
            return x
        return self.cross(x.flatten(2).transpose(1, 2), text).transpose(1, 2).unflatten(2, x.shape[2:])

    def _heard(self, x: Tensor) -> Tensor:
        """What each position hears from the others, (b, positions, c)."""
        positions = self.group_norm(x).flatten(2).transpose(1, 2).contiguous()  # once, and not for each of the three
        return self.to_out(attend(self.to_q(positions), self.to_k(positions), self.to_v(positions)))


class NoAttention(nn.Module):
    """The identity, where no attention stands."""

    def forward(self, x: Tensor, text: Tokens | None = None) -> Tensor:
        return x


class Downsample(nn.Module):
    """Half the size: a convolution of stride 2, with one row and column of zeros at the bottom and the right only."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = initialized(nn.Conv2d(channels, channels, 3, stride=2))

    def forward(self, x: Tensor) -> Tensor:
        return cheap(self, lambda x: self.conv(F.pad(x, (0, 1, 0, 1))), x)


class Upsample(nn.Module):
    """Twice the size: every pixel becomes four, then a convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = conv3(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return cheap(self, lambda x: self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest")), x)


class DownLevel(nn.Module):
    """One size of the encoder; returns what came out of each block and, at the end, of the down-sampler if any.

    `attentions` has one entry for each block: an Attention, or a NoAttention.
    """

    def __init__(
        self, resnets: Iterable[nn.Module], attentions: Iterable[nn.Module], downsample: Downsample | None
    ) -> None:
        super().__init__()
        self.attentions = nn.ModuleList(attentions)
        self.resnets = nn.ModuleList(resnets)
        self.downsamplers = nn.ModuleList([downsample] if downsample else [])

    def forward(self, x: Tensor, condition: Tensor | None, text: Tokens | None = None) -> list[Tensor]:
        outputs = []
        for resnet, attention in zip(self.resnets, self.attentions, strict=True):
            x = attention(resnet(x, condition), text)
            outputs.append(x)
        return outputs + [downsample(x) for downsample in self.downsamplers]


class Middle(nn.Module):
    """The smallest size: two residual blocks around one attention (or none)."""

    def __init__(self, resnets: Iterable[nn.Module], attention: nn.Module) -> None:
        super().__init__()
        self.attentions = nn.ModuleList([attention])
        self.resnets = nn.ModuleList(resnets)

    def forward(self, x: Tensor, condition: Tensor | None, text: Tokens | None = None) -> Tensor:
        x = self.resnets[0](x, condition)
        return self.resnets[1](self.attentions[0](x, text), condition)


class UpLevel(nn.Module):
    """One size of the decoder; each block takes the last of `skips` beside its input, if there are any."""

    def __init__(
        self, resnets: Iterable[nn.Module], attentions: Iterable[nn.Module], upsample: Upsample | None
    ) -> None:
        super().__init__()
        self.attentions = nn.ModuleList(attentions)
        self.resnets = nn.ModuleList(resnets)
        self.upsamplers = nn.ModuleList([upsample] if upsample else [])

    def forward(self, x: Tensor, skips: list[Tensor], condition: Tensor | None, text: Tokens | None = None) -> Tensor:
        for resnet, attention in zip(self.resnets, self.attentions, strict=True):
            x = attention(resnet(x, condition, *([skips.pop()] if skips else [])), text)
        for upsample in self.upsamplers:
            x = upsample(x)
        return x
