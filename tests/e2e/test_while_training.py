"""Quality while training, and other logs, from the command line: what is measured, which checkpoint is kept, and that
nothing of it has a part in what is trained."""

import contextlib
import csv
import importlib.util
import json
import os
import shutil
import signal
import sys
import time
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import unsteep
from command_line import made, unsteep_
from unsteep.evaluation import on_the_way
from unsteep.features import domain
from unsteep.features.domain import DomainNet
from unsteep.metrics.interval import Interval
from unsteep.storage.checkpoint import load_tensors, step_folders
from unsteep.training import denoising, log_tensorboard, sitting
from unsteep.training.clock import Watch
from unsteep.training.log import read_log
from unsteep.training.measuring import measured

TINY = [
    *("data.limit=300", "schedule=CosineBetas", "schedule.steps=5", "train.steps=8", "train.batch=4", "train.warmup=1"),
    *("model.network.width=8", "model.network.groups=4", "model.network.blocks=1", "model.network.attention="),
    *("train.ema=0.5", "train.learning_rate=0.01", "train.preview_every=4", "train.checkpoint_every=3"),
]
MEASURED = [*TINY, "train.evaluate_every=2", "train.evaluate_count=20", "train.keep=1"]


def sets(settings: list[str]) -> list[str]:
    return [part for one in settings for part in ("--set", one)]


def trained(name: str, *more: str, settings: list[str] = MEASURED) -> str:
    return made("train", "digits", *sets(settings), *more, "--out", name)


def refused(*arguments: object) -> str:
    code, _, err = unsteep_(*arguments)
    assert code == 2, err
    assert err.count("\n") == 1, err
    return err


