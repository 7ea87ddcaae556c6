"""The pictures and the page that show what a run has become."""

from __future__ import annotations

import textwrap
from pathlib import Path

import torch

from unsteep.core.condition import Condition
from unsteep.core.level import NoiseLevel, add_noise, like
from unsteep.core.noise import NoiseSource, permutation
from unsteep.core.schedules import Schedule, levels_of
from unsteep.data import DataSet
from unsteep.model import Model
from unsteep.pages import animation, pictures, plots
from unsteep.pages.html import Page
from unsteep.sampling import Ancestral, Step
from unsteep.spaces import Pixels
from unsteep.training.conditions import Conditions
from unsteep.training.log import read_log

COLUMNS = 8
STAGES = 10  # pictures along the forward and the reverse process
STEPS = 50  # of a sampler, where the chain has as many


def preview(model: Model, path: Path, data: DataSet) -> None:
    """A grid of samples from fixed seeds, so that successive previews show the same samples getting better."""
    if isinstance(model.space, Pixels):
        samples_sheet(model, path, data, rows=4)
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        _scatter(model, path)


def samples_sheet(model: Model, path: Path, data: DataSet, rows: int = 8) -> None:
    """Samples as a grid; one row for each caption or aligned picture, of some examples, or for each class (of the first
    twenty), where the model hears any. An aligned picture and the example's own stand first in their row."""
    if model.description.hears_text or model.description.picture:
        _sheet_of_examples(model, path, data, rows)
        return
    names = model.names[:20]
    n = COLUMNS * (len(names) or rows)
    labels = [i for i in range(len(names)) for _ in range(COLUMNS)] or None
    samples = model.sample(n, label=labels, steps=_steps(model))
    pictures.save(pictures.grid(samples.numpy(), COLUMNS, row_labels=names or None), path)


def _sheet_of_examples(model: Model, path: Path, data: DataSet, rows: int) -> None:
    shown = _examples(data, rows)
    conditions, n = Conditions(model.description, shown), len(shown)
    labels = [textwrap.fill(caption, 24) for caption in shown.captions] or None
    beside = COLUMNS - 2 if conditions.aligned else COLUMNS
    condition = conditions(torch.arange(n).repeat_interleave(beside))
    samples = model.sample(n * beside, condition=condition, steps=_steps(model))
    sheet, titles = samples.unflatten(0, (n, beside)), None
    if conditions.aligned:
        given = conditions.aligned_of(torch.arange(n)).expand(-1, samples.shape[1], -1, -1)
        sheet = torch.cat([given[:, None], shown.x[:, None], sheet], 1)
        titles = ["given", "picture", *(f"sample {i + 1}" for i in range(beside))]
    pictures.save(pictures.strip(sheet.numpy(), row_labels=labels, column_labels=titles), path)


def _examples(data: DataSet, n: int) -> DataSet:
    """n examples, or fewer, no two with the same caption."""
    chosen: dict[str, int] = {}
    for i in permutation(len(data), seed=0, epoch=0).tolist():
        chosen.setdefault(data.captions[i] if data.captions else str(i), i)
    return data.select(list(chosen.values())[:n])


def _conditions(model: Model, data: DataSet, n: int) -> Condition | None:
    """What n samples are asked to be: a class each, or what n examples are, or None for an unconditional model."""
    if model.description.hears_text or model.description.picture:
        shown = _examples(data, n)
        return Conditions(model.description, shown)(torch.arange(n) % len(shown))
    return Condition(label=torch.arange(n) % len(model.names)) if model.names else None


def forward_strip(model: Model, data: DataSet, path: Path) -> None:
    """Real pictures at ever higher noise levels: x_t of a fixed eps at t = 0, 1/9, ..., 1."""
    x0 = model.space.encode(data.x[:2])
    eps = NoiseSource(range(2)).normal(x0, draw=0)
    levels = _evenly(model.denoiser.schedule, STAGES)
    rows = torch.stack([model.space.decode(shown(add_noise(x0, eps, level), level)) for level in levels], 1)
    pictures.save(pictures.strip(rows.numpy(), column_labels=[f"t = {float(level.t):.2g}" for level in levels]), path)


def reverse_pictures(model: Model, movie: Path, strip: Path, data: DataSet) -> None:
    """The reverse process of a few samples: x_t as an animation, and the estimates of x0 as a strip."""
    n = 16 if not model.names else min(len(model.names), 20)
    steps = list(model.trajectory(0, n, _conditions(model, data, n), steps=_steps(model), solver=Ancestral()))
    film(model, steps, movie)
    chosen = [steps[round(i)] for i in torch.linspace(0, len(steps) - 1, STAGES).tolist()]
    rows = torch.stack([model.space.decode(step.estimate.x0[:4]) for step in chosen], 1)
    times = [f"t = {float(step.estimate.level.t):.2g}" for step in chosen]
    pictures.save(pictures.strip(rows.numpy(), column_labels=times), strip)


