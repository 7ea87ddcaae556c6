"""The library speaks of its arguments, and the command line says the same of its options."""

import ast
import re
from pathlib import Path

import pytest

import unsteep
from command_line import unsteep_
from unsteep.cli import VERBS, _as_option, _options
from unsteep.cli.common import RunOptions
from unsteep.cli.train import train
from unsteep.cli.train_classifier import train_classifier

HOME = Path(unsteep.__file__).parent
COMMAND = re.compile(r"unsteep [a-z-]+ .*")  # a whole command, to be typed as it stands


def words(file: Path) -> list[str]:
    """Every text of a file but docstrings; of one put together, its parts in a row."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    documented = {id(one.value) for one in ast.walk(tree) if isinstance(one, ast.Expr)}
    found, inside = [], set()
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts = [one for one in node.values if isinstance(one, ast.Constant)]
            inside |= {id(one) for one in parts}
            found.append("".join(one.value if isinstance(one, ast.Constant) else "X" for one in node.values))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documented | inside:
            found.append(node.value)
    return found


def test_no_message_of_the_library_names_an_option() -> None:
    for file in HOME.rglob("*.py"):
        if "cli" in file.relative_to(HOME).parts or file.name == "html.py":
            continue
        named = [text for text in words(file) if re.search(r"(?<![\w-])--[a-z]", COMMAND.sub("", text))]
        assert not named, file


@pytest.mark.parametrize(
    ("verb", "said", "shown"),
    [
        ("train", "resume: no", "--resume: no"),
        ("sample", "batch_size: too few", "--batch: too few"),
        ("sample", "n: too few", "-n: too few"),
        ("sample", "negative label: none", "--negative-label: none"),
        ("train", "out: go on with resume=True, or force=True", "--out: go on with --resume, or --force"),
        ("evaluate", "take split=train, or data=DIR", "take --split train, or --data DIR"),
        ("show", "give force=True", "give force=True"),  # which has no such option
        ("sample", "train with condition.drop=0.1", "train with condition.drop=0.1"),
        ("sample", "got DDIM(n=2, steps=3)", "got DDIM(n=2, steps=3)"),
        ("sample", "write --set steps=3", "write --set steps=3"),
    ],
)
def test_a_message_is_said_again_in_options(verb: str, said: str, shown: str) -> None:
    unsteep_(verb, "--no-such-option")  # the verb's file is there
    assert _as_option(said, [verb]) == shown


def test_verbs_that_train_share_their_options() -> None:
    shared = _options(RunOptions)
    assert {"--out", "--set", "--force", "--trust", "--device", "--cache", "--log"} == set(shared.values())
    for verb in (train, train_classifier):
        assert shared.items() <= _options(verb).items()


@pytest.mark.parametrize(
    ("option", "keys"),
    [
        ("--batch", "--set train.batch=..."),
        ("--lr", "--set train.learning_rate=..."),
        ("--epochs", "--set train.steps=..."),
        ("--width", "--set data.width=... or --set model.network.width=..."),
    ],
)
def test_an_option_that_is_a_setting_is_told(option: str, keys: str) -> None:
    code, _, err = unsteep_("train", "digits", option, 3)
    assert (code, err.count("\n")) == (2, 1)
    assert f"Unknown option: {option}. Did you mean {keys}?" in err


@pytest.mark.parametrize("verb", [verb for verbs in VERBS.values() for verb in verbs])
def test_no_help_has_options_that_nobody_wrote(verb: str) -> None:
    code, out, _ = unsteep_(verb, "--help")
    assert (code, "--empty-" in out) == (0, False)
