"""Guidance: what a wrapper changes in an estimate, what it costs, and that exact parts give exact guided scores."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from unsteep.analytic import Mixture
from unsteep.core.chains import CosineBetas, LinearBetas
from unsteep.core.condition import Condition
from unsteep.core.estimate import PREDICTIONS, Estimate, Prediction
from unsteep.core.gaussian import reverse
from unsteep.core.level import NoiseLevel, add_noise, step_variances
from unsteep.core.noise import NoiseSource
from unsteep.core.schedules import VP, Flow, Karras, Schedule
from unsteep.denoiser import Denoise, Denoiser
from unsteep.guidance import (
    Auto,
    ClassifierFree,
    ClassifierGuidance,
    Clip,
    Composed,
    Conditional,
    Counted,
    DynamicThreshold,
    GuidanceInterval,
    Rescale,
)
from unsteep.guidance.branches import stacked
from unsteep.sampling import DDIM, Ancestral, DPMMultistep, grid, initial_noise, sample, trajectory


def randn(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64)


def says(kind: Prediction, x0: Tensor) -> Denoise:
    """A denoiser that always means `x0`, in the words of `kind`."""

    def denoise(x_t: Tensor, level: NoiseLevel) -> Estimate:
        value = Estimate("x0", x0, x_t, level).as_(kind)
        return Estimate(kind, value, x_t, level, variance_fraction=torch.full_like(x0, 0.3))

    return denoise


SCHEDULES: dict[str, Schedule] = {"vp": VP(), "flow": Flow(), "linear": LinearBetas(), "karras": Karras()}
schedules = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)

# Two classes of two components each, in three dimensions, with covariances that are no multiples of one another.
_A = randn(4, 3, 3)
DATA = Mixture(
    torch.tensor([[-1.5, 0.3, 0.2], [-0.7, 1.2, -0.5], [1.0, -0.4, 0.6], [1.6, 0.9, -0.2]], dtype=torch.float64),
    0.05 * torch.eye(3) + 0.03 * _A @ _A.mT,
    torch.tensor([0.2, 0.3, 0.4, 0.1]),
    labels=torch.tensor([0, 0, 1, 1]),
)
# The same with less to tell its classes apart: what an undertrained network might have learned.
WEAKER = Mixture(0.5 * DATA.means, torch.full((4,), 0.6), labels=DATA.labels)
LABELS = torch.tensor([0, 1, 1, 0, 1, 0, 0, 1])
OTHERS = 1 - LABELS


def label(of: Tensor = LABELS) -> Condition:
    return Condition(label=of)


def speaking(kind: Prediction, of: Mixture = DATA) -> Conditional:
    """The exact denoiser in the words of `kind`."""

    def denoise(x_t: Tensor, level: NoiseLevel, condition: Condition | None = None) -> Estimate:
        told = of(x_t, level, condition)
        return Estimate(kind, told.as_(kind), x_t, level)

    return denoise


def log_p_label(rows: slice = slice(None)) -> Callable[[Tensor, NoiseLevel], Tensor]:
    """log p(LABELS[rows] | x_t), in closed form."""
    return lambda x_t, level: DATA.label_log_prob(x_t, level).gather(1, LABELS[rows, None]).squeeze(1)


def gradient(log_density: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    leaf = x.clone().requires_grad_()
    (found,) = torch.autograd.grad(log_density(leaf).sum(), leaf)
    return found


def exact_score(x: Tensor, level: NoiseLevel, condition: Condition | None = None) -> Tensor:
    """From the density, not from the denoiser."""
    return gradient(lambda at: DATA.log_prob(at, level, condition), x)


def noisy(level: NoiseLevel, n: int = 8) -> Tensor:
    return add_noise(DATA.sample(n, seed=5), randn(n, 3), level)


EIGHT = torch.tensor([0.05, 0.15, 0.25, 0.4, 0.5, 0.65, 0.8, 0.95], dtype=torch.float64)

# Each wrapper over a conditional denoiser, for some of the eight rows; and its network evaluations for a sample at
# t = 0.3 and at t = 0.9.
Wrapper = Callable[[Conditional, slice], Denoise]


def free(denoiser: Conditional, rows: slice, scale: float = 3.0, **other: Any) -> ClassifierFree:
    return ClassifierFree(denoiser, label().select(rows), scale, **other)


def both(denoiser: Conditional, rows: slice, *weights: float) -> Composed:
    return Composed(denoiser, (label().select(rows), label(OTHERS).select(rows)), weights)


def by_class(denoiser: Conditional, rows: slice, scale: float = 2.5) -> ClassifierGuidance:
    return ClassifierGuidance(partial(denoiser, condition=label().null().select(rows)), log_p_label(rows), scale)


def auto(denoiser: Conditional, rows: slice, scale: float = 2.0) -> Auto:
    return Auto(free(denoiser, rows, 1.0), partial(WEAKER, condition=label().select(rows)), scale)


WRAPPERS: dict[str, tuple[Wrapper, int, int]] = {
    "conditional": (partial(free, scale=1.0), 1, 1),
    "unconditional": (partial(free, scale=0.0), 1, 1),
    "classifier-free": (free, 2, 2),
    "negative": (lambda d, rows: free(d, rows, negative=label(OTHERS).select(rows)), 2, 2),
    "negative-alone": (lambda d, rows: free(d, rows, 0.0, negative=label(OTHERS).select(rows)), 1, 1),
    "composed": (lambda d, rows: both(d, rows, 2.0, 0.7), 3, 3),
    "composed-to-1": (lambda d, rows: both(d, rows, 0.3, 0.7), 2, 2),
    "composed-with-0": (lambda d, rows: both(d, rows, 2.0, 0.0), 2, 2),
    "composed-of-0": (lambda d, rows: both(d, rows, 0.0, 0.0), 1, 1),
    "composed-not": (lambda d, rows: both(d, rows, 2.0, -1.0), 2, 2),
    "interval": (lambda d, rows: GuidanceInterval(free(d, rows), 0.2, 0.6), 2, 1),
    "interval-composed": (lambda d, rows: GuidanceInterval(both(d, rows, 1.5, 0.7), 0.2, 0.6), 3, 2),
    "rescale": (lambda d, rows: Rescale(free(d, rows), 0.7), 2, 2),
    "rescale-composed": (lambda d, rows: Rescale(both(d, rows, 2.0, 0.7), 0.7), 3, 3),
    "classifier": (by_class, 1, 1),
    "rescale-classifier": (lambda d, rows: Rescale(by_class(d, rows), 0.7), 1, 1),
    "auto": (auto, 1, 1),
    "auto-plain": (partial(auto, scale=1.0), 1, 1),
    "auto-weaker": (partial(auto, scale=0.0), 0, 0),
    "clip": (lambda d, rows: Clip(free(d, rows)), 2, 2),
    "dynamic": (lambda d, rows: DynamicThreshold(free(d, rows), 0.7), 2, 2),
    "all": (lambda d, rows: DynamicThreshold(GuidanceInterval(Rescale(free(d, rows)), 0.2, 0.6), 0.7), 2, 1),
}
wrappers = pytest.mark.parametrize("wrapped", [row[0] for row in WRAPPERS.values()], ids=WRAPPERS)


class TestEveryWrapper:
    @wrappers
    @schedules
    def test_the_same_x0_whatever_the_kind(self, wrapped: Wrapper, schedule: Schedule) -> None:
        level = schedule(EIGHT)
        x_t = noisy(level)
        expected = wrapped(DATA, slice(None))(x_t, level).x0
        for kind in PREDICTIONS:
            got = wrapped(speaking(kind), slice(None))(x_t, level)
            torch.testing.assert_close(got.x0, expected, rtol=1e-9, atol=1e-9)

    @wrappers
    @pytest.mark.parametrize("times", [EIGHT, EIGHT[2]], ids=["own-levels", "one-level"])
    def test_eight_at_once_are_eight_alone(self, wrapped: Wrapper, times: Tensor) -> None:
        """And what an estimate is of, x_t and its level, is what it was asked of."""
        level = VP()(times)
        x_t = noisy(level)
        at_once = wrapped(DATA, slice(None))(x_t, level)
        assert at_once.x_t is x_t
        assert at_once.level is level
        for i in range(8):
            row = slice(i, i + 1)
            alone = wrapped(DATA, row)(x_t[row], level if times.ndim == 0 else level[row])
            torch.testing.assert_close(at_once.x0[row], alone.x0, rtol=1e-12, atol=1e-12)

    @pytest.mark.parametrize("name", WRAPPERS)
    def test_what_it_costs(self, name: str) -> None:
        """As the table of `unsteep.guidance` says; rows over samples."""
        wrapped, *expected = WRAPPERS[name]
        for t, rows in zip((0.3, 0.9), expected, strict=True):
            counted, level = Counted(DATA), VP()(torch.tensor(t))
            wrapped(counted, slice(None))(noisy(level), level)
            assert counted.rows == 8 * rows


class TestClassifierFree:
    @pytest.mark.parametrize("t", [0.4, EIGHT])
    def test_scale_1_and_0_are_one_call_bit_for_bit(self, t: Any) -> None:
        level = VP()(t)
        x_t = noisy(level)
        assert torch.equal(ClassifierFree(DATA, label(), 1.0)(x_t, level).value, DATA(x_t, level, label()).value)
        assert torch.equal(ClassifierFree(DATA, label(), 0.0)(x_t, level).value, DATA(x_t, level, label().null()).value)
        assert torch.equal(
            ClassifierFree(DATA, label(), 0.0, label(OTHERS))(x_t, level).value, DATA(x_t, level, label(OTHERS)).value
        )

    @schedules
    @pytest.mark.parametrize("scale", [-1.0, 0.5, 3.0])
    @pytest.mark.parametrize("negative", [None, label(OTHERS)], ids=["null", "negative"])
    def test_scores_are_those_of_the_densities(
        self, schedule: Schedule, scale: float, negative: Condition | None
    ) -> None:
        level = schedule(EIGHT)
        x_t = noisy(level)
        base, towards = exact_score(x_t, level, negative), exact_score(x_t, level, label())
        got = ClassifierFree(DATA, label(), scale, negative)(x_t, level)
        torch.testing.assert_close(got.score, base + scale * (towards - base), rtol=1e-8, atol=1e-8)

    @pytest.mark.parametrize("learn_variance", ["fraction", "diagonal"])
    def test_a_learned_variance_is_the_conditional_one(self, learn_variance: Any) -> None:
        class Net(nn.Module):
            def forward(self, x: Tensor, heard: Tensor, *, label: Tensor) -> Tensor:
                return torch.cat([x, x * label[:, None]], 1)

        denoiser, level, x_t = Denoiser(Net(), VP(), learn_variance=learn_variance), VP()(0.5), randn(8, 3)
        conditional = denoiser(x_t, level, label())
        for wrapper in (
            ClassifierFree(denoiser, label(), 3.0),
            Composed(denoiser, (label(), label(OTHERS)), (2.0, 1.0)),
            Composed(denoiser, (label(), label(OTHERS)), (0.6, 0.4)),
            Rescale(ClassifierFree(denoiser, label(), 3.0)),
        ):
            got = wrapper(x_t, level)
            for learned in ("variance_fraction", "log_variance"):
                expected = getattr(conditional, learned)
                assert (
                    getattr(got, learned) is None if expected is None else torch.equal(getattr(got, learned), expected)
                )


class TestTexts:
    """Texts of different lengths, and conditions that hold different things."""

    @staticmethod
    def text(length: int, valid: Any = None, rows: int = 2) -> Condition:
        mask = None if valid is None else torch.tensor(valid)
        return Condition(text=randn(rows, length, 4), text_valid=mask)

    @staticmethod
    def reads(x_t: Tensor, level: NoiseLevel, condition: Condition, seen: list[Condition] | None = None) -> Estimate:
        """x0: the mean of the valid tokens, 9 where there is none, plus 10 times the label."""
        mask = condition.get("text_valid", torch.ones(condition["text"].shape[:2]))
        count = mask.sum(1, keepdim=True)
        mean = (condition["text"] * mask[..., None]).sum(1) / count.clamp(min=1)
        named = 10 * condition["label"][:, None] if "label" in condition else 0
        if seen is not None:
            seen.append(condition)
        return Estimate("x0", torch.where(count > 0, mean, 9.0) + named, x_t, level)

    @pytest.mark.parametrize(("ours", "theirs"), [(3, 5), (5, 3), (4, 4)])
    @pytest.mark.parametrize("masked", [True, False])
    def test_branches_of_other_lengths_are_what_they_are_alone(self, ours: int, theirs: int, masked: bool) -> None:
        valid = [[True] * ours, [True] + [False] * (ours - 1)] if masked else None
        condition, negative = self.text(ours, valid), self.text(theirs)
        x_t, level, seen = randn(2, 4), VP()(0.5), list[Condition]()
        got = ClassifierFree(partial(self.reads, seen=seen), condition, 3.0, negative)(x_t, level).x0
        one, other = (self.reads(x_t, level, of).x0 for of in (condition, negative))
        torch.testing.assert_close(got, other + 3 * (one - other), rtol=1e-12, atol=1e-12)
        (both,) = seen
        assert both["text"].shape == (4, max(ours, theirs), 4)
        assert not both["text_valid"][:2, ours:].any()
        assert not both["text"][:2, ours:].any()
        assert not both["text"][2:, theirs:].any()

    def test_the_null_of_a_text_without_a_mask(self) -> None:
        """The text, then none: where no mask came, all of the text is valid, and none of the null."""
        condition, x_t, level = self.text(3), randn(2, 4), VP()(0.5)
        got = ClassifierFree(self.reads, condition, 3.0)(x_t, level).x0
        one = self.reads(x_t, level, condition).x0
        torch.testing.assert_close(got, 9 + 3 * (one - 9), rtol=1e-12, atol=1e-12)

    def test_the_null_of_a_picture_without_a_noise_level(self) -> None:
        """The picture is clean, and what stands for none is noise."""
        picture = Condition(picture=randn(2, 1, 2, 2))
        rows = stacked([picture, picture.null()])
        assert rows["picture_logsnr"].tolist() == [torch.inf, torch.inf, -torch.inf, -torch.inf]

    def test_what_only_one_of_them_has_is_null_in_the_other(self) -> None:
        valid = torch.tensor([[True, True], [True, False]])
        picture = Condition(picture=randn(2, 1, 2, 2), picture_logsnr=torch.zeros(2), valid=valid)
        named = Condition(label=torch.tensor([3, 4]), valid=valid)
        rows = stacked([picture, named, self.text(3)])
        assert rows["label"].tolist() == [-1, -1, 3, 4, -1, -1]
        assert rows["picture_logsnr"].tolist() == [0, 0, *[-torch.inf] * 4]
        assert torch.equal(rows["picture"][:2], randn(2, 1, 2, 2))
        assert not rows["picture"][2:].any()
        assert rows["text_valid"].tolist() == [[False] * 3] * 4 + [[True] * 3] * 2
        assert torch.equal(rows["valid"], valid.repeat(3, 1))  # which frames exist is no condition


class TestComposed:
    @pytest.mark.parametrize("scale", [0.0, 0.4, 1.0, 3.0])
    @pytest.mark.parametrize("negative", [None, label(OTHERS)], ids=["null", "negative"])
    def test_one_condition_is_classifier_free(self, scale: float, negative: Condition | None) -> None:
        level = VP()(EIGHT)
        x_t = noisy(level)
        one = Composed(DATA, (label(),), (scale,), negative)(x_t, level)
        other = ClassifierFree(DATA, label(), scale, negative)(x_t, level)
        torch.testing.assert_close(one.value, other.value, rtol=1e-12, atol=1e-12)

    @pytest.mark.parametrize("weights", [(2.0, 0.7), (0.3, 0.7), (1.0, -1.0), (0.0, 1.5), (0.0, 0.0)])
    @pytest.mark.parametrize("negative", [None, label(LABELS.roll(1))], ids=["null", "negative"])
    def test_scores_are_those_of_the_product(self, weights: tuple[float, ...], negative: Condition | None) -> None:
        """q(x_t) prod_i (q(x_t | c_i) / q(x_t))^w_i."""
        level = VP()(EIGHT)
        x_t, conditions = noisy(level), (label(), label(OTHERS))

        def log_product(x: Tensor) -> Tensor:
            base = DATA.log_prob(x, level, negative)
            terms = zip(conditions, weights, strict=True)
            return base + sum(w * (DATA.log_prob(x, level, c) - base) for c, w in terms)

        got = Composed(DATA, conditions, weights, negative)(x_t, level)
        torch.testing.assert_close(got.score, gradient(log_product, x_t), rtol=1e-8, atol=1e-8)

    @pytest.mark.parametrize("weights", [(2.0, 0.7), (0.3, 0.7), (-3.0, 1.0), (0.0, 2.0)])
    def test_its_plain_one_is_the_mean_by_weight(self, weights: tuple[float, ...]) -> None:
        level = VP()(EIGHT)
        x_t = noisy(level)
        composed = Composed(DATA, (label(), label(OTHERS)), weights)
        guided, plain = composed.pair(x_t, level)
        one, other = (DATA(x_t, level, label(of)).x0 for of in (LABELS, OTHERS))
        expected = (weights[0] * one + weights[1] * other) / sum(weights)
        assert torch.equal(guided.x0, composed(x_t, level).x0)
        for got in (plain, composed.plain(x_t, level)):
            torch.testing.assert_close(got.x0, expected, rtol=1e-12, atol=1e-12)

    def test_errors(self) -> None:
        for conditions, weights in (((), ()), ((label(),), (1.0, 2.0))):
            with pytest.raises(ValueError, match=f"got {len(conditions)} conditions and {len(weights)} weights"):
                Composed(DATA, conditions, weights)
        opposed = Composed(DATA, (label(), label(OTHERS)), (2.0, -2.0))
        for unguided in (GuidanceInterval(opposed, 0.2, 0.6, Clip(DATA)), opposed):
            unguided(randn(8, 3), VP()(0.9))
        with pytest.raises(ValueError, match="add up to 0"):
            Rescale(opposed)(randn(8, 3), VP()(0.9))
        with pytest.raises(ValueError, match="add up to 0"):
            GuidanceInterval(opposed, 0.2, 0.6)(randn(8, 3), VP()(0.9))


class TestClassifier:
    @schedules
    @pytest.mark.parametrize("scale", [0.0, 0.5, 1.0, 4.0])
    def test_it_is_classifier_free_guidance_at_the_same_scale(self, schedule: Schedule, scale: float) -> None:
        """With the exact classifier: by Bayes' rule, at scale 1 the conditional denoiser."""
        level = schedule(EIGHT)
        x_t = noisy(level)
        with torch.no_grad():
            got = ClassifierGuidance(DATA, log_p_label(), scale)(x_t, level)
        torch.testing.assert_close(got.x0, ClassifierFree(DATA, label(), scale)(x_t, level).x0, rtol=1e-7, atol=1e-8)

    def test_the_network_runs_once_without_a_graph(self) -> None:
        network, seen = nn.Linear(3, 3).double(), list[bool]()

        def denoise(x_t: Tensor, level: NoiseLevel) -> Estimate:
            seen.append(torch.is_grad_enabled() or x_t.requires_grad)
            return Estimate("eps", network(x_t), x_t, level)

        level = VP()(0.5)
        x_t = noisy(level)
        with torch.no_grad():
            got = ClassifierGuidance(denoise, log_p_label(), 2.0)(x_t, level)
        assert seen == [False]
        assert not got.value.requires_grad
        assert not x_t.requires_grad
        assert network.weight.grad is None

    @pytest.mark.parametrize("kind", ["x0", "v", "flow"])
    @pytest.mark.parametrize("schedule", [Flow(), CosineBetas(zero_terminal=True)], ids=["flow", "cosine-zero"])
    def test_no_signal_no_guidance(self, schedule: Schedule, kind: Prediction) -> None:
        """At alpha = 0, alone and in a batch with other levels: the plain estimate, bit for bit; elsewhere guided."""
        level = schedule(torch.tensor([1.0, 0.4, 1.0, 0.5, 1.0, 0.6, 1.0, 0.7], dtype=torch.float64))
        assert float(level.alpha[0]) == 0
        x_t, plain = noisy(level), partial(speaking(kind), condition=label().null())

        def sure(x: Tensor, level: NoiseLevel) -> Tensor:  # as no true classifier is
            return 5 * x.sum(1)

        got, expected = ClassifierGuidance(plain, sure, 3.0)(x_t, level).value, plain(x_t, level).value
        assert torch.equal(got[::2], expected[::2])
        assert bool((got - expected)[1::2].abs().amin() > 0.1)
        one = ClassifierGuidance(plain, sure, 3.0)(x_t, level[0])
        assert torch.equal(one.value, plain(x_t, level[0]).value)

    def test_a_step_of_the_chain_moves_by_its_variance(self) -> None:
        """scale beta (alpha_nxt / alpha_now) grad."""
        now, nxt = (LinearBetas()(t) for t in (0.4, 0.399))
        x_t = noisy(now)
        guided, plain = ClassifierGuidance(DATA, log_p_label(), 3.0).pair(x_t, now)
        moved = reverse(guided, nxt, "beta").mean - reverse(plain, nxt, "beta").mean
        beta, _ = step_variances(now, nxt)
        towards = gradient(lambda at: log_p_label()(at, now), x_t)
        torch.testing.assert_close(moved, 3 * beta * (nxt.alpha / now.alpha) * towards, rtol=1e-7, atol=1e-10)

    def test_samples_are_those_of_the_class(self) -> None:
        """The deterministic flow of the unconditional denoiser, guided at scale 1: path by path that of the
        conditional denoiser, and at the end the class's mean and covariance to 4 standard errors."""
        n, chosen = 3000, 1
        levels, noise = grid(VP(), 24, "logsnr"), NoiseSource(range(n))
        x = initial_noise(torch.empty(n, 3, dtype=torch.float64), levels[0], noise)
        labels = torch.full((n,), chosen)

        def log_p(x_t: Tensor, level: NoiseLevel) -> Tensor:
            return DATA.label_log_prob(x_t, level)[:, chosen]

        got = sample(ClassifierGuidance(DATA, log_p), x, levels, DPMMultistep(), noise)
        exact = sample(partial(DATA, condition=label(labels)), x, levels, DPMMultistep(), noise)
        torch.testing.assert_close(got, exact, rtol=1e-5, atol=1e-6)

        own = DATA.labels == chosen if DATA.labels is not None else None
        assert DATA.basis is not None
        covariances = (DATA.basis * DATA.variances[:, None]) @ DATA.basis.mT
        of_class = Mixture(DATA.means[own], covariances[own], DATA.log_weights.exp()[own])
        mean, covariance = of_class.mean(), of_class.covariance()
        assert bool(((got.mean(0) - mean).abs() < 4 * (covariance.diagonal() / n).sqrt()).all())
        products = (got - mean)[:, :, None] * (got - mean)[:, None]
        assert bool(((products.mean(0) - covariance).abs() < 4 * products.std(0) / n**0.5).all())


