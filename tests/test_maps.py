"""Maps: laws of exact ones on every schedule, what hears the end of a step, and what trains them."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import unsteep
from command_line import made, unsteep_
from unsteep.analytic import GaussianMap
from unsteep.core.chains import CosineBetas, LinearBetas
from unsteep.core.condition import Condition
from unsteep.core.estimate import PREDICTIONS, Estimate, Prediction
from unsteep.core.level import NoiseLevel
from unsteep.core.maps import Maps, share_of_first
from unsteep.core.noise import Draw, NoiseSource
from unsteep.core.schedules import VP, Cosine, Flow, Karras, Schedule
from unsteep.data.batch import Batch
from unsteep.denoiser import Conditioned, Denoiser, estimate
from unsteep.distill.progressive import Progressive
from unsteep.distill.teaching import second_order
from unsteep.guidance import ClassifierFree, Clip, Counted, DynamicThreshold, GuidanceInterval
from unsteep.networks import DiTConfig, MLPConfig, SequenceConfig, SequenceDiTConfig, UNetConfig
from unsteep.networks.wrapping import load_weights
from unsteep.objectives import Shortcut
from unsteep.sampling import DDIM, Adaptive, grid, sample, solver_named
from unsteep.spaces import Pixels
from unsteep.training.run import read_run

SCHEDULES: dict[str, Schedule] = {
    "linear": LinearBetas().interpolated(),
    "zero terminal": LinearBetas(zero_terminal=True).interpolated(),
    "cosine chain": CosineBetas().interpolated(),
    "vp": VP(),
    "cosine": Cosine(),
    "flow": Flow(),
    "karras": Karras(),
}
HEADS = [
    pytest.param(schedule, kind, id=f"{name}-{kind}")
    for name, schedule in SCHEDULES.items()
    for kind in PREDICTIONS
    if schedule.logsnr_min > -torch.inf or kind not in ("eps", "score")
]
MEAN, VARIANCES = torch.tensor([0.3, -0.5, 0.1]).double(), torch.tensor([0.04, 0.5, 2.0]).double()
EXACT = GaussianMap(MEAN, VARIANCES)


def each_schedule(test: Callable[..., None]) -> Callable[..., None]:
    return pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)(test)


def close(a: Tensor, b: Tensor, atol: float = 0.0) -> None:
    torch.testing.assert_close(a, b, rtol=0, atol=atol)


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def falling(schedule: Schedule, n: int, count: int) -> list[NoiseLevel]:
    """Rows of times (n,), each cleaner than the one before; some begin at t = 1, some end clean."""
    drawn = torch.rand(n, count, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    t = drawn.sort(1, descending=True)[0]
    t[0, 0], t[1, -1] = 1.0, 0.0
    return [schedule(one) for one in t.unbind(1)]


class Exact(nn.Module):
    """A network that is the exact map, in a head's kind, times a parameter that is 1."""

    def __init__(self, schedule: Schedule, kind: Prediction) -> None:
        super().__init__()
        self.schedule, self.kind = schedule, kind
        self.factor = nn.Parameter(torch.ones(3, dtype=torch.float64))

    def forward(self, x: Tensor, noise_label: Tensor, *, noise_label_nxt: Tensor | None = None) -> Tensor:
        now = self.schedule(noise_label / 1000)
        nxt = now if noise_label_nxt is None else self.schedule(noise_label_nxt / 1000)
        return EXACT.to(x, now, nxt).as_(self.kind) * self.factor


# Exact maps.


@each_schedule
def test_one_ddim_step_of_the_exact_map_is_the_flow(schedule: Schedule) -> None:
    now, nxt = falling(schedule, 50, 2)
    x = randn(50, 3) * now.scale[:, None]
    close(EXACT.to(x, now, nxt).moved(nxt), EXACT.moved(x, now, nxt), atol=1e-9)
    levels = grid(schedule, 1)
    made_of = DDIM().step(EXACT, x, levels[0], levels[1], NoiseSource(range(50)), None, None)[0]
    close(made_of, EXACT.moved(x, levels[0], levels[1]), atol=1e-9)


