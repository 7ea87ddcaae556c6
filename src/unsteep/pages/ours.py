"""Who wrote a file. Every file written here says `unsteep` of itself, where its format has a place for that, so that a
command may be run again and replaces what it wrote, and nobody's own picture is ever written over unasked.

    PNG    the text Software                   JPEG, WebP     the tag Software       GIF            the comment
    SVG, PDF    the creator                    npz    the archive's comment          safetensors    the metadata
    HTML        the generator                  JSON   has no such place: it is ours beside a page, study or run of ours
"""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from unsteep.pages.files import IN_THE_MAKING, check_place

MARK = "unsteep"
SOFTWARE = 0x0131  # the tag of TIFF and Exif
METADATA = {"software": MARK}  # of safetensors
GENERATOR = b'<meta name="generator" content="unsteep">'
STUDY, RUN = "study.json", "run.toml"  # in the folders of these
SAMPLES = ".unsteep"  # in a folder of samples, which are data of nobody's folder above
HEAD = 4096  # bytes in which a drawing tells its creator, and a page its generator
PAGED = (".html", ".json", ".png", ".jpg", ".jpeg", ".webp", ".gif", ".svg")  # what pages are made of
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
    """Whether the file at `path` bears the mark; False for whatever cannot be read, or would be waited for."""
    try:
        return path.is_file() and SAID.get(path.suffix.lower(), _drawn)(path)
    except Exception:  # decoders raise nearly anything on damaged files
        return False


def note_samples(folder: Path, names: Iterable[str]) -> None:
    """Writes into a folder which samples come to lie in it, by their paths from there: they bear no mark themselves."""
    said = "samples: no data of a folder above"
    lines = dict.fromkeys([said, *(samples_in(folder) or ()), *names])
    (folder / SAMPLES).write_text("\n".join(lines) + "\n", encoding="utf-8")


def samples_in(folder: Path) -> list[str] | None:
    """What was noted there; None where nothing was. Older releases noted no names: all that lay there was samples."""
    note = folder / SAMPLES
    return note.read_text(encoding="utf-8", errors="replace").splitlines()[1:] if note.is_file() else None


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


def check_folder(out: Path) -> None:
    """Refuses at once a folder that could not be written to after all the work, and one with pages, numbers or pictures
    of somebody's: those of a page of ours, some of which have the same names, lie by themselves."""
    check_place(out)
    if out.exists() and not out.is_dir():
        raise ValueError(f"out: {out} is a file; name a folder")
    there = sorted(out.iterdir()) if out.is_dir() else []
    for path in there:
        if path.suffix.lower() in PAGED and not IN_THE_MAKING.fullmatch(path.name) and not is_ours(path):
            raise ValueError(f"out: {out} holds {path.name}, which is of no page of unsteep; name another folder")


def _drawn(path: Path) -> bool:
    from PIL import Image

    with Image.open(path, formats=("PNG", "JPEG", "WEBP", "GIF")) as image:
        return bears_mark(image)


def _stored(path: Path) -> bool:
    with zipfile.ZipFile(path) as stored:
        return stored.comment == MARK.encode()


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(HEAD)


def _numbers(path: Path) -> bool:
    beside = any((path.parent / name).exists() for name in (STUDY, RUN))
    return beside or any(map(is_ours, path.parent.glob("*.html")))


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


SAID: dict[str, Callable[[Path], bool]] = {  # of other files than pictures
    ".npz": _stored,
    ".safetensors": lambda path: bool(_metadata(path).get("software") == MARK),
    ".pdf": lambda path: f"/Creator ({MARK})".encode() in path.read_bytes(),
    ".svg": lambda path: f"<dc:title>{MARK}</dc:title>".encode() in _head(path),
    ".html": lambda path: GENERATOR in _head(path),
    ".json": _numbers,
}
