"""LPIPS against the paper's formula, and the laws of a distance."""

import re
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from unsteep.features.lpips import HEADS, TRUNKS, Kind, Lpips, lpips

KINDS: list[Any] = ["alex", "vgg"]

# Convolutions of torchvision's files: number in `features` -> (channels out, channels in, kernel).
ALEX = {0: (64, 3, 11), 3: (192, 64, 5), 6: (384, 192, 3), 8: (256, 384, 3), 10: (256, 256, 3)}
VGG = {
    number: (outside, inside, 3)
    for number, outside, inside in (
        *((0, 64, 3), (2, 64, 64), (5, 128, 64), (7, 128, 128)),
        *((10, 256, 128), (12, 256, 256), (14, 256, 256), (17, 512, 256), (19, 512, 512), (21, 512, 512)),
        *((24, 512, 512), (26, 512, 512), (28, 512, 512)),
    )
}
CHANNELS = {"alex": (64, 192, 384, 256, 256), "vgg": (64, 128, 256, 512, 512)}

Weights = tuple[dict[str, Tensor], dict[str, Tensor]]


def made(kind: Kind) -> Weights:
    """A trunk and heads at random, named as the published files name them, with a classifier that nobody asks for."""
    generator = torch.Generator().manual_seed(0)
    trunk = {"classifier.6.bias": torch.zeros(1000)}
    for number, (outside, inside, kernel) in (ALEX if kind == "alex" else VGG).items():
        spread = (2 / (inside * kernel**2)) ** 0.5
        trunk[f"features.{number}.weight"] = spread * torch.randn(outside, inside, kernel, kernel, generator=generator)
        trunk[f"features.{number}.bias"] = 0.1 * torch.randn(outside, generator=generator)
    heads = {
        f"lin{index}.model.1.weight": torch.rand(1, channels, 1, 1, generator=generator)
        for index, channels in enumerate(CHANNELS[kind])
    }
    return trunk, heads


@pytest.fixture(scope="module")
def weights() -> dict[str, Weights]:
    return {kind: made(kind) for kind in KINDS}


@pytest.fixture(scope="module")
def distances(weights: dict[str, Weights], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Lpips]:
    folder = tmp_path_factory.mktemp("lpips")
    found = {}
    for kind in KINDS:
        for part, tensors in zip(("trunk", "heads"), weights[kind], strict=True):
            save_file(tensors, folder / f"{part}.safetensors")
        found[kind] = lpips(folder / "trunk.safetensors", folder / "heads.safetensors", kind, custom=True)
    return found


