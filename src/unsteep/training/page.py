"""The page of a run, made of what lies in its folder: at any time, while it trains, and when it is done.

`about.json` holds what the other files do not say: the machine, the data in words, and what is seen in each picture.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from PIL import Image

from unsteep.core.machine import machine
from unsteep.pages import plots
from unsteep.pages.files import write_json
from unsteep.pages.html import Page
from unsteep.storage.foreign import plain
from unsteep.training import diagnosis
from unsteep.training.changes import history
from unsteep.training.clock import in_words
from unsteep.training.log import Sittings, whole_steps
from unsteep.training.measuring import Measuring, best, measured_in

T = TypeVar("T")

ABOUT = "about.json"
REAL = "real.png"
MOST, WIDEST = 8, 448  # previews in the row, and their width in pixels
ROWS = 25  # of the table of what was measured
SECTIONS = (  # file, heading, text: in the order of the page, where the file is there
    ("named.png", "What it takes pictures for", ""),
    ("forward.png", "Forward process", "Training examples and the same noise, more and more of it."),
    ("reverse.gif", "Reverse process", ""),
    ("estimates.png", "", "The network's estimate of x0 on the way: structure first, detail later."),
)


def begin(out: Path, title: str, rows: Sequence[tuple[str, str]], device: str, batch: int) -> None:
    """Notes what a page will say of a run."""
    here = machine(device)
    about = {
        "title": title,
        "rows": [list(row) for row in rows],
        "device": here.brief,
        "versions": here.versions,
        "batch": batch,
    }
    write_json({**read(out), **about}, out / ABOUT)


def note(out: Path, picture: str, caption: str) -> None:
    """Notes what is seen in a picture of the run's folder."""
    known = read(out)
    write_json({**known, "captions": {**known.get("captions", {}), picture: caption}}, out / ABOUT)


def note_saved(out: Path) -> None:
    """Notes that there has been a checkpoint."""
    if not (known := read(out)).get("saved"):
        write_json({**known, "saved": True}, out / ABOUT)


def note_measuring(out: Path, measuring: Measuring) -> None:
    """Notes what it is that a run measures on its way."""
    floor = measuring.floor
    what = {"what": measuring.about(), "floor": None if floor is None else floor.value}
    write_json({**read(out), "measured": what}, out / ABOUT)


def read(out: Path) -> dict[str, Any]:
    """What was noted; nothing for a run of an older release."""
    try:
        found = json.loads(plain(out / ABOUT).read_text(encoding="utf-8"))
    except Exception:  # whatever a damaged file is
        return {}
    kinds = {
        "title": str,
        "rows": list,
        "device": str,
        "versions": str,
        "batch": int,
        "captions": dict,
        "measured": dict,
    }
    known = found.items() if isinstance(found, dict) else ()
    return {name: value for name, value in known if isinstance(value, kinds.get(name, object))}


def write(out: Path, *, steps: int, finished: bool = False) -> Path:
    """report.html; its path. `steps`: how many the run is to take."""
    about, log, spent = read(out), whole_steps(out / "log.jsonl"), Sittings.spent(out / "times.jsonl")
    captions = about.get("captions", {})
    done = log[-1]["step"] if log else 0
    far = f"{done:,} steps" if finished else f"{done:,} of {steps:,} steps"
    page = Page(about.get("title", f"Run {out.name}"), far)
    previews = sorted((out / "previews").glob("step-*.png"))
    if finished and (out / "samples.png").exists():
        page.section("Samples").figure(out / "samples.png", captions.get("samples.png", ""))
    elif previews and not finished:
        page.section("So far").figure(previews[-1], f"After {_step(previews[-1]):,} steps, averaged weights.")
    elif not finished:
        page.section("So far", "Nothing was drawn yet: the first pictures come after a minute.")
    if (out / REAL).exists():
        page.figure(out / REAL, "Training examples, for comparison.")
    if len(previews) > 1:
        page.section("On the way", "The same seeds, as training went on.")
        page.row([(_small(path), f"step {_step(path):,}") for path in _some(previews, MOST)])
    for name, heading, text in SECTIONS if finished else ():
        if (out / name).exists():
            if heading:
                page.section(heading, captions.get(name, text) if heading != "Forward process" else text)
            page.figure(out / name, "" if heading else captions.get(name, text))
    _quality(page, out, about, log)
    page.section("Training")
    if log:
        plots.loss_curve(
            out / "loss.png",
            [r["step"] for r in log],
            [r["loss"] for r in log],
            learning_rate=[r["learning_rate"] for r in log],
        )
        page.figure(out / "loss.png")
    page.facts(_facts(out, about, log, spent, done, steps))
    _troubles(page, out)
    if finished and (out / "schedule.png").exists():
        page.section("Schedule").figure(out / "schedule.png")
    page.section("Next").code("\n".join(_next(out, finished)))
    if (out / "run.toml").exists():
        page.section("Configuration").code(plain(out / "run.toml").read_text(encoding="utf-8", errors="replace"))
    return page.write(out / "report.html")


