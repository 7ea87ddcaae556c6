"""What a run's model is conditioned on, as settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from unsteep.core.protocols import DataSet, Hears
from unsteep.hearing import AnyHears, Label, Length, Picture, Prompt
from unsteep.hearing.pairs import Aligned

if TYPE_CHECKING:
    from unsteep.model import Description


@dataclass(frozen=True, kw_only=True)
class Conditioning:
    """What the model is conditioned on. `drop`: how often training hides the condition, all of it.

    `label`: the class. `text`: the caption; bpe or characters: in pieces of a vocabulary learned from the captions, at
    most `pieces` of them; or the folder of a pretrained text encoder, which stays as it is. Prompts have at most
    `limit` pieces. `picture`: an aligned one, as low-resolution:8, sketch or given (see `hearing.pairs`), noised in
    training to times up to `augment`. `also`: kinds of one's own. The lengths of sequences are always heard.
    """

    label: bool = False
    text: str = "none"
    pieces: int = 512
    limit: int = 48
    picture: str = "none"
    augment: float = 0.5
    drop: float = 0.0
    also: tuple[AnyHears, ...] = ()

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
            asked.append(Length())
        return tuple(one.fitted(data) for one in (*asked, *self.also))

    @classmethod
    def of(cls, description: Description) -> Conditioning:
        """The settings of a model that is there already."""
        ours = [one for one in description.hears if hasattr(one, "conditioning")]
        given = {name: value for one in ours for name, value in one.conditioning.items()}
        also = tuple(one for one in description.hears if one not in ours)
        return cls(drop=description.drop or 0.0, also=also, **given)
