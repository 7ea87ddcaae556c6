"""Loss weights: one estimate has one weighted loss whatever the head, and each weight is what its paper says."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from unsteep.analytic import Mixture
from unsteep.core.chains import Chain, CosineBetas, LinearBetas
from unsteep.core.estimate import PREDICTIONS, Estimate
from unsteep.core.gaussian import posterior
from unsteep.core.noise import Draw, Purpose
from unsteep.core.schedules import VP, Cosine, Flow, Schedule
from unsteep.data.batch import Batch
from unsteep.denoiser import Denoise, Denoiser, Head
from unsteep.objectives import EDM, P2, SNR, Debiased, MinSNR, Native, Sigmoid, Simple, TruncatedSNR, Unit

# On the eps error, as functions of S = alpha^2 / sigma^2, written after the papers.
LITERATURE: list[tuple[Any, Callable[[float], float]]] = [
    (Unit(), lambda s: 1),
    (SNR(power=0.5), lambda s: s**-0.5),
    (SNR(power=0.0), lambda s: 1 / s),
    (SNR(power=2.0), lambda s: s),
    (TruncatedSNR(), lambda s: max(1.0, 1 / s)),
    (MinSNR(), lambda s: min(1.0, 5 / s)),
    (MinSNR(gamma=0.5), lambda s: min(1.0, 0.5 / s)),
    (MinSNR(least=1.0), lambda s: min(max(s, 1.0), 5.0) / s),
    (P2(), lambda s: 1 / (1 + s)),
    (P2(gamma=0.5, k=2.0), lambda s: (2 + s) ** -0.5),
    (Debiased(), lambda s: s**-0.5),
    (Sigmoid(), lambda s: 1 / (1 + math.exp(math.log(s) + 1))),
    (Sigmoid(bias=2.0), lambda s: 1 / (1 + math.exp(math.log(s) - 2))),
    (EDM(), lambda s: 1 + 4 / s),
    (EDM(data_std=2.0), lambda s: 1 + 1 / (4 * s)),
]
every_weight = pytest.mark.parametrize("weight", [pytest.param(w, id=str(w)) for w, _ in LITERATURE])

PRESERVING: dict[str, Schedule] = {"linear": LinearBetas(), "vp": VP(), "cosine": Cosine()}
SILENT: dict[str, Schedule] = {
    "flow": Flow(),
    "zero-terminal": LinearBetas(zero_terminal=True),
    "cosine-whole": Cosine(logsnr_min=-math.inf, logsnr_max=math.inf),
}
HEADS: list[Any] = [
    pytest.param(schedule, head, id=f"{name}-{head}")
    for name, schedule in {**PRESERVING, **SILENT}.items()
    for head in (*PREDICTIONS, "mean")
    if name in PRESERVING or head not in ("eps", "score")
]
WRONG = Mixture(torch.tensor([[-1.0, 0.3], [0.8, 0.1]]), torch.tensor([0.2, 0.5]))


def close(a: Tensor, b: Tensor, rtol: float = 0.0, atol: float = 0.0) -> None:
    torch.testing.assert_close(a, b, rtol=rtol, atol=atol)


def randn(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64)


class Says(nn.Module):
    """A network that says of each x_t what `denoise` estimates, in the words of the head."""

    def __init__(self, denoise: Denoise, schedule: Schedule, head: Head) -> None:
        super().__init__()
        self.denoise, self.schedule, self.head = denoise, schedule, head

    def forward(self, x: Tensor, noise_label: Tensor, **condition: Tensor) -> Tensor:
        now = self.schedule(noise_label / 1000)
        estimate = self.denoise(x, now)
        if self.head == "mean":
            return posterior(estimate.x0, x, now, self.schedule((now.t - 0.001).clamp(min=0))).mean
        return estimate.as_(self.head)


def denoiser(schedule: Schedule, head: Head, denoise: Denoise = WRONG) -> Denoiser:
    return Denoiser(Says(denoise, schedule, head), schedule, head, noise_label="time")


class At(Draw):
    """Every example at its own given time."""

    def __init__(self, t: Tensor) -> None:
        super().__init__(0, 0, torch.arange(len(t)), len(t))
        self.t = t

    def uniform(self, purpose: Purpose) -> Tensor:
        return self.t


T = torch.tensor([0.004, 0.05, 0.3, 0.5, 0.8, 0.97, 1.0], dtype=torch.float64)
BATCH = Batch(randn(len(T), 2), None, torch.arange(len(T)))


def losses(schedule: Schedule, head: Head, weight: Any) -> Tensor:
    return Simple(weight=weight)(denoiser(schedule, head), BATCH, At(T)).value


def x0_errors(schedule: Schedule) -> Tensor:
    """What stands behind every head: the mean squared error of the wrong x0."""
    level, eps = schedule(T).like(BATCH.x), At(T).normal(BATCH.x, Purpose.NOISE)
    return ((WRONG(level.alpha * BATCH.x + level.sigma * eps, schedule(T)).x0 - BATCH.x) ** 2).mean(1)


class TestHeads:
    @every_weight
    @pytest.mark.parametrize(("schedule", "head"), HEADS)
    def test_one_estimate_has_one_loss(self, schedule: Schedule, head: Head, weight: Any) -> None:
        """Also at t = 1 where nothing of the data is left, for the heads that still know x0 there."""
        got = losses(schedule, head, weight)
        assert bool(got.isfinite().all())
        close(got, weight(schedule(T)) * x0_errors(schedule), rtol=1e-6)

    @pytest.mark.parametrize(("schedule", "head"), [p for p in HEADS if p.values[1] not in ("mean", "score")])
    @pytest.mark.parametrize("gamma", [5.0, 0.3])
    def test_min_snr_by_head(self, schedule: Schedule, head: Head, gamma: float) -> None:
        """What the native loss of each head is multiplied by: right for v and flow and at zero SNR."""
        level = schedule(T)
        a, s = level.alpha, level.sigma
        snr = (a / s) ** 2
        factor = {
            "x0": snr.clamp(max=gamma),
            "eps": (gamma / snr).clamp(max=1),
            "v": snr.clamp(max=gamma) * s**2 / (a**2 + s**2),
            "flow": snr.clamp(max=gamma) * s**2 / (a + s) ** 2,
        }[head]
        close(losses(schedule, head, MinSNR(gamma=gamma)), factor * losses(schedule, head, Native()), rtol=1e-9)

    @pytest.mark.parametrize("schedule", SILENT.values(), ids=SILENT)
    @pytest.mark.parametrize("head", ["x0", "v", "flow"])
    def test_of_what_is_learned_at_zero_snr(self, schedule: Schedule, head: Head) -> None:
        """min(S, g) gives pure noise no weight; weights that are not 0 on x0 do."""
        assert float(losses(schedule, head, MinSNR())[-1]) == 0
        for weight in (SNR(power=0.0), TruncatedSNR(), EDM(data_std=1.0)):
            close(losses(schedule, head, weight)[-1], x0_errors(schedule)[-1], rtol=1e-9)


class TestLiterature:
    @pytest.mark.parametrize(("weight", "on_eps"), [pytest.param(w, f, id=str(w)) for w, f in LITERATURE])
    @pytest.mark.parametrize("name", PRESERVING)
    def test_on_both_errors(self, name: str, weight: Any, on_eps: Callable[[float], float]) -> None:
        """On the eps error w(S), on the x0 error S w(S)."""
        schedule = PRESERVING[name]
        snr = schedule(T).logsnr.exp()
        w = torch.tensor([on_eps(float(s)) for s in snr], dtype=torch.float64)
        close(losses(schedule, "eps", weight), w * losses(schedule, "eps", Native()), rtol=1e-9)
        close(losses(schedule, "x0", weight), snr * w * losses(schedule, "x0", Native()), rtol=1e-9)

    @pytest.mark.parametrize("std", [0.5, 1.3])
    def test_edm_is_unit_on_its_own_head(self, std: float) -> None:
        """EDM noises y = x0 + s n, and reads D = c_skip y + c_out F; its F has an unweighted loss."""
        for schedule in (Flow(), VP()):
            level, x0 = schedule(T[:-1]), BATCH.x[:-1]
            s = (level.sigma / level.alpha)[:, None]
            y = x0 + s * At(T[:-1]).normal(x0, Purpose.NOISE)
            c_skip, c_out = std**2 / (s**2 + std**2), s * std / (s**2 + std**2).sqrt()
            f = 0.3 * y.sin()  # whatever a network says
            target = (x0 - c_skip * y) / c_out

            said = c_skip * y + c_out * f
            module = Denoiser(Fixed(said), schedule, "x0", noise_label="time")
            got = Simple(weight=EDM(data_std=std))(module, Batch(x0, None, torch.arange(len(x0))), At(T[:-1]))
            close(got.value, ((f - target) ** 2).mean(1), rtol=1e-9)

    def test_finite_and_not_negative_at_every_level(self, schedule: Schedule) -> None:
        steps = schedule.steps or 1000
        t = torch.cat([torch.tensor([1e-6]).double(), torch.arange(1, steps + 1, dtype=torch.float64) / steps])
        level = schedule(t)
        for weight, _ in LITERATURE:
            w = weight(level)
            assert w.dtype == torch.float64
            assert w.shape == t.shape
            assert bool((w.isfinite() & (w >= 0)).all())
            assert weight(level[0]).shape == ()


class TestNative:
    @pytest.mark.parametrize("head", PREDICTIONS)
    def test_is_one_in_the_words_of_the_head(self, head: Head) -> None:
        """A score's error is taken times sigma: that of its eps."""
        schedule = VP()
        level, eps = schedule(T).like(BATCH.x), At(T).normal(BATCH.x, Purpose.NOISE)
        x_t = level.alpha * BATCH.x + level.sigma * eps
        said, truth = (Estimate("x0", x0, x_t, schedule(T)) for x0 in (WRONG(x_t, schedule(T)).x0, BATCH.x))
        kind = "eps" if head == "score" else head
        error = ((said.as_(kind) - truth.as_(kind)) ** 2).mean(1)  # type: ignore[arg-type]  # no mean among these
        close(losses(schedule, head, Native()), error, rtol=1e-6)

    @pytest.mark.parametrize("chain", [LinearBetas(), CosineBetas(), LinearBetas(zero_terminal=True)], ids=str)
    def test_of_a_posterior_mean_is_its_own_error(self, chain: Chain) -> None:
        """At every step, the first too, where the posterior is x0 itself."""
        t = torch.tensor([0.001, 0.002, 0.5, 1.0], dtype=torch.float64)
        x0 = randn(4, 3)
        network = Fixed(randn(4, 3).cos())
        loss = Simple()(Denoiser(network, chain, "mean"), Batch(x0, None, torch.arange(4)), At(t))
        level, eps = chain(t).like(x0), At(t).normal(x0, Purpose.NOISE)
        mean = posterior(x0, level.alpha * x0 + level.sigma * eps, chain(t), chain((t - 0.001).clamp(min=0))).mean
        close(mean[0], x0[0], rtol=1e-12)
        close(loss.value, ((network.answer - mean) ** 2).mean(1), rtol=1e-9)

    @pytest.mark.parametrize("head", ["x0", "v", "flow"])
    def test_by_itself_it_is_the_default(self, head: Head) -> None:
        assert torch.equal(losses(Flow(), head, Native()), Simple()(denoiser(Flow(), head), BATCH, At(T)).value)


class Fixed(nn.Module):
    """Says the same to everything."""

    def __init__(self, answer: Tensor) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, x: Tensor, noise_label: Tensor, **condition: Tensor) -> Tensor:
        return self.answer
