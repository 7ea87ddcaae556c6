"""unsteep settings: every key of --set."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from unsteep.cli.terminal import say

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from unsteep.storage.meanings import Setting


SOLVER = ("solver", "sampler")  # not of a run: of sampling


def settings(name: str = "train", /) -> None:
    """List the keys of --set: what each means, what it may be, and what it is.



    Parameters
    ----------
    name
        A recipe, for all its keys; a key, as schedule, model.network or train.ema, for what it may be and what lies
        below it; a component, as Folder, Cosine, UNet or MinSNR, for its keys; solver, or the name of one.
    """
    from unsteep.cli.common import nearest
    from unsteep.recipes import RECIPES
    from unsteep.recipes.sizing import ASKS_MUCH
    from unsteep.sampling import SOLVERS
    from unsteep.storage.meanings import settings as listed
    from unsteep.storage.schema import spelled

    known, found = keys(), components()
    if name in RECIPES:
        show(listed(example(name)))
        if name in ASKS_MUCH:
            say("\non a CPU, train takes the preset small; train --dry-run shows what a run would have")
    elif name in SOLVER:
        say("unsteep sample RUN --solver NAME, which is one of\n")
        _choices({one: type(solver) for one, solver in SOLVERS.items()})
        say("\nor one of your own, as module:Class; unsteep settings NAME has what --set changes of one")
    elif name in known:
        _of_key(name, known[name])
    elif name in found:
        where, cls = found[name]
        say(f"--set {where}={name}\n")
        show(listed(cls, where))
    elif solver := next((one for one in SOLVERS if name in (one, spelled(type(SOLVERS[one])))), None):
        say(f"unsteep sample RUN --solver {solver}, with --set for each of\n")
        show(listed(SOLVERS[solver]))
    else:
        raise ValueError(f"unknown name {name!r}; {nearest(name, [*RECIPES, *known, *found, *SOLVERS, *SOLVER])}")


def _of_key(key: str, places: list[tuple[type, Any]]) -> None:
    """What may stand at a key, and what lies below it in a usual run."""
    from unsteep.storage.meanings import settings as listed
    from unsteep.storage.schema import kind_of, spelled

    choices: dict[str, type] = {}
    for _, annotation in places:
        choices |= kind_of(annotation).components
    if len(choices) > 1:
        say(f"--set {key}=NAME, which is one of\n")
        _choices(choices)
        say("\nor one of your own, as module:Class; unsteep settings NAME has the keys of one\n")
    rows = [one for one in listed(example("folder")) if one.key == key or one.key.startswith(f"{key}.")]
    if not rows:  # of a component that does not stand in a usual run
        above = key.rpartition(".")[0]
        rows = [
            replace(one, meaning=f"of {spelled(cls)}{': ' if one.meaning else ''}{one.meaning}")
            for cls, _ in places
            for one in listed(cls, above)
            if one.key == key
        ]
    show(rows)


def _choices(choices: dict[str, type]) -> None:
    from rich.table import Table
    from rich.text import Text

    from unsteep.cli.terminal import Terminal
    from unsteep.storage.meanings import gist

    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="cyan", no_wrap=True)
    table.add_column(overflow="fold")
    for name, cls in choices.items():
        table.add_row(name, Text(gist(cls)))
    console = Terminal()
    (console if console.is_terminal else Terminal(width=160)).print(table, highlight=False)


def example(recipe: str) -> Any:
    """The run of a recipe, whatever data it reads."""
    from unsteep.recipes import RECIPES

    try:
        return RECIPES[recipe]("")
    except ValueError:
        return RECIPES[recipe]("DATA")


def keys() -> dict[str, list[tuple[type, Any]]]:
    """Every key that some run has: the classes that have it where it stands, each with the annotation there."""
    found: dict[str, list[tuple[type, Any]]] = {}
    for key, cls, annotation in _walked():
        if key not in ("space", "start_from") and not key.startswith("space."):  # settled by data, and by options
            found.setdefault(key, []).append((cls, annotation))
    return found


def components() -> dict[str, tuple[str, type]]:
    """Every class that may be named in a run, and the key it is named at."""
    from unsteep.storage.schema import kind_of

    found: dict[str, tuple[str, type]] = {}
    for key, _, annotation in _walked():
        for spelled, one in kind_of(annotation).components.items():
            found.setdefault(spelled, (key, one))
    return found


def _walked() -> Iterator[tuple[str, type, Any]]:
    """Every key with the class that has it and its annotation; a class is looked into once."""
    from unsteep.storage.schema import kind_of, schema_of
    from unsteep.training.denoising import Run

    seen: set[type] = {Run}
    waiting: list[tuple[str, type]] = [("", Run)]
    while waiting:
        key, cls = waiting.pop(0)
        for name, (_, annotation) in schema_of(cls).items():
            at = f"{key}.{name}" if key else name
            yield at, cls, annotation
            new = [one for one in kind_of(annotation).components.values() if one not in seen]
            seen.update(new)
            waiting += [(at, one) for one in new]


def show(rows: Iterable[Setting]) -> None:
    """A table that fits the terminal."""
    from rich.table import Table
    from rich.text import Text

    from unsteep.cli.terminal import Terminal

    table = Table("key", "is", "may be", "means", box=None, pad_edge=False, header_style="bold")
    table.columns[0].no_wrap, table.columns[0].style = True, "cyan"
    for column, least in zip(table.columns[1:], (8, 16, 30), strict=True):
        column.min_width, column.overflow = least, "fold"
    for row in rows:
        table.add_row(*map(Text, (row.key, row.value, row.words, row.meaning.removesuffix("."))))
    console = Terminal()
    if not console.is_terminal:
        console = Terminal(width=160)
    console.print(table, highlight=False)
