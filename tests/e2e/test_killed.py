"""Killed at any moment and started again, as a user would, whatever writes files ends as if nothing had been."""

import random
import shutil
import time
from pathlib import Path, PurePosixPath

import pytest

from killing import QUICK, RESUME, TRAIN, Ended, contents, ended, other, sets, whole

CLASSIFIER = ["train.steps=2", "train.batch=4", "network.width=8", "network.groups=4", "train.checkpoint_every=1"]
COUNTS = ["--steps", "1", "--samples", "12", "--images", "2"]
VERBS: dict[str, list[str]] = {
    "train": TRAIN,
    "train anew": [*TRAIN, "--force"],
    "train longer": [*RESUME, *sets(["train.steps=7"])],
    "train-classifier": ["train-classifier", "run", *sets(CLASSIFIER), "-n", "10"],
    "tune-grid": ["tune-grid", "run", "--steps", "3", "--seeds", "4", "--evaluations", "12"],
    "evaluate": ["evaluate", "run", "-n", "20", "--metrics", "fid", "--steps", "2"],
    "likelihood": ["likelihood", "run", "-n", "2", "--terms", "2"],
    "study": ["study", "architecture", *sets(QUICK), *COUNTS, "--out", "study"],
}
SAMPLE = {  # of the things that are done: the first, and how many further the next is
    "train": (45, 60),
    "train anew": (11, 999),
    "train longer": (29, 999),
    "train-classifier": (50, 999),
    "tune-grid": (7, 999),
    "evaluate": (9, 12),
    "likelihood": (3, 999),
    "study": (70, 999),
}
LONG = [pytest.mark.long, pytest.mark.timeout(3600)]
SOME_ALL = pytest.mark.parametrize("every", [False, pytest.param(True, marks=LONG)], ids=["some", "all"])


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run in it."""
    home = tmp_path_factory.mktemp("trained") / "home"
    home.mkdir()
    in_order(whole(home, *TRAIN))
    return home


@SOME_ALL
@pytest.mark.parametrize("verb", VERBS)
def test_killed_before_anything_is_done_to_a_file(verb: str, every: bool, trained: Path, tmp_path: Path) -> None:
    def begun(name: str) -> Path:
        home = tmp_path / name
        if verb in ("train", "study"):
            home.mkdir()
        else:
            shutil.copytree(trained, home)
        return home

    undisturbed = begun("whole")
    done = whole(undisturbed, *VERBS[verb])
    in_order(done)
    wanted, different = contents(undisturbed), list[str]()
    first, further = (0, 1) if every else SAMPLE[verb]
    for at in range(first, len(done.deeds), further):
        home = begun("home")
        killed = ended(home, *VERBS[verb], at=at)
        assert killed.code == -9, killed.err
        again = ended(home, *again_of(verb, home))
        if again.code or other(contents(home), wanted):
            different.append(f"{at}, {killed.last}: {again.code} {again.err.strip()} {other(contents(home), wanted)}")
        shutil.rmtree(home)
    assert not different, "\n".join(different)


def again_of(verb: str, home: Path) -> list[str]:
    """What a user types after it was killed."""
    return RESUME if verb == "train" and (home / "run" / "run.toml").exists() else VERBS[verb]


@pytest.mark.parametrize("kills", [5, pytest.param(50, marks=LONG)])
def test_killed_at_random(kills: int, trained: Path, tmp_path: Path) -> None:
    wanted, home, random_ = contents(trained), tmp_path / "home", random.Random(kills)
    seconds = list[float]()
    for _ in range(2):  # the second is not held up by anything that is done once
        home.mkdir()
        began = time.monotonic()
        whole(home, *TRAIN)
        seconds.append(time.monotonic() - began)
        shutil.rmtree(home)
    equal = 0
    for _ in range(kills):
        home.mkdir()
        after = random_.uniform(0, min(seconds))
        killed = ended(home, *TRAIN, after=after)
        again = whole(home, *again_of("train", home))
        different = other(contents(home), wanted)
        equal += not different
        print(f"killed after {after:.2f} s and {len(killed.deeds)} things, {killed.last}: {different or 'equal'}")
        print(f"    {next((line for line in again.out.splitlines() if 'resuming' in line), 'begun again')}")
        shutil.rmtree(home)
    assert equal == kills


def in_order(of: Ended) -> None:
    """What takes a name that is read, a file or a folder with all in it, was brought to the disk before, and so is the
    name before anything older goes, or the process ends. What is kept to be made again is not waited for."""
    dirty, moved = set[PurePosixPath](), set[PurePosixPath]()
    for what, *names in of.deeds:
        paths = [PurePosixPath(name) for name in names]
        if names[0].startswith("cache"):
            continue
        if what == "fsync":
            dirty.discard(paths[0])
            moved.discard(paths[0])
        elif what in ("open", "save_file"):
            dirty |= {paths[0], paths[0].parent}
        elif what == "os.rename":
            old, new = paths
            assert not moved & {new.parent} or not new.name.startswith("."), f"{old} goes before a newer name is kept"
            waiting = [one for one in dirty if one == old or old in one.parents]
            assert new.name.startswith(".") or not waiting, f"{new}: {waiting} may not be on the disk"
            moved.add(new.parent)
    assert not {folder for folder in moved if not folder.name.startswith(".")} - removed(of), moved


def removed(of: Ended) -> set[PurePosixPath]:
    """Folders whose last change was that something was taken away."""
    last = dict[PurePosixPath, bool]()
    for what, *names in of.deeds:
        if what == "os.rename":
            last[PurePosixPath(names[1]).parent] = PurePosixPath(names[1]).name.startswith(".")
    return {folder for folder, gone in last.items() if gone}
