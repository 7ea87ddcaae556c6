"""Pictures where they lie: archives read as the folder they were made of, each by position; what is kept of them."""

import errno
import io
import json
import shutil
import tarfile
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from command_line import made, unsteep_
from unsteep.core.chains import CosineBetas
from unsteep.data import Captions, Examples, Folder, cache, decoding
from unsteep.data.archives import Index
from unsteep.data.places import expanded, places
from unsteep.data.reading import in_memory
from unsteep.data.stored import StoredPictures
from unsteep.model import ModelConfig
from unsteep.networks import UNetConfig
from unsteep.spaces import Pixels
from unsteep.training import denoising, loop, sitting
from unsteep.training import run as runs
from unsteep.training.batches import Batches
from unsteep.training.run import Run
from unsteep.training.settings import TrainConfig
from unsteep.training.verifying import verified

NAMES = ("b/1.png", "b/0.png", "a/1.png", "a/deep/2.jpg", "a/0.png")


def picture(i: int, kind: str = "png") -> bytes:
    """A grey picture whose value is its number."""
    file = io.BytesIO()
    Image.fromarray(np.full((5, 5), 10 * i, np.uint8)).save(file, "JPEG" if kind == "jpg" else "PNG")
    return file.getvalue()


def contents(names: tuple[str, ...] = NAMES) -> dict[str, bytes]:
    return {name: picture(i, name[-3:]) for i, name in enumerate(names)}


