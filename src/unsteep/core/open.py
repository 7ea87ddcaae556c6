"""Open lists: which of our own classes a configuration names by their bare names, where any class of a user may stand.

    class Schedule(Protocol): ...
    AnySchedule = Annotated[Schedule, Components(LinearBetas, Cosine, Flow)]

    @dataclass(frozen=True, kw_only=True)
    class Run:
        schedule: AnySchedule = LinearBetas()

A type checker sees the protocol. The configuration sees the list, for `type = "Cosine"` and for help, and takes
`type = "package.module:Class"` besides: any frozen dataclass that keeps the protocol (see `storage.own`). The protocol
may be a base class instead, from which such a class must be derived. A union of dataclasses without `Annotated` is a
closed list.
"""

from dataclasses import dataclass, fields, is_dataclass
from typing import Any, get_args


@dataclass(frozen=True, init=False)
class Components:
    """Our own classes for one kind of component, in the order of help texts: frozen dataclasses."""

    components: tuple[Any, ...]

    def __init__(self, *components: Any) -> None:
        object.__setattr__(self, "components", components)


def listed(annotation: Any) -> tuple[Any, ...]:
    """The classes that an open or a closed list names, in its order: `listed(AnySchedule)`. Also of unions of such
    lists; () for anything else."""
    if isinstance(annotation, Components):
        return annotation.components
    if isinstance(annotation, type):
        return (annotation,) if hasattr(annotation, "__dataclass_fields__") else ()
    return tuple(dict.fromkeys(cls for part in get_args(annotation) for cls in listed(part)))


def settings_of(component: object) -> frozenset[str]:
    """The names of a component's settings, the fields of its dataclass; none of anything else."""
    return frozenset(field.name for field in fields(component)) if is_dataclass(component) else frozenset()
