"""A run: a function of its configuration alone, however it was interrupted, and what its folder holds."""

import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import unsteep
from building import batches_for
from unsteep.core.chains import CosineBetas
from unsteep.core.noise import Draw
from unsteep.core.schedules import VP
from unsteep.data import Array, Shapes
from unsteep.data.batch import Batch
from unsteep.model import ModelConfig
from unsteep.networks import MLPConfig, UNetConfig
from unsteep.networks.sequence import SequenceConfig
from unsteep.objectives import Importance, Loss, Simple, Stratified
from unsteep.storage.checkpoint import load_tensors, step_folders
from unsteep.storage.lock import FolderLock
from unsteep.storage.manifest import Corrupt
from unsteep.training import clock, denoising, sitting
from unsteep.training import run as runs
from unsteep.training.batches import Batches
from unsteep.training.conditioning import Conditioning
from unsteep.training.log import read_log
from unsteep.training.loop import Diverged, Record, State, TrainConfig, train
from unsteep.training.run import Run

N, BATCH, STEPS = 22, 8, 8  # 64 positions over epochs of 22: a run crosses two borders of epochs
STATE = ("weights", "ema", "optimizer", "objective")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """22 pictures of three classes, in an npz."""
    folder = tmp_path_factory.mktemp("data")
    bytes_ = np.random.default_rng(0).integers(0, 256, (N, 8, 8), dtype=np.uint8)
    np.savez(folder / "pictures.npz", images=bytes_, labels=np.arange(N) % 3)
    return folder


@pytest.fixture(scope="module")
def run(folder: Path) -> Run:
    """Everything that could break a resumption: dropout, mirroring, labels and dropped ones, parts, averages."""
    return Run(
        data=Array(path=str(folder / "pictures.npz")),
        condition=Conditioning(label=True, drop=0.3),
        model=ModelConfig(
            network=UNetConfig(width=8, groups=4, multipliers=(1, 2), blocks=1, attention=(), dropout=0.2)
        ),
        schedule=CosineBetas(steps=4),  # so that pictures are drawn in no time
        train=TrainConfig(
            steps=STEPS,
            batch=BATCH,
            accumulate=2,
            learning_rate=1e-3,
            final_learning_rate=1e-4,
            warmup=2,
            weight_decay=0.01,
            ema=0.9,
            flip=True,
            checkpoint_every=3,
            preview_every=4,
        ),
    )


