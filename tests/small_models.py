"""Untrained models, saved to be asked by the command line, for tests."""

from pathlib import Path

import torch

from unsteep.core.chains import CosineBetas
from unsteep.hearing import Label
from unsteep.model import Description, Model, ModelConfig
from unsteep.networks import MLPConfig, UNetConfig
from unsteep.spaces import Pixels, Vectors

SIZE = 8


def saved(path: Path, names: tuple[str, ...] = ()) -> Path:
    """A model of pictures of 8 x 8, of classes where they are named."""
    network = UNetConfig(width=8, groups=4, multipliers=(1, 2), blocks=1, attention=())
    return _saved(path, Pixels(channels=1, size=SIZE), network, (Label(names=names),) if names else ())


def saved_rows(path: Path) -> Path:
    """A model of rows of two numbers."""
    return _saved(path, Vectors(mean=(0.0, 1.0), std=(1.0, 2.0)), MLPConfig(width=16, depth=1), ())


def _saved(path: Path, space: Pixels | Vectors, network: UNetConfig | MLPConfig, hears: tuple[Label, ...]) -> Path:
    torch.manual_seed(0)
    config, chain = ModelConfig(network=network, prediction="v"), CosineBetas(steps=20)
    description = Description(model=config, schedule=chain, space=space, hears=hears, drop=0.1)
    Model(description.build(), description).save(path)
    return path
