"""The diffusion transformer of Peebles & Xie 2023 ("Scalable diffusion models with transformers"), for pictures.

A picture is cut into squares of `patch` x `patch` pixels; each becomes a token through one linear layer, plus a fixed
embedding of its row and column: sines and cosines, one half of the features for each. Then `depth` blocks and a last
linear layer, whose tokens are put together to a picture again. A block is, with the condition c of a sample
(adaLN-zero, their section 3.2),

    h = h + g1 * attention((1 + s1) norm(h) + b1)
    h = h + g2 * mlp((1 + s2) norm(h) + b2)        with    b1, s1, g1, b2, s2, g2 = linear(SiLU(c)),

where that linear layer starts at zero, so that every untrained block is the identity; norm is a LayerNorm without
weights, mlp has one hidden layer of GELU (tanh form). The last layer is preceded by the same norm, shift and scale,
and starts at zero: the untrained network answers 0. With text, cross-attention to it stands between the two, as in
Chen et al. 2023 ("PixArt-alpha", section 2.3).

    width, depth, heads   384, 12, 6 (S: 33M parameters)    768, 12, 12 (B: 130M)    1024, 24, 16 (L: 458M)
                          1152, 28, 16 (XL: 675M)           their table 1; the patch follows a slash: DiT-XL/2
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unsteep.core.arguments import checked
from unsteep.core.protocols import Hears, Space
from unsteep.networks.checks import check_at_least, check_depth, check_filled
from unsteep.networks.cross_attention import AnyText, CrossAttention, Tokens
from unsteep.networks.embedding import ConditionedNetwork, sinusoidal
from unsteep.networks.fitting import sizes_for_pictures
from unsteep.networks.forward_mode import attended
from unsteep.networks.initialization import initialized

WAVES = 256  # sines and cosines of the noise label


@dataclass(frozen=True, kw_only=True)
class DiTConfig:
    """A diffusion transformer, before it is built. A wrong field is a ValueError that begins with its name."""

    channels: int = 0
    """Channels of the pictures; 0: filled from the data."""
    size: int = 0
    """The longer side of the pictures; 0: filled from the data. Others may be given to the built network."""
    labels: int = 0
    """Number of classes; 0: no labels."""
    out_channels: int = 0
    """Channels of the output; 0: as many as `channels`."""
    patch: int = 2
    """Height and width of a patch; a divisor of `size`."""
    width: int = 384
    """Features of a token; a multiple of 4 and of `heads`."""
    depth: int = 12
    """Number of blocks."""
    heads: int = 6
    """Heads of attention."""
    mlp_ratio: int = 4
    """Features of the hidden layer of each block's MLP, in units of `width`."""
    text: AnyText | None = None
    """The encoder whose tokens cross-attention looks at: one that is trained along, or a frozen one's."""
    picture_channels: int = 0
    """Channels of an aligned picture that the network is given beside x; 0: none."""
    nxt: bool = False
    """Whether it hears where a step ends, as a map does; filled from the objective."""
    scale: bool = False
    """Whether it hears the scale of guidance; filled from the objective."""

    def __post_init__(self) -> None:
        checked(self)
        check_at_least(0, channels=self.channels, size=self.size, labels=self.labels, out_channels=self.out_channels)
        check_at_least(0, picture_channels=self.picture_channels)
        check_at_least(1, patch=self.patch, heads=self.heads, mlp_ratio=self.mlp_ratio)
        check_depth(depth=self.depth)
        if self.width < 8 or self.width % 4:
            raise ValueError(f"width: expected a multiple of 4 of at least 8 (positions need it), got {self.width}")
        if self.width % self.heads:
            raise ValueError(f"heads: expected a divisor of width {self.width}, got {self.heads}")
        if self.size % self.patch:
            raise ValueError(f"patch: expected a divisor of size {self.size}, got {self.patch}")

    def fitted(self, space: Space, outputs: int, heard: Mapping[str, Hears]) -> Self:
        """For pictures (c, h, w), and classes, text and aligned pictures that are heard."""
        sizes = sizes_for_pictures("a diffusion transformer", space, outputs, heard, self.text)
        _, height, width = space.shape
        if height % self.patch or width % self.patch:
            raise ValueError(f"patch: expected a divisor of pictures of {height} x {width}, got {self.patch}")
        return replace(self, **sizes)

    def build(self) -> "DiT":
        """The untrained network; ValueError if `channels` or `size` is still to be filled from the data."""
        check_filled(channels=self.channels, size=self.size)
        return DiT(self)


def patches(x: Tensor, patch: int) -> Tensor:
    """(b, c, h, w) -> (b, h/p * w/p, c * p * p): patches in rows from the top left, each channel by channel."""
    squares = x.unflatten(3, (-1, patch)).unflatten(2, (-1, patch))  # (b, c, rows, p, columns, p)
    return squares.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)


