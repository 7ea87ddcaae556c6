"""Where the bits of data go under a model: the bound of Ho et al. 2020, eq. 5, term by term, with intervals.

    bound = L_T + sum of L_{t-1} + L_0        bits per dimension; for rows of numbers, of a density in their own units

A mean over examples drawn at random, each with noise of its own, has the 95% interval mean +- 1.96 standard errors,
whatever part of the terms was evaluated: examples are independent, and the sub-sampled sum is unbiased for each.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from unsteep.core.condition import Condition
from unsteep.core.level import NoiseLevel
from unsteep.core.noise import NoiseSource
from unsteep.core.protocols import DataSet
from unsteep.core.schedules import steps_of
from unsteep.data.examples import Examples
from unsteep.evaluation.examples import examples_of, heard_of
from unsteep.likelihood import ReverseVariance, dequantize, flow_log_prob
from unsteep.metrics.interval import Interval, intervals
from unsteep.model import Model
from unsteep.model.cost import counting, weights_digest
from unsteep.pages import plots
from unsteep.pages.files import write_json
from unsteep.pages.html import Page, unbroken
from unsteep.sampling import grid

PRIOR_SHOULD_BE = 0.01  # bits/dim of L_T; more means that sampling starts where data are still visible
_FLOW_STREAM = -3  # the bound draws from streams 0, 1, ...


@dataclass(frozen=True)
class Likelihood:
    """`bound`, its parts `prior` (L_T), `kl` (the sum of L_{t-1}) and `decoder` (L_0), and `flow` (- log p of the
    probability flow, if asked for): bits per dimension.

    `t`, `step_mean`, `step_half` (k,) float64: one L_{t-1} and its interval at each of k times, noisiest first; where
    terms were sub-sampled, the mean of those in k strata of the chain, equal in log-SNR. `dimensions`: numbers in an
    example, in mean. `settings`: all that decides the numbers.
    """

    bound: Interval
    prior: Interval
    kl: Interval
    decoder: Interval
    flow: Interval | None
    t: Tensor
    step_mean: Tensor
    step_half: Tensor
    dimensions: float
    evaluations: float
    flow_evaluations: float
    settings: dict[str, object]
    each: Tensor
    """Bits per dimension of each example, (n,): two models measured alike have the same examples and noise."""

    def rows(self) -> list[tuple[str, Interval]]:
        """Names of the terms and their bits per dimension, the sum last; below it the flow's."""
        rows = [("L_T", self.prior), ("sum of L_{t-1}", self.kl), ("L_0", self.decoder), ("bound", self.bound)]
        return rows if self.flow is None else [*rows, ("flow", self.flow)]

    @property
    def nats(self) -> float:
        """What turns bits per dimension into nats per example."""
        return self.dimensions * math.log(2)

    def facts(self) -> list[tuple[str, str]]:
        """How it was measured, in words."""
        of = self.settings
        some = f"{of['terms']} of {of['pairs']} for each example, one in each stratum of log-SNR"
        share = "all" if of["terms"] is None else some
        facts = [
            ("examples", f"{of['n']} of {of['data']}" + (f", each given its {of['given']}" if of["given"] else "")),
            ("network evaluations", f"{self.evaluations:g} for each example"),
            ("steps", f"{of['steps']}"),
            ("terms L_{t-1}", f"{share}; {of['draws']} draw{'s' if of['draws'] != 1 else ''} of noise each"),
            ("variance", str(of["variance"])),
            (
                "decoder",
                f"{of['decoder']}, " + (f"{of['grey_levels']} grey levels" if of["grey_levels"] else "density"),
            ),
            ("seed", str(of["seed"])),
        ]
        if self.flow is None:
            return facts
        return [*facts, ("flow's evaluations", f"{self.flow_evaluations:g} for each example, tolerance 1e-5")]


def likelihood(
    model: Model,
    data: DataSet,
    *,
    n: int = 128,
    steps: int = 0,
    terms: int = 50,
    draws: int = 1,
    variance: ReverseVariance | None = None,
    decoder: Literal["pair", "ho"] = "pair",
    flow: bool = False,
    seed: int = 0,
    batch_size: int = 64,
    progress: bool = False,
) -> Likelihood:
    """Measures the bound on `n` random examples of `data`.

    `steps` of the trailing grid, 0: the whole chain (1000 on a schedule that is none). `terms`: evaluate so many of the
    L_{t-1} for each example, 0: all. `draws` of noise. `variance`, `decoder`: see `Model.likelihood`. `flow`: also the
    likelihood of the probability flow, of dequantized pictures. ValueError where the data are not of the model's kind;
    warns where L_T is large.
    """
    if terms < 0:
        raise ValueError(f"terms: expected a number of them, or 0 for all, got {terms}")
    levels = levels_of(model, steps)
    model.reverse_variance(variance)  # refuses what the model does not have
    examples = examples_of(model, data, n, seed)
    condition = heard_of(model, examples)
    pairs = len(levels) - 2
    columns = pairs if terms == 0 else min(terms, pairs)
    with counting(model, doing="bound", total=len(examples) * draws * (columns + 1), shown=progress) as evaluated:
        bound = model.likelihood(
            examples.x,
            condition,
            levels=levels,
            terms=columns,
            draws=draws,
            variance=variance,
            decoder=decoder,
            seed=seed,
            batch_size=batch_size,
        )
    flow_nats = None
    with counting(model, doing="flow", total=None, shown=progress and flow) as flowed:
        if flow:
            flow_nats = _flow(model, examples, condition, seed, batch_size)

    def bits(nats: Tensor) -> Interval:
        return Interval.of(bound.per_dim(nats).cpu())

    prior = bits(bound.prior)
    if prior.value > PRIOR_SHOULD_BE:
        warnings.warn(
            f"L_T is {prior.value:.3g} bits/dim, and should be below {PRIOR_SHOULD_BE}: at t = 1 data are still "
            "visible through the noise; use a schedule with more of it",
            stacklevel=2,
        )
    mean, half = intervals(_by_time(bound.per_dim(bound.kl).cpu(), columns))
    return Likelihood(
        bound=bits(bound.total()),
        prior=prior,
        kl=bits(bound.kl @ bound.weights),
        decoder=bits(bound.decoder),
        flow=None if flow_nats is None else bits(flow_nats.to(bound.prior)),
        t=_by_time(levels.t[bound.steps].expand(bound.kl.shape), columns).mean(0),
        step_mean=mean,
        step_half=half,
        dimensions=float(bound.dimensions.mean()),
        evaluations=evaluated.rows / len(examples),
        flow_evaluations=flowed.rows / len(examples),
        settings={
            "n": len(examples),
            "data": data.source,
            "given": model.description.heard,
            "data_sha256": data.digest,
            "weights_sha256": weights_digest(model),
            "steps": len(levels) - 1,
            "grid": "trailing",
            "pairs": pairs,
            "terms": None if columns == pairs else columns,
            "draws": draws,
            "variance": variance or model.reverse_variance(),
            "decoder": decoder,
            "grey_levels": model.space.levels,
            "clip": True,
            "flow": flow,
            "seed": seed,
            "version": version("unsteep"),
        },
        each=bound.per_dim(bound.total()).cpu(),
    )


