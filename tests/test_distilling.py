"""What students learn from: exact maps plugged in have nothing to learn, on every schedule, by every method."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import unsteep
from command_line import made, unsteep_
from every_verb import small_features
from test_maps import EXACT, MEAN, NETWORKS, SCHEDULES, VARIANCES, Exact, close, each_schedule, randn
from unsteep.core.condition import SCALE, Condition
from unsteep.core.estimate import Estimate, Prediction
from unsteep.core.level import NoiseLevel
from unsteep.core.maps import Maps
from unsteep.core.noise import Draw
from unsteep.core.protocols import Rows
from unsteep.core.schedules import Cosine, Flow, Schedule
from unsteep.data.batch import Batch
from unsteep.denoiser import Conditioned, Denoiser
from unsteep.distill import Consistency, DistributionMatching, FlowMap, MeanFlow, Progressive, consistency
from unsteep.distill.laws import errors
from unsteep.distill.matching import Samples
from unsteep.distill.teaching import asked, second_order
from unsteep.guidance import ClassifierFree
from unsteep.hearing import Scale
from unsteep.model.cost import counting

B = 64
TAUGHT: dict[str, Any] = {
    "flow-map": FlowMap(diagonal=0.2),
    "meanflow": MeanFlow(diagonal=0.2),
    "consistency": Consistency(calls=2, coarsest=4, finest=4),
    "dmd": DistributionMatching(calls=2),
}


def batch(b: int = B, seed: int = 0) -> tuple[Batch, Draw]:
    x = MEAN + VARIANCES.sqrt() * randn(b, 3, seed=seed)
    return Batch(x, None, torch.arange(b)), Draw(seed, 0, torch.arange(b), b)


def exactly(denoise: Any, x: Tensor, now: NoiseLevel, nxt: NoiseLevel, schedule: Schedule) -> Estimate:
    return EXACT.to(x, now, nxt)


def exact(schedule: Schedule, kind: Prediction = "v") -> Denoiser:
    return Denoiser(Exact(schedule, kind), schedule, kind, noise_label="time", maps=True)


def ready(objective: Any, denoiser: Denoiser) -> Any:
    """A copy of it that has met an exact second denoiser, where it has one, and its teacher."""
    objective = replace(objective)
    if hasattr(objective, "meets"):
        objective.meets({"fake": exact(denoiser.schedule)})
    objective.teacher(denoiser)
    return objective


@pytest.mark.parametrize("name", TAUGHT)
@each_schedule
def test_an_exact_teacher_teaches_the_exact_map_nothing(
    name: str, schedule: Schedule, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consistency, "second_order", exactly)  # the teacher's own step is not exact
    denoiser = exact(schedule)
    objective = ready(TAUGHT[name], denoiser)
    given, draw = batch()

    def gradient() -> float:
        denoiser.zero_grad()
        objective(denoiser, given, draw).value.mean().backward()
        return float(denoiser.network.factor.grad.abs().max())

    assert gradient() < 1e-10
    with torch.no_grad():
        denoiser.network.factor.mul_(torch.tensor([1.1, 1.0, 1.0]))
    assert gradient() > 1e-5 or name == "dmd"  # whose second denoiser has not seen it


@pytest.mark.parametrize("kind", ["x0", "flow"])
def test_nor_to_a_head_of_another_kind(kind: Prediction, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consistency, "second_order", exactly)
    for objective in TAUGHT.values():
        denoiser = exact(Flow(), kind)
        ready(objective, denoiser)(denoiser, *batch()).value.mean().backward()
        assert float(denoiser.network.factor.grad.abs().max()) < 1e-10


def gradients(objective: Any, schedule: Schedule, given: Batch, draw: Draw) -> Tensor:
    """Of each example's loss, (b, 3)."""
    denoiser = exact(schedule)
    factor = nn.Parameter(torch.ones(len(given.x), 3, dtype=torch.float64))
    denoiser.network.factor = factor

    class OfRows(nn.Module):  # what takes rows of a batch takes those of the factor
        schedule, kind = denoiser.schedule, "v"

        def forward(self, x: Tensor, noise_label: Tensor, *, noise_label_nxt: Tensor | None = None) -> Tensor:
            now = self.schedule(noise_label / 1000)
            nxt = now if noise_label_nxt is None else self.schedule(noise_label_nxt / 1000)
            return EXACT.to(x, now, nxt).as_("v") * factor

    denoiser.network = OfRows()
    objective(denoiser, given, draw).value.sum().backward()
    assert factor.grad is not None
    return factor.grad


