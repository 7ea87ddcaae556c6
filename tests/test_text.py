"""Text as a condition: vocabularies, the trainable encoder, and pretrained ones."""

import json
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from unsteep.networks.text import NullText, TextEncoder, TextEncoderConfig, Vocabulary
from unsteep.networks.text.pretrained import pretrained_text

CAPTIONS = [
    f"A {first} {shape} {where} a {second} square."
    for first in ("red", "green", "blue")
    for shape in ("circle", "triangle")
    for where in ("left of", "above")
    for second in ("yellow", "blue")
]


# Vocabularies


@pytest.mark.parametrize("kind", ["bpe", "characters"])
def test_a_vocabulary_spells_what_it_learned(kind: Any) -> None:
    vocabulary = Vocabulary.learn(CAPTIONS, kind=kind, size=60)
    ids, mask = vocabulary.encode(CAPTIONS, 64)
    assert ids.dtype == torch.int64
    assert mask.dtype == torch.bool
    assert 2 <= ids[mask].min() <= ids.max() < len(vocabulary) <= 60
    assert (ids[~mask] == 0).all()
    assert mask.sum(1).max() == mask.shape[1]
    assert (mask.int().diff(dim=1) <= 0).all()  # padding is behind
    assert [vocabulary.decode(row) for row in ids] == [caption.lower() for caption in CAPTIONS]
    other = vocabulary.encode([" A  RED\tcircle ＡＢＯＶＥ a\nblue square. "], 64)[0]
    assert torch.equal(other, vocabulary.encode(["a red circle above a blue square."], 64)[0])


def test_byte_pairs_are_the_commonest() -> None:
    """The example of Sennrich et al. 2016, whose words end in a mark where ours begin with a space."""
    text = " ".join(["low"] * 5 + ["lower"] * 2 + ["newest"] * 6 + ["widest"] * 3)
    merges = Vocabulary.learn([text], size=100).merges
    assert merges[:3] == (("e", "s"), ("es", "t"), (" ", "l"))  # 9, 9, 7 times; of equals, what sorts first
    assert {"newest", "low"} <= {(a + b).strip() for a, b in merges}


def restated_merges(captions: list[str], count: int) -> tuple[list[tuple[str, str]], dict[str, list[str]]]:
    """Algorithm 1 of Sennrich et al. 2016, all counts taken anew for every merge; and how it leaves each word."""
    words = Counter(" " + word for caption in captions for word in caption.split())
    splits = {word: list(word) for word in words}
    merges = []
    for _ in range(count):
        pairs: Counter[tuple[str, str]] = Counter()
        for word, parts in splits.items():
            for pair in pairwise(parts):
                pairs[pair] += words[word]
        best = sorted(pairs, key=lambda pair: (-pairs[pair], pair))[0]
        merges.append(best)
        for parts in splits.values():
            i = 0
            while i < len(parts) - 1:
                if (parts[i], parts[i + 1]) == best:
                    parts[i : i + 2] = [best[0] + best[1]]
                i += 1
    return merges, splits


def test_merges_are_those_of_the_algorithm_counted_anew() -> None:
    captions = ["abababa abcab bcbcb", "cabcab aaaa aaab", "bcab abcabc acbacb aab cbcbc"] * 3
    vocabulary = Vocabulary.learn(captions, size=26)
    merges, splits = restated_merges(captions, len(vocabulary.merges))
    assert list(vocabulary.merges) == merges
    assert len(merges) >= 18
    for word, parts in splits.items():  # a word is encoded as learning left it
        assert [vocabulary.pieces[i - 2] for i in vocabulary.encode([word], 99)[0][0]] == parts


def test_what_occurs_once_is_not_joined() -> None:
    assert Vocabulary.learn(["abc"]).merges == ()
    assert Vocabulary.learn(["abc ab"]).merges == ((" ", "a"), (" a", "b"))


def test_longer_pieces_make_shorter_texts() -> None:
    lengths = [Vocabulary.learn(CAPTIONS, size=size).encode(CAPTIONS, 99)[1].sum() for size in (30, 50, 80)]
    assert lengths[0] > lengths[1] > lengths[2]
    assert lengths[0] < Vocabulary.learn(CAPTIONS, kind="characters").encode(CAPTIONS, 99)[1].sum()


def test_a_piece_that_two_merges_spell_has_one_id() -> None:
    vocabulary = Vocabulary((" ", "a", "b", "c"), (("a", "b"), ("ab", "c"), ("b", "c"), ("a", "bc")))
    assert len(vocabulary) == 2 + 4 + 3
    ids = vocabulary.encode(["abc"], 9)[0][0]
    assert ids.max() == len(vocabulary) - 2
    assert vocabulary.decode(ids) == "abc"


