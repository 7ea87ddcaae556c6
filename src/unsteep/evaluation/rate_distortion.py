"""Progressive coding and generation as pictures (Ho et al. 2020, section 4.3, figures 5 to 7 and table 4).

How good the estimate of x0 is after so many bits; what such estimates look like; and how much samples that share x_t
have in common: the later they part, the more.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor

from unsteep.core.level import NoiseLevel, add_noise
from unsteep.core.noise import NoiseSource
from unsteep.core.protocols import DataSet
from unsteep.core.schedules import steps_of
from unsteep.data.examples import Examples
from unsteep.evaluation.examples import examples_of, heard_of
from unsteep.evaluation.likelihood import levels_of
from unsteep.likelihood import RateDistortion, ReverseVariance, rate_distortion
from unsteep.metrics.interval import Interval
from unsteep.model import Model
from unsteep.model.cost import counting, weights_digest
from unsteep.pages import pictures, plots
from unsteep.pages.files import write_json
from unsteep.pages.html import Page
from unsteep.sampling import Ancestral, grid, initial_noise, sample, trajectory

ROWS = 10  # of the table, and columns of the reconstructions
SHOWN = 6  # pictures that are reconstructed
SHARED_AT = (1.0, 0.75, 0.5, 0.25, 0.1)
SHARED_STEPS = 100
GREY = 127.5  # from a difference in [-1, 1] to one in 0..255


@dataclass(frozen=True)
class RateDistortionCurve:
    """The curve, and what it was measured on. `curve.distortion` is in the model's units; `rmse` on 0..255. `lossless`:
    L_0, the bits per dimension that are still missing at the end. `settings`: all that decides the numbers."""

    curve: RateDistortion
    lossless: Interval
    levels: NoiseLevel
    examples: Examples
    settings: dict[str, object]

    @property
    def rmse(self) -> Tensor:
        """Root mean squared error of the estimates of x0 in grey values of 0..255, (k,)."""
        return self.curve.distortion * GREY

    def chosen(self) -> list[int]:
        """About ten places on the curve, evenly spaced, the last one included."""
        k = len(self.curve.t)
        return sorted({math.ceil(k * i / ROWS) - 1 for i in range(1, ROWS + 1)})

    def rows(self) -> list[tuple[int, float, float]]:
        """(reverse step, rate in bits per dimension, RMSE on 0..255), as in the paper's table 4."""
        return [(i + 1, float(self.curve.rate[i]), float(self.rmse[i])) for i in reversed(self.chosen())]


def measure(
    model: Model,
    data: DataSet,
    *,
    n: int = 16,
    steps: int = 0,
    variance: ReverseVariance | None = None,
    seed: int = 0,
    batch_size: int = 64,
    progress: bool = False,
) -> RateDistortionCurve:
    """Rate and distortion over `n` random examples of `data`, on every step of the grid.

    `steps`, `variance`: as of `studies.likelihood.likelihood`. ValueError where model or data are no pictures, or the
    data not of the model's kind.
    """
    if len(model.space.shape) != 3 or model.space.levels is None:
        raise ValueError(
            f"rate-distortion is of pictures of whole numbers, and this model makes {model.space.describe()}; "
            "unsteep likelihood measures those"
        )
    levels = levels_of(model, steps)
    model.reverse_variance(variance)
    examples = examples_of(model, data, n, seed)
    with counting(model, doing="rate and distortion", total=len(examples) * (len(levels) - 1), shown=progress):
        bound = model.likelihood(
            examples.x, heard_of(model, examples), levels=levels, variance=variance, seed=seed, batch_size=batch_size
        )
    settings = {
        "n": len(examples),
        "data": data.source,
        "data_sha256": data.digest,
        "weights_sha256": weights_digest(model),
        "steps": len(levels) - 1,
        "grid": "trailing",
        "variance": variance or model.reverse_variance(),
        "seed": seed,
        "clip": True,
        "version": version("unsteep"),
    }
    lossless = Interval.of(bound.per_dim(bound.decoder).cpu())
    return RateDistortionCurve(rate_distortion(bound, levels), lossless, levels, examples, settings)


def reconstructions(model: Model, study: RateDistortionCurve) -> Tensor:
    """Estimates of x0 from x_t of the first examples, ever less noisy, and last the originals: uint8 (rows, n, ...)."""
    few = study.examples.select(slice(SHOWN))
    x0 = model.space.encode(few.x).to(model.device)
    eps = NoiseSource(range(len(x0))).normal(x0, draw=0)
    denoise = model.denoise(heard_of(model, few))
    columns = []
    for i in study.chosen():
        level = study.levels[i]
        with torch.no_grad():
            columns.append(model.space.decode(denoise(add_noise(x0, eps, level), level).x0))
    return torch.stack([*columns, few.x], 1)


@dataclass(frozen=True)
class Shared:
    """Samples that share x_t at the times `t`: uint8 (starts, times, 2 + samples, c, h, w), of which the first is x_t
    and the second the estimate of x0 there. Start k is the sampler's of seed `seed` + k."""

    t: list[float]
    rows: Tensor
    seed: int


