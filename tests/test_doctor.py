"""A training that goes wrong: it is told, goes back to where all was well, and on at a lower rate; and what a run may
change when it goes on."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import unsteep
from command_line import made, unsteep_
from unsteep.core.noise import Draw
from unsteep.data.batch import Batch
from unsteep.distill import Progressive
from unsteep.objectives import Loss, Simple
from unsteep.storage.checkpoint import load_tensors, step_folders
from unsteep.storage.manifest import write_manifest
from unsteep.training import denoising, diagnosis
from unsteep.training.changes import history
from unsteep.training.doctor import WINDOW, Doctor
from unsteep.training.log import read_log
from unsteep.training.loop import Diverged

TINY = (
    *("data.limit=40", "model.network.width=8", "model.network.multipliers=[1,2]", "model.network.blocks=1"),
    *("train.steps=12", "train.batch=4", "train.checkpoint_every=4", "train.preview_every=100", "train.warmup=1"),
    *("schedule.type=CosineBetas", "schedule.steps=4"),
)


@pytest.fixture(autouse=True)
def reports(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a run draws at its end is tested with the command line."""
    monkeypatch.setattr(denoising, "report", lambda *_: None)


def tiny(out: Path, *settings: str) -> list[object]:
    return ["train", "digits", "--out", out, *(word for one in (*TINY, *settings) for word in ("--set", one))]


def finite(out: Path) -> bool:
    folder = step_folders(out / "checkpoints")[-1]
    return all(bool(torch.isfinite(value).all()) for value in load_tensors(folder, "weights").values())


# What the doctor hears.


def heard(losses: list[float]) -> tuple[list[str], Doctor]:
    doctor = Doctor()
    return [said for i, loss in enumerate(losses, 1) if (said := doctor.hear(i, loss, 1.0))], doctor


def test_noise_and_descent_are_healthy():
    draw = np.random.default_rng(0)
    losses = [float(np.exp(-i / 100) * draw.lognormal(0, 0.5)) for i in range(600)]
    said, doctor = heard(losses)
    assert not said
    assert doctor.healthy


def test_one_that_is_learned_by_heart_may_jump_about_near_zero():
    losses = [1.0] * WINDOW + [1e-6] * WINDOW + [5e-4] * WINDOW
    said, doctor = heard(losses)
    assert not said
    assert doctor.healthy


def test_what_grows_is_told_once_and_then_lost():
    said, doctor = heard([1.0] * WINDOW + [5.0] * WINDOW)
    assert said == ["the loss has grown from 1 to 5; the rate may be too high"]
    assert not doctor.healthy
    with pytest.raises(Diverged, match="has grown from 1 to"):
        heard([1.0] * WINDOW + [50.0] * WINDOW)


def test_the_first_steps_of_a_heavy_tailed_objective_are_no_divergence():
    draw = np.random.default_rng(0)
    said, doctor = heard([0.1, 21.2, *(float(draw.lognormal(0, 2.0)) for _ in range(200))])
    assert doctor.healthy
    assert len(said) <= 1
    with pytest.raises(Diverged, match="has grown"):
        heard([0.8, 1.2e8, 1.2e8])


def test_losses_below_zero_are_not_judged_by_ratios():
    said, doctor = heard([1.0] * WINDOW + [-3.0] * WINDOW + [40.0] * WINDOW)
    assert not said
    assert doctor.healthy


def test_an_objective_that_begins_anew_is_judged_anew():
    """With another teacher the loss may be a hundred times what it was."""
    losses = [0.01] * 40 + [1.0] * 40 + [0.5] * 20
    with pytest.raises(Diverged):
        heard(losses)
    of = Progressive(finest=8, calls=1, each=40)
    run = SimpleNamespace(objective=of)
    doctor = Doctor(run=run)
    assert not [said for i, loss in enumerate(losses, 1) if (said := doctor.hear(i, loss, 1.0))]
    assert doctor.healthy
    assert [step for step in range(200) if of.begins(step)] == [0, 40, 80]
    records = [{"step": i, "loss": loss, "gradient_norm": 1.0} for i, loss in enumerate(losses, 1)]
    assert vars(Doctor(records, run)._losses) == vars(doctor._losses)


