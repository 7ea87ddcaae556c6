"""Sizes that files declare, against what is there and what may be used."""

import gzip
import os
import re
import shutil
import threading
import time
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import unsteep
from command_line import unsteep_
from every_verb import NAMES
from unsteep.cli import main
from unsteep.core import budget
from unsteep.core.budget import Room, allowed, memory, share
from unsteep.core.machine import peak_memory
from unsteep.data import Array, Folder, Idx, pictures, streamed, survey
from unsteep.data.decoding import reserved
from unsteep.data.reading import vanishing
from unsteep.data.streamed import Streamed, opened
from unsteep.storage.manifest import write_manifest
from unsteep.training import memory as estimate
from unsteep.training.classifying import open_classifier

FIXTURES = Path(__file__).parent / "fixtures" / "0.1"


@pytest.mark.parametrize(
    ("said", "bytes_"), [("4GB", 4 * 10**9), ("500 mb", 5 * 10**8), ("123", 123), ("1.5g", 15 * 10**8)]
)
def test_a_budget_can_be_said(said: str, bytes_: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(budget.VARIABLE, said)
    assert memory() == bytes_


def test_a_budget_that_is_no_number_is_refused_and_one_is_always_known(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(budget.VARIABLE, "much")
    with pytest.raises(ValueError, match="expected bytes, as 4GB"):
        memory()
    monkeypatch.delenv(budget.VARIABLE)
    assert memory() > 2**26


def test_a_verb_may_be_told_and_it_is_forgotten_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv(budget.VARIABLE, raising=False)
    seen = list[int]()
    monkeypatch.setattr(survey, "survey", lambda _: [seen.append(memory()), 1 / 0])
    for arguments in (["--memory", "2GB"], ["--memory=3GB"]):
        with pytest.raises(ZeroDivisionError):
            main(["data", str(tmp_path), *arguments])
    assert seen == [2 * 10**9, 3 * 10**9]
    assert budget.VARIABLE not in os.environ


@pytest.mark.parametrize("verb", NAMES)
def test_every_verb_can_be_told(verb: str):
    code, _, err = unsteep_(verb, "--memory", "much")
    assert code == 2
    assert "expected bytes, as 4GB or 500MB, got 'much'" in err
    code, _, err = unsteep_(verb, "--memory")
    assert "--memory: expected a value, as in --memory 4GB" in err


def test_what_is_for_one_thing_follows_the_whole():
    with allowed("400MB"):
        assert share(1 << 40) == 10**8
        assert share(5) == 5
    room = Room(1 << 40)
    with allowed("4KB"), room.taken(800):
        started = threading.Event()
        other = threading.Thread(target=lambda: [started.set(), room.taken(300).__enter__()], daemon=True)
        other.start()
        started.wait()
        other.join(0.05)
        assert other.is_alive()  # it waits
    other.join(10)
    assert not other.is_alive()


@pytest.fixture
def little(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(budget.VARIABLE, "1MB")


@pytest.mark.usefixtures("little")
@pytest.mark.parametrize("make", [np.zeros, np.ones], ids=["zeros", "ones"])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_of_an_array_that_unpacks_to_more_than_may_be_used_rows_are_read(tmp_path: Path, make: Any, dtype: Any):
    np.savez_compressed(tmp_path / "bomb.npz", images=make((5000, 32, 32), dtype))
    assert (tmp_path / "bomb.npz").stat().st_size < 100_000
    with pytest.raises(ValueError, match=r"bomb.npz\[images\] takes [\d.]+ MB of memory, and 1.0 MB may be used: set"):
        Array(path=str(tmp_path / "bomb.npz")).read()
    tracemalloc.start()
    some = Array(path=str(tmp_path / "bomb.npz"), limit=10).read()
    assert tracemalloc.get_traced_memory()[1] < 4_000_000
    tracemalloc.stop()
    assert some.x.shape == (10, 1, 32, 32)
    assert some.levels == 256
    assert bool((some.x == (0 if make is np.zeros else 255 if dtype != np.uint8 else 1)).all())


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_rows_are_those_of_the_whole_however_they_are_stored(tmp_path: Path, order: Any, suffix: str, monkeypatch: Any):
    monkeypatch.setattr(streamed, "AT_ONCE", 700)
    x = np.asarray(np.random.default_rng(0).normal(size=(57, 3, 5)).astype(np.float32), order=order)
    path, n = tmp_path / f"x.{suffix}", len(x)
    np.save(path, x) if suffix == "npy" else np.savez_compressed(path, x=x, y=np.arange(n))
    found = opened(path)
    stored = found if isinstance(found, Streamed) else found["x"]()
    assert np.array_equal(np.concatenate(list(stored.pieces())), x)
    assert np.array_equal(stored.rows(None), x)
    for some in ([0], [56], [3, 4, 30], range(10, 57), []):
        index = np.array(some, np.int64)
        assert np.array_equal(stored.rows(index), x[index])
    if suffix == "npz":
        content = bytearray(path.read_bytes())
        content[700] ^= 255  # within what is packed: the checksum tells
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"x\.npz: expected plain arrays"):
            _ = found["x"]().rows(None)  # type: ignore[index]


@pytest.mark.usefixtures("little")
def test_an_idx_file_is_unpacked_no_further_than_its_head_says(tmp_path: Path):
    labels = bytes([0, 0, 8, 1]) + (3).to_bytes(4, "big") + bytes(3)
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(labels)
    head = bytes([0, 0, 8, 3]) + b"".join(n.to_bytes(4, "big") for n in (3, 9, 9))
    for declared, content, words in (
        (head, bytes(50_000_000), "the head declares"),
        (bytes([0, 0, 8, 3]) + b"\xff" * 12, bytes(10), "of memory, and"),
    ):
        (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(declared + content))
        tracemalloc.start()
        with pytest.raises(ValueError, match=words):
            Idx(path=str(tmp_path)).read()
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
        tracemalloc.stop()


def test_a_mapped_array_is_the_array_and_the_file_stays_as_it_was(tmp_path: Path):
    x = np.random.default_rng(0).integers(0, 256, (5, 1, 4, 4), dtype=np.uint8)
    np.save(tmp_path / "x.npy", x)
    data = Array(path=str(tmp_path / "x.npy")).read("all")
    assert np.array_equal(data.x.numpy(), x)
    data.x.zero_()  # whoever changes his copy changes no file
    assert np.array_equal(np.load(tmp_path / "x.npy"), x)


def test_a_small_file_that_describes_a_huge_network_is_refused_unbuilt(tmp_path: Path):
    x = torch.randint(0, 256, (8, 1, 8, 8), dtype=torch.uint8)
    settings = ["model.network.width=8", "schedule.type=CosineBetas", "schedule.steps=4"]
    model = unsteep.train("array", data=x, out=tmp_path / "run", steps=1, settings=settings, say=lambda _: None)
    model.save(tmp_path / "model")
    before, network = (
        (tmp_path / "model" / "model.toml").read_text().split("[model.network]")
    )  # the examples have a width too
    assert "width = 8\n" in network
    network = network.replace("width = 8\n", "width = 8192\n", 1)
    (tmp_path / "model" / "model.toml").write_text(f"{before}[model.network]{network}")
    write_manifest(tmp_path / "model")
    with pytest.raises(ValueError, match=r"model.toml describes a network of [\d,]{12,} numbers, and .* lie beside it"):
        unsteep.load(tmp_path / "model")


def test_threads_share_a_room():
    room, inside, most = Room(100), 0, 0
    lock = threading.Lock()

    def work() -> None:
        nonlocal inside, most
        with room.taken(40):
            with lock:
                inside += 1
                most = max(most, inside)
            time.sleep(0.01)
            with lock:
                inside -= 1

    threads = [threading.Thread(target=work) for _ in range(8)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert most == 2
    with room.taken(10**9):  # more than there is: all of it
        pass
    with room.taken(100):  # and all is free again
        pass


def test_a_picture_takes_room_by_what_it_unpacks_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    asked: list[int] = []

    class Counting(Room):
        def taken(self, size: int):  # type: ignore[no-untyped-def]
            asked.append(size)
            return super().taken(size)

    monkeypatch.setattr(pictures, "UNPACKED", Counting(1 << 30))
    Image.new("RGB", (2000, 1000)).save(tmp_path / "a.png")
    pictures.load_picture(tmp_path / "a.png", height=8, width=8)
    assert asked == [2000 * 1000 * pictures.COPIES]


@pytest.mark.usefixtures("little")
def test_a_picture_that_unpacks_to_more_than_may_be_used_is_left_out_and_told(tmp_path: Path):
    for name, size in (("large.png", (500, 400)), ("small.png", (9, 9))):
        Image.new("RGB", size).save(tmp_path / name)
    data = Folder(path=str(tmp_path), size=8, max_bad=0.5).read()
    assert len(data) == 1
    ((name, why),) = data.skipped
    assert name == "large.png"
    assert why.startswith("500 x 400 pixels: to unpack them takes 2.4 MB of memory")


def test_what_does_not_fit_in_memory_is_refused_where_it_has_no_place(monkeypatch: pytest.MonkeyPatch):
    assert vanishing((3, 2)).sum() == 0

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)
    with pytest.raises(ValueError, match="of free space for what does not fit in memory, got a full disk; free some"):
        vanishing((3, 2))


def test_space_is_taken_before_it_is_mapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    assert reserved(tmp_path / "x", np.dtype(np.uint8), (10, 3)) is not None

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)
    assert reserved(tmp_path / "y", np.dtype(np.uint8), (10, 3)) is None
    assert not (tmp_path / "y").exists()
    shutil.rmtree(tmp_path)


# What a run takes.


def trained(out: Path, *settings: str) -> list[str]:
    """What a run says of itself."""
    said = list[str]()
    x = torch.randint(0, 256, (8, 3, 32, 32), dtype=torch.uint8)
    usual = ["train.batch=8", "train.report=false", "model.network.width=8"]
    unsteep.train("array", data=x, out=out, steps=1, settings=[*usual, *settings], say=said.append)
    return said


def test_a_run_says_what_it_takes_and_what_may_be_used(tmp_path: Path):
    with allowed("50GB"):
        (line,) = [one for one in trained(tmp_path / "run") if one.split()[0] == "memory"]
    assert re.fullmatch(r" +memory  about \d+\.\d [MG]B, of 50\.0 GB that may be used", line)


@pytest.mark.parametrize("objective", ["Simple", "Hybrid"])
def test_a_batch_that_does_not_fit_is_refused_with_parts_that_do(
    objective: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(estimate, "memory_now", lambda _: 0)
    monkeypatch.setattr(estimate, "KERNELS", 0)
    variance = ["model.variance=learned"] if objective == "Hybrid" else []
    settings = [*variance, f"objective={objective}"]
    with allowed("50GB"):
        (line,) = [one for one in trained(tmp_path / "first", *settings) if one.split()[0] == "memory"]
    takes = float(line.split()[2])
    with allowed(f"{0.6 * takes}MB"):
        with pytest.raises(ValueError, match=r"set train.accumulate=\d, which trains the same in parts") as told:
            trained(tmp_path / "run", *settings)
        assert not (tmp_path / "run").exists()
        advice = str(told.value).partition("set ")[2].partition(",")[0]
        trained(tmp_path / "run", *settings, advice)
    with allowed("1.1MB"), pytest.raises(ValueError, match="take a smaller network, as by"):
        trained(tmp_path / "other", *settings)


def test_a_network_too_large_to_train_is_refused_unbuilt(tmp_path: Path):
    before = peak_memory("cpu") or 0
    with allowed("3GB"), pytest.raises(ValueError, match=r"model.network: to train a network of [\d,]+ numbers takes"):
        trained(tmp_path / "run", "model.network.width=1024")
    assert (peak_memory("cpu") or 0) - before < 3 * 10**8


def test_a_classifier_larger_than_its_weights_is_refused_unbuilt(tmp_path: Path):
    shutil.copytree(FIXTURES / "classifier", tmp_path / "c")
    (folder,) = (tmp_path / "c" / "checkpoints").iterdir()
    text = (folder / "classifier.toml").read_text()
    (folder / "classifier.toml").write_text(re.sub(r"(?m)^width = \d+$", "width = 8192", text))
    write_manifest(folder)
    with pytest.raises(ValueError, match=r"classifier.toml describes a network of [\d,]{12,} numbers, and"):
        open_classifier(tmp_path / "c")
