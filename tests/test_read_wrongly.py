"""Data that once were read wrongly in silence, or hung a reader: each is read rightly, or refused in a line."""

import io
import json
import os
import shutil
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from command_line import made, unsteep_
from small_models import saved
from test_data import write_set
from test_places import as_folder, as_tar, as_zip, contents, picture
from unsteep.data import Array, Captions, Folder, Idx, cache, decoding
from unsteep.data.given import as_dataset
from unsteep.data.places import Archived
from unsteep.data.survey import survey
from unsteep.pages import Page
from unsteep.pages.ours import note_samples


def test_the_cache_removes_nothing_but_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    theirs = [
        home / "project" / ".git",
        home / "pictures" / "mine",
        home / "pictures" / ".hidden",
        home / "notes" / "x",
    ]
    for folder in theirs:
        folder.mkdir(parents=True)
        os.utime(folder, (0, 0))
    stale = home / "pictures" / ".new-abcdef"
    stale.mkdir()
    os.utime(stale, (0, 0))
    monkeypatch.setenv(cache.VARIABLE, str(home))
    monkeypatch.setattr(cache, "MOST", 10)
    assert cache.entry("pictures", {"a": 1}) is not None
    assert all(folder.is_dir() for folder in theirs)
    assert not stale.exists()


@pytest.mark.parametrize("damage", ["head", "cut", "boundary", "joined"])
def test_a_tar_is_read_to_its_end_or_refused(tmp_path: Path, damage: str) -> None:
    whole = as_tar(tmp_path / "a.tar", contents()).read_bytes()
    if damage == "head":
        broken = bytearray(whole)
        broken[1024 * 2 + 3] ^= 0x40  # in the head of the third member
        content = bytes(broken)
    elif damage == "joined":
        content = whole + whole
    else:
        content = whole[: 1024 * 3 + (200 if damage == "cut" else 0)]
    (tmp_path / "b.tar").write_bytes(content)
    with pytest.raises(ValueError, match=r"b\.tar: expected a zip or tar archive that is whole, got"):
        Folder(path=str(tmp_path / "b.tar"), size=5).read()


def test_a_file_that_was_replaced_with_its_times_is_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "WORTH", 1)
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "cache"))
    for name, value in (("in", 40), ("new", 90)):
        (tmp_path / name).mkdir()
        Image.fromarray(np.full((5, 5), value, np.uint8)).save(tmp_path / name / "a.bmp")
        os.utime(tmp_path / name / "a.bmp", (10**9, 10**9))
    source = Folder(path=str(tmp_path / "in"), size=5, channels=1)
    assert int(source.read().x[0, 0, 0, 0]) == 40
    shutil.copy2(tmp_path / "new" / "a.bmp", tmp_path / "in" / "a.bmp")
    assert int(source.read().x[0, 0, 0, 0]) == 90


def test_classes_are_the_folders_of_pictures_whatever_lies_beside(tmp_path: Path) -> None:
    files = {f"photos/{kind}/{i}.png": picture(i) for i, kind in enumerate(["cats", "dogs"] * 2)}
    path = as_zip(tmp_path / "a.zip", {"README.txt": b"about", **files})
    assert Folder(path=str(path), size=5, labelled=True).read().names == ("cats", "dogs")
    for shard in range(2):
        named = {name.replace("photos", f"b-{shard}"): content for name, content in files.items()}
        as_tar(tmp_path / f"b-{shard}.tar", named)
    assert Folder(path=str(tmp_path / "b-{0..1}.tar"), size=5, labelled=True).read().names == ("cats", "dogs")


def test_names_that_come_twice_are_several_pictures(tmp_path: Path) -> None:
    for shard in range(2):
        as_tar(tmp_path / f"a-{shard}.tar", {f"{i}.png": picture(4 * shard + i) for i in range(4)})
    found = dict(survey(tmp_path / "a-{0..1}.tar").rows)
    assert found["equal files"] == "none"


def test_a_first_picture_without_a_class_is_one_without(tmp_path: Path) -> None:
    files = {f"{i}.png": picture(i) for i in range(4)} | {f"{i}.cls": b"%d" % (i % 2) for i in range(1, 4)}
    data = Folder(path=str(as_tar(tmp_path / "a.tar", files)), size=5, labelled=True).read()
    assert data.names == ("0", "1")
    assert data.skipped == (("0.png", "no class beside it"),)
    as_tar(tmp_path / "b.tar", files | {"1.cls": b"\xff\xfe"})
    with pytest.raises(ValueError, match=r"the class beside 1.png: expected UTF-8 text"):
        Folder(path=str(tmp_path / "b.tar"), size=5, labelled=True).read()


