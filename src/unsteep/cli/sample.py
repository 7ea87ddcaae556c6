"""unsteep sample: a trained model to pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from unsteep.cli.common import Precision
from unsteep.cli.terminal import say

FILMED = 16  # samples of an animation, at most

if TYPE_CHECKING:
    import torch

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
    length: Annotated[int | None, Parameter(name=["--length", "--frames"])] = None,
    ask: Annotated[list[str] | None, Parameter(negative=())] = None,
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
    trust: Annotated[bool, Parameter(negative=())] = False,
    device: str = "auto",
    precision: Precision = "float32",
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
    length
        Frames of each sample, for a model of sequences; default: as many as the data have of what is asked for.
    ask
        Another condition that the model hears, as NAME=VALUE; may be repeated.
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
        Which levels are visited: trailing, linspace, leading, quadratic, logsnr, karras, visible, tuned, or the times
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
        One picture (.png, .jpg, .webp), an array (.npz), or a folder of pictures; default samples.png. On one picture
        samples of several classes or prompts stand beside these. Of clips of a skeleton also .pose, several numbered.
    movie
        The way from noise to the first samples, as an animation (.gif, .webp or .png). Of clips of a skeleton the first
        clips themselves, also as a page that plays (.html).
    force
        Write into a folder that is not empty, or over a file that unsteep did not write.
    trust
        Import the parts of somebody's own that the model names, as its network.
    device
        auto, cpu, cuda or mps.
    precision
        In which the network runs: float32, bf16, fp16, or auto for what is measured to be the fastest here.
    """
    from unsteep.cli.common import (
        asked_by_name,
        chosen_device,
        chosen_grid,
        chosen_guidance,
        chosen_solver,
        claim,
        many,
        run_in,
    )
    from unsteep.cli.reading import read_given, read_latents
    from unsteep.cli.writing import names_of, write_samples
    from unsteep.model.cost import counting
    from unsteep.model.model import noised
    from unsteep.model.request import request
    from unsteep.opening import load

    clip = False if clip is None and latents is not None else clip  # latents are those of the flow, which clips nothing
    out = out or (Path("samples.png") if movie is None else None)
    _check_paths(out, movie, force, [picture, latents])
    where = chosen_device(device)
    how: Any = {"steps": steps, "clip": clip, "grid": chosen_grid(grid)}
    how["solver"] = chosen_solver(solver, order, settings or [], tolerance)
    model = load(run, device=where, trust=trust)
    _check_pictures(model, out, movie)
    start, stored = (None, None) if latents is None else read_latents(latents, model)
    given = None if picture is None else read_given(picture, model)
    n = _usual(start, given) if n is None else n
    if out is not None and out.suffix == ".pose":
        _check_clips(out, n, force)
    run_in(model, precision, max(1, min(n, batch)))
    if start is not None and n > len(start):
        raise ValueError(f"-n {n}: {latents} holds {len(start)} latents; ask for as many or fewer")
    how["guidance"] = by = chosen_guidance(
        guidance,
        interval=guidance_interval,
        rescale=guidance_rescale,
        threshold=threshold,
        negative_label=negative_label,
        negative_prompt=negative_prompt,
        classifier=classifier,
        weaker=weaker,
        device=where,
        precision=precision,
        trust=trust,
    )
    classes = model.names or (() if by.opened is None else by.opened.names)
    asked: Any = _labels(classes, label, n) if label is not None or stored is None else stored[:n].tolist()
    pictured = None if given is None else given[[i % len(given) for i in range(n)]]
    asks: dict[str, Any] = {
        "label": asked,
        "prompt": None if prompt is None else [prompt[i % len(prompt)] for i in range(n)],
        "picture": noised(pictured, augment),
        "length": length,
    }
    asks |= asked_by_name(ask, asks)
    of = request(model, n, seed=seed, asks=asks, start=None if start is None else start[:n], **how)
    if out is not None:
        if not out.suffix:
            claim(out, page=False)
        with counting(model, of.guidance) as calls:
            parts = model.drawing(of, batch_size=batch, progress=True)
            by_class = asked is not None or not model.names  # only a classifier then knows classes, in turn
            names = names_of(of, classes, asks["prompt"], by_class=by_class)
            write_samples(model, out, parts, of, names, None if given is None else given[:n])
        say(f"{many(n, 'sample')} in {out}, {calls.rows / n:.4g} network calls each")
    if movie is not None:
        few = of.select(slice(0, min(n, FILMED)))
        if movie.suffix.lower() in played(model.space):
            names = names_of(few, classes, asks["prompt"], by_class=asked is not None or not model.names)
            model.space.play(model.drawn(few, batch_size=batch), movie, names)  # type: ignore[attr-defined]
            say(f"{many(few.n, 'clip')} in {movie}")
            return
        from unsteep.training.report import film

        film(model, few, movie)
        say(f"the way of {many(few.n, 'sample')} in {movie}")


