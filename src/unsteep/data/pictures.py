"""One picture file, whatever its kind, as whole numbers (c, height, width).

The camera's orientation is applied, transparency is laid on white unless it is kept as a fourth channel, 16-bit grey is
scaled to 8 bits unless it is kept, and palettes and CMYK are converted. The picture is resized by Pillow's Lanczos
kernel, which widens with the reduction and so does not alias.
"""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from unsteep.core.budget import Room, fits
from unsteep.core.machine import give_back
from unsteep.data.searching import formats
from unsteep.pages.ours import bears_mark

Crop = Literal["center", "stretch"]
Readable = Path | io.BytesIO

UNPACKED = Room(1 << 30)  # bytes of pictures that are unpacked at once, by all threads
COPIES = 12  # bytes a pixel, of all that is made of it on the way
LARGE = 1 << 26  # bytes of them that are given back at once
DRAWN = "drawn by unsteep"


def load_picture(
    path: Readable,
    *,
    height: int,
    width: int,
    crop: Crop = "center",
    channels: int = 3,
    bits: int = 8,
    ours: bool = True,
    several: Callable[[], object] = lambda: None,
) -> np.ndarray:
    """Read a picture file as uint8 (channels, height, width), or uint16 for 16 bits.

    crop: "center" takes the largest centred part of this shape, "stretch" squeezes the whole picture; channels: 1 grey,
    3 colour, 4 colour and transparency; bits: 8, or 16 for grey; `ours`: take also what unsteep drew; `several` is
    called where the file has more frames or pages than the first, which is taken. ValueError, or whatever Pillow raises
    on a damaged file.
    """
    with Image.open(path, formats=formats()) as image:
        across, down = image.size
        most = Image.MAX_IMAGE_PIXELS
        if most is not None and across * down > most:  # the head alone has been read so far
            raise ValueError(f"{across} x {down} pixels, more than the {most:,} that are safe to unpack")
        if getattr(image, "n_frames", 1) > 1:
            several()
        image.draft(
            None, (2 * max(height, width), 2 * max(height, width))
        )  # JPEG only: unpack at a half, quarter or eighth, still twice too large
        across, down = image.size
        fits(across * down * COPIES, f"{across} x {down} pixels: to unpack them", "make it smaller")
        with UNPACKED.taken(across * down * COPIES):
            if not ours and bears_mark(image):  # which unpacks a PNG, whose Exif may stand at its end
                raise ValueError(DRAWN)
            try:
                return _brought(image, height=height, width=width, crop=crop, channels=channels, bits=bits)
            finally:
                if across * down * COPIES > LARGE:  # else each thread keeps what its largest took
                    image.close()
                    give_back()


def _brought(image: Image.Image, *, height: int, width: int, crop: Crop, channels: int, bits: int) -> np.ndarray:
    """An open picture, unpacked and brought to its form."""
    image.load()
    sixteen_bits = image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG")
    ImageOps.exif_transpose(image, in_place=True)
    if bits == 16:
        plain = _sixteen_bits(image, sixteen_bits)
    elif channels == 4:
        plain = (_eight_bits(image) if sixteen_bits else image).convert("RGBA")
    else:
        plain = _eight_bits(image) if sixteen_bits else _on_white(image)
        plain = plain.convert("L" if channels == 1 else "RGB")
    left, top = _margins(plain.size, (width, height)) if crop == "center" else (0.0, 0.0)
    across, down = plain.size
    cut = plain.resize((width, height), Image.Resampling.LANCZOS, (left, top, across - left, down - top))
    whole = np.asarray(cut).reshape(height, width, channels).transpose(2, 0, 1)
    return np.rint(whole).clip(0, 65535).astype(np.uint16) if bits == 16 else whole


def _margins(have: tuple[int, int], want: tuple[int, int]) -> tuple[float, float]:
    """What is cut off at the left and at the top, (width, height) each, for the largest centred part of a shape."""
    if have[0] * want[1] >= have[1] * want[0]:
        return (have[0] - have[1] * want[0] / want[1]) / 2, 0.0
    return 0.0, (have[1] - have[0] * want[1] / want[0]) / 2


def shape_of(path: Readable) -> tuple[int, int]:
    """Width and height of a picture as it is seen, from its head alone."""
    with Image.open(path, formats=formats()) as image:
        width, height = image.size
        turned = image.getexif().get(0x0112, 1) >= 5  # the orientation of the camera: on its side
    return (height, width) if turned else (width, height)


def changed(path: Readable, *, height: int, width: int, channels: int = 3, bits: int = 8) -> str:
    """What `load_picture` changes in a picture, in words; empty where it is taken as it is."""
    across, down = shape_of(path)
    done = converted(path, channels=channels, bits=bits)
    if (across, down) != (width, height):
        done.insert(0, f"scaled to {width} x {height}")
    if across * height != down * width:
        done.insert(0, "cropped to its middle")
    return f"{across} x {down} pixels, {', '.join(done)}" if done else ""


def converted(path: Readable, *, channels: int = 3, bits: int = 8) -> list[str]:
    """What it does to the values of a picture, from its head alone."""
    with Image.open(path, formats=formats()) as image:
        mode, clear = image.mode, "A" in image.getbands() or "transparency" in image.info
    done = {
        "laid on white": clear and channels != 4,
        "made grey": channels == 1 and mode not in ("1", "L", "LA") and not mode.startswith("I"),
        "brought to 8 bits": mode.startswith("I") and bits == 8,
    }
    return [words for words, is_so in done.items() if is_so]


def _eight_bits(image: Image.Image) -> Image.Image:
    return Image.fromarray(np.rint(np.asarray(image) / 257).astype(np.uint8))  # 257 * 255 = 65535


def _sixteen_bits(image: Image.Image, has_them: bool) -> Image.Image:
    """Grey as floats from 0 to 65535, which can be resized."""
    values = np.asarray(image) if has_them else np.asarray(_on_white(image).convert("L")) * 257.0
    return Image.fromarray(values.astype(np.float32))


def _on_white(image: Image.Image) -> Image.Image:
    if image.mode in ("I", "F"):
        raise ValueError("32-bit values, whose range a picture file does not tell")
    if "A" not in image.getbands() and "transparency" not in image.info:
        return image
    picture = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")


def reason(error: Exception) -> str:
    """In a few words, why a picture could not be read."""
    if isinstance(error, UnidentifiedImageError):  # whose text is only the path
        return "not a picture"
    return (str(error) or type(error).__name__).splitlines()[0]
