"""unsteep report: the page of a run, made of what lies in its folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from unsteep.cli.terminal import say


def report(
    run: Path,
    /,
    *,
    browse: Annotated[bool, Parameter(name="--open", negative=())] = False,
    trust: Annotated[bool, Parameter(negative=())] = False,
) -> None:
    """Write report.html of a run anew: while it trains, after it was stopped, and when it is done.

    Nothing is trained or sampled: the page shows the previews and pictures that are there, the loss, the speed, the
    time that is left, and what to type next.

    Parameters
    ----------
    run
        A run's folder.
    browse
        Show it in the browser.
    trust
        Import the parts of one's own that the run names.
    """
    from unsteep.training import page
    from unsteep.training.log import whole_steps
    from unsteep.training.run import read_run

    steps = read_run(run, trust).train.steps
    log = whole_steps(run / "log.jsonl")
    path = page.write(run, steps=steps, finished=bool(log) and log[-1]["step"] >= steps)
    say(path)
    if browse:
        import webbrowser

        webbrowser.open(path.resolve().as_uri())
