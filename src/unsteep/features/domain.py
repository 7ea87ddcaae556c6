"""Features of the user's own domain: a small convolutional net, trained once on the training data and kept.

    x in [-1, 1] -> 3 x 3 convolutions, halved until the longer side is about 4 -> mean over places -> features (n, d)

With two classes or more it learns them: a linear layer on the features, cross-entropy. Without, it learns to tell the
pictures from each other (SimCLR; Chen et al. 2020, eq. 1): two random views z_i, z_j of each, projected to the unit
sphere, are to be nearer to one another than to any other view in the batch,

    loss_i = -log( exp(z_i z_j / tau) / sum_{k != i} exp(z_i z_k / tau) ).

Views are crops moved, scaled and changed in brightness and contrast, channel by channel. They are never mirrored or
turned, which would make some digits and letters alike. Of the simple methods it is the one whose loss belongs to an
example, that works on any size and colour and from 64 pictures on, and that needs no symmetry to predict.

A Frechet distance in these features is comparable only with another in the very same: `digest` tells. The net is a
function of the data, the settings and this file, and so is the name of its folder in the cache.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unsteep.core.noise import Draw, Purpose
from unsteep.data.batch import Batch
from unsteep.data.choosing import split_index
from unsteep.data.examples import Examples
from unsteep.features.stored import Stored, digest_of, stored
from unsteep.hearing import Label
from unsteep.metrics.interval import Interval, wilson
from unsteep.metrics.seen import Seen
from unsteep.objectives import Loss
from unsteep.pages.progress import bar
from unsteep.spaces import Pixels
from unsteep.training.batches import Batches
from unsteep.training.loop import Single, State, train
from unsteep.training.settings import TrainConfig

HELD_OUT = 0.1  # of the training data, to measure the classifier's accuracy on
FEWEST = 20  # pictures: below, a tenth of them tells nothing
TEMPERATURE = 0.2
SMALLEST = 0.5  # crop, as a share of the side
AT_ONCE = 500  # pictures that go through the net together
BYTES = Pixels()  # what they are scaled by


@dataclass(frozen=True, kw_only=True)
class DomainNet:
    """The net and its training: `dimension` of the features, `width` in channels of the first stages, `steps` with
    labels, without half as many, since two views of each picture cost twice. At 28 x 28 the default has 75 thousand
    weights and takes about two and a half minutes of one CPU core."""

    width: int = 16
    dimension: int = 64
    steps: int = 4000
    batch: int = 128
    learning_rate: float = 4e-3
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("width", "dimension"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, got {getattr(self, name)}")
        self.training()

    def training(self, labelled: bool = True) -> TrainConfig:
        """How it trains. The rate anneals to nothing, and so the weights need no average."""
        steps = self.steps if labelled else -(-self.steps // 2)
        return TrainConfig(
            steps=steps,
            batch=self.batch,
            learning_rate=self.learning_rate,
            final_learning_rate=0.0,
            warmup=steps // 10,
            weight_decay=0.01,
            clip=5.0,
            ema=0.0,
            seed=self.seed,
        )


class Network(nn.Module):
    """Pictures (b, c, h, w) in [-1, 1] to features (b, dimension), and to `head` of them."""

    def __init__(self, shape: tuple[int, ...], head: nn.Module, settings: DomainNet) -> None:
        super().__init__()
        before, height, width = shape
        halvings = max(1, round(math.log2(max(height, width) / 4)))
        stages = min(3, halvings)
        widths = [min(max(settings.width, settings.dimension // 2**i), settings.dimension) for i in range(stages + 1)]
        layers: list[nn.Module] = []
        for stride in [2] * (halvings - stages) or [1]:  # large pictures are made small by cheap layers
            layers.append(_layer(before, widths[-1], stride))
            before = widths[-1]
        for after in reversed(widths[:-1]):
            layers += [_layer(before, after, 2), _layer(after, after, 1)]
            before = after
        self.body = nn.Sequential(*layers)
        self.head = head
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # a third faster on CPUs

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.body(x.contiguous(memory_format=torch.channels_last)).mean((2, 3))
        return features, self.head(features)


def _layer(before: int, after: int, stride: int) -> nn.Module:
    convolution = nn.Conv2d(before, after, 3, stride, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(after), nn.ReLU(inplace=True))


def classify(module: nn.Module, batch: Batch, draw: Draw) -> Loss:
    """The objective with labels: cross-entropy."""
    assert batch.condition is not None
    value = F.cross_entropy(module(batch.x)[1], batch.condition["label"], reduction="none")
    return Loss(value, torch.zeros(len(value)))


def contrast(module: nn.Module, batch: Batch, draw: Draw) -> Loss:
    """The objective without labels: each view's cross-entropy of finding its partner among all views of the batch."""
    b = len(batch.x)
    z = F.normalize(module(views(batch.x, draw))[1], dim=1)
    likeness = (z @ z.T / TEMPERATURE).fill_diagonal_(-math.inf)
    partner = torch.arange(2 * b, device=z.device).roll(b)
    value = F.cross_entropy(likeness, partner, reduction="none").reshape(2, b).mean(0)
    return Loss(value, torch.zeros(b))