@each_schedule
def test_two_steps_make_one(schedule: Schedule) -> None:
    now, mid, nxt = falling(schedule, 50, 3)
    x = randn(50, 3) * now.scale[:, None]
    first = EXACT.to(x, now, mid)
    second = EXACT.to(first.moved(mid), mid, nxt)
    w = share_of_first(now, mid, nxt)[:, None]
    assert bool(((w >= 0) & (w <= 1)).all())
    close(w * first.x0 + (1 - w) * second.x0, EXACT.to(x, now, nxt).x0, atol=1e-9)


@each_schedule
def test_a_step_that_ends_where_it_begins_is_the_plain_estimate(schedule: Schedule) -> None:
    (now,) = falling(schedule, 50, 1)
    now = schedule(now.t.clamp(min=0.01))
    x = randn(50, 3)
    close(EXACT.to(x, now, now).x0, EXACT(x, now).x0, atol=1e-12)
    near = schedule(now.t - 1e-4)
    assert float((EXACT.to(x, now, near).x0 - EXACT(x, now).x0).abs().max()) < 0.01 * float(now.scale.max())


# What passes the end of a step on.


class Heard:
    """A denoiser and a map that say which of the two was asked."""

    def __call__(self, x_t: Tensor, level: NoiseLevel, condition: Condition | None = None) -> Estimate:
        return Estimate("x0", torch.full_like(x_t, 0.25), x_t, level)

    def to(self, x_t: Tensor, level: NoiseLevel, nxt: NoiseLevel, condition: Condition | None = None) -> Estimate:
        return Estimate("x0", torch.full_like(x_t, 3.0), x_t, level)


def test_wrappers_pass_a_map_on_and_mixtures_do_not() -> None:
    x, levels, condition = randn(2, 3), grid(Cosine(), 4), Condition(label=torch.tensor([0, 1]))
    now, nxt = levels[1], levels[2]

    def said(denoise: Any) -> float:
        return float(estimate(denoise, x, now, nxt).x0[0, 0])

    bound = Conditioned(Heard(), condition)
    counted = Counted(Heard())
    guided = ClassifierFree(Heard(), condition, 2.0)
    assert said(bound) == said(counted) == said(Conditioned(counted, condition)) == 3.0
    assert counted.rows == 4
    assert said(Clip(bound)) == 1.0
    assert said(DynamicThreshold(bound)) == 1.0
    assert said(GuidanceInterval(guided, 0.0, 0.1, bound)) == 3.0
    assert said(guided) == said(GuidanceInterval(guided, 0.0, 1.0, bound)) == 0.25
    assert said(Heard().__call__) == 0.25


def test_only_ddim_without_noise_asks_for_a_map() -> None:
    x, levels, noise = randn(2, 3), grid(Cosine(), 4), NoiseSource(range(2))

    def made_by(solver: Any) -> Tensor:
        return sample(Heard(), x, levels, solver, noise, Cosine().inverse)

    close(made_by(DDIM()), torch.full_like(x, 3.0), atol=1e-12)
    for solver in (DDIM(eta=1.0), solver_named("heun"), solver_named("dpmpp-2m"), solver_named("ancestral")):
        close(made_by(solver), torch.full_like(x, 0.25), atol=1e-12)


# Networks.

