"""What is given to a sampler in place of a denoiser is refused in words; a denoiser's own mistake is its own."""

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
