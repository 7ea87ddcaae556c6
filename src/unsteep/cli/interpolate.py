"""unsteep interpolate: the pictures between two pictures."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from unsteep.cli.common import Precision
from unsteep.cli.terminal import say

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from unsteep.model import Model

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
    solver: str | None = None,
    label: str | None = None,
    ask: Annotated[list[str] | None, Parameter(negative=())] = None,
    seed: Annotated[list[int] | None, Several] = None,
    method: str = "both",
    clip: bool = True,
    out: Path = Path("interpolation.png"),
    force: Annotated[bool, Parameter(negative=())] = False,
    trust: Annotated[bool, Parameter(negative=())] = False,
    device: str = "auto",
    precision: Precision = "float32",
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
        As in unsteep sample, for --method latent; default: ancestral. slerp is DDIM's.
    label
        A class by number or name, for every frame; default: no class.
    ask
        A condition of the model's own and what is asked of it, as brightness=0.8; may be repeated.
    seed
        The noise, shared by all frames; several as in --seed 0 1 2, a row each.
    method
        latent: mixed at the step, with shared noise. slerp: through deterministic latents at t = 1. both.
    clip
        Keep estimates in the range of pictures.
    out
        The picture to write: .png, .jpg or .webp.
    force
        Overwrite a file that unsteep did not write.
    trust
        Import the parts of somebody's own that the model names, as its network.
    device
        auto, cpu, cuda or mps.
    precision
        In which the network runs: float32, bf16, fp16, or auto for what is measured to be the fastest here.
    """
    from unsteep.cli.common import asked_by_name, chosen_device, chosen_solver, nearest, run_in
    from unsteep.cli.reading import read_picture
    from unsteep.model.interpolate import half, shares
    from unsteep.model.interpolate import interpolate as between
    from unsteep.opening import load
    from unsteep.pages import pictures
    from unsteep.pages.files import by_suffix
    from unsteep.pages.ours import check_file
    from unsteep.sampling.interpolation import levels_from

    if method not in METHODS:
        raise ValueError(f"--method: unknown method {method!r}; {nearest(method, METHODS)}")
    chosen = chosen_solver(solver, None, [], None)
    for name, value in (("step", step), ("solver", solver), ("seed", seed)):
        if value and method == "slerp":
            raise ValueError(f"--{name}: slerp goes through t = 1 by DDIM and draws nothing; leave it out")
    by_suffix(out, pictures.FORMATS, "a picture")
    check_file(out, force=force, reads=[a, b])
    shares(frames)
    model = load(run, device=chosen_device(device), trust=trust)
    run_in(model, precision, frames)
    ends = read_picture(a, model), read_picture(b, model)
    places, seeds = [] if method == "slerp" else step or [half(model)], seed or [0]
    for place in places:
        levels_from(model.denoiser.schedule, place, steps)  # refuses the last one before the first is sampled
    rows: dict[str, Any] = {}
    how: dict[str, Any] = {"frames": frames, "steps": steps, "label": label, "clip": clip}
    how |= asked_by_name(ask, how)
    for place, one in product(places, seeds):
        name = f"step {place}" if len(seeds) == 1 else f"step {place}\nseed {one}"
        rows[name] = between(model, *ends, step=place, seed=one, solver=chosen, **how)
    if method != "latent":
        rows["slerp"] = between(model, *ends, method="slerp", **how)
    pictures.save(_sheet(model, *ends, rows), out)
    say(f"{a.name} to {b.name} in {out}")


def _sheet(model: Model, a: Tensor, b: Tensor, rows: dict[str, Tensor]) -> Image:
    """The rows by name, frames (n, c, h, w) each, between the originals a and b (c, h, w)."""
    import torch

    from unsteep.model.interpolate import shares
    from unsteep.pages import pictures

    between = len(next(iter(rows.values())))
    columns = ["original", *(f"λ = {float(share):.3g}" for share in shares(between)), "original"]
    whole = [model.space.tiles(torch.cat([a[None], frames, b[None]])) for frames in rows.values()]
    sheet = torch.stack([tiles for tiles in whole if tiles is not None])
    return pictures.strip(sheet.numpy(), row_labels=list(rows), column_labels=columns)
