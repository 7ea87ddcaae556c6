"""What the annotations of a dataclass say about its settings, and the words of the errors about them.

Kinds of annotation: bool, int, float, str, Literal, tuple[T, ...] and tuple[A, B], components, and unions of these with
None. Components are a closed list, the dataclasses of a union `LinearBetas | Cosine`, or an open one,
`Annotated[Schedule, Components(LinearBetas, Cosine)]`: these by their names, and whatever else keeps the protocol as
"module:Class" (see `own`). Any metadata with an attribute `components` makes a list open; other metadata say nothing.
"""

import difflib
import json
import types
from collections.abc import Iterable, Iterator
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from functools import cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

SCALARS = (bool, int, float, str)
FEW = 12  # keys that a message lists in full
OWN = "module:Class"  # in help, for a class of the user's own


class Refused(ValueError):
    """A definite refusal: a value that means one thing only, and is wrong. No other reading of it is tried."""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """An annotation taken apart into its members."""

    components: dict[str, type]  # the dataclasses, by their spelled names
    plain: tuple[Any, ...]  # scalars, literals and tuples, in the order written
    optional: bool
    open: tuple[type, ...] = ()  # the protocols, one of which a class must keep that is not in the list

    @property
    def names(self) -> list[str]:
        """What may be named here, for help."""
        return [*self.components, *([OWN] if self.open else [])]

    def takes(self, value: Any) -> bool:
        """Whether `value` is an instance that may stand here, as far as its class says without being checked."""
        own = bool(self.open) and is_dataclass(value) and not isinstance(value, type)
        return type(value) in self.components.values() or own

    def call(self, cls: type) -> str:
        """How files and the command line call a component that stands here."""
        return spelled(cls) if cls in self.components.values() else full_name(cls)


def kind_of(annotation: Any) -> Kind:
    """The members of an annotation, which is a union of one if it is no union. Raises ValueError if it can be no
    setting."""
    classes: list[type] = []
    plain, protocols = [], []
    members = list(_members(annotation))
    for member, components in members:
        if components is not None:
            protocols.append(get_origin(member) or member)
            classes += components
        elif isinstance(member, type) and is_dataclass(member):
            classes.append(member)
        elif member is not type(None):
            plain.append(member)
    named = {spelled(cls): cls for cls in classes}
    if len(named) < len(set(classes)):
        raise ValueError(f"two classes of one name: {', '.join(spelled(cls) for cls in classes)}")
    for member in plain:
        if member not in SCALARS and get_origin(member) not in (Literal, tuple):
            raise ValueError(f"{member.__name__ if isinstance(member, type) else member}, for which there is no TOML")
    optional = type(None) in [member for member, _ in members]
    return Kind(components=named, plain=tuple(plain), optional=optional, open=tuple(dict.fromkeys(protocols)))


def _members(annotation: Any) -> Iterator[tuple[Any, tuple[type, ...] | None]]:
    """The members of a union, each with the classes that it lists if it is an open list."""
    if get_origin(annotation) in (Union, types.UnionType):
        for member in get_args(annotation):
            yield from _members(member)
    elif get_origin(annotation) is Annotated:
        inner, *metadata = get_args(annotation)
        lists = [tuple(m.components) for m in metadata if hasattr(m, "components")]
        if lists:
            yield inner, lists[0]
        else:
            yield from _members(inner)
    else:
        yield annotation, None


@cache
def schema_of(cls: type) -> dict[str, tuple[Field, Any]]:
    """Name -> (field, annotation) for each argument of the constructor, with strings and aliases resolved. A field
    with the metadata `setting=False` is filled in by the program: it is no setting."""
    hints = get_type_hints(cls, include_extras=True)
    schema = {f.name: (f, hints[f.name]) for f in fields(cls) if f.init and f.metadata.get("setting", True)}
    if "type" in schema:
        raise ValueError(f"a field {cls.__name__}.type, the key that names a component")
    return schema


def settable(cls: type) -> None:
    """Raises ValueError naming the field if one of `cls`, or of a dataclass in it, can be no setting."""
    seen, waiting = set(), [cls]
    while waiting:
        cls = waiting.pop()
        if cls in seen:
            continue
        seen.add(cls)
        try:
            annotations = {name: annotation for name, (_, annotation) in schema_of(cls).items()}
        except (NameError, AttributeError, TypeError, SyntaxError) as error:
            raise ValueError(f"annotations of {cls.__name__} that cannot be read ({error})") from None
        for name, annotation in annotations.items():
            try:
                waiting += _dataclasses(annotation)
            except ValueError as error:
                raise ValueError(f"a field {cls.__name__}.{name} of {error}") from None


