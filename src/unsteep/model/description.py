"""What a model is, apart from its weights: the configuration of its denoiser, its schedule and its space."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from unsteep.core.schedules import AnySchedule
from unsteep.data.pairs import Aligned
from unsteep.denoiser import Denoiser, Head, InputScale, LearnVariance, NoiseLabel
from unsteep.networks import DiTConfig, FrozenTextConfig, MLPConfig, TextEncoderConfig, UNetConfig, Vocabulary
from unsteep.spaces import AnySpace, Pixels, Vectors

AnyNetwork = UNetConfig | DiTConfig | MLPConfig
VARIANCES: dict[str, LearnVariance] = {"fixed": False, "learned": "fraction", "diagonal": "diagonal"}


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The denoiser of a run: its network, what the network predicts, and how it hears the noise level.

    `variance` of the reverse steps: "fixed", "learned" between beta_tilde and beta (Nichol & Dhariwal 2021), or a
    learned "diagonal" (the ablation of Ho et al. 2020).
    """

    network: AnyNetwork = field(default_factory=UNetConfig)
    prediction: Head = "eps"
    variance: Literal["fixed", "learned", "diagonal"] = "fixed"
    noise_label: NoiseLabel | None = None
    input_scale: InputScale = "none"


@dataclass(frozen=True, kw_only=True)
class Description:
    """All that is needed to rebuild a model around its weights; `model.toml` of a saved one."""

    model: ModelConfig
    schedule: AnySchedule
    space: AnySpace
    names: tuple[str, ...] = ()
    drop: float | None = None
    """How often training hid the condition; None where that is unknown."""
    vocabulary: str = ""
    """Of the captions, as `Vocabulary` writes itself; empty for a model that learned no pieces of text."""
    picture: str = ""
    """Which aligned picture it hears, as `Aligned.of` reads it; empty for none."""
    augment: float = 0.0
    """The latest time that the aligned picture was noised to in training."""

    @property
    def hears_text(self) -> bool:
        """Whether it hears prompts."""
        return bool(self.vocabulary) or isinstance(getattr(self.model.network, "text", None), FrozenTextConfig)

    @property
    def heard(self) -> str:
        """What it is conditioned on, in words; empty for an unconditional model."""
        text = "caption" if self.hears_text else ""
        return ", ".join(filter(None, ["class" if self.names else "", text, self.picture]))

    @property
    def language(self) -> tuple[object, ...]:
        """What conditions mean to it: models of one language can be given the same."""
        digest = getattr(getattr(self.model.network, "text", None), "digest", "")
        return self.names, self.vocabulary, digest, self.picture

    def build(self) -> Denoiser:
        """The denoiser with freshly initialised weights. The network's data-dependent sizes are filled in from the
        space."""
        return Denoiser(
            self.filled().model.network.build(),
            self.schedule,
            self.model.prediction,
            noise_label=self.model.noise_label,
            input_scale=self.model.input_scale,
            learn_variance=VARIANCES[self.model.variance],
        )

    def filled(self) -> Description:
        """The same description with the network's sizes stated: channels, size and labels are those of the data."""
        network, outputs = self.model.network, 1 if self.model.variance == "fixed" else 2
        filled: AnyNetwork
        if isinstance(network, UNetConfig | DiTConfig) and isinstance(self.space, Pixels):
            channels, text = self.space.channels, network.text
            if self.vocabulary and isinstance(text, TextEncoderConfig):
                text = replace(text, pieces=len(Vocabulary.from_json(self.vocabulary)))
            beside = Aligned.of(self.picture).channels(channels) if self.picture else 0
            size, out = self.space.size, outputs * channels
            filled = replace(
                network, channels=channels, size=size, out_channels=out, text=text, picture_channels=beside
            )
        elif isinstance(network, MLPConfig) and isinstance(self.space, Vectors):
            features = len(self.space.mean)
            filled = replace(network, features=features, out_features=outputs * features)
        else:
            wanted = "UNet" if isinstance(self.space, Pixels) else "MLP"
            raise ValueError(
                f"model.network: the data are {type(self.space).__name__.lower()}, which need a {wanted}; "
                f"set model.network={wanted}"
            )
        return replace(self, model=replace(self.model, network=replace(filled, labels=len(self.names))))
