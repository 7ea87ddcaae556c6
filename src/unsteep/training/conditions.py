"""What a model hears of the examples of a data set: their classes, captions and aligned pictures.

In training an aligned picture is noised to a time drawn evenly from [0, augment] (see `asking`), and mirrored with the
picture that it stands beside. Captions are turned into pieces or tokens once, however many pictures share one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from unsteep.core.condition import Condition
from unsteep.core.noise import Draw, Purpose
from unsteep.data import DataSet
from unsteep.data.pairs import Aligned
from unsteep.model import Description
from unsteep.model.asking import augmented, encoded, frozen_encoder, tokens_of
from unsteep.networks import FrozenTextConfig, MLPConfig, TextEncoderConfig, Vocabulary
from unsteep.spaces import Pixels

LEARNED = ("bpe", "characters")


@dataclass(frozen=True, kw_only=True)
class Conditioning:
    """What the model is conditioned on. `drop`: how often training hides the condition, all of it.

    `label`: the class. `text`: the caption; bpe or characters: in pieces of a vocabulary learned from the captions, at
    most `pieces` of them; or the folder of a pretrained text encoder, which stays as it is. Prompts have at most
    `limit` pieces. `picture`: an aligned one, as low-resolution:8, sketch or given (see `data.pairs`), noised in
    training to times up to `augment`.
    """

    label: bool = False
    text: str = "none"
    pieces: int = 512
    limit: int = 48
    picture: str = "none"
    augment: float = 0.5
    drop: float = 0.0

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

    def described(self, plain: Description, data: DataSet) -> Description:
        """The description of an unconditional model with what it hears; ValueError where the data lack it."""
        if data.aligned is not None and self.picture != "given":
            raise ValueError("data.aligned: nothing hears these pictures; set condition.picture=given, or leave it out")
        if self.label and data.labels is None:
            hint = "turn it off, or, for a folder, set data.labelled=true to take sub-folders as classes"
            raise ValueError(f"condition.label: these data have no labels ({data.source}); {hint}")
        heard = replace(plain, names=data.names if self.label else (), drop=self.drop)
        if self.text != "none":
            heard = self._with_text(heard, data)
        if self.picture != "none":
            heard = self._with_picture(heard, data)
        return heard

    def _with_text(self, plain: Description, data: DataSet) -> Description:
        network = plain.model.network
        if not data.captions:
            raise ValueError(f"condition.text: these data have no captions ({data.source}); set condition.text=none")
        if isinstance(network, MLPConfig):
            raise ValueError("condition.text: an MLP hears no text; set model.network=UNet or DiT")
        vocabulary, text = "", network.text
        if self.text not in LEARNED:
            folder = str(Path(self.text).expanduser().resolve())  # where the model looks for it, wherever it is used
            try:
                encoder = frozen_encoder(folder, self.limit)
            except ValueError as error:
                raise ValueError(
                    f"condition.text: none, bpe, characters, or the folder of an encoder: {error}"
                ) from None
            text = FrozenTextConfig(width=encoder.width, folder=folder, digest=encoder.digest, limit=encoder.limit)
        elif text is None or isinstance(text, TextEncoderConfig):
            text = text or TextEncoderConfig(limit=self.limit)
            kind: Literal["bpe", "characters"] = "bpe" if self.text == "bpe" else "characters"
            vocabulary = Vocabulary.learn(data.captions, kind=kind, size=self.pieces).to_json()
        else:
            raise ValueError("model.network.text: expected an encoder that is trained along; set it to TextEncoder")
        model = replace(plain.model, network=replace(network, text=text))
        return replace(plain, model=model, vocabulary=vocabulary)

    def _with_picture(self, plain: Description, data: DataSet) -> Description:
        aligned = Aligned.of(self.picture)
        if not isinstance(plain.space, Pixels):
            raise ValueError("condition.picture: these data are rows of numbers, not pictures; set it to none")
        if aligned.kind == "low-resolution" and (aligned.side >= plain.space.size or plain.space.size % aligned.side):
            raise ValueError(
                f"condition.picture: expected a size that divides {plain.space.size} pixels, got {aligned.side}"
            )
        if aligned.kind == "given" and data.aligned is None:
            raise ValueError(
                f"condition.picture: nothing is given beside these pictures ({data.source}); set data.aligned to the "
                "folder of their aligned pictures"
            )
        return replace(plain, picture=self.picture, augment=self.augment)


class Conditions:
    """Of examples of `data`, for a model of this description. ValueError where the data lack what it hears."""

    def __init__(self, description: Description, data: DataSet) -> None:
        self.data, self.augment = data, description.augment
        self.aligned = Aligned.of(description.picture) if description.picture else None
        self.labelled, self.text = bool(description.names), None
        lacking = {
            "classes": self.labelled and data.labels is None,
            "captions": description.hears_text and not data.captions,
            "aligned pictures": description.picture == "given" and data.aligned is None,
        }
        for what, is_lacking in lacking.items():
            if is_lacking:
                raise ValueError(f"data: the model was trained with {what}, and these have none ({data.source})")
        if description.hears_text:
            place = {caption: i for i, caption in enumerate(dict.fromkeys(data.captions))}
            self.text, self.text_valid = tokens_of(description, list(place))
            self.place = torch.tensor([place[caption] for caption in data.captions])

    def __call__(self, index: Tensor, draw: Draw | None = None, mirrored: Tensor | None = None) -> Condition | None:
        """Of the examples `index` (b,); None for an unconditional model. `draw`: a training step's randomness, to noise
        the aligned pictures by; without it they are clean. `mirrored` (b,) bool: which are flipped."""
        label = text = valid = picture = logsnr = None
        if self.labelled:
            assert self.data.labels is not None
            label = self.data.labels[index]
        if self.text is not None:
            places = self.place[index]
            text, valid = self.text[places], self.text_valid[places]
        if self.aligned is not None:
            picture = encoded(self.aligned_of(index))
            if mirrored is not None:
                picture = torch.where(mirrored[:, None, None, None], picture.flip(-1), picture)
            if draw is not None:
                t = self.augment * draw.uniform(Purpose.PICTURE_TIME)
                picture, logsnr = augmented(picture, t, draw.normal(picture, Purpose.PICTURE_NOISE))
        found = Condition(label=label, text=text, text_valid=valid, picture=picture, picture_logsnr=logsnr)
        return found if found.tensors() else None

    def aligned_of(self, index: Tensor) -> Tensor:
        """The aligned pictures of the examples `index`, uint8 (b, c', h, w), where the model hears any."""
        assert self.aligned is not None
        if self.aligned.kind == "given":
            assert self.data.aligned is not None
            return self.data.aligned[index]
        return self.aligned.made_from(self.data.x[index])
