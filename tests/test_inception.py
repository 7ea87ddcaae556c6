"""Inception-v3 of the FID: what the published file holds, what TensorFlow's graph computes, which files are opened."""

import hashlib
import pickle
from collections.abc import Callable
from copy import deepcopy
from dataclasses import astuple, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from unsteep.features.inception import KNOWN, Inception, InceptionV3, inception, legacy_bilinear
from unsteep.features.looking import Features, gather
from unsteep.features.weights import open_weights


def random_weights(shapes: dict[str, torch.Size], seed: int) -> dict[str, Tensor]:
    """Weights that neither swell nor fade through rectified layers, and statistics that are none of 0 and 1."""
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for name, shape in shapes.items():
        if len(shape) > 1:
            found[name] = torch.randn(shape, generator=generator) * (2 / shape[1:].numel()) ** 0.5
        elif name.endswith(("bn.weight", "running_var")):
            found[name] = 0.5 + torch.rand(shape, generator=generator)
        else:
            found[name] = 0.2 * torch.randn(shape, generator=generator)
    return found


@pytest.fixture(scope="module")
def shapes() -> dict[str, torch.Size]:
    with torch.device("meta"):
        state = InceptionV3().state_dict()
    return {name: one.shape for name, one in state.items() if one.is_floating_point()}


@pytest.fixture(scope="module")
def weights(shapes: dict[str, torch.Size]) -> dict[str, Tensor]:
    return random_weights(shapes, 0)


