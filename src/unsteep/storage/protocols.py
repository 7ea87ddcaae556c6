"""Whether a class keeps a protocol, asked of the class alone: nothing of it is called and none of it is made.

`isinstance` with a runtime protocol needs an instance, and takes a method of the protocol itself, whose body is `...`,
for the user's. Here a member counts if the class or a class above it really gives it.
"""

import dis
import inspect
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from typing import Any, Protocol


class _Bare(Protocol):
    """A protocol without members: what it has, every protocol has."""


_MACHINERY = {
    *dir(_Bare),
    *("__annotations__", "__annotate__", "__annotate_func__", "__annotations_cache__", "__slots__"),
    *("__orig_bases__", "__type_params__", "__non_callable_proto_members__", "__protocol_attrs__"),
}
_TRIVIAL = {"RESUME", "NOP", "LOAD_CONST", "RETURN_VALUE", "RETURN_CONST"}  # the code of a body `...`


def is_protocol(cls: type) -> bool:
    """Whether `cls` is a protocol itself; a class derived from one is none."""
    return bool(vars(cls).get("_is_protocol", False))


def members(protocol: type) -> dict[str, str]:
    """What a protocol asks for, in its order: name -> "method", "value", or "either" where a value may be called."""
    found: dict[str, str] = {}
    for cls in reversed(protocol.__mro__):
        if not is_protocol(cls):
            continue
        for name, annotation in inspect.get_annotations(cls).items():
            found[name] = "either" if "Callable" in str(annotation) else "value"
        for name, member in vars(cls).items():
            if name not in _MACHINERY and name not in found:
                found[name] = "method" if _is_method(member) else "value"
    return found


def asked(protocol: type) -> str:
    """What a protocol asks for, in words: `a Schedule with logsnr_min, __call__() and inverse()`."""
    if not is_protocol(protocol):
        return f"a class derived from {protocol.__name__}"
    return f"a {protocol.__name__} with {listing([_called(n, kind) for n, kind in members(protocol).items()])}"


def faults(cls: type, protocol: type) -> tuple[str, str] | None:
    """What `cls` lacks of `protocol` and what to do, in words, or None. A class that is no protocol asks for a class
    derived from it."""
    abstract = sorted(getattr(cls, "__abstractmethods__", ()))
    if not is_protocol(protocol):
        if protocol not in cls.__mro__:
            return f"which is not derived from {protocol.__name__}", f"derive it from {protocol.__name__}"
        wanted = dict.fromkeys(abstract, "method")
    else:
        wanted = dict.fromkeys(abstract, "method") | members(protocol)
    lacking, got, do = [], [], []
    for name, kind in wanted.items():
        given = _given(cls, name)
        if given is None or name in abstract:
            lacking.append(_called(name, kind))
        elif kind == "method" and not (callable(given[0]) or hasattr(type(given[0]), "__get__")):
            got.append(f"whose {name} is no method")
            do.append(f"make {name} a method")
        elif kind == "method" and not _takes(given[0], wants := _parameters(protocol, name)):
            got.append(f"whose {name}() does not take {listing(list(wants))}")
            do.append(f"declare {name}(self, {', '.join(wants)})")
        elif kind == "value" and _is_method(given[0]):
            got.append(f"whose {name} is a method")
            do.append(f"put @property above {name}")
    if lacking:
        got.append(f"without {listing(lacking)}")
        do.append(f"add {listing(lacking)} to it")
    return (listing(got), listing(do)) if got else None


def listing(names: list[str]) -> str:
    """`a, b and c`."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _given(cls: type, name: str) -> tuple[Any] | None:
    """The member that `cls` has under `name`, in a tuple: a class attribute, or a field without one."""
    for base in cls.__mro__:
        if name in vars(base):
            member = vars(base)[name]
            if is_protocol(base) and _is_stub(member):
                continue  # what a protocol declares, it does not give
            return (member,)
    field = is_dataclass(cls) and any(field.name == name for field in fields(cls))
    return (None,) if field else None


def _parameters(protocol: type, name: str) -> dict[str, Any]:
    """What a protocol's method is called with: name -> kind, in its order; none for a method it does not declare."""
    declared = _given_by(protocol, name)
    if not inspect.isfunction(declared):
        return {}
    told = list(inspect.signature(declared).parameters.values())[1:]
    return {p.name: p.kind for p in told if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}


def _given_by(protocol: type, name: str) -> Any:
    found = [vars(cls)[name] for cls in protocol.__mro__ if name in vars(cls)]
    return getattr(found[0], "__func__", found[0]) if found else None


def _takes(member: Any, wants: dict[str, Any]) -> bool:
    """Whether a method can be called with these; True of what is no plain function, which only a call would tell."""
    function = getattr(member, "__func__", member)
    if not inspect.isfunction(function):
        return True
    bound = () if isinstance(member, staticmethod) else (None,)
    by_name = {name: None for name, kind in wants.items() if kind is inspect.Parameter.KEYWORD_ONLY}
    try:
        inspect.signature(function).bind(*bound, *[None] * (len(wants) - len(by_name)), **by_name)
    except TypeError:
        return False
    return True


def _is_method(member: Any) -> bool:
    return inspect.isfunction(member) or isinstance(member, classmethod | staticmethod)


def _is_stub(member: Any) -> bool:
    """Whether a method or property of a protocol has no body but `...`; one with a body is a default to inherit."""
    function: Callable | None = member.fget if isinstance(member, property) else getattr(member, "__func__", member)
    if not inspect.isfunction(function):
        return False
    constants = {c for c in function.__code__.co_consts if c is not None} - {function.__doc__}
    return not constants and all(line.opname in _TRIVIAL for line in dis.get_instructions(function))


def _called(name: str, kind: str) -> str:
    return f"{name}()" if kind == "method" else name
