"""What was seen where a training diverged, and what was done: diagnosis.json in the run's folder, and on its page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from unsteep.pages.files import write_json
from unsteep.storage.foreign import Unreadable, json_of
from unsteep.training.loop import Diverged

FILE = "diagnosis.json"


def add(out: Path, diverged: Diverged, step: int, cause: str, done: str) -> None:
    """Notes one more."""
    about = {"step": step, "what": str(diverged), "likely cause": cause, "done": done, **diverged.details}
    write_json({"diverged": [*read(out), about]}, out / FILE)


def read(out: Path) -> list[dict[str, Any]]:
    """What was noted; nothing where there is nothing, or it cannot be read."""
    try:
        found = json_of(out / FILE)["diverged"] if (out / FILE).exists() else []
        return [one for one in found if isinstance(one, dict)]
    except (Unreadable, KeyError, TypeError):
        return []


def rows(of: dict[str, Any]) -> list[tuple[str, str]]:
    """(name, text) of one."""
    shown = {name: ", ".join(f"{k}: {v}" for k, v in value.items()) if isinstance(value, dict) else value
             for name, value in of.items()}  # fmt: skip
    return [(name, "; ".join(map(str, value)) if isinstance(value, list) else str(value))
            for name, value in shown.items() if value or value == 0]  # fmt: skip
