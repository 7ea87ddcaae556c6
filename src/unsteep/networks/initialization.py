"""The initialization of Ho et al. 2020: uniform weights whose variance is 1 / mean(fan in, fan out), zero biases.

That is Glorot and Bengio's of 2010. A layer that ends a residual branch or the network gets a gain of 0, so that
every untrained block is the identity (or its shortcut) and every untrained network answers 0. The tables of label
embeddings keep torch's standard normal rows.
"""

from typing import TypeVar

from torch import nn

Layer = TypeVar("Layer", nn.Linear, nn.Conv2d)


def initialized(layer: Layer, gain: float = 1.0) -> Layer:
    """The same layer, its weights drawn anew and times `gain`, its bias zero."""
    nn.init.xavier_uniform_(layer.weight, gain)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer
