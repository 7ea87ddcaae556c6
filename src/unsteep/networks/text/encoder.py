"""From pieces of text to tokens that a network looks at by cross-attention.

A `TextEncoder` turns the numbers of a `Vocabulary` into vectors: a transformer (Vaswani et al. 2017) with learned
positions, and with the normalization before each branch (Xiong et al. 2020). No real position ever looks at padding,
and what comes out at padding is 0.

A prompt without a valid token is no text: there a network hears a learned null, which `NullText` adds, the same way
for tokens of any encoder.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unsteep.networks.checks import check_at_least, check_depth, check_filled
from unsteep.networks.forward_mode import attended
from unsteep.networks.initialization import initialized


@dataclass(frozen=True, kw_only=True)
class TextEncoderConfig:
    """A TextEncoder, before it is built. A wrong field is a ValueError that begins with the field's name."""

    pieces: int = 0
    """Length of the vocabulary, padding and unknown included; 0: filled from the data."""
    limit: int = 64
    """The most positions of a prompt."""
    width: int = 128
    """Features of a token."""
    depth: int = 2
    """Number of blocks of attention and MLP."""
    heads: int = 4
    """Heads of attention; they divide the width."""

    def __post_init__(self) -> None:
        check_at_least(0, pieces=self.pieces)
        check_depth(0, depth=self.depth)
        check_at_least(1, limit=self.limit, width=self.width, heads=self.heads)
        if self.width % self.heads:
            raise ValueError(f"heads: expected a divisor of width={self.width}, got {self.heads}")

    def build(self) -> TextEncoder:
        """The untrained encoder; ValueError if `pieces` is still to be filled from the data."""
        check_filled(pieces=self.pieces)
        return TextEncoder(self)


class TextBlock(nn.Module):
    """h + attention(norm(h)), then h + MLP(norm(h)): (b, length, width) -> (b, length, width)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width)
        self.to_qkv = initialized(nn.Linear(width, 3 * width))
        self.to_out = initialized(nn.Linear(width, width), gain=0.0)
        self.norm2 = nn.LayerNorm(width)
        self.widen = initialized(nn.Linear(width, 4 * width))
        self.narrow = initialized(nn.Linear(4 * width, width), gain=0.0)

    def forward(self, h: Tensor, looks_at: Tensor) -> Tensor:
        """`looks_at` bool (b, 1, length, length): which position (column) a position (row) looks at."""
        query, key, value = self.to_qkv(self.norm1(h)).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        heard = attended(query, key, value, looks_at)
        h = h + self.to_out(heard.transpose(1, 2).flatten(2))
        return h + self.narrow(F.gelu(self.widen(self.norm2(h))))


class TextEncoder(nn.Module):
    """Ids of a vocabulary -> one vector for each piece; trained together with the network that looks at them."""

    def __init__(self, config: TextEncoderConfig) -> None:
        super().__init__()
        self.pieces = nn.Embedding(config.pieces, config.width)
        self.positions = nn.Embedding(config.limit, config.width)
        self.blocks = nn.ModuleList(TextBlock(config.width, config.heads) for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.width)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Ids int64 (b, length) and mask bool (b, length) -> tokens (b, length, width), 0 where the mask is False.

        Raises ValueError for more positions than the encoder's limit.
        """
        length, limit = ids.shape[1], self.positions.num_embeddings
        if length > limit:
            raise ValueError(
                f"ids: expected at most {limit} positions, got {length}; encode prompts with limit={limit}"
            )
        h = self.pieces(ids) + self.positions.weight[:length]
        # Every position looks at itself, too, so that padding and empty prompts have something to look at.
        looks_at = mask[:, None, None, :] | torch.eye(length, dtype=torch.bool, device=ids.device)
        for block in self.blocks:
            h = block(h, looks_at)
        return self.norm(h).masked_fill(~mask[:, :, None], 0.0)

    def recomputable(self) -> Iterator[nn.Module]:
        """The blocks (see `recomputing`)."""
        return iter(self.blocks)


class NullText(nn.Module):
    """A learned token before all others, which counts only where no other does: what "no text" says."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.randn(width))

    def forward(self, tokens: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens (b, length, width) and mask (b, length) -> (b, 1 + length, width) and (b, 1 + length).

        Every row of the new mask has a True: attention over it is defined, whatever was dropped.
        """
        null = self.token.to(tokens.dtype).expand(len(tokens), 1, -1)
        return torch.cat([null, tokens], dim=1), torch.cat([~mask.any(1, keepdim=True), mask], dim=1)