@pytest.mark.parametrize("name", ["flow", "cosine", "linear", "zero terminal", "karras"])
def test_mean_flow_of_data_teaches_the_exact_map_nothing_on_average(name: str) -> None:
    objective = MeanFlow(learns="data", diagonal=0.0, power=0.0)
    found = gradients(objective, SCHEDULES[name], *batch(20_000, seed=3))
    error = found.std(0) / len(found) ** 0.5
    assert bool((found.mean(0).abs() < 4 * error).all())
    assert bool((error > 0).all())


@pytest.mark.parametrize("gaps", [2, 64])
def test_consistency_of_data_is_off_by_what_its_gap_says(gaps: int) -> None:
    """On average by where DDIM's step to the end of the gap leads, of data that are Gaussian."""
    given, draw = batch(20_000, seed=4)
    objective = Consistency(learns="data", calls=1, coarsest=gaps, finest=gaps)
    found = gradients(objective, Flow(), given, draw)
    t = draw.uniform(0).clamp(min=1e-6)
    now, mid, end = (Flow()(one) for one in (t, (t - 1 / gaps).clamp(min=0), 0 * t))
    x_t = now.like(given.x).alpha * given.x + now.like(given.x).sigma * draw.normal(given.x, 1)
    exact_x0 = EXACT.to(x_t, now, end)
    there = EXACT(x_t, now).moved(mid)
    clean = mid.sigma == 0
    later = torch.where(clean[:, None], there, EXACT.to(there, Flow()(torch.where(clean, t, mid.t)), end).x0)
    aim = exact_x0.replace_x0(later).as_("v")
    expected = 2 * exact_x0.as_("v") * (exact_x0.as_("v") - aim) / 3
    apart = found - expected
    assert bool((apart.mean(0).abs() < 4 * apart.std(0) / len(apart) ** 0.5).all())
    biased = bool((found.mean(0).abs() > 4 * found.std(0) / len(found) ** 0.5).any())
    assert biased == (gaps == 2)


def test_that_falls_with_the_square_of_the_gap() -> None:
    t, x = torch.full((50,), 0.6).double(), randn(50, 3)
    biases = []
    for gaps in (2, 4, 8, 16, 32, 64, 128):
        now, mid, end = Flow()(t), Flow()(t - t / gaps), Flow()(0 * t)
        off = EXACT.to(EXACT(x, now).moved(mid), mid, end).x0 - EXACT.to(x, now, end).x0
        biases.append(float(off.square().mean().sqrt()))
    ratios = [a / b for a, b in pairwise(biases)]
    assert all(3 < one < 5.5 for one in ratios)
    assert all(3.9 < one < 4.1 for one in ratios[-2:])


def test_a_teacher_s_step_is_off_by_the_cube() -> None:
    t, x = torch.full((50,), 0.6).double(), randn(50, 3)
    errors = []
    for gaps in (16, 32, 64):
        now, mid = Flow()(t), Flow()(t - t / gaps)
        errors.append(float((second_order(EXACT, x, now, mid, Flow()).moved(mid) - EXACT.moved(x, now, mid)).norm()))
    assert all(7 < a / b < 9 for a, b in pairwise(errors))


def test_gaps_shrink_and_turns_go_round() -> None:
    of = Consistency(coarsest=4, finest=16, each=10)
    assert [of.gaps(step) for step in (0, 9, 10, 19, 20, 500)] == [4, 4, 8, 8, 16, 16]
    assert [step for step in range(60) if of.begins(step)] == [0, 10, 20]
    assert [DistributionMatching(turns=2).turn(step) for step in range(6)] == ["fake", "fake", "model"] * 2
    assert Consistency.suited(2, 400, None).each == 100
    assert MeanFlow(learns="data").starts is False
    assert FlowMap().maps.diagonal
    assert Consistency(calls=2).maps == Maps(calls=2, grids=(2,), diagonal=False)


