"""Plots in one house style: loss curves, noise schedules, and lines with optional bands.

The style reads in black and white too: series differ by dash pattern and marker as well as by colour, the colours
differ in lightness, and the legend stands beside the axes, where it covers nothing. The caller's matplotlib
settings play no part and are left as they were; no pyplot, no global figure. Equal input gives an equal file.

Plots are written by suffix: .png (at 200 dots per inch), .svg or .pdf.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image

from unsteep.pages.files import PathLike, by_suffix, replacing
from unsteep.pages.lettering import measure, wrapped
from unsteep.pages.matplotlib import imported
from unsteep.pages.ours import MARK
from unsteep.pages.smoothing import smoothed, spans_decades

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#14405f", "#d3542a", "#3a8f78", "#9b5fa8", "#b58a1b", "#5b6b7a")
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.6)), (0, (1.2, 1.4)), (0, (6, 1.6, 1.2, 1.6)), (0, (9, 2)))
MARKERS = ("o", "s", "^", "D", "v", "<")
PIXELS, HEADING, LABEL = 13, 17, 240  # of 100 an inch: letters of labels and (bold) titles, and the width of a label
INK, GRID, FAINT = "#2b2b2b", "#dcdcd8", "#b4b4ae"

STYLE: dict[str, Any] = {
    "figure.dpi": 200,
    "figure.constrained_layout.h_pad": 0.06,
    "figure.constrained_layout.w_pad": 0.08,
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": "#8a8a86",
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlepad": 10,
    "axes.formatter.limits": (-3, 5),
    "axes.formatter.use_mathtext": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "xtick.color": "#8a8a86",
    "ytick.color": "#8a8a86",
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "lines.linewidth": 1.6,
    "lines.markersize": 4.5,
    "legend.frameon": False,
    "legend.handlelength": 3.2,
    "svg.hashsalt": "unsteep",
}

FORMATS = {".png": "png", ".svg": "svg", ".pdf": "pdf"}
STAMPS: dict[str, dict[str, Any]] = {
    "png": {"Software": MARK},
    "svg": {"Date": None, "Creator": MARK},
    "pdf": {"CreationDate": None, "Creator": MARK},
}


def loss_curve(
    path: PathLike,
    steps: ArrayLike,
    losses: ArrayLike,
    *,
    smooth: float | None = None,
    learning_rate: ArrayLike | None = None,
    title: str = "Training loss",
) -> Path:
    """A loss against the training step, as recorded (faint) and smoothed, the learning rate below where given.

    steps, losses, learning_rate: (n,) each; losses that are not finite leave a gap. smooth: the width of
    `smoothed` in recorded points, n / 60 when None, 0 for none. The axis is logarithmic where `spans_decades`.
    """
    x, y = _columns("loss_curve", steps=steps, losses=losses)
    width = smooth if smooth is not None else len(y) / 60
    rows = 1 if learning_rate is None else 2
    with _figure(path, (6.4, 3.4 + 0.9 * (rows - 1))) as figure:
        axes = figure.subplots(rows, 1, sharex=True, squeeze=False, height_ratios=[3.4, 0.9][:rows])[:, 0]
        top = axes[0]
        top.plot(x, y, color=COLOURS[0], alpha=0.28 if width else 1, linewidth=0.8, label="recorded")
        if width:
            top.plot(x, smoothed(y, width), color=COLOURS[0], label="smoothed")
            top.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, borderaxespad=0.2)  # beside the title
        top.set(title=_fitting(title, 3.2), ylabel="loss", yscale="log" if spans_decades(y) else "linear")
        if learning_rate is not None:
            x, rate = _columns("loss_curve", steps=steps, learning_rate=learning_rate)
            axes[1].plot(x, rate, color=COLOURS[1], linewidth=1.2)
            axes[1].set(ylabel="learning rate", ylim=(0, None))
        axes[-1].set(xlabel="training step")
        for each in axes:
            each.margins(x=0.015)
    return Path(path)


def schedule_plot(
    path: PathLike, curves: Mapping[str, Mapping[str, Any]], *, title: str = "Noise schedules", dpi: float | None = None
) -> Path:
    """Panels of alpha bar, log-SNR and beta against t, for one or a few schedules.

    curves: name -> {"t", "alpha_bar", "logsnr", and "beta" or None}, each (n,). Values that are not finite, such as
    the log-SNR at t = 0, are left out. The panel of beta is there when any schedule has it.
    """
    panels = {"alpha_bar": r"$\bar\alpha$", "logsnr": "log-SNR", "beta": r"$\beta$"}
    if not curves:
        raise ValueError("a schedule plot needs at least one schedule, got none: give name -> curves")
    if all(curve.get("beta") is None for curve in curves.values()):
        del panels["beta"]
    with _figure(path, (2.6 * len(panels) + (2.2 if len(curves) > 1 else 0), 2.6), dpi) as figure:
        for axes, (key, name) in zip(figure.subplots(1, len(panels)), panels.items(), strict=True):
            drawn = []
            for i, (label, curve) in enumerate(curves.items()):
                t, values = curve["t"], curve.get(key)
                # A schedule without this curve still takes its turn, so its look is the same in every panel.
                x, y = _columns(label, t=t, **{key: np.full(np.shape(t), np.nan) if values is None else values})
                axes.plot(x, y, label=label, **_look(i))
                drawn.append(y)
            decades = key == "beta" and spans_decades(np.concatenate(drawn))
            axes.set(xlabel="$t$", xlim=(0, 1), yscale="log" if decades else "linear")
            axes.set_title(_fitting(name, 2.6), fontweight="normal")
        _head(figure, title)
        if len(curves) > 1:
            figure.legend(*axes.get_legend_handles_labels(), loc="outside right center")
    return Path(path)


def lines(
    path: PathLike,
    series: Mapping[str, Sequence[ArrayLike]],
    *,
    xlabel: str = "",
    ylabel: str = "",
    title: str = "",
    xlog: bool = False,
    ylog: bool = False,
    faint: Collection[str] = (),
) -> Path:
    """Named lines, with markers where they have few points and a band where a lower and upper edge are given.

    series: name -> (x, y) or (x, y, lower, upper), each (n,); those in `faint` are thin and grey, and have one name.
    ValueError: no series, other than two or four columns, or columns of unequal length.
    """
    if not series:
        raise ValueError("a plot needs at least one line, got none: give name -> (x, y) or (x, y, lower, upper)")
    labels = {name: wrapped(name, PIXELS, LABEL) for name in series}
    beside = 0.8 + max(measure(label, PIXELS)[0] for label in labels.values()) / 100 if len(series) > 1 else 0.0
    tall = 0.2 * sum(label.count("\n") + 1 for label in labels.values()) if len(series) > 1 else 0.0
    with _figure(path, (max(6.4, 4.4 + beside), max(3.8, tall))) as figure:
        axes = figure.subplots()
        for i, name in enumerate([*(name for name in series if name not in faint), *faint]):
            columns = series[name]
            if len(columns) not in (2, 4):
                raise ValueError(
                    f"{name}: expected (x, y) or (x, y, lower, upper), got {len(columns)} columns: mend it"
                )
            x, y, *band = _columns(name, **dict(zip(("x", "y", "lower", "upper"), columns, strict=False)))
            if name in faint:
                label = f"{len(faint)} others" if i == len(series) - 1 else "_"
                axes.plot(x, y, label=label, color=FAINT, linewidth=0.8, zorder=1)
                continue
            axes.plot(x, y, label=labels[name], **_look(i), **_marks(i, len(x)))
            if band:
                axes.fill_between(x, band[0], band[1], color=COLOURS[i % len(COLOURS)], alpha=0.15, linewidth=0)
        title = _fitting(title, figure.get_figwidth() - beside - 0.9)
        axes.set(xlabel=xlabel, ylabel=ylabel, title=title)
        _scale(axes, xlog, ylog)
        if len(series) > 1:
            figure.legend(*axes.get_legend_handles_labels(), loc="outside right upper")
    return Path(path)


def panels(path: PathLike, curves: Mapping[str, tuple[str, ArrayLike, str, ArrayLike]], *, title: str = "") -> Path:
    """One line in each of several panels side by side: heading -> (name of x, x, name of y, y), (n,) each."""
    if not curves:
        raise ValueError("panels need at least one line, got none: give heading -> (name of x, x, name of y, y)")
    with _figure(path, (2.9 * len(curves), 2.9)) as figure:
        panels = figure.subplots(1, len(curves), squeeze=False)[0]
        for i, (axes, (heading, curve)) in enumerate(zip(panels, curves.items(), strict=True)):
            xlabel, xs, ylabel, ys = curve
            x, y = _columns(heading, x=xs, y=ys)
            axes.plot(x, y, color=COLOURS[i % len(COLOURS)], **_marks(i, len(x)))
            axes.set(xlabel=xlabel, ylabel=ylabel)
            axes.set_title(_fitting(heading, 2.3), fontweight="normal")
        _head(figure, title)
    return Path(path)


def brackets(path: PathLike, values: Mapping[str, tuple[float, float, float]], *, xlabel: str = "") -> Path:
    """One row each: a mark at the value, and a line from its low to its high end. name -> (value, low, high)."""
    if not values:
        raise ValueError("brackets need at least one value, got none: give name -> (value, low, high)")
    labels = [wrapped(name, PIXELS, LABEL) for name in values]
    row = max(0.32, 0.2 * max(label.count("\n") + 1 for label in labels))
    with _figure(path, (6.4, 0.7 + row * len(values))) as figure:
        axes = figure.subplots()
        for row, (value, low, high) in enumerate(values.values()):
            axes.plot([low, high], [row, row], color=COLOURS[0], linewidth=1.6, solid_capstyle="butt")
            axes.plot([value], [row], "o", color=COLOURS[0], markersize=5)
        axes.set(xlabel=xlabel, yticks=range(len(values)), yticklabels=labels, ylim=(len(values) - 0.5, -0.5))
    return Path(path)


def scatter(path: PathLike, clouds: Mapping[str, ArrayLike], *, title: str = "") -> Path:
    """Clouds of points side by side on equal axes: name -> (n, d); the first two features, or one against its rank."""
    if not clouds:
        raise ValueError("a scatter plot needs at least one cloud of points, got none: give name -> points")
    with _figure(path, (3.2 * len(clouds), 3.2)) as figure:
        panels = figure.subplots(1, len(clouds), sharex=True, sharey=True, squeeze=False)[0]
        for i, (axes, (name, points)) in enumerate(zip(panels, clouds.items(), strict=True)):
            cloud = np.asarray(points, dtype=float)
            x = cloud[:, 0] if cloud.shape[1] > 1 else np.linspace(0, 1, len(cloud))
            y = cloud[:, 1] if cloud.shape[1] > 1 else np.sort(cloud[:, 0])
            axes.scatter(x, y, s=4, alpha=0.5, color=COLOURS[i], linewidths=0)
            axes.set_title(_fitting(name, 2.6), fontweight="normal")
        _head(figure, title)
    return Path(path)


def drawn(plot: Callable[..., Path], *arguments: Any, **how: Any) -> Image.Image:
    """What one of the plots here would write, as a picture."""
    with TemporaryDirectory() as folder:
        path = plot(Path(folder) / "plot.png", *arguments, **how)
        return Image.open(BytesIO(path.read_bytes())).convert("RGB")


@contextmanager
def _figure(path: PathLike, size: tuple[float, float], dpi: float | None = None) -> Iterator[Figure]:
    """A figure of `size` inches in the house style, written to `path` when the body is done."""
    matplotlib = imported()
    from matplotlib.figure import Figure

    kind = by_suffix(path, FORMATS, "a plot")
    with matplotlib.style.context(["default", STYLE]):
        figure = Figure(figsize=size, layout="constrained")
        yield figure
        with replacing(path) as beside:
            figure.savefig(beside, format=kind, metadata=STAMPS[kind], dpi=dpi or "figure")


def _head(figure: Figure, title: str) -> None:
    """A title over all panels."""
    if title:
        words = _fitting(title, figure.get_figwidth() - 0.2)
        figure.suptitle(words, x=0.012, ha="left", fontweight="bold", fontsize=10.5)


def _fitting(title: str, inches: float) -> str:
    """A title in lines that are no wider, but for formulas, which are not broken."""
    return title if "$" in title else wrapped(title, HEADING, int(100 * inches))


def _columns(name: str, **columns: ArrayLike) -> list[np.ndarray]:
    """The columns as float64 of one length, not finite values as NaN."""
    arrays = {key: np.asarray(value, dtype=np.float64) for key, value in columns.items()}
    shapes = [a.shape for a in arrays.values()]
    if len(set(shapes)) > 1 or len(shapes[0]) != 1 or shapes[0] == (0,):
        got = ", ".join(f"{key} {a.shape}" for key, a in arrays.items())
        raise ValueError(f"{name}: expected columns of one equal, non-zero length, got {got}: give one value each")
    return [np.where(np.isfinite(a), a, np.nan) for a in arrays.values()]


def _look(i: int) -> dict[str, Any]:
    """Six colours and five dash patterns: no two of thirty series look the same."""
    return {"color": COLOURS[i % len(COLOURS)], "linestyle": DASHES[i % len(DASHES)]}


def _marks(i: int, points: int) -> dict[str, Any]:
    """Markers, as long as there are few enough points to tell them apart."""
    if points > 24:
        return {}
    return {"marker": MARKERS[i % len(MARKERS)], "markeredgecolor": "white", "markeredgewidth": 0.6}


def _scale(axes: Axes, xlog: bool, ylog: bool) -> None:
    """Logarithmic axes that name 1, 2 and 5 of a decade when they span few of them."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set(xscale="log" if xlog else "linear", yscale="log" if ylog else "linear")
    for axis, logarithmic in ((axes.xaxis, xlog), (axes.yaxis, ylog)):
        low, high = axis.get_view_interval()
        if logarithmic and high < 1000 * low:
            axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axis.set_minor_formatter(NullFormatter())
