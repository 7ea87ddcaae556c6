"""Networks: what is trained. They know conditions, and never schedules, losses or estimates.

Every network is a `torch.nn.Module` built from its config (`UNetConfig(...).build()`), and is called as

    network(x, noise_label, *, label=None, ...) -> Tensor

    x            (b, c, h, w) or (b, d), float: data in [-1, 1] with noise, scaled as the network expects it
    noise_label  (b,) float: how noisy x is; step - 1 (0 .. 999) for a chain of 1000, fractions allowed
    label        (b,) int64 class indices; -1 means "no label", the learned null; None means -1 for everybody

and, where x is a picture (the U-Net and the diffusion transformer) or a sequence and the config asks for it,

    text            ids int64 (b, length) for an encoder inside the network, or tokens (b, length, width)
    text_valid      bool (b, length); a row without True is "no text", the learned null, and so is None for text

for pictures alone

    picture         (b, c', h', w') aligned with x; None means "no picture": zeros, at log-SNR -inf
    picture_logsnr  (b,) float: the noise level the picture was augmented with; None means a clean one, +inf

and, for sequences (b, frames, features),

    valid           bool (b, frames): which frames are real; None means all

What a network does not know, it refuses: a config's `fitted` by the name of the condition, Python by the keyword.
Tensors in, a tensor out, and no Python branch on a tensor's values: a network can be compiled, replicated or
captured as it is. An untrained network answers exactly 0.
"""

from typing import Annotated

from unsteep.core.open import Components
from unsteep.core.protocols import NetworkConfig
from unsteep.networks.cross_attention import FrozenTextConfig
from unsteep.networks.dit import DiT, DiTConfig
from unsteep.networks.embedding import ConditionedNetwork, sinusoidal
from unsteep.networks.mlp import MLP, MLPConfig
from unsteep.networks.presets import Preset, preset
from unsteep.networks.sequence import SequenceConfig, SequenceTransformer
from unsteep.networks.sequence_dit import SequenceDiT, SequenceDiTConfig
from unsteep.networks.text import TextEncoder, TextEncoderConfig, Vocabulary
from unsteep.networks.unet import UNet, UNetConfig

AnyNetwork = Annotated[NetworkConfig, Components(UNetConfig, DiTConfig, MLPConfig, SequenceConfig, SequenceDiTConfig)]

__all__ = [
    "MLP",
    "AnyNetwork",
    "ConditionedNetwork",
    "DiT",
    "DiTConfig",
    "FrozenTextConfig",
    "MLPConfig",
    "Preset",
    "SequenceConfig",
    "SequenceDiT",
    "SequenceDiTConfig",
    "SequenceTransformer",
    "TextEncoder",
    "TextEncoderConfig",
    "UNet",
    "UNetConfig",
    "Vocabulary",
    "preset",
    "sinusoidal",
]
