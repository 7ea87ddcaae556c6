"""What every test shares: one thread, all schedules, two devices that are not there, and which tests are of numbers."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from stand_in import StandIn
from unsteep.core.chains import Betas, Chain, ConstantBetas, CosineBetas, LinearBetas, QuadraticBetas, SigmoidBetas
from unsteep.core.schedules import VP, Cosine, Flow, Karras, Laplace, Schedule, Shifted, SigmoidAlphaBar
from unsteep.pages import progress

torch.set_num_threads(1)

# Of files, runs, studies and pages; all others here are of numbers, and run once more as on other processors.
NOT_NUMBERS = {
    "ablation",
    "any_pictures",
    "bench",
    "benchmarks",
    "budget",
    "captions",
    "check",
    "cifar",
    "classifier",
    "clock",
    "comparison",
    "compiling",
    "config",
    "data",
    "doctor",
    "documents",
    "domain_features",
    "edit",
    "emoji",
    "evaluation",
    "examples",
    "foreign",
    "frozen_text_runs",
    "hostile",
    "likelihood_studies",
    "locks",
    "motion_metrics",
    "names",
    "no_network",
    "own_components",
    "pages",
    "picture_runs",
    "places",
    "pose_data",
    "pose_files",
    "pose_movies",
    "pose_runs",
    "progress",
    "read_wrongly",
    "recipe_quality",
    "recipes",
    "run",
    "shapes",
    "shapes_accuracy",
    "sizing",
    "starting",
    "storage",
    "structure",
    "studies",
    "survey",
    "text_runs",
    "wrong_types",
}


@pytest.hookimpl(tryfirst=True)  # before the marks are chosen from
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent == Path(__file__).parent and item.path.stem.removeprefix("test_") not in NOT_NUMBERS:
            item.add_marker(pytest.mark.numbers)


CHAINS: dict[str, Chain] = {
    "linear": LinearBetas(),
    "linear-21": LinearBetas(steps=21),
    "linear-4000": LinearBetas(steps=4000),
    "scaled-linear": QuadraticBetas(start=0.00085, end=0.012),
    "quadratic-30": QuadraticBetas(steps=30),
    "constant-11": ConstantBetas(steps=11),
    "sigmoid-100": SigmoidBetas(steps=100),
    "cosine": CosineBetas(),
    "cosine-1": CosineBetas(steps=1),
    "cosine-2": CosineBetas(steps=2),
    "cosine-20": CosineBetas(steps=20),
    "cosine-4000": CosineBetas(steps=4000),
    "one-beta": Betas((0.3,)),
    "three-betas": Betas((0.1, 0.9, 0.02)),  # not sorted: nothing asks for that
    "linear-zero": LinearBetas(zero_terminal=True),
    "linear-4000-zero": LinearBetas(steps=4000, zero_terminal=True),
    "scaled-linear-zero": QuadraticBetas(start=0.00085, end=0.012, zero_terminal=True),
    "constant-11-zero": ConstantBetas(steps=11, zero_terminal=True),
    "sigmoid-100-zero": SigmoidBetas(steps=100, zero_terminal=True),
    "cosine-2-zero": CosineBetas(steps=2, zero_terminal=True),
    "cosine-4000-zero": CosineBetas(steps=4000, zero_terminal=True),
    "three-betas-zero": Betas((0.1, 0.9, 0.02), zero_terminal=True),
}

CONTINUOUS: dict[str, Schedule] = {
    "vp": VP(),
    "vp-constant": VP(beta_min=5.0, beta_max=5.0),
    "cosine-continuous": Cosine(),
    "cosine-lopsided": Cosine(logsnr_min=-10.0, logsnr_max=20.0),
    "cosine-whole": Cosine(logsnr_min=float("-inf"), logsnr_max=float("inf")),
    "sigmoid-alpha-bar": SigmoidAlphaBar(),
    "sigmoid-steep": SigmoidAlphaBar(start=0.0, end=3.0, tau=0.3),
    "laplace": Laplace(),
    "laplace-lopsided": Laplace(mu=1.0, b=1.5, logsnr_min=-10.0, logsnr_max=20.0),
    "laplace-whole": Laplace(b=1.5, logsnr_min=float("-inf"), logsnr_max=float("inf")),
    "flow": Flow(),
    "karras": Karras(),
    "karras-straight": Karras(sigma_min=0.01, sigma_max=50.0, rho=1.0),
    "shifted-cosine": Shifted(size=256),
    "shifted-flow": Shifted(schedule=Flow(), size=192),
    "shifted-interpolated": Shifted(schedule=CHAINS["cosine-20"].interpolated(), size=32),
    **{f"{name}-interpolated": chain.interpolated() for name, chain in CHAINS.items()},
}

NOT_PRESERVING = {"flow", "shifted-flow", "karras", "karras-straight"}  # every other schedule has alpha^2 + sigma^2 = 1

SCHEDULES: dict[str, Any] = {**CHAINS, **CONTINUOUS}


def _over(schedules: dict[str, Any]) -> Any:
    return pytest.fixture(params=[pytest.param(s, id=name) for name, s in schedules.items()])


def _given(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture(autouse=True)
def no_more_than_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """No work that tells how far it has come does more than it said there was."""
    advance = progress._InLines.advance

    def advanced(self: progress._InLines, n: int = 1) -> None:
        advance(self, n)
        assert self._total is None or self._done <= self._total, f"{self._what}: {self._done} of {self._total}"

    monkeypatch.setattr(progress._InLines, "advance", advanced)


@pytest.fixture(params=["mps", "xpu"])
def device(request: pytest.FixtureRequest) -> Iterator[torch.device]:
    """One without float64, and one with it, which only refuses to mix."""
    with StandIn(request.param, float64=request.param == "xpu") as there:
        yield there


# A law of all schedules takes `schedule`; one of chains takes `chain`; and so on. A new schedule joins the lists above.
schedule = _over(SCHEDULES)(_given)
chain = _over(CHAINS)(_given)
continuous = _over(CONTINUOUS)(_given)
preserving = _over({name: s for name, s in SCHEDULES.items() if name not in NOT_PRESERVING})(_given)


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nothing is kept where a user's things are kept."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("UNSTEEP_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
