"""A study: cells that differ in one choice, each measured alike, and a page that says what follows.

    study.json                 what was asked
    cells/NAME/result.json     the numbers of a cell, what it cost; beside it samples.npz and, if it trains, its run/
    cells/NAME/seconds.json    what it cost so far, over all calls
    index.html  results.json   the page, and all numbers

What is done stays: the same call goes on where it was interrupted, and one that only measures otherwise trains nothing
anew. Two cells are told apart where their 95% intervals
do not overlap; where the study repeats a cell with another seed, the difference between the two is shown as the scale
of what chance alone does.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from unsteep.data.choosing import shorten
from unsteep.evaluation.page import shown
from unsteep.evaluation.protocol import Fact
from unsteep.metrics.interval import Interval
from unsteep.metrics.measures import BETTER
from unsteep.model.finite import NotFinite
from unsteep.pages import pictures
from unsteep.pages.arrays import read_samples, write_samples
from unsteep.pages.files import IN_THE_MAKING, swept, write_json
from unsteep.pages.ours import STUDY, check_folder
from unsteep.storage.foreign import json_of, plain, reading
from unsteep.storage.lock import LOCK, FolderLock
from unsteep.training.loop import Diverged

NAMED = 5  # cells that are told by name where many are too close to tell
Values = dict[str, Interval]


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a cell came to: its `values` by metric; its first samples, uint8 (k, c, h, w) or vectors (k, d), and their
    `labels`; `facts` in numbers, and the `protocol` of its values. `run` adds the `seconds` that it took, and where it
    `diverged`, which leaves no values."""

    values: Values
    samples: np.ndarray | None
    facts: Mapping[str, float] = field(default_factory=dict)
    protocol: Mapping[str, Fact] = field(default_factory=dict)
    seconds: float = 0.0
    labels: np.ndarray | None = None
    diverged: str = ""


@dataclass(frozen=True, eq=False)
class Cell:
    """One choice: `do(folder)` measures it, or gives None if it was interrupted. What it leaves in `folder`, as a run,
    it finds there when it is measured anew."""

    name: str
    says: str
    do: Callable[[Path], Outcome | None]
    axes: Mapping[str, float] = field(default_factory=dict)
    """Where it lies in the plots: by name, as calls or width."""


@dataclass(frozen=True, eq=False)
class Plot:
    """A line for each group of cells: `x` an axis or a fact, `y` a metric, `by` the part of the names that groups."""

    x: str
    y: str
    title: str
    xlog: bool = False
    ylog: bool = False


@dataclass(frozen=True, eq=False)
class Study:
    """`question`; `cells`; `asked`: what decides their numbers, as JSON; `metrics`: the columns, those that matter most
    first; `facts`: how all was measured, for the page; `page(study, done, out, command)` writes it; `protocol`: what
    may change without a new study, cells of another one are measured anew; `repeat`: two that differ in the seed alone.
    """

    name: str
    question: str
    cells: Sequence[Cell]
    asked: Mapping[str, Any]
    metrics: Sequence[str]
    facts: Sequence[tuple[str, str]]
    page: Callable[[Study, Mapping[str, Outcome], Path, str], object]
    protocol: Mapping[str, Fact] = field(default_factory=dict)
    plots: Sequence[Plot] = ()
    tables: Sequence[tuple[str, str, Sequence[str], Sequence[Sequence[str]]]] = ()
    """Others for the page, each with title, words, header and rows."""
    floors: Values = field(default_factory=dict)
    repeat: tuple[str, str] | None = None
    group: Callable[[str], str] = lambda name: name
    """Which line of the plots a cell belongs to."""
    best_of: Callable[[Cell], str] | None = None
    """Within what the best is named, as each number of calls; None: over all cells."""


def run(
    study: Study,
    out: Path,
    *,
    only: Sequence[str] | None = None,
    command: str = "",
    force: bool = False,
    say: Callable[[str], None] = print,
) -> dict[str, Outcome] | None:
    """Measures what is not there yet in `out`, of the cells named in `only`, and writes the page of all that is there.
    None if it was interrupted: the same call goes on.

    ValueError, before any work, where `out` holds something else.
    """
    check_folder(out)
    try:
        json.dumps(dict(study.asked), allow_nan=False)
    except ValueError:
        raise ValueError(f"study {study.name}: expected finite numbers, got {dict(study.asked)}; give others") from None
    chosen = [cell for cell in study.cells if only is None or cell.name in only]
    with FolderLock(out):
        _check(study, out, force)
        if force:
            _empty(out)
        for folder in (out, *(out / "cells" / cell.name for cell in study.cells)):
            swept(folder)
        write_json({"study": study.name, "asked": dict(study.asked)}, out / STUDY)
        say(study.question)
        found = {cell.name: read(out / "cells" / cell.name, study.protocol) for cell in study.cells}
        for i, cell in enumerate(chosen, 1):
            outcome = found[cell.name] or _measured(study, cell, out / "cells" / cell.name)
            if outcome is None:
                say("stopped and saved; the same command goes on")
                break
            found[cell.name] = outcome
            numbers = [f"{name} {shown(outcome.values[name])}" for name in study.metrics if name in outcome.values]
            words = ", ".join(numbers[:2]) or f"diverged, {outcome.diverged}"
            say(f"{i:>3} of {len(chosen)}  {cell.name:<24} {words}  {outcome.seconds:.0f} s")
        done = {name: outcome for name, outcome in found.items() if outcome is not None}
        if done:
            study.page(study, done, out, command)
    return done if all(cell.name in done for cell in chosen) else None


