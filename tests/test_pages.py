"""Pictures, animations, plots and pages: what goes in is found again in the file, at its place, value for value."""

import base64
import io
import itertools
import os
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageSequence

from unsteep.pages import Page, gif, grid, lines, loss_curve, save, schedule_plot, strip
from unsteep.pages.pictures import PAPER, near_square, plan
from unsteep.pages.plots import _look, brackets, smoothed, spans_decades

TITLE = "A title, longer than everything that is below it, so that the sheet must grow to hold all of it"
LABELS: dict[str, Any] = {
    "row_labels": ["σ = 0.5", "two\nlines", ""],
    "column_labels": ["a", "wider than any of the pictures", "g", "β\nγ"],
}


def noise(*shape: int, seed: int = 0, high: int = 256) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, high, shape, dtype=np.uint8)


def four(sheet: np.ndarray, height: int, width: int, gap: int) -> np.ndarray:
    """What a reader sees of two rows of two pictures, cut out from the first pixel on that is not paper."""
    top, left = np.argwhere(sheet != PAPER).min(axis=0)
    corners = [(top + i * (height + gap), left + j * (width + gap)) for i in (0, 1) for j in (0, 1)]
    return np.array([sheet[y : y + height, x : x + width] for y, x in corners])


def meet(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


# --- sheets of pictures


def test_a_grid_shows_every_picture_magnified_and_nothing_else() -> None:
    images = noise(4, 1, 8, 6, high=PAPER)  # no pixel of the colour of paper
    sheet = np.asarray(grid(images, 2, scale=8, gap=5))
    assert np.array_equal(four(sheet, 64, 48, gap=5), np.kron(images[:, 0], np.ones((1, 8, 8), np.uint8)))
    assert (sheet != PAPER).sum() == 4 * 64 * 48


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("side", [8, 28, 64])
def test_pictures_stay_exact_beside_labels(channels: int, side: int) -> None:
    images = noise(11, channels, side, side)
    sheet = np.asarray(grid(images, 4, **LABELS, title=TITLE))
    layout = plan(images.shape, 4, **LABELS, titles=[TITLE])
    for i, image in enumerate(images):
        left, top, right, bottom = layout.box(i)
        assert right - left == bottom - top >= 64
        middle = (right - left) // side // 2  # the middle pixel of each square
        shown = sheet[top + middle : bottom : layout.scale, left + middle : right : layout.scale]
        assert np.array_equal(shown.reshape(side, side, channels), image.transpose(1, 2, 0))


@pytest.mark.parametrize("scale", [1, 8])
def test_texts_have_places_of_their_own(scale: int) -> None:
    layout = plan((11, 1, 8, 8), 4, scale=scale, **LABELS, titles=["", TITLE])
    places = [layout.box(i) for i in range(12)] + [t.box for t in layout.labels if t.words] + [layout.heading.box]
    assert not any(meet(a, b) for a, b in itertools.combinations(places, 2))
    width, height = layout.size
    assert all(0 <= a < c <= width and 0 <= b < d <= height for a, b, c, d in places)

    inked = layout.blank(TITLE) != PAPER
    for box in places[12:]:
        left, top, right, bottom = box
        assert inked[top:bottom, left:right].any()
        inked[top:bottom, left - 1 : right + 1] = False  # a slanted stroke may lean out by a pixel
    assert not inked.any()


def test_a_grid_is_nearly_square() -> None:
    for count in range(1, 200):
        columns = near_square(count)
        rows = -(-count // columns)
        assert columns * (rows - 1) < count <= columns * rows
        assert rows <= columns <= 3 * rows
    assert [near_square(n) for n in (1, 4, 8, 10, 64)] == [1, 2, 4, 5, 8]
    assert near_square(16, height=40, width=10) == 8


def test_a_strip_is_a_grid_whose_columns_are_its_stages() -> None:
    stages = noise(3, 5, 1, 8, 8)
    labels = [f"t = {t}" for t in range(5)]
    assert strip(stages, column_labels=labels).tobytes() == grid(
        stages.reshape(15, 1, 8, 8), 5, column_labels=labels
    ).tobytes()  # fmt: skip
    assert strip(stages[0]).tobytes() == grid(stages[0], 5).tobytes()


@pytest.mark.parametrize("suffix", ["png", "webp", "PNG"])
@pytest.mark.parametrize("channels", [1, 3])
def test_lossless_files_keep_every_value(tmp_path: Path, suffix: str, channels: int) -> None:
    sheet = grid(noise(4, channels, 8, 8))
    with Image.open(save(sheet, tmp_path / "new" / "folder" / f"a.{suffix}")) as read:
        assert np.array_equal(np.asarray(read.convert("RGB")), np.asarray(sheet.convert("RGB")))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda p: save(grid(noise(1, 1, 8, 8)), p / "a.bmp"), r"\.png, \.jpg, .*\.webp.*\.bmp"),
        (lambda p: save(grid(noise(1, 1, 8, 8)), p / "a"), "no suffix"),
        (lambda p: gif(noise(2, 1, 1, 8, 8), p / "a.mp4"), r"\.gif, \.webp, \.png, not \.mp4"),
        (lambda p: gif(noise(2, 1, 8, 8), p / "a.gif"), r"\(f, n, c, h, w\)"),
        (lambda p: gif(noise(2, 1, 1, 8, 8), p / "a.gif", captions=["one"]), "2 captions"),
        (lambda p: grid(noise(2, 8, 8, 1)), r"\(2, 8, 8, 1\)"),
        (lambda p: grid(np.zeros((2, 1, 8, 8))), "uint8.*float64"),
        (lambda p: grid(noise(0, 1, 8, 8)), "at least one"),
        (lambda p: grid(noise(4, 1, 8, 8), 2, row_labels=["a"]), "2 row labels"),
        (lambda p: grid(noise(4, 1, 8, 8), 0), "columns"),
        (lambda p: strip(noise(8, 8)), r"\(8, 8\)"),
        (lambda p: loss_curve(p / "a.png", [1, 2], [1.0]), r"steps \(2,\), losses \(1,\)"),
        (lambda p: lines(p / "a.png", {"x": ([1], [1], [1])}), "3 columns"),
        (lambda p: lines(p / "a.png", {}), "at least one line"),
        (lambda p: lines(p / "a.jpg", {"x": ([1], [1])}), r"\.svg"),
        (lambda p: schedule_plot(p / "a.png", {}), "at least one schedule"),
        (lambda p: Page("a").table([[1, 2]], ["only one"]), "row 0 has 2 cells"),
        (lambda p: Page("a").figure("a.tiff"), r"not \.tiff"),
    ],
)
def test_errors_say_what_was_expected_in_one_line(tmp_path: Path, call: Callable[[Path], object], words: str) -> None:
    with pytest.raises(ValueError, match=words) as raised:
        call(tmp_path)
    assert "\n" not in str(raised.value)
    assert list(tmp_path.iterdir()) == []