def write(result: Likelihood, out: Path, name: str) -> None:
    """`likelihood.json`, `terms.png` and `likelihood.html` in `out`. `name`: the run's."""
    low, high = result.step_mean - result.step_half, result.step_mean + result.step_half
    plots.lines(
        out / "terms.png",
        {"L": (result.t, result.step_mean, low, high)},
        xlabel="$t$",
        ylabel="bits/dim",
        title="$L_{t-1}$, each step's share of the bound",
        ylog=True,
    )
    what = (
        "bound on the negative log-likelihood" if result.settings["grey_levels"] else "bound on minus the log-density"
    )
    page = Page(f"Likelihood of {name}", f"{result.bound} bits per dimension: the variational {what}.")
    page.table(
        [(term, unbroken(str(value)), unbroken(str(value * result.nats))) for term, value in result.rows()],
        ("", "bits/dim", "nats per example"),
        "Each with its 95% interval over examples.",
    )
    page.text(
        "L_T is what is still known of an example at t = 1. Each L_{t-1} is how far the model's reverse step lies from "
        "the true one. L_0 is what the last step pays to hit the exact values."
    )
    if result.flow is not None:
        page.text(
            "The flow's number is the likelihood under the deterministic equation that shares its marginals, with "
            "Hutchinson's estimate of the divergence and, for pictures, uniform noise over each grey level's bin."
        )
    of, parts = result.settings["terms"], len(result.t)
    page.section("Term by term").figure(
        out / "terms.png",
        "One L_{t-1} against its t, with the 95% interval."
        + ("" if of is None else f" Each point is the mean over one of {parts} strata of the chain, equal in log-SNR."),
    )
    page.section("How it was measured").facts(
        [
            *result.facts(),
            ("data, SHA-256", str(result.settings["data_sha256"])),
            ("weights, SHA-256", str(result.settings["weights_sha256"])),
        ]
    )
    page.write(out / "likelihood.html")
    write_json(content(result, name), out / "likelihood.json")


def content(result: Likelihood, name: str) -> dict[str, object]:
    """What the JSON file holds."""
    return {
        "run": name,
        **result.settings,
        "evaluations_per_example": result.evaluations,
        "flow_evaluations_per_example": result.flow_evaluations,
        "dimensions": result.dimensions,
        "bits_per_dim": {term: vars(value) for term, value in result.rows()},
        "nats_per_example": {term: vars(value * result.nats) for term, value in result.rows()},
        "steps_bits_per_dim": {
            "t": result.t.tolist(),
            "mean": result.step_mean.tolist(),
            "half": result.step_half.tolist(),
        },
    }


def levels_of(model: Model, steps: int) -> NoiseLevel:
    """The trailing grid of `steps` steps, 0: of the whole chain, or of 1000 where the schedule is none."""
    if steps < 0 or steps == 1:
        raise ValueError(f"steps: expected 0 for the whole chain, or at least 2, got {steps}")
    schedule = model.denoiser.schedule
    return grid(schedule, steps or steps_of(schedule))


def _flow(model: Model, examples: Examples, condition: Condition | None, seed: int, batch_size: int) -> Tensor:
    """-log p of each example in nats, float64 (n,): a density of vectors in their own units, of pictures a bound on a
    probability."""
    space, done = model.space, []
    for start in range(0, len(examples), batch_size):
        rows = slice(start, start + batch_size)
        part = examples.select(rows)
        x = space.encode(part.x, part.known).to(model.device)
        noise, volume = NoiseSource(range(seed + start, seed + start + len(x)), _FLOW_STREAM), 0.0
        if space.levels is not None:
            x, volume = dequantize(x, space.levels, noise)
        heard = None if condition is None else condition.select(rows)
        denoise = model.denoise(heard, clip=False)  # clipping would put kinks in the flow
        answer = flow_log_prob(denoise, x, model.denoiser.schedule, divergence="hutchinson", noise=noise)
        done.append(-answer.log_prob.cpu() - volume * x[0].numel())
    return torch.cat(done) + torch.as_tensor(space.log_volume(examples.known), dtype=torch.float64)


def _by_time(values: Tensor, columns: int) -> Tensor:
    """(n, draws x columns) to (n, columns), the mean over draws."""
    return values.reshape(len(values), -1, columns).mean(1)
