"""unsteep ablate: what to predict and what to train on, compared on the user's own data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from unsteep.cli.terminal import say

if TYPE_CHECKING:
    from unsteep.studies.ablation.grid import Combination


def ablate(
    recipe: str,
    /,
    *,
    data: str = "",
    budget: str = "3m",
    steps: int | None = None,
    seed: int | None = None,
    samples: int = 500,
    images: int = 128,
    terms: int = 100,
    settings: Annotated[list[str] | None, Parameter(name="--set", negative=())] = None,
    out: Path | None = None,
    only: Annotated[list[str] | None, Parameter(consume_multiple=True, negative=())] = None,
    force: Annotated[bool, Parameter(negative=())] = False,
    device: str = "auto",
) -> int:
    """Compare what to predict and what to train on: the grid of Ho et al. 2020, Table 2, on your data.

    The same command goes on where it was interrupted.

    Parameters
    ----------
    recipe
        The experiment whose data, network and training all cells share; see unsteep train.
    data
        The folder or file that the recipe reads.
    budget
        Training time of each cell, as 90s, 3m or 1h30m: measured once, and turned into equally many steps for all.
    steps
        Training steps of each cell, instead of --budget.
    seed
        The seed of training, noise and samples; default: the recipe's.
    samples
        Samples drawn of each cell by the whole chain; --set schedule.steps=250 makes the chain shorter.
    images
        Unseen examples whose bits/dim are measured.
    terms
        Terms of the bound evaluated for each of them.
    settings
        Change one setting of all cells, as in --set model.network.width=64; may be repeated.
    out
        The folder of the ablation; default runs/ablation-RECIPE.
    only
        Cells to run, by name, as eps-simple-fixed, or by a part of it, as x0. A name is mean, eps, x0 or v, and
        bound-diagonal, bound-fixed, simple-fixed or hybrid-learned.
    force
        Start anew, and lose what is there.
    device
        auto, cpu, cuda or mps.
    """
    import shlex
    from dataclasses import replace

    from unsteep.cli.common import chosen_device, nearest
    from unsteep.recipes import RECIPES
    from unsteep.recipes.sizing import duration
    from unsteep.storage.config import override
    from unsteep.studies.ablation.ablation import ablate as run_ablation
    from unsteep.studies.ablation.grid import GRID
    from unsteep.studies.ablation.result import Extent

    if recipe not in RECIPES:
        raise ValueError(f"unknown recipe {recipe!r}; {nearest(recipe, RECIPES)}")
    changes = list(settings or [])
    if any(change.split("=")[0].strip() == "train.steps" for change in changes):
        raise ValueError("--set train.steps: all cells are trained equally long; say how long with --steps or --budget")
    run = override(RECIPES[recipe](data), changes)
    run = replace(run, train=replace(run.train, seed=run.train.seed if seed is None else seed))
    folder = out or Path("runs") / f"ablation-{recipe}"
    cells = _named(only or [])
    measure = Extent(samples=samples, images=images, terms=terms)
    allowed = duration(budget)

    words = ["unsteep", "ablate", recipe, *(["--data", data] if data else [])]
    words += ["--budget", budget] if steps is None else ["--steps", str(steps)]
    words += [] if seed is None else ["--seed", str(seed)]
    words += ["--samples", str(samples), "--images", str(images), "--terms", str(terms)]
    words += [word for change in changes for word in ("--set", change)]
    command = shlex.join([*words, "--out", str(folder)])

    done = run_ablation(
        run,
        folder,
        cells=cells,
        steps=steps,
        budget=allowed,
        measure=measure,
        command=command,
        force=force,
        device=chosen_device(device),
    )
    if done is None:
        return 130
    say(f"\nlook at  {folder / 'index.html'}  ({len(done)} of {len(GRID)} cells)")
    return 0


def _named(asked: list[str]) -> tuple[Combination, ...]:
    """The cells that are asked for by name, or by a part of it between dashes; all if none is."""
    from unsteep.cli.common import nearest
    from unsteep.studies.ablation.grid import GRID

    for name in asked:
        if not any(name == cell.name or name in cell.name.split("-") for cell in GRID):
            raise ValueError(f"--only: unknown cell {name!r}; {nearest(name, [cell.name for cell in GRID])}")
    chosen = [cell for cell in GRID if any(name == cell.name or name in cell.name.split("-") for name in asked)]
    return tuple(chosen) or GRID
