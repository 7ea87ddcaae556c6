"""Files that appear whole or not at all: written beside their final name, then renamed."""

import errno
import glob
import json
import os
import re
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

IN_THE_MAKING = re.compile(r"\..+\.[0-9a-f]{8}\.\w+")  # what `replacing` writes to
ABANDONED = 24 * 3600  # seconds without a writer: no part of a file takes longer
PathLike = str | os.PathLike[str]
OTHER = "choose another place"


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
    there. If the body raises, the temporary file is removed and whatever stood at `path` stays as it was; an error of
    the system names `path`. What a killed writer of the same file left is removed once nobody has written to it for a
    day.
    """
    final = Path(path)
    final.parent.mkdir(parents=True, exist_ok=True)
    for one in final.parent.glob(f".{glob.escape(final.stem)}.????????{glob.escape(final.suffix)}"):
        with suppress(OSError):  # another who writes it may have been quicker
            if IN_THE_MAKING.fullmatch(one.name) and time.time() - one.lstat().st_mtime > ABANDONED:
                one.unlink()
    beside = final.with_name(f".{final.stem}.{secrets.token_hex(4)}{final.suffix}")
    try:
        yield beside
        if beside.exists():  # else there is nothing to keep, and the replacing says so
            synced(beside)
        os.replace(beside, final)
        synced(final.parent)
    except OSError as error:
        if error.filename in (None, str(beside), beside):  # nobody knows that name
            raise OSError(error.errno, error.strerror or str(error), str(final)) from error
        raise
    finally:
        with suppress(OSError):  # of a disk that is read-only by now, where it stays
            beside.unlink(missing_ok=True)


ADVICE = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "free some space"),
    **dict.fromkeys((errno.EROFS, errno.EACCES, errno.EPERM), "make it writable"),
    **dict.fromkeys((errno.EMFILE, errno.ENFILE), "allow more open files, as with ulimit -n"),
    errno.EFBIG: "allow larger files, as with ulimit -f",
}


def in_words(error: Exception) -> str:
    """An error in one line: one of the system as what it is about, what is wrong, and where it is known, what to do."""
    if not isinstance(error, OSError) or not error.strerror:
        return str(error)
    about = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, str | bytes | os.PathLike) else ""
    advice = ADVICE.get(error.errno or 0)
    return f"{about}{error.strerror[:1].lower()}{error.strerror[1:]}{f'; {advice}' if advice else ''}"


def swept(folder: Path) -> list[Path]:
    """Removes what killed writers left beside their files in a folder; who calls it is the only one to write there."""
    there = folder.iterdir() if folder.is_dir() else ()
    left = [one for one in there if IN_THE_MAKING.fullmatch(one.name) and one.is_file() and not one.is_symlink()]
    for one in left:
        one.unlink(missing_ok=True)
    return left


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


def check_place(out: Path, name: str = "out") -> None:
    """Refuses at once a path where nothing can be made: a link to nothing, or below a file, such a link, or a folder
    that may not be written to. `name`: the argument it comes by."""
    if os.path.islink(out) and not out.exists():
        raise ValueError(f"{name}: {out} is a link to {os.readlink(out)}, which is not there; remove it, or {OTHER}")
    for above in out.parents:
        if os.path.islink(above) and not above.exists():
            raise ValueError(f"{name}: {above} is a link to {os.readlink(above)}, which is not there; {OTHER}")
        if above.exists():
            if not above.is_dir():
                raise ValueError(f"{name}: {above} is a file, and {out} cannot lie in it; {OTHER}")
            if not out.exists() and not os.access(above, os.W_OK | os.X_OK):
                raise ValueError(f"{name}: {above} may not be written to; {OTHER}")
            return
