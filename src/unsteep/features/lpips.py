"""LPIPS v0.1: how far apart two pictures look (Zhang et al. 2018, arXiv 1801.03924).

With y_l the rectified activations of layer l of a classifier at each of H_l x W_l positions, divided by their norm
over channels, and w_l >= 0 weights fitted to what people said (eq. 1, whose w_l is the square root of ours):

    d(a, b) = sum_l 1 / (H_l W_l) sum_hw sum_c w_lc (y_l(a) - y_l(b))_chw^2

Pictures come in as [-1, 1], less the mean and over the spread of ImageNet's channels in that range.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from unsteep.features.looking import grey_or_colour
from unsteep.features.weights import fill, open_weights

Kind = Literal["alex", "vgg"]

TRUNKS: dict[Kind, dict[str, str]] = {
    "alex": {"7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02": "alexnet-owt-7be5be79.pth"},
    "vgg": {"397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0": "vgg16-397923af.pth"},
}
HEADS: dict[Kind, dict[str, str]] = {
    "alex": {"df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0": "alex.pth of LPIPS v0.1"},
    "vgg": {"a78928a0af1e5f0fcb1f3b9e8f8c3a2a5a3de244d830ad5c1feddc79b8432868": "vgg.pth of LPIPS v0.1"},
}
TAPS: dict[Kind, dict[int, int]] = {  # the layers that are compared, and their channels
    "alex": {1: 64, 4: 192, 7: 384, 9: 256, 11: 256},
    "vgg": {3: 64, 8: 128, 15: 256, 22: 512, 29: 512},
}
SMALLEST: dict[Kind, int] = {"alex": 31, "vgg": 16}  # pixels: below, the last pool is wider than what it pools
MEAN, SPREAD = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)


class Trunk(nn.Module):
    """AlexNet or VGG16 up to their last comparison, with the names of torchvision's files."""

    def __init__(self, kind: Kind) -> None:
        super().__init__()
        self.taps = TAPS[kind]
        self.features = _alexnet() if kind == "alex" else _vgg16()

    def forward(self, x: Tensor) -> list[Tensor]:
        """Activations of unit norm over channels, (n, c_l, h_l, w_l) for each layer, of pictures (n, 3, h, w)."""
        seen = []
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index in self.taps:
                seen.append(x / (torch.linalg.vector_norm(x, dim=1, keepdim=True) + 1e-10))
        return seen


def _alexnet() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 64, 11, stride=4, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(64, 192, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(192, 384, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(384, 256, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(256, 256, 3, padding=1),
        nn.ReLU(),
    )


def _vgg16() -> nn.Sequential:
    layers: list[nn.Module] = []
    inside = 3
    for outside, convolutions in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(convolutions):
            layers += [nn.Conv2d(inside, outside, 3, padding=1), nn.ReLU()]
            inside = outside
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers[:-1])


class Heads(nn.ModuleDict):
    """The weights of channels: `lin0.model.1.weight` (1, c_0, 1, 1) and so on, as the published files name them."""

    def __init__(self, kind: Kind) -> None:
        lines = (nn.Conv2d(channels, 1, 1, bias=False) for channels in TAPS[kind].values())
        nested = ({"model": nn.ModuleDict({"1": line})} for line in lines)
        super().__init__({f"lin{index}": nn.ModuleDict(line) for index, line in enumerate(nested)})

    def forward(self, squares: list[Tensor]) -> Tensor:
        """Squared differences (n, c_l, h_l, w_l) of each layer, to distances (n,)."""
        pairs = zip(squares, self.parameters(), strict=True)
        return torch.stack([(one * weight[0]).sum(1).mean((1, 2)) for one, weight in pairs]).sum(0)


@dataclass(frozen=True, kw_only=True, eq=False)
class Lpips:
    """The distance. `digest`: the SHA-256 of the trunk's file, "+", that of the heads'."""

    kind: Kind
    trunk: Trunk
    heads: Heads
    name: str
    digest: str
    device: str = "cpu"

    @torch.no_grad()
    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        """d, float32 (n,) on the CPU, for uint8 pictures (n, c, h, w) in pairs, c = 1 (taken as grey) or 3. ValueError
        where they are not that, or smaller than the trunk's pools."""
        grey_or_colour(a, "LPIPS")
        if a.shape != b.shape or {a.dtype, b.dtype} != {torch.uint8}:
            raise ValueError(
                f"LPIPS: expected two batches of uint8 pictures (n, 1 or 3, h, w), got {a.dtype} {tuple(a.shape)} and "
                f"{b.dtype} {tuple(b.shape)}"
            )
        if min(a.shape[2:]) < (smallest := SMALLEST[self.kind]):
            raise ValueError(
                f"LPIPS by {self.kind}: expected pictures of at least {smallest} x {smallest} pixels, got "
                f"{a.shape[2]} x {a.shape[3]}; enlarge them, and say so beside the number"
            )
        pairs = zip(self.trunk(self._scaled(a)), self.trunk(self._scaled(b)), strict=True)
        return self.heads([(one - other) ** 2 for one, other in pairs]).float().cpu()

    def _scaled(self, pictures: Tensor) -> Tensor:
        x = pictures.to(next(self.trunk.parameters())) / 127.5 - 1
        mean, spread = (x.new_tensor(values).view(3, 1, 1) for values in (MEAN, SPREAD))
        return (x - mean) / spread


def lpips(trunk: Path, heads: Path, kind: Kind, *, custom: bool = False, device: str = "cpu") -> Lpips:
    """LPIPS by AlexNet ("alex", with which the paper reports) or VGG16 ("vgg"), from local copies of torchvision's
    file of the trunk and of v0.1's file of the heads, or, if `custom`, from any with tensors of those names and
    shapes. ValueError if one is another file."""
    opened = [open_weights(trunk, TRUNKS[kind], custom), open_weights(heads, HEADS[kind], custom)]
    with torch.device("meta"):
        networks = Trunk(kind), Heads(kind)
    for network, (tensors, _), path in zip(networks, opened, (trunk, heads), strict=True):
        fill(network, tensors, path)
    digests = [digest for _, digest in opened]
    canonical = digests[0] in TRUNKS[kind] and digests[1] in HEADS[kind]
    return Lpips(
        kind=kind,
        trunk=networks[0].to(device),
        heads=networks[1].to(device),
        name=f"LPIPS v0.1 {kind}" if canonical else f"LPIPS {kind} (custom weights)",
        digest="+".join(digests),
        device=device,
    )
