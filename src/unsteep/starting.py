"""Training in one call: a recipe, or a run's own configuration, and data, to a folder with a model and its report."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch

from unsteep.core.arguments import flag, shown
from unsteep.core.arguments import path as path_of
from unsteep.data import Given
from unsteep.evaluation.on_the_way import fid_on_the_way
from unsteep.networks.presets import Preset
from unsteep.opening import chosen_device, load
from unsteep.recipes import RECIPES
from unsteep.recipes.sizing import ASKS_MUCH, duration, following, network_of, shape_of, sized, within
from unsteep.storage.config import Trust, override
from unsteep.training import run as runs
from unsteep.training.denoising import Run
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
    preset: Preset | None = None,
    budget: str | None = None,
    say: Callable[[str], None] = print,
    **train: Any,
) -> Any:
    """Trains a model in the folder `out`, and opens it: a `Model`, or an opened classifier for a `ClassifierRun`.

    `recipe_or_run`: the name of a recipe, as "array" or "folder" (`unsteep.recipes.RECIPES`), or a run. `data`: where
    the recipe reads them, a path; or the data themselves, a tensor, an array, a torch `Dataset` or a `DataSet`, and no
    file is read. `settings`: as --set takes them, "model.network.width=64". `start_from`: a run, a checkpoint or a
    saved model, by its path, whose weights it starts from; model, schedule, space and conditions are then its. Further
    keywords are keys of `train.`, as steps=500. `resume`: goes on with the run in `out`. `force`: overwrites it.
    `trust`: import parts of a user's own that a file names. `preset`: "small", "medium" or "large", the size of the
    network and the steps that go with it; `budget`: a time, as "30m", that size, steps and where possible the pictures
    are to fit on this machine (see `recipes.sizing`). ValueError where anything does not fit, before anything is
    written. On Ctrl-C it saves and raises KeyboardInterrupt; with `resume=True` it goes on.
    """
    out, where = path_of("out", out), chosen_device(device)
    check_how(say, resume=resume, force=force, trust=trust)
    keys = [*texts(settings), *(f"train.{name}={text_of(name, value)}" for name, value in train.items())]
    if resume:
        if force or start_from is not None:
            raise ValueError("resume: goes on with a run as it is; leave out force and start_from")
        if preset is not None or budget is not None:
            raise ValueError("resume: goes on with a run as it is; leave out preset and budget")
        moved = [f"data.path={data}"] if isinstance(data, str | Path) else []
        given = None if moved else data
        finished = runs.resume(
            [*moved, *keys],
            out,
            device=where,
            say=say,
            trust=trust or "file",
            data=given,
            measures=fid_on_the_way,
        )
    else:
        run = configured(
            recipe_or_run, data, keys, start_from, trust=trust or "typed", preset=preset, budget=budget, device=where
        )
        return carried_out(run, out, force=force, trust=trust, device=where, say=say)
    return _ended(finished, out, where)


def check_how(say: Any, **switches: Any) -> None:
    """ValueError where what a call is told by, or a switch of it, is none."""
    for name, value in switches.items():
        flag(name, value)
    if not callable(say):
        raise ValueError(f"say: expected a function of a text, as print, got {shown(say)}; give one")


def carried_out(run: Any, out: Path, *, force: bool, trust: bool, device: str, say: Callable[[str], None]) -> Any:
    """Trains a run to its end, and opens what it trained."""
    where, how = chosen_device(device), trust or "typed"
    finished = runs.start(run, out, force=force, device=where, say=say, trust=how, measures=fid_on_the_way)
    return _ended(finished, out, where)


def _ended(finished: bool, out: Path, where: str) -> Any:
    if not finished:
        raise KeyboardInterrupt(f"stopped and saved; go on with resume=True, out={str(out)!r}")
    return opened(out, where)


def configured(
    recipe_or_run: Any,
    data: Any = None,
    settings: Iterable[str] = (),
    start_from: Any = None,
    trust: Trust = "typed",
    *,
    preset: Preset | None = None,
    budget: str | None = None,
    device: str = "cpu",
) -> Any:
    """The run that a recipe or a run, data and settings make together, of the size of a preset, or that fits a budget,
    or this device. ValueError where they do not fit."""
    path = "" if data is None or not isinstance(data, str | Path) else str(data)
    run = based(recipe_or_run, path, data is not None and not path)
    held = None
    if data is not None and not path:
        kind = run.data if getattr(run, "space", None) is None else run.space
        held = Given.of(data, axes=getattr(kind, "axes", None))
        run = replace(run, data=held)
    settings = texts(settings)
    if start_from is not None:
        run = _continuing(run, start_from, trust)
    for name, value in (("preset", preset), ("budget", budget)):
        if start_from is not None and value is not None:
            raise ValueError(f"{name}: the network stays what it is in start_from; leave it out, and set train.steps")
    if preset is None and start_from is None and recipe_or_run in ASKS_MUCH and torch.device(device).type == "cpu":
        preset = "small" if budget is None else None
    run = _sized(run, settings, preset, budget, trust, device)
    asked = override(run, settings, trust=trust)
    run = override(following(run, settings, asked.train.steps), settings, trust=trust)
    return run if held is None else replace(run, data=run.data.holding(held.data))  # which no setting can say


def based(recipe_or_run: Any, path: str, in_memory: bool) -> Any:
    """The run of a recipe, or a run itself, on the data at a path. ValueError for another thing."""
    if isinstance(recipe_or_run, str):
        if recipe_or_run not in RECIPES:
            raise ValueError(f"recipe_or_run: unknown recipe {recipe_or_run!r}; {_nearest(recipe_or_run)}")
        return RECIPES[recipe_or_run](path or (HELD if in_memory else ""))
    if not hasattr(recipe_or_run, "made") or isinstance(recipe_or_run, type):
        raise ValueError(f"recipe_or_run: expected the name of a recipe, or a run, got {type(recipe_or_run).__name__}")
    if not path:
        return recipe_or_run
    if not hasattr(recipe_or_run.data, "path"):
        raise ValueError(f"data: {type(recipe_or_run.data).__name__} reads no file; leave {path} out")
    return replace(recipe_or_run, data=replace(recipe_or_run.data, path=path))


def _continuing(run: Any, start_from: Any, trust: Trust) -> Any:
    """The run with all that stays as it is in what it starts from."""
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
    return run


def _sized(run: Any, settings: list[str], preset: Preset | None, budget: str | None, trust: Trust, device: str) -> Any:
    """The run at the size of a preset, or of a budget, for the pictures that the settings ask for."""
    if preset is not None and budget is not None:
        raise ValueError("budget: it chooses the size itself; leave preset out, or budget")
    if preset is None and budget is None:
        return run
    if not isinstance(run, Run):
        raise ValueError(f"preset: sizes are of denoisers, and this is a {type(run).__name__}; leave it out")
    network_of(run)
    run = override(run, [one for one in settings if one.startswith("data.")], trust=trust)
    if preset is not None:
        return sized(run, preset, max(shape_of(run.data)[1:]))
    fixed = any(one.startswith(("data.size=", "data.height=", "data.width=")) for one in settings)
    return within(run, duration(budget or ""), device, smaller=not fixed)


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


def text_of(name: str, value: Any) -> str:
    """A keyword as --set takes it. ValueError for one that is no key of `train.`."""
    known = [f.name for f in fields(TrainConfig)]
    if name not in known:
        near = difflib.get_close_matches(name, known, 1)
        hint = f" did you mean {near[0]}?" if near else ""
        raise ValueError(
            f"{name}: unknown keyword;{hint} keywords left over are keys of train.: {', '.join(known)}; other keys "
            'go into settings, as settings=["model.network.width=64"]'
        )
    if isinstance(value, list | tuple):
        return ",".join(map(str, value))
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _nearest(name: str) -> str:
    close = difflib.get_close_matches(name, RECIPES, n=2)
    meant = f"did you mean {' or '.join(close)}? " if close else ""
    return f"{meant}known: {', '.join(RECIPES)}"
