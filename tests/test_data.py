"""Every source of data, on little files of every kind made here, whole and broken."""

import gzip
import io
import os
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from unsteep.data import Array, Digits, Examples, Folder, Idx, decoding, read_idx
from unsteep.data.choosing import split_index
from unsteep.pages import Page, pictures, progress
from unsteep.pages.ours import SAMPLES, note_samples

RANDOM = np.random.default_rng(0)
SEEDED = RANDOM.bit_generator.state


@pytest.fixture(autouse=True)
def seed() -> None:
    RANDOM.bit_generator.state = SEEDED  # no test depends on those before it


def save(path: Path, pixels: np.ndarray, mode: str | None = None, **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(path, **options)
    return path


def flat(value: int | tuple[int, ...], height: int = 8, width: int = 8) -> np.ndarray:
    return np.broadcast_to(np.uint8(value), (height, width, *np.shape(value))).copy()


def noise(*shape: int) -> np.ndarray:
    return RANDOM.integers(0, 256, shape, dtype=np.uint8)


def one_line(error: pytest.ExceptionInfo[ValueError]) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


# The choice of examples


def test_the_split_never_changes():
    assert split_index(20, "test", 0.2).tolist() == [0, 2, 11, 17]


@pytest.mark.parametrize("count", [10, 97, 1797])
def test_splits_are_disjoint_and_together_everything(count):
    train, test = split_index(count, "train", 0.3), split_index(count, "test", 0.3)
    assert len(test) == round(0.3 * count)
    assert sorted([*train, *test]) == list(range(count)) == split_index(count, "all", 0.3).tolist()
    assert set(split_index(count, "test", 0.1)) < set(test)  # a smaller holdout lies inside a larger one


def test_the_split_has_no_period_and_no_drift():
    test = split_index(10_000, "test", 0.5)
    parts = np.bincount(test // 1000, minlength=10), np.bincount(test % 10, minlength=10)
    assert all(abs(part - 500).max() < 5 * 16 for part in parts)  # 16: the standard deviation of each count


@pytest.mark.parametrize("holdout", [-0.1, 1.0, 1.5])
def test_a_holdout_that_is_no_fraction_is_refused(holdout):
    with pytest.raises(ValueError, match=r"data.holdout"):
        Digits(holdout=holdout).read()


def test_a_split_with_nothing_in_it_is_refused():
    with pytest.raises(ValueError, match=r"set data.holdout"):
        Digits(holdout=0).read("test")
    with pytest.raises(ValueError, match="leaves none to test"):
        split_index(4, "test", 0.1)


def test_select_keeps_labels_and_files_beside_their_examples():
    x = torch.arange(6, dtype=torch.float32).reshape(6, 1)
    data = Examples(x, torch.arange(6) % 2, ("even", "odd"), tuple("abcdef"))
    for index in (torch.tensor([4, 1]), [4, 1]):
        part = data.select(index)
        assert (part.x.flatten().tolist(), part.labels.tolist(), part.files) == ([4, 1], [0, 1], ("e", "b"))
    assert data.select(x[:, 0] > 3).files == ("e", "f")
    assert data.select(slice(2)).files == ("a", "b")
    assert part.names == ("even", "odd")


def test_the_digest_sees_every_part_of_the_contents():
    x, labels = torch.from_numpy(noise(4, 1, 3, 3)), torch.tensor([0, 1, 0, 1])
    changed = x.clone()
    changed[3, 0, 2, 2] ^= 1
    variants = [
        Examples(x),
        Examples(changed),
        Examples(x.reshape(4, 1, 9, 1)),
        Examples(x.view(torch.int8)),
        Examples(x, labels, ("a", "b")),
        Examples(x, labels, ("a", "c")),
        Examples(x, 1 - labels, ("a", "b")),
    ]
    assert len({data.digest for data in variants}) == len(variants)
    assert Examples(x).digest == Examples(x.clone(), source="elsewhere", levels=3).digest
    transposed = x.transpose(2, 3)  # the order in memory is no part of the contents
    assert Examples(transposed).digest == Examples(transposed.contiguous()).digest


# The digits


def test_digits_are_the_digits():
    data = Digits().read("all")
    assert data.x.shape == (1797, 1, 8, 8)
    assert data.x.dtype == torch.uint8
    assert len(data.x.unique()) == data.levels == 17
    assert (data.x.min(), data.x.max()) == (0, 255)
    assert (
        data.x.unique().diff().tolist() == [16] * 8 + [15] + [16] * 7
    )  # 256 values are shared out as evenly as can be
    assert data.names == tuple("0123456789")
    # A zero has a hole in its middle, a one has not.
    middle = data.x[:, 0, 3:5, 3:5].float().mean((1, 2))
    assert middle[data.labels == 0].mean() < 60
    assert middle[data.labels == 1].mean() > 180


def test_digits_hold_out_a_tenth_of_every_class():
    train, test = Digits().read("train"), Digits().read("test")
    assert (len(train), len(test)) == (1617, 180)
    assert torch.bincount(test.labels, minlength=10).min() > 5
    assert train.digest == Digits().read("train").digest != test.digest


def test_a_held_out_example_stays_held_out_whatever_the_classes():
    everything = Digits().read("test")
    fours = Digits(labels=(4,)).read("test")
    assert torch.equal(fours.x, everything.x[everything.labels == 4])


def test_classes_are_renumbered_and_keep_their_names():
    data = Digits(labels=(7, 2)).read("all")
    whole = Digits().read("all")
    assert data.names == ("7", "2")
    assert torch.equal(data.x[data.labels == 0], whole.x[whole.labels == 7])
    assert torch.equal(data.x[data.labels == 1], whole.x[whole.labels == 2])
    assert len(data) == ((whole.labels == 7) | (whole.labels == 2)).sum()
    limited = Digits(labels=(7, 2), limit=5).read("all")
    assert torch.equal(limited.x, data.x[:5])


def test_a_class_that_does_not_exist_is_refused_with_those_that_do():
    with pytest.raises(ValueError, match=r"class 12.* 0, 1, 2, 3, 4, 5, 6, 7, 8, 9$"):
        Digits(labels=(3, 12)).read()


def test_the_summary_tells_what_was_read():
    rows = dict(Digits(labels=(3,), limit=7).read().summary())
    assert rows["count"] == "7"
    assert rows["size"].startswith("8 x 8")
    assert "grey" in rows["channels"]
    assert "17" in rows["value range"]
    assert rows["classes"] == "1 (3: 7)"


def test_classes_without_an_example_are_said():
    labels = torch.tensor([0, 3, 3])
    data = Examples(torch.zeros(3, 1, 8, 8, dtype=torch.uint8), labels, tuple("abcde"))
    assert any(text.startswith("3 of them without an example") for _, text in data.summary())
    with pytest.raises(ValueError, match=r"^valid: expected bool \(3, 4\)"):
        Examples(torch.zeros(3, 4, 2), valid=torch.ones(3, 4))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"x": torch.rand(3, 1, 8, 8)}, "levels: expected none"),  # 0 to 1 would be black to a byte
        ({"x": torch.rand(3, 1, 8, 8), "levels": None, "range": (0.0, 0.5)}, "range: expected pictures from 0 to 0.5"),
        ({"x": torch.full((3, 1, 8, 8), torch.nan), "levels": None}, "range: expected pictures"),
        ({"x": torch.zeros(3, 1, 8, 8, dtype=torch.uint8), "names": ("a", "a")}, "names: expected one name for each"),
        (
            {"x": torch.zeros(3, 1, 8, 8, dtype=torch.uint8), "labels": torch.tensor([0, 1, -5])},
            "labels: expected numbers",
        ),
        (
            {"x": torch.zeros(2, 4, 3), "levels": None, "valid": torch.tensor([[True, False, True, False]] * 2)},
            "valid: expected the real frames of each sequence first",
        ),
        ({"x": torch.zeros(1, 2, 3), "levels": None, "valid": torch.zeros(1, 2, dtype=torch.bool)}, "one at least"),
    ],
)
def test_examples_that_would_mean_something_else_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        Examples(**fields)


