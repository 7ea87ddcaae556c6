"""Compiled networks: the same steps to rounding, under the same names, and never a reason to stop."""

import copy
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import unsteep
from test_memory import NETWORKS, trained
from unsteep.core.chains import LinearBetas
from unsteep.data import Examples, Given
from unsteep.denoiser import Denoiser
from unsteep.model import ModelConfig
from unsteep.networks import MLPConfig, compiling
from unsteep.networks.compiling import GRAPHS, Compiled, Taken, compile_in, decided, lacks, options, seconds_in
from unsteep.networks.precision import held
from unsteep.training import run as runs
from unsteep.training.loop import State
from unsteep.training.settings import TrainConfig

OWN = torch.compile


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """Networks are traced, and run as traced; what was asked of the compiler."""
    asked: list[Any] = []

    def traced(function: Any, options: Any) -> Any:
        asked.append(options)
        return OWN(function, backend="eager")

    monkeypatch.setattr(torch, "compile", traced)
    monkeypatch.setattr(compiling, "lacks", lambda device: "")
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    yield asked
    torch._dynamo.reset()


def denoiser(name: str = "mlp") -> tuple[Denoiser, Tensor]:
    """One whose network answers other than 0, and noisy examples for it."""
    config, shape = NETWORKS[name]
    torch.manual_seed(0)
    made = Denoiser(config.build(), LinearBetas())
    for weight in made.parameters():
        weight.data += 0.05 * torch.randn_like(weight)
    return made, torch.randn(4, *shape)


LEVEL = LinearBetas()(torch.tensor([0.1, 0.5, 0.7, 0.9]))


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("settings", [{}, {"checkpointing": True}])
def test_steps_are_the_same_and_weights_keep_their_names(settings: Any) -> None:
    plain, compiled = trained("mlp", **settings), trained("mlp", compile="on", **settings)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1  # whole, and its average is never compiled
    assert compiled[0] == pytest.approx(plain[0], rel=1e-5)
    assert compiled[1].keys() == plain[1].keys()
    for name, weight in plain[1].items():
        torch.testing.assert_close(compiled[1][name], weight, rtol=1e-4, atol=1e-5)


@pytest.mark.long
@pytest.mark.skipif(bool(lacks(torch.device("cpu"))), reason="no C++ compiler")
def test_dropout_draws_as_it_does_uncompiled() -> None:
    plain, compiled = trained("unet"), trained("unet", compile="on")
    assert compiled[0] == pytest.approx(plain[0], rel=1e-4)
    for name, weight in plain[1].items():
        torch.testing.assert_close(compiled[1][name], weight, rtol=1e-2, atol=1e-4)


@pytest.mark.usefixtures("quick")
def test_it_is_compiled_for_the_mode_that_it_was_in_and_copies_are_not() -> None:
    of, x = denoiser()
    of.train()
    compile_in(of, Taken(True))
    with torch.no_grad():
        of.eval()(x, LEVEL)
    assert seconds_in(of) == 0
    of.train()(x, LEVEL)
    assert seconds_in(of) > 0
    assert copy.deepcopy(of).network._compiled_call_impl is None
    compile_in(of, Taken(False))
    assert of.network._compiled_call_impl is None


@pytest.mark.usefixtures("quick")
def test_weights_held_in_half_precision_run_compiled_once() -> None:
    of, x = denoiser()
    of.eval().precision = "bf16"
    compile_in(of, Taken(True))
    with torch.no_grad():
        wanted = held(copy.deepcopy(of))(x, LEVEL).eps
        for _ in range(3):
            half = held(of)
            call = half.network._compiled_call_impl
            assert isinstance(call, Compiled)
            assert call.network is half.network
            torch.testing.assert_close(half(x, LEVEL).eps, wanted, rtol=0.02, atol=0.01)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1


def test_what_fails_to_compile_runs_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(graph: Any, inputs: Any) -> Any:
        raise RuntimeError("no such instruction")

    torch._dynamo.reset()
    monkeypatch.setattr(torch, "compile", lambda function, options: OWN(function, backend=broken))
    of, x = denoiser()
    wanted = of.train()(x, LEVEL).eps
    compile_in(of, Taken(True))
    with pytest.warns(UserWarning, match=r"compile: failed, and the network runs as it is \(.*no such instruction"):
        assert torch.equal(of(x, LEVEL).eps, wanted)
    assert torch.equal(of(x, LEVEL).eps, wanted)  # and is not tried again
    torch._dynamo.reset()