def test_what_is_made_by_another_is_pushed_towards_the_teacher() -> None:
    """The second denoiser knows that the student makes what is shifted: its samples are moved back."""
    denoiser = exact(Cosine())
    of = replace(DistributionMatching())
    shift = torch.tensor([0.5, 0.0, -0.5]).double()

    class Shifted(nn.Module):
        def forward(self, x: Tensor, level: NoiseLevel, condition: Any = None) -> Estimate:
            told = EXACT(x, level)
            return told.replace_x0(told.x0 + shift)

    of.meets({"fake": Shifted()})
    moved: list[Tensor] = []

    class Watched(Exact):
        def forward(self, x: Tensor, noise_label: Tensor, **how: Any) -> Tensor:
            said = super().forward(x, noise_label, **how)
            if said.requires_grad:
                said.register_hook(moved.append)
            return said

    denoiser.network = Watched(Cosine(), "x0")
    denoiser.prediction = "x0"
    of(denoiser, *batch()).value.sum().backward()
    down = -moved[0]
    assert bool((down[:, 0] < 0).all())
    assert bool((down[:, 2] > 0).all())
    assert float(down[:, 1].abs().max()) < 1e-12


def test_the_second_denoiser_learns_what_the_student_makes() -> None:
    student, fake = exact(Cosine()), exact(Cosine())
    of = Samples(calls=1)
    of.meets({"model": student})
    given, draw = batch(5000)
    loss = of(fake, Batch(torch.full_like(given.x, torch.nan), None, given.index), draw).value
    assert bool(loss.isfinite().all())  # of the data it hears conditions and shapes alone
    loss.mean().backward()
    assert student.network.factor.grad is None
    error = float(fake.network.factor.grad.abs().max())
    assert error < 0.05  # samples of the exact map are the data
    assert student.training


# Guidance.


def labelled(scale: Tensor | None = None) -> Condition:
    named = {"label": torch.tensor([0, 1, 2, -1])} | ({} if scale is None else {SCALE: scale})
    return Condition(named, nulls={"label": torch.tensor([-1]), SCALE: torch.ones(1)})


def hearing(**more: Any) -> Denoiser:
    torch.manual_seed(0)
    denoiser = Denoiser(replace(NETWORKS["mlp"][0], labels=3, **more).build(), Cosine(), "v", maps=True)
    for p in denoiser.parameters():
        nn.init.normal_(p, std=0.3)
    for p in [] if not more else denoiser.network.scale_embedding.linear_2.parameters():
        nn.init.zeros_(p)  # at first it does not hear it
    return denoiser


def test_a_teacher_is_guided_at_the_scale_of_each_example() -> None:
    denoiser, x = hearing(), randn(4, 5).float()
    level = Cosine()(torch.tensor([0.2, 0.5, 0.7, 0.9]))
    scale = torch.tensor([1.0, 2.0, 3.5, 3.0])
    found = asked(denoiser, labelled(scale))(x, level).x0
    for i, one in enumerate(scale.tolist()):
        expected = ClassifierFree(denoiser, labelled(), one)(x, level).x0
        close(found[i], expected[i], atol=1e-5)
    close(asked(denoiser, labelled())(x, level).x0, Conditioned(denoiser, labelled())(x, level).x0)


@pytest.mark.parametrize("objective", [Progressive(), *TAUGHT.values()], ids=["progressive", *TAUGHT])
def test_guidance_is_taught(objective: Any) -> None:
    """Where a scale is heard, the aim is the guided teacher's; where no class is, there is nothing to guide."""
    denoiser = hearing(scale=True)
    x, draw = randn(4, 5).float(), Draw(0, 0, torch.arange(4), 4)

    def of(scale: float) -> Tensor:
        method = replace(objective)
        if hasattr(method, "meets"):
            method.meets({"fake": hearing(scale=True)})
        condition = labelled(torch.full((4,), scale))
        terms = method(denoiser, Batch(x, condition, torch.arange(4)), draw).terms
        return torch.stack(list(terms.values())).sum(0).detach()

    plain, guided = of(1.0), of(3.0)
    if isinstance(objective, DistributionMatching):
        assert float((plain - guided).abs().max()) > 1e-4
    else:
        assert bool((plain[:3] != guided[:3]).all())
    close(plain[3], guided[3], atol=2e-5)


