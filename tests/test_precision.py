"""In which precision networks run: what is measured and taken, what stays out of it, and what a run keeps of it."""

import copy
import math
import tomllib
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

import unsteep
from command_line import made, unsteep_
from stand_in import StandIn
from test_devices import DATA, on, run, told_by
from test_model import TINY, model_of, pictures
from test_networks import NOISE, each_network
from test_training import Classify, classifier, clusters
from unsteep.analytic import Mixture
from unsteep.core.chains import LinearBetas
from unsteep.core.estimate import Estimate
from unsteep.core.level import NoiseLevel
from unsteep.core.noise import NoiseSource
from unsteep.core.precision import arithmetic
from unsteep.denoiser import Denoiser
from unsteep.evaluation.subjects import Drawn
from unsteep.guidance.noisy import NoisyClassifier
from unsteep.guidance.setting import Guidance
from unsteep.likelihood import flow_log_prob
from unsteep.model.cost import counting
from unsteep.networks import precision
from unsteep.networks.precision import Decision, decided, held
from unsteep.networks.wrapping import weights_of
from unsteep.sampling import SOLVERS as LISTED
from unsteep.sampling import Adaptive, GaussianFrame, Step, default_solver, grid, trajectory
from unsteep.sampling.frame import Frame
from unsteep.storage.checkpoint import load_tensors
from unsteep.training import denoising
from unsteep.training import run as runs
from unsteep.training.log import read_log
from unsteep.training.loop import Diverged, Single, State, train
from unsteep.training.settings import TrainConfig
from unsteep.training.statistics import probe


def half() -> Any:
    return torch.autocast("cpu", torch.bfloat16)


