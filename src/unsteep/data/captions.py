"""Pictures with captions, in a folder or in archives (see `places`), written in one of three ways.

    beside each picture     cat.png with cat.txt, at any depth, or cat.json with a "caption"
    a CSV or TSV            a header, then one row a picture: file,caption
    JSON lines              one object a line: {"file": "cat.png", "caption": "a sleeping cat"}

Files are named from the folder on, with forward slashes, and only pictures inside it are read. "file_name" or "image"
may stand for "file", and "text" for "caption", in capitals, too; a CSV may have semicolons between its fields, and in a
TSV a quote is a quote, but around a whole field. Of several captions for one picture, the first is taken, and what is
left is counted.
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np

from unsteep.core.protocols import Split
from unsteep.data.archives import TABLES
from unsteep.data.choosing import choose, shorten
from unsteep.data.decoding import Bad, chosen_of, decode
from unsteep.data.examples import Examples
from unsteep.data.folder import Folder, gathered
from unsteep.data.pictures import Crop
from unsteep.data.places import SEVERAL, Places, places, together
from unsteep.data.searching import settled
from unsteep.data.stored import StoredPictures
from unsteep.data.tables import lowered, table_rows, tidy
from unsteep.storage.foreign import why

BESIDE = (".txt", ".json")
FILE_KEYS = ("file", "file_name", "image")
TEXT_KEYS = ("caption", "text")
LAYOUTS = 'a.png with a.txt, a CSV or TSV with the columns "file" and "caption", or JSON lines with these keys'


@dataclass(frozen=True, kw_only=True)
class Captions:
    """The pictures of a folder that have captions.

    path: the folder or the archives, or the table in the folder, where it has several;
    size: both sides of what is read; height, width: where they differ, else 0; crop: "center" cuts the largest
    centred part, "stretch" squeezes; channels: 1 grey, 3 colour; limit: keep the first so many, in order of path;
    holdout: the fraction kept for testing; max_bad: the fraction that is tolerated of pictures without a caption,
    of captions without a picture, and of pictures that cannot be read.
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

    def read(self, split: Split = "train") -> Examples | StoredPictures:
        """uint8 (n, channels, size, size) with captions. ValueError for a folder, table or captions that will not do.

        What is left out is named in `skipped`.
        """
        path = Path(self.path).expanduser()
        is_table = path.is_file() and path.suffix.lower() in TABLES
        there = places(path.parent if is_table else path)
        table = path.name if is_table else _table(there)
        captions, skipped, lone, more = _beside(there) if table is None else _read_table(there, table)
        if not captions and not lone:
            first = f", got {skipped[0][1]}" if skipped else ""
            raise ValueError(f"{there.where}: no picture has a caption: expected {LAYOUTS}{first}")
        explained = {name for name, _ in skipped}
        bare = [
            (name, "no caption") for i, name in enumerate(there.names) if i not in captions and name not in explained
        ]
        self._tolerate(there.where, "captions name no picture here", lone, len(captions) + len(lone))
        self._tolerate(there.where, "pictures have no caption", [*skipped, *bare], len(there.names))

        folder = Folder(path=self.path, size=self.size, height=self.height, width=self.width, crop=self.crop)
        form = replace(folder.form, channels=self.channels)
        paired = np.array(sorted(captions), np.int64)
        chosen = choose(len(paired), source=there.where, split=split, holdout=self.holdout)
        at = paired[chosen.index]
        found = decode(there, at, form, limit=self.limit, max_bad=self.max_bad)
        at = at[found.kept]
        told = {
            "files": chosen_of(there.names, at),
            "skipped": (*skipped, *bare, *lone, *found.bad),
            "source": f"{there.where}, captions from {table or 'texts beside the pictures'}"
            + (f", the first of each picture ({more:,} more left out)" if more else "")
            + "".join(f", {words}" for words in found.words),
            "captions": tuple(captions[i] for i in at.tolist()),
        }
        return gathered(found.x, None, found, told)

    def _tolerate(self, where: str, what: str, bad: Bad, count: int) -> None:
        if len(bad) > self.max_bad * count:
            names = shorten([file for file, _ in bad], 3)
            raise ValueError(
                f"{where}: {len(bad)} of {count} {what} ({names}): add what is missing, or raise data.max_bad"
            )


def _table(there: Places) -> str | None:
    """The one table at the top; None without."""
    found = there.tables()
    if len(found) > 1:
        raise ValueError(
            f"{there.where} holds several tables ({', '.join(found)}): give the one with the captions as data.path"
        )
    return found[0] if found else None


def _beside(there: Places) -> tuple[dict[int, str], Bad, Bad, int]:
    """The caption of each picture by its position: the first line with words of the text beside it, or the caption in
    the JSON there; which are no good; and how many more there are."""
    captions: dict[int, str] = {}
    bad: Bad = []
    more = 0
    for suffix in BESIDE:
        explained = {name for name, _ in bad}
        for i, (name, content) in enumerate(zip(there.names, there.texts(suffix), strict=True)):
            if content is None or i in captions or name in explained:
                continue
            called = f"{PurePosixPath(name).stem}{suffix}"
            try:
                words = _words(content.decode("utf-8-sig"), suffix)
            except Exception as error:  # json's of any kind
                bad.append((name, f"{called}: {_why(error)}"))
                continue
            if words:
                captions[i] = words[0]
                more += len(words) - 1
            else:
                bad.append((name, f"{called} is empty"))
    return captions, bad, [], more


def _words(text: str, suffix: str) -> list[str]:
    """The captions in what lies beside a picture."""
    if suffix == ".txt":
        return [line for line in map(tidy, text.splitlines()) if line]
    row = lowered(json.loads(text))
    found = [row[key] for key in TEXT_KEYS if isinstance(row.get(key), str)]
    return [words for words in map(tidy, found[:1]) if words]


def _read_table(there: Places, name: str) -> tuple[dict[int, str], Bad, Bad, int]:
    """The first caption of each picture, by its position; the files whose caption is empty, and those that are not
    there; and how many more captions there are."""
    captions: dict[str, str] = {}
    empty: dict[str, str] = {}
    more = 0
    called = f"{there.where}/{name}"
    try:
        for number, row in table_rows(there.read(name), Path(name).suffix.lower()):
            file, caption = (
                next((row[key] for key in keys if isinstance(row.get(key), str)), None)
                for keys in (FILE_KEYS, TEXT_KEYS)
            )
            if file is None or caption is None:
                raise ValueError(f'line {number} lacks "file" or "caption" as text; it has {", ".join(row)}')
            plain = PurePosixPath(file.strip().replace("\\", "/")).as_posix()
            if words := tidy(caption):
                more += plain in captions
                captions.setdefault(plain, words)
            else:
                empty[plain] = "empty caption"
    except Exception as error:  # csv and json each have their own
        raise ValueError(f"{called}: expected {LAYOUTS}; {_why(error)}") from error
    known = together(map(settled, there.names))
    found: dict[int, str] = {}
    lone: Bad = []
    for file, words in captions.items():
        at = known.get(settled(file))
        if at is None:
            lone.append((file, "caption without a picture"))
        elif at == SEVERAL:
            lone.append((file, "caption of several pictures of one name"))
        else:
            more += at in found
            found.setdefault(at, words)
    return found, [(file, why) for file, why in empty.items() if file not in captions], lone, more


def _why(error: Exception) -> str:
    return "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else why(error)
