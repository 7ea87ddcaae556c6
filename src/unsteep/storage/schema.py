"""What the annotations of a dataclass say about its settings, and the words of the errors about them.

The annotation is the registry: `schedule: LinearBetas | Cosine` lists the components that may stand there. Kinds of
annotation: bool, int, float, str, Literal, tuple[T, ...] and tuple[A, B], dataclasses, and unions of these with None.
Anything else in a dataclass is a mistake of whoever wrote the dataclass, hence an assertion.
"""

import difflib
import json
import types
from collections.abc import Iterable, Iterator
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from functools import cache
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

SCALARS = (bool, int, float, str)
FEW = 12  # keys that a message lists in full


@dataclass(frozen=True, kw_only=True)
class Kind:
    """An annotation taken apart into its members."""

    components: dict[str, type]  # the dataclasses, by their spelled names
    plain: tuple[Any, ...]  # scalars, literals and tuples, in the order written
    optional: bool


def kind_of(annotation: Any) -> Kind:
    """The members of an annotation, which is a union of one if it is no union."""
    union = get_origin(annotation) in (Union, types.UnionType)
    members = get_args(annotation) if union else (annotation,)
    classes = [m for m in members if is_dataclass(m)]
    plain = tuple(m for m in members if not is_dataclass(m) and m is not type(None))
    components = {spelled(c): c for c in classes if isinstance(c, type)}
    assert len(components) == len(classes), f"two of {classes} are spelled alike"
    assert all(m in SCALARS or get_origin(m) in (Literal, tuple) for m in plain), f"TOML has no {annotation}"
    return Kind(components=components, plain=plain, optional=type(None) in members)


@cache
def schema_of(cls: type) -> dict[str, tuple[Field, Any]]:
    """Name -> (field, annotation) for each argument of the constructor, with strings and aliases resolved. A field
    with the metadata `setting=False` is filled in by the program: it is no setting."""
    hints = get_type_hints(cls)
    schema = {f.name: (f, hints[f.name]) for f in fields(cls) if f.init and f.metadata.get("setting", True)}
    assert "type" not in schema, f"{cls.__name__}.type: the key that names a component cannot be a field"
    return schema


def spelled(cls: type) -> str:
    """How files and the command line call a component: its class name without a final "Config"."""
    return cls.__name__.removesuffix("Config")


def default_of(field: Field) -> Any:
    """The default of a field, made anew if a factory makes it; `dataclasses.MISSING` if it is required."""
    return field.default if field.default_factory is MISSING else field.default_factory()


def items_of(annotation: Any, length: int) -> tuple[Any, ...]:
    """The annotations of a tuple's elements: tuple[T, ...] repeats T, tuple[A, B] is as long as it is."""
    args = get_args(annotation)
    return args[:1] * length if args[-1:] == (...,) else args


def choices_of(literal: Any) -> dict[str, Any]:
    """The choices of a Literal by the text that selects each."""
    return {c if isinstance(c, str) else json.dumps(c): c for c in get_args(literal)}


def words(annotation: Any) -> str:
    """An annotation as a user reads it: `int`, `[int, ...]`, `eps | v`, `LinearBetas | Cosine | none`."""
    if get_origin(annotation) is Literal:
        return " | ".join(choices_of(annotation))
    if get_origin(annotation) is tuple:
        return "[" + ", ".join("..." if a is ... else words(a) for a in get_args(annotation)) + "]"
    if annotation in SCALARS:
        return str(annotation.__name__)
    kind = kind_of(annotation)
    return " | ".join([*map(words, kind.plain), *kind.components, *(["none"] if kind.optional else [])])


def join(key: str, name: str) -> str:
    """The dotted key of `name` inside the table at `key`, which is "" for the document itself."""
    return f"{key}.{name}" if key else name


def keys(cls: type) -> list[tuple[str, str, Any]]:
    """(dotted key, type in words, default) of every setting of `cls`, for help texts.

    A choice of components is a row whose default is a component's name, followed by the rows of that component. The
    default of a required setting is `dataclasses.MISSING`.
    """
    return list(_rows(cls, None, ""))


def _rows(cls: type, instance: Any, key: str) -> Iterator[tuple[str, str, Any]]:
    for name, (field, annotation) in schema_of(cls).items():
        dotted, kind = join(key, name), kind_of(annotation)
        default = default_of(field) if instance is None else getattr(instance, name)
        chosen = type(default) if type(default) in kind.components.values() else None
        choice = kind.optional or len(kind.components) + len(kind.plain) > 1
        if default is MISSING and kind.components and not choice:
            (only,) = kind.components.values()
            yield from _rows(only, None, dotted)
        elif chosen is None:
            yield dotted, words(annotation), default
        else:
            if choice:
                yield dotted, words(annotation), spelled(chosen)
            yield from _rows(chosen, default, dotted)


def mismatch(annotation: Any, value: Any, key: str) -> ValueError:
    """A value of the wrong type."""
    return ValueError(f"{key}: expected {words(annotation)}, got {show(value)}")


def no_choice(value: Any, choices: Iterable[str], key: str) -> ValueError:
    """A name that is not among the valid ones, with the nearest if one is near."""
    valid = list(choices)
    near = difflib.get_close_matches(str(value), valid, 1)
    hint = f"; did you mean {near[0]}?" if near else ""
    return ValueError(f"{key}: expected one of {', '.join(valid)}, got {show(value)}{hint}")


def unknown(name: str, names: Iterable[str], key: str, elsewhere: Iterable[str] = ()) -> ValueError:
    """A key `name` that the table at `key` does not have; `elsewhere` are dotted keys of that name in other tables."""
    valid = list(names)
    # where the keys are too many to list, the nearest are named however far they are
    near = difflib.get_close_matches(name, valid, 3, 0.6 if len(valid) <= FEW else 0.0)
    dotted = dict.fromkeys([*elsewhere, *(join(key, n) for n in near)])
    hint = f"; did you mean {' or '.join(dotted)}?" if dotted else ""
    listing = f"; the keys of {key or 'this table'} are {', '.join(valid) or 'none'}" if len(valid) <= FEW else ""
    return ValueError(f"{join(key, name)}: unknown key{hint}{listing}")


def show(value: Any) -> str:
    """A value on one line of an error message, cut where it is long."""
    text = json.dumps(value, ensure_ascii=False) if isinstance(value, str | bool) else " ".join(repr(value).split())
    return text if len(text) <= 80 else text[:77] + "..."
