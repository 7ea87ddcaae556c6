"""Tables of texts: a CSV or TSV with a header, or JSON lines, row by row; names of columns are in small letters."""

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

QUOTED = re.compile(r'^"((?:[^"]|"")*)"$')
COMMAS = 'put a text with commas in quotes, "like, this"'


def csv_rows(lines: io.StringIO, suffix: str) -> Iterator[tuple[int, dict]]:
    """(line, row) of each row of a CSV or TSV with a header, whose names are taken in small letters. ValueError for a
    row with another number of fields than the header."""
    header = lines.readline()
    lines.seek(0)
    between = ";" if ";" in header and "," not in header else ","
    rows = _tabbed(lines) if suffix == ".tsv" else _quoted(lines, between)
    names = [name.strip().lower() for name in next(rows, (1, []))[1]]
    for number, row in rows:
        if row and len(row) != len(names):
            advice = "leave tabs and ends of lines out of texts" if suffix == ".tsv" else COMMAS
            raise ValueError(f"line {number} has {len(row)} fields, its header {len(names)}; {advice}")
        if row:
            yield number, dict(zip(names, row, strict=True))


def _quoted(lines: io.StringIO, between: str) -> Iterator[tuple[int, list[str]]]:
    """(line where it begins, fields) of each row of a CSV."""
    reader = csv.reader(lines, delimiter=between, strict=True)
    begins = 1
    try:
        for row in reader:
            yield begins, row
            begins = reader.line_num + 1
    except csv.Error as error:
        raise ValueError(f"line {begins}: {error}; double the quotes inside a text that is in quotes") from None


def _tabbed(lines: Iterable[str]) -> Iterator[tuple[int, list[str]]]:
    """(line, fields) of each line of a TSV, in which a quote is a quote, but around a whole field."""
    for number, line in enumerate(lines, start=1):
        fields = line.rstrip("\r\n").split("\t") if line.strip() else []
        yield number, [QUOTED.sub(lambda found: found[1].replace('""', '"'), field) for field in fields]


def jsonl_rows(lines: Iterable[str]) -> Iterator[tuple[int, dict]]:
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
        yield number, lowered(row)


def table_rows(content: bytes, suffix: str) -> Iterator[tuple[int, dict]]:
    """(line, row) of a table, by its suffix: .jsonl, .tsv, else .csv."""
    lines = io.StringIO(content.decode("utf-8-sig"), newline="")
    yield from jsonl_rows(lines) if suffix == ".jsonl" else csv_rows(lines, suffix)


def lowered(row: object) -> dict[str, Any]:
    """An object of JSON by its keys in small letters; empty for anything else."""
    return {str(key).strip().lower(): value for key, value in row.items()} if isinstance(row, dict) else {}


def tidy(text: str) -> str:
    """A text on one line."""
    return " ".join(text.split())