@pytest.fixture(scope="module", autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A run that measures, and the same one that does not; features of few steps."""
    folder = tmp_path_factory.mktemp("home")
    with contextlib.chdir(folder), pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        patch.setattr(domain, "DomainNet", lambda: DomainNet(steps=30, batch=32, width=4, dimension=4))
        patch.setattr(denoising, "report", lambda model, out, *_: (out / "report.html").write_text(""))
        Path("said").write_text(trained("measured"))
        trained("plain", settings=TINY)
        yield


@pytest.fixture
def falling(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """What is measured is a made-up number: lowest after 4 steps. The steps that were measured, in order."""
    steps = list[int]()

    def made_up(self: Any, task: Any, stopped: Any) -> Interval | None:
        steps.append(task.step)
        value = 1.0 + abs(task.step - 4)
        return Interval(value, value - 0.5, value + 0.5)

    monkeypatch.setattr(on_the_way.FidOnTheWay, "__call__", made_up)
    return steps


def table(name: str) -> list[dict[str, str]]:
    with Path(name, "log.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def same_weights(one: Path, other: Path) -> None:
    for name in ("weights", "ema", "optimizer"):
        here, there = (load_tensors(step_folders(out / "checkpoints")[-1], name) for out in (one, other))
        assert all(torch.equal(value, there[key]) for key, value in here.items()), name


def test_what_is_measured_has_no_part_in_what_is_trained() -> None:
    same_weights(Path("measured"), Path("plain"))
    with_values, without = (read_log(Path(name) / "log.jsonl") for name in ("measured", "plain"))
    assert [record["loss"] for record in with_values] == [record["loss"] for record in without]
    assert list(measured(Path("measured"))) == [2, 4, 6, 8]
    assert measured(Path("plain")) == {}


def test_the_value_is_that_of_evaluate() -> None:
    """Same features, same reference, same seeds, averaged weights: the last value is what evaluate finds."""
    made("evaluate", "measured", "-n", 20, "--metrics", "fid", "--out", "evaluated")
    found = json.loads(Path("evaluated/results.json").read_text())
    last = measured(Path("measured"))[8]
    assert last.value == pytest.approx(found["values"]["fid"]["value"], rel=1e-6)
    assert last.high == pytest.approx(found["values"]["fid"]["high"], rel=1e-6)
    about = json.loads(Path("measured/about.json").read_text())["measured"]
    assert about["floor"] == pytest.approx(found["floors"]["fid"]["value"], rel=1e-6)
    others = [one.value for step, one in measured(Path("measured")).items() if step != 8]
    assert last.value not in others


def test_it_is_said_before_and_shown_after() -> None:
    said = Path("said").read_text()
    assert "measures  FID of 20 samples against 180 held-out pictures, in features of the domain, every 2 steps" in said
    assert said.count("    measured  FID ") == 4
    out = made("show", "measured")
    assert [f"after {step} steps" in out for step in (2, 4, 6, 8)] == [True] * 4
    made("report", "measured")
    page = Path("measured/report.html").read_text()
    for words in ("Quality on the way", "held-out pictures", "<th>FID</th>", "The floor, ", "lowest"):
        assert words in page
    assert "Quality on the way" not in Path(made("report", "plain").strip()).read_text()


def test_a_best_that_is_too_close_to_tell_is_said_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    wide = {step: Interval(1.0 + abs(step - 4), 0.0, 9.0) for step in (2, 4, 6, 8)}
    monkeypatch.setattr(on_the_way.FidOnTheWay, "__call__", lambda self, task, stopped: wide[task.step])
    assert "was after 4 steps, not clearly below the last, 5.0 ± 4.5: unsteep sample" in trained("close")


def test_the_best_is_kept_beside_the_newest(falling: list[int]) -> None:
    said = trained("best")
    assert falling == [2, 4, 6, 8]
    assert [one.name for one in step_folders(Path("best/checkpoints"))] == ["step-00000004", "step-00000008"]
    hint = "unsteep sample best/checkpoints/step-00000004"
    assert f"the lowest FID, 1.00 ± 0.50, was after 4 steps: {hint}" in said
    assert hint in " ".join(made("show", "best").split())
    made("report", "best")
    assert f"{hint} -n 64" in Path("best/report.html").read_text()
    made("sample", "best/checkpoints/step-00000004", "-n", 2, "--steps", 2, "--out", "of-best.npz")
    made("sample", "best", "-n", 2, "--steps", 2, "--out", "of-newest.npz")
    pictures = [np.load(f"of-{name}.npz") for name in ("best", "newest")]
    assert not np.array_equal(*(one[one.files[0]] for one in pictures))
    assert unsteep.load("best").origin.startswith("after 8 steps")  # the newest, as without


def test_killed_and_resumed_it_measures_and_keeps_the_same(falling: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    trained("whole", "--log", "csv")
    honest = on_the_way.FidOnTheWay.__call__

    def killed(self: Any, task: Any, stopped: Any) -> Interval | None:
        if task.step == 6:
            raise KeyboardInterrupt
        return honest(self, task, stopped)

    with monkeypatch.context() as patch:
        patch.setattr(on_the_way.FidOnTheWay, "__call__", killed)
        unsteep_("train", "digits", *sets(MEASURED), "--log", "csv", "--out", "parts")
    assert [one.name for one in step_folders(Path("parts/checkpoints"))] == ["step-00000004", "step-00000006"]
    falling.clear()
    made("train", "--resume", "--out", "parts")
    assert falling == [6, 8]  # the one that was missing first
    same_weights(Path("whole"), Path("parts"))
    assert Path("whole/log.jsonl").read_bytes() == Path("parts/log.jsonl").read_bytes()
    for name in ("whole", "parts"):
        assert [one.name for one in step_folders(Path(name, "checkpoints"))] == ["step-00000004", "step-00000008"]
    ours, theirs = (table(name) for name in ("whole", "parts"))
    assert [{k: v for k, v in row.items() if k != "images_per_second"} for row in ours] == [
        {k: v for k, v in row.items() if k != "images_per_second"} for row in theirs
    ]
    assert all(float(row["images_per_second"]) > 0 for row in theirs)


def test_a_signal_in_the_midst_of_a_measurement_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was trained is saved already; the measurement is made again."""
    real = on_the_way.Drawn.batches

    def batches(self: Any, at_once: int = 8) -> Iterator[torch.Tensor]:
        for i, batch in enumerate(real(self, 8)):
            if i == 1:
                os.kill(os.getpid(), signal.SIGTERM)
            yield batch

    with monkeypatch.context() as patch:
        patch.setattr(on_the_way.Drawn, "batches", batches)
        code, out, _ = unsteep_("train", "digits", *sets(MEASURED), "--out", "stopped")
    assert code == 130
    assert "stopped at step 2 and saved" in out
    assert measured(Path("stopped")) == {}
    made("train", "--resume", "--out", "stopped")
    assert Path("stopped/log.jsonl").read_bytes() == Path("measured/log.jsonl").read_bytes()


def test_samples_that_are_no_numbers_are_said_and_training_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Any, task: Any, stopped: Any) -> Interval | None:
        raise ValueError("sampling: 3 of 20 samples are not finite")

    monkeypatch.setattr(on_the_way.FidOnTheWay, "__call__", broken)
    assert "nothing at step 2: sampling: 3 of 20 samples are not finite" in trained("broken")
    same_weights(Path("broken"), Path("plain"))


