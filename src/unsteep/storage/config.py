"""Frozen dataclasses <-> TOML, strictly: the annotations of a dataclass are the schema of its table (see `schema`).

A nested dataclass is a table. Where the annotation offers several, the table says which by `type = "Cosine"`, a class
name without a final "Config"; the bare string `schedule = "Cosine"` is that component with its defaults. An absent key
is the default of its class, never the value of an instance that stood there before.

Where the annotation is open, `type = "package.module:Class"` names a class of the user's own. Whose names are trusted,
and what such a class must be, is said in `own`; a document is trusted least unless `trust` says more.

TOML has no null. A field that is None by default is left out while it is None; any other None is the string "none".

The law is `loads(type(c), dumps(c)) == c`, of the user's own classes, too, where they are imported or trusted. Every
error is a ValueError of one line that begins with the dotted key.
"""

import tomllib
from collections.abc import Iterable
from typing import Any, Literal, TypeVar, get_origin

from unsteep.storage.foreign import check_format
from unsteep.storage.own import Names, Trust
from unsteep.storage.reading import kind_of_whole, read_component, read_plain
from unsteep.storage.schema import (
    Refused,
    choices_of,
    default_of,
    items_of,
    join,
    keys,
    kind_of,
    one_of,
    schema_of,
    show,
    unknown,
    words,
)
from unsteep.storage.writing import lines_of, table_of, write

C = TypeVar("C")
__all__ = ["Trust", "dumps", "from_dict", "keys", "loads", "override", "to_dict"]


def to_dict(config: Any) -> dict[str, Any]:
    """The table of `config`: bools, ints, floats, strings, lists and tables only.

    Raises ValueError if a field holds something that its annotation does not allow, or an instance of a class that
    could not be found again by its name: one inside a function or another class.
    """
    return table_of(config, "", Names())


def from_dict(cls: type[C], table: dict[str, Any], *, trust: Trust = "imported") -> C:
    """The `cls` that `table` describes: the inverse of `to_dict`. Raises ValueError naming the key that is wrong.

    `trust`: what is done for "module:Class" in it. "imported", the same as False: only modules are looked into that
    the program has imported. "file": they are imported, but not from the current folder. "typed", the same as True:
    also from there.
    """
    return _whole(cls, check_format(table), Names(trust))


def dumps(config: Any) -> str:
    """`config` as a TOML document, with every default written out: it outlives a change of the defaults."""
    return "\n".join(lines_of(to_dict(config), "")).lstrip("\n") + "\n"


def loads(cls: type[C], text: str, *, trust: Trust = "imported") -> C:
    """The `cls` that a TOML document describes. Raises ValueError naming the key, or the line if it is not TOML.
    `trust` as in `from_dict`."""
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"expected TOML, got a syntax error: {error}") from None
    except RecursionError:
        raise ValueError("expected TOML, got parts within parts without end") from None
    return from_dict(cls, table, trust=trust)


def override(config: C, settings: Iterable[str], *, trust: Trust = "typed") -> C:
    """`config` with each "dotted.key=value" applied in order; the outcome is checked once, as a whole.

    A value is read by the type of its field, so strings need no quotes: `train.steps=20000`, `data.path=photos/`,
    `data.labels=4` or `1,2` or `[1,2]`, `guidance=none`. The name of a component, `schedule=Cosine` or
    `schedule=mine:Steep`, replaces what stands there by that component's defaults; `schedule.start=2e-4` reaches into
    what stands there. `trust` as in `from_dict`, of the settings: what stands in `config` is trusted.
    """
    names = Names(trust)
    table = table_of(config, "", names)
    for setting in settings:
        key, equals, text = (part.strip() for part in setting.partition("="))
        if not equals:
            raise ValueError(f"expected KEY=VALUE, got {show(setting)}; write the key, an equals sign and the value")
        # the file calls it schedule.type; changing it alone would leave the settings of another component behind
        _set(type(config), table, key.removesuffix(".type"), text, names)
    return _whole(type(config), table, names)


def _whole(cls: type[C], table: dict[str, Any], names: Names) -> C:
    built: C = read_component(kind_of_whole(cls), table, "", names)
    return built


# Overriding: a text under an annotation, put into the document.


def _set(cls: type, table: dict[str, Any], key: str, text: str, names: Names) -> None:
    *path, last = key.split(".")
    owner, here = cls, ""
    for name in path:
        _known(cls, owner, name, here)
        owner, table = _enter(owner, table, name, join(here, name), names)
        here = join(here, name)
    _known(cls, owner, last, here)
    table[last] = _parse(schema_of(owner)[last][1], text, join(here, last), names)


def _known(root: type, owner: type, name: str, key: str) -> None:
    if name not in schema_of(owner):
        raise unknown(name, schema_of(owner), key, elsewhere=[k for k, _, _ in keys(root) if k.endswith(f".{name}")])


def _enter(owner: type, table: dict[str, Any], name: str, key: str, names: Names) -> tuple[type, dict[str, Any]]:
    """The class and the table of the component at `name`; where none stands and one alone may, it now does."""
    field, annotation = schema_of(owner)[name]
    kind = kind_of(annotation)
    if not kind.names:
        raise ValueError(f"{key}: expected a component to reach into, got {words(annotation)}; set {key} itself")
    inner = table.get(name)
    if name not in table and kind.takes(default_of(field)):
        inner = write(annotation, default_of(field), key, names)  # earlier, no more than the owner's name was said
    if isinstance(inner, str) and inner != "none":
        inner = {"type": inner}
    if not isinstance(inner, dict):
        if kind.open or len(kind.names) > 1:
            raise ValueError(
                f"{key}: expected a component to reach into, got none; first set {key} to one of {one_of(kind)}"
            )
        inner = {}
    cls = names.choose(kind, inner.get("type", next(iter(kind.components), None)), key)
    table[name] = inner
    return cls, inner


def _parse(annotation: Any, text: str, key: str, names: Names) -> Any:
    """What `text` means under `annotation`, or the text itself if it means nothing there: `read` then says so."""
    kind = kind_of(annotation)
    if kind.optional and text.lower() == "none":
        return None
    for plain in kind.plain:
        value = _parse_plain(plain, text, key, names)
        try:
            read_plain(plain, value, key, names)
        except Refused:
            raise
        except ValueError:
            if isinstance(value, list) and any(isinstance(item, dict) for item in value):
                return value  # written as tables, so meant as such: what is wrong is inside
            continue
        return value
    return _from_toml(text) if kind.names and text.startswith("{") else text


def _parse_plain(annotation: Any, text: str, key: str, names: Names) -> Any:
    if get_origin(annotation) is tuple:
        return _parse_tuple(annotation, text, key, names)
    if get_origin(annotation) is Literal:
        return choices_of(annotation).get(text, text)
    if annotation is str:
        return _from_toml(text) if text.startswith('"') else text
    try:
        return {"true": True, "false": False}[text.lower()] if annotation is bool else annotation(text)
    except (KeyError, ValueError):
        return text


def _parse_tuple(annotation: Any, text: str, key: str, names: Names) -> Any:
    body = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    if any(mark in body for mark in '["{'):
        return _from_toml(f"[{body}]")
    parts = [part.strip() for part in body.split(",") if part.strip()]
    items = items_of(annotation, len(parts))
    if len(items) == len(parts):
        return [_parse(a, p, f"{key}[{i}]", names) for i, (a, p) in enumerate(zip(items, parts, strict=True))]
    return text


def _from_toml(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (tomllib.TOMLDecodeError, RecursionError):
        return text
