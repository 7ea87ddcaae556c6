"""unsteep bench: how fast this machine is, and how fast it trains and samples, as a table and a page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from unsteep.cli.terminal import say


def bench(
    recipe_or_run: str = "digits",
    /,
    *,
    data: str = "",
    settings: Annotated[list[str] | None, Parameter(name="--set", negative=())] = None,
    batches: Annotated[list[int] | None, Parameter(consume_multiple=True, negative=())] = None,
    seconds: float = 60.0,
    out: Path | None = None,
    device: str = "auto",
    trust: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Measure this machine, and training and sampling of a network on it, in float32 and bf16, in about a minute.

    Parameters
    ----------
    recipe_or_run
        A recipe, as digits or folder, or the folder of a run.
    data
        The folder or file that the recipe reads, or where the data of the run lie now.
    settings
        Change one setting, as in --set model.network.width=64; may be repeated.
    batches
        Batch sizes; default 1 16 64.
    seconds
        About how long to measure. Everything is done once at least.
    out
        A folder for index.html and results.json.
    device
        auto, cpu, cuda or mps.
    trust
        Import the parts of one's own that the run names.
    """
    import shlex

    from rich.table import Table
    from rich.text import Text

    from unsteep.benchmarks import page
    from unsteep.benchmarks.bench import BATCHES
    from unsteep.benchmarks.bench import bench as measure
    from unsteep.cli.common import chosen_device, claim, nearest
    from unsteep.cli.terminal import Terminal
    from unsteep.recipes import RECIPES

    if recipe_or_run not in RECIPES and not (Path(recipe_or_run) / "run.toml").exists():
        raise ValueError(f"{recipe_or_run} is neither a run nor a recipe; {nearest(recipe_or_run, RECIPES)}")
    if out is not None:
        claim(out)
    found = measure(
        recipe_or_run,
        data=data or None,
        settings=settings or (),
        batches=tuple(batches or BATCHES),
        seconds=seconds,
        device=chosen_device(device),
        trust=trust,
        progress=True,
    )
    for name, value in (*found.machine.facts, ("network", page.network(found))):
        say(f"{name:>12}  {value}")
    console = Terminal()
    tables = (("", page.CEILINGS, page.ceiling_rows(found)), (page.COUNTED, page.SPEEDS, page.speed_rows(found)))
    for title, header, rows in tables:
        say(f"\n{title}" if title else "")
        table = Table(box=None, header_style="bold", padding=(0, 1, 0, 0), pad_edge=False)
        for i, name in enumerate(header):
            table.add_column(name, justify="left" if i == 0 else "right")
        for row in rows:
            table.add_row(*map(Text, row))
        console.print(table, highlight=False)
    say("\n" + "\n".join(found.verdict))
    if out is not None:
        words = ["unsteep", "bench", recipe_or_run, *(["--data", data] if data else [])]
        words += [word for change in settings or [] for word in ("--set", change)]
        words += ["--batches", *map(str, batches or BATCHES), "--seconds", f"{seconds:g}", "--out", str(out)]
        say(f"look at  {page.write(found, out, shlex.join(words))}")
    return 0
