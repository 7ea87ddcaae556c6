"""Whatever is open is open from outside: parts of one's own train, are kept, opened and measured without any edit."""

import os
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import mine
import numpy as np
import pytest
import torch
from torch import Tensor

import unsteep
from command_line import made, unsteep_
from unsteep.data import Examples
from unsteep.hearing import Label, Length
from unsteep.metrics.seen import Seen
from unsteep.model import Model, ModelConfig
from unsteep.storage import config
from unsteep.training.conditioning import Conditioning
from unsteep.training.settings import TrainConfig

TRAIN = TrainConfig(steps=6, batch=8, checkpoint_every=3, preview_every=5, warmup=1)
RUN = unsteep.Run(
    data=mine.Compass(),
    space=mine.Angles(),
    condition=Conditioning(drop=0.2, also=(mine.Temperature(),)),
    model=ModelConfig(network=mine.Mixing(), prediction="x0"),
    schedule=mine.Line(),
    objective=mine.Absolute(),
    train=TRAIN,
)
HOW = {"steps": 4, "temperature": 30.0, "solver": mine.Straight()}
SECOND = """
import sys, warnings, numpy as np, unsteep
model = unsteep.load(sys.argv[1], device="cpu", trust=sys.argv[2] == "trust")
import mine
np.save(sys.argv[3], model.sample(3, seed=5, steps=4, temperature=30.0, solver=mine.Straight()).numpy())
"""


def quiet(_: str) -> None:
    pass


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("outside") / "run"
    unsteep.train(RUN, out=out, device="cpu", say=quiet)
    return out


@pytest.fixture(scope="module")
def model(run: Path) -> Model:
    return unsteep.load(run, device="cpu")  # its parts are imported here


def second(*arguments: object) -> subprocess.CompletedProcess[str]:
    """In a process that has imported none of the parts."""
    environment = {**os.environ, "PYTHONPATH": str(Path(mine.__file__).parent), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", SECOND, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def test_what_trains_is_written_by_its_names(run: Path) -> None:
    text = (run / "run.toml").read_text()
    for name in mine.parts():
        assert f'type = "{name}"' in text
    assert config.loads(unsteep.Run, text) == RUN


def test_it_samples_what_it_was_asked_for(model: Model) -> None:
    samples = model.sample(3, seed=5, **HOW)  # type: ignore[arg-type]
    assert samples.shape == (3, 3)
    assert float(samples.abs().max()) <= 180
    assert not torch.equal(samples, model.sample(3, seed=5, **{**HOW, "temperature": -90.0}))  # type: ignore[arg-type]
    assert not torch.equal(samples, model.sample(3, seed=5, **HOW, guidance=3.0))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="label"):
        model.sample(3, label=1)


def test_a_model_says_how_a_run_would_ask_for_its_conditions(model: Model) -> None:
    ours = (Label(names=("a", "b")), Length(counts=(0, 1), frames=1))
    own = (*model.description.hears, Named())
    description = replace(model.description, hears=(*ours[1:], *own))
    assert Conditioning.of(description) == Conditioning(drop=0.2, also=own)
    assert Conditioning.of(replace(description, hears=ours)) == Conditioning(label=True, drop=0.2)


def test_a_second_process_opens_it_with_trust_alone(run: Path, model: Model, tmp_path: Path) -> None:
    refused = second(run, "distrust", tmp_path / "x.npy")
    assert refused.returncode != 0
    assert "trust=True" in refused.stderr
    assert "mine" in refused.stderr
    taken = second(run, "trust", tmp_path / "x.npy")
    assert taken.returncode == 0, taken.stderr
    assert np.array_equal(np.load(tmp_path / "x.npy"), model.sample(3, seed=5, **HOW).numpy())  # type: ignore[arg-type]


