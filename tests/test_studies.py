"""Studies: what is done stays done, what follows from the numbers, and the questions themselves at a tiny size."""

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import unsteep.training.run as runs
from unsteep.evaluation.page import brief
from unsteep.features import domain
from unsteep.features.domain import DomainNet
from unsteep.metrics.interval import Interval
from unsteep.metrics.measures import BETTER
from unsteep.model import Model
from unsteep.networks import DiTConfig, UNetConfig
from unsteep.opening import load
from unsteep.pages import plots
from unsteep.pages.ours import marked
from unsteep.recipes import RECIPES
from unsteep.sampling import DDIM, DEIS, SOLVERS, Adaptive
from unsteep.storage import config
from unsteep.studies import trained as training_runs
from unsteep.studies.page import _faint, write_page
from unsteep.studies.questions import sampling, training
from unsteep.studies.questions.examiner import Counts, Examiner
from unsteep.studies.study import Cell, Outcome, Plot, Study, conclusions, read, run
from unsteep.studies.trained import of_steps, steps_for
from unsteep.training import denoising
from unsteep.training.loop import Diverged
from unsteep.training.run import Run

SETTINGS = [
    *("data.limit=200", "schedule=CosineBetas", "schedule.steps=5", "train.batch=4", "train.warmup=1"),
    *("model.network.width=8", "model.network.groups=4", "model.network.blocks=1", "model.network.attention="),
]


def quiet(_: str) -> None: ...


def values(**given: tuple[float, float]) -> dict[str, Interval]:
    """Metrics as (value, half-width), with _ for -."""
    return {name.replace("_", "-"): Interval(v, v - half, v + half) for name, (v, half) in given.items()}


class Made:
    """A study of three cells that counts how often each was measured."""

    def __init__(self, *, fails: str = "", **asked: Any) -> None:
        self.did: list[str] = []
        self.fails = fails
        outcomes = {
            "a-5": values(fid=(3.0, 0.1), recall=(0.5, 0.01)),
            "b-5": values(fid=(2.0, 0.1), recall=(0.5, 0.01)),
            "a-9": values(fid=(1.0, 0.1), recall=(0.6, 0.01)),
        }
        self.study = Study(
            name="made",
            question="Which is it?",
            cells=[
                Cell(name, f"cell {name}", self._do(name, found), {"calls": float(name[-1])})
                for name, found in outcomes.items()
            ],
            asked={"seed": 0, **asked},
            metrics=("fid", "recall"),
            facts=[("samples", "as many as there are")],
            page=write_page,
            plots=[
                Plot("calls", "fid", "Distance", xlog=True),
                Plot("recall", "fid", "Both"),
                Plot("x", "fid", "None"),
            ],
            floors=values(fid=(0.5, 0.1)),
            group=lambda name: name.split("-")[0],
            best_of=lambda cell: f"{cell.axes['calls']:g} calls",
        )

    def _do(self, name: str, found: dict[str, Interval]) -> Callable[[Path], Outcome | None]:
        def do(folder: Path) -> Outcome | None:
            self.did.append(name)
            if self.fails == name:
                return None
            shade = np.full((3, 1, 4, 4), 50 * len(self.did), np.uint8)
            return Outcome(found, shade, {"network calls": 7.0}, {"seeds": "0 to 9", "steps": None})

        return do


# What is done stays.


