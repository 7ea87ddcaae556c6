"""Words on sheets: set, measured, broken into lines; letters that the usual font lacks are taken from another."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from PIL import ImageDraw, ImageFont

from unsteep.pages.matplotlib import imported

INK = 34  # grey level
LINES = 3  # of a label, at most
FANCY = ("Bold", "Italic", "Oblique", "Light", "Thin", "Black", "Condensed", "Mono")  # in names of fonts
MORE = "\N{HORIZONTAL ELLIPSIS}"

Box = tuple[int, int, int, int]  # left, top, right, bottom; right and bottom are outside


@dataclass(frozen=True, kw_only=True)
class Text:
    """Words to be set inside `box`, one line under another, at its left, middle or right."""

    words: str
    box: Box
    align: Literal["l", "m", "r"]
    size: int
    bold: bool = False

    def draw(self, onto: ImageDraw.ImageDraw) -> None:
        left, top, right, _ = self.box
        x = {"l": left, "m": (left + right) // 2, "r": right}[self.align]
        for i, line in enumerate(self.words.split("\n") if self.words else ()):
            face = face_for(line, self.size, self.bold)
            base = top + i * line_height(self.size) + font(self.size).getmetrics()[0]
            onto.text((x, base), line, fill=INK, font=face, anchor=f"{self.align}s")


def text_size(width: int) -> int:
    """Font size, in pixels, beside pictures of this width."""
    return min(max(width // 6, 13), 18)


@cache
def font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which matplotlib carries: it has the Greek letters and its digits are equally wide."""
    return ImageFont.truetype(_usual(bold), size)


def face_for(words: str, size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    """The usual font, or where it lacks letters of these words, the one here that has most of them."""
    wanted = _lacking(words)
    other = _other(wanted) if wanted else None
    return font(size, bold) if other is None else _opened(other, size)


def legible(words: str) -> bool:
    """Whether the fonts here have every letter of these words."""
    wanted = _lacking(words)
    other = _other(wanted) if wanted else None
    return not wanted or (other is not None and wanted <= _letters(other))


def settable(names: Sequence[str]) -> list[str]:
    """The names of classes as they can be set: by its number one whose letters no font here has."""
    return [name if legible(name) else f"class {i}" for i, name in enumerate(names)]


def line_height(size: int) -> int:
    return sum(font(size).getmetrics())


def measure(words: str, size: int, bold: bool = False) -> tuple[int, int]:
    """Width and height of the box that `words` fill."""
    if not words:
        return 0, 0
    each = words.split("\n")
    return math.ceil(max(_length(line, size, bold) for line in each)), len(each) * line_height(size)


def wrapped(words: str, size: int, width: int) -> str:
    """The words in lines of at most this many pixels, broken between words where that is possible; what would take
    more than three lines is cut. Their own line breaks stay."""
    lines = [line for own in words.split("\n") for line in _broken(own, size, width)]
    if len(lines) <= max(LINES, words.count("\n") + 1):
        return "\n".join(lines)
    last = lines[LINES - 1]
    while last and _length(last + MORE, size) > width:
        last = last[:-1]
    return "\n".join([*lines[: LINES - 1], last.rstrip(" ,;:") + MORE])


def _broken(line: str, size: int, width: int) -> Iterator[str]:
    """One line in as many as it takes."""
    begun = ""
    for word in line.split(" "):
        longer = f"{begun} {word}" if begun else word
        if begun and _length(longer, size) > width:
            yield begun
            longer = word
        while len(longer) > 1 and _length(longer, size) > width:  # a word, or a script without spaces
            fits = next(i for i in range(len(longer) - 1, 0, -1) if i == 1 or _length(longer[:i], size) <= width)
            yield longer[:fits]
            longer = longer[fits:]
        begun = longer
    yield begun


def _length(line: str, size: int, bold: bool = False) -> float:
    return face_for(line, size, bold).getlength(line)


def _usual(bold: bool = False) -> Path:
    return Path(imported().get_data_path()) / "fonts" / "ttf" / f"DejaVuSans{'-Bold' if bold else ''}.ttf"


def _lacking(words: str) -> frozenset[str]:
    """The letters that the usual font lacks."""
    return frozenset() if words.isascii() else frozenset(set(words) - _letters(_usual()) - {"\n"})


@cache
def _letters(path: Path) -> frozenset[str]:
    """What a font can draw; nothing where it cannot be opened at any size."""
    from matplotlib.ft2font import FT2Font

    try:
        ImageFont.truetype(path, 13)
        return frozenset(map(chr, FT2Font(str(path)).get_charmap()))
    except (OSError, RuntimeError, ValueError):
        return frozenset()


@cache
def _other(wanted: frozenset[str]) -> Path | None:
    """The font of this machine that has most of the letters; a plain one without serifs where there is a choice."""
    imported()
    from matplotlib.font_manager import findSystemFonts

    paths = sorted(Path(name) for name in findSystemFonts())
    rank = {
        path: (len(wanted & _letters(path)), "Sans" in path.stem, -sum(map(path.stem.count, FANCY))) for path in paths
    }
    best = max(rank, key=lambda path: rank[path], default=None)
    return best if best is not None and rank[best][0] else None


@cache
def _opened(path: Path, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(path, size)