def _check_paths(out: Path | None, movie: Path | None, force: bool, reads: list[Path | None]) -> None:
    """Refuses at once what could not be written after all the sampling."""
    from unsteep.pages import animation, pictures
    from unsteep.pages.files import by_suffix, check_place
    from unsteep.pages.ours import check_file

    if out is not None:
        check_place(out)
    if out is not None and out.is_dir() and any(out.iterdir()) and not force:
        raise ValueError(f"{out} is a folder with files in it; choose another --out, or add to it with --force")
    if out is not None and not out.suffix and out.is_file():
        raise ValueError(f"{out} is a file; --out without a suffix names a folder, so choose another")
    if out is not None and out.suffix not in ("", ".npz", ".pose"):
        by_suffix(out, pictures.FORMATS, "a picture")
    if out is not None and out.suffix and out.suffix != ".pose":
        check_file(out, force=force, reads=reads)
    if movie is not None:
        by_suffix(movie, {**animation.FORMATS, ".html": "HTML"}, "an animation")
        check_file(movie, force=force, name="movie", reads=reads)
        if out is not None and out.resolve() == movie.resolve():
            raise ValueError(f"--movie {movie}: --out is written there; choose another name for one of them")


def _check_clips(out: Path, n: int, force: bool) -> None:
    """Refuses at once clips that could not be written after all the sampling."""
    from unsteep.pages.ours import check_file
    from unsteep.poses import numbered

    for one in numbered(out, n):
        check_file(one, force=force)


def played(space: Any) -> tuple[str, ...]:
    """Suffixes of what samples that move by themselves are shown as; () where they do not."""
    found: tuple[str, ...] = getattr(space, "films", ())
    return found


def _check_pictures(model: Model, out: Path | None, movie: Path | None) -> None:
    """Refuses what samples of this kind cannot be written as."""
    import torch

    space = model.space
    if out is not None and out.suffix == ".pose" and ".pose" not in getattr(space, "suffixes", ()):
        raise ValueError(f"{out}: a .pose file holds clips of a skeleton, and these samples are {space.describe()}")
    if movie is not None and movie.suffix.lower() == ".html" and ".html" not in played(space):
        raise ValueError(
            f"{movie}: a page plays clips of a skeleton, and these samples are {space.describe()}; take .gif"
        )
    lacking = space.tiles(space.decode(torch.zeros(1, *space.shape))) is None
    drawn = movie or (out if out is not None and out.suffix not in (".npz", ".pose") else None)
    if drawn is not None and lacking:
        raise ValueError(
            f"{drawn}: these samples are {space.describe()}, not pictures; write them with --out to a .npz"
        )
    if out is not None and not out.suffix and (len(space.shape) != 3 or space.shape[0] not in (1, 3, 4)):
        raise ValueError(f"{out}: no picture file holds {space.describe()}; write them with --out to a .npz")


def _labels(names: Sequence[str], label: str | None, n: int) -> list[str] | None:
    """The classes asked for on the command line, in turn, one for each of n samples."""
    from unsteep.hearing import Label

    if label is None:
        return None
    asked = Label.several(label, names)
    return [asked[i % len(asked)] for i in range(n)]


def _usual(start: torch.Tensor | None, given: torch.Tensor | None) -> int:
    """How many samples, where nobody says."""
    if start is not None:
        return len(start)
    return 64 if given is None else len(given) if len(given) > 1 else 8
