"""Names that come out of files: none becomes a path, markup or a code that a terminal obeys."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import unsteep
from command_line import made, unsteep_
from unsteep.cli.terminal import Terminal, for_file, for_files, for_terminal, say
from unsteep.data import Examples
from unsteep.training import denoising

EVIL = (
    "..",
    "../../up",
    "/etc/x",
    "[red]",
    "[/red]",
    "\x1b[2J\x1b]0;owned\x07",
    "a\u202eb",
    "<script>alert(1)</script>",
    ".",
    "",
)
CODES = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


@given(name=st.text())
def test_a_name_of_a_file_is_one_name(name: str):
    made_safe = for_file(name)
    assert made_safe not in ("", ".", "..")
    assert not set(made_safe) & set('/\\:*?"<>|')
    assert not made_safe.startswith(".")
    assert len(made_safe.encode()) <= 130
    assert for_file(name) == made_safe


@given(one=st.text(), other=st.text())
def test_two_names_stay_two(one: str, other: str):
    assert one == other or for_file(one) != for_file(other)


@given(names=st.lists(st.text(), unique=True))
def test_names_that_go_together_stay_apart(names: list[str]):
    found = for_files(names)
    assert len({one.casefold() for one in found.values()}) == len(names)
    assert all(for_file(one) == one for one in found.values())


def test_a_number_is_added_only_where_two_would_be_one():
    assert for_files(["T-shirt/top", "Dress"]) == {"T-shirt/top": "T-shirt-top", "Dress": "Dress"}
    clash = for_files(["a/b", "a-b", "A-B"])
    assert len(set(clash.values())) == 3
    assert len({one.casefold() for one in for_files(["\u00da", "\u00fa"]).values()}) == 2  # one on many disks


@pytest.mark.parametrize("name", ["cat", "T-shirt", "Ankle boot", "caf\u00e9", "\u30cd\u30b3", "a.b", "0"])
def test_a_usual_name_stays_as_it_is(name: str):
    assert for_file(name) == name


@given(text=st.text(st.characters()))
def test_no_text_reaches_the_terminal_as_a_code(text: str):
    assert not CODES.search(for_terminal(text))
    assert for_terminal("a\tb\nc \u30cd") == "a\tb\nc \u30cd"


def test_what_is_said_and_what_a_table_holds_is_plain(capsys: pytest.CaptureFixture[str]):
    from rich.table import Table
    from rich.text import Text

    for name in EVIL:
        say(name, name)
        table = Table("a")
        table.add_row(Text(name))
        Terminal(width=200).print(table, highlight=False, markup=False)
    out = capsys.readouterr().out
    assert not CODES.search(out)
    assert "[red]" in out
    assert "[/red]" in out


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose classes have such names."""
    out = tmp_path_factory.mktemp("names") / "run"
    names = tuple(name or "(empty)" for name in EVIL)
    x = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (20, 1, 8, 8), dtype=np.uint8))
    settings = ["condition.label=true", "model.network.width=8", "schedule.type=CosineBetas", "schedule.steps=4"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(denoising, "report", lambda *_: None)
        data = Examples(x, torch.arange(20) % len(names), names)
        unsteep.train("array", data=data, out=out, steps=1, settings=settings, say=lambda _: None)
    return out


def test_samples_by_class_stay_in_their_folder(run: Path, tmp_path: Path):
    made("sample", run, "-n", "10", "--label", "all", "--steps", "2", "--out", tmp_path / "out" / "deep")
    assert [one.name for one in tmp_path.iterdir()] == ["out"]
    assert [one.name for one in (tmp_path / "out").iterdir()] == ["deep"]
    inside = tmp_path / "out" / "deep"
    assert len(list(inside.glob("*/*.png"))) == 10
    assert len([one for one in inside.iterdir() if one.is_dir()]) == 10


def test_no_verb_obeys_or_loses_a_name(run: Path, tmp_path: Path):
    for verb in (
        ["show", run],
        ["sample", run, "-n", "2", "--steps", "2", "--label", "[red]", "--out", tmp_path / "a.png"],
    ):
        said = made(*verb)
        assert not CODES.search(said)
    shown = made("show", run)
    assert "[red]" in shown
    assert "[/red]" in shown
    code, _, err = unsteep_("sample", run, "--label", "\x1b[2Jnone", "--out", tmp_path / "b.png")
    assert code == 2
    assert not CODES.search(err)


def test_a_page_shows_names_and_runs_none(run: Path):
    made("report", run)
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "<script>alert" not in page


def test_only_the_terminal_prints(tmp_path: Path):
    cli = Path(unsteep.__file__).parent / "cli"
    for file in cli.glob("*.py"):
        text = file.read_text(encoding="utf-8")
        if file.name != "terminal.py":
            assert not re.search(r"(?<![\w.])print\(", text), file.name
            assert "rich.console" not in text, file.name


def test_names_of_pictures_are_printed_plain(tmp_path: Path):
    Image.new("L", (8, 8)).save(tmp_path / "a\x1b[31m.png")
    (tmp_path / "b\x1b[2J.png").write_bytes(b"junk")
    said = made("data", tmp_path)
    assert not CODES.search(said)


def test_debug_shows_where_an_error_comes_from(tmp_path: Path):
    code, _, err = unsteep_("show", tmp_path / "none", "--debug")
    assert code == 2
    assert "Traceback" in err
    assert "Traceback" not in unsteep_("show", tmp_path / "none")[2]


# Where nobody can listen.


def shell(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    program = f"{shlex.quote(sys.executable)} -m unsteep"
    environment = os.environ | {"PYTHONPATH": str(Path(unsteep.__file__).parent.parent)}
    line = command.replace("unsteep", program, 1)
    return subprocess.run(
        line, shell=True, cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_place_to_print_to_ends_no_work(tmp_path: Path, run: Path):
    settings = "--set train.steps=2 --set train.batch=2 --set data.limit=20 --set model.network.width=8"
    done = shell(f"unsteep train digits --out run {settings} --set schedule=Flow > /dev/full", tmp_path)
    assert done.returncode == 1
    assert "standard output could not be written (No space left on device); the work itself was done" in done.stderr
    assert (tmp_path / "run" / "report.html").exists()
    assert shell(f"unsteep show {run} > /dev/full", tmp_path).returncode == 1
    assert "Traceback" not in done.stderr
    piped = shell(f"unsteep show {run} | head -1", tmp_path)
    assert piped.returncode == 0
    assert not piped.stderr