def _troubles(page: Page, out: Path) -> None:
    """Where it diverged and what was done, and what was changed on the way."""
    for one in diagnosis.read(out):
        page.section(f"Diverged after {one.get('step', 0)} steps", str(one.get("what", "")))
        page.facts([row for row in diagnosis.rows(one) if row[0] not in ("step", "what")])
    changes = [line for line in history(out) if "key" in line]
    if changes:
        page.section("Changed on the way", "From these steps on it is not the run that its first lines describe.")
        rows = [
            (f"{line['step']:,}", line["key"], str(line.get("from")), str(line.get("to")), str(line.get("why", "")))
            for line in changes
        ]
        page.table(rows, ["step", "what", "from", "to", "why"])


def _quality(page: Page, out: Path, about: dict[str, Any], log: list[dict[str, Any]]) -> None:
    """What was measured on the way, and which checkpoint is the best."""
    values, found = measured_in(log), best(out, measured_in(log))
    if not values:
        return
    what = about.get("measured", {})
    floor = what.get("floor")
    page.section("Quality on the way", f"{what.get('what', 'FID')}; lower is better, intervals are of 95%.")
    columns = [(step, one.value, one.low, one.high) for step, one in sorted(values.items())]
    series: dict[str, Any] = {"samples": tuple(zip(*columns, strict=True))}
    if floor is not None:
        series["floor"] = ((columns[0][0], columns[-1][0]), (floor, floor))
    plots.lines(out / "quality.png", series, xlabel="training step", ylabel="FID", title="FID of samples")
    said = "" if floor is None else f"The floor, {floor:.3g}, is what real pictures get in place of samples."
    page.figure(out / "quality.png", said)
    shown = _some(sorted(values), ROWS)
    if found is not None and found[0] not in shown:
        shown = sorted([*shown, found[0]])
    rows = [(f"{step:,}", str(values[step]), "lowest" if found and found[0] == step else "") for step in shown]
    page.table(rows, ["step", "FID", ""])
    if found is not None:
        page.text(f"The checkpoint of step {found[0]:,} has the lowest FID of those that are kept. To sample it:")
        page.code(f"unsteep sample {shlex.quote(str(found[1]))} -n 64 --out samples.png")


def _facts(
    out: Path,
    about: dict[str, Any],
    log: list[dict[str, Any]],
    spent: tuple[float, float, float] | None,
    done: int,
    steps: int,
) -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    last = [record["loss"] for record in log[-100:]]
    if last:
        rows.append((f"loss, mean of the last {len(last)} steps", f"{sum(last) / len(last):.4f}"))
    if spent is not None:
        began, seen, seconds = spent
        rows.append(("begun", f"{datetime.fromtimestamp(began):%Y-%m-%d %H:%M}"))
        rows.append(("last step", f"{datetime.fromtimestamp(seen):%Y-%m-%d %H:%M}"))
        rows.append(("trained for", in_words(seconds)))
        if waiting := Sittings.waiting(out / "times.jsonl"):
            rows.append(("spent on getting examples", f"{waiting:.1%} of that"))
        if done and seconds:
            speed = f"{done * about['batch'] / seconds:.3g} examples/s, " if "batch" in about else ""
            rows.append(("speed", f"{speed}{seconds / done:.2g} s a step"))
            if done < steps:
                rows.append(("left", f"about {in_words((steps - done) * seconds / done)}"))
    rows += [(name, about[name]) for name in ("device", "versions") if name in about]
    known = [row for row in about.get("rows", []) if isinstance(row, list) and len(row) == 2]
    return [*rows, *((str(name), str(text)) for name, text in known)]


def _next(out: Path, finished: bool) -> list[str]:
    """Commands to type."""
    where = shlex.quote(str(out))
    if (out / "named.png").exists():
        return [f"unsteep sample RUN --classifier {where} --label NAME --guidance 4"]
    lines = [f"unsteep sample {where} -n 64 --out samples.png", f"unsteep show {where}"]
    if not finished:
        return [f"unsteep train --resume --out {where}", *lines]
    return [*lines, f"unsteep evaluate {where}"]


def _step(path: Path) -> int:
    return int(path.stem.rpartition("-")[2])


def _some(all_of_them: list[T], most: int) -> list[T]:
    """Evenly chosen, the first and the last among them."""
    if len(all_of_them) <= most:
        return all_of_them
    return [all_of_them[round(i * (len(all_of_them) - 1) / (most - 1))] for i in range(most)]


def _small(path: Path) -> Image.Image:
    """A preview no wider than a row can show."""
    with Image.open(path) as opened:
        picture = opened.convert("RGB")
    picture.thumbnail((WIDEST, WIDEST * 4), Image.Resampling.BOX)
    return picture