# --- animations


def played(path: Path) -> tuple[list[np.ndarray], list[int]]:
    """The frames as a viewer composes them, and their milliseconds."""
    shown, times = [], []
    with Image.open(path) as image:
        assert image.info["loop"] == 0
        for frame in ImageSequence.Iterator(image):
            shown.append(np.asarray(frame.convert("RGB")))  # decoding a WebP frame is what sets its duration
            times.append(int(frame.info["duration"]))
    return shown, times


@pytest.mark.parametrize("suffix", ["gif", "webp", "png"])
def test_grey_frames_are_exact_and_the_last_is_held(tmp_path: Path, suffix: str) -> None:
    frames = noise(7, 4, 1, 8, 8)
    shown, times = played(gif(frames, tmp_path / f"a.{suffix}", seconds=1.0, hold=0.5))
    assert len(shown) == 7
    for frame, pictures in zip(shown, frames, strict=True):
        assert np.array_equal(frame, np.asarray(grid(pictures, scale=5).convert("RGB")))
    assert sum(times) == 1500
    assert {140, 150} >= set(times[:-1])
    assert times[-1] - max(times[:-1]) in (490, 500)


@pytest.mark.parametrize("suffix", ["gif", "webp", "png"])
def test_one_frame_is_an_animation_too(tmp_path: Path, suffix: str) -> None:
    still = noise(1, 4, 1, 8, 8)
    with Image.open(gif(still, tmp_path / f"a.{suffix}")) as image:
        assert np.array_equal(np.asarray(image.convert("L")), np.asarray(grid(still[0], scale=5)))