def test_a_doctor_that_reads_the_log_judges_as_one_that_was_there():
    draw = np.random.default_rng(1)
    pairs = [(float(draw.lognormal()), float(draw.lognormal())) for _ in range(90)]
    records = [{"step": i, "loss": loss, "gradient_norm": norm} for i, (loss, norm) in enumerate(pairs, 1)]
    for at in (0, 10, 45):
        here, there = Doctor(records[:at]), Doctor(records)
        for record in records[at:]:
            here.hear(record["step"], record["loss"], record["gradient_norm"])
        assert vars(here._losses) == vars(there._losses)
        assert vars(here._norms) == vars(there._norms)


# A run that diverges.


@pytest.mark.parametrize("rate", ["1e3", "1e39", "1e6"])
def test_a_rate_that_is_far_too_high_is_cured_or_ends_with_a_line(rate: str, tmp_path: Path):
    out = tmp_path / "run"
    code, said, err = unsteep_(*tiny(out, f"train.learning_rate={rate}", "train.steps=60"))
    assert diagnosis.read(out)
    assert "Traceback" not in err
    if code == 0:
        assert finite(out)
        assert [line["key"] for line in history(out)].count("train.learning_rate") <= 3
        assert float(unsteep.training.run.read_run(out).train.learning_rate) < float(rate)  # type: ignore[attr-defined]
        assert "diverged: " in said
    else:
        assert code == 2
        assert "the likely cause is a learning rate of" in err
        fixed = made("train", "--resume", "--out", out, "--set", "train.learning_rate=1e-4")
        assert "changed from here on: train.learning_rate" in fixed
        assert finite(out)
        assert history(out)[-1]["why"] == "asked for at resume"


def test_the_last_step_is_looked_at_too(tmp_path: Path):
    out = tmp_path / "run"
    code, _, err = unsteep_(*tiny(out, "train.learning_rate=1e39", "train.steps=1", "train.cures=0"))
    assert code == 2
    assert "after the last step the loss is nan" in err
    assert not step_folders(out / "checkpoints")


def broken(*calls: int) -> Any:
    """An objective whose loss is no number in some of its calls, counted from 1; a step is one call."""
    real, seen = Simple.__call__, 0

    def objective(self: Simple, module: nn.Module, batch: Batch, draw: Draw) -> Loss:
        nonlocal seen
        if not torch.is_grad_enabled():  # it is only looked at
            return real(self, module, batch, draw)
        seen += 1
        loss = real(self, module, batch, draw)
        return replace(loss, value=loss.value * float("nan")) if seen in calls else loss

    return objective


def weights(out: Path) -> dict[str, Tensor]:
    return load_tensors(step_folders(out / "checkpoints")[-1], "weights")


def test_one_bad_step_is_taken_again_and_the_run_is_the_same_as_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    made(*tiny(tmp_path / "whole"))
    with monkeypatch.context() as patch:
        patch.setattr(Simple, "__call__", broken(7))
        said = made(*tiny(tmp_path / "run"))
    assert "back to step 4, and on as it was, in case it was the machine" in said
    assert all(torch.equal(value, weights(tmp_path / "whole")[key]) for key, value in weights(tmp_path / "run").items())
    assert (tmp_path / "run" / "log.jsonl").read_bytes() == (tmp_path / "whole" / "log.jsonl").read_bytes()


def test_the_second_time_the_rate_is_lower_and_all_is_written_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(Simple, "__call__", broken(7, 10))
        made(*tiny(out))
    first, second = diagnosis.read(out)
    assert first["step"] == second["step"] == 6
    assert first["done"].endswith("as it was, in case it was the machine")
    assert second["done"].startswith("back to step 4, and on at a rate of ")
    assert len(second["examples with the largest losses"]) == 4
    rates = [record["learning_rate"] for record in read_log(out / "log.jsonl")]
    assert rates[4] < rates[3] / 5
    assert json.loads((out / "history.jsonl").read_text().splitlines()[-1])["why"].startswith("diverged: ")
    made("report", out)
    page = (out / "report.html").read_text()
    assert "back to step 4, and on at a rate of" in page
    assert "examples with the largest losses" in page


def test_a_run_that_was_cured_resumes_as_if_it_had_not_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name, stops in (("whole", False), ("stopped", True)):
        with monkeypatch.context() as patch:
            patch.setattr(Simple, "__call__", broken(7, 10))
            made(*tiny(tmp_path / name, "train.final_learning_rate=none", *(["train.steps=9"] if stops else [])))
    made("train", "--resume", "--out", tmp_path / "stopped", "--set", "train.steps=12")
    one, other = weights(tmp_path / "whole"), weights(tmp_path / "stopped")
    assert all(torch.allclose(value, other[key]) for key, value in one.items())


