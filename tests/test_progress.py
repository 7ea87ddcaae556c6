"""How far long work has come: a bar on a terminal, lines in a log, nothing for short work."""

import io
import sys

import pytest

from unsteep.pages import progress
from unsteep.pages.progress import bar


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds, of which the last is now."""
    times = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: times[-1])
    return times


def test_a_log_has_a_line_now_and_then(clock: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    log = io.StringIO()
    monkeypatch.setattr(sys, "stderr", log)
    with bar(True, 100, "training the features") as advance:
        for second in range(1, 51):
            clock.append(float(second))
            advance(2)
    lines = log.getvalue().splitlines()
    assert lines[0] == "training the features  20 of 100  0:40 left"
    assert lines[-1] == "training the features  100 of 100  0:00 left"
    assert len(lines) == 5


def test_work_of_unknown_length_says_what_is_done(clock: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    log = io.StringIO()
    monkeypatch.setattr(sys, "stderr", log)
    with bar(True, None, "calls") as advance:
        clock.append(11.0)
        advance(1234)
    assert log.getvalue() == "calls  1,234\n"


@pytest.mark.parametrize(("seconds", "shown"), [(0.5, False), (3.0, True)])
def test_a_terminal_shows_a_bar_of_long_work_alone(
    seconds: float, shown: bool, clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with bar(True, 4, "sampling") as advance:
        clock.append(seconds)
        advance()
    assert ("sampling" in terminal.getvalue()) == shown


def test_nothing_where_it_is_not_asked_for_nor_for_short_work(capsys: pytest.CaptureFixture[str]) -> None:
    for asked in (False, True):
        with bar(asked, 3, "sampling") as advance:
            advance()
    assert capsys.readouterr() == ("", "")
    with pytest.raises(ValueError, match="progress: expected True or False"), bar(1, 3, "sampling"):  # type: ignore[arg-type]
        pass


def test_who_reads_may_go_away(clock: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    class Gone(io.StringIO):
        def write(self, _: str) -> int:
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stderr", Gone())
    with bar(True, 3, "sampling") as advance:
        clock.append(20.0)
        advance()
