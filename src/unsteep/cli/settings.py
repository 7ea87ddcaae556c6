"""unsteep settings: every key of --set."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from unsteep.storage.meanings import Setting


def settings(name: str = "train", /) -> None:
    """List the keys of --set: what each means, what it may be, and what it is.



    Parameters
    ----------
    name
        A recipe, for all its keys; a part of a run (data, condition, model, schedule, objective, train); or a
        component, as Cosine, UNet or MinSNR, for the keys it has where it stands.
    """
    from unsteep.cli.common import nearest
    from unsteep.recipes import RECIPES
    from unsteep.recipes.sizing import ASKS_MUCH
    from unsteep.storage.meanings import settings as listed
    from unsteep.training.denoising import Run

    parts = [part for part in Run.__dataclass_fields__ if part not in ("space", "start_from")]
    if name in RECIPES:
        show(listed(example(name)))
        if name in ASKS_MUCH:
            print("\non a CPU, train takes the preset small; train --dry-run shows what a run would have")
        return
    if name in parts:
        show(one for one in listed(example("folder")) if one.key == name or one.key.startswith(f"{name}."))
        return
    found = components()
    if name not in found:
        raise ValueError(f"unknown name {name!r}; {nearest(name, [*RECIPES, *parts, *found])}")
    where, cls = found[name]
    try:
        made = cls()
    except (TypeError, ValueError):
        raise ValueError(f"{name} has settings without a default; see it where a recipe has it") from None
    print(f"--set {where}={name}\n")
    show(listed(made, where))


def example(recipe: str) -> Any:
    """The run of a recipe, whatever data it reads."""
    from unsteep.recipes import RECIPES

    try:
        return RECIPES[recipe]("")
    except ValueError:
        return RECIPES[recipe]("DATA")


def components() -> dict[str, tuple[str, type]]:
    """Every class that may be named in a run, and the key it is named at."""
    from unsteep.storage.schema import kind_of, schema_of
    from unsteep.training.denoising import Run

    found: dict[str, tuple[str, type]] = {}
    waiting: list[tuple[str, type]] = [("", Run)]
    while waiting:
        key, cls = waiting.pop(0)
        for name, (_, annotation) in schema_of(cls).items():
            at = f"{key}.{name}" if key else name
            for spelled, one in kind_of(annotation).components.items():
                if spelled not in found:
                    found[spelled] = (at, one)
                    waiting.append((at, one))
    return found


def show(rows: Iterable[Setting]) -> None:
    """A table that fits the terminal."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table("key", "is", "may be", "means", box=None, pad_edge=False, header_style="bold")
    table.columns[0].no_wrap, table.columns[0].style = True, "cyan"
    for column, least in zip(table.columns[1:], (8, 16, 30), strict=True):
        column.min_width, column.overflow = least, "fold"
    for row in rows:
        table.add_row(*map(Text, (row.key, row.value, row.words, row.meaning.removesuffix("."))))
    console = Console()
    if not console.is_terminal:
        console = Console(width=160)
    console.print(table, highlight=False)
