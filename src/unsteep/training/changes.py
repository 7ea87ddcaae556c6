"""What of a run may change when it goes on: how long it trains, what it keeps, shows and measures, and where the same
data now lie."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from unsteep.storage import config

RESUMABLE = ("steps", "preview_every", "checkpoint_every", "keep", "evaluate_every", "evaluate_count", "log")
MOVED = ("path", "aligned")  # of data, which may lie elsewhere: their digest is compared


def changed(run: Any, settings: Iterable[str]) -> Any:
    """`run` with settings that leave its data, model and objective the same; ValueError for others. More steps also
    stretch the annealing of the learning rate, where it anneals."""
    asked = config.override(run, settings)
    if asked.train.precision == "auto":  # what was taken stays
        asked = replace(asked, train=replace(asked.train, precision=run.train.precision))
    allowed = {name: getattr(asked.train, name) for name in RESUMABLE}
    same = replace(run, train=replace(run.train, **allowed))
    for name in MOVED:
        if hasattr(run.data, name) and hasattr(asked.data, name):
            same = replace(same, data=replace(same.data, **{name: getattr(asked.data, name)}))
    if asked != same:
        names = ", ".join(f"train.{name}" for name in RESUMABLE)
        raise ValueError(f"resume: only {names} and where the data lie may change; start another run for anything else")
    return asked


def holding(source: Any, data: Any) -> Any:
    """A source that was given its data from Python, given them again."""
    if not hasattr(source, "holding"):
        raise ValueError("data: this run reads its data from where its run.toml says; leave data out")
    return source.holding(data)
