"""Commands in processes of their own that end, or fail, at the n-th thing that they do to a file.

Each is a fork of a server that has imported everything (`multiprocessing`'s own). What is done to files is heard by an
audit hook; what Python does not tell of, bringing to the disk and the writing of tensors, is heard where it is called.
"""

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
import re
import resource
import signal
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import matplotlib.pyplot  # noqa: F401  # what is imported for itself is, so that no fork has to
import pytest
import scipy.stats  # noqa: F401
import sklearn.datasets  # noqa: F401
import torch
import torch._dynamo
from matplotlib.figure import Figure
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import save_file

from unsteep import evaluation, starting, studies  # noqa: F401
from unsteep.cli import evaluate, main, study, train, train_classifier, tune_grid  # noqa: F401
from unsteep.evaluation import evaluating, on_the_way  # noqa: F401
from unsteep.features import domain
from unsteep.features.domain import DomainNet
from unsteep.model import tuned_grid  # noqa: F401
from unsteep.pages.ours import marked
from unsteep.storage import checkpoint
from unsteep.studies.questions import sampling, training  # noqa: F401

context = multiprocessing.get_context("forkserver")
DEEDS: dict[str, Any] = {  # what is done, and of its arguments each path with the folder it is in, where it has one
    "os.rename": lambda old, new, old_in, new_in: [(old, old_in), (new, new_in)],
    "os.link": lambda old, new, old_in, new_in: [(new, new_in)],
    "os.symlink": lambda old, new, folder: [(new, folder)],
    "os.mkdir": lambda path, mode, folder: [(path, folder)],
    "os.chmod": lambda path, mode, folder: [(path, folder)],
    "os.remove": lambda path, folder: [(path, folder)],
    "os.rmdir": lambda path, folder: [(path, folder)],
    "os.truncate": lambda path, length: [(path, -1)],
}
NOTHING_IF = {"os.mkdir": True, "os.remove": False, "os.rmdir": False}  # it is there already, or is not


@dataclass(frozen=True)
class Ended:
    """How a process ended: its `code`, that of a signal below 0; what it said; and what it did to files, in order."""

    code: int
    out: str
    err: str
    deeds: tuple[tuple[str, ...], ...]

    @property
    def last(self) -> str:
        """What it did, or was about to do, last; nothing where it did nothing."""
        return " ".join(self.deeds[-1]) if self.deeds else ""


def sets(settings: Iterable[str]) -> list[str]:
    return [word for one in settings for word in ("--set", one)]


QUICK = [
    *("data.limit=40", "schedule=CosineBetas", "schedule.steps=5", "train.batch=4", "train.warmup=1"),
    *("model.network.width=4", "model.network.groups=2", "model.network.blocks=1", "model.network.attention="),
]
TRAINED = [*QUICK, "train.steps=4", "train.preview_every=2", "train.checkpoint_every=2", "train.keep=1"]
TRAIN = ["train", "digits", *sets(TRAINED), "--log", "csv", "--out", "run"]
RESUME = ["train", "--resume", "--out", "run"]
TIMES = re.compile(
    rb'"(seconds|at)": [0-9.e-]+'
    rb"|<dt>(begun|last step|trained for|speed|left|spent on getting examples|took|total cost)</dt><dd>.*?</dd>"
    rb"|<td>[0-9]+</td></tr>"
)


def contents(home: Path) -> dict[str, bytes]:
    """What a folder holds, but for times."""
    found = {}
    for path in sorted(home.rglob("*")):
        name = path.relative_to(home).as_posix()
        if name.startswith("cache/") and "/.new-" in name:  # it may be another's, and is swept after a day
            continue
        if path.is_dir() or path.name == "times.jsonl":
            found[name] = b""
        elif path.name == "log.csv":
            found[name] = re.sub(rb"[^,]*,,,", b"", path.read_bytes())
        else:
            found[name] = TIMES.sub(b"", path.read_bytes())
    return found


def other(one: dict[str, bytes], two: dict[str, bytes]) -> list[str]:
    """The names of what two folders do not hold alike."""
    return sorted(name for name in one.keys() | two.keys() if one.get(name) != two.get(name))


def whole(home: Path, *words: object) -> Ended:
    """A command that must succeed."""
    found = ended(home, *words)
    assert found.code == 0, found.out + found.err
    return found


