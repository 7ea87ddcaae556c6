"""When a run shows itself, and what it says of the time it will take."""

import itertools
import json
from pathlib import Path

import pytest
import torch

from unsteep.pages.progress import clock_of
from unsteep.training.clock import FIRST, MOST, Clock, in_words
from unsteep.training.forecast import Forecast
from unsteep.training.log import Sittings, speed


class Hands:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.at = 0.0

    def __call__(self) -> float:
        return self.at


def shown(step: float, cost: float, total: float) -> list[float]:
    """When a run whose steps take `step` seconds shows itself, at a cost, in `total` seconds."""
    hands = Hands()
    clock, times = Clock(hands), []
    while hands.at < total:
        hands.at += step
        if clock.due:
            times.append(hands.at)
            with clock.showing():
                hands.at += cost
    return times


def test_first_after_a_minute_then_ever_more_seldom_up_to_ten_minutes() -> None:
    times = shown(step=0.1, cost=0.0, total=8 * 3600)
    gaps = [b - a for a, b in itertools.pairwise(times)]
    assert times[0] == pytest.approx(FIRST, abs=0.2)
    assert all(b >= a - 0.2 for a, b in itertools.pairwise(gaps))
    assert gaps[0] < 120
    assert gaps[-1] == pytest.approx(MOST, abs=0.2)


@pytest.mark.parametrize("cost", [1.0, 30.0, 600.0])
def test_at_most_a_tenth_of_the_time(cost: float) -> None:
    """But for the first minute, after which somebody wants to see something."""
    total = 48 * 3600.0
    assert len(shown(step=0.5, cost=cost, total=total)) * cost <= 0.1 * total + cost


def test_a_step_that_takes_long_is_waited_for() -> None:
    assert shown(step=200.0, cost=0.0, total=1000.0)[0] == 200.0


def test_what_a_run_will_take_is_said_once() -> None:
    hands = Hands()
    forecast, said = Forecast(0, 10_000, hands), []
    for step in range(1, 100):
        hands.at += 100.0 if step == 1 else 0.5  # the first sets up, and does not count
        said += [(step, line) for line in forecast.after(step, torch.device("cpu"))]
    assert [step for step, _ in said] == [11]
    assert "takes  about 83 min, 0.5 s a step; " in said[0][1]
    assert said[0][1].endswith("GB of memory so far")


def test_days_are_worth_a_warning_and_seconds_no_word() -> None:
    for total, lines in ((20, 0), (10_000, 1), (1_000_000, 2)):
        hands = Hands()
        forecast = Forecast(0, total, hands)
        said = []
        for step in range(1, 13):
            hands.at += 0.9
            said += forecast.after(step, "cpu")
        assert len(said) == lines
    assert "10 days" in said[0]
    assert "the preset small" in said[1]


@pytest.mark.parametrize(
    ("seconds", "clock", "words"),
    [
        (0.02, "0:00", "0.02 s"),
        (7.4, "0:07", "7.4 s"),
        (59, "0:59", "59 s"),
        (600, "10:00", "10 min"),
        (3600, "1:00:00", "60 min"),
        (9000, "2:30:00", "2.5 h"),
        (40 * 3600, "40:00:00", "40 h"),
        (14.2 * 86400, "14 days 4 h", "14 days"),
    ],
)
def test_times_in_words(seconds: float, clock: str, words: str) -> None:
    assert (clock_of(seconds), in_words(seconds)) == (clock, words)


def test_a_slow_step_has_a_speed() -> None:
    assert (speed(60.0, 8), speed(1.5, 8), speed(0.01, 8)) == ("60 s/step", "1.5 s/step", "800 images/s")


def test_sittings_are_added_and_pauses_are_not(tmp_path: Path) -> None:
    path = tmp_path / "times.jsonl"
    lines = [(0, 100, True), (5, 110, False), (9, 130, False), (9, 5000, True), (12, 5007, False)]
    path.write_text(
        "".join(json.dumps({"step": s, "at": at, **({"begins": True} if b else {})}) + "\n" for s, at, b in lines)
    )
    assert Sittings.spent(path) == (100, 5007, 37)
    assert Sittings.spent(tmp_path / "none") is None
    times = Sittings(path, 12)
    for step in range(13, 40):
        times.mark(step)
    times.mark(40, last=True)
    added = [json.loads(line) for line in path.read_text().splitlines()[len(lines) :]]
    assert [(one["step"], one.get("begins", False)) for one in added] == [(12, True), (40, False)]