def test_an_interrupted_study_goes_on(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    stopped = Made(fails="b-5")
    said: list[str] = []
    assert run(stopped.study, out, say=said.append) is None
    assert stopped.did == ["a-5", "b-5"]
    assert "stopped and saved" in said[-1]
    assert "A study of 1 cells" in (out / "index.html").read_text(encoding="utf-8")
    first = (out / "cells" / "a-5" / "result.json").read_bytes()
    again = Made()
    done = run(again.study, out, say=said.append)
    assert done is not None
    assert again.did == ["b-5", "a-9"]
    assert (out / "cells" / "a-5" / "result.json").read_bytes() == first
    assert list(done) == ["a-5", "b-5", "a-9"]
    assert (out / "index.html").exists()
    for name, outcome in done.items():
        stored = read(out / "cells" / name)
        assert stored is not None
        assert (stored.values, stored.facts, stored.protocol) == (outcome.values, outcome.facts, outcome.protocol)
        assert stored.seconds == outcome.seconds
        assert stored.samples is not None
        assert np.array_equal(stored.samples, outcome.samples)
    whole = Made()
    page = (out / "index.html").read_text(encoding="utf-8")
    assert run(whole.study, out, say=quiet) is not None
    assert whole.did == []
    assert (out / "index.html").read_text(encoding="utf-8") == page


def test_an_error_in_a_cell_loses_none_of_those_before(tmp_path: Path) -> None:
    broken = Made()

    def fail(folder: Path) -> Outcome:
        raise KeyboardInterrupt

    cells = list(broken.study.cells)
    with pytest.raises(KeyboardInterrupt):
        run(replace(broken.study, cells=[cells[0], replace(cells[1], do=fail)]), tmp_path / "a", say=quiet)
    again = Made()
    assert run(again.study, tmp_path / "a", say=quiet)
    assert again.did == ["b-5", "a-9"]


def test_other_settings_are_refused_and_forced(tmp_path: Path) -> None:
    assert run(Made().study, tmp_path / "a", say=quiet)
    other = Made(samples=7)
    with pytest.raises(ValueError, match=r"holds a study with other settings; .* choose another, .* force=True$"):
        run(other.study, tmp_path / "a", say=quiet)
    with pytest.raises(ValueError, match="other settings"):
        run(replace(Made().study, name="another"), tmp_path / "a", say=quiet)
    assert other.did == []
    assert run(other.study, tmp_path / "a", force=True, say=quiet)
    assert other.did == ["a-5", "b-5", "a-9"]
    assert json.loads((tmp_path / "a" / "study.json").read_text())["asked"]["samples"] == 7


def test_another_protocol_measures_anew_what_is_asked_for(tmp_path: Path) -> None:
    assert run(replace(Made().study, protocol={"samples": 5}), tmp_path, say=quiet)
    closer = Made()
    done = run(replace(closer.study, protocol={"samples": 9}), tmp_path, only=["b-5"], say=quiet)
    assert done is not None
    assert closer.did == ["b-5"] == list(done)
    again = Made()
    done = run(replace(again.study, protocol={"samples": 5}), tmp_path, only=["b-5"], say=quiet)
    assert done is not None
    assert (again.did, list(done)) == (["b-5"], ["a-5", "b-5", "a-9"])
    assert done["b-5"].protocol == {"samples": 5, "seeds": "0 to 9", "steps": None}


def test_vectors_and_labels_are_kept(tmp_path: Path) -> None:
    x, labels = np.random.default_rng(0).normal(size=(3, 2)), np.array([2, 0, 1])
    cell = Cell("a", "", lambda _: Outcome({}, x, labels=labels))
    assert run(replace(Made().study, cells=[cell], page=lambda *_: None), tmp_path, say=quiet)
    stored = read(tmp_path / "cells" / "a")
    assert stored is not None
    assert np.array_equal(stored.samples, x)
    assert np.array_equal(stored.labels, labels)


def test_numbers_that_are_none_are_refused_before_anything_is_removed(tmp_path: Path) -> None:
    made = Made()
    assert run(made.study, tmp_path / "a", say=quiet)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ValueError, match="expected finite numbers"):
        run(replace(made.study, asked={"scales": [math.nan]}), tmp_path / "a", force=True, say=quiet)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("force", [False, True])
def test_something_else_is_never_overwritten(tmp_path: Path, force: bool) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(ValueError, match="exists and is not a study; choose another"):
        run(Made().study, tmp_path, force=force, say=quiet)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    with pytest.raises(ValueError, match="is a file; name a folder"):
        run(Made().study, tmp_path / "thesis.txt", say=quiet)


def test_the_time_of_a_cell_is_that_of_its_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from unsteep.studies import study

    ticks = iter([0.0, 30.0, 100.0, 160.0, 200.0, 230.0])
    monkeypatch.setattr(study.time, "monotonic", lambda: next(ticks))
    done = run(Made().study, tmp_path, say=quiet)
    assert done is not None
    assert [outcome.seconds for outcome in done.values()] == [30, 60, 30]
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert "2.0 min" in page
    assert page.count("<td>30</td>") == 2


