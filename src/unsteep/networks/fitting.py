"""What networks take from data and conditions when their sizes are filled in."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from unsteep.core.protocols import Hears, Space
from unsteep.networks.cross_attention import AnyText, FrozenTextConfig
from unsteep.networks.text import TextEncoderConfig


def axes_of(space: Space, axes: int, takes: str) -> tuple[int, ...]:
    """The shape of an example. ValueError where it has another number of axes; `takes`: what network takes what, in
    words."""
    if len(space.shape) != axes:
        raise ValueError(f"model.network: {takes}, and these data are {space.describe()}")
    return space.shape


def check_heard(heard: Mapping[str, Hears], known: Collection[str], network: str) -> None:
    """ValueError for a condition that a network does not know."""
    for name, one in heard.items():
        if name not in known:
            able = ", ".join(one for one in known if one not in ("nxt", "guidance")) or "no condition"  # what is asked
            raise ValueError(
                f"model.network: {network} hears {able}, and not the {one.describe()} ({name}); take another network, "
                "or leave the condition out"
            )


def labels_of(heard: Mapping[str, Any]) -> int:
    """How many classes are heard; 0 for none."""
    return len(heard["label"].names) if "label" in heard else 0


def text_of(own: AnyText | None, heard: Mapping[str, Any]) -> AnyText | None:
    """The text encoder of a network: `own` with the size of the vocabulary, or a frozen one that stays outside."""
    if "prompt" not in heard:
        return own
    prompt = heard["prompt"]
    if prompt.frozen:
        return FrozenTextConfig(width=prompt.width, folder=prompt.by, digest=prompt.digest, limit=prompt.limit)
    if isinstance(own, FrozenTextConfig):
        raise ValueError("model.network.text: expected an encoder that is trained along; set it to TextEncoder")
    return replace(own or TextEncoderConfig(), pieces=len(prompt.words), limit=prompt.limit)


def sizes_for_pictures(
    network: str, space: Space, outputs: int, heard: Mapping[str, Any], text: AnyText | None
) -> dict[str, Any]:
    """The sizes of a network for pictures (c, h, w), and for classes, text and aligned pictures that are heard. `text`:
    its own encoder; `network`: in words, for errors."""
    channels, height, width = axes_of(space, 3, f"{network} takes pictures")
    check_heard(heard, ("label", "prompt", "picture", "nxt", "guidance"), network)
    return {
        "channels": channels,
        "size": max(height, width),
        "out_channels": outputs * channels,
        "labels": labels_of(heard),
        "text": text_of(text, heard),
        "picture_channels": heard["picture"].beside if "picture" in heard else 0,
        "nxt": "nxt" in heard,
        "scale": "guidance" in heard,
    }
