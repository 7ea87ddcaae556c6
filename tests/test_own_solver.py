"""A solver, a driver and a schedule of a user's own: with no more than they must have, they work wherever ours do."""

from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from typing import Any, Self

import pytest
import torch
from torch import Tensor

from unsteep.core.level import NoiseLevel, like, preserving_level
from unsteep.core.noise import NoiseSource
from unsteep.core.schedules import VP, finite_range, steps_of
from unsteep.denoiser import Denoiser
from unsteep.model import Description, Model, ModelConfig
from unsteep.model.tuned_grid import tune_grid
from unsteep.networks import MLPConfig
from unsteep.sampling import (
    DDIM,
    SOLVERS,
    SPACINGS,
    Adaptive,
    Ancestral,
    Driver,
    Euler,
    Frame,
    GaussianFrame,
    Known,
    PredictorCorrector,
    Singlestep,
    Step,
    Traits,
    UniPC,
    fitted,
    grid,
    levels_for,
    traits,
)
from unsteep.sampling.tuning import grid_name
from unsteep.spaces import Vectors


@dataclass(frozen=True, kw_only=True)
class Straight:
    """DDIM, as CONTRIBUTING shows how to write it."""

    share: float = 1.0

    def step(self, denoise: Any, x: Tensor, now: Any, nxt: Any, noise: Any, memory: Any, at: Any) -> Any:
        estimate = denoise(x, now)
        return like(nxt.alpha, x) * estimate.x0 + like(self.share * nxt.sigma, x) * estimate.eps, estimate, None


@dataclass(frozen=True, kw_only=True)
class Told(Straight):
    """Says all that it can, lays its own grid, and listens to the model."""

    order: int = 5
    frame: Frame | None = field(default=None, metadata={"setting": False})
    spacing = "karras"
    calls = 3
    flows = True

    @property
    def draws(self) -> bool:
        return self.share < 1

    @property
    def converges(self) -> float:
        return 1.5

    def levels(self, schedule: Any, steps: int) -> NoiseLevel:
        levels: NoiseLevel = schedule(torch.linspace(1, 0, 2 * steps + 1, dtype=torch.float64))
        return levels

    def fitted(self, known: Known) -> Self:
        return type(self)(share=self.share, order=self.order, frame=known.frame)


@dataclass(frozen=True, kw_only=True)
class Halving:
    """log(alpha / sigma) linear in t: with no `steps`, and no base class."""

    logsnr_min: float = -10.0
    logsnr_max: float = 10.0

    def __call__(self, t: Any) -> NoiseLevel:
        t = torch.as_tensor(t, dtype=torch.float64)
        logsnr = self.logsnr_max + t * (self.logsnr_min - self.logsnr_max)
        return preserving_level(t, torch.where(t == 0, torch.inf, logsnr))

    def inverse(self, logsnr: Any) -> NoiseLevel:
        logsnr = torch.as_tensor(logsnr, dtype=torch.float64)
        t = (self.logsnr_max - logsnr) / (self.logsnr_max - self.logsnr_min)
        return self(t.clamp(0, 1))


def vectors(schedule: Any) -> Model:
    torch.manual_seed(0)
    description = Description(
        model=ModelConfig(network=MLPConfig(width=16, depth=1), prediction="x0"),
        schedule=schedule,
        space=Vectors(mean=(100.0, -5.0), std=(3.0, 0.1)),
    ).filled()
    statistics = {"mean": torch.zeros(2), "std": torch.tensor([0.5, 0.5]), "basis": torch.eye(2)[:, :1]}
    return Model(description.build(), description, statistics)


@pytest.fixture(scope="module")
def model() -> Model:
    return vectors(VP())


@dataclass(frozen=True, kw_only=True)
class Halfway:
    """A driver: half of what is left of the way in log-SNR, until the step is short."""

    frame: Frame | None = field(default=None, metadata={"setting": False})

    def walk(self, denoise: Any, x: Tensor, schedule: Any, noise: NoiseSource) -> Iterator[Step]:
        assert not torch.is_grad_enabled()
        level, (_, high) = schedule(1.0), finite_range(schedule)
        while float(level.logsnr) < high - 0.5:
            nxt = schedule.inverse((level.logsnr + high) / 2)
            x, estimate, _ = Straight().step(denoise, x, level, nxt, noise, None, None)
            yield Step(x, estimate, nxt)
            level = nxt
        estimate = denoise(x, level)
        yield Step(estimate.x0, estimate, schedule(0.0))

    def fitted(self, known: Known) -> Self:
        return type(self)(frame=known.frame)