def test_a_folder_and_its_zip_have_the_same_captions(tmp_path: Path) -> None:
    files = {f"v1.{i}.png": picture(i) for i in range(3)} | {f"v1.{i}.txt": b"number %d" % i for i in range(3)}
    told = [
        Captions(path=str(path), size=5).read("all").captions
        for path in (as_folder(tmp_path / "in", files), as_zip(tmp_path / "a.zip", files))
    ]
    assert told[0] == told[1] == ("number 0", "number 1", "number 2")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (",file,caption\n0,0.png,zero\n1,1.png,one\n2,2.png,two\n", ""),  # as pandas writes it
        ('file,caption\n0.png,"zero\n1.png,one\n2.png,19" tail\n', "expected a.png with a.txt"),
        ("file,caption\n0.png,zero,more\n1.png,one\n2.png,two\n", "line 2 has 3 fields, its header 2"),
        ("File_Name;Caption\n0.png;zero\n1.png;one\n2.png;two\n", ""),  # as a spreadsheet of another country
        ("caption,Image\nzero,0.png\none,1.png\ntwo,2.png\n", ""),
        ("File\tTEXT\n0.png\tzero\n1.png\tone\n2.png\ttwo\n", "lacks"),  # which is no CSV
    ],
)
def test_tables_are_read_as_they_are_written(tmp_path: Path, text: str, words: str) -> None:
    as_folder(tmp_path, {f"{i}.png": picture(i) for i in range(3)} | {"a.csv": text.encode()})
    if words:
        with pytest.raises(ValueError, match=words):
            Captions(path=str(tmp_path), size=5).read("all")
    else:
        assert Captions(path=str(tmp_path), size=5).read("all").captions == ("zero", "one", "two")


def test_text_that_is_not_utf8_is_named_where_all_of_it_is(tmp_path: Path) -> None:
    files = {f"{i}.png": picture(i) for i in range(2)} | {f"{i}.txt": b"caf\xe9" for i in range(2)}
    with pytest.raises(ValueError, match=r"no picture has a caption: .*, got 0.txt: it is not UTF-8"):
        Captions(path=str(as_folder(tmp_path, files)), size=5).read("all")
    np.savez(tmp_path / "a.npz", images=np.zeros((2, 8, 8), np.uint8), labels=np.array([b"a", b"\xff"]))
    with pytest.raises(ValueError, match=r"a.npz: expected labels in UTF-8"):
        Array(path=str(tmp_path / "a.npz")).read()


def test_idx_files_of_two_sets_are_never_mixed(tmp_path: Path) -> None:
    for name in ("MNIST", "FashionMNIST"):
        write_set(tmp_path / name / "raw")
    (tmp_path / "FashionMNIST" / "raw" / "train-labels-idx1-ubyte").unlink()
    with pytest.raises(
        ValueError, match=r"in several folders: set data.path to one of: .*FashionMNIST.raw, .*MNIST.raw"
    ):
        Idx(path=str(tmp_path)).read()
    assert Idx(path=str(tmp_path / "MNIST")).read().names == ("0", "1", "2")


@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("fashion-mnist", "T-shirt/top"),
        ("FashionMNIST/raw", "T-shirt/top"),
        ("fashion-lab/mnist", "0"),
        ("fashion/digits", "0"),
        ("Fashion-MNIST/MNIST/raw", "0"),
    ],
)
def test_classes_have_names_of_clothes_where_they_are_clothes(tmp_path: Path, name: str, first: str) -> None:
    write_set(tmp_path / name)
    read = Idx(path=str(tmp_path / name)).read()
    assert read.names[0] == first
    assert read.source.endswith("classes named as those of Fashion-MNIST") == (first != "0")


def test_twelve_bits_in_sixteen_are_told(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.full((3, 8, 8), 4080, np.uint16))
    assert ("mind", "values reach 4080 of 65535; scale them if they have fewer than 16 bits") in Array(
        path=str(tmp_path / "a.npy")
    ).read().summary()


def test_a_dry_run_keeps_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "WORTH", 1)
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "cache"))
    as_folder(tmp_path / "in", contents())
    tiny = ("--set", "data.size=8", "--set", "train.batch=2", "--set", "train.steps=2")
    made("train", "folder", "--data", tmp_path / "in", "--dry-run", "--out", tmp_path / "run", *tiny)
    assert not (tmp_path / "cache").exists()
    assert not (tmp_path / "run").exists()


