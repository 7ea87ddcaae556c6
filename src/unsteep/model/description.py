"""What a model is, apart from its weights: its denoiser's configuration, its schedule, its space, and what it hears."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

from unsteep.core.arguments import checked
from unsteep.core.chains import LinearBetas
from unsteep.core.maps import Maps
from unsteep.core.open import listed
from unsteep.core.schedules import AnySchedule
from unsteep.denoiser import Denoiser, Head, InputScale, LearnVariance, NoiseLabel
from unsteep.hearing import AnyHears
from unsteep.networks import AnyNetwork, UNetConfig
from unsteep.spaces import AnySpace
from unsteep.storage.schema import located, spelled

VARIANCES: dict[str, LearnVariance] = {"fixed": False, "learned": "fraction", "diagonal": "diagonal"}


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The denoiser of a run: its network, what the network predicts, and how it hears the noise level."""

    network: AnyNetwork = field(default_factory=UNetConfig)
    """What is trained."""
    prediction: Head = "eps"
    """What it predicts, of which the estimate of x0 follows."""
    variance: Literal["fixed", "learned", "diagonal"] = "fixed"
    """Of the reverse steps: fixed, learned between beta_tilde and beta (Nichol & Dhariwal 2021), or a learned
    diagonal (the ablation of Ho et al. 2020)."""
    noise_label: NoiseLabel | None = None
    """The number by which the network hears the noise level; none: step on a chain, else time."""
    input_scale: InputScale = "none"
    """unit: x_t is brought to unit variance before the network."""

    def __post_init__(self) -> None:
        checked(self)


@dataclass(frozen=True, kw_only=True)
class Description:
    """All that is needed to rebuild a model around its weights; `model.toml` of a saved one."""

    model: ModelConfig = field(default_factory=ModelConfig)
    schedule: AnySchedule = field(default_factory=LinearBetas)
    space: AnySpace
    hears: tuple[AnyHears, ...] = ()
    drop: float | None = None
    """How often training hid the conditions; None where that is unknown."""
    maps: Maps | None = None
    """Of a map: which steps it was trained for; None for a plain denoiser."""

    def __post_init__(self) -> None:
        names = [one.name for one in self.hears]
        if len(set(names)) < len(names):
            raise ValueError(f"hears: expected each kind of condition once, got {', '.join(names)}")

    def hearing(self, name: str) -> Any:
        """The kind of condition that is asked by this name; None where the model does not hear it."""
        return next((one for one in self.hears if one.name == name), None)

    @property
    def names(self) -> tuple[str, ...]:
        """Of the classes; () for a model that hears none."""
        label = self.hearing("label")
        return () if label is None else tuple(label.names)

    @property
    def heard(self) -> str:
        """What it is conditioned on, in words; empty for an unconditional model."""
        return ", ".join(one.describe() for one in self.hears)

    @property
    def plain(self) -> bool:
        """Whether it is a plain denoiser: any solver may ask it, and what rests on such estimates holds."""
        return self.maps is None or self.maps.diagonal

    def check_plain(self) -> None:
        """ValueError for a map that was trained for whole steps alone."""
        if self.maps is not None and not self.maps.diagonal:
            raise ValueError(
                f"this model is a map for {self.maps.words} by ddim, and was not trained as a plain denoiser: no "
                "other solver, guidance, likelihood, inversion or filling in; ask the model that taught it"
            )

    @property
    def predicts(self) -> str:
        """What the network says, in words."""
        calls = "" if self.maps is None else f", of whole steps: a map for {self.maps.words}"
        return f"{self.model.prediction}{calls}"

    @property
    def beyond_classes(self) -> bool:
        """Whether it hears what only examples have, and not classes alone, which can be drawn."""
        return any(one.name not in ("label", "length", "guidance") for one in self.hears)

    @property
    def language(self) -> tuple[object, ...]:
        """What conditions mean to it: models of one language can be given the same."""
        return tuple(getattr(one, "meaning", one) for one in self.hears)

    def build(self) -> Denoiser:
        """The denoiser with freshly initialised weights. The network's sizes are filled in from space and
        conditions."""
        return Denoiser(
            self.filled().model.network.build(),
            self.schedule,
            self.model.prediction,
            noise_label=self.model.noise_label,
            input_scale=self.model.input_scale,
            learn_variance=VARIANCES[self.model.variance],
            maps=self.maps is not None,
        )

    def filled(self) -> Description:
        """The same description with the network's sizes stated. ValueError where it does not suit the data."""
        heard: dict[str, Any] = {one.name: one for one in self.hears}
        if self.maps is not None:
            heard["nxt"] = self.maps
        outputs = 1 if self.model.variance == "fixed" else 2
        try:
            network = self.model.network.fitted(self.space, outputs, heard)
        except ValueError as error:
            said = located("model.network", type(self.model.network), str(error))
            kind = said.startswith("model.network:")  # where a field is wrong, another network would not help
            raise ValueError(f"{said}{self._others(outputs, heard) if kind else ''}") from None
        return replace(self, model=replace(self.model, network=network))

    def _others(self, outputs: int, heard: dict[str, Any]) -> str:
        """Which of our own networks would do, for an error's last words."""
        suited = []
        for family in listed(AnyNetwork):
            try:
                family().fitted(self.space, outputs, heard)
            except ValueError as error:
                if str(error).startswith("model.network:"):  # else a size of it does not suit, which can be set
                    continue
            suited.append(spelled(family))
        refused = suited and spelled(type(self.model.network)) not in suited  # else the size of it does not suit
        return f"; set model.network={' or '.join(suited)}" if refused else ""
