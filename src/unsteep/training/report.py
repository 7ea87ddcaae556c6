"""The pictures that show what a denoiser has become."""

from __future__ import annotations

import math
import textwrap
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unsteep.core.condition import VALID, Condition
from unsteep.core.level import NoiseLevel, add_noise, like
from unsteep.core.noise import NoiseSource, permutation
from unsteep.core.protocols import DataSet
from unsteep.core.schedules import Schedule, levels_of
from unsteep.data.reading import some
from unsteep.hearing import condition_of
from unsteep.model import Model
from unsteep.model.beginning import beginning
from unsteep.model.request import Request, request
from unsteep.pages import animation, pictures, plots
from unsteep.pages.lettering import settable
from unsteep.sampling import Ancestral, Step
from unsteep.training.page import REAL, note, write

COLUMNS = 8
STAGES = 10  # pictures along the forward and the reverse process
STEPS = 50  # of a sampler, where the chain has as many
PREVIEW = 20  # of a preview's
FEWEST = 10  # that show anything
SHARE = 0.1  # of the work of training, at most, for the pictures at its end
CLOUD = 1000  # samples where each is a point


def preview(model: Model, path: Path, data: DataSet) -> None:
    """A sheet of samples from fixed seeds, so that successive previews show the same samples getting better; beside
    the first, one of training examples in the run's folder."""
    samples_sheet(model, path, data, rows=4, steps=PREVIEW)
    real = path.parent.parent / REAL
    if not real.exists():
        real_sheet(model, real, data)


def real_sheet(model: Model, path: Path, data: DataSet) -> None:
    """Training examples, shown as samples are, where each can be a picture and none stands beside its samples."""
    if model.description.beyond_classes or model.space.tiles(_decoded(model, data)) is None:
        return
    rows = data.rows(permutation(len(data), seed=0, epoch=0)[: 4 * COLUMNS])
    decoded = model.space.decode(model.space.encode(rows.x, rows.known), rows.known)
    pictures.save(model.space.show(decoded, columns=COLUMNS), path)


def samples_sheet(
    model: Model, path: Path, data: DataSet, rows: int = 8, *, steps: int | None = None, most: float = math.inf
) -> int:
    """Samples as the space shows them; where each can be a picture, one row for each caption or aligned picture, of
    some examples, or for each class (of the first twenty), where the model hears any. An aligned picture and the
    example's own stand first in their row. How many steps were taken: `steps`, or as many as usual, or so many that all
    need at most `most` network evaluations."""
    space, usual = model.space, STEPS if steps is None else steps
    if model.description.beyond_classes and space.tiles(_decoded(model, data)) is not None:
        taken = _afford(model, usual, most, rows * COLUMNS)
        _sheet_of_examples(model, path, data, rows, taken)
        return taken
    if space.tiles(_decoded(model, data)) is None:
        n = min(CLOUD, 1000)
        taken = _afford(model, usual, most, n)
        samples = model.sample(n, steps=taken, batch_size=n)
        pictures.save(space.show(samples, data=data.rows(torch.arange(min(n, len(data)))).x), path)
        return taken
    names = model.names[:20]
    n = COLUMNS * (len(names) or rows)
    taken = _afford(model, usual, most, n)
    labels = [i for i in range(len(names)) for _ in range(COLUMNS)] or None
    samples = model.sample(n, label=labels, steps=taken)
    pictures.save(space.show(samples, columns=COLUMNS, row_labels=settable(names) or None), path)
    return taken


