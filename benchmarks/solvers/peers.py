"""The deterministic schedulers of diffusers, driven as its pipelines do, with one denoiser as the network of all.

A scheduler names its timesteps; the network is asked at each of them and told that timestep, whatever sigma the
scheduler holds: timestep k is step k + 1 of the chain, fractions are interpolated. Clipping and thresholding are off.
Every scheduler starts from the same x at t = 1, scaled where it works in x / alpha, so that what its first model input
shows is that x. A cell of N calls is given the largest number of inference steps that asks the network N times or less.
"""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Any

import torch
from torch import Tensor

from unsteep.core.chains import Chain, CosineBetas, LinearBetas
from unsteep.core.estimate import Prediction
from unsteep.core.level import NoiseLevel

Network = Callable[[Tensor, NoiseLevel, Prediction], Tensor]
SIGMA_DATA = 0.5  # of the EDM schedulers


@dataclass(frozen=True, eq=False)
class Peer:
    """A scheduler and its settings; `extra` goes to each step."""

    name: str
    scheduler: str
    settings: Mapping[str, Any]
    extra: Mapping[str, Any]

    @property
    def edm(self) -> bool:
        return self.scheduler.startswith("EDM")

    @property
    def prediction(self) -> Prediction:
        """v, which loses no digits at either end, even in float32. PNDM mixes outputs of several times before it turns
        them into eps, which is right for eps alone."""
        return "eps" if self.scheduler == "PNDMScheduler" else "v"

    def make(self, chain: Chain) -> Any:
        """The scheduler for `chain`."""
        import diffusers

        if self.edm:
            table = chain.levels
            common: dict[str, Any] = {
                "sigma_min": math.exp(-float(table.logsnr[1]) / 2),
                "sigma_max": math.exp(-float(table.logsnr[-1]) / 2),
                "sigma_data": SIGMA_DATA,
            }
        else:
            common = {"num_train_timesteps": chain.steps, **_betas(chain)}
            common["prediction_type"] = {"eps": "epsilon", "v": "v_prediction"}[self.prediction]
        return getattr(diffusers, self.scheduler)(**common, **self.settings)


def _betas(chain: Chain) -> dict[str, Any]:
    """By name where there is one: some schedulers go by the name."""
    if chain == LinearBetas():
        return {"beta_schedule": "linear", "beta_start": 1e-4, "beta_end": 0.02}
    if chain == CosineBetas():
        return {"beta_schedule": "squaredcos_cap_v2"}
    return {"trained_betas": chain.betas().numpy()}


def _choices(key: str, *values: Any) -> list[dict[str, Any]]:
    return [{key: value} for value in values]


def _orders(*orders: int) -> list[dict[str, Any]]:
    return _choices("solver_order", *orders)


SPACED = _choices("timestep_spacing", "trailing", "linspace", "leading")
SIGMAS: list[dict[str, Any]] = [{f"use_{kind}_sigmas": True} for kind in ("karras", "exponential")]
LU = {"use_lu_lambdas": True}
BOTH = [[*SPACED], [{}, *SIGMAS]]  # where sigmas are laid between the ends of the spacing
EITHER = [*SPACED, *SIGMAS]  # where they take its place
STOPS = {"final_sigmas_type": "sigma_min"}  # at the first noised level; the default goes to zero noise
HEUN = {"solver_order": 2, "solver_type": "heun"}
EPS = {"algorithm_type": "dpmsolver", **STOPS}  # the form in eps cannot go to zero noise

CLIPPED = {"lambda_min_clipped": -5.1}  # what diffusers' documentation tells users of the cosine chain to set

Axes = list[list[dict[str, Any]]]
CATALOGUE: list[tuple[str, dict[str, Any], Axes]] = [
    ("DDIMScheduler", {"clip_sample": False}, [SPACED]),
    ("PNDMScheduler", {"set_alpha_to_one": True}, [[{"skip_prk_steps": True}, {}], SPACED]),
    ("EulerDiscreteScheduler", {}, BOTH),
    ("HeunDiscreteScheduler", {}, BOTH),
    ("KDPM2DiscreteScheduler", {}, BOTH),
    ("LMSDiscreteScheduler", {}, [_choices("order", 3, 4), *BOTH]),
    ("DPMSolverMultistepScheduler", {}, [[*_orders(1, 2, 3), HEUN], [*EITHER, LU]]),
    ("DPMSolverMultistepScheduler", STOPS, [_orders(2, 3), [*EITHER, LU]]),
    ("DPMSolverMultistepScheduler", EPS, [_orders(2, 3), [*EITHER, LU]]),
    ("DPMSolverSinglestepScheduler", {}, [[*_orders(2, 3), HEUN], [{}, *SIGMAS]]),
    ("DPMSolverSinglestepScheduler", STOPS, [[*_orders(2, 3), HEUN], [{}, *SIGMAS]]),
    ("DPMSolverSinglestepScheduler", EPS, [[*_orders(2, 3), HEUN], [{}, *SIGMAS]]),
    ("DPMSolverMultistepScheduler", CLIPPED, [_orders(2, 3), SPACED]),
    ("DPMSolverSinglestepScheduler", CLIPPED, [[*_orders(2, 3), HEUN]]),
    ("DEISMultistepScheduler", {}, [_orders(2, 3), EITHER]),
    ("UniPCMultistepScheduler", {}, [_orders(2, 3), EITHER]),  # bh2: bh1 divides infinity by infinity at zero noise
    (
        "UniPCMultistepScheduler",
        STOPS,
        [_orders(2, 3), _choices("solver_type", "bh1", "bh2"), [{}, {"predict_x0": False}], EITHER],
    ),
    (
        "SASolverScheduler",
        {"tau_func": lambda t: 0.0},  # no noise
        [[{"predictor_order": order, "corrector_order": order} for order in (2, 3)], EITHER],
    ),
    ("EDMEulerScheduler", {}, [_choices("sigma_schedule", "karras", "exponential")]),
    (
        "EDMDPMSolverMultistepScheduler",
        {},
        [[*_orders(2, 3), HEUN], _choices("sigma_schedule", "karras", "exponential")],
    ),
]


