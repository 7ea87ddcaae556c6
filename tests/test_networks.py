"""The networks: names and shapes of the published U-Net, an independent restatement, and the laws of the contract."""

import copy
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unsteep.networks import (
    MLP,
    DiT,
    DiTConfig,
    FrozenTextConfig,
    MLPConfig,
    UNet,
    UNetConfig,
    blocks,
    preset,
    sinusoidal,
)

KEYS = Path(__file__).parent / "data" / "unet_cifar10_keys.tsv"
SMALL: dict[str, Any] = {
    "channels": 2,
    "size": 8,
    "width": 8,
    "multipliers": (1, 2, 2),
    "blocks": 1,
    "attention": (4,),
    "groups": 4,
}


def small(**changes: Any) -> UNet:
    """A small U-Net with every parameter away from its special start (zeros, ones)."""
    torch.manual_seed(0)
    return shaken(UNetConfig(**{**SMALL, **changes}).build())


def shaken(network: Any) -> Any:
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return network.eval()


def pictures(b: int = 3, c: int = 2, h: int = 8, w: int = 8, seed: int = 1) -> Tensor:
    return torch.randn(b, c, h, w, generator=torch.Generator().manual_seed(seed))


NOISE = torch.tensor([0.0, 41.5, 999.0])


# -- the published network


@pytest.fixture(scope="module")
def cifar() -> UNet:
    return UNetConfig(channels=3, size=32, dropout=0.1).build()


def test_cifar_network_has_the_published_names_and_shapes(cifar: UNet) -> None:
    rows = [line.split("\t") for line in KEYS.read_text().splitlines() if not line.startswith("#")]
    published = {key: tuple(json.loads(shape)) for key, shape in rows}
    ours = {key: tuple(tensor.shape) for key, tensor in cifar.state_dict().items()}
    assert len(published) == 328
    assert ours == published
    assert sum(parameter.numel() for parameter in cifar.parameters()) == 35_746_307


# -- an independent restatement: a function of a state dict, written from the description of the published network


def read(weights: dict[str, Tensor], h: Tensor, text: Tensor, heads: int) -> Tensor:
    """Cross-attention of one sample (c, h, w) to the tokens (length, width) that it has."""

    def linear(name: str, h: Tensor) -> Tensor:
        return h @ weights[name + ".weight"].T + weights[name + ".bias"]

    def norm(name: str, h: Tensor) -> Tensor:
        flat = (h - h.mean(-1, keepdim=True)) / (h.var(-1, correction=0, keepdim=True) + 1e-5).sqrt()
        return flat * weights[name + ".weight"] + weights[name + ".bias"]

    seen, heard = norm("norm", torch.einsum("chw->hwc", h)), norm("norm_text", text)
    q, k, v = (part.chunk(heads, -1) for part in (linear("to_q", seen), linear("to_k", heard), linear("to_v", heard)))
    said = []
    for i in range(heads):
        odds = torch.exp(torch.einsum("hwc,lc->hwl", q[i], k[i]) / math.sqrt(q[i].shape[-1]))
        said.append(torch.einsum("hwl,lc->hwc", odds / odds.sum(-1, keepdim=True), v[i]))
    return h + torch.einsum("hwc->chw", linear("to_out", torch.cat(said, -1)))


