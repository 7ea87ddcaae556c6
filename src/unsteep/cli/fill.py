"""unsteep fill: what is missing from a picture, as a model would have it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from unsteep.cli.common import Precision
from unsteep.cli.terminal import say


def fill(
    run: Path,
    photo: Path,
    /,
    *,
    mask: Path,
    n: Annotated[int, Parameter(name=["-n", "--n"])] = 8,
    label: str | None = None,
    prompt: str | None = None,
    ask: Annotated[list[str] | None, Parameter(negative=())] = None,
    guidance: float = 1.0,
    method: str = "repaint",
    steps: int | None = None,
    solver: str | None = None,
    jump: int | None = None,
    resamples: int | None = None,
    seed: int = 0,
    batch: int = 64,
    out: Path = Path("filled.png"),
    force: Annotated[bool, Parameter(negative=())] = False,
    trust: Annotated[bool, Parameter(negative=())] = False,
    device: str = "auto",
    precision: Precision = "float32",
) -> None:
    """Fill in part of a picture, several times over.

    Parameters
    ----------
    run
        A run's folder, one of its checkpoints, or a saved model.
    photo
        A picture, which is cropped and resized to what the model makes.
    mask
        A picture of the photo's size: white is filled in, black is kept as it is.
    n
        How many ways to fill it in; they are those of the seeds from --seed on.
    label
        A class by number or name, for all; default: no class.
    ask
        A condition of the model's own and what is asked of it, as brightness=0.8; may be repeated.
    prompt
        A text, for a model that was trained with captions; default: no text.
    guidance
        The scale of classifier-free guidance towards --label or --prompt: 1 is none.
    method
        repaint: the picture's surroundings are put in at every step, and stretches of steps are walked again to make
        the filling fit. pigdm: the model is guided by a gradient, in fewer but dearer calls.
    steps
        Steps of the solver; default 50 for repaint and 20 for pigdm, or the chain's where it has fewer.
    solver
        As in unsteep sample; default: ancestral, of variance beta_tilde. For repaint a
        multistep method is its first step, since nothing is remembered from step to step.
    jump
        For repaint: how many steps a stretch has; default: a tenth of all.
    resamples
        For repaint: how often each stretch is walked; default 5.
    seed
        The first filling's seed.
    batch
        Fillings that go through the network together.
    out
        The sheet to write: the photo, what was kept of it, and the fillings by their seeds; .png, .jpg or .webp.
    force
        Overwrite a file that unsteep did not write.
    trust
        Import the parts of somebody's own that the model names, as its network.
    device
        auto, cpu, cuda or mps.
    precision
        In which the network runs: float32, bf16, fp16, or auto for what is measured to be the fastest here.
    """
    import torch

    from unsteep.cli.common import asked_by_name, chosen_device, chosen_solver, many, nearest, run_in
    from unsteep.cli.reading import read_mask, read_picture
    from unsteep.model.cost import counting
    from unsteep.model.fill import METHODS
    from unsteep.model.fill import fill as filled
    from unsteep.opening import load
    from unsteep.pages import pictures
    from unsteep.pages.files import by_suffix
    from unsteep.pages.ours import check_file

    if method not in METHODS:
        raise ValueError(f"--method: unknown method {method!r}; {nearest(method, METHODS)}")
    if guidance != 1 and label is None and prompt is None and not ask:
        raise ValueError(f"--guidance {guidance}: towards what? give a class with --label, or a --prompt")
    by_suffix(out, pictures.FORMATS, "a picture")
    check_file(out, force=force, reads=[photo, mask])
    model = load(run, device=chosen_device(device), trust=trust)
    run_in(model, precision, min(n, batch))
    original = read_picture(photo, model)
    missing = read_mask(mask, photo, model)
    how: Any = {
        "steps": steps,
        "solver": chosen_solver(solver, None, [], None),
        "jump": jump,
        "resamples": resamples,
        "method": method,
    }
    with counting(model) as calls:
        found = filled(
            model,
            original,
            missing,
            n,
            label=label,
            prompt=prompt,
            **asked_by_name(ask, {"label": label, "prompt": prompt}),
            guidance=guidance,
            seed=seed,
            batch_size=batch,
            progress=True,
            **how,
        )
    whole = model.space.tiles(original[None])
    tiles = model.space.tiles(found)
    assert whole is not None
    assert tiles is not None
    kept = torch.where(missing, 128, whole).to(torch.uint8)
    names = ["original", "given", *(f"seed {seed + i}" for i in range(n))]
    pictures.save(pictures.grid(torch.cat([whole, kept, tiles]).numpy(), captions=names), out)
    say(f"{many(n, 'filling')} of {photo.name} in {out}, {calls.rows / n:.4g} network calls each")