def test_the_time_of_an_interrupted_cell_is_that_of_all_calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from unsteep.studies import study

    def fail(folder: Path) -> Outcome:
        raise KeyboardInterrupt

    ticks = iter([0.0, 30.0, 100.0, 140.0, 200.0, 205.0, 300.0, 325.0, 400.0, 410.0])
    monkeypatch.setattr(study.time, "monotonic", lambda: next(ticks))
    assert run(Made(fails="b-5").study, tmp_path, say=quiet) is None
    cells = list(Made().study.cells)
    with pytest.raises(KeyboardInterrupt):
        run(replace(Made().study, cells=[cells[0], replace(cells[1], do=fail)]), tmp_path, say=quiet)
    done = run(Made().study, tmp_path, say=quiet)
    assert done is not None
    assert [outcome.seconds for outcome in done.values()] == [30, 40 + 5 + 25, 10]


# The page.


def test_the_page_and_the_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plots, "lines", LINES)
    made = Made()
    done = run(made.study, tmp_path, command="unsteep study this", say=quiet)
    assert done is not None
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    stored = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    table = page.split("<tbody>")[1].split("</tbody>")[0]
    assert table.count("<tr>") == 4  # and the real data
    for words in (
        "Which is it?",
        brief(Interval(3.0, 2.9, 3.1)),
        brief(Interval(0.5, 0.4, 0.6)),
        "cell b-5",
        "unsteep study this",
    ):
        assert words in page
    assert all(text in page for text in stored["conclusions"])
    assert stored["conclusions"] == conclusions(made.study, done)
    assert page.count("data:image/png") == 3  # two plots, one of which has no numbers, and the samples
    assert {path.name for path in tmp_path.glob("*.png")} == {"fid-calls.png", "fid-recall.png", "samples.png"}
    assert (stored["study"], stored["command"], stored["asked"]) == ("made", "unsteep study this", {"seed": 0})
    assert stored["measured"] == [["samples", "as many as there are"]]
    assert stored["floors"]["fid"] == {"value": 0.5, "low": 0.4, "high": 0.6}
    for row, (name, outcome) in zip(stored["rows"], done.items(), strict=True):
        assert (row["cell"], row["axes"]) == (name, {"calls": float(name[-1])})
        assert {key: Interval(**value) for key, value in row["values"].items()} == outcome.values
        assert (row["facts"], row["protocol"]) == ({"network calls": 7.0}, {"seeds": "0 to 9", "steps": None})
    with Image.open(tmp_path / "samples.png") as sheet:
        shades = np.asarray(sheet.convert("L"))
    assert {50, 100, 150} <= set(np.unique(shades).tolist())  # of each cell


def test_plots_are_lines_by_group_in_order_of_x(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: dict[str, Mapping[str, Any]] = {}

    def lines(path: Path, series: Mapping[str, Any], **how: Any) -> Path:
        drawn[path.name] = {"series": series, **how}
        Image.new("L", (1, 1)).save(path, **marked("PNG"))
        return path

    monkeypatch.setattr(plots, "lines", lines)
    made = Made().study
    run(replace(made, cells=list(made.cells)[::-1]), tmp_path, say=quiet)
    against = drawn["fid-calls.png"]
    assert against["xlog"]
    assert not against["ylog"]
    assert against["series"]["a"] == ((5, 9), (3, 1), pytest.approx((2.9, 0.9)), pytest.approx((3.1, 1.1)))
    assert against["series"]["b"][0] == (5,)
    assert drawn["fid-recall.png"]["series"]["a"][0] == (0.6, 0.5)  # a path from cell to cell


# What follows.


def concluded(metrics: dict[str, dict[str, tuple[float, float]]], **how: Any) -> list[str]:
    """Of cells with these metrics."""

    def never(folder: Path) -> Outcome:
        raise AssertionError

    names = sorted({metric.replace("_", "-") for given in metrics.values() for metric in given}, key=list(BETTER).index)
    cells = [Cell(name, "", never) for name in metrics]
    study = Study(name="made", question="?", cells=cells, asked={}, metrics=names, facts=[], page=write_page, **how)
    return conclusions(study, {name: Outcome(values(**given), None) for name, given in metrics.items()})


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"a": (1.0, 0.1), "b": (2.0, 0.1), "c": (3.0, 0.1)}, "a is best, .*, and all others are worse by more than"),
        (
            {"a": (2.5, 0.4), "b": (2.0, 0.2), "c": (3.0, 0.1)},
            r"b is best, 2.00 \[1.80, 2.20\]; too close to tell: a\.$",
        ),
        ({"a": (2.1, 0.4), "b": (2.0, 0.2), "c": (2.3, 0.9)}, r"b is best, .*, and no other can be told from it\.$"),
    ],
    ids=["clear", "two are close", "all are close"],
)
def test_conclusions(given: dict[str, tuple[float, float]], words: str) -> None:
    import re

    (lower,) = concluded({name: {"fid": value} for name, value in given.items()})
    assert re.search(f"^fid: {words}", lower)
    (higher,) = concluded({name: {"recall": (5 - v, half)} for name, (v, half) in given.items()})
    assert higher.split()[1] == lower.split()[1]  # the best one
    assert higher.split("]")[1] == lower.split("]")[1]