def restated(
    weights: dict[str, Tensor],
    x: Tensor,
    noise_label: Tensor,
    label: Tensor | None,
    *,
    levels: int,
    groups: int,
    skip: bool = True,
    texts: list[Tensor] | None = None,
    text_heads: int = 1,
) -> Tensor:
    def has(name: str) -> bool:
        return any(key.startswith(name + ".") for key in weights)

    def linear(name: str, h: Tensor) -> Tensor:
        return h @ weights[name + ".weight"].T + weights[name + ".bias"]

    def conv(name: str, h: Tensor, stride: int = 1, padding: int = 1) -> Tensor:
        return F.conv2d(h, weights[name + ".weight"], weights[name + ".bias"], stride, padding)

    def norm(name: str, h: Tensor) -> Tensor:
        grouped = h.reshape(h.shape[0], groups, -1)
        centred = grouped - grouped.mean(2, keepdim=True)
        flat = centred / (centred.square().mean(2, keepdim=True) + 1e-6).sqrt()
        scale, shift = weights[name + ".weight"], weights[name + ".bias"]
        return flat.reshape(h.shape) * scale[:, None, None] + shift[:, None, None]

    def silu(h: Tensor) -> Tensor:
        return h / (1 + torch.exp(-h))

    half = weights["time_embedding.linear_1.weight"].shape[1] // 2
    frequencies = torch.tensor([10000 ** (-i / (half - 1)) for i in range(half)], dtype=x.dtype)
    angles = torch.outer(noise_label.to(x.dtype), frequencies)
    time = linear("time_embedding.linear_1", torch.cat([torch.sin(angles), torch.cos(angles)], 1))
    time = linear("time_embedding.linear_2", silu(time))
    if label is not None:
        time = time + torch.stack([weights["class_embedding.weight"][int(i)] for i in label])

    def resnet(name: str, h: Tensor) -> Tensor:
        inner = conv(f"{name}.conv1", silu(norm(f"{name}.norm1", h)))
        inner = inner + linear(f"{name}.time_emb_proj", silu(time))[..., None, None]
        inner = conv(f"{name}.conv2", silu(norm(f"{name}.norm2", inner)))
        if has(f"{name}.conv_shortcut"):
            h = conv(f"{name}.conv_shortcut", h, padding=0)
        return h + inner

    def attention(name: str, h: Tensor) -> Tensor:
        if not has(name):
            return h
        seen = torch.einsum("bchw->bhwc", norm(f"{name}.group_norm", h))
        q, k, v = (linear(f"{name}.to_{part}", seen) for part in "qkv")
        scores = torch.einsum("bhwc,bijc->bhwij", q, k) / math.sqrt(h.shape[1])
        odds = torch.exp(scores - scores.amax((3, 4), keepdim=True))
        heard = torch.einsum("bhwij,bijc->bhwc", odds / odds.sum((3, 4), keepdim=True), v)
        h = h + torch.einsum("bhwc->bchw", linear(f"{name}.to_out.0", heard))
        if texts is None:
            return h
        inside = {key.removeprefix(f"{name}.cross."): w for key, w in weights.items() if f"{name}.cross." in key}
        return torch.stack([read(inside, one, text, text_heads) for one, text in zip(h, texts, strict=True)])

    def count(name: str) -> int:
        return next(i for i in range(99) if not has(f"{name}.{i}"))

    h = conv("conv_in", x)
    stack = [h]
    for level in range(levels):
        name = f"down_blocks.{level}"
        for i in range(count(f"{name}.resnets")):
            h = attention(f"{name}.attentions.{i}", resnet(f"{name}.resnets.{i}", h))
            stack.append(h)
        if level < levels - 1:
            zeros_behind = F.pad(h, (0, 1, 0, 1))
            h = conv(f"{name}.downsamplers.0.conv", zeros_behind, stride=2, padding=0)
            stack.append(h)
    h = attention("mid_block.attentions.0", resnet("mid_block.resnets.0", h))
    h = resnet("mid_block.resnets.1", h)
    for level in range(levels):
        name = f"up_blocks.{level}"
        for i in range(count(f"{name}.resnets")):
            beside = [stack.pop()] if skip else []
            h = attention(f"{name}.attentions.{i}", resnet(f"{name}.resnets.{i}", torch.cat([h, *beside], 1)))
        if level < levels - 1:
            h = conv(f"{name}.upsamplers.0.conv", h.repeat_interleave(2, 2).repeat_interleave(2, 3))
    return conv("conv_out", silu(norm("conv_norm_out", h)))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"labels": 3},
        {"blocks": 2, "attention": (8, 2), "out_channels": 4},
        {"multipliers": (2, 1, 3), "attention": ()},
        {"skip_connections": False, "multipliers": (1, 2)},
        {"middle_attention": False},
    ],
    ids=str,
)
def test_unet_is_what_the_description_says(changes: dict[str, Any]) -> None:
    network = small(**changes).double()
    label = torch.tensor([0, 2, 1]) if "labels" in changes else None
    x = pictures().double()
    told = restated(
        network.state_dict(),
        x,
        NOISE,
        label,
        levels=len(network.config.multipliers),
        groups=4,
        skip=network.config.skip_connections,
    )
    torch.testing.assert_close(network(x, NOISE, label=label), told, rtol=0, atol=1e-9)
    single = network.float()(x.float(), NOISE, label=label)
    torch.testing.assert_close(single.double(), told, rtol=1e-4, atol=1e-4)


