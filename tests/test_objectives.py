"""Objectives: exact losses of exact denoisers, the laws between heads, and randomness by place."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
from torch import Tensor, nn

from unsteep.analytic import Mixture
from unsteep.core import masked
from unsteep.core.chains import LinearBetas
from unsteep.core.condition import Condition
from unsteep.core.estimate import PREDICTIONS, Prediction
from unsteep.core.gaussian import posterior
from unsteep.core.level import NoiseLevel, add_noise
from unsteep.core.noise import Draw, Purpose
from unsteep.core.schedules import VP, Cosine, Flow, Schedule
from unsteep.data.batch import Batch
from unsteep.denoiser import Denoise, Denoiser
from unsteep.objectives import Importance, LogitNormal, Loss, Simple, Stratified, Uniform

SCHEDULES: dict[str, Schedule] = {"vp": VP(), "cosine": Cosine(), "flow": Flow()}
HEADS = [
    pytest.param(schedule, kind, id=f"{name}-{kind}")
    for name, schedule in SCHEDULES.items()
    for kind in PREDICTIONS
    if schedule.logsnr_min > -math.inf or kind not in ("eps", "score")
]


def close(a: Tensor, b: Tensor, rtol: float = 0.0, atol: float = 0.0) -> None:
    torch.testing.assert_close(a, b, rtol=rtol, atol=atol)


def real(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def randn(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64)


def batch(x: Tensor, valid: Tensor | None = None) -> Batch:
    return Batch(x, None if valid is None else Condition(valid=valid), torch.arange(len(x)))


def draw(b: int, seed: int = 0, step: int = 0) -> Draw:
    return Draw(seed, step, torch.arange(b), b)


class Head(nn.Module):
    """A network that knows the schedule, and says of each x_t what `denoise` does, as `kind`."""

    def __init__(self, denoise: Denoise, schedule: Schedule, kind: Prediction) -> None:
        super().__init__()
        self.denoise, self.schedule, self.kind = denoise, schedule, kind

    def forward(self, x: Tensor, noise_label: Tensor, **condition: Tensor) -> Tensor:
        return self.denoise(x, self.schedule(noise_label / 1000)).as_(self.kind)


def denoiser(denoise: Denoise, schedule: Schedule, kind: Prediction) -> Denoiser:
    return Denoiser(Head(denoise, schedule, kind), schedule, kind, noise_label="time")


class Nodes(Draw):
    """Given noise and times in place of drawn ones: integrals by quadrature, to all digits."""

    def __init__(self, eps: Tensor, u: float) -> None:
        super().__init__(0, 0, torch.arange(len(eps)), len(eps))
        self.eps, self.u = eps, u

    def normal(self, like: Tensor, purpose: Purpose) -> Tensor:
        return self.eps

    def uniform(self, purpose: Purpose) -> Tensor:
        return torch.full((self.batch,), self.u, dtype=torch.float64)


class TestSimple:
    @pytest.mark.parametrize(("schedule", "kind"), HEADS)
    def test_the_truth_costs_nothing(self, schedule: Schedule, kind: Prediction) -> None:
        """Of data that are one point x0 and with it eps are known exactly, whatever the noise."""
        point = randn(2, 3)
        loss = Simple()(denoiser(Mixture.points(point[None]), schedule, kind), batch(point.expand(64, 2, 3)), draw(64))
        close(loss.value, torch.zeros(64, dtype=torch.float64), atol=1e-18)

    @pytest.mark.parametrize(("schedule", "kind"), HEADS)
    @pytest.mark.parametrize("t", [0.02, 0.4, 0.97])
    def test_the_best_denoiser_of_a_gaussian_costs_its_ignorance(
        self, schedule: Schedule, kind: Prediction, t: float
    ) -> None:
        """The variance of x0 given x_t is 1 / (1 / c + SNR); the other kinds' errors are that times the plan's factors.

        The loss is quadratic in (x0, eps): 3 x 3 Gauss-Hermite nodes give its expectation."""
        c = 0.25
        node, weight = (torch.from_numpy(part) for part in np.polynomial.hermite_e.hermegauss(3))
        weight = (weight[:, None] * weight).flatten() / (2 * math.pi)
        x0, eps = math.sqrt(c) * node.repeat_interleave(3)[:, None], node.repeat(3)[:, None]
        best = denoiser(Mixture.gaussian(torch.zeros(1), torch.tensor(c)), schedule, kind)
        loss = Simple()(best, batch(x0), Nodes(eps, t))
        level = schedule(t)
        alpha, sigma = float(level.alpha), float(level.sigma)
        ignorance = 1 / (1 / c + (alpha / sigma) ** 2)
        factor = {
            "x0": 1.0,
            "eps": (alpha / sigma) ** 2,
            "score": (alpha / sigma) ** 2,  # times sigma: the error of its eps
            "v": (alpha**2 + sigma**2) / sigma**2,
            "flow": (1 + alpha / sigma) ** 2,
        }[kind]
        assert float((weight * loss.value).sum()) == pytest.approx(factor * ignorance, rel=1e-9)

    @pytest.mark.parametrize(("schedule", "kind"), HEADS)
    def test_wrong_heads_agree_example_by_example(self, schedule: Schedule, kind: Prediction) -> None:
        """The same wrong x0 in another kind costs exactly the factor between them; one draw is one x_t."""
        wrong = Mixture(randn(3, 4), real(0.1, 1.0, 0.3))
        x = batch(2 * randn(32, 4))
        x0_loss = Simple()(denoiser(wrong, schedule, "x0"), x, draw(32, seed=1))
        loss = Simple()(denoiser(wrong, schedule, kind), x, draw(32, seed=1))
        assert torch.equal(loss.t, x0_loss.t)
        level = schedule(loss.t)
        eps_loss = level.alpha**2 / level.sigma**2 * x0_loss.value
        for_eps = {
            "x0": level.alpha**2 / level.sigma**2,
            "eps": torch.ones(32),
            "score": torch.ones(32),
            "v": level.alpha**2 / level.scale**2,
            "flow": level.alpha**2 / (level.alpha + level.sigma) ** 2,
        }[kind]
        close(for_eps * loss.value, eps_loss, rtol=1e-6)

    @pytest.mark.parametrize("kind", PREDICTIONS)
    @pytest.mark.parametrize("shape", [(5,), (2, 4, 4), (7, 3)])
    def test_one_loss_for_each_example(self, shape: tuple[int, ...], kind: Prediction) -> None:
        """Never averaged over the batch: a zero network's loss is the mean square of each example's own target."""
        network = Answer()
        module = Denoiser(network, VP(), kind)
        x = randn(6, *shape).float()
        loss = Simple()(module, batch(x), draw(6))
        assert loss.value.shape == loss.t.shape == (6,)
        assert loss.value.dtype == torch.float32
        assert len(set(loss.value.tolist())) == 6
        eps = draw(6).normal(x, Purpose.NOISE)
        level = VP()(loss.t)
        for i in range(6):
            alpha, sigma = float(level.alpha[i]), float(level.sigma[i])
            close(network.given[i], alpha * x[i] + sigma * eps[i], rtol=1e-5, atol=1e-6)
            wanted = {"x0": x[i], "eps": eps[i], "score": eps[i], "flow": eps[i] - x[i]}
            target = wanted[kind] if kind != "v" else alpha * eps[i] - sigma * x[i]
            assert float(loss.value[i].detach()) == pytest.approx(float((target**2).mean()), rel=1e-4)

    def test_without_signal_losses_stay_finite(self) -> None:
        """Half of the times are t = 1 itself."""

        class Last(Draw):
            def uniform(self, purpose: Purpose) -> Tensor:
                return real(1.0, 0.5, 1.0, 1e-9)

        kinds: tuple[Prediction, ...] = ("x0", "v", "flow")
        for schedule in (Flow(), LinearBetas(zero_terminal=True), Cosine(logsnr_min=-math.inf, logsnr_max=math.inf)):
            for kind in kinds:
                module = Denoiser(Answer(), schedule, kind)
                loss = Simple()(module, batch(randn(4, 3)), Last(0, 0, torch.arange(4), 4))
                assert bool(loss.value.isfinite().all())

    def test_a_score_near_clean_data_is_weighed_by_its_noise(self) -> None:
        """Its raw target is 1 / sigma; the loss of a network that answers 0 is about 1 at every level."""
        for t in (1e-5, 1e-3, 0.5, 1.0):
            loss = Simple()(Denoiser(Answer(), VP(), "score"), batch(randn(2, 5000)), Nodes(randn(2, 5000), t))
            close(loss.value, torch.ones(2, dtype=torch.float64), rtol=0.1)

    def test_gradients_reach_the_network(self) -> None:
        module = Denoiser(Answer(), VP(), "eps")
        Simple()(module, batch(randn(4, 3)), draw(4)).value.sum().backward()
        gain = next(module.parameters())
        assert gain.grad is not None
        assert float(gain.grad.abs()) > 0

    def test_the_condition_reaches_the_network(self) -> None:
        network = Answer()
        label = torch.tensor([2, 0])
        Simple()(Denoiser(network, VP()), Batch(randn(2, 3), Condition(label=label), torch.arange(2)), draw(2))
        assert network.condition["label"] is label

    @pytest.mark.parametrize(
        "schedule", [LinearBetas(), LinearBetas(zero_terminal=True), VP()], ids=["linear", "zero", "vp"]
    )
    def test_a_posterior_mean_costs_its_own_error(self, schedule: Schedule) -> None:
        """The head of a network that answers 0 is wrong by the mean of q(x_nxt | x_now, x0), one step of 1/1000 on."""
        x = randn(16, 5)
        loss = Simple()(Denoiser(Answer(), schedule, "mean"), batch(x), draw(16))
        now, eps = schedule(loss.t), draw(16).normal(x, Purpose.NOISE)
        nxt = schedule((now.t - 0.001).clamp(min=0))
        mean = posterior(x, add_noise(x, eps, now), now, nxt).mean
        close(loss.value.detach(), (mean**2).mean(1), rtol=1e-6)

    def test_the_loss_is_its_only_term(self) -> None:
        loss = Simple()(Denoiser(Answer(), VP()), batch(randn(3, 2)), draw(3))
        assert set(loss.terms) == {"simple"}
        assert torch.equal(loss.terms["simple"], loss.value)
        assert Loss(torch.ones(2), torch.ones(2)).terms == {}


class Answer(nn.Module):
    """Answers its input times a gain that is 0, element by element, and keeps what it was given."""

    def __init__(self, gain: float = 0.0) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(gain))

    def forward(self, x: Tensor, noise_label: Tensor, **condition: Tensor) -> Tensor:
        self.given, self.condition = x.detach(), condition
        return self.gain * x


class TestValid:
    def test_the_mean_by_loops(self) -> None:
        error, valid = randn(3, 4, 5).abs(), torch.tensor([[1, 1, 0, 0], [1, 0, 1, 1], [1, 1, 1, 1]]).bool()
        for i in range(3):
            entries = [float(error[i, f, e]) for f in range(4) for e in range(5) if valid[i, f]]
            assert float(masked.mean(error, valid)[i]) == pytest.approx(math.fsum(entries) / len(entries), rel=1e-14)
            assert float(masked.mean(error, None)[i]) == pytest.approx(float(error[i].mean()), rel=1e-14)

    @pytest.mark.parametrize("garbage", [0.0, 1e6, math.inf, math.nan])
    def test_what_stands_in_padding_does_not_matter(self, garbage: float) -> None:
        error, valid = randn(2, 3, 5), torch.ones(2, 3, dtype=torch.bool)
        padded = torch.cat([error, torch.full((2, 4, 5), garbage, dtype=torch.float64)], 1)
        longer = torch.cat([valid, torch.zeros(2, 4, dtype=torch.bool)], 1)
        close(masked.mean(padded, longer), masked.mean(error, valid), rtol=1e-14)

    @pytest.mark.parametrize("kind", PREDICTIONS)
    def test_the_loss_does_not_change_when_the_padding_grows(self, kind: Prediction) -> None:
        module, x, length = Denoiser(Answer(0.7), VP(), kind), randn(4, 6, 3), torch.tensor([6, 2, 1, 4])
        losses = []
        for frames in (6, 7, 15):
            valid = torch.arange(frames) < length[:, None]
            padded = torch.cat([x, torch.zeros(4, frames - 6, 3)], 1).masked_fill(~valid[..., None], 50.0)
            losses.append(Simple()(module, batch(padded, valid), draw(4)).value.detach())
        close(losses[1], losses[0], rtol=1e-13)
        close(losses[2], losses[0], rtol=1e-13)

    def test_no_gradient_comes_from_padding(self) -> None:
        error, valid = randn(1, 3, 2).requires_grad_(), torch.tensor([[True, False, True]])
        masked.mean(error**2, valid).sum().backward()
        assert error.grad is not None
        assert torch.equal(error.grad[0, 1], torch.zeros(2, dtype=torch.float64))
        close(error.grad[0, ::2], 2 * error.detach()[0, ::2] / 4, rtol=1e-14)


ALL_TIMES = {
    "uniform": Uniform(),
    "stratified": Stratified(),
    "logit-normal": LogitNormal(),
    "noisy": LogitNormal(mean=1.2, std=0.6),
    "importance": Importance(bins=10),  # uniform, until it has seen losses
}
every_times = pytest.mark.parametrize("times", ALL_TIMES.values(), ids=ALL_TIMES)


class TestTimes:
    @every_times
    def test_are_in_range(self, times: Any) -> None:
        t = torch.cat([times(draw(500, step=step)) for step in range(4)])
        assert t.dtype == torch.float64
        assert t.shape == (2000,)
        assert bool(((t > 0) & (t <= 1)).all())

    @every_times
    def test_the_clean_level_is_never_asked_for(self, times: Any) -> None:
        """At the ends of the random numbers, too."""

        class End(Draw):
            end = 0.0

            def uniform(self, purpose: Purpose) -> Tensor:
                return torch.full((self.batch,), self.end, dtype=torch.float64)

            def shared(self, purpose: Purpose) -> Tensor:
                return torch.tensor(self.end, dtype=torch.float64)

        for end in (0.0, 2.0**-33, 1 - 2.0**-33):
            source = End(0, 0, torch.arange(8), 8)
            source.end = end
            t = times(source)
            assert bool(((t > 0) & (t <= 1)).all())
            assert bool((LinearBetas()(t).sigma > 0).all())

    @every_times
    def test_one_place_over_many_steps_has_the_distribution(self, times: Any) -> None:
        """Each example's own marginal, not only the batch's."""
        t = torch.stack([times(draw(4, seed=5, step=step)) for step in range(400)])
        for place in range(4):
            law = self.law(times)
            assert scipy.stats.kstest(t[:, place].numpy(), law).pvalue > 0.005

    @pytest.mark.parametrize("name", ["uniform", "logit-normal", "noisy"])
    def test_a_batch_has_the_distribution(self, name: str) -> None:
        t = ALL_TIMES[name](draw(20_000, seed=3))
        assert scipy.stats.kstest(t.numpy(), self.law(ALL_TIMES[name])).pvalue > 0.01

    @staticmethod
    def law(times: Any) -> Any:
        if isinstance(times, LogitNormal):
            return lambda t: scipy.stats.norm.cdf(np.log(t / (1 - t)), times.mean, times.std)
        return "uniform"

    def test_logit_normal_moments(self) -> None:
        logit = torch.logit(LogitNormal(mean=-0.8, std=1.7)(draw(20_000)))
        assert float(logit.mean()) == pytest.approx(-0.8, abs=4 * 1.7 / 20_000**0.5)
        assert float(logit.std()) == pytest.approx(1.7, rel=4 / 40_000**0.5)

    @staticmethod
    def informed(bins: int = 4, history: int = 3, uniform: float = 0.1) -> Importance:
        """Importance sampling that has seen losses of 0, 1, 2, ... in its bins, after some others that it forgot."""
        times = Importance(bins=bins, history=history, uniform=uniform)
        t = (torch.arange(bins, dtype=torch.float64) + 0.5) / bins
        for _ in range(2):
            times.observe(t, torch.full((bins,), 7.0))
        for _ in range(history):
            times.observe(t, torch.arange(bins))
        return times

    def test_importance_follows_the_losses(self) -> None:
        times = self.informed()
        close(times.probabilities(), 0.9 * real(0, 1, 2, 3) / 6 + 0.1 / 4, rtol=1e-14)
        t = times(draw(20_000))
        counts = torch.bincount((t * 4).ceil().long() - 1, minlength=4)
        assert scipy.stats.chisquare(counts.numpy(), 20_000 * times.probabilities().numpy()).pvalue > 0.01
        for place in range(1, 4):
            inside = t[(t > place / 4) & (t <= (place + 1) / 4)] * 4 - place
            assert scipy.stats.kstest(inside.numpy(), "uniform").pvalue > 0.01

    def test_importance_waits_for_every_bin(self) -> None:
        times = Importance(bins=2, history=2)
        for t, losses in ((0.2, 9.0), (0.3, 9.0), (0.5, 9.0), (0.9, 3.0)):
            times.observe(real(t), real(losses))
            close(times.probabilities(), real(0.5, 0.5))
        times.observe(real(0.6), real(4.0))
        rms = real(9, 12.5**0.5)
        close(times.probabilities(), 0.999 * rms / rms.sum() + 0.0005, rtol=1e-14)

    def test_importance_keeps_the_expectation(self) -> None:
        """The corrected loss has the mean that it has at uniform times, 0.3 of which are in a rarely drawn bin."""
        times = self.informed()

        def cost(t: Tensor) -> Tensor:
            return torch.sin(3 * t) + (t < 0.3)

        t = times(draw(40_000, seed=6))
        corrected = times.correction(t) * cost(t)
        exact = (1 - math.cos(3)) / 3 + 0.3
        assert float(corrected.mean()) == pytest.approx(exact, abs=4 * float(corrected.std()) / 200)
        assert float(cost(t).mean()) != pytest.approx(exact, abs=0.1)

    def test_importance_in_a_loss(self) -> None:
        """The value is corrected; what the times learn from is the whole loss before its correction."""
        times = self.informed()
        objective = Simple(times=times)
        loss = objective(Denoiser(Answer(), VP()), batch(randn(30, 3)), draw(30))
        close(
            loss.value,
            loss.terms["simple"] / (4 * times.probabilities()[(loss.t * 4).ceil().long() - 1]),
            rtol=1e-12,
        )
        before = times.probabilities()
        used = times.correction(real(0.1))
        objective.observe(Loss(1000 * used, real(0.1), {"simple": real(1.0)}, used))
        assert float(times.state_dict()["losses"].max()) == pytest.approx(1000, rel=1e-12)
        assert float(times.probabilities()[0]) > 0.9 > float(before[0])
        Simple().observe(loss)  # has nothing to learn

    def test_parts_of_a_batch_are_remembered_by_the_correction_that_they_had(self) -> None:
        """The loss that was seen of one part changes that of the next: two equal parts are remembered alike."""
        times = self.informed(history=1)
        t, losses = (torch.arange(4) + 0.5).double() / 4, real(1, 1, 1, 100)
        used = times.correction(t)
        parts = [Loss(losses * used, t, {}, used) for _ in range(2)]
        objective = Simple(times=times)
        for part in parts:
            objective.observe(part)
            close(times.state_dict()["losses"][:, 0], losses, rtol=1e-12)
        drawn = objective(Denoiser(Answer(), VP()), batch(randn(30, 3)), draw(30))
        close(torch.as_tensor(drawn.correction), times.correction(drawn.t))
        close(drawn.value / drawn.correction, drawn.terms["simple"], rtol=1e-12)

    def test_times_of_ones_own(self) -> None:
        """What they say of themselves is asked for, and no more."""

        @dataclass(frozen=True)
        class Late:
            def __call__(self, draw: Draw) -> Tensor:
                return 1 - draw.uniform(Purpose.TIME) / 2

        @dataclass(frozen=True)
        class Corrected(Late):
            def correction(self, t: Tensor) -> Tensor:
                return 2 * t

        for times, factor in ((Late(), 1.0), (Corrected(), 2.0)):
            objective = Simple(times=times)  # type: ignore[arg-type]
            loss = objective(Denoiser(Answer(), VP()), batch(randn(30, 3)), draw(30))
            close(loss.value, loss.terms["simple"] * (1.0 if factor == 1 else 2 * loss.t), rtol=1e-12)
            objective.observe(loss)
            assert objective.state_dict() == {}
            objective.load_state_dict({})

    def test_importance_resumes(self) -> None:
        times, other = self.informed(), Importance(bins=4, history=3, uniform=0.1)
        other.load_state_dict(times.state_dict())
        assert torch.equal(other(draw(50)), times(draw(50)))
        other.observe(real(0.9), real(100.0))
        assert not torch.equal(other.probabilities(), times.probabilities())  # a copy, not the same history

    def test_every_step_of_a_chain_alike(self) -> None:
        """Uniform times are uniform over Ho's steps 1..T, both ends included."""
        chain = LinearBetas(steps=25)
        counts = torch.bincount((chain(Uniform()(draw(20_000, seed=1))).t * 25).round().long(), minlength=26)
        assert counts[0] == 0
        assert scipy.stats.chisquare(counts[1:].numpy()).pvalue > 0.01

    @pytest.mark.parametrize("b", [1, 2, 7, 64, 1000])
    def test_stratified_meets_every_stratum_once(self, b: int) -> None:
        """Also when the batch comes in parts; and all examples are equally far apart."""
        for step in range(5):
            t = Stratified()(draw(b, step=step))
            assert sorted((t * b).floor().long().tolist()) == list(range(b))
            parts = [Draw(0, step, torch.arange(b)[rows], b) for rows in (slice(0, b // 3), slice(b // 3, b))]
            assert torch.equal(torch.cat([Stratified()(part) for part in parts if len(part.places)]), t)
            close(t.sort().values.diff(), torch.full((b - 1,), 1 / b, dtype=torch.float64), atol=1e-12)

    @pytest.mark.parametrize("std", [0.0, -1.0])
    def test_a_spread_is_positive(self, std: float) -> None:
        with pytest.raises(ValueError, match="std: expected a positive number"):
            LogitNormal(std=std)


class TestPlaces:
    @every_times
    @pytest.mark.parametrize("kind", ["eps", "v"])
    def test_a_batch_in_parts_has_the_same_losses(self, times: Any, kind: Prediction) -> None:
        """Time and noise belong to (seed, step, place), not to the process that draws them: bit for bit. What becomes
        of them in a batch of another size is the same to rounding."""
        module, x = Denoiser(Answer(0.3), VP(), kind), randn(8, 2, 3).float()
        objective, draw = Simple(times=times), Draw(9, 4, torch.arange(8), 8)
        whole = objective(module, batch(x), draw)
        for places in (torch.arange(3), torch.arange(3, 8), torch.tensor([7, 0, 4])):
            part_of_it = Draw(9, 4, places, 8)
            part = objective(module, batch(x[places]), part_of_it)
            assert torch.equal(part.t, whole.t[places])
            noise = [of.normal(like, Purpose.NOISE) for of, like in ((part_of_it, x[places]), (draw, x))]
            assert torch.equal(noise[0], noise[1][places])
            close(part.value, whole.value[places], rtol=1e-5)

    @every_times
    def test_seed_step_and_place_all_matter(self, times: Any) -> None:
        module, x = Denoiser(Answer(0.3), VP()), batch(torch.ones(4, 3))
        losses = [
            Simple(times=times)(module, x, draw(4, seed, step)).value.detach() for seed in (0, 1) for step in (0, 1, 2)
        ]
        assert len({float(value) for loss in losses for value in loss}) == 24
        again = Simple(times=times)(module, x, draw(4, 1, 2)).value
        assert torch.equal(again, losses[-1])

    def test_time_and_noise_are_independent(self) -> None:
        n = 20_000
        source = draw(n, seed=2)
        rows = torch.cat(
            [source.normal(torch.empty(n, 3, dtype=torch.float64), Purpose.NOISE).T, Uniform()(source)[None]]
        )
        for numbers in (rows, rows.abs()):
            apart = torch.corrcoef(numbers) - torch.eye(4, dtype=torch.float64)
            assert float(apart.abs().max()) < 4.5 / n**0.5


def test_levels_of_a_batch_are_those_of_its_times() -> None:
    """Each example at its own level: the network is told the time that its x_t was noised to."""

    class Told(Answer):
        def forward(self, x: Tensor, noise_label: Tensor, **condition: Tensor) -> Tensor:
            self.label = noise_label
            return super().forward(x, noise_label)

    network = Told()
    loss = Simple()(Denoiser(network, LinearBetas()), batch(torch.zeros(6, 4000)), draw(6))
    level: NoiseLevel = LinearBetas()(loss.t)
    assert torch.equal(network.label, (level.t * 1000 - 1).float())
    close(network.given.std(1).double(), level.sigma, rtol=0.06)