def as_folder(root: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def as_zip(path: Path, files: dict[str, bytes], packed: int = zipfile.ZIP_DEFLATED, top: str = "") -> Path:
    with zipfile.ZipFile(path, "w", packed) as archive:
        for name, content in files.items():
            archive.writestr(top + name, content)
    return path


def as_tar(path: Path, files: dict[str, bytes], mode: str = "w", top: str = "") -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, content in files.items():
            head = tarfile.TarInfo(top + name)
            head.size = len(content)
            archive.addfile(head, io.BytesIO(content))
    return path


ARCHIVES: dict[str, Any] = {
    "stored.zip": lambda path, files: as_zip(path, files, zipfile.ZIP_STORED),
    "deflated.zip": as_zip,
    "topped.zip": lambda path, files: as_zip(path, files, top="photos/"),
    "plain.tar": as_tar,
    "topped.tar": lambda path, files: as_tar(path, files, top="./photos/"),
    "packed.tar.gz": lambda path, files: as_tar(path, files, "w:gz"),
    "packed.tgz": lambda path, files: as_tar(path, files, "w:gz"),
    "packed.txz": lambda path, files: as_tar(path, files, "w:xz"),
    "packed.tar.xz": lambda path, files: as_tar(path, files, "w:xz"),
}


@pytest.mark.parametrize("name", ARCHIVES)
@pytest.mark.parametrize("labelled", [False, True])
def test_an_archive_reads_as_the_folder_that_it_was_made_of(tmp_path, name, labelled):
    folder = Folder(path=str(as_folder(tmp_path / "in", contents())), size=5, labelled=labelled, holdout=0.4)
    archive = replace(folder, path=str(ARCHIVES[name](tmp_path / name, contents())))
    for _ in range(2):  # the second time by the index that was kept
        for split in ("train", "test", "all"):
            found, wanted = archive.read(split), folder.read(split)
            assert found.digest == wanted.digest
            assert found.files == wanted.files


def test_what_an_archive_holds_beside_pictures_is_counted_with_its_reason(tmp_path):
    others = {"notes.doc": b"x", "__MACOSX/._1.png": b"x", ".hidden/2.png": b"x", "broken.png": b"junk", "bare": b""}
    there = Folder(path=str(as_zip(tmp_path / "a.zip", contents() | others)), size=5, max_bad=0.5).read()
    assert dict(there.skipped) == {
        "notes.doc": ".doc is no picture",
        "__MACOSX/._1.png": "hidden",
        ".hidden/2.png": "hidden",
        "broken.png": "not a picture",
        "bare": "no suffix",
    }
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        link = tarfile.TarInfo("link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
        head = tarfile.TarInfo("../../up.png")
        head.size = len(picture(3))
        archive.addfile(head, io.BytesIO(picture(3)))
    with pytest.raises(ValueError, match=r"holds no picture: got ../../up.png \(hidden\), link.png \(a link"):
        Folder(path=str(tmp_path / "a.tar"), size=5).read()


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.gz", "a.tar.xz", "a.tar.bz2"])
@pytest.mark.parametrize("content", [b"", b"junk" * 500, None])
def test_a_broken_archive_is_one_line(tmp_path, name, content):
    if content is None:  # cut short
        whole = as_zip(tmp_path / "whole", contents()) if name == "a.zip" else as_tar(tmp_path / "whole", contents())
        content = whole.read_bytes()[:700]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.(zip|tar|tar\.\w+)"):
        Folder(path=str(tmp_path / name), size=5).read()
    code, _, err = unsteep_("train", "folder", "--data", tmp_path / name, "--out", tmp_path / "run")
    assert code == 2
    assert len(err.strip().splitlines()) == 1, err


def test_a_locked_zip_is_named_and_a_member_that_lies_about_its_size_is_bad(tmp_path):
    path = as_zip(tmp_path / "a.zip", contents())
    whole = bytearray(path.read_bytes())
    at = whole.index(b"PK\1\2")
    whole[at + 8] |= 1  # encrypted, says the directory of the first
    other = whole.index(b"PK\1\2", at + 1)
    whole[other + 24 : other + 28] = (10**6).to_bytes(4, "little")  # a size that is not there
    path.write_bytes(whole)
    data = Folder(path=str(path), size=5, max_bad=0.5).read()
    assert dict(data.skipped) == {"b/1.png": "encrypted", "b/0.png": "cut short in its archive"}


def shards(root: Path) -> str:
    """Three of the layout of WebDataset: pictures with what belongs to them beside."""
    root.mkdir()
    for shard in range(3):
        files = {}
        for i in range(4):
            n = 4 * shard + i
            files |= {f"{i:04}.png": picture(n), f"{i:04}.cls": b"%d" % (n % 2 + 9), f"{i:04}.txt": b"number %d" % n}
            files[f"{i:04}.json"] = json.dumps({"caption": f"number {n}", "width": 5}).encode()
        as_tar(root / f"a-{shard:03}.tar", files)
    return str(root / "a-{000..002}.tar")


def test_shards_are_read_in_their_order_with_what_lies_beside_each_picture(tmp_path):
    path = shards(tmp_path / "in")
    data = Folder(path=path, size=5, channels=1, labelled=True).read()
    assert data.names == ("9", "10")
    assert (data.x[:, 0, 0, 0] // 10).tolist() == list(range(12))
    assert data.labels.tolist() == [0, 1] * 6
    for given in (path, str(tmp_path / "in" / "a-*.tar"), str(tmp_path / "in" / "a-00{0,1,2}.tar")):
        told = Captions(path=given, size=5, channels=1).read("all")
        assert [f"number {x // 10}" for x in told.x[:, 0, 0, 0].tolist()] == list(told.captions)
        assert len(told) == 12


def test_a_row_of_archives_is_written_short(tmp_path):
    assert [str(one) for one in expanded("a-{08..11}.tar")] == ["a-08.tar", "a-09.tar", "a-10.tar", "a-11.tar"]
    assert [str(one) for one in expanded("{a,b}-{1..2}.zip")] == ["a-1.zip", "a-2.zip", "b-1.zip", "b-2.zip"]
    odd = as_zip(tmp_path / "a{1..2}[x].zip", contents())
    assert expanded(str(odd)) == [odd]  # a file is what it is, whatever its name
    as_tar(tmp_path / "a-1.tar", contents())
    with pytest.raises(ValueError, match=r"expected an archive, found none at .*a-2.tar"):
        places(tmp_path / "a-{1..2}.tar")


def test_names_compare_after_unicode_normalisation(tmp_path):
    composed, apart = "caf\u00e9", "cafe\u0301"
    as_folder(tmp_path / "in", {f"{apart}.png": picture(1)})
    as_folder(tmp_path / "beside", {f"{composed}.png": picture(2)})
    (tmp_path / "in" / "captions.csv").write_text(f"file,caption\n{composed}.png,coffee\n", encoding="utf-8")
    assert Captions(path=str(tmp_path / "in"), size=5).read("all").captions == ("coffee",)
    data = Folder(path=str(tmp_path / "in"), size=5, aligned=str(tmp_path / "beside")).read()
    assert int(data.aligned[0, 0, 0, 0]) == 20


@pytest.fixture
def counted(monkeypatch, tmp_path) -> list[int]:
    """The positions that are decoded, with a cache of its own in which everything is worth keeping."""
    seen: list[int] = []
    load = decoding.Form.load

    def counting(self: decoding.Form, where: Any, i: int, *several: Any) -> np.ndarray:
        seen.append(i)
        return load(self, where, i, *several)

    monkeypatch.setattr(decoding.Form, "load", counting)
    monkeypatch.setattr(decoding, "WORTH", 1)
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "cache"))
    return seen


def test_what_was_decoded_is_kept_until_a_file_changes(tmp_path, counted):
    root = as_folder(tmp_path / "in", contents() | {"junk.png": b"junk"})
    source = Folder(path=str(root), size=5, max_bad=0.5)
    first = source.read()
    assert sorted(counted) == list(range(6))
    counted.clear()
    again = source.read()
    assert not counted
    assert (again.digest, again.files, again.skipped) == (first.digest, first.files, first.skipped)
    replace(source, size=4).read()
    assert counted  # another size
    counted.clear()
    (root / "a/0.png").write_bytes(picture(7) + b"0")
    assert source.read().digest != first.digest
    assert counted
    counted.clear()
    cache.allow(False)
    try:
        source.read()
    finally:
        cache.allow(True)
    assert counted


@pytest.mark.parametrize("damage", ["cut", "junk", "gone", "empty"])
def test_a_damaged_cache_is_made_anew(tmp_path, counted, damage):
    source = Folder(path=str(as_folder(tmp_path / "in", contents())), size=5)
    first = source.read().digest
    (entry,) = (tmp_path / "cache" / "pictures").iterdir()
    if damage == "cut":
        (entry / decoding.VALUES).write_bytes(b"123")
    elif damage == "junk":
        (entry / decoding.WHAT).write_bytes(b"{\xff")
    elif damage == "gone":
        shutil.rmtree(entry)
    else:
        (entry / decoding.WHAT).write_text("{}")
    counted.clear()
    assert source.read().digest == first
    assert counted
    counted.clear()
    assert source.read().digest == first
    assert not counted


@pytest.mark.parametrize("archived", [False, True])
def test_a_cache_that_is_full_costs_time_alone(tmp_path, counted, monkeypatch, archived):
    def full(path):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    path = as_zip(tmp_path / "in.zip", contents()) if archived else as_folder(tmp_path / "in", contents())
    wanted = Folder(path=str(path), size=5).read().digest
    shutil.rmtree(tmp_path / "cache")
    monkeypatch.setattr(cache, "synced", full)
    assert Folder(path=str(path), size=5).read().digest == wanted
    assert not list((tmp_path / "cache").glob("*/*"))
    shutil.rmtree(tmp_path / "cache")
    (tmp_path / "cache").write_text("not even a folder")
    assert Folder(path=str(path), size=5).read().digest == wanted


def three_ways(source: Folder, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """In memory, from a memory map, and decoded when asked for."""
    ways: dict[str, Any] = {"memory": source.read("all")}
    monkeypatch.setattr(decoding, "IN_MEMORY", 1)
    ways["map"] = source.read("all")
    monkeypatch.setattr(cache, "room", lambda: 1)
    monkeypatch.setattr(decoding, "_read", lambda *_: None)
    ways["files"] = source.read("all")
    return ways


@pytest.mark.parametrize("aligned", [False, True])
def test_examples_are_the_same_wherever_they_are_kept(tmp_path, counted, monkeypatch, aligned):
    root = as_folder(tmp_path / "in", contents() | {"b/junk.png": b"junk"})
    source = Folder(path=str(root), size=5, labelled=True, max_bad=0.5, aligned=str(root) if aligned else "")
    ways = three_ways(source, monkeypatch)
    memory = ways["memory"]
    assert isinstance(memory, Examples)
    assert isinstance(ways["map"].x.of, decoding.Mapped)
    assert isinstance(ways["files"].x.of, decoding.Encoded)
    index = torch.tensor([3, 0, 3])
    for name in ("map", "files"):
        other = ways[name]
        assert isinstance(other, StoredPictures)
        assert other.digest == memory.digest
        assert other.digest == other.digest
        assert other.summary()[:-1] == memory.summary()
        one, two = other.rows(index), memory.rows(index)
        assert torch.equal(one.x, two.x)
        assert torch.equal(one.label, two.label)
        assert (one.beside is None) is not aligned
        assert in_memory(other).digest == memory.digest
        assert other.select(index).digest == memory.select(index).digest
        with pytest.raises(ValueError, match="expected positions from 0 to 4"):
            other.rows(torch.tensor([5]))


def test_training_sees_the_same_batches_wherever_pictures_are_kept(tmp_path, counted, monkeypatch):
    source = Folder(path=str(as_folder(tmp_path / "in", contents())), size=5)
    config, seen = TrainConfig(batch=4, accumulate=2, steps=5, flip=True), {}
    for name, data in three_ways(source, monkeypatch).items():
        batches = Batches(data, Pixels().fitted(data), (), config)
        steps = [0, 1, 3, 2, 4, 4]  # in any order, and again
        seen[name] = torch.cat([batch.x for step in steps for batch, _ in batches(step)])
    assert torch.equal(seen["memory"], seen["map"])
    assert torch.equal(seen["memory"], seen["files"])


def test_a_file_that_vanishes_while_training_is_named(tmp_path, counted, monkeypatch):
    root = as_folder(tmp_path / "in", contents())
    data = three_ways(Folder(path=str(root), size=5), monkeypatch)["files"]
    (root / "a/0.png").unlink()
    with pytest.raises(ValueError, match=r"a/0.png could be read before, and not now"):
        data.rows(torch.arange(5))


class Killed(BaseException):
    """Stands for a process that ends without a word."""


@pytest.mark.parametrize(("archived", "threads"), [(False, 2), (True, 1)])
def test_a_run_goes_on_to_the_same_bits_wherever_its_pictures_are_kept(
    tmp_path, counted, monkeypatch, archived, threads
):
    """Begun in memory, killed, gone on with from a map, killed, and ended by decoding as it goes."""

    def dying(at):
        def trained(*given):
            for record in loop.train(*given):
                if record.step == at:
                    raise Killed
                yield record

        return trained

    def went_on(out, at):
        with monkeypatch.context() as patch:
            patch.setattr(sitting, "train", dying(at))
            if (out / "run.toml").exists():
                runs.resume((), out, say=lambda _: None)
            else:
                runs.start(run, out, say=lambda _: None)

    monkeypatch.setattr(decoding, "ThreadPoolExecutor", partial(ThreadPoolExecutor, threads))
    monkeypatch.setattr(denoising, "report", lambda *_: None)
    path = as_zip(tmp_path / "in.zip", contents()) if archived else as_folder(tmp_path / "in", contents())
    training = TrainConfig(steps=6, batch=4, accumulate=2, flip=True, preview_every=2, checkpoint_every=2, warmup=1)
    network = UNetConfig(width=4, groups=2, multipliers=(1,), blocks=1, attention=(), dropout=0.1)
    source = Folder(path=str(path), size=8)
    run = Run(data=source, model=ModelConfig(network=network), schedule=CosineBetas(steps=3), train=training)
    went_on(tmp_path / "whole", 0)
    kinds = [type(source.read())]
    with pytest.raises(Killed):
        went_on(tmp_path / "parts", 3)
    monkeypatch.setattr(decoding, "IN_MEMORY", 1)
    kinds.append(type(source.read().x.of))
    with pytest.raises(Killed):
        went_on(tmp_path / "parts", 4)
    monkeypatch.setattr(cache, "room", lambda: 1)
    monkeypatch.setattr(decoding, "_read", lambda *_: None)
    kinds.append(type(source.read().x.of))
    went_on(tmp_path / "parts", 0)
    assert kinds == [Examples, decoding.Mapped, decoding.Encoded]
    same = [*(tmp_path / "whole").glob("checkpoints/*/*"), *(tmp_path / "whole").glob("previews/*")]
    same.append(tmp_path / "whole" / "log.jsonl")
    assert len(same) > 15
    for file in same:
        assert file.read_bytes() == (tmp_path / "parts" / file.relative_to(tmp_path / "whole")).read_bytes(), file


@pytest.mark.parametrize("way", ["files", "map"])
@pytest.mark.parametrize("archived", [False, True])
def test_data_that_go_while_a_run_trains_are_a_line_or_in_nobodys_way(tmp_path, counted, monkeypatch, archived, way):
    """What was decoded is there still, though the files, and even the cache, are gone."""
    path = as_zip(tmp_path / "in.zip", contents()) if archived else as_folder(tmp_path / "in", contents())
    away, step = tmp_path / "away", loop.train

    def losing(*given):
        for record in step(*given):
            yield record
            if record.step == 3:
                path.rename(away)
                shutil.rmtree(tmp_path / "cache", ignore_errors=True)

    tiny = ["train.steps=6", "train.batch=4", "train.checkpoint_every=2", "train.warmup=1", "model.network.width=8"]
    tiny += ["data.size=8", "schedule.type=CosineBetas", "schedule.steps=3", "train.report=false"]
    words = ["train", "folder", "--data", path, *(word for one in tiny for word in ("--set", one))]
    monkeypatch.setattr(decoding, "IN_MEMORY", 1)
    (tmp_path / "cache").mkdir()
    if way == "files":
        monkeypatch.setattr(cache, "room", lambda: 1)
        monkeypatch.setattr(decoding, "_read", lambda *_: None)
    made(*words, "--out", tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr(sitting, "train", losing)
        code, _, err = unsteep_(*words, "--out", tmp_path / "run")
    if way == "files":
        assert code == 2
        said = [line for line in err.splitlines() if line.startswith("unsteep: ")]
        assert len(said) == 1
        assert "could be read before, and not now" in said[0]
        assert all(one.good for one in verified(tmp_path / "run"))
        away.rename(path)
        made("train", "--resume", "--out", tmp_path / "run")
    assert code in (0, 2)
    ends = [tmp_path / name / "checkpoints" / "step-00000006" for name in ("whole", "run")]
    for name in ("weights.safetensors", "ema.safetensors", "optimizer.safetensors"):
        assert (ends[0] / name).read_bytes() == (ends[1] / name).read_bytes()


def test_an_archive_that_changes_while_it_is_read_is_an_error(tmp_path):
    path = as_zip(tmp_path / "a.zip", contents())
    there = places(path)
    path.write_bytes(b"\0" * 5000)
    with pytest.raises(ValueError, match="changed while it was read"):
        there.open(0)
    assert isinstance(there._index, Index)  # type: ignore[attr-defined]


def test_a_run_from_an_archive_trains_and_shows_where_it_reads(tmp_path):
    path = as_zip(tmp_path / "photos.zip", contents())
    tiny = ["--set", "train.steps=2", "--set", "train.batch=2", "--set", "data.size=8", "--preset", "small"]
    said = made("train", "folder", "--data", path, "--out", tmp_path / "run", *tiny, "--no-cache")
    assert f"{path}, cropped to 8 x 8" in said
    assert "--no-cache" in made("train", "--help")
    assert "photos.zip" in made("data", path)


def test_the_cache_makes_room_for_what_is_new(tmp_path, counted, monkeypatch):
    monkeypatch.setattr(cache, "MOST", 1000)
    for side in (5, 6, 7, 8, 9):
        Folder(path=str(as_folder(tmp_path / "in", contents())), size=side).read()
    kept = [one for one in (tmp_path / "cache").glob("*/*") if not one.name.startswith(".")]
    assert 1 <= len(kept) < 5
