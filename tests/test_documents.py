"""README and docs: every command and snippet runs at a tiny size, in the order of its page; links lead somewhere; every
verb has its page; the settings are those of the source."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import shutil
import tomllib
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from cyclopts import MissingArgumentError

import settings_page
import unsteep
from command_line import unsteep_
from documents import INSTEAD, NOT_RUN, PAGES, ROOT, SETTINGS, blocks, furnish, inline, is_long, lines_of, tiny, why_not
from unsteep.cli import VERBS, app
from unsteep.cli.examples import EXAMPLES
from unsteep.features import domain, wording

DOCS = ROOT / "docs"
NAMES = [verb for verbs in VERBS.values() for verb in verbs]
NOTHING_MADE = ("README.md", "docs/your-photos.md")  # whose commands make every run that they use
RUNS = (
    "unsteep train digits --out runs/demo",
    "unsteep train folder --data photos/ --out runs/photos",
    "unsteep train fashion-mnist --data fashion/ --out runs/fashion",
    "unsteep sample runs/demo -n 20 --label 3,8 --out pictures/",
)


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data, and nothing made of them."""
    folder = tmp_path_factory.mktemp("data")
    furnish(folder)
    return folder


@pytest.fixture(scope="module")
def made(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with the runs that most pages begin with."""
    folder = tmp_path_factory.mktemp("made") / "home"
    shutil.copytree(data, folder)
    with contextlib.chdir(folder):
        for line in RUNS:
            execute(line)
    return folder


@pytest.fixture
def tiny_features(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The features of `evaluate` after two steps, kept where no other test finds them."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))
    monkeypatch.setattr(wording, "WordingNet", partial(wording.WordingNet, steps=2, batch=8, width=8))
    monkeypatch.setattr(domain, "DomainNet", partial(domain.DomainNet, steps=2, batch=8, width=4, dimension=8))


@pytest.fixture
def tiny_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """`unsteep.train` of a small network on a short chain, whatever a snippet asks for."""
    train = unsteep.train

    def tiny_train(recipe: Any, *, settings: Any = (), **how: Any) -> Any:
        own = [settings] if isinstance(settings, str) else list(settings)
        unet = recipe in ("digits", "array", "folder") and not any(one.startswith("model.network=") for one in own)
        keys = [key for key in SETTINGS if not key.startswith("model.network.") or unet]
        if "start_from" in how or how.get("resume"):
            keys = ["train.batch"] * ("start_from" in how)
        return train(recipe, settings=[*own, *(f"{key}={SETTINGS[key]}" for key in keys)], **how)

    monkeypatch.setattr(unsteep, "train", tiny_train)


def execute(line: str, all_of_them: bool = True) -> str:
    """Runs a command, or, where it is listed as one that is not run, asks whether its options are there."""
    line = INSTEAD.get(line, line)
    words = shlex.split(line)
    if why_not(line) or (is_long(line) and not all_of_them):
        if words[0] == "unsteep":
            parse(words[1:])
        return ""
    assert words[0] == "unsteep", f"neither run nor listed in NOT_RUN: {line}"
    code, out, err = unsteep_(*tiny(line))
    assert code == 0, f"{line}\nas {shlex.join(tiny(line))}\n{err}"
    return out


def parse(words: list[str]) -> None:
    """Asks whether the command line has this verb and these options."""
    with contextlib.suppress(MissingArgumentError):  # a text may leave out the run
        app.parse_args(words, exit_on_error=False, print_error=False)


@pytest.mark.parametrize(
    "all_of_them",
    [False, pytest.param(True, marks=[pytest.mark.long, pytest.mark.timeout(1200)])],
    ids=["quick", "all"],
)
@pytest.mark.parametrize("page", PAGES, ids=name_of)
@pytest.mark.usefixtures("tiny_training", "tiny_features")
def test_runs_as_it_stands(page: Path, all_of_them: bool, data: Path, made: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    shutil.copytree(data if name_of(page) in NOTHING_MADE else made, home)
    names: dict[str, Any] = {"__name__": "__main__"}
    with contextlib.chdir(home):
        for block in blocks(page):
            where = f"{name_of(page)}:{block.line}"
            if block.kind == "python":
                code = re.sub(r"\bsteps=(\d+)", lambda found: f"steps={min(3, int(found[1]))}", block.text)
                with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
                    warnings.simplefilter("default")
                    exec(compile("\n" * (block.line - 1) + code, str(page), "exec"), names)
            elif block.kind in ("", "sh"):
                for line in lines_of(block):
                    execute(line, all_of_them)
            else:
                assert block.kind in ("text", "toml"), f"{where}: {block.kind} is neither a command, Python nor output"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_in_the_text_are_there(page: Path) -> None:
    for line in inline(page):
        words = shlex.split(line)[1:]
        if len(words) > 1 and not set(words) & {"RUN", "RECIPE", "NAME", "DIR", "FILE", "FOLDER"}:
            parse(words)
        assert words[0] in NAMES or words[0].startswith("--"), f"{name_of(page)}: {line}"


def test_examples_of_the_help_are_there() -> None:
    for example in EXAMPLES.values():
        parse(shlex.split(example)[1:])


def test_what_is_not_run_is_there() -> None:
    lines = [line for page in PAGES for block in blocks(page) if block.kind in ("", "sh") for line in lines_of(block)]
    for what in NOT_RUN:
        assert any(what.strip() in line for line in lines), f"{what} is nowhere"
    makefile = (ROOT / "Makefile").read_text()
    for line, command in INSTEAD.items():
        assert line in lines
        assert command in makefile


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not target.startswith(("http:", "https:")):
            path, _, anchor = target.partition("#")
            there = (page.parent / path).resolve() if path else page
            assert there.exists(), f"{name_of(page)}: {target}"
            assert not anchor or anchor in anchors(there), f"{name_of(page)}: {target}"
    for target in re.findall(r"`((?:docs|tests|benchmarks|examples)/[\w./-]+)`", text):
        assert (ROOT / target).exists(), f"{name_of(page)}: {target}"


def test_no_link_of_the_package_leads_nowhere() -> None:
    """What a package index shows of README stands beside no pictures and pages."""
    hook = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"]["metadata"]["hooks"]
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)]*)\)", text)
    for one in hook["fancy-pypi-readme"]["substitutions"]:
        text = re.sub(one["pattern"], one["replacement"], text)
    assert any(link.startswith("docs/") for link in links)
    assert re.findall(r"\]\(([^)]*)\)", text) == [link for link in links if link.startswith(("http:", "https:"))]
    assert "docs/index.md" in text


def anchors(page: Path) -> set[str]:
    """What the headings of a page are linked by."""
    found = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", one.lower()).replace(" ", "-") for one in found}


def test_every_verb_has_a_page_that_shows_it() -> None:
    assert {path.stem for path in (DOCS / "verbs").glob("*.md")} == set(NAMES)
    for verb in NAMES:
        page = DOCS / "verbs" / f"{verb}.md"
        assert page.read_text(encoding="utf-8").startswith(f"# unsteep {verb}\n")
        shown = [line for block in blocks(page) if block.kind == "" for line in lines_of(block)]
        assert any(line.split()[:2] == ["unsteep", verb] for line in shown), verb
        assert any(block.kind == "text" for block in blocks(page)), f"{verb}: no output"


def test_the_index_has_every_page() -> None:
    index = (DOCS / "index.md").read_text(encoding="utf-8")
    for page in DOCS.rglob("*.md"):
        assert page.name == "index.md" or f"]({page.relative_to(DOCS).as_posix()})" in index, page


def test_the_settings_are_those_of_the_source() -> None:
    path, now = DOCS / "settings.md", settings_page.page()
    if os.environ.get("UNSTEEP_REGENERATE"):
        path.write_text(now, encoding="utf-8")
    assert path.read_text(encoding="utf-8") == now, "UNSTEEP_REGENERATE=1 pytest tests/test_documents.py writes it anew"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_keys_in_the_text_are_there(page: Path) -> None:
    """Keys of --set, those of solvers and classifiers, too."""
    keys = set(re.findall(r"^\| `([\w.]+)` \|", settings_page.page(), flags=re.MULTILINE)) | {
        "network.width",
        "network.groups",
    }
    text = page.read_text(encoding="utf-8")
    parts = r"(?:train|model|data|condition|schedule|objective)\.[a-z]\w*(?:\.[a-z]\w*)*"
    named = {*re.findall(r"--set[ \n]([\w.]+)=", text), *re.findall(rf"`({parts})(?:=[^`]*)?`", text)}
    others = {"KEY", "schedule.png", "model.sample", "model.space.encode"}
    assert named - keys <= others, f"{name_of(page)}: {sorted(named - keys)}"


def test_pictures_stay_small() -> None:
    sizes = {path: path.stat().st_size for path in DOCS.rglob("*") if path.suffix in (".png", ".gif")}
    assert max(sizes.values()) < 60_000
    assert sum(sizes.values()) < 400_000