def from_patches(tokens: Tensor, patch: int, rows: int) -> Tensor:
    """The inverse of `patches`, for pictures of so many rows of patches."""
    squares = tokens.unflatten(2, (-1, patch, patch)).unflatten(1, (rows, -1))  # (b, rows, columns, c, p, p)
    return squares.permute(0, 3, 1, 4, 2, 5).flatten(4).flatten(2, 3)


def positions(rows: int, columns: int, width: int, like: Tensor) -> Tensor:
    """The embedding of each patch, (rows * columns, width): sines and cosines of its row, then those of its column.

    In the type and on the device of `like`, but taken in float32 at least.
    """
    exact = torch.promote_types(like.dtype, torch.float32)
    row, column = (sinusoidal(torch.arange(n, dtype=exact, device=like.device), width // 2) for n in (rows, columns))
    return torch.cat([row.repeat_interleave(columns, 0), column.repeat(rows, 1)], dim=1).to(like.dtype)


def modulated(h: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """(1 + scale) norm(h) + shift, with the mean and the deviation over features: (b, positions, width)."""
    return F.layer_norm(h, h.shape[2:], eps=1e-6) * (1 + scale) + shift


class SelfAttention(nn.Module):
    """Every position looks at every other, with several heads: (b, positions, width) -> the same."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_qkv = initialized(nn.Linear(width, 3 * width))
        self.to_out = initialized(nn.Linear(width, width))

    def forward(self, h: Tensor, looks_at: Tensor | None = None) -> Tensor:
        """`looks_at`: at which positions alone, bool (b, 1, 1, positions)."""
        query, key, value = self.to_qkv(h).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return self.to_out(attended(query, key, value, looks_at).transpose(1, 2).flatten(2))


class DiTBlock(nn.Module):
    """One block (see the module): (b, positions, width) -> the same."""

    def __init__(self, width: int, heads: int, mlp_ratio: int, text_width: int) -> None:
        super().__init__()
        self.modulation = initialized(nn.Linear(width, 6 * width), gain=0.0)
        self.attention = SelfAttention(width, heads)
        self.cross = CrossAttention(width, text_width, heads) if text_width else None
        self.widen = initialized(nn.Linear(width, mlp_ratio * width))
        self.narrow = initialized(nn.Linear(mlp_ratio * width, width))

    def forward(self, h: Tensor, condition: Tensor, text: Tokens | None, looks_at: Tensor | None = None) -> Tensor:
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(condition)[:, None].chunk(6, dim=2)
        h = h + gate1 * self.attention(modulated(h, shift1, scale1), looks_at)
        if self.cross is not None:
            h = self.cross(h, text)
        return h + gate2 * self.narrow(F.gelu(self.widen(modulated(h, shift2, scale2)), approximate="tanh"))


class DiT(ConditionedNetwork):
    """The network of a DiTConfig: x (b, channels, h, w), noise_label (b,), conditions -> (b, out_channels, h, w).

    Conditions as in `networks`. Any h and w that are multiples of the patch will do; ValueError for others.
    """

    def __init__(self, config: DiTConfig) -> None:
        width, area = config.width, config.patch**2
        super().__init__(
            width=WAVES,
            features=width,
            labels=config.labels,
            text=config.text,
            picture_channels=config.picture_channels,
            nxt=config.nxt,
            scale=config.scale,
        )
        self.config = config
        text_width = config.text.width if config.text else 0
        self.enter = initialized(nn.Linear((config.channels + config.picture_channels) * area, width))
        self.blocks = nn.ModuleList(
            DiTBlock(width, config.heads, config.mlp_ratio, text_width) for _ in range(config.depth)
        )
        self.modulation = initialized(nn.Linear(width, 2 * width), gain=0.0)
        self.leave = initialized(nn.Linear(width, (config.out_channels or config.channels) * area), gain=0.0)

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
        patch = self.config.patch
        if x.shape[2] % patch or x.shape[3] % patch:
            raise ValueError(f"x: expected a height and width in multiples of patch={patch}, got {tuple(x.shape[2:])}")
        rows, columns = x.shape[2] // patch, x.shape[3] // patch
        condition = self.condition(noise_label, label, picture, picture_logsnr, noise_label_nxt, scale)
        assert condition is not None
        tokens = self.tokens(text, text_valid, len(x))
        h = self.enter(patches(self.beside(x, picture), patch))
        # In the type of x: under autocast the sum, and with it the stream of all blocks, is float32.
        h = h + positions(rows, columns, self.config.width, x)
        for block in self.blocks:
            h = block(h, condition, tokens)
        shift, factor = self.modulation(condition)[:, None].chunk(2, dim=2)
        return from_patches(self.leave(modulated(h, shift, factor)), patch, rows)

    def recomputable(self) -> Iterator[nn.Module]:
        """The blocks (see `recomputing`)."""
        return iter(self.blocks)