def test_a_saved_model_is_opened_the_same_way(model: Model, tmp_path: Path) -> None:
    model.save(tmp_path / "saved")
    assert second(tmp_path / "saved", "distrust", tmp_path / "x.npy").returncode != 0
    taken = second(tmp_path / "saved", "trust", tmp_path / "x.npy")
    assert taken.returncode == 0, taken.stderr
    assert np.array_equal(np.load(tmp_path / "x.npy"), model.sample(3, seed=5, **HOW).numpy())  # type: ignore[arg-type]


def test_a_run_goes_on(run: Path, tmp_path: Path) -> None:
    whole = unsteep.train(replace(RUN, train=replace(TRAIN, steps=8)), out=tmp_path / "whole", device="cpu", say=quiet)
    parts = tmp_path / "parts"
    unsteep.train(replace(RUN, train=replace(TRAIN, steps=8)), out=parts, device="cpu", say=quiet)
    for folder in (parts / "checkpoints").glob("step-00000008"):
        folder.rename(tmp_path / "gone")
    again = unsteep.train(None, out=parts, resume=True, device="cpu", say=quiet)
    for a, b in zip(whole.denoiser.parameters(), again.denoiser.parameters(), strict=True):
        assert torch.equal(a, b)


def test_the_command_line_knows_it_all(run: Path, tmp_path: Path) -> None:
    made("show", run, "--trust")
    made("check", run, "--only", "run", "--trust")
    made("likelihood", run, "--split", "train", "-n", 8, "--terms", 3, "--out", tmp_path / "bits", "--trust")
    made(
        *("sample", run, "-n", 2, "--steps", 3, "--ask", "temperature=30", "--out", tmp_path / "a.npz", "--trust"),
        *("--device", "cpu"),
    )
    with np.load(tmp_path / "a.npz") as stored:
        (name,) = [name for name in stored.files if name in ("x", "samples", "arr_0")]
        assert stored[name].shape == (2, 3)


