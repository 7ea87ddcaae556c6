"""What a command may write over: what unsteep wrote, and what the user says; and where nothing can be made."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from command_line import made, unsteep_
from small_models import saved
from unsteep.pages.ours import is_ours
from unsteep.pages.plots import lines

MASK = np.zeros((8, 8), np.uint8)
MASK[2:5, 2:5] = 255

SAMPLE = ("sample", "model", "-n", 2, "--steps", 2)
WRITERS: dict[str, tuple[tuple[object, ...], str]] = {  # the command, and the option of what it writes
    **{f"sample {suffix}": ((*SAMPLE,), f"--out=x.{suffix}") for suffix in ("png", "jpg", "webp", "npz")},
    **{f"movie {suffix}": ((*SAMPLE,), f"--movie=x.{suffix}") for suffix in ("gif", "webp", "png")},
    "fill": (("fill", "model", "photo.png", "--mask", "mask.png", "-n", 1, "--steps", 2), "--out=x.png"),
    "redraw": (("redraw", "model", "photo.png", "-n", 1, "--steps", 2), "--out=x.png"),
    "interpolate": (
        ("interpolate", "model", "photo.png", "mask.png", "--frames", 3, "--steps", 2, "--method", "latent"),
        "--out=x.png",
    ),
    "invert": (("invert", "model", "photo.png", "--tolerance", 0.5), "--out=x.safetensors"),
    "data": (("data", "photos"), "--out=x.png"),
    "schedules": (("schedules", "--image", "photo.png"), "--plot=x.png"),
}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    saved(Path("model"))
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8) * 3).save("photo.png")
    Image.fromarray(MASK).save("mask.png")
    Path("photos").mkdir()
    for i in range(3):
        Image.fromarray(np.roll(MASK, i)).save(f"photos/{i}.png")


@pytest.mark.parametrize("writer", WRITERS)
def test_a_file_of_ours_is_replaced_and_one_of_the_user_is_not(writer: str) -> None:
    command, option = WRITERS[writer]
    name, file = option.split("=")[0], Path(option.split("=")[1])
    made(*command, option)
    before = file.read_bytes()
    assert is_ours(file)
    made(*command, option)  # the same again
    assert file.read_bytes() == before

    theirs(file)
    mine = file.read_bytes()
    code, _, err = unsteep_(*command, option)
    assert code == 2, err
    said = f"unsteep: {name}: {file} exists, and unsteep did not write it; choose another name, or overwrite it with"
    assert err.startswith(f"{said} --force"), err
    assert file.read_bytes() == mine
    made(*command, option, "--force")
    assert is_ours(file)


def theirs(file: Path) -> None:
    """A file of this kind that somebody else wrote."""
    if file.suffix == ".npz":
        np.savez(file, images=MASK)
    elif file.suffix == ".safetensors":
        from safetensors.numpy import save_file

        save_file({"latents": MASK}, file)
    else:
        Image.fromarray(MASK).save(file)


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_plots_bear_the_mark(suffix: str) -> None:
    assert is_ours(lines(Path(f"x.{suffix}"), {"a": ([1, 2], [1, 2])}))
    assert not is_ours(Path("photo.png"))


def test_a_damaged_file_is_not_ours_and_an_empty_one_may_be_filled() -> None:
    for suffix in ("png", "npz"):
        Path(f"x.{suffix}").write_bytes(b"junk")
        assert not is_ours(Path(f"x.{suffix}"))
        assert unsteep_(*SAMPLE, "--out", f"x.{suffix}")[0] == 2
    Path("y.png").touch()
    made(*SAMPLE, "--out", "y.png")


@pytest.mark.parametrize(
    "command",
    [
        ("fill", "model", "sheet.png", "--mask", "mask.png"),
        ("redraw", "model", "sheet.png"),
        ("interpolate", "model", "photo.png", "sheet.png"),
        ("schedules", "--image", "sheet.png", "--plot", "sheet.png"),
    ],
)
def test_what_is_read_is_never_written_over(command: tuple[str, ...]) -> None:
    made(*SAMPLE, "--out", "sheet.png")
    before = Path("sheet.png").read_bytes()
    out = () if "--plot" in command else ("--out", "sheet.png")
    code, _, err = unsteep_(*command, *out, "--force")
    assert (code, "sheet.png is read for this" in err) == (2, True), err
    assert Path("sheet.png").read_bytes() == before


def test_a_sheet_and_its_movie_are_two_files() -> None:
    code, _, err = unsteep_(*SAMPLE, "--out", "x.png", "--movie", "./x.png")
    assert (code, "--movie x.png: --out is written there" in err) == (2, True), err


PLACES = {
    "nothing": "nothing is a link to nowhere, which is not there; remove it, or choose another place",
    "nothing.png": "nothing.png is a link to nowhere, which is not there",
    "nothing/x.png": "nothing is a link to nowhere, which is not there",
    "photo.png/x.png": "photo.png is a file, and photo.png/x.png cannot lie in it",
    "closed/x.png": "closed may not be written to",
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    "command",
    [SAMPLE, ("train", "digits", "--set", "train.steps=1"), ("evaluate", "model", "--data", "photos"), ("bench",)],
    ids=lambda command: command[0],
)
def test_a_place_where_nothing_can_be_made_is_said_in_our_words(command: tuple[object, ...], place: str) -> None:
    os.symlink("nowhere", "nothing")
    os.symlink("nowhere", "nothing.png")
    Path("closed").mkdir(mode=0o500)
    if place == "closed/x.png" and os.access("closed", os.W_OK):
        pytest.skip("the superuser may write anywhere")
    code, _, err = unsteep_(*command, "--out", place)
    assert (code, err.count("\n")) == (2, 1)
    assert err.startswith(f"unsteep: --out: {PLACES[place]}"), err


def test_samples_of_earlier_commands_that_stay_in_a_folder_are_told() -> None:
    made("sample", "model", "-n", 3, "--steps", 2, "--out", "samples")
    again = made("sample", "model", "-n", 2, "--steps", 2, "--out", "samples", "--force")
    assert "1 sample of earlier commands stay in samples beside these, 000002.png for one" in again
    assert "stay" not in made("sample", "model", "-n", 3, "--steps", 2, "--out", "samples", "--force")


def test_what_a_killed_writer_left_goes_when_nobody_writes_to_it_any_more() -> None:
    old, new, other = Path(".x.0123abcd.png"), Path(".x.0123abce.png"), Path(".y.0123abcd.png")
    mine = Path(".x.original.png")
    for one in (old, new, other, mine):
        one.write_bytes(b"half")
        os.utime(one, (0, 0))
    os.utime(new)
    made(*SAMPLE, "--out=x.png")
    assert [one for one in (old, new, other, mine) if one.exists()] == [new, other, mine]
