"""What of a run may change when it goes on: how long it trains, what it keeps, shows and measures, and where the same
data now lie. How it trains may change, too, where a user says so: such a run is no longer the same as one that was not
stopped, and history.jsonl says since when. Whatever else differs from what a checkpoint was trained as is refused.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from unsteep.storage import config
from unsteep.training.log import lines_of

RESUMABLE = (
    "steps",
    "preview_every",
    "checkpoint_every",
    "keep",
    "evaluate_every",
    "evaluate_count",
    "log",
    "cures",
    "report",
)
HOW = (
    *("learning_rate", "final_learning_rate", "warmup", "weight_decay", "clip", "ema"),
    *("batch", "accumulate", "precision", "checkpointing", "compile"),
)
HISTORY = "history.jsonl"
MOVED = ("path", "aligned")  # of data, which may lie elsewhere: their digest is compared


def changed(run: Any, settings: Iterable[str]) -> Any:
    """`run` with settings that leave its data, model and objective the same; ValueError for others. More steps also
    stretch the annealing of the learning rate, where it anneals."""
    settings = list(settings)
    asked = config.override(run, settings)
    for name in ("precision", "compile"):
        if getattr(asked.train, name) == "auto":  # what was taken stays
            asked = replace(asked, train=replace(asked.train, **{name: getattr(run.train, name)}))
    allowed = {name: getattr(asked.train, name) for name in (*RESUMABLE, *HOW)}
    same = replace(run, train=replace(run.train, **allowed))
    for name in MOVED:
        if hasattr(run.data, name) and hasattr(asked.data, name):
            same = replace(same, data=replace(same.data, **{name: getattr(asked.data, name)}))
    if asked != same:
        names = ", ".join(f"train.{name}" for name in (*RESUMABLE, *HOW))
        raise ValueError(f"resume: only {names} and where the data lie may change; start another run for anything else")
    return asked


def differences(before: Any, after: Any) -> dict[str, tuple[Any, Any]]:
    """Of two configurations, what differs: (before, after) by dotted key."""
    one, other = (dict(_flat(config.to_dict(run))) for run in (before, after))
    keys = [*one, *(key for key in other if key not in one)]
    return {key: (one.get(key), other.get(key)) for key in keys if one.get(key) != other.get(key)}


def _flat(table: Mapping[str, Any], start: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{start}{key}.")
        else:
            yield start + key, value


def how(changes: Mapping[str, Any]) -> list[str]:
    """Those of the changed keys that make a run another one than if it had not been stopped."""
    return [key for key in changes if key.removeprefix("train.") in HOW]


def remember(out: Path, step: int, changes: Mapping[str, tuple[Any, Any]], why: str) -> None:
    """Notes in the run's history what was changed at a step, and why."""
    lines = [
        {"step": step, "at": round(time.time()), "key": key, "from": before, "to": after, "why": why}
        for key, (before, after) in changes.items()
    ]
    with (out / HISTORY).open("a", encoding="utf-8") as file:
        file.write("".join(json.dumps(line) + "\n" for line in lines))


def history(out: Path) -> list[dict[str, Any]]:
    """What was changed, in order."""
    return [record for _, record in lines_of(out / HISTORY)]


def check_as_trained(out: Path, trained: Any, run: Any) -> None:
    """ValueError where run.toml says something else than the checkpoint was trained as, and nobody changed it by way of
    the run."""
    known = {(line["key"], json.dumps(line["to"])) for line in history(out) if "key" in line}
    for key, (before, after) in differences(trained, run).items():
        if key in free() or (key, json.dumps(after)) in known:
            continue
        says = f"resume: {out / 'run.toml'} says {key} = {said(after)}, and the run was trained with {said(before)}"
        if key.removeprefix("train.") in HOW:
            raise ValueError(f"{says}; put it back, or say it: {key}={said(after)} among the settings")
        raise ValueError(f"{says}; put it back, or start another run")


def free() -> set[str]:
    """The keys that may be edited in a run.toml: none of them decides what is learned, but for how long, from where."""
    return {f"train.{name}" for name in RESUMABLE} | {f"data.{name}" for name in MOVED} | {"start_from"}


def said(value: Any) -> str:
    """A value of a configuration, as it is typed."""
    return "nothing" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def holding(source: Any, data: Any) -> Any:
    """A source that was given its data from Python, given them again."""
    if not hasattr(source, "holding"):
        raise ValueError("data: this run reads its data from where its run.toml says; leave data out")
    return source.holding(data)