@pytest.mark.parametrize("kind", ["bpe", "characters"])
def test_a_vocabulary_is_a_text(kind: Any) -> None:
    vocabulary = Vocabulary.learn([*CAPTIONS, 'çà "quoted" \\ 🎈 한글'], kind=kind)
    again = Vocabulary.from_json(vocabulary.to_json())
    assert again == vocabulary
    assert torch.equal(again.encode(CAPTIONS, 64)[0], vocabulary.encode(CAPTIONS, 64)[0])
    assert Vocabulary.learn([*CAPTIONS, 'çà "quoted" \\ 🎈 한글'][::-1], kind=kind) == vocabulary
    for text in ("", "{}", "[1]", '{"characters": "ab", "merges": [["a"]]}'):
        with pytest.raises(ValueError, match="expected a vocabulary as"):
            Vocabulary.from_json(text)


def test_unknown_characters_have_one_id() -> None:
    vocabulary = Vocabulary.learn(CAPTIONS)
    ids, mask = vocabulary.encode(["a ☃ circle", "☂", ""], 64)
    assert vocabulary.decode(ids[0]) == "a \ufffd circle"
    assert [int((row == 1).sum()) for row in ids] == [1, 1, 0]
    assert mask.sum(1).tolist()[2] == 0
    rare = Vocabulary.learn(["aaaa bbb cc d"], kind="bpe", size=5)  # room for three characters: a, b and the space
    assert rare.characters == (" ", "a", "b")
    assert rare.merges == ()


def test_long_texts_are_cut_with_a_warning() -> None:
    vocabulary = Vocabulary.learn(CAPTIONS, kind="characters")
    with pytest.warns(UserWarning, match="2 of 3 prompts were cut to the limit of 6 tokens") as caught:
        ids, mask = vocabulary.encode(["a red circle", "a red", "a blue circle"], 6)
    assert caught[0].filename == __file__
    assert ids.shape == mask.shape == (3, 6)
    assert vocabulary.decode(ids[0]) == "a red"
    with pytest.raises(ValueError, match="limit: expected"):
        vocabulary.encode(["a"], 0)


def test_nothing_to_learn_from() -> None:
    for captions in ([], ["", "  \n"]):
        with pytest.raises(ValueError, match="captions: expected some text"):
            Vocabulary.learn(captions)
    with pytest.raises(ValueError, match="size: expected"):
        Vocabulary.learn(["a"], size=2)


# The trainable encoder


def encoder(**config: Any) -> TextEncoder:
    torch.manual_seed(0)
    net = TextEncoderConfig(**({"pieces": 20, "limit": 12, "width": 16, "heads": 2} | config)).build().double()
    for parameter in net.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    return net


def some_text() -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    mask = torch.arange(7) < torch.tensor([3, 7, 1, 0, 5])[:, None]
    return torch.randint(2, 20, (5, 7)) * mask, mask


def test_padding_changes_nothing() -> None:
    net, (ids, mask) = encoder(), some_text()
    tokens = net(ids, mask)
    assert tokens.shape == (5, 7, 16)
    assert (tokens[~mask] == 0).all()
    grown = torch.cat([ids, torch.randint(0, 20, (5, 4))], 1), torch.cat([mask, torch.zeros(5, 4).bool()], 1)
    torch.testing.assert_close(net(*grown)[:, :7], tokens, atol=1e-12, rtol=0)
    other = torch.where(mask, ids, 19 - ids)
    torch.testing.assert_close(net(other, mask), tokens, atol=1e-12, rtol=0)
    for i, n in enumerate([3, 7, 1, 0, 5]):
        alone = net(ids[i : i + 1, :n], mask[i : i + 1, :n])
        torch.testing.assert_close(alone[0], tokens[i, :n], atol=1e-12, rtol=0)


def test_every_token_hears_every_other_and_where_it_stands() -> None:
    net, (ids, mask) = encoder(), some_text()
    tokens = net(ids, mask)
    changed = ids.clone()
    changed[:, 2] = ids[:, 2] % 18 + 2  # another piece
    moved = (net(changed, mask) - tokens).abs().amax(2)
    for row, n in enumerate([3, 7, 1, 0, 5]):
        assert ((moved[row, :n] > 1e-3) == (n > 2)).all()
    swapped = net(ids[:, [1, 0, 2, 3, 4, 5, 6]], mask)
    assert (swapped[1, [1, 0]] - tokens[1, :2]).abs().max() > 1e-2