@pytest.fixture(autouse=True)
def reports(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a run draws at its end is tested with the command line."""
    monkeypatch.setattr(denoising, "report", lambda *_: None)


@pytest.fixture(scope="module")
def unbroken(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("unbroken") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(denoising, "report", lambda *_: None)
        assert runs.start(run, out, say=silent)
    return out


def silent(_: str) -> None:
    pass


def same_end(one: Path, other: Path) -> None:
    """Both runs ended with the same bits, and with the same log."""
    ends = [step_folders(out / "checkpoints")[-1] for out in (one, other)]
    assert ends[0].name == ends[1].name == f"step-{STEPS:08d}"
    for name in STATE:
        here, there = (load_tensors(end, name) for end in ends)
        assert here.keys() == there.keys()
        assert all(torch.equal(value, there[key]) for key, value in here.items()), name
    assert (ends[0] / "optimizer.json").read_bytes() == (ends[1] / "optimizer.json").read_bytes()
    assert (one / "log.jsonl").read_bytes() == (other / "log.jsonl").read_bytes()


class Killed(BaseException):
    """Stands for a process that ends without a word."""


def killed(run: Run, out: Path, at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run whose process dies in step `at`, before that step is logged."""

    def dying(state: State, *rest: Any) -> Iterator[Record]:
        for record in train(state, *rest):
            if record.step == at:
                raise Killed
            yield record

    with monkeypatch.context() as patch:
        patch.setattr(sitting, "train", dying)
        with pytest.raises(Killed):
            runs.start(run, out, say=silent)


def calling(at: int, action: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Does something in the middle of step `at` of a run, counted from 1: its loss becomes NaN, or a signal comes."""
    real, calls = Simple.__call__, 0

    def objective(self: Simple, module: nn.Module, batch: Batch, draw: Draw) -> Loss:
        nonlocal calls
        if not torch.is_grad_enabled():  # it is only looked at
            return real(self, module, batch, draw)
        calls += 1
        loss = real(self, module, batch, draw)
        if (calls + 1) // 2 == at and calls % 2:  # two parts a step
            factor = action()
            return loss if factor is None else replace(loss, value=loss.value * factor)
        return loss

    monkeypatch.setattr(Simple, "__call__", objective)


# Interrupted and resumed.


@pytest.mark.parametrize("at", [2, 5, 8])
def test_killed_and_resumed_is_bit_equal_to_unbroken(
    at: int, run: Run, unbroken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the first checkpoint, between two of them, and in the last step: each time steps are done again."""
    out = tmp_path / "run"
    killed(run, out, at, monkeypatch)
    assert [record["step"] for record in read_log(out / "log.jsonl")] == list(range(1, at))
    assert runs.resume([], out, say=silent)
    assert [record["step"] for record in read_log(out / "log.jsonl")] == list(range(1, STEPS + 1))
    same_end(out, unbroken)


def test_an_objective_that_learns_resumes_with_what_it_learned(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learning = replace(run, objective=Simple(times=Importance(bins=2, history=4)))
    runs.start(learning, tmp_path / "whole", say=silent)
    killed(learning, tmp_path / "parts", 5, monkeypatch)
    runs.resume([], tmp_path / "parts", say=silent)
    same_end(tmp_path / "parts", tmp_path / "whole")
    learned = load_tensors(step_folders(tmp_path / "parts" / "checkpoints")[-1], "objective")
    assert learned["counts"].sum() == STEPS * BATCH
    assert learning.objective.times.probabilities().tolist() == [0.5, 0.5]  # the configuration learns nothing


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_saves_within_the_step(
    number: signal.Signals, run: Run, unbroken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, said = tmp_path / "run", list[str]()
    before = signal.getsignal(number)
    with monkeypatch.context() as patch:
        calling(4, lambda: os.kill(os.getpid(), number), patch)
        assert runs.start(run, out, say=said.append) is False
    assert signal.getsignal(number) is before
    assert [folder.name for folder in step_folders(out / "checkpoints")][-1] == "step-00000004"
    assert len(read_log(out / "log.jsonl")) == 4
    assert said[-1] == f"stopped at step 4 and saved; go on with: unsteep train --resume --out {out}"
    assert runs.resume([], out, say=said.append)
    assert f"resuming {out} at step 4 of 8" in said
    same_end(out, unbroken)


def test_by_the_clock_it_saves_and_shows_itself_and_ends_alike(
    run: Run, unbroken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here a minute has always passed. The page is there at once, and tells what to type; what is trained is the same
    to the bit."""
    pages = list[str]()
    with monkeypatch.context() as patch:
        patch.setattr(clock.Clock, "due", property(lambda self: True))
        calling(6, lambda: pages.append((tmp_path / "run" / "report.html").read_text()), patch)
        runs.start(run, tmp_path / "run", say=silent)
    previews = [path.name for path in sorted((tmp_path / "run" / "previews").iterdir())]
    assert previews == [f"step-{step:08d}.png" for step in range(1, STEPS)]
    for words in ("5 of 8 steps", "On the way", "Training examples", "--resume", "device", "versions", "begun", "left"):
        assert words in pages[0]
    same_end(tmp_path / "run", unbroken)


def test_it_goes_on_when_nobody_listens(run: Run, unbroken: Path, tmp_path: Path) -> None:
    def gone(_: str) -> None:
        if (tmp_path / "run").exists():
            raise BrokenPipeError

    assert runs.start(run, tmp_path / "run", say=gone)
    same_end(tmp_path / "run", unbroken)


def test_a_second_interrupt_stops_at_once(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def twice() -> None:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)

    calling(4, twice, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        runs.start(run, tmp_path / "run", say=silent)
    assert [folder.name for folder in step_folders(tmp_path / "run" / "checkpoints")] == ["step-00000003"]
    with FolderLock(tmp_path / "run"):  # nobody holds it any more
        pass


def test_an_interrupt_in_the_last_step_lets_it_end(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calling(STEPS, lambda: os.kill(os.getpid(), signal.SIGINT), monkeypatch)
    assert runs.start(run, tmp_path / "run", say=silent)


def test_a_run_in_another_thread_trains_without_signals(run: Run, unbroken: Path, tmp_path: Path) -> None:
    worker = threading.Thread(target=runs.start, args=(run, tmp_path / "run"), kwargs={"say": silent})
    worker.start()
    worker.join()
    same_end(tmp_path / "run", unbroken)


def test_what_is_drawn_and_kept_does_not_change_what_is_learned(run: Run, unbroken: Path, tmp_path: Path) -> None:
    often = replace(run, train=replace(run.train, preview_every=3, checkpoint_every=1, keep=1))
    runs.start(often, tmp_path / "run", say=silent)
    same_end(tmp_path / "run", unbroken)
    assert len(step_folders(tmp_path / "run" / "checkpoints")) == 1
    previews = sorted((tmp_path / "run" / "previews").iterdir())
    assert [path.name for path in previews] == ["step-00000003.png", "step-00000006.png"]
    sizes = {Image.open(path).size for path in previews}
    assert len(sizes) == 1


def test_the_newest_checkpoints_are_kept(unbroken: Path) -> None:
    names = [folder.name for folder in step_folders(unbroken / "checkpoints")]
    assert names == ["step-00000006", "step-00000008"]


def test_a_finished_run_goes_on_for_longer(run: Run, unbroken: Path, tmp_path: Path) -> None:
    """At a constant rate, 4 steps and 4 more are 8 steps."""
    constant = replace(run, train=replace(run.train, final_learning_rate=None))
    runs.start(constant, tmp_path / "whole", say=silent)
    runs.start(replace(constant, train=replace(constant.train, steps=4)), tmp_path / "parts", say=silent)
    assert runs.resume([f"train.steps={STEPS}"], tmp_path / "parts", say=silent)
    same_end(tmp_path / "parts", tmp_path / "whole")
    assert runs.read_run(tmp_path / "parts") == constant
    said = list[str]()
    assert runs.resume([], tmp_path / "parts", say=said.append)
    assert said[-1] == "done: no step was left"
    same_end(tmp_path / "parts", tmp_path / "whole")


def test_the_seed_decides(run: Run, unbroken: Path, tmp_path: Path) -> None:
    torch.rand(3)  # what was drawn before does not
    runs.start(run, tmp_path / "same", say=silent)
    same_end(tmp_path / "same", unbroken)
    runs.start(replace(run, train=replace(run.train, seed=1, steps=1)), tmp_path / "other", say=silent)
    one, other = (read_log(out / "log.jsonl")[0] for out in (unbroken, tmp_path / "other"))
    assert one["loss"] != other["loss"]
    states = [load_tensors(step_folders(out / "checkpoints")[-1], "ema") for out in (unbroken, tmp_path / "other")]
    assert not torch.equal(states[0]["network.conv_in.weight"], states[1]["network.conv_in.weight"])


# Resuming only what is the same.


@pytest.fixture
def stopped(unbroken: Path, tmp_path: Path) -> Path:
    """A copy of the finished run."""
    return Path(shutil.copytree(unbroken, tmp_path / "stopped"))


@pytest.mark.parametrize(
    "setting",
    [
        "train.seed=3",
        "condition.drop=0",
        "model.prediction=v",
        "schedule=VP",
        "data=Digits",
        "data.limit=5",
    ],
)
def test_a_resumed_run_refuses_another_setting(setting: str, stopped: Path) -> None:
    before = (stopped / "run.toml").read_bytes()
    with pytest.raises(ValueError, match=r"resume: only train\.steps, .* may change; start another run"):
        runs.resume([setting], stopped, say=silent)
    assert (stopped / "run.toml").read_bytes() == before


def test_a_resumed_run_refuses_other_data(stopped: Path, run: Run, tmp_path: Path) -> None:
    assert isinstance(run.data, Array)
    stored = dict(np.load(run.data.path))
    np.savez(tmp_path / "moved.npz", **stored)
    stored["images"][3, 2, 1] ^= 1
    np.savez(tmp_path / "changed.npz", **stored)
    longer = f"train.steps={STEPS + 1}"
    with pytest.raises(ValueError, match=r"the data are not those that .* was trained on; start another run"):
        runs.resume([f"data.path={tmp_path / 'changed.npz'}", longer], stopped, say=silent)
    assert len(read_log(stopped / "log.jsonl")) == STEPS
    assert runs.resume([f"data.path={tmp_path / 'moved.npz'}", longer], stopped, say=silent)
    assert len(read_log(stopped / "log.jsonl")) == STEPS + 1


def test_a_run_is_not_overwritten(run: Run, stopped: Path, tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match="holds a run already; go on with resume=True, or overwrite it with force=True"
    ):
        runs.start(run, stopped, say=silent)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "1.png").write_bytes(b"dear")
    for out in (tmp_path / "photos", tmp_path / "photos" / "1.png"):
        for force in (False, True):
            with pytest.raises(ValueError, match="exists and is not a run; choose another"):
                runs.start(run, out, force=force, say=silent)
    assert (tmp_path / "photos" / "1.png").read_bytes() == b"dear"


def test_force_begins_anew(run: Run, stopped: Path) -> None:
    (stopped / "previews" / "step-00000099.png").write_bytes(b"")
    short = replace(run, train=replace(run.train, steps=1))
    assert runs.start(short, stopped, force=True, say=silent)
    assert runs.read_run(stopped) == short
    assert len(read_log(stopped / "log.jsonl")) == 1
    assert [folder.name for folder in step_folders(stopped / "checkpoints")] == ["step-00000001"]
    assert not (stopped / "previews" / "step-00000099.png").exists()


def test_force_removes_nothing_that_no_run_wrote(run: Run, stopped: Path) -> None:
    """Nor the data, that lie in what is to be replaced."""
    (stopped / "chosen").mkdir()
    (stopped / "chosen" / "mine.png").write_bytes(b"")
    before = sorted(stopped.rglob("*"))
    with pytest.raises(ValueError, match=r"out: .* holds chosen, which no run wrote; move it, or choose another"):
        runs.start(run, stopped, force=True, say=silent)
    assert sorted(stopped.rglob("*")) == before


@pytest.mark.parametrize("where", ["checkpoints/pics/mine.png", "checkpoints/mine.txt", "previews/mine.png"])
def test_nor_inside_what_a_run_wrote(where: str, run: Run, stopped: Path) -> None:
    (stopped / where).parent.mkdir(exist_ok=True, parents=True)
    (stopped / where).write_bytes(b"")
    with pytest.raises(ValueError, match=r"which no run wrote"):
        runs.start(run, stopped, force=True, say=silent)
    assert (stopped / where).exists()


def test_the_folder_may_be_a_link(run: Run, tmp_path: Path) -> None:
    short = replace(run, train=replace(run.train, steps=1))
    (tmp_path / "disk").mkdir()
    (tmp_path / "run").symlink_to(tmp_path / "disk", target_is_directory=True)
    for _ in range(2):
        assert runs.start(short, tmp_path / "run", force=True, say=silent)
    assert (tmp_path / "run").is_symlink()
    assert (tmp_path / "disk" / "run.toml").exists()


def test_force_with_a_mistake_leaves_the_run(stopped: Path, run: Run) -> None:
    for wrong in (
        replace(run, data=Array(path="nowhere.npy")),
        replace(run, model=ModelConfig(network=SequenceConfig())),
    ):
        with pytest.raises(ValueError, match=r"data\.path|transformer for sequences"):
            runs.start(wrong, stopped, force=True, say=silent)
    assert (stopped / "checkpoints" / "step-00000008").is_dir()
    assert runs.read_run(stopped) == run


def test_two_trainers_do_not_share_a_run(run: Run, stopped: Path) -> None:
    before = (stopped / "run.toml").read_bytes()
    with FolderLock(stopped):
        with pytest.raises(ValueError, match=f"process {os.getpid()} has been writing there"):
            runs.resume([f"train.steps={STEPS + 5}"], stopped, say=silent)
        with pytest.raises(ValueError, match=f"process {os.getpid()} has been writing there"):
            runs.start(run, stopped, force=True, say=silent)
    assert (stopped / "run.toml").read_bytes() == before
    assert (stopped / "checkpoints" / "step-00000008").is_dir()


def test_what_is_no_run_is_not_resumed(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"is not a run: it has no run\.toml"):
        runs.resume([], tmp_path / "nowhere", say=silent)
    assert not (tmp_path / "nowhere").exists()


# What lies in a run's folder.


def flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def test_a_damaged_checkpoint_is_named_and_the_one_before_taken(unbroken: Path, stopped: Path) -> None:
    newest = stopped / "checkpoints" / "step-00000008"
    flip_a_byte(newest / "ema.safetensors")
    with pytest.raises(Corrupt, match=r"step-00000008/ema\.safetensors: its bytes are not those"):
        unsteep.load(newest)
    with pytest.warns(UserWarning, match=r"skipped step-00000008: .*ema\.safetensors"):
        fallen_back = unsteep.load(stopped)
    older = load_tensors(unbroken / "checkpoints" / "step-00000006", "ema")
    assert all(torch.equal(value, older[name]) for name, value in fallen_back.denoiser.state_dict().items())
    with pytest.warns(UserWarning, match="skipped step-00000008"):
        assert runs.resume([], stopped, say=silent)
    same_end(stopped, unbroken)


def test_a_log_cut_short_is_tolerated(unbroken: Path, stopped: Path) -> None:
    lines = (stopped / "log.jsonl").read_text().splitlines()
    (stopped / "log.jsonl").write_text("\n".join(lines[:7]) + '\n{"step": 8, "lo')
    assert [record["step"] for record in read_log(stopped / "log.jsonl")] == list(range(1, 8))
    flip_a_byte(stopped / "checkpoints" / "step-00000008" / "weights.safetensors")
    with pytest.warns(UserWarning, match="skipped"):
        runs.resume([], stopped, say=silent)
    same_end(stopped, unbroken)


def test_a_run_and_its_checkpoints_open_as_models(unbroken: Path, run: Run) -> None:
    newest = unbroken / "checkpoints" / "step-00000008"
    for name, model in [
        ("ema", unsteep.load(unbroken)),
        ("ema", unsteep.load(newest)),
        ("weights", unsteep.load(unbroken, weights="weights")),
    ]:
        stored = load_tensors(newest, name)
        assert all(torch.equal(value, stored[key]) for key, value in model.denoiser.state_dict().items())
        assert model.names == ("0", "1", "2")
        assert model.statistics["label_counts"].tolist() == [8, 7, 7]
        assert model.statistics["x0_error"].shape[0] == 2
    ema, weights = load_tensors(newest, "ema"), load_tensors(newest, "weights")
    assert not torch.equal(ema["network.conv_in.weight"], weights["network.conv_in.weight"])
    assert runs.read_run(unbroken) == run
    assert not list(unbroken.rglob("*.partial")) + list(unbroken.rglob("*.tmp"))


def test_an_introduction_tells_what_will_be_trained(run: Run, tmp_path: Path) -> None:
    said = list[str]()
    runs.start(replace(run, train=replace(run.train, steps=1)), tmp_path / "run", say=said.append)
    text = "\n".join(said)
    parameters = sum(p.numel() for p in unsteep.load(tmp_path / "run").denoiser.parameters())
    for words in ["count  22", "8 x 8", "classes  3", f"network  {parameters:,} parameters", "1 steps of 8"]:
        assert words in text


# Divergence.


def test_a_loss_that_is_no_number_makes_no_update_and_names_the_last_good_checkpoint(
    run: Run, unbroken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        calling(5, lambda: float("nan"), patch)
        careless = replace(run, train=replace(run.train, cures=0))
        with pytest.raises(Diverged, match=r"step 5: the loss is nan.*no update was made; the last good checkpoint is"):
            runs.start(careless, out, say=silent)
    assert [folder.name for folder in step_folders(out / "checkpoints")] == ["step-00000003"]
    assert len(read_log(out / "log.jsonl")) == 4
    assert runs.resume([], out, say=silent)  # it was a cosmic ray
    same_end(out, unbroken)


def test_a_first_step_that_diverges_has_no_checkpoint_to_name(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calling(1, lambda: float("inf"), monkeypatch)
    with pytest.raises(Diverged, match=r"step 1: the loss is inf.*there is no checkpoint yet.*learning_rate"):
        runs.start(replace(run, train=replace(run.train, cures=0)), tmp_path / "run", say=silent)


# What a run computes.


def flat(module: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in module.parameters()])


@pytest.mark.parametrize("times", [Simple(), Simple(times=Stratified())], ids=["uniform", "stratified"])
def test_parts_of_a_batch_add_up_to_the_batch(times: Simple, run: Run) -> None:
    plain = replace(run.model, network=replace(run.model.network, dropout=0.0))
    data = run.data.read("train")
    ends, losses = [], []
    for accumulate in (1, 2, 4):
        of = replace(run, model=plain, objective=times, train=replace(run.train, accumulate=accumulate, steps=4))
        task = of.made(data, "cpu")
        losses.append([record.loss for record in train(task, of.train)])
        ends.append(flat(task.state.module))
    for loss, end in zip(losses[1:], ends[1:], strict=True):
        torch.testing.assert_close(loss, losses[0], rtol=1e-5, atol=0)
        torch.testing.assert_close(end, ends[0], rtol=0, atol=1e-5)


def test_training_approaches_the_best_there_is(tmp_path: Path) -> None:
    """Data that are standard normal make x_t standard normal, the best eps is sigma x_t, and its error alpha^2."""
    np.save(tmp_path / "normal.npy", np.random.default_rng(0).normal(size=(2000, 2)).astype(np.float32))
    run = Run(
        data=Array(path=str(tmp_path / "normal.npy")),
        model=ModelConfig(network=MLPConfig(width=32, depth=1)),
        schedule=VP(),
        objective=Simple(times=Stratified()),
        train=TrainConfig(steps=250, batch=256, learning_rate=5e-3, warmup=10, ema=0.9, preview_every=250),
    )
    runs.start(run, tmp_path / "run", say=silent)
    losses = [record["loss"] for record in read_log(tmp_path / "run" / "log.jsonl")]
    best = float((VP()(torch.linspace(0, 1, 1001)).alpha ** 2).mean())
    assert losses[0] > 3 * best
    assert 0.9 * best < sum(losses[-50:]) / 50 < 1.2 * best


@pytest.mark.filterwarnings("ignore:precision")  # where it is slower
def test_half_precision_trains(run: Run, unbroken: Path, tmp_path: Path) -> None:
    runs.start(replace(run, train=replace(run.train, precision="bf16")), tmp_path / "run", say=silent)
    half, full = ([record["loss"] for record in read_log(out / "log.jsonl")] for out in (tmp_path / "run", unbroken))
    assert half != full
    torch.testing.assert_close(half, full, rtol=0.1, atol=0)
    weights = load_tensors(tmp_path / "run" / "checkpoints" / "step-00000008", "weights")
    assert {value.dtype for value in weights.values()} == {torch.float32}


def test_without_decay_the_average_is_the_weights(run: Run, tmp_path: Path) -> None:
    runs.start(replace(run, train=replace(run.train, ema=0.0, steps=3)), tmp_path / "run", say=silent)
    newest = step_folders(tmp_path / "run" / "checkpoints")[-1]
    weights, averages = load_tensors(newest, "weights"), load_tensors(newest, "ema")
    assert all(torch.equal(value, averages[name]) for name, value in weights.items())


def test_the_largest_seed_trains(run: Run, tmp_path: Path) -> None:
    runs.start(replace(run, train=replace(run.train, steps=1, seed=2**31 - 1)), tmp_path / "run", say=silent)


# The batches of a run.


def batches_of(run: Run, **changes: Any) -> tuple[Batches, Tensor]:
    run = replace(run, train=replace(run.train, **changes))
    data = run.data.read("train")
    return batches_for(run, data, run.describe(data)), data.x


def test_an_epoch_meets_every_example_once(run: Run) -> None:
    batches, _ = batches_of(run)
    met = torch.cat([batch.index for step in range(11) for batch, _ in batches(step)])
    epochs = met.reshape(4, N)
    assert all(sorted(epoch.tolist()) == list(range(N)) for epoch in epochs)
    assert not torch.equal(epochs[0], epochs[1])


def test_mirroring_and_dropping_belong_to_the_example_not_to_the_part(run: Run) -> None:
    whole, x = batches_of(run, accumulate=1)
    halves, _ = batches_of(run, accumulate=2)
    flipped, dropped = [], []
    for step in range(12):
        ((batch, _),) = whole(step)
        parts = [part for part, _ in halves(step)]
        assert torch.equal(batch.x, torch.cat([part.x for part in parts]))
        assert batch.condition is not None
        assert batch.condition["label"] is not None
        labels = [part.condition["label"] for part in parts if part.condition and part.condition["label"] is not None]
        assert torch.equal(batch.condition["label"], torch.cat(labels))
        plain = x[batch.index].float() / 255 * 2 - 1
        mirrored = (batch.x - plain.flip(-1)).abs().amax((1, 2, 3)) < 1e-6
        assert (mirrored | ((batch.x - plain).abs().amax((1, 2, 3)) < 1e-6)).all()
        hidden = batch.condition["label"] == -1
        assert (hidden | (batch.condition["label"] == batch.index % 3)).all()
        flipped += mirrored.tolist()
        dropped += hidden.tolist()
    assert abs(np.mean(flipped) - 0.5) < 0.2
    assert abs(np.mean(dropped) - 0.3) < 0.2


def test_without_labels_there_is_no_condition(run: Run) -> None:
    batches, x = batches_of(replace(run, condition=Conditioning()), flip=False)
    for batch, _ in batches(0):
        assert batch.condition is None
        torch.testing.assert_close(batch.x, x[batch.index].float() / 127.5 - 1)


# What a run makes of its data.


def test_what_a_run_refuses_of_its_data(folder: Path, run: Run, tmp_path: Path) -> None:
    np.save(tmp_path / "bare.npy", np.zeros((4, 8, 8), np.uint8))
    np.save(tmp_path / "rows.npy", np.zeros((4, 3), np.float32))

    def refuses(words: str, **changes: Any) -> None:
        wrong = replace(run, **changes)
        with pytest.raises(ValueError, match=words):
            runs.start(wrong, tmp_path / "run", say=silent)
        assert not (tmp_path / "run").exists()

    bare, rows = (Array(path=str(tmp_path / name)) for name in ("bare.npy", "rows.npy"))
    refuses(r"condition\.label: these data have no labels .*; turn it off", data=bare)
    refuses(r"train\.flip: these data are rows of 3 numbers", data=rows, condition=Conditioning())
    refuses(r"train\.flip: the captions say left and right", data=Shapes(size=16, count=4))
    refuses("a transformer for sequences .*; set model.network=(UNet|DiT)", model=ModelConfig(network=SequenceConfig()))
    refuses("attention: expected sizes among 8, 4, got 16", model=ModelConfig(network=UNetConfig(multipliers=(1, 2))))
    refuses(r"train\.ema: expected a decay", train=replace(run.train, ema=1.0))


@pytest.mark.parametrize("drop", [-0.1, 1.0])
def test_a_share_of_dropped_conditions(drop: float) -> None:
    with pytest.raises(ValueError, match="drop: expected a share from 0 to below 1"):
        Conditioning(drop=drop)
