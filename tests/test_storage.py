"""What is on disk is whole, is what was written, and belongs to one process; whatever is killed, flipped or full."""

import errno
import io
import json
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch

from unsteep.storage import checkpoint, manifest
from unsteep.storage.checkpoint import (
    flatten_state,
    latest,
    load_tensors,
    load_text,
    prune,
    restore,
    save_folder,
    step_folders,
    unflatten_state,
)
from unsteep.storage.lock import FolderLock, Holder, held_by
from unsteep.storage.manifest import Corrupt, verify, write_manifest


def save(path: Path, value: float = 0.0) -> Path:
    save_folder(path, tensors={"model": {"w": torch.full((4,), value)}}, texts={"config.toml": f"value = {value}\n"})
    return path


def flip(path: Path, byte: int = -1) -> None:
    content = bytearray(path.read_bytes())
    content[byte] ^= 1
    path.write_bytes(content)


def python(code: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


# Tensors and texts.


def test_tensors_come_back_bit_for_bit(tmp_path: Path) -> None:
    torch.manual_seed(0)
    big = torch.randn(6, 8)
    tensors = {
        "zero-dimensional": torch.tensor(0.1),
        "empty": torch.empty(0, 3),
        "brain": torch.randn(5).to(torch.bfloat16),
        "half": torch.randn(5).half(),
        "double": torch.tensor([torch.nan, -torch.inf, -0.0], dtype=torch.float64),
        "int": torch.tensor([2**62 + 1]),
        "bool": torch.tensor([True, False]),
        "transposed": big.T,
        "column": big[:, 3],
        "row": big[2],
        "whole": big,
        "alias": big,
        "expanded": torch.ones(1).expand(3),
        "channels last": torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last),
        "parameter": torch.nn.Parameter(torch.ones(2)),
    }
    save_folder(tmp_path / "a", tensors={"model": tensors, "empty": {}}, texts={})
    back = load_tensors(tmp_path / "a", "model")
    assert back.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert (back[name].dtype, back[name].shape) == (tensor.dtype, tensor.shape), name
        ours, theirs = back[name].flatten(), tensor.detach().contiguous().flatten()
        assert torch.equal(ours.view(torch.uint8), theirs.view(torch.uint8)), name
    assert load_tensors(tmp_path / "a", "empty") == {}


def test_texts_come_back_with_their_newlines(tmp_path: Path) -> None:
    text = "a\r\nb\rc\né\u2028\x00"
    save_folder(tmp_path / "deep" / "a", tensors={}, texts={"notes.txt": text})
    assert load_text(tmp_path / "deep" / "a", "notes.txt") == text


def test_a_save_replaces_the_whole_folder_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    save_folder(tmp_path / "a", tensors={"old": {"w": torch.zeros(1)}}, texts={"old.txt": ""})
    save(tmp_path / "a", 2.0)
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == ["config.toml", "manifest.json", "model.safetensors"]
    assert os.listdir(tmp_path) == ["a"]
    verify(tmp_path / "a")


