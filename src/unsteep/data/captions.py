"""A folder of pictures with captions, written in one of three ways.

    beside each picture     cat.png with cat.txt, at any depth
    a CSV                   a header, then one row a picture: file,caption
    JSON lines              one object a line: {"file": "cat.png", "caption": "a sleeping cat"}

Files are named from the folder on, with forward slashes, and only pictures inside it are read. "file_name" or "image"
may stand for "file", and "text" for "caption". Of several captions for one picture, the first is taken.
"""

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

import torch

from unsteep.core.protocols import Split
from unsteep.data.choosing import choose, shorten
from unsteep.data.examples import Examples
from unsteep.data.folder import Folder, picture_files
from unsteep.data.pictures import Crop

TABLES = (".csv", ".jsonl")
FILE_KEYS = ("file", "file_name", "image")
TEXT_KEYS = ("caption", "text")
LAYOUTS = 'a.png with a.txt, a CSV with the columns "file" and "caption", or JSON lines with these keys'

Bad = list[tuple[str, str]]


@dataclass(frozen=True, kw_only=True)
class Captions:
    """The pictures of a folder that have captions.

    path: the folder, or the CSV or JSONL file in it, where it has several; size: both sides of what is read; height,
    width: where they differ, else 0; crop: "center" cuts the largest centred part, "stretch" squeezes; channels: 1
    grey, 3
    colour; limit: keep the first so many, in order of path; holdout: the fraction kept for testing; max_bad: the
    fraction that is tolerated of pictures without a caption, of captions without a picture, and of pictures that
    cannot be read.
    """

    path: str
    size: int = 64
    height: int = 0
    width: int = 0
    crop: Crop = "center"
    channels: Literal[1, 3] = 3
    limit: int = 0
    holdout: float = 0.0
    max_bad: float = 0.1

    def read(self, split: Split = "train") -> Examples:
        """uint8 (n, channels, size, size) with captions. ValueError for a folder, table or captions that will not do.

        What is left out is named in `skipped`.
        """
        path = Path(self.path).expanduser()
        is_table = path.is_file() and path.suffix.lower() in TABLES
        root = path.parent if is_table else path
        files = picture_files(root)
        table = path if is_table else _table(root)
        captions, skipped = _beside(root, files) if table is None else _read_table(table)
        if not captions:
            raise ValueError(f"{root}: no picture has a caption: expected {LAYOUTS}")
        known, explained = set(files), {file for file, _ in skipped}
        lone = [(file, "caption without a picture") for file in captions if file not in known]
        bare = [(file, "no caption") for file in files if file not in captions and file not in explained]
        self._tolerate(root, "captions name no picture here", lone, len(captions))
        self._tolerate(root, "pictures have no caption", [*skipped, *bare], len(files))
        paired = [file for file in files if file in captions]

        folder = Folder(
            path=str(root),
            size=self.size,
            height=self.height,
            width=self.width,
            crop=self.crop,
            channels=self.channels,
            limit=self.limit,
            max_bad=self.max_bad,
        )
        chosen = choose(len(paired), source=str(root), split=split, holdout=self.holdout)
        x, kept, bad = folder.decode(root, [paired[i] for i in chosen.index])
        names = tuple(paired[i] for i in chosen.index[kept])
        return Examples(
            torch.from_numpy(x),
            files=names,
            skipped=(*skipped, *bare, *lone, *bad),
            source=f"{root}, captions from {table.name if table else 'text files'}",
            captions=tuple(captions[name] for name in names),
        )

    def _tolerate(self, root: Path, what: str, bad: Bad, count: int) -> None:
        if len(bad) > self.max_bad * count:
            names = shorten([file for file, _ in bad], 3)
            raise ValueError(
                f"{root}: {len(bad)} of {count} {what} ({names}): add what is missing, or raise data.max_bad"
            )


def _table(root: Path) -> Path | None:
    """The one CSV or JSONL file at the top of a folder; None without."""
    found = sorted(file for file in root.iterdir() if file.suffix.lower() in TABLES and not file.name.startswith("."))
    if len(found) > 1:
        names = ", ".join(file.name for file in found)
        raise ValueError(f"{root} holds several tables ({names}): give the one with the captions as data.path")
    return found[0] if found else None


def _beside(root: Path, files: list[str]) -> tuple[dict[str, str], Bad]:
    """The caption of each picture: the first line with words of the text file beside it; and which are no good."""
    captions: dict[str, str] = {}
    bad: Bad = []
    for file in files:
        beside = (root / file).with_suffix(".txt")
        if not beside.is_file():
            continue
        try:
            text = beside.read_text(encoding="utf-8-sig")
        except (UnicodeDecodeError, OSError) as error:
            bad.append((file, f"{beside.name}: {_why(error)}"))
            continue
        words = next((line for line in map(_tidy, text.splitlines()) if line), "")
        if words:
            captions[file] = words
        else:
            bad.append((file, f"{beside.name} is empty"))
    return captions, bad


def _read_table(table: Path) -> tuple[dict[str, str], Bad]:
    """The first caption of each file in a CSV or JSONL file, and the files whose caption is empty."""
    captions: dict[str, str] = {}
    empty: dict[str, str] = {}
    try:
        with table.open(encoding="utf-8-sig", newline="") as lines:
            rows = _csv(lines) if table.suffix.lower() == ".csv" else _jsonl(lines)
            for number, row in rows:
                file, caption = (
                    next((row[key] for key in keys if isinstance(row.get(key), str)), None)
                    for keys in (FILE_KEYS, TEXT_KEYS)
                )
                if file is None or caption is None:
                    raise ValueError(f'line {number} lacks "file" or "caption" as text; it has {", ".join(row)}')
                name = PurePosixPath(file.strip().replace("\\", "/")).as_posix()
                if words := _tidy(caption):
                    captions.setdefault(name, words)
                else:
                    empty[name] = "empty caption"
    except (ValueError, csv.Error, OSError) as error:  # a UnicodeDecodeError is a ValueError
        raise ValueError(f"{table}: expected {LAYOUTS}; {_why(error)}") from error
    return captions, [(file, why) for file, why in empty.items() if file not in captions]


def _csv(lines: Iterator[str]) -> Iterator[tuple[int, dict]]:
    """(line, row) of each row of a CSV with a header."""
    reader = csv.DictReader(lines, restval="", restkey="")
    for row in reader:
        if more := row.get(""):
            raise ValueError(
                f"line {reader.line_num} has {len(row) - 1 + len(more)} fields, its header {len(row) - 1}; put a text "
                'with commas in quotes, "like, this"'
            )
        yield reader.line_num, row


def _jsonl(lines: Iterator[str]) -> Iterator[tuple[int, dict]]:
    """(line, object) of each line that is not empty."""
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise ValueError(f"line {number} is not JSON ({error})") from error
        if not isinstance(row, dict):
            raise ValueError(f"line {number} is not an object")
        yield number, row


def _tidy(caption: str) -> str:
    return " ".join(caption.split())


def _why(error: Exception) -> str:
    return "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)
