"""The emoji of Noto Color Emoji with their Unicode names: small coloured drawings, each with a few words.

The font keeps its drawings as PNG files of 136 x 128 pixels (the tables CBDT and CBLC of OpenType), most of them for
sequences such as flags, families and skin tones, which have no name in the character database. Those of single
characters do: "grinning face", "slice of pizza". How many there are depends on the versions of the font and of the
database in Python: 1,405 of 3,926 drawings in Noto 2.042 with Unicode 14.
"""

import io
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from unsteep.core.protocols import Split
from unsteep.data.choosing import choose
from unsteep.data.examples import Examples
from unsteep.storage.foreign import reading

FONT = "/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf"
INSTALL = "on Debian and Ubuntu: apt install fonts-noto-color-emoji"


@dataclass(frozen=True, kw_only=True)
class Emoji:
    """Emoji on white, captioned by their Unicode names in small letters.

    path: the font file, by default where Debian's package fonts-noto-color-emoji puts it; size: side of the square
    in pixels, in which the drawing is centred; limit: keep the first so many, in order of code point; holdout: the
    fraction kept for testing.
    """

    path: str = FONT
    size: int = 64
    limit: int = 0
    holdout: float = 0.1

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"size: expected at least 1 pixel, got {self.size}")

    def read(self, split: Split = "train") -> Examples:
        """uint8 (n, 3, size, size) with captions. ValueError where there is no such font, or one of another kind."""
        from fontTools.ttLib import TTFont  # type: ignore[import-untyped]

        path = Path(self.path).expanduser()
        if not path.is_file():
            raise ValueError(f"data.path: expected the font Noto Color Emoji, found none at {path}; {INSTALL}")
        with reading(path, "a font", INSTALL), TTFont(path, lazy=True) as font:
            drawings = _drawings(font)
        if not drawings:
            raise ValueError(f"{path}: expected PNG drawings (CBDT) of named characters, got none; {INSTALL}")
        chosen = choose(len(drawings), source=str(path), split=split, holdout=self.holdout).index[: self.limit or None]
        names = list(drawings)
        with reading(path, "a font of PNG drawings", INSTALL):
            x = np.stack([_on_white(drawings[names[i]], self.size) for i in chosen])
        return Examples(
            torch.from_numpy(x),
            source=f"{path}, on white at {self.size} x {self.size}",
            captions=tuple(names[i] for i in chosen),
        )


def _drawings(font: Any) -> dict[str, bytes]:
    """The PNG file of each single character with a name, in the largest size there is, in order of code point."""
    if "CBDT" not in font or "CBLC" not in font:
        return {}
    strikes = zip(font["CBLC"].strikes, font["CBDT"].strikeData, strict=True)
    _, largest = max(strikes, key=lambda strike: strike[0].bitmapSizeTable.ppemY)
    found = {}
    for code, glyph in sorted(font.getBestCmap().items()):
        name = unicodedata.name(chr(code), "").lower()
        if name and glyph in largest and hasattr(largest[glyph], "imageData"):
            found[name] = largest[glyph].imageData
    return found


def _on_white(png: bytes, size: int) -> np.ndarray:
    """A drawing, centred on a white square and resized: uint8 (3, size, size)."""
    with Image.open(io.BytesIO(png), formats=["PNG"]) as image:
        drawing = image.convert("RGBA")
    width, height = drawing.size
    side = max(width, height)
    square = Image.new("RGBA", (side, side), "white")
    square.alpha_composite(drawing, ((side - width) // 2, (side - height) // 2))
    small = square.convert("RGB").resize((size, size), Image.Resampling.LANCZOS)
    return np.asarray(small).transpose(2, 0, 1)