@pytest.mark.skipif(os.name == "nt", reason="modes are POSIX")
def test_files_are_as_readable_as_the_umask_lets_them(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        save(tmp_path / "a")
    finally:
        os.umask(before)
    assert {oct(p.stat().st_mode & 0o777) for p in (tmp_path / "a").iterdir()} == {"0o644"}


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    save(tmp_path / "a")
    with pytest.raises(ValueError, match=re.escape(str(tmp_path / "a" / "ema.safetensors"))):
        load_tensors(tmp_path / "a", "ema")
    with pytest.raises(ValueError, match=r"notes\.txt"):
        load_text(tmp_path / "a", "notes.txt")
    (tmp_path / "a" / "latin.txt").write_bytes(b"caf\xe9")
    with pytest.raises(Corrupt, match=r"latin\.txt: expected UTF-8"):
        load_text(tmp_path / "a", "latin.txt")


class Evil:
    """Unpickling it makes a folder at `path`."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> Any:
        return os.mkdir, (self.path,)


def test_a_pickle_in_place_of_tensors_is_refused_and_never_run(tmp_path: Path) -> None:
    folder, trace = save(tmp_path / "a"), tmp_path / "trace"
    zipped = io.BytesIO()
    torch.save({"w": Evil(trace)}, zipped)
    for content in (zipped.getvalue(), pickle.dumps(Evil(trace)), b""):
        (folder / "model.safetensors").write_bytes(content)
        with pytest.raises(Corrupt, match=r"model\.safetensors"):
            load_tensors(folder, "model")
        with pytest.raises(Corrupt, match=r"model\.safetensors"):
            verify(folder)
    assert not trace.exists()
    pickle.loads(pickle.dumps(Evil(trace)))
    assert trace.exists()  # it is evil


# The manifest.


def test_a_manifest_knows_every_file_but_itself_and_hidden_ones(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("abc")
    (tmp_path / ".lock").write_text("1")
    (tmp_path / "folder").mkdir()
    write_manifest(tmp_path)
    write_manifest(tmp_path)
    # the digest of "abc" in FIPS 180-2, appendix B.1
    digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    files = {"a.txt": {"bytes": 3, "sha256": digest}}
    assert json.loads((tmp_path / "manifest.json").read_text()) == {"format": 1, "files": files}
    (tmp_path / ".lock").write_text("22")
    (tmp_path / "later.txt").write_text("")
    verify(tmp_path)


@pytest.mark.parametrize("byte", [0, 8, 40, -1])
def test_a_flipped_bit_is_refused_by_the_name_of_its_file(tmp_path: Path, byte: int) -> None:
    folder = save(tmp_path / "a")
    verify(folder)
    flip(folder / "model.safetensors", byte)
    with pytest.raises(Corrupt, match=r"model\.safetensors: its bytes"):
        verify(folder)


def test_a_missing_or_cut_file_and_a_broken_manifest_are_refused_by_name(tmp_path: Path) -> None:
    folder = save(tmp_path / "a")
    (folder / "config.toml").write_text("")
    with pytest.raises(Corrupt, match=r"config\.toml: expected 12 bytes, got 0"):
        verify(folder)
    (folder / "config.toml").unlink()
    with pytest.raises(Corrupt, match=r"config\.toml: missing"):
        verify(folder)
    for content in ("{", "[]", "\x00", '{"files": []}', '{"files": {"a": 1}}', '{"files": {"a": {"bytes": "x"}}}'):
        (folder / "manifest.json").write_text(content)
        with pytest.raises(Corrupt, match=r"manifest\.json: expected a manifest"):
            verify(folder)
    (folder / "manifest.json").unlink()
    with pytest.raises(Corrupt, match=r"manifest\.json: missing"):
        verify(folder)


# State as tensors and JSON.


def same(a: Any, b: Any) -> bool:
    """Equality that also compares types, dtypes, the order of keys, the sign of zero and the bits of NaN."""
    if type(a) is not type(b):
        return False
    if isinstance(a, torch.Tensor):
        bits = [x.contiguous().flatten().view(torch.uint8) for x in (a, b)]
        return a.dtype == b.dtype and a.shape == b.shape and torch.equal(*bits)
    if isinstance(a, dict):
        return same(list(a.items()), list(b.items()))
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return repr(a) == repr(b)


def through_disk(folder: Path, state: Any) -> Any:
    tensors, rest = flatten_state(state)
    save_folder(folder, tensors={"optimizer": tensors}, texts={"optimizer.json": json.dumps(rest, allow_nan=False)})
    return unflatten_state(load_tensors(folder, "optimizer"), json.loads(load_text(folder, "optimizer.json")))


def test_any_state_survives_with_its_types(tmp_path: Path) -> None:
    shared = torch.arange(3.0)
    state = {
        0: shared,
        "0": shared,
        "a.b": torch.tensor(1, dtype=torch.bfloat16),
        "a": {"b": torch.zeros(0), (1, "x"): None, True: False, "": {}, None: ()},
        "plain": [1, 2**70, 0.1, -0.0, float("inf"), float("-inf"), float("nan"), None, True, "tensor", "é", []],
        "nested": ((1, (2.5,)), [({},)]),
        "looks tagged": {"tensor": "a", "tuple": [1]},
    }
    assert same(through_disk(tmp_path / "a", state), state)
    assert not same({0: 1}, {"0": 1})
    assert not same([0.0], [-0.0])


@pytest.mark.parametrize("name", ["adamw", "sgd", "lbfgs"])
def test_an_optimizer_continues_as_if_it_had_never_stopped(tmp_path: Path, name: str) -> None:
    def fresh() -> tuple[torch.nn.Linear, Any]:
        torch.manual_seed(0)
        net = torch.nn.Linear(3, 2).to(torch.bfloat16 if name == "sgd" else torch.float32)
        groups = [{"params": [net.weight], "lr": 0.1}, {"params": [net.bias]}]
        return net, {
            "adamw": lambda: torch.optim.AdamW(groups, lr=0.01, amsgrad=True),
            "sgd": lambda: torch.optim.SGD(groups, lr=0.01, momentum=0.9, nesterov=True),
            "lbfgs": lambda: torch.optim.LBFGS(net.parameters(), max_iter=2),
        }[name]()

    def train(net: torch.nn.Linear, optimizer: Any, steps: int) -> None:
        x = torch.linspace(-1, 1, 12, dtype=net.weight.dtype).view(4, 3)

        def closure() -> torch.Tensor:
            optimizer.zero_grad()
            loss = (net(x) - 1).square().mean()
            loss.backward()
            return loss

        for _ in range(steps):
            optimizer.step(closure)

    net, optimizer = fresh()
    train(net, optimizer, 3)
    state = through_disk(tmp_path / "a", {"net": dict(net.state_dict()), "optimizer": optimizer.state_dict()})
    assert same(state["optimizer"], optimizer.state_dict())
    train(net, optimizer, 3)

    again, resumed = fresh()
    again.load_state_dict(state["net"])
    resumed.load_state_dict(state["optimizer"])
    train(again, resumed, 3)
    assert same(dict(again.state_dict()), dict(net.state_dict()))


def test_a_value_that_is_not_data_is_refused_by_its_path() -> None:
    with pytest.raises(TypeError, match=r"^schedule\.0\.f: .* got function"):
        flatten_state({"schedule": [{"f": lambda: None}]})


# The row of checkpoints.


def test_step_folders_are_those_that_were_finished_in_order_of_their_steps(tmp_path: Path) -> None:
    for step in (1000, 500, 99_999_999, 100_000_000, 9):
        save(tmp_path / f"step-{step:08d}")
    (tmp_path / "step-00002000").mkdir()  # no manifest
    save(tmp_path / "step-final")
    save(tmp_path / "model")
    names = ["step-00000009", "step-00000500", "step-00001000", "step-99999999", "step-100000000"]
    assert [p.name for p in step_folders(tmp_path)] == names
    assert latest(tmp_path) == tmp_path / names[-1]
    assert step_folders(tmp_path / "nowhere") == []
    assert latest(tmp_path / "nowhere") is None


def test_latest_skips_corrupt_ones_and_names_them(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        save(tmp_path / f"step-{step:08d}")
    flip(tmp_path / "step-00000003" / "model.safetensors")
    (tmp_path / "step-00000002" / "config.toml").unlink()
    with pytest.warns(UserWarning, match="skipped") as caught:
        assert latest(tmp_path) == tmp_path / "step-00000001"
    assert [str(w.message).split(":")[0] for w in caught] == ["skipped step-00000003", "skipped step-00000002"]


def test_a_reader_follows_whoever_trains(tmp_path: Path) -> None:
    """With keep=1 a folder may go away while it is read; the newer one is then read."""
    save(tmp_path / "step-00000001")
    seen: list[str] = []

    def use(folder: Path) -> str:
        seen.append(folder.name)
        if len(seen) < 4:  # a newer save, and this one is gone
            save(tmp_path / f"step-{len(seen) + 1:08d}")
            shutil.rmtree(folder)
            raise ValueError("a file is missing")
        return folder.name

    assert checkpoint.with_latest(tmp_path, use) == "step-00000004"
    assert len(seen) == 4
    assert checkpoint.with_latest(tmp_path / "none", use) is None

    def refuse(folder: Path) -> None:
        raise ValueError("no model")

    with pytest.raises(ValueError, match="no model"):
        checkpoint.with_latest(tmp_path, refuse)


def test_prune_removes_the_older_and_the_leftovers_only(tmp_path: Path) -> None:
    for step in range(1, 6):
        save(tmp_path / f"step-{step:08d}")
    save(tmp_path / "model")
    (tmp_path / ".step-00000006.partial").mkdir()
    (tmp_path / ".model.partial").mkdir()
    prune(tmp_path, keep=10)
    assert len(step_folders(tmp_path)) == 5
    prune(tmp_path, keep=2)
    assert sorted(os.listdir(tmp_path)) == [".model.partial", "model", "step-00000004", "step-00000005"]


def test_prune_removes_what_a_killed_save_of_the_same_step_left(tmp_path: Path) -> None:
    for step in (1, 2):
        save(tmp_path / f"step-{step:08d}")
    shutil.copytree(tmp_path / "step-00000001", tmp_path / ".step-00000001.partial")
    prune(tmp_path, 1)
    assert os.listdir(tmp_path) == ["step-00000002"]


def test_prune_never_takes_the_last_good_one(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        save(tmp_path / f"step-{step:08d}")
    flip(tmp_path / "step-00000003" / "model.safetensors")
    with pytest.warns(UserWarning, match="step-00000003"):
        prune(tmp_path, keep=1)
    assert [p.name for p in step_folders(tmp_path)] == ["step-00000002", "step-00000003"]


# Full disks and killed processes.


@pytest.mark.parametrize("place", ["tensors", "text", "manifest"])
def test_a_full_disk_is_said_and_the_old_save_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    path = save(tmp_path / "a", 1.0)

    def full(*_: object) -> None:
        if place == "tensors":  # as the library words it
            words = "Error while serializing: I/O error: No space left on device (os error 28)"
            raise checkpoint.SafetensorError(words)
        raise OSError(errno.ENOSPC, "No space left on device")

    where = {"tensors": "save_file", "text": "write_durably", "manifest": "write_manifest"}
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, where[place], full)
        with pytest.raises(ValueError, match=r"expected about 4\.0 MB of free space") as caught:
            save_folder(path, tensors={"model": {"w": torch.zeros(1_000_000)}}, texts={"config.toml": ""})
    assert str(path) in str(caught.value)
    assert os.listdir(tmp_path) == ["a"]
    verify(path)
    assert load_tensors(path, "model")["w"].tolist() == [1.0] * 4


def test_any_other_failure_stays_itself_and_leaves_no_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    path = save(tmp_path / "a", 1.0)
    monkeypatch.setattr(checkpoint, "write_manifest", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save(path, 2.0)
    assert os.listdir(tmp_path) == ["a"]
    assert load_text(path, "config.toml") == "value = 1.0\n"


def test_what_a_killed_save_moved_aside_is_put_back(tmp_path: Path) -> None:
    save(tmp_path / "model", 1.0).rename(tmp_path / ".model.aside")
    restore(tmp_path / "model")
    restore(tmp_path / "model")
    verify(tmp_path / "model")
    save(tmp_path / "new").rename(tmp_path / ".model.aside")  # its removal was killed, not the save
    restore(tmp_path / "model")
    assert load_text(tmp_path / "model", "config.toml") == "value = 1.0\n"


def test_a_save_that_fails_after_a_killed_one_leaves_the_old_folder_in_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path / "model", 1.0).rename(tmp_path / ".model.aside")
    monkeypatch.setattr(checkpoint, "write_manifest", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        save(tmp_path / "model", 2.0)
    assert load_text(tmp_path / "model", "config.toml") == "value = 1.0\n"


def test_a_reader_that_restores_in_the_middle_of_a_save_does_not_stop_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, rename, readers = save(tmp_path / "a", 1.0), Path.rename, [restore, restore]

    def rename_then_read(self: Path, target: Path) -> Path:
        moved = rename(self, target)
        if self == path and readers:
            readers.pop()(path)
        return moved

    monkeypatch.setattr(Path, "rename", rename_then_read)
    save(path, 2.0)
    assert not readers
    assert os.listdir(tmp_path) == ["a"]
    assert load_text(path, "config.toml") == "value = 2.0\n"


KILLED = """
import os, random, signal, sys, time
from pathlib import Path
import torch
from unsteep.storage.checkpoint import latest, load_tensors, prune, save_folder, step_folders
from unsteep.storage.manifest import verify

torch.set_num_threads(1)
root, random_kills = Path(sys.argv[1]), 12
EVENTS = {"open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.chmod", "shutil.rmtree"}

def save(step, value):
    tensors = {"model": {"w": torch.full((20_000,), float(value))}}
    save_folder(root / f"step-{step:08d}", tensors=tensors, texts={"value.txt": str(value)})

def child(work):
    pid = os.fork()
    if not pid:
        try:
            work()
        finally:
            os._exit(0)
    return pid

def value():
    folder = latest(root)
    tensors = load_tensors(folder, "model")["w"]
    assert tensors.eq(float((folder / "value.txt").read_text())).all()
    return int(tensors[0])

def dies_at(count):
    # in place of the count-th call that touches the disk
    def hook(event, _):
        nonlocal count
        if event in EVENTS:
            count -= 1
            if count < 0:
                os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(hook)

def saves_forever(value):
    while True:
        save(random.choice([1, 2]), value := value + 1)
        prune(root, 1)

# every moment of one save, over the newest and only one
save(1, old := 0)
moments = seen_new = 0
while True:
    pid = child(lambda: (dies_at(moments), save(1, old + 1)))
    finished = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert (now := value()) in (old, old + 1), (old, now)
    assert now == old + 1 or not finished
    seen_new += now > old
    if finished:
        break
    old, moments = now, moments + 1

# every moment of one removal: what is listed is whole
for step in (2, 3):
    save(step, old + 1)
for moment in range(100):
    pid = child(lambda: (dies_at(moment), prune(root, 1)))
    finished = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    for folder in step_folders(root):
        verify(folder)
    if finished:
        break
assert 3 < moment < 99 and len(step_folders(root)) == 1

# random moments of many saves and removals
random.seed(0)
for kill in range(random_kills):
    pid = child(lambda: saves_forever(value()))
    time.sleep(random.uniform(0.01, 0.08))
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    value()

prune(root, 1)
assert len(os.listdir(root)) == 1, os.listdir(root)
print(moments, seen_new)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forks of itself")
def test_a_save_killed_at_any_moment_leaves_a_checkpoint_that_loads(tmp_path: Path) -> None:
    process = python(KILLED, tmp_path)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    moments, seen_new = map(int, out.split())
    assert moments > 15  # it was killed in many places
    assert 1 < seen_new < moments  # before the renames, and after


# The lock.


def test_a_second_holder_is_refused_and_told_who_is_first(tmp_path: Path) -> None:
    with (
        FolderLock(tmp_path / "run"),
        pytest.raises(ValueError, match=rf"process {os.getpid()} has been writing"),
        FolderLock(tmp_path / "run"),
    ):
        pass
    with FolderLock(tmp_path / "run"):
        pass


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the lock is POSIX")
def test_a_lock_holds_against_other_processes_until_its_holder_is_killed(tmp_path: Path) -> None:
    code = """
        import os, sys, time
        from unsteep.storage.lock import FolderLock
        with FolderLock(sys.argv[1]):
            if not os.fork():  # a data worker, which outlives the kill
                print(os.getpid(), flush=True)
                time.sleep(60)
                os._exit(0)
            time.sleep(60)
    """
    with python(code, tmp_path) as holder:
        assert holder.stdout is not None
        worker = int(holder.stdout.readline())
        try:
            with pytest.raises(ValueError, match=f"process {holder.pid} has been writing"), FolderLock(tmp_path):
                pass
            holder.kill()
            holder.wait()
            os.kill(worker, 0)  # still there
            with FolderLock(tmp_path):
                assert held_by(tmp_path) == Holder.here()
        finally:
            holder.kill()
            os.kill(worker, signal.SIGKILL)


def test_manifests_leave_the_lock_alone(tmp_path: Path) -> None:
    (tmp_path / "one.json").write_text("{}")
    with FolderLock(tmp_path):
        manifest.write_manifest(tmp_path)
    verify(tmp_path)
