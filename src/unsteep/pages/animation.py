"""Moving pictures: frames of the same sheet, looping, with the last one held.

GIF has 256 colours a frame. Grey pictures fit and keep every value. For colour each frame gets a palette of its
own, chosen from its pictures before they are magnified and mapped without dithering, which would show as false
texture inside the squares of magnified pixels; a few entries are kept for paper and text, so these never flicker.
WebP and animated PNG are written losslessly.

GIF counts time in hundredths of a second, and viewers slow down anything under two of them: this is the floor here.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from unsteep.pages.files import PathLike, by_suffix, replacing
from unsteep.pages.lettering import INK
from unsteep.pages.ours import marked
from unsteep.pages.pictures import PAPER, Layout, checked, draw, magnification, plan

FORMATS = {".gif": "GIF", ".webp": "WEBP", ".png": "PNG"}
OPTIONS: dict[str, dict[str, Any]] = {
    "GIF": {},
    "WEBP": {"lossless": True},
    "PNG": {},
}
SHADES = 16  # palette entries of a colour GIF kept for paper and text
SHOWN = 40  # pixels of a picture's longer side, at least: less than on a sheet, for the sake of the file's size


def gif(
    frames: np.ndarray,
    path: PathLike,
    *,
    columns: int | None = None,
    scale: int | None = None,
    seconds: float = 4.0,
    hold: float = 1.5,
    captions: Sequence[str] | None = None,
    names: Sequence[str] | None = None,
) -> Path:
    """Write frames, uint8 (f, n, c, h, w), as a looping animation: .gif, .webp or .png by the suffix of `path`.

    Each frame is a `grid` of its n pictures, each under its own of `names`, under its caption, at 40 pixels or more a
    picture unless `scale` says.
    The frames share `seconds` evenly (at least 0.02 each, so more than 50 a second take longer), then the last one
    stays for `hold` more. In a GIF equal neighbours are stored once, for as long as both.
    ValueError: other shapes or types, an unknown suffix, a number of captions other than f.
    """
    kind = by_suffix(path, FORMATS, "an animation")
    frames = checked(frames, "f, n, c, h, w")
    captions = captions if captions is not None else [""] * len(frames)
    if len(captions) != len(frames):
        raise ValueError(
            f"expected {len(frames)} captions for {len(frames)} frames, got {len(captions)}: give one each"
        )
    height, width = frames.shape[3:]
    scale = scale if scale is not None else magnification(height, width, SHOWN)
    layout = plan(frames.shape[1:], columns, scale=scale, captions=names, titles=captions)
    paint = indexed if kind == "GIF" and frames.shape[2] == 3 else draw
    sheets = [paint(layout, pictures, caption) for pictures, caption in zip(frames, captions, strict=True)]
    with replacing(path) as beside:
        sheets[0].save(
            beside,
            kind,
            save_all=True,
            append_images=sheets[1:],
            duration=durations(len(frames), seconds, hold),
            loop=0,
            **OPTIONS[kind],
            **marked(kind),
        )
    return Path(path)


def durations(count: int, seconds: float, hold: float) -> list[int]:
    """Milliseconds of each frame, in whole hundredths of a second whose sum is that of `seconds` and `hold`."""
    ends = np.round(np.linspace(0, 100 * seconds, count + 1))
    hundredths = np.maximum(np.diff(ends), 2)
    hundredths[-1] += round(100 * hold)
    return [int(h) * 10 for h in hundredths]


def indexed(layout: Layout, images: np.ndarray, title: str) -> Image.Image:
    """The sheet of colour pictures (n, 3, h, w) as a palette image: colours of the pictures, then shades of text."""
    n, _, h, w = images.shape
    column = Image.fromarray(images.transpose(0, 2, 3, 1).reshape(n * h, w, 3))
    few = column.quantize(256 - SHADES, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    shades = np.linspace(INK, PAPER, SHADES).round().astype(np.uint8)
    colours = np.zeros((256, 3), np.uint8)
    found = np.asarray(few.getpalette(), np.uint8).reshape(-1, 3)[: 256 - SHADES]
    colours[: len(found)] = found
    colours[-SHADES:] = shades[:, None]

    nearest = np.abs(np.arange(256)[:, None] - shades.astype(int)).argmin(axis=1) + 256 - SHADES
    sheet = layout.fill(nearest.astype(np.uint8)[layout.blank(title)], np.asarray(few).reshape(n, 1, h, w))
    image = Image.fromarray(sheet)
    image.putpalette(colours.tobytes())
    return image
