"""Files that appear whole or not at all: written beside their final name, then renamed."""

import json
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

PathLike = str | os.PathLike[str]


def synced(path: Path) -> None:
    """Returns once the file's bytes, or the folder's list of names, are on the disk."""
    if os.name == "nt" and path.is_dir():
        return  # Windows opens no folders; it journals their names itself
    descriptor = os.open(path, os.O_RDWR if path.is_file() else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def replacing(path: PathLike) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path` (created if missing), with the same suffix.

    On leaving, the temporary file is brought to the disk and takes the name of `path` in one step, replacing what was
    there. If the body
    raises, the temporary file is removed and whatever stood at `path` stays as it was.
    """
    final = Path(path)
    final.parent.mkdir(parents=True, exist_ok=True)
    beside = final.with_name(f".{final.stem}.{secrets.token_hex(4)}{final.suffix}")
    try:
        yield beside
        if beside.exists():  # else there is nothing to keep, and the replacing says so
            synced(beside)
        os.replace(beside, final)
        synced(final.parent)
    finally:
        beside.unlink(missing_ok=True)


def by_suffix(path: PathLike, known: Mapping[str, str], what: str) -> str:
    """What `known` (suffix -> format) holds for the suffix of `path`, or a ValueError that names all suffixes."""
    suffix = Path(path).suffix.lower()
    if suffix not in known:
        got = f"not {suffix}" if suffix else "and this has no suffix"
        raise ValueError(f"{what} is one of {', '.join(known)}, {got}: rename {path}")
    return known[suffix]


def write_json(content: Mapping[str, object], path: PathLike) -> None:
    """Indented JSON, whole or not at all. A number that JSON cannot hold is a ValueError."""
    text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)
    with replacing(path) as beside:
        beside.write_text(text + "\n", encoding="utf-8")


def check_folder(out: Path) -> None:
    """Refuses at once a folder that could not be written to after all the work."""
    if out.exists() and not out.is_dir():
        raise ValueError(f"out: {out} is a file; name a folder")
