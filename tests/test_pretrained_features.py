"""Features by pretrained vision models: the model's own numbers, by an independent way, from a folder alone."""

import json
import socket
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from unsteep.features.looking import gather
from unsteep.features.pretrained import IMAGENET, ClipScore, Preprocessing, vision_features

transformers = pytest.importorskip("transformers")

CLIP_MEAN = torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(3, 1, 1)
CLIP_STD = torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(3, 1, 1)
WORDS = ["a", "red", "blue", "circle", "square"]


def random_model(architecture: str, config: Any, seed: int = 0) -> Any:
    """A model in which every weight matters."""
    torch.manual_seed(seed)
    model = getattr(transformers, architecture)(config)
    for parameter in model.parameters():
        parameter.data += 0.5 * torch.randn(parameter.shape)
    return model.eval()


def pictures(n: int, c: int = 3, size: int = 28, seed: int = 0) -> Tensor:
    """Fields of 5 x 5 colours: white noise would look all the same to a model."""
    colours = torch.rand(n, c, 5, 5, generator=torch.Generator().manual_seed(seed))
    return (F.interpolate(colours, size=(size, size)) * 255).byte()


@pytest.fixture(scope="module")
def dino(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dino")
    config = transformers.Dinov2Config(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=70, patch_size=14
    )
    random_model("Dinov2Model", config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clip")
    tower = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    text = tower | {"vocab_size": 8, "max_position_embeddings": 6, "bos_token_id": 1, "eos_token_id": 7}
    config = transformers.CLIPConfig(
        projection_dim=8, text_config=text, vision_config=tower | {"image_size": 28, "patch_size": 14}
    )
    random_model("CLIPModel", config, seed=9).save_pretrained(folder)
    tokenizers = pytest.importorskip("tokenizers")
    vocabulary = {"[PAD]": 0, "<s>": 1, **{word: i for i, word in enumerate(WORDS, 2)}, "</s>": 7}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="[PAD]"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 7)]
    )
    tokenizer.enable_padding(length=5)  # what a folder says of padding is not heard
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def with_settings(folder: Path, to: Path, **settings: Any) -> Path:
    """A folder with the same model that also says how to prepare pictures."""
    to.mkdir(exist_ok=True)
    for file in folder.iterdir():
        (to / file.name).write_bytes(file.read_bytes())
    (to / "preprocessor_config.json").write_text(json.dumps(settings))
    return to


def cubic_table(out: int, size: int, a: float = -0.75) -> np.ndarray:
    """(out, size) weights of cubic convolution (Keys 1981) at positions (i + 1/2) size / (out + 0.1) - 1/2."""
    table = np.zeros((out, size))
    for i in range(out):
        at = (i + 0.5) * size / (out + 0.1) - 0.5
        for j in range(int(np.floor(at)) - 1, int(np.floor(at)) + 3):
            d = abs(at - j)
            near, far = (a + 2) * d**3 - (a + 3) * d**2 + 1, a * (d**3 - 5 * d**2 + 8 * d - 4)
            table[i, min(max(j, 0), size - 1)] += near if d <= 1 else far
    return table