def test_unet_with_text_is_what_the_description_says() -> None:
    """Each sample reads its own valid tokens, or the learned null where it has none."""
    network = small(text=FrozenTextConfig(width=6), text_heads=2).double()
    tokens = torch.randn(3, 4, 6, generator=torch.Generator().manual_seed(2)).double()
    valid = torch.tensor([[1, 1, 1, 1], [1, 0, 1, 0], [0, 0, 0, 0]]).bool()
    assert network.text is not None
    texts = [tokens[0], tokens[1, ::2], network.text.null.token[None]]
    x = pictures().double()
    told = restated(network.state_dict(), x, NOISE, None, levels=3, groups=4, texts=texts, text_heads=2)
    ours = network(x, NOISE, text=tokens, text_valid=valid)
    torch.testing.assert_close(ours, told, rtol=0, atol=1e-9)


def test_cifar_network_is_what_the_description_says(cifar: UNet) -> None:
    torch.manual_seed(0)
    network = copy.deepcopy(cifar).double().eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
        x, noise_label = pictures(1, 3, 32, 32).double(), torch.tensor([437.0])
        ours = network(x, noise_label)
        told = restated(network.state_dict(), x, noise_label, None, levels=4, groups=32)
    torch.testing.assert_close(ours, told, rtol=0, atol=1e-9 * told.std().item())


def test_attention_is_the_same_by_products_and_by_the_fused_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    network, x = small(), pictures()
    by_products = network(x, NOISE)
    monkeypatch.setattr(blocks, "PRODUCTS_UP_TO", 0)
    called = []
    fused = F.scaled_dot_product_attention

    def counted(*args: Tensor, **how: Any) -> Tensor:
        called.append(args)
        return fused(*args, **how)

    monkeypatch.setattr(F, "scaled_dot_product_attention", counted)
    torch.testing.assert_close(network(x, NOISE), by_products, rtol=0, atol=1e-5)
    assert called


# -- the noise label


def test_sinusoidal_closed_forms() -> None:
    out = sinusoidal(torch.tensor([0.0, 1.0, -0.5, 1000.0], dtype=torch.float64), 8)
    assert out.shape == (4, 8)
    assert out[0].tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    torch.testing.assert_close(out[:, :4] ** 2 + out[:, 4:] ** 2, torch.ones(4, 4, dtype=torch.float64))
    turned = torch.atan2(out[1, :4], out[1, 4:])  # label 1: the angles are the frequencies themselves
    assert turned[0] == pytest.approx(1, rel=1e-12)
    assert turned[-1] == pytest.approx(1e-4, rel=1e-12)
    assert (turned[1:] / turned[:-1]).tolist() == pytest.approx([10 ** (-4 / 3)] * 3, rel=1e-12)


def test_noise_labels_keep_their_precision_in_bf16_networks() -> None:
    """998 and 999 are the same bf16 number; the network must tell them apart all the same."""
    network = small().to(torch.bfloat16)
    x = pictures(1).to(torch.bfloat16)
    one, other = (network(x, torch.tensor([label])) for label in (998.0, 999.0))
    assert one.dtype == torch.bfloat16
    assert not torch.equal(one, other)
    wide = small().double()  # and a float64 label is not rounded on its way into a float64 network
    exact = torch.tensor([999 + 1e-9], dtype=torch.float64)
    x = pictures(1).double()
    assert not torch.equal(wide(x, exact), wide(x, torch.tensor([999.0], dtype=torch.float64)))


