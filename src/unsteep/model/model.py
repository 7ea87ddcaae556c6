"""A trained model: a denoiser, the space its tensors live in, and what was measured on its data.

model = unsteep.load("runs/demo")
pictures = model.sample(16, label=4, steps=50, seed=0)      # uint8 (16, c, h, w)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import torch
from torch import Tensor

from unsteep.core.condition import Condition
from unsteep.core.gaussian import Variance
from unsteep.core.level import NoiseLevel
from unsteep.core.noise import NoiseSource
from unsteep.core.schedules import steps_of
from unsteep.denoiser import Denoise, Denoiser
from unsteep.guidance import Clip
from unsteep.guidance.setting import Guidance, as_condition, guidance_of
from unsteep.likelihood import BoundTerms, Decoder, ReverseVariance, bound, reverse_variance, spread, strata
from unsteep.model.asking import Labels, check_finite, condition_of, labels_of, seeds
from unsteep.model.description import Description, ModelConfig
from unsteep.pages.progress import bar
from unsteep.sampling import (
    Driver,
    Grid,
    Known,
    Solver,
    Step,
    default_solver,
    driven,
    fitted,
    frame_of,
    initial_noise,
    levels_for,
    trajectory,
)
from unsteep.sampling.grids import grid as grid_of
from unsteep.spaces import AnySpace, Pixels
from unsteep.storage import config
from unsteep.storage.checkpoint import load_tensors, load_text, save_folder
from unsteep.storage.manifest import verify

__all__ = ["Description", "Model", "ModelConfig"]


class Model:
    """A denoiser that knows what its numbers mean. `statistics`: what was measured on the training data, tensors by
    name (see `training.statistics`)."""

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
        """Steps of a solver where none are asked for: 20, or the chain's where it has fewer."""
        return min(20, steps_of(self.denoiser.schedule))

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
        label: Labels = None,
        prompt: str | Sequence[str] | None = None,
        picture: Tensor | None = None,
        augment: float = 0.0,
        condition: Condition | None = None,
        guidance: float | Guidance = 1.0,
        steps: int | None = None,
        solver: Solver | Driver | None = None,
        grid: Grid | None = None,
        seed: int = 0,
        start: Tensor | None = None,
        clip: bool | None = None,
        batch_size: int = 64,
        progress: bool = False,
    ) -> Tensor:
        """n samples in the data's own units: uint8 (n, c, h, w) for pictures, float32 (n, d) for vectors.

        `label`: a class by number or name, or one for each sample; None draws classes as often as the data has them.
        `prompt`: a text, or one for each sample, for a model that hears text; None is no text. `picture`: the aligned
        one, or one for each, uint8, noised to the time `augment` (see `asking.picture_of`). `condition`: of n rows, in
        place of all these.
        `guidance`: the scale of classifier-free guidance, 1 for none; or a `Guidance`, which says more.
        `steps`: default 20, or the chain's where it has fewer. `solver`: default, see `resolved`; a `Driver`, such as
        `Adaptive`, chooses its own steps. `grid`: the name of a spacing, tuned, times that fall to 0, or levels;
        default, the solver's own. `start` (n, ...): latents at the first level, in place of noise.
        `clip` keeps estimates of x0 in the range of pictures; default, where the head predicts eps or the score, whose
        errors grow without bound at t = 1. Sample i depends on `seed` + i alone, to rounding: neither on n nor on
        `batch_size`. `progress` shows a bar. ValueError where samples are not finite, by their seeds.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size: expected at least 1 sample at a time, got {batch_size}")
        if start is not None and start.shape != (n, *self.space.shape):
            raise ValueError(f"start: expected latents of shape {(n, *self.space.shape)}, got {tuple(start.shape)}")
        condition = condition or self.condition_of(n, label, prompt, seed, picture, augment)
        guided = guidance_of(guidance)
        done, starts = [], range(0, n, batch_size)
        lays = isinstance(solver, Driver)
        per_batch = 1 if lays else self.default_steps if steps is None else steps
        with bar(progress, len(starts) * per_batch, "sampling") as advance:
            for first in starts:
                rows = slice(first, min(first + batch_size, n))
                latents = None if start is None else start[rows]
                chosen = None if condition is None else condition[rows]
                own, count, part = seed + first, rows.stop - first, guided[rows]
                how: Any = {"guidance": part, "steps": steps, "solver": solver, "grid": grid, "clip": clip}
                for step in self.trajectory(own, count, chosen, start=latents, **how):
                    x = step.x
                    if not lays:
                        advance()
                if lays:  # nobody knows how many steps there will be
                    advance()
                check_finite(x, own)
                done.append(self.space.decode(x))
        return torch.cat(done)

    def _start(self, seed: int, n: int, first: NoiseLevel, latents: Tensor | None) -> Tensor:
        """Where sampling starts: noise of the seeds, or the latents (n, ...)."""
        x = torch.empty(n, *self.space.shape, device=self.device)
        return initial_noise(x, first, NoiseSource(seeds(seed, n))) if latents is None else latents.to(x)

    def trajectory(
        self,
        seed: int,
        n: int,
        condition: Condition | Tensor | None = None,
        steps: int | None = None,
        *,
        guidance: float | Guidance = 1.0,
        solver: Solver | Driver | None = None,
        grid: Grid | None = None,
        start: Tensor | None = None,
        clip: bool | None = None,
    ) -> Iterator[Step]:
        """Every step of sampling the n seeds from `seed` on as one batch, in the model's units. `condition`: of n rows,
        or labels (n,) int64; the rest as `sample` has it."""
        steps = self.default_steps if steps is None else steps
        denoise, noise = self.denoise(condition, clip, guidance), NoiseSource(seeds(seed, n))
        if isinstance(solver, Driver):
            schedule, driver = self.denoiser.schedule, fitted(solver, self.known(condition, guidance))
            return driven(denoise, self._start(seed, n, schedule(1.0), start), schedule, driver, noise)
        chosen = self.resolved(solver, condition, guidance, steps)
        levels = self.levels(grid, steps, chosen, guidance)
        x = self._start(seed, n, levels[0], start)
        return trajectory(denoise, x, levels, chosen, noise, self.denoiser.schedule.inverse)

    def levels(self, grid: Grid | None, steps: int, solver: Solver, guidance: float | Guidance = 1.0) -> NoiseLevel:
        """The levels of a grid, for a solver as `resolved` gives it (see `sampling.default.levels_for`)."""
        how = guidance_of(guidance)
        if grid == "tuned" and not how.simple:
            raise ValueError("grid: tuned grids are for a scale of guidance and nothing beside it; take another grid")
        return levels_for(grid, self.denoiser.schedule, steps, solver, self.statistics, how.frame_scale)

    def resolved(
        self,
        solver: Solver | None = None,
        condition: Condition | Tensor | None = None,
        guidance: float | Guidance = 1.0,
        steps: int = 50,
    ) -> Solver:
        """The solver with what this model knows and it listens to (see `sampling.known`): the variance of its reverse
        steps, the frame of its data. None: the default (see `sampling.default`)."""
        known = self.known(condition, guidance)
        if solver is None:
            pixels, scale = isinstance(self.space, Pixels), guidance_of(guidance).frame_scale
            return default_solver(known.frame, self.denoiser.schedule, steps, atoms=pixels, guidance=scale)
        return fitted(solver, known)

    def known(self, condition: Condition | Tensor | None = None, guidance: float | Guidance = 1.0) -> Known:
        """What solvers are told of this model, where so is sampled."""
        labels = getattr(as_condition(condition), "label", None)
        frame = frame_of(self.statistics, labels, guidance_of(guidance).frame_scale)
        return Known(frame=frame, variance=self.reverse_variance)

    def denoise(
        self,
        condition: Condition | Tensor | None = None,
        clip: bool | None = None,
        guidance: float | Guidance = 1.0,
    ) -> Denoise:
        """The denoiser with its condition bound, or labels (b,) int64, guided, and, if `clip`, its estimates kept in
        the range of pictures (see `sample`)."""
        how, given = guidance_of(guidance), as_condition(condition)
        if given is not None and how.asks_null and self.description.drop == 0:
            raise ValueError(
                "guidance: this model was trained with condition.drop=0, and so never learned to go without its "
                "condition; train with --set condition.drop=0.1, or guide by a classifier"
            )
        denoise = how.wrapped(self.denoiser, None if given is None else given.to(self.device))
        if self.space.bounds is None:
            return denoise
        if how.threshold is not None:
            return how.bounded(denoise, *self.space.bounds)
        clip = self.denoiser.prediction in ("eps", "score", "mean") if clip is None else clip
        return Clip(denoise, *self.space.bounds) if clip else denoise

    def likelihood(
        self,
        examples: Tensor,
        condition: Condition | Tensor | None = None,
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
    ) -> BoundTerms:
        """The variational bound on the likelihood of examples in the data's own units, every term of it, in nats.

        `condition` of n rows, or labels (n,). `levels`: default, every step of the chain. `terms`: evaluate only so
        many of the KLs for each example, one in each of as many strata of the chain; unbiased. `draws` of the noise
        to average over. `variance` of the model's steps: default "learned" where the model has it, else "beta".
        `decoder`: the variance of the last term, the pair's own or Ho's. Example i draws its noise from seed + i.
        """
        for name, number in (("terms", terms), ("draws", draws), ("batch_size", batch_size)):
            if number is not None and number < 1:
                raise ValueError(f"{name}: expected at least 1, got {number}")
        schedule = self.denoiser.schedule
        levels = grid_of(schedule, steps_of(schedule)) if levels is None else levels
        pairs, chosen = len(levels) - 2, self.reverse_variance(variance)
        counted, heard = Decoder(levels=self.space.levels, variance=decoder), as_condition(condition)
        done, starts = [], range(0, len(examples), batch_size)
        with bar(progress, len(starts) * draws, "measuring") as advance:
            for start in starts:
                rows = slice(start, start + batch_size)
                x0 = self.space.encode(examples[rows]).to(self.device)
                denoise = self.denoise(None if heard is None else heard[rows], clip)
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
                done.append(BoundTerms.of_draws(parts))
        return BoundTerms.of_examples(done)

    def reverse_variance(self, name: ReverseVariance | None = None) -> Variance:
        """The variance of reverse steps by name; default "learned" where the model has it, else "beta"."""
        return reverse_variance(name, bool(self.denoiser.learn_variance), self.statistics.get("x0_error"))

    def labels_of(self, n: int, label: Labels = None, seed: int = 0) -> Tensor | None:
        """The class of each of n samples, int64 (n,), or None for a model without classes (see `sample`)."""
        counts = self.statistics.get("label_counts", torch.ones(len(self.names)))
        return labels_of(self.names, counts, seeds(seed, n), label)

    def condition_of(
        self,
        n: int,
        label: Labels = None,
        prompt: str | Sequence[str] | None = None,
        seed: int = 0,
        picture: Tensor | None = None,
        augment: float = 0.0,
    ) -> Condition | None:
        """What n samples are asked to be, or None for an unconditional model (see `sample`)."""
        labels = self.labels_of(n, label, seed)
        return condition_of(self.description, seeds(seed, n), labels, prompt, picture, augment)

    def save(self, path: str | Path) -> None:
        """Writes the model as a folder of safetensors, its description, and a manifest; atomically. A saved model that
        is there is replaced; ValueError for anything else that is."""
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
        `weights`: "ema" or "weights"; default: the averaged ones where there are any."""
        folder = Path(path)
        verify(folder)
        description = config.loads(Description, load_text(folder, "model.toml"))
        name = weights or ("ema" if (folder / "ema.safetensors").exists() else "weights")
        denoiser = description.build()
        denoiser.load_state_dict(load_tensors(folder, name))
        return cls(denoiser, description, load_tensors(folder, "statistics")).to(device)
