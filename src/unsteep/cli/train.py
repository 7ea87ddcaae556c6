"""unsteep train: a recipe, or a run's own configuration, to a folder with a model and its report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


def train(
    recipe: str | None = None,
    /,
    *,
    data: str = "",
    out: Path | None = None,
    settings: Annotated[list[str] | None, Parameter(name="--set", negative=())] = None,
    config: Path | None = None,
    resume: Annotated[bool, Parameter(negative=())] = False,
    force: Annotated[bool, Parameter(negative=())] = False,
    start_from: Path | None = None,
    trust: Annotated[bool, Parameter(negative=())] = False,
    device: str = "auto",
) -> int:
    """Train a model and write a run: checkpoints, log, pictures and report.html.

    Recipes: digits, fashion-mnist, mnist, folder, array, shapes, captions, emoji, upscale, vectors, sequences.

    Parameters
    ----------
    recipe
        The experiment to train; not needed with --config or --resume.
    data
        The folder or file that the recipe reads.
    out
        The run's folder; default runs/RECIPE.
    settings
        Change one setting, as in --set train.steps=5000 --set schedule=Cosine --set data.labels=[4]; may be repeated.
    config
        Train the run described by this TOML file, the run.toml of another run for example.
    resume
        Go on with an interrupted or finished run from its latest checkpoint.
    force
        Overwrite an existing run.
    start_from
        A run, a checkpoint or a saved model to start from: its weights, and with them its network, schedule and
        conditions. Data and training are those given here.
    trust
        Import the parts of one's own that --config names.
    device
        auto, cpu, cuda or mps.
    """
    if recipe is None and config is None and not (resume and out):
        raise ValueError("name a recipe (digits, folder, ...; see --help), or give --config FILE")
    if recipe is not None and config is not None:
        raise ValueError("give a recipe or --config, not both")
    if resume and (force or config is not None or start_from is not None):
        raise ValueError("--resume goes on with a run as it is; leave out --force, --config and --start-from")
    out = out or Path("runs") / (recipe or "run")

    from unsteep.cli.common import chosen_device
    from unsteep.starting import configured
    from unsteep.training import run as runs

    if resume:
        moved = [f"data.path={data}"] if data else []
        finished = runs.resume([*moved, *(settings or [])], out, device=chosen_device(device), trust=trust or "file")
    else:
        chosen = recipe if config is None else runs.parsed(config.read_text(encoding="utf-8"), trust or "file")
        run = configured(chosen, data or None, settings or [], start_from, trust=trust or "typed")
        finished = runs.start(run, out, force=force, device=chosen_device(device), trust=trust)
    if not finished:
        return 130
    print(f"\nlook at  {out / 'report.html'}  and  {out / 'samples.png'}")
    print(f"next     unsteep sample {out} -n 64 --out samples.png{_asking(out)}")
    print(f"         unsteep show {out}")
    return 0


def _asking(out: Path) -> str:
    """What else a sample is asked by, where the model hears more than classes."""
    from unsteep.training.run import read_run

    of = getattr(read_run(out), "condition", None)
    if of is None:
        return ""
    text = ' --prompt "..."' if of.text != "none" else ""
    return text + (" --picture FILE" if of.picture != "none" else "")
