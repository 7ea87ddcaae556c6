"""unsteep train: a recipe, or a run's own configuration, to a folder with a model and its report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from unsteep.cli.common import USUAL, RunOptions, chosen_device
from unsteep.cli.terminal import say

Preset = Literal["small", "medium", "large"]


def train(
    recipe: str | None = None,
    /,
    *,
    data: str = "",
    config: Path | None = None,
    resume: Annotated[bool, Parameter(negative=())] = False,
    start_from: Path | None = None,
    preset: Preset | None = None,
    budget: str | None = None,
    dry_run: Annotated[bool, Parameter(negative=())] = False,
    options: RunOptions = USUAL,
) -> int:
    """Train a model and write a run: checkpoints, log, pictures and report.html.

    Parameters
    ----------
    recipe
        The experiment to train; not needed with --config or --resume.
    data
        The folder or file that the recipe reads.
    config
        Train the run described by this TOML file, the run.toml of another run for example.
    resume
        Go on with an interrupted or finished run from its latest checkpoint.
    start_from
        A run, a checkpoint or a saved model to start from: its weights, and with them its network, schedule and
        conditions. Data and training are those given here.
    preset
        The size of the network, and the steps that go with it. Recipes for pictures of your own take small on a CPU.
    budget
        A time that training is to fit on this machine, as 30m or 2h: it chooses network, steps, and the pictures' size.
    dry_run
        Say what would be trained, with every setting and the time it would take; write nothing.
    """
    if recipe is None and config is None and not (resume and options.out):
        raise ValueError("name a recipe (digits, folder, ...; see --help), or give --config FILE")
    if recipe is not None and config is not None:
        raise ValueError("give a recipe or --config, not both")
    if resume and dry_run:
        raise ValueError("--dry-run is of a new run; leave out --resume, or see unsteep report")
    if resume and (options.force or config or start_from or preset or budget):
        raise ValueError(
            "--resume goes on with a run as it is; leave out --force, --config, --start-from, --preset and --budget"
        )
    out, settings, trust = options.out or Path("runs") / (recipe or "run"), options.changes, options.trust
    where = chosen_device(options.device)

    from unsteep.data import cache
    from unsteep.evaluation.on_the_way import fid_on_the_way
    from unsteep.starting import configured
    from unsteep.training import run as runs

    cache.allow(options.cache and not dry_run)  # which writes nothing
    if resume:
        if recipe is not None and options.out is not None:
            say(f"{out} goes on as its run.toml says; the recipe {recipe} is not read again")
        moved = [f"data.path={data}"] if data else []
        finished = runs.resume(
            [*moved, *settings], out, device=where, trust=trust or "file", measures=fid_on_the_way, say=say
        )
    else:
        chosen = recipe if config is None else runs.parsed(config.read_text(encoding="utf-8"), trust or "file")
        run = configured(
            chosen,
            data or None,
            settings,
            start_from,
            trust=trust or "typed",
            preset=preset,
            budget=budget,
            device=where,
        )
        if dry_run:
            from unsteep.cli.settings import show
            from unsteep.storage.meanings import settings as every

            took = runs.plan(run, out, force=options.force, device=where, trust=trust, measures=fid_on_the_way, say=say)
            say()
            show(every(took))
            say("\nnothing was written; without --dry-run it is trained")
            return 0
        finished = runs.start(
            run, out, force=options.force, device=where, trust=trust, measures=fid_on_the_way, say=say
        )
    if not finished:
        return 130
    say(f"\nlook at  {out / 'report.html'}  and  {out / 'samples.png'}")
    say(f"next     unsteep sample {out} -n 64 --out samples.png{_asking(out)}")
    say(f"         unsteep show {out}")
    return 0


def _asking(out: Path) -> str:
    """What else a sample is asked by, where the model hears more than classes."""
    from unsteep.training.run import read_run

    of = getattr(read_run(out), "condition", None)
    if of is None:
        return ""
    text = ' --prompt "..."' if of.text != "none" else ""
    return text + (" --picture FILE" if of.picture != "none" else "")
