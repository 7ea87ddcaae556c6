"""The training loop, the average of its weights, its learning rates and its log, each by its laws."""

import copy
import json
from collections.abc import Callable, Iterator
from io import StringIO
from itertools import pairwise
from math import factorial, isclose, prod
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unsteep.core.condition import Condition
from unsteep.core.noise import Draw
from unsteep.data.batch import Batch, shuffled
from unsteep.objectives import Loss
from unsteep.storage import config
from unsteep.training import checkpoints
from unsteep.training.ema import EMA
from unsteep.training.log import Log, Progress, read_log
from unsteep.training.loop import Diverged, Record, Single, State, TrainConfig, train

# The loop.


class Classify:
    """Cross-entropy; from the step `wrong` on, a gradient that is no number under a loss that is one."""

    def __init__(self, wrong: int | None = None) -> None:
        self.wrong, self.step = wrong, 0

    def __call__(self, module: nn.Module, batch: Batch, draw: Draw) -> Loss:
        assert batch.condition is not None
        assert batch.condition["label"] is not None
        self.step += 1
        value = F.cross_entropy(module(batch.x), batch.condition["label"], reduction="none")
        if self.step == self.wrong:
            weight = next(module.parameters()).sum()
            value = value + (weight - weight.detach()).abs().sqrt()
        return Loss(value, torch.zeros(len(batch.x)))


def clusters(of: TrainConfig) -> Callable[[int], Iterator[tuple[Batch, Draw]]]:
    """Points around three corners of the plane, with their corner as the label."""
    torch.manual_seed(0)
    labels = torch.arange(60) % 3
    x = 3 * torch.tensor([[0.0, 1.0], [1.0, -1.0], [-1.0, -1.0]])[labels] + torch.randn(60, 2) / 2

    def parts(step: int) -> Iterator[tuple[Batch, Draw]]:
        for places in torch.arange(of.batch).chunk(of.accumulate):
            index = shuffled(step * of.batch + places, 60, of.seed)
            yield Batch(x[index], Condition(label=labels[index]), index), Draw(of.seed, step, places, of.batch)

    return parts


def classifier() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(2, 3)


def test_a_gradient_that_is_no_number_leaves_everything_as_it_was() -> None:
    of = TrainConfig(steps=6, batch=10, learning_rate=0.1, warmup=0, ema=0.5)
    state = State(classifier(), of, Classify(wrong=4))
    steps = train(Single(state, clusters(of)), of)
    for _ in range(3):
        next(steps)
    kept = copy.deepcopy((state.module.state_dict(), state.ema.module.state_dict(), state.optimizer.state_dict()))
    with pytest.raises(Diverged, match=r"^step 4: .* the norm of its gradient nan; no update was made$"):
        next(steps)
    now = (state.module.state_dict(), state.ema.module.state_dict(), state.optimizer.state_dict())
    assert state.updates == 3
    torch.testing.assert_close(now, kept, rtol=0, atol=0)
    assert all(p.grad is None for p in state.module.parameters())


def test_it_trains_any_module() -> None:
    of = TrainConfig(steps=60, batch=20, learning_rate=0.1, warmup=5, ema=0.5)
    state, parts = State(classifier(), of, Classify()), clusters(of)
    records = list(train(Single(state, parts), of))
    assert [record.step for record in records] == list(range(1, 61))
    assert state.updates == 60
    assert records[-1].loss < 0.1 < records[0].loss
    for batch, _ in parts(0):
        assert batch.condition is not None
        assert batch.condition["label"] is not None
        for module in (state.module, state.ema.module):
            assert (module(batch.x).argmax(1) == batch.condition["label"]).float().mean() > 0.9


def test_dropout_is_a_function_of_the_seed_and_the_step() -> None:
    def masks(seed: int) -> list[Tensor]:
        """What dropout leaves of ones, step by step."""
        left = []

        def objective(module: nn.Module, batch: Batch, draw: Draw) -> Loss:
            left.append(module[1](torch.ones(50)))  # type: ignore[index]
            return Loss(module(batch.x).square().mean(1), torch.zeros(len(batch.x)))

        of = TrainConfig(steps=3, batch=4, seed=seed)
        state = State(nn.Sequential(classifier(), nn.Dropout(0.5)), of, objective)
        torch.rand(seed + 1)  # whatever was drawn before
        for _ in train(Single(state, clusters(of)), of):
            torch.rand(7)  # or is drawn between
        return left

    first, again, other = masks(0), masks(0), masks(1)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    for a, b in [*pairwise(first), *zip(first, other, strict=True)]:
        assert not torch.equal(a, b)


