"""Names that come out of files, made safe for where they go: a terminal, or a path. Pages have `html.escape`.

A class, a caption or a file's name may hold codes that move the cursor, change colours, or turn the direction of what
follows; or it may be `..`. Whatever the command line prints goes through `say` or a `Terminal`; whatever names a file
goes through `for_file`.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
import unicodedata
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

# control characters but for the newline and the tab, marks of direction, and halves of characters
UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
NOT_IN_FILES = re.compile(r'[\x00-\x1f\x7f-\x9f<>:"/\\|?*\u202a-\u202e\u2066-\u2069\ud800-\udfff]')
RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)  # by Windows
LONGEST = 120  # bytes of a name of a file


def for_terminal(text: str) -> str:
    """The text with what a terminal would obey written out, as \\x1b."""
    return UNSAFE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def for_file(name: str, *, numbered: bool = False) -> str:
    """One name of a file, or a folder, on any system: the name itself where it can be, and is not to be `numbered`,
    else one like it that no other name has."""
    plain = NOT_IN_FILES.sub("-", unicodedata.normalize("NFC", name)).strip(" ")
    safe = plain and plain.strip(".") and not plain.startswith(".") and not plain.endswith(".")
    if not numbered and safe and plain == name and len(plain.encode()) <= LONGEST and not RESERVED.fullmatch(plain):
        return plain
    cut = plain.strip(". ").encode()[: LONGEST - 9].decode("utf-8", "ignore") or "name"
    return f"{cut}-{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"


def for_files(names: Iterable[str]) -> dict[str, str]:
    """A name of a file for each of these, as like it as can be: a number is added only where two would be one."""
    plain = {name: NOT_IN_FILES.sub("-", unicodedata.normalize("NFC", name)).strip(" ") for name in names}
    folded = [one.casefold() for one in plain.values()]
    return {
        name: one if folded.count(one.casefold()) == 1 and for_file(one) == one else for_file(name, numbered=True)
        for name, one in plain.items()
    }


class _Unheard:
    """Why something could not be printed: the place is full, or closed. No work ends with that."""

    words = ""

    @classmethod
    def note(cls, error: OSError | ValueError) -> None:
        if not isinstance(error, BrokenPipeError):  # whoever listened has heard enough
            cls.words = getattr(error, "strerror", None) or str(error)
        with suppress(OSError, ValueError):  # what is still buffered would fail at the end
            sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115


def say(*words: object, **how: Any) -> None:
    """`print`, of words that may have come from anywhere, to a place that may be full or closed."""
    plain = [for_terminal(str(one)) for one in words]
    if how.get("file") is sys.stderr:
        with suppress(OSError, ValueError):
            print(*plain, **how)
        return
    try:
        print(*plain, **{"flush": True, **how})
    except (OSError, ValueError) as error:
        _Unheard.note(error)


def unheard() -> str:
    """Why something could not be printed since it was last asked; empty where all was."""
    words, _Unheard.words = _Unheard.words, ""
    return words


class Terminal(Console):
    """A console that prints texts as they are: no cell of a table can reach the terminal."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for one in super().render(renderable, options):
            yield one if one.control else one._replace(text=for_terminal(one.text))

    def print(self, *objects: Any, **how: Any) -> None:
        """As `Console.print`, to a place that may be full or closed."""
        try:
            super().print(*objects, **how)
            self.file.flush()
        except (OSError, ValueError) as error:
            _Unheard.note(error)
