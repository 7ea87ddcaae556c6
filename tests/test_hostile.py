"""Nothing that a stranger sends runs, hangs, leaves its folder or takes more memory than may be used; each is one line.

Every attack of `hostile.attacks` is tried by the commands a user would give, in a forked copy of this process that
tells what came of it. The normal suite gives one command to every eighth and to all bombs, the long one all to all.
"""

import os
import pickle
import re
import resource
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from command_line import unsteep_
from every_verb import trained
from hostile import CANARY, Attack, Command, attacks

SECONDS = 20  # that one command may take
MEMORY = 300 * 10**6  # bytes that one may take beside what the process has
SAFE = 6 * 10**9  # that no mistake takes from this machine
ALLOWED = "200MB"  # what the commands are told
CODES = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
EVERY = attacks()


@dataclass(frozen=True)
class Came:
    """What came of a command: its exit code, what it said, what made it fail, and how much more memory it took."""

    code: int
    out: str
    err: str
    raised: str
    bytes_: int


def in_a_copy(command: Command, home: Path) -> Came | str:
    """A command in a fork of this process; in words where it ended in no orderly way."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.close(reading)
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(SECONDS)
            os.chdir(home)
            sys.path.insert(0, str(home))
            used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (used + SAFE, used + SAFE))
            before, raised, told = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, "", (0, "", "")
            try:
                told = unsteep_(*command)
            except BaseException as error:
                raised = f"{type(error).__name__}: {error}"[:500]
            grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
            with os.fdopen(writing, "wb") as pipe:
                pickle.dump(Came(*told, raised, grown), pipe)
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        content = pipe.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return "it hangs" if os.WTERMSIG(status) == signal.SIGALRM else f"it died of signal {os.WTERMSIG(status)}"
    return pickle.loads(content) if content else "it ended without a word"


def faults(came: Came | str) -> list[str]:
    """What is wrong with it."""
    if isinstance(came, str):
        return [came]
    lines = [line for line in came.err.splitlines() if line.startswith("unsteep: ")]
    found = [came.raised] if came.raised else []
    if came.code not in (0, 1, 2):
        found.append(f"it ended with {came.code}")
    if "Traceback" in came.err or "Traceback" in came.out:
        found.append("a traceback")
    if len(lines) != (came.code == 2) or any(len(line) > 2000 for line in lines):
        found.append(f"{len(lines)} lines of error: {came.err[-400:]!r}")
    if code := CODES.search(came.out + came.err.replace("\r", "")):
        found.append(f"the terminal would obey {code[0]!r}")
    if came.bytes_ > MEMORY:
        found.append(f"it took {came.bytes_ / 1e6:.0f} MB more")
    return found


def listing(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Any:
    root = tmp_path_factory.mktemp("hostile")
    run = trained(root / "run")
    (root / "home").mkdir()
    (root / "home" / "evil.py").write_text(
        "from pathlib import Path\nPath('canary-that-ran').touch()\nclass Part: pass\n"
    )
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UNSTEEP_MEMORY", ALLOWED)
        patch.setenv("UNSTEEP_CACHE", str(root / "cache"))
        patch.setenv("TMPDIR", str(root))
        unsteep_("show", run)  # warm: what is imported once is not counted again
        for verb in ("verify", "report", "sample"):
            unsteep_(verb, run, *(["--out", root / "warm.png", "-n", 1, "--steps", 1] if verb == "sample" else []))
        yield root, run


def tried(attack: Attack, root: Path, run: Path, which: Sequence[int] | None) -> list[str]:
    """What went wrong with an attack; `which` of its commands are given, all for None."""
    place = root / "tried"
    folder = place / "in"
    (place / "out").mkdir(parents=True)
    if attack.of_run:
        shutil.copytree(run, folder)
    else:
        folder.mkdir()
    attack.put(folder)
    outside = listing(root) - {path for path in listing(root) if path.startswith(("tried", "cache", "run"))}
    commands = attack.commands(folder, run)
    found = []
    for i, command in enumerate(commands):
        if which is None or i in {one % len(commands) for one in which}:
            began = time.monotonic()
            found += [
                f"{attack.name}: unsteep {command[0]}: {one}" for one in faults(in_a_copy(command, root / "home"))
            ]
            if os.environ.get("HOSTILE_TIMES"):
                print(f"{time.monotonic() - began:6.2f} {attack.name} {command[0]}", file=sys.__stderr__)
    there = {path for path in listing(root) if not path.startswith(("tried", "cache", "run"))}
    found += [f"{attack.name}: it wrote {path}" for path in sorted(there - outside)]
    if any(path.name == CANARY for path in root.rglob("*")):
        found.append(f"{attack.name}: it ran")
    shutil.rmtree(place)
    return found


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="forks itself, and measures what that takes")
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("whole", [False, pytest.param(True, marks=pytest.mark.long)])
def test_what_a_stranger_sends_does_no_harm(whole: bool, world: Any) -> None:
    root, run = world
    found = []
    for i, attack in enumerate(EVERY):
        if whole or i % 8 == 2 or "bomb" in attack.name:
            found += tried(attack, root, run, None if whole else [i // 8])
    assert not found, "\n".join(found)


def test_there_are_many_of_every_kind() -> None:
    assert len({attack.name for attack in EVERY}) == len(EVERY) >= 500