def test_no_frame_is_faster_than_viewers_play(tmp_path: Path) -> None:
    _, times = played(gif(noise(30, 1, 1, 4, 4), tmp_path / "a.gif", seconds=0.1, hold=0))
    assert times == [20] * 30


def test_captions_change_and_pictures_stay(tmp_path: Path) -> None:
    frames = np.repeat(noise(1, 4, 1, 8, 8), 3, axis=0)
    shown, _ = played(gif(frames, tmp_path / "a.gif", captions=["", "t = 0.5", "t = 0.25, and more"]))
    below = 10 + 2 * 40  # from the bottom: the margin and the two rows, less the gap
    assert len({frame.tobytes() for frame in shown}) == 3
    assert len({frame[-below:].tobytes() for frame in shown}) == 1


def test_colour_frames_keep_few_colours_exactly_and_many_nearly(tmp_path: Path) -> None:
    few, many = noise(200, 3), noise(3, 16, 3, 8, 8)
    frames = few[noise(3, 16, 8, 8, high=200)].transpose(0, 1, 4, 2, 3)
    for given, rms in ((frames, 0), (many, 25)):
        shown, _ = played(gif(given, tmp_path / "a.gif", captions=["one", "two", "three"], columns=4, scale=5))
        for frame, pictures, caption in zip(shown, given, ["one", "two", "three"], strict=True):
            layout = plan(pictures.shape, 4, scale=5, titles=["three"])
            wanted = layout.fill(np.repeat(layout.blank(caption)[:, :, None], 3, axis=2), pictures)
            error = frame.astype(float) - wanted
            left, top = layout.origin
            assert np.sqrt((error[top:, left:] ** 2).mean()) <= rms
            assert np.abs(error[:top]).max() <= 8  # text in sixteen shades
            assert (frame[wanted == PAPER] == PAPER).mean() > (0.999 if rms == 0 else 0.98)


def test_the_file_of_a_usual_animation_is_small(tmp_path: Path) -> None:
    assert gif(noise(40, 64, 1, 8, 8), tmp_path / "a.gif").stat().st_size < 2e6


# --- plots

RAMP = np.linspace(0.0, 1.0, 50)


def a_schedule(power: float, beta: bool = True) -> dict[str, Any]:
    with np.errstate(divide="ignore"):
        bar = 1 - RAMP**power
        return {
            "t": RAMP,
            "alpha_bar": bar,
            "logsnr": np.log(bar) - np.log(1 - bar),
            "beta": RAMP / 50 if beta else None,
        }


PLOTS: dict[str, Callable[[Path, float], Path]] = {
    "loss": lambda path, a: loss_curve(path, np.arange(50), np.exp(-a * RAMP)),
    "loss and rate": lambda path, a: loss_curve(path, np.arange(50), 1 + RAMP, learning_rate=a * RAMP),
    "unsmoothed": lambda path, a: loss_curve(path, np.arange(50), a + RAMP, smooth=0),
    "a gap": lambda path, a: loss_curve(path, np.arange(50), np.where(0.1 * a < RAMP, RAMP, np.nan)),
    "schedules": lambda path, a: schedule_plot(path, {"one": a_schedule(a), "two": a_schedule(2, beta=False)}),
    "no beta": lambda path, a: schedule_plot(path, {"one": a_schedule(a, beta=False)}),
    "lines": lambda path, a: lines(path, {"a": (RAMP, RAMP**a), "b": (RAMP[:9], RAMP[:9])}, title="lines"),
    "band": lambda path, a: lines(path, {"a": (RAMP, RAMP, RAMP - a, RAMP + 1)}),
    "logarithms": lambda path, a: lines(path, {"a": (1 + RAMP, 10 ** (a * RAMP))}, xlog=True, ylog=True),
    "faint": lambda path, a: lines(path, {"a": (RAMP, RAMP**a), "b": (RAMP, RAMP)}, faint=["a"]),
}