class TestInterval:
    def test_rows_decide_for_themselves(self) -> None:
        """low < t <= high."""
        level = VP()(torch.tensor([0.1, 0.2, 0.3, 0.5, 0.6, 0.7, 1.0, 0.4], dtype=torch.float64))
        x_t = noisy(level)
        guided, plain = ClassifierFree(DATA, label(), 3.0)(x_t, level).x0, DATA(x_t, level, label()).x0
        got = GuidanceInterval(ClassifierFree(DATA, label(), 3.0), 0.2, 0.6)(x_t, level).x0
        inside = torch.tensor([False, False, True, True, True, False, False, True])
        torch.testing.assert_close(got[inside], guided[inside], rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(got[~inside], plain[~inside], rtol=1e-12, atol=1e-12)
        assert bool((guided - plain).abs().amax(1).amin() > 1e-6)

    @pytest.mark.parametrize(("low", "high", "calls"), [(0.2, 0.6, 14), (0.0, 1.0, 20), (0.75, 0.8, 11)])
    def test_a_sampler_pays_inside_only(self, low: float, high: float, calls: int) -> None:
        """Ten steps, at t = 1, 0.9 ... 0.1: one call for each and one more for each inside."""
        counted, levels, noise = Counted(DATA), grid(VP(), 10), NoiseSource(range(8))
        x = initial_noise(torch.empty(8, 3), levels[0], noise)
        sample(GuidanceInterval(ClassifierFree(counted, label(), 3.0), low, high), x, levels, DDIM(), noise)
        assert counted.rows == 8 * calls

    def test_a_batch_on_both_sides_costs_both(self) -> None:
        counted, level = Counted(DATA), VP()(EIGHT)
        GuidanceInterval(ClassifierFree(counted, label(), 3.0), 0.2, 0.6)(noisy(level), level)
        assert counted.rows == 8 * 3

    def test_another_plain_one_and_learned_variances(self) -> None:
        level, x_t = VP()(torch.tensor([0.1, 0.5], dtype=torch.float64)), randn(2, 3)

        def told(kind: Prediction, x0: float, fraction: float) -> Denoise:
            def denoise(x_t: Tensor, level: NoiseLevel) -> Estimate:
                value = Estimate("x0", torch.full_like(x_t, x0), x_t, level).as_(kind)
                return Estimate(kind, value, x_t, level, torch.full_like(x_t, fraction))

            return denoise

        for kinds in (("v", "v"), ("eps", "v"), ("x0", "flow")):
            guided, plain = told(kinds[0], 1.0, 0.3), told(kinds[1], -1.0, 0.6)
            got = GuidanceInterval(guided, 0.2, 0.8, plain)(x_t, level)
            torch.testing.assert_close(got.x0.mean(1), torch.tensor([-1.0, 1.0], dtype=torch.float64))
            assert got.variance_fraction is not None
            assert got.variance_fraction[:, 0].tolist() == [0.6, 0.3]
            assert got.log_variance is None

    def test_clean_rows_have_no_eps_and_need_none(self) -> None:
        def quiet(x_t: Tensor, level: NoiseLevel) -> Estimate:
            return Estimate("eps", torch.zeros_like(x_t), x_t, level)

        x0, level = randn(2, 3), VP()(torch.tensor([0.0, 0.5], dtype=torch.float64))
        got = GuidanceInterval(quiet, 0.2, 0.8, says("x0", x0))(randn(2, 3), level)
        assert torch.equal(got.x0[0], x0[0])

    def test_errors(self) -> None:
        guided = ClassifierFree(DATA, label(), 3.0)
        for low, high in ((0.6, 0.2), (-0.1, 0.5), (0.5, 1.1), (0.5, 0.5)):
            with pytest.raises(ValueError, match=f"0 <= low < high <= 1.*got {low} to {high}"):
                GuidanceInterval(guided, low, high)
        with pytest.raises(ValueError, match="Clip does not say what it guides"):
            GuidanceInterval(Clip(guided), 0.2, 0.6)


class TestRescale:
    @pytest.mark.parametrize("phi", [0.0, 0.4, 1.0])
    def test_the_formula_of_the_paper_on_x0(self, phi: float) -> None:
        level = VP()(EIGHT)
        x_t = noisy(level)
        guided = ClassifierFree(DATA, label(), 4.0)
        x0, plain = (one.x0.numpy() for one in guided.pair(x_t, level))
        rows = zip(x0, plain, strict=True)
        expected = np.stack([phi * (a * np.std(b) / np.std(a)) + (1 - phi) * a for a, b in rows])
        np.testing.assert_allclose(Rescale(guided, phi)(x_t, level).x0.numpy(), expected, rtol=1e-12)

    def test_the_plain_one_is_what_it_was(self) -> None:
        level = VP()(0.3)
        x_t, guided = noisy(level), ClassifierFree(DATA, label(), 4.0)
        conditional = DATA(x_t, level, label()).x0
        rescaled, plain = Rescale(guided, 1.0).pair(x_t, level)
        torch.testing.assert_close(plain.x0, conditional, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(rescaled.x0.std(1), conditional.std(1), rtol=1e-12, atol=0)
        assert torch.equal(Rescale(guided).plain(x_t, level).x0, conditional)

    def test_no_contrast_is_left_as_it_is(self) -> None:
        class Flat:
            plain = staticmethod(says("x0", randn(2, 6)))

            def pair(self, x_t: Tensor, level: NoiseLevel) -> tuple[Estimate, Estimate]:
                x0 = torch.tensor([[0.5] * 6, [0, 1, 0, 1, 0, 1]], dtype=torch.float64)
                return Estimate("x0", x0, x_t, level), self.plain(x_t, level)

            def __call__(self, x_t: Tensor, level: NoiseLevel) -> Estimate:
                return self.pair(x_t, level)[0]

        got = Rescale(Flat(), 1.0)(randn(2, 6), VP()(0.5)).x0
        assert torch.equal(got[0], torch.full((6,), 0.5, dtype=torch.float64))
        torch.testing.assert_close(got[1].std(), randn(2, 6)[1].std(), rtol=1e-12, atol=0)

    def test_one_number_has_no_contrast(self) -> None:
        line = Mixture(torch.tensor([[-1.0], [1.0]]), torch.tensor([0.1, 0.1]), labels=torch.tensor([0, 1]))
        guided, x_t = ClassifierFree(line, label(), 3.0), randn(8, 1)
        assert torch.equal(Rescale(guided, 1.0)(x_t, VP()(0.5)).x0, guided(x_t, VP()(0.5)).x0)

    @pytest.mark.parametrize("phi", [-0.1, 1.1])
    def test_errors(self, phi: float) -> None:
        with pytest.raises(ValueError, match=f"phi: .* got {phi}"):
            Rescale(ClassifierFree(DATA, label(), 3.0), phi)


class TestAuto:
    @pytest.mark.parametrize("kinds", [("x0", "x0"), ("eps", "v"), ("flow", "flow")])
    @pytest.mark.parametrize("scale", [-0.5, 0.0, 1.0, 2.5])
    def test_away_from_the_weaker_one(self, kinds: tuple[Prediction, Prediction], scale: float) -> None:
        level = VP()(EIGHT)
        x_t = noisy(level)
        good = partial(speaking(kinds[0]), condition=label())
        weak = partial(speaking(kinds[1], WEAKER), condition=label())
        expected = (1 - scale) * weak(x_t, level).x0 + scale * good(x_t, level).x0
        ours, theirs = Counted(good), Counted(weak)
        torch.testing.assert_close(Auto(ours, theirs, scale)(x_t, level).x0, expected, rtol=1e-10, atol=1e-10)
        assert (ours.rows, theirs.rows) == (8 * (scale != 0), 8 * (scale != 1))


@schedules
class TestClip:
    @pytest.mark.parametrize("kind", PREDICTIONS)
    @pytest.mark.parametrize(("low", "high"), [(-1.0, 1.0), (0.0, 0.5)])
    def test_x0_is_clipped_and_all_else_follows(
        self, schedule: Schedule, kind: Prediction, low: float, high: float
    ) -> None:
        """x_t is still alpha x0 + sigma eps: of the new x0 and its eps."""
        x0, x_t, level = 2 * randn(4, 50), randn(50, 4).T, schedule(torch.tensor([0.05, 0.3, 0.6, 0.95]))
        clipped = Clip(says(kind, x0), low, high)(x_t, level)
        expected = torch.tensor([[min(max(float(v), low), high) for v in row] for row in x0], dtype=torch.float64)
        torch.testing.assert_close(clipped.x0, expected, rtol=1e-10, atol=1e-10)
        assert float(clipped.x0.min()) >= low
        assert float(clipped.x0.max()) <= high
        torch.testing.assert_close(add_noise(clipped.x0, clipped.eps, level), x_t, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(clipped.flow, clipped.eps - clipped.x0, rtol=1e-12, atol=1e-12)

    def test_what_is_in_range_stays(self, schedule: Schedule) -> None:
        """x0 bit for bit; and x_t, the level and a learned variance are the estimate's own."""
        x0, x_t, level = torch.rand(3, 5, dtype=torch.float64) * 2 - 1, randn(3, 5), schedule(0.4)
        for clipped in (Clip(says("x0", x0))(x_t, level), DynamicThreshold(says("x0", x0), 0.9)(x_t, level)):
            assert torch.equal(clipped.x0, x0)
            assert clipped.x_t is x_t
            assert clipped.level is level
            assert clipped.variance_fraction is not None
            assert torch.equal(clipped.variance_fraction, torch.full_like(x0, 0.3))

    @pytest.mark.parametrize("solver", [DDIM(), Ancestral()], ids=["ddim", "ancestral"])
    def test_samples_end_within_the_range(self, schedule: Schedule, solver: DDIM | Ancestral) -> None:
        """Of data that reach further, too."""
        denoise = Mixture(torch.tensor([[-1.4], [1.5]]), torch.tensor([0.1, 0.1]))
        levels, noise = grid(schedule, 8), NoiseSource(range(40))
        x = initial_noise(torch.empty(40, 1), levels[0], noise)
        *_, free = trajectory(denoise, x, levels, solver, noise)
        *_, kept = trajectory(Clip(denoise), x, levels, solver, noise)
        assert float(free.x.abs().max()) > 1.2
        assert float(kept.x.abs().max()) <= 1


class TestDynamicThreshold:
    @pytest.mark.parametrize("quantile", [0.3, 0.9, 1.0])
    @pytest.mark.parametrize(("low", "high"), [(-1.0, 1.0), (0.0, 0.5)])
    def test_the_threshold_is_each_samples_own(self, quantile: float, low: float, high: float) -> None:
        """Saharia et al. 2022, section 2.3, on the range brought to [-1, 1]; over all entries of a picture."""
        x0 = torch.tensor([0.2, 1.0, 2.0, 5.0], dtype=torch.float64)[:, None, None, None] * randn(4, 2, 5, 5)
        middle, half = (low + high) / 2, (high - low) / 2
        expected = []
        for row in (x0.numpy() - middle) / half:
            s = max(1.0, float(np.quantile(np.abs(row).ravel(), quantile)))
            expected.append(middle + half * np.clip(row, -s, s) / s)
        got = DynamicThreshold(says("x0", x0), quantile, low, high)(randn(4, 2, 5, 5), VP()(0.5)).x0
        np.testing.assert_allclose(got.numpy(), np.stack(expected), rtol=1e-12, atol=1e-14)
        assert float(got.min()) >= low - 1e-15
        assert float(got.max()) <= high + 1e-15

    def test_few_beyond_the_range_are_clipped(self) -> None:
        """One entry in twenty, at the quantile 0.9: nothing is scaled."""
        x0 = torch.full((1, 20), 0.5)
        x0[0, 7] = 3.0
        got = DynamicThreshold(says("x0", x0), 0.9)(randn(1, 20), VP()(0.5)).x0
        assert got[0].tolist() == [0.5] * 7 + [1.0] + [0.5] * 12

    @pytest.mark.parametrize("quantile", [0.0, 1.5, 99.5])
    def test_errors(self, quantile: float) -> None:
        with pytest.raises(ValueError, match=f"quantile: .*got {quantile}"):
            DynamicThreshold(DATA, quantile)
