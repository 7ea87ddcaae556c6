"""Whether all that a run's folder holds is whole and belongs together; and what can be mended, mended."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from unsteep.pages.files import replacing
from unsteep.storage.checkpoint import STEP, load_tensors, load_text
from unsteep.storage.foreign import json_of
from unsteep.storage.lock import FolderLock
from unsteep.storage.manifest import verify
from unsteep.training import checkpoints, page
from unsteep.training.belongings import sweep
from unsteep.training.changes import check_as_trained
from unsteep.training.log import lines_of
from unsteep.training.run import parsed, read_run

FINITE = ("weights", "ema", "optimizer")  # tensors that no good training makes otherwise
LOGS = ("log.jsonl", "times.jsonl", "history.jsonl")


class Finding(NamedTuple):
    """`what` was looked at, whether it is `good` (mended things are), and in words."""

    what: str
    good: bool
    said: str


def verified(out: Path, trust: Any = False) -> list[Finding]:
    """Looks at everything in a run's folder. Logs lose their damaged lines, and what killed writers left is swept,
    where nobody trains the run. ValueError where there is no run."""
    if not (out / "run.toml").exists() and not (out / "checkpoints").is_dir():
        raise ValueError(f"{out} is not a run: it has no run.toml")
    found = [*_configuration(out, trust), *_checkpoints(out, trust), *_mended(out)]
    for root in sorted(out.glob("**/checkpoints")):  # those of its classifiers, which are trained as runs are
        if root.parent != out and root.is_dir():
            below = [*_checkpoints(root.parent, trust), *_mended(root.parent)]
            found += [one._replace(what=f"{root.parent.relative_to(out)}/{one.what}") for one in below]
    return found


def _configuration(out: Path, trust: Any) -> Iterator[Finding]:
    try:
        read_run(out, trust)
        yield Finding("run.toml", True, "can be read")
    except ValueError as error:
        yield Finding("run.toml", False, str(error))


def _checkpoints(out: Path, trust: Any) -> Iterator[Finding]:
    root = out / "checkpoints"
    found = {path: int(named[1]) for path in root.glob("step-*") if (named := STEP.fullmatch(path.name))}
    good = []
    for folder, step in sorted(found.items(), key=lambda one: one[1]):
        name = f"checkpoints/{folder.name}"
        try:
            verify(folder)
            told = checkpoints.facts(folder)
            if told["step"] != step:
                raise ValueError(f"it holds step {told['step']}; it was renamed or put there")
            for file in folder.glob("*.safetensors"):
                for name_, tensor in load_tensors(folder, file.stem).items():
                    if file.stem in FINITE and tensor.is_floating_point() and not bool(tensor.isfinite().all()):
                        raise ValueError(f"{file.name}: {name_} holds numbers that are not finite; use another copy")
            if (folder / "optimizer.json").exists() and not isinstance(json_of(folder / "optimizer.json"), dict):
                raise ValueError("optimizer.json: expected the state of an optimizer; use another copy")
        except (ValueError, OSError) as error:
            yield Finding(name, False, str(error).replace(f"{folder}/", ""))
            continue
        good.append(folder)
        yield Finding(name, True, "whole" if told["good"] else "whole, but the loss had grown when it was saved")
    if not found:
        saved = bool(page.read(out).get("saved"))
        yield Finding("checkpoints", not saved, "they are gone" if saved else "there is none yet")
    elif not good:
        yield Finding("checkpoints", False, "none is whole: the run cannot go on; use a fresh copy")
    elif (good[-1] / checkpoints.TRAINED).exists() and (out / "run.toml").exists():
        try:
            check_as_trained(out, parsed(load_text(good[-1], checkpoints.TRAINED), trust), read_run(out, trust))
            yield Finding("run.toml", True, "says what the newest checkpoint was trained as")
        except ValueError as error:
            yield Finding("run.toml", False, str(error).removeprefix("resume: "))


def _mended(out: Path) -> Iterator[Finding]:
    """Logs and leftovers; nothing is touched while the run is trained."""
    try:
        with FolderLock(out):
            for name in LOGS:
                yield from _log(out / name)
            if left := sweep(out):
                yield Finding("leftovers", True, f"removed {len(left)} files of writers that were killed")
    except ValueError:
        yield Finding("logs", True, "it is being trained; its logs were left alone")


def _log(path: Path) -> Iterator[Finding]:
    if not path.exists():
        return
    try:
        found = list(lines_of(path))
    except (ValueError, OSError) as error:
        yield Finding(path.name, False, str(error))
        return
    good = [line for line, _ in found]
    bad = sum(1 for line in path.read_bytes().split(b"\n") if line.strip()) - len(good)
    if bad:
        with replacing(path) as beside:
            beside.write_text("".join(line + "\n" for line in good), encoding="utf-8")
    said = f"mended: {bad} damaged lines were dropped, {len(good)} kept" if bad else f"{len(good):,} lines"
    yield Finding(path.name, True, said)
    steps = [record["step"] for _, record in found] if path.name == LOGS[0] else []
    there = sorted({step for step in steps if step > 0})
    lost = next((i for i, step in enumerate(there, 1) if step != i), None)
    if lost is not None:
        yield Finding(
            path.name, False, f"{there[-1] - len(there):,} steps have no line, {lost} for one; the curve has a gap"
        )
    if steps != sorted(steps):
        yield Finding(path.name, False, "its steps do not rise: lines were put there, or are of another run")
