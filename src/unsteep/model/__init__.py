"""A trained model, its description, and every verb on it."""

from unsteep.model.description import Description, ModelConfig
from unsteep.model.model import Model

__all__ = ["Description", "Model", "ModelConfig"]
