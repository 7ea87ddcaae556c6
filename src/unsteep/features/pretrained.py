"""Features and scores by pretrained vision models from local folders, in the layout of Hugging Face.

    dinov2   the class token behind the last normalization, of the whole picture resized to 224: the features of FD-DINO
             (Stein et al. 2023, section 3; arXiv 2306.04675, who take ViT-L/14)
    clip     the projected embedding, of the central square resized to the model's size: the features of FID-CLIP
             (Kynkaanniemi et al. 2023) and, once normalized, of CMMD (Jayasumana et al. 2024)

CLIP score (Hessel et al. 2021, eq. 1, with w = 100 and the prompt as it is): 100 max(cos(picture, prompt), 0).

Pictures are resized as uint8 by Pillow's bicubic filter, which widens where it shrinks; each channel is divided by 255
and normalized by the mean and standard deviation of the model's training data. Grey pictures are repeated to three
channels. DINOv2's positions were trained on a finer grid (37 x 37 patches) and are interpolated to 16 x 16 with the
scale (16 + 0.1) / 37, as in the model's own code; transformers would take 16 / 37 and see other features.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from unsteep.features.looking import Features, grey_or_colour
from unsteep.metrics.seen import Seen
from unsteep.networks.pretrained import Pretrained, Tokenizer, load_pretrained
from unsteep.storage.foreign import reading

ARCHITECTURES = {
    "dinov2": "Dinov2Model",
    "clip": "CLIPModel",
    "clip_vision_model": "CLIPVisionModelWithProjection",
}
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
DINO_SIZE = 224
CHUNK = 64

Triple = tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """How a picture comes to a model: uint8 (n, 1 or 3, h, w) -> float32 (n, 3, size, size) on a device.

    `crop`: the shorter side is resized and the middle cut out; otherwise the whole picture is resized, whatever its
    shape. `source`: where size, mean and std come from.
    """

    size: int
    mean: Triple
    std: Triple
    crop: bool
    source: str

    @classmethod
    def of(cls, folder: Path, kind: str, size: int) -> Preprocessing:
        """As preprocessor_config.json says or, without one, as is known of the kind of model (with its own `size`)."""
        mean, std = IMAGENET if kind == "dinov2" else CLIP
        stored = _stored(folder)
        return cls(
            size=_side(stored.get("crop_size") or stored.get("size") or size),
            mean=tuple(stored.get("image_mean", mean)),
            std=tuple(stored.get("image_std", std)),
            crop=kind != "dinov2",
            source="by the folder's settings" if stored else f"by the defaults of {kind}",
        )

    def __call__(self, pictures: Tensor, device: torch.device | str = "cpu") -> Tensor:
        grey_or_colour(pictures, "pretrained networks")
        resized = np.stack([self._resized(picture) for picture in pictures.cpu()])
        x = torch.from_numpy(resized).to(device).permute(0, 3, 1, 2).contiguous().float().div_(255)
        return x.sub_(x.new_tensor(self.mean).view(3, 1, 1)).div_(x.new_tensor(self.std).view(3, 1, 1))

    def __str__(self) -> str:
        return f"bicubic {self.size}, {'central square' if self.crop else 'whole picture'}, {self.source}"

    def _resized(self, picture: Tensor) -> np.ndarray:
        image = Image.fromarray(picture.permute(1, 2, 0).squeeze(2).numpy())
        if not self.crop:
            image = image.resize((self.size, self.size), Image.Resampling.BICUBIC)
        else:
            short = min(image.size)
            width, height = (side * self.size // short for side in image.size)
            left, top = round((width - self.size) / 2), round((height - self.size) / 2)
            image = image.resize((width, height), Image.Resampling.BICUBIC)
            image = image.crop((left, top, left + self.size, top + self.size))
        return np.asarray(image.convert("RGB"))


@dataclass(eq=False)
class VisionFeatures:
    """A pretrained vision model as `Features`; made by `vision_features`."""

    name: str
    digest: str
    dimension: int
    resize: str
    device: torch.device | str
    preprocessing: Preprocessing
    model: nn.Module

    @torch.no_grad()
    def __call__(self, pictures: Tensor) -> Seen:
        """uint8 (b, 1 or 3, h, w) -> float32 (b, dimension)."""
        model: Any = self.model
        pixels = self.preprocessing(pictures, self.device)
        if self.name.startswith("dinov2"):
            return Seen(model(pixel_values=pixels).last_hidden_state[:, 0].cpu())
        return Seen(model.visual_projection(model.vision_model(pixel_values=pixels).pooler_output).cpu())


def vision_features(folder: str | Path, *, device: torch.device | str = "cpu") -> Features:
    """The features of the DINOv2 or CLIP model in a local folder with config.json and model.safetensors.

    Needs the extra `unsteep[pretrained]`. Raises ValueError where something is missing or of a kind that is not known.
    """
    loaded = load_pretrained(folder, ARCHITECTURES, device=device)
    dino = loaded.kind == "dinov2"
    config = loaded.config.vision_config if loaded.kind == "clip" else loaded.config
    preprocessing = Preprocessing.of(Path(folder), loaded.kind, DINO_SIZE if dino else config.image_size)
    if dino:
        _fit_positions(loaded, preprocessing.size // config.patch_size)
    return VisionFeatures(
        name=f"{'dinov2' if dino else 'clip'} {config.num_hidden_layers}x{config.hidden_size}/{config.patch_size}",
        digest=loaded.digest,
        dimension=config.hidden_size if dino else loaded.config.projection_dim,
        resize=str(preprocessing),
        device=device,
        preprocessing=preprocessing,
        model=loaded.model,
    )


class ClipScore:
    """CLIP score by the model in a local folder with config.json, model.safetensors and tokenizer.json.

    `name`, `digest`, `resize`: as those of `Features`. Needs the extra `unsteep[pretrained]`. Raises ValueError where
    something is missing or of another kind.
    """

    def __init__(self, folder: str | Path, *, device: torch.device | str = "cpu") -> None:
        loaded = load_pretrained(folder, {"clip": "CLIPModel"}, device=device)
        vision, text = loaded.config.vision_config, loaded.config.text_config
        self.name = f"clip {vision.num_hidden_layers}x{vision.hidden_size}/{vision.patch_size}"
        self.digest, self.device = loaded.digest, device
        self._preprocessing = Preprocessing.of(Path(folder), loaded.kind, vision.image_size)
        self.resize = str(self._preprocessing)
        self._tokenize = Tokenizer(folder, text.max_position_embeddings)
        self._model = loaded.model

    @torch.no_grad()
    def __call__(self, pictures: Tensor, prompts: Sequence[str]) -> Tensor:
        """uint8 (n, 1 or 3, h, w) and a prompt for each -> (n,) in 0..100, float32 on the CPU.

        Prompts beyond the model's positions are cut, with a warning.
        """
        if len(pictures) != len(prompts):
            raise ValueError(f"prompts: expected one for each of {len(pictures)} pictures, got {len(prompts)}")
        ids, mask = self._tokenize(prompts)
        cosines = [
            self._cosine(*chunk)
            for chunk in zip(pictures.split(CHUNK), ids.split(CHUNK), mask.split(CHUNK), strict=True)
        ]
        return 100 * torch.cat(cosines).clamp(min=0)

    def _cosine(self, pictures: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
        seen = self._model(
            pixel_values=self._preprocessing(pictures, self.device),
            input_ids=ids.to(self.device),
            attention_mask=mask.to(self.device),
        )
        return F.cosine_similarity(seen.image_embeds, seen.text_embeds).cpu()


def _fit_positions(loaded: Pretrained, side: int) -> None:
    """Interpolate DINOv2's table of positions, (1, 1 + patches, width), to `side` x `side` patches."""
    embeddings: Any = loaded.model.embeddings
    token, table = embeddings.position_embeddings.split([1, embeddings.position_embeddings.shape[1] - 1], dim=1)
    trained = round(table.shape[1] ** 0.5)
    if trained == side:
        return
    grid = table.unflatten(1, (trained, trained)).permute(0, 3, 1, 2)
    fitted = F.interpolate(grid, scale_factor=(side + 0.1) / trained, mode="bicubic").flatten(2).transpose(1, 2)
    embeddings.position_embeddings = nn.Parameter(torch.cat([token, fitted], dim=1), requires_grad=False)


def _stored(folder: Path) -> dict[str, Any]:
    """What the folder says of preprocessing; newer folders say it within processor_config.json."""
    for name in ("preprocessor_config.json", "processor_config.json"):
        file = folder / name
        if file.is_file():
            with reading(file, "the settings of an image processor in JSON"):
                stored = json.loads(file.read_bytes())
                return stored.get("image_processor", stored)
    return {}


def _side(size: int | dict[str, int]) -> int:
    return size if isinstance(size, int) else size.get("shortest_edge") or size["height"]
