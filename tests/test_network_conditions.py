"""Text and an aligned picture in the networks that take them, the U-Net and the diffusion transformer: laws of both."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from unsteep.core.condition import Condition
from unsteep.networks import DiTConfig, FrozenTextConfig, TextEncoderConfig, UNetConfig
from unsteep.storage import config as toml

ENCODER = TextEncoderConfig(pieces=9, limit=6, width=12, heads=3, depth=1)
FROZEN = FrozenTextConfig(width=12)
NOISE = torch.tensor([0.0, 41.5, 999.0])
IDS = torch.tensor([[3, 5, 2, 6], [4, 2, 0, 0], [7, 8, 3, 0]])
VALID = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [1, 1, 1, 0]]).bool()
LOGSNR = torch.tensor([3.0, -2.0, math.inf], dtype=torch.float64)

Make = Callable[..., Any]


def unet(**changes: Any) -> UNetConfig:
    sizes = {"channels": 2, "size": 8, "width": 8, "multipliers": (1, 2), "blocks": 1, "attention": (4,), "groups": 4}
    return UNetConfig(**{**sizes, "text_heads": 2, **changes})


def dit(**changes: Any) -> DiTConfig:
    return DiTConfig(**{"channels": 2, "size": 8, "width": 16, "depth": 2, "heads": 2, **changes})


def shaken(config: Any) -> Any:
    """The network, with every parameter away from its special start."""
    torch.manual_seed(0)
    network = config.build()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return network.eval()


def drawn(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


X, TOKENS, PICTURE = drawn(3, 2, 8, 8), drawn(3, 4, 12, seed=2), drawn(3, 3, 8, 8, seed=3)
each_network = pytest.mark.parametrize("make", [unet, dit])
each_text = pytest.mark.parametrize(("kind", "text"), [(ENCODER, IDS), (FROZEN, TOKENS)], ids=["encoder", "frozen"])


def near(one: Tensor, other: Tensor) -> bool:
    return torch.allclose(one, other, rtol=0, atol=1e-5)


# -- text


@each_network
@each_text
def test_every_valid_token_is_heard_and_no_other(make: Make, kind: Any, text: Tensor) -> None:
    network = shaken(make(text=kind))
    before = network(X, NOISE, text=text, text_valid=VALID)
    for row, column in ((0, 0), (0, 3), (1, 1), (1, 2), (2, 3)):
        other = text.clone()
        other[row, column] = 1 if text.ndim == 2 else math.nan if not VALID[row, column] else text[row, column] + 2
        after = network(X, NOISE, text=other, text_valid=VALID)
        rest = [i for i in range(3) if i != row]
        assert torch.equal(after[rest], before[rest])
        assert torch.equal(after[row], before[row]) is not bool(VALID[row, column])


@each_network
@each_text
def test_more_padding_changes_nothing(make: Make, kind: Any, text: Tensor) -> None:
    network = shaken(make(text=kind))
    longer = torch.cat([text, torch.full_like(text[:, :2], 5)], 1)
    valid = torch.cat([VALID, torch.zeros(3, 2, dtype=torch.bool)], 1)
    before = network(X, NOISE, text=text, text_valid=VALID)
    assert near(network(X, NOISE, text=longer, text_valid=valid), before)
    cut = network(X[1:2], NOISE[1:2], text=text[1:2, :2])  # alone, without padding: all valid
    assert near(cut, before[1:2])


@each_network
@each_text
def test_dropped_texts_are_the_learned_null(make: Make, kind: Any, text: Tensor) -> None:
    network = shaken(make(text=kind))
    none = network(X, NOISE)
    assert none.isfinite().all()
    condition = Condition(text=text, text_valid=VALID)
    garbage = torch.full_like(text, 8) if text.ndim == 2 else torch.full_like(text, math.inf)
    for dropped in (condition.null(), Condition(text=text).null(), Condition(text=garbage).null()):
        assert near(network(X, NOISE, **dropped), none)
    one, other = (network(X, NOISE, **c.null()) for c in (condition, Condition(text=garbage)))
    assert torch.equal(one, other)
    some = network(X, NOISE, **condition.drop(torch.tensor([False, True, False])))
    full = network(X, NOISE, **condition)
    assert near(some, torch.stack([full[0], none[1], full[2]]))
    assert not near(full[1], none[1])
    with torch.no_grad():
        network.text.null.token.add_(drawn(12))
    moved = network(X, NOISE, **condition.drop(torch.tensor([False, True, False])))
    assert near(moved[[0, 2]], full[[0, 2]])  # the null counts where there is no text, and only there
    assert not near(moved[1], none[1])


@each_network
def test_tokens_encoded_once_stand_for_their_ids(make: Make) -> None:
    network = shaken(make(text=ENCODER))
    tokens = network.text.encoder(IDS, VALID)
    by_ids, by_tokens = (network(X, NOISE, text=text, text_valid=VALID) for text in (IDS, tokens))
    assert torch.equal(by_ids, by_tokens)


@each_network
def test_an_untrained_text_path_changes_nothing(make: Make) -> None:
    plain, with_text = shaken(make()), shaken(make(text=ENCODER))
    state = plain.state_dict()
    added = {name for name in with_text.state_dict() if name not in state}
    assert added
    assert all(name.startswith("text.") or ".cross." in name for name in added)
    fresh = make(text=ENCODER).build().eval()
    fresh.load_state_dict({**fresh.state_dict(), **state})
    assert torch.equal(fresh(X, NOISE, text=IDS, text_valid=VALID), plain(X, NOISE))
    assert not near(with_text(X, NOISE, text=IDS, text_valid=VALID), with_text(X, NOISE))


def test_cross_attention_stands_where_attention_does() -> None:
    names = {key.split(".cross.")[0] for key in unet(text=FROZEN).build().state_dict() if ".cross." in key}
    level = {"down_blocks.1.attentions.0", "up_blocks.0.attentions.0", "up_blocks.0.attentions.1"}
    assert names == {*level, "mid_block.attentions.0"}
    for stands in names:  # and each of them is heard
        network = shaken(unet(text=FROZEN))
        for place in names - {stands}:
            nn.init.zeros_(network.get_submodule(place).cross.to_out.weight)
        with_text = network(X, NOISE, text=TOKENS)
        assert not near(with_text, network(X, NOISE))


# -- the picture


@each_network
def test_picture_and_its_level_are_heard(make: Make) -> None:
    network = shaken(make(picture_channels=3))
    answers = [
        network(X, NOISE, picture=PICTURE, picture_logsnr=LOGSNR),
        network(X, NOISE, picture=PICTURE + 1, picture_logsnr=LOGSNR),
        network(X, NOISE, picture=PICTURE, picture_logsnr=LOGSNR - 4),
        network(X, NOISE, picture=PICTURE, picture_logsnr=LOGSNR.clamp(max=-9)),
    ]
    for i, one in enumerate(answers):
        assert one.shape == X.shape
        assert all(not near(one[:2], other[:2]) for other in answers[:i])
    clean = network(X, NOISE, picture=PICTURE, picture_logsnr=torch.full((3,), math.inf))
    assert torch.equal(network(X, NOISE, picture=PICTURE), clean)
    near_clean = network(X, NOISE, picture=PICTURE, picture_logsnr=torch.full((3,), 20.0))
    assert torch.equal(near_clean, clean)


@each_network
def test_dropped_pictures_are_no_picture(make: Make) -> None:
    network = shaken(make(picture_channels=3))
    none = network(X, NOISE)
    assert none.isfinite().all()
    condition = Condition(picture=PICTURE, picture_logsnr=LOGSNR)
    garbage = Condition(picture=torch.full_like(PICTURE, math.nan), picture_logsnr=LOGSNR)
    assert torch.equal(network(X, NOISE, **condition.null()), none)
    assert torch.equal(network(X, NOISE, **garbage.null()), none)
    black = network(X, NOISE, picture=torch.zeros_like(PICTURE), picture_logsnr=LOGSNR)
    assert not near(black, none)  # zeros are a picture, too: the level tells
    assert torch.equal(network(X, NOISE, picture_logsnr=LOGSNR), none)  # nor is there a level without a picture
    some = network(X, NOISE, **condition.drop(torch.tensor([True, False, False])))
    full = network(X, NOISE, **condition)
    assert near(some, torch.stack([none[0], full[1], full[2]]))


@each_network
@pytest.mark.parametrize("shift", [0.0, 0.5])
def test_pictures_of_another_size_are_brought_to_that_of_x(make: Make, shift: float) -> None:
    """A plane a i + b j + c is the same plane at any size, away from the edge: pixel centres are aligned."""
    network = shaken(make(picture_channels=1))

    def plane(size: int) -> Tensor:
        centres = (torch.arange(size) + 0.5) / size
        return (2 * centres[:, None] - 3 * centres[None, :] + shift).expand(3, 1, size, size)

    for size in (4, 16):
        seen = network.beside(X, plane(size))
        assert torch.equal(seen[:, :2], X)
        torch.testing.assert_close(seen[:, 2:, 2:6, 2:6], plane(8)[..., 2:6, 2:6], rtol=0, atol=1e-5)
        assert near(network(X, NOISE, picture=plane(size)), network(X, NOISE, picture=seen[:, 2:]))
    spots = torch.zeros(3, 1, 32, 32)
    spots[..., ::4, ::4] = 16.0  # one pixel in sixteen: no sample may miss them
    torch.testing.assert_close(network.beside(X, spots)[:, 2:, 2:6, 2:6], torch.ones(3, 1, 4, 4))


# -- everything at once


@pytest.fixture(params=[unet, dit], ids=["unet", "dit"])
def whole(request: pytest.FixtureRequest) -> Any:
    return shaken(request.param(text=ENCODER, picture_channels=3, labels=2))


def everything(rows: slice = slice(None)) -> dict[str, Tensor]:
    conditions = {"label": torch.tensor([0, -1, 1]), "text": IDS, "text_valid": VALID}
    return {k: v[rows] for k, v in {**conditions, "picture": PICTURE, "picture_logsnr": LOGSNR}.items()}


def test_samples_do_not_hear_their_neighbours(whole: Any) -> None:
    together = whole(X, NOISE, **everything())
    alone = [whole(X[i : i + 1], NOISE[i : i + 1], **everything(slice(i, i + 1))) for i in range(3)]
    assert near(torch.cat(alone), together)


def test_an_untrained_network_answers_zero(whole: Any) -> None:
    assert torch.count_nonzero(type(whole)(whole.config)(X, NOISE, **everything())) == 0


def test_gradients_reach_every_parameter(whole: Any) -> None:
    condition = Condition(**everything()).drop(torch.tensor([False, False, True]))
    whole(X, NOISE, **condition).square().sum().backward()
    # A bias of the keys moves all scores of a query alike, and the softmax does not see that.
    still = [n for n, p in whole.named_parameters() if (p.grad is None or not p.grad.any()) and "to_k.bias" not in n]
    assert still == []


def test_bf16_autocast_runs_forward_and_back_and_stays_near(whole: Any) -> None:
    exact = whole(X, NOISE, **everything())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = whole(X, NOISE, **everything())
        null = whole(X, NOISE, **Condition(**everything()).null())
    assert rough.dtype == torch.bfloat16
    assert null.isfinite().all()
    assert 0 < (rough.float() - exact).norm() < 0.05 * exact.norm()
    rough.float().square().sum().backward()
    assert all(p.grad.isfinite().all() for p in whole.parameters() if p.grad is not None)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_networks_in_another_precision(whole: Any, dtype: torch.dtype) -> None:
    """Conditions come as they are, in float32; pictures even of another size."""
    low = {**everything(), "picture": PICTURE[..., ::2, ::2]}
    exact = whole(X, NOISE, **low)
    answer = whole.to(dtype)(X.to(dtype), NOISE, **low)
    assert answer.dtype == dtype
    assert (answer.float() - exact).norm() < (0.1 if dtype == torch.bfloat16 else 1e-5) * exact.norm()


@each_network
def test_frozen_tokens_in_another_precision(make: Make) -> None:
    network = shaken(make(text=FROZEN)).to(torch.bfloat16)
    assert network(X.bfloat16(), NOISE, text=TOKENS, text_valid=VALID).isfinite().all()


def test_the_level_of_a_picture_is_heard_without_that_of_x() -> None:
    deaf = shaken(unet(picture_channels=3, time_embedding=False))
    assert torch.equal(deaf(X, NOISE, picture=PICTURE), deaf(X, NOISE + 300, picture=PICTURE))
    assert not near(deaf(X, NOISE, picture=PICTURE, picture_logsnr=LOGSNR), deaf(X, NOISE, picture=PICTURE))


def test_no_branch_hangs_on_a_tensor_s_values(whole: Any) -> None:
    """Tensors of the meta device have none: whoever asks for one is refused."""
    conditions = {**everything(), "picture": PICTURE[..., ::2, ::2]}
    with torch.no_grad():
        answer = whole.to("meta")(X.to("meta"), NOISE.to("meta"), **{k: v.to("meta") for k, v in conditions.items()})
    assert answer.shape == X.shape


# -- what is refused, and the config


@each_network
def test_conditions_that_a_network_does_not_take(make: Make) -> None:
    plain = make().build()
    with pytest.raises(ValueError, match=r"^text: .*takes none"):
        plain(X, NOISE, text=IDS)
    with pytest.raises(ValueError, match=r"^picture: .*picture_channels=0.*takes none"):
        plain(X, NOISE, picture=PICTURE)
    with pytest.raises(ValueError, match=r"^picture: expected 1 channels, got 3"):
        make(picture_channels=1).build()(X, NOISE, picture=PICTURE)
    frozen, trained = make(text=FROZEN).build(), make(text=ENCODER).build()
    with pytest.raises(ValueError, match=r"^text: expected tokens \(b, length, 12\), got \(3, 4\)"):
        frozen(X, NOISE, text=IDS)
    with pytest.raises(ValueError, match=r"^text: expected ids .*12\), got \(3, 4, 5\)"):
        trained(X, NOISE, text=TOKENS[..., :5])
    with pytest.raises(ValueError, match=r"^ids: expected at most 6"):
        trained(X, NOISE, text=IDS.repeat(1, 2))


@each_network
def test_text_waits_for_its_sizes(make: Make) -> None:
    with pytest.raises(ValueError, match=r"^pieces: .*filled from the data"):
        make(text=TextEncoderConfig()).build()
    with pytest.raises(ValueError, match=r"^text.width: .*filled from the data"):
        make(text=FrozenTextConfig()).build()


def test_unet_text_fields() -> None:
    with pytest.raises(ValueError, match=r"^text_heads: .*divisor of width 8.*3"):
        unet(text=FROZEN, text_heads=3)
    with pytest.raises(ValueError, match=r"^text: .*attention"):
        unet(text=FROZEN, attention=(), middle_attention=False)
    with pytest.raises(ValueError, match=r"^picture_channels: .*at least 0.*-1"):
        unet(picture_channels=-1)
    with pytest.raises(ValueError, match=r"^width: .*at least 0.*-1"):
        FrozenTextConfig(width=-1)


@each_network
@pytest.mark.parametrize("text", [None, ENCODER, FROZEN], ids=["none", "encoder", "frozen"])
def test_configs_survive_their_file(make: Make, text: Any) -> None:
    config = make(text=text, picture_channels=3)
    assert toml.loads(type(config), toml.dumps(config)) == config
    assert toml.override(make(), ["text=TextEncoder", "text.pieces=9"]).text == TextEncoderConfig(pieces=9)
    assert toml.override(config, ["text=FrozenText"]).text == FrozenTextConfig()
