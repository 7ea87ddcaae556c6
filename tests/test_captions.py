"""Pictures with captions: the three ways to write them, and everything that can be missing."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from unsteep.data import Captions, Examples


def paint(root: Path, *names: str) -> list[str]:
    """A grey picture of 5 x 5 for each name, as bright as its place in the list, and a caption that says so."""
    for i, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((5, 5), i, np.uint8)).save(root / name)
    return [f"number {i}" for i in range(len(names))]


def read(path: Path, split="all", **settings) -> Examples:
    return Captions(path=str(path), size=4, channels=1, **settings).read(split)


def consistent(data: Examples) -> bool:
    """Whether every picture is as bright as its caption says, and is listed under its name."""
    brightness = [int(x.flatten()[0]) for x in data.x]
    return [f"number {b}" for b in brightness] == list(data.captions) and len(data.files) == len(data)


NAMES = ("b.png", "a.png", "deep/er/c.png", "deep/a.bmp")
LAYOUTS = ["beside", "json beside", "tsv", "csv", "jsonl", "other keys", "backslashes"]


def write(root: Path, layout: str, names: tuple[str, ...], captions: list[str]) -> None:
    pairs = list(zip(names, captions, strict=True))
    if layout == "beside":
        for name, caption in pairs:
            (root / name).with_suffix(".txt").write_text(f"\n  {caption.replace(' ', '  ')}\nanother one\n")
    elif layout == "json beside":
        for name, caption in pairs:
            (root / name).with_suffix(".json").write_text(json.dumps({"width": 5, "caption": f" {caption}\n"}))
    elif layout == "tsv":
        rows = "".join(f"{name}\t{caption}\n" for name, caption in pairs)
        (root / "metadata.tsv").write_text("file_name\ttext\n" + rows, encoding="utf-8")
    elif layout == "csv":
        rows = "".join(f'"{caption}",{name},more\n' for name, caption in pairs)
        (root / "any.csv").write_text("\ufeffcaption,file,other\n" + rows, encoding="utf-8")
    else:
        file, text = ("file_name", "text") if layout == "other keys" else ("file", "caption")
        names = tuple(name.replace("/", "\\") if layout == "backslashes" else f"./{name}" for name in names)
        rows = [json.dumps({file: name, text: caption}) for name, (_, caption) in zip(names, pairs, strict=True)]
        (root / "metadata.jsonl").write_text("\n\n".join(rows))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_each_picture_its_caption(tmp_path, layout):
    write(tmp_path, layout, NAMES, paint(tmp_path, *NAMES))
    data = read(tmp_path)
    assert consistent(data)
    assert data.files == tuple(sorted(NAMES))
    assert data.skipped == ()
    assert data.x.shape == (4, 1, 4, 4)


def test_the_first_of_several_captions_is_taken(tmp_path):
    paint(tmp_path, "0.png", "1.png")
    (tmp_path / "a.csv").write_text(
        "file,caption\n1.png,number 1\n0.png,  \n1.png,other\n0.png,number 0\n0.png,other\n"
    )
    assert consistent(read(tmp_path))
    assert read(tmp_path).skipped == ()


def test_splits_and_limits_keep_captions_beside_their_pictures(tmp_path):
    names = tuple(f"{i:02}.png" for i in range(20))
    write(tmp_path, "csv", names, paint(tmp_path, *names))
    (tmp_path / "03.png").write_bytes(b"junk")
    train, test = read(tmp_path, "train", holdout=0.3), read(tmp_path, "test", holdout=0.3)
    assert consistent(train)
    assert consistent(test)
    assert len(train) + len(test) == 19
    assert not set(train.files) & set(test.files)
    few = read(tmp_path, limit=5, max_bad=0.2)
    assert consistent(few)
    assert few.files == ("00.png", "01.png", "02.png", "04.png", "05.png")
    assert few.skipped[0][0] == "03.png"


@pytest.mark.parametrize("layout", ["beside", "csv"])
def test_pictures_without_a_caption_are_counted_and_named(tmp_path, layout):
    captions = paint(tmp_path, *NAMES)
    write(tmp_path, layout, NAMES[:3], captions[:3])
    data = read(tmp_path, max_bad=0.25)
    assert consistent(data)
    assert data.skipped == (("deep/a.bmp", "no caption"),)
    assert "deep/a.bmp (no caption)" in dict(data.summary())["skipped"]
    with pytest.raises(ValueError, match=r"1 of 4 pictures have no caption \(deep/a.bmp\): .*data.max_bad"):
        read(tmp_path, max_bad=0.24)


def test_captions_without_a_picture_are_counted_and_named(tmp_path):
    (tmp_path / "in").mkdir()
    write(tmp_path / "in", "csv", ("a.png", "../b.png", "c.png"), paint(tmp_path / "in", "a.png", "../b.png", "c.png"))
    data = read(tmp_path / "in", max_bad=0.34)
    assert data.skipped == (("../b.png", "caption without a picture"),)  # it exists, but outside the folder
    assert consistent(data)
    with pytest.raises(ValueError, match=r"1 of 3 captions name no picture here \(../b.png\)"):
        read(tmp_path / "in")


def test_text_that_is_no_caption_is_named(tmp_path):
    write(tmp_path, "beside", NAMES, paint(tmp_path, *NAMES))
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe\xff")
    (tmp_path / "b.txt").write_text(" \n")
    data = read(tmp_path, max_bad=0.5)
    assert consistent(data)
    assert data.skipped == (("a.png", "a.txt: it is not UTF-8"), ("b.png", "b.txt is empty"))


def test_of_several_tables_one_is_given_as_the_path(tmp_path):
    captions = paint(tmp_path, *NAMES)
    write(tmp_path, "csv", NAMES, captions)
    write(tmp_path, "jsonl", NAMES, captions[::-1])
    with pytest.raises(ValueError, match=r"several tables \(any.csv, metadata.jsonl\)"):
        read(tmp_path)
    assert consistent(read(tmp_path / "any.csv"))
    assert not consistent(read(tmp_path / "metadata.jsonl"))


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.csv", "picture,caption\na.png,x\n", 'line 2 lacks "file" or "caption"'),
        ("a.csv", "", "no picture has a caption"),
        ("a.csv", b"file,caption\na.png,\xff\n", "not UTF-8"),
        ("a.jsonl", '{"file": "a.png", "caption": "x"}\n{"file"', "line 2 is not JSON"),
        ("a.jsonl", "[1, 2]", "line 1 is not an object"),
        ("a.jsonl", '{"file": "a.png", "caption": 3}', "line 1 lacks"),
        ("a.md", "nothing", "no picture has a caption"),
    ],
)
def test_a_table_that_will_not_do_says_why(tmp_path, name, content, words):
    paint(tmp_path, "a.png")
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=words) as error:
        read(tmp_path)
    assert "a.png with a.txt" in str(error.value)
    assert "\n" not in str(error.value)


# What a data set does with captions


def test_a_data_set_without_captions_has_the_digest_it_always_had():
    x, head = torch.arange(12, dtype=torch.uint8).reshape(3, 1, 2, 2), ["torch.uint8", [3, 1, 2, 2], False, []]
    assert Examples(x).digest == hashlib.sha256(json.dumps(head).encode() + bytes(range(12))).hexdigest()


def test_captions_are_part_of_the_digest_the_summary_and_every_selection():
    x = torch.arange(3, dtype=torch.uint8).reshape(3, 1, 1, 1)
    data = Examples(x, captions=("one", "two", "one"))
    others = [Examples(x), Examples(x, captions=("one", "one", "two")), Examples(x, captions=("one", "two", "three"))]
    assert len({one.digest for one in (data, *others)}) == 4
    assert data.select([2, 1]).captions == ("one", "two")
    assert data.select(x.flatten() > 0).captions == ("two", "one")
    assert Examples(x).select([0]).captions == ()
    assert dict(data.summary())["captions"] == '2 different: "one", "two"'
    assert "captions" not in dict(Examples(x).summary())
