"""Denoisers: what the network hears, and what becomes of its answer."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from unsteep.core.chains import Chain, LinearBetas
from unsteep.core.condition import Condition
from unsteep.core.estimate import PREDICTIONS, Prediction
from unsteep.core.gaussian import posterior
from unsteep.core.level import NoiseLevel, add_noise
from unsteep.core.schedules import VP, Cosine, Flow, Schedule
from unsteep.denoiser import Denoiser
from unsteep.networks import MLPConfig


class Listener(nn.Module):
    """Keeps what it is told and answers `answer`, or its input."""

    def __init__(self, answer: Tensor | None = None) -> None:
        super().__init__()
        self.answer = answer
        self.given: tuple[Tensor, Tensor, dict[str, Tensor]]

    def forward(self, x: Tensor, noise_label: Tensor, **condition: Tensor) -> Tensor:
        self.given = (x, noise_label, condition)
        return x if self.answer is None else self.answer


def heard(schedule: Schedule, level: NoiseLevel, dtype: torch.dtype = torch.float64, **options: Any) -> Tensor:
    """The noise labels that a network of a batch at `level` hears."""
    network = Listener()
    batch = len(level) if level.t.ndim else 1
    Denoiser(network, schedule, "v", **options)(torch.zeros(batch, 2, dtype=dtype), level)
    return network.given[1]


def trained(labels: int = 0, out_features: int = 0) -> nn.Module:
    """A small network with an answer that depends on everything it is given."""
    torch.manual_seed(0)
    network = MLPConfig(features=3, width=16, depth=1, labels=labels, out_features=out_features).build()
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.3)
    return network


class TestNoiseLabel:
    def test_a_chain_says_step_minus_one(self, chain: Chain) -> None:
        steps = torch.arange(1, chain.steps + 1)
        torch.testing.assert_close(heard(chain, chain.levels[1:]), (steps - 1).double(), rtol=0, atol=1e-9)

    def test_in_single_precision_steps_are_whole_numbers(self) -> None:
        labels = heard(LinearBetas(), LinearBetas().levels[1:], torch.float32)
        assert torch.equal(labels, torch.arange(1000, dtype=torch.float32))

    def test_fractions_where_the_chain_is_interpolated(self) -> None:
        schedule = LinearBetas(steps=100).interpolated()
        labels = heard(schedule, schedule(torch.tensor([0.005, 0.01, 0.025, 0.5, 0.9999, 1.0])))
        expected = torch.tensor([-0.5, 0, 1.5, 49, 98.99, 99], dtype=torch.float64)
        torch.testing.assert_close(labels, expected, rtol=0, atol=1e-5)

    @pytest.mark.parametrize("schedule", [VP(), LinearBetas(), Flow()], ids=["vp", "linear", "flow"])
    def test_time(self, schedule: Schedule) -> None:
        labels = heard(schedule, schedule(torch.tensor([0.0, 0.25, 1.0])), noise_label="time")
        assert labels.tolist() == [0, 250, 1000]

    def test_logsnr(self, schedule: Schedule) -> None:
        """From 0, clean data, to 1000, pure noise; finite also where the log-SNR is not; halfway where SNR = 1."""
        level = schedule(torch.linspace(0, 1, 9, dtype=torch.float64))
        labels = heard(schedule, level, noise_label="logsnr")
        assert bool(((labels >= 0) & (labels <= 1000)).all())
        assert bool((labels.diff() >= 0).all())
        inner = (level.logsnr.abs() < 20).nonzero()[:, 0]
        expected = 500 - 50 * (level.alpha[inner] / level.sigma[inner]).log()
        torch.testing.assert_close(labels[inner], expected, rtol=1e-9, atol=1e-9)
        assert labels[0] == 0

    def test_logsnr_ends(self) -> None:
        schedule = Flow()
        assert heard(schedule, schedule(torch.tensor([0.0, 0.5, 1.0])), noise_label="logsnr").tolist() == [0, 500, 1000]

    def test_defaults(self) -> None:
        for schedule, label in ((LinearBetas(), "step"), (LinearBetas().interpolated(), "step"), (VP(), "time")):
            assert Denoiser(Listener(), schedule).noise_label == label

    def test_half_precision_hears_every_step(self) -> None:
        """bf16 knows no whole numbers between 992, 996 and 1000: labels are never rounded to it."""
        labels = heard(LinearBetas(), LinearBetas().levels[1:], torch.bfloat16)
        assert torch.equal(labels.double(), torch.arange(1000, dtype=torch.float64))

    @pytest.mark.parametrize("label", ["step", "time", "logsnr"])
    def test_one_level_is_told_to_every_example(self, label: Any) -> None:
        network, schedule = Listener(), LinearBetas()
        Denoiser(network, schedule, noise_label=label)(torch.zeros(5, 2), schedule(0.3))
        assert network.given[1].shape == (5,)
        assert len(network.given[1].unique()) == 1


class TestInput:
    def test_as_it_is(self) -> None:
        network, x = Listener(), torch.randn(3, 2, 4, 4)
        Denoiser(network, Flow(), "v")(x, Flow()(torch.tensor([0.1, 0.5, 0.9])))
        assert network.given[0] is x

    @pytest.mark.parametrize("shape", [(2,), (1, 4, 4)])
    def test_unit_scale(self, shape: tuple[int, ...]) -> None:
        """Unit data, noised at any level, reach the network with unit variance; the estimate is about x_t itself."""
        level = NoiseLevel(
            *(torch.tensor(v, dtype=torch.float64) for v in ((0.2, 1.0), (9.2, -7.2), (1, 1), (0.01, 36)))
        )
        x0, eps = torch.randn(2, 2, 4000, *shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        x_t = level.alpha.reshape(2, *[1] * (x0.ndim - 1)) * x0 + level.sigma.reshape(2, *[1] * (x0.ndim - 1)) * eps
        network = Listener()
        estimate = Denoiser(network, VP(), "v", input_scale="unit")(x_t, level)
        torch.testing.assert_close(network.given[0].flatten(1).std(1), torch.ones(2).double(), rtol=0.04, atol=0)
        assert estimate.x_t is x_t

    def test_conditions_are_keywords(self) -> None:
        network, schedule = Listener(), VP()
        condition = Condition(label=torch.tensor([1, -1]), valid=torch.ones(2, 4, dtype=torch.bool))
        denoiser = Denoiser(network, schedule)
        denoiser(torch.zeros(2, 4, 3), schedule(0.5), condition)
        assert set(network.given[2]) == {"label", "valid"}
        assert network.given[2]["label"] is condition["label"]
        denoiser(torch.zeros(2, 4, 3), schedule(0.5))
        assert network.given[2] == {}

    def test_a_label_matters(self) -> None:
        schedule, x = VP(), torch.randn(1, 3, generator=torch.Generator().manual_seed(1)).expand(3, 3)
        denoiser = Denoiser(trained(labels=2), schedule)
        answers = denoiser(x, schedule(0.5), Condition(label=torch.tensor([0, 1, -1]))).value
        assert len({tuple(answer.tolist()) for answer in answers}) == 3
        torch.testing.assert_close(denoiser(x, schedule(0.5)).value[2], answers[2])


class TestOutput:
    @pytest.mark.parametrize("kind", PREDICTIONS)
    def test_is_what_the_network_said(self, kind: Prediction) -> None:
        answer, x, level = torch.randn(3, 2), torch.randn(3, 2), VP()(0.5)
        estimate = Denoiser(Listener(answer), VP(), kind)(x, level)
        assert estimate.kind == kind
        assert torch.equal(estimate.value, answer)
        assert estimate.x_t is x
        assert estimate.level is level
        assert estimate.variance_fraction is None

    @pytest.mark.parametrize("shape", [(6,), (6, 4, 4)])
    def test_learned_variance(self, shape: tuple[int, ...]) -> None:
        """The first half of the channels is the prediction; -1 in the second half is beta_tilde, 1 is beta."""
        half = (3, *shape[1:])
        value = torch.randn(2, *half)
        fraction = torch.tensor([0.0, 0.5, 1.0]).reshape(3, *[1] * (len(half) - 1)).expand(2, *half)
        network = Listener(torch.cat([value, 2 * fraction - 1], 1))
        estimate = Denoiser(network, VP(), learn_variance=True)(torch.randn(2, *half), VP()(0.5))
        assert torch.equal(estimate.value, value)
        assert estimate.variance_fraction is not None
        assert torch.equal(estimate.variance_fraction, fraction)

    def test_learned_diagonal(self) -> None:
        """The ablation of Ho et al. 2020: the second half is the log-variance itself."""
        value, raw = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(5))
        network = Listener(torch.cat([value, raw], 1))
        estimate = Denoiser(network, VP(), learn_variance="diagonal")(torch.randn(4, 3), VP()(0.5))
        assert torch.equal(estimate.value, value)
        assert estimate.log_variance is not None
        assert torch.equal(estimate.log_variance, raw)
        assert estimate.variance_fraction is None

    def test_a_posterior_mean_means_x0(self, chain: Chain) -> None:
        """The mean of q(x_{n-1} | x_n, x0), for every step n of a chain, is read as the x0 that it was made from."""
        levels = chain.levels
        x0, eps = torch.randn(2, chain.steps, 3, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
        x_t = add_noise(x0, eps, levels[1:])
        mean = posterior(x0, x_t, levels[1:], levels[:-1]).mean
        estimate = Denoiser(Listener(mean), chain, "mean")(x_t, levels[1:])
        torch.testing.assert_close(estimate.x0, x0, rtol=1e-6, atol=1e-6)
        if not chain.zero_terminal:
            torch.testing.assert_close(estimate.eps, eps, rtol=1e-4, atol=1e-4)

    def test_a_posterior_mean_off_a_chain_is_of_a_step_of_a_thousandth(self) -> None:
        schedule, x_t = Flow(), torch.randn(4, 3, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
        now, nxt = (
            schedule(torch.tensor(t, dtype=torch.float64)) for t in ((0.0005, 0.001, 0.4, 1), (0, 0, 0.399, 0.999))
        )
        mean = posterior(x_t.sin(), x_t, now, nxt).mean
        torch.testing.assert_close(
            Denoiser(Listener(mean), schedule, "mean")(x_t, now).x0, x_t.sin(), rtol=1e-9, atol=1e-9
        )

    @pytest.mark.parametrize("options", [{}, {"input_scale": "unit"}, {"learn_variance": True}], ids=str)
    @pytest.mark.parametrize("label", ["time", "logsnr"])
    def test_one_level_or_one_per_example(self, label: Any, options: dict[str, Any]) -> None:
        network = trained(out_features=6 if "learn_variance" in options else 0)
        denoiser = Denoiser(network, Flow(), "v", noise_label=label, **options)
        x = torch.randn(4, 3, generator=torch.Generator().manual_seed(2))
        level = Flow()(torch.tensor([0.1, 0.4, 0.7, 1.0]))
        with torch.no_grad():
            together = denoiser(x, level)
            for i in range(4):
                alone = denoiser(x, level[i])
                torch.testing.assert_close(together.value[i], alone.value[i])
                torch.testing.assert_close(together.x0[i], alone.x0[i])
                torch.testing.assert_close(together.eps[i], alone.eps[i])

    def test_an_autocast_network_is_read_in_single_precision(self) -> None:
        """The network computes in bf16, its answer is bf16's, the algebra behind it is not."""
        denoiser, level = Denoiser(trained(), LinearBetas()), LinearBetas()(torch.tensor([0.001, 0.5, 1.0]))
        x = torch.randn(3, 3, generator=torch.Generator().manual_seed(3))
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            assert denoiser.network(x, torch.zeros(3)).dtype == torch.bfloat16
            estimate = denoiser(x, level)
            readings = [estimate.as_(kind) for kind in PREDICTIONS]
        assert all(reading.dtype == torch.float32 for reading in readings)
        assert torch.equal(estimate.value, estimate.value.bfloat16().float())
        exact = (x.double() - level.like(x.double()).sigma * estimate.value) / level.like(x.double()).alpha
        torch.testing.assert_close(estimate.x0.double(), exact, rtol=1e-4, atol=1e-4)
        with torch.no_grad():
            torch.testing.assert_close(estimate.value, denoiser(x, level).value, rtol=0.1, atol=0.1)

    def test_gradients_reach_network_and_input(self) -> None:
        denoiser, x = Denoiser(trained(), VP(), "v"), torch.randn(2, 3, requires_grad=True)
        denoiser(x, VP()(0.5)).x0.square().sum().backward()
        assert x.grad is not None
        assert bool((x.grad != 0).all())
        assert all(parameter.grad is not None for parameter in denoiser.parameters())

    def test_weights_are_the_networks(self) -> None:
        """A denoiser adds no tensor of its own to a checkpoint."""
        network = trained()
        assert set(Denoiser(network, LinearBetas()).state_dict()) == {
            f"network.{name}" for name in network.state_dict()
        }


