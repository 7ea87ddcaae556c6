"""What is said of a folder before anything is trained on it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from command_line import made, unsteep_
from unsteep.data.survey import NEAR, signs, survey


def noise(seed: int, side: int = 40, channels: int = 3) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 8, channels), np.uint8)
    return np.kron(coarse, np.ones((side // 8, side // 8, 1), np.uint8))


def save(picture: np.ndarray, path: Path, **how: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture.squeeze()).save(path, **how)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes of five; one file twice, one again as JPEG, one again a little lighter, and what is no picture."""
    for i in range(5):
        save(noise(i), tmp_path / "a" / f"{i}.png")
        save(noise(10 + i, side=80), tmp_path / "b" / f"{i}.png")
    (tmp_path / "b" / "same.png").write_bytes((tmp_path / "a" / "0.png").read_bytes())
    save(noise(1), tmp_path / "b" / "again.jpg", quality=90)
    save(np.minimum(noise(2).astype(int) + 8, 255).astype(np.uint8), tmp_path / "b" / "lighter.png")
    (tmp_path / "b" / "words.txt").write_text("no picture")
    return tmp_path


def test_it_counts_what_is_there(folder: Path) -> None:
    found = survey(folder)
    rows = dict(found.rows)
    assert rows["pictures"].startswith("13 in ")
    assert rows["sizes"] == "2 different: 40 x 40: 8, 80 x 80: 5"
    assert rows["kinds"] == "colour: 13"
    assert rows["sub-folders"] == "2: b: 8, a: 5"
    assert rows["skipped"] == "1"
    assert ("", "1: .txt is no picture, as b/words.txt") in found.rows
    assert rows["equal files"] == "1 more than needed, as a/0.png = b/same.png"
    assert rows["near-duplicates"].startswith("3 more than needed")
    for pair in ("a/0.png = b/same.png", "a/1.png = b/again.jpg", "a/2.png = b/lighter.png"):
        assert pair in rows["near-duplicates"]
    said = " ".join(found.advice)
    for words in ("data.labelled=true", "nearly the same", "data.size=32", "13 pictures are few", "train.flip=false"):
        assert words in said


def test_different_pictures_are_not_near() -> None:
    codes = signs(torch.from_numpy(np.stack([noise(i).transpose(2, 0, 1) for i in range(200)])))
    apart = np.bitwise_count(codes[:, None] ^ codes[None])
    assert (apart[~np.eye(200, dtype=bool)] > NEAR).all()
    assert (apart.diagonal() == 0).all()


def test_the_verb_draws_a_contact_sheet(folder: Path, tmp_path: Path) -> None:
    said = made("data", folder, "--out", tmp_path / "contact.png")
    assert "13 in" in said
    with Image.open(tmp_path / "contact.png") as sheet:
        assert min(sheet.size) > 64
    code, _, err = unsteep_("data", tmp_path / "nowhere")
    assert (code, "found none at" in err) == (2, True)
    code, _, err = unsteep_("data", folder, "--out", "sheet.xyz")
    assert (code, "one of .png" in err) == (2, True)


def test_flat_pictures_are_not_near_and_none_is_written_over(tmp_path: Path) -> None:
    for name, value in (("black", 0), ("white", 255), ("grey", 128)):
        save(np.full((32, 32, 3), value, np.uint8), tmp_path / f"{name}.png")
    assert dict(survey(tmp_path).rows)["near-duplicates"] == "none"
    before = (tmp_path / "white.png").read_bytes()
    code, _, err = unsteep_("data", tmp_path, "--out", tmp_path / "white.png")
    assert (code, "one of the files that are looked at" in err) == (2, True)
    assert (tmp_path / "white.png").read_bytes() == before


def test_grey_deep_and_transparent_are_said(tmp_path: Path) -> None:
    save(np.arange(64 * 64, dtype=np.uint16).reshape(64, 64) * 16, tmp_path / "deep.png")
    save(noise(0, 64, 4), tmp_path / "clear.png")
    found = survey(tmp_path)
    assert dict(found.rows)["kinds"] == "colour with transparency: 1, grey, 16 bits: 1"
    assert {"data.bits=16" in " ".join(found.advice), "data.channels=4" in " ".join(found.advice)} == {True}


def test_every_kind_of_what_is_skipped_is_shown_and_what_train_would_refuse(folder: Path) -> None:
    for suffix, count in (("txt", 4), ("pdf", 3), ("doc", 2), ("mov", 2), ("zip", 1)):
        for i in range(count):
            (folder / f"{i}.{suffix}").write_text("no picture")
    assert not any("refuses" in text for text in survey(folder).advice)
    for i, cut in enumerate((100, 200)):  # two ways to be broken that are one
        whole = (folder / "b" / f"{i}.png").read_bytes()
        (folder / f"cut{i}.png").write_bytes(whole[: len(whole) - cut])
    found = survey(folder)
    said = "\n".join(text for _, text in found.rows)
    for words in ("5: .txt", "3: .pdf", "2: .doc", "2: .mov", "1: .zip"):
        assert words in said
    assert dict(found.rows)["skipped"] == "15"
    [advice] = [text for text in found.advice if "refuses" in text]
    assert advice.startswith("2 of 15 picture files cannot be read")
    assert "data.max_bad=0.14" in advice

    code, _, err = unsteep_("train", "folder", "--data", folder, "--dry-run", "--set", "data.size=16")
    assert (code, "2 of 15 picture files cannot be read" in err) == (2, True), err
