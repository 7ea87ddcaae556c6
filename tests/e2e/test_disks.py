"""Disks that are full, fail, may not be written to or are gone: a line that says so, and nothing that was saved is
lost."""

import errno
import shutil
from pathlib import Path

import pytest

from killing import RESUME, TRAIN, Ended, contents, ended, other, whole
from unsteep.storage.checkpoint import step_folders
from unsteep.training.verifying import verified

FAULTS = ("ENOSPC", "EDQUOT", "EROFS", "EACCES", "EIO", "EFBIG", "EMFILE")
DEEDS = 155  # things that are done to files, about


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    home = tmp_path_factory.mktemp("trained") / "home"
    home.mkdir()
    whole(home, *TRAIN)
    return contents(home)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


def one_line(of: Ended) -> str:
    """It failed with one line that says why; that line."""
    assert of.code == 2, of.out + of.err
    lines = [line for line in of.err.splitlines() if line.strip() and not line.startswith("step ")]
    assert len(lines) == 1, of.err
    assert lines[0].startswith("unsteep: ")
    assert "rrno" not in lines[0]
    return lines[0]


def goes_on(home: Path, wanted: dict[str, bytes]) -> None:
    """What is there is whole, and the run ends as one that nothing befell."""
    begun = (home / "run" / "run.toml").exists()
    assert not begun or all(one.good for one in verified(home / "run"))
    whole(home, *(RESUME if begun else TRAIN))
    assert not other(contents(home), wanted)


@pytest.mark.parametrize(
    "every",
    [False, pytest.param(True, marks=[pytest.mark.long, pytest.mark.timeout(3600)])],
    ids=["some", "all"],
)
def test_a_disk_that_fails(every: bool, undisturbed: dict[str, bytes], home: Path) -> None:
    """Of every error some moments; it lasts, or not."""
    for at in range(DEEDS) if every else (5, 58, 88, 120):
        error, lasting = getattr(errno, FAULTS[at % len(FAULTS)]), bool(at // len(FAULTS) % 2)
        said = one_line(ended(home, *TRAIN, at=at, fault=error, lasting=lasting))
        if step_folders(home / "run" / "checkpoints"):
            assert "was saved" in said
        goes_on(home, undisturbed)
        shutil.rmtree(home)
        home.mkdir()


@pytest.mark.parametrize("size", [3000, 90_000])
def test_a_bound_on_the_size_of_files(size: int, undisturbed: dict[str, bytes], home: Path) -> None:
    said = one_line(ended(home, *TRAIN, limits={"RLIMIT_FSIZE": size}))
    assert "file too large; allow larger files" in said
    goes_on(home, undisturbed)


@pytest.mark.parametrize("number", [9, 12])
def test_hardly_any_file_may_be_open(number: int, undisturbed: dict[str, bytes], home: Path) -> None:
    assert "too many open files; allow more" in one_line(ended(home, *TRAIN, limits={"RLIMIT_NOFILE": number}))
    goes_on(home, undisturbed)
