"""What is said of a run: in words, and of one that is being trained, that it is."""

import os
from pathlib import Path

import pytest

from command_line import made, unsteep_
from small_models import saved, saved_rows
from unsteep.data import Folder
from unsteep.storage.lock import FolderLock, held_by
from unsteep.storage.meanings import in_words


def test_a_component_in_words() -> None:
    assert in_words(Folder(path="photos")) == "Folder: path photos"
    assert in_words(Folder(path="photos", size=16, labelled=True, labels=(1, 2))) == (
        "Folder: path photos, size 16, labelled, labels 1 and 2"
    )


def test_no_python_is_shown_and_no_name_is_lost(tmp_path: Path) -> None:
    said = made("show", saved(tmp_path / "classes", ("[bold]cats", "a, b")))
    for words in ('"[bold]cats", "a, b"', "pictures of 1 x 8 x 8", "CosineBetas: steps 20"):
        assert words in " ".join(said.split())
    rows = made("show", saved_rows(tmp_path / "rows"))
    assert "rows of 2 numbers" in rows
    assert "=" not in (said + rows).replace(str(tmp_path), "")


@pytest.mark.parametrize(
    ("first", "advice", "verb"),
    [
        ("", "train it with: unsteep train --resume --out run", ("show", "run")),
        ("", "train it with: unsteep train --resume --out run", ("sample", "run", "-n", 1)),
        (
            'type = "ClassifierRun"\n',
            "go on with unsteep train-classifier",
            ("sample", "model", "-n", 1, "--classifier", "run", "--guidance", 2),
        ),
    ],
    ids=["show", "sample", "classifier"],
)
def test_a_run_without_a_checkpoint_is_being_trained_or_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: str, advice: str, verb: tuple[object, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    saved(Path("model"))
    Path("run").mkdir()
    Path("run/run.toml").write_text(first)
    code, _, err = unsteep_(*verb)
    assert (code, f"run has no checkpoint yet; {advice}" in err) == (2, True), err
    with FolderLock(Path("run")):
        assert str(held_by(Path("run"))) == f"process {os.getpid()}"
        code, _, err = unsteep_(*verb)
    assert (code, f"run is being trained by process {os.getpid()}" in err) == (2, True), err
    assert "resume" not in err
    assert held_by(Path("run")) is None
    with FolderLock(Path("run")):  # looking has locked nothing
        pass