@pytest.fixture
def speed(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Sets how many times as fast as float32 half precision is measured to be."""
    return lambda faster: monkeypatch.setattr(precision, "speed_up", lambda *of: faster)


# What stays out of a caller's autocast.

TEN = torch.randn(10, 12, generator=torch.Generator().manual_seed(0))
EXACT = Mixture(TEN, torch.full((10,), 0.01))
TURN = torch.linalg.qr(torch.randn(12, 12, generator=torch.Generator().manual_seed(1)))[0]
FRAME = Frame.of(TEN.mean(0), torch.cat([torch.ones(4), torch.full((1,), 0.2)]), TURN[:, :4])
CHAIN = LinearBetas()


@dataclass(frozen=True, kw_only=True)
class Turned:
    """A solver of a user's own, in other coordinates."""

    flows: ClassVar[bool] = True

    def step(
        self, denoise: Any, x: Tensor, now: NoiseLevel, nxt: NoiseLevel, noise: Any, memory: Any, at: Any
    ) -> tuple[Tensor, Estimate, None]:
        estimate = denoise(x, now)
        turned = float(nxt.alpha) * (estimate.x0 @ TURN) + float(nxt.sigma) * (estimate.eps @ TURN)
        return turned @ TURN.T, estimate, None


SOLVERS: dict[str, Any] = {
    **LISTED,
    "default": default_solver(FRAME, CHAIN, 50, atoms=False),
    "default, few": default_solver(FRAME, CHAIN, 5, atoms=True),
    "own": Turned(),
}


@pytest.mark.parametrize("solver", SOLVERS.values(), ids=SOLVERS)
@pytest.mark.filterwarnings("ignore:the first level")
def test_no_solver_computes_in_a_callers_autocast(solver: Any) -> None:
    noise = NoiseSource(range(3))
    if isinstance(solver, GaussianFrame):
        solver = replace(solver, frame=FRAME)
    x, levels = noise.normal(torch.empty(3, 12), draw=0), grid(CHAIN, 50)

    def drawn() -> Tensor:
        *_, last = trajectory(EXACT, x, levels, solver, noise, CHAIN.interpolated().inverse)
        return last.x

    plain = drawn()
    with half():
        assert torch.equal(drawn(), plain)


def test_nor_do_adaptive_steps_frames_and_likelihoods() -> None:
    x = NoiseSource(range(3)).normal(torch.empty(3, 12), draw=0)

    def turned(x: Tensor, level: NoiseLevel) -> Estimate:
        return EXACT(x @ TURN, level)

    def numbers() -> list[Tensor]:
        once = Adaptive(tolerance=1e-2)
        back = FRAME.restore(FRAME.project(x, torch.tensor(1.0)), x, torch.tensor(1.0))
        exact = flow_log_prob(turned, x, CHAIN, tolerance=1e-1).log_prob
        return [once.sample(turned, x, CHAIN)[0], once.invert(turned, TEN[:3], CHAIN)[0], back, exact]

    plain = numbers()
    with half():
        for one, other in zip(numbers(), plain, strict=True):
            assert torch.equal(one, other)


class Told(nn.Module):
    """A network that keeps what its products were computed in."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.seen = nn.Linear(12, 12), set[torch.dtype]()

    def forward(self, x: Tensor, noise_label: Tensor) -> Tensor:
        answer: Tensor = self.linear(x)
        self.seen.add(answer.dtype)
        return answer


def steps(denoise: Any, rows: int = 3) -> Iterator[Step]:
    noise = NoiseSource(range(rows))
    return trajectory(denoise, noise.normal(torch.empty(rows, 12), draw=0), grid(CHAIN, 3), Turned(), noise)


def test_networks_go_back_into_it() -> None:
    denoiser = Denoiser(Told(), CHAIN)
    with half():
        *_, last = steps(denoiser)
    assert denoiser.network.seen == {torch.bfloat16}
    assert last.estimate.value.dtype == torch.float32


def test_a_walk_leaves_the_callers_autocast_on_between_steps() -> None:
    with half():
        for step in steps(Denoiser(Told(), CHAIN)):
            assert (step.x @ TURN).dtype == torch.bfloat16
        with arithmetic():
            assert (step.x @ TURN).dtype == torch.float32
        assert torch.is_autocast_enabled("cpu")
    assert not torch.is_autocast_enabled("cpu")


def test_a_networks_own_precision_comes_first() -> None:
    denoiser = Denoiser(Told(), CHAIN, precision="bf16")
    list(steps(denoiser))
    with torch.autocast("cpu", torch.float16):
        *_, last = steps(denoiser)
    assert denoiser.network.seen == {torch.bfloat16}
    assert last.x.dtype == last.estimate.value.dtype == torch.float32
    told = NoisyClassifier(Told(), precision="bf16")
    assert told(last.x, CHAIN(0.5)).dtype == torch.float32
    assert told.network.seen == {torch.bfloat16}
    with pytest.raises(ValueError, match=r"^precision: expected .*float32, bf16.*, got 'auto'"):
        Denoiser(Told(), CHAIN, precision="auto")  # type: ignore[arg-type]  # it is decided on a device


# Weights held in it.


@each_network
def test_weights_held_in_half_precision_answer_as_cast_ones(make: Any, data: Any) -> None:
    network, x = make(labels=2), data()
    before = copy.deepcopy(weights_of(network))
    module = held(Denoiser(network, CHAIN, precision="bf16"))
    dtypes = {
        type(one): one.weight.dtype for one in module.modules() if isinstance(getattr(one, "weight", None), Tensor)
    }
    assert dtypes[nn.Linear] == torch.bfloat16
    assert {kind for kind, dtype in dtypes.items() if dtype != torch.float32} <= {nn.Linear, nn.Conv2d}
    with half(), torch.no_grad():
        wanted = network(x, NOISE, label=torch.tensor([0, 1, -1]))
        assert torch.equal(module.network(x, NOISE, label=torch.tensor([0, 1, -1])), wanted)
    assert all(torch.equal(weight, before[name]) for name, weight in weights_of(network).items())


def test_only_what_runs_in_half_precision_is_held() -> None:
    plain = Denoiser(Told(), CHAIN)
    assert held(plain) is plain
    assert held(EXACT) is EXACT  # a weaker denoiser need be no module


# What is measured, and taken.


def test_automatic_never_takes_a_slower_one(speed: Any) -> None:
    module = nn.Linear(8, 8)
    for faster, wanted in ((2.1, "bf16: 2.1 times as fast as float32 on this cpu"),
                           (0.11, "float32: bf16 is 9.1 times slower on this cpu"),
                           (1.05, "float32: bf16 is no faster (1.05 times as fast) on this cpu")):  # fmt: skip
        speed(faster)
        assert str(decided("auto", module, "cpu")) == wanted


def test_a_slower_one_that_is_asked_for_is_taken_with_a_warning(speed: Any) -> None:
    speed(0.1)
    with pytest.warns(UserWarning, match=r"^precision: fp16 is 10 times slower than float32 on this cpu; take float32"):
        assert decided("fp16", nn.Linear(8, 8), "cpu").precision == "fp16"
    assert decided("float32", nn.Linear(8, 8), "cpu") == Decision("float32")
    speed(3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert decided("bf16", nn.Linear(8, 8), "cpu").precision == "bf16"


def test_what_a_device_has_is_asked(speed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    speed(2)
    for has, wanted in ((True, "bf16"), (False, "fp16")):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation, has=has: has)
        monkeypatch.setattr(torch.backends.mps, "is_macos_or_newer", lambda major, minor, has=has: has)
        for device in ("cuda", "mps"):
            found = decided("auto", nn.Linear(8, 8), device)
            assert str(found) == f"{wanted}: 2 times as fast as float32 on this {device}"


def test_the_size_of_the_work_is_what_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(precision, "speed_up", lambda *of: asked.append(of) or 1.0)
    network = TINY.fitted(pictures().space, 1, {}).build()
    for module, shape, rows in ((network, (1, 8, 8), 4), (nn.Linear(6, 16), (10, 6), 2), (nn.Linear(6, 16), (6,), 5)):
        decided("auto", module, "cpu", shape, rows)
    assert [of[3:] for of in asked] == [(4 * 64, True), (2 * 10, False), (5, False)]


def test_it_is_measured_once_and_for_good() -> None:
    precision.speed_up.cache_clear()
    first = decided("auto", nn.Linear(8, 8), "cpu")
    assert precision.speed_up.cache_info().currsize == 1
    assert decided("auto", nn.Linear(8, 8), "cpu") == first
    assert precision.speed_up.cache_info().misses == 1
    assert 0 < precision.speed_up(torch.device("cpu"), "bf16", 8, 64, False) < math.inf


# Models.


def test_a_model_runs_in_the_precision_it_is_given(speed: Any) -> None:
    speed(2)
    model = model_of(pictures(), statistics={"label_counts": torch.ones(4)})
    weights = copy.deepcopy(weights_of(model.denoiser))
    asked: Any = {"steps": 4, "label": [0, 1], "guidance": 2.0, "solver": "ddim"}
    plain = model.sample(2, **asked).float()
    with counting(model) as calls:
        rough = model.to(precision="auto").sample(2, **asked).float()
    assert model.precision == "bf16"
    assert "on cpu in bf16" in repr(model)
    assert str(model.took) == "bf16: 2 times as fast as float32 on this cpu"
    assert 0 < (rough - plain).abs().mean() < 3
    assert calls.rows == 2 * 4 * 2
    assert all(torch.equal(weight, weights[name]) for name, weight in weights_of(model.denoiser).items())
    assert torch.equal(model.to(precision="float32").sample(2, **asked).float(), plain)


def test_guides_run_in_their_own(speed: Any) -> None:
    speed(2)
    cpu = torch.device("cpu")
    rough = told_by(cpu)
    rough.precision = "bf16"
    for name, one, other in (
        ("classifier", told_by(cpu), rough),
        ("weaker", on(cpu), on(cpu).to(precision="bf16")),
    ):
        drawn = [
            on(cpu)
            .sample(4, steps=3, label=[0, 1, 2, 3], guidance=Guidance(scale=3.0, **{name: guide}), solver="unipc")
            .float()
            for guide in (one, other)
        ]
        assert 0 < (drawn[0] - drawn[1]).abs().mean() < 5


# Runs.


@pytest.fixture(autouse=True)
def no_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(denoising, "report", lambda *of: None)


HALVED = replace(run().train, steps=4, precision="bf16", checkpoint_every=2, preview_every=9, keep=9)


def started(out: Path, **settings: Any) -> list[str]:
    said: list[str] = []
    assert runs.start(run(train=replace(HALVED, **settings)), out, data=DATA, say=said.append)
    return said


def same(one: Path, other: Path) -> None:
    for name in ("weights", "ema", "optimizer"):
        a, b = (load_tensors(out / "checkpoints" / "step-00000004", name) for out in (one, other))
        assert a.keys() == b.keys()
        assert all(torch.equal(a[key], b[key]) for key in a)


def test_a_run_keeps_what_was_taken_and_resumes_in_it(speed: Any, tmp_path: Path) -> None:
    speed(2)
    said = started(tmp_path / "whole", precision="auto")
    assert any(line.split("  ")[-1] == "bf16: 2 times as fast as float32 on this cpu" for line in said)
    assert tomllib.loads((tmp_path / "whole" / "run.toml").read_text())["train"]["precision"] == "bf16"
    started(tmp_path / "half", precision="auto", steps=2)
    speed(0.5)  # as on a busy day
    with pytest.warns(UserWarning, match="2 times slower"):
        assert runs.resume(["train.steps=4", "train.precision=auto"], tmp_path / "half", data=DATA, say=lambda _: None)
    same(tmp_path / "whole", tmp_path / "half")


def test_previews_are_drawn_in_it_and_numbers_are_not(speed: Any, tmp_path: Path) -> None:
    speed(2)
    of = run(train=HALVED)
    task = of.made(DATA, "cpu")
    assert task.model.precision == "bf16"
    for _ in train(task, of.train):
        pass
    task.finish()
    assert task.model.precision == "bf16"
    exact = probe(task.model.to(precision="float32"), DATA)
    assert torch.equal(task.statistics["x0_error"], exact)


def test_what_has_no_precision_is_refused(speed: Any) -> None:
    speed(2)
    with pytest.raises(ValueError, match=r"^precision: Linear runs in float32 alone, got bf16; leave it out$"):
        State(nn.Linear(2, 3), HALVED, Classify())


# Loss scaling.


@pytest.mark.filterwarnings("ignore:precision")
def test_fp16_resumes_bit_equal_with_its_scale(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    grow = torch.amp.GradScaler
    monkeypatch.setattr(torch.amp, "GradScaler", lambda *of, **how: grow(*of, **how, growth_interval=1, init_scale=2.0))
    started(tmp_path / "whole", precision="fp16")
    started(tmp_path / "half", precision="fp16", steps=2)
    assert runs.resume(["train.steps=4"], tmp_path / "half", data=DATA, say=lambda _: None)
    same(tmp_path / "whole", tmp_path / "half")
    states = [
        (tmp_path / name / "checkpoints" / "step-00000004" / "state.json").read_text() for name in ("whole", "half")
    ]
    assert states[0] == states[1]
    assert '"scale": 32.0' in states[0]
    losses = [record["loss"] for record in read_log(tmp_path / "whole" / "log.jsonl")]
    assert losses[0] == pytest.approx(1, abs=0.2)  # not times the scale


class Precise(nn.Module):
    """A classifier that says in which precision it runs."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.precision = classifier(), "float32"

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.float16, enabled=self.precision == "fp16"):
            return self.linear(x).float()  # type: ignore[no-any-return]


