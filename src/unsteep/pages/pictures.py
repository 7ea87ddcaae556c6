"""Sheets of pictures: a grid of samples, a strip of stages, with labels.

Pictures are `uint8 (n, c, h, w)` with one channel (grey) or three (red, green, blue), laid row by row. Small ones
are magnified by a whole number, each pixel becoming a square, so that what is shown is exactly what was given: no
interpolation, no rescaled contrast. A sheet of grey pictures is itself grey (mode "L"), so its values survive
every lossless format.

`plan` decides where everything lies and `draw` fills it; the two are separate because the frames of an animation
share one plan.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from unsteep.pages.files import PathLike, by_suffix, replacing
from unsteep.pages.lettering import Box, Text, measure, text_size, wrapped
from unsteep.pages.ours import marked

PAPER = 242  # grey level: light enough for print, dark enough that a white picture has an edge
SHOWN = 64  # a picture's longer side is magnified to at least this many pixels
MARGIN = 10
BESIDE, ABOVE = 240, 112  # pixels that a row's label, and a column's or a picture's, may be wide before it is broken

FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
OPTIONS: dict[str, dict[str, Any]] = {
    "PNG": {"optimize": True},
    "JPEG": {"quality": 95, "subsampling": 0},
    "WEBP": {"lossless": True},
}


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Where everything of a sheet lies, in pixels: `size` (w, h), the first picture's corner, steps between."""

    count: int
    columns: int
    scale: int
    tile: tuple[int, int]
    origin: tuple[int, int]
    pitch: tuple[int, int]
    size: tuple[int, int]
    labels: tuple[Text, ...]
    heading: Text  # the place of a title; its words are given with the pictures

    def box(self, index: int) -> Box:
        """The place of picture `index`."""
        row, column = divmod(index, self.columns)
        left, top = self.origin[0] + column * self.pitch[0], self.origin[1] + row * self.pitch[1]
        return left, top, left + self.tile[0], top + self.tile[1]

    def blank(self, title: str = "") -> np.ndarray:
        """Paper with its labels and no pictures: uint8 grey (height, width)."""
        sheet = Image.new("L", self.size, PAPER)
        onto = ImageDraw.Draw(sheet)
        for text in (*self.labels, replace(self.heading, words=title)):
            text.draw(onto)
        return np.array(sheet)

    def fill(self, sheet: np.ndarray, images: np.ndarray) -> np.ndarray:
        """Lay pictures (n, c, h, w), magnified, onto a sheet (height, width) or (height, width, 3), in place."""
        for i, picture in enumerate(images):
            left, top, right, bottom = self.box(i)
            large = picture.repeat(self.scale, axis=1).repeat(self.scale, axis=2)
            sheet[top:bottom, left:right] = large[0] if sheet.ndim == 2 else large.transpose(1, 2, 0)
        return sheet


def grid(
    images: np.ndarray,
    columns: int | None = None,
    *,
    scale: int | None = None,
    gap: int | None = None,
    row_labels: Sequence[str] | None = None,
    column_labels: Sequence[str] | None = None,
    captions: Sequence[str] | None = None,
    title: str = "",
) -> Image.Image:
    """Pictures side by side on light paper.

    images: uint8 (n, c, h, w), c 1 or 3. columns: as many as make the sheet nearly square when None.
    scale: whole magnification; None shows the longer side at 64 pixels or more. gap: pixels between pictures.
    captions: what stands above each picture. Labels may hold line breaks, and long ones are broken; where one is
    larger than its picture, the pictures move apart to make room.
    Returns an "L" image for one channel, "RGB" for three. ValueError: another shape or type, a wrong number of labels.
    """
    images = checked(images)
    layout = plan(
        images.shape,
        columns,
        scale=scale,
        gap=gap,
        row_labels=row_labels,
        column_labels=column_labels,
        captions=captions,
        titles=[title],
    )
    return draw(layout, images, title)