def restated_encoder(net: TextEncoder, ids: list[int], heads: int) -> Tensor:
    """One prompt through a transformer with the normalization before each branch, position by position."""
    w = {name: tensor.detach() for name, tensor in net.state_dict().items()}
    norm = torch.nn.functional.layer_norm
    h = torch.stack([w["pieces.weight"][i] + w["positions.weight"][at] for at, i in enumerate(ids)])
    for b in range(len(net.blocks)):
        p = {name.removeprefix(f"blocks.{b}."): tensor for name, tensor in w.items()}
        normed = norm(h, h.shape[1:], p["norm1.weight"], p["norm1.bias"])
        q, k, v = (normed @ p["to_qkv.weight"].T + p["to_qkv.bias"]).chunk(3, dim=1)
        heard = []
        for at in range(len(ids)):
            parts = []
            for head in torch.arange(h.shape[1]).chunk(heads):
                scores = torch.stack([q[at, head] @ k[other, head] for other in range(len(ids))]) / len(head) ** 0.5
                weights = scores.exp() / scores.exp().sum()
                parts.append(sum(weight * v[other, head] for other, weight in enumerate(weights)))
            heard.append(torch.cat(parts))
        h = h + torch.stack(heard) @ p["to_out.weight"].T + p["to_out.bias"]
        wide = norm(h, h.shape[1:], p["norm2.weight"], p["norm2.bias"]) @ p["widen.weight"].T + p["widen.bias"]
        h = h + (wide * 0.5 * (1 + torch.erf(wide / 2**0.5))) @ p["narrow.weight"].T + p["narrow.bias"]
    return norm(h, h.shape[1:], w["norm.weight"], w["norm.bias"])


def test_the_encoder_is_its_restatement() -> None:
    net, (ids, mask) = encoder(depth=3), some_text()
    torch.testing.assert_close(net(ids, mask)[4, :5], restated_encoder(net, ids[4, :5].tolist(), 2))


def test_everything_of_the_encoder_learns() -> None:
    net = TextEncoderConfig(pieces=20, limit=7, width=16).build()
    ids, mask = some_text()
    net(ids, mask).square().sum().backward()
    before = {name for name, p in net.named_parameters() if p.grad is None or not p.grad.isfinite().all()}
    assert before == set()
    net = encoder(limit=7)
    (net(ids, mask) ** 3).sum().backward()
    still = [name for name, p in net.named_parameters() if not p.grad.any()]
    assert still == []


def test_an_untrained_encoder_adds_nothing_to_pieces_and_positions() -> None:
    """Its branches start at zero, as those of every network here."""
    torch.manual_seed(0)
    net = TextEncoderConfig(pieces=20, limit=12, width=8, depth=2, heads=2).build()
    ids, mask = some_text()
    plain = net.norm(net.pieces(ids) + net.positions.weight[: ids.shape[1]])
    assert torch.equal(net(ids, mask), plain.masked_fill(~mask[:, :, None], 0.0))


def test_wrong_encoders() -> None:
    with pytest.raises(ValueError, match="heads: expected a divisor of width=128, got 5"):
        TextEncoderConfig(heads=5)
    with pytest.raises(ValueError, match="width: expected"):
        TextEncoderConfig(width=0)
    with pytest.raises(ValueError, match="pieces: 0 means filled"):
        TextEncoderConfig().build()
    with pytest.raises(ValueError, match="expected at most 12 positions, got 13"):
        encoder()(torch.zeros(1, 13, dtype=torch.int64), torch.ones(1, 13).bool())


