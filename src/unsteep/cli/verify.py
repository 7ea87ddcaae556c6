"""unsteep verify: is everything in a run's folder whole?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


def verify(run: Path, /, *, trust: Annotated[bool, Parameter(negative=())] = False) -> int:
    """Check everything in a run's folder: its configuration, each checkpoint byte for byte, its logs. Damaged lines of
    logs and what killed writers left are removed; what cannot be mended is said, and the exit code is then 1.

    Parameters
    ----------
    run
        The run's folder.
    trust
        Import the parts of one's own that the run names.
    """
    from rich.table import Table
    from rich.text import Text

    from unsteep.cli.terminal import Terminal
    from unsteep.training.verifying import verified

    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    found = verified(run, trust)
    for one in found:
        mark = Text("good", style="green") if one.good else Text("bad", style="red")
        table.add_row(mark, Text(one.what), Text(one.said))
    Terminal().print(table, highlight=False)
    return 0 if all(one.good for one in found) else 1
