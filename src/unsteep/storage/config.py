"""Frozen dataclasses <-> TOML, strictly: the annotations of a dataclass are the schema of its table (see `schema`).

A nested dataclass is a table. Where the annotation offers several, the table says which by `type = "Cosine"`, a class
name without a final "Config"; the bare string `schedule = "Cosine"` is that component with its defaults. An absent key
is the default of its class, never the value of an instance that stood there before.

TOML has no null. A field that is None by default is left out while it is None; any other None is the string "none".

The law is `loads(type(c), dumps(c)) == c`. Every error is a ValueError of one line that begins with the dotted key.
"""

import json
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import MISSING
from typing import Any, Literal, TypeVar, get_args, get_origin

from unsteep.storage.schema import (
    SCALARS,
    choices_of,
    default_of,
    items_of,
    join,
    keys,
    kind_of,
    mismatch,
    no_choice,
    schema_of,
    show,
    spelled,
    unknown,
    words,
)

C = TypeVar("C")
__all__ = ["dumps", "from_dict", "keys", "loads", "override", "to_dict"]


def to_dict(config: Any) -> dict[str, Any]:
    """The table of `config`: bools, ints, floats, strings, lists and tables only.

    Raises ValueError if a field holds something that its annotation does not allow.
    """
    return _table(config, "")


def from_dict(cls: type[C], table: dict[str, Any]) -> C:
    """The `cls` that `table` describes: the inverse of `to_dict`. Raises ValueError naming the key that is wrong."""
    built: C = _read_component({spelled(cls): cls}, table, "")
    return built


def dumps(config: Any) -> str:
    """`config` as a TOML document, with every default written out: it outlives a change of the defaults."""
    return "\n".join(_lines(to_dict(config), "")).lstrip("\n") + "\n"


def loads(cls: type[C], text: str) -> C:
    """The `cls` that a TOML document describes. Raises ValueError naming the key, or the line if it is not TOML."""
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"expected TOML, got a syntax error: {error}") from None
    return from_dict(cls, table)


def override(config: C, settings: Iterable[str]) -> C:
    """`config` with each "dotted.key=value" applied in order; the outcome is checked once, as a whole.

    A value is read by the type of its field, so strings need no quotes: `train.steps=20000`, `data.path=photos/`,
    `data.labels=4` or `1,2` or `[1,2]`, `guidance=none`. The name of a component, `schedule=Cosine`, replaces what
    stands there by that component's defaults; `schedule.start=2e-4` reaches into what stands there.
    """
    table = to_dict(config)
    for setting in settings:
        key, equals, text = (part.strip() for part in setting.partition("="))
        if not equals:
            raise ValueError(f"expected KEY=VALUE, got {show(setting)}; write the key, an equals sign and the value")
        # the file calls it schedule.type; changing it alone would leave the settings of another component behind
        _set(type(config), table, key.removesuffix(".type"), text)
    return from_dict(type(config), table)


# Reading: a value of the document under an annotation.


def _read(annotation: Any, value: Any, key: str) -> Any:
    kind = kind_of(annotation)
    if value is None and kind.optional:
        return None
    failure = None
    for plain in kind.plain:  # before "none" and the components, so that a field which takes strings takes all of them
        try:
            return _read_plain(plain, value, key)
        except ValueError as error:
            failure = error
    if kind.optional and isinstance(value, str) and value == "none":
        return None
    named = isinstance(value, str) and (value in kind.components or not kind.plain)
    if kind.components and (named or isinstance(value, dict)):
        return _read_component(kind.components, value, key)
    if failure and not kind.components and len(kind.plain) == 1 and kind.plain[0] not in SCALARS:
        raise failure  # it names the element or the nearest choice
    raise mismatch(annotation, value, key)


def _read_plain(annotation: Any, value: Any, key: str) -> Any:
    if get_origin(annotation) is tuple:
        if not isinstance(value, list | tuple) or len(items := items_of(annotation, len(value))) != len(value):
            raise mismatch(annotation, value, key)
        return tuple(_read(a, v, f"{key}[{i}]") for i, (a, v) in enumerate(zip(items, value, strict=True)))
    if get_origin(annotation) is Literal:
        for choice in get_args(annotation):
            if type(choice) is type(value) and choice == value:
                return choice
        raise no_choice(value, choices_of(annotation), key)
    accepted = (int, float) if annotation is float else annotation
    if not isinstance(value, accepted) or (isinstance(value, bool) and annotation is not bool):
        raise mismatch(annotation, value, key)
    return annotation(value)


def _read_component(components: dict[str, type], value: str | dict[str, Any], key: str) -> Any:
    table = {"type": value} if isinstance(value, str) else value
    name = table.get("type", next(iter(components)) if len(components) == 1 else None)
    if name is None:
        raise ValueError(f"{key}: expected a table with type = one of {', '.join(components)}, got one without a type")
    if not isinstance(name, str) or name not in components:
        raise no_choice(name, components, key)
    cls = components[name]
    schema = schema_of(cls)
    given = {}
    for inner, item in table.items():
        if inner in schema:
            given[inner] = _read(schema[inner][1], item, join(key, inner))
        elif inner != "type":
            raise unknown(inner, schema, key)
    for inner, (field, annotation) in schema.items():
        if inner not in given and default_of(field) is MISSING:
            raise ValueError(
                f"{join(key, inner)}: expected {words(annotation)}, got nothing; it has no default, so set it"
            )
    try:
        return cls(**given)
    except ValueError as error:
        raise ValueError(f"{key or name}: {error}") from error