NETWORKS = {
    "unet": (UNetConfig(channels=1, size=8, width=8, multipliers=(1, 2), blocks=1, attention=(), nxt=True), (1, 8, 8)),
    "modulated": (
        UNetConfig(channels=1, size=8, width=8, multipliers=(1,), blocks=1, attention=(), block="modulated", nxt=True),
        (1, 8, 8),
    ),
    "dit": (DiTConfig(channels=1, size=8, width=16, depth=2, heads=2, nxt=True), (1, 8, 8)),
    "mlp": (MLPConfig(features=5, width=16, depth=2, nxt=True), (5,)),
    "sequence": (SequenceConfig(features=3, width=16, depth=2, heads=2, nxt=True), (6, 3)),
    "sequence-dit": (SequenceDiTConfig(features=3, width=16, depth=2, heads=2, nxt=True), (6, 3)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_hears_the_end_of_a_step_once_it_has_learned_to(name: str) -> None:
    """At first it answers as the network that it was started from, bit for bit, wherever the step ends."""
    config, shape = NETWORKS[name]
    torch.manual_seed(0)
    teacher = Denoiser(replace(config, nxt=False).build(), Cosine(), "v")
    for p in teacher.parameters():
        nn.init.normal_(p, std=0.3)
    student = Denoiser(config.build(), Cosine(), "v", maps=True)
    load_weights(student, teacher.state_dict(), anew=("nxt_embedding.",))
    x, now, nxt = randn(4, *shape).float(), Cosine()(torch.tensor(0.7).double()), Cosine()(torch.tensor(0.2).double())
    plain = teacher(x, now).value
    assert torch.equal(student(x, now).value, plain)
    assert torch.equal(student(x, now, nxt=nxt).value, plain)
    nn.init.normal_(student.network.nxt_embedding.linear_2.weight, std=0.3)
    heard = [student(x, now, nxt=end).value for end in (nxt, now)]
    assert float((heard[0] - heard[1]).detach().abs().max()) > 1e-3
    assert torch.equal(heard[1], student(x, now).value)
    with pytest.raises(ValueError, match="does not hear where a step ends"):
        teacher(x, now, nxt=nxt)
    with pytest.raises(ValueError, match="noise_label_nxt: this network has nxt=false"):
        teacher.network(x, torch.zeros(4), noise_label_nxt=torch.zeros(4))


@pytest.mark.parametrize("how", [{"prediction": "mean"}, {"learn_variance": True}])
def test_what_cannot_be_a_map(how: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"a posterior mean and a learned variance are of one step of a chain"):
        Denoiser(nn.Identity(), LinearBetas(), maps=True, **how)


# Shortcut.


class OnlyLong(Draw):
    """A step whose examples all train long steps."""

    def uniform(self, purpose: Any) -> Tensor:
        u = super().uniform(purpose)
        return u * 0.2 if purpose.name == "PART" else u


@pytest.mark.parametrize(("schedule", "kind"), HEADS)
def test_long_steps_teach_the_exact_map_nothing(schedule: Schedule, kind: Prediction) -> None:
    denoiser = Denoiser(Exact(schedule, kind), schedule, kind, noise_label="time", maps=True)
    b = 200
    x = MEAN + VARIANCES.sqrt() * randn(b, 3)
    loss = Shortcut(share=0.5)(denoiser, Batch(x, None, torch.arange(b)), OnlyLong(0, 0, torch.arange(b), b))
    assert float(loss.value.detach().max()) < 1e-10
    assert bool((loss.terms["simple"] == 0).all())
    loss.value.mean().backward()
    assert float(denoiser.network.factor.grad.abs().max()) < 1e-9
    spoiled = Denoiser(Exact(schedule, kind), schedule, kind, noise_label="time", maps=True)
    with torch.no_grad():
        spoiled.network.factor.mul_(torch.tensor([1.1, 1.0, 1.0]))
    wrong = Shortcut(share=0.5)(spoiled, Batch(x, None, torch.arange(b)), OnlyLong(0, 0, torch.arange(b), b))
    assert float(wrong.value.detach().mean()) > 1e-6


@pytest.mark.parametrize("kind", ["x0", "v", "flow"])
def test_what_data_teach_the_exact_map_is_nothing_on_average(kind: Prediction) -> None:
    denoiser = Denoiser(Exact(Flow(), kind), Flow(), kind, maps=True)
    b = 20_000
    x = MEAN + VARIANCES.sqrt() * randn(b, 3, seed=2)
    factor = torch.ones(b, 3, dtype=torch.float64, requires_grad=True)
    denoiser.network.factor = nn.Parameter(factor)
    loss = Shortcut(share=1e-9)(denoiser, Batch(x, None, torch.arange(b)), Draw(0, 0, torch.arange(b), b))
    loss.value.sum().backward()
    gradient = denoiser.network.factor.grad
    error = gradient.std(0) / b**0.5
    assert bool((gradient.mean(0).abs() < 4 * error).all())
    assert bool((loss.terms["shortcut"] == 0).all())


def test_a_chain_coarser_than_its_grids_is_no_nan() -> None:
    """Several of their levels are then one step of the chain."""
    torch.manual_seed(0)
    denoiser = Denoiser(NETWORKS["mlp"][0].build(), CosineBetas(steps=5), "v", maps=True)
    loss = Shortcut(share=0.9)(
        denoiser, Batch(randn(64, 5).float(), None, torch.arange(64)), OnlyLong(0, 0, torch.arange(64), 64)
    )
    assert bool(loss.value.isfinite().all())
    with pytest.raises(ValueError, match=r"objective.finest: the chain has 5 steps, got 64"):
        Progressive().fitted(Pixels(channels=1, height=8, width=8), denoiser)


def test_its_steps_are_those_of_even_grids() -> None:
    of = Shortcut(finest=8)
    begins, length = of._steps(Draw(0, 0, torch.arange(4000), 4000))
    assert set(length.tolist()) == {1.0, 0.5, 0.25}
    for one in (1.0, 0.5, 0.25):
        places = begins[length == one] / one
        close(places, places.round())
        counts = torch.bincount(places.long())[1:]
        assert len(counts) == round(1 / one)
        assert bool((counts > 0.8 * 4000 / 3 * one).all())
    assert float(begins.min()) >= 0.25
    assert float((begins - length).min()) == 0


def test_its_parts_are_those_of_the_whole() -> None:
    """A batch in parts, or its examples one by one."""
    torch.manual_seed(0)
    denoiser = Denoiser(NETWORKS["mlp"][0].build(), Cosine(), "v", maps=True)
    for p in denoiser.parameters():
        nn.init.normal_(p, std=0.3)
    x = randn(16, 5).float()
    whole = Shortcut(share=0.5)(denoiser, Batch(x, None, torch.arange(16)), Draw(0, 3, torch.arange(16), 16))
    for rows in torch.arange(16).split(3):
        part = Shortcut(share=0.5)(denoiser, Batch(x[rows], None, rows), Draw(0, 3, rows, 16))
        close(part.value, whole.value[rows], atol=1e-5)
        assert torch.equal(part.t, whole.t[rows])
    assert bool((whole.terms["shortcut"] > 0).any())
    close(whole.terms["simple"] + whole.terms["shortcut"], whole.value, atol=1e-6)


@pytest.mark.parametrize("fields", [{"share": 0.0}, {"share": 1.0}, {"finest": 3}, {"finest": 1}, {"calls": 0}])
def test_what_is_no_shortcut(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(fields))):
        Shortcut(**fields)


def test_what_is_no_map() -> None:
    with pytest.raises(ValueError, match="calls"):
        Maps(calls=0)


# Progressive distillation.


def on_a_grid(schedule: Schedule) -> Denoiser:
    return Denoiser(Exact(schedule, "v"), schedule, "v", noise_label="time", maps=True)


@pytest.mark.parametrize("turn", [1, 2, 3])
@each_schedule
def test_an_exact_teacher_teaches_the_exact_map_nothing(schedule: Schedule, turn: int) -> None:
    """From the second turn on, when it is a map itself."""
    denoiser, b = on_a_grid(schedule), 100
    x = MEAN + VARIANCES.sqrt() * randn(b, 3)
    of = Progressive(finest=16, calls=1, each=10)
    loss = of(denoiser, Batch(x, None, torch.arange(b)), Draw(0, 10 * turn, torch.arange(b), b))
    assert float(loss.value.detach().max()) < 1e-9
    assert list(loss.terms) == [f"of {8 >> turn} steps"]
    loss.value.mean().backward()
    assert float(denoiser.network.factor.grad.abs().max()) < 1e-8


@pytest.mark.parametrize("name", ["cosine", "vp", "flow"])
def test_the_first_teacher_steps_with_second_order(name: str) -> None:
    """Twice as many steps, a quarter of the error: DDIM's is halved."""
    schedule, b = SCHEDULES[name], 100
    errors, first = [], []
    for n in (20, 40):
        t = torch.linspace(0.15, 0.9, b, dtype=torch.float64)
        now, nxt = schedule(t), schedule(t - 1 / n)
        x = MEAN + randn(b, 3)
        errors.append(second_order(EXACT, x, now, nxt, schedule).moved(nxt) - EXACT.moved(x, now, nxt))
        first.append(EXACT(x, now).moved(nxt) - EXACT.moved(x, now, nxt))
    local = float(errors[0].abs().median() / errors[1].abs().median())
    assert 7 < local < 9  # of one step: third order
    assert 3.5 < float(first[0].abs().median() / first[1].abs().median()) < 4.5


def test_a_turn_begins_with_what_the_student_is() -> None:
    torch.manual_seed(0)
    denoiser = Denoiser(NETWORKS["mlp"][0].build(), Cosine(), "v", maps=True)
    for p in denoiser.parameters():
        nn.init.normal_(p, std=0.3)
    x, of = randn(8, 5).float(), Progressive(finest=8, calls=2, each=3)

    def at(step: int, objective: Progressive) -> Tensor:
        return objective(denoiser, Batch(x, None, torch.arange(8)), Draw(0, step, torch.arange(8), 8)).value.detach()

    first = at(0, of)
    kept = {name: one.clone() for name, one in of.state_dict().items()}
    with torch.no_grad():
        denoiser.network.leave.weight.add_(0.1)
    assert not torch.equal(at(0, of), first)
    other = Progressive(finest=8, calls=2, each=3)
    other.load_state_dict(kept)
    assert torch.equal(at(1, other), at(1, of))  # the teacher is the one that the turn began with
    assert torch.equal(at(3, other), at(3, of))
    assert int(of.state_dict()["turn"]) == 1
    assert torch.equal(of.state_dict()["teacher.network.leave.weight"], denoiser.network.leave.weight)
    at(30, of)
    assert int(of.state_dict()["turn"]) == 1  # the last


@pytest.mark.parametrize("fields", [{"finest": 12, "calls": 4}, {"calls": 0}, {"each": 0}, {"finest": 4, "calls": 4}])
def test_what_is_no_halving(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"finest|each|calls"):
        Progressive(**fields)


# Runs.

TINY = ("model.network.width=8", "train.batch=8", "train.warmup=2", "train.report=false", "data.limit=60")


def test_a_run_learns_a_map_and_is_sampled_in_its_own_number_of_calls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    sets = [word for one in (*TINY, "train.steps=6") for word in ("--set", one)]
    made("train", "digits", *sets, "--out", "flow")
    teacher = unsteep.load("flow", device="cpu")
    more = [
        word
        for one in (*TINY[1:], "train.steps=4", "objective=Shortcut", "objective.calls=2")
        for word in ("--set", one)
    ]
    made("train", "digits", *more, "--start-from", "flow", "--out", "map")
    student = unsteep.load("map", device="cpu")
    assert student.description.maps == Maps(calls=2, grids=(1, 2, 4, 8, 16, 32, 64, 128))
    assert (student.default_steps, student.resolved(None)) == (2, DDIM())
    assert student.description.model.network == replace(teacher.description.model.network, nxt=True)
    pictures = student.sample(3)
    assert torch.equal(pictures, student.sample(3, steps=2, solver="ddim"))
    assert not torch.equal(pictures, student.sample(3, steps=4))
    made("sample", "map", "-n", 2, "--out", "s.npz")
    made("train", "--resume", "--out", "map", "--set", "train.steps=6")
    said = made("show", "map")
    assert "a map for 2 calls" in said
    other = ("--start-from", "flow", "--out", "x", "--set", "objective.finest=5")
    code, _, err = unsteep_("train", "digits", *more, *other)
    assert (code, err.count("\n"), "power of two" in err) == (2, 1, True)


def test_adaptive_steps_take_the_plain_estimate() -> None:
    noise = NoiseSource(range(2))
    steps = list(Adaptive().walk(Heard(), randn(2, 3), Cosine(), noise))
    close(steps[-1].x, torch.full((2, 3), 0.25).double(), atol=1e-6)


def test_a_student_of_progressive_distillation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trained, resumed to the same bits, sampled; and refused what rests on plain estimates."""
    monkeypatch.chdir(tmp_path)
    sets = [word for one in (*TINY, "train.steps=4") for word in ("--set", one)]
    made("train", "digits", *sets, "--out", "flow")
    own = ("objective=Progressive", "objective.calls=2", "objective.finest=8", "objective.each=3")

    def student(steps: int) -> list[str]:
        return [word for one in (*TINY[1:], *own, f"train.steps={steps}") for word in ("--set", one)]

    every = ("--set", "train.checkpoint_every=5")
    made("train", "digits", *student(8), *every, "--start-from", "flow", "--out", "whole", "--set", "train.report=true")
    assert "steps of its map" in Path("whole/report.html").read_text()
    shutil.copytree("whole", "parts")
    shutil.rmtree("parts/checkpoints/step-00000008")
    shutil.rmtree("flow")  # the teacher is kept by the student
    made("train", "--resume", "--out", "parts")
    one, other = (unsteep.load(name, device="cpu") for name in ("whole", "parts"))
    pictures = one.sample(3)
    assert torch.equal(pictures, other.sample(3))
    assert one.description.maps == Maps(calls=2, grids=(2,), diagonal=False)
    with pytest.warns(UserWarning, match="this map was trained for 2 calls, and with 4 it guesses"):
        one.sample(2, steps=4)
    for asked in ({"solver": "heun"}, {"guidance": 2.0, "label": 3}, {"solver": DDIM(eta=0.5)}):
        with pytest.raises(ValueError, match="this model is a map for 2 calls by ddim"):
            one.sample(2, **asked)
    for command in (
        ("likelihood", "whole", "-n", 2),
        ("sample", "whole", "-n", 2, "--solver", "unipc", "--out", "x.png"),
        ("tune-grid", "whole", "--steps", 3),
    ):
        code, _, err = unsteep_(*command)
        assert (code, err.count("\n"), "a map for 2 calls" in err) == (2, 1, True), err
    code, _, err = unsteep_("train", "digits", *student(4), "--out", "alone")
    assert (code, err.count("\n"), "--start-from" in err) == (2, 1, True), err


def test_distilling_is_one_command_and_one_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    sets = [word for one in (*TINY, "train.steps=9") for word in ("--set", one)]
    made("train", "digits", *sets, "--out", "flow")
    said = made("distill", "flow", "--method", "shortcut", "--steps", 2)
    assert "starts from  flow" in said
    student = unsteep.load("flow-2", device="cpu")
    assert (student.default_steps, student.description.plain) == (2, True)
    run = read_run(Path("flow-2"))
    assert (run.train.steps, run.objective, run.data.limit) == (7, Shortcut(calls=2), 60)
    how: Any = {"method": "progressive", "steps": 1, "guidance": 2.0, "say": lambda _: None}
    alone = unsteep.train_student("flow", out="one", **how)
    assert alone.description.maps == Maps(calls=1, grids=(1,), diagonal=False)
    objective = read_run(Path("one")).objective
    assert (objective.finest, objective.each, objective.guidance) == (16, 1, 2.0)
    assert alone.sample(2, label=3).shape == (2, 1, 8, 8)
    for words, expected in (
        (
            ("distill", "flow", "--method", "shortcut", "--guidance", 2, "--out", "x"),
            "--guidance: a shortcut learns from data",
        ),
        (("distill", "one", "--method", "progressive", "--out", "x"), "a map for 1 call by"),
        (("distill", "nowhere", "--out", "x"), "nowhere is not a run"),
        (("distill", "flow", "--steps", 0, "--out", "x"), "--steps: expected"),
        (("distill", "flow", "--steps", 2), "holds a run already"),
    ):
        code, _, err = unsteep_(*words)
        assert (code, err.count("\n"), expected in err) == (2, 1, True), err
    assert not Path("x").exists()