def views(x: Tensor, draw: Draw) -> Tensor:
    """Two random views of each picture (b, c, h, w): (2 b, c, h, w), first all first ones."""
    b, c = x.shape[:2]
    numbers = torch.special.ndtr(draw.normal(x.new_empty(b, 2, 3 + 2 * c), Purpose.NOISE))  # uniform in (0, 1)
    numbers = numbers.transpose(0, 1).flatten(0, 1)
    size = 1 - (1 - SMALLEST) * numbers[:, 0]  # of the crop, as a share of the side
    centre = (1 - size)[:, None] * (2 * numbers[:, 1:3] - 1)
    window = torch.cat([torch.diag_embed(size[:, None].expand(-1, 2)), centre[:, :, None]], 2)
    grid = F.affine_grid(window, [2 * b, *x.shape[1:]], align_corners=False)
    crops = F.grid_sample(x.repeat(2, 1, 1, 1), grid, padding_mode="border", align_corners=False)
    gain, shift = (numbers[:, 3:, None, None] - 0.5).split(c, 1)
    return crops * (1 + gain) + shift


def fit(data: Examples, settings: DomainNet, device: str = "cpu", progress: bool = False) -> Network:
    """A net trained on all of `data`, a classifier where it has classes. Global randomness is left as it was."""
    config = settings.training(bool(data.names))
    network = _blank(data, settings).to(device)
    state = State(network, config, classify if data.names else contrast)
    heard = (Label(names=data.names),) if data.names else ()
    task = Single(state, Batches(data, BYTES, heard, config, device=device))
    bars = bar(progress, config.steps, "training the features")
    with bars as advance:
        for _ in train(task, config):
            advance()
    return network.eval().requires_grad_(False)


def _blank(data: Examples, settings: DomainNet) -> Network:
    """The net before training, a function of the seed."""
    d = settings.dimension
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        projection = nn.Sequential(nn.Linear(d, d), nn.ReLU(), nn.Linear(d, d))
        head = nn.Linear(d, len(data.names)) if data.names else projection
        return Network(tuple(data.x.shape[1:]), head, settings)


def _scaled(pictures: Tensor) -> Tensor:
    return BYTES.encode(pictures)


@dataclass(eq=False, kw_only=True)
class Domain:
    """The trained net as features. `names`: of the classes that its logits tell apart, () without labels; `accuracy`:
    the classifier's, on the tenth of the training data that it did not see, None without labels."""

    network: Network
    name: str
    digest: str
    dimension: int
    shape: tuple[int, ...]
    names: tuple[str, ...]
    accuracy: Interval | None
    device: str
    resize: str = "none"

    @torch.no_grad()
    def __call__(self, pictures: Tensor) -> Seen:
        """uint8 (b, c, h, w) of the size and channels it was trained on; ValueError for others."""
        if pictures.shape[1:] != self.shape:
            raise ValueError(
                f"{self.name}: expected pictures {self.shape} as those it was trained on, got "
                f"{tuple(pictures.shape[1:])}; bring them to this size, or use other features"
            )
        seen = [self.network(_scaled(part.to(self.device))) for part in pictures.split(AT_ONCE)]
        features, outputs = (torch.cat(parts).cpu() for parts in zip(*seen, strict=True))
        return Seen(features, outputs if self.names else None)


def domain_features(
    data: Examples,
    cache: Path | None = None,
    settings: DomainNet | None = None,
    device: str = "cpu",
    progress: bool = False,
) -> Domain:
    """The features of `data`, which are the training data: from `cache` (None: the user's cache folder) if they lie
    there whole, trained and put there if not. `progress`: a bar on a terminal.

    ValueError if the data are no pictures of bytes, or fewer than 20.
    """
    settings = settings or DomainNet()
    if data.x.ndim != 4 or data.x.dtype != torch.uint8 or len(data) < FEWEST:
        raise ValueError(
            f"domain features: expected at least {FEWEST} pictures (n, c, h, w) of bytes, got {tuple(data.x.shape)}; "
            f"for vectors, the data are their own features"
        )
    if len(data.names) < 2:  # one class is no label
        data = replace(data, labels=None, names=())
    key = [data.digest, asdict(settings), hashlib.sha256(Path(__file__).read_bytes()).hexdigest()]
    weights, facts = stored("domain", key, partial(_trained, data, settings, device, progress), cache)
    network = _blank(data, settings).eval().requires_grad_(False)
    network.load_state_dict(weights)
    return Domain(
        network=network.to(device),
        name="domain classifier" if data.names else "domain SimCLR",
        digest=digest_of(weights),
        dimension=settings.dimension,
        shape=tuple(data.x.shape[1:]),
        names=data.names,
        accuracy=wilson(facts["right"], facts["held_out"]) if data.names else None,
        device=device,
    )


def correct(network: Network, data: Examples) -> int:
    """How many of `data` the classifier names rightly."""
    assert data.labels is not None
    device = next(network.parameters()).device
    with torch.no_grad():
        named = torch.cat([network(_scaled(x.to(device)))[1].argmax(1).cpu() for x in data.x.split(AT_ONCE)])
    return int((named == data.labels).sum())


def _trained(data: Examples, settings: DomainNet, device: str, progress: bool) -> Stored:
    facts: dict[str, Any] = {"settings": asdict(settings), "source": data.source, "data": data.digest}
    if data.names:
        held = [data.select(torch.from_numpy(split_index(len(data), part, HELD_OUT))) for part in ("train", "test")]
        network = fit(held[0], settings, device, progress)
        facts |= {"right": correct(network, held[1]), "held_out": len(held[1])}
    else:
        network = fit(data, settings, device, progress)
    return {name: value.cpu() for name, value in network.state_dict().items()}, facts