def test_examples_that_are_not_finite_are_named_and_no_rate_is_blamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from unsteep.training.batches import Batches

    real = Batches.batch

    def broken(self: Batches, rows: Any, draw: Draw) -> Batch:
        batch = real(self, rows, draw)
        return replace(batch, x=torch.where((batch.index == 7)[:, None, None, None], torch.nan, batch.x))

    monkeypatch.setattr(Batches, "batch", broken)
    code, _, err = unsteep_(*tiny(tmp_path / "run", "train.steps=60"))
    assert code == 2
    assert "the likely cause is examples that are not finite" in err
    assert diagnosis.read(tmp_path / "run")[-1]["examples not finite"] == [7]


# What may change when a run goes on.


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("doctor") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(denoising, "report", lambda *_: None)
        made(*tiny(out, "train.steps=8"))
    return out


@pytest.fixture
def run(stopped: Path, tmp_path: Path) -> Path:
    shutil.copytree(stopped, tmp_path / "run")
    return tmp_path / "run"


@pytest.mark.parametrize(
    "setting",
    ["learning_rate=1e-5", "clip=0.1", "warmup=3", "ema=0.5", "batch=2", "accumulate=2", "final_learning_rate=1e-6"],
)
def test_how_it_trains_may_change_where_it_is_said(run: Path, setting: str):
    key, _, value = setting.partition("=")
    said = made("train", "--resume", "--out", run, "--set", "train.steps=10", "--set", f"train.{setting}")
    assert f"changed from here on: train.{key}; the run is no longer the same" in said
    (line,) = history(run)
    assert (line["step"], line["key"], line["to"]) == (8, f"train.{key}", pytest.approx(float(value)))
    made("train", "--resume", "--out", run, "--set", "train.steps=11")


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        (
            'prediction = "v"',
            'prediction = "eps"',
            "model.prediction = eps, and the run was trained with v; put it back",
        ),
        ("batch = 4", "batch = 2", "train.batch = 2, and the run was trained with 4; put it back, or say it"),
        ("drop = 0.1", "drop = 0.5", "condition.drop = 0.5, and the run was trained with 0.1"),
        ("limit = 40", "limit = 30", "the data are not those"),
    ],
)
def test_an_edited_run_toml_is_told_by_its_key(run: Path, before: str, after: str, words: str):
    text = (run / "run.toml").read_text()
    assert before in text
    (run / "run.toml").write_text(text.replace(before, after))
    code, _, err = unsteep_("train", "--resume", "--out", run, "--set", "train.steps=10")
    assert code == 2
    assert words in err


def test_steps_and_the_place_of_data_may_be_edited(run: Path):
    text = (run / "run.toml").read_text()
    (run / "run.toml").write_text(text.replace("steps = 8", "steps = 10"))
    assert "of 10" in made("train", "--resume", "--out", run)


def state_edited(run: Path, **facts: Any) -> None:
    """Another state in the newest checkpoint, as if it had been saved so."""
    folder = step_folders(run / "checkpoints")[-1]
    known = json.loads((folder / "state.json").read_text())
    (folder / "state.json").write_text(json.dumps({**known, **facts}))
    write_manifest(folder)


@pytest.mark.parametrize(
    ("was", "says"),
    [
        ({"threads": "7"}, "threads 7 -> 1"),
        ({"torch": "1.0", "instructions": "NONE"}, "instructions NONE -> "),
        ({"host": "elsewhere", "device": "cuda", "Python": "2.7"}, "host elsewhere -> "),
        ({}, ""),
        (None, ""),  # of an older release
    ],
)
def test_what_may_decide_the_last_bits_is_kept_and_a_difference_is_said(run: Path, was: Any, says: str):
    (kept,) = [json.loads((step_folders(run / "checkpoints")[-1] / "state.json").read_text())["where"]]
    assert set(kept) == {"host", "device", "processor", "instructions", "threads", "unsteep", "torch", "Python"}
    state_edited(run, where={} if was is None else kept | was)
    said = made("train", "--resume", "--out", run, "--set", "train.steps=9")
    told = [line for line in said.splitlines() if line.startswith("other than when that was saved: ")]
    assert len(told) == bool(was)
    if was:
        assert says in told[0]
        assert told[0].count(" -> ") == len(was)
        assert told[0].endswith("; the last bits may not be those of a run that never stopped")


