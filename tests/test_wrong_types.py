"""Values of other types and ranges, given to every public name: refused in words, or a sound answer.

The law: a call either comes back with finite numbers, or raises a ValueError of one line that names an argument. It
never raises what the machinery underneath would say (AssertionError, IndexError, a RuntimeError of torch), and no
number is silently another one. TypeError is Python's own alone, for a missing or an unknown keyword.

What is not in it, and why:
- Numbers that are not finite inside tensors of `add_noise`, `posterior`, `reverse` and a `Denoiser`: a look at them
  would wait for the device at every step, and NaN passes on visibly. What users give to a `Model` is looked at.
- Sample counts between a million and 2^31: a right count, for which a machine may lack the memory.
- `DataSet`: a protocol, which nobody calls.
"""

import contextlib
import math
import re
import tempfile
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import unsteep
from unsteep.core.chains import LinearBetas
from unsteep.core.level import NoiseLevel
from unsteep.core.noise import Draw, NoiseSource, Purpose
from unsteep.core.open import listed
from unsteep.guidance.setting import Guidance
from unsteep.sampling import Adaptive, AnySolver

FIXTURES = Path(__file__).parent / "fixtures" / "0.1"
CHAIN = LinearBetas(steps=100)
NOW, NXT = CHAIN(0.5), CHAIN(0.4)

POOL: dict[str, Any] = {
    "None": None,
    "True": True,
    "0": 0,
    "1": 1,
    "-1": -1,
    "3": 3,
    "2**63": 2**63,
    "10**400": 10**400,
    "nan": math.nan,
    "inf": math.inf,
    "-inf": -math.inf,
    "-1.5": -1.5,
    "0.5": 0.5,
    "2.5": 2.5,
    "empty text": "",
    "ddim": "ddim",
    "superscript": "²",
    "lines": "one\ntwo",
    "bytes": b"ddim",
    "list": [],
    "list of times": [1.0, 0.5, 0.0],
    "list of texts": ["a", "b"],
    "nested list": [[1], [2, 3]],
    "tuple": (1, 2, 3),
    "dict": {},
    "dict of one": {"label": 4},
    "set": {1, 2},
    "range": range(3),
    "huge range": range(2**62),
    "complex": 1j,
    "class": int,
    "object": object(),
    "function": len,
    "float32 of numpy": np.float32(1.5),
    "int64 of numpy": np.int64(2),
    "bool of numpy": np.bool_(True),
    "array": np.zeros(3),
    "array of none": np.zeros(0),
    "array of texts": np.array(["a", "b"]),
    "array of objects": np.array([None, object()]),
    "pictures of numpy": np.zeros((2, 1, 8, 8), np.uint8),
    "tensor ()": torch.tensor(2),
    "tensor nan": torch.tensor(math.nan),
    "tensor bool": torch.tensor(True),
    "tensor of none": torch.zeros(0),
    "tensor (3,)": torch.zeros(3),
    "int64 (3,)": torch.tensor([0, 1, 99]),
    "int64 (2, 3)": torch.zeros(2, 3, dtype=torch.int64),
    "float64 (2, 3)": torch.zeros(2, 3, dtype=torch.float64),
    "complex (2, 3)": torch.zeros(2, 3, dtype=torch.complex64),
    "bool (8, 8)": torch.eye(8, dtype=torch.bool),
    "bytes (2, 1, 8, 8)": torch.zeros(2, 1, 8, 8, dtype=torch.uint8),
    "bytes (2, 3, 8, 8)": torch.zeros(2, 3, 8, 8, dtype=torch.uint8),
    "bytes (1, 8, 8)": torch.zeros(1, 8, 8, dtype=torch.uint8),
    "int64 (2, 1, 8, 8)": torch.zeros(2, 1, 8, 8, dtype=torch.int64),
    "float (2, 1, 8, 8)": torch.zeros(2, 1, 8, 8),
    "with gradients": torch.zeros(2, 1, 8, 8, requires_grad=True),
    "sparse": torch.eye(3).to_sparse(),
    "level": NOW,
    "clean level": CHAIN(0.0),
    "noisiest level": CHAIN(1.0),
    "row of levels": CHAIN(torch.tensor([1.0, 0.5, 0.0])),
    "rising levels": CHAIN(torch.tensor([0.0, 0.5, 1.0])),
    "condition": unsteep.Condition(label=torch.tensor([0, 1])),
    "condition of nothing": unsteep.Condition(),
    "condition of another name": unsteep.Condition(colour=torch.tensor([0, 1])),
    "guidance": Guidance(scale=2),
    "schedule": CHAIN,
    "solver": unsteep.DDIM(),
    "class of a solver": unsteep.DDIM,
    "driver": Adaptive(tolerance=0.1),
    "noise": NoiseSource([0]),
}


