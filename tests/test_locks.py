"""One writer of a folder: whoever holds it is named, a dead one is followed, one elsewhere is asked about."""

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from command_line import made, unsteep_
from every_verb import small_features, surroundings, trained, writing_folders
from unsteep.data import Digits
from unsteep.storage import lock
from unsteep.storage.lock import LOCK, FolderLock, Holder, held_by
from unsteep.studies import trained as training_runs
from unsteep.training.run import Run

ELSEWHERE = Holder(host="node7", boot="another", pid=4, start="5", since="2026-01-02 03:04")


def left(folder: Path, holder: Holder) -> Path:
    """What a holder leaves that was killed, or is elsewhere."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / LOCK).write_text(json.dumps(asdict(holder)))
    return folder


@pytest.fixture
def other() -> Iterator[subprocess.Popen[bytes]]:
    """Another process, which lives as long as it is wanted."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield process
    process.kill()
    process.communicate()


def of(pid: int) -> Holder:
    return replace(Holder.here(), pid=pid, start=lock._start(pid))


@pytest.fixture(params=["the kernel's locks", "no locks", "a system without them"])
def locks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """What the file system knows."""

    def flock(*_: Any) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    if request.param == "no locks":
        monkeypatch.setattr("fcntl.flock", flock)
    elif request.param == "a system without them":
        monkeypatch.setattr(lock, "fcntl", None)
    return str(request.param)


@pytest.mark.usefixtures("locks")
def test_a_second_writer_is_refused_and_a_folder_is_left_as_it_was(tmp_path: Path) -> None:
    with FolderLock(tmp_path / "a"):
        assert held_by(tmp_path / "a") == Holder.here()
        with (
            pytest.raises(ValueError, match=rf"process {os.getpid()} has been writing .*; wait"),
            FolderLock(tmp_path / "a"),
        ):
            pass
        assert held_by(tmp_path / "a") == Holder.here()
    assert not (tmp_path / "a").exists()
    with FolderLock(tmp_path / "b"):
        (tmp_path / "b" / "c").write_text("")
    assert [path.name for path in (tmp_path / "b").iterdir()] == ["c"]


@pytest.mark.usefixtures("locks")
def test_a_dead_one_is_followed_and_a_number_that_came_again_is_no_owner(tmp_path: Path, other: Any) -> None:
    recycled = replace(of(other.pid), start="0")
    rebooted = replace(of(other.pid), boot="before")
    other_name = replace(recycled, host="a-container-of-this-machine")
    for holder in (recycled, rebooted, other_name):
        assert held_by(left(tmp_path, holder)) is None
        with FolderLock(tmp_path):
            assert held_by(tmp_path) == Holder.here()


def test_without_locks_a_living_process_holds_what_it_wrote_until_it_ends(
    tmp_path: Path, other: Any, locks: str
) -> None:
    left(tmp_path, of(other.pid))
    assert held_by(tmp_path) == of(other.pid)
    if locks != "the kernel's locks":  # which know better
        with pytest.raises(ValueError, match=f"process {other.pid} has been"), FolderLock(tmp_path):
            pass
    other.kill()
    if os.name == "posix":
        os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)  # dead, though nobody has asked after it
    assert held_by(tmp_path) is None
    with FolderLock(tmp_path):
        pass


@pytest.mark.usefixtures("locks")
def test_one_on_another_machine_is_asked_about(tmp_path: Path) -> None:
    left(tmp_path, ELSEWHERE)
    (tmp_path / "log.jsonl").write_text("")
    for path in (tmp_path, tmp_path / LOCK, tmp_path / "log.jsonl"):
        os.utime(path, times=(0, path.stat().st_mtime - 3 * 3600))
    said = (
        "process 4 of node7 has been writing there since 2026-01-02 03:04, and the last change was 3 hours ago; from "
        f"this machine nobody can tell whether it still runs: wait for it, or, if it has ended, remove {tmp_path}/.lock"
    )
    for _ in range(2):
        with pytest.raises(ValueError, match=said), FolderLock(tmp_path):
            pass
    assert held_by(tmp_path) == ELSEWHERE
    (tmp_path / LOCK).unlink()
    with FolderLock(tmp_path):
        pass


def test_what_is_no_lock_of_ours_stops_nobody_and_is_followed_nowhere(tmp_path: Path) -> None:
    for content in (b"", b"123\n", b"\xff" * 9000, b"[" * 4000, b'{"host": []}', b'{"pid": "x"}'):
        (tmp_path / LOCK).write_bytes(content)
        assert held_by(tmp_path) is None
        with FolderLock(tmp_path):
            assert held_by(tmp_path) == Holder.here()
    mine = tmp_path / "mine"
    mine.write_text("precious")
    (tmp_path / LOCK).symlink_to(mine)
    with pytest.raises(ValueError, match=r"\.lock: it cannot be written, "), FolderLock(tmp_path):
        pass
    (tmp_path / LOCK).unlink()
    os.mkfifo(tmp_path / LOCK)
    assert held_by(tmp_path) is None
    with pytest.raises(ValueError, match="it is no regular file"), FolderLock(tmp_path):
        pass
    assert mine.read_text() == "precious"


