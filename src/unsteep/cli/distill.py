"""unsteep distill: a trained model's student, which samples in a few calls of its network."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from unsteep.cli.common import USUAL, RunOptions, chosen_device
from unsteep.cli.terminal import say


def distill(
    run: Path,
    /,
    *,
    steps: int = 4,
    method: Literal["shortcut", "progressive", "flow-map", "consistency", "meanflow", "dmd"] = "consistency",
    guidance: float = 1.0,
    data: str = "",
    options: RunOptions = USUAL,
) -> int:
    """Train a student of a run's model, which samples in a few calls of its network.

    The student begins as the model, and learns for fewer steps than that did. It is a run of its own: unsteep train
    --resume --out STUDENT goes on with one that was interrupted, and every verb takes it.

    Parameters
    ----------
    run
        The run whose model is the teacher.
    steps
        Calls of the network that a sample of the student takes.
    method
        consistency learns where the teacher's flow ends; dmd learns its samples as a whole; progressive halves its
        steps again and again; flow-map and meanflow follow its flow by a derivative; shortcut learns from the data that
        a long step is two short ones. shortcut, flow-map and meanflow stay models of any number of steps, by any
        solver; the others know this number of steps alone.
    guidance
        The largest scale of guidance that the student is to know, not for shortcut: unsteep sample --guidance then
        takes one call a step, and not two.
    data
        Where the data are, if not where the run has them.
    """
    from unsteep.data import cache
    from unsteep.distilling import student_of
    from unsteep.evaluation.on_the_way import fid_on_the_way
    from unsteep.training.run import start

    cache.allow(options.cache)
    where, out = chosen_device(options.device), options.out or Path(f"{run}-{steps}")
    student = student_of(
        run,
        method,
        steps,
        guidance=guidance,
        data=data or None,
        settings=options.changes,
        trust=options.trust or "file",
    )
    trust = options.trust or "typed"
    if not start(student, out, force=options.force, device=where, trust=trust, measures=fid_on_the_way, say=say):
        return 130
    say(f"\nlook at  {out / 'report.html'}  and  {out / 'samples.png'}")
    say(f"next     unsteep sample {out} -n 64 --out samples.png")
    return 0