def shared_latents(
    model: Model,
    *,
    seed: int = 0,
    starts: int = 3,
    samples: int = 6,
    steps: int = SHARED_STEPS,
    variance: ReverseVariance | None = None,
    progress: bool = False,
) -> Shared:
    """Ancestral samples that part at ever lower t from the way of each of `starts` seeds (the paper's figure 7)."""
    schedule = model.denoiser.schedule
    levels = grid(schedule, min(steps, steps_of(schedule)))
    solver = model.resolved(Ancestral(variance=variance))
    labels = model.labels_of(starts, None, seed)
    denoise = model.denoise(labels)
    denoise_each = model.denoise(None if labels is None else labels.repeat_interleave(samples))
    noise = NoiseSource(range(seed, seed + starts))
    later = NoiseSource(range(seed + starts, seed + starts * (samples + 1)))
    places = sorted({int((levels.t[:-1] - t).abs().argmin()) for t in SHARED_AT})
    cost = starts * (len(levels) - 2 + sum(1 + samples * (len(levels) - 1 - i) for i in places))
    with counting(model, doing="samples that share x_t", total=cost, shown=progress):
        x = initial_noise(torch.empty(starts, *model.space.shape, device=model.device), levels[0], noise)
        way = [x, *(step.x for step in trajectory(denoise, x, levels[:-1], solver, noise))]
        rows = []
        for i in places:
            with torch.no_grad():
                estimate = denoise(way[i], levels[i]).x0
            ends = sample(denoise_each, way[i].repeat_interleave(samples, 0), levels[i:], solver, later)
            row = torch.cat([torch.stack([way[i], estimate], 1), ends.unflatten(0, (starts, samples))], 1)
            rows.append(model.space.decode(row.flatten(0, 1)).unflatten(0, (starts, 2 + samples)))
    return Shared([float(levels.t[i]) for i in places], torch.stack(rows, 1), seed)


def draw(study: RateDistortionCurve, estimates: Tensor, shared: Shared, out: Path) -> None:
    """`curve.png`, `reconstructions.png` and `shared.png` in `out`."""
    steps, rate = torch.arange(1, len(study.rmse) + 1), study.curve.rate
    plots.panels(
        out / "curve.png",
        {
            "Distortion": ("reverse steps", steps, "RMSE on 0..255", study.rmse),
            "Rate": ("reverse steps", steps, "bits/dim", rate),
            "Distortion against rate": ("bits/dim", rate, "RMSE on 0..255", study.rmse),
        },
    )
    bits = [f"t = {float(study.curve.t[i]):.3g}\n{float(rate[i]):.3f} bits" for i in study.chosen()]
    pictures.save(pictures.strip(estimates.numpy(), column_labels=[*bits, "original"]), out / "reconstructions.png")
    starts, _, columns = shared.rows.shape[:3]
    times = [f"t = {t:.3g}" for t in shared.t]
    names = [
        f"seed {shared.seed + k}\n{times[0]}" if i == 0 else times[i] for k in range(starts) for i in range(len(times))
    ]
    sheet = pictures.strip(
        shared.rows.flatten(0, 1).numpy(),
        row_labels=names,
        column_labels=["x_t", "x0 estimate", *(f"sample {j + 1}" for j in range(columns - 2))],
    )
    pictures.save(sheet, out / "shared.png")


def write(study: RateDistortionCurve, estimates: Tensor, shared: Shared, out: Path, name: str) -> None:
    """`rate-distortion.json`, the pictures and `rate-distortion.html` in `out`. `estimates`: from `reconstructions`.
    `name`: the run's."""
    draw(study, estimates, shared, out)
    page = Page(
        f"Rate and distortion of {name}",
        f"{float(study.curve.rate[-1]):.3f} bits per dimension for an error of {float(study.rmse[-1]):.2f} grey "
        f"values, and {study.lossless.value:.3f} more for none.",
    )
    page.figure(
        out / "curve.png",
        "Whoever has received x_t knows x0 to within the distortion, and has paid the rate: L_T and the terms L_{t-1} "
        "down to there.",
    )
    page.table(study.rows(), ("reverse step", "rate, bits/dim", "RMSE on 0..255"))
    page.section(
        "Reconstructions",
        "The estimate of x0 from x_t at ever lower noise, and the bits per dimension received by then.",
    )
    page.figure(out / "reconstructions.png")
    page.section(
        "Samples that share x_t",
        "Each row starts from one x_t, at the left, with the network's estimate of x0 beside it; the samples differ in "
        "their later noise alone. From pure noise they share nothing but their class, where there are classes; the "
        "lower t is, the more was decided before.",
    )
    page.figure(out / "shared.png")
    page.section("How it was measured").facts(
        [(key.replace("_", " "), value) for key, value in study.settings.items() if isinstance(value, str | int)]
    )
    page.write(out / "rate-distortion.html")
    write_json(content(study, name), out / "rate-distortion.json")


def content(study: RateDistortionCurve, name: str) -> dict[str, object]:
    """What the JSON file holds."""
    return {
        "run": name,
        **study.settings,
        "lossless_bits_per_dim": vars(study.lossless),
        "reverse_steps": list(range(1, len(study.rmse) + 1)),
        "t": study.curve.t.tolist(),
        "rate_bits_per_dim": study.curve.rate.tolist(),
        "rmse_255": study.rmse.tolist(),
    }