def _measured(study: Study, cell: Cell, folder: Path) -> Outcome | None:
    """What a cell came to, written there; its seconds are those of this call and of all before it."""
    spent = folder / "seconds.json"
    with reading(spent, "the seconds that a cell took", "remove it"):
        seconds = float(json.loads(plain(spent).read_bytes())["seconds"]) if spent.exists() else 0.0
    began = time.monotonic()
    try:
        outcome = cell.do(folder)
    except (Diverged, NotFinite) as error:  # the answer of this cell
        outcome = Outcome({}, None, diverged=str(error).split(";")[0])
    finally:
        seconds += time.monotonic() - began
        folder.mkdir(parents=True, exist_ok=True)
        write_json({"seconds": seconds}, spent)
    if outcome is not None:
        outcome = replace(outcome, seconds=seconds, protocol={**outcome.protocol, **study.protocol})
        _write(outcome, folder)
    return outcome


def _check(study: Study, out: Path, force: bool) -> None:
    if all(path.name == LOCK or IN_THE_MAKING.fullmatch(path.name) for path in out.iterdir()):
        return
    path = out / STUDY
    if not path.exists():
        raise ValueError(f"out: {out} exists and is not a study; choose another")
    stored = json_of(path, "the settings of a study", "start anew with force=True")
    asked = json.loads(json.dumps(dict(study.asked)))
    if not force and stored != {"study": study.name, "asked": asked}:
        raise ValueError(
            f"out: {out} holds a study with other settings; repeat its command, choose another, or start anew with "
            "force=True"
        )


def _empty(out: Path) -> None:
    """Removes all of a study but its lock; last what says that it is one, lest what is left is nobody's."""
    for path in sorted(out.iterdir(), key=lambda path: path.name == STUDY):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != LOCK:
            path.unlink()


def _write(outcome: Outcome, folder: Path) -> None:
    (folder / "samples.npz").unlink(missing_ok=True)
    if outcome.samples is not None:
        write_samples(folder / "samples.npz", outcome.samples, outcome.labels)
    write_json(numbers(outcome), folder / "result.json")


def numbers(outcome: Outcome) -> dict[str, Any]:
    """All but the samples, as JSON."""
    values = {name: asdict(value) for name, value in outcome.values.items()}
    rest = {"facts": dict(outcome.facts), "protocol": dict(outcome.protocol), "seconds": outcome.seconds}
    return {"values": values, **rest, "diverged": outcome.diverged}


def read(folder: Path, protocol: Mapping[str, Fact] | None = None) -> Outcome | None:
    """The outcome in a cell's folder, if it has one, of that protocol."""
    if not (folder / "result.json").exists():
        return None
    with reading(folder, "the result of a cell in result.json and samples.npz", "remove the folder and go on"):
        stored = json.loads(plain(folder / "result.json").read_bytes())
        if not (protocol or {}).items() <= stored["protocol"].items():
            return None
        there = folder / "samples.npz"
        samples, labels = read_samples(there) if there.exists() else (None, None)
        stored["values"] = {name: Interval(**value) for name, value in stored["values"].items()}
        return Outcome(samples=samples, labels=labels, **stored)


def conclusions(study: Study, done: Mapping[str, Outcome]) -> list[str]:
    """For each metric, which cell is best, and which are too close to it to tell."""
    found = []
    groups: dict[str, list[str]] = {}
    for cell in study.cells:
        if cell.name in done:
            groups.setdefault(study.best_of(cell) if study.best_of else "", []).append(cell.name)
    for metric in study.metrics:
        better = BETTER.get(metric, "")
        if not better:
            continue
        for group, names in groups.items():
            known = {name: done[name].values[metric] for name in names if metric in done[name].values}
            if len(known) > 1:
                found.append(_best(metric, group, known, better))
    if study.repeat is not None and all(name in done for name in study.repeat):
        found.append(_chance(study, done))
    return found


def _best(metric: str, group: str, known: Mapping[str, Interval], better: str) -> str:
    names = sorted(known, key=lambda name: known[name].value, reverse=better == "higher")
    first, rest = names[0], names[1:]
    close = [name for name in rest if known[first].below(known[name]) is None]
    words = f"{metric}{f' at {group}' if group else ''}: {first} is best, {shown(known[first])}"
    if not close:
        return f"{words}, and all others are worse by more than the error."
    if len(close) == len(rest):
        return f"{words}, and no other can be told from it."
    return f"{words}; too close to tell: {shorten(close, NAMED)}."


def _chance(study: Study, done: Mapping[str, Outcome]) -> str:
    assert study.repeat is not None
    a, b = study.repeat
    parts = [
        f"{metric} by {abs(done[a].values[metric].value - done[b].values[metric].value):.3g}"
        for metric in study.metrics
        if metric in done[a].values and metric in done[b].values
    ]
    if not parts:
        return f"{a} and {b} differ in the seed alone, and of one of them training diverged."
    return f"Another seed of training alone ({a} and {b}) changes {', '.join(parts)}: smaller differences say little."


def strip(rows: Mapping[str, np.ndarray], path: Path, columns: int = 12) -> Path:
    """The first samples of every cell, one row each."""
    sheet = pictures.strip(np.stack([row[:columns] for row in rows.values()]), row_labels=list(rows))
    pictures.save(sheet, path)
    return path