class TestTraits:
    def test_of_a_solver_that_says_nothing(self) -> None:
        assert traits(Straight()) == Traits(calls=1, spacing="trailing", draws=False, flows=False, order=None)

    def test_of_one_that_says_all(self) -> None:
        """Its own settings have no part in it: `order` is one of them."""
        assert traits(Told()) == Traits(calls=3, spacing="karras", draws=False, flows=True, order=1.5)
        assert traits(Told(share=0.5)).draws

    def test_settings_decide(self) -> None:
        assert [traits(DDIM(eta=eta)).draws for eta in (0.0, 0.3)] == [False, True]
        assert traits(Euler(churn=0.1)) == Traits(draws=True)
        assert traits(Singlestep(order=3)) == Traits(calls=3, spacing="logsnr", flows=True, order=3)
        assert [traits(UniPC(order=2, corrector=on)).order for on in (False, True)] == [2, 3]
        assert traits(PredictorCorrector(corrections=3)).calls == 4

    def test_none_is_a_setting(self) -> None:
        """They are no fields, but for an order that is chosen."""
        for name, solver in SOLVERS.items():
            assert not {one.name for one in fields(solver)} & {"calls", "spacing", "draws", "flows", "converges"}, name
            assert traits(solver).spacing in SPACINGS


class TestGrids:
    def test_the_spacing_it_wants_or_the_levels_it_lays(self) -> None:
        assert torch.equal(levels_for(None, VP(), 4, Straight(), {}).t, grid(VP(), 4, "trailing").t)
        assert torch.equal(levels_for(None, VP(), 4, UniPC(), {}).t, grid(VP(), 4, "logsnr").t)
        assert len(levels_for(None, VP(), 4, Told(), {})) == 9
        assert torch.equal(levels_for("logsnr", VP(), 4, Told(), {}).t, grid(VP(), 4, "logsnr").t)

    def test_a_name_for_its_tuned_grid(self) -> None:
        assert grid_name(Straight(share=0.9), 6) == "grid/Straight(share=0.9)/6"


class TestKnown:
    KNOWN = Known(frame=Frame.of(torch.zeros(2), torch.tensor([0.7])), variance=lambda name: name or "learned")  # type: ignore[arg-type, return-value]

    def test_who_does_not_listen_stays_the_same(self) -> None:
        for solver in (Straight(), DDIM(), UniPC()):
            assert fitted(solver, self.KNOWN) is solver

    def test_what_ours_take(self) -> None:
        assert fitted(Ancestral(), self.KNOWN) == Ancestral(variance="learned")
        assert fitted(Ancestral(variance="beta"), self.KNOWN) == Ancestral(variance="beta")
        assert fitted(PredictorCorrector(predictor=Ancestral()), self.KNOWN).predictor == Ancestral(variance="learned")
        assert fitted(GaussianFrame(), self.KNOWN).frame is self.KNOWN.frame
        mine = Frame.of(torch.ones(2), torch.tensor([0.1]))
        assert fitted(GaussianFrame(frame=mine), self.KNOWN).frame is mine

    def test_ones_own_is_told(self, model: Model) -> None:
        told = model.resolved(Told())
        assert isinstance(told, Told)
        assert told.frame is not None
        assert told.frame.mean.tolist() == [0, 0]


class TestInAModel:
    def test_it_samples(self, model: Model) -> None:
        ours = model.sample(3, steps=5, solver=DDIM(), seed=3)
        torch.testing.assert_close(model.sample(3, steps=5, solver=Straight(), seed=3), ours, rtol=1e-5, atol=0)
        assert model.sample(3, steps=5, solver=Told(), seed=3).shape == (3, 2)
        assert len(list(model.trajectory(0, 2, steps=5, solver=Told()))) == 10

    def test_a_driver_of_ones_own(self, model: Model) -> None:
        assert isinstance(Halfway(), Driver)
        assert isinstance(Adaptive(), Driver)
        assert not isinstance(Straight(), Driver)
        *_, last = model.trajectory(3, 4, solver=Halfway())
        assert float(last.level.t) == 0
        samples = model.sample(4, solver=Halfway(), seed=3, batch_size=3)
        torch.testing.assert_close(samples, model.space.decode(last.x), rtol=1e-5, atol=0)

    def test_a_grid_is_tuned_for_it(self, model: Model) -> None:
        tuned = tune_grid(model, steps=3, solver=Straight(), seeds=2, evaluations=3)
        assert tuned.name == "grid/Straight()/3"

    def test_on_a_schedule_of_ones_own(self) -> None:
        """On which it and ours are solved on every grid, and data noised."""
        model = vectors(Halving())
        assert steps_of(Halving()) == 1000  # type: ignore[arg-type]
        assert finite_range(Halving())[0] == -10  # type: ignore[arg-type]
        for solver in (None, Straight(), *SOLVERS.values()):
            assert bool(model.sample(2, steps=6, solver=solver).isfinite().all())
        for spacing in SPACINGS[:2] + SPACINGS[4:]:
            assert len(grid(Halving(), 7, spacing)) == 8  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="'step' needs a chain, and Halving has no steps"):
            Denoiser(torch.nn.Identity(), Halving(), noise_label="step")  # type: ignore[arg-type]