@dataclass(frozen=True)
class Case:
    """A call that is right, by its keywords."""

    call: Callable[..., Any]
    right: dict[str, Any]
    also: str = "$^"
    """Words, one of which an error may have in place of the argument's name."""


def models() -> tuple[Any, Any]:
    return unsteep.load(FIXTURES / "run", device="cpu"), unsteep.load(FIXTURES / "vectors", device="cpu")


MODEL, ROWS = models()
PICTURES = torch.zeros(2, 1, 8, 8, dtype=torch.uint8)
PICTURE = PICTURES[0]
MASK = torch.eye(8, dtype=torch.bool)
X = torch.zeros(2, 3)
ESTIMATE = unsteep.Estimate("eps", X, X, NOW)
MIXTURE = unsteep.Mixture(torch.tensor([[0.0], [1.0]]), torch.ones(2), labels=torch.tensor([0, 1]))
TINY = unsteep.Denoiser(torch.nn.Identity(), CHAIN)
LEVELS = unsteep.grid(CHAIN, 2)
HOW: dict[str, Any] = {"guidance": 1.0, "steps": 2, "solver": None, "seed": 0, "batch_size": 64, "progress": False}


def walked(steps: Any) -> list[Any]:
    return [step.x for step in steps]


def saved(path: Any) -> Tensor:
    """The weights of a model that was saved to a path in a folder of its own."""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        ROWS.save(path)
        return next(unsteep.Model.open(path).denoiser.parameters())


def described(of: Any) -> Any:
    """A schedule at a few times."""
    return [of(0.0), of(0.5), of(1.0)]


def schedule(name: str, **right: Any) -> Case:
    return Case(lambda **how: described(getattr(unsteep, name)(**how)), right, name)


def made(name: str, also: str = "$^", **right: Any) -> Case:
    return Case(getattr(unsteep, name), right, also)


def solver(kind: Any) -> Case:
    """One with its usual settings, which draws: what it takes, it must be able to walk with."""
    right = {f.name: getattr(kind(), f.name) for f in fields(kind)}
    how = {} if kind is Adaptive else {"steps": 3}
    return Case(lambda **given: ROWS.sample(1, solver=kind(**given), **how), right)