def _dataclasses(annotation: Any) -> Iterator[type]:
    kind = kind_of(annotation)
    yield from kind.components.values()
    for plain in kind.plain:
        if get_origin(plain) is tuple:
            for item in items_of(plain, 1):
                yield from _dataclasses(item)


def spelled(cls: type) -> str:
    """How files and the command line call a component: its class name without a final "Config"."""
    return cls.__name__.removesuffix("Config")


def full_name(cls: type) -> str:
    """The name of a class of a user's own: `package.module:Class`."""
    return f"{cls.__module__}:{cls.__qualname__}"


def required(field: Field) -> bool:
    """Whether a field has no default."""
    return field.default is MISSING and field.default_factory is MISSING


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
    return " | ".join([*map(words, kind.plain), *kind.names, *(["none"] if kind.optional else [])])


def join(key: str, name: str) -> str:
    """The dotted key of `name` inside the table at `key`, which is "" for the document itself."""
    return f"{key}.{name}" if key else name


def located(key: str, cls: type, message: str) -> str:
    """What a component at `key` says of itself, by the dotted key: a field's own where it begins with one."""
    name, colon, _ = message.partition(":")
    if name.startswith(f"{key}.") or name == key:
        return message  # it says so itself
    own = colon and name in {f.name for f in fields(cls)}
    return join(key, message) if own else f"{key or spelled(cls)}: {message}"


def keys(cls: type) -> list[tuple[str, str, Any]]:
    """(dotted key, type in words, default) of every setting of `cls`, for help texts.

    A choice of components is a row whose default is a component's name, followed by the rows of that component. Where
    a class of the user's own may stand, the type says `module:Class` after our own. The default of a required setting
    is `dataclasses.MISSING`.
    """
    return list(_rows(cls, None, ""))


def _rows(cls: type, instance: Any, key: str) -> Iterator[tuple[str, str, Any]]:
    for name, (field, annotation) in schema_of(cls).items():
        dotted, kind = join(key, name), kind_of(annotation)
        default = default_of(field) if instance is None else getattr(instance, name)
        chosen = type(default) if kind.takes(default) else None
        choice = kind.optional or bool(kind.open) or len(kind.components) + len(kind.plain) > 1
        if default is MISSING and kind.components and not choice:
            (only,) = kind.components.values()
            yield from _rows(only, None, dotted)
        elif chosen is None:
            yield dotted, words(annotation), default
        else:
            if choice:
                yield dotted, words(annotation), kind.call(chosen)
            yield from _rows(chosen, default, dotted)


def mismatch(annotation: Any, value: Any, key: str) -> ValueError:
    """A value of the wrong type."""
    return ValueError(f"{key}: expected {words(annotation)}, got {show(value)}")


def no_choice(value: Any, kind: Kind, key: str) -> ValueError:
    """A name that is not among the valid components, with the nearest if one is near."""
    return _none_of(value, kind.components, one_of(kind), key)


def no_literal(value: Any, literal: Any, key: str) -> ValueError:
    """A value that is not among the choices of a Literal, with the nearest if one is near."""
    choices = choices_of(literal)
    return _none_of(value, choices, ", ".join(choices), key)


def one_of(kind: Kind) -> str:
    """The components that may be named, in a sentence after `one of`."""
    own = [f"{OWN} of your own"] if kind.open else []
    return " or ".join([", ".join(kind.components), *own] if kind.components else own)


def _none_of(value: Any, valid: Iterable[str], listing: str, key: str) -> ValueError:
    near = difflib.get_close_matches(str(value), list(valid), 1)
    hint = f"; did you mean {near[0]}?" if near else ""
    return ValueError(f"{key}: expected one of {listing}, got {show(value)}{hint}")


def unknown(name: str, names: Iterable[str], key: str, elsewhere: Iterable[str] = ()) -> ValueError:
    """A key `name` that the table at `key` does not have; `elsewhere` are dotted keys of that name in other tables."""
    valid = list(names)
    # where the keys are too many to list, the nearest are named however far they are
    near = difflib.get_close_matches(name, valid, 3, 0.6 if len(valid) <= FEW else 0.0)
    dotted = [one for one in dict.fromkeys([*elsewhere, *(join(key, n) for n in near)]) if one != join(key, name)]
    hint = f"; did you mean {' or '.join(dotted)}?" if dotted else ""
    listing = f"; the keys of {key or 'this table'} are {', '.join(valid) or 'none'}" if len(valid) <= FEW else ""
    return ValueError(f"{join(key, name)}: unknown key{hint}{listing}")


def show(value: Any) -> str:
    """A value on one line of an error message, cut where it is long."""
    text = json.dumps(value, ensure_ascii=False) if isinstance(value, str | bool) else " ".join(repr(value).split())
    return text if len(text) <= 80 else text[:77] + "..."
