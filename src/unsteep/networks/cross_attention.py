"""Text inside a network: tokens that every position of a picture looks at (Vaswani et al. 2017, section 3.2).

With positions h (n, width) and tokens s (length, text width), one head of cross-attention is

    softmax(q k^T / sqrt(d)) v    with    q = norm(h) W_q,  k = norm(s) W_k,  v = norm(s) W_v,

and what all heads say is added to h through a last linear layer that starts at zero. A token whose mask is False has
weight 0, and its value is 0 before anything looks at it: padding, and whatever stood in a text that was dropped,
never reaches an output. A text without a valid token is the learned null of `NullText`.

Both kinds of encoder give the same tokens: a `TextEncoder`, which lives in the network and is trained with it, and a
frozen one, which stays outside; of that the network knows the width alone.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from unsteep.networks.checks import check_at_least, check_filled
from unsteep.networks.forward_mode import attended
from unsteep.networks.initialization import initialized
from unsteep.networks.text import NullText, TextEncoderConfig

Tokens = tuple[Tensor, Tensor]
"""Tokens (b, length, width) and their mask bool (b, length), True at least once in every row."""


@dataclass(frozen=True, kw_only=True)
class FrozenTextConfig:
    """Tokens made outside the network, by an encoder that is not trained."""

    width: int = 0
    """Features of a token; 0: filled from the encoder."""
    folder: str = ""
    """Where the encoder lies (see `networks.pretrained_text`); the network itself reads nothing there."""
    digest: str = ""
    """Of its configuration and weights."""
    limit: int = 0
    """The most tokens of a prompt; 0: as many as the encoder has positions for."""

    def __post_init__(self) -> None:
        check_at_least(0, width=self.width, limit=self.limit)


AnyText = TextEncoderConfig | FrozenTextConfig


class TextInput(nn.Module):
    """What a network is given as text -> the tokens that its blocks look at."""

    def __init__(self, config: AnyText) -> None:
        super().__init__()
        check_filled(**{"text.width": config.width})
        self.width = config.width
        self.encoder = config.build() if isinstance(config, TextEncoderConfig) else None
        self.null = NullText(config.width)

    def forward(self, text: Tensor | None, valid: Tensor | None, rows: int) -> Tokens:
        """`text`: ids int64 (b, length), or tokens (b, length, width) of either kind of encoder, or None for no text
        in all `rows`; `valid`: bool (b, length), None for all. Raises ValueError for a text of another shape.
        """
        like = self.null.token
        if text is None:
            return self.null(like.new_zeros(rows, 0, self.width), like.new_zeros(rows, 0, dtype=torch.bool))
        if valid is None:
            valid = torch.ones(text.shape[:2], dtype=torch.bool, device=text.device)
        if self.encoder is not None and text.ndim == 2:
            tokens = self.encoder(text, valid)
        elif text.ndim == 3 and text.shape[2] == self.width:
            tokens = text.to(like.dtype)
        else:
            ids = "" if self.encoder is None else "ids (b, length) or "
            raise ValueError(
                f"text: expected {ids}tokens (b, length, {self.width}), got {tuple(text.shape)}; "
                "give what this network's own encoder makes of the prompts"
            )
        return self.null(tokens.masked_fill(~valid[:, :, None], 0.0), valid)


class CrossAttention(nn.Module):
    """Positions plus what they read in a text: (b, positions, width) -> the same; the identity until it is trained."""

    def __init__(self, width: int, text_width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.norm_text = nn.LayerNorm(text_width)
        self.to_q = initialized(nn.Linear(width, width))
        self.to_k = initialized(nn.Linear(text_width, width))
        self.to_v = initialized(nn.Linear(text_width, width))
        self.to_out = initialized(nn.Linear(width, width), gain=0.0)

    def forward(self, h: Tensor, text: Tokens) -> Tensor:
        tokens, mask = self.norm_text(text[0]), text[1]
        query, key, value = (
            part.unflatten(2, (self.heads, -1)).transpose(1, 2)
            for part in (self.to_q(self.norm(h)), self.to_k(tokens), self.to_v(tokens))
        )
        heard = attended(query, key, value, mask[:, None, None, :])
        return h + self.to_out(heard.transpose(1, 2).flatten(2))
