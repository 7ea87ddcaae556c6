"""unsteep edit: a clip of which some frames or parts stay, and the rest is made to fit."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from unsteep.cli.common import Precision
from unsteep.cli.terminal import say


def edit(
    run: Path,
    clip: Path,
    /,
    *,
    keep: str | None = None,
    keys: str | None = None,
    keep_parts: Annotated[list[str] | None, Parameter(consume_multiple=True, negative=())] = None,
    n: Annotated[int, Parameter(name=["-n", "--n"])] = 1,
    label: str | None = None,
    prompt: str | None = None,
    ask: Annotated[list[str] | None, Parameter(negative=())] = None,
    guidance: float = 1.0,
    method: str = "pigdm",
    steps: int | None = None,
    solver: str | None = None,
    jump: int | None = None,
    resamples: int | None = None,
    person: int | None = None,
    seed: int = 0,
    batch: int = 64,
    out: Path = Path("edited.pose"),
    movie: Path | None = None,
    force: Annotated[bool, Parameter(negative=())] = False,
    trust: Annotated[bool, Parameter(negative=())] = False,
    device: str = "auto",
    precision: Precision = "float32",
) -> None:
    """Keep some frames or parts of a clip, and let a model make the rest fit.

    Parameters
    ----------
    run
        A run's folder, one of its checkpoints, or a saved model, of clips.
    clip
        A .pose or .npz file, at as many frames a second as the model makes.
    keep
        Stretches of frames that stay, each first:end, counted from 0, the end not among them: 0:10,40:50.
    keys
        Single frames that stay: 0,12,30,59.
    keep_parts
        Parts of the skeleton whose points stay in all frames, as body: then the hands are made anew.
    n
        How many clips; they are those of the seeds from --seed on.
    label
        A class by number or name, for all; default: no class.
    prompt
        A text, for a model that was trained with texts; default: no text.
    ask
        A condition of the model's own and what is asked of it, as brightness=0.8; may be repeated.
    guidance
        The scale of classifier-free guidance towards --label or --prompt: 1 is none.
    method
        pigdm: the model is guided by a gradient towards what stays, which reaches all frames from a few. repaint: what
        stays is put in at every step, and stretches of steps are walked again, as in unsteep fill.
    steps
        Steps of the solver; default 20 for pigdm and 50 for repaint, or the chain's where it has fewer.
    solver
        As in unsteep sample; default: ancestral, of variance beta_tilde.
    jump
        For repaint: how many steps a stretch has; default: a tenth of all.
    resamples
        For repaint: how often each stretch is walked; default 5.
    person
        Which person, from 0, where there are several in the file.
    seed
        The first clip's seed.
    batch
        Clips that go through the network together.
    out
        A .pose or .npz file to write; several are numbered.
    movie
        The clip and what was made of it, side by side, as an animation (.gif, .webp or .png) or a page (.html).
    force
        Overwrite files that unsteep did not write.
    trust
        Import the parts of somebody's own that the model names, as its network.
    device
        auto, cpu, cuda or mps.
    precision
        In which the network runs: float32, bf16, fp16, or auto for what is measured to be the fastest here.
    """
    from unsteep.cli.common import asked_by_name, chosen_device, chosen_solver, many, run_in
    from unsteep.model.cost import counting
    from unsteep.model.edit import edit as edited
    from unsteep.opening import load
    from unsteep.pages import animation, skeletons
    from unsteep.pages.files import by_suffix
    from unsteep.pages.ours import check_file
    from unsteep.poses import numbered, read_clip, write_clip
    from unsteep.poses.files import FORMATS
    from unsteep.spaces.keypoints import moving

    by_suffix(out, FORMATS, "a clip")
    if movie is not None:
        by_suffix(movie, {**animation.FORMATS, ".html": "HTML"}, "what a clip is shown as")
    files = numbered(out, n)
    for one in (*files, *([] if movie is None else [movie])):
        check_file(one, force=force, reads=[clip])
    read = read_clip(clip, person)
    kept = sorted({*frames_of(keep, keys, len(read))})
    model = load(run, device=chosen_device(device), trust=trust)
    run_in(model, precision, min(n, batch))
    how: Any = {
        "solver": chosen_solver(solver, None, [], None),
        **{name: value for name, value in (("jump", jump), ("resamples", resamples)) if value is not None},
    }
    asks = {"label": label, "prompt": prompt}
    with counting(model) as calls:
        made = edited(
            model,
            read,
            n,
            keep=kept,
            keep_parts=keep_parts or (),
            **asks,
            **asked_by_name(ask, asks),
            guidance=guidance,
            method=method,
            steps=steps,
            seed=seed,
            batch_size=batch,
            progress=True,
            **how,
        )
    for one, where in zip(made, files, strict=True):
        write_clip(one, where)
    stays = [many(len(kept), "frame"), *(keep_parts or [])] if kept else list(keep_parts or [])
    name = str(out) if n == 1 else f"{files[0]} to {files[-1].name}"
    say(
        f"{many(n, 'clip')} in {name}: {' and '.join(stays)} of {clip.name} kept, "
        f"{calls.rows / n:.4g} network calls each"
    )
    if movie is not None:
        names = [clip.name, *(f"seed {seed + i}" for i in range(n))]
        skeletons.movie([moving(one) for one in (read.reduced(made[0].skeleton), *made)], movie, names)
        say(f"{many(n + 1, 'clip')} in {movie}")


def frames_of(keep: str | None, keys: str | None, count: int) -> list[int]:
    """The frames in "0:10,40:50" and in "0,12,30", of so many. ValueError for others."""
    found: list[int] = []
    for name, text in (("keep", keep), ("keys", keys)):
        for part in (text or "").split(","):
            if not part.strip():
                continue
            ends = part.split(":") if name == "keep" else [part, str(_whole(part) + 1)]
            first, last = (ends[0].strip() or "0", ends[1].strip() or str(count)) if len(ends) == 2 else ("", "")
            if not 0 <= _whole(first) < _whole(last) <= count:
                form = "stretches as 0:10,40:50" if name == "keep" else "frames as 0,12,30"
                raise ValueError(
                    f"{name}: expected {form}, of the clip's {count} frames from 0 on, got {part.strip()!r}"
                )
            found += range(_whole(first), _whole(last))
    return found


def _whole(text: str) -> int:
    return int(text) if text.strip().isascii() and text.strip().isdigit() else -1
