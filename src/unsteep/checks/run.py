"""A run, a checkpoint or a saved model looked at: files, schedule, statistics, network. What breaks is a failing row.

Warnings are for what a person should know and may have wanted: signal that is left at t = 1, a network that has not
learned enough yet.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from unsteep.checks.mathematics import largest, worst
from unsteep.checks.rows import Check, Row, below, holds, rows_of
from unsteep.core.level import add_noise
from unsteep.core.noise import NoiseSource
from unsteep.core.schedules import finite_range, steps_of
from unsteep.model import Model
from unsteep.opening import load
from unsteep.sampling import Frame, frame_of
from unsteep.sampling.grids import SNR_OF_NOISE
from unsteep.storage.checkpoint import step_folders
from unsteep.storage.manifest import MANIFEST, Corrupt, verify
from unsteep.training.log import whole_steps
from unsteep.training.run import read_run

SAMPLES = 4


def checks(path: Path, device: str, trust: bool = False) -> list[Check]:
    """Of what lies at `path`; ValueError if that is no run and no model."""
    if not any((path / name).exists() for name in ("run.toml", "model.toml", MANIFEST)):
        what = "is neither a run nor a saved model" if path.exists() else "does not exist"
        raise ValueError(f"{path} {what}; give the folder that unsteep train wrote")
    return [
        ("run.toml", partial(_configuration, path, trust)),
        ("files", partial(_files, path)),
        ("opening the model", partial(_opened, path, device, trust)),
    ]


def _configuration(path: Path, trust: bool) -> Iterator[Row]:
    if (path / "run.toml").exists():
        read_run(path, trust)
        yield holds("run.toml", "readable", "readable", True)


def _files(path: Path) -> Iterator[Row]:
    if not (path / "run.toml").exists():
        yield _verified(path)
        return
    folders = step_folders(path / "checkpoints")
    yield holds("checkpoints", "at least one", str(len(folders)), bool(folders))
    for folder in folders:
        yield _verified(folder)
    losses = [float(record["loss"]) for record in whole_steps(path / "log.jsonl")]
    finite = sum(map(math.isfinite, losses))
    yield holds("losses in log.jsonl", "finite", f"{finite} of {len(losses)}", finite == len(losses))


def _verified(folder: Path) -> Row:
    """Whether every file has the bytes that were written."""
    try:
        verify(folder)
    except Corrupt as error:
        return holds(f"files of {folder.name}", "as written", str(error), False)
    return holds(f"files of {folder.name}", "as written", "as written", True)


def _opened(path: Path, device: str, trust: bool) -> Iterator[Row]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of damaged checkpoints, each of which has a row
        model = load(path, device=device, trust=trust)
    if (path / "run.toml").exists():
        yield from rows_of(("schedule of run.toml", partial(_same_schedule, model, path, trust)))
    for name, rows in (
        ("schedule", _schedule),
        ("statistics", _statistics),
        ("frame", _frame),
        ("error by level", _x0_error),
        ("network", _network),
        ("likelihood", _likelihood),
    ):
        yield from rows_of((name, partial(rows, model)))


def _same_schedule(model: Model, path: Path, trust: bool) -> Iterator[Row]:
    same = read_run(path, trust).schedule == model.description.schedule
    yield holds("schedule of run.toml", "the model's", "the model's" if same else "another", same)


def _schedule(model: Model) -> Iterator[Row]:
    schedule = model.denoiser.schedule
    law, error = worst(schedule)
    name = f"laws of {type(schedule).__name__}"
    yield holds(name, "< 1e-9", f"{error:.2g}" if error < 1e-9 else f"{law}: {error:.2g}", error < 1e-9)
    yield below("signal left at t = 1, SNR", SNR_OF_NOISE, math.exp(float(schedule(1.0).logsnr)), "warn")


def _statistics(model: Model) -> Iterator[Row]:
    statistics = model.statistics
    wrong = [name for name, tensor in statistics.items() if not bool(tensor.isfinite().all())]
    yield holds("statistics", "finite", ", ".join(wrong) or f"{len(statistics)} finite", not wrong)
    if model.names:
        counts = statistics.get("label_counts", torch.zeros(0))
        passed = len(counts) == len(model.names) and bool((counts >= 0).all()) and int(counts.sum()) > 0
        got = f"{len(counts)} of {int(counts.sum())}"
        yield holds("classes with a count", str(len(model.names)), got, passed)


def _frame(model: Model) -> Iterator[Row]:
    """The Gaussian that stands for the data (see `sampling.frame`)."""
    statistics, frame = model.statistics, frame_of(model.statistics)
    if frame is None:
        yield holds("frame of the data", "measured", "missing", False, "warn")
        return
    if frame.basis is not None:
        d, k = frame.basis.shape
        shapes = (tuple(frame.mean.shape), d, len(frame.std))
        fits = shapes == (model.space.shape, math.prod(model.space.shape), k + 1)
        yield holds("shapes of the frame", "fit", "fit" if fits else str(shapes), fits)
        gram = frame.basis.double().T @ frame.basis.double()
        yield below("V^T V - 1 of the directions", 1e-4, largest(gram - torch.eye(k, dtype=torch.float64)))
    yield holds("least std of the frame", "at least 0", f"{float(frame.std.min()):.3g}", bool((frame.std >= 0).all()))
    if model.space.bounds is not None:
        low, high = model.space.bounds
        got = (float(frame.mean.min()), float(frame.mean.max()))
        within = low - 1e-6 <= got[0] and got[1] <= high + 1e-6
        yield holds("mean of the data", f"in [{low:g}, {high:g}]", f"{got[0]:.2f} to {got[1]:.2f}", within)
    if "class_mean" in statistics and frame.basis is not None:  # of sequences it is a mean over frames
        counts = statistics["label_counts"].double()
        average = torch.einsum("c,c...->...", counts / counts.sum(), statistics["class_mean"].double())
        apart = float((average - statistics["mean"]).square().mean().sqrt()) / frame.spread
        yield below("mean of the classes' means, error", 0.1, apart)


def _x0_error(model: Model) -> Iterator[Row]:
    if "x0_error" not in model.statistics:
        yield holds("error of x0 by level", "measured", "missing", False, "warn")
        return
    logsnr, error = model.statistics["x0_error"]
    sound = bool((logsnr.diff() > 0).all() & (error > 0).all() & error.isfinite().all())
    yield holds("error of x0 by level", "positive", f"{len(error)} levels", sound)
    got = f"{error[0]:.1g} to {error[-1]:.1g}"
    yield holds("error of x0, noisy to clean", "falls", got, bool(error[-1] < error[0]), "warn")


def _network(model: Model) -> Iterator[Row]:
    tensors = model.denoiser.state_dict().values()
    broken = sum(not bool(tensor.isfinite().all()) for tensor in tensors)
    numbers = sum(tensor.numel() for tensor in tensors)
    yield holds("weights", "finite", f"{broken} are not" if broken else f"{numbers:,}", not broken)
    schedule, labels = model.denoiser.schedule, model.labels_of(SAMPLES)
    for name, t in (("1/T", 1 / steps_of(schedule)), ("0.5", 0.5), ("1", 1.0)):
        level = schedule(t)
        x_t = add_noise(*_pictured(model, labels), level)
        with torch.no_grad():
            value = model.denoise(labels, clip=False)(x_t, level).value
        yield _finite(f"output at t = {name}", value)
    if "mean" in model.statistics:
        level = schedule.inverse(finite_range(schedule)[0])
        x0, eps = _pictured(model, labels)
        with torch.no_grad():
            told = model.denoise(labels)(add_noise(x0, eps, level), level).x0
        mean = model.statistics["mean"].to(x0)
        share = float((told - x0).square().mean() / (mean - x0).square().mean())
        yield holds("error of x0 in noise, by the mean's", "at most 1.1", f"{share:.2f}", share <= 1.1, "warn")
    *_, last = model.trajectory(0, 2, model.labels_of(2), steps=min(3, steps_of(schedule)))
    yield _finite("2 samples of 3 steps", last.x)


def _finite(name: str, x: Tensor) -> Row:
    return holds(name, "finite", f"{float(x.square().mean().sqrt()):.3g} rms", bool(x.isfinite().all()))


def _likelihood(model: Model) -> Iterator[Row]:
    """The bound on examples of the frame's Gaussian: positive where it is minus the log of a probability."""
    labels = model.labels_of(2)
    examples = _pictured(model, labels, 2)[0].cpu()
    for _ in range(2):  # the second time on the grid of the data's values
        whole = model.space.decode(examples)
        raw = whole if isinstance(whole, Tensor) else torch.stack(list(whole))
        examples = model.space.encode(raw)
    examples = raw
    bits = float(model.likelihood(examples, labels, terms=2).bits_per_dim().mean())
    passed = math.isfinite(bits) and (bits > 0 or model.space.levels is None)
    yield holds("bits/dim of random data", "> 0" if model.space.levels else "finite", f"{bits:.2f}", passed)


def _pictured(model: Model, labels: Tensor | None, n: int = SAMPLES) -> tuple[Tensor, Tensor]:
    """(x0, eps): n draws from the Gaussian that stands for the data, of each one's class, and noise."""
    like = torch.empty(n, *model.space.shape, device=model.device)
    z, eps = (NoiseSource(range(n)).normal(like, draw) for draw in (0, 1))
    frame = frame_of(model.statistics, labels) or Frame.of(torch.zeros(()), torch.tensor([0.5]))
    none, all_of = torch.zeros(()), torch.ones(())
    return frame.restore(frame.wide(frame.std, z) * frame.project(z, none), z, all_of), eps