CASES: dict[str, Case] = {
    "LinearBetas": schedule("LinearBetas", steps=100, start=1e-4, end=0.02, zero_terminal=False),
    "CosineBetas": schedule("CosineBetas", steps=10, s=0.008, max_beta=0.999, zero_terminal=False),
    "VP": schedule("VP", beta_min=0.1, beta_max=20.0),
    "Cosine": schedule("Cosine", logsnr_min=-15.0, logsnr_max=15.0),
    "Karras": schedule("Karras", sigma_min=0.002, sigma_max=80.0, rho=7.0),
    "Flow": Case(unsteep.Flow(), {"t": 0.5}, "time t"),
    "a time of a chain": Case(CHAIN, {"t": 0.5}, "time t"),
    "a log-SNR of a chain": Case(CHAIN.inverse, {"logsnr": 0.5}),
    "a log-SNR of Cosine": Case(lambda logsnr: unsteep.Cosine().inverse(logsnr), {"logsnr": 0.5}),
    "UNetConfig": made(
        "UNetConfig", "text", width=8, blocks=1, groups=4, dropout=0.0, attention=(8,), multipliers=(1, 2)
    ),
    "DiTConfig": made("DiTConfig", width=16, depth=1, heads=2, patch=2),
    "MLPConfig": made("MLPConfig", width=16, depth=1),
    "ModelConfig": made("ModelConfig", prediction="v", variance="fixed", noise_label=None, input_scale="none"),
    **{kind.__name__: solver(kind) for kind in (*listed(AnySolver), Adaptive)},
    "Guidance": made(
        "Guidance",
        "guidance",
        scale=2.0,
        interval=None,
        rescale=0.0,
        threshold=None,
        negative=None,
        classifier=None,
        weaker=None,
    ),
    "Pixels": made("Pixels", "low", channels=1, size=8, height=8, width=8, levels=256, low=0.0, high=1.0),
    "Vectors": made("Vectors", "std", mean=(0.0,), std=(1.0,)),
    "Sequences": made("Sequences", "std", frames=3, mean=(0.0,), std=(1.0,)),
    "a row of vectors": Case(ROWS.space.check, {"x": X}, "data"),
    "a row of pictures": Case(MODEL.space.check, {"x": PICTURES}, "data"),
    "NoiseLevel": made("NoiseLevel", t=NOW.t, logsnr=NOW.logsnr, alpha=NOW.alpha, sigma=NOW.sigma),
    "Estimate": made("Estimate", "value", kind="eps", value=X, x_t=X, level=NOW),
    "Estimate.as_": Case(ESTIMATE.as_, {"kind": "x0"}),
    "NoiseSource": Case(
        lambda seeds, stream: NoiseSource(seeds, stream).normal(torch.zeros(2, 3), 0),
        {"seeds": [0, 1], "stream": 0},
        "noise",
    ),
    "NoiseSource.normal": Case(
        lambda like, draw: NoiseSource([0, 1]).normal(like, draw), {"like": X, "draw": 0}, "noise"
    ),
    "NoiseSource.uniform": Case(
        lambda like, draw: NoiseSource([0, 1]).uniform(like, draw), {"like": X, "draw": 0}, "noise"
    ),
    "NoiseSource.at": Case(lambda stream: NoiseSource([0, 1]).at(stream).normal(X, 0), {"stream": 3}),
    "NoiseSource.brownian": Case(
        lambda like, now, nxt: NoiseSource([0, 1]).brownian(like, now, nxt),
        {"like": X, "now": NOW, "nxt": NXT},
        "noise",
    ),
    "Draw": Case(
        lambda **how: Draw(**how).uniform(Purpose.TIME), {"seed": 0, "step": 1, "places": torch.arange(2), "batch": 4}
    ),
    "Condition": Case(
        lambda label, nulls: dict(unsteep.Condition(label=label, nulls=nulls)),
        {"label": torch.tensor([1]), "nulls": None},
        "label",
    ),
    "Condition of a mapping": Case(lambda tensors: dict(unsteep.Condition(tensors)), {"tensors": {"a": X}}, "expected"),
    "Condition.drop": Case(
        lambda rows: dict(unsteep.Condition(label=torch.tensor([1, 2])).drop(rows)),
        {"rows": torch.tensor([True, False])},
    ),
    "Batch": made("Batch", x=X, condition=None, index=torch.arange(2)),
    "Examples": made(
        "Examples",
        x=PICTURES,
        labels=None,
        names=(),
        files=(),
        levels=256,
        captions=(),
        aligned=None,
        valid=None,
        range=(0.0, 1.0),
    ),
    "Mixture": Case(
        lambda **how: unsteep.Mixture(**how).sample(2),
        {"means": X, "covariances": torch.ones(2), "weights": None, "labels": None},
        "covariances",
    ),
    "Mixture.sample": Case(MIXTURE.sample, {"n": 2, "seed": 0}),
    "Mixture, called": Case(lambda x_t, level: MIXTURE(x_t, level).x0, {"x_t": torch.zeros(2, 1), "level": NOW}, "x_t"),
    "Denoiser": made(
        "Denoiser",
        network=torch.nn.Identity(),
        schedule=CHAIN,
        prediction="eps",
        noise_label=None,
        input_scale="none",
        learn_variance=False,
    ),
    "Denoiser, called": Case(
        lambda x_t, level, condition: MODEL.denoiser(x_t, level, condition).value,
        {"x_t": torch.zeros(2, 1, 8, 8), "level": NOW, "condition": None},
    ),
    "grid": made("grid", schedule=CHAIN, steps=2, spacing="trailing"),
    "add_noise": made("add_noise", "level", x0=X, eps=X, level=NOW),
    "posterior": made("posterior", "x0|x_t|level", x0=X, x_t=X, now=NOW, nxt=NXT),
    "reverse": made("reverse", "level", estimate=ESTIMATE, nxt=NXT, variance="beta", floor=None),
    "trajectory": Case(
        lambda **how: walked(unsteep.trajectory(**how)),
        {
            "denoise": MIXTURE,
            "x": torch.zeros(1, 1),
            "levels": LEVELS,
            "solver": unsteep.DDIM(),
            "noise": NoiseSource([0]),
            "at": None,
        },
        "noise",
    ),
    "sample": Case(
        unsteep.sample,
        {
            "denoise": MIXTURE,
            "x": torch.zeros(1, 1),
            "levels": LEVELS,
            "solver": unsteep.DDIM(),
            "noise": NoiseSource([0]),
        },
        "noise",
    ),
    "solver_named": Case(unsteep.solver_named, {"name": "ddim"}, "solver"),
    "Model.sample": Case(
        MODEL.sample,
        {
            "n": 2,
            "label": 1,
            "prompt": None,
            "picture": None,
            "augment": 0.0,
            "length": None,
            "condition": None,
            "grid": None,
            "start": None,
            "clip": None,
            **HOW,
        },
        "picture|solver|steps|label",
    ),
    "Model.sample of a condition": Case(MODEL.sample, {"n": 2, "steps": 2, "condition": torch.tensor([1, 2])}, "label"),
    "Model.sample of vectors": Case(
        ROWS.sample,
        {"n": 2, "label": None, "condition": None, "start": None, "clip": None, **HOW},
        "solver|steps|label",
    ),
    "Model.trajectory": Case(
        lambda **how: walked(MODEL.trajectory(**how)),
        {
            "seed": 0,
            "n": 2,
            "condition": None,
            "steps": 2,
            "guidance": 1.0,
            "solver": None,
            "grid": None,
            "start": None,
            "clip": None,
        },
        "solver|steps|label",
    ),
    "Model.likelihood": Case(
        lambda **how: MODEL.likelihood(**how).total,
        {
            "examples": PICTURES,
            "condition": None,
            "levels": LEVELS,
            "terms": 1,
            "draws": 1,
            "variance": None,
            "decoder": "pair",
            "clip": True,
            "seed": 0,
            "batch_size": 64,
            "progress": False,
        },
        "data|label|level",
    ),
    "Model.labels_of": Case(MODEL.labels_of, {"n": 2, "label": 1, "seed": 0}),
    "Model.condition_of": Case(
        MODEL.condition_of,
        {"n": 2, "label": 1, "prompt": None, "seed": 0, "picture": None, "augment": 0.0},
        "picture",
    ),
    "Model.denoise": Case(
        lambda condition, clip, guidance: MODEL.denoise(condition, clip, guidance)(torch.zeros(2, 1, 8, 8), NOW).x0,
        {"condition": None, "clip": None, "guidance": 1.0},
        "label",
    ),
    "Model.levels": Case(
        lambda grid, steps, guidance: MODEL.levels(grid, steps, unsteep.DDIM(), guidance),
        {"grid": None, "steps": 2, "guidance": 1.0},
    ),
    "Model.resolved": Case(MODEL.resolved, {"solver": None, "condition": None, "guidance": 1.0, "steps": 2}, "label"),
    "Model.save": Case(saved, {"path": "vectors"}),
    "Model.open": Case(
        unsteep.Model.open, {"path": FIXTURES / "vectors", "weights": None, "device": "cpu", "trust": False}, "manifest"
    ),
    "load": Case(
        unsteep.load,
        {"path": FIXTURES / "vectors", "weights": None, "device": "cpu", "trust": False},
        "neither|does not exist",
    ),
    "fill": Case(
        unsteep.fill,
        {
            "model": MODEL,
            "picture": PICTURE,
            "mask": MASK,
            "n": 1,
            "label": 1,
            "prompt": None,
            "given": None,
            "guidance": 1.0,
            "method": "repaint",
            "steps": 3,
            "solver": None,
            "jump": 1,
            "resamples": 1,
            "seed": 0,
            "batch_size": 64,
            "progress": False,
        },
        "data|steps|jump|solver|picture",
    ),
    "fill by pigdm": Case(
        unsteep.fill,
        {"model": MODEL, "picture": PICTURE, "mask": MASK, "n": 1, "method": "pigdm", "steps": 2, "solver": None},
        "solver",
    ),
    "redraw": Case(
        unsteep.redraw,
        {
            "model": MODEL,
            "picture": PICTURE,
            "strength": 0.5,
            "n": 1,
            "label": 1,
            "prompt": None,
            "given": None,
            "guidance": 1.0,
            "steps": 2,
            "solver": None,
            "seed": 0,
            "batch_size": 64,
            "progress": False,
        },
        "solver|picture|steps",
    ),
    "interpolate": Case(
        unsteep.interpolate,
        {
            "model": MODEL,
            "a": PICTURE,
            "b": PICTURE,
            "method": "latent",
            "step": 5,
            "frames": 2,
            "steps": 2,
            "solver": None,
            "label": 1,
            "seed": 0,
            "clip": True,
        },
        "steps|slerp",
    ),
    "invert": Case(
        lambda **how: unsteep.invert(**how).latents,
        {
            "model": ROWS,
            "examples": X,
            "label": None,
            "condition": None,
            "tolerance": 0.5,
            "batch_size": 64,
            "progress": False,
        },
        "data|label",
    ),
    "tune_grid": Case(
        lambda **how: unsteep.tune_grid(**how).after,
        {
            "model": ROWS,
            "steps": 2,
            "solver": "ddim",
            "guidance": 1.0,
            "seeds": 1,
            "seed": 0,
            "evaluations": 1,
            "batch_size": 64,
            "progress": False,
        },
        "n:|solver",
    ),
    "train": Case(
        unsteep.train,
        {
            "recipe_or_run": "nonsense",
            "data": None,
            "out": "/dev/null/run",
            "settings": (),
            "start_from": None,
            "resume": False,
            "trust": False,
            "device": "cpu",
            "say": print,
        },
        "recipe|device|/dev/null|data|start_from|array",
    ),
    "train_student": Case(
        unsteep.train_student,
        {
            "run": "nowhere",
            "out": "/dev/null/run",
            "method": "shortcut",
            "steps": 4,
            "guidance": 1.0,
            "settings": (),
            "trust": False,
            "device": "cpu",
            "say": print,
        },
        "run|out|method|steps|guidance|settings|/dev/null",
    ),
    "bench": Case(
        unsteep.bench,
        {
            "recipe_or_run": "nonsense",
            "data": None,
            "settings": (),
            "batches": (1,),
            "seconds": 0.0,
            "device": "cpu",
            "trust": False,
            "progress": False,
        },
        "recipe|device|data|start_from|array|nonsense",
    ),
    "Run": Case(lambda **how: unsteep.Run(data=None, **how), {"start_from": ""}),
    "Simple": Case(unsteep.Simple, {}),
    "evaluate": Case(
        unsteep.evaluate,
        {
            "subject": PICTURES,
            "data": PICTURES,
            "n": 2,
            "metrics": ("nonsense",),
            "features": "domain",
            "custom": False,
            "split": "test",
            "label": None,
            "guidance": 1.0,
            "steps": None,
            "solver": None,
            "grid": None,
            "replicates": 1,
            "resize": None,
            "in_order": False,
            "seed": 0,
            "batch_size": 64,
            "device": "cpu",
            "trust": False,
            "progress": False,
        },
        "evaluate|metrics|device|data|unknown|array|expected|n:",
    ),
}
REFUSED = {
    "train",
    "train_student",
    "bench",
    "evaluate",
}  # their right calls cost too much here: one argument of each is a wrong name
SLOW = {"tune_grid": 15, "invert": 15, "fill": 40, "evaluate": 40}  # examples, where calls take long
NEVER = {"DataSet": "a protocol", "Model": "tested by its methods"}


