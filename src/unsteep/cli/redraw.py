"""unsteep redraw: a picture drawn again by a model, from part of the way to noise."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


def redraw(
    run: Path,
    sketch: Path,
    /,
    *,
    strength: float = 0.5,
    n: Annotated[int, Parameter(name=["-n", "--n"])] = 8,
    label: str | None = None,
    prompt: str | None = None,
    guidance: float = 1.0,
    steps: int | None = None,
    solver: str | None = None,
    seed: int = 0,
    batch: int = 64,
    out: Path = Path("redrawn.png"),
    device: str = "auto",
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
        The sheet to write: the sketch and the drawings; .png, .jpg or .webp.
    device
        auto, cpu, cuda or mps.
    """
    import torch

    from unsteep.cli.common import chosen_device, evaluations, nearest
    from unsteep.core.noise import NoiseSource
    from unsteep.inverse import redraw as redrawn
    from unsteep.inverse.redraw import step_of
    from unsteep.model.asking import condition_of, seeds
    from unsteep.model.interpolate import read
    from unsteep.opening import load
    from unsteep.pages import pictures
    from unsteep.pages.files import by_suffix
    from unsteep.pages.progress import bar
    from unsteep.sampling import SOLVERS, Ancestral

    if solver is not None and solver not in SOLVERS:
        raise ValueError(f"--solver: unknown solver {solver!r}; {nearest(solver, SOLVERS)}")
    if guidance != 1 and label is None and prompt is None:
        raise ValueError(f"--guidance {guidance}: towards what? give a class with --label, or a --prompt")
    if batch < 1:
        raise ValueError(f"--batch: expected at least 1 picture at a time, got {batch}")
    if steps is not None and steps < 1:
        raise ValueError(f"--steps: expected at least 1, got {steps}")
    by_suffix(out, pictures.FORMATS, "a picture")
    asked, drawn = Ancestral(variance="beta_tilde") if solver is None else SOLVERS[solver], seeds(seed, n)
    model = load(run, device=chosen_device(device))
    original = read(sketch, model)
    labels = None if label is None else model.labels_of(n, label)
    condition = condition_of(model.description, drawn, labels, prompt)
    schedule = model.denoiser.schedule
    steps = min(model.default_steps, step_of(schedule, strength)) if steps is None else steps
    x0, done = model.space.encode(original[None]).to(model.device), []
    with evaluations(model) as calls, bar(True, -(-n // batch), "drawing") as advance:
        for start in range(0, n, batch):
            rows = drawn[start : start + batch]
            some = None if condition is None else condition[slice(start, start + batch)]
            chosen = model.resolved(asked, some, guidance, steps)
            denoise, wide = model.denoise(some, guidance=guidance), x0.expand(len(rows), -1, -1, -1)
            done.append(
                model.space.decode(redrawn(denoise, wide, schedule, strength, steps, chosen, NoiseSource(rows)))
            )
            advance()
    pictures.save(pictures.grid(torch.cat([original[None], *done]).numpy()), out)
    print(f"{n} drawings after {sketch.name} in {out}, {calls() / n:.4g} network calls each")
