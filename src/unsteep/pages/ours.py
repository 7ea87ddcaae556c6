"""Who wrote a file. Every file written here says `unsteep` of itself, where its format has a place for that, so that a
command may be run again and replaces what it wrote, and nobody's own picture is ever written over unasked.

    PNG    the text Software                   JPEG, WebP     the tag Software       GIF            the comment
    SVG, PDF    the creator                    npz    the archive's comment          safetensors    the metadata
    HTML   the generator
"""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from unsteep.pages.files import GENERATOR, check_place

MARK = "unsteep"
SOFTWARE = 0x0131  # the tag of TIFF and Exif
METADATA = {"software": MARK}  # of safetensors
HEAD = 4096  # bytes in which a drawing tells its creator
IN_HEADS = {".svg": f"<dc:title>{MARK}</dc:title>".encode(), ".html": GENERATOR}
LONGEST = 1 << 24  # bytes of a header of safetensors that are read


def marked(kind: str) -> dict[str, Any]:
    """What Pillow's `save` is told of this format, for the file to bear the mark."""
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    if kind == "PNG":
        told = PngInfo()
        told.add_text("Software", MARK)
        return {"pnginfo": told}
    if kind == "GIF":
        return {"comment": MARK}
    told_exif = Image.Exif()
    told_exif[SOFTWARE] = MARK
    return {"exif": told_exif.tobytes()}


def is_ours(path: Path) -> bool:
    """Whether the file at `path` bears the mark; False for whatever cannot be read."""
    suffix = path.suffix.lower()
    try:
        if suffix == ".npz":
            with zipfile.ZipFile(path) as stored:
                return stored.comment == MARK.encode()
        if suffix == ".safetensors":
            return _metadata(path).get("software") == MARK
        if suffix == ".pdf":
            return f"/Creator ({MARK})".encode() in path.read_bytes()
        if suffix in IN_HEADS:
            with path.open("rb") as file:
                return IN_HEADS[suffix] in file.read(HEAD)
        return _drawn(path)
    except Exception:  # decoders raise nearly anything on damaged files
        return False


def check_file(out: Path, *, force: bool = False, name: str = "out", reads: Iterable[Path | None] = ()) -> None:
    """Refuses at once a file that could not be written after all the work, that is read for it, or that is somebody's:
    there, not empty, and without the mark. `force`: the last may be written over. `name`: the argument it comes by."""
    check_place(out, name)
    if out.is_dir():
        raise ValueError(f"{name}: {out} is a folder; name a file")
    if any(one is not None and out.exists() and one.exists() and os.path.samefile(one, out) for one in reads):
        raise ValueError(f"{name}: {out} is read for this, and would be lost; choose another name")
    if not force and out.exists() and out.stat().st_size and not is_ours(out):
        raise ValueError(
            f"{name}: {out} exists, and unsteep did not write it; choose another name, or overwrite it with force=True"
        )


def _drawn(path: Path) -> bool:
    from PIL import Image

    with Image.open(path, formats=("PNG", "JPEG", "WEBP", "GIF")) as image:
        return bears_mark(image)


def bears_mark(image: Any) -> bool:
    """Whether an open picture of Pillow's says so of itself."""
    comment = image.info.get("comment", b"")
    said = {image.info.get("Software"), comment.decode("latin-1") if isinstance(comment, bytes) else comment}
    return MARK in said or image.getexif().get(SOFTWARE) == MARK


def _metadata(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        head = json.loads(file.read(min(length, LONGEST)))
    found: dict[str, Any] = head.get("__metadata__", {})
    return found