def test_labels_without_names_number_their_classes():
    assert Examples(torch.zeros(3, 1, 8, 8, dtype=torch.uint8), torch.tensor([2, 0, 2])).names == ("0", "1", "2")


# Idx files


def idx_bytes(array: np.ndarray) -> bytes:
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def write_set(root: Path, prefix: str = "", test: str = "t10k", dot: str = "-", zipped: bool = False, first: int = 0):
    """A family of four files: pictures of 5 x 4, 9 to train and 3 to test, with classes first, first + 1, first + 2."""
    root.mkdir(exist_ok=True, parents=True)
    made = {}
    for part, count in (("train", 9), (test, 3)):
        made[part] = noise(count, 5, 4), np.arange(count, dtype=np.uint8) % 3 + np.uint8(first)
        for kind, array, dims in zip(("images", "labels"), made[part], (3, 1), strict=True):
            content = idx_bytes(array)
            name = f"{prefix}{part}-{kind}{dot}idx{dims}-ubyte"
            (root / (name + ".gz" if zipped else name)).write_bytes(gzip.compress(content) if zipped else content)
    return made


@pytest.mark.parametrize("shape", [(7,), (2, 3), (2, 3, 4), (2, 3, 4, 5)])
def test_read_idx_reads_any_number_of_dimensions_plain_or_gzipped(tmp_path, shape):
    array = noise(*shape)
    (tmp_path / "plain").write_bytes(idx_bytes(array))
    (tmp_path / "zipped.gz").write_bytes(gzip.compress(idx_bytes(array)))
    (tmp_path / "unpacked.gz").write_bytes(idx_bytes(array))  # by a browser, say
    for name in ("plain", "zipped.gz", "unpacked.gz"):
        assert np.array_equal(read_idx(tmp_path / name), array)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "nothing"),
        (b"\x89PNG....", "two zero bytes"),
        (idx_bytes(noise(3, 4))[:-1], r"\(3, 4\), 12 bytes, got 11"),
        (idx_bytes(noise(3, 4)) + b"!", "got 13"),
        (idx_bytes(noise(3, 4))[:7], "declares"),
        (b"\0\0\x0d" + idx_bytes(noise(4))[3:], "type 0d"),
        (gzip.compress(idx_bytes(noise(300)))[:-20], "gzip"),
        (gzip.compress(idx_bytes(noise(300)))[:40] + b"junk" * 20, "gzip"),
    ],
)
def test_a_broken_idx_file_is_named(tmp_path, content, words):
    (tmp_path / "broken-file").write_bytes(content)
    with pytest.raises(ValueError, match=f"broken-file.*{words}") as error:
        read_idx(tmp_path / "broken-file")
    one_line(error)