def test_fractional_and_slightly_negative_noise_labels_are_continuous() -> None:
    network, x = small().double(), pictures(1).double()
    at = [network(x, torch.tensor([n], dtype=torch.float64)) for n in (-0.01, 0.0, 0.01)]
    slope_down, slope_up = at[1] - at[0], at[2] - at[1]
    assert slope_up.norm() > 0
    assert (slope_up - slope_down).norm() < 0.1 * slope_up.norm()


# -- sizes


@pytest.mark.parametrize("stem", [1, 2, 3])
@pytest.mark.parametrize(("size", "levels"), [(28, 4), (10, 4), (7, 4), (3, 4), (9, 2), (5, 1)])
def test_any_size_comes_back(size: int, levels: int, stem: int) -> None:
    network = small(size=size, multipliers=(1,) * levels, attention=(), stem=stem)
    assert network(pictures(1, 2, size, size), NOISE[:1]).shape == (1, 2, size, size)


def test_padding_is_the_mirror_image_below_and_to_the_right() -> None:
    """A 7 x 6 picture is answered as the 8 x 8 one that continues it by reflection, then cropped."""
    network, x = small(), pictures(3, 2, 7, 6)
    grown = torch.cat([x, x.flip(3)[..., :2]], 3)
    grown = torch.cat([grown, grown.flip(2)[:, :, :1]], 2)
    torch.testing.assert_close(network(x, NOISE), network(grown, NOISE)[:, :, :7, :6], rtol=0, atol=0)


def test_rectangles_and_sizes_other_than_the_configured_one() -> None:
    network = small()
    assert network(pictures(3, 2, 12, 20), NOISE).shape == (3, 2, 12, 20)


def test_attention_stands_at_padded_sizes() -> None:
    config = UNetConfig(channels=1, size=28)
    assert config.level_sizes == (32, 16, 8, 4)
    names = {key.split(".attentions")[0] for key in config.build().state_dict() if ".attentions" in key}
    assert names == {"down_blocks.1", "up_blocks.2", "mid_block"}


# -- switches


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def test_without_skip_connections_the_decoder_is_narrower_and_blind_to_the_encoder() -> None:
    whole, cut = small(), small(skip_connections=False)
    assert parameters(cut) < parameters(whole)
    for network, reads in ((whole, True), (cut, False)):
        # A middle that says nothing leaves the decoder only its skips.
        network.mid_block.register_forward_hook(lambda module, args, out: torch.zeros_like(out))
        one, other = network(pictures(), NOISE), network(pictures(seed=2), NOISE)
        assert torch.equal(one, other) is not reads


def test_without_time_embedding_the_noise_label_is_not_heard() -> None:
    network, deaf = small(), small(time_embedding=False)
    later = NOISE + 300
    assert not torch.allclose(network(pictures(), NOISE), network(pictures(), later), atol=1e-3)
    assert torch.equal(deaf(pictures(), NOISE), deaf(pictures(), later))
    assert not any("time" in name for name, _ in deaf.named_parameters())
    labelled = small(time_embedding=False, labels=2)
    one, other = (labelled(pictures(), NOISE, label=torch.full((3,), i)) for i in (0, 1))
    assert not torch.allclose(one, other, atol=1e-3)


def test_without_attention_everything_else_is_kept() -> None:
    whole = small()
    without = small(attention=(), middle_attention=False)
    assert not any("attentions" in name for name, _ in without.named_parameters())
    kept = {name for name, _ in whole.named_parameters() if "attentions" not in name}
    assert {name for name, _ in without.named_parameters()} == kept
    assert not any("mid_block.att" in name for name, _ in small(middle_attention=False).named_parameters())


def test_out_channels() -> None:
    assert small(out_channels=5)(pictures(), NOISE).shape == (3, 5, 8, 8)
    assert MLPConfig(features=2, out_features=7).build()(torch.zeros(3, 2), NOISE).shape == (3, 7)


# -- blocks that conditions modulate, and stems