def test_what_is_taken_and_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling, "lacks", lambda device: "")
    assert decided("on", "cpu") == decided("auto", "cpu") == Taken(True)
    assert decided("off", "cpu", lambda: 1e9) == Taken(False)
    assert decided("auto", "cpu", lambda: 1e9).compiled
    short = decided("auto", "cpu", lambda: 60.0)
    assert not short.compiled
    assert "1.0 minutes" in short.why
    monkeypatch.setattr(compiling, "lacks", lambda device: "no C++ compiler was found")
    assert decided("auto", "cpu", lambda: 1e9) == Taken(False, "no C++ compiler was found")
    with pytest.raises(ValueError, match="compile: no C\\+\\+ compiler was found; set it to off, or to auto"):
        decided("on", "cpu")


def test_a_machine_without_a_compiler_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._inductor import cpp_builder

    monkeypatch.setattr(cpp_builder, "get_cpp_compiler", lambda: (_ for _ in ()).throw(RuntimeError("none of g++")))
    assert lacks(torch.device("cpu")) == "no C++ compiler was found (none of g++)"
    assert lacks(torch.device("mps")) == "torch does not compile for mps"


def test_on_cuda_graphs_are_replayed_and_their_answers_kept() -> None:
    assert GRAPHS not in options(torch.device("cpu"))
    assert options(torch.device("cuda"))[GRAPHS]
    of, x = denoiser()
    compile_in(of.eval(), Taken(True))
    call, room = of.network._compiled_call_impl, torch.zeros(4, 3)
    assert isinstance(call, Compiled)
    call._options = options(torch.device("cuda"))
    call._call = lambda x, noise_label: room.copy_(x)  # as a graph does: every answer in one place
    first, second = of(x, LEVEL).eps, of(x + 1, LEVEL).eps
    assert torch.equal(first, x)
    assert torch.equal(second, x + 1)


DATA = Examples(torch.randn(12, 2, generator=torch.Generator().manual_seed(0)), levels=None, source="mine")


def run(**train: Any) -> unsteep.Run:
    given: Any = {"steps": 4, "batch": 4, "warmup": 1, "checkpoint_every": 2, "report": False, **train}
    return unsteep.Run(data=Given(), model=ModelConfig(network=MLPConfig(width=8, depth=1)), train=TrainConfig(**given))


def test_a_run_keeps_what_was_taken_says_so_and_changes_it_where_it_is_told(
    quick: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.delenv(compiling.FOLDER, raising=False)
    out = tmp_path / "run"
    assert runs.start(run(compile="auto"), out, data=DATA, say=told.append)  # 4 steps are not worth it
    assert 'compile = "off"' in (out / "run.toml").read_text()
    assert any("compile  off: too little to do" in line for line in told)
    assert quick == []
    monkeypatch.setattr(compiling, "WORTH", 0.0)
    assert runs.start(run(compile="auto"), out, data=DATA, say=told.append, force=True)
    assert 'compile = "on"' in (out / "run.toml").read_text()
    assert any("compiled  in " in line for line in told)
    assert quick
    assert runs.resume(["train.steps=5", "train.compile=off"], out, data=DATA, say=told.append)
    assert any("changed from here on: train.compile" in line for line in told)


@pytest.mark.usefixtures("quick")
def test_a_model_samples_compiled() -> None:
    of = replace(run()).made(DATA, "cpu").model
    for weight in of.denoiser.parameters():
        weight.data += 0.1
    wanted = of.sample(3, steps=3)
    of.to(compile="auto")
    assert of.compiled.compiled
    torch.testing.assert_close(of.sample(3, steps=3), wanted, rtol=1e-4, atol=1e-4)
    assert seconds_in(of.denoiser) > 0
    of.to(compile="off")
    assert torch.equal(of.sample(3, steps=3), wanted)


def test_a_state_is_compiled_by_its_settings(quick: list[Any]) -> None:
    of, _ = denoiser()
    State(of, TrainConfig(compile="auto"), lambda *given: None)  # type: ignore[arg-type]
    assert quick == []
    State(of, TrainConfig(compile="on"), lambda *given: None)  # type: ignore[arg-type]
    assert len(quick) == 1
