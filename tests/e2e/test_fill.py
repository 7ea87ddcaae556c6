"""Filling in and redrawing from the command line: what the sheets hold, and what is refused in one line."""

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from unsteep.cli import main
from unsteep.core.chains import CosineBetas
from unsteep.hearing import Label
from unsteep.model import Description, Model, ModelConfig
from unsteep.networks import MLPConfig, UNetConfig
from unsteep.pages.pictures import plan
from unsteep.spaces import Pixels, Vectors

SIZE, SCALE = 8, 8  # pictures of 8 x 8 are shown at 64 x 64


def run(*arguments: object) -> tuple[int, str, str]:
    """A command line in this process: exit code, stdout, stderr."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    return int(ended.value.code or 0), out.getvalue(), err.getvalue()


def made(*arguments: object) -> str:
    code, out, err = run(*arguments)
    assert (code, err) == (0, "")
    return out


def refused(*arguments: object) -> str:
    """The one line of a command that must fail and write nothing."""
    before = sorted(Path().rglob("*"))
    code, _, err = run(*arguments)
    assert code == 2
    assert err.startswith("unsteep: ")
    assert err.count("\n") == 1, err
    assert sorted(Path().rglob("*")) == before
    return err


def tiles(path: Path | str, count: int) -> np.ndarray:
    """The pictures on a sheet (count, 8, 8), each below its name."""
    with Image.open(path) as sheet:
        pixels = np.asarray(sheet.convert("L")).astype(int)
    across = (pixels.shape[1] - 20 + 4) // (SIZE * SCALE + 4)  # the gap of tiles of 64
    layout = plan((count, 1, SIZE, SIZE), across, captions=["original", *["seed 0"] * (count - 1)])
    places = [layout.box(i)[:2] for i in range(count)]
    return np.stack([pixels[y : y + 64 : SCALE, x : x + 64 : SCALE] for x, y in places])


@pytest.fixture(scope="module", autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("home")
    with contextlib.chdir(folder):
        network = UNetConfig(width=8, groups=4, multipliers=(1, 2), blocks=1, attention=())
        config, chain = ModelConfig(network=network, prediction="v"), CosineBetas(steps=20)
        torch.manual_seed(0)
        for name, names in (("run", ("cat", "dog")), ("plain", ())):
            description = Description(
                model=config,
                schedule=chain,
                space=Pixels(channels=1, size=SIZE),
                hears=(Label(names=names),) if names else (),
            ).filled()
            denoiser = description.build()
            for weight in denoiser.parameters():
                weight.data += 0.1 * torch.randn_like(weight)
            Model(denoiser, description).save(name)
        rows = Description(
            model=ModelConfig(network=MLPConfig(width=8, depth=1)),
            schedule=chain,
            space=Vectors(mean=(0.0,), std=(1.0,)),
        ).filled()
        Model(rows.build(), rows).save("rows")
        random = np.random.default_rng(0)
        Image.fromarray(random.integers(0, 256, (SIZE, SIZE), dtype=np.uint8)).save("photo.png")
        for name, box in (("mask", np.s_[2:6, 3:]), ("black", np.s_[:0]), ("white", np.s_[:])):
            pixels = np.zeros((SIZE, SIZE), np.uint8)
            pixels[box] = 255
            Image.fromarray(pixels).save(f"{name}.png")
        Image.new("RGB", (20, 12), "white").save("wide.png")
        yield folder


MISSING = np.s_[2:6, 3:]


@pytest.mark.parametrize("method", ["repaint", "pigdm"])
@pytest.mark.parametrize("asked", [("run", "--label", "dog", "--guidance", 2), ("plain",)], ids=["guided", "plain"])
def test_what_was_kept_is_kept(method: str, asked: tuple[object, ...]) -> None:
    name, *options = asked
    command = ("fill", name, "photo.png", "--mask", "mask.png", "-n", 3, "--method", method, "--steps", 10, *options)
    out = made(*command, "--out", "deep/f.png")
    calls = {"repaint": 10 + 4 * 9, "pigdm": 10}[method] * (2 if options else 1)  # a jump of one step at nine places
    assert out == f"3 fillings of photo.png in deep/f.png, {calls} network calls each\n"
    with Image.open("photo.png") as image:
        photo = np.asarray(image).astype(int)
    known = np.ones((SIZE, SIZE), bool)
    known[MISSING] = False
    first, second, *filled = tiles("deep/f.png", 5)
    assert np.array_equal(first, photo)
    assert np.array_equal(second, np.where(known, photo, 128))
    for picture in filled:
        assert np.array_equal(picture[known], photo[known])
        assert (picture[MISSING] != photo[MISSING]).mean() > 0.8
    assert not np.array_equal(filled[0], filled[1])

    made(*command, "--out", "again.png", "--batch", 2)
    assert np.abs(tiles("again.png", 5) - tiles("deep/f.png", 5)).max() <= 1  # a filling is its seed's, to rounding
    made(*command, "--out", "later.png", "--seed", 1)
    assert np.abs(tiles("later.png", 4)[2:] - tiles("deep/f.png", 5)[3:]).max() <= 1


def test_a_photo_and_its_mask_are_cut_alike() -> None:
    """From 20 x 12 the middle 12 x 12 is taken of both: a mask that is white left of it leaves nothing to fill."""
    mask = np.zeros((12, 20), np.uint8)
    mask[:, :4] = 255
    Image.fromarray(mask).save("left.png")
    assert "nothing is white" in refused("fill", "plain", "wide.png", "--mask", "left.png", "-n", 1)
    mask[:, :10] = 255
    Image.fromarray(mask).save("half.png")
    made("fill", "plain", "wide.png", "--mask", "half.png", "-n", 1, "--out", "half-filled.png", "--steps", 5)
    kept = tiles("half-filled.png", 2)[1]
    assert (kept == np.where(np.arange(8) < 4, 128, 255)).all()


def test_a_photo_on_its_side() -> None:
    """A camera's 12 x 20 that is seen as 20 x 12 has a mask of 20 x 12."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("L", (12, 20), 200).save("turned.jpg", exif=exif)
    Image.fromarray(np.pad(np.full((12, 10), 255, np.uint8), ((0, 0), (0, 10)))).save("seen.png")
    made("fill", "plain", "turned.jpg", "--mask", "seen.png", "-n", 1, "--steps", 5, "--out", "turned-filled.png")
    message = refused("fill", "plain", "turned.jpg", "--mask", "mask.png")
    assert "mask.png: 8 x 8 pixels, and turned.jpg has 20 x 12" in message