@pytest.mark.parametrize("below", ["MNIST/raw", "gzip", "each"])
def test_idx_files_are_found_where_archives_unpack_them(tmp_path, below):
    """As torchvision's, EMNIST's, and archives that put each file into a folder of its name."""
    made = write_set(tmp_path / "flat")
    for file in list((tmp_path / "flat").iterdir()):
        there = tmp_path / "in" / (file.name if below == "each" else below)
        there.mkdir(parents=True, exist_ok=True)
        file.rename(there / file.name)
    assert np.array_equal(Idx(path=str(tmp_path / "in")).read("test").x[:, 0], made["t10k"][0])


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("dot", ["-", "."])
def test_idx_finds_the_files_under_their_usual_names(tmp_path, zipped, dot):
    made = write_set(tmp_path, dot=dot, zipped=zipped)
    for split, part in (("train", "train"), ("test", "t10k")):
        data = Idx(path=str(tmp_path)).read(split)
        assert np.array_equal(data.x[:, 0], made[part][0])
        assert np.array_equal(data.labels, made[part][1])
        assert data.names == ("0", "1", "2")
    everything = Idx(path=str(tmp_path)).read("all")
    assert np.array_equal(everything.x[:, 0], np.concatenate([made["train"][0], made["t10k"][0]]))


def test_a_plain_file_goes_before_its_gzipped_twin(tmp_path):
    write_set(tmp_path, zipped=True)
    made = write_set(tmp_path)
    assert np.array_equal(Idx(path=str(tmp_path)).read().x[:, 0], made["train"][0])


def test_emnist_pictures_are_turned_and_labels_may_start_at_one(tmp_path):
    letters = write_set(tmp_path, prefix="emnist-letters-", test="test", first=1)
    data = Idx(path=str(tmp_path)).read("test")
    assert data.x.shape == (3, 1, 4, 5)
    assert all(np.array_equal(turned[0], stored.T) for turned, stored in zip(data.x, letters["test"][0], strict=True))
    assert (data.names, data.labels.tolist()) == (("1", "2", "3"), [0, 1, 2])
    twos = Idx(path=str(tmp_path), labels=(2,)).read()
    assert (twos.names, len(twos)) == (("2",), 3)


def test_of_several_sets_the_prefix_chooses(tmp_path):
    for name in ("letters", "digits"):
        write_set(tmp_path, prefix=f"emnist-{name}-", first=len(name))
    with pytest.raises(ValueError, match=r"data.prefix.*emnist-digits, emnist-letters") as error:
        Idx(path=str(tmp_path)).read()
    one_line(error)
    assert Idx(path=str(tmp_path), prefix="emnist-digits").read().names == ("6", "7", "8")
    with pytest.raises(ValueError, match="no set 'balanced'"):
        Idx(path=str(tmp_path), prefix="balanced").read()


