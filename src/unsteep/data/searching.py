"""Which files of a folder are pictures, and why every other one is not.

What unsteep itself wrote below the folder is never data: folders with a run, a saved model, a page or samples, and
sheets of samples, which say so in themselves. Files and folders whose names begin with a dot are left out, and so are
links to folders, which may lead back.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from PIL import features

from unsteep.data.choosing import shorten

JPEG, HEIF = (".jpg", ".jpeg", ".jpe", ".jfif"), (".heic", ".heif")
SUFFIXES = (".png", *JPEG, ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif", *HEIF)
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")  # Pillow knows others, and some run programs
OURS = "unsteep"  # what our sheets say of themselves
MARK = ".unsteep"  # in a folder of samples
WRITTEN = ("run.toml", "model.toml", MARK)  # in folders that are ours
NAMELESS = "a name that is not UTF-8; rename it"
PAGES = ("index.html", "report.html")
GENERATOR = b'<meta name="generator" content="unsteep">'


@dataclass(frozen=True)
class Searched:
    """Paths relative to the folder, with forward slashes and sorted: of pictures, and (path, reason) of what else is
    there."""

    files: list[str]
    left: list[tuple[str, str]]


def search(root: Path) -> Searched:
    """All that lies below `root`. ValueError where there is no folder, or nothing in it that may be a picture."""
    if root.is_file():
        raise ValueError(f"data.path: expected a folder of pictures, got the file {root}: give the folder it lies in")
    if not root.is_dir():
        raise ValueError(f"data.path: expected a folder of pictures, found none at {root}: check the path")
    files: list[str] = []
    left: list[tuple[str, str]] = []
    for folder, below, names in os.walk(root):
        here = Path(folder)
        at = here.relative_to(root)
        kept = []
        for name in below:
            why = _folder_left(here / name)
            if why:
                left.append(((at / name).as_posix() + "/", why))
            else:
                kept.append(name)
        below[:] = kept
        for name in names:
            why = _file_left(here / name)
            if why:
                left.append(((at / name).as_posix(), why))
            else:
                files.append((at / name).as_posix())
    if not files and not left:
        raise ValueError(f"{root} is empty: put pictures in it, or give another data.path")
    if not files:
        raise ValueError(
            f"{root} holds {len(left)} files, but no picture: expected names ending in {', '.join(SUFFIXES)}, "
            f"got {shorten(sorted(name for name, _ in left), 3)}: give another data.path"
        )
    return Searched(sorted(files), sorted((printable(name), why) for name, why in left))


def printable(name: str) -> str:
    """A file's name with the bytes that are no text written out."""
    return name.encode("utf-8", "backslashreplace").decode()


def formats() -> tuple[str, ...]:
    """Those that can be read here: AVIF where Pillow was built with it, HEIC with the extra heif."""
    return (*FORMATS, *(["AVIF"] if features.check("avif") else []), *(["HEIF"] if _heif() else []))


@cache
def _heif() -> bool:
    try:
        import pillow_heif  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        return False
    pillow_heif.register_heif_opener()
    return True


def _folder_left(path: Path) -> str:
    if why := _name_left(path.name):
        return why
    if path.is_symlink():
        return "a link to a folder"
    if any((path / name).exists() for name in WRITTEN) or any(_is_page(path / name) for name in PAGES):
        return "written by unsteep"
    return ""


def _name_left(name: str) -> str:
    """Why nothing of this name is read. Names of old archives may be in another encoding, and cannot be written."""
    if name.startswith("."):
        return "hidden"
    return NAMELESS if "\\udc" in ascii(name) else ""


def _is_page(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return GENERATOR in file.read(400)
    except OSError:
        return False


def _file_left(path: Path) -> str:
    """Why a file cannot be a picture, told by its name and kind alone."""
    if why := _name_left(path.name):
        return why
    suffix = path.suffix.lower()
    lacking = {
        suffix not in SUFFIXES: f"{suffix} is no picture" if suffix else "no suffix",
        suffix in HEIF and not _heif(): f"{suffix} needs the extra heif: pip install 'unsteep[heif]'",
        suffix == ".avif" and not features.check("avif"): ".avif needs a Pillow that was built with it",
    }
    if True in lacking:
        return lacking[True]
    try:
        return "" if path.is_file() else "a link to nothing" if path.is_symlink() else "no regular file"
    except OSError as error:
        return str(error)