def test_a_condition_is_asked_for_by_every_verb(run: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", np.zeros((2, 3), np.float32))
    for ask, name in (("temperature=30", "warm"), ("temperature=-90", "cold")):
        words = ("--ask", ask, "--out", tmp_path / f"{name}.safetensors", "--trust", "--device", "cpu")
        made("invert", run, tmp_path / "rows.npy", *words)
    assert (tmp_path / "warm.safetensors").read_bytes() != (tmp_path / "cold.safetensors").read_bytes()
    for verb in ("sample", "fill", "redraw", "interpolate", "invert"):
        assert "--ask" in made(verb, "--help")
    twice = ("sample", run, "--ask", "temperature=1", "--ask", "temperature=2", "--trust", "--out", tmp_path / "x.npz")
    code, _, err = unsteep_(*twice)
    assert (code, err.strip()) == (2, "unsteep: --ask temperature: it is asked for twice; leave one out")


def test_no_verb_runs_what_a_run_names_without_trust(run: Path, tmp_path: Path) -> None:
    """But `train`, to which a run.toml is given to be run."""
    environment = {**os.environ, "PYTHONPATH": str(Path(mine.__file__).parent), "OMP_NUM_THREADS": "1"}
    for verb in (
        ("likelihood", run, "--split", "train", "-n", 4, "--terms", 2, "--out", tmp_path / "bits"),
        ("evaluate", run, "-n", 16),
        ("study", "solvers", run, "--out", tmp_path / "study"),
        ("show", run),
        ("check", run, "--only", "run"),
        ("bench", run),
    ):
        command = [sys.executable, "-m", "unsteep", *map(str, verb)]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        assert done.returncode != 0, verb
        assert "trust" in done.stdout + done.stderr, (verb, done.stderr)
    assert not (tmp_path / "bits").exists()
    assert not (tmp_path / "study").exists()


def test_python_trusts_what_it_starts_from(run: Path, tmp_path: Path) -> None:
    code = """
import sys, unsteep
from pathlib import Path
run = unsteep.training.run.parsed(Path(sys.argv[1], "run.toml").read_text(), True)
unsteep.train(run, out=sys.argv[2], start_from=sys.argv[1], trust=sys.argv[3] == "trust", steps=1, device="cpu")
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(mine.__file__).parent), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", "import unsteep.training.run\n" + code, str(run), str(tmp_path / "new"), "trust"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr


def test_a_condition_of_another_shape_is_refused(model: Model) -> None:
    null = {"temperature": torch.tensor(0.0)}
    with pytest.raises(ValueError, match=r"condition: expected temperature of 1 axes"):
        model.sample(4, condition=unsteep.Condition(temperature=torch.ones(4, 2), nulls=null), steps=2)


def test_it_is_typed_in_words(tmp_path: Path) -> None:
    words = ["data=mine:Compass", "space=mine:Angles", "schedule=mine:Line", "schedule.low=-5.0"]
    words += ["model.network=mine:Mixing", "model.network.width=8", "model.prediction=x0", "train.steps=2"]
    words += ["train.batch=4", "train.warmup=1", "objective=mine:Absolute"]
    made("train", "vectors", "--data", "unread.npy", *(f"--set={word}" for word in words), "--out", tmp_path / "run")
    model = unsteep.load(tmp_path / "run")
    assert model.description.schedule == mine.Line(low=-5.0)
    assert isinstance(model.space, mine.Angles)


def test_what_does_not_keep_the_protocol_is_refused_by_name(tmp_path: Path) -> None:
    code, _, err = unsteep_("train", "digits", "--set", "schedule=mine:Pointing", "--out", tmp_path / "run")
    assert code == 2
    assert "Pointing" in err
    assert not (tmp_path / "run").exists()


def test_a_solver_is_named_on_the_command_line(run: Path, tmp_path: Path) -> None:
    how = ("sample", run, "-n", 2, "--steps", 3, "--ask", "temperature=30", "--trust", "--device", "cpu")
    made(*how, "--solver", "mine:Straight", "--out", tmp_path / "a.npz")
    code, _, err = unsteep_(*how, "--solver", "mine:Pointing", "--out", tmp_path / "b.npz")
    assert code == 2
    assert "mine:Pointing" in err


def test_a_solver_is_checked_by_what_it_says() -> None:
    said = made("check", "--only", "solvers", "--solver", "mine:Straight")
    assert "order of Straight" in said
    assert "all 3 checks passed" in said
    code, said, _ = unsteep_("check", "--only", "solvers", "--solver", "mine:Boasting")
    assert code == 1
    assert "2 of 3 checks FAILED: order of Boasting; calls and noise" in " ".join(said.split())
    for wrong in (("--solver", "mine:Straight", "--only", "numbers"), ("--solver", "unsteep.sampling:Adaptive")):
        code, _, err = unsteep_("check", *wrong)
        assert code == 2
        assert "--solver: " in err


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A model of pictures, whose network, schedule and data set are one's own."""
    run = unsteep.Run(
        data=mine.Compass(),
        model=ModelConfig(network=mine.Mixing(), prediction="x0"),
        schedule=mine.Line(),
        train=TRAIN,
    )
    x = torch.randint(0, 256, (60, 2, 6, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    out = tmp_path_factory.mktemp("pictures") / "run"
    return unsteep.train(run, data=Examples(x, source="mine"), out=out, device="cpu", say=quiet)  # type: ignore[no-any-return]


@dataclass(frozen=True, kw_only=True)
class Named(mine.Temperature):
    """A condition of one's own, by the name of one of ours."""

    name = "label"


class Corners:
    """Features of one's own."""

    name, digest, dimension, resize = "corners", "0" * 64, 4, "none"

    def __call__(self, pictures: Tensor) -> Seen:
        return Seen(pictures[:, :, ::5, 0].flatten(1).float())


def test_pictures_are_evaluated(drawn: Model) -> None:
    real = torch.randint(0, 256, (60, 2, 6, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    found = unsteep.evaluate(
        drawn,
        real,
        n=20,
        metrics=("fid", "precision"),
        features=Corners(),
        split="all",
        solver=mine.Straight(),
        steps=3,
    )
    assert {"fid", "precision"} <= found.values.keys()
    assert "Straight" in str(found.protocol["solver"])
