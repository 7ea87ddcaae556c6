"""Writing: a value of Python under an annotation as a value of a document, then the document as TOML."""

import json
from collections.abc import Iterator
from typing import Any, get_origin

from unsteep.storage.own import Names, check
from unsteep.storage.reading import read_plain
from unsteep.storage.schema import SCALARS, default_of, items_of, join, kind_of, mismatch, schema_of, spelled


def table_of(config: Any, key: str, names: Names) -> dict[str, Any]:
    """The table of a component. `names` afterwards knows the classes of the user's own in it."""
    cls: type = type(config)
    table = {}
    for name, (field, annotation) in schema_of(cls).items():
        value = getattr(config, name)
        if value is not None or default_of(field) is not None:
            table[name] = write(annotation, value, join(key, name), names)
    return table


def write(annotation: Any, value: Any, key: str, names: Names) -> Any:
    """What a document says for `value`. Raises ValueError if the annotation does not allow it."""
    kind = kind_of(annotation)
    if value is None and kind.optional:
        assert str not in kind.plain, f"{key}: a string that may be None must be so by default"
        return "none"
    if type(value) in kind.components.values():
        table = table_of(value, key, names)
        return {"type": spelled(type(value)), **table} if len(kind.names) > 1 else table
    if kind.takes(value):
        return {"type": names.name(kind, type(value), key), **table_of(value, key, names)}
    failure = None
    for plain in kind.plain:
        if get_origin(plain) is tuple and isinstance(value, list | tuple):
            items = items_of(plain, len(value))
            if len(items) == len(value):
                return [write(a, v, f"{key}[{i}]", names) for i, (a, v) in enumerate(zip(items, value, strict=True))]
        try:
            return read_plain(plain, value, key, names)
        except ValueError as error:
            failure = error
    if kind.open and isinstance(value, type):
        raise ValueError(f"{key}: expected an instance, got the class {value.__name__}; write {value.__name__}()")
    if kind.open and type(value).__module__ != "builtins":
        check(type(value), kind, key)  # it says why this is no component
    if failure and not kind.names and len(kind.plain) == 1 and kind.plain[0] not in SCALARS:
        raise failure  # it names the nearest choice
    raise mismatch(annotation, value, key)


def lines_of(table: dict[str, Any], key: str) -> Iterator[str]:
    """The values of a table, then its subtables: after the header of a subtable, TOML has no way back."""
    for name, value in table.items():
        if not isinstance(value, dict):
            yield f"{name} = {_toml(value)}"
    for name, value in table.items():
        if isinstance(value, dict):
            yield f"\n[{join(key, name)}]"
            yield from lines_of(value, join(key, name))


def _toml(value: Any) -> str:
    if isinstance(value, str):
        # a JSON string is a TOML string, but for the one control character that JSON lets through
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name} = {_toml(item)}" for name, item in value.items()) + "}"
    return repr(value).lower() if isinstance(value, bool) else repr(value)  # Python's numbers, inf and nan included
