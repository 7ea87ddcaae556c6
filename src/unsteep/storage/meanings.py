"""Every setting of a configuration with its type, its value and what it means: for help, and beside a run.toml.

Meanings are read from the source, so that there is one place for them: the string under a field, or the sentence of the
class's docstring that names it, as "`steps`: how many" or "size: both sides; crop: ...".
"""

from __future__ import annotations

import ast
import inspect
import itertools
import re
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import MISSING, dataclass, is_dataclass
from functools import cache
from typing import Any

from unsteep.storage.schema import default_of, join, kind_of, schema_of, show, spelled, words


@dataclass(frozen=True)
class Setting:
    """`key` as --set takes it; `words`: its type, or the names that may stand there; `value`, as TOML shows it; what it
    means, empty where nobody wrote it down."""

    key: str
    words: str
    value: str
    meaning: str


def settings(config: Any, key: str = "") -> Iterator[Setting]:
    """All of a configuration, a component before its parts. Of a class its defaults, also where not all are known."""
    cls: Any = config if isinstance(config, type) else type(config)
    for name, (field, annotation) in schema_of(cls).items():
        at = join(key, name)
        value = default_of(field) if config is cls else getattr(config, name)
        means = meaning(cls, name)
        if is_dataclass(value) and not isinstance(value, type):
            kind = kind_of(annotation)
            yield Setting(at, " | ".join(kind.names), kind.call(type(value)), means)
            yield from settings(value, at)
        else:
            shown = "to be given" if value is MISSING else "none" if value is None else _shown(value)
            yield Setting(at, words(annotation), shown, means)


def gist(cls: type) -> str:
    """What a component is, in the first sentence of its docstring, or of its file's where its own speaks of its fields;
    empty where there is none."""
    said = inspect.cleandoc(cls.__doc__ or "")
    named = re.match(r"`?(\w+)`?(?=[:, ])", said)
    if not said or said.startswith(f"{cls.__name__}(") or (named and named[1] in schema_of(cls)):  # or by dataclasses
        said = inspect.cleandoc(getattr(sys.modules.get(cls.__module__), "__doc__", None) or "")
    words = " ".join(said.split("\n\n")[0].split())
    first = re.split(r"(?<=[^.\d])\.(?= [A-Z`]|$)|[:;](?: |$)", words, maxsplit=1)[0].removesuffix(
        ", before it is built"
    )
    return first if first.count("(") == first.count(")") else first.rpartition(" (")[0]


def in_words(config: Any, *, usual: bool = False) -> str:
    """A component and what of it was set, or, with what is `usual`, all that is: 'Folder: path photos, size 16,
    labelled'."""
    cls: Any = type(config)
    told = []
    for name, (field, _) in schema_of(cls).items():
        value, said = getattr(config, name), name.replace("_", " ")
        if (value == default_of(field) and not usual) or value in (None, False, "", ()):
            continue
        told.append(said if value is True else f"{said} {_worded(value)}")
    return f"{spelled(cls)}{': ' if told else ''}{', '.join(told)}"


def _worded(value: Any) -> str:
    if isinstance(value, tuple):
        return " and ".join(map(_worded, value))
    return f"({in_words(value)})" if is_dataclass(value) and not isinstance(value, type) else str(value)


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(map(_shown, value))}]"
    return type(value).__name__ if is_dataclass(value) else show(value)


def meaning(cls: type, name: str) -> str:
    """What a field means, in a line; of the class that declares it."""
    base: Any
    for base in cls.__mro__:
        if name in inspect.get_annotations(base):
            return _below(base).get(name) or _named(inspect.getdoc(base) or "", name)
    return ""


@cache
def _below(cls: Any) -> dict[str, str]:
    """The strings that stand under fields."""
    try:
        [tree] = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    except (OSError, TypeError, SyntaxError, ValueError):
        return {}
    found: dict[str, str] = {}
    body = getattr(tree, "body", [])
    for here, below in itertools.pairwise(body):
        if isinstance(here, ast.AnnAssign) and isinstance(here.target, ast.Name) and isinstance(below, ast.Expr):
            text = getattr(below.value, "value", None)
            if isinstance(text, str):
                found[here.target.id] = " ".join(text.split())
    return found


def _named(doc: str, name: str) -> str:
    """The part of a docstring that says what `name` is."""
    text = " ".join(doc.split())
    before, more = r"(?:^|[;.] |: |\))", r"(?:(?:,| and) `?\w+`?)*"
    found = re.search(rf"{before}(?:\w+, )?`?{name}`?{more}: (?P<what>.+?)(?=;|\.(?: |$)|$)", text)
    return found["what"].strip() if found else ""
