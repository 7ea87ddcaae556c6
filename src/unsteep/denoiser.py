"""A network, a schedule and a prediction kind make a denoiser: (x_t, level) -> Estimate.

    value = network(c_in x_t, noise_label)        read as x0, eps, v, score or flow

A head may also predict the "mean" of the posterior, Ho's mu-tilde A x0 + B x_t of one step of the chain, which is
read as x0 = (mean - B x_t) / A.

The network hears the noise level as one number, `noise_label`:

    "step"    t T - 1 of a chain: 0 .. T-1 as Ho et al. 2020, fractions where the chain is interpolated
    "time"    1000 t
    "logsnr"  log-SNR clamped to [-20, 20] and scaled to [0, 1000], 1000 being pure noise (Kingma et al. 2021)

`input_scale`: "none", or "unit" for c_in = 1 / sqrt(alpha^2 + sigma^2), which keeps the input of unit scale where the
schedule does not (Karras et al. 2022). `precision`: in which the network runs, and the algebra of its answers does
not (see `core.precision`). Compilation, autocast, data-parallel wrappers go around `network` alone.

A map (see `core.maps`) hears the level that a step ends at by a second number of the same kind, `noise_label_nxt`.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Literal, Protocol, get_args

import torch
from torch import Tensor, nn

from unsteep.core.arguments import choice, floats, kind, shown
from unsteep.core.condition import Condition
from unsteep.core.estimate import PREDICTIONS, Estimate, Prediction
from unsteep.core.gaussian import posterior_weights
from unsteep.core.level import NoiseLevel, level_of, like
from unsteep.core.precision import Precision, running
from unsteep.core.schedules import Schedule, schedule_of, steps_of
from unsteep.networks.forward_mode import in_forward_mode

NoiseLabel = Literal["step", "time", "logsnr"]
InputScale = Literal["none", "unit"]
Head = Prediction | Literal["mean"]
LearnVariance = bool | Literal["fraction", "diagonal"]


class Denoise(Protocol):
    """What a solver calls: the condition is bound, guidance is wrapped around."""

    def __call__(self, x_t: Tensor, level: NoiseLevel) -> Estimate: ...


def estimate(
    denoise: Callable[..., Estimate], x: Tensor, now: NoiseLevel, nxt: NoiseLevel, condition: Condition | None = None
) -> Estimate:
    """What `denoise` says at x (b, ...), for a step that ends at `nxt`: by its `to(x_t, level, nxt)` if it is a map,
    else its plain estimate. `condition`: for one that is not bound to any yet."""
    given = {} if condition is None else {"condition": condition}
    if isinstance(denoise, nn.Module):  # whose `to` moves it to a device
        return denoise(x, now, nxt=nxt, **given) if getattr(denoise, "maps", False) else denoise(x, now, **given)
    to = getattr(denoise, "to", None)
    return denoise(x, now, **given) if to is None else to(x, now, nxt, **given)


@dataclass(frozen=True)
class Conditioned:
    """A denoiser whose condition is bound."""

    denoiser: Callable[..., Estimate]
    condition: Condition | None

    def __call__(self, x_t: Tensor, level: NoiseLevel) -> Estimate:
        return self.denoiser(x_t, level, condition=self.condition)

    def to(self, x_t: Tensor, level: NoiseLevel, nxt: NoiseLevel) -> Estimate:
        """For a step that ends at `nxt`."""
        return estimate(self.denoiser, x_t, level, nxt, self.condition)


class Denoiser(nn.Module):
    """`network` as a denoiser on `schedule` (see the module).

    `noise_label`: default "step" on a chain, "time" elsewhere. `learn_variance`: the network's second half of
    channels is a learned variance: True or "fraction", a place between log beta_tilde (0) and log beta (1), (output +
    1) / 2 (Nichol & Dhariwal 2021); "diagonal", the log-variance itself, as in the ablation of Ho et al. 2020. `maps`:
    the network hears `noise_label_nxt`.
    """

    def __init__(
        self,
        network: nn.Module,
        schedule: Schedule,
        prediction: Head = "eps",
        *,
        noise_label: NoiseLabel | None = None,
        input_scale: InputScale = "none",
        learn_variance: LearnVariance = False,
        precision: Precision = "float32",
        maps: bool = False,
    ) -> None:
        super().__init__()
        kind("network", network, nn.Module, "a torch module", "give one")
        schedule_of(schedule)
        has_steps = getattr(schedule, "steps", None) is not None
        if not isinstance(prediction, str) or prediction not in (*PREDICTIONS, "mean"):
            raise ValueError(f"prediction: expected one of {', '.join(PREDICTIONS)}, mean, got {shown(prediction)}")
        if prediction in ("eps", "score") and schedule.logsnr_min == -torch.inf:
            raise ValueError(
                f"prediction: {prediction} says nothing about x0 at t = 1, where {type(schedule).__name__} leaves "
                f"no signal (alpha = 0); predict v, x0 or flow"
            )
        if noise_label is not None:
            choice("noise_label", noise_label, get_args(NoiseLabel))
        if not isinstance(learn_variance, bool | str) or learn_variance not in (False, True, "fraction", "diagonal"):
            raise ValueError(f"learn_variance: expected False, True, fraction or diagonal, got {shown(learn_variance)}")
        choice("input_scale", input_scale, get_args(InputScale))
        choice("precision", precision, get_args(Precision))
        if noise_label == "step" and not has_steps:
            raise ValueError(
                f"noise_label: 'step' needs a chain, and {type(schedule).__name__} has no steps; use 'time'"
            )
        self.network = network
        self.schedule = schedule
        self.prediction = prediction
        self.noise_label = noise_label or ("step" if has_steps else "time")
        self.input_scale = input_scale
        self.learn_variance = learn_variance
        self.precision = precision
        self.maps = maps
        if maps and (prediction == "mean" or learn_variance):
            raise ValueError(
                "prediction: a posterior mean and a learned variance are of one step of a chain, and a map takes any; "
                "predict v, x0, eps, score or flow, with model.variance=fixed"
            )

    def forward(
        self, x_t: Tensor, level: NoiseLevel, condition: Condition | None = None, nxt: NoiseLevel | None = None
    ) -> Estimate:
        """The estimate at x_t (b, ...), for `level` of shape () or (b,); a map's for a step that ends at `nxt`, of such
        a shape, too."""
        floats("x_t", x_t)
        if level_of("level", level).t.ndim and level.t.shape[0] not in (1, len(x_t)):
            raise ValueError(
                f"level: expected one, or {len(x_t)}, got {tuple(level.t.shape)}; give one for each of x_t"
            )
        if condition is not None:
            kind("condition", condition, Condition, "a Condition or none", "make one, as Condition(label=...)")
        scaled = x_t if self.input_scale == "none" else x_t / like(level.scale, x_t)
        heard, others = self._label(level, x_t), {} if condition is None else dict(condition.heard)
        if nxt is not None:
            if not self.maps:
                raise ValueError("nxt: this network does not hear where a step ends; train one with a map's objective")
            others["noise_label_nxt"] = self._label(level_of("nxt", nxt), x_t)
        with nullcontext() if in_forward_mode() else running(x_t.device, self.precision):
            output = self.network(scaled, heard, **others)
        output = output.to(x_t.dtype)  # which may be in half precision; the algebra is not done in it
        value, raw = output.chunk(2, dim=1) if self.learn_variance else (output, None)
        valid = None if condition is None else condition.known
        if self.prediction == "mean":
            a, b = posterior_weights(level, self.previous(level))
            estimate = Estimate("x0", (value - like(b, x_t) * x_t) / like(a, x_t), x_t, level, valid=valid)
        else:
            estimate = Estimate(self.prediction, value, x_t, level, valid=valid)
        if raw is None:
            return estimate
        if self.learn_variance == "diagonal":
            return replace(estimate, log_variance=raw)
        return replace(estimate, variance_fraction=(raw + 1) / 2)

    def previous(self, level: NoiseLevel) -> NoiseLevel:
        """The level one step of the chain before: t - 1/T, T = 1000 where the schedule is no chain."""
        return self.schedule((level.t - 1 / steps_of(self.schedule)).clamp(min=0))

    def native_weight(self, level: NoiseLevel) -> Tensor:
        """What turns the squared error of the estimate, in its kind, into that of the head's L_simple: 1, but A^2 for a
        posterior mean (which is read as x0) and sigma^2 for a score (whose raw error is unbounded in clean data)."""
        if self.prediction == "mean":
            a, _ = posterior_weights(level, self.previous(level))
            return a**2
        return level.sigma**2 if self.prediction == "score" else torch.ones_like(level.sigma)

    def _label(self, level: NoiseLevel, x_t: Tensor) -> Tensor:
        """For each row. In half precision neighbouring labels near 999 would be one number."""
        return self._heard(level).expand(len(x_t)).to(x_t.device, torch.promote_types(x_t.dtype, torch.float32))

    def _heard(self, level: NoiseLevel) -> Tensor:
        if self.noise_label == "step":
            return level.t * steps_of(self.schedule) - 1
        if self.noise_label == "time":
            return 1000 * level.t
        return heard_logsnr(level)


def unwrapped(module: nn.Module) -> Denoiser:
    """The denoiser in its wrappers: data-parallel ones keep it as `module`, a compiled one as `_orig_mod`. What is said
    of it is read from here; what is called is the wrapper. ValueError where there is none."""
    inner: object = module
    while not isinstance(inner, Denoiser):
        inside = (getattr(inner, name, None) for name in ("module", "_orig_mod"))
        inner = next((one for one in inside if isinstance(one, nn.Module)), None)
        if inner is None:
            raise ValueError(
                f"module: expected a Denoiser, wrapped for parallel or compiled use or not, got "
                f"{type(module).__name__}; make one of a network with Denoiser(network, schedule, prediction)"
            )
    return inner


def heard_logsnr(level: NoiseLevel) -> Tensor:
    """The noise label "logsnr" of a level, float64."""
    return (20 - level.logsnr.clamp(-20, 20)) * 25