def numbers_of(result: Any) -> list[Tensor]:
    """Every tensor of floats in a result."""
    if isinstance(result, Tensor):
        return [result.detach().to_dense()] if result.is_floating_point() else []
    if isinstance(result, NoiseLevel):
        return [
            *numbers_of(result.t),
            *numbers_of(result.alpha),
            *numbers_of(result.sigma),
        ]  # a log-SNR of clean data is infinite
    if isinstance(result, Mapping):
        return [one for value in result.values() for one in numbers_of(value)]
    if isinstance(result, list | tuple):
        return [one for value in result for one in numbers_of(value)]
    if is_dataclass(result) and not isinstance(result, type):
        return [one for f in fields(result) for one in numbers_of(getattr(result, f.name))]
    return []


def broken(case: Case, **wrong: Any) -> str:
    """How a call with these values breaks the law; empty where it does not."""
    given = [one for value in wrong.values() for one in numbers_of(value)]
    passed_on = not all(bool(one.isfinite().all()) for one in given)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result = case.call(**{**case.right, **wrong})
    except ValueError as error:
        text = str(error)
        if "\n" in text or not text:
            return f"not one line: {text!r}"
        names = [*wrong, *(word for word in case.also.split("|"))]
        return "" if any(re.search(name, text) for name in names) else f"does not name {names}: {text}"
    except Exception as error:
        return f"{type(error).__name__}: {str(error).splitlines()[0][:300] if str(error) else ''}"
    finite = all(bool(one.isfinite().all()) for one in numbers_of(result))
    return "" if finite or passed_on else "numbers that are not finite"


