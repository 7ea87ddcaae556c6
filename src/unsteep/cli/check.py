"""unsteep check: the mathematics on this machine, and a run, as a table that ends in a verdict."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from unsteep.cli.terminal import say

Group = Literal["numbers", "schedules", "solvers", "moments", "guidance", "run"]


def check(
    run: Path | None = None,
    /,
    *,
    only: Annotated[list[Group] | None, Parameter(negative=(), consume_multiple=True)] = None,
    solver: str | None = None,
    device: str = "auto",
    trust: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Check orders, moments and bounds against closed forms, in less than a minute; with a run, its files, too.

    The last line is the verdict; the exit code is 0 if all checks pass and 1 if one fails.

    Parameters
    ----------
    run
        A run's folder, a checkpoint or a saved model, to check its files, schedule, statistics and network.
    only
        Groups of checks: numbers, schedules, solvers, moments, guidance, run; default: all.
    solver
        One to be checked in place of all of them, as mine:Straight of your own.
    device
        auto, cpu, cuda or mps: where random numbers and the run's network are checked.
    trust
        Import the parts of one's own that the run names.
    """
    import time

    from rich.table import Table
    from rich.text import Text

    from unsteep.checks import whole as study
    from unsteep.cli.common import chosen_device, chosen_solver
    from unsteep.cli.terminal import Terminal

    device, began = chosen_device(device), time.monotonic()
    one: Any = chosen_solver(solver, None, (), None)
    found = study.check(run, only=only or (), solver=one, device=device, trust=trust, progress=True)
    rows = [row for group in found.values() for row in group]
    say(study.machine(device))
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0), pad_edge=False)
    for heading, width in (("", 40), ("expected", 15), ("measured", 13), ("", 6)):
        table.add_column(heading, width=width, no_wrap=True)  # 80 in all
    styles = {"ok": "green", "warn": "yellow", "FAILED": "bold red"}
    for group, of in found.items():
        table.add_row(Text(group, "bold"))
        for row in of:
            verdict = Text(row.verdict, styles[row.verdict])
            table.add_row(*map(Text, (f"  {row.name}", row.expected, row.got)), verdict)
    Terminal().print(table, highlight=False)
    say()
    for row in rows:
        if row.verdict != "ok":
            say(f"{row.verdict}  {row.name}: expected {row.expected}, got {row.got}")
    say(study.verdict(rows, time.monotonic() - began))
    return 0 if all(row.passed for row in rows) else 1