def test_a_modulated_block_is_what_the_description_says() -> None:
    """Of one group a channel, where the norm is by hand; its scale, shift and gate by its own linear layer."""
    torch.manual_seed(0)
    block = shaken(blocks.ModulatedBlock(4, 6, condition_features=5, groups=4, dropout=0.0))
    x, condition = torch.randn(3, 4, 8, 8), torch.randn(3, 5)
    told = condition @ block.modulation.weight.T + block.modulation.bias
    answer = []
    for i in range(3):
        h = (x[i] - x[i].mean((1, 2), keepdim=True)) / (x[i].var((1, 2), correction=0, keepdim=True) + 1e-6).sqrt()
        h = torch.stack([(1 + told[i, c]) * h[c] + told[i, 4 + c] for c in range(4)])
        h = block.conv2(F.silu(block.conv1(h[None])))[0]
        beside = block.conv_shortcut(x[i : i + 1])[0]
        answer.append(torch.stack([beside[c] + told[i, 8 + c] * h[c] for c in range(6)]))
    torch.testing.assert_close(block(x, condition), torch.stack(answer), rtol=1e-4, atol=1e-5)


def test_an_untrained_modulated_block_is_its_shortcut() -> None:
    block = blocks.ModulatedBlock(4, 4, condition_features=5, groups=2, dropout=0.0)
    x = torch.randn(3, 4, 8, 8)
    assert torch.equal(block(x, torch.randn(3, 5)), x)
    alone = blocks.ModulatedBlock(4, 4, condition_features=0, groups=2, dropout=0.0)
    assert torch.equal(alone(x, None), x)


def test_a_stem_takes_in_squares_of_pixels() -> None:
    """With a stem of 2, moving a picture by two pixels moves the first convolution's answer by one, and the network is
    the one without a stem on pictures whose channels are the pixels of a square."""
    network, x = small(stem=2, multipliers=(1, 2), attention=(2,)), pictures()
    plain = small(channels=8, size=4, multipliers=(1, 2), attention=(2,), out_channels=8)
    plain.load_state_dict(network.state_dict())
    squares = torch.stack([x[:, c, i::2, j::2] for c in range(2) for i in range(2) for j in range(2)], 1)
    answer = plain(squares, NOISE)
    for c in range(2):
        for i in range(2):
            for j in range(2):
                torch.testing.assert_close(network(x, NOISE)[:, c, i::2, j::2], answer[:, 4 * c + 2 * i + j])


def test_attention_can_follow_the_size() -> None:
    for side, attended in ((64, (16, 8)), (20, (12, 6, 3)), (8, (8, 4, 2, 1))):
        config = UNetConfig(channels=1, size=side, width=8, multipliers=(1, 1, 1, 1), attention="auto")
        assert config.attended == attended


@pytest.mark.parametrize("name", ["small", "medium", "large"])
def test_presets_suit_pictures_of_any_size(name: Any) -> None:
    parameters = 0
    for side in (1, 8, 20, 32, 64, 128, 200):
        config = preset(name, side)
        with torch.device("meta"):
            network = replace(config, channels=3, size=side).build()
            assert network(torch.empty(2, 3, side, side), torch.empty(2)).shape == (2, 3, side, side)
        assert network.config.level_sizes[-1] <= 8
        assert sum(p.numel() for p in network.parameters()) >= parameters
        parameters = sum(p.numel() for p in network.parameters())
    with pytest.raises(ValueError, match=r"name: expected one of small, medium, large"):
        preset("huge", 8)  # type: ignore[arg-type]


# -- laws that hold for every network


def tiny_mlp(**changes: Any) -> MLP:
    torch.manual_seed(0)
    return shaken(MLPConfig(**{"features": 2, "width": 16, "depth": 2, **changes}).build())


def vectors(b: int = 3, seed: int = 1) -> Tensor:
    return torch.randn(b, 2, generator=torch.Generator().manual_seed(seed))


def tiny_dit(**changes: Any) -> DiT:
    torch.manual_seed(0)
    config = {"channels": 2, "size": 8, "width": 16, "depth": 2, "heads": 2, **changes}
    return shaken(DiTConfig(**config).build())