@pytest.mark.parametrize("name", PLOTS)
def test_a_plot_shows_its_numbers(tmp_path: Path, name: str) -> None:
    one, two = (np.asarray(Image.open(PLOTS[name](tmp_path / f"{a}.png", a)).convert("L")) for a in (1.0, 1.5))
    assert one.shape == two.shape
    assert min(one.shape) >= 500
    assert one.min() < 100 < one.max()
    assert (one != two).any()


def test_plots_ignore_the_callers_settings_and_leave_them(tmp_path: Path) -> None:
    import matplotlib

    files = [PLOTS["lines"](tmp_path / f"{i}.svg", 1.0).read_bytes() for i in range(2)]
    with matplotlib.rc_context({"lines.linewidth": 17, "axes.facecolor": "black"}):
        before = dict(matplotlib.rcParams)
        files.append(PLOTS["lines"](tmp_path / "2.svg", 1.0).read_bytes())
        assert dict(matplotlib.rcParams) == before
    assert len(set(files)) == 1


def test_thirty_series_look_different() -> None:
    assert len({str(_look(i)) for i in range(30)}) == 30


def test_smoothing_is_a_centred_mean_of_the_given_width() -> None:
    values = np.random.default_rng(0).standard_normal(200)
    np.testing.assert_allclose(smoothed(np.full(40, 3.5), 7.0), 3.5)
    np.testing.assert_allclose(smoothed(values[::-1], 5.0), smoothed(values, 5.0)[::-1])  # no lag
    np.testing.assert_allclose(smoothed(np.arange(200.0), 5.0)[30:-30], np.arange(200.0)[30:-30])
    spread = smoothed(np.eye(201)[100], 6.0)
    assert spread.sum() == pytest.approx(1)
    assert np.sqrt((spread * (np.arange(201) - 100) ** 2).sum()) == pytest.approx(6, rel=0.01)

    holed = np.where(np.arange(200) == 100, np.nan, 2.0)
    np.testing.assert_allclose(smoothed(holed, 3.0), 2.0)


def test_a_logarithmic_axis_is_for_large_ranges() -> None:
    assert spans_decades(np.array([0.0, 0.01, 0.1, 1.0, np.nan]))
    assert not spans_decades(np.array([0.5, 1.0, 2.0]))
    assert not spans_decades(np.array([-1.0, 0.01, 1.0]))
    assert not spans_decades(np.r_[np.ones(500), 1e6])  # one spike is no range
    assert not spans_decades(np.full(3, np.nan))


def test_matplotlib_is_imported_only_when_something_is_plotted() -> None:
    code = "import sys, unsteep.pages; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# --- pages