@pytest.mark.filterwarnings("ignore:precision")
def test_a_step_that_overflows_is_skipped_and_counted(tmp_path: Path) -> None:
    of = TrainConfig(steps=20, batch=10, learning_rate=0.1, warmup=0, ema=0.5, precision="fp16")
    state = State(Precise(), of, Classify())
    state.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**24)
    before, scales = copy.deepcopy(state.module.state_dict()), []
    task = Single(state, clusters(of))
    for record in train(task, of):
        scales.append(state.scaler.get_scale())
        if record.gradient_norm is None:
            assert all(torch.equal(value, before[name]) for name, value in state.module.state_dict().items())
    assert record.skipped == 20 - state.updates
    assert 0 < record.skipped < 15
    assert scales[record.skipped] == 2.0 ** (24 - record.skipped)
    assert record.loss < math.log(3) / 2


@pytest.mark.filterwarnings("ignore:precision")
def test_a_gradient_that_overflows_at_no_scale_is_the_end() -> None:
    of = TrainConfig(steps=30, batch=10, precision="fp16")

    class Wrong(Classify):
        def __call__(self, *given: Any) -> Any:
            self.step = 0
            return super().__call__(*given)

    state = State(Precise(), of, Wrong(wrong=1))
    with pytest.raises(Diverged, match=r"^step 17: .* the norm of its gradient nan"):
        list(train(Single(state, clusters(of)), of))
    assert state.updates == 0


