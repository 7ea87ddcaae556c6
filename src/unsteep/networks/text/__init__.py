"""Text as a condition: vocabularies, the encoder that is trained along, and frozen ones (`text.pretrained`)."""

from unsteep.networks.text.encoder import NullText, TextEncoder, TextEncoderConfig
from unsteep.networks.text.vocabulary import Vocabulary, padded, warn_cut

__all__ = ["NullText", "TextEncoder", "TextEncoderConfig", "Vocabulary", "padded", "warn_cut"]