def test_frames_beyond_the_first_are_told(tmp_path: Path) -> None:
    as_folder(tmp_path, {f"{i}.png": picture(i) for i in range(2)})
    frames = [Image.fromarray(np.full((5, 5), 60 * i, np.uint8)) for i in range(3)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    found = survey(tmp_path)
    assert "several frames: 1" in dict(found.rows)["kinds"]
    assert "of files with several frames or pages the first is taken" in found.advice
    for _ in range(2):  # decoded, and as it was kept
        assert Folder(path=str(tmp_path), size=5).read().source.endswith(", the first frame of 1 with several")


def test_captions_beyond_the_first_are_counted(tmp_path: Path) -> None:
    files = {f"{i}.png": picture(i) for i in range(3)}
    rows = "file,caption\n0.png,zero\n0.png,nil\n1.png,one\n2.png,two\n./2.png,deux\n"
    tables = as_folder(tmp_path / "table", files | {"a.csv": rows.encode()})
    lines = files | {"0.txt": b"zero\nnil\n", "1.txt": b"\none\n", "2.json": b'{"Caption": "two"}'}
    for path, more in ((tables, 2), (as_folder(tmp_path / "beside", lines), 1), (as_tar(tmp_path / "a.tar", lines), 1)):
        read = Captions(path=str(path), size=5).read("all")
        assert read.captions == ("zero", "one", "two")
        assert f"the first of each picture ({more} more left out)" in read.source


def test_texts_of_archives_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Classes and captions beside a million pictures would else be looked for at every start."""
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "cache"))
    files = {f"{i}.png": picture(i) for i in range(3)} | {"0.cls": b"a", "2.cls": b"b"}
    path = as_tar(tmp_path / "a.tar", files)
    first = Folder(path=str(path), size=5, labelled=True).read("all")
    monkeypatch.setattr(Archived, "beside", lambda *_: b"a")
    again = Folder(path=str(path), size=5, labelled=True).read("all")
    assert (first.names, first.labels.tolist()) == (again.names, again.labels.tolist()) == (("a", "b"), [0, 1])
    monkeypatch.undo()
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "cache"))
    as_tar(path, files | {"1.cls": b"b"})
    assert Folder(path=str(path), size=5, labelled=True).read("all").labels.tolist() == [0, 1, 1]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("a-{002..000}.tar", "{002..000} in .* counts down"),
        ("b-*.tar", "no archive is called .*b-"),
        ("a-{7..8}.tar", "a-7"),
    ],
)
def test_rows_of_archives_that_name_none(tmp_path: Path, name: str, words: str) -> None:
    as_tar(tmp_path / "a-000.tar", contents())
    with pytest.raises(ValueError, match=words):
        Folder(path=str(tmp_path / name), size=5).read()


def test_arrays_that_are_not_read_are_named(tmp_path: Path) -> None:
    x = np.zeros((2, 8, 8), np.uint8)
    np.savez(tmp_path / "a.npz", x_train=x, y_train=np.arange(2), x_test=x, y_test=np.arange(2))
    assert Array(path=str(tmp_path / "a.npz")).read().source.endswith("; not read: x_test, y_test")
    np.savez(tmp_path / "b.npz", x_train=x, y_train=np.arange(2))
    assert "not read" not in Array(path=str(tmp_path / "b.npz")).read().source


def test_one_colour_picture_is_not_many_grey_ones(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((28, 28, 3), np.uint8))
    with pytest.raises(ValueError, match=r"looks like one colour picture: save it as x\[None\]"):
        Array(path=str(tmp_path / "a.npy")).read()
    np.save(tmp_path / "b.npy", np.zeros((1, 28, 28, 3), np.uint8))
    assert Array(path=str(tmp_path / "b.npy")).read().x.shape == (1, 3, 28, 28)


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
def test_what_unsteep_drew_is_no_data_in_any_format(tmp_path: Path, suffix: str) -> None:
    as_folder(tmp_path / "in", {f"{i}.png": picture(i) for i in range(3)})
    made("data", tmp_path / "in", "--out", tmp_path / "sheet" / f"zzz.{suffix}")
    shutil.copy(tmp_path / "sheet" / f"zzz.{suffix}", tmp_path / "in")
    data = Folder(path=str(tmp_path / "in"), size=5, max_bad=0.5).read()
    assert len(data) == 3
    assert ("zzz." + suffix, "drawn by unsteep") in data.skipped


def test_pipes_and_links_that_lead_to_themselves_are_counted(tmp_path: Path) -> None:
    as_folder(tmp_path, {f"{i}.png": picture(i) for i in range(3)} | {"sub/3.png": picture(3)})
    os.mkfifo(tmp_path / "sub" / "index.html")
    os.mkfifo(tmp_path / "a.csv")
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "loop.png").symlink_to("loop.png")
    code = f"from unsteep.data import Folder; print(Folder(path={str(tmp_path)!r}, size=5).read().skipped)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True).stdout
    assert "('pipe.png', 'no regular file')" in told
    assert "'loop.png'" in told
    said, _, err = unsteep_("train", "captions", "--data", tmp_path, "--out", tmp_path.parent / "run")
    assert said == 2
    assert "no picture has a caption" in err


def test_a_gif_is_read_from_its_bytes_as_from_its_file(tmp_path: Path) -> None:
    file = io.BytesIO()
    Image.fromarray(np.full((5, 5), 70, np.uint8)).save(file, "GIF")
    folder = as_folder(tmp_path / "in", {"a.gif": file.getvalue()})
    archive = as_zip(tmp_path / "a.zip", {"a.gif": file.getvalue()})
    assert Folder(path=str(folder), size=5).read().digest == Folder(path=str(archive), size=5).read().digest


@pytest.mark.parametrize("beside", ["page", "samples", "model's samples"])
def test_a_folder_of_pictures_stays_one_with_something_of_ours_in_it(tmp_path: Path, beside: str) -> None:
    """What unsteep wrote there is left out file by file, and no class comes of it."""
    as_folder(tmp_path, {f"{kind}/{i}.png": picture(i) for kind in ("cats", "dogs") for i in range(3)})
    if beside == "page":
        for folder in ("cats", "page"):
            made("data", tmp_path / "dogs", "--out", tmp_path / folder / "samples.png")
            Page("A page").write(tmp_path / folder / "likelihood.html")
    elif beside == "samples":
        note_samples(tmp_path / "cats", ["000000.png"])
        as_folder(tmp_path, {"cats/000000.png": picture(9)})
    else:
        saved(tmp_path / "model")
        for _ in range(2):
            made("sample", tmp_path / "model", "-n", 2, "--steps", 2, "--out", tmp_path / "cats", "--force")
    data = Folder(path=str(tmp_path), size=5, labelled=True, max_bad=0).read("all")
    assert data.files == tuple(f"{kind}/{i}.png" for kind in ("cats", "dogs") for i in range(3))
    assert data.names == ("cats", "dogs")
    ours = sum(why == "written by unsteep" for _, why in data.skipped)
    assert ours == {"page": 2, "samples": 1, "model's samples": 3}[beside]  # of a saved model the folder


def masks(path: Path, rows: dict[str, list[int]]) -> list[int]:
    """What lies beside each picture, of archives with pictures and masks of these values, 0.png, 1.png and on."""
    for name, values in rows.items():
        as_tar(path / f"{name}.tar", {f"{i}.png": picture(value) for i, value in enumerate(values)})
    of = {row: [name for name in rows if name[0] == row] for row in "am"}
    named = {row: str(path / (f"{row}-*.tar" if len(have) > 1 else f"{have[0]}.tar")) for row, have in of.items()}
    data = Folder(path=named["a"], aligned=named["m"], size=5, channels=1).read("all")
    assert data.aligned is not None
    return (data.aligned[:, 0, 0, 0] // 10).tolist()


def test_masks_of_a_row_of_archives_are_those_of_each_archive(tmp_path: Path) -> None:
    assert masks(tmp_path, {"a-0": [1, 2], "a-1": [3, 4], "m-0": [5, 6], "m-1": [7, 8]}) == [5, 6, 7, 8]


@pytest.mark.parametrize(
    "rows",
    [
        {"a-0": [1, 2], "m-0": [5, 6], "m-1": [7, 8]},
        {"a-0": [1, 2], "a-1": [3, 4], "m-0": [5, 6]},
        {"a-0": [1, 2], "a-1": [3, 4], "m-0": [5, 6], "m-1": [7, 8], "m-2": [9, 9]},
    ],
)
def test_masks_that_nothing_assigns_are_refused(tmp_path: Path, rows: dict[str, list[int]]) -> None:
    with pytest.raises(ValueError, match=r"have no aligned one: 0\.png \(several of its name, here or in .*m-"):
        masks(tmp_path, rows)


def test_a_caption_of_two_pictures_is_of_none(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the name comes twice
        for name, content in (("0.png", picture(1)), ("0.png", picture(2)), ("1.png", picture(3))):
            archive.writestr(name, content)
        archive.writestr("a.csv", "file,caption\n0.png,zero\n1.png,one\n")
    data = Captions(path=str(tmp_path / "a.zip"), size=5, max_bad=0.9).read("all")
    assert data.captions == ("one",)
    assert ("0.png", "caption of several pictures of one name") in data.skipped


@pytest.mark.parametrize("name", ["metadata.csv", "metadata.jsonl"])
def test_a_table_above_the_pictures_names_them_in_a_zip_as_in_a_folder(tmp_path: Path, name: str) -> None:
    """As data sets of Hugging Face lie."""
    rows = [(f"images/{i}.png", f"number {i}") for i in range(3)]
    csv = "\n".join(["file_name,text", *map(",".join, rows)])
    lines = "\n".join(json.dumps({"file_name": file, "text": text}) for file, text in rows)
    files = {name: (csv if name.endswith(".csv") else lines).encode()}
    files |= {file: picture(i) for i, (file, _) in enumerate(rows)}
    told = [
        Captions(path=str(path), size=5).read("all").captions
        for path in (as_folder(tmp_path / "in", files), as_zip(tmp_path / "a.zip", files))
    ]
    assert told[0] == told[1] == ("number 0", "number 1", "number 2")


def test_quotes_in_a_tsv_are_quotes_but_around_a_field(tmp_path: Path) -> None:
    texts = ["word", '"open', "5' 3\"", '"quoted" word', 'two "inches"']
    rows = [f"{i}.png\t{text}" for i, text in enumerate(texts)] + ['5.png\t"whole, and ""doubled"""']
    table = "\r\n".join(['"file"\t"caption"', *rows, ""]).encode()
    as_folder(tmp_path, {f"{i}.png": picture(i) for i in range(6)} | {"a.tsv": table})
    assert Captions(path=str(tmp_path), size=5).read("all").captions == (*texts, 'whole, and "doubled"')


@pytest.mark.parametrize(
    ("name", "row", "words"),
    [
        ("a.tsv", '1.png\t"one\ntwo"', "line 4 has 1 fields, its header 2; leave tabs and ends of lines out of texts"),
        ("a.tsv", "1.png\tone\ttwo", "line 3 has 3 fields, its header 2"),
        ("a.csv", '1.png,"one" two', "line 3: .* double the quotes inside a text that is in quotes"),
        ("a.csv", '1.png,"one', "line 3: "),
    ],
)
def test_rows_that_are_none_are_named_by_their_line(tmp_path: Path, name: str, row: str, words: str) -> None:
    between = "\t" if name.endswith(".tsv") else ","
    table = f"file{between}caption\n0.png{between}zero\n{row}\n"
    as_folder(tmp_path, {f"{i}.png": picture(i) for i in range(2)} | {name: table.encode()})
    with pytest.raises(ValueError, match=words):
        Captions(path=str(tmp_path), size=5).read("all")


@pytest.mark.parametrize(
    ("ends", "words"),
    [
        ((-0.5, 0.5), "values go from -0.5 to 0.5, read as -1 black and 1 white"),
        ((0.0, 0.1), "values go from 0 to 0.1, read as 0 black and 1 white"),
        ((0.0, 1.0), ""),
        ((-1.0, 1.0), ""),
    ],
)
def test_floats_that_fill_little_of_their_range_are_told(tmp_path: Path, ends: tuple[float, float], words: str) -> None:
    """As those whose mean was subtracted: in a file, from Python, and as items."""
    x = np.linspace(*ends, 4 * 8 * 8, dtype=np.float32).reshape(4, 8, 8)
    np.save(tmp_path / "a.npy", x)
    items = as_dataset([one[None] for one in x])
    for data in (Array(path=str(tmp_path / "a.npy")).read(), as_dataset(x), items):
        told = dict(data.summary()).get("mind", "")
        assert told.startswith(words)
        assert bool(told) == bool(words)


def test_what_may_not_be_written_to_is_taken_without_a_warning() -> None:
    plain = np.frombuffer(np.arange(3 * 64, dtype=np.uint8).tobytes(), np.uint8).reshape(3, 8, 8)
    frames = np.frombuffer(np.zeros((3, 4, 2), np.float32).tobytes(), np.float32).reshape(3, 4, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pictures = as_dataset([Image.fromarray(one) for one in plain])
        pairs = as_dataset([{"x": one[None], "beside": one[None]} for one in plain])
        for data in (pictures, as_dataset(plain), pairs, as_dataset(frames, axes=2)):
            assert len(data.rows(torch.arange(3)).x) == 3
