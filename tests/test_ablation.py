"""The ablation: which cells there are, that they are trained alike and once, and that one's failure is its own."""

import io
import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from scipy.stats import binomtest

import unsteep.training.run as runs
from unsteep.cli import main
from unsteep.cli.ablate import _named
from unsteep.evaluation.quality import Classifier, energy_distance
from unsteep.metrics.interval import Interval, wilson
from unsteep.model import Model
from unsteep.pages import plots
from unsteep.pages.ours import marked
from unsteep.recipes import RECIPES
from unsteep.recipes.sizing import duration as read_seconds
from unsteep.storage import config
from unsteep.studies import trained
from unsteep.studies.ablation.ablation import ablate
from unsteep.studies.ablation.claims import claims, verdict
from unsteep.studies.ablation.grid import GRID, Combination
from unsteep.studies.ablation.result import Extent
from unsteep.studies.study import Outcome
from unsteep.training import denoising, sitting
from unsteep.training.loop import Diverged, State
from unsteep.training.run import Run

BY_NAME = {cell.name: cell for cell in GRID}
THREE = tuple(BY_NAME[name] for name in ("eps-simple-fixed", "x0-bound-diagonal", "v-hybrid-learned"))
SMALL = Extent(samples=12, images=4, terms=4)
SETTINGS = [
    *("data.limit=100", "schedule=CosineBetas", "schedule.steps=5", "train.batch=4", "train.warmup=1", "train.ema=0.5"),
    *("model.network.width=8", "model.network.groups=4", "model.network.blocks=1", "model.network.attention="),
]


def digits(*settings: str) -> Run:
    return config.override(RECIPES["digits"](""), [*SETTINGS, *settings])


def study(out: Path, **how: Any) -> bool:
    given = {"cells": THREE, "steps": 3, "measure": SMALL, "say": lambda _: None, **how}
    return ablate(given.pop("run", digits()), out, **given) is not None


def weights(out: Path, cell: Combination) -> dict[str, torch.Tensor]:
    return load_file(out / "cells" / cell.name / "run" / "checkpoints" / "step-00000003" / "weights.safetensors")


def report_of(out: Path) -> dict[str, Any]:
    return json.loads((out / "results.json").read_text(encoding="utf-8"))


def cells_of(out: Path) -> dict[str, Any]:
    return {row["cell"]: row for row in report_of(out)["rows"]}


def watched(monkeypatch: pytest.MonkeyPatch, act: Callable[[State, int], None]) -> None:
    """Calls `act` with the state and the number of steps done, before training and after each step."""
    real = sitting.train

    def train(task: Any, plan: Any) -> Iterator[Any]:
        state = task.state
        act(state, task.step)
        for record in real(task, plan):
            yield record
            act(state, record.step)

    monkeypatch.setattr(sitting, "train", train)