class Reader(HTMLParser):
    """Collects what a browser would: text, attributes, and whether every tag is closed."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[tuple[str, str]] = []
        self.feed(source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.words.append((self.open[-1], data))

    def images(self) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag == "img"]


def inlined(attributes: dict[str, str | None]) -> tuple[str, bytes]:
    kind, data = (attributes["src"] or "").split(";base64,")
    return kind, base64.b64decode(data, validate=True)


def test_a_page_carries_every_picture_and_asks_for_nothing(tmp_path: Path) -> None:
    sheet = grid(noise(4, 1, 8, 8))
    moving = gif(noise(3, 4, 3, 8, 8), tmp_path / "a.gif")
    plot = PLOTS["lines"](tmp_path / "a.png", 1.0)
    drawing = PLOTS["lines"](tmp_path / "a.svg", 1.0)
    page = Page("Everything", "below").section("Pictures", "One.\n\nTwo.")
    page.figure(sheet, "a sheet").figure(moving).figure(str(plot), "a plot").figure(drawing)
    source = page.facts([("n", 4)]).code("print(1)").write(tmp_path / "deep" / "page.html").read_text("utf-8")

    reader = Reader(source)
    images = reader.images()
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(inlined(images[0])[1]))), np.asarray(sheet))
    for attributes, path, kind in zip(images[1:], (moving, plot, drawing), ("gif", "png", "svg+xml"), strict=True):
        assert inlined(attributes) == (f"data:image/{kind}", path.read_bytes())
    assert [a["class"] for a in images] == ["pixels", "pixels", "drawing", "drawing"]
    assert images[2]["width"] == str(round(6.4 * 96)), "a plot is shown at its size in inches"
    assert [a["alt"] for a in images] == ["a sheet", "", "a plot", ""]

    assert "http" not in source
    assert "url(" not in source
    assert not {"script", "link", "iframe", "base"} & {tag for tag, _ in reader.tags}
    assert all(set(a) <= {"src", "alt", "class", "width", "height"} for a in images)
    assert [words for tag, words in reader.words if tag == "p" and words != "below"] == ["One.", "Two."]


def test_all_text_is_escaped() -> None:
    evil = "<script>alert('&amp;\"')</script>"
    page = Page(evil, evil).section(evil, evil).figure(grid(noise(1, 1, 8, 8)), evil).code(evil)
    reader = Reader(page.table([[evil, 1.5]], [evil, evil], caption=evil).facts([(evil, evil)]).html())
    assert "script" not in {tag for tag, _ in reader.tags}
    assert reader.images()[0]["alt"] == evil
    said = [tag for tag, words in reader.words if words == evil]
    assert said == ["title", "h1", "p", "h2", "p", "figcaption", "code", "caption", "th", "th", "td", "dt", "dd"]


def test_tables_set_numbers_to_the_right() -> None:
    rows = [["ddim", 20, 4.16253, None], ["heun", 1000, 12345.678, 1e-7]]
    reader = Reader(Page("a").table(rows, ["solver", "calls", "FID", "error"]).html())
    cells = [words for tag, words in reader.words if tag == "td"]
    assert cells == ["ddim", "20", "4.163", "–", "heun", "1000", "12346", "1e-07"]
    marks = [attributes.get("class") for tag, attributes in reader.tags if tag in ("th", "td")]
    assert marks == [None, "number", "number", "number"] * 3


# --- files


def failing(*arguments: Any, **_: Any) -> None:
    """Writes the first bytes of a file, then gives up, as on a full disk."""
    path = next(a for a in arguments if isinstance(a, Path))
    path.write_bytes(b"half")
    raise OSError("no space left")


@pytest.mark.parametrize(
    ("name", "broken", "call"),
    [
        ("a.png", "PIL.Image.Image.save", lambda p: save(grid(noise(1, 1, 8, 8)), p)),
        ("a.gif", "PIL.Image.Image.save", lambda p: gif(noise(2, 1, 1, 8, 8), p)),
        ("a.pdf", "matplotlib.figure.Figure.savefig", lambda p: lines(p, {"a": ([1, 2], [3, 4])})),
        ("a.html", "pathlib.Path.write_text", lambda p: Page("a").write(p)),
    ],
)
def test_a_file_appears_whole_or_stays_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, broken: str, call: Callable[[Path], Path]
) -> None:
    path = tmp_path / name
    assert call(path) == path
    before = path.read_bytes()
    monkeypatch.setattr(broken, failing)
    with pytest.raises(OSError, match="no space"):
        call(path)
    assert os.listdir(tmp_path) == [name]
    assert path.read_bytes() == before


def test_brackets_are_drawn_where_they_lie(tmp_path: Path) -> None:
    """A row each, top to bottom, as wide as the interval: the second's is three times the first's."""
    path = brackets(tmp_path / "deep" / "x.png", {"a": (1.0, 0.5, 1.5), "b": (3.0, 1.5, 4.5)}, xlabel="fid")
    ink = np.asarray(Image.open(path).convert("RGB")).astype(int)
    blue = (ink[:, :, 2] - ink[:, :, 0] > 40) & (ink.sum(2) < 400)
    rows = np.flatnonzero(blue.any(1))
    first, second = (rows[rows < rows.mean()], rows[rows >= rows.mean()])
    widths = [np.ptp(np.flatnonzero(blue[part].any(0))) for part in (first, second)]
    assert widths[1] / widths[0] == pytest.approx(3, rel=0.05)
    with pytest.raises(ValueError, match="at least one value"):
        brackets(tmp_path / "y.png", {})
