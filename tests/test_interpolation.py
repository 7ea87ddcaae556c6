"""Interpolation: laws of mixing at a level, of inversion and of slerp on exact denoisers; the sheet; the command."""

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from command_line import made, unsteep_
from unsteep.analytic import Mixture
from unsteep.cli.interpolate import _sheet
from unsteep.cli.reading import read_picture
from unsteep.core.chains import CosineBetas, LinearBetas
from unsteep.core.estimate import Estimate
from unsteep.core.level import NoiseLevel, add_noise
from unsteep.core.noise import NoiseSource
from unsteep.core.schedules import VP, AnySchedule, Cosine, Flow, Schedule
from unsteep.denoiser import Denoise
from unsteep.hearing import Label
from unsteep.model import Description, Model, ModelConfig
from unsteep.model.interpolate import at_level, by_inversion, half, shares
from unsteep.networks import MLPConfig, UNetConfig
from unsteep.sampling import DDIM, Ancestral, sample
from unsteep.sampling.interpolation import interpolate, invert, levels_from, mixed, slerp
from unsteep.spaces import Pixels, Vectors

SHARES = shares(9)
CHAIN = LinearBetas()
SOLVERS = pytest.mark.parametrize("solver", [Ancestral(), DDIM(), DDIM(eta=0.5)], ids=str)
WALKED = {"linear": CHAIN, "zero": LinearBetas(zero_terminal=True), "vp": VP(), "cosine": Cosine(), "flow": Flow()}
every_walk = pytest.mark.parametrize("walked", WALKED.values(), ids=WALKED)


def close(a: Tensor, b: Tensor, rtol: float = 0.0, atol: float = 0.0) -> None:
    torch.testing.assert_close(a, b, rtol=rtol, atol=atol)