@pytest.fixture(scope="module")
def file(weights: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "inception.safetensors"
    save_file(weights, path)
    return path


@pytest.fixture(scope="module")
def features(file: Path) -> Inception:
    return inception(file, custom=True)


@pytest.fixture(scope="module")
def pictures() -> Tensor:
    return torch.randint(0, 256, (2, 3, 40, 31), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


# The same mathematics, written down a second time: float64, no modules, one wire after the other.


def resized(pictures: Tensor, size: int) -> Tensor:
    """TensorFlow 1's resize_bilinear (align_corners=False), as a matrix (size, n) for each axis."""

    def matrix(n: int) -> Tensor:
        found = torch.zeros(size, n, dtype=torch.float64)
        for i in range(size):
            at = np.float32(i) * (np.float32(n) / np.float32(size))
            below = int(at)
            found[i, below] += 1 - (float(at) - below)
            found[i, min(below + 1, n - 1)] += float(at) - below
        return found

    height, width = pictures.shape[2:]
    return torch.einsum("ih,nchw,jw->ncij", matrix(height), pictures.double(), matrix(width))


def restated(w: dict[str, Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    """From Szegedy et al. 2016, figures 5 to 7 and 10, table 1, with the graph's two pools."""

    def unit(name: str, x: Tensor, padding: tuple[int, int] = (0, 0), stride: int = 1) -> Tensor:
        x = functional.conv2d(x, w[f"{name}.conv.weight"], stride=stride, padding=padding)
        mean, variance, gain, shift = (
            w[f"{name}.bn.{part}"].view(-1, 1, 1) for part in ("running_mean", "running_var", "weight", "bias")
        )
        return ((x - mean) / (variance + 0.001).sqrt() * gain + shift).clamp(min=0)

    def mean_pool(x: Tensor) -> Tensor:
        ones = torch.ones_like(x[:1, :1])
        box = torch.ones(1, 1, 3, 3, dtype=x.dtype)
        sums = functional.conv2d(x.flatten(0, 1)[:, None], box, padding=1).view_as(x)
        return sums / functional.conv2d(ones, box, padding=1)

    def halved(x: Tensor) -> Tensor:
        return functional.max_pool2d(x, 3, stride=2)

    def square(b: str, x: Tensor) -> Tensor:
        five = unit(f"{b}.branch5x5_2", unit(f"{b}.branch5x5_1", x), (2, 2))
        double = unit(f"{b}.branch3x3dbl_2", unit(f"{b}.branch3x3dbl_1", x), (1, 1))
        double = unit(f"{b}.branch3x3dbl_3", double, (1, 1))
        return torch.cat([unit(f"{b}.branch1x1", x), five, double, unit(f"{b}.branch_pool", mean_pool(x))], 1)

    def factored(b: str, x: Tensor) -> Tensor:
        row, column = (0, 3), (3, 0)
        seven = unit(f"{b}.branch7x7_2", unit(f"{b}.branch7x7_1", x), row)
        seven = unit(f"{b}.branch7x7_3", seven, column)
        double = unit(f"{b}.branch7x7dbl_1", x)
        for number, padding in ((2, column), (3, row), (4, column), (5, row)):
            double = unit(f"{b}.branch7x7dbl_{number}", double, padding)
        return torch.cat([unit(f"{b}.branch1x1", x), seven, double, unit(f"{b}.branch_pool", mean_pool(x))], 1)

    def forked(b: str, x: Tensor, pool: Callable[[Tensor], Tensor]) -> Tensor:
        three = unit(f"{b}.branch3x3_1", x)
        double = unit(f"{b}.branch3x3dbl_2", unit(f"{b}.branch3x3dbl_1", x), (1, 1))
        parts = [
            unit(f"{b}.branch1x1", x),
            unit(f"{b}.branch3x3_2a", three, (0, 1)),
            unit(f"{b}.branch3x3_2b", three, (1, 0)),
            unit(f"{b}.branch3x3dbl_3a", double, (0, 1)),
            unit(f"{b}.branch3x3dbl_3b", double, (1, 0)),
            unit(f"{b}.branch_pool", pool(x)),
        ]
        return torch.cat(parts, 1)

    x = unit("Conv2d_2a_3x3", unit("Conv2d_1a_3x3", x, stride=2))
    x = halved(unit("Conv2d_2b_3x3", x, (1, 1)))
    x = halved(unit("Conv2d_4a_3x3", unit("Conv2d_3b_1x1", x)))
    for b in ("Mixed_5b", "Mixed_5c", "Mixed_5d"):
        x = square(b, x)
    double = unit("Mixed_6a.branch3x3dbl_2", unit("Mixed_6a.branch3x3dbl_1", x), (1, 1))
    double = unit("Mixed_6a.branch3x3dbl_3", double, stride=2)
    x = torch.cat([unit("Mixed_6a.branch3x3", x, stride=2), double, halved(x)], 1)
    for b in ("Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e"):
        x = factored(b, x)
    three = unit("Mixed_7a.branch3x3_2", unit("Mixed_7a.branch3x3_1", x), stride=2)
    seven = unit("Mixed_7a.branch7x7x3_2", unit("Mixed_7a.branch7x7x3_1", x), (0, 3))
    seven = unit("Mixed_7a.branch7x7x3_4", unit("Mixed_7a.branch7x7x3_3", seven, (3, 0)), stride=2)
    x = torch.cat([three, seven, halved(x)], 1)
    x = forked("Mixed_7b", x, mean_pool)
    x = forked("Mixed_7c", x, lambda x: functional.max_pool2d(x, 3, stride=1, padding=1))
    pooled = x.sum((2, 3)) / 64
    return pooled, torch.einsum("nf,kf->nk", pooled, w["fc.weight"])


def test_the_published_file_holds_these_tensors(shapes: dict[str, torch.Size]) -> None:
    """Counts of Keras's summary of InceptionV3 without its top, whose batch norms have no gain: 21,768,352 that are
    trained, of them 17,216 biases, and as many means and variances; and 566 entries of the published file, six for each
    unit (one counts batches) and two of the classifier."""
    assert len(shapes) + len(shapes) // 5 == 566
    convolutions = sum(shape.numel() for name, shape in shapes.items() if name.endswith("conv.weight"))
    assert convolutions == 21_768_352 - 17_216
    for part in ("weight", "bias", "running_mean", "running_var"):
        assert sum(shape.numel() for name, shape in shapes.items() if name.endswith(f"bn.{part}")) == 17_216
    known = {
        "Conv2d_1a_3x3.conv.weight": (32, 3, 3, 3),
        "Conv2d_4a_3x3.bn.running_var": (192,),
        "Mixed_5b.branch1x1.conv.weight": (64, 192, 1, 1),
        "Mixed_5b.branch_pool.conv.weight": (32, 192, 1, 1),
        "Mixed_5d.branch5x5_2.conv.weight": (64, 48, 5, 5),
        "Mixed_6a.branch3x3.conv.weight": (384, 288, 3, 3),
        "Mixed_6b.branch7x7dbl_4.conv.weight": (128, 128, 7, 1),
        "Mixed_6c.branch7x7_2.conv.weight": (160, 160, 1, 7),
        "Mixed_6e.branch7x7_3.conv.weight": (192, 192, 7, 1),
        "Mixed_7a.branch7x7x3_4.conv.weight": (192, 192, 3, 3),
        "Mixed_7b.branch3x3_2a.conv.weight": (384, 384, 1, 3),
        "Mixed_7c.branch3x3dbl_3b.conv.weight": (384, 384, 3, 1),
        "Mixed_7c.branch_pool.bn.bias": (192,),
        "fc.weight": (1008, 2048),
        "fc.bias": (1008,),
    }
    assert {name: tuple(shapes[name]) for name in known} == known


@pytest.mark.parametrize("shape", [(8, 8), (32, 40), (7, 1), (64, 23), (26, 52)])
def test_resizing_is_tensorflows(shape: tuple[int, int]) -> None:
    pictures = torch.randint(0, 256, (2, 3, *shape), generator=torch.Generator().manual_seed(2)).double()
    torch.testing.assert_close(legacy_bilinear(pictures, 23), resized(pictures, 23), atol=1e-9, rtol=0)


def test_resizing_a_ramp() -> None:
    """Twice as wide: neighbours and what is between them, the last repeated; half as wide: every other pixel."""
    ramp = torch.tensor([0.0, 10.0, 40.0]).expand(1, 1, 3, 3)
    assert legacy_bilinear(ramp, 6)[0, 0, 0].tolist() == [0, 5, 10, 25, 40, 40]
    assert legacy_bilinear(torch.arange(6.0).expand(1, 1, 6, 6), 3)[0, 0, 0].tolist() == [0, 2, 4]


def test_network_equals_its_restatement(weights: dict[str, Tensor], file: Path, pictures: Tensor) -> None:
    features = inception(file, custom=True)
    features.network.double()
    found = features(pictures[:1])
    wide = {name: one.double() for name, one in weights.items()}
    pooled, logits = restated(wide, (resized(pictures[:1], 299) - 128) * 0.0078125)
    assert found.logits is not None
    assert pooled.std() > 0.1  # the signal lives to the end
    torch.testing.assert_close(found.features.double(), pooled, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(found.logits.double(), logits, atol=1e-6, rtol=1e-6)


def test_a_batch_is_its_pictures_one_by_one(features: Features, pictures: Tensor) -> None:
    together = gather(features, [pictures])
    apart = gather(features, pictures.split(1))
    assert together.features.shape == (2, features.dimension) == (2, 2048)
    assert together.logits is not None
    assert together.logits.shape == (2, 1008)
    assert together.features.dtype == together.logits.dtype == torch.float32
    torch.testing.assert_close(apart.features, together.features, atol=1e-4, rtol=1e-4)
    assert (together.features[0] - together.features[1]).abs().max() > 1e-2


@pytest.mark.parametrize("device", ["mps"], indirect=True)  # a copy of the network takes its time
def test_on_a_device(features: Inception, pictures: Tensor, device: torch.device) -> None:
    there = replace(features, network=deepcopy(features.network).to(device), device=str(device))
    for found, wanted in zip(astuple(there(pictures[:1])), astuple(features(pictures[:1])), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


def test_grey_is_the_same_in_three_channels(features: Inception, pictures: Tensor) -> None:
    grey = pictures[:1, :1]
    torch.testing.assert_close(features(grey).features, features(grey.repeat(1, 3, 1, 1)).features)


def test_features_say_which_weights(features: Inception, file: Path) -> None:
    assert features.digest == hashlib.sha256(file.read_bytes()).hexdigest()
    assert "custom" in features.name
    assert "custom" not in Inception(network=features.network, digest=next(iter(KNOWN))).name


def test_weights_of_another_network_are_refused(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    """Such as torchvision's, which tells 1000 classes apart."""
    path = tmp_path / "other.safetensors"
    save_file({**weights, "fc.weight": torch.zeros(1000, 2048)}, path)
    with pytest.raises(ValueError, match=r"fc.weight of shape \(1008, 2048\), got \(1000, 2048\)"):
        inception(path, custom=True)
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match="none of that name"):
        inception(path, custom=True)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small.pth"
    torch.save({"a": torch.arange(3.0)}, path)
    return path


def test_a_file_is_known_by_its_hash(small: Path) -> None:
    digest = hashlib.sha256(small.read_bytes()).hexdigest()
    for prefix in (digest, digest[:8]):
        tensors, found = open_weights(small, {"0" * 8: "another", prefix: "this"})
        assert (tensors["a"].tolist(), found) == ([0, 1, 2], digest)
    with pytest.raises(ValueError) as error:
        open_weights(small, {"0" * 8: "another", "1" * 8: "a third"})
    for said in (str(small), digest, "another", "0" * 8, "a third", "custom"):
        assert said in str(error.value)
    assert open_weights(small, {"0" * 8: "another"}, custom=True)[1] == digest


def test_both_formats_hold_the_same(small: Path, tmp_path: Path) -> None:
    other = tmp_path / "small.safetensors"
    save_file({"a": torch.arange(3.0)}, other)
    assert open_weights(other, {}, custom=True)[0]["a"].equal(open_weights(small, {}, custom=True)[0]["a"])


class Evil:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str, str]]:
        return open, (str(self.path), "w")


@pytest.mark.parametrize("suffix", [".pt", ".pth"])
@pytest.mark.parametrize("write", [torch.save, lambda found, path: path.write_bytes(pickle.dumps(found, protocol=2))])
def test_nothing_is_executed(tmp_path: Path, suffix: str, write: Callable[[object, Path], None]) -> None:
    made, path = tmp_path / "made", tmp_path / f"evil{suffix}"
    write({"a": torch.zeros(1), "b": Evil(made)}, path)
    with pytest.raises(ValueError, match="never opened"):
        open_weights(path, {}, custom=True)
    assert not made.exists()
    pickle.loads(pickle.dumps(Evil(made)))
    assert made.exists()  # it was evil


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("absent.pth", None, "No such file.*give a local copy of weights"),
        ("weights.bin", b"1", "expected a .safetensors, .pt or .pth file"),
        ("broken.pth", b"PK\x03\x04 no zip", "cannot be read as tensors"),
        ("empty.pth", b"", "cannot be read as tensors"),
        ("broken.safetensors", b"\xff" * 40, "cannot be read as tensors"),
    ],
)
def test_what_cannot_be_opened_says_so_in_one_line(tmp_path: Path, name: str, content: bytes | None, says: str) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=says) as error:
        open_weights(path, {"0" * 8: "weights"}, custom=True)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_folder_and_what_is_no_state_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "folder.pth"
    folder.mkdir()
    with pytest.raises(ValueError, match="directory"):
        open_weights(folder, {})
    nested = tmp_path / "nested.pt"
    torch.save({"state_dict": {"a": torch.zeros(1)}}, nested)
    with pytest.raises(ValueError, match="tensors by name"):
        open_weights(nested, {}, custom=True)
    with pytest.raises(ValueError, match="SHA-256"):
        inception(nested)