def test_scales_are_drawn_in_training_and_asked_for_by_number() -> None:
    hears = Scale(most=4.0)
    rows, draw = Rows(torch.zeros(2000, 1), index=torch.arange(2000)), Draw(0, 0, torch.arange(2000), 2000)
    drawn = hears.of(rows, draw)[SCALE]
    assert 1 <= float(drawn.min()) < 1.05
    assert 3.95 < float(drawn.max()) <= 4
    assert abs(float(drawn.mean()) - 2.5) < 0.1
    assert torch.equal(hears.of(rows)[SCALE], torch.ones(2000))
    assert torch.equal(hears.asked(None, 2, [0, 1])[SCALE], torch.ones(2))
    assert torch.equal(hears.asked(2, 2, [0, 1])[SCALE], torch.full((2,), 2.0))
    for wrong in (0.5, 4.1):
        with pytest.raises(ValueError, match="taught scales from 1 to 4"):
            hears.asked(wrong, 2, [0, 1])


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_hears_the_scale_once_it_has_learned_to(name: str) -> None:
    config, shape = NETWORKS[name]
    torch.manual_seed(0)
    network = replace(config, scale=True).build()
    for p in network.parameters():
        nn.init.normal_(p, std=0.3)
    x, label = randn(2, *shape).float(), torch.tensor([100.0, 700.0])
    plain = network(x, label)
    close(network(x, label, scale=torch.ones(2)), plain)
    assert float((network(x, label, scale=torch.full((2,), 3.0)) - plain).detach().abs().max()) > 1e-3
    with pytest.raises(ValueError, match="scale: this network has scale=false"):
        config.build()(x, label, scale=torch.ones(2))


# What is none.


@pytest.mark.parametrize(
    ("make", "fields"),
    [
        (FlowMap, {"diagonal": 1.0}),
        (FlowMap, {"calls": 0}),
        (MeanFlow, {"diagonal": -0.1}),
        (MeanFlow, {"learns": "data", "guidance": 2.0}),
        (Consistency, {"finest": 12}),
        (Consistency, {"coarsest": 0}),
        (Consistency, {"each": 0}),
        (Consistency, {"learns": "data", "guidance": 2.0}),
        (DistributionMatching, {"turns": 0}),
        (Progressive, {"guidance": 0.5}),
    ],
)
def test_what_is_no_method(make: Callable[..., Any], fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"^(diagonal|calls|guidance|finest|each|turns)"):
        make(**fields)


# Runs. A student of each method is trained, resumed to the same bits, and sampled at one call a step, guided.

TINY = ("model.network.width=8", "train.batch=8", "train.warmup=2", "train.report=false", "data.limit=60")


def setting(*settings: str) -> list[str]:
    return [word for one in settings for word in ("--set", one)]


