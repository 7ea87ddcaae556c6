"""What is given to a sampler in place of a denoiser is refused in words; a denoiser's own mistake is its own."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import unsteep
from unsteep.networks import UNetConfig

LEVELS = unsteep.grid(unsteep.LinearBetas(), 3)
X = torch.zeros(2, 1, 8, 8)
NETWORK = UNetConfig(channels=1, size=8, width=8, groups=4, multipliers=(1,), blocks=1, attention=())


class Broken:
    """A solver that fails on its own."""

    def step(self, *_: Any) -> Any:
        return None.nothing  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "other",
    [NETWORK.build(), NETWORK, unsteep.Denoiser, lambda x: x, lambda x, level: x, None, "ddim"],
    ids=["network", "configuration", "class", "of x alone", "tensors", "none", "text"],
)
@pytest.mark.parametrize("solver", [unsteep.DDIM(), unsteep.Heun(), unsteep.UniPC()], ids=str)
def test_what_is_no_denoiser_is_refused(other: Any, solver: Any) -> None:
    with pytest.raises(ValueError, match=r"^denoise: expected a denoiser"):
        unsteep.sample(other, X, LEVELS, solver, unsteep.NoiseSource([0, 1]))


def test_a_solver_that_fails_is_not_the_denoisers_fault() -> None:
    def denoise(x: Tensor, level: unsteep.NoiseLevel) -> unsteep.Estimate:
        return unsteep.Estimate("eps", x, x, level)

    with pytest.raises(AttributeError, match="nothing"):
        unsteep.sample(denoise, X, LEVELS, Broken(), unsteep.NoiseSource([0, 1]))


def test_what_a_solver_of_ones_own_returns_is_looked_at() -> None:
    class Forgetful:
        def step(self, *given: object) -> None:
            return None

    with pytest.raises(ValueError, match=r"solver: expected step\(\) to return \(x, estimate, memory\), got None"):
        list(unsteep.trajectory(NETWORK.build(), X, LEVELS, Forgetful(), unsteep.NoiseSource(range(2))))  # type: ignore[arg-type]


@dataclass(frozen=True, kw_only=True)
class Bare:
    """A source that reads no data set."""

    def read(self, split: str = "train") -> Tensor:
        return torch.zeros(8, 1, 8, 8)


def test_what_a_source_of_ones_own_reads_is_looked_at(tmp_path: Path) -> None:
    run = unsteep.Run(data=Bare())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"data: expected read\(\) to give a DataSet"):
        unsteep.train(run, out=tmp_path / "run", steps=1)