def test_both_splits_number_the_classes_alike(tmp_path):
    write_set(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(idx_bytes(np.array([2, 2, 1], np.uint8)))
    data = Idx(path=str(tmp_path)).read("test")
    assert (data.names, data.labels.tolist()) == (("0", "1", "2"), [2, 2, 1])


def test_fashion_has_names(tmp_path):
    write_set(tmp_path / "fashion-mnist")
    write_set(tmp_path / "fashion-letters", first=20)  # numbers that the ten names cannot mean
    assert Idx(path=str(tmp_path / "fashion-mnist"), labels=(2, 0)).read().names == ("Pullover", "T-shirt/top")
    assert Idx(path=str(tmp_path / "fashion-letters")).read().names == ("20", "21", "22")


def test_what_is_missing_or_does_not_fit_is_named(tmp_path):
    with pytest.raises(ValueError, match="found none"):
        Idx(path=str(tmp_path / "nowhere")).read()
    with pytest.raises(ValueError, match=r"looked for train-images-idx3-ubyte.*t10k-labels"):
        Idx(path=str(tmp_path)).read()
    write_set(tmp_path)
    labels = tmp_path / "train-labels-idx1-ubyte"
    whole = labels.read_bytes()
    labels.write_bytes(idx_bytes(noise(8)))
    with pytest.raises(ValueError, match="train-labels-idx1-ubyte has 8 labels for the 9 pictures"):
        Idx(path=str(tmp_path)).read()
    labels.write_bytes((tmp_path / "train-images-idx3-ubyte").read_bytes())
    with pytest.raises(ValueError, match="train-labels-idx1-ubyte: labels have 1 dimensions"):
        Idx(path=str(tmp_path)).read()
    labels.write_bytes(whole)
    (tmp_path / "t10k-images-idx3-ubyte").unlink()
    assert len(Idx(path=str(tmp_path)).read("train")) == 9
    with pytest.raises(ValueError, match="lacks the test images"):
        Idx(path=str(tmp_path)).read("all")


# Folders: which files


def test_files_are_found_at_any_depth_in_order_and_hidden_ones_are_not(tmp_path):
    for name in ("b.png", "a/z/deep.PNG", "a/2.Jpeg", "c.webp", "d.bmp", "e.gif", "f.TIFF", "g.jpg", "h.tif"):
        save(tmp_path / name, flat((9, 9, 9)))
    for name in (".hidden.png", ".cache/x.png", "a/.thumbs/y.png"):
        save(tmp_path / name, flat((1, 1, 1)))
    (tmp_path / "notes.txt").write_text("no picture")
    data = Folder(path=str(tmp_path), size=4).read("all")
    assert data.files == ("a/2.Jpeg", "a/z/deep.PNG", "b.png", "c.webp", "d.bmp", "e.gif", "f.TIFF", "g.jpg", "h.tif")
    assert data.x.shape == (9, 3, 4, 4)
    assert (data.x.int() - 9).abs().max() <= 1  # JPEG
    assert (data.labels, data.names) == (None, ())
    assert dict(data.skipped) == {
        ".cache/": "hidden",
        ".hidden.png": "hidden",
        "a/.thumbs/": "hidden",
        "notes.txt": ".txt is no picture",
    }


def test_what_unsteep_wrote_below_the_folder_is_no_data(tmp_path):
    """Runs, saved models, pages, samples and sheets; but a folder of samples is data where it is named itself."""
    for name in ("a.png", "run/samples.png", "run/previews/p.png", "model/x.png", "drawn/3/0.png", "old/3/0.png"):
        save(tmp_path / name, flat((9, 9, 9)))
    (tmp_path / "run" / "run.toml").write_text("")
    (tmp_path / "model" / "model.toml").write_text("")
    Page("Page").write(tmp_path / "page" / "index.html")
    note_samples(tmp_path / "drawn", ["3/0.png"])
    (tmp_path / "old" / SAMPLES).write_text("samples: no data of a folder above\n")
    for name in ("sheet.png", "page/fid.png"):
        pictures.save(pictures.grid(np.zeros((4, 1, 8, 8), np.uint8)), tmp_path / name)
    data = Folder(path=str(tmp_path), size=4, max_bad=0).read()
    assert data.files == ("a.png",)
    assert dict(data.skipped) == {
        **dict.fromkeys(("drawn/3/0.png", "model/", "old/", "page/fid.png", "run/"), "written by unsteep"),
        "drawn/.unsteep": "hidden",
        "page/index.html": ".html is no picture",
        "sheet.png": "drawn by unsteep",
    }
    assert Folder(path=str(tmp_path / "drawn"), size=4).read().files == ("3/0.png",)
    (tmp_path / "a.png").unlink()
    with pytest.raises(ValueError, match=r"all 1 pictures in it were drawn by unsteep"):
        Folder(path=str(tmp_path), size=4).read()


def test_every_file_that_is_left_out_is_counted_by_kind_and_reason(tmp_path):
    save(tmp_path / "a.png", flat((9, 9, 9)))
    (tmp_path / "b.jfif").write_bytes(jpeg(flat((9, 9, 9))))
    for i in range(50):
        (tmp_path / f"{i:02d}.HEIC").write_bytes(b"\0\0\0\x18ftypheic")
    (tmp_path / "c.mp4").write_bytes(b"")
    (tmp_path / "away.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "loop").symlink_to(tmp_path, target_is_directory=True)
    os.mkfifo(tmp_path / "pipe.png")
    with open(os.fsencode(tmp_path) + b"/caf\xe9.png", "wb"):
        pass
    data = Folder(path=str(tmp_path), size=4).read()
    assert data.files == ("a.png", "b.jfif")
    reasons = dict(data.skipped)
    assert len(data.skipped) == 55
    assert "needs the extra heif" in reasons["00.HEIC"]
    assert reasons["c.mp4"] == ".mp4 is no picture"
    assert (reasons["away.png"], reasons["pipe.png"]) == ("a link to nothing", "no regular file")
    assert reasons["loop/"] == "a link to a folder"
    assert "not UTF-8" in reasons["caf\\udce9.png"]
    assert dict(data.summary())["skipped"].startswith("55: 00.HEIC and 49 more (.heic needs the extra heif")


def test_a_class_whose_name_is_no_text_is_refused_at_once(tmp_path):
    save(tmp_path / "a" / "x.png", flat((9, 9, 9)))
    os.mkdir(os.fsencode(tmp_path) + b"/caf\xe9")
    with pytest.raises(ValueError, match=r"data.labelled: the class folder .*caf.* has a name that is not UTF-8"):
        Folder(path=str(tmp_path), size=4, labelled=True).read()


def jpeg(picture: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG")
    return buffer.getvalue()


def numbered(root: Path, count: int) -> list[str]:
    """Grey pictures whose value is their number."""
    return [save(root / f"{i:03}.png", flat(i)).name for i in range(count)]


def test_reading_is_deterministic_and_pictures_stand_beside_their_names(tmp_path):
    numbered(tmp_path, 60)
    source = Folder(path=str(tmp_path), size=4, channels=1, holdout=0.25)
    train, test = source.read("train"), source.read("test")
    for data in (train, test):
        assert [int(file[:3]) for file in data.files] == data.x[:, 0, 0, 0].tolist()
    assert len(test) == 15
    assert sorted(train.files + test.files) == list(source.read("all").files)
    assert train.digest == source.read("train").digest


def test_the_limit_counts_good_pictures(tmp_path):
    numbered(tmp_path, 20)
    (tmp_path / "001.png").write_bytes(b"junk")
    data = Folder(path=str(tmp_path), size=4, limit=4, max_bad=0.5).read()
    assert data.files == ("000.png", "002.png", "003.png", "004.png")
    assert data.skipped == (("001.png", "not a picture"),)


def test_more_pictures_than_are_decoded_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(decoding, "CHUNK", 4)
    numbered(tmp_path, 11)
    (tmp_path / "005.png").write_bytes(b"junk")
    data = Folder(path=str(tmp_path), size=4, channels=1).read()
    assert data.x[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4, 6, 7, 8, 9, 10]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("patience", [-1, 60])
def test_a_bar_is_shown_when_it_takes_long(tmp_path, monkeypatch, patience):
    numbered(tmp_path, 5)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(progress, "PATIENCE", patience)
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    assert len(Folder(path=str(tmp_path), size=4).read()) == 5
    assert ("reading pictures" in terminal.getvalue()) == (patience < 0)


def test_folders_can_be_classes(tmp_path):
    for name, value in (("cats/1", 10), ("cats/more/2", 11), ("dogs/1", 20), ("owls/1", 30)):
        save(tmp_path / f"{name}.png", flat(value))
    save(tmp_path / "loose.png", flat(99))
    (tmp_path / "empty").mkdir()
    labelled = Folder(path=str(tmp_path), size=4, channels=1, labelled=True)
    data = labelled.read()
    assert data.names == ("cats", "dogs", "owls")
    assert (data.labels.tolist(), data.x[:, 0, 0, 0].tolist()) == ([0, 0, 1, 2], [10, 11, 20, 30])
    assert [file for file, _ in data.skipped] == ["loose.png"]
    assert "cats: 2" in dict(data.summary())["classes"]
    (tmp_path / "cats/0.png").write_bytes(b"junk")
    rest = Folder(path=str(tmp_path), size=4, channels=1, labelled=True, max_bad=0.5).read()
    assert rest.digest == data.digest
    (tmp_path / "cats/0.png").unlink()
    two = Folder(path=str(tmp_path), size=4, channels=1, labelled=True, labels=(2, 0)).read()
    assert (two.names, two.labels.tolist(), two.x[:, 0, 0, 0].tolist()) == (("owls", "cats"), [1, 1, 0], [10, 11, 30])
    with pytest.raises(ValueError, match=r"class 5.*0 \(cats\), 1 \(dogs\), 2 \(owls\)"):
        Folder(path=str(tmp_path), labelled=True, labels=(5,)).read()
    with pytest.raises(ValueError, match=r"leave data.labels empty"):
        Folder(path=str(tmp_path), labels=(0,)).read()


def test_a_folder_that_will_not_do_says_why(tmp_path):
    def message(**fields: object) -> str:
        with pytest.raises(ValueError) as error:
            Folder(**fields).read()
        return one_line(error)

    assert "found none at" in message(path=str(tmp_path / "nowhere"))
    assert "is empty" in message(path=str(tmp_path))
    (tmp_path / "notes.txt").write_text("no picture")
    assert "1 files, but no picture" in message(path=str(tmp_path))
    assert "got the file" in message(path=str(tmp_path / "notes.txt"))
    (tmp_path / "x.png").write_text("no picture")
    assert "none of its 1 picture files can be read, x.png (not a picture)" in message(path=str(tmp_path), max_bad=1.0)
    assert "cats/1.png" in message(path=str(tmp_path), labelled=True)


# Folders: broken files


def png_head(width: int, height: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


def test_broken_pictures_are_left_out_and_counted(tmp_path, recwarn):
    numbered(tmp_path, 5)
    jpeg = save(tmp_path / "truncated.jpg", noise(64, 64, 3))
    jpeg.write_bytes(jpeg.read_bytes()[: jpeg.stat().st_size // 2])
    png = save(tmp_path / "truncated.png", noise(64, 64, 3))
    png.write_bytes(png.read_bytes()[: png.stat().st_size // 2])
    (tmp_path / "junk.png").write_bytes(noise(500).tobytes())
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "text.jpg").write_text("Dear diary, " * 50)
    (tmp_path / "program.png").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n")
    (tmp_path / "another-format.png").write_bytes(b"P6 1 1 255\n" + bytes(3))  # none of the kinds that are read
    (tmp_path / "bomb.png").write_bytes(png_head(60_000, 60_000))
    (tmp_path / "small-bomb.png").write_bytes(png_head(12_000, 12_000))  # Pillow would only warn
    save(tmp_path / "float.tif", np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8))
    bad = {"truncated.jpg", "truncated.png", "junk.png", "empty.png", "text.jpg", "program.png"}
    bad |= {"bomb.png", "small-bomb.png", "float.tif", "another-format.png"}

    data = Folder(path=str(tmp_path), size=4, channels=1, max_bad=0.7).read()
    assert data.x[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4]
    assert {file for file, _ in data.skipped} == bad
    reasons = dict(data.skipped)
    assert all(reason and "\n" not in reason and str(tmp_path) not in reason for reason in reasons.values())
    assert not list(recwarn)
    assert "truncated" in reasons["truncated.jpg"]
    assert "pixels" in reasons["bomb.png"]
    assert "12000 x 12000 pixels" in reasons["small-bomb.png"]
    assert dict(data.summary())["skipped"].startswith("10: another-format.png and 4 more (not a picture), ")
    assert dict(data.summary())["skipped"].endswith("and 3 more")

    with pytest.raises(
        ValueError, match=r"10 of 15 picture files cannot be read, another-format\.png \(.*data\.max_bad"
    ) as error:
        Folder(path=str(tmp_path), size=4, max_bad=0.6).read()
    one_line(error)


# Folders: what a picture becomes


def read_one(path: Path, size: int = 8, **fields: object) -> np.ndarray:
    """(c, size, size) of the only picture in the folder of `path`."""
    data = Folder(path=str(path.parent), size=size, **fields).read()
    assert len(data) == 1
    return data.x[0].numpy()


@pytest.mark.parametrize("size", [3, 8, 64])
@pytest.mark.parametrize("crop", ["center", "stretch"])
def test_a_constant_picture_stays_constant(tmp_path, size, crop):
    pixels = read_one(save(tmp_path / "x.png", flat((10, 100, 250), 37, 23)), size=size, crop=crop)
    assert pixels.shape == (3, size, size)
    assert (pixels == np.array([10, 100, 250])[:, None, None]).all()


@pytest.mark.parametrize("size", [2, 5, 8, 16, 50])
def test_resizing_keeps_the_mean(tmp_path, size):
    half = flat(255, 32, 32)
    half[:, :16] = 0
    pixels = read_one(save(tmp_path / "x.png", half), size=size, channels=1)
    assert pixels.mean() == pytest.approx(127.5, abs=1)
    assert (pixels[0] == pixels[0, :1]).all()  # nothing changes along the edge
    assert (pixels[..., : size // 2 - 2] < 40).all()


def test_a_fine_pattern_is_averaged_and_does_not_alias(tmp_path):
    stripes = flat(0, 64, 64)
    stripes[:, ::2] = 200
    assert np.abs(read_one(save(tmp_path / "x.png", stripes), channels=1).astype(float) - 100).max() <= 6


@pytest.mark.parametrize("turned", [False, True])
def test_the_crop_takes_the_centre_and_stretch_takes_everything(tmp_path, turned):
    stripes = np.concatenate([flat(v, 20, 10) for v in (0, 90, 90, 255)], axis=1)  # 20 high, 40 wide
    path = save(tmp_path / "x.png", stripes.T.copy() if turned else stripes)
    assert (read_one(path, size=20, channels=1) == 90).all()
    whole = read_one(path, size=20, channels=1, crop="stretch")[0]
    whole = whole.T if turned else whole
    assert (whole[:, 0] == 0).all()
    assert (whole[:, -1] == 255).all()
    assert (whole[:, 10] == 90).all()


def test_a_picture_of_the_right_size_is_not_touched(tmp_path):
    pixels = noise(8, 8, 3)
    assert np.array_equal(read_one(save(tmp_path / "x.png", pixels)), pixels.transpose(2, 0, 1))


def test_a_large_jpeg_decoded_at_a_fraction_looks_the_same(tmp_path):
    smooth = Image.fromarray(noise(5, 7, 3)).resize((700, 500), Image.Resampling.BICUBIC)
    smooth.save(tmp_path / "x.jpg", quality=95)
    slowly = smooth.crop((100, 0, 600, 500)).resize((32, 32), Image.Resampling.BOX)
    difference = read_one(tmp_path / "x.jpg", size=32).astype(float) - np.asarray(slowly).transpose(2, 0, 1)
    assert np.abs(difference).max() < 8


def test_the_first_of_several_frames_is_read(tmp_path):
    for name, kind in (("x.jpg", "MPO"), ("x.gif", "GIF"), ("x.tif", "TIFF")):
        path = save(
            tmp_path / kind / name, flat(50), format=kind, save_all=True, append_images=[Image.fromarray(flat(200))]
        )
        assert np.abs(read_one(path).astype(int) - 50).max() <= 1


# Where the first row and the first column of the stored picture are seen (EXIF 2.3, tag 0x0112).
ORIENTATIONS = [
    "top left",
    "top right",
    "bottom right",
    "bottom left",
    "left top",
    "right top",
    "right bottom",
    "left bottom",
]


@pytest.mark.parametrize("kind", ["png", "jpg", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_cameras_orientation_is_applied(tmp_path, orientation, kind):
    seen = np.kron(np.array([[250, 150], [80, 10]], np.uint8), np.ones((8, 8), np.uint8))
    row, column = ORIENTATIONS[orientation - 1].split()
    stored = seen.T if row in ("left", "right") else seen
    stored = stored[::-1] if row in ("bottom", "right") else stored
    stored = stored[:, ::-1] if column in ("bottom", "right") else stored
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(tmp_path / f"x.{kind}", np.ascontiguousarray(stored), exif=exif)
    assert np.abs(read_one(path, size=16, channels=1)[0].astype(int) - seen).max() <= 2


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_shows_white(tmp_path, mode):
    pixels = flat((40, 40, 40, 255))
    pixels[:, 4:, 3] = 0
    result = read_one(save(tmp_path / "x.png", pixels, mode))
    assert (result[:, :, :4] == 40).all()
    assert (result[:, :, 4:] == 255).all()


def test_half_transparency_is_half_white(tmp_path):
    assert np.abs(read_one(save(tmp_path / "x.webp", flat((0, 0, 0, 128)), lossless=True)).astype(int) - 127).max() <= 1


def test_a_transparent_colour_shows_white(tmp_path):
    pixels = flat(70)
    pixels[:, 4:] = 200
    result = read_one(save(tmp_path / "x.png", pixels, transparency=70), channels=1)
    assert (result[..., :4] == 255).all()
    assert (result[..., 4:] == 200).all()


@pytest.mark.parametrize("kind", ["png", "tif"])
def test_sixteen_bit_grey_is_scaled(tmp_path, kind):
    values = np.array([0, 257, 128, 129, 32768, 65535], np.uint16)
    path = save(tmp_path / f"x.{kind}", np.tile(values, (6, 1)))
    assert read_one(path, size=6, channels=1)[0, 0].tolist() == [0, 1, 0, 1, 128, 255]
    assert read_one(path, size=6).shape == (3, 6, 6)


@pytest.mark.parametrize(("name", "mode"), [("x.png", "P"), ("x.gif", "P"), ("x.tif", "CMYK"), ("x.jpg", "CMYK")])
def test_palettes_and_printing_inks_become_colours(tmp_path, name, mode):
    red = save(tmp_path / name, flat((204, 51, 0)), mode)
    with Image.open(red) as image:
        assert image.mode == mode
    assert np.abs(read_one(red).astype(int) - np.array([204, 51, 0])[:, None, None]).max() <= 4
    luma = 0.299 * 204 + 0.587 * 51  # ITU-R 601
    assert np.abs(read_one(red, channels=1) - luma).max() <= 4


def test_black_and_white_is_black_and_white(tmp_path):
    pixels = np.eye(8, dtype=bool)
    assert np.array_equal(read_one(save(tmp_path / "x.png", pixels), channels=1)[0], np.eye(8) * 255)


# Arrays


@pytest.mark.parametrize("channels", [1, 3])
def test_every_layout_of_pictures_is_understood(tmp_path, channels):
    pictures = noise(5, channels, 6, 7)
    np.save(tmp_path / "first.npy", pictures)
    np.save(tmp_path / "last.npy", pictures.transpose(0, 2, 3, 1))
    layouts = ["first.npy", "last.npy"]
    if channels == 1:
        np.save(tmp_path / "none.npy", pictures[:, 0])
        layouts.append("none.npy")
    for name in layouts:
        data = Array(path=str(tmp_path / name)).read()
        assert np.array_equal(data.x, pictures)
        assert data.levels == 256


def test_float_pictures_in_either_range_become_the_same_bytes(tmp_path):
    pictures = noise(5, 6, 6, 3)
    pictures[0, 0, 0] = 0, 128, 255
    np.save(tmp_path / "unit.npy", (pictures / 255).astype(np.float32))
    np.save(tmp_path / "signed.npy", pictures / 127.5 - 1)
    for name in ("unit", "signed"):
        data = Array(path=str(tmp_path / f"{name}.npy")).read()
        assert np.array_equal(data.x, pictures.transpose(0, 3, 1, 2))
        assert ("[-1, 1]" if name == "signed" else "[0, 1]") in data.source


def test_the_range_does_not_depend_on_the_split(tmp_path):
    pictures = np.full((10, 4, 4), 0.5)
    pictures[split_index(10, "test", 0.3)[0]] = -0.5
    np.save(tmp_path / "x.npy", pictures)
    train = Array(path=str(tmp_path / "x.npy"), holdout=0.3).read("train")
    assert (train.x == 0.5).all()
    assert train.range == (-1.0, 1.0)  # though no negative value is among them


@pytest.mark.parametrize(
    ("shape", "read"),
    [
        ((16, 8, 8), (16, 8, 8)),
        ((8, 8, 16), (16, 8, 8)),
        ((4, 6, 6), (4, 6, 6)),
        ((6, 6, 4), (4, 6, 6)),
        ((3, 16, 16), (3, 16, 16)),
        ((16, 16, 3), (3, 16, 16)),
        ((28, 20, 2), (2, 28, 20)),
        ((2, 28, 20), (2, 28, 20)),
    ],
)
def test_channels_are_where_they_make_sense(tmp_path, shape, read):
    np.save(tmp_path / "x.npy", noise(5, *shape))
    assert tuple(Array(path=str(tmp_path / "x.npy")).read().x.shape[1:]) == read


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", ">f4"])
def test_two_dimensions_of_floats_are_vectors(tmp_path, dtype):
    vectors = RANDOM.normal(size=(7, 2)).astype(dtype) * 100
    np.save(tmp_path / "x.npy", vectors)
    data = Array(path=str(tmp_path / "x.npy")).read()
    assert data.x.dtype == torch.float32
    assert np.array_equal(data.x, vectors.astype(np.float32))
    assert dict(data.summary())["size"] == "2 numbers"


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (noise(5, 4), r"uint8 of shape \(5, 4\)"),
        (noise(5, 17, 18, 20), r"\(5, 17, 18, 20\)"),
        (noise(5, 8, 8).astype(np.int32), "int32 of shape"),
        (np.zeros((0, 8, 8), np.uint8), "empty"),
        (np.float64(3.0), "float64 of shape"),
        (np.full((5, 8, 8), 255.0), "got 255 to 255"),
        (np.full((5, 8, 8), -1.1), r"in \[0, 1\] or \[-1, 1\], got -1.1 to -1.1"),
        (np.array([["a", "b"]]), "got <U1"),
        (np.array([[0, 1], [np.nan, np.inf]]), r"1 of 2 examples hold NaN.* first at 1"),
        (np.array([[0, 1e300]]), r"1 of 1 examples .* first at 0"),
    ],
)
def test_an_array_that_will_not_do_is_described(tmp_path, array, words):
    np.save(tmp_path / "x.npy", array)
    with pytest.raises(ValueError, match=rf"x\.npy.*{words}") as error:
        Array(path=str(tmp_path / "x.npy")).read()
    one_line(error)


@pytest.mark.parametrize("key", ["images", "x", "data", "arr_0", "whatever"])
@pytest.mark.parametrize("labels_key", ["labels", "y"])
def test_arrays_in_an_npz_are_found_by_their_usual_names(tmp_path, key, labels_key):
    pictures, labels = noise(6, 4, 4), np.array([5, 3, 3, 5, 9, 9])
    np.savez(tmp_path / "x.npz", **{labels_key: labels, key: pictures})
    data = Array(path=str(tmp_path / "x.npz")).read()
    assert np.array_equal(data.x[:, 0], pictures)
    assert (data.names, data.labels.tolist()) == (("3", "5", "9"), [1, 0, 0, 1, 2, 2])
    nines = Array(path=str(tmp_path / "x.npz"), labels=(9,)).read()
    assert (nines.names, nines.labels.tolist()) == (("9",), [0, 0])
    assert np.array_equal(nines.x[:, 0], pictures[4:])


def test_arrays_in_an_npz_can_be_named(tmp_path):
    path = str(tmp_path / "x.npz")
    first, second, kinds = noise(3, 4, 4), noise(3, 4, 4), np.arange(3)
    np.savez_compressed(path, first=first, second=second, kinds=kinds)
    with pytest.raises(ValueError, match=r"set data.key to one of those it has: first, second, kinds"):
        Array(path=path).read()
    data = Array(path=path, key="second", labels_key="kinds").read()
    assert np.array_equal(data.x[:, 0], second)
    assert data.names == ("0", "1", "2")
    np.savez(tmp_path / "xy.npz", x=first, y=second)
    data = Array(path=str(tmp_path / "xy.npz"), key="y").read()  # a name for labels, but asked for as pictures
    assert np.array_equal(data.x[:, 0], second)
    assert data.labels is None
    with pytest.raises(ValueError, match=r"no array 'third': set data.key"):
        Array(path=path, key="third").read()
    with pytest.raises(ValueError, match=r"no array 'third': set data.labels_key"):
        Array(path=path, key="first", labels_key="third").read()
    np.save(tmp_path / "x.npy", first)
    with pytest.raises(ValueError, match=r"leave data.key"):
        Array(path=str(tmp_path / "x.npy"), key="first").read()


@pytest.mark.parametrize(
    ("labels", "numbers", "names"),
    [
        (np.array([[0], [2], [2]]), [0, 1, 1], ("0", "2")),  # a column, as CIFAR-10 and MedMNIST have them
        (np.array([0, 2, 2], np.uint8), [0, 1, 1], ("0", "2")),
        (np.eye(4)[[0, 3, 1]], [0, 3, 1], ("0", "1", "2", "3")),
        (np.eye(2, dtype=bool)[[1, 1, 0]], [1, 1, 0], ("0", "1")),
        (np.array(["dog", "cat", "dog"]), [1, 0, 1], ("cat", "dog")),
        (np.array([b"b", b"a", b"a"]), [1, 0, 0], ("a", "b")),
    ],
)
def test_labels_in_the_layouts_of_the_field(tmp_path, labels, numbers, names):
    np.savez(tmp_path / "x.npz", x_train=noise(3, 4, 4), y_train=labels)
    data = Array(path=str(tmp_path / "x.npz")).read()
    assert (data.labels.tolist(), data.names) == (numbers, names)
    assert Array(path=str(tmp_path / "x.npz"), labels_key="none").read().labels is None


@pytest.mark.parametrize(
    ("low", "high", "range_"),
    [(0, 1, (0, 1)), (-1e-7, 1, (0, 1)), (-5e-5, 1 + 5e-5, (0, 1)), (-1, 1, (-1, 1)), (-0.5, 0.2, (-1, 1))],
)
def test_the_range_of_floats_is_decided_with_a_tolerance(tmp_path, low, high, range_):
    x = np.random.default_rng(0).uniform(max(low, 0), min(high, 1), (5, 8, 8))
    x[0, 0, :2] = low, high
    np.save(tmp_path / "x.npy", x.astype(np.float32))
    data = Array(path=str(tmp_path / "x.npy")).read()
    assert data.range == range_
    assert range_[0] <= float(data.x.min()) <= float(data.x.max()) <= range_[1]


@pytest.mark.parametrize("ends", [(-0.02, 1), (0, 1.02), (-1.5, 1), (0, 255), (-0.1, 0.9)])
def test_floats_whose_range_fits_nothing_are_refused(tmp_path, ends):
    x = np.random.default_rng(0).uniform(*ends, (5, 8, 8))
    x[0, 0, :2] = ends
    np.save(tmp_path / "x.npy", x)
    with pytest.raises(ValueError, match=r"float pictures in \[0, 1\] or \[-1, 1\], got .*: rescale or clip them"):
        Array(path=str(tmp_path / "x.npy")).read()


def test_bytes_that_may_have_been_meant_otherwise_are_said():
    dark = Examples(torch.randint(0, 2, (4, 1, 8, 8), dtype=torch.uint8))
    assert any("nearly black" in text for _, text in dark.summary())
    assert not any("nearly black" in text for _, text in Examples(dark.x * 255).summary())


@pytest.mark.parametrize("labels", [np.arange(4), np.arange(6.0), np.zeros((6, 2), int)])
def test_labels_that_do_not_fit_are_refused(tmp_path, labels):
    np.savez(tmp_path / "x.npz", x=noise(6, 4, 4), y=labels)
    with pytest.raises(ValueError, match=r"labels as whole numbers \(6,\) or .*data.labels_key"):
        Array(path=str(tmp_path / "x.npz")).read()


class Trap:
    """An object that leaves a mark when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("name", ["x.npy", "x.npz", "bare.npy"])
def test_pickled_objects_are_refused_unopened(tmp_path, name):
    array = np.array([Trap(tmp_path / "mark")], dtype=object)
    if name == "bare.npy":
        array.dump(tmp_path / name)
    else:
        (np.save if name.endswith("npy") else np.savez)(tmp_path / name, array)
    with pytest.raises(ValueError, match=rf"{name}.*refused"):
        Array(path=str(tmp_path / name)).read()
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize("name", ["x.npy", "x.npz"])
@pytest.mark.parametrize("keep", [0, 7, 400])
def test_a_broken_file_of_arrays_is_named(tmp_path, name, keep):
    path = tmp_path / name
    (np.save if name.endswith("npy") else np.savez)(path, noise(20, 8, 8))
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match=name) as error:
        Array(path=str(path)).read()
    one_line(error)


def test_a_missing_file_of_arrays_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"found none at .*nowhere\.npy"):
        Array(path=str(tmp_path / "nowhere.npy")).read()


def test_the_splits_of_an_array_are_everything(tmp_path):
    np.save(tmp_path / "x.npy", np.arange(50.0).reshape(50, 1))
    source = Array(path=str(tmp_path / "x.npy"), holdout=0.2)
    train, test = source.read("train").x, source.read("test").x
    assert len(test) == 10
    assert torch.equal(torch.cat([train, test]).sort(0).values, source.read("all").x)
    assert torch.equal(Array(path=str(tmp_path / "x.npy"), holdout=0.2, limit=3).read("train").x, train[:3])
