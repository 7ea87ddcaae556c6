"""Networks: what is trained. They know conditions, and never schedules, losses or estimates.

Every network is a `torch.nn.Module` built from its config (`UNetConfig(...).build()`), and is called as

    network(x, noise_label, *, label=None) -> Tensor

    x            (b, c, h, w) or (b, d), float: data in [-1, 1] with noise, scaled as the network expects it
    noise_label  (b,) float: how noisy x is; step - 1 (0 .. 999) for a chain of 1000, fractions allowed
    label        (b,) int64 class indices; -1 means "no label", the learned null; None means -1 for everybody

Tensors in, a tensor out, and no Python branch on a tensor's values: a network can be compiled, replicated or
captured as it is. An untrained network answers exactly 0.
"""

from unsteep.networks.embedding import ConditionedNetwork, sinusoidal
from unsteep.networks.mlp import MLP, MLPConfig
from unsteep.networks.unet import UNet, UNetConfig

__all__ = ["MLP", "ConditionedNetwork", "MLPConfig", "UNet", "UNetConfig", "sinusoidal"]
