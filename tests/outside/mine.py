"""Parts of one's own, of every kind, as a user would write them beside the package: those that CONTRIBUTING shows, and
such as do more."""

import hashlib
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from unsteep.core.level import NoiseLevel
from unsteep.core.protocols import Hears, Rows, Space
from unsteep.core.schedules import preserving_level
from unsteep.objectives import Loss

GUIDE = Path(__file__).parents[2] / "CONTRIBUTING.md"
for block in re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL):
    exec(compile(block, str(GUIDE), "exec"))  # what a reader would write here


@dataclass(frozen=True, kw_only=True)
class Line:
    """A schedule: the log-SNR is a straight line in log t."""

    low: float = -6.0
    slope: float = 2.0
    preserving = True

    @property
    def logsnr_min(self) -> float:
        return self.low

    @property
    def logsnr_max(self) -> float:
        return math.inf

    def __call__(self, t: Any) -> NoiseLevel:
        t = torch.as_tensor(t, dtype=torch.float64)
        return preserving_level(t, self.low - self.slope * t.log())

    def inverse(self, logsnr: Any) -> NoiseLevel:
        logsnr = torch.as_tensor(logsnr, dtype=torch.float64).clamp(min=self.low)
        return self(((self.low - logsnr) / self.slope).exp())


@dataclass(frozen=True, kw_only=True)
class Mixing:
    """A network for whatever the space is: it mixes within the last axis, and is told the noise and the temperature."""

    width: int = 16
    last: int = 0
    outputs: int = 1
    hears: bool = False

    def fitted(self, space: Space, outputs: int, heard: Mapping[str, Hears]) -> Self:
        if unknown := heard.keys() - {"temperature"}:
            raise ValueError(f"Mixing hears a temperature alone, not {min(unknown)}")
        return replace(self, last=space.shape[-1], outputs=outputs, hears=bool(heard))

    def build(self) -> nn.Module:
        return MixingNetwork(self)


class MixingNetwork(nn.Module):
    def __init__(self, of: Mixing) -> None:
        super().__init__()
        self.of = of
        self.first, self.told = nn.Linear(of.last, of.width), nn.Linear(2, of.width)
        self.out = nn.Linear(of.width, of.last)

    def forward(self, x: Tensor, noise_label: Tensor, temperature: Tensor | None = None) -> Tensor:
        heat = torch.zeros_like(noise_label) if temperature is None else temperature.to(noise_label)
        told = self.told(torch.stack([noise_label / 1000, heat], 1))
        told = told.reshape(len(x), *(1,) * (x.ndim - 2), -1)
        return self.out(torch.tanh(self.first(x) + told))


@dataclass(frozen=True, kw_only=True)
class Temperature:
    """A condition: the mean of an example, by which it can be asked for."""

    name = "temperature"

    def fitted(self, data: Any) -> Self:
        return self

    def of(self, rows: Rows, draw: Any = None) -> dict[str, Tensor]:
        return {"temperature": rows.x.float().flatten(1).mean(1) / 180}

    def asked(self, value: Any, n: int, seeds: Sequence[int]) -> dict[str, Tensor]:
        if value is None:
            return self.null(n)
        return {"temperature": torch.full((n,), float(value) / 180)}

    def null(self, n: int) -> dict[str, Tensor]:
        return {"temperature": torch.zeros(n)}

    def describe(self) -> str:
        return "temperature"


@dataclass(frozen=True, kw_only=True)
class Compass:
    """A source: angles that point north, more or less."""

    count: int = 64
    numbers: int = 3

    def read(self, split: str = "train") -> "Pointing":
        return Pointing(self.count, self.numbers, 0 if split == "train" else 1)


class Pointing:
    """A data set that makes its examples when they are asked for."""

    names: tuple[str, ...] = ()
    skipped: tuple[tuple[str, str], ...] = ()
    levels = None
    source = "a compass"

    def __init__(self, count: int, numbers: int, seed: int) -> None:
        self.count, self.numbers, self.seed = count, numbers, seed

    @property
    def digest(self) -> str:
        return hashlib.sha256(f"{self.count} {self.numbers} {self.seed}".encode()).hexdigest()

    def __len__(self) -> int:
        return self.count

    def rows(self, index: Tensor) -> Rows:
        each = [
            30 * torch.randn(self.numbers, generator=torch.Generator().manual_seed(1000 * self.seed + i))
            for i in index.tolist()
        ]
        return Rows(x=torch.stack(each), index=index)

    def summary(self) -> list[tuple[str, str]]:
        return [("source", self.source), ("count", str(self.count))]


@dataclass(frozen=True, kw_only=True)
class Absolute:
    """An objective: the absolute error of what is predicted."""

    def __call__(self, module: nn.Module, batch: Any, draw: Any) -> Loss:
        from unsteep.core.level import add_noise
        from unsteep.core.noise import Purpose
        from unsteep.denoiser import Denoiser

        assert isinstance(module, Denoiser)
        t = draw.uniform(Purpose.TIME)
        level, eps = module.schedule(t), draw.normal(batch.x, Purpose.NOISE)
        said = module(add_noise(batch.x, eps, level), level, batch.condition)
        return Loss((said.x0 - batch.x).abs().flatten(1).mean(1), t)


@dataclass(frozen=True, kw_only=True)
class Boasting(Straight):  # type: ignore[name-defined]  # noqa: F821
    """A solver that says too much of itself."""

    order, calls = 2, 2


def parts() -> Iterator[str]:
    """Their names, as a configuration has them."""
    for name in ("Line", "Mixing", "Angles", "Temperature", "Compass", "Absolute"):
        yield f"mine:{name}"
