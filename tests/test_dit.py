"""The diffusion transformer: the sizes of the paper's table, an independent restatement, its own laws.

The laws that it shares with the other networks are in test_networks and test_network_conditions.
"""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from unsteep.networks import DiT, DiTConfig, TextEncoderConfig
from unsteep.networks.dit import from_patches, patches, positions

SMALL: dict[str, Any] = {"channels": 2, "size": 8, "width": 16, "depth": 2, "heads": 2, "labels": 3}
NOISE = torch.tensor([0.0, 41.5, 999.0])


def small(**changes: Any) -> DiT:
    """A small transformer with every parameter away from its special start."""
    torch.manual_seed(0)
    network = DiTConfig(**{**SMALL, **changes}).build()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return network.eval()


def pictures(b: int = 3, c: int = 2, h: int = 8, w: int = 8, seed: int = 1) -> Tensor:
    return torch.randn(b, c, h, w, generator=torch.Generator().manual_seed(seed))


# -- the paper


@pytest.mark.parametrize(
    ("width", "depth", "heads", "millions"),
    [(384, 12, 6, 33), (768, 12, 12, 130), (1024, 24, 16, 458), (1152, 28, 16, 675)],
    ids=["S/2", "B/2", "L/2", "XL/2"],
)
def test_sizes_are_those_of_the_paper(width: int, depth: int, heads: int, millions: int) -> None:
    """Peebles & Xie 2023, table 4: 32 x 32 x 4 latents, 1000 classes and a null, mean and variance out."""
    with torch.device("meta"):
        network = DiTConfig(
            channels=4, size=32, labels=1000, out_channels=8, patch=2, width=width, depth=depth, heads=heads
        ).build()
    count = sum(parameter.numel() for parameter in network.parameters())
    assert round(count / 1e6) == millions
    if millions == 675:  # the published checkpoint's, which also stores its 256 fixed positions
        assert count + 256 * width == 675_129_632


# -- an independent restatement: a function of a state dict and of each sample's own tokens, written from the paper