def test_a_checkpoint_that_is_not_known_to_be_good_is_told(run: Path):
    assert "mind" not in made("train", "--resume", "--out", run, "--set", "train.steps=9")
    state_edited(run, good=False)
    said = made("train", "--resume", "--out", run, "--set", "train.steps=10")
    assert "mind: the loss had grown when step 9 was saved; if it stays so, go on at a lower rate" in said


def test_what_may_be_edited_in_a_run_toml_is_told(run: Path):
    above, _, text = (run / "run.toml").read_text().partition("[train]")
    for key, value in (("keep", 5), ("cures", 0), ("log", '["csv"]'), ("steps", 10)):
        line = next(line for line in text.splitlines() if line.startswith(f"{key} = "))
        text = text.replace(line, f"{key} = {value}", 1)
    (run / "run.toml").write_text(f"{above}[train]{text}")
    said = made("train", "--resume", "--out", run)
    (told,) = [line for line in said.splitlines() if line.startswith("changed in run.toml since that step, and taken")]
    for words in ("train.keep from 2 to 5", "train.cures from 3 to 0", "train.log from [] to ['csv']", "train.steps"):
        assert words in told
    assert "changed in run.toml" not in made("train", "--resume", "--out", run, "--set", "train.steps=11")


# What is kept, and what is said where it was damaged.


def test_an_older_checkpoint_under_the_newest_name_is_not_taken(run: Path):
    old, new = (run / "checkpoints" / f"step-{step:08d}" for step in (4, 8))
    shutil.rmtree(new)
    shutil.copytree(old, new)
    code, said, err = unsteep_("train", "--resume", "--out", run, "--set", "train.steps=10")
    assert code == 0
    assert "it holds step 4, so it was renamed" in err
    assert "at step 4 of 10, 4 steps behind the newest checkpoint, which is damaged" in said


@pytest.mark.parametrize("damage", ["gone", "empty", "unlisted"])
def test_a_manifest_that_says_nothing_is_no_manifest(run: Path, damage: str):
    new = run / "checkpoints" / "step-00000008"
    if damage == "gone":
        (new / "manifest.json").unlink()
    elif damage == "empty":
        (new / "manifest.json").write_text('{"files": {}}')
    else:
        held = (new / "ema.safetensors").read_bytes()
        (new / "ema.safetensors").unlink()
        write_manifest(new)
        (new / "ema.safetensors").write_bytes(held)
    code, said, err = unsteep_("train", "--resume", "--out", run, "--set", "train.steps=10")
    assert code == 0
    assert "skipped step-00000008" in err
    assert "at step 4 of 10" in said


def test_checkpoints_that_are_gone_are_not_begun_anew_in_silence(run: Path):
    shutil.rmtree(run / "checkpoints")
    code, _, err = unsteep_("train", "--resume", "--out", run)
    assert code == 2
    assert "has been trained, and its checkpoints are gone" in err


def test_a_damaged_line_of_the_log_costs_that_line_alone(run: Path):
    lines = (run / "log.jsonl").read_text().splitlines()
    (run / "log.jsonl").write_bytes(
        "\n".join([*lines[:2], lines[2][:9], *lines[3:5]]).encode()
        + b"\n\xff\xfe\n[1]\n"
        + "\n".join(lines[5:]).encode()
        + b"\n"
    )
    assert [record["step"] for record in read_log(run / "log.jsonl")] == [1, 2, 4, 5, 6, 7, 8]
    made("train", "--resume", "--out", run, "--set", "train.steps=9")
    assert [record["step"] for record in read_log(run / "log.jsonl")] == [1, 2, 4, 5, 6, 7, 8, 9]


def test_what_killed_writers_left_is_swept_and_nothing_else(run: Path):
    left = [run / ".report.0123abcd.html", run / ".run.deadbeef.toml", run / "checkpoints" / ".x.00000000.json"]
    theirs = [run / ".git", run / ".report.html", run / ".notes.txt"]
    for path in (*left, *theirs):
        path.write_text("x")
    made("train", "--resume", "--out", run, "--set", "train.steps=9")
    assert not any(path.exists() for path in left)
    assert all(path.exists() for path in theirs)


