"""The mathematics on this machine, checked: orders, moments and bounds against closed forms, and a run's own files.

Each group is a list of checks, and each check gives rows: what was expected, what was measured, and a verdict.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import torch

from unsteep.checks import mathematics as check_mathematics
from unsteep.checks import moments as check_moments
from unsteep.checks import run as check_run
from unsteep.checks import solvers as check_solvers
from unsteep.checks.rows import Check, Row, rows_of
from unsteep.pages.progress import bar
from unsteep.sampling import Solver

GROUPS: dict[str, Callable[[str], list[Check]]] = {
    "numbers": check_mathematics.numbers,
    "schedules": lambda device: check_mathematics.schedules(),
    "solvers": lambda device: check_solvers.checks(),
    "moments": lambda device: check_moments.moments(),
    "guidance": lambda device: check_moments.guidance(),
}
RUN = "run"  # one more group, where there is a run


def check(
    run: Path | None = None,
    *,
    only: Collection[str] = (),
    solver: Solver | None = None,
    device: str = "cpu",
    trust: bool = False,
    progress: bool = False,
) -> dict[str, list[Row]]:
    """The rows of each group, or of those in `only`. `solver`: one to be checked in place of all of ours, as one of a
    user's own. ValueError for an unknown group, and if `run` is no run. `trust`: see `opening.load`."""
    known = [*GROUPS, RUN] if run is not None else [*GROUPS]
    if unknown := [name for name in only if name not in known]:
        hint = "; name a run to check it" if RUN in unknown else ""
        raise ValueError(f"only: expected groups of {', '.join(known)}, got {', '.join(unknown)}{hint}")
    wanted = [name for name in known if name in only or not only]
    if solver is not None and "solvers" not in wanted:
        raise ValueError("solver: it is checked in the group solvers; ask for that, or leave it out")
    groups = {
        name: check_run.checks(run, device, trust) if name == RUN and run is not None else GROUPS[name](device)
        for name in wanted
    }
    if solver is not None:
        groups["solvers"] = check_solvers.checks_of({type(solver).__name__: solver})
    found: dict[str, list[Row]] = {}
    with bar(progress, sum(map(len, groups.values())), "checking") as advance, _one_thread():
        for name, checks in groups.items():
            found[name] = []
            for one in checks:
                found[name].extend(rows_of(one))
                advance()
    return found


@contextmanager
def _one_thread() -> Iterator[None]:
    """On tensors as small as these more threads only wait for each other, for minutes where the machine is busy."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def machine(device: str) -> str:
    """What the checks ran on, in one line."""
    named = f"{device} ({torch.cuda.get_device_name(device)})" if device.startswith("cuda") else device
    return (
        f"unsteep {version('unsteep')}, torch {torch.__version__}, Python {platform.python_version()}, {named}, "
        f"1 of {torch.get_num_threads()} threads"
    )


def verdict(rows: Sequence[Row], seconds: float) -> str:
    """The last line of the answer."""
    failed = [row.name for row in rows if not row.passed]
    if failed:
        return f"{len(failed)} of {len(rows)} checks FAILED: {'; '.join(failed)}"
    warned = sum(row.verdict == "warn" for row in rows)
    note = f", {warned} with a warning" if warned else ""
    return f"all {len(rows)} checks passed in {seconds:.0f} s{note}"