def ended(
    home: Path,
    *words: object,
    at: int | None = None,
    fault: int = 0,
    lasting: bool = True,
    limits: Mapping[str, int] | None = None,
    after: float | None = None,
) -> Ended:
    """A command in the folder `home`, ended before the `at`-th thing that it does to a file there, counted from 0; or
    that fails with the error `fault`, and where it is `lasting`, so do all that follow. `limits`: of the process, by
    their names in `resource`; `after`: seconds, when it is killed."""
    beside = home.with_name(f"{home.name}.told")
    beside.mkdir(exist_ok=True)
    _serving()
    process = context.Process(
        target=_run, args=(home, beside, [str(word) for word in words], at, fault, lasting, limits or {})
    )
    process.start()
    process.join(after)
    if process.is_alive():
        process.kill()
    process.join()
    assert process.exitcode is not None
    out, err, deeds = ((beside / name).read_text(errors="replace") for name in ("out", "err", "deeds"))
    deeds = deeds if limits is None else ""  # they may hold of this file, too
    done = tuple(tuple(json.loads(line)) for line in deeds.splitlines())
    return Ended(process.exitcode, out, err, done)


@cache
def _serving() -> None:
    """Starts the server, which finds this module by its path."""
    context.set_forkserver_preload([__name__])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)
        forkserver.ensure_running()


def _run(
    home: Path, beside: Path, words: list[str], at: int | None, fault: int, lasting: bool, limits: Mapping[str, int]
) -> None:
    os.chdir(home)
    for name, number in (("out", 1), ("err", 2)):
        opened = os.open(beside / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(opened, number)
    torch.set_num_threads(1)
    os.environ["UNSTEEP_CACHE"] = str(home / "cache")
    domain.DomainNet = lambda: DomainNet(steps=10, batch=32, width=4, dimension=4)  # type: ignore[misc,assignment]
    training.QUESTIONS["architecture"] = _two
    Figure.savefig = lambda self, path, **_: Image.new("L", (1, 1)).save(path, **marked("PNG"))  # type: ignore[method-assign]
    listen(home, os.open(beside / "deeds", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), at, fault, lasting)
    for name, limit in limits.items():
        number = getattr(resource, name)
        resource.setrlimit(number, (limit, resource.getrlimit(number)[1]))
    main(words)


def _two(*given: Any) -> Any:
    """A study of two cells."""
    asked = training.architecture(*given)
    return replace(asked, cells=asked.cells[:2], repeat=None)


def listen(home: Path, log: int, at: int | None, fault: int, lasting: bool) -> None:
    """Writes down all that is done to files in `home`, and ends or fails at one of it."""
    seen, inside = itertools.count(), f"{os.path.realpath(home)}{os.sep}"

    def heard(what: str, *named: str) -> None:
        if not named[0].startswith(inside) or os.path.lexists(named[0]) is NOTHING_IF.get(what):
            return
        os.write(log, (json.dumps([what, *(one.removeprefix(inside) for one in named)]) + "\n").encode())
        number = next(seen)
        if at is None or number < at or (number > at and not lasting):
            return
        if not fault:
            os.kill(os.getpid(), signal.SIGKILL)
        raise OSError(fault, os.strerror(fault), named[0])

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if event in DEEDS:
            heard(event, *(_whole(path, where) for path, where in DEEDS[event](*args)))
        elif event == "open" and isinstance(args[2], int) and args[2] & (os.O_CREAT | os.O_TRUNC):
            heard("open", _whole(args[0], -1))

    def brought(descriptor: int) -> None:
        """Nothing more: what is killed here is a process, whose files the system keeps."""
        heard("fsync", os.readlink(f"/proc/self/fd/{descriptor}"))

    def saved(tensors: Any, path: Any) -> None:
        try:
            heard("save_file", _whole(path, -1))
        except OSError as error:
            words = f"Error while serializing: I/O error: {error.strerror} (os error {error.errno})"
            raise SafetensorError(words) from None
        save_file(tensors, path)

    os.fsync = brought  # type: ignore[assignment]
    checkpoint.save_file = saved  # type: ignore[attr-defined]
    sys.addaudithook(hook)


def _whole(path: Any, folder: int) -> str:
    """The whole path of what is opened, or done to, below an open folder where there is one."""
    if isinstance(path, int):
        return os.readlink(f"/proc/self/fd/{path}")
    start = os.getcwd() if folder < 0 else os.readlink(f"/proc/self/fd/{folder}")
    return os.path.normpath(os.path.join(start, os.fsdecode(path)))
