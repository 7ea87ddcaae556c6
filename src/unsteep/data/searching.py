"""Which files of a folder are pictures, and why every other one is not.

What unsteep itself wrote below the folder is never data: folders with a run or a saved model, samples, which are noted
where they lie, and what was drawn, as sheets of samples, which says so itself. What lies beside these is. Files and
folders whose names begin with a dot are left out, and so are links to folders, which may lead back.
"""

from __future__ import annotations

import os
import unicodedata
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from PIL import features

from unsteep.data.choosing import shorten
from unsteep.pages.ours import is_ours, samples_in

JPEG, HEIF = (".jpg", ".jpeg", ".jpe", ".jfif"), (".heic", ".heif")
SUFFIXES = (".png", *JPEG, ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif", *HEIF)
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")  # Pillow knows others, and some run programs
WRITTEN = ("run.toml", "model.toml")  # in folders that are ours
OURS = "written by unsteep"
NAMELESS = "a name that is not UTF-8; rename it"


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
    samples: set[str] = set()
    folders = [""]
    while folders:
        at = folders.pop()
        try:
            entries = list(os.scandir(root / at))
        except OSError as error:
            left.append((at, error.strerror or "it cannot be opened"))
            continue
        samples.update(at + name for name in (at and samples_in(root / at)) or ())
        drawn = at and any(is_ours(Path(one.path)) for one in entries if one.name.endswith(".html"))
        for one in entries:
            below, why = _kind(one)
            why = why or (_folder_left(Path(one.path)) if below else _file_left(one))
            name = at + one.name + "/" * below
            if not why and not below and (name in samples or (drawn and is_ours(Path(one.path)))):
                why = OURS
            if why:
                left.append((name, why))
            else:
                (folders if below else files).append(name)
    if not files and not left:
        raise ValueError(f"{root} is empty: put pictures in it, or give another data.path")
    if not files:
        raise ValueError(
            f"{root} holds {len(left)} files, but no picture: expected names ending in {', '.join(SUFFIXES)}, "
            f"got {shorten(sorted(name for name, _ in left), 3)}: give another data.path"
        )
    return Searched(sorted(files), sorted((printable(name), why) for name, why in left))


def _kind(one: os.DirEntry[str]) -> tuple[bool, str]:
    """Whether it is a folder, and why nobody can tell: a link that leads to itself."""
    try:
        return one.is_dir(), ""
    except OSError as error:
        return False, (error.strerror or "it cannot be opened").lower()


def settled(name: str) -> str:
    """A name as names are compared: some systems write an accent as a letter of its own (Unicode, form NFC)."""
    return unicodedata.normalize("NFC", name)


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
    if why := name_left(path.name):
        return why
    if path.is_symlink():
        return "a link to a folder"
    return OURS if any((path / name).exists() for name in WRITTEN) or samples_in(path) == [] else ""


def name_left(name: str) -> str:
    """Why nothing of this name is read. Names of old archives may be in another encoding, and cannot be written."""
    if name.startswith("."):
        return "hidden"
    return NAMELESS if "\\udc" in ascii(name) else ""


def suffix_left(name: str) -> str:
    """Why a file of this name is no picture; empty for one that may be."""
    suffix = Path(name).suffix.lower()
    lacking = {
        suffix not in SUFFIXES: f"{suffix} is no picture" if suffix else "no suffix",
        suffix in HEIF and not _heif(): f"{suffix} needs the extra heif: pip install 'unsteep[heif]'",
        suffix == ".avif" and not features.check("avif"): ".avif needs a Pillow that was built with it",
    }
    return lacking.get(True, "")


def _file_left(file: os.DirEntry[str]) -> str:
    """Why a file cannot be a picture, told by its name and kind alone."""
    if why := name_left(file.name) or suffix_left(file.name):
        return why
    try:
        return "" if file.is_file() else "a link to nothing" if file.is_symlink() else "no regular file"
    except OSError as error:
        return str(error)
