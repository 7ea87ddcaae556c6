"""How fast this machine is: what is measured is what is said, and the page and the numbers are whole. No test looks at
how long anything took."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook

import unsteep
from command_line import made, unsteep_
from unsteep.benchmarks.bench import ROUNDS, Benchmark, ByPrecision, Speed, by_turns, sampling, training
from unsteep.benchmarks.machine import CEILINGS, DTYPES, Rate, bare, rate_of
from unsteep.core.machine import Machine, machine
from unsteep.core.precision import Precision
from unsteep.recipes import digits
from unsteep.training.classifying import ClassifierRun
from unsteep.training.denoising import Run

TINY = ("model.network.width=8", "model.network.groups=4", "model.network.attention=[]")


@pytest.fixture(scope="module")
def found() -> Benchmark:
    return unsteep.bench("digits", settings=TINY, batches=(1, 3), seconds=0, device="cpu")


def test_everything_is_measured_once_at_least(found: Benchmark) -> None:
    assert [(speed.what, speed.batch) for speed in found.speeds] == [
        ("training", 1), ("training", 3), ("sampling", 1), ("sampling", 3)
    ]  # fmt: skip
    assert tuple(found.ceilings) == CEILINGS
    for one in (*found.ceilings.values(), *(speed.found for speed in found.speeds)):
        assert tuple(one.rates) == tuple(DTYPES)
        assert all(0 < rate.low <= rate.value <= rate.high for rate in (*one.rates.values(), one.gain))
    assert found.parameters > 10_000
    assert 0 < found.gflop < 0.1
    assert found.network == "UNet"


def test_flops_are_those_of_the_network_by_hand() -> None:
    """A network of full connections: two operations a weight."""
    x = torch.rand(64, 6)
    found = unsteep.bench("vectors", data=x, batches=(2,), seconds=0, device="cpu")
    matrices = [p for p in unsteep.MLPConfig(features=6).build().parameters() if p.ndim == 2]
    assert found.gflop == pytest.approx(2 * sum(p.numel() for p in matrices) / 1e9, rel=0.01)


def test_a_rate_is_what_was_done_over_how_long_it_took(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(100))
    monkeypatch.setattr("time.perf_counter", lambda: float(next(clock)))
    assert rate_of(lambda: 5.0, 4.0) == 5.0  # one call a second
    assert rate_of(lambda: 7.0, 0.0) == 7.0  # once at least
    assert Rate.of([3.0, 1.0, 2.5]) == Rate(2.5, 1.0, 3.0)


def test_a_ratio_is_the_median_of_the_rounds_ratios() -> None:
    """A round in which everything was slow says as much as another."""
    assert ByPrecision.of({"float32": [10.0, 1.0, 8.0], "bf16": [20.0, 2.0, 8.0]}).gain == Rate(2.0, 1.0, 2.0)


def test_precisions_take_turns_after_a_first_call_that_is_not_counted() -> None:
    called: list[str] = []

    def work(precision: Precision) -> float:
        called.append(precision)
        return 1.0

    by_turns(lambda precision: lambda: work(precision), 0.0, "cpu", lambda: None)
    assert called == ["float32", "bf16"] * (1 + ROUNDS)


@pytest.mark.filterwarnings("ignore:precision")
@pytest.mark.parametrize("work", [training, sampling])
def test_what_is_said_to_be_bf16_is(work: Any) -> None:
    seen: set[torch.dtype] = set()
    step = work(tiny(), digits().data.read("train"), "cpu", "bf16", False)
    with register_module_forward_hook(lambda module, _, output: seen.add(output.dtype) if matches(module) else None):
        step()
    assert seen == {torch.bfloat16}


def matches(module: nn.Module) -> bool:
    return isinstance(module, nn.Conv2d)


def tiny() -> Run:
    run = digits()
    network = replace(run.model.network, width=8, groups=2)
    return replace(run, model=replace(run.model, network=network), train=replace(run.train, batch=5))


def test_work_counts_examples() -> None:
    run = tiny()
    data = run.data.read("train")
    for made_of in (training, sampling):
        step = made_of(run, data, "cpu", "float32", False)
        assert [step() for _ in range(2)] == [5, 5]
    assert bare("matrix product", "cpu", "float32")() == 2 * 768**3 / 1e9


def test_the_share_of_the_ceiling_is_that_of_the_faster_arithmetic() -> None:
    def rates(value: float) -> ByPrecision:
        return ByPrecision.of({"float32": [value], "bf16": [4 * value]})

    found = Benchmark(
        machine=machine(), subject="x", network="UNet", parameters=1, gflop=0.5, seconds=1.0,
        ceilings={"matrix product": rates(60), "3x3 convolution": rates(40)},
        speeds=[Speed("training", 8, rates(20)), Speed("sampling", 8, rates(60))],
    )  # fmt: skip
    assert found.reached(found.speeds[0], "float32") == pytest.approx(0.5)  # 20 examples of 3 passes of 0.5 in 60
    assert found.reached(found.speeds[1], "bf16") == pytest.approx(0.5)
    assert found.verdict[0] == "training: bf16 has 4.00 times the speed of float32"


def test_a_busy_machine_is_told() -> None:
    quiet = replace(machine(), cores=2, load=0.1)
    assert not quiet.busy
    assert replace(quiet, load=1.5).busy
    assert not replace(quiet, load=None).busy
    assert "busy" in dict(replace(quiet, load=1.5).facts)["load before"]
    assert isinstance(quiet, Machine)


def test_the_verb_prints_tables_and_writes_a_page(tmp_path: Path) -> None:
    settings = [word for one in TINY for word in ("--set", one)]
    said = made("bench", "digits", *settings, "--batches", 2, "--seconds", 0, "--out", tmp_path, "--device", "cpu")
    assert re.search(r"^3x3 convolution +[\d.]+\s\[[\d.]+,\s[\d.]+\]", said, re.M)
    assert re.search(r"^training +2 +[\d.]+\s\[", said, re.M)
    assert "bf16 has" in said
    results = json.loads((tmp_path / "results.json").read_text())
    assert {"machine", "ceilings", "speeds", "gflop", "verdict", "command"} <= results.keys()
    assert results["command"].startswith("unsteep bench digits --set")
    assert [set(speed["found"]["rates"]) for speed in results["speeds"]] == [{"float32", "bf16"}] * 2
    assert {"bf16", "instructions", "load", "cores"} <= results["machine"].keys()
    page = (tmp_path / "index.html").read_text()
    assert "How fast is digits here?" in page
    assert page.count("<img") == 2


def test_what_cannot_be_measured_is_refused() -> None:
    assert "--batches: expected at least 1, got 0" in unsteep_("bench", "--batches", 0)[2]
    assert "did you mean digits" in unsteep_("bench", "digit")[2]
    with pytest.raises(ValueError, match="recipe_or_run: expected one that trains a denoiser"):
        unsteep.bench(ClassifierRun(data=digits().data), seconds=0)