def test_redrawing() -> None:
    command = ("redraw", "run", "photo.png", "-n", 3, "--label", "cat", "--steps", 4)
    out = made(*command, "--strength", 0.5)
    assert out == "3 drawings after photo.png in redrawn.png, 4 network calls each\n"
    photo, *drawn = tiles("redrawn.png", 4)
    assert not np.array_equal(drawn[0], drawn[1])
    made(*command, "--strength", 0.5, "--batch", 2, "--out", "again.png")
    assert np.abs(tiles("again.png", 4) - tiles("redrawn.png", 4)).max() <= 1
    made(*command, "--strength", 0.2, "--out", "weak.png")
    near, far = (float(np.abs(np.stack(tiles(p, 4)[1:]) - photo).mean()) for p in ("weak.png", "redrawn.png"))
    assert near < far

    assert "0 network calls" in made("redraw", "plain", "photo.png", "-n", 2, "--strength", 0, "--out", "same.png")
    same = tiles("same.png", 3)
    assert (same == same[0]).all()
    assert "2 network calls" in made("redraw", "plain", "photo.png", "--strength", 0.1, "--out", "short.png")  # of 20


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("fill plain photo.png --mask wide.png", "wide.png: 20 x 12 pixels, and photo.png has 8 x 8"),
        ("fill plain photo.png --mask black.png", "nothing is white"),
        ("fill plain photo.png --mask white.png", "all is white"),
        ("fill plain photo.png --mask absent.png", "absent.png: expected a picture"),
        ("fill plain absent.png --mask mask.png", "absent.png: expected a picture"),
        ("fill plain photo.png", "--mask"),
        ("fill plain photo.png --mask mask.png --method repant", "did you mean repaint?"),
        ("fill plain photo.png --mask mask.png --solver dimm", "unknown solver 'dimm'"),
        ("fill plain photo.png --mask mask.png --steps 5 --jump 5", "fewer than the 5 steps"),
        ("fill plain photo.png --mask mask.png --resamples 0", "at least 1"),
        ("fill plain photo.png --mask mask.png --out f.npz", "f.npz"),
        ("fill plain photo.png --mask mask.png -n 0", "n: expected at least 1"),
        ("fill plain photo.png --mask mask.png --batch 0", "--batch"),
        ("fill plain photo.png --mask mask.png --label cat", "trained without labels"),
        ("fill run photo.png --mask mask.png --guidance 2", "--label"),
        ("fill run photo.png --mask mask.png --label bird", "its classes are 0 (cat), 1 (dog)"),
        ("fill rows photo.png --mask mask.png", "rows of 1 numbers"),
        ("redraw plain photo.png --strength 1.5", "strength: expected a time"),
        ("redraw plain photo.png --strength -0.5", "strength: expected a time"),
        ("redraw plain photo.png --strength 0.1 --steps 3", "expected 1 to 2"),
        ("redraw plain photo.png --steps 0", "--steps: expected at least 1"),
        ("redraw plain photo.png --solver dimm", "unknown solver 'dimm'"),
        ("redraw run photo.png --guidance 2", "--label"),
        ("redraw rows photo.png", "rows of 1 numbers"),
    ],
)
def test_mistakes(command: str, words: str) -> None:
    assert words in refused(*command.split())


def test_what_is_done_to_a_photo_is_said() -> None:
    Image.new("RGBA", (20, 12), (200, 0, 0, 90)).save("clear.png")
    Image.fromarray(np.pad(np.full((12, 10), 255, np.uint8), ((0, 0), (0, 10)))).save("half-of-it.png")
    said = made("fill", "plain", "clear.png", "--mask", "half-of-it.png", "-n", 1, "--steps", 5, "--out", "told.png")
    assert "clear.png: 20 x 12 pixels, cropped to its middle, scaled to 8 x 8, laid on white, made grey" in said
    Image.new("L", (8, 8), 200).save("as-it-is.png")
    said = made("fill", "plain", "as-it-is.png", "--mask", "mask.png", "-n", 1, "--steps", 5, "--out", "told.png")
    assert "pixels" not in said
