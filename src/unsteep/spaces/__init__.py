"""What a model's tensors mean outside it."""

from unsteep.spaces.pixels import Pixels
from unsteep.spaces.vectors import Vectors

AnySpace = Pixels | Vectors

__all__ = ["AnySpace", "Pixels", "Vectors"]
