"""Tables of texts: a CSV or TSV with a header, or JSON lines, row by row; names of columns are in small letters."""

import csv
import io
import json
from collections.abc import Iterable, Iterator
from typing import Any

MORE = "\0more"  # under which fields without a header come


def csv_rows(lines: io.StringIO, suffix: str) -> Iterator[tuple[int, dict]]:
    """(line, row) of each row of a CSV or TSV with a header, whose names are taken in small letters. ValueError for a
    row with more fields than the header."""
    header = lines.readline()
    lines.seek(0)
    between = "\t" if suffix == ".tsv" else ";" if ";" in header and "," not in header else ","
    reader = csv.DictReader(lines, restval="", restkey=MORE, delimiter=between, strict=True)
    reader.fieldnames = [name.strip().lower() for name in reader.fieldnames or ()]
    for row in reader:
        if more := row.get(MORE):
            raise ValueError(
                f"line {reader.line_num} has {len(row) - 1 + len(more)} fields, its header {len(row) - 1}; put a text "
                'with commas in quotes, "like, this"'
            )
        yield reader.line_num, row


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