def restated(
    weights: dict[str, Tensor],
    x: Tensor,
    noise_label: Tensor,
    label: Tensor,
    *,
    patch: int,
    heads: int,
    texts: list[Tensor] | None = None,
) -> Tensor:
    def linear(name: str, h: Tensor) -> Tensor:
        return h @ weights[name + ".weight"].T + weights[name + ".bias"]

    def silu(h: Tensor) -> Tensor:
        return h / (1 + torch.exp(-h))

    def gelu(h: Tensor) -> Tensor:
        return 0.5 * h * (1 + torch.tanh(math.sqrt(2 / math.pi) * (h + 0.044715 * h**3)))

    def norm(h: Tensor, eps: float = 1e-6) -> Tensor:
        h = h - h.mean(-1, keepdim=True)
        return h / (h.square().mean(-1, keepdim=True) + eps).sqrt()

    def layer_norm(name: str, h: Tensor) -> Tensor:
        return norm(h, 1e-5) * weights[name + ".weight"] + weights[name + ".bias"]

    def looked(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        out, d = [], q.shape[1] // heads
        for i in range(heads):
            part = slice(i * d, (i + 1) * d)
            odds = torch.exp(q[:, part] @ k[:, part].T / math.sqrt(d))
            out.append(odds @ v[:, part] / odds.sum(1, keepdim=True))
        return torch.cat(out, 1)

    def waves(n: float, count: int) -> list[float]:
        angles = [n * 10000 ** (-i / (count // 2 - 1)) for i in range(count // 2)]
        return [math.sin(a) for a in angles] + [math.cos(a) for a in angles]

    width = weights["enter.weight"].shape[0]
    rows, columns = x.shape[2] // patch, x.shape[3] // patch
    answers = []
    for sample in range(len(x)):
        spread = torch.tensor(waves(float(noise_label[sample]), 256), dtype=x.dtype)
        c = linear("time_embedding.linear_2", silu(linear("time_embedding.linear_1", spread)))
        c = silu(c + weights["class_embedding.weight"][int(label[sample])])
        tokens = []
        for i in range(rows):
            for j in range(columns):
                square = x[sample, :, i * patch : (i + 1) * patch, j * patch : (j + 1) * patch]
                place = torch.tensor(waves(i, width // 2) + waves(j, width // 2), dtype=x.dtype)
                tokens.append(linear("enter", square.reshape(-1)) + place)
        h = torch.stack(tokens)
        depth = len({key.split(".")[1] for key in weights if key.startswith("blocks.")})
        for n in range(depth):
            b1, s1, g1, b2, s2, g2 = linear(f"blocks.{n}.modulation", c).reshape(6, width)
            q, k, v = linear(f"blocks.{n}.attention.to_qkv", (1 + s1) * norm(h) + b1).split(width, 1)
            h = h + g1 * linear(f"blocks.{n}.attention.to_out", looked(q, k, v))
            if texts is not None:
                name = f"blocks.{n}.cross"
                read = texts[sample] if len(texts[sample]) else weights["text.null.token"][None]
                read = layer_norm(f"{name}.norm_text", read)
                q = linear(f"{name}.to_q", layer_norm(f"{name}.norm", h))
                h = h + linear(f"{name}.to_out", looked(q, linear(f"{name}.to_k", read), linear(f"{name}.to_v", read)))
            inner = gelu(linear(f"blocks.{n}.widen", (1 + s2) * norm(h) + b2))
            h = h + g2 * linear(f"blocks.{n}.narrow", inner)
        shift, scale = linear("modulation", c).reshape(2, width)
        h = linear("leave", (1 + scale) * norm(h) + shift)
        answer = torch.zeros(h.shape[1] // patch**2, *x.shape[2:], dtype=x.dtype)
        for n, token in enumerate(h):
            i, j = n // columns, n % columns
            square = token.reshape(-1, patch, patch)
            answer[:, i * patch : (i + 1) * patch, j * patch : (j + 1) * patch] = square
        answers.append(answer)
    return torch.stack(answers)


@pytest.mark.parametrize(
    "changes", [{}, {"patch": 4, "out_channels": 3}, {"patch": 1, "heads": 4, "depth": 1}, {"mlp_ratio": 2}], ids=str
)
def test_dit_is_what_the_paper_says(changes: dict[str, Any]) -> None:
    network = small(**changes).double()
    config, x, label = network.config, pictures(h=8, w=12).double(), torch.tensor([0, 2, 3])
    told = restated(network.state_dict(), x, NOISE, label, patch=config.patch, heads=config.heads)
    ours = network(x, NOISE, label=torch.tensor([0, 2, -1]))
    torch.testing.assert_close(ours, told, rtol=0, atol=1e-9 * told.std().item())


def test_dit_with_text_is_what_the_paper_says() -> None:
    """Each sample reads its own valid pieces, encoded without company, or the learned null where it has none."""
    network = small(text=TextEncoderConfig(pieces=7, limit=4, width=12, heads=3, depth=1)).double()
    ids = torch.tensor([[3, 5, 2, 6], [4, 2, 0, 0], [0, 0, 0, 0]])
    valid = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [0, 0, 0, 0]]).bool()
    assert network.text is not None
    assert network.text.encoder is not None
    texts = [network.text.encoder(ids[i : i + 1, :n], valid[i : i + 1, :n])[0] for i, n in ((0, 4), (1, 2))]
    texts.append(torch.zeros(0, 12))
    x, label = pictures().double(), torch.tensor([0, 2, 1])
    told = restated(network.state_dict(), x, NOISE, label, patch=2, heads=2, texts=texts)
    ours = network(x, NOISE, label=label, text=ids, text_valid=valid)
    torch.testing.assert_close(ours, told, rtol=0, atol=1e-9 * told.std().item())


# -- patches and positions


def test_patches_and_back() -> None:
    x = pictures(h=6, w=8)
    cut = patches(x, 2)
    assert cut.shape == (3, 12, 8)
    assert torch.equal(cut[1, 5], x[1, :, 2:4, 2:4].reshape(-1))  # the second of the second row: 5 = 1 * 4 + 1
    assert torch.equal(from_patches(cut, 2, rows=3), x)


def test_positions_are_all_different_and_split_in_row_and_column() -> None:
    table = positions(5, 7, 16, torch.zeros(1))
    assert table.shape == (35, 16)
    assert torch.cdist(table, table).fill_diagonal_(9).min() > 0.1
    by_place = table.reshape(5, 7, 16)
    assert torch.equal(by_place[..., :8], by_place[:, :1, :8].expand(5, 7, 8))  # the first half: the row alone
    assert torch.equal(by_place[..., 8:], by_place[:1, :, 8:].expand(5, 7, 8))
    torch.testing.assert_close(by_place[2, 0, :8], by_place[0, 2, 8:])  # and both count alike


def test_moving_content_between_patches_changes_the_answer() -> None:
    """A transformer without positions would move its answer along."""
    network, x = small(), pictures()
    moved = network(x.roll(2, dims=3), NOISE)
    assert not torch.allclose(moved, network(x, NOISE).roll(2, dims=3), atol=1e-2)


@pytest.mark.parametrize(("size", "patch"), [(28, 4), (28, 2), (7, 7), (9, 3), (5, 1)])
def test_any_size_that_divides_comes_back(size: int, patch: int) -> None:
    assert small(size=size, patch=patch, depth=1)(pictures(3, 2, size, size), NOISE).shape == (3, 2, size, size)


def test_sizes_other_than_the_configured_one() -> None:
    network = small()
    assert network(pictures(3, 2, 4, 10), NOISE).shape == (3, 2, 4, 10)
    with pytest.raises(ValueError, match=r"^x: .*multiples of patch=2.*\(8, 7\)"):
        network(pictures(3, 2, 8, 7), NOISE)


def test_untrained_blocks_are_the_identity() -> None:
    network: Any = DiTConfig(**SMALL, text=TextEncoderConfig(pieces=7, width=8)).build()
    condition = torch.randn(3, 16)
    h = torch.randn(3, 5, 16)
    tokens = network.tokens(torch.tensor([[3, 4], [5, 6], [2, 2]]), None, 3)
    assert torch.equal(network.blocks[0](h, condition, tokens), h)
    assert network.blocks[0].attention(h).abs().max() > 0.1  # held back by the gate, not by itself
    zero = {name for name, w in network.named_parameters() if name.endswith("weight") and not w.any()}
    ends = ("modulation.weight", "cross.to_out.weight", "leave.weight")
    inside_text = ("text.encoder",)  # which has its own branches that start at zero
    assert {name for name in zero if not name.startswith(inside_text)} == {
        name for name in network.state_dict() if name.endswith(ends)
    }


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"channels": -1}, "channels: .*at least 0.*-1"),
        ({"picture_channels": -1}, "picture_channels: .*at least 0.*-1"),
        ({"depth": 0}, "depth: .*at least 1.*0"),
        ({"patch": 0}, "patch: .*at least 1.*0"),
        ({"mlp_ratio": 0}, "mlp_ratio: .*at least 1.*0"),
        ({"width": 18}, "width: .*multiple of 4.*18"),
        ({"width": 4}, "width: .*at least 8.*4"),
        ({"heads": 3}, "heads: .*divisor of width 16.*3"),
        ({"patch": 3}, "patch: .*divisor of size 8.*3"),
    ],
    ids=str,
)
def test_config_errors_begin_with_the_field(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match="^" + words):
        DiTConfig(**{**SMALL, **changes})


@pytest.mark.parametrize("field", ["channels", "size"])
def test_build_names_what_the_data_has_to_fill(field: str) -> None:
    with pytest.raises(ValueError, match=f"^{field}: .*filled from the data"):
        DiTConfig(**{**SMALL, field: 0}).build()
