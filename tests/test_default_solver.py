"""What is sampled with where nothing is asked for."""

import pytest
import torch

from unsteep.core.chains import CosineBetas
from unsteep.core.schedules import VP
from unsteep.sampling import DDIM, Frame, GaussianFrame, UniPC, default_solver, given, grid, levels_for

FRAME = Frame.of(torch.zeros(2), torch.tensor([0.5]))


@pytest.mark.parametrize(
    ("steps", "atoms", "guidance", "start", "end"),
    [
        (5, True, 1.0, "call", "denoiser"),
        (20, True, 1.0, "call", "denoiser"),
        (5, False, 1.0, "free", "denoiser"),
        (12, False, 1.0, "free", "smooth"),
        (13, False, 1.0, "call", "smooth"),
        (6, False, 2.0, "free", "denoiser"),
        (7, False, 2.0, "call", "denoiser"),
        (7, False, 0.0, "free", "denoiser"),
    ],
)
def test_by_calls_data_and_guidance(steps: int, atoms: bool, guidance: float, start: str, end: str) -> None:
    solver = default_solver(FRAME, VP(), steps, atoms=atoms, guidance=guidance)
    assert isinstance(solver, GaussianFrame)
    assert (solver.start, solver.end, solver.frame) == (start, end, FRAME)


def test_a_free_start_needs_a_level_more_than_a_chain_of_as_many_steps_has() -> None:
    assert default_solver(FRAME, CosineBetas(steps=5), 5, atoms=False).start == "call"  # type: ignore[attr-defined]
    assert default_solver(FRAME, CosineBetas(steps=6), 5, atoms=False).start == "free"  # type: ignore[attr-defined]


def test_without_statistics() -> None:
    schedule = VP()
    solver = default_solver(None, schedule, 8, atoms=True)
    assert solver == UniPC(order=2)
    assert torch.equal(levels_for(None, schedule, 8, solver, {}).t, grid(schedule, 8, "logsnr").t)


def test_grids_by_name_by_times_and_as_they_are() -> None:
    schedule, solver = VP(), DDIM()
    assert torch.equal(levels_for(None, schedule, 4, solver, {}).t, grid(schedule, 4, "trailing").t)
    assert torch.equal(levels_for("karras", schedule, 4, solver, {}).t, grid(schedule, 4, "karras").t)
    times = given(schedule, (1.0, 0.5, 0.1, 0.0))
    assert torch.equal(levels_for([1.0, 0.5, 0.1, 0.0], schedule, 9, solver, {}).t, times.t)
    assert levels_for(times, schedule, 9, solver, {}) is times
    with pytest.raises(ValueError, match="make one with: unsteep tune-grid RUN --steps 4"):
        levels_for("tuned", schedule, 4, solver, {})