def restated_dino(folder: Path, x: Tensor) -> Tensor:
    """DINOv2's class token in float64, from the published layout of its weights: x (n, 3, s, s)."""
    w = {name: tensor.double() for name, tensor in load_file(folder / "model.safetensors").items()}
    heads, side = 2, x.shape[2] // 14

    def linear(h: Tensor, name: str) -> Tensor:
        return h @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def norm(h: Tensor, name: str) -> Tensor:
        h = h - h.mean(-1, keepdim=True)
        return h / (h.square().mean(-1, keepdim=True) + 1e-6).sqrt() * w[f"{name}.weight"] + w[f"{name}.bias"]

    patches = x.double().unfold(2, 14, 14).unfold(3, 14, 14).permute(0, 2, 3, 1, 4, 5).flatten(1, 2).flatten(2)
    kernel = w["embeddings.patch_embeddings.projection.weight"].flatten(1)
    h = patches @ kernel.T + w["embeddings.patch_embeddings.projection.bias"]
    positions = w["embeddings.position_embeddings"][0]
    trained = round((len(positions) - 1) ** 0.5)
    grid = positions[1:].unflatten(0, (trained, trained))
    if side != trained:
        table = torch.from_numpy(cubic_table(side, trained))
        grid = torch.einsum("ia,jb,abc->ijc", table, table, grid)
    first = (w["embeddings.cls_token"][0] + positions[:1]).expand(len(x), 1, -1)
    h = torch.cat([first, h + grid.flatten(0, 1)], dim=1)
    for i in range(2):
        at = f"encoder.layer.{i}"
        normed = norm(h, f"{at}.norm1")
        q, k, v = (
            linear(normed, f"{at}.attention.attention.{name}").unflatten(2, (heads, -1)).transpose(1, 2)
            for name in ("query", "key", "value")
        )
        heard = ((q @ k.mT) / q.shape[-1] ** 0.5).softmax(-1) @ v
        heard = linear(heard.transpose(1, 2).flatten(2), f"{at}.attention.output.dense")
        h = h + w[f"{at}.layer_scale1.lambda1"] * heard
        hidden = linear(norm(h, f"{at}.norm2"), f"{at}.mlp.fc1")
        hidden = hidden * 0.5 * (1 + torch.erf(hidden / 2**0.5))
        h = h + w[f"{at}.layer_scale2.lambda1"] * linear(hidden, f"{at}.mlp.fc2")
    return norm(h, "layernorm")[:, 0]


def normalized(x: Tensor) -> Tensor:
    mean, std = (torch.tensor(part).view(3, 1, 1) for part in IMAGENET)
    return (x.float() / 255 - mean) / std


@pytest.mark.parametrize("size", [70, 42, 98])  # of the trained grid of patches, of a smaller one, of a larger one
def test_dino_is_its_restatement(dino: Path, tmp_path: Path, size: int) -> None:
    x = pictures(3, size=size)
    features = vision_features(with_settings(dino, tmp_path / "dino", crop_size={"height": size, "width": size}))
    expected = restated_dino(dino, normalized(x))
    assert expected.std(0).mean() > 0.05  # the pictures are told apart
    torch.testing.assert_close(features(x).features.double(), expected, atol=2e-5, rtol=1e-4)


def test_dino_takes_224_by_default(dino: Path) -> None:
    features = vision_features(dino)
    assert (features.name, features.dimension) == ("dinov2 2x16/14", 16)
    assert features.resize == "bicubic 224, whole picture, by the defaults of dinov2"
    x = pictures(1, size=224)
    torch.testing.assert_close(features(x).features.double(), restated_dino(dino, normalized(x)), atol=2e-5, rtol=1e-4)


def test_clip_is_transformers_own(clip: Path) -> None:
    x = pictures(4)
    features = vision_features(clip)
    model = transformers.CLIPModel.from_pretrained(clip).eval()
    with torch.no_grad():
        pooled = model.vision_model(pixel_values=(x / 255 - CLIP_MEAN) / CLIP_STD).pooler_output
        expected = model.visual_projection(pooled)
    torch.testing.assert_close(features(x).features, expected, atol=1e-5, rtol=1e-5)
    assert features.dimension == 8 == expected.shape[1]


def test_clip_without_its_text_tower(tmp_path: Path) -> None:
    config = transformers.CLIPVisionConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, image_size=28, patch_size=14,
        projection_dim=8,
    )  # fmt: skip
    model = random_model("CLIPVisionModelWithProjection", config)
    model.save_pretrained(tmp_path)
    features, x = vision_features(tmp_path), pictures(4)
    with torch.no_grad():
        expected = model(pixel_values=(x / 255 - CLIP_MEAN) / CLIP_STD).image_embeds
    torch.testing.assert_close(features(x).features, expected, atol=1e-5, rtol=1e-5)
    assert (features.name, features.dimension) == ("clip 2x16/14", 8)


