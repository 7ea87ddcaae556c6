"""Guidance as one setting of a model: which wrappers, in which order, for which rows, and what is refused."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from test_model import model_of, pictures
from unsteep.core.chains import CosineBetas
from unsteep.core.condition import Condition
from unsteep.core.level import NoiseLevel
from unsteep.guidance import Auto, ClassifierFree, ClassifierGuidance, Clip, DynamicThreshold, GuidanceInterval, Rescale
from unsteep.guidance.noisy import NoisyClassifier
from unsteep.guidance.setting import Guidance
from unsteep.model import Model
from unsteep.networks.encoder import EncoderConfig

LABELS = torch.tensor([0, 1, 2, 3, 0])


@pytest.fixture(scope="module")
def model() -> Model:
    return model_of(pictures())


@pytest.fixture(scope="module")
def classifier() -> NoisyClassifier:
    torch.manual_seed(1)
    module = NoisyClassifier(EncoderConfig(channels=1, classes=4, width=8, groups=4, multipliers=(1, 2)).build())
    for weight in module.parameters():
        weight.data += 0.2 * torch.randn_like(weight)
    return module.eval().requires_grad_(False)


def drawn(model: Model, guidance: Any, **how: Any) -> Tensor:
    how = {"label": [0, 1, 2, 3, 0], "steps": 3, "clip": False, **how}
    return model.sample(5, guidance=guidance, **how)


class TestWhatItMakes:
    def test_a_number_is_the_scale(self, model: Model) -> None:
        assert torch.equal(drawn(model, 2.0), drawn(model, Guidance(scale=2.0)))
        assert isinstance(model.denoise(LABELS, guidance=2.0, clip=False), ClassifierFree)

    def test_the_order(self, model: Model) -> None:
        """From the inside out: guidance, contrast, interval, and what bounds around all."""
        how = Guidance(scale=2.0, interval=(0.2, 0.8), rescale=0.5)
        clipped = model.denoise(LABELS, clip=True, guidance=how)
        assert isinstance(clipped, Clip)
        assert isinstance(clipped.denoise, GuidanceInterval)
        assert isinstance(clipped.denoise.guided, Rescale)
        assert isinstance(clipped.denoise.guided.guided, ClassifierFree)
        bounded = model.denoise(LABELS, clip=True, guidance=replace(how, threshold=0.9))
        assert isinstance(bounded, DynamicThreshold)  # in place of clipping
        assert isinstance(bounded.denoise, GuidanceInterval)

    def test_an_empty_interval_is_plain(self, model: Model) -> None:
        outside = model.denoise(LABELS, clip=False, guidance=Guidance(scale=3.0, interval=(0.0, 1e-6)))
        level = model.denoiser.schedule(0.5)
        x = torch.randn(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))
        assert torch.equal(outside(x, level).value, model.denoise(LABELS, clip=False)(x, level).value)

    def test_a_negative_label_is_what_it_leads_away_from(self, model: Model) -> None:
        away = torch.tensor([3, 3, 3, 3, 3])
        guided = model.denoise(LABELS, clip=False, guidance=Guidance(scale=2.0, negative=Condition(label=away)))
        level = model.denoiser.schedule(0.5)
        x = torch.randn(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))
        towards, base = (model.denoise(one, clip=False)(x, level).value for one in (LABELS, away))
        torch.testing.assert_close(guided(x, level).value, base + 2 * (towards - base), rtol=1e-4, atol=1e-5)

    def test_a_weaker_model(self, model: Model) -> None:
        weaker = model_of(pictures(), stirred=False)
        guided = model.denoise(LABELS, clip=False, guidance=Guidance(scale=2.0, weaker=weaker.denoiser))
        assert isinstance(guided, Auto)
        level = model.denoiser.schedule(0.5)
        x = torch.randn(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))
        alone = model.denoise(LABELS, clip=False)(x, level).value  # the untrained one answers 0
        torch.testing.assert_close(guided(x, level).value, 2 * alone, rtol=1e-4, atol=1e-5)


class TestRows:
    """A batch of 5 is 5 batches of 1, whatever guides."""

    @pytest.mark.parametrize("by", ["condition", "negative", "classifier"])
    def test_each_sample_has_its_own(self, model: Model, classifier: NoisyClassifier, by: str) -> None:
        how = {
            "condition": Guidance(scale=2.0),
            "negative": Guidance(scale=2.0, negative=Condition(label=LABELS.flip(0))),
            "classifier": Guidance(scale=2.0, classifier=classifier, labels=LABELS.flip(0)),
        }[by]
        whole, single = (drawn(model, how, batch_size=size).int() for size in (5, 1))
        assert (whole - single).abs().max() <= 1


class TestClassifier:
    def test_it_guides_a_model_without_classes(self, classifier: NoisyClassifier) -> None:
        blind = model_of(pictures(names=()))
        plain, guided = (
            blind.sample(5, steps=3, clip=False, guidance=Guidance(scale=s, classifier=classifier, labels=LABELS))
            for s in (0.0, 20.0)
        )
        assert torch.equal(plain, blind.sample(5, steps=3, clip=False))
        assert not torch.equal(plain, guided)

    def test_the_gradient_is_that_of_log_p(self, classifier: NoisyClassifier) -> None:
        blind = model_of(pictures(names=()))
        level = blind.denoiser.schedule(0.5)
        x = torch.randn(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))
        guided = blind.denoise(clip=False, guidance=Guidance(scale=3.0, classifier=classifier, labels=LABELS))
        assert isinstance(guided, ClassifierGuidance)

        def log_p(x: Tensor) -> Tensor:
            return torch.log_softmax(classifier(x, level), 1)[torch.arange(5), LABELS]

        step = 1e-2 * torch.randn(5, 1, 8, 8, generator=torch.Generator().manual_seed(1))
        slope = (log_p(x + step) - log_p(x - step)) / 2
        moved = guided(x, level).score - blind.denoise(clip=False)(x, level).score
        torch.testing.assert_close((moved * step).flatten(1).sum(1), 3 * slope, rtol=0.05, atol=2e-3)

    def test_it_hears_the_log_snr_alone(self, classifier: NoisyClassifier) -> None:
        """x_t and c x_t of the same log-SNR are the same to it: what it learned on one schedule holds on any."""
        x = torch.randn(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))
        one, two = (torch.tensor(value, dtype=torch.float64) for value in (1.0, 2.0))
        level = NoiseLevel(one, 0 * one, one, one)
        doubled = NoiseLevel(one, 0 * one, two, two)
        torch.testing.assert_close(classifier(x, level), classifier(2 * x, doubled))

    def test_untrained_it_holds_all_classes_equally_likely(self) -> None:
        module = NoisyClassifier(EncoderConfig(channels=1, classes=4, width=8, groups=4, multipliers=(1, 2)).build())
        level = model_of(pictures()).denoiser.schedule(0.5)
        assert torch.equal(module(torch.randn(3, 1, 8, 8), level), torch.zeros(3, 4))


class TestRefused:
    def test_guidance_of_a_model_that_never_went_without(self) -> None:
        description = replace(pictures(), drop=0.0)
        model = model_of(description)
        with pytest.raises(ValueError, match=r"condition.drop=0, and so never learned"):
            model.sample(1, steps=2, guidance=2.0)
        with pytest.raises(ValueError, match=r"condition.drop"):
            model.sample(1, steps=2, guidance=0.0)
        model.sample(1, steps=2)  # plain
        negative = Guidance(scale=2.0, negative=Condition(label=torch.tensor([1])))
        model.sample(1, steps=2, guidance=negative)  # which asks nothing of a null
        model_of(replace(description, drop=0.1)).sample(1, steps=2, guidance=2.0)

    def test_guidance_of_nothing(self) -> None:
        with pytest.raises(ValueError, match="nothing to be guided by"):
            model_of(pictures(names=())).sample(1, steps=2, guidance=2.0)

    @pytest.mark.parametrize(
        ("negative", "words"),
        [
            (torch.tensor([1, 99]), "negative condition: expected labels from 0 to 3"),
            (torch.tensor([1, 2, 3]), "negative: expected 2 rows"),
            (torch.tensor([0.5, 1.0]), "negative condition: expected labels as int64"),
        ],
    )
    def test_a_negative_condition_is_looked_at(self, model: Model, negative: Tensor, words: str) -> None:
        with pytest.raises(ValueError, match=words):
            model.sample(2, label=1, steps=2, guidance=Guidance(scale=2.0, negative=Condition(label=negative)))

    def test_labels_without_a_classifier(self, model: Model) -> None:
        with pytest.raises(ValueError, match="labels: they say what a classifier is asked for"):
            model.sample(2, label=1, steps=2, guidance=Guidance(scale=2.0, labels=3))

    def test_two_guides(self, classifier: NoisyClassifier, model: Model) -> None:
        with pytest.raises(ValueError, match="exclude each other"):
            Guidance(classifier=classifier, weaker=model.denoiser)

    def test_a_grid_that_was_tuned_for_something_else(self, model: Model) -> None:
        with pytest.raises(ValueError, match="tuned grids are for a scale of guidance"):
            model.sample(1, steps=2, grid="tuned", guidance=Guidance(scale=2.0, interval=(0.1, 0.9)))

    def test_a_weaker_model_on_another_schedule(self, model: Model) -> None:
        weaker = model_of(pictures(schedule=CosineBetas()))
        with pytest.raises(ValueError, match="another schedule"):
            model.sample(1, steps=2, guidance=Guidance(scale=2.0, weaker=weaker.denoiser))

    def test_a_classifier_without_a_class(self, classifier: NoisyClassifier) -> None:
        with pytest.raises(ValueError, match="needs a class"):
            model_of(pictures(names=())).sample(1, steps=2, guidance=Guidance(scale=2.0, classifier=classifier))