def named(images: np.ndarray, names: Sequence[str]) -> Image.Image:
    """Pictures (n, c, h, w) by name, one each: those of one name side by side, in a row or a few, beside it; or, where
    no two have the same, each under its own."""
    images = checked(images)
    groups: dict[str, list[int]] = {}
    for i, name in enumerate(names):
        groups.setdefault(name, []).append(i)
    count, _, height, width = images.shape
    if len(groups) == count:
        return grid(images, captions=names)
    columns = min(max(map(len, groups.values())), max(8, near_square(count, height, width)))
    blank, tiles, labels = np.full_like(images[:1], PAPER), [], []
    for name, members in groups.items():
        rows = math.ceil(len(members) / columns)
        tiles += [images[members], np.repeat(blank, rows * columns - len(members), axis=0)]
        labels += [name, *[""] * (rows - 1)]
    return grid(np.concatenate(tiles), columns, row_labels=labels)


def strip(
    images: np.ndarray,
    *,
    scale: int | None = None,
    gap: int | None = None,
    row_labels: Sequence[str] | None = None,
    column_labels: Sequence[str] | None = None,
    title: str = "",
) -> Image.Image:
    """Rows of stages, such as the same samples at several times: uint8 (rows, n, c, h, w), or (n, c, h, w) for one.

    The grid whose columns are given by the array itself; arguments as there.
    """
    images = np.asarray(images)
    if images.ndim == 4:
        images = images[None]
    if images.ndim != 5:
        raise ValueError(
            f"a strip needs pictures as (rows, n, c, h, w) or (n, c, h, w), got {images.shape}: reshape it"
        )
    return grid(
        images.reshape(-1, *images.shape[2:]),
        images.shape[1],
        scale=scale,
        gap=gap,
        row_labels=row_labels,
        column_labels=column_labels,
        title=title,
    )


def save(image: Image.Image, path: PathLike) -> Path:
    """Write a picture by its suffix (png, jpg or webp; all but jpg keep every value), creating parent folders."""
    kind = by_suffix(path, FORMATS, "a picture")
    with replacing(path) as beside:
        image.save(beside, kind, **OPTIONS[kind], **marked(kind))  # what we drew is never taken for data
    return Path(path)


def checked(images: np.ndarray, axes: str = "n, c, h, w") -> np.ndarray:
    """`images` as an array, or a ValueError where it is not pictures: uint8 with axes as named, none of them empty."""
    images = np.asarray(images)
    right = images.ndim == axes.count(",") + 1 and images.shape[-3] in (1, 3) and images.size > 0
    if not right or images.dtype != np.uint8:
        raise ValueError(
            f"pictures are uint8 ({axes}) with c 1 or 3 and at least one of them, "
            f"got {images.dtype} {images.shape}: convert or reshape them"
        )
    return images