def _afford(model: Model, usual: int, most: float, n: int) -> int:
    """Steps for n samples in at most `most` network evaluations: as many as usual, or the chain has, but a few at
    least; of a map its own."""
    if model.description.maps is not None:
        return model.default_steps
    return int(min(usual, levels_of(model.denoiser.schedule) or usual, max(FEWEST, most // n)))


def _decoded(model: Model, data: DataSet) -> Any:
    """One example as the model's samples are: to see whether such have tiles."""
    rows = data.rows(torch.tensor([0]))
    return model.space.decode(model.space.encode(rows.x, rows.known), rows.known)


def _sheet_of_examples(model: Model, path: Path, data: DataSet, rows: int, steps: int) -> None:
    shown, picture, space = _examples(data, rows), model.description.hearing("picture"), model.space
    n = len(shown)
    beside = COLUMNS - 2 if picture else COLUMNS
    condition = condition_of(model.description.hears, shown.rows(torch.arange(n).repeat_interleave(beside)))
    samples = model.sample(n * beside, condition=condition, steps=steps)
    tiles = space.tiles(samples)
    assert tiles is not None
    whole = shown.rows(torch.arange(n))
    labels = None if whole.caption is None else [textwrap.fill(caption, 24) for caption in whole.caption]
    sheet, titles = tiles.unflatten(0, (n, beside)), None
    if picture is not None:
        originals = space.tiles(space.decode(space.encode(whole.x, whole.known), whole.known))
        assert originals is not None
        given = picture.tiles(whole, originals.shape[1])
        sheet = torch.cat([given[:, None], originals[:, None], sheet], 1)
        titles = ["given", "picture", *(f"sample {i + 1}" for i in range(beside))]
    pictures.save(pictures.strip(sheet.numpy(), row_labels=labels, column_labels=titles), path)


def _examples(data: DataSet, n: int) -> Any:
    """n examples, or fewer, no two with the same caption."""
    chosen: dict[str, int] = {}
    for i in permutation(len(data), seed=0, epoch=0).tolist():
        caption = data.rows(torch.tensor([i])).caption
        chosen.setdefault(caption[0] if caption else str(i), i)
        if len(chosen) == n:
            break
    return some(data, torch.tensor(list(chosen.values())))


def _conditions(model: Model, data: DataSet, n: int) -> Condition | None:
    """What n samples are asked to be: what n examples are, or a class each, or None for an unconditional model."""
    if model.description.beyond_classes:
        shown = _examples(data, n)
        return condition_of(model.description.hears, shown.rows(torch.arange(n) % len(shown)))
    return model.condition_of(n, label=torch.arange(n) % len(model.names) if model.names else None)


def forward_strip(model: Model, data: DataSet, path: Path) -> None:
    """Examples at ever higher noise levels: x_t of a fixed eps at t = 0, 1/9, ..., 1."""
    rows, space = data.rows(torch.arange(min(2, len(data)))), model.space
    x0 = space.encode(rows.x, rows.known)
    eps = NoiseSource(range(len(x0))).normal(x0, draw=0)
    levels = _evenly(model.denoiser.schedule, STAGES)
    stages = [space.tiles(space.decode(shown(add_noise(x0, eps, level), level), rows.known)) for level in levels]
    sheet = torch.stack([tiles for tiles in stages if tiles is not None], 1)
    pictures.save(pictures.strip(sheet.numpy(), column_labels=[f"t = {float(level.t):.2g}" for level in levels]), path)


def reverse_pictures(model: Model, movie: Path, strip: Path, data: DataSet, most: float = math.inf) -> int:
    """The reverse process of a few samples: x_t as an animation, and the estimates of x0 as a strip. How many steps
    were taken: see `samples_sheet`."""
    n = 16 if not model.names else min(len(model.names), 20)
    condition = _conditions(model, data, n)
    taken = _afford(model, STEPS, most, n)
    solver = Ancestral() if model.description.maps is None else None
    steps = film(model, request(model, n, condition=condition, steps=taken, solver=solver), movie)
    places = {round(i): None for i in torch.linspace(0, len(steps) - 1, STAGES).tolist()}  # in order, each once
    chosen = [steps[i] for i in places]
    valid = None if condition is None or VALID not in condition else condition[VALID][:4].cpu()
    rows = [model.space.tiles(model.space.decode(step.estimate.x0[:4], valid)) for step in chosen]
    sheet = torch.stack([tiles for tiles in rows if tiles is not None], 1)
    times = [f"t = {float(step.estimate.level.t):.2g}" for step in chosen]
    pictures.save(pictures.strip(sheet.numpy(), column_labels=times), strip)
    return taken


def shown(x_t: Tensor, level: NoiseLevel) -> Tensor:
    """x_t, brought back to unit scale where the variance explodes: it would be cut at black and white."""
    return x_t / like(level.scale.clamp(min=1), x_t)


def film(model: Model, of: Request, path: Path) -> list[Step]:
    """The noise that a request's samples begin as, and the x of every step from there, as an animation; the steps.
    ValueError where samples are no pictures."""
    x, level = beginning(model, of)
    steps = list(model.steps(of))
    valid = None if of.condition is None or VALID not in of.condition else of.condition[VALID].cpu()
    way = [(x, level), *((step.x, step.level) for step in steps)]
    frames = [model.space.tiles(model.space.decode(shown(x, level), valid)) for x, level in way]
    if frames[0] is None:
        raise ValueError(f"{path}: these samples are {model.space.describe()}, not pictures, and have no animation")
    drawn = torch.stack([tiles for tiles in frames if tiles is not None])
    animation.gif(drawn.numpy(), path, captions=[f"t = {float(level.t):.2f}" for _, level in way])
    return steps


def report(model: Model, out: Path, data: DataSet, steps: int, batch: int) -> None:
    """Draws everything into the folder of a run of so many steps, and writes its page. The pictures cost at most a
    tenth of the network's work in training, but for the fewest steps that show anything."""
    _draw(model, out, data, SHARE * 3 * steps * batch)  # the gradient costs two evaluations more
    write(out, steps=steps, finished=True)


def _draw(model: Model, out: Path, data: DataSet, left: float) -> None:
    """The pictures, for about `left` network evaluations."""
    plots.schedule_plot(out / "schedule.png", {"schedule": curves(model.denoiser.schedule)}, title="Noise schedule")
    taken = samples_sheet(model, out / "samples.png", data, most=left * 2 / 3)
    real_sheet(model, out / REAL, data)
    if model.space.tiles(_decoded(model, data)) is None:
        note(out, "samples.png", "The first two features of data and samples.")
        return
    note(out, "samples.png", f"{taken} steps, seeds from 0, averaged weights{_rows_of(model)}.")
    forward_strip(model, data, out / "forward.png")
    taken = reverse_pictures(model, out / "reverse.gif", out / "estimates.png", data, most=left / 3)
    kind = "ancestral steps" if model.description.maps is None else "steps of its map"
    note(out, "reverse.gif", f"From noise to samples in {taken} {kind}.")


def _rows_of(model: Model) -> str:
    """What the rows of a sheet of samples are, in words."""
    of = model.description
    if of.hearing("picture") is not None:
        return ", one row a training picture: what is given, the picture itself, and samples"
    if of.beyond_classes:
        return ", one row a caption of the training data" if of.hearing("prompt") else ", one row a training example"
    return ", one row a class" if model.names else ""


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


def _evenly(schedule: Schedule, n: int) -> list[NoiseLevel]:
    levels = schedule(torch.linspace(0, 1, n, dtype=torch.float64))
    return [levels[i] for i in range(n)]
