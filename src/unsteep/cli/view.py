"""unsteep view: clips of moving points, as an animation or a page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from unsteep.cli.terminal import say


def view(
    *clips: Path,
    out: Path | None = None,
    skeleton: str | None = None,
    person: int | None = None,
    force: Annotated[bool, Parameter(negative=())] = False,
) -> None:
    """Draw clips of moving points, side by side, as an animation or as a page that plays in a browser.

    Parameters
    ----------
    clips
        .pose or .npz files.
    out
        An animation (.gif, .webp or .png), or a page (.html), which needs no other program; default: the first clip's
        name as .gif, here.
    skeleton
        Reduce clips to the points of this one, as mediapipe-178, or of a TOML file.
    person
        Which person, from 0, where there are several in a file.
    force
        Overwrite a file that unsteep did not write.
    """
    from unsteep.cli.common import many
    from unsteep.pages import animation, skeletons
    from unsteep.pages.files import by_suffix
    from unsteep.pages.ours import check_file
    from unsteep.poses import read_clip, skeleton_of
    from unsteep.spaces.keypoints import moving

    if not clips:
        raise ValueError("clips: expected a .pose or .npz file, got none; give one")
    out = out or Path(clips[0].with_suffix(".gif").name)
    by_suffix(out, {**animation.FORMATS, ".html": "HTML"}, "what a clip is shown as")
    check_file(out, force=force, reads=clips)
    read = [read_clip(path, person) for path in clips]
    if skeleton is not None:
        of = skeleton_of(skeleton)
        read = [clip.reduced(of) for clip in read]
    fps = read[0].fps
    shown = [moving(clip.resampled(fps)) for clip in read]
    skeletons.movie(shown, out, [path.name for path in clips])
    for path, clip in zip(clips, read, strict=True):
        missing = f"{1 - float(clip.known[:, clip.skeleton.drawn].mean()):.0%} missing"
        frames = f"{many(len(clip), 'frame')} at {clip.fps:g} a second"
        say(f"{path}: {frames}, {clip.skeleton.describe()}, {missing}")
    say(f"{many(len(clips), 'clip')} in {out}")
