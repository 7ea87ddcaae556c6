"""Reading: a value of a document under an annotation. `names` says what the classes of a user's own stand for.

Every error is a ValueError of one line that begins with the dotted key.
"""

from typing import Any, Literal, get_args, get_origin

from unsteep.storage.own import Names, told
from unsteep.storage.schema import (
    SCALARS,
    Kind,
    Refused,
    items_of,
    join,
    kind_of,
    located,
    mismatch,
    no_literal,
    one_of,
    required,
    schema_of,
    spelled,
    unknown,
    words,
)


def kind_of_whole(cls: type) -> Kind:
    """The kind of a document: one class, whatever its annotations say of the rest."""
    return Kind(components={spelled(cls): cls}, plain=(), optional=False)


def read(annotation: Any, value: Any, key: str, names: Names) -> Any:
    """What `value` of a document is under `annotation`."""
    kind = kind_of(annotation)
    if value is None and kind.optional:
        return None
    failure = None
    for plain in kind.plain:  # before "none" and the components, so that a field which takes strings takes all of them
        try:
            return read_plain(plain, value, key, names)
        except Refused:
            raise
        except ValueError as error:
            failure = error
    if kind.optional and isinstance(value, str) and value == "none":
        return None
    if kind.names and (isinstance(value, dict) or (isinstance(value, str) and _names(kind, value))):
        return read_component(kind, value, key, names)
    if failure and not kind.names and len(kind.plain) == 1 and kind.plain[0] not in SCALARS:
        raise failure  # it names the element or the nearest choice
    raise mismatch(annotation, value, key)


def _names(kind: Kind, text: str) -> bool:
    """Whether a bare string is meant as the name of a component."""
    return text in kind.components or not kind.plain or (bool(kind.open) and ":" in text)


def read_plain(annotation: Any, value: Any, key: str, names: Names) -> Any:
    """What `value` is under a scalar, a Literal or a tuple."""
    if get_origin(annotation) is tuple:
        if not isinstance(value, list | tuple) or len(items := items_of(annotation, len(value))) != len(value):
            raise mismatch(annotation, value, key)
        return tuple(read(a, v, f"{key}[{i}]", names) for i, (a, v) in enumerate(zip(items, value, strict=True)))
    if get_origin(annotation) is Literal:
        for choice in get_args(annotation):
            if type(choice) is type(value) and choice == value:
                return choice
        raise no_literal(value, annotation, key)
    accepted = (int, float) if annotation is float else annotation
    if not isinstance(value, accepted) or (isinstance(value, bool) and annotation is not bool):
        raise mismatch(annotation, value, key)
    return annotation(value)


def read_component(kind: Kind, value: str | dict[str, Any], key: str, names: Names) -> Any:
    """The component that a table, or its bare name, describes."""
    table = {"type": value} if isinstance(value, str) else value
    name = table.get("type", next(iter(kind.components)) if len(kind.components) == 1 else None)
    if name is None:
        raise ValueError(f"{key}: expected a table with type = one of {one_of(kind)}, got one without a type")
    cls = names.choose(kind, name, key)
    schema = schema_of(cls)
    given = {}
    for inner, item in table.items():
        if inner in schema:
            given[inner] = read(schema[inner][1], item, join(key, inner), names)
        elif inner != "type":
            raise unknown(inner, schema, key)
    for inner, (field, annotation) in schema.items():
        if inner not in given and required(field):
            raise ValueError(
                f"{join(key, inner)}: expected {words(annotation)}, got nothing; it has no default, so set it"
            )
    return _made(cls, given, key, own=cls not in kind.components.values())


def _made(cls: type, given: dict[str, Any], key: str, *, own: bool) -> Any:
    try:
        return cls(**given)
    except ValueError as error:
        raise ValueError(located(key, cls, " ".join(str(error).split()) if own else str(error))) from error
    except Exception as error:
        if not own:
            raise  # our own mistake
        raise ValueError(
            f"{key or spelled(cls)}: expected to make a {cls.__name__} of these settings, got {told(error)}; correct "
            "the class, or its settings"
        ) from error
