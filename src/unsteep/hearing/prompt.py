"""A text: `sample(..., prompt="a red circle")`.

A network hears `text` and `text_valid` bool (b, length), which of it is real: pieces int64 (b, length) of a vocabulary
learned from the captions, for an encoder that is trained along; or tokens (b, length, width) of a pretrained encoder,
which stays as it is in a local folder and is known by its hash. No text is one without a real piece.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import torch
from torch import Tensor

from unsteep.core.protocols import DataSet, Rows
from unsteep.data.reading import captions_of
from unsteep.networks.text import Vocabulary
from unsteep.networks.text.pretrained import PretrainedText, pretrained_text

if TYPE_CHECKING:
    from unsteep.core.noise import Draw

LEARNED = ("bpe", "characters")


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """`by`: bpe or characters, in pieces of a vocabulary learned from the captions, at most `pieces` of them; or the
    folder of a pretrained encoder. Prompts have at most `limit` pieces.

    `vocabulary`: as `Vocabulary` writes itself. `width`, `digest`: features of a token of the pretrained encoder, and
    its hash. "" and 0: filled from the data.
    """

    by: str = "bpe"
    pieces: int = 512
    limit: int = 48
    vocabulary: str = ""
    width: int = 0
    digest: str = ""
    name: ClassVar[str] = "prompt"
    lacks: ClassVar[str] = "was trained without text; train with condition.text=bpe on captions"

    def fitted(self, data: DataSet) -> Self:
        """With the vocabulary of the captions, or the encoder's hash. Warns of captions that are too long."""
        captions = list(dict.fromkeys(captions_of(data)))
        if not captions:
            raise ValueError(f"condition.text: these data have no captions ({data.source}); set condition.text=none")
        if self.frozen:
            folder = str(Path(self.by).expanduser().resolve())  # where the model looks for it, wherever it is used
            try:
                encoder = frozen_encoder(folder, self.limit)
            except ValueError as error:
                raise ValueError(
                    f"condition.text: none, bpe, characters, or the folder of an encoder: {error}"
                ) from None
            return replace(self, by=folder, width=encoder.width, digest=encoder.digest, limit=encoder.limit)
        kind: Literal["bpe", "characters"] = "bpe" if self.by == "bpe" else "characters"
        vocabulary = Vocabulary.learn(captions_of(data), kind=kind, size=self.pieces)
        vocabulary.encode(captions, self.limit)  # warns, once, of those that are cut
        return replace(self, vocabulary=vocabulary.to_json())

    def of(self, rows: Rows, draw: Draw | None = None) -> dict[str, Tensor]:
        """The captions of examples."""
        if rows.caption is None:
            raise ValueError("data: the model was trained with captions, and these have none; give captioned data")
        return self.heard(rows.caption, warn=False)

    def asked(self, value: Any, n: int, seeds: Sequence[int]) -> dict[str, Tensor]:
        """`value`: one text for all, one for each, or None for no text. Warns of texts that are cut."""
        return self.null(n) if value is None else self.heard(self.said(value, n, seeds))

    def said(self, value: Any, n: int, seeds: Sequence[int]) -> list[str]:
        """The text of each of n samples, empty for none."""
        if value is None:
            return [""] * n
        prompts = [value] * n if isinstance(value, str) else list(value)
        if len(prompts) != n:
            raise ValueError(f"prompt: expected one or {n}, one for each sample; got {len(prompts)}")
        for one in prompts:
            if not isinstance(one, str):
                raise ValueError(f"prompt: expected a text, got {type(one).__name__} {one!r}; write it in quotes")
        return prompts

    def null(self, n: int) -> dict[str, Tensor]:
        """No text: nothing in it is real."""
        text = torch.zeros(n, 1, self.width) if self.frozen else torch.zeros(n, 1, dtype=torch.int64)
        return {"text": text, "text_valid": torch.zeros(n, 1, dtype=torch.bool)}

    def describe(self) -> str:
        return "caption"

    @property
    def conditioning(self) -> dict[str, Any]:
        """How a run's `condition` asks for it."""
        return {"text": self.by, "pieces": self.pieces, "limit": self.limit}

    @property
    def meaning(self) -> object:
        """What decides whether two models mean the same."""
        return self.name, self.vocabulary, self.digest

    @property
    def frozen(self) -> bool:
        """Whether a pretrained encoder reads the text."""
        return self.by not in LEARNED

    @cached_property
    def words(self) -> Vocabulary:
        """The vocabulary, where the text is in pieces of one."""
        return Vocabulary.from_json(self.vocabulary)

    def heard(self, prompts: Sequence[str], warn: bool = True) -> dict[str, Tensor]:
        """What a network hears of prompts. ValueError where the pretrained encoder is not where the model expects it,
        or another."""
        if not self.frozen:
            text, valid = self.words.encode(prompts, self.limit, warn=warn)
            return {"text": text, "text_valid": valid}
        try:
            encoder = frozen_encoder(self.by, self.limit)
        except ValueError as error:
            raise ValueError(f"prompt: this model hears text through a pretrained encoder: {error}") from None
        if encoder.digest != self.digest:
            raise ValueError(
                f"prompt: the text encoder in {self.by} is not the one that this model was trained with; put that one "
                f"(SHA-256 {self.digest[:16]}...) there"
            )
        tokens, valid = encoder.embed(prompts, warn=warn)
        real = torch.tensor([bool(prompt.strip()) for prompt in prompts])
        return {"text": tokens, "text_valid": valid & real[:, None]}


@lru_cache(maxsize=1)
def frozen_encoder(folder: str, limit: int) -> PretrainedText:
    """The text encoder in a folder, read once."""
    return pretrained_text(folder, limit=limit or None)