def plan(
    shape: tuple[int, ...],
    columns: int | None = None,
    *,
    scale: int | None = None,
    gap: int | None = None,
    row_labels: Sequence[str] | None = None,
    column_labels: Sequence[str] | None = None,
    captions: Sequence[str] | None = None,
    titles: Sequence[str] = (),
) -> Layout:
    """The layout of pictures of `shape` (n, c, h, w), with room for the largest of `titles`."""
    count, _, height, width = shape
    columns = columns if columns is not None else near_square(count, height, width)
    scale = scale if scale is not None else magnification(height, width, SHOWN)
    if columns < 1 or scale < 1:
        raise ValueError(f"columns and scale are whole numbers from 1, got {columns} and {scale}: leave them out")
    rows = math.ceil(count / columns)
    named = (("row", row_labels, rows), ("column", column_labels, columns), ("picture", captions, count))
    for name, labels, wanted in named:
        if labels is not None and len(labels) != wanted:
            raise ValueError(f"expected {wanted} {name} labels for {wanted} {name}s, got {len(labels)}: give one each")
    tile_w, tile_h = width * scale, height * scale
    gap = gap if gap is not None else max(2, min(tile_w, tile_h) // 16)
    size = text_size(tile_w)
    space = size // 2  # between a text and what it belongs to

    row_labels = [wrapped(label, size, max(BESIDE, tile_w)) for label in row_labels or ()]
    column_labels = [wrapped(label, size, max(ABOVE, tile_w)) for label in column_labels or ()]
    captions = [wrapped(label, size, max(ABOVE, tile_w)) for label in captions or ()]
    across = [measure(label, size) for label in column_labels]
    down = [measure(label, size) for label in row_labels]
    each = [measure(label, size) for label in captions]
    heads = [measure(title, size + 1, bold=True) for title in titles if title]
    head_w, head_h = (max((m[i] for m in heads), default=0) for i in (0, 1))
    over = max((h for _, h in across), default=0)
    beside = max((w for w, _ in down), default=0)

    lift = max((h + space for _, h in each), default=0)  # above each picture, for its caption
    pitch_x = max([tile_w + gap, *(w + space for w, _ in (*across, *each))])
    pitch_y = max([tile_h + gap, *(h + space for _, h in down)]) + lift
    spare_x, spare_y = pitch_x - gap - tile_w, pitch_y - lift - gap - tile_h  # what labels ask beyond the pictures
    left = MARGIN + (beside + space if beside else 0) + spare_x // 2
    header = MARGIN + (head_h + space if head_h else 0)
    top = header + (over + space // 2 if over else 0) + spare_y // 2 + lift
    right = left + (columns - 1) * pitch_x + tile_w + (spare_x + 1) // 2 + MARGIN
    bottom = top + (rows - 1) * pitch_y + tile_h + (spare_y + 1) // 2 + MARGIN

    texts: list[Text] = []
    for i, (words, (w, h)) in enumerate(zip(column_labels, across, strict=True)):
        middle = left + i * pitch_x + tile_w // 2
        box = (middle - w // 2, header + over - h, middle - w // 2 + w, header + over)
        texts.append(Text(words=words, box=box, align="m", size=size))
    for i, (words, (w, h)) in enumerate(zip(row_labels, down, strict=True)):
        start = top + i * pitch_y + (tile_h - h) // 2
        box = (MARGIN + beside - w, start, MARGIN + beside, start + h)
        texts.append(Text(words=words, box=box, align="r", size=size))
    for i, (words, (w, h)) in enumerate(zip(captions, each, strict=True)):
        row, column = divmod(i, columns)
        middle, below = left + column * pitch_x + tile_w // 2, top + row * pitch_y - space // 2
        texts.append(
            Text(words=words, box=(middle - w // 2, below - h, middle - w // 2 + w, below), align="m", size=size)
        )
    return Layout(
        count=count,
        columns=columns,
        scale=scale,
        tile=(tile_w, tile_h),
        origin=(left, top),
        pitch=(pitch_x, pitch_y),
        size=(max(right, head_w + 2 * MARGIN), bottom),
        labels=tuple(texts),
        heading=Text(
            words="", box=(MARGIN, MARGIN, MARGIN + head_w, MARGIN + head_h), align="l", size=size + 1, bold=True
        ),
    )


def draw(layout: Layout, images: np.ndarray, title: str = "") -> Image.Image:
    """The sheet of `layout` with these pictures on it."""
    sheet = layout.blank(title)
    if images.shape[1] == 3:
        sheet = np.repeat(sheet[:, :, None], 3, axis=2)
    return Image.fromarray(layout.fill(sheet, images))


def near_square(count: int, height: int = 1, width: int = 1) -> int:
    """Columns for a nearly square sheet, a little wider where that makes every row full."""
    least = min(count, math.ceil(math.sqrt(count * height / width)))
    return next((c for c in range(least, least * 3 // 2 + 1) if count % c == 0), least)


def magnification(height: int, width: int, shown: int) -> int:
    """The smallest whole factor that makes the longer side at least `shown` pixels."""
    return math.ceil(shown / max(height, width))
