"""On a device without float64, and on one that only refuses to mix: all that a model does there is as on the CPU."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import unsteep
from stand_in import StandIn
from test_evaluation import Quarters, bars
from test_model import COUNTS, NAMES, TINY, model_of, pictures
from test_wrapped import X as VECTORS
from test_wrapped import bare
from unsteep.core.chains import LinearBetas
from unsteep.core.machine import machine, memory_now, memory_of, peak_memory, settled
from unsteep.core.noise import NoiseSource
from unsteep.core.schedules import VP, Cosine
from unsteep.data import Examples, Given, Shapes
from unsteep.evaluation.by_level import by_level
from unsteep.features.domain import DomainNet, fit
from unsteep.guidance.noisy import NoisyClassifier
from unsteep.guidance.setting import Guidance
from unsteep.likelihood import flow_log_prob
from unsteep.metrics.seen import Seen
from unsteep.model import Model, ModelConfig
from unsteep.networks import TextEncoderConfig, taking
from unsteep.networks.blocks import attend
from unsteep.networks.encoder import EncoderConfig
from unsteep.objectives import Bound, Hybrid, Simple
from unsteep.objectives.classification import Classification
from unsteep.objectives.times import Importance, LogitNormal
from unsteep.opening import chosen_device
from unsteep.sampling import SOLVERS, Adaptive
from unsteep.spaces import Pixels
from unsteep.training import memory
from unsteep.training.classifying import ClassifierRun
from unsteep.training.conditioning import Conditioning
from unsteep.training.loop import TrainConfig, seeded_part, train
from unsteep.training.memory import check_memory
from unsteep.training.run import Run, start

CPU = torch.device("cpu")
DATA = Examples(
    x=torch.randint(0, 256, (24, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)),
    labels=torch.arange(24) % 4,
    names=NAMES,
    source="bytes",
)
X = DATA.x[:4]
LABELS = torch.tensor([0, 2, 3, 0])
TRAIN = TrainConfig(steps=2, batch=8, warmup=1, ema=0.5)


def on(device: torch.device, **how: Any) -> Model:
    statistics = {"label_counts": COUNTS, "x0_error": torch.tensor([[-9.0, 0, 9], [0.3, 0.1, 0.001]]).double()}
    model = model_of(pictures(), statistics=statistics, **how)
    for weight in model.denoiser.parameters():
        weight.data /= 2  # or rounding would grow too fast to compare where the flow goes
    return model.to(device)


def told_by(device: torch.device) -> NoisyClassifier:
    torch.manual_seed(1)
    module = NoisyClassifier(EncoderConfig(channels=1, classes=4, width=8, groups=4, multipliers=(1, 2)).build())
    for weight in module.parameters():
        weight.data += 0.2 * torch.randn_like(weight)
    return module.eval().requires_grad_(False).to(device)


def same(answer: Callable[[torch.device], Any], device: torch.device, **within: float) -> None:
    there = answer(device)
    found = [one.cpu() for one in (there if isinstance(there, list) else [there])]
    wanted = answer(CPU)
    for one, other in zip(found, wanted if isinstance(wanted, list) else [wanted], strict=True):
        torch.testing.assert_close(one, other, **(within or {"rtol": 1e-4, "atol": 1e-4}))


# The stand-in.


def test_it_refuses_float64() -> None:
    with StandIn("mps", float64=False) as device:
        x = torch.zeros(3).to(device)
        assert x.device == (x + 1).device == torch.zeros(3, device=device).device == device
        for made in (
            x.double,
            lambda: torch.zeros(3).double().to(device),
            lambda: x.to("cpu", torch.float64),
            lambda: torch.zeros(3, dtype=torch.float64, device=device),
            lambda: torch.tensor([0.0], dtype=torch.float64, device="mps"),
            lambda: x.new_zeros(3, dtype=torch.float64),
            lambda: torch.linalg.vector_norm(x, dtype=torch.float64),
        ):
            with pytest.raises(TypeError, match="float64"):
                made()
        assert x.cpu().double().device == CPU


def test_it_refuses_to_mix(device: torch.device) -> None:
    x, other = torch.zeros(3).to(device), torch.zeros(3)
    for mixed in (
        lambda: x + other,
        lambda: other + x,
        lambda: torch.where(other > 0, x, 0.0),
        lambda: torch.stack([x[0], other[0]]),
        lambda: other[x.long()],
        lambda: torch.nn.Linear(3, 3)(x),
        lambda: torch.nn.Linear(3, 3).to(device)(other),
    ):
        with pytest.raises(RuntimeError, match="same device"):
            mixed()
    with pytest.raises(TypeError, match="numpy"):
        x.numpy()
    assert torch.equal((x + torch.tensor(1.0)).cpu(), other + 1)  # a number of the CPU is a number anywhere


# Training.


def run(**settings: Any) -> Run:
    given = {"data": Given(), "schedule": LinearBetas(steps=40), "train": TRAIN, **settings}
    return Run(**{"model": ModelConfig(network=TINY), "condition": Conditioning(label=True, drop=0.2), **given})


LEARNED = ModelConfig(network=TINY, variance="learned")
RUNS = {
    "simple": run(),
    "accumulated": run(train=replace(TRAIN, accumulate=2, flip=True)),
    "logit-normal": run(objective=Simple(times=LogitNormal())),
    "importance": run(objective=Simple(times=Importance(history=1, bins=2)), train=replace(TRAIN, steps=4)),
    "bound": run(objective=Bound(), model=LEARNED),
    "learned bound": run(objective=Bound(variance="learned"), model=LEARNED),
    "hybrid": run(objective=Hybrid(), model=LEARNED),
    "classifier": ClassifierRun(
        data=Given(),
        network=EncoderConfig(width=8, groups=4, multipliers=(1, 2)),
        objective=Classification(),
        train=TRAIN,
    ),
}


@pytest.mark.parametrize("of", RUNS.values(), ids=RUNS)
def test_training(of: Any, device: torch.device) -> None:
    def weights(device: torch.device) -> list[Tensor]:
        task = of.made(DATA, device)
        losses = [torch.tensor(record.loss) for record in train(task, of.train)]
        return losses + [p.detach() for p in task.state.ema.module.parameters()]

    same(weights, device, rtol=1e-3, atol=2e-4)


def test_a_whole_run_with_its_pictures_is_read_on_the_cpu(device: torch.device, tmp_path: Path) -> None:
    of = run(train=replace(TRAIN, checkpoint_every=1, preview_every=1))
    assert start(of, tmp_path / "run", device=str(device), data=DATA, say=lambda _: None)
    same(
        lambda device: unsteep.load(tmp_path / "run", device=str(device)).sample(2, steps=2).float(),
        device,
        rtol=0,
        atol=1,
    )


def test_domain_features(device: torch.device) -> None:
    settings = DomainNet(steps=2, batch=8, width=8, dimension=16)
    same(lambda device: fit(DATA, settings, str(device))(X.float().to(device))[1].detach(), device, atol=1e-3, rtol=0)


# Sampling.


@pytest.mark.parametrize("solver", [*SOLVERS, Adaptive(tolerance=0.1)], ids=str)
def test_solvers(solver: Any, device: torch.device) -> None:
    def drawn(device: torch.device) -> Tensor:
        steps = None if isinstance(solver, Adaptive) else 3
        *_, last = on(device).trajectory(0, 2, LABELS[:2], steps, guidance=2.0, solver=solver, clip=True)
        return last.x

    same(drawn, device, rtol=1e-3, atol=1e-3)


GUIDED: dict[str, Callable[[torch.device], Any]] = {
    "free": lambda device: 2.0,
    "rescaled": lambda device: Guidance(scale=2.0, rescale=0.5, interval=(0.1, 0.9)),
    "threshold": lambda device: Guidance(scale=2.0, threshold=0.9),
    "negative": lambda device: Guidance(scale=2.0, negative={"label": [3, 3, 0, 1]}),
    "weaker": lambda device: Guidance(scale=2.0, weaker=on(device, stirred=False)),
    "classifier": lambda device: Guidance(scale=2.0, classifier=told_by(device)),
    "classifier, asked": lambda device: Guidance(scale=2.0, classifier=told_by(device), labels=LABELS.flip(0)),
}


@pytest.mark.parametrize("guidance", GUIDED.values(), ids=GUIDED)
def test_guidance(guidance: Callable[[torch.device], Any], device: torch.device) -> None:
    def drawn(device: torch.device) -> Tensor:
        how: Any = {"guidance": guidance(device), "label": LABELS.tolist(), "steps": 3, "batch_size": 3}
        answer: Tensor = on(device).sample(4, **how)
        return answer.float()

    same(drawn, device, rtol=0, atol=1)


@pytest.mark.parametrize("variance", ["beta", "beta_tilde", "optimal"])
def test_likelihood(variance: Any, device: torch.device) -> None:
    def bits(device: torch.device) -> list[Tensor]:
        found = on(device).likelihood(X, LABELS, terms=3, draws=2, variance=variance)
        return [found.bits_per_dim(), found.distortion, found.dimensions]

    same(bits, device)


@pytest.mark.parametrize("divergence", ["exact", "hutchinson"])
def test_flow_likelihood(divergence: Any, device: torch.device) -> None:
    def nats(device: torch.device) -> list[Tensor]:
        x = VECTORS.float().to(device)
        how: Any = {"divergence": divergence, "noise": NoiseSource(range(4))}
        found = flow_log_prob(bare().float().to(device), x, VP(), tolerance=1e-3, **how)
        assert found.log_prob.dtype == torch.float64
        return [found.log_prob, found.latent]

    same(nats, device, rtol=1e-3, atol=1e-2)


MASK = torch.zeros(8, 8, dtype=torch.bool)
MASK[:, 4:] = True
VERBS: dict[str, Callable[[Model], Any]] = {
    "repaint": lambda model: unsteep.fill(model, X[0], MASK, 2, label=2, guidance=2.0, steps=3, resamples=2),
    "pigdm": lambda model: unsteep.fill(model, X[0], MASK, 2, label=2, guidance=2.0, steps=3, method="pigdm"),
    "redraw": lambda model: unsteep.redraw(model, X[0], 0.5, 2, label=2, guidance=2.0, steps=3),
    "interpolate": lambda model: unsteep.interpolate(model, X[0], X[1], frames=3, steps=2, label=2),
    "slerp": lambda model: unsteep.interpolate(model, X[0], X[1], frames=3, steps=2, method="slerp"),
    "invert": lambda model: unsteep.invert(model, X[:2], label=2, tolerance=0.1).latents,
    "tune": lambda model: unsteep.tune_grid(model, steps=3, seeds=2, evaluations=4).after.t,
}


@pytest.mark.parametrize("verb", VERBS.values(), ids=VERBS)
def test_verbs(verb: Callable[[Model], Any], device: torch.device) -> None:
    same(lambda device: verb(on(device)).float(), device, rtol=1e-2, atol=1)


def test_a_classifier_by_level(device: torch.device) -> None:
    found = by_level(told_by(device), DATA, Pixels(channels=1, size=8), Cosine(), n=16, times=(0.0, 0.5))
    assert len(found.accuracy) == 2


# Measuring.


@dataclass(frozen=True, eq=False)
class LookingThere(Quarters):
    """Features of the kind that a user brings: they look, and answer, on the device."""

    device: torch.device = CPU

    def __call__(self, pictures: Tensor) -> Seen:
        return super().__call__(pictures.to(self.device))


class Bars:
    def read(self, split: str = "train") -> Examples:
        return bars(60, int(split == "train"))


MEASURED = ("fid", "kid", "precision", "is", "ms-ssim", "intra-class", "memorization")


@pytest.mark.parametrize("what", ["model", "pictures"])
def test_evaluating(what: str, device: torch.device) -> None:
    """A model and pictures on the device, by features there."""

    def numbers(device: torch.device) -> list[Tensor]:
        subject = on(device) if what == "model" else bars(16, 2).x.to(device)
        asked: Any = {"n": 16, "steps": 2, "label": "all"} if what == "model" else {}
        metrics = [name for name in MEASURED if name != "intra-class" or what == "model"]
        looked: Any = {"features": LookingThere(device=device), "device": str(device), "metrics": metrics}
        found = unsteep.evaluate(subject, Bars(), **asked, **looked)
        return [torch.tensor([[one.value, one.low, one.high] for one in found.values.values()]), found.kept.float()]

    same(numbers, device, rtol=1e-2, atol=1)


# What is heard.


def stirred(model: Model) -> Model:
    generator = torch.Generator().manual_seed(0)
    for weight in model.denoiser.parameters():
        weight.data += 0.1 * torch.randn(weight.shape, generator=generator).to(weight.device)
    return model


def test_text_and_picture(device: torch.device) -> None:
    text = TextEncoderConfig(width=16, depth=1, heads=2, limit=60)
    of = Run(
        data=Shapes(size=16, count=20, test_count=4),
        condition=Conditioning(text="bpe", pieces=32, limit=60, picture="low-resolution:2", augment=0.5, drop=0.25),
        model=ModelConfig(network=replace(TINY, width=16, attention=(8,), text=text), prediction="v"),
        train=TRAIN,
    )
    small = torch.randint(0, 256, (2, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))

    def drawn(device: torch.device) -> list[Tensor]:
        task = of.made(of.data.read("train"), device)
        losses = [torch.tensor(record.loss) for record in train(task, of.train)]
        asked: Any = {"prompt": ["a red circle", ""], "picture": small, "augment": 0.2}
        return [*losses, stirred(task.model).sample(2, steps=3, guidance=2.0, **asked).float()]

    same(drawn, device, rtol=1e-3, atol=1)


def test_sequences_with_lengths(device: torch.device, tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    lengths = np.array([5, 9, 12, 7] * 4)
    x = random.standard_normal((16, 12, 3)).cumsum(1).astype(np.float32)
    np.savez(tmp_path / "walks.npz", x=x, lengths=lengths, labels=np.arange(16) % 2)
    settings = ["condition.label=true", "condition.drop=0.2", "model.variance=learned", "objective=Hybrid"]
    settings += [*("model.network." + of for of in ("width=16", "depth=1", "heads=2")), "schedule.steps=40"]

    def drawn(device: torch.device) -> list[Tensor]:
        out = tmp_path / f"run-{device}"
        how: Any = {"data": tmp_path / "walks.npz", "out": out, "steps": 2, "batch": 8, "say": lambda _: None}
        model = unsteep.train("sequences", settings=settings, device=str(device), **how)
        told = model.sample(2, length=[4, 9], label=1, guidance=2.0, solver=Adaptive(tolerance=0.1))
        more = model.sample(2, length=[4, 9], label=1, guidance=Guidance(scale=2.0, rescale=0.5), steps=3)
        rows = model.likelihood(torch.from_numpy(x[:2]), model.condition_of(2, label=1, length=[5, 9]), terms=3)
        return [torch.as_tensor(one) for one in (*told, *more, rows.bits_per_dim())]

    same(drawn, device, rtol=1e-2, atol=1e-2)


# What only an accelerator is asked. CUDA graphs are in test_compiling, half precision and scaled losses in
# test_precision, what a GPU trains in test_sizing.


class Module:
    """A device's module of torch, whose generator counts up."""

    def __init__(self) -> None:
        self.waited, self.state = 0, torch.tensor([7])

    def synchronize(self) -> None:
        self.waited += 1

    def get_rng_state(self) -> Tensor:
        return self.state.clone()

    def set_rng_state(self, state: Tensor) -> None:
        self.state = state


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Module:
    of = Module()
    monkeypatch.setattr(torch, "get_device_module", lambda device: of)
    return of


