"""Emoji from a tiny font made here, and, where it is installed, from the real one."""

import io
import struct
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.ttLib.tables.DefaultTable import DefaultTable
from PIL import Image, ImageDraw, ImageFont

from unsteep.data import Emoji
from unsteep.data.emoji import FONT

INK = np.arange(4 * 6 * 4, dtype=np.uint8).reshape(4, 6, 4)  # 6 wide, 4 high, red, green, blue and opacity


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def drawn(size: int, pictures: list[bytes], offset: int, subtable: int) -> tuple[bytes, bytes, bytes]:
    """One strike of `size` for glyphs 1, 2, ...: its data (format 17), its BitmapSize record, its index (format 1)."""
    data = b"".join(struct.pack(">BBbbB", 4, 6, 0, 0, 6) + struct.pack(">I", len(p)) + p for p in pictures)
    starts = np.cumsum([0] + [len(p) + 9 for p in pictures])
    index = struct.pack(">HHI HHI", 1, len(pictures), 8, 1, 17, offset) + struct.pack(f">{len(starts)}I", *starts)
    record = struct.pack(">IIII", subtable, len(index), 1, 0) + bytes(24)
    return data, record + struct.pack(">HHBBBb", 1, len(pictures), size, size, 32, 1), index


def write_font(path: Path, codes: list[int], small: list[bytes], large: list[bytes]) -> Path:
    """A font of these characters and two strikes, by the OpenType specification of CBDT and CBLC."""
    glyphs = [".notdef", *(f"g{code:x}" for code in codes)]
    builder = FontBuilder(unitsPerEm=100, isTTF=True)
    builder.setupGlyphOrder(glyphs)
    builder.setupCharacterMap(dict(zip(codes, glyphs[1:], strict=True)))
    builder.setupHorizontalMetrics(dict.fromkeys(glyphs, (100, 0)))
    builder.setupHorizontalHeader(ascent=80, descent=-20)
    builder.setupPost()
    one, record, index = drawn(4, small, 4, 8 + 2 * 48)
    two, record_2, index_2 = drawn(6, large, 4 + len(one), 8 + 2 * 48 + len(index))
    for tag, content in (
        ("CBDT", struct.pack(">I", 0x30000) + one + two),
        ("CBLC", struct.pack(">II", 0x30000, 2) + record + record_2 + index + index_2),
    ):
        builder.font[tag] = DefaultTable(tag)
        builder.font[tag].data = content
    builder.save(path)
    return path


@pytest.fixture
def font(tmp_path) -> Path:
    """A waffle, a grinning face and a character of private use with drawings; a slice of pizza without."""
    pictures = [png(INK), png(INK[::-1]), png(INK)]
    dots = [png(INK[:1, :1])] * 3
    return write_font(tmp_path / "font.ttf", [0x1F9C7, 0x1F600, 0xE000, 0x1F355], dots, pictures)


def test_named_drawings_of_the_largest_size_in_order_of_code_point(font):
    data = Emoji(path=str(font), size=6, holdout=0).read("all")
    assert data.captions == ("grinning face", "waffle")
    opacity = INK[..., 3:] / 255.0
    on_white = np.full((3, 6, 6), 255)
    on_white[:, 1:5] = np.rint(INK[..., :3] * opacity + 255 * (1 - opacity)).transpose(2, 0, 1)
    assert abs(data.x[1].numpy() - on_white).max() <= 1
    assert abs(data.x[0].numpy() - on_white[:, ::-1]).max() <= 1  # centred: a row of paper above and below
    assert len(np.unique(on_white)) > 20


def test_sizes_limits_and_splits(font):
    assert Emoji(path=str(font), size=13).read("all").x.shape == (2, 3, 13, 13)
    assert Emoji(path=str(font), limit=1).read("all").captions == ("grinning face",)
    source = Emoji(path=str(font), holdout=0.5)
    parts = source.read("train").captions, source.read("test").captions
    assert sorted(parts) == [("grinning face",), ("waffle",)]


def test_what_is_no_such_font_says_how_to_get_one(tmp_path, font):
    letters = write_font(tmp_path / "none.ttf", [0xE000], [png(INK)], [png(INK)])
    (tmp_path / "junk.ttf").write_bytes(b"junk")
    (tmp_path / "cut.ttf").write_bytes(font.read_bytes()[:-400])
    for path, words in (
        (tmp_path / "nowhere.ttf", "found none at"),
        (tmp_path / "junk.ttf", "expected a font"),
        (tmp_path / "cut.ttf", "expected a font"),
        (letters, "expected PNG drawings"),
    ):
        with pytest.raises(ValueError, match=words) as error:
            Emoji(path=str(path)).read()
        assert "apt install fonts-noto-color-emoji" in str(error.value)
    with pytest.raises(ValueError, match="size"):
        Emoji(size=0)


@pytest.mark.skipif(not Path(FONT).exists(), reason="needs the Debian package fonts-noto-color-emoji")
def test_the_emoji_of_noto():
    data = Emoji(size=136, limit=60).read("all")
    face = ImageFont.truetype(FONT, 109)
    for x, name in list(zip(data.x, data.captions, strict=True))[::10]:
        sheet = Image.new("RGB", (300, 300), "white")
        ImageDraw.Draw(sheet).text((50, 50), unicodedata.lookup(name.upper()), font=face, embedded_color=True)
        ours, theirs = trimmed(x.permute(1, 2, 0).numpy()), trimmed(np.asarray(sheet))
        assert ours.shape == theirs.shape
        assert abs(ours.astype(int) - theirs).max() <= 2
    assert len(set(data.captions)) == 60


def trimmed(pixels: np.ndarray) -> np.ndarray:
    """The smallest part of a picture (h, w, c) with all that is not white."""
    rows, columns = (np.flatnonzero((pixels < 255).any(axis)) for axis in ((1, 2), (0, 2)))
    return pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