# Of these nothing is known before they are called, so what they raise is their own.
OWN = {
    ("Ancestral", "variance"): "a function of two levels is called as it is",
    ("reverse", "variance"): "a function of two levels is called as it is",
    ("Model.likelihood", "variance"): "a function of two levels is called as it is",
    ("trajectory", "denoise"): "any callable may be a denoiser",
    ("sample", "denoise"): "any callable may be a denoiser",
    ("trajectory", "at"): "any callable may give levels",
    ("Denoiser, called", "x_t"): "a network alone says nothing of the shapes that it takes; a Model does",
    ("Denoiser, called", "condition"): "a network alone says nothing of the names that it hears; a Model does",
}
CALLABLE = {"function", "class", "schedule", "class of a solver"}


def own(name: str, argument: str, value: str) -> bool:
    """Whether what comes of it is said by the user's own callable."""
    return (name, argument) in OWN and (name.startswith("Denoiser") or value in CALLABLE)


@pytest.mark.parametrize("name", sorted(unsteep.__all__))
def test_every_public_name_has_its_case(name: str) -> None:
    assert name in NEVER or any(case.split(",")[0].split(" ")[0] == name for case in CASES)


@pytest.mark.parametrize("name", sorted(CASES))
def test_what_is_right_is_taken(name: str) -> None:
    case = CASES[name]
    if name not in REFUSED:
        assert not broken(case)
        case.call(**case.right)