def test_the_first_loss_is_the_mean_over_the_whole_batch() -> None:
    of = TrainConfig(steps=1, batch=12, accumulate=3)
    parts, module = clusters(of), classifier()
    whole = torch.cat([Classify()(module, *part).value.detach() for part in parts(0)])
    (record,) = train(Single(State(module, of, Classify()), parts), of)
    assert len(whole) == 12
    assert isclose(record.loss, float(whole.mean()), rel_tol=1e-6)


def test_the_learning_rate_is_that_of_the_step_from_the_first_on() -> None:
    """The first step of Adam moves each weight by the learning rate, against the sign of its gradient."""
    of = TrainConfig(steps=2, batch=12, learning_rate=0.5, warmup=10)
    module = classifier()
    before = copy.deepcopy(module)
    (batch, draw), *_ = clusters(of)(0)
    Classify()(before, batch, draw).value.mean().backward()
    record = next(train(Single(State(module, of, Classify()), clusters(of)), of))
    assert isclose(record.learning_rate, 0.05)
    assert before.weight.grad is not None
    torch.testing.assert_close(module.weight, before.weight - 0.05 * before.weight.grad.sign(), rtol=0, atol=1e-6)


def test_clipping_bounds_the_step_and_reports_the_norm_before() -> None:
    """Adam's second moment is a sum of squared gradients, each times 1/1000."""
    norms, ends = [], []
    for clip in (1e9, 0.01):
        of = TrainConfig(steps=3, batch=12, learning_rate=0.1, warmup=0, clip=clip)
        state = State(classifier(), of, Classify())
        norms.append([record.gradient_norm for record in train(Single(state, clusters(of)), of)])
        ends.append(state.optimizer.state_dict()["state"][0]["exp_avg_sq"].sum())
    assert norms[0][0] == norms[1][0] > 0.01
    assert ends[1] <= 3e-3 * 0.01**2 < ends[0]


# Averages and rates.


def averaged(values: list[float], decay: float) -> float:
    """The average of a weight that was values[0] at first and values[n] after step n."""
    module = nn.Linear(1, 1, bias=False).double()
    nn.init.constant_(module.weight, values[0])
    ema = EMA(module, decay)
    for n, value in enumerate(values[1:], 1):
        nn.init.constant_(module.weight, value)
        ema.update(module, n)
    return float(ema.module.weight)


def test_constant_weights_stay() -> None:
    assert averaged([0.3] * 30, 0.999) == 0.3


@pytest.mark.parametrize("n", [1, 4, 12])
def test_the_warm_up_of_the_average_in_closed_form(n: int) -> None:
    """While d_j = (1 + j) / (10 + j), the products of a row of them are quotients of factorials."""

    def kept(k: int) -> float:
        """d_{k+1} ... d_n"""
        return factorial(n + 1) / factorial(k + 1) * factorial(10 + k) / factorial(10 + n)

    share = [kept(0)] + [kept(k) - kept(k - 1) for k in range(1, n + 1)]
    values = [float(v) for v in np.random.default_rng(n).normal(size=n + 1)]
    assert isclose(sum(share), 1)
    assert isclose(averaged(values, 0.9999), sum(s * v for s, v in zip(share, values, strict=True)), rel_tol=1e-12)


def test_after_the_warm_up_the_average_forgets_geometrically() -> None:
    """An impulse in the weights fades as decay^k, once (1 + n) / (10 + n) has passed the decay."""
    decay, first = 0.5, 8  # 9/18
    values = [0.0] * (first + 1) + [1.0] + [0.0] * 6
    assert isclose(averaged(values[: first + 2], decay), 0.5)
    assert isclose(averaged(values, decay), 0.5 * prod([decay] * 6))


def test_the_average_is_a_module_of_its_own_with_the_buffers_of_the_trained_one() -> None:
    module = nn.BatchNorm1d(2)
    ema = EMA(module, 0.9)
    module(torch.randn(5, 2) + 3)
    ema.update(module, 1)
    assert isinstance(ema.module, nn.BatchNorm1d)
    assert torch.equal(ema.module.running_mean, module.running_mean)  # type: ignore[arg-type]
    assert ema.module.running_mean is not module.running_mean
    assert not ema.module.training
    assert not any(p.requires_grad for p in ema.module.parameters())
    with pytest.raises(ValueError, match=r"train\.ema: expected a decay from 0"):
        EMA(module, 1.0)


