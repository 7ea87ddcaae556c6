"""Components of a user's own, named "package.module:Class": whose names are trusted, how they are found, what they are.

To import a module is to run it, and the packages that it stands in, so who wrote the name decides what is done:

- "imported": a file from anywhere, as when a model is opened. Only modules that the program has imported already are
  looked into; nothing is imported.
- "file": a file that the user gave to be run. Its modules are imported from Python's path, but never from the current
  folder: whoever made the file may have put something there, too.
- "typed": what the user typed. The current folder is searched after Python's path, while the module is imported; what
  else it needs from there, it imports at its top.
- `True`: a file that the user says is trusted, the same as "typed". `False` is "imported".

What is found must be a frozen dataclass whose fields can be settings, with all that the protocol asks for. This is
asked of the class before anything of it is called. Every refusal is a ValueError of one line.
"""

import difflib
import importlib
import inspect
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, Literal, get_args

from unsteep.storage.protocols import asked, faults
from unsteep.storage.schema import Kind, Refused, full_name, no_choice, settable, show

Level = Literal["imported", "file", "typed"]
Trust = Level | bool
_NOTHING = object()
_NAME = re.compile(r"(?P<module>[\w-]+(\.[\w-]+)*):(?P<attribute>[^\W\d]\w*)")
_DECORATE = "put @dataclass(frozen=True, kw_only=True) above it"


@dataclass
class Names:
    """What the names of one document stand for. Classes of instances that stand there already need no trust."""

    trust: Trust = "imported"
    known: dict[str, type] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.trust, bool) and self.trust not in get_args(Level):
            raise ValueError(
                f"trust: expected True, False or one of {', '.join(get_args(Level))}, got {show(self.trust)}"
            )

    @property
    def level(self) -> Level:
        """The trust in words: what of Python's path is searched."""
        if isinstance(self.trust, bool):
            return "typed" if self.trust else "imported"
        return self.trust

    def choose(self, kind: Kind, name: Any, key: str) -> type:
        """The class that `name` names at `key`: one of the list, or the user's own where the list is open."""
        if isinstance(name, str):
            if name in kind.components:
                return kind.components[name]
            if kind.open and ":" in name:
                return self._own(kind, name, key)
        raise no_choice(name, kind, key)

    def name(self, kind: Kind, cls: type, key: str) -> str:
        """The name of the user's class `cls`, which stands at `key`; it is now known."""
        check(cls, kind, key)
        name = full_name(cls)
        if not _NAME.fullmatch(name):
            raise Refused(
                f"{key}: expected a class at the top of a module, got {name}; move it there to give it a name"
            )
        self.known[name] = cls
        return name

    def _own(self, kind: Kind, name: str, key: str) -> type:
        cls = self.known[name] if name in self.known else find(name, self.level, key)
        if not isinstance(cls, type):
            what = "a function" if inspect.isroutine(cls) else f"an instance of {type(cls).__name__}"
            raise Refused(f"{key}: expected {name} to be a class, got {what}; name a frozen dataclass")
        check(cls, kind, key, name)
        self.known[name] = cls
        return cls


def check(cls: type, kind: Kind, key: str, name: str = "") -> None:
    """Refuses a class that may not stand at `key`: no frozen dataclass, fields that are no settings, or not all of
    the protocol."""
    name = name or full_name(cls)
    parameters = vars(cls).get("__dataclass_params__")  # of the class itself: fields of a bare subclass would be lost
    if parameters is None or not parameters.frozen:
        got = "is no dataclass" if parameters is None else "is not frozen"
        raise Refused(f"{key}: expected a frozen dataclass, got {name}, which {got}; {_DECORATE}")
    lacking = [(protocol, fault) for protocol in kind.open if (fault := faults(cls, protocol))]
    if len(lacking) == len(kind.open):
        expected = " or ".join(asked(protocol) for protocol, _ in lacking)
        got, do = min((fault for _, fault in lacking), key=lambda fault: len(fault[0]))
        raise Refused(f"{key}: expected {expected}, got {name} {got}; {do}")
    try:
        settable(cls)
    except ValueError as error:
        raise Refused(
            f"{key}: expected fields that can be settings, got {name} with {error}; other fields take "
            "field(default=..., metadata={'setting': False})"
        ) from None