def test_measuring_may_begin_and_end_when_a_run_goes_on(falling: list[int]) -> None:
    shutil.copytree("plain", "later")
    said = made("train", "--resume", "--out", "later", *sets(["train.evaluate_every=3", "train.evaluate_count=30"]))
    assert falling == [8]
    assert "FID 5.00 ± 0.50 after 8 steps" in said
    assert "evaluate_count" in refused("train", "--resume", "--out", "later", *sets(["train.evaluate_count=40"]))
    made("train", "--resume", "--out", "later", *sets(["train.evaluate_every=0", "train.steps=9", "train.keep=1"]))
    assert [one.name for one in step_folders(Path("later/checkpoints"))] == ["step-00000008", "step-00000009"]


def test_without_held_out_pictures_it_is_said() -> None:
    said = trained("of-train", settings=[*MEASURED, "data.holdout=0", "train.steps=1"])
    assert "FID of 20 samples against the 300 training pictures, for want of held-out ones" in said
    made("evaluate", "of-train", "-n", 20, "--metrics", "fid", "--split", "train", "--out", "evaluated-train")
    found = json.loads(Path("evaluated-train/results.json").read_text())["values"]["fid"]["value"]
    assert measured(Path("of-train"))[1].value == pytest.approx(found, rel=1e-6)