@pytest.mark.parametrize("name", ["cuda", "cuda:1", "mps", "xpu"])
def test_a_device_is_waited_for_before_time_is_taken(name: str, module: Module) -> None:
    settled("cpu")
    assert module.waited == 0
    settled(name)
    settled(torch.device(name))
    assert module.waited == 2


@pytest.mark.parametrize("name", ["cuda:1", "mps"])
def test_its_generator_is_left_as_it_was(name: str, module: Module) -> None:
    here = torch.get_rng_state()
    with seeded_part(3, 5, 1, torch.device(name)):
        module.state = torch.tensor([8])  # as dropout there would leave it
        torch.rand(2)
    assert module.state == 7
    assert torch.equal(torch.get_rng_state(), here)


def test_memory_is_that_of_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU as torch counts it; elsewhere nobody tells, and no training is refused for it."""
    found = {"memory_allocated": 3, "max_memory_allocated": 5}
    for name, size in found.items():
        monkeypatch.setattr(torch.cuda, name, lambda device, size=size: size)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(total_memory=9))
    for name, told in (("cuda", (3, 5, 9)), ("mps", (None, None, None))):
        assert (memory_now(name), peak_memory(name), memory_of(name)) == told
    with StandIn("mps", float64=False) as device:
        task = run().made(DATA, device)
        assert check_memory(task, run().train) == ""


def test_a_step_is_expected_to_take_there_what_its_tensors_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the kernels, and the copies in another order, of a CPU."""
    task: Any = run().made(DATA, CPU)
    here = memory.expected_memory(task)
    assert here is not None
    monkeypatch.setattr(memory, "memory_now", lambda device: 0)
    on_cpu = memory.expected_memory(task)
    task.trained[task.turn(task.step)].device = torch.device("cuda")
    monkeypatch.setattr(taking, "running", lambda device, precision: nullcontext())
    there = memory.expected_memory(task)
    assert there is not None
    assert on_cpu is not None
    assert on_cpu - there == memory.KERNELS


