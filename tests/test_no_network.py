"""No verb looks anything up: each runs where whoever listens to Python's own events forbids sockets."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from command_line import made
from every_verb import NAMES, cases, small_features, surroundings, trained
from unsteep.cli import app
from unsteep.storage.lock import LOCK

SEEN: list[str] = []
FORBIDDEN: list[bool] = []


def forbid(event: str, arguments: tuple[Any, ...]) -> None:
    """An audit hook, which cannot be taken away again: it does nothing outside these tests."""
    if FORBIDDEN and event.startswith(("socket.", "urllib.", "http.", "ftplib.", "smtplib.")):
        if event in ("socket.gethostname", "socket.__new__") and _at_home(arguments):
            return
        SEEN.append(f"{event} {arguments}")
        raise PermissionError(f"no network here: {event}")


def _at_home(arguments: tuple[Any, ...]) -> bool:
    """A pair of sockets within the machine, or no socket at all."""
    return not arguments or arguments[1:2] == (1,)  # AF_UNIX


sys.addaudithook(forbid)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("network") / "run")


@pytest.fixture(scope="module")
def beside(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return surroundings(tmp_path_factory.mktemp("beside"))


@pytest.fixture
def offline() -> Iterator[None]:
    SEEN.clear()
    FORBIDDEN.append(True)
    yield
    FORBIDDEN.clear()


def test_every_verb_has_its_case() -> None:
    known = {name for name in app if not name.startswith("-")} - {"install-completion"}
    assert set(cases(Path("run"), Path("beside"), Path("out"))) == known == set(NAMES)


@pytest.mark.usefixtures("offline")
def test_the_hook_sees_a_look_outside() -> None:
    import socket
    import urllib.request

    with pytest.raises(PermissionError, match="no network here"):
        socket.getaddrinfo("example.invalid", 80)
    with pytest.raises(OSError):
        urllib.request.urlopen("http://example.invalid")
    assert SEEN


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize("verb", NAMES)
def test_no_verb_looks_outside(verb: str, run: Path, beside: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with small_features():
        made(verb, *cases(run, beside, out)[verb], "--memory", "30GB")
    assert SEEN == []
    assert not list(tmp_path.rglob(LOCK))
