"""An aligned picture from the data to samples: batches hear it, noised and mirrored; a model draws after it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import unsteep
from building import batches_for
from command_line import made
from unsteep.core.chains import CosineBetas
from unsteep.core.schedules import Cosine
from unsteep.data import Array, Examples, Folder, Shapes
from unsteep.hearing.pairs import low_resolution, shrunk, sketch
from unsteep.model import Model, ModelConfig
from unsteep.networks import UNetConfig
from unsteep.pages import pictures
from unsteep.spaces import Pixels
from unsteep.training import denoising
from unsteep.training.batches import Batches
from unsteep.training.conditioning import Conditioning
from unsteep.training.loop import TrainConfig
from unsteep.training.run import Run, resume, start

PIXELS = Pixels(channels=3, size=16)
CPU = torch.device("cpu")


def run_of(picture: str = "low-resolution:4", data: Folder | Shapes | None = None, **condition: object) -> Run:
    network = UNetConfig(width=16, groups=4, multipliers=(1, 2), blocks=1, attention=())
    return Run(
        data=Shapes(size=16, count=40, test_count=10) if data is None else data,
        condition=Conditioning(**{"picture": picture, "drop": 0.25, **condition}),  # type: ignore[arg-type]
        model=ModelConfig(network=network, prediction="v"),
        schedule=CosineBetas(steps=8),  # so that a report is drawn in no time
        train=TrainConfig(steps=2, batch=16, checkpoint_every=2, preview_every=1, warmup=1),
    )


def batches_of(run: Run) -> Batches:
    data = run.data.read("train")
    return batches_for(run, data, run.describe(data))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    out = tmp_path_factory.mktemp("run") / "upscale"
    assert start(run_of(), out, say=lambda _: None)
    trained = unsteep.load(out)
    generator = torch.Generator().manual_seed(0)
    for weight in trained.denoiser.parameters():  # so that it hears what it is told
        weight.data += 0.1 * torch.randn(weight.shape, generator=generator)
    return trained


SMALL = torch.randint(0, 256, (3, 3, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def test_a_batch_hears_what_is_left_of_its_own_pictures_mirrored_with_them():
    class Mirrored(Folder):
        """Any source but drawn shapes, whose captions a mirror would make untrue."""

        def read(self, split: str = "train") -> Examples:
            return replace(Shapes(size=16, count=40, test_count=10).read(split), captions=())  # type: ignore[arg-type]

    run = run_of(data=Mirrored(path=""), augment=0.0, drop=0.0)
    run = replace(run, train=replace(run.train, flip=True))
    originals = run.data.read("train").x
    mirrored = 0
    for batch, _ in batches_of(run)(0):
        x = PIXELS.decode(batch.x)
        mirrored = int((x != originals[batch.index]).flatten(1).any(1).sum())
        assert batch.condition is not None
        heard = PIXELS.decode(batch.condition["picture"])
        assert (heard.int() - low_resolution(x, 4).int()).abs().max() <= 1  # a half may be rounded the other way
        assert (batch.condition["picture_logsnr"] == torch.inf).all()
    assert 0 < mirrored < len(originals)


def test_the_picture_is_noised_to_times_drawn_evenly():
    """At the level that the network is told, what was added to the picture is standard normal noise."""
    run = run_of("sketch", augment=0.6, drop=0.0)
    data = run.data.read("train")
    times, noises, batches = [], [], batches_of(run)
    for step in range(60):
        for batch, _ in batches(step):
            level = Cosine().inverse(batch.condition["picture_logsnr"])  # type: ignore[union-attr]
            clean = Pixels(channels=1, size=16).encode(sketch(data.x[batch.index]))
            a, s = (of.float()[:, None, None, None] for of in (level.alpha, level.sigma))
            noises.append(((batch.condition["picture"] - a * clean) / s)[level.t > 0.05])  # type: ignore[union-attr]
            times.append(level.t)
    t = torch.cat(times).sort().values
    assert float((t / 0.6 - (torch.arange(len(t)) + 0.5) / len(t)).abs().max()) < 1.6 / len(t) ** 0.5
    noise = torch.cat(noises).flatten()
    assert abs(float(noise.mean())) < 5 / len(noise) ** 0.5
    assert abs(float(noise.var()) - 1) < 5 * (2 / len(noise)) ** 0.5


def test_some_pictures_are_hidden_and_pure_noise_says_so():
    batches = batches_of(run_of(drop=0.5))
    hidden = [
        (batch.condition["picture_logsnr"] == -torch.inf)  # type: ignore[union-attr]
        for step in range(20)
        for batch, _ in batches(step)
    ]
    assert 0.35 < float(torch.cat(hidden).float().mean()) < 0.65


def test_the_sample_is_of_its_own_picture_small_or_whole(model: Model):
    whole = torch.randint(0, 256, (1, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
    after, same, other, none = (
        model.sample(2, steps=3, picture=of) for of in (whole, shrunk(whole, 4), SMALL[:1], None)
    )
    assert torch.equal(after, same)
    assert not torch.equal(after, other)
    assert not torch.equal(after, none)
    assert not torch.equal(after, model.sample(2, steps=3, picture=whole, augment=0.4))


@pytest.mark.parametrize(
    ("given", "n", "labels"),
    [
        (1, 2, {"captions": ["given", "seed 0", "seed 1"]}),
        (3, 3, {"row_labels": ["given", "sample"]}),
        (3, 5, {"row_labels": ["given", "sample 1", "sample 2"]}),
        (13, 13, {"row_labels": ["given", "sample", "given", "sample"]}),  # twelve at most in a row
    ],
)
def test_a_sheet_names_what_was_given(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: int, n: int, labels: dict
):
    model.save(tmp_path / "model")
    generator = np.random.default_rng(0)
    (tmp_path / "given").mkdir()
    for i in range(given):
        Image.fromarray(generator.integers(0, 256, (4, 4, 3), np.uint8)).save(tmp_path / "given" / f"{i}.png")
    told: list[dict] = []
    draw = pictures.grid
    monkeypatch.setattr(pictures, "grid", lambda *of, **how: [told.append(how), draw(*of, **how)][1])
    said = made(
        "sample",
        tmp_path / "model",
        "--picture",
        tmp_path / "given",
        "-n",
        n,
        "--steps",
        2,
        "--out",
        tmp_path / "x.png",
    )
    assert f"{n} samples in" in said
    assert told == [labels]


def test_each_sample_has_its_own_picture_and_its_noise(model: Model):
    for guidance in (1.0, 2.0):
        together = model.sample(3, steps=3, picture=SMALL, augment=0.3, guidance=guidance).int()
        alone = [
            model.sample(1, steps=3, picture=SMALL[i : i + 1], augment=0.3, seed=i, guidance=guidance).int()
            for i in range(3)
        ]
        assert (together - torch.cat(alone)).abs().max() <= 1


def test_a_condition_stands_in_place_of_its_parts(model: Model):
    condition = model.condition_of(3, picture=SMALL, augment=0.3)
    asked = model.sample(3, steps=3, picture=SMALL, augment=0.3)
    assert torch.equal(model.sample(3, steps=3, condition=condition), asked)


def test_what_cannot_be_asked_is_refused(model: Model):
    with pytest.raises(ValueError, match=r"augment: expected a time from 0 to 0\.5"):
        model.sample(1, picture=SMALL[:1], augment=0.6)
    with pytest.raises(ValueError, match="picture: expected one or 2, one for each sample; got 3"):
        model.sample(2, picture=SMALL)
    with pytest.raises(ValueError, match=r"picture: expected pictures \(n, 3, 4, 4\) or \(n, 3, 16, 16\), got"):
        model.sample(1, picture=SMALL[:1, :1])
    needy = Model(model.denoiser, replace(model.description, drop=0.0))
    with pytest.raises(ValueError, match=r"never learned to go without its low-resolution:4; give it"):
        needy.sample(1)
    deaf = Model(model.denoiser, replace(model.description, hears=()))
    with pytest.raises(ValueError, match="picture: this model was trained without one"):
        deaf.sample(1, picture=SMALL[:1])


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"picture": "low-resolution:5"}, "a size that divides 16 pixels, got 5"),
        ({"picture": "low-resolution:16"}, "a size that divides 16 pixels, got 16"),
        ({"picture": "given"}, "nothing is given beside these pictures .* set data.aligned"),
    ],
)
def test_a_run_whose_picture_cannot_be_had_is_refused(settings: dict, says: str):
    run = run_of(**settings)
    with pytest.raises(ValueError, match=rf"condition.picture: .*{says}"):
        run.describe(run.data.read("train"))
    with pytest.raises(ValueError, match="augment: expected a time from 0 to 1"):
        run_of(augment=1.5)


@pytest.fixture
def folders(tmp_path: Path) -> Folder:
    """Six pictures, one grey value each, and masks of the opposite, but for the third picture."""
    for name in ("pictures", "masks"):
        (tmp_path / name / "sub").mkdir(parents=True)
    for i in range(6):
        Image.new("RGB", (16, 16), (10 * i,) * 3).save(tmp_path / "pictures" / "sub" / f"{i}.png")
        if i != 2:
            Image.new("RGB", (16, 16), (255 - 10 * i,) * 3).save(
                tmp_path / "masks" / "sub" / f"{i}.webp", lossless=True
            )
    return Folder(path=str(tmp_path / "pictures"), aligned=str(tmp_path / "masks"), size=16, max_bad=0.2)


def test_a_folder_of_aligned_pictures_is_matched_by_name(folders: Folder):
    data = folders.read("train")
    assert data.aligned is not None
    assert torch.equal(data.aligned, 255 - data.x)
    assert [file for file, _ in data.skipped] == ["sub/2.png"]
    assert len(data) == 5
    assert torch.equal(data.select([1, 0]).aligned, data.aligned[[1, 0]])  # type: ignore[arg-type]
    assert data.digest != replace(data, aligned=data.x).digest
    (batch,) = (batch for batch, _ in batches_of(run_of("given", folders, augment=0.0, drop=0.0))(0))
    assert torch.equal(PIXELS.decode(batch.condition["picture"]), data.aligned[batch.index])  # type: ignore[union-attr]


def test_aligned_pictures_that_are_missing_or_broken_are_named(folders: Folder):
    with pytest.raises(
        ValueError, match=r"data\.aligned: 1 of 6 pictures have no aligned one: sub/2.png \(none of its"
    ):
        replace(folders, max_bad=0.1).read("train")
    (Path(folders.aligned) / "sub" / "4.webp").write_bytes(b"no picture")
    data = folders.read("train")
    assert data.aligned is not None
    assert torch.equal(data.aligned, 255 - data.x)
    assert len(data) == 4
    assert ("sub/4.webp", "not a picture") in data.skipped


def test_a_picture_and_the_one_beside_it_are_cut_alike(folders: Folder):
    """Both of one shape, whatever their sizes; another shape would be cut elsewhere, and is left out and named."""
    here, there = Path(folders.path) / "sub", Path(folders.aligned) / "sub"
    wide = Image.new("L", (32, 16))
    wide.paste(255, (8, 0, 16, 16))  # the left half of the square in the middle
    for i in (0, 1):
        wide.save(here / f"{i}.png")
    wide.resize((64, 32)).save(there / "0.webp", lossless=True)
    wide.crop((8, 0, 24, 16)).save(there / "1.webp", lossless=True)
    data = replace(folders, max_bad=0.4).read("train")
    assert ("sub/1.png", f"another shape than sub/1.webp in {folders.aligned}") in data.skipped
    assert data.aligned is not None
    place = data.files.index("sub/0.png")
    assert abs(data.x[place].int() - data.aligned[place].int()).max() <= 60  # but for the kernel at the edge
    assert (data.x[place, :, :, :6] > 200).all()
    squeezed = replace(folders, max_bad=0.4, crop="stretch").read("train")
    assert "sub/1.png" in squeezed.files
    with pytest.raises(ValueError, match=r"data\.aligned: expected a folder of pictures, found none"):
        replace(folders, aligned="nowhere").read("train")


def test_aligned_pictures_that_nothing_hears_are_refused(folders: Folder):
    run = run_of("low-resolution:4", folders)
    with pytest.raises(ValueError, match=r"data\.aligned: nothing hears these .* set condition\.picture=given"):
        run.describe(run.data.read("train"))


def test_a_run_that_hears_pictures_resumes_bit_for_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """With its noise and its mirrors, in parts."""
    monkeypatch.setattr(denoising, "report", lambda *_: None)
    array = tmp_path / "pictures.npy"
    np.save(array, Shapes(size=16, count=40).read("train").x.numpy().transpose(0, 2, 3, 1))
    run = run_of("sketch", Array(path=str(array)))
    run = replace(run, train=replace(run.train, steps=4, checkpoint_every=2, accumulate=2, flip=True))
    assert start(run, tmp_path / "whole", say=lambda _: None)
    assert start(replace(run, train=replace(run.train, steps=2)), tmp_path / "parts", say=lambda _: None)
    assert resume(["train.steps=4"], tmp_path / "parts", say=lambda _: None)
    whole, parts = (unsteep.load(tmp_path / name).denoiser.state_dict() for name in ("whole", "parts"))
    assert all(torch.equal(parts[name], value) for name, value in whole.items())
