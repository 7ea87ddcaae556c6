"""The manifest of a folder: the size and SHA-256 of every file in it, written last.

`manifest.json` is {"format": 1, "files": {name: {"bytes": size, "sha256": hex}}}. A folder that has one was written to
its end; one that verifies is still, byte for byte, what was written. Only the folder's own visible files are listed:
subfolders and dotfiles (locks, files in the making) are not its content, and a file that came later does no harm.

Two files cannot be replaced at once, so a listed file is replaced in three renames, after each of which the folder
verifies: a manifest in which the entry has a second one, "next", and either will do; the file; the final manifest.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from unsteep.pages.files import synced
from unsteep.storage.foreign import FORMAT, check_format, plain

MANIFEST = "manifest.json"


class Corrupt(ValueError):
    """A file is missing or is not what was written."""


def write_manifest(folder: Path) -> None:
    """Write, or replace at once, the manifest of the files that are now in `folder`."""
    paths = sorted(p for p in folder.iterdir() if p.is_file() and p.name != MANIFEST and not p.name.startswith("."))
    _write(folder, {p.name: _entry(p) for p in paths})


def replace_listed(beside: Path, file: Path) -> None:
    """Put `beside`, which is on the disk, in the place of `file`, which its folder's manifest lists."""
    folder, entry = file.parent, _entry(beside)
    files = json.loads((folder / MANIFEST).read_bytes())["files"]
    _write(folder, files | {file.name: _entry(file) | {"next": entry}})
    beside.replace(file)
    synced(folder)
    _write(folder, files | {file.name: entry})


def verify(folder: Path) -> None:
    """Compare every file that the manifest of `folder` lists with it; raises Corrupt naming the first that differs."""
    path = folder / MANIFEST
    try:
        whole = json.loads(plain(path).read_bytes())
        files = whole["files"]
        expected = {name: [_pair(entry), _pair(entry.get("next", entry))] for name, entry in files.items()}
    except FileNotFoundError:
        raise Corrupt(f"{path}: missing, so the folder is not a finished save; use another one") from None
    except Exception:  # what is no manifest fails in any way
        raise Corrupt(f"{path}: expected a manifest in JSON, got something else; use another save") from None
    try:
        check_format(whole)
    except ValueError as error:
        raise Corrupt(f"{path}: {error}") from None
    if not expected:
        raise Corrupt(f"{path}: it lists no file, so nothing here is known to be whole; use another save")
    for file in folder.glob("*.safetensors"):
        if file.name not in expected and not file.name.startswith("."):
            raise Corrupt(f"{file}: {MANIFEST} does not list it, so it may be anybody's; use another save")
    for name, pairs in expected.items():
        file = folder / name
        if not file.is_file():
            raise Corrupt(f"{file}: missing, although {MANIFEST} lists it; use another save or a fresh copy")
        if (actual := file.stat().st_size) not in [size for size, _ in pairs]:
            raise Corrupt(f"{file}: expected {pairs[0][0]} bytes, got {actual}; use another save or a fresh copy")
        if (actual, _sha256(file)) not in pairs:
            raise Corrupt(
                f"{file}: its bytes are not those that were written (SHA-256); use another save or a fresh copy"
            )


def write_durably(path: Path, text: str) -> None:
    """Write UTF-8, newlines untouched, and return once it is on the disk."""
    path.write_bytes(text.encode())
    synced(path)


def _write(folder: Path, files: dict[str, Any]) -> None:
    beside = folder / f".{MANIFEST}.partial"
    write_durably(beside, json.dumps({"format": FORMAT, "files": files}, indent=1, ensure_ascii=False) + "\n")
    beside.replace(folder / MANIFEST)
    synced(folder)


def _entry(path: Path) -> dict[str, Any]:
    return {"bytes": path.stat().st_size, "sha256": _sha256(path)}


def _pair(entry: dict[str, Any]) -> tuple[int, str]:
    return int(entry["bytes"]), str(entry["sha256"])


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
