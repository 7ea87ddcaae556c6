"""Every schedule beside every other: curves, and one picture noised under each."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from unsteep.core.level import add_noise
from unsteep.core.noise import NoiseSource
from unsteep.core.schedules import (
    VP,
    ConstantBetas,
    Cosine,
    CosineBetas,
    Flow,
    Karras,
    Laplace,
    LinearBetas,
    QuadraticBetas,
    Schedule,
    Shifted,
    SigmoidAlphaBar,
    SigmoidBetas,
)
from unsteep.data.pictures import load_picture, reason
from unsteep.pages import pictures, plots
from unsteep.spaces import Pixels
from unsteep.training.report import curves, shown

STAGES = 9
SIZE = 64
DPI = 110  # of curves, so that their letters are as large as those beside the pictures


def families() -> dict[str, dict[str, Schedule]]:
    """The schedules with their defaults, by the names that a configuration gives them, and well-known settings; few in
    each family, to be told apart on a plot."""
    return {
        "Linear and constant betas": {
            "LinearBetas": LinearBetas(),
            "LinearBetas zero_terminal": LinearBetas(zero_terminal=True),
            "VP": VP(),
            "ConstantBetas": ConstantBetas(),
        },
        "Curved betas": {
            "QuadraticBetas": QuadraticBetas(),
            "QuadraticBetas 0.00085..0.012": QuadraticBetas(start=0.00085, end=0.012),
            "SigmoidBetas": SigmoidBetas(),
            "CosineBetas": CosineBetas(),
        },
        "In continuous time": {
            "Cosine": Cosine(),
            "Shifted 256": Shifted(schedule=Cosine(), size=256),
            "SigmoidAlphaBar": SigmoidAlphaBar(),
            "Laplace": Laplace(),
        },
        "Flows and exploding variance": {
            "Flow": Flow(),
            "Shifted Flow 192": Shifted(schedule=Flow(), size=192),
            "Karras": Karras(),
        },
    }


def named() -> dict[str, Schedule]:
    """All of them by name."""
    return {name: schedule for family in families().values() for name, schedule in family.items()}


def draw(path: Path, image: Path | None = None) -> None:
    """Family by family, the curves of its schedules and `image` under each of them, as one picture at `path`."""
    space = Pixels(channels=3, size=SIZE)
    x0 = space.encode(torch.from_numpy(_flower() if image is None else _read(image))[None])
    eps = NoiseSource([0]).normal(x0, draw=0)
    times = torch.linspace(0, 1, STAGES, dtype=torch.float64)
    labels = [f"t = {float(t):.3g}" for t in times]
    above, below = [], []
    for family, schedules in families().items():
        told = {name: curves(schedule) for name, schedule in schedules.items()}
        above.append(plots.drawn(plots.schedule_plot, told, title=family, dpi=DPI))
        rows = [
            torch.cat([space.decode(shown(add_noise(x0, eps, schedule(t)), schedule(t))) for t in times]).numpy()
            for schedule in schedules.values()
        ]
        below.append(pictures.strip(np.stack(rows), row_labels=list(schedules), column_labels=labels))
    edge, width = max(part.width for part in below), max(part.width for part in (*above, *below))
    sheet = Image.new("RGB", (width, sum(part.height for part in (*above, *below))), below[0].getpixel((0, 0)))
    top = 0
    for curve, strip in zip(above, below, strict=True):
        sheet.paste("white", (0, top, width, top + curve.height))
        sheet.paste(curve, (0, top))
        sheet.paste(strip, (edge - strip.width, top + curve.height))  # the times of all families below each other
        top += curve.height + strip.height
    pictures.save(sheet, path)


def _read(image: Path) -> np.ndarray:
    try:
        return load_picture(image, height=SIZE, width=SIZE).copy()
    except Exception as error:  # decoders raise nearly anything on damaged files
        raise ValueError(f"{image}: expected a picture, got {reason(error)}; give another image") from None


def _flower() -> np.ndarray:
    """A flower, uint8 (3, SIZE, SIZE), from the pictures in scikit-learn's wheel."""
    from sklearn.datasets import load_sample_image

    whole = Image.fromarray(load_sample_image("flower.jpg"))
    square = whole.crop((150, 0, 150 + whole.height, whole.height)).resize((SIZE, SIZE), Image.Resampling.LANCZOS)
    return np.asarray(square).transpose(2, 0, 1).copy()
