"""unsteep tune-grid: noise levels optimised for a model, kept with it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from unsteep.cli.terminal import say

if TYPE_CHECKING:
    from unsteep.model.tuned_grid import TunedGrid


def tune_grid(
    run: Path,
    /,
    *,
    steps: int,
    solver: str | None = None,
    order: int | None = None,
    settings: Annotated[list[str] | None, Parameter(name="--set", negative=())] = None,
    guidance: float = 1.0,
    seeds: int = 32,
    seed: int = 0,
    evaluations: int = 100,
    batch: int = 64,
    device: str = "auto",
    trust: Annotated[bool, Parameter(negative=())] = False,
) -> None:
    """Optimise the noise levels that so many steps visit, for this model, and keep them with it: sample --grid tuned.

    Levels are sought that end nearest to where many more steps do, from the same noise. Training on discards them.

    Parameters
    ----------
    run
        A run's folder, one of its checkpoints, or a saved model.
    steps
        Steps of the solver that the levels are for, at least 2.
    solver
        One that draws no noise, as sample has it; default: the model's own.
    order
        The order of a solver that comes in several, as unipc.
    settings
        Change one setting of the solver; may be repeated.
    guidance
        The scale of classifier-free guidance that the levels are for.
    seeds
        How many samples to tune on; as many others are held out, to measure the gain.
    seed
        The first sample's seed.
    evaluations
        How many grids to try.
    batch
        Samples that go through the network together.
    device
        auto, cpu, cuda or mps.
    trust
        Import the parts of one's own that the run or the model names.
    """
    from unsteep.cli.common import chosen_device, chosen_solver
    from unsteep.model import tuned_grid as study
    from unsteep.opening import load

    chosen = chosen_solver(solver, order, settings or [], tolerance=None)
    with study.opened(run) as folder:
        model = load(folder, device=chosen_device(device), trust=trust)
        tuned = study.tune_grid(
            model,
            steps=steps,
            solver=chosen,
            guidance=guidance,
            seeds=seeds,
            seed=seed,
            evaluations=evaluations,
            batch_size=batch,
            progress=True,
        )
        if tuned.gain > 1:
            study.keep(tuned, model, folder)
    _print(tuned)
    say(f"{tuned.walks} grids tried, {tuned.calls:,} network calls, {tuned.seconds:.0f} s")
    if tuned.gain <= 1:
        say("no gain on the held-out seeds, so nothing was kept; try more --seeds or --evaluations")
        return
    say(f"kept in  {folder / 'statistics.safetensors'} as {tuned.name}")
    options = [("steps", steps), ("solver", solver), ("order", order), *(("set", one) for one in settings or [])]
    options += [("guidance", f"{guidance:g}")] if guidance != 1 else []
    same = "".join(f" --{name} {value}" for name, value in options if value is not None)
    say(f"next     unsteep sample {run}{same} --grid tuned")


def _print(tuned: TunedGrid) -> None:
    from rich.table import Table

    from unsteep.cli.terminal import Terminal

    levels = Table(box=None, header_style="bold")
    for heading in ("level", "t before", "sigma/alpha", "t tuned", "sigma/alpha"):
        levels.add_column(heading, justify="right", no_wrap=True)
    for i in range(len(tuned.before)):
        pair = (tuned.before[i], tuned.after[i])
        numbers = [f"{v:.4g}" for level in pair for v in (float(level.t), float(level.sigma / level.alpha))]
        levels.add_row(str(i), *numbers)
    errors = Table(box=None, header_style="bold")
    for heading in ("distance to the exact answer", "before", "tuned", "times smaller"):
        errors.add_column(heading, justify="left" if heading.startswith("distance") else "right", no_wrap=True)
    for name, (before, after) in (("tuning seeds", tuned.tuning), ("held-out seeds", tuned.held_out)):
        errors.add_row(name, f"{before:.3g}", f"{after:.3g}", f"{before / after:.2f}")
    console = Terminal()
    console.print(levels, highlight=False)
    console.print()
    console.print(errors, highlight=False)
    console.print()
