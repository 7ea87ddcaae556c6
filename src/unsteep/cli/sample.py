"""unsteep sample: a trained model to pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

if TYPE_CHECKING:
    import torch

    from unsteep.core.condition import Condition
    from unsteep.model import Model


def sample(
    run: Path,
    /,
    *,
    n: Annotated[int | None, Parameter(name=["-n", "--n"])] = None,
    label: str | None = None,
    prompt: Annotated[list[str] | None, Parameter(negative=())] = None,
    picture: Path | None = None,
    augment: float = 0.0,
    guidance: float = 1.0,
    guidance_interval: tuple[float, float] | None = None,
    guidance_rescale: float = 0.0,
    threshold: float | None = None,
    negative_label: str | None = None,
    negative_prompt: str | None = None,
    classifier: Path | None = None,
    weaker: Path | None = None,
    steps: int | None = None,
    solver: str | None = None,
    order: int | None = None,
    settings: Annotated[list[str] | None, Parameter(name="--set", negative=())] = None,
    grid: str | None = None,
    tolerance: float | None = None,
    seed: int = 0,
    latents: Annotated[Path | None, Parameter(name="--from")] = None,
    clip: bool | None = None,
    batch: int = 64,
    out: Path | None = None,
    movie: Path | None = None,
    force: Annotated[bool, Parameter(negative=())] = False,
    device: str = "auto",
) -> None:
    """Draw samples from a trained model.

    Parameters
    ----------
    run
        A run's folder, one of its checkpoints, or a saved model.
    n
        How many samples, default 64, with --picture as many as there are, or 8 of one; they are those of the seeds from
        --seed on.
    label
        A class by number or name, several as 1,4,7 (in turn), or all; default: as often as in the data.
    prompt
        A text, for a model that was trained with captions; may be repeated, and prompts are then taken in turn.
    picture
        What to make the samples after, for a model that was trained so: a picture file, a folder of them, or a .npz
        that unsteep sample wrote; several are taken in turn.
    augment
        The time to which noise is added to --picture, as in training: more hides its flaws, and its detail.
    guidance
        The scale of guidance: 1 is none, 2 to 4 more typical and less varied. By the condition itself, or by
        --classifier (where 0 is none), or by --weaker.
    guidance_interval
        Guide only at times between these two, as 0.2 0.8; 1 is pure noise.
    guidance_rescale
        How much of the contrast to keep, from 0 to 1: strong guidance over-exposes.
    threshold
        Dynamic thresholding: the quantile of a sample's values that stays unclipped, as 0.995.
    negative_label
        Guide away from this class, not from none.
    negative_prompt
        Guide away from this text, not from none.
    classifier
        Guide by a classifier of unsteep train-classifier to --label; the model need not know classes.
    weaker
        Guide away from this run, a smaller or less trained one of the same data.
    steps
        Steps of the solver; default 20, or the chain's where it has fewer.
    solver
        ancestral, ddim, euler, heun, dpm2, dpm3, dpmpp-2s, dpmpp-2m, dpmpp-3s, dpmpp-3m, dpmpp-sde, deis, lms, unipc,
        gaussian-frame, euler-maruyama, langevin or predictor-corrector; default: gaussian-frame, measured best.
    order
        The order of a solver that comes in several, as unipc.
    settings
        Change one setting of the solver, as in --set eta=0.5 or --set variance=beta_tilde; may be repeated.
    grid
        Which levels are visited: trailing, linspace, leading, quadratic, logsnr, karras, tuned, or the times
        themselves, as 1,0.6,0.3,0.1,0; default: the solver's own, or trailing.
    tolerance
        Choose the steps for this error in place of --steps, with --solver heun or dormand-prince.
    seed
        The first sample's seed.
    latents
        Start from these latents, which unsteep invert wrote, in place of noise.
    clip
        Keep estimates in the range of pictures; default: for models that predict eps, but not --from latents.
    batch
        Samples that go through the network together.
    out
        One picture (.png, .jpg, .webp), an array (.npz), or a folder of pictures; default samples.png.
    movie
        The way from noise to the first samples, as an animation (.gif, .webp or .png).
    force
        Write into a folder that is not empty.
    device
        auto, cpu, cuda or mps.
    """
    from unsteep.cli.common import (
        chosen_device,
        chosen_grid,
        chosen_guidance,
        chosen_solver,
        evaluations,
        read_given,
        read_latents,
    )
    from unsteep.opening import load

    clip = False if clip is None and latents is not None else clip  # latents are those of the flow, which clips nothing
    how: dict[str, Any] = {"steps": steps, "clip": clip}
    how["solver"] = chosen_solver(solver, order, settings or [], tolerance)
    how["grid"] = chosen_grid(grid)
    out = out or (Path("samples.png") if movie is None else None)
    _check_paths(out, movie, force)
    model = load(run, device=chosen_device(device))
    _check_pictures(model, out, movie)
    start, stored = (None, None) if latents is None else read_latents(latents, model)
    given = None if picture is None else read_given(picture, model)
    n = _usual(start, given) if n is None else n
    if start is not None and n > len(start):
        raise ValueError(f"-n {n}: {latents} holds {len(start)} latents; ask for as many or fewer")
    asked = _labels(model, label, n) if label is not None or stored is None else stored[:n].tolist()
    prompts = None if prompt is None else [prompt[i % len(prompt)] for i in range(n)]
    pictured = None if given is None else given[[i % len(given) for i in range(n)]]
    by_classifier = classifier is not None and not model.names
    condition = model.condition_of(n, None if by_classifier else asked, prompts, seed, pictured, augment)
    _check_asked(model, guidance, prompt, given, augment)
    classes = None if label is None or label == "all" else label.split(",")
    if condition is not None and condition.label is not None:
        classes = [model.names[i] for i in condition.label.tolist()]
    guided = chosen_guidance(
        model,
        n,
        guidance,
        label=classes,
        interval=guidance_interval,
        rescale=guidance_rescale,
        threshold=threshold,
        negative_label=negative_label,
        negative_prompt=negative_prompt,
        classifier=classifier,
        weaker=weaker,
    )
    how["guidance"] = guided
    start = None if start is None else start[:n]
    if out is not None:
        with evaluations(model, guided) as calls:
            _write(model, out, given, n=n, condition=condition, seed=seed, start=start, batch_size=batch, **how)
        print(f"{n} samples in {out}, {calls() / n:.4g} network calls each")
    if movie is not None:
        from unsteep.training.report import film

        few = min(n, 16)
        rows = None if condition is None else condition[slice(0, few)]
        how["guidance"] = guided[slice(0, few)]
        film(model, list(model.trajectory(seed, few, rows, start=None if start is None else start[:few], **how)), movie)
        print(f"the way of {few} samples in {movie}")


def _check_paths(out: Path | None, movie: Path | None, force: bool) -> None:
    """Refuses at once what could not be written after all the sampling."""
    from unsteep.pages import animation, pictures
    from unsteep.pages.files import by_suffix

    if out is not None and out.is_dir() and any(out.iterdir()) and not force:
        raise ValueError(f"{out} is a folder with files in it; choose another --out, or add to it with --force")
    if out is not None and not out.suffix and out.is_file():
        raise ValueError(f"{out} is a file; --out without a suffix names a folder, so choose another")
    if out is not None and out.suffix not in ("", ".npz"):
        by_suffix(out, pictures.FORMATS, "a picture")
    if movie is not None:
        by_suffix(movie, animation.FORMATS, "an animation")


def _check_asked(
    model: Model, guidance: float, prompt: list[str] | None, given: torch.Tensor | None, augment: float
) -> None:
    """Refuses what would do nothing."""
    of = model.description
    if augment and given is None:
        raise ValueError(f"--augment {augment}: it is the noise of --picture; give one")
    if guidance not in (0, 1) and not of.names and of.heard and prompt is None and given is None:
        how = "--prompt" if of.hears_text else "--picture"
        raise ValueError(f"--guidance {guidance}: towards what? this model hears a {of.heard}; give {how}")


def _check_pictures(model: Model, out: Path | None, movie: Path | None) -> None:
    from unsteep.spaces import Pixels

    drawn = movie or (out if out is not None and out.suffix != ".npz" else None)
    if drawn is not None and not isinstance(model.space, Pixels):
        raise ValueError(f"{drawn}: these samples are rows of numbers, not pictures; write them with --out to a .npz")


def _labels(model: Model, label: str | None, n: int) -> list[int | str] | None:
    """The classes asked for on the command line, in turn, one for each of n samples."""
    if label is None:
        return None
    asked: list[int | str] = list(model.names) if label == "all" and model.names else [*label.split(",")]
    return [asked[i % len(asked)] for i in range(n)]


def _usual(start: torch.Tensor | None, given: torch.Tensor | None) -> int:
    """How many samples, where nobody says."""
    if start is not None:
        return len(start)
    return 64 if given is None else len(given) if len(given) > 1 else 8


def _write(model: Model, out: Path, given: torch.Tensor | None, condition: Condition | None, **how: Any) -> None:
    samples = model.sample(condition=condition, progress=True, **how)
    labels = None if condition is None else condition.label
    names = None if labels is None else [model.names[i] for i in labels.tolist()]
    if out.suffix == ".npz":
        _write_array(out, samples, labels)
    elif out.suffix:
        from unsteep.cli.common import fitted
        from unsteep.pages import pictures

        columns = None
        if given is not None:  # before the samples, or, of several, above theirs
            import torch

            given = given[: len(samples)]
            columns = len(given) if len(given) > 1 else None
            samples = torch.cat([fitted(given, model).expand(-1, samples.shape[1], -1, -1), samples])
        pictures.save(pictures.grid(samples.numpy(), columns), out)
    else:
        _write_folder(out, samples, names)


def _write_array(out: Path, samples: torch.Tensor, labels: torch.Tensor | None) -> None:
    """`images` (n, h, w, c) uint8 or `x` (n, d), with `labels` where there are any: what other tools read."""
    import numpy as np

    arrays = {"images": samples.permute(0, 2, 3, 1).numpy()} if samples.ndim == 4 else {"x": samples.numpy()}
    if labels is not None:
        arrays["labels"] = labels.numpy()
    out.parent.mkdir(parents=True, exist_ok=True)
    beside = out.with_name(out.name + ".tmp.npz")
    np.savez(beside, **arrays)  # type: ignore[arg-type]  # the stub has no dict of arrays
    beside.replace(out)


def _write_folder(out: Path, samples: torch.Tensor, names: list[str] | None) -> None:
    """One PNG a sample, in a sub-folder for each class where there are classes: `train folder` reads it back."""
    from PIL import Image

    for i, picture in enumerate(samples.permute(0, 2, 3, 1).numpy()):
        where = out if names is None else out / names[i].replace("/", "-")
        where.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture.squeeze(-1) if picture.shape[-1] == 1 else picture).save(where / f"{i:06d}.png")
