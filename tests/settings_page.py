"""docs/settings.md, made of the types: every key of --set, its default, what it may be and what it means."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from dataclasses import fields, is_dataclass
from typing import Any

from unsteep.cli.examples import RECIPES as IN_A_LINE
from unsteep.cli.settings import components, example
from unsteep.recipes import RECIPES
from unsteep.sampling import SOLVERS
from unsteep.storage.meanings import Setting, meaning
from unsteep.storage.meanings import settings as listed
from unsteep.storage.schema import schema_of, show, words

OPENING = """\
# Settings

Every key that `--set KEY=VALUE` takes, as `settings=["KEY=VALUE"]` does in Python. A run keeps all of them in its
`run.toml`. `unsteep settings RECIPE` lists those of one recipe with its values; a name that is wrong is answered with
the nearest right ones. Where a class may stand, `module:Class` takes one of your own. This page is made of the source
by its test: `UNSTEEP_REGENERATE=1 pytest tests/test_documents.py` writes it anew.
"""
GENERAL = ("condition", "model", "schedule", "objective", "train", "space", "start_from")


def page() -> str:
    """The whole page."""
    return "\n".join([OPENING, *_every_run(), *_recipes(), *_parts(), *_solvers()]).rstrip() + "\n"


def _every_run() -> Iterator[str]:
    yield "## Of every run\n"
    yield "The defaults are those of the recipe `folder` on a GPU; what other recipes change stands below.\n"
    rows = [row for row in listed(example("folder")) if row.key.split(".")[0] in GENERAL]
    yield _table(row for row in rows if not row.key.startswith(("model.network.", "schedule.")))


def _recipes() -> Iterator[str]:
    yield "## What recipes begin with\n"
    yield "Only what differs from the table above. On a CPU, recipes for data of your own take the preset `small`,"
    yield "which changes network, prediction, steps and more; `unsteep train RECIPE --dry-run` shows all of it.\n"
    usual = {row.key: row.value for row in listed(example("folder"))}
    for name in RECIPES:
        rows = [
            row for row in listed(example(name)) if usual.get(row.key, '""') != row.value and row.key != "data.path"
        ]
        rows = [row for row in rows if row.key in usual or row.value != "0"]
        yield f"### {name}\n\n{IN_A_LINE[name][0].upper()}{IN_A_LINE[name][1:]}.\n"
        if name == "folder":
            yield _table((row for row in listed(example(name)) if row.key == "data"), told=False)
        else:
            yield _table(rows, told=False)


def _parts() -> Iterator[str]:
    """Every class that may be named, under the key it is named at."""
    at: dict[str, list[tuple[str, type]]] = {}
    for name, (key, cls) in components().items():
        if key not in ("condition", "model", "train") and name != "Given":
            at.setdefault(key, []).append((name, cls))
    for key in sorted(at, key=list(at).index):
        yield f"## {key}\n"
        yield from _classes(key, at[key])


def _classes(key: str, classes: Iterable[tuple[str, type]]) -> Iterator[str]:
    bare = []
    for name, cls in classes:
        rows = [*_fields(cls, key)]
        if not rows:
            bare.append(name)
            continue
        yield f"### {name}\n\n{_said(cls)}\n"
        yield _table(rows)
    if bare:
        yield f"Without settings of their own: {', '.join(f'`{name}`' for name in bare)}.\n"


def _said(cls: type) -> str:
    """The first paragraph of what a class says of itself."""
    return (inspect.getdoc(cls) or "").split("\n\n")[0].partition(" A wrong field")[0]


def _fields(cls: Any, key: str) -> Iterator[Setting]:
    """The keys of a class; those of its parts have their own tables."""
    try:
        made = cls()
    except (TypeError, ValueError):
        made = None
    for name, (field, annotation) in schema_of(cls).items():
        value = getattr(made, name, field.default)
        shown = "" if made is None and not isinstance(value, str | int | float | bool | tuple) else _value(value)
        yield Setting(f"{key}.{name}", words(annotation), shown, meaning(cls, name))


def _solvers() -> Iterator[str]:
    yield "## Solvers\n"
    yield "What `unsteep sample RUN --solver NAME --set KEY=VALUE` takes; `--order` is the key `order`.\n"
    bare = []
    for name, solver in SOLVERS.items():
        made: Any = solver
        rows = [
            Setting(one.name, words(schema_of(type(made))[one.name][1]), _value(getattr(made, one.name)),
                    meaning(type(made), one.name))
            for one in fields(made)
            if one.name in schema_of(type(made)) and one.name not in ("frame", "published")
        ]  # fmt: skip
        if not rows:
            bare.append(name)
            continue
        yield f"### {name}\n\n{_said(type(made))}\n"
        yield _table(rows)
    yield f"Without settings of their own: {', '.join(f'`{name}`' for name in bare)}.\n"


def _value(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, tuple):
        return f"[{', '.join(map(_value, value))}]"
    return type(value).__name__ if is_dataclass(value) else show(value)


def _table(rows: Iterable[Setting], told: bool = True) -> str:
    """In Markdown; `told`: with choices and meaning."""
    head = ("key", "default", "may be", "means") if told else ("key", "here")
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for row in rows:
        cells = [f"`{row.key}`", f"`{row.value}`" if row.value else "to be given"]
        cells += [_choices(row.words), row.meaning.removesuffix(".").replace("|", "or")] if told else []
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _choices(text: str) -> str:
    parts = text.split(" | ")
    return f"{', '.join(parts[:-1])} or {parts[-1]}" if len(parts) > 1 else text
