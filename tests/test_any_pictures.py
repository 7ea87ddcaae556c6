"""Pictures of any height, width, number of channels and depth: trained on, drawn, filled in, measured and looked at."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import unsteep
import unsteep.data
import unsteep.model
import unsteep.training.conditioning
from command_line import made
from unsteep.data import Folder
from unsteep.evaluation.pictures import bytes_of
from unsteep.metrics.seen import Seen
from unsteep.model import Model
from unsteep.networks import DiTConfig, MLPConfig, UNetConfig

TRAIN = {"steps": 4, "batch": 6, "warmup": 1, "checkpoint_every": 4, "preview_every": 3}
NETWORKS = {
    "unet": UNetConfig(width=8, groups=4, multipliers=(1, 2), blocks=1, attention=()),
    "dit": DiTConfig(width=16, depth=1, heads=2, patch=2),
    "mlp": MLPConfig(width=16, depth=1),
}
KINDS = {
    "wide": ((1, 6, 10), "uint8"),
    "tall colour": ((3, 12, 4), "uint8"),
    "two channels": ((2, 8, 8), "uint8"),
    "transparent": ((4, 6, 8), "uint8"),
    "seven channels": ((7, 4, 8), "uint8"),
    "sixteen channels": ((16, 4, 4), "uint8"),
    "16 bits": ((1, 8, 6), "uint16"),
    "floats": ((2, 6, 8), "float32"),
}


def quiet(_: str) -> None:
    pass


def some(kind: str, n: int = 44, seed: int = 0) -> np.ndarray:
    shape, dtype = KINDS[kind]
    random = np.random.default_rng(seed)
    if dtype == "float32":
        return random.uniform(-1, 1, (n, *shape)).astype(np.float32)
    return random.integers(0, np.iinfo(dtype).max + 1, (n, *shape)).astype(dtype)


def trained(kind: str, network: str, out: Path, **how: object) -> Model:
    run = unsteep.Run(
        data=unsteep.data.Given(),
        model=unsteep.model.ModelConfig(network=NETWORKS[network], prediction="v"),
        condition=unsteep.training.conditioning.Conditioning(label=True, drop=0.2),
    )
    x = torch.from_numpy(some(kind))
    levels = {"uint8": 256, "uint16": 65536, "float32": None}[KINDS[kind][1]]
    span = {"range": (-1.0, 1.0)} if levels is None else {}
    data = unsteep.Examples(x, torch.arange(len(x)) % 2, ("a", "b"), levels=levels, source="some", **span)  # type: ignore[arg-type]
    return unsteep.train(run, data=data, out=out, device="cpu", say=quiet, **TRAIN, **how)  # type: ignore[no-any-return, arg-type]


class Corners:
    """Features of a few pixels."""

    name, digest, dimension, resize = "corners", "0" * 64, 4, "none"

    def __call__(self, pictures: Tensor) -> Seen:
        return Seen(pictures[:, 0, ::3, ::3].flatten(1)[:, :4].float())


@pytest.mark.parametrize(
    ("kind", "network"),
    [
        pytest.param(kind, network, marks=() if (i + j) % 2 else pytest.mark.long)  # each kind and network is in both
        for i, kind in enumerate(KINDS)
        for j, network in enumerate(NETWORKS)
    ],
)
def test_from_data_to_numbers(kind: str, network: str, tmp_path: Path) -> None:
    shape, dtype = KINDS[kind]
    model = trained(kind, network, tmp_path / "run")
    x = torch.from_numpy(some(kind))
    drawn = model.sample(3, steps=3, label="b", guidance=1.5)
    assert drawn.shape == (3, *shape)
    assert str(drawn.dtype) == f"torch.{dtype}"
    opened = unsteep.load(tmp_path / "run", device="cpu")
    assert torch.equal(opened.sample(3, steps=3, label="b", guidance=1.5), drawn)
    bits = model.likelihood(x[:3], torch.tensor([0, 1, 0]), terms=3).bits_per_dim()
    assert bool(bits.isfinite().all())
    with Image.open(tmp_path / "run" / "samples.png") as sheet:
        assert min(sheet.size) > 8
    if network != "unet":
        return
    mask = torch.zeros(shape[1:], dtype=torch.bool)
    mask[:, : shape[2] // 2] = True
    filled = unsteep.fill(model, x[0], mask, n=2, steps=3, label="a", jump=1, resamples=1)
    assert filled.shape == (2, *shape)
    kept = ~mask.expand(shape)
    step = 1e-5 if dtype == "float32" else 0
    assert all(float((one[kept].double() - x[0][kept].double()).abs().max()) <= step for one in filled)
    assert unsteep.redraw(model, x[0], strength=0.3, n=2, steps=3).shape == (2, *shape)
    assert unsteep.interpolate(model, x[0], x[1], frames=3, steps=3).shape == (3, *shape)
    assert unsteep.invert(model, x[:1], tolerance=0.3).latents.shape == (1, *shape)
    found = unsteep.evaluate(model, x, n=12, metrics=("fid",), features=Corners(), split="all", steps=2)
    assert found.values["fid"].value >= 0


def test_what_lies_between_two_bytes_is_not_lost(tmp_path: Path) -> None:
    """16 bits are 65,536 values, not 256."""
    model = trained("16 bits", "unet", tmp_path / "run")
    x = torch.arange(0, 48, dtype=torch.int32).reshape(1, 1, 8, 6).to(torch.uint16)
    assert torch.equal(model.space.decode(model.space.encode(x)).to(torch.int32), x.to(torch.int32))
    assert bytes_of(torch.tensor([[[[0, 257, 65535]]]], dtype=torch.int32).to(torch.uint16)).flatten().tolist() == [
        *(0, 1, 255),
    ]


@pytest.mark.parametrize("metric", ["lpips", "clip-score"])
def test_metrics_of_photographs_refuse_other_channels_by_name(metric: str, tmp_path: Path) -> None:
    model = trained("seven channels", "mlp", tmp_path / "run")
    with pytest.raises(ValueError, match=f"{metric} knows grey and colour pictures, and these have 7 channels"):
        unsteep.evaluate(model, torch.from_numpy(some("seven channels")), n=12, metrics=(metric,), split="all")


def test_rectangular_pictures_of_a_folder(tmp_path: Path) -> None:
    """The command line, with RGBA kept."""
    (tmp_path / "photos").mkdir()
    random = np.random.default_rng(0)
    for i in range(12):
        photo = random.integers(0, 256, (20, 30, 4)).astype(np.uint8)
        Image.fromarray(photo).save(tmp_path / "photos" / f"{i}.png")
    settings = ["data.height=8", "data.width=12", "data.channels=4", "model.network.width=8"]
    settings += ["model.network.groups=4", "model.network.multipliers=1,2", "model.network.attention="]
    settings += ["train.steps=2", "train.batch=4", "train.warmup=1", "train.preview_every=1"]
    run = tmp_path / "run"
    made("train", "folder", "--data", tmp_path / "photos", *(f"--set={word}" for word in settings), "--out", run)
    model = unsteep.load(run, device="cpu")
    assert model.space.shape == (4, 8, 12)
    made("sample", run, "-n", 2, "--steps", 2, "--out", tmp_path / "a.png")
    made("likelihood", run, "--split", "train", "-n", 4, "--terms", 2, "--out", tmp_path / "bits")
    made("check", run, "--only", "run")
    made("show", run)
    whole = Folder(path=str(tmp_path / "photos"), height=8, width=12, channels=4).read()
    assert whole.rows(torch.tensor([0])).x.shape == (1, 4, 8, 12)


def test_a_square_folder_of_old_opens(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for i in range(6):
        Image.new("RGB", (20, 30), (i, i, i)).save(tmp_path / "photos" / f"{i}.png")
    data = Folder(path=str(tmp_path / "photos"), size=8).read()
    assert data.rows(torch.tensor([0])).x.shape == (1, 3, 8, 8)