def test_the_preview_of_a_step_that_was_saved_is_drawn_after_a_kill(run: Path):
    settings = ["--set", "train.preview_every=4", "--set", "train.steps=10"]
    assert not (run / "previews").exists() or not list((run / "previews").iterdir())
    made("train", "--resume", "--out", run, *settings)
    assert [path.name for path in (run / "previews").iterdir()] == ["step-00000008.png"]


def test_a_folder_with_a_lock_alone_can_be_started(tmp_path: Path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".lock").write_text("1\n")
    made(*tiny(tmp_path / "run", "train.steps=1"))


def test_a_kill_before_the_first_checkpoint_was_whole_loses_nothing_but_that(tmp_path: Path):
    out = tmp_path / "run"
    (out / "checkpoints" / ".step-00000004.partial").mkdir(parents=True)
    made(*tiny(tmp_path / "other", "train.steps=4"))
    shutil.copy(tmp_path / "other" / "run.toml", out)
    shutil.copy(tmp_path / "other" / "log.jsonl", out)
    said = made("train", "--resume", "--out", out)
    assert "at step 0 of 4" in said
    assert not list((out / "checkpoints").glob(".step*"))


def forged(run: Path, name: str, change: Any) -> None:
    folder = run / "checkpoints" / "step-00000008"
    if name.endswith(".json"):
        stored = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps(change(stored)))
    else:
        save_file(change(load_tensors(folder, name.removesuffix(".safetensors"))), folder / name)
    write_manifest(folder)


def cut(held: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value[:1].clone() if value.ndim else value for name, value in held.items()}


def fewer(held: Any) -> Any:
    state, groups = held["dict"]
    return {"dict": [[state[0], {"dict": state[1]["dict"][:-1]}], groups]}


FORGED: dict[str, tuple[str, Any]] = {
    "a moment of another shape": ("optimizer.safetensors", cut),
    "a moment that is no number": ("optimizer.safetensors", lambda held: {k: v * torch.nan for k, v in held.items()}),
    "weights that are no numbers": ("weights.safetensors", lambda held: {k: v * torch.nan for k, v in held.items()}),
    "no state": ("optimizer.json", lambda _: {}),
    "a state of fewer weights": ("optimizer.json", fewer),
    "a step that is no whole number": ("state.json", lambda held: held | {"step": 8.0}),
    "a state of another step": ("state.json", lambda held: held | {"step": 7}),
}


@pytest.mark.parametrize("what", FORGED)
def test_what_no_run_wrote_is_not_gone_on_from(run: Path, what: str):
    """Whoever forges a file can forge the manifest, too; the checkpoint before it is whole."""
    forged(run, *FORGED[what])
    code, said, err = unsteep_("train", "--resume", "--out", run, "--set", "train.steps=10")
    assert code == 0, err
    assert "skipped step-00000008" in err
    assert "resuming" in said
    assert "at step 4 of 10" in said


def test_the_optimizer_hears_what_the_run_says_and_not_what_a_file_says(run: Path):
    def maximize(held: Any) -> Any:
        return json.loads(json.dumps(held).replace('["maximize", false]', '["maximize", true]'))

    made("train", "--resume", "--out", run, "--set", "train.steps=10")
    wanted = weights(run)
    shutil.rmtree(run / "checkpoints" / "step-00000010")
    forged(run, "optimizer.json", maximize)
    made("train", "--resume", "--out", run)
    assert all(torch.equal(value, wanted[key]) for key, value in weights(run).items())


def test_averaged_weights_that_do_not_fit_are_one_line(run: Path, tmp_path: Path):
    forged(run, "ema.safetensors", lambda held: {k: torch.zeros(1) for k in held})
    code, _, err = unsteep_("sample", run, "-n", "1", "--out", tmp_path / "a.png")
    assert code == 2
    assert "expected weights of the network that model.toml describes" in err


def test_a_checkpoint_whose_weights_were_never_tried_is_not_gone_back_to(tmp_path: Path):
    out = tmp_path / "run"
    settings = ("train.learning_rate=1e3", "train.checkpoint_every=1", "train.warmup=0", "train.steps=30")
    code, said, err = unsteep_(*tiny(out, *settings))
    assert "back to step 0" in said
    if code:
        assert "at resume, too" in err
        made("train", "--resume", "--out", out, "--set", "train.learning_rate=1e-4")
    assert finite(out)