def test_what_cannot_be_measured_is_refused_before_the_first_step(tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", np.random.default_rng(0).normal(size=(40, 2)).astype(np.float32))
    np.save(tmp_path / "few.npy", np.random.default_rng(0).integers(0, 256, (9, 8, 8), dtype=np.uint8))
    asked = sets(["train.evaluate_every=2"])
    for recipe, file, words in (
        ("vectors", "rows.npy", "train.evaluate_every: FID is of pictures, and this model makes rows of 2 numbers"),
        ("array", "few.npy", "train.evaluate_every: expected at least 10 samples and 40 real pictures"),
    ):
        err = refused("train", recipe, "--data", tmp_path / file, *asked, "--out", tmp_path / "no")
        assert words in err
        assert "set it to 0" in err
        assert not (tmp_path / "no").exists()
    err = refused("train-classifier", "measured", *asked, "--out", tmp_path / "no")
    assert "train.evaluate_every: nothing is at hand that measures" in err
    assert "train.evaluate_count: expected at least 10" in refused("train", "digits", "--set", "train.evaluate_count=9")


def test_what_is_measured_takes_no_time_from_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here a measurement takes a day: neither speed nor the waits for previews know of it."""
    extra = [0.0]

    def a_day(self: Any, task: Any, stopped: Any) -> Interval | None:
        extra[0] += 86400
        return Interval(1.0, 0.5, 1.5)

    monkeypatch.setattr(on_the_way.FidOnTheWay, "__call__", a_day)
    monkeypatch.setattr(sitting, "Watch", lambda: Watch(lambda: time.monotonic() + extra[0]))
    said = trained("days", "--log", "csv")
    assert extra == [4 * 86400]
    assert float(said.partition("done: 8 steps in ")[2].split()[0]) < 86400
    assert all(float(row["images_per_second"]) > 4 / 86400 for row in table("days"))
    assert [path.name for path in Path("days/previews").iterdir()] == ["step-00000004.png"]
    lines = [json.loads(line) for line in Path("days/times.jsonl").read_text().splitlines()]
    assert [one["step"] for one in lines if one.get("begins")] == [0, 2, 4, 6, 8]  # a sitting begins after each


def test_from_python(falling: list[int], tmp_path: Path) -> None:
    x = torch.randint(0, 256, (60, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    settings = [one for one in TINY if not one.startswith("data.")]
    unsteep.train(
        "array", data=x, out=tmp_path / "run", settings=settings, evaluate_every=4, log=["csv"], say=lambda _: None
    )
    assert falling == [4, 8]
    assert (tmp_path / "run" / "log.csv").exists()


# Other logs.


def test_a_table_has_a_row_a_step_and_is_cut_where_a_run_goes_on() -> None:
    trained("table", "--log", "csv")
    path = Path("table/log.csv")
    rows = table("table")
    assert [int(row["step"]) for row in rows] == list(range(1, 9))
    assert list(rows[0])[:4] == ["step", "loss", "gradient_norm", "learning_rate"]
    for row, record in zip(rows, read_log(Path("table/log.jsonl")), strict=True):
        assert {name: float(row[name]) for name in record} == record
        assert bool(row["fid"]) == (record["step"] % 2 == 0)
        assert float(row["images_per_second"]) > 0
    speeds = [row["images_per_second"] for row in rows]
    path.write_text(path.read_text() + "9,0.5,1\n10,0.")  # of steps that no checkpoint knows, the last cut short
    made("train", "--resume", "--out", "table", "--set", "train.steps=10")
    again = table("table")
    assert [int(row["step"]) for row in again] == list(range(1, 11))
    assert [row["images_per_second"] for row in again][:8] == speeds
    log = Path("table/log.jsonl")
    log.write_text("\n".join("{" if '"step": 3,' in line else line for line in log.read_text().split("\n")))
    made("train", "--resume", "--out", "table", "--set", "train.steps=11")
    assert [row["loss"] for row in table("table")][:10] == [row["loss"] for row in again]  # also what log.jsonl lost
    made("train", "digits", *sets(TINY), "--out", "table", "--force")  # the file is the run's
    assert not path.exists()


def test_off_by_default() -> None:
    assert not [name for name in ("log.csv", "tensorboard") if Path("plain", name).exists()]


def test_a_table_begun_later_has_what_was_logged_before() -> None:
    shutil.copytree("plain", "later-table")
    made("train", "--resume", "--out", "later-table", "--log", "csv", "--set", "train.steps=9")
    rows = table("later-table")
    assert [int(row["step"]) for row in rows] == list(range(1, 10))
    assert [bool(row["images_per_second"]) for row in rows] == [False] * 8 + [True]


def test_tensorboard_that_is_not_there_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_tensorboard, "find_spec", lambda _: None)
    err = refused("train", "digits", *sets(TINY), "--log", "tensorboard", "--out", "board")
    assert 'pip install "unsteep[tensorboard]"' in err
    assert not Path("board").exists()


def test_tensorboard_hears_scalars_and_previews(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a stand-in of its writer, whether it is installed or not."""
    heard = list[tuple[Any, ...]]()

    class SummaryWriter:
        def __init__(self, folder: str, purge_step: int) -> None:
            heard.append(("open", folder, purge_step))

        def add_scalar(self, name: str, value: float, step: int) -> None:
            heard.append((name, step, value))

        def add_image(self, name: str, picture: np.ndarray, step: int, dataformats: str) -> None:
            heard.append((name, step, picture.dtype, picture.shape[2], dataformats))

        def close(self) -> None:
            heard.append(("close",))

    module = types.ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = SummaryWriter  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    monkeypatch.setattr(log_tensorboard, "find_spec", lambda _: True)
    trained("board", "--log", "tensorboard", "--log", "csv")
    assert heard[0] == ("open", "board/tensorboard", 1)
    assert heard[-1] == ("close",)
    losses = [(one[1], one[2]) for one in heard if one[0] == "loss"]
    assert losses == [(record["step"], record["loss"]) for record in read_log(Path("board/log.jsonl"))]
    assert [one[1] for one in heard if one[0] == "fid"] == [2, 4, 6, 8]
    assert [one for one in heard if one[0] == "preview"] == [("preview", 4, np.dtype(np.uint8), 3, "HWC")]
    heard.clear()
    made("train", "--resume", "--out", "board", "--set", "train.steps=9")  # the run remembers where it is logged
    assert heard[0] == ("open", "board/tensorboard", 9)
    assert Path("board/log.csv").exists()


@pytest.mark.skipif(importlib.util.find_spec("tensorboard") is None, reason="an extra")
def test_tensorboard_reads_what_is_written() -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    trained("events", "--log", "tensorboard")
    made("train", "--resume", "--out", "events", "--set", "train.steps=9")
    found = EventAccumulator("events/tensorboard").Reload()
    assert [event.step for event in found.Scalars("loss")] == list(range(1, 10))
    assert [event.step for event in found.Images("preview")] == [4, 8]
    made("train", "digits", *sets(TINY), "--out", "events", "--force")
    assert not Path("events/tensorboard").exists()
