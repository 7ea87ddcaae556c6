"""Training in one call: a recipe, or a run's own configuration, and data, to a folder with a model and its report."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from unsteep.core.arguments import flag, shown
from unsteep.core.arguments import path as path_of
from unsteep.data import Given
from unsteep.opening import chosen_device, load
from unsteep.recipes import RECIPES
from unsteep.storage.config import Trust, override
from unsteep.training import run as runs
from unsteep.training.settings import TrainConfig


def train(
    recipe_or_run: Any,
    *,
    data: Any = None,
    out: str | Path,
    settings: Iterable[str] = (),
    start_from: Any = None,
    resume: bool = False,
    force: bool = False,
    trust: bool = False,
    device: str = "auto",
    say: Callable[[str], None] = print,
    **train: Any,
) -> Any:
    """Trains a model in the folder `out`, and opens it: a `Model`, or an opened classifier for a `ClassifierRun`.

    `recipe_or_run`: the name of a recipe, as "array" or "folder" (`unsteep.recipes.RECIPES`), or a run. `data`: where
    the recipe reads them, a path; or the data themselves, a tensor, an array, a torch `Dataset` or a `DataSet`, and no
    file is read. `settings`: as --set takes them, "model.network.width=64". `start_from`: a run, a checkpoint or a
    saved model, by its path, whose weights it starts from; model, schedule, space and conditions are then its. Further
    keywords are keys of `train.`, as steps=500. `resume`: goes on with the run in `out`. `force`: overwrites it.
    `trust`: import parts of a user's own that a file names. ValueError where anything does not fit, before anything is
    written. On Ctrl-C it saves and raises KeyboardInterrupt; with `resume=True` it goes on.
    """
    out, where = path_of("out", out), chosen_device(device)
    for name, value in (("resume", resume), ("force", force), ("trust", trust)):
        flag(name, value)
    if not callable(say):
        raise ValueError(f"say: expected a function of a text, as print, got {shown(say)}; give one")
    keys = [*texts(settings), *(f"train.{name}={_text(name, value)}" for name, value in train.items())]
    if resume:
        if force or start_from is not None:
            raise ValueError("resume: goes on with a run as it is; leave out force and start_from")
        moved = [f"data.path={data}"] if isinstance(data, str | Path) else []
        given = None if moved else data
        finished = runs.resume([*moved, *keys], out, device=where, say=say, trust="file", data=given)
    else:
        run = configured(recipe_or_run, data, keys, start_from, trust="typed")
        finished = runs.start(run, out, force=force, device=where, say=say, trust=trust or "typed")
    if not finished:
        raise KeyboardInterrupt(f"stopped and saved; go on with resume=True, out={str(out)!r}")
    return opened(out, where)


def configured(
    recipe_or_run: Any, data: Any = None, settings: Iterable[str] = (), start_from: Any = None, trust: Trust = "typed"
) -> Any:
    """The run that a recipe or a run, data and settings make together. ValueError where they do not fit."""
    path = "" if data is None or not isinstance(data, str | Path) else str(data)
    in_memory = data is not None and not path
    if isinstance(recipe_or_run, str):
        if recipe_or_run not in RECIPES:
            raise ValueError(f"recipe_or_run: unknown recipe {recipe_or_run!r}; {_nearest(recipe_or_run)}")
        run: Any = RECIPES[recipe_or_run](path or (HELD if in_memory else ""))
    elif hasattr(recipe_or_run, "made") and not isinstance(recipe_or_run, type):
        run = recipe_or_run
        if path:
            if not hasattr(run.data, "path"):
                raise ValueError(f"data: {type(run.data).__name__} reads no file; leave {path} out")
            run = replace(run, data=replace(run.data, path=path))
    else:
        raise ValueError(f"recipe_or_run: expected the name of a recipe, or a run, got {type(recipe_or_run).__name__}")
    held = None
    if in_memory:
        kind = run.data if getattr(run, "space", None) is None else run.space
        held = Given.of(data, axes=getattr(kind, "axes", None))
        run = replace(run, data=held)
    if start_from is not None:
        if not isinstance(start_from, str | Path):
            raise ValueError(
                f"start_from: expected the path of a run, a checkpoint or a saved model, got {shown(start_from)}; save "
                "the model first, with model.save(PATH)"
            )
        run = replace(run, start_from=str(start_from))
        if hasattr(run, "started_from"):
            first = load(run.start_from, device="cpu", trust=trust is True)
            run = run.started_from(first)
            if hasattr(run.data, "sized"):
                run = replace(run, data=run.data.sized(first.space.shape))
    run = override(run, texts(settings), trust=trust)
    return run if held is None else replace(run, data=run.data.holding(held.data))  # which no setting can say


def opened(out: Path, device: str) -> Any:
    """What a run trained: a model, or what its configuration opens in the place of one, as a classifier."""
    own = getattr(runs.read_run(out), "opened", None)
    return load(out, device=device) if own is None else own(out, device)


def texts(settings: Iterable[str]) -> list[str]:
    """Settings, as --set takes them. ValueError for what is no list of texts."""
    if isinstance(settings, str):
        raise ValueError(f'settings: expected a list, as ["train.steps=500"], got one text {settings!r}')
    rows = isinstance(settings, Iterable) and not isinstance(settings, range) and getattr(settings, "ndim", None) != 0
    found: list[Any] = list(settings) if rows else [settings]
    if not all(isinstance(one, str) for one in found):
        raise ValueError(f'settings: expected a list of texts, as ["train.steps=500"], got {shown(settings)}; give one')
    return found


HELD = "given"  # where a recipe would read from, had its data not been given


def _text(name: str, value: Any) -> str:
    """A keyword as --set takes it. ValueError for one that is no key of `train.`."""
    known = [f.name for f in fields(TrainConfig)]
    if name not in known:
        near = difflib.get_close_matches(name, known, 1)
        hint = f" did you mean {near[0]}?" if near else ""
        raise ValueError(
            f"{name}: unknown keyword;{hint} keywords left over are keys of train.: {', '.join(known)}; other keys "
            'go into settings, as settings=["model.network.width=64"]'
        )
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _nearest(name: str) -> str:
    close = difflib.get_close_matches(name, RECIPES, n=2)
    meant = f"did you mean {' or '.join(close)}? " if close else ""
    return f"{meant}known: {', '.join(RECIPES)}"