def ends(shape: tuple[int, ...] = (3, 5, 5), dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(0)
    a, b = torch.rand(2, *shape, generator=random, dtype=dtype) * 2 - 1
    return a, b


def gaussian(variance: float, shape: tuple[int, ...] = (3, 5, 5)) -> Denoise:
    zero = torch.zeros(shape, dtype=torch.float64)
    return Mixture.gaussian(zero, torch.full(shape, variance, dtype=torch.float64))


@dataclass
class Watched:
    """A denoiser that keeps what it was asked."""

    denoise: Denoise
    asked: list[tuple[Tensor, NoiseLevel]] = field(default_factory=list)

    def __call__(self, x_t: Tensor, level: NoiseLevel) -> Estimate:
        self.asked.append((x_t, level))
        return self.denoise(x_t, level)


# Mixing at a level.


@pytest.mark.parametrize("step", [1, 250, 1000])
def test_the_ends_are_the_pictures_own_latents_bit_for_bit(step: int) -> None:
    a, b = ends(dtype=torch.float32)
    level = CHAIN(step / 1000)
    latents = mixed(a, b, SHARES, level, NoiseSource([7] * 9))
    eps = NoiseSource([7]).normal(a[None], draw=0)
    assert torch.equal(latents[:1], add_noise(a[None], eps, level))
    assert torch.equal(latents[-1:], add_noise(b[None], eps, level))


def test_mixing_latents_of_shared_noise() -> None:
    """Every latent lies on the straight line between those of the ends."""
    a, b = ends()
    latents = mixed(a, b, SHARES, CHAIN(0.5), NoiseSource([7] * 9))
    for share, latent in zip(SHARES.tolist(), latents, strict=True):
        close(latent, torch.lerp(latents[0], latents[-1], share), atol=1e-14)


def test_the_noise_has_one_variance_all_the_way() -> None:
    """Two independent noises would leave (1 - l)^2 + l^2 of it: half, in the middle."""
    a, b = ends((60, 60))
    level = CHAIN(0.5)
    latents = mixed(a, b, SHARES, level, NoiseSource([0] * 9))
    for share, latent in zip(SHARES.tolist(), latents, strict=True):
        noise = latent - level.alpha * (a + share * (b - a))
        assert float(noise.var() / level.sigma**2) == pytest.approx(1, abs=0.1)  # 3600 draws: 4 standard errors


@SOLVERS
@pytest.mark.parametrize("steps", [0, 7])
def test_the_way_begins_at_the_step_and_misses_no_level(solver: Any, steps: int) -> None:
    """The network is asked first about the very level that the latents were made for."""
    a, b = ends()
    levels = levels_from(CHAIN, 40, steps)
    watched = Watched(gaussian(0.3))
    interpolate(watched, a, b, SHARES, levels, solver, seed=7)
    first, level = watched.asked[0]
    assert float(level.t) == 0.04
    assert torch.equal(first, mixed(a, b, SHARES, level, NoiseSource([7] * 9)))
    assert [float(level.t) for _, level in watched.asked] == levels.t[:-1].tolist()
    assert len(watched.asked) == (steps or 40)


@SOLVERS
def test_later_noise_is_shared(solver: Any) -> None:
    """Of Gaussian data the whole way down is affine, so frames stay on a line if, and only if, they share noise."""
    a, b = ends()
    frames = interpolate(gaussian(0.3), a, b, SHARES, levels_from(CHAIN, 300, 30), solver, seed=1)
    assert float((frames[0] - frames[-1]).abs().max()) > 0.1
    for share, frame in zip(SHARES.tolist(), frames, strict=True):
        close(frame, torch.lerp(frames[0], frames[-1], share), atol=1e-12)


@SOLVERS
def test_swapping_the_pictures_mirrors_the_frames(solver: Any) -> None:
    a, b = ends((2,))
    mixture = Mixture(torch.stack([a, b]), torch.tensor([0.1, 0.2]))
    levels = levels_from(CHAIN, 300, 20)
    there = interpolate(mixture, a, b, SHARES, levels, solver, seed=3)
    back = interpolate(mixture, b, a, SHARES, levels, solver, seed=3)
    close(there.flip(0), back, atol=1e-12)


def test_a_seed_is_another_way() -> None:
    a, b = ends()
    levels = levels_from(CHAIN, 300, 5)
    one, other = (interpolate(gaussian(0.3), a, b, SHARES, levels, DDIM(), seed) for seed in (0, 1))
    assert float((one - other).abs().min()) > 0


def test_a_model_that_knows_two_pictures_returns_them() -> None:
    """From a level that tells them apart, every frame is one or the other, and the ends are themselves."""
    a, b = ends()
    frames = interpolate(Mixture.points(torch.stack([a, b])), a, b, SHARES, levels_from(CHAIN, 200), DDIM())
    close(frames[0], a, atol=1e-9)
    close(frames[-1], b, atol=1e-9)
    nearer = [float(min((frame - a).abs().max(), (frame - b).abs().max())) for frame in frames]
    assert max(nearer) < 1e-3


# Levels.


@pytest.mark.parametrize(
    ("schedule", "total"), [(CHAIN, 1000), (CosineBetas(steps=7), 7), (VP(), 1000), (Flow(), 1000)]
)
def test_levels_go_down_to_clean_one_by_one(schedule: Schedule, total: int) -> None:
    for step in {1, 3, total}:
        levels = levels_from(schedule, step)
        close(levels.t, torch.arange(step, -1, -1, dtype=torch.float64) / total, atol=1e-12)
        assert float(levels.sigma[-1]) == 0


@pytest.mark.parametrize("step", range(1, 30))
def test_fewer_steps_visit_no_level_twice(step: int) -> None:
    for steps in range(1, step + 1):
        levels = levels_from(CosineBetas(steps=30), step, steps)
        assert len(levels) == steps + 1
        assert float(levels.t[0]) == step / 30
        assert bool((levels.t.diff() < 0).all())


@pytest.mark.parametrize(
    ("step", "steps", "words"),
    [
        (0, 0, "step: expected 1 to 1000, the steps of this model's noise, got 0"),
        (1001, 0, "step: expected 1 to 1000, the steps of this model's noise, got 1001"),
        (9, 10, "steps: expected 1 to 9, as many as there are levels below step 9, or 0 for all; got 10"),
        (9, -1, "steps: expected 1 to 9, as many as there are levels below step 9, or 0 for all; got -1"),
    ],
)
def test_steps_that_are_not_there(step: int, steps: int, words: str) -> None:
    with pytest.raises(ValueError) as error:
        levels_from(CHAIN, step, steps)
    assert str(error.value) == words


def test_a_continuous_schedule_takes_as_many_steps_as_asked() -> None:
    assert len(levels_from(VP(), 9, 50)) == 51


# Inversion.


@every_walk
@pytest.mark.parametrize("variance", [0.1, 1.0])
def test_inversion_and_back_on_gaussian_data(walked: Schedule, variance: float) -> None:
    """Each step there and back is cos^2 of the angle between two levels, seen as vectors (alpha sqrt(c), sigma)."""
    a, b = ends()
    x0 = torch.stack([a, b])
    denoise = gaussian(variance)
    levels = levels_from(walked, 1000, 25)
    angles = torch.atan2(levels.sigma, levels.alpha * math.sqrt(variance))
    back = sample(denoise, invert(denoise, x0, levels), levels, DDIM(), NoiseSource([0, 0]))
    close(back, x0 * torch.cos(angles.diff()).square().prod(), rtol=1e-10, atol=1e-12)


@every_walk
def test_the_latent_of_gaussian_data_in_the_limit(walked: Schedule) -> None:
    """The flow carries N(0, c) to the marginal of the noisiest level by scaling."""
    a, b = ends()
    x0 = torch.stack([a, b])
    levels = levels_from(walked, 1000)
    latents = invert(gaussian(0.4), x0, levels)
    close(latents / x0, torch.hypot(levels.alpha[0], levels.sigma[0] / math.sqrt(0.4)).expand(x0.shape), rtol=0.01)


MEANS, SPREADS, PARTS = torch.tensor([-1.0, 0.5]), torch.tensor([0.2, 0.4]), torch.tensor([0.3, 0.7])
MIXTURE = Mixture(MEANS[:, None], SPREADS**2, PARTS)


def below(x: Tensor, level: NoiseLevel) -> Tensor:
    """How much of the noised mixture lies below x. The flow of one dimension keeps it: it preserves order."""
    std = torch.hypot(level.alpha * SPREADS.double(), level.sigma)
    return torch.special.ndtr((x - level.alpha * MEANS.double()) / std) @ PARTS.double()


@pytest.mark.parametrize("walked", [VP(), Cosine(), Flow(), CHAIN.interpolated()], ids=lambda s: type(s).__name__)
def test_inversion_is_of_first_order(walked: Schedule) -> None:
    """The latent nears the exact flow's, and what comes back the data, in proportion to the spacing."""
    x0 = torch.linspace(-1.5, 1.5, 13, dtype=torch.float64)[:, None]
    of_latent, of_return = [], []
    for steps in (100, 200, 400):
        levels = levels_from(walked, 1000, steps)
        latent = invert(MIXTURE, x0, levels)
        back = sample(MIXTURE, latent, levels, DDIM(), NoiseSource([0] * 13))
        of_latent.append(float((below(latent, levels[0]) - below(x0, levels[-1])).abs().max()))
        of_return.append(float((back - x0).abs().max()))
    for errors in (of_latent, of_return):
        assert errors[-1] < 0.04
        assert errors[0] / errors[1] == pytest.approx(2, abs=0.25)
        assert errors[1] / errors[2] == pytest.approx(2, abs=0.1)


def test_inversion_asks_nothing_of_clean_data() -> None:
    watched = Watched(gaussian(0.3))
    a, _ = ends()
    levels = levels_from(CHAIN, 1000, 10)
    invert(watched, a[None], levels)
    assert [float(level.t) for _, level in watched.asked] == levels.t[1:-1].flip(0).tolist()


def test_inversion_treats_each_picture_alone() -> None:
    a, b = ends((1,))
    levels = levels_from(CHAIN, 1000, 10)
    both = invert(MIXTURE, torch.stack([a, b]), levels)
    close(both, torch.cat([invert(MIXTURE, x[None], levels) for x in (a, b)]), atol=1e-12)


# The great circle.


def test_slerp_ends_in_its_ends_bit_for_bit() -> None:
    a, b = ends(dtype=torch.float32)
    way = slerp(a, b, SHARES)
    assert way.dtype == torch.float32
    assert torch.equal(way[0], a)
    assert torch.equal(way[-1], b)


def test_slerp_turns_at_constant_speed_and_keeps_the_norm() -> None:
    a, b = ends((40,))
    a, b = 3 * a / a.norm(), 3 * b / b.norm()
    way = slerp(a, b, SHARES)
    close(way.norm(dim=1), torch.full((9,), 3.0, dtype=torch.float64), rtol=1e-12)
    angles = torch.acos((way @ a / 9).clamp(max=1))  # of a and itself, a cosine may be rounded above 1
    close(angles, angles[-1] * SHARES, atol=1e-7)


def test_slerp_mirrors() -> None:
    a, b = ends()
    close(slerp(a, b, SHARES), slerp(b, a, SHARES).flip(0), atol=1e-14)


def test_slerp_of_noise_is_as_long_as_noise() -> None:
    """All along the way squared norms have mean d and variance 2 d; on the straight line the mean falls to d / 2."""
    d, pairs = 48, 400
    a, b = torch.randn(2, pairs, d, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    way = torch.stack([slerp(*pair, shares(5)) for pair in zip(a, b, strict=True)])
    squared = way.square().sum(-1)
    error = math.sqrt(2 * d / pairs)
    assert float((squared.mean(0) - d).abs().max()) < 4 * error
    assert float(squared.var(0).amin()) > 0.3 * 2 * d  # where both ends have their say, their lengths average
    assert float(squared.var(0).amax()) < 1.4 * 2 * d


@pytest.mark.parametrize("factor", [1.0, 2.0, -1.0])
def test_slerp_without_a_plane_is_the_straight_line(factor: float) -> None:
    a, _ = ends()
    close(slerp(a, factor * a, SHARES), (1 + SHARES * (factor - 1)).reshape(-1, 1, 1, 1) * a, atol=1e-9)


def test_slerp_from_nowhere_is_no_nan() -> None:
    a, _ = ends()
    assert bool(slerp(a, 0 * a, SHARES).isfinite().all())


# Models: pictures in, pictures out.


class Known(Model):
    """A model whose denoiser is given, and which keeps the labels it was asked for."""

    def __init__(self, description: Description, known: Denoise) -> None:
        super().__init__(description.build(), description)
        self.answers, self.labels = known, []

    def denoise(self, condition: Any = None, clip: bool | None = True, guidance: Any = 1.0) -> Denoise:
        self.labels.append(None if condition is None else condition["label"])
        return self.answers


def described(channels: int = 3, names: tuple[str, ...] = (), schedule: AnySchedule = CHAIN) -> Description:
    network = UNetConfig(width=8, groups=4, multipliers=(1, 2), blocks=1, attention=())
    space = Pixels(channels=channels, size=8)
    return Description(
        model=ModelConfig(network=network), schedule=schedule, space=space, hears=(Label(names=names),) if names else ()
    )


def bytes_of(seed: int, channels: int = 3) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (channels, 8, 8), generator=random, dtype=torch.uint8)


def test_pictures_come_back_in_their_own_units() -> None:
    a, b = bytes_of(0), bytes_of(1)
    points = Mixture.points(Pixels(channels=3, size=8).encode(torch.stack([a, b])))
    frames = at_level(Known(described(), points), a, b, step=100, frames=4)
    assert frames.shape == (4, 3, 8, 8)
    assert frames.dtype == torch.uint8
    assert torch.equal(frames[0], a)
    assert torch.equal(frames[-1], b)


def test_pictures_come_back_from_their_latents() -> None:
    a, b = bytes_of(0), bytes_of(1)
    model = Known(described(), gaussian(0.33, (3, 8, 8)))
    frames = by_inversion(model, a, b, frames=3, steps=500)
    for frame, original in ((frames[0], a), (frames[-1], b)):
        assert int((frame.int() - original.int()).abs().max()) <= 3


def test_every_frame_has_the_label() -> None:
    a, b = bytes_of(0), bytes_of(1)
    model = Known(described(names=("cat", "dog")), gaussian(0.3, (3, 8, 8)))
    at_level(model, a, b, steps=1, frames=3, label="dog")
    by_inversion(model, a, b, steps=1, frames=3, label=1)
    assert [labels.tolist() for labels in model.labels] == [[1, 1, 1], [1, 1], [1, 1, 1]]
    model.labels.clear()
    at_level(model, a, b, steps=1, frames=3)
    by_inversion(model, a, b, steps=1, frames=3)
    assert [labels.tolist() for labels in model.labels] == [[-1] * 3, [-1] * 2, [-1] * 3]
    with pytest.raises(ValueError, match="'cow' is not a class of this model"):
        at_level(model, a, b, label="cow")
    with pytest.raises(ValueError, match="trained without labels"):
        by_inversion(Known(described(), gaussian(0.3)), a, b, label=0)


@pytest.mark.parametrize(
    ("schedule", "middle"), [(CHAIN, 500), (CosineBetas(steps=7), 3), (CosineBetas(steps=1), 1), (VP(), 500)], ids=str
)
def test_the_default_step_is_half_of_the_chain(schedule: AnySchedule, middle: int) -> None:
    assert half(Known(described(schedule=schedule), gaussian(0.3))) == middle


def test_what_is_refused() -> None:
    model, a = Known(described(), gaussian(0.3, (3, 8, 8))), bytes_of(0)
    with pytest.raises(ValueError, match="frames: expected at least 2, the ends of the way, got 1"):
        at_level(model, a, a, frames=1)
    with pytest.raises(ValueError, match="seed: expected a whole number of 64 bits"):
        at_level(model, a, a, seed=2**63)


def test_pictures_are_read_as_the_model_makes_them(tmp_path: Path) -> None:
    large = np.full((20, 30, 3), 200, dtype=np.uint8)
    Image.fromarray(large).save(tmp_path / "large.png")
    for channels in (1, 3):
        picture = read_picture(tmp_path / "large.png", Known(described(channels), gaussian(0.3)))
        assert torch.equal(picture, torch.full((channels, 8, 8), 200, dtype=torch.uint8))
    (tmp_path / "text.png").write_text("no picture")
    for name in ("text.png", "missing.png"):
        with pytest.raises(ValueError, match=f"{name}: expected a picture, got .*; give another file"):
            read_picture(tmp_path / name, Known(described(), gaussian(0.3)))


def test_rows_of_numbers_are_no_pictures(tmp_path: Path) -> None:
    space = Vectors(mean=(0.0, 1.0), std=(1.0, 2.0))
    config = ModelConfig(network=MLPConfig(width=16, depth=1))
    model = Known(Description(model=config, schedule=CHAIN, space=space), gaussian(1.0, (2,)))
    with pytest.raises(ValueError, match="makes rows of 2 numbers, not pictures"):
        read_picture(tmp_path / "a.png", model)
    rows = at_level(model, torch.zeros(2), torch.ones(2), step=1, frames=3, steps=1)
    close(rows, torch.tensor([[0.0, 0.0], [0.5, 0.5], [1.0, 1.0]]), atol=0.1)


def test_the_sheet_has_the_originals_at_both_ends() -> None:
    red, green, blue = (torch.zeros(3, 8, 8, dtype=torch.uint8) for _ in range(3))
    red[0], green[1], blue[2] = 255, 255, 255
    drawn = np.asarray(
        _sheet(
            Known(described(), gaussian(0.3)),
            red,
            blue,
            {"step 10": green.expand(4, 3, 8, 8), "slerp": green.expand(4, 3, 8, 8)},
        )
    )
    places = {}
    for name, colour in (("red", (255, 0, 0)), ("green", (0, 255, 0)), ("blue", (0, 0, 255))):
        places[name] = np.nonzero((drawn == colour).all(-1))
    tile = 64 * 64  # pictures of 8 x 8 are magnified to 64
    assert {name: len(x) for name, (_, x) in places.items()} == {"red": 2 * tile, "green": 8 * tile, "blue": 2 * tile}
    (_, red_x), (_, green_x), (_, blue_x) = (places[name] for name in ("red", "green", "blue"))
    assert red_x.max() < green_x.min()
    assert green_x.max() < blue_x.min()


# The command.


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a run and two pictures, in which the command lines run."""
    folder = tmp_path_factory.mktemp("home")
    for name, seed in (("a.png", 0), ("b.png", 1)):
        Image.fromarray(bytes_of(seed, 1)[0].numpy()).save(folder / name)
    (folder / "text.png").write_text("no picture")
    network = {"width": 8, "groups": 4, "multipliers": "1,2", "blocks": 1, "attention": ""}
    settings = {
        "schedule": "CosineBetas",
        "schedule.steps": 20,
        "train.steps": 2,
        "train.batch": 4,
        "data.labels": "[4,7]",
    }
    settings |= {f"model.network.{name}": value for name, value in network.items()}
    with contextlib.chdir(folder):
        made("train", "digits", *(f"--set={name}={value}" for name, value in settings.items()), "--out", "run")
        yield folder


def size(path: str) -> tuple[int, int]:
    with Image.open(path) as picture:
        picture.load()
        return picture.size


def test_two_pictures_and_the_way_between(home: Path) -> None:
    assert made("interpolate", "run", "a.png", "b.png") == "a.png to b.png in interpolation.png\n"
    wide, high = size("interpolation.png")
    made("interpolate", "run", "a.png", "b.png", "--frames", 4, "--method", "latent", "--out", "new/few.png")
    narrow, low = size("new/few.png")
    assert narrow < wide
    assert low < high


def test_a_row_for_every_step_and_seed(home: Path) -> None:
    how = ("interpolate", "run", "a.png", "b.png", "--frames", 3, "--method", "latent")
    heights = []
    for asked in (["--step", 5], ["--step", 5, 10, 20], ["--step", 5, 20, "--seed", 0, 1]):
        made(*how, *asked, "--out", "rows.png")
        heights.append(size("rows.png")[1])
    one, three, four = heights
    row = (three - one) / 2
    assert row > 64
    assert four - one == 3 * row


def test_the_same_command_is_the_same_picture(home: Path) -> None:
    how = ("interpolate", "run", "a.png", "b.png", "--frames", 3, "--steps", 4, "--label", "7", "--solver", "ddim")
    for out in ("one.png", "two.png"):
        made(*how, "--out", out)
    made(*how, "--seed", 1, "--out", "three.png")
    one, two, three = (Path(f"{name}.png").read_bytes() for name in ("one", "two", "three"))
    assert one == two
    assert one != three


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "a.png", "text.png"], "text.png: expected a picture, got not a picture; give another file"),
        (["run", "none.png", "b.png"], "none.png: expected a picture, got "),
        (["nowhere", "a.png", "b.png"], "nowhere does not exist; give the folder that unsteep train wrote"),
        (
            ["run", "a.png", "b.png", "--step", 10, 21],
            "step: expected 1 to 20, the steps of this model's noise, got 21",
        ),
        (["run", "a.png", "b.png", "--step", 0], "step: expected 1 to 20, the steps of this model's noise, got 0"),
        (["run", "a.png", "b.png", "--steps", 11], "steps: expected 1 to 10, as many as there are levels below"),
        (["run", "a.png", "b.png", "--frames", 1], "frames: expected at least 2, the ends of the way, got 1"),
        (["run", "a.png", "b.png", "--label", "5"], "label: '5' is not a class of this model; its classes are"),
        (["run", "a.png", "b.png", "--seed", 2**63], "seed: expected a whole number of 64 bits"),
        (["run", "a.png", "b.png", "--method", "slurp"], "--method: unknown method 'slurp'; did you mean slerp?"),
        (["run", "a.png", "b.png", "--solver", "dim"], "--solver: unknown solver 'dim'; did you mean ddim?"),
        (["run", "a.png", "b.png", "--out", "way.gif"], "a picture is one of .png, .jpg, .jpeg, .webp, not .gif"),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, list) else "",
)
def test_what_the_command_refuses(arguments: list[object], words: str, home: Path) -> None:
    before = sorted(home.rglob("*"))
    code, out, err = unsteep_("interpolate", *arguments)
    assert (code, out) == (2, "")
    assert err.removeprefix("unsteep: ").lstrip("-").startswith(words.lstrip("-"))
    assert err.count("\n") == 1
    assert sorted(home.rglob("*")) == before