@pytest.mark.parametrize(("cuda", "mps", "wanted"), [(1, 1, "cuda"), (0, 1, "mps"), (0, 0, "cpu")])
def test_the_first_accelerator_that_is_there(cuda: int, mps: int, wanted: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: bool(cuda))
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: bool(mps))
    assert chosen_device("auto") == wanted
    assert chosen_device("cpu") == "cpu"


def test_a_gpu_says_its_name_and_what_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"Card of {device}")
    for has in (True, False):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation, has=has: has)
        assert (machine("cuda:1").device, machine("cuda:1").bf16) == ("cuda:1 (Card of cuda:1)", has)
    assert (machine("mps").device, machine("mps").bf16) == ("mps", False)


def test_attention_there_is_torchs_own(monkeypatch: pytest.MonkeyPatch, device: torch.device) -> None:
    """The two products are for a CPU, on which they are quicker."""
    asked, plain = [], torch.nn.functional.scaled_dot_product_attention
    monkeypatch.setattr(
        torch.nn.functional,
        "scaled_dot_product_attention",
        lambda *of, **how: asked.append(len(of)) or plain(*of, **how),
    )
    x = torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(0))
    here = attend(x, x, x)
    assert asked == []
    there = attend(*[x.to(device)] * 3)
    assert asked == [3]
    torch.testing.assert_close(there.cpu(), here)
