"""unsteep fill: what is missing from a picture, as a model would have it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from unsteep.core.condition import Condition
    from unsteep.model import Model
    from unsteep.sampling import Solver, Step

METHODS = ("repaint", "pigdm")
REPAINT_STEPS = 50


def fill(
    run: Path,
    photo: Path,
    /,
    *,
    mask: Path,
    n: Annotated[int, Parameter(name=["-n", "--n"])] = 8,
    label: str | None = None,
    prompt: str | None = None,
    guidance: float = 1.0,
    method: str = "repaint",
    steps: int | None = None,
    solver: str | None = None,
    jump: int | None = None,
    resamples: int = 5,
    seed: int = 0,
    batch: int = 64,
    out: Path = Path("filled.png"),
    device: str = "auto",
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
        As in unsteep sample; default: ancestral, of variance beta_tilde. For repaint one that remembers nothing.
    jump
        For repaint: how many steps a stretch has; default: a tenth of all.
    resamples
        For repaint: how often each stretch is walked.
    seed
        The first filling's seed.
    batch
        Fillings that go through the network together.
    out
        The sheet to write: the photo, what was kept of it, and the fillings; .png, .jpg or .webp.
    device
        auto, cpu, cuda or mps.
    """
    import torch

    from unsteep.cli.common import chosen_device, evaluations, nearest
    from unsteep.core.schedules import steps_of
    from unsteep.inverse.repaint import passes
    from unsteep.model.asking import condition_of, seeds
    from unsteep.model.interpolate import read
    from unsteep.opening import load
    from unsteep.pages import pictures
    from unsteep.pages.files import by_suffix
    from unsteep.pages.progress import bar
    from unsteep.sampling import SOLVERS, Ancestral

    if method not in METHODS:
        raise ValueError(f"--method: unknown method {method!r}; {nearest(method, METHODS)}")
    if solver is not None and solver not in SOLVERS:
        raise ValueError(f"--solver: unknown solver {solver!r}; {nearest(solver, SOLVERS)}")
    if guidance != 1 and label is None and prompt is None:
        raise ValueError(f"--guidance {guidance}: towards what? give a class with --label, or a --prompt")
    if batch < 1:
        raise ValueError(f"--batch: expected at least 1 picture at a time, got {batch}")
    by_suffix(out, pictures.FORMATS, "a picture")
    chosen, drawn = Ancestral(variance="beta_tilde") if solver is None else SOLVERS[solver], seeds(seed, n)
    model = load(run, device=chosen_device(device))
    original = read(photo, model)
    known = read_mask(mask, photo, model)
    labels = None if label is None else model.labels_of(n, label)
    condition = condition_of(model.description, drawn, labels, prompt)
    usual = min(REPAINT_STEPS, steps_of(model.denoiser.schedule)) if method == "repaint" else model.default_steps
    steps = usual if steps is None else steps
    jump = max(1, steps // 10) if jump is None else jump
    each = sum(stop - start for start, stop in passes(steps, jump, resamples)) if method == "repaint" else steps
    x0, done = model.space.encode(original[None]).to(model.device), []
    with evaluations(model) as calls, bar(True, -(-n // batch) * each, "filling in") as advance:
        for start in range(0, n, batch):
            rows = drawn[start : start + batch]
            some = None if condition is None else condition[slice(start, start + batch)]
            how: dict[str, Any] = {"guidance": guidance, "steps": steps, "solver": chosen}
            if method == "repaint":
                walk = _repainted(model, x0, known, rows, some, jump=jump, resamples=resamples, **how)
            else:
                walk = _guided(model, x0, known, rows, some, **how)
            for step in walk:
                x = step.x
                advance()
            x = torch.where(known.to(x.device), x0, x)  # whatever the solver's last step is
            done.append(model.space.decode(x))
    kept = torch.where(known, original, 128).to(torch.uint8)
    pictures.save(pictures.grid(torch.cat([original[None], kept[None], *done]).numpy()), out)
    print(f"{n} fillings of {photo.name} in {out}, {calls() / n:.4g} network calls each")


def read_mask(path: Path, photo: Path, model: Model) -> Tensor:
    """The pixels to keep, bool (1, h, w) in the model's size: those that are black in the mask at `path`."""
    from unsteep.data.pictures import shape_of
    from unsteep.model.interpolate import read

    known = read(path, model).float().mean(0, keepdim=True) < 127.5
    sizes = shape_of(path), shape_of(photo)
    if sizes[0] != sizes[1]:
        (w, h), (pw, ph) = sizes
        raise ValueError(f"--mask {path}: {w} x {h} pixels, and {photo} has {pw} x {ph}; make a mask of its size")
    if bool(known.all()):
        raise ValueError(f"--mask {path}: nothing is white, so nothing would be filled in; paint white what is missing")
    if not bool(known.any()):
        raise ValueError(f"--mask {path}: all is white, so nothing is kept; for pictures from nothing, unsteep sample")
    return known


def _repainted(
    model: Model,
    x0: Tensor,
    known: Tensor,
    seeds: range,
    condition: Condition | None,
    *,
    guidance: float,
    steps: int,
    solver: Solver,
    jump: int,
    resamples: int,
) -> Iterator[Step]:
    from unsteep.core.noise import NoiseSource
    from unsteep.inverse import fill

    chosen = model.resolved(solver, condition, guidance, steps)
    levels = model.levels(None, steps, chosen, guidance)
    wide, at = x0.expand(len(seeds), -1, -1, -1), model.denoiser.schedule.inverse
    denoise, noise = model.denoise(condition, guidance=guidance), NoiseSource(seeds)
    return fill(denoise, wide, known, levels, chosen, noise, at, jump_length=jump, resamples=resamples)


def _guided(
    model: Model,
    x0: Tensor,
    known: Tensor,
    seeds: range,
    condition: Condition | None,
    *,
    guidance: float,
    steps: int,
    solver: Solver,
) -> Iterator[Step]:
    from unsteep.core.noise import NoiseSource
    from unsteep.guidance import Clip
    from unsteep.inverse import Kept, Mask, PiGDM
    from unsteep.sampling import initial_noise, trajectory

    chosen = model.resolved(solver, condition, guidance, steps)
    levels = model.levels(None, steps, chosen, guidance)
    mask, noise = Mask(known), NoiseSource(seeds)
    posterior = PiGDM(model.denoise(condition, clip=False, guidance=guidance), mask, mask.forward(x0))
    denoise = Kept(Clip(posterior), mask, x0)  # pictures lie in [-1, 1]
    x = initial_noise(x0.expand(len(seeds), -1, -1, -1), levels[0], noise)
    return trajectory(denoise, x, levels, chosen, noise, model.denoiser.schedule.inverse)
