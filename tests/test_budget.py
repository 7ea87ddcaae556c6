"""Sizes that files declare, against what is there and what may be used."""

import gzip
import shutil
import threading
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import unsteep
from unsteep.core import budget
from unsteep.core.budget import Room, memory
from unsteep.data import Array, Idx, pictures
from unsteep.data.decoding import reserved
from unsteep.storage.manifest import write_manifest


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


@pytest.fixture
def little(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(budget.VARIABLE, "1MB")


@pytest.mark.usefixtures("little")
def test_an_array_that_unpacks_to_more_than_may_be_used_is_refused(tmp_path: Path):
    np.savez_compressed(tmp_path / "bomb.npz", images=np.zeros((3000, 32, 32), np.uint8))
    assert (tmp_path / "bomb.npz").stat().st_size < 20_000
    with pytest.raises(ValueError, match=r"bomb.npz: the largest of its arrays takes 0.0 GB of memory, and 0.0 may be"):
        Array(path=str(tmp_path / "bomb.npz"), limit=10).read()


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
    text = (tmp_path / "model" / "model.toml").read_text()
    (tmp_path / "model" / "model.toml").write_text(text.replace("width = 8\n", "width = 8192\n"))
    assert "width = 8192" in (tmp_path / "model" / "model.toml").read_text()
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


def test_space_is_taken_before_it_is_mapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    assert reserved(tmp_path / "x", np.dtype(np.uint8), (10, 3)) is not None

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)
    assert reserved(tmp_path / "y", np.dtype(np.uint8), (10, 3)) is None
    assert not (tmp_path / "y").exists()
    shutil.rmtree(tmp_path)