def test_no_text_is_the_null() -> None:
    torch.manual_seed(0)
    null, (ids, mask) = NullText(16).double(), some_text()
    tokens = encoder()(ids, mask)
    drop = torch.tensor([True, False, False, False, True])
    out, valid = null(tokens, mask & ~drop[:, None])
    assert out.shape == (5, 8, 16)
    assert valid.sum(1).tolist() == [1, 7, 1, 1, 1]
    assert valid[:, 0].tolist() == [True, False, False, True, True]
    query = torch.randn(5, 4, 16, dtype=torch.float64)

    def cross(query: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
        return torch.nn.functional.scaled_dot_product_attention(query, tokens, tokens, attn_mask=mask[:, None, :])

    heard = cross(query, out, valid)
    for row in (0, 3, 4):  # whoever has no text hears the null, whatever was dropped
        torch.testing.assert_close(heard[row], null.token.expand(4, 16))
    torch.testing.assert_close(heard[1:3], cross(query[1:3], tokens[1:3], mask[1:3]))  # a text never hears it
    heard.sum().backward()
    assert null.token.grad is not None
    assert null.token.grad.eq(12).all()


# Pretrained encoders

WORDS = ["[PAD]", "<s>", "a", "red", "blue", "circle", "square", "</s>"]
PROMPTS = ["a red circle", "blue", "", "a blue square a red circle"]


def text_folder(folder: Path, kind: str) -> Any:
    """A tiny random model of a kind and its tokenizer; returns transformers' own."""
    transformers = pytest.importorskip("transformers")
    tokenizers = pytest.importorskip("tokenizers")
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    if kind == "bert":
        model = transformers.BertModel(transformers.BertConfig(vocab_size=8, max_position_embeddings=10, **sizes))
    elif kind == "t5":
        config = transformers.T5Config(vocab_size=8, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2)
        model = transformers.T5ForConditionalGeneration(config)
    else:
        text = {"vocab_size": 8, "max_position_embeddings": 10, "bos_token_id": 1, "eos_token_id": 7, **sizes}
        config = transformers.CLIPConfig(text_config=text, vision_config={"image_size": 28, "patch_size": 14, **sizes})
        model = transformers.CLIPModel(config)
        if kind == "clip_text_model":
            model = transformers.CLIPTextModel(config.text_config)
    for parameter in model.parameters():
        parameter.data += 0.3 * torch.randn(parameter.shape)
    model.eval().save_pretrained(folder)
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="a"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 7)]
    )
    tokenizer.enable_truncation(4)  # what a folder says of lengths is not heard
    tokenizer.enable_padding(length=9, pad_id=3)
    tokenizer.save(str(folder / "tokenizer.json"))
    return {"t5": lambda: model.encoder, "clip": lambda: model.text_model}.get(kind, lambda: model)()


@pytest.mark.parametrize("kind", ["bert", "clip", "clip_text_model", "t5"])
def test_pretrained_tokens_are_transformers_own(kind: str, tmp_path: Path) -> None:
    own, text = text_folder(tmp_path, kind), pretrained_text(tmp_path)
    assert (text.kind, text.width, text.limit) == (kind, 16, 512 if kind == "t5" else 10)
    tokens, mask = text.embed(PROMPTS)
    assert tokens.shape == (4, 8, 16)
    assert not tokens.requires_grad
    assert mask.sum(1).tolist() == [5, 3, 2, 8]
    assert (tokens[~mask] == 0).all()
    for i, prompt in enumerate(PROMPTS):  # one by one: there is no padding
        ids = torch.tensor([[1, *(WORDS.index(word) for word in prompt.split()), 7]])
        with torch.no_grad():
            expected = own(input_ids=ids).last_hidden_state[0]
        torch.testing.assert_close(tokens[i, : ids.shape[1]], expected, atol=1e-5, rtol=1e-5)
    assert (tokens[0, 2] - tokens[3, 5]).abs().max() > 1e-2  # the same word in another place is another token


def test_equal_prompts_are_embedded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text_folder(tmp_path, "bert")
    text, rows = pretrained_text(tmp_path), []
    forward = type(text._model).forward

    def counting(self: Any, input_ids: Tensor, **rest: Any) -> Any:
        rows.append(len(input_ids))
        return forward(self, input_ids=input_ids, **rest)

    monkeypatch.setattr(type(text._model), "forward", counting)
    tokens, mask = text.embed([PROMPTS[0], PROMPTS[1], PROMPTS[0]] * 50)
    assert sum(rows) == 2
    assert tokens.shape[:2] == mask.shape == (150, 5)
    expected = text.embed(PROMPTS[:2])[0]
    torch.testing.assert_close(tokens[147:], expected[[0, 1, 0]])


def test_pretrained_limits(tmp_path: Path) -> None:
    text_folder(tmp_path, "bert")
    text = pretrained_text(tmp_path, limit=4)
    with pytest.warns(UserWarning, match="2 of 4 prompts were cut to the limit of 4 tokens") as caught:
        tokens, mask = text.embed(PROMPTS)
    assert caught[0].filename == __file__
    assert mask.sum(1).tolist() == [4, 3, 2, 4]
    torch.testing.assert_close(tokens[0], pretrained_text(tmp_path).embed(["a red"])[0][0])  # </s> stays
    for limit in (2, 11):
        with pytest.raises(ValueError, match="limit: expected 3 to 10 tokens"):
            pretrained_text(tmp_path, limit=limit)


def test_a_pretrained_encoder_is_frozen_and_known(tmp_path: Path) -> None:
    text_folder(tmp_path, "t5")
    text = pretrained_text(tmp_path)
    assert not any(p.requires_grad or p.dtype != torch.float32 for p in text._model.parameters())
    assert not any(module.training for module in text._model.modules())
    assert len(text.digest) == 64
    assert pretrained_text(tmp_path).digest == text.digest
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"model_type": "gpt2"}))
    with pytest.raises(ValueError, match="expected a model_type of bert, clip, clip_text_model, t5, got 'gpt2'"):
        pretrained_text(tmp_path)