# Writing: a value of Python under an annotation, then the document.


def _table(config: Any, key: str) -> dict[str, Any]:
    cls: type = type(config)
    table = {}
    for name, (field, annotation) in schema_of(cls).items():
        value = getattr(config, name)
        if value is not None or default_of(field) is not None:
            table[name] = _write(annotation, value, join(key, name))
    return table


def _write(annotation: Any, value: Any, key: str) -> Any:
    kind = kind_of(annotation)
    if value is None and kind.optional:
        assert _read(annotation, "none", key) is None, f"{key}: a string that may be None must be so by default"
        return "none"
    if type(value) in kind.components.values():
        table = _table(value, key)
        return {"type": spelled(type(value)), **table} if len(kind.components) > 1 else table
    for plain in kind.plain:
        if get_origin(plain) is tuple and isinstance(value, list | tuple):
            items = items_of(plain, len(value))
            if len(items) == len(value):
                return [_write(a, v, f"{key}[{i}]") for i, (a, v) in enumerate(zip(items, value, strict=True))]
    return _read(annotation, value, key)


def _lines(table: dict[str, Any], key: str) -> Iterator[str]:
    """The values of a table, then its subtables: after the header of a subtable, TOML has no way back."""
    for name, value in table.items():
        if not isinstance(value, dict):
            yield f"{name} = {_toml(value)}"
    for name, value in table.items():
        if isinstance(value, dict):
            yield f"\n[{join(key, name)}]"
            yield from _lines(value, join(key, name))


def _toml(value: Any) -> str:
    if isinstance(
        value, str
    ):  # a JSON string is a TOML string, but for the one control character that JSON lets through
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name} = {_toml(item)}" for name, item in value.items()) + "}"
    return repr(value).lower() if isinstance(value, bool) else repr(value)  # Python's numbers, inf and nan included


# Overriding: a text under an annotation, put into the document.


def _set(cls: type, table: dict[str, Any], key: str, text: str) -> None:
    *path, last = key.split(".")
    owner, here = cls, ""
    for name in path:
        _known(cls, owner, name, here)
        owner, table = _enter(owner, table, name, join(here, name))
        here = join(here, name)
    _known(cls, owner, last, here)
    table[last] = _parse(schema_of(owner)[last][1], text)


def _known(root: type, owner: type, name: str, key: str) -> None:
    if name not in schema_of(owner):
        raise unknown(name, schema_of(owner), key, elsewhere=[k for k, _, _ in keys(root) if k.endswith(f".{name}")])


def _enter(owner: type, table: dict[str, Any], name: str, key: str) -> tuple[type, dict[str, Any]]:
    """The class and the table of the component at `name`; where none stands and one alone may, it now does."""
    field, annotation = schema_of(owner)[name]
    components = kind_of(annotation).components
    if not components:
        raise ValueError(f"{key}: expected a component to reach into, got {words(annotation)}; set {key} itself")
    inner = table.get(name)
    if name not in table and type(default_of(field)) in components.values():
        inner = _write(annotation, default_of(field), key)  # an earlier override said no more than the owner's name
    if isinstance(inner, str) and inner != "none":
        inner = {"type": inner}
    if not isinstance(inner, dict):
        if len(components) > 1:
            valid = ", ".join(components)
            raise ValueError(f"{key}: expected a component to reach into, got none; first set {key} to one of {valid}")
        inner = {}
    chosen = inner.get("type", next(iter(components)))
    if chosen not in components:
        raise no_choice(chosen, components, key)
    table[name] = inner
    return components[chosen], inner


def _parse(annotation: Any, text: str) -> Any:
    """What `text` means under `annotation`, or the text itself if it means nothing there: `_read` then says so."""
    kind = kind_of(annotation)
    if kind.optional and text.lower() == "none":
        return None
    for plain in kind.plain:
        value = _parse_plain(plain, text)
        try:
            _read_plain(plain, value, "")
        except ValueError:
            continue
        return value
    return _from_toml(text) if kind.components and text.startswith("{") else text


def _parse_plain(annotation: Any, text: str) -> Any:
    if get_origin(annotation) is tuple:
        body = text[1:-1] if text.startswith("[") and text.endswith("]") else text
        if any(mark in body for mark in '["{'):
            return _from_toml(f"[{body}]")
        parts = [part.strip() for part in body.split(",") if part.strip()]
        items = items_of(annotation, len(parts))
        return [_parse(a, p) for a, p in zip(items, parts, strict=True)] if len(items) == len(parts) else text
    if get_origin(annotation) is Literal:
        return choices_of(annotation).get(text, text)
    if annotation is str:
        return _from_toml(text) if text.startswith('"') else text
    try:
        return {"true": True, "false": False}[text.lower()] if annotation is bool else annotation(text)
    except (KeyError, ValueError):
        return text


def _from_toml(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
