"""unsteep interpolate: the pictures between two pictures."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

if TYPE_CHECKING:
    from torch import Tensor

METHODS = ("latent", "slerp", "both")
Several = Parameter(consume_multiple=True, negative=())


def interpolate(
    run: Path,
    a: Path,
    b: Path,
    /,
    *,
    step: Annotated[list[int] | None, Several] = None,
    frames: int = 9,
    steps: int = 0,
    solver: str = "ancestral",
    label: str | None = None,
    seed: Annotated[list[int] | None, Several] = None,
    method: str = "both",
    clip: bool = True,
    out: Path = Path("interpolation.png"),
    device: str = "auto",
) -> None:
    """Show the way from one picture to another through a model's noise.

    Parameters
    ----------
    run
        A run's folder, one of its checkpoints, or a saved model.
    a
        A picture, which is cropped and resized to what the model makes.
    b
        Another one.
    step
        The step of the chain at which the two are mixed, several as in --step 250 500 750; default: half of the
        chain, 500 of 1000. The more noise, the freer the pictures between.
    frames
        Pictures from the one to the other, both ends included.
    steps
        Solver steps from there down; 0: every step of the chain.
    solver
        ancestral or ddim, for the latents of --method latent; slerp is DDIM's.
    label
        A class by number or name, for every frame; default: no class.
    seed
        The noise, shared by all frames; several as in --seed 0 1 2, a row each.
    method
        latent: mixed at the step, with shared noise. slerp: through deterministic latents at t = 1. both.
    clip
        Keep estimates in the range of pictures.
    out
        The picture to write: .png, .jpg or .webp.
    device
        auto, cpu, cuda or mps.
    """
    from unsteep.cli.common import chosen_device, nearest
    from unsteep.model.interpolate import at_level, by_inversion, half, read, shares, sheet
    from unsteep.opening import load
    from unsteep.pages import pictures
    from unsteep.pages.files import by_suffix
    from unsteep.sampling import SOLVERS
    from unsteep.sampling.interpolation import levels_from

    if method not in METHODS:
        raise ValueError(f"--method: unknown method {method!r}; {nearest(method, METHODS)}")
    if solver not in SOLVERS:
        raise ValueError(f"--solver: unknown solver {solver!r}; {nearest(solver, SOLVERS)}")
    by_suffix(out, pictures.FORMATS, "a picture")
    shares(frames)
    model = load(run, device=chosen_device(device))
    ends = read(a, model), read(b, model)
    places, seeds = [] if method == "slerp" else step or [half(model)], seed or [0]
    for place in places:
        levels_from(model.denoiser.schedule, place, steps)  # refuses the last one before the first is sampled
    rows: dict[str, Tensor] = {}
    how: dict[str, Any] = {"frames": frames, "steps": steps, "label": label, "clip": clip}
    for place, one in product(places, seeds):
        name = f"step {place}" if len(seeds) == 1 else f"step {place}\nseed {one}"
        rows[name] = at_level(model, *ends, step=place, seed=one, solver=SOLVERS[solver], **how)
    if method != "latent":
        rows["slerp"] = by_inversion(model, *ends, **how)
    pictures.save(sheet(*ends, rows), out)
    print(f"{a.name} to {b.name} in {out}")
