"""The log of a run as a table, log.csv: a row a step, for spreadsheets and data frames.

It has what log.jsonl has, and the speed of each step. Opened to go on, it is written anew: of the steps that log.jsonl
knows, with the speeds that stood there, and as they stood where log.jsonl lost them.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unsteep.pages.files import replacing
from unsteep.training.log import LOGGED, read_log
from unsteep.training.measuring import KEYS

FILE = "log.csv"
SPEED = "images_per_second"
COLUMNS = (*LOGGED, SPEED, *KEYS)


class CsvLog:
    """Appends to log.csv."""

    def __init__(self, out: Path, step: int) -> None:
        path, rows = out / FILE, dict[int, dict[str, Any]]()
        if path.exists():
            with path.open(encoding="utf-8", newline="", errors="replace") as file:
                table = csv.DictReader(line.replace("\0", "") for line in file)
                rows = {int(row["step"]): dict(row) for row in table if (row.get("step") or "").isdecimal()}
        for record in read_log(out / "log.jsonl"):
            rows[record["step"]] = {SPEED: rows.get(record["step"], {}).get(SPEED, ""), **record}
        self._row: dict[str, Any] = {"step": 0}
        self._at = 0  # where the newest row begins
        with replacing(path) as beside, beside.open("w", encoding="utf-8", newline="") as self._file:
            csv.DictWriter(self._file, COLUMNS).writeheader()
            for known in sorted(rows):
                if known <= step:
                    self.write(known, rows[known])
        self._file = path.open("a", encoding="utf-8", newline="")

    def write(self, step: int, values: Mapping[str, Any]) -> None:
        """A row, at the operating system at once; of the step that was written last, the same row with more."""
        if self._row["step"] == step:
            self._file.truncate(self._at)
            self._file.seek(self._at)
        else:
            self._row, self._at = {"step": step}, self._file.tell()
        self._row |= {name: _cell(value) for name, value in values.items() if name in COLUMNS}
        csv.DictWriter(self._file, COLUMNS).writerow(self._row)
        self._file.flush()

    def picture(self, step: int, path: Path) -> None:
        """A table has none."""

    def close(self) -> None:
        self._file.close()


def _cell(value: Any) -> Any:
    """As a table has it: the terms of a loss as JSON."""
    return json.dumps(value) if isinstance(value, Mapping) else value