def test_the_best_is_named_within_each_group_and_only_where_there_is_a_choice() -> None:
    given = {"a-5": {"fid": (1.0, 0.1)}, "b-5": {"fid": (2.0, 0.1)}, "a-9": {"fid": (0.1, 0.1)}, "c-5": {}}
    found = concluded(given, best_of=lambda cell: cell.name[-1])
    assert len(found) == 1
    assert found[0].startswith("fid at 5: a-5 is best")


def test_what_chance_does_is_said() -> None:
    given = {"a": {"fid": (1.0, 0.1), "recall": (0.5, 0.1)}, "again": {"fid": (1.25, 0.1)}, "b": {"fid": (9.0, 0.1)}}
    found = concluded(given, repeat=("a", "again"))
    assert (
        found[-1] == "Another seed of training alone (a and again) changes fid by 0.25: smaller differences say little."
    )
    given["again"] = {}
    assert concluded(given, repeat=("a", "again"))[-1] == (
        "a and again differ in the seed alone, and of one of them training diverged."
    )


# The questions, at a tiny size.


def digits(*settings: str) -> Run:
    return config.override(RECIPES["digits"](""), [*SETTINGS, *settings])


LINES = plots.lines


def blank(path: Path, *_: object, **__: object) -> Path:
    Image.new("L", (1, 1)).save(path, **marked("PNG"))
    return path


def no_report(model: Model, out: Path, *_: object) -> None:
    (out / "report.html").write_text("")


@pytest.fixture(scope="module", autouse=True)
def _quick(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Features of few steps, in a cache of their own; the pictures of each run are tested with the runs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        patch.setattr(domain, "DomainNet", lambda: DomainNet(steps=10, batch=32, width=4, dimension=4))
        patch.setattr(denoising, "report", no_report)
        patch.setattr(plots, "lines", blank)
        yield


COUNTS = Counts(samples=12, steps=3, images=4, terms=2)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, _quick: None) -> Path:
    """A run on all ten digits."""
    out = tmp_path_factory.mktemp("runs") / "digits"
    assert runs.start(of_steps(digits("condition.label=true"), 3), out, say=quiet)
    return out


@pytest.fixture(scope="module")
def examiner(trained: Path) -> Examiner:
    return Examiner(runs.read_run(trained).data, replace(COUNTS, images=0), "cpu")


def results(out: Path) -> dict[str, Any]:
    return json.loads((out / "results.json").read_text(encoding="utf-8"))


