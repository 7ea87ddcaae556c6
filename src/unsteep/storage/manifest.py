"""The manifest of a folder: the size and SHA-256 of every file in it, written last.

`manifest.json` is {"files": {name: {"bytes": size, "sha256": hex}}}. A folder that has one was written to its end; one
that verifies is still, byte for byte, what was written. Only the folder's own visible files are listed: subfolders
and dotfiles (locks, files in the making) are not its content, and a file that came later does no harm.
"""

import hashlib
import json
import os
from pathlib import Path

MANIFEST = "manifest.json"


class Corrupt(ValueError):
    """A file is missing or is not what was written."""


def write_manifest(folder: Path) -> None:
    """Write, or replace at once, the manifest of the files that are now in `folder`."""
    paths = sorted(p for p in folder.iterdir() if p.is_file() and p.name != MANIFEST and not p.name.startswith("."))
    files = {p.name: {"bytes": p.stat().st_size, "sha256": _sha256(p)} for p in paths}
    beside = folder / f".{MANIFEST}.partial"
    write_durably(beside, json.dumps({"files": files}, indent=1, ensure_ascii=False) + "\n")
    beside.replace(folder / MANIFEST)
    sync(folder)


def verify(folder: Path) -> None:
    """Compare every file that the manifest of `folder` lists with it; raises Corrupt naming the first that differs."""
    path = folder / MANIFEST
    try:
        files = json.loads(path.read_bytes())["files"]
        expected = {name: (int(entry["bytes"]), str(entry["sha256"])) for name, entry in files.items()}
    except FileNotFoundError:
        raise Corrupt(f"{path}: missing, so the folder is not a finished save; use another one") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise Corrupt(f"{path}: expected a manifest in JSON, got something else; use another save") from None
    for name, (size, sha256) in expected.items():
        file = folder / name
        if not file.is_file():
            raise Corrupt(f"{file}: missing, although {MANIFEST} lists it; use another save or a fresh copy")
        if (actual := file.stat().st_size) != size:
            raise Corrupt(f"{file}: expected {size} bytes, got {actual}; use another save or a fresh copy")
        if _sha256(file) != sha256:
            raise Corrupt(
                f"{file}: its bytes are not those that were written (SHA-256); use another save or a fresh copy"
            )


def write_durably(path: Path, text: str) -> None:
    """Write UTF-8, newlines untouched, and return once it is on the disk."""
    path.write_bytes(text.encode())
    sync(path)


def sync(path: Path) -> None:
    """Return once the file's bytes, or the folder's list of names, are on the disk."""
    if os.name == "nt" and path.is_dir():
        return  # Windows opens no folders; it journals their names itself
    descriptor = os.open(path, os.O_RDWR if path.is_file() else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