def shown(x_t: torch.Tensor, level: NoiseLevel) -> torch.Tensor:
    """x_t, brought back to unit scale where the variance explodes: it would be cut at black and white."""
    return x_t / like(level.scale.clamp(min=1), x_t)


def film(model: Model, steps: list[Step], path: Path) -> None:
    """The x of every step, from noise to sample, as an animation."""
    frames = torch.stack([model.space.decode(shown(step.x, step.level)) for step in steps])
    animation.gif(frames.numpy(), path, captions=[f"t = {float(step.level.t):.2f}" for step in steps])


def report(model: Model, out: Path, data: DataSet, configuration: str, speed: float | None) -> None:
    """Draws everything into the run's folder and writes `report.html`, which holds it all. `speed`: images/s."""
    log = read_log(out / "log.jsonl")
    steps, losses = [r["step"] for r in log], [r["loss"] for r in log]
    rates = [r["learning_rate"] for r in log]
    plots.loss_curve(out / "loss.png", steps, losses, learning_rate=rates)
    plots.schedule_plot(out / "schedule.png", {"schedule": curves(model.denoiser.schedule)}, title="Noise schedule")
    final = sum(losses[-100:]) / len(losses[-100:])
    parameters = sum(p.numel() for p in model.denoiser.parameters())
    page = Page(f"Run {out.name}", f"{parameters:,} parameters, {log[-1]['step']:,} steps")
    if isinstance(model.space, Pixels):
        samples_sheet(model, out / "samples.png", data)
        forward_strip(model, data, out / "forward.png")
        reverse_pictures(model, out / "reverse.gif", out / "estimates.png", data)
        taken, rows = _steps(model), ", one row a class" if model.names else ""
        if model.description.picture:
            rows = ", one row a training picture: what is given, the picture itself, and samples"
        elif model.description.hears_text:
            rows = ", one row a caption of the training data"
        page.section("Samples").figure(out / "samples.png", f"{taken} steps, seeds from 0, averaged weights{rows}.")
        page.section("Forward process", "Training pictures and the same noise, more and more of it.")
        page.figure(out / "forward.png")
        page.section("Reverse process", f"From noise to pictures in {taken} ancestral steps.")
        page.figure(out / "reverse.gif")
        page.figure(out / "estimates.png", "The network's estimate of x0 on the way: structure first, detail later.")
    else:
        _scatter(model, out / "samples.png", data)
        page.section("Samples").figure(out / "samples.png", "The first two features of data and samples.")
    page.section("Training").figure(out / "loss.png")
    page.facts(
        [
            ("loss, mean of the last 100 steps", f"{final:.4f}"),
            *([] if speed is None else [("speed", f"{speed:.0f} images/s")]),
            *data.summary(),
        ]
    )
    page.section("Schedule").figure(out / "schedule.png")
    page.section("Configuration").code(configuration)
    page.write(out / "report.html")


def curves(schedule: Schedule) -> dict[str, object]:
    """alpha_bar, log-SNR and, on a chain, beta against t: what a plot of a schedule needs."""
    total = getattr(schedule, "steps", None)
    levels = schedule(torch.linspace(0, 1, (total or 1000) + 1, dtype=torch.float64))
    beta = None
    if total is not None:
        beta = torch.cat([torch.full((1,), torch.nan), -torch.expm1(2 * (levels.alpha[1:] / levels.alpha[:-1]).log())])
    scaled = levels.alpha**2 / levels.scale**2
    return {
        "t": levels.t.numpy(),
        "alpha_bar": scaled.numpy(),
        "logsnr": levels.logsnr.numpy(),
        "beta": None if beta is None else beta.numpy(),
    }


def _steps(model: Model) -> int:
    whole = levels_of(model.denoiser.schedule)
    return STEPS if whole is None else min(STEPS, whole)


def _evenly(schedule: Schedule, n: int) -> list[NoiseLevel]:
    levels = schedule(torch.linspace(0, 1, n, dtype=torch.float64))
    return [levels[i] for i in range(n)]


def _scatter(model: Model, path: Path, data: DataSet | None = None) -> None:
    samples = model.sample(1000, steps=_steps(model), batch_size=1000)
    clouds = {} if data is None else {"data": data.x[:1000].numpy()}
    plots.scatter(path, {**clouds, "samples": samples.numpy()})