def peers(chain: Chain) -> list[Peer]:
    """Every scheduler for a network trained on a chain that draws no noise, in every setting that moves its answer.

    Left out: those with a time of their own (IPNDM, flow matching), those for distilled networks, and beta-distributed
    sigmas, which came near the best nowhere.
    """
    found = []
    for scheduler, fixed, axes in CATALOGUE:
        if fixed is CLIPPED and chain.logsnr_min > 2 * CLIPPED["lambda_min_clipped"]:
            continue
        for chosen in product(*axes):
            settings = {**fixed, **{key: value for choice in chosen for key, value in choice.items()}}
            extra = {"order": settings.pop("order")} if "order" in settings else {}
            named = {key: value for key, value in {**extra, **settings}.items() if key not in UNSAID}
            said = ", ".join(_said(*setting) for setting in named.items())
            found.append(Peer(f"{scheduler.removesuffix('Scheduler')}({said})", scheduler, settings, extra))
    return found


SHORT = (  # those that people take, and the best of every family on the mixtures
    "DDIM(trailing)",
    "DPMSolverMultistep(order 2, karras)",
    "DPMSolverMultistep(order 2, trailing)",
    "DPMSolverMultistep(order 3, exponential)",
    "DPMSolverMultistep(dpmsolver, sigma_min, order 3, exponential)",
    "DPMSolverSinglestep(order 2, heun, exponential)",
    "DEISMultistep(order 3, exponential)",
    "DEISMultistep(order 3, trailing)",
    "UniPCMultistep(order 2, linspace)",
    "UniPCMultistep(order 3, exponential)",
    "UniPCMultistep(order 3, leading)",
    "UniPCMultistep(order 3, trailing)",
    "UniPCMultistep(sigma_min, order 3, bh2, eps, exponential)",
    "EDMDPMSolverMultistep(order 3, karras)",
    "LMSDiscrete(order 4, leading, karras)",
    "LMSDiscrete(order 4, leading, exponential)",
    "SASolver(order 3, exponential)",
)


def shortlist(chain: Chain) -> list[Peer]:
    """The peers of SHORT."""
    return [peer for peer in peers(chain) if peer.name in SHORT]


UNSAID = ("clip_sample", "set_alpha_to_one", "tau_func", "corrector_order")  # in the name of a peer


def _said(key: str, value: Any) -> str:
    if value is True:
        return key.removeprefix("use_").removesuffix("_sigmas").removesuffix("_lambdas")
    if key == "lambda_min_clipped":
        return "clipped"
    if key.endswith("order"):
        return f"order {value}"
    return "eps" if key == "predict_x0" else str(value)


def inference_steps(scheduler: Any, calls: int) -> int | None:
    """Sets the largest number of inference steps that costs at most `calls` calls, and returns it; None if even the
    smallest costs more."""
    for steps in range(calls, 0, -1):
        try:
            scheduler.set_timesteps(steps)
        except (ValueError, IndexError):  # too few steps for the method
            continue
        if len(scheduler.timesteps) <= calls:
            return steps
    return None


def run(peer: Peer, chain: Chain, network: Network, x: Tensor, calls: int) -> Tensor | None:
    """Where `peer` takes x (b, ...) from t = 1 in at most `calls` calls of network(x, level, kind); None if its first
    steps need more."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scheduler = copy.deepcopy(_made(peer, chain))
        if inference_steps(scheduler, calls) is None:
            return None
        if hasattr(scheduler, "set_begin_index"):
            scheduler.set_begin_index(0)  # else equal timesteps of its own making let some lose count
        with torch.no_grad():
            return (_edm if peer.edm else _drive)(peer, scheduler, chain, network, x)


@cache
def _made(peer: Peer, chain: Chain) -> Any:
    """Some schedulers take half a second to make."""
    from diffusers.utils import logging

    logging.set_verbosity_error()
    return peer.make(chain)


def _drive(peer: Peer, scheduler: Any, chain: Chain, network: Network, x: Tensor) -> Tensor:
    between = chain.interpolated()
    first = scheduler.scale_model_input(torch.ones(1, 1, dtype=x.dtype), scheduler.timesteps[0])
    x = x / float(first)
    for timestep in scheduler.timesteps:
        level = between((float(timestep) + 1) / chain.steps)
        said = network(scheduler.scale_model_input(x, timestep), level, peer.prediction)
        x = scheduler.step(said, timestep, x, **peer.extra).prev_sample
    return x


def _edm(peer: Peer, scheduler: Any, chain: Chain, network: Network, x: Tensor) -> Tensor:
    """In x / alpha, with EDM's preconditioning undone: the network's F = (x0 - c_skip x) / c_out."""
    between = chain.interpolated()
    x = x * math.hypot(1, scheduler.config.sigma_max)
    for sigma, timestep in zip(scheduler.sigmas.tolist(), scheduler.timesteps, strict=False):
        level = between.inverse(-2 * math.log(sigma))
        scaled = x / math.hypot(1, sigma)
        x0 = float(level.alpha) * scaled - float(level.sigma) * network(scaled, level, "v")
        scale = math.hypot(sigma, SIGMA_DATA)
        scheduler.scale_model_input(x, timestep)  # it insists
        said = (x0 - (SIGMA_DATA / scale) ** 2 * x) * scale / (sigma * SIGMA_DATA)
        x = scheduler.step(said, timestep, x).prev_sample
    return x
