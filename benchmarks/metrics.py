"""What do the metrics say of known faults, do they agree with another implementation, and how fast are they?

`python benchmarks/metrics.py --data DIR` with a folder of idx files, as Fashion-MNIST. The domain net is trained once,
three minutes of a CPU core; everything else takes a minute or two.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from scipy.ndimage import gaussian_filter, shift
from torch import Tensor

from unsteep.data import Examples, Idx
from unsteep.evaluation.held import Real
from unsteep.features.domain import domain_features
from unsteep.features.looking import gather
from unsteep.metrics.frechet import fid, fid_infinity, frechet_distance, moments
from unsteep.metrics.kid import kid
from unsteep.metrics.manifold import manifold


def corruptions() -> dict[str, Callable[[Examples], Tensor]]:
    """Known faults, weakest of each kind first."""

    def noise(std: float) -> Callable[[Examples], Tensor]:
        def apply(data: Examples) -> Tensor:
            z = torch.randn(data.x.shape, generator=torch.Generator().manual_seed(0))
            return (data.x + std * z).clamp(0, 255).round().byte()

        return apply

    def blur(sigma: float) -> Callable[[Examples], Tensor]:
        return lambda data: torch.from_numpy(gaussian_filter(data.x.numpy(), (0, 0, sigma, sigma)))

    def moved(pixels: int) -> Callable[[Examples], Tensor]:
        return lambda data: torch.from_numpy(shift(data.x.numpy(), (0, 0, 0, pixels), order=0))

    def half(data: Examples) -> Tensor:
        assert data.labels is not None
        return data.x[data.labels < len(data.names) // 2]

    return {
        "none": lambda data: data.x,
        "noise of std 10": noise(10),
        "noise of std 25": noise(25),
        "blur of sigma 1": blur(1),
        "shift by 1 pixel": moved(1),
        "shift by 2 pixels": moved(2),
        "half of the classes missing": half,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True)
    parser.add_argument("--cache", type=Path)
    chosen = parser.parse_args()
    console, source = Console(width=110), Idx(path=chosen.data)
    real = Real(source.read("test"), source.read("train"), "test")
    net = domain_features(real.learned_from, chosen.cache, progress=True)
    console.print(f"{net.name}, accuracy on unseen pictures {net.accuracy}")
    began = time.process_time()
    reference = gather(net, real.unseen.x[:10_000].split(256)).features
    console.print(f"features of 10,000 pictures: {time.process_time() - began:.1f} s of CPU time")

    table = Table("test pictures with", "n", "FID", "KID", "precision", "recall", "density", "coverage", box=None)
    for name, corrupt in corruptions().items():
        pictures = corrupt(real.reference)
        seen = gather(net, pictures.split(256)).features
        near = manifold(seen, reference)
        columns = (near.precision, near.recall, near.density, near.coverage)
        distance, discrepancy = fid(seen, reference), kid(seen, reference)
        table.add_row(
            name,
            f"{len(pictures):,}",
            f"{distance.value:.3f} ± {distance.half:.3f}",
            f"{discrepancy.value:.4f}",
            *(f"{one.value:.3f}" for one in columns),
        )
    console.print(table)

    table = Table("real against real", "FID", "FID infinity", box=None)
    fresh = gather(net, real.reference.x.split(256)).features
    for n in (500, 2000, 10_000):
        found = (fid(fresh[:n], reference[:n]), fid_infinity(fresh[:n], reference[:n]))
        table.add_row(f"{n:,} against {n:,}", *(f"{one.value:.3f} ± {one.half:.3f}" for one in found))
    console.print(table)

    console.print(f"torchmetrics' FID of 10,000: {_torchmetrics(fresh, reference):.6f}, ", end="")
    console.print(f"here {frechet_distance(moments(fresh), moments(reference)):.6f}")
    table = Table("10,000 against 10,000", "s of CPU time", box=None)
    for name, take in (("FID", fid), ("FID infinity", fid_infinity), ("KID", kid), ("the four of manifolds", manifold)):
        began = time.process_time()
        take(fresh, reference)
        table.add_row(name, f"{time.process_time() - began:.1f}")
    console.print(table)


def _torchmetrics(x: Tensor, reference: Tensor) -> float:
    from torchmetrics.image.fid import FrechetInceptionDistance

    class Given(torch.nn.Module):
        num_features = x.shape[1]

        def forward(self, features: Tensor) -> Tensor:
            return features

    metric = FrechetInceptionDistance(feature=Given(), normalize=False).set_dtype(torch.float64)
    for features, is_real in ((reference, True), (x, False)):
        metric.update(features.double(), real=is_real)
    return float(metric.compute())


if __name__ == "__main__":
    main()