def find(name: str, level: Level, key: str) -> Any:
    """What stands under "module:Class", looked up or imported as `level` allows."""
    matched = _NAME.fullmatch(name)
    if matched is None or matched["module"].endswith(".py"):
        near = re.sub(r"[/\\]", ".", re.sub(r"\.py(?=:)|^[./\\]+", "", name))
        hint = f", {near}" if _NAME.fullmatch(near) else ""
        raise Refused(
            f"{key}: expected module:Class, got {show(name)}; write the module as Python imports it, dots between its "
            f"parts, then a colon and the class{hint}"
        )
    module, attribute = matched["module"], matched["attribute"]
    if module == "__main__":
        found = vars(sys.modules["__main__"]).get(attribute, _NOTHING)
        if found is _NOTHING:
            raise Refused(
                f"{key}: expected the class {attribute} in the program that runs, which is what __main__ means, got "
                "none there; put the class into a module of its own, name that, and import it"
            )
        return found
    holder = sys.modules.get(module)
    if level == "imported":
        if not isinstance(holder, ModuleType):
            raise Refused(
                f"{key}: expected a class that is imported already, got a file that names the class {name} of your "
                f"own, which is not imported; import {module} first, or open with trust=True if you trust "
                "this file"
            )
        found = vars(holder).get(attribute, _NOTHING)  # not getattr: a module may import in its __getattr__
    else:
        holder = _import(module, level, key)
        try:
            found = getattr(holder, attribute, _NOTHING)
        except Exception as error:
            raise Refused(f"{key}: expected {attribute} in {module}, got {told(error)}; correct the module") from error
    if found is _NOTHING:
        classes = [name for name, value in getattr(holder, "__dict__", {}).items() if isinstance(value, type)]
        close = difflib.get_close_matches(attribute, classes, 1)
        hint = f"did you mean {close[0]}?" if close else "name a class at its top"
        where = getattr(holder, "__file__", None) or "no file"
        raise Refused(f"{key}: expected the class {attribute} in {module}, got none there ({where}); {hint}")
    return found


def _import(module: str, level: Level, key: str) -> Any:
    """The module `module`, imported unless it was. Nothing that goes wrong in it gets out but as a refusal."""
    importlib.invalidate_caches()  # the file may be younger than Python's list of its folder
    try:
        with _path(current_folder=level == "typed"):
            return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise Refused(_failed(key, module, error)) from error
        if level == "typed":
            raise Refused(
                f"{key}: expected the module {module} on Python's path or in the current folder, got none; correct its "
                "name, or put its folder on PYTHONPATH"
            ) from None
        raise Refused(
            f"{key}: expected the module {module} on Python's path, got none; install it, or put its folder on "
            "PYTHONPATH; a name out of a file is looked for in the current folder only with trust=True, if "
            "you trust this file"
        ) from None
    except (Exception, SystemExit) as error:  # a script without a guard leaves with SystemExit
        raise Refused(_failed(key, module, error)) from error


def _failed(key: str, module: str, error: BaseException) -> str:
    return f"{key}: expected {module} to be imported, got {told(error)}; correct the module"


def told(error: BaseException) -> str:
    """An error on one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())


@contextmanager
def _path(*, current_folder: bool) -> Iterator[None]:
    """Python's path with the current folder last or nowhere, however the program was started. What the module itself
    puts there stays."""
    before = list(sys.path)
    during = [entry for entry in before if not _is_here(entry)]
    with suppress(FileNotFoundError):  # a folder that was deleted under us
        during += [os.getcwd()] if current_folder else []
    sys.path[:] = during
    try:
        yield
    finally:
        sys.path[:] = [entry for entry in sys.path if entry not in during and entry not in before] + before


def _is_here(entry: str) -> bool:
    """Whether an entry of Python's path is the current folder, under whatever name; not where the user put it there by
    its whole name."""
    if os.path.isabs(entry) and entry in os.environ.get("PYTHONPATH", "").split(os.pathsep):
        return False
    try:
        return os.path.samefile(entry or os.curdir, os.curdir)
    except OSError:  # there is none such
        return False
