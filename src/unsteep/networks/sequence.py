"""A small transformer for sequences (b, frames, features), in which padding counts for nothing.

Each frame becomes a token through one linear layer, plus sines and cosines of its place. One more token stands before
them, the sum of the embeddings of noise label and class, and, where text is heard, one for each of its tokens (see
`cross_attention`), which all others look at. Then `depth` blocks, each of them

    h = h + attention(norm(h)),    h = h + mlp(norm(h))        (Vaswani et al. 2017; norm first as in Xiong et al. 2020)

and a norm and a linear layer that starts at zero: the untrained network answers 0. No token looks at a frame where
`valid` (b, frames) is False, and what comes out there is 0.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unsteep.core.arguments import checked
from unsteep.core.protocols import Hears, Space
from unsteep.networks.checks import check_at_least, check_depth, check_filled, check_width
from unsteep.networks.cross_attention import AnyText, Tokens
from unsteep.networks.embedding import ConditionedNetwork, sinusoidal
from unsteep.networks.fitting import axes_of, check_heard, labels_of, text_of
from unsteep.networks.forward_mode import attended
from unsteep.networks.initialization import initialized


@dataclass(frozen=True, kw_only=True)
class SequenceConfig:
    """A transformer for sequences, before it is built. A wrong field is a ValueError that begins with its name."""

    features: int = 0
    """Numbers of a frame; 0: filled from the data."""
    outputs: int = 1
    """Sequences in the answer, joined along the frames: 2 where a variance is learned."""
    labels: int = 0
    """Number of classes; 0: no labels."""
    width: int = 128
    """Features of a token; even, and a multiple of `heads`."""
    depth: int = 4
    """Number of blocks."""
    heads: int = 4
    """Heads of attention."""
    text: AnyText | None = None
    """The text encoder; none: filled where text is heard."""
    dropout: float = 0.0
    """Share of features dropped in each branch while training."""
    nxt: bool = False
    """Whether it hears where a step ends, as a map does; filled from the objective."""
    scale: bool = False
    """Whether it hears the scale of guidance; filled from the objective."""

    def __post_init__(self) -> None:
        checked(self)
        check_at_least(0, features=self.features, labels=self.labels)
        check_at_least(1, outputs=self.outputs, heads=self.heads)
        check_depth(depth=self.depth)
        check_width(self.width)
        if self.width % self.heads:
            raise ValueError(f"heads: expected a divisor of width {self.width}, got {self.heads}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout: expected a share in [0, 1), got {self.dropout}")

    def fitted(self, space: Space, outputs: int, heard: Mapping[str, Hears]) -> Self:
        """For sequences (frames, features) of any length, and their classes."""
        _, features = axes_of(space, 2, "a transformer for sequences takes (frames, features)")
        check_heard(heard, ("label", "prompt", "length", "nxt", "guidance"), "a transformer for sequences")
        sizes = {"features": features, "outputs": outputs, "labels": labels_of(heard)}
        return replace(self, **sizes, text=text_of(self.text, heard), nxt="nxt" in heard, scale="guidance" in heard)

    def build(self) -> SequenceTransformer:
        """The untrained network; ValueError if `features` is still to be filled from the data."""
        check_filled(features=self.features)
        return SequenceTransformer(self)


class SequenceBlock(nn.Module):
    """One block (see the module): (b, tokens, width) -> the same. `looks_at` bool (b, 1, 1, tokens)."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.to_qkv = initialized(nn.Linear(width, 3 * width))
        self.to_out = initialized(nn.Linear(width, width), gain=0.0)
        self.widen = initialized(nn.Linear(width, 4 * width))
        self.narrow = initialized(nn.Linear(4 * width, width), gain=0.0)
        self.dropout = nn.Dropout(dropout)

    def forward(self, h: Tensor, looks_at: Tensor | None) -> Tensor:
        query, key, value = self.to_qkv(self.norm1(h)).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        heard = attended(query, key, value, looks_at)
        h = h + self.dropout(self.to_out(heard.transpose(1, 2).flatten(2)))
        return h + self.dropout(self.narrow(F.gelu(self.widen(self.norm2(h)))))


class SequenceTransformer(ConditionedNetwork):
    """The network of a SequenceConfig: x (b, frames, features), noise_label (b,), label (b,), text as `TextInput` takes
    it, valid bool (b, frames) -> (b, outputs * frames, features)."""

    def __init__(self, config: SequenceConfig) -> None:
        width = config.width
        super().__init__(
            width=width,
            features=width,
            labels=config.labels,
            text=config.text,
            nxt=config.nxt,
            scale=config.scale,
        )
        self.config = config
        self.enter = initialized(nn.Linear(config.features, width))
        self.read = None if self.text is None else initialized(nn.Linear(self.text.width, width))
        self.blocks = nn.ModuleList(SequenceBlock(width, config.heads, config.dropout) for _ in range(config.depth))
        self.norm = nn.LayerNorm(width)
        self.leave = initialized(nn.Linear(width, config.outputs * config.features), gain=0.0)

    def forward(
        self,
        x: Tensor,
        noise_label: Tensor,
        *,
        label: Tensor | None = None,
        text: Tensor | None = None,
        text_valid: Tensor | None = None,
        valid: Tensor | None = None,
        noise_label_nxt: Tensor | None = None,
        scale: Tensor | None = None,
    ) -> Tensor:
        condition = self.condition(noise_label, label, noise_label_nxt=noise_label_nxt, scale=scale)
        assert condition is not None
        if valid is not None:
            x = torch.where(valid[..., None], x, 0)  # even a number that is none, times a weight of 0, would be one
        before, looks_at = self._before(condition, self.tokens(text, text_valid, len(x)), valid, x.shape[1])
        exact = torch.promote_types(self.enter.weight.dtype, torch.float32)
        places = sinusoidal(torch.arange(x.shape[1], dtype=exact, device=x.device), self.config.width)
        h = torch.cat([before, self.enter(x) + places.to(self.enter.weight.dtype)], 1)
        for block in self.blocks:
            h = block(h, looks_at)
        answer = self.leave(self.norm(h[:, before.shape[1] :]))
        if valid is not None:
            answer = torch.where(valid[..., None], answer, 0)
        return torch.cat(answer.chunk(self.config.outputs, 2), 1)

    def _before(
        self, condition: Tensor, told: Tokens | None, valid: Tensor | None, frames: int
    ) -> tuple[Tensor, Tensor | None]:
        """The tokens before the frames (b, k, width), and what is looked at, bool (b, 1, 1, k + frames); None: all."""
        before = condition[:, None]
        if self.read is None or told is None:
            return before, None if valid is None else F.pad(valid, (1, 0), value=True)[:, None, None, :]
        tokens, there = told
        real = valid if valid is not None else there.new_ones(len(there), frames)
        looks_at = torch.cat([F.pad(there, (1, 0), value=True), real], 1)[:, None, None, :]
        return torch.cat([before, self.read(tokens.to(self.read.weight.dtype))], 1), looks_at

    def recomputable(self) -> Iterator[nn.Module]:
        """The blocks (see `recomputing`)."""
        return iter(self.blocks)