@pytest.mark.parametrize("name", sorted(name for name, case in CASES.items() if case.right))
def test_wrong_values_are_refused_in_words_or_mean_what_they_say(name: str) -> None:
    case = CASES[name]
    values = st.dictionaries(st.sampled_from(sorted(case.right)), st.sampled_from(sorted(POOL)), min_size=1, max_size=2)

    @settings(deadline=None, max_examples=SLOW.get(name, 60), derandomize=True, database=None)
    @given(values)
    def law(wrong: dict[str, str]) -> None:
        if not any(own(name, argument, value) for argument, value in wrong.items()):
            assert not broken(case, **{argument: POOL[value] for argument, value in wrong.items()})

    law()


class TestTheFault:
    @pytest.mark.parametrize("four", [4, np.int64(4), np.uint8(4), np.array(4), torch.tensor(4), "4"])
    def test_a_label_is_a_whole_number_of_python_numpy_or_torch(self, four: Any) -> None:
        assert torch.equal(MODEL.sample(2, label=four, steps=2), MODEL.sample(2, label=4, steps=2))
        each = MODEL.sample(2, label=np.array([4, 4]), steps=2)
        assert torch.equal(each, MODEL.sample(2, label=torch.tensor([4, 4]), steps=2))

    @pytest.mark.parametrize("label", ["²", "٤", 4.0, np.float32(4), torch.tensor(4.0), True, "", 10, -1, b"4"])
    def test_other_labels_are_refused(self, label: Any) -> None:
        with pytest.raises(ValueError, match=r"^label: "):
            MODEL.sample(1, label=label)

    def test_a_solver_by_its_name(self) -> None:
        assert torch.equal(MODEL.sample(1, solver="ddim", steps=2), MODEL.sample(1, solver=unsteep.DDIM(), steps=2))
        with pytest.raises(ValueError, match="did you mean ddim"):
            MODEL.sample(1, solver="dddim")
        with pytest.raises(ValueError, match="solver: expected a solver, or its name"):
            MODEL.sample(1, solver=unsteep.DDIM)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.int64])
    def test_pictures_of_other_types(self, dtype: torch.dtype) -> None:
        with pytest.raises(ValueError, match=r"^data: expected pictures as bytes \(uint8\), got .*; convert them$"):
            MODEL.likelihood(PICTURES.to(dtype))
        with pytest.raises(ValueError, match=r"^picture: expected pictures as bytes \(uint8\), got .*; convert them$"):
            unsteep.fill(MODEL, PICTURE.to(dtype), MASK)

    @pytest.mark.parametrize("channels", [0, 2, 3, 4])
    def test_other_channel_counts(self, channels: int) -> None:
        with pytest.raises(ValueError, match=rf"1 x 8 x 8 .*, got {channels} x 8 x 8; give pictures of its size"):
            MODEL.likelihood(torch.zeros(2, channels, 8, 8, dtype=torch.uint8))

    def test_no_examples(self) -> None:
        for call in (MODEL.likelihood, lambda x: unsteep.invert(MODEL, x)):
            with pytest.raises(ValueError, match=r"expected a tensor of at least one.*; give some"):
                call(PICTURES[:0])

    def test_one_seed_for_four_rows(self) -> None:
        with pytest.raises(ValueError, match=r"^noise: expected a seed for each of 4 rows, got 1; make it with"):
            NoiseSource([0]).normal(torch.zeros(4, 2), 0)

    def test_a_noisier_next_level(self) -> None:
        for call in (lambda: unsteep.posterior(X, X, NXT, NOW), lambda: unsteep.reverse(ESTIMATE, CHAIN(0.6))):
            with pytest.raises(ValueError, match=r"^levels: expected noise first and clean last, .*; put them in that"):
                call()

    def test_contradictory_options(self) -> None:
        labels = torch.tensor([1, 2])
        with pytest.raises(
            ValueError, match=r"^condition: it says all that is asked, and label would be ignored; give"
        ):
            MODEL.sample(2, label=1, condition=labels)
        with pytest.raises(ValueError, match=r"^steps: adaptive heun chooses its own steps; leave it out$"):
            MODEL.sample(2, solver=Adaptive(tolerance=0.1), steps=5)
        mask = torch.zeros(PICTURE.shape, dtype=torch.bool)
        mask[..., 0] = True
        for call in (
            lambda: unsteep.fill(MODEL, PICTURE, mask, solver=Adaptive()),
            lambda: unsteep.redraw(MODEL, PICTURE, solver=Adaptive()),
        ):
            with pytest.raises(ValueError, match=r"^solver: adaptive heun lays its own levels; take one"):
                call()
        with pytest.raises(ValueError, match=r"^condition: expected 3 rows, one for each sample, got 2; give as many$"):
            MODEL.sample(3, condition=labels)
        with pytest.raises(ValueError, match=r"^condition: expected 2 rows, one for each sample, got 0; give as many$"):
            MODEL.sample(2, condition=labels[:0])
        with pytest.raises(ValueError, match=r"^condition: expected labels from 0 to 9, or -1 for none, got 1 to 10"):
            MODEL.sample(2, condition=torch.tensor([1, 10]))

    def test_seeds_are_not_cut_to_whole_numbers(self) -> None:
        for seeds in ([0.5, 1.5], torch.tensor([0.5]), np.array([0.5]), [2**64], "ab"):
            with pytest.raises(ValueError, match=r"^seeds: expected"):
                NoiseSource(seeds)  # type: ignore[arg-type]