@pytest.mark.parametrize("rate", ["1e36", "1e12"])
def test_the_last_weights_are_tried_before_they_are_called_good(tmp_path: Path, rate: str):
    settings = (f"train.learning_rate={rate}", "train.final_learning_rate=none", "train.steps=1", "train.warmup=0")
    code, _, err = unsteep_(*tiny(tmp_path / "run", *settings, "train.cures=0"))
    assert code == 2
    assert "after the last step the loss is" in err
    assert not step_folders(tmp_path / "run" / "checkpoints")


@pytest.mark.parametrize(
    "name",
    ["evaluation/notes.md", "classifier/photo.png", "checkpoints/step-00000004-best/a.txt", "previews/step-i-like.png"],
)
def test_force_takes_nothing_that_no_run_wrote(run: Path, name: str):
    (run / name).parent.mkdir(parents=True, exist_ok=True)
    (run / name).write_text("mine")
    if name.startswith("classifier"):
        (run / "classifier" / "run.toml").write_text("")
    code, _, err = unsteep_(*tiny(run), "--force")
    assert code == 2
    assert name.split("/")[1] in err
    assert (run / name).read_text() == "mine"


def test_a_copy_of_a_checkpoint_is_in_nobodys_way(run: Path):
    shutil.copytree(run / "checkpoints" / "step-00000008", run / "checkpoints" / "step-00000008-best")
    made("train", "--resume", "--out", run, "--set", "train.steps=9")
    assert (run / "checkpoints" / "step-00000008-best").is_dir()


# unsteep verify.


def test_a_whole_run_is_good(run: Path):
    said = made("verify", run)
    assert "bad" not in said
    assert "whole" in said
    assert "says what the newest checkpoint was trained as" in said


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ("flip", "SHA-256"),
        ("manifest", "missing, so the folder is not a finished save"),
        ("renamed", "it holds step 8; it was renamed"),
        ("edited", "model.prediction = eps, and the run was trained with v"),
        ("junk", "expected TOML"),
    ],
)
def test_what_cannot_be_mended_is_said(run: Path, damage: str, words: str):
    new = run / "checkpoints" / "step-00000008"
    if damage == "flip":
        content = bytearray((new / "weights.safetensors").read_bytes())
        content[-1] ^= 1
        (new / "weights.safetensors").write_bytes(content)
    elif damage == "manifest":
        (new / "manifest.json").unlink()
    elif damage == "renamed":
        new.rename(new.with_name("step-00000009"))
    else:
        text = (run / "run.toml").read_text()
        edited = text.replace('prediction = "v"', 'prediction = "eps"') if damage == "edited" else "[[["
        (run / "run.toml").write_text(edited)
    code, said, _ = unsteep_("verify", run)
    assert code == 1
    assert words in " ".join(said.split())


def test_logs_and_leftovers_are_mended(run: Path):
    with (run / "log.jsonl").open("a") as log:
        log.write('{"step": 9, "lo')
    (run / ".report.0123abcd.html").write_text("x")
    said = made("verify", run)
    assert "mended: 1 damaged lines were dropped, 8 kept" in said
    assert "removed 1 files of writers that were killed" in said
    assert "mended" not in made("verify", run)


def test_a_run_before_its_first_checkpoint_is_good_and_one_that_lost_them_is_not(run: Path):
    shutil.rmtree(run / "checkpoints")
    code, said, _ = unsteep_("verify", run)
    assert code == 1
    assert "they are gone" in said
    (run / "about.json").unlink()
    assert "there is none yet" in made("verify", run)


def test_what_is_no_run_is_not_verified(tmp_path: Path):
    code, _, err = unsteep_("verify", tmp_path)
    assert code == 2
    assert "is not a run" in err


def test_signal_that_is_left_at_the_last_level_is_told(tmp_path: Path):
    short = ("schedule=LinearBetas", "schedule.start=1e-4", "schedule.steps=100", "schedule.end=0.002", "train.steps=1")
    assert "times as much signal as noise" in made(*tiny(tmp_path / "a", *short))
    assert "times as much signal as noise" not in made(*tiny(tmp_path / "b", "train.steps=1"))


# The pictures at the end can be left out.


def test_a_run_can_end_without_its_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.undo()
    made(*tiny(tmp_path / "run", "train.steps=2", "train.report=false"))
    assert (tmp_path / "run" / "report.html").exists()
    assert not (tmp_path / "run" / "samples.png").exists()
    made("train", "--resume", "--out", tmp_path / "run", "--set", "train.report=true")
    assert (tmp_path / "run" / "samples.png").exists()
