"""Files that somebody else may have written or damaged: whatever goes wrong while one is read is one line about it.

What a reader raises on such a file can be anything: a codec's own error, a KeyError where an entry lacks, MemoryError
where a head lies about a size, RecursionError where a document nests a thousand deep. None of it is a fault of the
program, and all of it means the same to a user.
"""

from __future__ import annotations

import json
import stat
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

FORMAT = 1  # of what is written here; a release that changes what it means writes the next, in "format"
AGAIN = "get it again, or use another copy"


class Unreadable(ValueError):
    """A file is not what it should be. The message names it, what was expected, and what to do."""


def plain(path: str | Path, advice: str = AGAIN) -> Path:
    """`path`, unless it is a pipe, a socket or a device, which would be waited for, or never end."""
    try:
        mode = Path(path).stat().st_mode
    except (OSError, ValueError):  # it is not there, which its reader says
        return Path(path)
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise Unreadable(f"{path}: expected a file, got a pipe, a socket or a device; {advice}")
    return Path(path)


@contextmanager
def reading(path: str | Path, expected: str, advice: str = AGAIN) -> Iterator[None]:
    """Whatever fails inside becomes an `Unreadable` of one line; what names the file already stays as it is."""
    plain(path, advice)
    try:
        yield
    except Unreadable:
        raise
    except Exception as error:
        if isinstance(error, ValueError) and str(path) in str(error) and not isinstance(error, UnicodeError):
            raise
        raise Unreadable(f"{path}: expected {expected}, got {why(error)}; {advice}") from error


def why(error: BaseException) -> str:
    """In a few words, on one line, what went wrong."""
    for kinds, said in WORDS.items():
        if isinstance(error, kinds):
            return said
    if isinstance(error, KeyError):
        return f"nothing called {' '.join(map(str, error.args))!r} in it"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    text = next(iter(str(error).splitlines()), "").strip(" :")
    return text[:200] if text else type(error).__name__


WORDS: dict[tuple[type[BaseException], ...], str] = {
    (UnicodeError,): "text that is not UTF-8",
    (MemoryError,): "sizes beyond this machine's memory",
    (RecursionError,): "parts within parts without end",
    (TypeError, AttributeError): "content of another kind",
}


def check_format(table: dict[str, Any]) -> dict[str, Any]:
    """The table without the number of its format, 1 where it says none. ValueError for one of a later release."""
    said = table.get("format", FORMAT)
    if said != FORMAT:
        raise ValueError(
            f"format: expected {FORMAT}, the one that this release reads, got {str(said)[:40]!r}; it is from a later "
            "unsteep, so update yours"
        )
    return {key: value for key, value in table.items() if key != "format"}


def text_of(path: Path, expected: str = "UTF-8 text", advice: str = AGAIN) -> str:
    """The text of a file, newlines as they are."""
    with reading(path, expected, advice):
        return path.read_bytes().decode("utf-8")


def json_of(path: Path, expected: str = "JSON", advice: str = AGAIN) -> Any:
    """The value that a JSON file holds."""
    with reading(path, expected, advice):
        return json.loads(path.read_bytes())


def toml_of(path: Path, expected: str = "TOML", advice: str = AGAIN) -> dict[str, Any]:
    """The table that a TOML file holds."""
    with reading(path, expected, advice):
        return tomllib.loads(path.read_bytes().decode("utf-8"))
