"""What is sampled with where nothing is asked for."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from unsteep.analytic import Mixture
from unsteep.core.chains import CosineBetas
from unsteep.core.level import NoiseLevel
from unsteep.core.noise import NoiseSource
from unsteep.core.schedules import VP
from unsteep.sampling import DDIM, Frame, GaussianFrame, Solver, UniPC, default_solver, given, grid, levels_for, sample

FRAME = Frame.of(torch.zeros(2), torch.tensor([0.5]))


@pytest.mark.parametrize(
    ("steps", "atoms", "guidance", "start", "end"),
    [
        (5, True, 1.0, "free", "denoiser"),
        (6, True, 1.0, "call", "denoiser"),
        (5, True, 2.0, "call", "denoiser"),
        (20, True, 1.0, "call", "denoiser"),
        (5, False, 1.0, "free", "smooth"),
        (12, False, 1.0, "free", "smooth"),
        (50, False, 1.0, "free", "smooth"),
        (12, False, 2.0, "free", "smooth"),
        (13, False, 2.0, "call", "smooth"),
        (7, False, 0.0, "free", "smooth"),
    ],
)
def test_by_calls_data_and_guidance(steps: int, atoms: bool, guidance: float, start: str, end: str) -> None:
    solver = default_solver(FRAME, VP(), steps, atoms=atoms, guidance=guidance)
    assert isinstance(solver, GaussianFrame)
    assert (solver.start, solver.end, solver.frame) == (start, end, FRAME)


def test_a_free_start_needs_a_level_more_than_a_chain_of_as_many_steps_has() -> None:
    assert default_solver(FRAME, CosineBetas(steps=5), 5, atoms=False).start == "call"  # type: ignore[attr-defined]
    assert default_solver(FRAME, CosineBetas(steps=6), 5, atoms=False).start == "free"  # type: ignore[attr-defined]


@pytest.mark.parametrize("atoms", [True, False])
def test_without_statistics(atoms: bool) -> None:
    """The frame of standard deviation 0.5, whose mean is not to be counted on."""
    told = Frame.of(torch.zeros(()), torch.tensor([0.5]))
    for steps in (5, 12, 20):
        solver = default_solver(None, VP(), steps, atoms=atoms)
        assert isinstance(solver, GaussianFrame)
        assert solver.start == "call"
        levels = levels_for(None, VP(), steps, solver, {})
        assert torch.equal(levels.t, replace(solver, frame=told).levels(VP(), steps).t)


@pytest.mark.parametrize("steps", [5, 10])
def test_without_statistics_it_is_nearer_than_ddim_on_a_cosine_chain(steps: int) -> None:
    """To the answer of all its levels."""
    chain = CosineBetas()
    data = Mixture(torch.tensor([[-0.9, 0.2], [0.4, 0.9], [0.7, -0.8]]), torch.full((3,), 0.3**2))
    x = torch.randn(64, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def end(solver: Solver, levels: NoiseLevel) -> Tensor:
        return sample(data, x, levels, solver, NoiseSource(range(64)), chain.inverse)

    truth = end(UniPC(), grid(chain, 1000))
    solver = default_solver(None, chain, steps, atoms=True)
    mine, ddim = (
        (end(one, levels_for(None, chain, steps, one, {})) - truth).norm(dim=1).median() for one in (solver, DDIM())
    )
    assert mine < 0.6 * ddim


def test_grids_by_name_by_times_and_as_they_are() -> None:
    schedule, solver = VP(), DDIM()
    assert torch.equal(levels_for(None, schedule, 4, solver, {}).t, grid(schedule, 4, "trailing").t)
    assert torch.equal(levels_for("karras", schedule, 4, solver, {}).t, grid(schedule, 4, "karras").t)
    times = given(schedule, (1.0, 0.5, 0.1, 0.0))
    assert torch.equal(levels_for([1.0, 0.5, 0.1, 0.0], schedule, 9, solver, {}).t, times.t)
    assert levels_for(times, schedule, 9, solver, {}) is times
    with pytest.raises(ValueError, match="make one with: unsteep tune-grid RUN --steps 4"):
        levels_for("tuned", schedule, 4, solver, {})
