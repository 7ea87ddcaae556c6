"""What holds for the source as a whole: who may know what, what importing costs, and how a file is written."""

import ast
import subprocess
import sys
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest

import unsteep

SOURCE = Path(unsteep.__file__).parent
FILES = sorted(SOURCE.rglob("*.py"))
CORE = [path for path in FILES if "core" in path.relative_to(SOURCE).parts]


def name_of(path: Path) -> str:
    return path.relative_to(SOURCE).as_posix()


@cache
def imports_of(path: Path) -> set[str]:
    """Dotted names of what a file imports: `from a import b` counts as a and as a.b."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {str(node.module)}
    return names


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("path", CORE, ids=name_of)
def test_the_core_knows_no_modules(path: Path) -> None:
    assert not {name for name in imports_of(path) if name.split(".")[:2] == ["torch", "nn"]}
    attributes = [n for n in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(n, ast.Attribute)]
    assert not [n for n in attributes if isinstance(n.value, ast.Name) and (n.value.id, n.attr) == ("torch", "nn")]


@pytest.mark.parametrize("path", CORE, ids=name_of)
def test_the_core_is_torch_and_the_standard_library(path: Path) -> None:
    roots = {name.split(".")[0] for name in imports_of(path)}
    assert roots <= {"torch"} | sys.stdlib_module_names | {"unsteep"}
    inside = {name for name in imports_of(path) if name.startswith("unsteep.")}
    assert all(name.startswith("unsteep.core") for name in inside)


def test_a_file_says_what_it_is_and_stays_short() -> None:
    for path in FILES:
        text = path.read_text(encoding="utf-8")
        docstring = ast.get_docstring(ast.parse(text))
        assert docstring, f"{path}: no docstring"
        assert len(docstring) > 20, path
        assert len(text.splitlines()) <= 320, f"{path}: more than one concept?"


def test_nothing_that_is_read_can_execute() -> None:
    executing = {"pickle", "torchvision", "joblib", "dill"}
    assert not [path for path in FILES if {name.split(".")[0] for name in imports_of(path)} & executing]


def test_nothing_imports_the_command_line() -> None:
    others = [path for path in FILES if path.relative_to(SOURCE).parts[0] not in ("cli", "__main__.py")]
    assert not [path for path in others if any(name.startswith("unsteep.cli") for name in imports_of(path))]


def test_one_name_means_one_class() -> None:
    homes: dict[str, list[str]] = {}
    for path in FILES:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef):
                homes.setdefault(node.name, []).append(name_of(path))
    shared = {name: files for name, files in homes.items() if len(files) > 1}
    assert not shared, shared


def test_importing_waits_for_nothing() -> None:
    """Neither the package nor its command line loads torch, numpy or anything else that is slow."""
    code = """
        import sys, unsteep, unsteep.cli, unsteep.storage
        assert unsteep.__version__ and dir(unsteep)
        print(*{"torch", "numpy", "matplotlib", "PIL", "sklearn", "rich.progress"} & set(sys.modules))
    """
    assert run("\n".join(line.strip() for line in code.splitlines())).split() == []


@pytest.mark.parametrize("name", unsteep.__all__)
def test_public_names_resolve(name: str) -> None:
    thing = getattr(unsteep, name)
    home = import_module(thing.__module__)
    assert getattr(home, name) is thing
    assert thing.__doc__
    assert name in dir(unsteep)


def test_public_names_are_listed_once_in_order() -> None:
    assert sorted(unsteep.__all__) == sorted(set(unsteep.__all__))
    assert set(unsteep.__all__) == set(unsteep._WHERE)
    with pytest.raises(AttributeError, match="smaple"):
        unsteep.smaple  # noqa: B018
