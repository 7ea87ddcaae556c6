"""Inception-v3 as the Frechet inception distance knows it: the network of TensorFlow's graph of 2015-12-05.

Szegedy et al. 2016 (arXiv 1512.00567) in the graph with which Salimans et al. 2016 (arXiv 1606.03498) computed the
Inception Score and Heusel et al. 2017 (arXiv 1706.08500) the FID. What it does otherwise than later Inceptions:

- pictures in [0, 255] are resized to 299 x 299 by TensorFlow 1's bilinear rule, and come in as (x - 128) / 128: the
  graph has the nodes `Sub` (128) and `Mul` (0.0078125), so 0 is -1 and 255 is 0.9921875. 2 x / 255 - 1, as ports on
  inputs in [0, 1] have it, differs from that by up to 0.0079 (at white);
- average pools do not count the padding; the last block has a maximum there instead;
- 1008 classes. The Inception Score takes the logits without their bias, and so do we.

Features are the 2048 means over the last 8 x 8 positions ("pool3"). Names of tensors are those of
`pt_inception-2015-12-05-6726825d.pth`, the published file of these weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from unsteep.features.looking import grey_or_colour
from unsteep.features.weights import fill, open_weights
from unsteep.metrics.seen import Seen

KNOWN = {"6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2": "pt_inception-2015-12-05-6726825d.pth"}
SIZE = 299

Kernel = int | tuple[int, int]
Branch = list[list[tuple[int, Kernel]]]  # steps of one unit, or of two side by side: (channels out, kernel)


def legacy_bilinear(pictures: Tensor, size: int) -> Tensor:
    """Pictures of floats (b, c, h, w) at (b, c, size, size), as `tf.image.resize_bilinear` of TensorFlow 1 does it.

    Position i of n' is at i n / n' of n: corners are not aligned, pixels have no half-wide centres, and nothing is
    averaged on the way down. Positions are float32, as there.
    """
    for dim in (3, 2):
        n = pictures.shape[dim]
        at = torch.arange(size, dtype=torch.float32) * torch.tensor(n / size, dtype=torch.float32)
        low = at.long()
        share = (at - low).to(pictures).view(-1, *[1] * (3 - dim))
        low = low.to(pictures.device)
        first, second = (pictures.index_select(dim, index) for index in (low, (low + 1).clamp(max=n - 1)))
        pictures = first + (second - first) * share
    return pictures


class ConvUnit(nn.Module):
    """A convolution without bias, normalized by statistics of the training set, and rectified."""

    def __init__(self, inside: int, outside: int, kernel: Kernel, *, stride: int = 1, padding: bool = True) -> None:
        super().__init__()
        height, width = (kernel, kernel) if isinstance(kernel, int) else kernel
        around = (height // 2, width // 2) if padding else 0
        self.conv = nn.Conv2d(inside, outside, (height, width), stride, around, bias=False)
        self.bn = nn.BatchNorm2d(outside, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.bn(self.conv(x)))


class Mixed(nn.Module):
    """Branches side by side, joined by channels. The one named branch_pool sees x pooled; with stride 2 the last unit
    of each of the others strides. Steps are numbered where a branch has several, and lettered where units fork."""

    def __init__(self, inside: int, *, stride: int = 1, maximum: bool = False, **branches: Branch) -> None:
        super().__init__()
        average = partial(functional.avg_pool2d, kernel_size=3, stride=1, padding=1, count_include_pad=False)
        largest = partial(functional.max_pool2d, kernel_size=3, stride=stride, padding=2 - stride)
        self.pool = largest if maximum else average
        self.steps: dict[str, list[list[str]]] = {}
        for name, branch in branches.items():
            channels, steps = inside, []
            for number, units in enumerate(branch, start=1):
                numbered = f"{name}_{number}" if len(branch) > 1 else name
                steps.append([numbered + letter for letter in ("ab" if len(units) > 1 else ("",))])
                last = stride if number == len(branch) else 1
                for label, (outside, kernel) in zip(steps[-1], units, strict=True):
                    self.add_module(label, ConvUnit(channels, outside, kernel, stride=last, padding=last == 1))
                channels = sum(outside for outside, _ in units)
            self.steps[name] = steps

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self._branch(name, x) for name in self.steps], 1)

    def _branch(self, name: str, x: Tensor) -> Tensor:
        x = self.pool(x) if name == "branch_pool" else x
        for units in self.steps[name]:
            x = torch.cat([self.get_submodule(unit)(x) for unit in units], 1)
        return x


def _square(inside: int, pooled: int) -> Mixed:
    """At 35 x 35."""
    return Mixed(
        inside,
        branch1x1=[[(64, 1)]],
        branch5x5=[[(48, 1)], [(64, 5)]],
        branch3x3dbl=[[(64, 1)], [(96, 3)], [(96, 3)]],
        branch_pool=[[(pooled, 1)]],
    )


def _factored(c: int) -> Mixed:
    """At 17 x 17: 7 x 7 by rows and columns."""
    return Mixed(
        768,
        branch1x1=[[(192, 1)]],
        branch7x7=[[(c, 1)], [(c, (1, 7))], [(192, (7, 1))]],
        branch7x7dbl=[[(c, 1)], [(c, (7, 1))], [(c, (1, 7))], [(c, (7, 1))], [(192, (1, 7))]],
        branch_pool=[[(192, 1)]],
    )


def _forked(inside: int, maximum: bool) -> Mixed:
    """At 8 x 8: rows beside columns."""
    fork: list[tuple[int, Kernel]] = [(384, (1, 3)), (384, (3, 1))]
    return Mixed(
        inside,
        maximum=maximum,
        branch1x1=[[(320, 1)]],
        branch3x3=[[(384, 1)], fork],
        branch3x3dbl=[[(448, 1)], [(384, 3)], fork],
        branch_pool=[[(192, 1)]],
    )


class InceptionV3(nn.Module):
    """Pictures in [-1, 1], (b, 3, 299, 299), to features (b, 2048) and logits without bias (b, 1008)."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = ConvUnit(3, 32, 3, stride=2, padding=False)
        self.Conv2d_2a_3x3 = ConvUnit(32, 32, 3, padding=False)
        self.Conv2d_2b_3x3 = ConvUnit(32, 64, 3)
        self.Conv2d_3b_1x1 = ConvUnit(64, 80, 1)
        self.Conv2d_4a_3x3 = ConvUnit(80, 192, 3, padding=False)
        self.Mixed_5b = _square(192, 32)
        self.Mixed_5c = _square(256, 64)
        self.Mixed_5d = _square(288, 64)
        self.Mixed_6a = Mixed(
            288,
            stride=2,
            maximum=True,
            branch3x3=[[(384, 3)]],
            branch3x3dbl=[[(64, 1)], [(96, 3)], [(96, 3)]],
            branch_pool=[],
        )
        self.Mixed_6b = _factored(128)
        self.Mixed_6c = _factored(160)
        self.Mixed_6d = _factored(160)
        self.Mixed_6e = _factored(192)
        self.Mixed_7a = Mixed(
            768,
            stride=2,
            maximum=True,
            branch3x3=[[(192, 1)], [(320, 3)]],
            branch7x7x3=[[(192, 1)], [(192, (1, 7))], [(192, (7, 1))], [(192, 3)]],
            branch_pool=[],
        )
        self.Mixed_7b = _forked(1280, maximum=False)
        self.Mixed_7c = _forked(2048, maximum=True)
        self.fc = nn.Linear(2048, 1008)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = functional.max_pool2d(x, 3, 2)
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(x))
        x = functional.max_pool2d(x, 3, 2)
        x = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(x)))
        x = self.Mixed_6e(self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(self.Mixed_6a(x)))))
        x = self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(x)))
        features = x.mean((2, 3))
        return features, features @ self.fc.weight.T


