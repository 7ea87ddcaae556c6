"""unsteep train: a recipe, or a run's own configuration, to a folder with a model and its report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

if TYPE_CHECKING:
    from unsteep.training.run import Run


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
    device: str = "auto",
) -> int:
    """Train a model and write a run: checkpoints, log, pictures and report.html.

    Recipes: digits, fashion-mnist, mnist, folder, array, shapes, captions, emoji, upscale, vectors.

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
    device
        auto, cpu, cuda or mps.
    """
    if recipe is None and config is None and not (resume and out):
        raise ValueError("name a recipe (digits, folder, ...; see --help), or give --config FILE")
    out = out or Path("runs") / (recipe or "run")
    changes, moved = list(settings or []), [f"data.path={data}"] if data else []

    if recipe is not None and config is not None:
        raise ValueError("give a recipe or --config, not both")
    if resume and (force or config is not None):
        raise ValueError("--resume goes on with a run as it is; leave out --force and --config")

    from unsteep.cli.common import chosen_device, nearest
    from unsteep.recipes import RECIPES
    from unsteep.training import run as runs

    if recipe is not None and recipe not in RECIPES:
        raise ValueError(f"unknown recipe {recipe!r}; {nearest(recipe, RECIPES)}")
    if resume:
        finished = runs.resume(moved + changes, out, device=chosen_device(device))
    else:
        finished = runs.start(
            _run(recipe, config, data, moved, changes), out, force=force, device=chosen_device(device)
        )
    if not finished:
        return 130
    print(f"\nlook at  {out / 'report.html'}  and  {out / 'samples.png'}")
    print(f"next     unsteep sample {out} -n 64 --out samples.png{_asking(out)}")
    print(f"         unsteep show {out}")
    return 0


def _asking(out: Path) -> str:
    """What else a sample is asked by, where the model hears more than classes."""
    from unsteep.training.run import read_run

    of = read_run(out).condition
    text = ' --prompt "..."' if of.text != "none" else ""
    return text + (" --picture FILE" if of.picture != "none" else "")


def _run(recipe: str | None, config: Path | None, data: str, moved: list[str], changes: list[str]) -> Run:
    from unsteep.recipes import RECIPES
    from unsteep.storage.config import loads, override
    from unsteep.training.run import Run

    if config is not None:
        return override(loads(Run, config.read_text(encoding="utf-8")), moved + changes)
    assert recipe is not None
    return override(RECIPES[recipe](data), changes)
