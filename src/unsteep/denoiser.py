"""A network, a schedule and a prediction kind make a denoiser: (x_t, level) -> Estimate.

    value = network(c_in x_t, noise_label)        read as x0, eps, v, score or flow

The network hears the noise level as one number, `noise_label`:

    "step"    t T - 1 of a chain: 0 .. T-1 as Ho et al. 2020, fractions where the chain is interpolated
    "time"    1000 t
    "logsnr"  log-SNR clamped to [-20, 20] and scaled to [0, 1000], 1000 being pure noise (Kingma et al. 2021)

`input_scale`: "none", or "unit" for c_in = 1 / sqrt(alpha^2 + sigma^2), which keeps the input of unit scale where the
schedule does not (Karras et al. 2022). Compilation, autocast, data-parallel wrappers go around `network` alone.
"""

from __future__ import annotations

from typing import Literal, Protocol, get_args

import torch
from torch import Tensor, nn

from unsteep.core.chains import Chain, Interpolated
from unsteep.core.condition import Condition
from unsteep.core.estimate import PREDICTIONS, Estimate, Prediction
from unsteep.core.level import NoiseLevel, like
from unsteep.core.schedules import Schedule

NoiseLabel = Literal["step", "time", "logsnr"]
InputScale = Literal["none", "unit"]


class Denoise(Protocol):
    """What a solver calls: the condition is bound, guidance is wrapped around."""

    def __call__(self, x_t: Tensor, level: NoiseLevel) -> Estimate: ...


class Denoiser(nn.Module):
    """`network` as a denoiser on `schedule` (see the module).

    `noise_label`: default "step" on a chain, "time" elsewhere. `learn_variance`: the network's second half of
    channels is a learned variance, as a fraction between log beta_tilde (0) and log beta (1), (output + 1) / 2
    (Nichol & Dhariwal 2021).
    """

    def __init__(
        self,
        network: nn.Module,
        schedule: Schedule,
        prediction: Prediction = "eps",
        *,
        noise_label: NoiseLabel | None = None,
        input_scale: InputScale = "none",
        learn_variance: bool = False,
    ) -> None:
        super().__init__()
        is_chain = isinstance(schedule, Chain | Interpolated)
        if prediction not in PREDICTIONS:
            raise ValueError(f"prediction: expected one of {', '.join(PREDICTIONS)}, got {prediction!r}")
        if prediction in ("eps", "score") and schedule.logsnr_min == -torch.inf:
            raise ValueError(
                f"prediction: {prediction} says nothing about x0 at t = 1, where {type(schedule).__name__} leaves "
                f"no signal (alpha = 0); predict v, x0 or flow"
            )
        if noise_label is not None and noise_label not in get_args(NoiseLabel):
            raise ValueError(f"noise_label: expected one of {', '.join(get_args(NoiseLabel))}, got {noise_label!r}")
        if input_scale not in get_args(InputScale):
            raise ValueError(f"input_scale: expected one of {', '.join(get_args(InputScale))}, got {input_scale!r}")
        if noise_label == "step" and not is_chain:
            raise ValueError(
                f"noise_label: 'step' needs a chain, and {type(schedule).__name__} has no steps; use 'time'"
            )
        self.network = network
        self.schedule = schedule
        self.prediction = prediction
        self.noise_label = noise_label or ("step" if is_chain else "time")
        self.input_scale = input_scale
        self.learn_variance = learn_variance

    def forward(self, x_t: Tensor, level: NoiseLevel, condition: Condition | None = None) -> Estimate:
        """The estimate at x_t (b, ...), for `level` of shape () or (b,)."""
        scaled = x_t if self.input_scale == "none" else x_t / like(level.scale, x_t)
        # In half precision neighbouring labels near 999 would be one number.
        heard = self._heard(level).expand(len(x_t)).to(x_t.device, torch.promote_types(x_t.dtype, torch.float32))
        output = self.network(scaled, heard, **({} if condition is None else condition.tensors()))
        output = output.to(x_t.dtype)  # an autocast network answers in half precision; the algebra is not done in it
        if not self.learn_variance:
            return Estimate(self.prediction, output, x_t, level)
        value, raw = output.chunk(2, dim=1)
        return Estimate(self.prediction, value, x_t, level, variance_fraction=(raw + 1) / 2)

    def _heard(self, level: NoiseLevel) -> Tensor:
        if self.noise_label == "step":
            assert isinstance(self.schedule, Chain | Interpolated)
            return level.t * self.schedule.steps - 1
        if self.noise_label == "time":
            return 1000 * level.t
        return (20 - level.logsnr.clamp(-20, 20)) * 25
