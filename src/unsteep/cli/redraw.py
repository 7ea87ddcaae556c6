"""unsteep redraw: a picture drawn again by a model, from part of the way to noise."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from unsteep.cli.common import Precision
from unsteep.cli.terminal import say


def redraw(
    run: Path,
    sketch: Path,
    /,
    *,
    strength: float = 0.5,
    n: Annotated[int, Parameter(name=["-n", "--n"])] = 8,
    label: str | None = None,
    prompt: str | None = None,
    ask: Annotated[list[str] | None, Parameter(negative=())] = None,
    guidance: float = 1.0,
    steps: int | None = None,
    solver: str | None = None,
    seed: int = 0,
    batch: int = 64,
    out: Path = Path("redrawn.png"),
    force: Annotated[bool, Parameter(negative=())] = False,
    trust: Annotated[bool, Parameter(negative=())] = False,
    device: str = "auto",
    precision: Precision = "float32",
) -> None:
    """Draw a picture again, as the model would, several times over.

    Parameters
    ----------
    run
        A run's folder, one of its checkpoints, or a saved model.
    sketch
        A picture, which is cropped and resized to what the model makes.
    strength
        How far to go towards noise, as a time: near 0 little changes, near 1 little is left of the sketch.
    n
        How many drawings; they are those of the seeds from --seed on.
    label
        A class by number or name, for all; default: no class.
    ask
        A condition of the model's own and what is asked of it, as brightness=0.8; may be repeated.
    prompt
        A text, for a model that was trained with captions; default: no text.
    guidance
        The scale of classifier-free guidance towards --label or --prompt: 1 is none.
    steps
        Steps of the solver from there to the clean picture; default 20, or the chain's below there if these are fewer.
    solver
        As in unsteep sample; default: ancestral, of variance beta_tilde.
    seed
        The first drawing's seed.
    batch
        Drawings that go through the network together.
    out
        The sheet to write: the sketch and the drawings by their seeds; .png, .jpg or .webp.
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

    from unsteep.cli.common import asked_by_name, chosen_device, chosen_solver, many, run_in
    from unsteep.cli.reading import read_picture
    from unsteep.model.cost import counting
    from unsteep.model.redraw import redraw as redrawn
    from unsteep.opening import load
    from unsteep.pages import pictures
    from unsteep.pages.files import by_suffix
    from unsteep.pages.ours import check_file

    if guidance != 1 and label is None and prompt is None and not ask:
        raise ValueError(f"--guidance {guidance}: towards what? give a class with --label, or a --prompt")
    by_suffix(out, pictures.FORMATS, "a picture")
    check_file(out, force=force, reads=[sketch])
    model = load(run, device=chosen_device(device), trust=trust)
    run_in(model, precision, min(n, batch))
    original = read_picture(sketch, model)
    with counting(model) as calls:
        found = redrawn(
            model,
            original,
            strength,
            n,
            label=label,
            prompt=prompt,
            **asked_by_name(ask, {"label": label, "prompt": prompt}),
            guidance=guidance,
            steps=steps,
            solver=chosen_solver(solver, None, [], None),
            seed=seed,
            batch_size=batch,
            progress=True,
        )
    first, tiles = model.space.tiles(original[None]), model.space.tiles(found)
    assert first is not None
    assert tiles is not None
    names = ["original", *(f"seed {seed + i}" for i in range(n))]
    pictures.save(pictures.grid(torch.cat([first, tiles]).numpy(), captions=names), out)
    say(f"{many(n, 'drawing')} after {sketch.name} in {out}, {calls.rows / n:.4g} network calls each")