def test_which_solver(tmp_path: Path, trained: Path, examiner: Examiner) -> None:
    model = load(trained)
    ours = {name: SOLVERS[name] for name in ("ancestral", "heun", "deis")}
    asked = sampling.solvers(examiner, model, [6, 4, 3], {**ours, "own": DDIM(eta=0.5)})
    names = ["heun-6", "ancestral-4", "heun-4", "deis-4", "own-4", "ancestral-3", "deis-3", "own-3"]  # of 5 steps
    assert sorted(cell.name for cell in asked.cells) == sorted(names)
    with pytest.raises(ValueError, match=r"^solvers: own lays its own levels; give one that walks a grid$"):
        sampling.solvers(examiner, model, [4], {"own": Adaptive()})  # type: ignore[dict-item]
    only = [cell for cell in asked.cells if cell.name in ("ancestral-4", "heun-6", "heun-4", "deis-4")]
    assert run(replace(asked, cells=only), tmp_path, say=quiet)
    rows = {row["cell"]: row for row in results(tmp_path)["rows"]}
    assert {name: row["protocol"]["steps"] for name, row in rows.items()} == {
        "ancestral-4": 4, "heun-6": 3, "heun-4": 2, "deis-4": 4,
    }  # fmt: skip
    for name, row in rows.items():
        assert 0 < row["facts"]["network calls"] <= int(name[-1])
        assert row["facts"]["ms a sample"] > 0
        assert ("distance" in row["values"]) == (not name.startswith("ancestral"))
        assert row["protocol"]["solver"].startswith(type(SOLVERS[name[:-2]]).__name__)
    assert {"fid", "precision"} <= set(results(tmp_path)["floors"])
    answer = sampling.Answer(model, 0)
    assert answer.pictures.shape == (64, 1, 8, 8)
    assert answer.distance(answer.drawn(DEIS(order=3), 5)).value == 0
    apart = answer.distance(255 - answer.pictures)
    by_hand = [np.sqrt(np.mean((255.0 - 2 * one.double().numpy()) ** 2)) for one in answer.pictures]
    assert apart.value == pytest.approx(np.mean(by_hand))
    measured = dict(asked.facts)
    assert len(measured) == len(asked.facts)
    assert "default solver" not in measured["samples"]


def test_how_strong_a_guidance(tmp_path: Path, trained: Path, examiner: Examiner) -> None:
    asked = sampling.guidance(examiner, load(trained), (0.0, 2.0, 2.0))
    done = run(replace(asked, plots=asked.plots[:1]), tmp_path, say=quiet)
    assert done is not None
    assert list(done) == ["scale-0", "scale-2"]
    assert [outcome.protocol["guidance"] for outcome in done.values()] == [0.0, 2.0]
    calls = [outcome.facts["network calls"] for outcome in done.values()]
    assert calls[1] == 2 * calls[0]
    assert done["scale-2"].protocol["seeds"] == "0 to 11"
    assert {"agreement", "fid", "intra-class"} <= set(done["scale-0"].values)
    plain = digits("condition.label=false").describe(examiner.real.reference)
    with pytest.raises(ValueError, match="knows no classes to be guided to"):
        sampling.guidance(examiner, Model(plain.build(), plain))


def test_which_schedule(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = training.schedules(digits("schedule.steps=5"), COUNTS, 2, "cpu")
    assert [cell.name for cell in asked.cells] == ["linear", "linear-again", "cosine", "sigmoid", "quadratic", "flow"]
    some = [cell for cell in asked.cells if cell.name in ("linear", "linear-again")]
    assert run(replace(asked, cells=some), tmp_path, say=quiet)
    made = {cell.name: runs.read_run(tmp_path / "cells" / cell.name / "run") for cell in some}
    assert {one.train.steps for one in made.values()} == {2}
    assert made["linear"] == replace(made["linear-again"], train=replace(made["linear-again"].train, seed=0))
    assert made["linear"].train.seed != made["linear-again"].train.seed
    found = results(tmp_path)
    assert set(found["rows"][0]["values"]) >= {"fid", "bits-per-dim", "kid", "precision", "recall"}
    assert any("linear and linear-again" in text for text in found["conclusions"])
    assert found["rows"][0]["protocol"]["weights"] == "averaged while training (EMA)"
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "cells").rglob("*")}
    for name in ("start", "resume"):
        monkeypatch.setattr(runs, name, None)
    assert run(replace(asked, cells=some), tmp_path, say=quiet)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "cells").rglob("*")} == before


def test_one_that_diverges_does_not_stop_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def diverge(*_: object, **__: object) -> bool:
        raise Diverged("at step 2")

    monkeypatch.setattr(runs, "start", diverge)
    asked = training.schedules(digits(), replace(COUNTS, images=0), 2, "cpu")
    said: list[str] = []
    assert run(replace(asked, cells=list(asked.cells)[:2]), tmp_path, say=said.append)
    assert "linear " in said[1]
    assert "diverged" in said[1]
    assert "<td>diverged</td>" in (tmp_path / "index.html").read_text(encoding="utf-8")
    assert results(tmp_path)["rows"][0]["values"] == {}
    assert results(tmp_path)["rows"][0]["diverged"] == "at step 2"