@pytest.mark.parametrize("name", ["mps:0", "xpu"])
def test_a_loss_is_scaled_on_a_device(speed: Any, name: str) -> None:
    """Which computes here in float32, whatever autocast says: scaling alone changes no loss."""
    speed(2)

    def losses(device: torch.device, asked: Any) -> list[float]:
        of = run(train=replace(HALVED, precision=asked))
        return [record.loss for record in train(of.made(DATA, device), of.train)]

    wanted = losses(torch.device("cpu"), "float32")
    with StandIn(name, float64=name == "xpu") as device:
        for asked in ("fp16", "bf16"):
            assert losses(device, asked) == pytest.approx(wanted, rel=1e-3)


# The command line.


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("trained") / "run"
    settings = [
        "model.network.width=8",
        "model.network.groups=4",
        "schedule=CosineBetas",
        "schedule.steps=4",
        "data.labels=[1,2]",
    ]
    unsteep.train("digits", out=out, settings=settings, steps=1, batch=8, say=lambda _: None)
    return out


def test_the_command_line_says_what_it_took(speed: Any, trained: Path, tmp_path: Path) -> None:
    speed(2)
    asked = ("sample", trained, "-n", 2, "--steps", 2, "--out", tmp_path / "two.png")
    assert "precision" not in made(*asked)
    assert "precision  bf16: 2 times as fast as float32 on this cpu\n" in made(*asked, "--precision", "auto")
    speed(0.5)
    assert "precision  float32: bf16 is 2 times slower on this cpu\n" in made(*asked, "--precision", "auto")
    code, _, err = unsteep_(*asked, "--precision", "fp16")
    assert code == 0
    assert "2 times slower" in err
    assert unsteep_(*asked, "--precision", "fp8")[0] != 0


def test_an_evaluation_says_in_which_precision_it_drew(speed: Any, trained: Path) -> None:
    speed(2)
    model = unsteep.load(trained, precision="bf16")
    assert Drawn(model, 4, 0, "here").facts()["precision"] == "bf16"
    assert "precision" not in Drawn(unsteep.load(trained), 4, 0, "here").facts()
    with pytest.raises(ValueError, match=r"^precision: this model runs in bf16 already"):
        unsteep.evaluate(model, DATA, precision="auto")
