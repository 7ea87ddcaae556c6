"""The diffusion transformer of Peebles & Xie 2023 for sequences (b, frames, features), in which padding counts for
nothing; with text, cross-attention to its tokens in every block (Chen et al. 2023, section 2.3).

Each frame becomes a token through one linear layer, plus sines and cosines of its place, and those of which share of
the sequence lies before it, through another. The blocks are those of `dit`; what modulates them is the sum of the
embeddings of noise label, class, the number of frames, and the mean of the text's tokens, and what two layers make of
an overview of the sequence beside these: the mean of its frames about each of `views` places along it. So every frame
hears at once how noisy it is, what is asked for, and what all frames have in common, which noise hides in each of them.
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
    views: int = 8
    """Places along the sequence about which the means of its frames are taken, at least 2."""
    mlp_ratio: int = 4
    """Features of the hidden layer of each block's MLP, in units of `width`."""
    text: AnyText | None = None
    """The text encoder; none: filled where text is heard."""
    nxt: bool = False
    """Whether it hears where a step ends, as a map does; filled from the objective."""
    scale: bool = False
    """Whether it hears the scale of guidance; filled from the objective."""

    def __post_init__(self) -> None:
        checked(self)
        check_at_least(0, features=self.features, labels=self.labels)
        check_at_least(1, outputs=self.outputs, heads=self.heads, mlp_ratio=self.mlp_ratio)
        check_at_least(2, views=self.views)
        check_depth(depth=self.depth)
        check_width(self.width)
        if self.width % self.heads:
            raise ValueError(f"heads: expected a divisor of width {self.width}, got {self.heads}")

    def fitted(self, space: Space, outputs: int, heard: Mapping[str, Hears]) -> Self:
        """For sequences (frames, features) of any length, their classes and texts."""
        _, features = axes_of(space, 2, "a transformer for sequences takes (frames, features)")
        check_heard(heard, ("label", "prompt", "length", "nxt", "guidance"), "a transformer for sequences")
        sizes = {"features": features, "outputs": outputs, "labels": labels_of(heard)}
        return replace(self, **sizes, text=text_of(self.text, heard), nxt="nxt" in heard, scale="guidance" in heard)

    def build(self) -> SequenceDiT:
        """The untrained network; ValueError if `features` is still to be filled from the data."""
        check_filled(features=self.features)
        return SequenceDiT(self)


class SequenceDiT(ConditionedNetwork):
    """The network of a SequenceDiTConfig: x (b, frames, features), noise_label (b,), label (b,), text as `TextInput`
    takes it, valid bool (b, frames) -> (b, outputs * frames, features)."""

    def __init__(self, config: SequenceDiTConfig) -> None:
        width = config.width
        super().__init__(
            width=WAVES,
            features=width,
            labels=config.labels,
            text=config.text,
            nxt=config.nxt,
            scale=config.scale,
        )
        self.config = config
        text_width = config.text.width if config.text else 0
        self.enter = initialized(nn.Linear(config.features, width))
        self.share = initialized(nn.Linear(width, width))
        self.length = TimeEmbedding(WAVES, width)
        self.overview = initialized(nn.Linear(config.views * config.features, width))
        self.recall = initialized(nn.Linear(width, width))
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
        scale: Tensor | None = None,
    ) -> Tensor:
        there = x.new_ones(x.shape[:2], dtype=torch.bool) if valid is None else valid
        x = torch.where(there[..., None], x, 0)  # even a number that is none, times a weight of 0, would be one
        counts, tokens = there.sum(1), self.tokens(text, text_valid, len(x))
        heard = self.condition(noise_label, label, noise_label_nxt=noise_label_nxt, scale=scale)
        assert heard is not None
        share = self._share(counts, x.shape[1])
        condition = heard + self.length(counts) + self._said(tokens)
        seen = self.overview(self._views(x, share, there))
        condition = F.silu(condition + self.recall(F.silu(seen + condition)))
        h = self.enter(x) + self._places(share)
        looks_at = None if valid is None else valid[:, None, None, :]
        for block in self.blocks:
            h = block(h, condition, tokens, looks_at)
        shift, grown = self.modulation(condition)[:, None].chunk(2, dim=2)
        answer = torch.where(there[..., None], self.leave(modulated(h, shift, grown)), 0)
        return torch.cat(answer.chunk(self.config.outputs, 2), 1)

    def _said(self, tokens: Tokens | None) -> Tensor | float:
        """The mean of a text's tokens (b, width)."""
        if self.read is None or tokens is None:
            return 0.0
        told, there = tokens
        mean = (told * there[..., None]).sum(1) / there.sum(1, keepdim=True)
        return self.read(mean.to(self.read.weight.dtype))

    def _share(self, counts: Tensor, frames: int) -> Tensor:
        """Of the other frames, how many lie before each: (b, frames), from 0 to 1."""
        exact = torch.promote_types(self.enter.weight.dtype, torch.float32)
        place = torch.arange(frames, dtype=exact, device=counts.device)
        return (place / counts[:, None].clamp(min=2).sub(1)).clamp(max=1)

    def _places(self, share: Tensor) -> Tensor:
        """Of each frame, by its number and by the share of the frames before it: (b, frames, width)."""
        like, width = self.enter.weight, self.config.width
        along = sinusoidal(1000 * share.flatten(), width).unflatten(0, share.shape)
        place = torch.arange(share.shape[1], dtype=share.dtype, device=share.device)
        return sinusoidal(place, width).to(like) + self.share(along.to(like))

    def _views(self, x: Tensor, share: Tensor, there: Tensor) -> Tensor:
        """The means of frames about evenly spaced places, each less the farther it is: (b, views * features)."""
        last = self.config.views - 1
        near = (1 - (last * share[..., None] - torch.arange(last + 1, device=share.device)).abs()).clamp(min=0)
        near = near * there[..., None]
        means = near.transpose(1, 2).to(x) @ x / near.sum(1)[..., None].to(x).clamp(min=1e-3)
        return means.flatten(1)

    def recomputable(self) -> Iterator[nn.Module]:
        """The blocks (see `recomputing`)."""
        return iter(self.blocks)
