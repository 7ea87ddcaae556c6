"""What a pickle holds, read as data: nothing in it is imported, called or built.

A pickle is a program for a small machine with a stack. Here the machine knows only how to put together numbers, texts,
lists, dicts and NumPy's arrays of bytes; whatever else a pickle asks for is refused by name.
"""

from __future__ import annotations

import pickletools
from typing import Any

import numpy as np

PUSHED = (
    *("INT", "LONG", "LONG1", "LONG4", "BININT", "BININT1", "BININT2", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
)
CONSTANTS: dict[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
IGNORED = ("PROTO", "FRAME", "STOP")
ARRAY = ("numpy.core.multiarray _reconstruct", "numpy._core.multiarray _reconstruct")
BYTES = ("__builtin__ bytes", "builtins bytes")  # how older protocols write none of them
NAMED = (*ARRAY, *BYTES, "numpy ndarray", "numpy dtype", "_codecs encode")


class _Mark:
    """Where a list begins on the stack."""


class _Named:
    """A name that a pickle asks for."""

    def __init__(self, name: str) -> None:
        self.name = name


class _Built:
    """What calling a name would have made, and what was then set in it."""

    def __init__(self, name: str, arguments: Any) -> None:
        self.name, self.arguments = name, arguments
        self.state: Any = None


def unpickled(content: bytes) -> Any:
    """The dict, list or array in a pickle. ValueError for a pickle of anything else, and for what is none."""
    try:
        return _plain(_run(content))
    except Exception as error:  # what is no pickle fails in any way
        said = f"expected a pickle of numbers, texts and arrays of bytes, got one that fails: {error}"
        raise ValueError(said) from None


def _run(content: bytes) -> Any:  # noqa: PLR0912  # one case an instruction
    stack: list[Any] = []
    memo: dict[Any, Any] = {}

    def after_mark() -> list[Any]:
        items: list[Any] = []
        while not isinstance(item := stack.pop(), _Mark):
            items.append(item)
        return items[::-1]

    for operation, given, _ in pickletools.genops(content):
        name = operation.name
        if name in IGNORED:
            continue
        if name in PUSHED:
            stack.append(given)
        elif name in CONSTANTS:
            stack.append(CONSTANTS[name])
        elif name == "MARK":
            stack.append(_Mark())
        elif name in ("EMPTY_LIST", "EMPTY_DICT"):
            stack.append([] if name == "EMPTY_LIST" else {})
        elif name in ("LIST", "TUPLE"):
            items = after_mark()
            stack.append(items if name == "LIST" else tuple(items))
        elif name in TUPLES:
            count = TUPLES[name]
            stack[-count:] = [tuple(stack[-count:])]
        elif name in ("APPENDS", "APPEND"):
            items = after_mark() if name == "APPENDS" else [stack.pop()]
            stack[-1].extend(items)
        elif name in ("SETITEMS", "SETITEM", "DICT"):
            items = [stack.pop(-2), stack.pop()] if name == "SETITEM" else after_mark()
            if name == "DICT":
                stack.append({})
            stack[-1].update(zip(items[::2], items[1::2], strict=True))
        elif name in ("BINPUT", "LONG_BINPUT", "PUT"):
            memo[given] = stack[-1]
        elif name == "MEMOIZE":
            memo[len(memo)] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET", "GET"):
            stack.append(memo[given])
        elif name in ("GLOBAL", "STACK_GLOBAL"):
            asked = given if name == "GLOBAL" else " ".join([stack.pop(-2), stack.pop()])
            if asked not in NAMED:
                raise ValueError(f"it asks for {asked}, which is not read")
            stack.append(_Named(asked))
        elif name == "REDUCE":
            arguments, called = stack.pop(), stack.pop()
            stack.append(_Built(called.name, arguments))
        elif name == "BUILD":
            state = stack.pop()
            stack[-1].state = state
        else:
            raise ValueError(f"its instruction {name} is not read")
    return stack[-1]


def _plain(value: Any) -> Any:
    """With arrays in the place of what would have built them."""
    if isinstance(value, dict):
        return {_plain(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_plain(item) for item in value)
    if not isinstance(value, _Built):
        return value
    if value.name == "_codecs encode":
        return value.arguments[0].encode("latin-1")
    if value.name in BYTES and value.arguments == ():
        return b""
    if value.name not in ARRAY:
        raise ValueError(f"it holds {value.name} where an array or a number is expected")
    _, shape, dtype, by_columns, content = value.state
    kind = dtype.arguments[0]
    if (kind.decode() if isinstance(kind, bytes) else kind) not in ("u1", "|u1"):
        raise ValueError(f"it holds an array of {kind}, and arrays of bytes are read")
    content = _plain(content)
    content = content.encode("latin-1") if isinstance(content, str) else content
    array = np.frombuffer(content, np.uint8)
    return array.reshape(shape, order="F" if by_columns else "C")
