"""Text from captions to samples: a run learns its vocabulary, its batches hear the captions, a model hears prompts."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import unsteep
from building import batches_for
from unsteep.core.chains import CosineBetas
from unsteep.data import Shapes
from unsteep.evaluation.examples import examples_of
from unsteep.evaluation.likelihood import likelihood
from unsteep.guidance.setting import Guidance
from unsteep.model import Model, ModelConfig
from unsteep.networks import DiTConfig, TextEncoderConfig, UNetConfig, Vocabulary
from unsteep.training import denoising
from unsteep.training.conditioning import Conditioning
from unsteep.training.loop import TrainConfig
from unsteep.training.run import Run, start

TEXT = TextEncoderConfig(width=16, depth=1, heads=2, limit=20)
UNET = UNetConfig(width=16, groups=4, multipliers=(1, 2), blocks=1, attention=(8,), text=TEXT)
DIT = DiTConfig(width=32, depth=2, heads=2, patch=4, text=TEXT)


def run_of(network: UNetConfig | DiTConfig = UNET, **condition: object) -> Run:
    return Run(
        data=Shapes(size=16, count=40, test_count=10),
        condition=Conditioning(**{"text": "bpe", "pieces": 64, "limit": 20, "drop": 0.25, **condition}),  # type: ignore[arg-type]
        model=ModelConfig(network=network, prediction="v"),
        schedule=CosineBetas(steps=8),  # so that a report is drawn in no time
        train=TrainConfig(steps=3, batch=8, checkpoint_every=3, preview_every=3, warmup=1),
    )


@pytest.fixture(scope="module", params=[UNET, DIT], ids=["unet", "dit"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Model:
    out = tmp_path_factory.mktemp("run") / "text"
    with pytest.MonkeyPatch.context() as patch:
        if request.param is DIT:  # whose report is drawn like the other's
            patch.setattr(denoising, "report", lambda *_: None)
        assert start(run_of(request.param), out, say=lambda _: None)
    trained = unsteep.load(out)
    generator = torch.Generator().manual_seed(0)
    for weight in trained.denoiser.parameters():  # so that it hears what it is told
        weight.data += 0.1 * torch.randn(weight.shape, generator=generator)
    return trained


def test_a_batch_hears_the_captions_of_its_pictures() -> None:
    run = run_of(drop=0.0)
    data = run.data.read("train")
    description = run.describe(data)
    vocabulary = Vocabulary.from_json(description.hearing("prompt").vocabulary)
    ((batch, _),) = batches_for(run, data, description)(0)
    assert batch.condition is not None
    assert batch.condition["text"] is not None
    assert batch.condition["text_valid"] is not None
    for row, place in enumerate(batch.index.tolist()):
        told = batch.condition["text"][row][batch.condition["text_valid"][row]]
        assert vocabulary.decode(told).strip() == data.captions[place]


def test_some_captions_are_dropped() -> None:
    run = run_of(drop=0.5)
    data = run.data.read("train")
    description = run.describe(data)
    batches = batches_for(run, data, description)
    heard = [batch.condition["text_valid"].any(1) for step in range(20) for batch, _ in batches(step)]  # type: ignore[union-attr]
    assert 0.35 < float(torch.cat(heard).float().mean()) < 0.65


def test_a_prompt_changes_the_sample_and_none_is_no_text(model: Model) -> None:
    red, blue, none, empty = (
        model.sample(2, steps=3, prompt=prompt) for prompt in ("a red circle", "two blue squares", None, "")
    )
    assert not torch.equal(red, blue)
    assert not torch.equal(red, none)
    assert (none.int() - empty.int()).abs().max() <= 1  # a rounding may fall the other way


def test_each_sample_has_its_own_prompt(model: Model) -> None:
    """However long the others are, and whatever guides."""
    prompts = ["a red circle", "a yellow triangle right of a cyan square", ""]
    for guidance in (1.0, 2.0):
        together = model.sample(3, steps=3, prompt=prompts, guidance=guidance).int()
        alone = [model.sample(1, steps=3, prompt=one, seed=i, guidance=guidance).int() for i, one in enumerate(prompts)]
        assert (together - torch.cat(alone)).abs().max() <= 1


def test_it_is_kept_with_the_model(model: Model, tmp_path: Path) -> None:
    model.save(tmp_path / "saved")
    again = unsteep.load(tmp_path / "saved")
    assert torch.equal(again.sample(2, prompt="a red circle", steps=2), model.sample(2, prompt="a red circle", steps=2))


def test_a_prompt_that_is_too_long_is_cut_with_a_warning(model: Model) -> None:
    with pytest.warns(UserWarning, match="20"):
        model.sample(1, steps=2, prompt="a red circle " * 20)


def test_a_prompt_for_a_model_without_text() -> None:
    run = replace(run_of(replace(UNET, text=None)), condition=Conditioning())
    data = run.data.read("train")
    plain = Model(run.describe(data).build(), run.describe(data))
    with pytest.raises(ValueError, match="prompt: this model was trained without text"):
        plain.sample(1, prompt="a red circle")
    described = run_of().describe(data)
    with pytest.raises(ValueError, match="expected one or 2"):
        Model(described.build(), described).sample(2, prompt=["a", "b", "c"])


def test_a_negative_prompt_is_what_is_guided_away_from(model: Model) -> None:
    """x0 = negative + scale (positive - negative), in one network batch, whatever the lengths of the two."""
    positive, negative = (model.condition_of(2, prompt=prompt) for prompt in ("a red circle", "two blue squares"))
    assert positive is not None
    level, x = model.denoiser.schedule(0.5), torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    guided = model.denoise(positive, False, Guidance(scale=3.0, negative=negative))(x, level).x0
    towards, away = (model.denoise(condition, False)(x, level).x0 for condition in (positive, negative))
    torch.testing.assert_close(guided, away + 3.0 * (towards - away), atol=1e-4, rtol=1e-4)


def test_a_model_that_never_went_without_text_is_not_asked_to(model: Model) -> None:
    sure = Model(model.denoiser, replace(model.description, drop=0.0))
    with pytest.raises(ValueError, match=r"condition\.drop=0, and never learned to go without its caption; give it"):
        sure.sample(1)
    assert sure.sample(1, prompt="a red circle", steps=2).shape == (1, 3, 16, 16)


def test_the_likelihood_is_of_a_picture_given_its_caption(model: Model) -> None:
    """That of the library with the captions bound by hand, and not the one without them."""
    data = Shapes(size=16, count=40, test_count=10).read("test")
    found = likelihood(model, data, n=4, terms=3)
    assert found.settings["given"] == "caption"
    examples = examples_of(model, data, 4, 0)
    told = model.condition_of(4, prompt=examples.captions)
    for condition, same in ((told, True), (None, False)):
        bits = model.likelihood(examples.x, condition, terms=3).bits_per_dim()
        assert torch.allclose(bits, found.each, atol=1e-5, rtol=0) == same