def no_report(model: Model, out: Path, *_: object) -> None:
    (out / "report.html").write_text("")


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pictures of each cell's own run are tested with the runs, and the curves once, by `done`."""
    monkeypatch.setattr(denoising, "report", no_report)
    monkeypatch.setattr(plots, "lines", lambda path, *_, **__: Image.new("L", (1, 1)).save(path, **marked("PNG")))


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three cells, of the whole grid."""
    out = tmp_path_factory.mktemp("ablation") / "done"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(denoising, "report", no_report)
        assert study(out, command="unsteep ablate this")
    return out


def test_the_grid_has_the_cells_that_make_sense() -> None:
    kinds = {(c.prediction, c.objective, "fixed" if c.variance == "fixed" else "learned") for c in GRID}
    every = set(product(("mean", "eps", "x0", "v"), ("bound", "simple", "hybrid"), ("fixed", "learned")))
    assert every - kinds == {
        (prediction, *senseless)
        for prediction in ("mean", "eps", "x0", "v")
        for senseless in (("hybrid", "fixed"), ("simple", "learned"))
    }
    assert len(GRID) == len(BY_NAME) == len(kinds) == 16
    assert all((c.variance == "diagonal") == (c.objective == "bound") for c in GRID if c.variance != "fixed")


@pytest.mark.parametrize("cell", GRID, ids=lambda cell: cell.name)
def test_a_cell_changes_its_three_choices_alone(cell: Combination) -> None:
    run = digits("objective.times=Stratified")
    made = cell.of(run)
    assert type(made.objective).__name__.lower() == cell.objective
    assert made.objective.times == run.objective.times
    assert getattr(made.objective, "variance", "beta") == ("learned" if cell.variance == "diagonal" else "beta")
    assert replace(made.model, prediction=run.model.prediction, variance=run.model.variance) == run.model
    assert replace(made, model=run.model, objective=run.objective) == run
    assert config.loads(Run, config.dumps(made)) == made


def test_equal_seeds_give_equal_weights_and_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = {}

    def train(task: Any, plan: Any) -> Iterator[Any]:
        state, (batch, draw) = task.state, next(iter(task.parts(0)))
        key = (state.module.prediction, bool(state.module.learn_variance))
        seen[key] = [*(p.detach().clone() for p in state.module.parameters()), batch.x, draw.uniform(0)]
        raise Diverged("enough seen")

    monkeypatch.setattr(sitting, "train", train)
    names = ("mean-simple-fixed", "eps-simple-fixed", "eps-hybrid-learned", "x0-bound-fixed", "x0-bound-diagonal")
    study(tmp_path / "a", cells=[BY_NAME[name] for name in names], steps=1)
    for a, b in [(("mean", False), ("eps", False)), (("eps", False), ("x0", False)), (("eps", True), ("x0", True))]:
        assert all(torch.equal(x, y) for x, y in zip(seen[a], seen[b], strict=True))
    assert torch.equal(seen["eps", False][-2], seen["eps", True][-2])  # the batch, whatever the network


def test_every_cell_has_its_numbers(done: Path) -> None:
    cells = cells_of(done)
    assert set(cells) == {cell.name for cell in THREE}
    for result in cells.values():
        assert result["diverged"] == ""
        assert result["seconds"] > 0
        assert result["protocol"] == {"samples": 12, "images": 4, "terms": 4}
        assert set(result["values"]) == {"bits-per-dim", "energy", "agreement"}
        assert all(value["low"] <= value["value"] <= value["high"] for value in result["values"].values())
    assert set(report_of(done)["floors"]) == {"energy", "agreement"}
    for cell in THREE:
        with np.load(done / "cells" / cell.name / "samples.npz") as samples:
            assert samples["images"].shape == (12, 8, 8, 1)
            assert samples["labels"].shape == (12,)


def test_bits_are_those_of_the_trained_model_with_its_variance(done: Path) -> None:
    held = RECIPES["digits"]("").data
    test = replace(held, limit=100).read("test")
    for cell in THREE:
        model = Model.open(done / "cells" / cell.name / "run" / "checkpoints" / "step-00000003")
        assert model.denoiser.learn_variance == {"fixed": False, "learned": "fraction"}.get(cell.variance, "diagonal")
        whole = model.likelihood(test.x, test.labels).bits_per_dim()
        stated = cells_of(done)[cell.name]["values"]["bits-per-dim"]
        assert abs(stated["value"] - float(whole.mean())) < 4 * float(whole.std())


def test_the_page_has_every_cell(done: Path) -> None:
    page = (done / "index.html").read_text(encoding="utf-8")
    table = page.split("<tbody>")[1].split("</tbody>")[0]
    assert table.count("<tr>") == len(GRID) + 1  # and the real data
    assert table.count("not run") == len(GRID) - len(THREE)
    assert table.count("±") == len(THREE)
    assert "unsteep ablate this" in page
    assert page.count("data:image/png") == 1 + 3  # samples, and three of the four kinds of loss
    assert "Too few cells" in page


def test_what_is_done_is_not_done_again(done: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise AssertionError("trained or measured again")

    for name in ("start", "resume"):
        monkeypatch.setattr(runs, name, fail)
    monkeypatch.setattr(Model, "likelihood", fail)
    before = {path: path.stat().st_mtime_ns for path in (done / "cells").rglob("*")}
    (done / "index.html").unlink()
    assert study(done)
    assert {path: path.stat().st_mtime_ns for path in (done / "cells").rglob("*")} == before
    assert (done / "index.html").exists()


def test_measured_anew_without_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    only = THREE[:1]
    study(tmp_path / "a", cells=only)
    first = cells_of(tmp_path / "a")["eps-simple-fixed"]
    monkeypatch.setattr(runs, "start", None)
    monkeypatch.setattr(runs, "resume", None)
    study(tmp_path / "a", cells=only, measure=replace(SMALL, samples=20))
    second = cells_of(tmp_path / "a")["eps-simple-fixed"]
    assert second["values"]["bits-per-dim"] == first["values"]["bits-per-dim"]
    assert second["values"]["energy"] != first["values"]["energy"]
    assert second["seconds"] > first["seconds"]  # that of training, too


def test_one_that_diverges_does_not_stop_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def poison(state: State, step: int) -> None:
        if state.module.prediction == "x0" and step == 1:
            next(state.module.parameters()).data.fill_(torch.nan)

    watched(monkeypatch, poison)
    lines: list[str] = []
    assert study(tmp_path / "a", cells=THREE[1:], say=lines.append)
    cells = cells_of(tmp_path / "a")
    assert cells["x0-bound-diagonal"]["diverged"].startswith("step 2: the loss is nan")
    assert cells["x0-bound-diagonal"]["values"] == {}
    assert cells["v-hybrid-learned"]["values"]
    page = (tmp_path / "a" / "index.html").read_text(encoding="utf-8")
    assert "diverged at step 2" in page.split("<tbody>")[1].split("</tbody>")[0]
    assert any("x0-bound-diagonal" in line and "diverged, step 2" in line for line in lines)


def test_one_whose_bound_is_not_finite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def poison(state: State, step: int) -> None:
        if state.module.prediction == "x0" and step == 2:
            next(state.ema.module.parameters()).data.fill_(torch.nan)

    watched(monkeypatch, poison)
    assert study(tmp_path / "a", cells=THREE[1:2])
    assert "not finite" in cells_of(tmp_path / "a")["x0-bound-diagonal"]["diverged"]


def test_killed_and_repeated_is_as_if_it_never_was(tmp_path: Path, done: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:

        def kill(state: State, step: int) -> None:
            if state.module.prediction == "x0" and step == 2:
                raise KeyboardInterrupt  # after the checkpoint of the first step

        watched(patch, kill)
        with pytest.raises(KeyboardInterrupt):
            study(tmp_path / "a")
    assert (tmp_path / "a" / "cells" / "x0-bound-diagonal" / "run" / "checkpoints").exists()
    assert study(tmp_path / "a")
    for cell in THREE:
        ours, whole = weights(tmp_path / "a", cell), weights(done, cell)
        assert all(torch.equal(ours[name], whole[name]) for name in whole)
    again, before = cells_of(tmp_path / "a"), cells_of(done)
    assert all(again[cell.name]["values"] == before[cell.name]["values"] for cell in THREE)


def test_ctrl_c_saves_and_stops(tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:

        def interrupt(state: State, step: int) -> None:
            if state.module.prediction == "x0" and step == 1:
                os.kill(os.getpid(), signal.SIGINT)

        watched(patch, interrupt)
        lines: list[str] = []
        assert not study(tmp_path / "a", cells=THREE[1:2], say=lines.append)
    assert "stopped and saved" in lines[-1]
    assert study(tmp_path / "a", cells=THREE[1:2])


def test_a_budget_becomes_the_same_steps_for_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {"cells": THREE[:1], "steps": None, "budget": 1.5}
    monkeypatch.setattr(trained, "images_per_second", lambda *_: 8.0)
    study(tmp_path / "a", **asked)
    monkeypatch.setattr(trained, "images_per_second", lambda *_: 800.0)
    study(tmp_path / "a", **{**asked, "cells": THREE[:2]})
    for cell in THREE[:2]:
        run = runs.read_run(tmp_path / "a" / "cells" / cell.name / "run")
        assert run.train.steps == 3  # 1.5 s of 8 images/s, in batches of 4
    assert ["budget", "2 s of training a cell, at 8 examples/s, measured once"] in report_of(tmp_path / "a")["measured"]


def test_the_speed_of_training_is_measured() -> None:
    run = THREE[-1].of(digits())
    speed = trained.images_per_second(run, run.data.read("train"), "cpu", limit=0.0)
    assert 0.1 < speed < 1e6


def test_force_starts_anew(tmp_path: Path) -> None:
    study(tmp_path / "a", cells=THREE[:1], steps=1)
    with pytest.raises(ValueError, match=r"holds a study with other settings; .*force=True$"):
        study(tmp_path / "a", cells=THREE[:1], steps=3)
    study(tmp_path / "a", cells=THREE[1:2], steps=3, force=True)
    assert set(cells_of(tmp_path / "a")) == {"x0-bound-diagonal"}


@pytest.mark.parametrize("force", [False, True])
def test_something_else_is_never_overwritten(tmp_path: Path, force: bool) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(ValueError, match="exists and is not a study; choose another"):
        study(tmp_path, force=force)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"run": digits("schedule.zero_terminal=true")}, r"^eps-simple-fixed: prediction: eps .*with only$"),
        ({"run": digits("model.network=Sequence")}, r"^eps-simple-fixed: model.network: .*with only$"),
        ({"steps": 0}, "steps: expected at least 1, got 0"),
    ],
    ids=["zero terminal SNR", "network", "steps"],
)
def test_a_mistake_leaves_nothing(tmp_path: Path, how: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        study(tmp_path / "a", **how)
    assert not (tmp_path / "a").exists()


def test_rows_of_numbers_without_classes_or_unseen_data(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(40, 2)).astype(np.float32))
    settings = ["schedule=CosineBetas", "schedule.steps=5", "train.batch=4", "model.network.width=8"]
    run = config.override(RECIPES["vectors"](str(tmp_path / "x.npy")), settings)
    assert study(tmp_path / "a", run=run, cells=[BY_NAME["eps-bound-fixed"]], steps=1)
    assert report_of(tmp_path / "a")["floors"] == {}
    assert set(cells_of(tmp_path / "a")["eps-bound-fixed"]["values"]) == {"bits-per-dim", "energy"}
    page = (tmp_path / "a" / "index.html").read_text(encoding="utf-8")
    assert "the training data, of which nothing was held out" in page
    assert "support vector machine" not in page


# The numbers that samples are judged by.


def test_energy_distance_by_hand() -> None:
    x, y = torch.tensor([[0.0], [2.0]]), torch.tensor([[1.0], [3.0]])
    assert energy_distance(x, y).value == pytest.approx(2 * (1 + 3 + 1 + 1) / 4 - 2 - 2)
    assert energy_distance(x.expand(2, 9), y.expand(2, 9)).value == pytest.approx(-1)  # a root mean square, not a sum


def test_energy_distance_of_bernoullis_is_covered() -> None:
    """Of Bernoulli(p) and Bernoulli(q) it is 2 (p (1-q) + q (1-p)) - 2 p (1-p) - 2 q (1-q) = 2 (p - q)^2."""
    draws = torch.Generator().manual_seed(0)
    covered, values = 0, []
    for seed in range(60):
        x, y = ((torch.rand(n, 1, generator=draws) < p).float() for n, p in ((150, 0.2), (90, 0.6)))
        found = energy_distance(x, y, seed)
        values.append(found.value)
        covered += found.low <= 2 * 0.4**2 <= found.high
    assert np.mean(values) == pytest.approx(0.32, abs=4 * np.std(values) / 60**0.5)
    assert 51 <= covered < 60


@pytest.mark.parametrize(("hits", "n"), [(0, 7), (7, 7), (3, 10), (470, 500)])
def test_wilson(hits: int, n: int) -> None:
    there = binomtest(hits, n).proportion_ci(method="wilson")
    found = wilson(hits, n)
    assert (found.value, found.low, found.high) == pytest.approx((hits / n, there.low, there.high), abs=1e-6)


def test_a_classifier_knows_the_digits() -> None:
    source = RECIPES["digits"]("").data
    seen, unseen = source.read("train"), source.read("test")
    judge = Classifier(seen.x[:500], seen.labels[:500])
    right = judge.agreement(unseen.x, unseen.labels)
    assert right.low > 0.85
    assert judge.agreement(unseen.x, (unseen.labels + 1) % 10).value <= 1 - right.value


# What the paper found.


def results(**energies: float) -> dict[str, Outcome]:
    """Results with these energy distances, +- 1, by names with _ for -; infinity: diverged."""
    made = {}
    for name, value in energies.items():
        bracket = Interval(value, value - 1, value + 1)
        lost = value == float("inf")
        values = {} if lost else {"energy": bracket, "bits-per-dim": bracket}
        made[name.replace("_", "-")] = Outcome(values, None, diverged="step 7: nan" if lost else "")
    return made


OWN = {  # the paper's own table
    "mean_bound_diagonal": 23.69,
    "mean_bound_fixed": 13.22,
    "mean_simple_fixed": float("inf"),
    "eps_bound_diagonal": float("inf"),
    "eps_bound_fixed": 13.51,
    "eps_simple_fixed": 3.17,
}


def with_bits(given: dict[str, Outcome], bound: float, simple: float) -> dict[str, Outcome]:
    for name, value in (("eps-bound-fixed", bound), ("eps-simple-fixed", simple)):
        bits = Interval(value, value - 0.01, value + 0.01)
        given[name] = replace(given[name], values={**given[name].values, "bits-per-dim": bits})
    return given


def test_the_paper_agrees_with_itself() -> None:
    found = claims(with_bits(results(**OWN), 3.70, 3.75))
    assert [claim.holds for claim in found] == ["yes"] * 5
    assert verdict(found) == "The ranking agrees with the paper's: 5 of its 5 findings hold here."


@pytest.mark.parametrize(
    ("change", "answers"),
    [
        ({"eps_simple_fixed": 13.0}, ["too close to tell", "yes", "yes", "yes", "yes"]),
        ({"eps_simple_fixed": 30.0}, ["no", "yes", "yes", "yes", "yes"]),
        ({"eps_simple_fixed": float("inf")}, ["no", "yes", "yes", "yes", "yes"]),
        ({"mean_bound_diagonal": 2.0}, ["too close to tell", "yes", "no", "yes", "yes"]),
        ({"mean_simple_fixed": 40.0}, ["yes", "yes", "yes", "yes", "yes"]),
        ({"eps_bound_diagonal": 5.5}, ["yes", "yes", "yes", "yes", "no"]),
    ],
    ids=str,
)
def test_other_rankings(change: dict[str, float], answers: list[str]) -> None:
    given = results(**{**OWN, **change})
    given = with_bits(given, 3.70, 3.75)
    found = claims(given)
    assert [claim.holds for claim in found] == answers
    assert ("agrees with the paper's:" in verdict(found)) == (set(answers) == {"yes"})


def test_what_was_not_run_is_not_known() -> None:
    assert verdict(claims({})) == "Too few cells have been run to say whether the ranking agrees with the paper's."
    found = claims(results(mean_bound_fixed=1.0, mean_bound_diagonal=9.0))
    assert [claim.holds for claim in found] == ["not known"] * 2 + ["yes"] + ["not known"] * 2
    assert "1 of its 5 findings holds here; not known, for want of cells: 4" in verdict(found)


# The command line.


def command(*arguments: object) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    assert isinstance(ended.value.code, int)
    return ended.value.code, out.getvalue(), err.getvalue()


def test_on_the_command_line(tmp_path: Path) -> None:
    sets = [part for setting in SETTINGS for part in ("--set", setting)]
    small = ["--steps", 2, "--samples", 6, "--images", 3, "--terms", 1, "--seed", 5, "--device", "cpu"]
    asked = ["ablate", "digits", *small, *sets, "--out", tmp_path / "a", "--only", "mean-simple-fixed"]
    code, out, err = command(*asked)
    assert code == 0, err
    assert "1 of 16 cells" in out
    assert str(tmp_path / "a" / "index.html") in out
    assert runs.read_run(tmp_path / "a" / "cells" / "mean-simple-fixed" / "run").train.seed == 5
    typed = report_of(tmp_path / "a")["command"].split()
    assert typed[:3] == ["unsteep", "ablate", "digits"]
    code, out, _ = command(*typed[1:], "--only", "mean-simple-fixed", "--device", "cpu")
    assert code == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["digit"], "unknown recipe 'digit'; did you mean digits?"),
        (["digits", "--only", "eps-simple"], "unknown cell 'eps-simple'; did you mean eps-simple-fixed"),
        (["digits", "--budget", "soon"], "--budget: expected a time, as 90s, 30m, 2h or 1d, got 'soon'"),
        (["digits", "--budget", "0m"], "--budget: expected a time"),
        (["digits", "--samples", "1"], "samples: expected at least 2, got 1"),
        (["digits", "--set", "train.steps=9"], "--steps or --budget"),
        (["digits", "--set", "train.stepz=9"], "train.stepz"),
        (["mnist"], "this recipe reads idx files"),
    ],
    ids=lambda given: " ".join(given) if isinstance(given, list) else "",
)
def test_mistakes_on_the_command_line(tmp_path: Path, arguments: list[str], message: str) -> None:
    code, _, err = command("ablate", *arguments, "--out", tmp_path / "a")
    assert (code, err.count("\n")) == (2, 1)
    assert message in err
    assert not (tmp_path / "a").exists()


def test_cells_by_a_part_of_their_name() -> None:
    assert _named([]) == GRID
    assert [cell.name for cell in _named(["hybrid", "v-simple-fixed"])] == [
        *("mean-hybrid-learned", "eps-hybrid-learned", "x0-hybrid-learned", "v-simple-fixed", "v-hybrid-learned")
    ]


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("3m", 180), ("1h30m", 5400), ("1h5s", 3605)])
def test_times(text: str, seconds: int) -> None:
    assert read_seconds(text) == seconds