def test_a_lock_that_its_holder_takes_away_meanwhile_is_taken_anew(tmp_path: Path, monkeypatch: Any) -> None:
    """Else two would hold the folder: one by the file that was there, one by the file that is."""
    kept, times = lock._lock, []

    def late(descriptor: int) -> bool | None:
        if not times:
            (tmp_path / LOCK).unlink()
        times.append(descriptor)
        return kept(descriptor)

    monkeypatch.setattr(lock, "_lock", late)
    with FolderLock(tmp_path):
        assert len(times) == 2
        assert held_by(tmp_path) == Holder.here()


# Every verb that writes a folder.


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("locks") / "run")


@pytest.fixture(scope="module")
def beside(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return surroundings(tmp_path_factory.mktemp("beside"))


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("verb", writing_folders(Path(), Path(), Path()))
def test_no_verb_writes_where_another_may(verb: str, run: Path, beside: Path, tmp_path: Path) -> None:
    out = run if verb == "tune-grid" else tmp_path / "out"
    arguments = writing_folders(run, beside, out)[verb]
    forced = ["--force"] if verb == "sample" else []  # else it refuses for what lies there
    left(out, ELSEWHERE)
    before = files(out)
    with small_features():
        code, _, err = unsteep_(verb, *arguments, *forced)
    assert code == 2
    assert "process 4 of node7 has been writing there" in err
    assert files(out) == before
    (out / LOCK).unlink()
    with small_features(), FolderLock(out):
        code, _, err = unsteep_(verb, *arguments, *forced)
    assert code == 2
    assert f"process {os.getpid()} has been writing there" in err
    assert not list(out.rglob(LOCK))


@pytest.mark.parametrize("verb", [verb for verb in writing_folders(Path(), Path(), Path()) if verb != "tune-grid"])
def test_no_verb_writes_over_what_it_did_not_write(verb: str, run: Path, beside: Path, tmp_path: Path) -> None:
    """Every name that it writes, at first the file of somebody else."""
    out = tmp_path / "out"
    arguments = writing_folders(run, beside, out)[verb]
    with small_features():
        made(verb, *arguments)
        if verb in ("evaluate", "compare", "likelihood", "rate-distortion", "bench"):
            made(verb, *arguments)  # the same again
        names = [path.relative_to(out) for path in out.rglob("*") if path.is_file() and not path.name.startswith(".")]
        assert names
        for name in names:
            shutil.rmtree(out)
            (out / name).parent.mkdir(parents=True)
            shutil.copy(beside / "photos" / "0.png", out / name)
            before = files(out)
            code, _, err = unsteep_(verb, *arguments)
            assert (code, files(out)) == (2, before), (name, err)


@pytest.mark.parametrize("name", ["samples.png", "index.html"])
def test_a_folder_of_ours_with_a_file_of_another_is_refused(name: str, run: Path, beside: Path, tmp_path: Path) -> None:
    arguments = ["evaluate", *writing_folders(run, beside, tmp_path)["evaluate"]]
    with small_features():
        made(*arguments)
        shutil.copy(beside / "photos" / "0.png", tmp_path / name)
        before = files(tmp_path)
        code, _, err = unsteep_(*arguments)
    assert f"unsteep: --out: {tmp_path} holds {name}, which is of no page of unsteep; name another folder" in err
    assert (code, files(tmp_path)) == (2, before)


def test_resuming_and_looking_at_a_run_of_another_machine(run: Path) -> None:
    left(run, ELSEWHERE)
    code, _, err = unsteep_("train", "--resume", "--out", run, "--set", "train.steps=3")
    assert code == 2
    assert "process 4 of node7" in err
    assert "process 4 of node7" in made("show", run)
    assert "logs were left alone" in " ".join(made("verify", run).split())
    (run / LOCK).unlink()


def test_a_run_that_ended_while_another_read_its_data_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = Digits.read
    out = tmp_path / "run"

    def slowly(self: Digits, split: str = "train") -> Any:
        monkeypatch.setattr(Digits, "read", kept)
        trained(out)
        return self.read(split)

    monkeypatch.setattr(Digits, "read", slowly)
    code, _, err = unsteep_("train", "digits", "--out", out, "--set", "train.steps=1", "--set", "data.limit=40")
    assert code == 2
    assert "holds a run already" in err
    assert "train" in made("show", out)
    assert [path.name for path in (out / "checkpoints").iterdir()] == ["step-00000002"]


def test_a_study_goes_on_past_a_run_that_was_killed_after_all_its_work(run: Path, tmp_path: Path, other: Any) -> None:
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    (folder / "report.html").write_text("")  # the last that a run writes
    other.kill()
    other.wait()
    left(folder, of(other.pid))
    assert training_runs.trained(Run(data=Digits()), folder, "cpu") is not None
    assert not (folder / LOCK).exists()
    left(folder, ELSEWHERE)
    with pytest.raises(ValueError, match="process 4 of node7"):
        training_runs.trained(Run(data=Digits()), folder, "cpu")
