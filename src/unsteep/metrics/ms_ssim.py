"""How alike pictures of one set are: multi-scale structural similarity (Wang et al. 2003) of random pairs, as a measure
of diversity (Odena et al. 2017, section 4.2). 1 for copies; near that of data, where a model is as diverse as data.

In Gaussian windows around each pixel, with means m, variances v and covariance c of two pictures of range L,

    luminance l = (2 m_a m_b + C1) / (m_a^2 + m_b^2 + C1),   contrast and structure s = (2 c + C2) / (v_a + v_b + C2),

C1 = (0.01 L)^2 and C2 = (0.03 L)^2; only windows inside the picture count. With pictures halved from scale to scale,

    MS-SSIM = prod over scales (mean s)^beta, with mean (l s) for mean s at the last,      negative means taken as 0.

The published five scales and windows of 11 pixels need pictures of 176. Smaller ones have fewer scales, and a smaller
window where three scales need one: see `settings`. Our own, because torchmetrics' takes the width of its window from
sigma whatever `kernel_size` says, and counts reflected borders at the last scale, which in pictures of 28 is mostly
border.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from unsteep.core.noise import permutation
from unsteep.metrics.interval import Interval

BETAS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
PIXELS = 2**19  # of pictures in float64 at a time


def settings(size: int) -> tuple[int, tuple[float, ...]]:
    """The window's side and the scales' weights for pictures whose smaller side is `size` >= 3 pixels.

    The window is the largest odd one up to 11 that fits in the third scale, or 3; the scales are those in which it
    fits, up to five; the weights are the first of the published ones over their sum.
    """
    if size < 3:
        raise ValueError(f"MS-SSIM: expected pictures of at least 3 pixels a side, got {size}")
    fits = min(11, size // 4)
    kernel = max(3, fits - (fits + 1) % 2)
    betas = [beta for scale, beta in enumerate(BETAS) if size >> scale >= kernel]
    return kernel, tuple(beta / sum(betas) for beta in betas)


def ms_ssim(pictures_a: Tensor, pictures_b: Tensor) -> Tensor:
    """Of each of uint8 (n, c, h, w) with its partner: (n,) in [0, 1], float64; channels count alike."""
    if pictures_a.shape != pictures_b.shape or pictures_a.ndim != 4:
        raise ValueError(
            f"MS-SSIM: expected two sets of pictures (n, c, h, w) of one shape, got {tuple(pictures_a.shape)} and "
            f"{tuple(pictures_b.shape)}"
        )
    kernel, betas = settings(min(pictures_a.shape[2:]))
    block = max(1, PIXELS // pictures_a.shape[1:].numel())
    blocks = zip(pictures_a.split(block), pictures_b.split(block), strict=True)
    return torch.cat([_ms_ssim(a, b, kernel, betas) for a, b in blocks])


def _ms_ssim(a: Tensor, b: Tensor, kernel: int, betas: tuple[float, ...]) -> Tensor:
    a, b = a.double(), b.double()
    at = torch.arange(kernel, dtype=torch.float64) - kernel // 2
    window = torch.softmax(-(at**2) / (2 * (1.5 * kernel / 11) ** 2), 0)
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    result = torch.ones(len(a), dtype=torch.float64)
    for scale, beta in enumerate(betas):
        if scale:
            a, b = avg_pool2d(a, 2), avg_pool2d(b, 2)
        maps = torch.stack([a, b, a * a + b * b, a * b])
        mean_a, mean_b, squares, product = _windowed(_windowed(maps, window, -1), window, -2)
        means, spread = mean_a**2 + mean_b**2, 2 * mean_a * mean_b
        similarity = (2 * product - spread + c2) / (squares - means + c2)
        if scale == len(betas) - 1:
            similarity = similarity * (spread + c1) / (means + c1)
        result = result * similarity.mean((1, 2, 3)).clamp(min=0) ** beta
    return result


def _windowed(maps: Tensor, window: Tensor, axis: int) -> Tensor:
    length = maps.shape[axis] - len(window) + 1
    result = torch.zeros_like(maps.narrow(axis, 0, length))
    for start, weight in enumerate(window.tolist()):
        result.add_(maps.narrow(axis, start, length), alpha=weight)
    return result


def diversity(pictures: Tensor, *, labels: Tensor | None = None, seed: int = 0) -> Interval:
    """Mean MS-SSIM of random pairs of uint8 pictures (n, c, h, w), each picture in one pair at most so that pairs are
    independent; within classes where labels (n,) are given. Lower is more diverse."""
    order = permutation(len(pictures), seed, 0)
    labels = torch.zeros(len(pictures), dtype=torch.long) if labels is None else labels
    groups = [order[labels[order] == label] for label in labels.unique()]
    pairs = torch.cat([group[: len(group) // 2 * 2].view(-1, 2) for group in groups])
    if len(pairs) < 2:
        raise ValueError(f"MS-SSIM: expected at least two pairs of pictures of one class, got {len(pairs)}")
    return Interval.of(ms_ssim(pictures[pairs[:, 0]], pictures[pairs[:, 1]]))
