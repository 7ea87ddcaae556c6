"""Words on plots stand apart from each other and inside the plot, however long they are."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from command_line import made
from unsteep.pages import plots
from unsteep.studies import schedules

X = np.linspace(0.0, 1.0, 50)
TITLE = "A title that is much longer than what one small panel is wide, as that of a study may be"
CURVE = {"t": X, "alpha_bar": 1 - X, "logsnr": 9 - 18 * X, "beta": X * 1e-5}

DRAWN: dict[str, Callable[[Path], Path]] = {
    "lines": lambda path: plots.lines(
        path, {f"series {i} of a long name, {i}, {i}": (X, X * 1e7 * i) for i in range(1, 15)}, title=TITLE, ylabel="y"
    ),
    "two lines": lambda path: plots.lines(path, {"a": (X, X * 1e7), "b": (X, X)}, title=TITLE, ylabel="loss"),
    "loss": lambda path: plots.loss_curve(path, np.arange(50), np.exp(X), learning_rate=X * 1e-4, title=TITLE),
    "scatter": lambda path: plots.scatter(path, {"data": np.eye(4), "samples": np.eye(4)}, title=TITLE),
    "one scatter": lambda path: plots.scatter(path, {"samples": np.eye(4)}, title=TITLE),
    "panels": lambda path: plots.panels(
        path, {f"heading {i} of a panel, rather long": ("x", X, "y", X * 1e-6) for i in range(3)}, title=TITLE
    ),
    "one schedule": lambda path: plots.schedule_plot(path, {"one": CURVE}, title=TITLE),
    "schedules": lambda path: plots.schedule_plot(path, {f"QuadraticBetas {i}.0..0.012": CURVE for i in range(6)}),
    "brackets": lambda path: plots.brackets(path, {"a name " * 12: (1, 0.5, 1.5), "b": (2e6, 1e6, 3e6)}, xlabel="x"),
}


@pytest.mark.parametrize("plot", DRAWN)
def test_no_words_meet(plot: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    boxes: dict[str, Any] = {}
    save = Figure.savefig

    def look(figure: Figure, *arguments: Any, **how: Any) -> None:
        save(figure, *arguments, **how)
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        renderer = canvas.get_renderer()
        for text in figure.findobj(lambda one: isinstance(one, Text) and one.get_visible() and one.get_text().strip()):
            if (
                "mathdefault" not in text.get_text() or "times" in text.get_text()
            ):  # no ticks, of which some lie outside
                boxes[f"{text.get_text()} {id(text)}"] = text.get_window_extent(renderer)
        boxes["whole"] = figure.bbox

    monkeypatch.setattr(Figure, "savefig", look)
    DRAWN[plot](tmp_path / "a.png")
    whole = boxes.pop("whole")
    said = {words: box for words, box in boxes.items() if box.width > 1 and box.x1 > 0 and box.y1 > 0}
    assert said
    for words, box in said.items():
        if "title" in words or "series" in words or "heading" in words:
            assert whole.x0 - 1 <= box.x0, words
            assert box.x1 <= whole.x1 + 1, words
            assert box.y1 <= whole.y1 + 1, words
    for (a, one), (b, other) in itertools.combinations(said.items(), 2):
        apart = min(one.x1, other.x1) - max(one.x0, other.x0), min(one.y1, other.y1) - max(one.y0, other.y0)
        assert min(apart) < 2, f"{a} meets {b}"


def test_schedules_are_drawn_in_families_of_few(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    panels: list[dict[str, Any]] = []
    draw = plots.schedule_plot

    def kept(path: Path, curves: dict[str, Any], **how: Any) -> Path:
        panels.append(curves)
        return draw(path, curves, **how)

    monkeypatch.setattr(plots, "schedule_plot", kept)
    listed = made("schedules", "--plot", tmp_path / "a.png")
    assert max(map(len, panels)) <= 6
    names = [name for panel in panels for name in panel]
    assert names == list(schedules.named())
    assert all(name in listed for name in names)
