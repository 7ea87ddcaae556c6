"""Where a model's weights are, and how its network runs there."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Self

import torch

from unsteep.core.arguments import MOST_SAMPLES, kind, shown, whole
from unsteep.core.precision import Precision
from unsteep.core.protocols import Space
from unsteep.data import cache
from unsteep.denoiser import Denoiser
from unsteep.model.description import Description
from unsteep.networks import compiling
from unsteep.networks.precision import Asked, Decision, decided, run_in
from unsteep.networks.taking import fitting


class Placed:
    """A denoiser on a device, in a precision, compiled or not: `took` and `compiled` say why."""

    denoiser: Denoiser
    description: Description
    took: Decision
    compiled: compiling.Taken

    @property
    def space(self) -> Space:
        """What the model's tensors mean."""
        return self.description.space

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.denoiser.parameters(), torch.empty(0)).device

    @property
    def precision(self) -> Precision:
        """In which the network runs."""
        return self.denoiser.precision

    def fitting(self) -> AbstractContextManager[None]:
        """Inside it no call of the network takes more memory than may be used (see `networks.taking`)."""
        return fitting(self.denoiser, self.device, self.precision)

    def to(
        self,
        device: torch.device | str | None = None,
        *,
        precision: Asked | None = None,
        rows: int = 64,
        compile: compiling.Asked | None = None,
    ) -> Self:
        """Moves the weights, and runs the network in another precision: "auto" measures which is the fastest for `rows`
        samples at a time, and `took` says why (see `networks.precision`). The weights stay float32. `compile`: "on",
        "off", or "auto", where it can be (see `networks.compiling`)."""
        if device is not None:
            self._move(device)
        if precision is not None:
            rows = whole("rows", rows, 1, MOST_SAMPLES)
            self.took = decided(precision, self.denoiser, self.device, self.space.shape, rows)
            run_in(self.denoiser, self.took.precision)
        if compile is not None:
            self.compiled = compiling.decided(compile, self.device)
        if compile is not None or device is not None:
            compiling.compile_in(self.denoiser, self.compiled, cache.compiled())
        return self

    def _move(self, device: torch.device | str) -> None:
        kind("device", device, (str, torch.device), "a device, as cpu", "name one")
        try:
            self.denoiser.to(device)
        except (RuntimeError, AssertionError, NotImplementedError) as error:
            what = str(error).splitlines()[0]
            raise ValueError(f"device: expected one that is here, got {shown(device)}; take cpu ({what})") from None
