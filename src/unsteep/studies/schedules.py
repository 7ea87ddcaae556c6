"""Every schedule beside every other: curves, and one picture noised under each."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

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


def named() -> dict[str, Schedule]:
    """The schedules with their defaults, by the names that a configuration gives them, and well-known settings."""
    return {
        "LinearBetas": LinearBetas(),
        "LinearBetas zero_terminal": LinearBetas(zero_terminal=True),
        "QuadraticBetas": QuadraticBetas(),
        "QuadraticBetas 0.00085..0.012": QuadraticBetas(start=0.00085, end=0.012),
        "ConstantBetas": ConstantBetas(),
        "SigmoidBetas": SigmoidBetas(),
        "CosineBetas": CosineBetas(),
        "VP": VP(),
        "Cosine": Cosine(),
        "SigmoidAlphaBar": SigmoidAlphaBar(),
        "Laplace": Laplace(),
        "Flow": Flow(),
        "Karras": Karras(),
        "Shifted 256": Shifted(schedule=Cosine(), size=256),
        "Shifted Flow 192": Shifted(schedule=Flow(), size=192),
    }


def draw(path: Path, image: Path | None = None) -> None:
    """Curves of all schedules above, `image` under each of them below, as one picture at `path`."""
    space = Pixels(channels=3, size=SIZE)
    x0 = space.encode(torch.from_numpy(_flower() if image is None else _read(image))[None])
    eps = NoiseSource([0]).normal(x0, draw=0)
    times = torch.linspace(0, 1, STAGES, dtype=torch.float64)
    rows = [
        torch.cat([space.decode(shown(add_noise(x0, eps, schedule(t)), schedule(t))) for t in times]).numpy()
        for schedule in named().values()
    ]
    labels = [f"t = {float(t):.3g}" for t in times]
    strip = pictures.strip(np.stack(rows), row_labels=list(named()), column_labels=labels, scale=2)
    with TemporaryDirectory() as folder:
        curve = Path(folder) / "curves.png"
        plots.schedule_plot(curve, {name: curves(schedule) for name, schedule in named().items()})
        above = Image.open(BytesIO(curve.read_bytes())).convert("RGB")
    width = max(above.width, strip.width)
    sheet = Image.new("RGB", (width, above.height + strip.height), strip.getpixel((0, 0)))
    sheet.paste(above, ((width - above.width) // 2, 0))
    sheet.paste(strip, ((width - strip.width) // 2, above.height))
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
