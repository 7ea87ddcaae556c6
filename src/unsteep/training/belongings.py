"""What in a run's folder is the run's, by name: to begin anew, this is removed, and nothing else ever is."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from unsteep.storage.checkpoint import step_folders

IN_THE_MAKING = re.compile(r"\..+\.[0-9a-f]{8}\.\w+")  # what `pages.files.replacing` writes to
PICTURES = ("samples", "real", "forward", "estimates", "loss", "schedule", "named", "accuracy", "quality")
WRITTEN = (  # by a run, and by the verbs that look at one
    *("run.toml", "log.jsonl", "history.jsonl", "diagnosis.json", "times.jsonl", "about.json"),
    *("checkpoints", "previews", "report.html", "reverse.gif"),
    *(f"{name}.png" for name in PICTURES),
    *("classifier", "without-noise", "evaluation", "likelihood", "rate-distortion", "accuracy.json", "index.html"),
    *("log.csv", "tensorboard"),
    ".lock",
)


BESIDE = (".run.", ".report.", ".samples.", ".log.")  # of a file that was written when the process was killed
WITHIN = {
    "checkpoints": ("step-*", "step-*/*.safetensors", "step-*/*.json", "step-*/*.toml"),
    "previews": ("step-*.png",),
    "tensorboard": ("events.out.tfevents.*",),
}


def others_in(out: Path) -> list[str]:
    """What lies in a run's folder that nobody but its owner can have put there."""
    if not (out / "run.toml").exists():
        return []
    there = sorted(one.name for one in out.iterdir())
    for folder, ours in WITHIN.items():
        for path in sorted((out / folder).rglob("*")):
            if not any(path.match(f"{folder}/{pattern}") for pattern in ours) and not path.name.startswith("."):
                return [path.relative_to(out).as_posix()]
    return [name for name in there if name not in WRITTEN and not name.startswith(BESIDE)]


def sweep(out: Path) -> list[str]:
    """Removes what writers that were killed left beside their files; their names. Whoever calls it holds the run."""
    left = [
        path
        for folder in (out, out / "previews", out / "checkpoints")
        for path in (folder.iterdir() if folder.is_dir() else ())
        if IN_THE_MAKING.fullmatch(path.name) and path.is_file() and not path.is_symlink()
    ]
    for path in left:
        path.unlink(missing_ok=True)
    return [path.relative_to(out).as_posix() for path in left]


def discard(root: Path, beyond: int) -> None:
    """Removes the checkpoints of later steps, each whole or not at all."""
    for folder in step_folders(root):
        if int(folder.name.removeprefix("step-")) > beyond:
            aside = folder.with_name(f".{folder.name}.partial")
            folder.rename(aside)
            shutil.rmtree(aside)


def remove(out: Path) -> None:
    """Empties a run's folder of what was written there, by name; the folder stays, which may be a link or a disk."""
    for path in [out / name for name in WRITTEN if name != ".lock"]:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