@dataclass(frozen=True, kw_only=True, eq=False)
class Inception:
    """The features of canonical FID, KID, precision and recall, and the logits of the Inception Score. It runs in the
    precision of `network`, on `device`."""

    network: InceptionV3
    digest: str
    device: str = "cpu"
    name: str = "inception-2015-12-05"
    dimension: int = 2048
    resize: str = "TensorFlow 1 bilinear 299"

    @torch.no_grad()
    def __call__(self, pictures: Tensor) -> Seen:
        """uint8 (b, c, h, w), c = 1 (taken as grey) or 3, of any size. ValueError for other channels."""
        grey_or_colour(pictures, self.name)
        x = legacy_bilinear(pictures.to(self.network.fc.weight), SIZE)
        features, logits = self.network(((x - 128) / 128).expand(-1, 3, -1, -1))
        return Seen(features.float().cpu(), logits.float().cpu())


def inception(path: Path, *, custom: bool = False, device: str = "cpu") -> Inception:
    """Inception with the weights of a local copy of `pt_inception-2015-12-05-6726825d.pth`, or, if `custom`, of any
    file with tensors of those names and shapes. ValueError if it is another file."""
    tensors, digest = open_weights(path, KNOWN, custom)
    with torch.device("meta"):
        network = InceptionV3()
    fill(network, tensors, path)
    name = "inception-2015-12-05" if digest in KNOWN else "inception (custom weights)"
    return Inception(network=network.to(device), digest=digest, device=device, name=name)
