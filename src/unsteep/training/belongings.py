"""What in a run's folder is the run's, by name: to begin anew, this is removed, and nothing else ever is."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from unsteep.data.choosing import shorten
from unsteep.pages.files import IN_THE_MAKING, swept
from unsteep.pages.ours import is_ours
from unsteep.storage.checkpoint import step_folders, step_of, take_away
from unsteep.storage.lock import LOCK

PICTURES = ("samples", "real", "forward", "estimates", "loss", "schedule", "named", "accuracy", "quality")
WRITTEN = (  # by a run, and by the verbs that look at one
    *("run.toml", "log.jsonl", "history.jsonl", "diagnosis.json", "times.jsonl", "about.json"),
    *("checkpoints", "previews", "report.html", "reverse.gif"),
    *(f"{name}.png" for name in PICTURES),
    *("classifier", "without-noise", "evaluation", "likelihood", "rate-distortion", "accuracy.json", "index.html"),
    *("log.csv", "tensorboard"),
    LOCK,
)


N = "[0-9]" * 8
WITHIN = {
    "checkpoints": (f"step-{N}", f"step-{N}/*.safetensors", f"step-{N}/*.json", f"step-{N}/*.toml"),
    "previews": (f"step-{N}.png",),
    "tensorboard": ("events.out.tfevents.*",),
}
PAGES = ("evaluation", "likelihood", "rate-distortion")  # pages, their numbers, and pictures that say who drew them
HIDDEN = re.compile(r"\.lock|\.step-\d+\.(partial|aside)|\..+\.(json|safetensors)\.partial")


def check_free(out: Path, force: bool) -> None:
    """ValueError where a new run would take the place of anything that it may not."""
    if (out / "run.toml").exists() and not force:
        raise ValueError(f"out: {out} holds a run already; go on with resume=True, or overwrite it with force=True")
    if (
        out.exists()
        and not (out / "run.toml").exists()
        and (not out.is_dir() or not all(_hidden(one) for one in out.iterdir()))
    ):
        raise ValueError(f"out: {out} exists and is not a run; choose another")
    others = others_in(out)
    if others:
        raise ValueError(
            f"out: {out} holds {shorten(others, 3)}, which no run wrote; move it, or choose another folder"
        )


def others_in(out: Path) -> list[str]:
    """What lies in a run's folder that nobody but its owner can have put there."""
    if not (out / "run.toml").exists():
        return []
    there = sorted(one.name for one in out.iterdir())
    for folder, ours in WITHIN.items():
        for path in sorted((out / folder).rglob("*")):
            hidden = _hidden(path) or any(_hidden(one) for one in path.relative_to(out).parents)
            if not hidden and not any(path.match(f"{folder}/{pattern}") for pattern in ours):
                return [path.relative_to(out).as_posix()]
    for folder in PAGES:
        for path in sorted((out / folder).rglob("*")):
            if not (_hidden(path) or path.suffix in (".html", ".json") or is_ours(path)):
                return [path.relative_to(out).as_posix()]
    for folder in ("classifier", "without-noise"):
        if found := others_in(out / folder):
            return [f"{folder}/{found[0]}"]
    return [name for name in there if name not in WRITTEN and not _hidden(out / name)]


def _hidden(path: Path) -> bool:
    """Whether it is in the making, or a lock."""
    return bool(HIDDEN.fullmatch(path.name) or IN_THE_MAKING.fullmatch(path.name))


def sweep(out: Path) -> list[str]:
    """Removes what writers that were killed left beside their files; their names. Whoever calls it holds the run."""
    left = [path for folder in (out, out / "previews", out / "checkpoints") for path in swept(folder)]
    for path in (out / "checkpoints").glob("step-*/.*.partial"):
        path.unlink(missing_ok=True)
        left.append(path)
    for path in [*(out / "checkpoints").glob(".step-*.partial"), *(out / "checkpoints").glob(".step-*.aside")]:
        if path.suffix == ".partial" or (path.parent / path.stem[1:]).exists():  # else it is put back, not removed
            shutil.rmtree(path, ignore_errors=True)
            left.append(path)
    return [path.relative_to(out).as_posix() for path in left]


def discard(root: Path, beyond: int) -> None:
    """Removes the checkpoints of later steps, each whole or not at all."""
    for folder in step_folders(root):
        if step_of(folder) > beyond:
            take_away(folder)


def remove(out: Path) -> None:
    """Empties a run's folder of what was written there, by name; the folder stays, which may be a link or a disk."""
    for path in [out / name for name in reversed(WRITTEN) if name != LOCK]:  # run.toml last: without, it is no run
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