@pytest.fixture(scope="module")
def flow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that students start from."""
    folder = tmp_path_factory.mktemp("teacher") / "flow"
    made("train", "digits", *setting(*TINY, "train.steps=6"), "--out", folder)
    return folder


@pytest.mark.parametrize(
    "method",
    [*(pytest.param(one, marks=pytest.mark.long) for one in ("consistency", "meanflow")), "flow-map", "dmd"],
)
def test_a_student_goes_on_where_it_was_stopped_and_is_guided_in_one_call(
    method: str, flow: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    few = (
        "train.steps=8",
        "train.checkpoint_every=5",
        "train.learning_rate=0.02",
        "train.ema=0",
        *(["objective.turns=2"] if method == "dmd" else []),
    )
    said = made("distill", flow, "--method", method, "--steps", 2, "--guidance", 3, "--out", "whole", *setting(*few))
    assert f"starts from  {flow}" in said
    shutil.copytree("whole", "parts")
    shutil.rmtree("parts/checkpoints/step-00000008")
    made("train", "--resume", "--out", "parts")
    one, other = (unsteep.load(name, device="cpu") for name in ("whole", "parts"))
    pictures = one.sample(4, label=3, guidance=2.0)
    assert torch.equal(pictures, other.sample(4, label=3, guidance=2.0))
    assert one.default_steps == 2
    with counting(one) as guided:
        assert not torch.equal(one.sample(4, label=3), pictures)
        assert guided.rows == 8
        one.sample(4, condition=Condition(label=torch.full((4,), 3)), guidance=2.0)
    assert guided.rows == 16
    assert torch.equal(one.sample(4, condition=Condition(label=torch.full((4,), 3)), guidance=2.0), pictures)
    with pytest.raises(ValueError, match="guidance: this model was taught scales from 1 to 3, got 4"):
        one.sample(2, label=3, guidance=4.0)
    made("sample", "whole", "-n", 2, "--label", "all", "--guidance", 2, "--out", "s.npz")
    made("show", "whole")
    if one.description.plain:
        assert one.sample(2, label=1, guidance=2.0, solver="heun", steps=2).shape == (2, 1, 8, 8)
    else:
        code, _, err = unsteep_("sample", "whole", "-n", 2, "--solver", "heun", "--out", "x.npz")
        assert (code, err.count("\n"), "a map for 2 calls by ddim" in err) == (2, 1, True), err


def test_mean_flow_and_consistency_learn_from_data_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("MeanFlow", "Consistency"):
        own = (f"objective={name}", "objective.learns=data", "objective.calls=2", "train.steps=3")
        made("train", "digits", *setting(*TINY, *own), "--out", name)
        assert unsteep.load(name, device="cpu").sample(2).shape == (2, 1, 8, 8)


def test_what_a_student_cannot_be(flow: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    deaf = ("condition.label=false", "train.steps=2")
    made("train", "digits", *setting(*TINY, *deaf), "--out", "deaf")
    made("train", "digits", *setting(*TINY, "condition.drop=0", "train.steps=2"), "--out", "whole")
    np.save("small.npy", np.zeros((30, 4, 4), dtype=np.uint8))
    small = ("train", "array", "--data", "small.npy", "--start-from", "deaf", *setting("objective=FlowMap"))
    for words, expected in (
        ((*small, "--out", "x"), "--start-from: deaf"),
        (("distill", "deaf", "--method", "dmd", "--guidance", 2, "--out", "x"), "hears nothing to be guided by"),
        (("distill", "whole", "--method", "dmd", "--guidance", 2, "--out", "x"), "condition.drop=0.1"),
        (("distill", flow, "--method", "flow-map", "--guidance", 0.5, "--out", "x"), "from 1, got 0.5"),
        (("train", "digits", *setting(*TINY, "objective=FlowMap"), "--out", "x"), "--start-from: FlowMap teaches"),
        (("distill", flow, "--method", "flow-map", "--data", "photos", "--out", "x"), "Digits reads no file"),
        (
            ("distill", flow, "--method", "dmd", "--out", "x", *setting("objective.turns=0")),
            "objective.turns: expected at least 1",
        ),
        (
            ("train", "digits", *setting(*TINY, "schedule.zero_terminal=true", "model.prediction=eps"), "--out", "x"),
            "predict v, x0 or flow",
        ),
    ):
        code, _, err = unsteep_(*words)
        assert (code, err.count("\n"), expected in err) == (2, 1, True), err
    assert not Path("x").exists()


def test_the_study_finds_students_beside_a_run(flow: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(flow, "flow")
    for name, *how in (("a", "--steps", 2, "--method", "shortcut"), ("b", "--steps", 2)):
        made("distill", "flow", *how, "--out", name, *setting("train.steps=2"))
    with small_features():
        said = made("study", "few-steps", "flow", "--calls", 1, 2, "--samples", 10, "--out", "study")
    told = json.loads(Path("study/results.json").read_text())
    names = [row["cell"] for row in told["rows"]]
    teachers = [f"teacher-{name}" for name in ("default", "ddim", "unipc")]
    one, two = ([f"{name}-{calls}" for name in teachers] for calls in (1, 2))
    assert names == [*one, "shortcut-1", *two, "shortcut-2", "consistency-2", "teacher-default-50"]
    assert all(set(row["values"]) >= {"fid", "energy", "recall", "intra-class"} for row in told["rows"])
    assert [round(row["facts"]["network calls"]) for row in told["rows"]][3:8] == [1, 2, 2, 2, 2]
    assert "energy at 2 calls" in said
    page = Path("study/index.html").read_text()
    assert "its end moves with the flow" in page
    for words, expected in (
        (("study", "few-steps", "a", "--out", "x"), "this run has none beside it"),
        (("study", "few-steps", "flow", "--students", "flow", "--out", "x"), "flow is no student"),
        (("study", "solvers", "flow", "--students", "a", "--out", "x"), "only few-steps"),
    ):
        with small_features():
            code, _, err = unsteep_(*words)
        assert (code, err.count("\n"), expected in err) == (2, 1, True), err


@each_schedule
def test_the_laws_hold(schedule: Schedule) -> None:
    found = errors(schedule)
    assert len(found) == 5
    assert max(found.values()) < 1e-8 * max(1.0, float(schedule(1.0).scale))
