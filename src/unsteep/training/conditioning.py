"""What a run's model is conditioned on, as settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from unsteep.core.protocols import DataSet, Hears
from unsteep.hearing import AnyHears, Label, Length, Picture, Prompt, Says
from unsteep.hearing.pairs import Aligned

if TYPE_CHECKING:
    from unsteep.model import Description


@dataclass(frozen=True, kw_only=True)
class Conditioning:
    """What the model is conditioned on. The lengths of sequences are always heard."""

    label: bool = False
    """Whether it hears the class."""
    text: str = "none"
    """How it hears captions: bpe or characters, in pieces of a vocabulary learned from them, or the folder of a
    pretrained text encoder, which stays as it is; none: not at all."""
    pieces: int = 512
    """The most pieces of that vocabulary."""
    limit: int = 48
    """The most pieces of a prompt."""
    picture: str = "none"
    """The aligned picture it hears: low-resolution:8, sketch or given (see `hearing.pairs`); none: no picture."""
    augment: float = 0.5
    """Times up to which that picture is noised in training."""
    drop: float = 0.0
    """How often training hides the condition, all of it; above 0 for guidance."""
    also: tuple[AnyHears, ...] = ()
    """Kinds of condition of one's own."""

    def __post_init__(self) -> None:
        for name in ("pieces", "limit"):
            if getattr(self, name) < 3:
                raise ValueError(f"{name}: expected at least 3, got {getattr(self, name)}")
        if not 0 <= self.drop < 1:
            raise ValueError(f"drop: expected a share from 0 to below 1, got {self.drop}")
        if not 0 <= self.augment <= 1:
            raise ValueError(f"augment: expected a time from 0 to 1, got {self.augment}")
        if self.picture != "none":
            Aligned.of(self.picture)

    @property
    def asks_nothing(self) -> bool:
        """Whether it names no kind of condition."""
        return not (self.label or self.also) and self.text == self.picture == "none"

    def hears(self, data: DataSet, network: Any = None) -> tuple[Hears, ...]:
        """The kinds of condition, fitted to the data. ValueError where these lack one. `network`: the run's, whose text
        encoder may have a limit of its own."""
        first = data.rows(torch.tensor([0]))
        if first.beside is not None and self.picture != "given":
            raise ValueError("data.aligned: nothing hears these pictures; set condition.picture=given, or leave it out")
        asked: list[Hears] = []
        if self.label:
            asked.append(Label())
        if self.text != "none":
            own = getattr(network, "text", None)
            asked.append(Prompt(by=self.text, pieces=self.pieces, limit=getattr(own, "limit", 0) or self.limit))
        if self.picture != "none":
            asked.append(Picture(what=self.picture, augment=self.augment))
        if first.valid is not None:
            asked.append(Length(by=tuple(one.name for one in asked if isinstance(one, Says))))
        return tuple(one.fitted(data) for one in (*asked, *self.also))

    @classmethod
    def of(cls, description: Description) -> Conditioning:
        """The settings of a model that is there already."""
        ours = [one for one in description.hears if hasattr(one, "conditioning")]
        given = {name: value for one in ours for name, value in one.conditioning.items()}
        also = tuple(one for one in description.hears if one not in ours)
        return cls(drop=description.drop or 0.0, also=also, **given)