SILENT: dict[str, Schedule] = {
    "flow": Flow(),
    "cosine": Cosine(logsnr_min=-math.inf),
    "linear-zero": LinearBetas(zero_terminal=True),
    "linear-zero-interpolated": LinearBetas(zero_terminal=True).interpolated(),
}


class TestErrors:
    @pytest.mark.parametrize("kind", ["eps", "score"])
    @pytest.mark.parametrize("schedule", SILENT.values(), ids=SILENT)
    def test_noise_says_nothing_where_no_signal_is_left(self, schedule: Schedule, kind: Prediction) -> None:
        match = (
            f"{kind} says nothing about x0 at t = 1, where {type(schedule).__name__} .*alpha = 0.*predict v, x0 or flow"
        )
        with pytest.raises(ValueError, match=match):
            Denoiser(Listener(), schedule, kind)
        others: tuple[Prediction, ...] = ("v", "x0", "flow")
        for other in others:
            Denoiser(Listener(), schedule, other)

    def test_steps_need_a_chain(self) -> None:
        with pytest.raises(ValueError, match="'step' needs a chain, and VP has no steps; use 'time'"):
            Denoiser(Listener(), VP(), noise_label="step")

    @pytest.mark.parametrize(
        ("options", "match"),
        [
            ({"prediction": "noise"}, "prediction: expected one of x0, eps, v, score, flow, mean, got 'noise'"),
            ({"noise_label": "steps"}, "noise_label: expected one of step, time, logsnr, got 'steps'"),
            ({"input_scale": "edm"}, "input_scale: expected one of none, unit, got 'edm'"),
        ],
    )
    def test_misspelled(self, options: Any, match: str) -> None:
        with pytest.raises(ValueError, match=match):
            Denoiser(Listener(), LinearBetas(), **options)