def test_which_network() -> None:
    run = digits("model.network.attention=4")
    asked = training.architecture(run, COUNTS, 2, "cpu")
    names = [cell.name for cell in asked.cells]
    assert names == ["whole", "whole-again", "no-attention", "more-attention", "no-skips", "no-time"]
    assert asked.repeat == ("whole", "whole-again")
    scaled = training.scale(digits(), COUNTS, 8, "cpu")
    axes = {cell.name: cell.axes for cell in scaled.cells}
    assert len(axes) == 9
    assert axes["width-16-steps-2"] == {"training steps": 2.0, "width": 16.0}
    assert {tuple(one.values()) for one in axes.values()} == {(s, w) for s in (2.0, 4.0, 8.0) for w in (4.0, 8.0, 16.0)}


@dataclass(frozen=True, kw_only=True)
class Own(DiTConfig):
    """A network of one's own, with a part that can be taken out."""

    time_embedding: bool = True


def test_which_network_is_asked_of_any_by_the_parts_that_it_has() -> None:
    run = digits()
    own = replace(run, model=replace(run.model, network=Own(width=16, depth=1, heads=2)))
    cells = training.architecture(own, COUNTS, 2, "cpu").cells
    assert [cell.name for cell in cells] == ["whole", "whole-again", "no-time"]
    axes = [cell.axes for cell in training.scale(own, COUNTS, 8, "cpu").cells]
    assert {one["width"] for one in axes} == {8.0, 16.0, 32.0}
    assert training.small(own) == own
    without = replace(run, model=replace(run.model, network=DiTConfig()))
    with pytest.raises(ValueError, match=r"^model.network: .* as UNet, got DiTConfig"):
        training.architecture(without, COUNTS, 2, "cpu")


def test_a_cell_that_cannot_be_built_is_named_before_the_work() -> None:
    with pytest.raises(ValueError, match=r"^linear: model.network: "):
        training.schedules(digits("model.network=Sequence"), COUNTS, 2, "cpu")


def test_small_is_smaller() -> None:
    run = RECIPES["digits"]("")
    small = training.small(run)
    assert isinstance(small.model.network, UNetConfig)
    assert isinstance(run.model.network, UNetConfig)
    assert small.model.network.width < run.model.network.width


def test_steps_for_a_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_runs, "images_per_second", lambda *_: 100.0)
    assert steps_for(digits(), 60.0, "cpu") == 1500  # in batches of 4
    assert steps_for(digits(), 1e-9, "cpu") == 1


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"samples": 9}, "samples: expected at least 10, got 9"),
        ({"steps": 0}, "steps: expected at least 1, got 0"),
        ({"images": 1}, "images: expected at least 2, for an interval, or 0 for none, got 1"),
        ({"terms": 0}, "terms: expected at least 1, got 0"),
    ],
    ids=str,
)
def test_counts_that_would_fail_after_the_training(given: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Counts(**given)


@pytest.mark.parametrize("calls", [[1], [10, 0], [], [50]], ids=str)
def test_calls_that_no_solver_can_take(calls: list[int], examiner: Examiner, trained: Path) -> None:
    with pytest.raises(ValueError, match=r"calls: (expected at least 2|no solver takes 50)"):
        sampling.solvers(examiner, load(trained), calls)


def test_of_many_lines_the_first_and_the_best_are_told_apart() -> None:
    """By their ranks over all places on the x axis; where a line is missing, it is last."""
    one, two = (3.0, 1.0, 2.0, 5.0, 4.0, 6.0, 7.0, 9.0, 8.0), (9.0, 2.0, 1.0, 4.0, 5.0, 6.0, 7.0, 8.0, 3.0)
    lines = {f"l{i}": ((1.0, 2.0), values) for i, values in enumerate(zip(one, two, strict=True))}
    lines["short"] = ((1.0,), (8.5,))
    assert _faint(lines, "fid") == ["l6", "l7", "short"]  # sums of ranks 12, 16 and 18; of the others at most 10
    assert _faint(dict(list(lines.items())[:7]), "fid") == []
    assert {"l1", "l2"} <= set(_faint(lines, "recall"))  # now the lowest are the worst