@pytest.mark.parametrize("name", ["dino", "clip"])
def test_features_belong_to_the_picture_alone(name: str, request: pytest.FixtureRequest) -> None:
    features, x = vision_features(request.getfixturevalue(name)), pictures(5)
    together = gather(features, [x[:3], x[3:]]).features
    assert together.dtype == torch.float32
    assert not together.requires_grad
    for i in range(5):
        torch.testing.assert_close(features(x[i : i + 1]).features[0], together[i], atol=1e-5, rtol=1e-5)
    grey = pictures(2, c=1)
    torch.testing.assert_close(features(grey).features, features(grey.expand(-1, 3, -1, -1)).features)
    assert not torch.allclose(features(x.flip(1)).features, together, atol=1e-2)  # channels are told apart


@pytest.mark.parametrize("crop", [False, True])
@pytest.mark.parametrize(("shape", "size"), [((50, 50), 20), ((12, 12), 28), ((40, 63), 21), ((30, 17), 34)])
def test_pictures_are_resized_as_by_an_antialiased_bicubic_filter(
    shape: tuple[int, int], size: int, crop: bool
) -> None:
    """torch's filter is another implementation of the same one; Pillow rounds to uint8 twice."""
    smooth = 64 + F.interpolate(pictures(2, size=6).float() / 2, size=shape, mode="bilinear").byte()  # no overshoot
    prepare = Preprocessing(size=size, mean=(0.0,) * 3, std=(1.0,) * 3, crop=crop, source="test")
    to = [side * size // min(shape) if crop else size for side in shape]
    whole = F.interpolate(smooth.float(), size=to, mode="bicubic", antialias=True)
    top, left = ((side - size) // 2 for side in to)
    expected = whole[:, :, top : top + size, left : left + size]
    got = prepare(smooth)
    assert got.shape == (2, 3, size, size)
    assert (got * 255 - expected).abs().max() < 1.3


def test_settings_of_the_folder_are_taken(dino: Path, tmp_path: Path) -> None:
    mean, std = [0.1, 0.2, 0.3], [0.9, 0.8, 0.7]
    folder = with_settings(
        dino, tmp_path / "own", size={"shortest_edge": 80}, crop_size={"height": 70, "width": 70}, image_mean=mean,
        image_std=std,
    )  # fmt: skip
    features, x = vision_features(folder), pictures(2, size=70)
    pixels = (x / 255 - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    torch.testing.assert_close(features(x).features.double(), restated_dino(dino, pixels), atol=2e-5, rtol=1e-4)
    assert features.resize == "bicubic 70, whole picture, by the folder's settings"
    (folder / "preprocessor_config.json").rename(folder / "processor_config.json")
    stored = {"image_processor": json.loads((folder / "processor_config.json").read_text())}
    (folder / "processor_config.json").write_text(json.dumps(stored))
    torch.testing.assert_close(vision_features(folder)(x).features, features(x).features)


def test_the_digest_is_of_weights_and_configuration(dino: Path, clip: Path, tmp_path: Path) -> None:
    digest = vision_features(dino).digest
    copy = with_settings(dino, tmp_path / "copy")
    assert vision_features(copy).digest == digest != vision_features(clip).digest
    assert ClipScore(clip).digest == vision_features(clip).digest
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"layer_norm_eps": 1e-5}))
    assert vision_features(copy).digest != digest
    other = with_settings(dino, tmp_path / "other")
    weights = bytearray((other / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (other / "model.safetensors").write_bytes(weights)
    assert vision_features(other).digest != digest


def test_clip_score_is_the_cosine(clip: Path) -> None:
    prompts = ["a red circle", "blue", "a blue square", "square a red circle"]
    x, score = pictures(4), ClipScore(clip)
    ids = [[1, *(WORDS.index(word) + 2 for word in prompt.split()), 7] for prompt in prompts]
    model = transformers.CLIPModel.from_pretrained(clip).eval()
    cosines = []
    with torch.no_grad():
        for picture, row in zip(x, ids, strict=True):  # one by one: there is no padding
            out = model(pixel_values=(picture[None] / 255 - CLIP_MEAN) / CLIP_STD, input_ids=torch.tensor([row]))
            cosines.append(float(out.logits_per_image / model.logit_scale.exp()))
    assert min(cosines) < 0 < max(cosines)
    torch.testing.assert_close(score(x, prompts), torch.tensor([100 * max(c, 0.0) for c in cosines]), atol=1e-3, rtol=0)
    order = [2, 0, 3, 1]
    torch.testing.assert_close(
        score(x[order], [prompts[i] for i in order]), score(x, prompts)[order], atol=1e-3, rtol=0
    )


def test_long_prompts_are_cut_with_a_warning(clip: Path) -> None:
    score, x = ClipScore(clip), pictures(3)
    with pytest.warns(UserWarning, match="2 of 3 prompts were cut to the limit of 6 tokens") as caught:
        cut = score(x, ["a red circle a red", "a", "a red circle a blue square"])
    assert caught[0].filename == __file__
    torch.testing.assert_close(cut, score(x, ["a red circle a", "a", "a red circle a"]), atol=1e-4, rtol=0)


def test_nothing_is_asked_of_the_network(dino: Path, clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    vision_features(dino)
    ClipScore(clip)


def folder_with(path: Path, **files: bytes | str) -> Path:
    path.mkdir()
    for name, content in files.items():
        file = path / name.replace("__", ".")
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_bad_folders(dino: Path, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="got no such folder"):
        vision_features(tmp_path / "nothing")
    with pytest.raises(ValueError, match=r"got no config\.json"):
        vision_features(folder_with(tmp_path / "empty"))
    with pytest.raises(ValueError, match="expected JSON with a model_type"):
        vision_features(folder_with(tmp_path / "torn", config__json="{"))
    with pytest.raises(ValueError, match="expected a model_type of clip, clip_vision_model, dinov2, got 'resnet'"):
        vision_features(folder_with(tmp_path / "resnet", config__json='{"model_type": "resnet"}'))
    with pytest.raises(ValueError, match="expected a model_type of clip, got 'dinov2'"):
        ClipScore(dino)
    config = (dino / "config.json").read_text()
    with pytest.raises(ValueError, match="got no weights"):
        vision_features(folder_with(tmp_path / "bare", config__json=config))
    with pytest.raises(ValueError, match=r"got pytorch_model\.bin, whose pickle can run any code"):
        vision_features(folder_with(tmp_path / "pickled", config__json=config, pytorch_model__bin=b"x"))
    with pytest.raises(ValueError, match="expected the weights of a dinov2 model"):
        vision_features(folder_with(tmp_path / "broken", config__json=config, model__safetensors=b"x"))
    deeper = json.dumps(json.loads(config) | {"num_hidden_layers": 3})
    weights = (dino / "model.safetensors").read_bytes()
    with pytest.raises(ValueError, match=r"got none for \d+ of them, such as encoder\.layer\.2"):
        vision_features(folder_with(tmp_path / "missing", config__json=deeper, model__safetensors=weights))
    wider = json.dumps(json.loads(config) | {"hidden_size": 32})
    with pytest.raises(ValueError, match="expected the weights of a dinov2 model"):
        vision_features(folder_with(tmp_path / "wider", config__json=wider, model__safetensors=weights))
    no_words = with_settings(clip, tmp_path / "no-words")
    (no_words / "tokenizer.json").unlink()
    with pytest.raises(ValueError, match=r"tokenizer\.json: expected a tokenizer in one file, got nothing"):
        ClipScore(no_words)
    (no_words / "tokenizer.json").write_text("{}")
    with pytest.raises(ValueError, match=r"tokenizer\.json: expected a tokenizer, got something else"):
        ClipScore(no_words)
    with pytest.raises(ValueError, match="expected one for each of 2 pictures, got 3"):
        ClipScore(clip)(pictures(2), ["a"] * 3)
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ValueError, match=r'pip install "unsteep\[pretrained\]"'):
        vision_features(dino)


@pytest.mark.parametrize("name", ["dino", "clip"])
def test_on_a_device(name: str, device: torch.device, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(name)
    found = vision_features(folder, device=device)(pictures(3).to(device)).features
    torch.testing.assert_close(found, vision_features(folder)(pictures(3)).features, rtol=1e-4, atol=1e-4)
    if name == "clip":
        asked = pictures(3), ["a red circle", "a blue square", "a"]
        score = ClipScore(folder, device=device)(*asked)
        torch.testing.assert_close(score, ClipScore(folder)(*asked), rtol=1e-4, atol=1e-3)