def modulated(**changes: Any) -> UNet:
    return small(**{"block": "modulated", "stem": 2, "multipliers": (1, 2), "attention": (2,), **changes})


each_network = pytest.mark.parametrize(
    ("make", "data"),
    [(small, pictures), (modulated, pictures), (tiny_mlp, vectors), (tiny_dit, pictures)],
    ids=["unet", "modulated", "mlp", "dit"],
)


@each_network
def test_labels(make: Any, data: Any) -> None:
    network, x = make(labels=3), data()
    null = network(x, NOISE)
    assert torch.equal(network(x, NOISE, label=torch.tensor([-1, -1, -1])), null)
    answers = [null, *(network(x, NOISE, label=torch.full((3,), i)) for i in range(3))]
    for i, one in enumerate(answers):
        assert all(not torch.allclose(one, other, atol=1e-3) for other in answers[:i])
    mixed = network(x, NOISE, label=torch.tensor([2, -1, 0]))
    expected = torch.stack([answers[3][0], null[1], answers[1][2]])
    torch.testing.assert_close(mixed, expected, rtol=0, atol=1e-5)
    with pytest.raises(IndexError):  # not silently the null
        network(x, NOISE, label=torch.tensor([0, 1, 3]))
    with pytest.raises(ValueError, match=r"label.*labels=0"):
        make()(x, NOISE, label=torch.tensor([0, 1, 2]))


@each_network
def test_samples_do_not_hear_their_neighbours(make: Any, data: Any) -> None:
    network, x, label = make(labels=3), data(), torch.tensor([0, -1, 2])
    together = network(x, NOISE, label=label)
    alone = [network(x[i : i + 1], NOISE[i : i + 1], label=label[i : i + 1]) for i in range(3)]
    torch.testing.assert_close(together, torch.cat(alone), rtol=0, atol=1e-5)
    x[0] += 1
    changed = network(x, NOISE, label=label)
    torch.testing.assert_close(changed[1:], together[1:], rtol=0, atol=1e-5)
    assert not torch.allclose(changed[0], together[0], atol=1e-3)


@each_network
def test_an_untrained_network_answers_zero(make: Any, data: Any) -> None:
    network = type(make())(make(labels=3).config)
    assert torch.count_nonzero(network(data(), NOISE, label=torch.tensor([0, 1, -1]))) == 0


def test_untrained_blocks_add_nothing_and_weights_have_the_variance_of_ho() -> None:
    torch.manual_seed(0)
    network = UNetConfig(channels=3, size=8, width=64, multipliers=(1, 2), attention=(4,)).build()
    state = network.state_dict()
    zero = {name for name, w in state.items() if name.endswith(".weight") and not w.any()}
    assert zero == {n for n in state if n.endswith((".conv2.weight", ".to_out.0.weight", "conv_out.weight"))}
    assert not any(tensor.any() for name, tensor in state.items() if name.endswith("bias"))
    for name, inside, outside in (
        ("down_blocks.1.resnets.0.conv1.weight", 64 * 9, 128 * 9),
        ("time_embedding.linear_1.weight", 64, 256),
        ("mid_block.attentions.0.to_q.weight", 128, 128),
    ):
        weight = state[name]
        assert weight.var().item() == pytest.approx(2 / (inside + outside), rel=0.05)
        assert weight.abs().max().item() == pytest.approx(math.sqrt(3) * weight.std().item(), rel=0.05)  # uniform
    vector = MLPConfig(features=2, depth=2).build().state_dict()
    assert {n for n, w in vector.items() if n.endswith(".weight") and not w.any()} == {
        "blocks.0.leave.weight",
        "blocks.1.leave.weight",
        "leave.weight",
    }
    rows = UNetConfig(**{**SMALL, "labels": 200}).build().state_dict()["class_embedding.weight"]
    assert rows.shape == (201, 32)
    assert rows.std().item() == pytest.approx(1, abs=0.05)


