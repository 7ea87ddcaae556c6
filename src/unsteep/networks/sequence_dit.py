"""The diffusion transformer of Peebles & Xie 2023 for sequences (b, frames, features), in which padding counts for
nothing; with text, cross-attention to its tokens in every block (Chen et al. 2023, section 2.3).

Each frame becomes a token through one linear layer, plus sines and cosines of its place, and those of which share of
the sequence lies before it, through another. The blocks are those of `dit`; what modulates them is the sum of the
embeddings of noise label, class, the number of frames, and the mean of the text's tokens. So every frame hears at once
how noisy it is and what is asked for, where a `SequenceTransformer` has to look for it.
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
from unsteep.networks.dit import WAVES, DiTBlock, modulated
from unsteep.networks.embedding import ConditionedNetwork, TimeEmbedding, sinusoidal
from unsteep.networks.fitting import axes_of, check_heard, labels_of, text_of
from unsteep.networks.initialization import initialized


@dataclass(frozen=True, kw_only=True)
class SequenceDiTConfig:
    """A diffusion transformer for sequences, before it is built. A wrong field is a ValueError that begins with its
    name."""

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
    mlp_ratio: int = 4
    """Features of the hidden layer of each block's MLP, in units of `width`."""
    text: AnyText | None = None
    """The text encoder; none: filled where text is heard."""
    nxt: bool = False
    """Whether it hears where a step ends, as a map does; filled from the objective."""

    def __post_init__(self) -> None:
        checked(self)
        check_at_least(0, features=self.features, labels=self.labels)
        check_at_least(1, outputs=self.outputs, heads=self.heads, mlp_ratio=self.mlp_ratio)
        check_depth(depth=self.depth)
        check_width(self.width)
        if self.width % self.heads:
            raise ValueError(f"heads: expected a divisor of width {self.width}, got {self.heads}")

    def fitted(self, space: Space, outputs: int, heard: Mapping[str, Hears]) -> Self:
        """For sequences (frames, features) of any length, their classes and texts."""
        _, features = axes_of(space, 2, "a transformer for sequences takes (frames, features)")
        check_heard(heard, ("label", "prompt", "length", "nxt"), "a transformer for sequences")
        sizes = {"features": features, "outputs": outputs, "labels": labels_of(heard)}
        return replace(self, **sizes, text=text_of(self.text, heard), nxt="nxt" in heard)

    def build(self) -> SequenceDiT:
        """The untrained network; ValueError if `features` is still to be filled from the data."""
        check_filled(features=self.features)
        return SequenceDiT(self)


class SequenceDiT(ConditionedNetwork):
    """The network of a SequenceDiTConfig: x (b, frames, features), noise_label (b,), label (b,), text as `TextInput`
    takes it, valid bool (b, frames) -> (b, outputs * frames, features)."""

    def __init__(self, config: SequenceDiTConfig) -> None:
        width = config.width
        super().__init__(width=WAVES, features=width, labels=config.labels, text=config.text, nxt=config.nxt)
        self.config = config
        text_width = config.text.width if config.text else 0
        self.enter = initialized(nn.Linear(config.features, width))
        self.share = initialized(nn.Linear(width, width))
        self.length = TimeEmbedding(WAVES, width)
        self.read = initialized(nn.Linear(text_width, width)) if text_width else None
        self.blocks = nn.ModuleList(
            DiTBlock(width, config.heads, config.mlp_ratio, text_width) for _ in range(config.depth)
        )
        self.modulation = initialized(nn.Linear(width, 2 * width), gain=0.0)
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
    ) -> Tensor:
        there = x.new_ones(x.shape[:2], dtype=torch.bool) if valid is None else valid
        x = torch.where(there[..., None], x, 0)  # even a number that is none, times a weight of 0, would be one
        counts, tokens = there.sum(1), self.tokens(text, text_valid, len(x))
        heard = self.condition(noise_label, label, noise_label_nxt=noise_label_nxt)
        assert heard is not None
        condition = F.silu(heard + self.length(counts) + self._said(tokens))
        h = self.enter(x) + self._places(counts, x.shape[1])
        looks_at = None if valid is None else valid[:, None, None, :]
        for block in self.blocks:
            h = block(h, condition, tokens, looks_at)
        shift, scale = self.modulation(condition)[:, None].chunk(2, dim=2)
        answer = torch.where(there[..., None], self.leave(modulated(h, shift, scale)), 0)
        return torch.cat(answer.chunk(self.config.outputs, 2), 1)

    def _said(self, tokens: Tokens | None) -> Tensor | float:
        """The mean of a text's tokens (b, width)."""
        if self.read is None or tokens is None:
            return 0.0
        told, there = tokens
        mean = (told * there[..., None]).sum(1) / there.sum(1, keepdim=True)
        return self.read(mean.to(self.read.weight.dtype))

    def _places(self, counts: Tensor, frames: int) -> Tensor:
        """Of each frame, by its number and by the share of the frames before it: (b, frames, width)."""
        like = self.enter.weight
        exact = torch.promote_types(like.dtype, torch.float32)
        place = torch.arange(frames, dtype=exact, device=like.device)
        share = 1000 * (place / counts[:, None].clamp(min=2).sub(1)).clamp(max=1)
        along = sinusoidal(share.flatten(), self.config.width).unflatten(0, share.shape)
        return sinusoidal(place, self.config.width).to(like) + self.share(along.to(like))

    def recomputable(self) -> Iterator[nn.Module]:
        """The blocks (see `recomputing`)."""
        return iter(self.blocks)
