"""One picture file, whatever its kind, as bytes (c, size, size).

The camera's orientation is applied, transparency is laid on white, 16-bit grey is scaled to 8 bits, and
palettes and CMYK are converted. The picture is resized by Pillow's Lanczos kernel, which widens with the
reduction and so does not alias.
"""

from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

Crop = Literal["center", "stretch"]

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")  # Pillow knows others, and some run programs


def load_picture(path: Path, *, size: int, crop: Crop = "center", channels: int = 3) -> np.ndarray:
    """Read a picture file as uint8 (channels, size, size).

    crop: "center" takes the largest centred square, "stretch" squeezes the whole picture; channels: 1 or 3.
    ValueError, or whatever Pillow raises on a damaged file.
    """
    with Image.open(path, formats=FORMATS) as image:
        width, height = image.size
        most = Image.MAX_IMAGE_PIXELS
        if most is not None and width * height > most:  # the head alone has been read so far
            raise ValueError(f"{width} x {height} pixels, more than the {most:,} that are safe to unpack")
        image.draft(None, (2 * size, 2 * size))  # JPEG only: unpack at a half, quarter or eighth, still twice too large
        image.load()
        sixteen_bits = image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG")
        ImageOps.exif_transpose(image, in_place=True)
        plain = _eight_bits(image) if sixteen_bits else _on_white(image)
        plain = plain.convert("L" if channels == 1 else "RGB")

    width, height = plain.size
    side = min(width, height)
    left, top = ((width - side) / 2, (height - side) / 2) if crop == "center" else (0, 0)
    square = plain.resize((size, size), Image.Resampling.LANCZOS, (left, top, width - left, height - top))
    return np.asarray(square).reshape(size, size, channels).transpose(2, 0, 1)


def shape_of(path: Path) -> tuple[int, int]:
    """Width and height of a picture as it is seen, from its head alone."""
    with Image.open(path, formats=FORMATS) as image:
        width, height = image.size
        turned = image.getexif().get(0x0112, 1) >= 5  # the orientation of the camera: on its side
    return (height, width) if turned else (width, height)


def _eight_bits(image: Image.Image) -> Image.Image:
    return Image.fromarray(np.rint(np.asarray(image) / 257).astype(np.uint8))  # 257 * 255 = 65535


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