@each_network
def test_gradients_reach_every_parameter(make: Any, data: Any) -> None:
    network = make(labels=2)
    network(data(), NOISE, label=torch.tensor([0, 1, -1])).square().sum().backward()
    # A bias of the keys moves all scores of a query alike, and the softmax does not see that.
    still = [n for n, p in network.named_parameters() if (p.grad is None or not p.grad.any()) and "to_k.bias" not in n]
    assert still == []
    assert network.class_embedding.weight.grad.any(dim=1).all()


@each_network
def test_bf16_autocast_runs_forward_and_back_and_stays_near(make: Any, data: Any) -> None:
    network, x = make(labels=2), data()
    exact = network(x, NOISE)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = network(x, NOISE)
    assert rough.dtype == torch.bfloat16
    assert 0 < (rough.float() - exact).norm() < 0.05 * exact.norm()
    rough.float().square().sum().backward()
    assert all(p.grad.isfinite().all() for p in network.parameters() if p.grad is not None)


@each_network
def test_a_compiler_sees_one_graph(make: Any, data: Any) -> None:
    """fullgraph refuses every Python branch on a tensor's value."""
    network, label = make(labels=2), torch.tensor([0, 1, -1])
    captured = torch.compile(network, fullgraph=True, backend="eager")
    with torch.no_grad():
        torch.testing.assert_close(captured(data(), NOISE, label=label), network(data(), NOISE, label=label))


def test_dropout_only_while_training() -> None:
    network, x = small(dropout=0.5), pictures()
    assert torch.equal(network(x, NOISE), network(x, NOISE))
    torch.testing.assert_close(network(x, NOISE), small()(x, NOISE))  # the same weights without dropout
    network.train()
    assert not torch.equal(network(x, NOISE), network(x, NOISE))
    sure = small().train()
    assert torch.equal(sure(x, NOISE), sure(x, NOISE))


# -- configs


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"channels": -1}, "channels: .*at least 0.*-1"),
        ({"size": -8}, "size: .*at least 0.*-8"),
        ({"labels": -2}, "labels: .*at least 0.*-2"),
        ({"out_channels": -3}, "out_channels: .*at least 0.*-3"),
        ({"width": 0}, "width: .*at least 4.*0"),
        ({"width": 9, "groups": 3}, "width: .*even.*9"),
        ({"multipliers": ()}, r"multipliers: .*\(\)"),
        ({"multipliers": (1, 0)}, r"multipliers: .*\(1, 0\)"),
        ({"blocks": 0}, "blocks: .*at least 1.*0"),
        ({"groups": 0}, "groups: .*at least 1.*0"),
        ({"groups": 3}, "groups: .*divisor of width 8.*3"),
        ({"attention": (16,)}, "attention: .*8, 4, 2.*16"),
        ({"attention": (4, 5)}, "attention: .*8, 4, 2.*5"),
        ({"size": 7, "attention": (7,)}, "attention: .*8, 4, 2.*7"),
        ({"dropout": 1.0}, r"dropout: .*\[0, 1\).*1.0"),
        ({"dropout": -0.1}, r"dropout: .*\[0, 1\).*-0.1"),
    ],
    ids=str,
)
def test_unet_config_errors_begin_with_the_field(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match="^" + words) as error:
        UNetConfig(**{**SMALL, **changes})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"features": -1}, "features: "),
        ({"labels": -1}, "labels: "),
        ({"out_features": -1}, "out_features: "),
        ({"width": 5}, "width: "),
        ({"depth": 0}, "depth: "),
    ],
    ids=str,
)
def test_mlp_config_errors_begin_with_the_field(changes: dict[str, int], words: str) -> None:
    with pytest.raises(ValueError, match="^" + words):
        MLPConfig(**changes)


@pytest.mark.parametrize(
    ("config", "field"),
    [(UNetConfig(size=32), "channels"), (UNetConfig(channels=3), "size"), (MLPConfig(), "features")],
    ids=["channels", "size", "features"],
)
def test_build_names_what_the_data_has_to_fill(config: UNetConfig | MLPConfig, field: str) -> None:
    with pytest.raises(ValueError, match=f"^{field}: .*filled from the data"):
        config.build()
