"""Networks of three sizes for pictures of any size: the U-Net whose blocks are modulated, thin where it is dear.

Pictures of 16 pixels and more enter in squares of 2 x 2, those of 128 and more in squares of 4 x 4, and levels follow
until one has at most 8 positions a side; attention stands in the middle alone. What a network costs is floating-point
operations, not parameters: see `docs/speed.md` for both, and for what was compared.
"""

from typing import Literal, get_args

from unsteep.core.arguments import choice, whole
from unsteep.networks.unet import UNetConfig

Preset = Literal["small", "medium", "large"]

SIZES = {"small": (32, 1), "medium": (64, 1), "large": (128, 2)}  # width, and blocks of a level


def preset(name: Preset, side: int) -> UNetConfig:
    """The network of this size for pictures whose longer side has so many pixels.

    small: minutes of a CPU; medium: hours of a CPU, and what recipes take on a GPU; large: a GPU. ValueError for
    another name.
    """
    width, blocks = SIZES[choice("name", name, get_args(Preset))]
    side = whole("side", side, 1)
    stem = 4 if side >= 128 else 2 if side >= 16 else 1
    least = -(-side // stem)
    multipliers = [1]
    while least > 8 or len(multipliers) < 2:
        multipliers.append(2)
        least = -(-least // 2)
    return UNetConfig(
        width=width, multipliers=tuple(multipliers), blocks=blocks, attention=(), block="modulated", stem=stem
    )
