"""Sequences of numbers as small pictures: every feature a line, along the frames."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from unsteep.pages.plots import COLOURS

HEIGHT, WIDTH, EDGE = 48, 96, 3
BETWEEN = 4  # drawn so many times larger, and then made small: smooth lines


def tiles(sequences: Sequence[np.ndarray], low: float, high: float, frames: int) -> np.ndarray:
    """Sequences (length, features) on one scale, from `low` to `high` and `frames` wide: uint8 (n, 3, 48, 96). A number
    that is none, as NaN, is not drawn."""
    span = high - low or 1.0
    drawn = []
    for sequence in sequences:
        sheet = Image.new("RGB", (BETWEEN * WIDTH, BETWEEN * HEIGHT), "white")
        onto = ImageDraw.Draw(sheet)
        x = EDGE + (WIDTH - 2 * EDGE) * np.arange(len(sequence)) / max(1, frames - 1)
        for i, values in enumerate(np.asarray(sequence, dtype=float).T):
            y = HEIGHT - EDGE - (HEIGHT - 2 * EDGE) * np.clip((values - low) / span, 0, 1)
            colour = COLOURS[i % len(COLOURS)]
            for points in _runs(BETWEEN * x, BETWEEN * y):
                if len(points) > 1:
                    onto.line(points, fill=colour, width=BETWEEN, joint="curve")
                else:
                    ((a, b),) = points
                    onto.ellipse((a - BETWEEN, b - BETWEEN, a + BETWEEN, b + BETWEEN), fill=colour)
        small = sheet.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS)
        drawn.append(np.asarray(small).transpose(2, 0, 1))
    return np.stack(drawn)


def _runs(x: np.ndarray, y: np.ndarray) -> list[list[tuple[float, float]]]:
    """The points in rows without a gap."""
    rows: list[list[tuple[float, float]]] = [[]]
    for a, b in zip(x.tolist(), y.tolist(), strict=True):
        if np.isfinite(b):
            rows[-1].append((a, b))
        else:
            rows.append([])
    return [row for row in rows if row]