def pictures(seed: int, channels: int = 3) -> Tensor:
    """Smooth ones, and one that is black, of which a trunk without biases would see nothing."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(3, channels, 6, 5, generator=generator)
    fine = functional.interpolate(coarse, (40, 37), mode="bicubic").clamp(0, 1)
    return (255 * fine * torch.tensor([1, 1, 0]).view(3, 1, 1, 1)).round().to(torch.uint8)


def restated(weights: Weights, kind: Kind, a: Tensor, b: Tensor) -> Tensor:
    """Zhang et al. 2018, eq. 1, in float64: the networks as Krizhevsky 2014 and Simonyan & Zisserman 2015 give them."""
    trunk, heads = ({name: one.double() for name, one in part.items()} for part in weights)

    def layer(x: Tensor, number: int, stride: int = 1) -> Tensor:
        kernel = trunk[f"features.{number}.weight"]
        padding = 2 if stride == 4 else kernel.shape[-1] // 2
        x = functional.conv2d(x, kernel, stride=stride, padding=padding)
        return (x + trunk[f"features.{number}.bias"][:, None, None]).clamp(min=0)

    def seen(x: Tensor) -> list[Tensor]:
        # In [0, 1], ImageNet's channels have these means and standard deviations.
        x = x.double() / 255 - torch.tensor([0.485, 0.456, 0.406], dtype=torch.float64).view(3, 1, 1)
        x = x / torch.tensor([0.229, 0.224, 0.225], dtype=torch.float64).view(3, 1, 1)
        if kind == "alex":
            one = layer(x, 0, stride=4)
            two = layer(functional.max_pool2d(one, 3, 2), 3)
            three = layer(functional.max_pool2d(two, 3, 2), 6)
            four = layer(three, 8)
            return [one, two, three, four, layer(four, 10)]
        found = []
        for block in ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28)):
            x = functional.max_pool2d(x, 2) if found else x
            for number in block:
                x = layer(x, number)
            found.append(x)
        return found

    total = torch.zeros(len(a), dtype=torch.float64)
    for index, (one, other) in enumerate(zip(seen(a), seen(b), strict=True)):
        head = heads[f"lin{index}.model.1.weight"].flatten()
        unit, other_unit = (x / (x.square().sum(1, keepdim=True).sqrt() + 1e-10) for x in (one, other))
        positions = one.shape[2] * one.shape[3]
        total += torch.einsum("c,nchw->n", head, (unit - other_unit) ** 2) / positions
    return total


@pytest.mark.parametrize("kind", KINDS)
def test_equals_the_papers_formula(kind: Kind, weights: dict[str, Weights], distances: dict[str, Lpips]) -> None:
    a, b = pictures(1), pictures(2)
    expected = restated(weights[kind], kind, a, b)
    assert expected[0] > 0.01
    found = distances[kind](a, b)
    assert found.shape == (3,)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), expected, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_is_a_distance(kind: Kind, distances: dict[str, Lpips]) -> None:
    a, b = pictures(1)[:2], pictures(2)[:2]
    distance = distances[kind]
    assert distance(a, a).tolist() == [0, 0]
    between = distance(a, b)
    assert between.min() > 0
    torch.testing.assert_close(distance(b, a), between)
    torch.testing.assert_close(torch.cat([distance(a[:1], b[:1]), distance(a[1:], b[1:])]), between)


def test_grey_is_the_same_in_three_channels(distances: dict[str, Lpips]) -> None:
    a, b = pictures(3, 1)[:2], pictures(4, 1)[:2]
    wide = distances["alex"](a.repeat(1, 3, 1, 1), b.repeat(1, 3, 1, 1))
    torch.testing.assert_close(distances["alex"](a, b), wide)


@pytest.mark.parametrize(("kind", "smallest"), [("alex", 31), ("vgg", 16)])
def test_the_smallest_picture(kind: Kind, smallest: int, distances: dict[str, Lpips]) -> None:
    enough = torch.zeros(1, 3, smallest, smallest, dtype=torch.uint8)
    assert distances[kind](enough, enough).item() == 0
    less = enough[:, :, :, 1:]
    with pytest.raises(ValueError, match=rf"at least {smallest} x {smallest} pixels, got {smallest} x {smallest - 1}"):
        distances[kind](less, less)


def test_other_pictures_are_refused(distances: dict[str, Lpips]) -> None:
    a = pictures(1)
    for b in (a.float() / 255, a[:2], a[:, :2], a[0]):
        with pytest.raises(ValueError, match="two batches of uint8"):
            distances["alex"](a, b)


@pytest.mark.parametrize("kind", KINDS)
def test_files_are_known_by_their_hash(
    kind: Kind, distances: dict[str, Lpips], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trunk, heads = distances[kind].digest.split("+")
    assert trunk != heads
    assert "custom" in distances[kind].name
    files = tmp_path / "trunk.safetensors", tmp_path / "heads.safetensors"
    for path, tensors in zip(files, made(kind), strict=True):
        save_file(tensors, path)
    with pytest.raises(ValueError, match=next(iter(TRUNKS[kind].values()))):
        lpips(*files, kind)
    assert lpips(*files, kind, custom=True).digest == distances[kind].digest
    with pytest.raises(ValueError, match=re.escape("expected a tensor lin0.model.1.weight of shape (1, 64, 1, 1)")):
        lpips(files[0], files[0], kind, custom=True)
    monkeypatch.setitem(TRUNKS, kind, {trunk: "that trunk"})
    with pytest.raises(ValueError, match=next(iter(HEADS[kind].values()))):
        lpips(*files, kind)
    monkeypatch.setitem(HEADS, kind, {heads: "those heads"})
    assert "custom" not in lpips(*files, kind).name


def test_on_a_device(distances: dict[str, Lpips], device: torch.device) -> None:
    here = distances["alex"]
    trunk, heads = deepcopy((here.trunk, here.heads))
    there = replace(here, trunk=trunk.to(device), heads=heads.to(device), device=str(device))
    a, b = torch.randint(0, 256, (2, 3, 3, 33, 31), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(there(a, b.to(device)), here(a, b), rtol=1e-4, atol=1e-5)
