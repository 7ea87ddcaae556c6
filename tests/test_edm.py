"""EDM (Karras et al. 2022): its preconditioning is a v head on data brought to unit variance."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import unsteep
from unsteep.core.estimate import Estimate
from unsteep.core.level import NoiseLevel, add_noise
from unsteep.core.noise import Draw, Purpose
from unsteep.core.schedules import Karras
from unsteep.data import Array
from unsteep.data.batch import Batch
from unsteep.denoiser import Denoiser
from unsteep.model import ModelConfig
from unsteep.networks import MLPConfig
from unsteep.objectives import EDM, Simple
from unsteep.training import denoising
from unsteep.training import run as runs
from unsteep.training.loop import TrainConfig
from unsteep.training.run import Run

STDS = [1.0, 0.5, 3.0]


def randn(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64)


class F(nn.Module):
    """Any function of c_in x and c_noise = log(sigma) / 4."""

    def forward(self, scaled: Tensor, c_noise: Tensor) -> Tensor:
        return torch.sin(3 * scaled) + scaled.flip(1) * c_noise[:, None] + 0.2


@dataclass
class Theirs:
    """Table 1, in the units of data of standard deviation s: D(x; sigma) = c_skip x + c_out F(c_in x; c_noise)."""

    s: float

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        total = sigma**2 + self.s**2
        c_skip, c_out, c_in = self.s**2 / total, sigma * self.s / total.sqrt(), 1 / total.sqrt()
        said = F()(c_in[:, None] * x, sigma.log() / 4)
        return c_skip[:, None] * x + c_out[:, None] * said

    def loss(self, y: Tensor, n: Tensor, sigma: Tensor) -> Tensor:
        """lambda(sigma) |D(y + n; sigma) - y|^2, eq. 8 and table 1."""
        weight = (sigma**2 + self.s**2) / (sigma * self.s) ** 2
        return weight * ((self(y + n, sigma) - y) ** 2).mean(1)


class Ours(nn.Module):
    """Minus the same function, hearing our noise label, 25 (20 - logsnr), where they hear c_noise."""

    def __init__(self, s: float) -> None:
        super().__init__()
        self.s = s

    def forward(self, x: Tensor, noise_label: Tensor) -> Tensor:
        sigma = self.s * torch.exp((noise_label / 25 - 20) / 2)  # in the data's units, alpha = 1
        return -F()(x, sigma.log() / 4)


def pair(s: float) -> tuple[Denoiser, Theirs]:
    """Both on data of standard deviation s; their range of sigma is 0.002 .. 80 in its units."""
    schedule = Karras(sigma_min=0.002 / s, sigma_max=80 / s)
    return Denoiser(Ours(s), schedule, "v", noise_label="logsnr", input_scale="unit"), Theirs(s)


T = torch.tensor([1e-6, 0.05, 0.2, 0.4, 0.6, 0.9, 1.0], dtype=torch.float64)


class At(Draw):
    """Every example at its own given time."""

    def __init__(self, t: Tensor) -> None:
        super().__init__(0, 0, torch.arange(len(t)), len(t))
        self.t = t

    def uniform(self, purpose: Purpose) -> Tensor:
        return self.t


@pytest.mark.parametrize("s", STDS)
class TestPreconditioning:
    def test_a_v_head_is_theirs(self, s: float) -> None:
        ours, theirs = pair(s)
        level, y, n = ours.schedule(T), s * randn(len(T), 3), randn(3, len(T)).T
        sigma = s * level.sigma  # in the data's units
        assert float(sigma[0]) == pytest.approx(0.002, rel=1e-4)
        assert float(sigma[-1]) == pytest.approx(80)
        x_t = add_noise(y / s, n, level)
        wanted = theirs(y + sigma[:, None] * n, sigma)
        torch.testing.assert_close(s * ours(x_t, level).x0, wanted, rtol=1e-10, atol=1e-10)

    def test_f_is_minus_v_where_alpha_is_the_std_of_the_data(self, s: float) -> None:
        """On their own x: y + sigma n = alpha x0 + sigma n, with alpha = s and x0 = y / s."""
        theirs = Theirs(s)
        sigma = torch.tensor([0.002, 0.1, 1.0, 7.0, 80.0], dtype=torch.float64)
        level = NoiseLevel(torch.linspace(0.1, 1, 5), 2 * (s / sigma).log(), torch.full_like(sigma, s), sigma)
        x = s * randn(5, 3) + sigma[:, None] * randn(3, 5).T
        v = Estimate("x0", theirs(x, sigma) / s, x, level).v
        said = F()(x / level.scale[:, None], sigma.log() / 4)
        torch.testing.assert_close(v, -said, rtol=1e-9, atol=1e-9)

    def test_the_unweighted_loss_is_theirs(self, s: float) -> None:
        ours, theirs = pair(s)
        y, draw = s * randn(len(T), 3), At(T)
        sigma = s * ours.schedule(T).sigma
        n = sigma[:, None] * draw.normal(y, Purpose.NOISE)
        batch = Batch(y / s, None, torch.arange(len(T)))
        wanted = theirs.loss(y, n, sigma)
        torch.testing.assert_close(Simple()(ours, batch, draw).value, wanted, rtol=1e-8, atol=1e-10)
        weighted = Simple(weight=EDM(data_std=1.0))(ours, batch, draw).value
        torch.testing.assert_close(weighted, wanted, rtol=1e-8, atol=1e-10)


def test_trains_and_samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From sigma = 80 down to rows of the data's own mean and spread, which a network that says 0 gives already."""
    monkeypatch.setattr(denoising, "report", lambda *_: None)
    rows = np.random.default_rng(0).normal((5.0, -2.0), (0.5, 3.0), (200, 2)).astype(np.float32)
    np.save(tmp_path / "rows.npy", rows)
    model = ModelConfig(network=MLPConfig(width=16, depth=1), prediction="v", input_scale="unit", noise_label="logsnr")
    train = TrainConfig(steps=20, batch=32, learning_rate=1e-3)
    run = Run(data=Array(path=str(tmp_path / "rows.npy")), model=model, schedule=Karras(), train=train)
    assert runs.start(run, tmp_path / "run", say=lambda _: None)
    model_ = unsteep.load(tmp_path / "run")
    assert model_.denoiser.schedule == Karras()
    for options in ({}, {"grid": "karras"}):
        samples = model_.sample(400, steps=20, batch_size=400, **options)
        torch.testing.assert_close(samples.mean(0), torch.from_numpy(rows).mean(0), rtol=0, atol=0.5)
        torch.testing.assert_close(samples.std(0), torch.from_numpy(rows).std(0), rtol=0.2, atol=0)
