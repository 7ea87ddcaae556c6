"""unsteep show: what a run is and how far it has come."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

if TYPE_CHECKING:
    from unsteep.metrics.interval import Interval

RECENT = 100  # steps whose mean loss is told
CLASSES = 40  # that are named
MEASURED = 10  # values that are listed: the first and the last ones


def show(run: Path, /, *, trust: Annotated[bool, Parameter(negative=())] = False) -> None:
    """Show what a run is: its data, model, schedule, progress, loss and pictures.

    Parameters
    ----------
    run
        A run's folder, a checkpoint or a saved model.
    trust
        Import the parts of one's own that it names.
    """
    from rich.table import Table
    from rich.text import Text

    from unsteep.cli.terminal import Terminal
    from unsteep.opening import load
    from unsteep.storage.lock import held_by
    from unsteep.storage.meanings import in_words
    from unsteep.training.log import whole_steps

    model = load(run, device="cpu", trust=trust)
    description = model.description
    parameters = sum(p.numel() for p in model.denoiser.parameters())
    rows = [
        ("model", f"{type(description.model.network).__name__.removesuffix('Config')}, {parameters:,} parameters"),
        ("predicts", description.predicts),
        ("schedule", in_words(description.schedule, usual=True)),
        ("makes", description.space.describe()),
        ("classes", _listed(model.names)),
        ("given", description.heard or "nothing"),
    ]
    if (run / "run.toml").exists():
        from unsteep.training.measuring import measured_in
        from unsteep.training.run import read_run

        configuration = read_run(run, trust)
        log = whole_steps(run / "log.jsonl")
        steps, done = configuration.train.steps, log[-1]["step"] if log else 0
        trainer = held_by(run)
        checkpoints = sorted(folder.name for folder in (run / "checkpoints").glob("step-*"))
        pictures = sorted(path.name for path in run.iterdir() if path.suffix in (".png", ".gif", ".html"))
        rows = [
            ("data", in_words(configuration.data)),
            *rows,
            ("trained", f"{done:,} of {steps:,} steps, {configuration.train.batch} examples each"),
            *([] if trainer is None else [("", f"being trained now, by {trainer}")]),
            ("loss", _loss([record["loss"] for record in log[-RECENT:]])),
            ("", _curve(log)),
            *_quality(run, measured_in(log)),
            ("checkpoints", ", ".join(checkpoints)),
            ("look at", ", ".join(pictures) or "nothing yet"),
        ]
    table = Table(show_header=False, box=None, title=Text(str(run)), title_justify="left", title_style="bold")
    table.add_column(style="cyan", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(name, Text(value))
    Terminal().print(table, highlight=False)


def _listed(names: Sequence[str]) -> str:
    """The names of classes, of many the first; apart also where they hold commas."""
    from unsteep.data.choosing import shorten

    if not names:
        return "none"
    quoted = [f'"{name}"' for name in names] if any("," in name for name in names) else list(names)
    return shorten(quoted, CLASSES)


def _loss(recent: list[float]) -> str:
    """The mean of the last steps' losses, to the digits that it is known to."""
    import torch

    from unsteep.metrics.interval import Interval

    if len(recent) < 2:
        return f"{recent[0]:.4g} at the first step" if recent else "not logged"
    return f"{Interval.of(torch.tensor(recent, dtype=torch.float64))}, mean of the last {len(recent)} steps"


def _quality(run: Path, values: dict[int, Interval]) -> list[tuple[str, str]]:
    """What was measured on the way, and which checkpoint is the best."""
    import shlex

    from unsteep.training.measuring import best

    if not values:
        return []
    found = best(run, values)
    steps = sorted(values)
    shown = steps if len(steps) <= MEASURED else [*steps[:1], *steps[1 - MEASURED :]]
    rows = [("FID", f"{values[step]} after {step:,} steps") for step in shown]
    if found is not None:
        step, folder = found
        rows.append(("best", f"{values[step]} after {step:,} steps: unsteep sample {shlex.quote(str(folder))}"))
    return [(name if i == 0 or name == "best" else "", text) for i, (name, text) in enumerate(rows)]


def _curve(log: list[dict[str, float]], width: int = 32) -> str:
    """The loss as a line of blocks, on a logarithmic scale."""
    import math

    if not log:
        return ""
    size = -(-len(log) // width)
    means = [
        math.log(max(1e-12, sum(r["loss"] for r in log[i : i + size]) / len(log[i : i + size])))
        for i in range(0, len(log), size)
    ]
    low, high = min(means), max(means)
    return "".join("▁▂▃▄▅▆▇█"[round(7 * (m - low) / (high - low or 1))] for m in means)
