"""Studies from the command line."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

import unsteep.training.run as runs
from command_line import made, unsteep_
from unsteep.cli.study import OF_A_MODEL, TRAINING, USED_BY
from unsteep.features import domain
from unsteep.features.domain import DomainNet
from unsteep.pages import plots
from unsteep.pages.ours import marked
from unsteep.studies import trained
from unsteep.studies.questions import training
from unsteep.studies.questions.training import Study, schedules
from unsteep.training import denoising

TINY = [
    *("data.limit=200", "schedule=CosineBetas", "schedule.steps=5", "train.batch=4", "train.warmup=1"),
    *("model.network.width=8", "model.network.groups=4", "model.network.blocks=1", "model.network.attention="),
]
SETS = [part for one in TINY for part in ("--set", one)]


def blank(path: Path, *_: object, **__: object) -> Path:
    Image.new("L", (1, 1)).save(path, **marked("PNG"))
    return path


@pytest.fixture(scope="module", autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    folder = tmp_path_factory.mktemp("home")
    with contextlib.chdir(folder), pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        patch.setattr(domain, "DomainNet", lambda: DomainNet(steps=10, batch=32, width=4, dimension=4))
        patch.setattr(denoising, "report", lambda model, out, *_: (out / "report.html").write_text(""))
        patch.setattr(plots, "lines", blank)
        made("train", "digits", *SETS, "--set", "train.steps=2", "--out", "runs/demo")
        yield


def test_solvers() -> None:
    named = ("--solvers", "ddim", "unsteep.sampling:Euler")
    asked = ("study", "solvers", "runs/demo", *named, "--calls", 4, 5, "--samples", 12)
    out = made(*asked)
    for words in ("Which solver", "4 of 4", "fid at 4 calls:", "distance at 5 calls:", "runs/study-solvers/index.html"):
        assert words in out
    stored = json.loads(Path("runs/study-solvers/results.json").read_text(encoding="utf-8"))
    assert [row["cell"] for row in stored["rows"]] == ["ddim-4", "Euler-4", "ddim-5", "Euler-5"]
    before = Path("runs/study-solvers/cells/ddim-4/result.json").read_bytes()
    made(*stored["command"].split()[1:])
    assert Path("runs/study-solvers/cells/ddim-4/result.json").read_bytes() == before
    code, _, err = unsteep_(*asked, "--seed", 1)
    assert (code, err.count("\n")) == (2, 1)
    assert "holds a study with other settings" in err


def test_guidance() -> None:
    out = made("study", "guidance", "runs/demo", "--scales", 1, 2, "--samples", 12, "--out", "g")
    assert "How strong a guidance?" in out
    assert json.loads(Path("g/results.json").read_text())["rows"][1]["protocol"]["guidance"] == 2


def test_schedules(monkeypatch: pytest.MonkeyPatch) -> None:
    def two(*given: object) -> Study:
        from dataclasses import replace

        study = schedules(*given)  # type: ignore[arg-type]
        return replace(study, cells=[cell for cell in study.cells if cell.name in ("linear", "flow")], repeat=None)

    monkeypatch.setitem(training.QUESTIONS, "schedules", two)
    monkeypatch.setattr(trained, "images_per_second", lambda *_: 8.0)
    asked = ("study", "schedules", *SETS, "--budget", "1s", "--samples", 12, "--images", 2, "--out", "s")
    out = made(*asked)
    assert "2 of 2" in out
    assert "bits-per-dim:" in out
    flow = runs.read_run(Path("s/cells/flow/run"))
    assert (type(flow.schedule).__name__, flow.model.prediction) == ("Flow", "flow")
    assert flow.train.steps == 2  # 1 s of 8 images/s, in batches of 4
    monkeypatch.setattr(trained, "images_per_second", lambda *_: 800.0)
    monkeypatch.setattr(runs, "start", None)
    made(*asked)  # goes on with the steps that the budget came to


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("study sampler", "sampler"),
        ("study solvers", "name a trained run, as in unsteep study solvers runs/demo"),
        ("study solvers runs/absent", "runs/absent"),
        ("study solvers runs/demo --solvers dimm", "unknown solver 'dimm'; did you mean ddim"),
        ("study solvers runs/demo --calls 1", "calls: expected at least 2"),
        ("study guidance runs/demo --samples 0", "samples: expected at least 10, got 0"),
        ("study schedules runs/demo", "trains its own runs; name data with --data DIR"),
        ("study schedules --recipe digit", "unknown recipe 'digit'; did you mean digits"),
        ("study schedules --budget soon", "--budget: expected a time, as 90s"),
        ("study schedules --budget 1m --steps 2", "--budget: --steps says already how long"),
        ("study schedules --steps 0", "--steps: expected at least 1, got 0"),
        ("study schedules --steps 2 --images 1", "images: expected at least 2"),
        ("study schedules --steps 2 --set train.stepz=3", "train.stepz"),
        ("study scale --steps 2 --data absent.npz", "absent.npz"),
    ],
)
def test_mistakes(command: str, words: str) -> None:
    code, _, err = unsteep_(*command.split(), "--out", "never")
    assert (code, err.count("\n")) == (2, 1), err
    assert words in err
    assert not Path("never").exists()


GIVEN = {"recipe": "array", "budget": "1s", "set": "train.batch=4", "calls": 5, "solvers": "ddim", "students": "none"}


@pytest.mark.parametrize("question", [*TRAINING, *OF_A_MODEL])
def test_options_that_a_question_does_not_use_are_refused(question: str) -> None:
    """Those that it does use come as far as the data or the run, neither of which is there."""
    of_training = frozenset({"recipe", "budget", "steps", "images", "set"})
    used = {**dict.fromkeys(TRAINING, of_training), "solvers": {"calls", "solvers"}, "guidance": {"scales"}}
    used["few-steps"] = frozenset({"calls", "students"})
    absent = ["absent"] if question in OF_A_MODEL else ["--data", "absent.npz"]
    for option in ("recipe", "budget", "steps", "images", "set", "calls", "solvers", "scales", "students"):
        code, _, err = unsteep_("study", question, *absent, f"--{option}", GIVEN.get(option, 3), "--out", "never")
        assert (code, err.count("\n")) == (2, 1), err
        if option in used[question]:
            assert "absent" in err
            continue
        assert f"--{option}: study {question} does not use it" in err
        assert all(name in err for name in used if option in used[name])
    assert not Path("never").exists()
    assert {option for options in used.values() for option in options} == set(USED_BY)


@pytest.mark.parametrize(("n", "holdout", "said"), [(20, "0.5", "10 to learn from and 10 unseen"), (39, "0", "39 to")])
def test_too_few_pictures_for_a_study_are_refused_at_once(n: int, holdout: str, said: str, tmp_path: Path) -> None:
    for i in range(n):
        Image.new("L", (8, 8), i).save(tmp_path / f"{i}.png")
    small = ("--set", f"data.holdout={holdout}", "--set", "data.size=8")
    code, _, err = unsteep_("study", "schedules", "--data", tmp_path, *SETS[2:], *small, "--steps", 1, "--out", "few")
    assert (code, err.count("\n")) == (2, 1), err
    assert f"too few pictures, or all alike: {said}" in err
    assert "give more" in err
