"""A trained model: a denoiser, the space its tensors live in, and what was measured on its data.

model = unsteep.load("runs/demo")
pictures = model.sample(16, label=4, steps=50, seed=0)      # uint8 (16, c, h, w)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal, Self

import torch
from torch import Tensor

from unsteep.core.condition import Condition
from unsteep.core.gaussian import Variance, optimal_variance
from unsteep.core.level import NoiseLevel
from unsteep.core.noise import NoiseSource
from unsteep.core.schedules import steps_of
from unsteep.denoiser import Denoise, Denoiser
from unsteep.description import Description, ModelConfig
from unsteep.guidance import Clip
from unsteep.likelihood import Bound, Decoder, X0Error, bound, spread, strata
from unsteep.sampling import DDIM, Ancestral, Solver, Spacing, Step, grid, initial_noise, trajectory
from unsteep.spaces import AnySpace
from unsteep.storage import config
from unsteep.storage.checkpoint import load_tensors, load_text, save_folder
from unsteep.storage.manifest import verify

__all__ = ["Description", "Model", "ModelConfig"]

ReverseVariance = Literal["beta", "beta_tilde", "learned", "optimal"]
_LABEL_STREAM = -2  # where a sample draws its own label; the steps of a sampler use 0, 1, 2, ...


class Model:
    """A denoiser that knows what its numbers mean.

    `statistics`: what was measured on the training data, tensors by name: "label_counts" (classes,); "x0_error" (2, n),
    log-SNRs and the mean squared error of the x0 estimates there.
    """

    def __init__(
        self, denoiser: Denoiser, description: Description, statistics: dict[str, Tensor] | None = None
    ) -> None:
        self.denoiser = denoiser.eval()
        self.description = description
        self.statistics = {} if statistics is None else statistics

    @property
    def space(self) -> AnySpace:
        """What the model's tensors mean."""
        return self.description.space

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the classes; empty for an unconditional model."""
        return self.description.names

    @property
    def default_steps(self) -> int:
        """Steps of a solver where none are asked for: 50, or the chain's where it has fewer."""
        return min(50, steps_of(self.denoiser.schedule))

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.denoiser.parameters()).device

    def to(self, device: torch.device | str) -> Self:
        """Moves the weights."""
        self.denoiser.to(device)
        return self

    def sample(
        self,
        n: int,
        *,
        label: int | str | Sequence[int | str] | None = None,
        steps: int | None = None,
        solver: Solver | None = None,
        seed: int = 0,
        grid: Spacing = "trailing",
        clip: bool = True,
        batch_size: int = 64,
        progress: bool = False,
    ) -> Tensor:
        """n samples in the data's own units: uint8 (n, c, h, w) for pictures, float32 (n, d) for vectors.

        `label`: a class by number or name, or one for each sample; None draws classes as often as the data has them.
        Sample i depends on `seed` + i alone, to rounding: neither on n nor on `batch_size`. `steps`: default
        50, or the chain's where it has fewer. `solver`: default DDIM().
        `clip` keeps estimates of x0 in the range of pictures. `progress` shows a bar.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size: expected at least 1 sample at a time, got {batch_size}")
        labels = self.labels_of(n, label, seed)
        steps = self.default_steps if steps is None else steps
        starts = range(0, n, batch_size)
        done = []
        with _bar(progress, len(starts) * steps) as advance:
            for start in starts:
                rows = slice(start, min(start + batch_size, n))
                chosen = None if labels is None else labels[rows]
                for step in self.trajectory(seed + start, rows.stop - start, chosen, steps, solver, grid, clip):
                    x = step.x
                    advance()
                done.append(self.space.decode(x))
        return torch.cat(done)

    def trajectory(
        self,
        seed: int,
        n: int,
        labels: Tensor | None = None,
        steps: int | None = None,
        solver: Solver | None = None,
        spacing: Spacing = "trailing",
        clip: bool = True,
    ) -> Iterator[Step]:
        """Every step of sampling the n seeds from `seed` on as one batch, in the model's units. `labels` (n,) int64."""
        noise = NoiseSource(_seeds(seed, n))
        levels = grid(self.denoiser.schedule, self.default_steps if steps is None else steps, spacing)
        x = initial_noise(torch.empty(n, *self.space.shape, device=self.device), levels[0], noise)
        at = self.denoiser.schedule.inverse
        denoise = self.denoise(labels, clip)
        return trajectory(denoise, x, levels, DDIM() if solver is None else self.resolved(solver), noise, at)

    def resolved(self, solver: Solver) -> Solver:
        """The solver with this model's own variance, where it is ancestral and asks for that (see `Ancestral`)."""
        if isinstance(solver, Ancestral):
            return replace(solver, variance=self.reverse_variance(solver.variance))  # type: ignore[arg-type]
        return solver

    def denoise(self, labels: Tensor | None = None, clip: bool = True) -> Denoise:
        """The denoiser with its condition bound, labels (b,) int64, and estimates kept in the range of pictures."""
        condition = None if labels is None else Condition(label=labels.to(self.device))
        denoise: Denoise = partial(self.denoiser, condition=condition)
        return denoise if not clip or self.space.bounds is None else Clip(denoise, *self.space.bounds)

    def likelihood(
        self,
        examples: Tensor,
        labels: Tensor | None = None,
        *,
        levels: NoiseLevel | None = None,
        terms: int | None = None,
        draws: int = 1,
        variance: ReverseVariance | None = None,
        decoder: Literal["pair", "ho"] = "pair",
        clip: bool = True,
        seed: int = 0,
        batch_size: int = 64,
        progress: bool = False,
    ) -> Bound:
        """The variational bound on the likelihood of examples in the data's own units, every term of it, in nats.

        `labels` (n,) for a conditional model. `levels`: default, every step of the chain. `terms`: evaluate only so
        many of the KLs for each example, one in each of as many strata of the chain; unbiased. `draws` of the noise
        to average over. `variance` of the model's steps: default "learned" where the model has it, else "beta".
        `decoder`: the variance of the last term, the pair's own or Ho's. Example i draws its noise from seed + i.
        """
        for name, number in (("terms", terms), ("draws", draws), ("batch_size", batch_size)):
            if number is not None and number < 1:
                raise ValueError(f"{name}: expected at least 1, got {number}")
        schedule = self.denoiser.schedule
        levels = grid(schedule, steps_of(schedule)) if levels is None else levels
        pairs, chosen = len(levels) - 2, self.reverse_variance(variance)
        counted = Decoder(levels=self.space.levels, variance=decoder)
        starts = range(0, len(examples), batch_size)
        done = []
        with _bar(progress, len(starts) * draws) as advance:
            for start in starts:
                rows = slice(start, start + batch_size)
                x0 = self.space.encode(examples[rows]).to(self.device)
                denoise = self.denoise(None if labels is None else labels[rows], clip)
                parts = []
                for draw in range(draws):
                    noise = NoiseSource(range(seed + start, seed + start + len(x0)), draw)
                    steps = weights = None
                    if terms is not None and terms < pairs:
                        u = noise.uniform(torch.empty(len(x0), 1, dtype=torch.float64), pairs + 1)
                        edges = strata(levels, terms)
                        steps, weights = spread(u.squeeze(1), edges), edges.diff()
                    parts.append(bound(denoise, x0, levels, counted, chosen, noise, steps, weights))
                    advance()
                done.append(Bound.of_draws(parts))
        return Bound.of_examples(done)

    def reverse_variance(self, name: ReverseVariance | None = None) -> Variance:
        """The variance of reverse steps by name; default "learned" where the model has it, else "beta"."""
        learned = self.denoiser.learn_variance
        if name is None:
            return "learned" if learned else "beta"
        if name == "learned" and not learned:
            raise ValueError(
                "variance: this model learned none, its variance is fixed; choose beta, beta_tilde or optimal"
            )
        if name != "optimal":
            return name
        if "x0_error" not in self.statistics:
            raise ValueError(
                "variance: optimal needs the error measured at the end of training, and this model has none"
            )
        return optimal_variance(X0Error(self.statistics["x0_error"]))

    def labels_of(self, n: int, label: int | str | Sequence[int | str] | None = None, seed: int = 0) -> Tensor | None:
        """The class of each of n samples, int64 (n,), or None for an unconditional model (see `sample`)."""
        seeds = _seeds(seed, n)
        if not self.names:
            if label is not None:
                raise ValueError("label: this model was trained without labels; train with condition.label=true")
            return None
        if label is None:
            counts = self.statistics.get("label_counts", torch.ones(len(self.names))).double()
            u = NoiseSource(seeds, _LABEL_STREAM).uniform(torch.empty(n, 1, dtype=torch.float64), 0).squeeze(1)
            shares = (counts / counts.sum()).cumsum(0)
            return torch.searchsorted(shares, u.contiguous()).clamp(max=len(counts) - 1)
        if isinstance(label, int | str):
            return torch.full((n,), self._label(label))
        if len(label) != n:
            raise ValueError(f"label: expected one label or {n}, one for each sample; got {len(label)}")
        return torch.tensor([self._label(one) for one in label])

    def _label(self, label: int | str) -> int:
        if label in self.names:  # a name first: a model of the digit "4" alone has it as class 0
            return self.names.index(str(label))
        if str(label).isdigit() and int(label) < len(self.names):
            return int(label)
        known = ", ".join(f"{i} ({name})" if str(i) != name else name for i, name in enumerate(self.names))
        raise ValueError(f"label: {label!r} is not a class of this model; its classes are {known}")

    def save(self, path: str | Path) -> None:
        """Writes the model as a folder of safetensors, its description, and a manifest; atomically.

        A saved model that is there is replaced; ValueError for anything else that is.
        """
        path = Path(path)
        if path.exists() and not (path / "model.toml").exists():
            raise ValueError(f"{path} exists and is not a saved model; choose another path")
        save_folder(
            path,
            tensors={"weights": self.denoiser.state_dict(), "statistics": self.statistics},
            texts={"model.toml": config.dumps(self.description.filled())},
        )

    @classmethod
    def open(cls, path: str | Path, weights: str | None = None, device: torch.device | str = "cpu") -> Model:
        """Reads a folder written by `save` or a checkpoint of a run, after verifying it against its manifest.

        `weights`: "ema" or "weights"; default: the averaged ones where there are any.
        """
        folder = Path(path)
        verify(folder)
        description = config.loads(Description, load_text(folder, "model.toml"))
        name = weights or ("ema" if (folder / "ema.safetensors").exists() else "weights")
        denoiser = description.build()
        denoiser.load_state_dict(load_tensors(folder, name))
        return cls(denoiser, description, load_tensors(folder, "statistics")).to(device)


def _seeds(first: int, n: int) -> range:
    """The seeds of n samples."""
    if n < 1:
        raise ValueError(f"n: expected at least 1 sample, got {n}")
    if not -(2**63) <= first <= 2**63 - n:
        raise ValueError(f"seed: expected a whole number of 64 bits, got {first}; take a smaller one")
    return range(first, first + n)


class _bar:
    """A progress bar on stderr if that is a terminal: `with _bar(shown, total) as advance: advance()`."""

    def __init__(self, shown: bool, total: int) -> None:
        from rich.console import Console
        from rich.progress import Progress

        console = Console(stderr=True)
        self._progress = Progress(console=console, transient=True, disable=not (shown and console.is_terminal))
        self._task = self._progress.add_task("sampling", total=total)

    def __enter__(self) -> partial[None]:
        self._progress.start()
        return partial(self._progress.advance, self._task)

    def __exit__(self, *_: object) -> None:
        self._progress.stop()
