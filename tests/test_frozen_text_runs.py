"""A run that hears captions through a pretrained text encoder, which stays outside its weights and as it is."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import unsteep
from building import batches_for
from unsteep.core.chains import CosineBetas
from unsteep.data import Shapes
from unsteep.hearing.prompt import frozen_encoder
from unsteep.model import Model, ModelConfig
from unsteep.networks import FrozenTextConfig, UNetConfig
from unsteep.training import denoising
from unsteep.training.conditioning import Conditioning
from unsteep.training.loop import TrainConfig
from unsteep.training.run import Run, resume, start

transformers = pytest.importorskip("transformers")
tokenizers = pytest.importorskip("tokenizers")

WORDS = sorted({word for caption in Shapes(size=16, count=200).read("train").captions for word in caption.split()})


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small BERT of random weights with a tokenizer of words, as MiniLM's folder has them."""
    folder = tmp_path_factory.mktemp("encoder")
    vocabulary = {"[PAD]": 0, "[CLS]": 1, "[SEP]": 2, **{word: i for i, word in enumerate(WORDS, 3)}}
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(vocabulary), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    transformers.BertModel(config).save_pretrained(folder)
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="[PAD]"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def run_of(encoder: Path, **condition: object) -> Run:
    network = UNetConfig(width=16, groups=4, multipliers=(1, 2), blocks=1, attention=(8,))
    return Run(
        data=Shapes(size=16, count=40, test_count=10),
        condition=Conditioning(**{"text": str(encoder), "limit": 20, "drop": 0.25, **condition}),  # type: ignore[arg-type]
        model=ModelConfig(network=network, prediction="v"),
        schedule=CosineBetas(steps=8),  # so that a report is drawn in no time
        train=TrainConfig(steps=2, batch=8, checkpoint_every=2, preview_every=1, warmup=1),
    )


@pytest.fixture(scope="module")
def model(encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Model:
    out = tmp_path_factory.mktemp("run") / "text"
    assert start(run_of(encoder), out, say=lambda _: None)
    trained = unsteep.load(out)
    generator = torch.Generator().manual_seed(0)
    for weight in trained.denoiser.parameters():  # so that it hears what it is told
        weight.data += 0.1 * torch.randn(weight.shape, generator=generator)
    return trained


def test_a_batch_hears_the_tokens_of_its_captions(encoder: Path):
    """Each as transformers itself makes them of that caption alone."""
    run = run_of(encoder, drop=0.0)
    data = run.data.read("train")
    bert, words = (
        transformers.BertModel.from_pretrained(encoder).eval(),
        tokenizers.Tokenizer.from_file(str(encoder / "tokenizer.json")),
    )
    ((batch, _),) = batches_for(run, data, run.describe(data))(0)
    assert batch.condition is not None
    assert batch.condition["text"] is not None
    assert batch.condition["text_valid"] is not None
    for row, place in enumerate(batch.index.tolist()):
        told = batch.condition["text"][row][batch.condition["text_valid"][row]]
        with torch.no_grad():
            alone = bert(torch.tensor([words.encode(data.captions[place]).ids])).last_hidden_state[0]
        torch.testing.assert_close(told, alone, atol=1e-5, rtol=0)


def test_the_model_remembers_the_encoder_and_holds_none_of_it(model: Model, encoder: Path):
    text = model.description.model.network.text  # type: ignore[union-attr]
    assert text == FrozenTextConfig(
        width=16, folder=str(encoder), digest=frozen_encoder(str(encoder), 20).digest, limit=20
    )
    assert not any("encoder" in name for name in model.denoiser.state_dict())


def test_a_prompt_changes_the_sample_and_none_is_no_text(model: Model):
    red, blue, none, empty = (
        model.sample(2, steps=3, prompt=prompt) for prompt in ("a red circle", "two blue squares", None, " ")
    )
    assert not torch.equal(red, blue)
    assert not torch.equal(red, none)
    assert (none.int() - empty.int()).abs().max() <= 1  # a rounding may fall the other way


def test_each_sample_has_its_own_prompt(model: Model):
    prompts = ["a red circle", "a yellow triangle right of a cyan square", ""]
    for guidance in (1.0, 2.0):
        together = model.sample(3, steps=3, prompt=prompts, guidance=guidance).int()
        alone = [model.sample(1, steps=3, prompt=one, seed=i, guidance=guidance).int() for i, one in enumerate(prompts)]
        assert (together - torch.cat(alone)).abs().max() <= 1


def test_another_encoder_in_its_place_and_none_are_refused(model: Model, encoder: Path, tmp_path: Path):
    other = tmp_path / "other"
    shutil.copytree(encoder, other)
    torch.manual_seed(1)
    transformers.BertModel(transformers.BertConfig.from_pretrained(other)).save_pretrained(other)
    prompt = model.description.hearing("prompt")
    for folder, says in (
        (other, "is not the one that this model was trained with"),
        (tmp_path / "gone", "no such folder"),
    ):
        there = replace(model.description, hears=(replace(prompt, by=str(folder)),))
        with pytest.raises(ValueError, match=says):
            Model(model.denoiser, there).sample(1, prompt="a red circle")


def test_what_is_no_encoder_is_refused_before_training(tmp_path: Path):
    run = run_of(tmp_path / "bpee")
    with pytest.raises(
        ValueError, match=r"condition\.text: none, bpe, characters, or the folder of an encoder: .*bpee"
    ):
        run.describe(run.data.read("train"))


def test_a_run_goes_on_with_its_own_encoder_only(encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(denoising, "report", lambda *_: None)
    folder = tmp_path / "encoder"
    shutil.copytree(encoder, folder)
    run = run_of(folder)
    assert start(run, tmp_path / "run", say=lambda _: None)
    words = json.loads((folder / "tokenizer.json").read_text())
    words["added_tokens"], words["truncation"] = [], None
    (folder / "tokenizer.json").write_text(json.dumps(words, indent=1))  # the weights are the same
    frozen_encoder.cache_clear()
    with pytest.raises(ValueError, match=r"resume: the text encoder is not the one that .* was trained with"):
        resume(["train.steps=3"], tmp_path / "run", say=lambda _: None)