@pytest.mark.parametrize("warmup", [0, 1, 10, 200])
@pytest.mark.parametrize("final", [None, 1e-5, 0.0])
def test_the_learning_rate(warmup: int, final: float | None) -> None:
    peak, steps = 2e-3, 100
    of = TrainConfig(steps=steps, learning_rate=peak, final_learning_rate=final, warmup=warmup)
    rates = [of.rate(step) for step in range(1, steps + 1)]
    rising, after = rates[:warmup], rates[warmup:]
    for k, rate in enumerate(rising, 1):
        assert isclose(rate, k * peak / warmup)
    if final is None or not after:
        assert all(rate == peak for rate in after)
    else:
        assert isclose(after[-1], final, abs_tol=1e-18)
        assert of.rate(steps + 50) == after[-1]  # a shortened run does not rise again
        levels = [peak, *after]
        assert all(a > b for a, b in pairwise(levels))
        for k in range(len(levels)):  # half a cosine is a point reflection of itself
            assert isclose(levels[k] + levels[-1 - k], peak + final, rel_tol=1e-9)
        quarter = levels[len(levels) // 4]
        assert quarter > 0.75 * peak  # and leaves its end slowly, unlike a line


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("steps=0", "steps: expected at least 1, got 0"),
        ("batch=0", "batch: expected at least 1"),
        ("keep=0", "keep: expected at least 1"),
        ("accumulate=3", "accumulate: 3 does not divide a batch of 64"),
        ("learning_rate=0", "learning_rate: expected a positive number"),
        ("learning_rate=nan", "learning_rate: expected a positive number"),
        ("final_learning_rate=-1e-5", "final_learning_rate: expected at least 0"),
        ("weight_decay=-1", "weight_decay: expected at least 0"),
        ("warmup=-1", "warmup: expected at least 0"),
        ("clip=0", "clip: expected a positive number"),
        ("seed=-1", "seed: expected a whole number from 0"),
        ("seed=2147483648", "seed: expected a whole number from 0"),
        ("precision=fp8", "precision: expected one of float32, bf16"),
    ],
)
def test_what_a_training_configuration_refuses(setting: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        config.override(TrainConfig(), [setting])


# The log.


def test_the_log_drops_what_a_resumed_run_does_again(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    log = Log(path, 0)
    for step in (1, 2, 3):
        log.write(Record(step, 0.1 * step, 1.0, 1e-3))
    log.close()
    log = Log(path, 1)
    log.write(Record(2, 0.5, 1.0, 1e-3))
    log.close()
    records = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(record["step"], record["loss"]) for record in records] == [(1, 0.1), (2, 0.5)]
    assert read_log(tmp_path / "nothing.jsonl") == []


def test_progress_in_plain_lines_where_there_is_no_terminal() -> None:
    stream = StringIO()
    with Progress(0, 4, 8, stream) as progress:
        for step in range(1, 5):
            progress.update(Record(step, 1.0 * step, 1.0, 1e-3))
    lines = stream.getvalue().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("step 4 of 4  loss 2.5000  ")
    assert lines[0].endswith("images/s  0:00 left")


class Two:
    """Two modules of one task: the first trains on even steps, the second on odd ones."""

    def __init__(self, of: TrainConfig) -> None:
        self.trained = {"first": State(classifier(), of, Classify()), "second": State(classifier(), of, Classify())}
        self.parts, self.step = clusters(of), 0

    def turn(self, step: int) -> str:
        return ("first", "second")[step % 2]

    def weights(self) -> list[Tensor]:
        return [p.detach().clone() for state in self.trained.values() for p in state.module.parameters()]


def test_two_states_train_by_turns_and_are_kept_together(tmp_path: Path) -> None:
    of = TrainConfig(steps=7, batch=6, learning_rate=0.1, warmup=0)
    whole, seen = Two(of), []
    start = whole.weights()
    for record in train(whole, of):
        seen.append([not torch.equal(a, b) for a, b in zip(start, whole.weights(), strict=True)])
        start = whole.weights()
        assert record.step == len(seen)
    assert all(step[:2] == [i % 2 == 0] * 2 and step[2:] == [i % 2 == 1] * 2 for i, step in enumerate(seen))
    assert [state.updates for state in whole.trained.values()] == [4, 3]
    half, again = Two(of), Two(of)
    for record in train(half, of):
        if record.step == 3:
            break
    checkpoints.save(tmp_path, half, {}, {}, "digest")
    checkpoints.restore(again, next(tmp_path.iterdir()))
    assert again.step == 3
    for _ in train(again, of):
        pass
    assert all(torch.equal(a, b) for a, b in zip(whole.weights(), again.weights(), strict=True))
