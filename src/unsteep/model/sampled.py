"""How a model is sampled: a request becomes levels, a solver, a guided denoiser, and the steps that they take."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from unsteep.core.arguments import MOST_SAMPLES, MOST_STEPS, flag, whole
from unsteep.core.condition import VALID, Condition
from unsteep.core.gaussian import Variance
from unsteep.core.level import NoiseLevel
from unsteep.core.noise import NoiseSource
from unsteep.core.precision import arithmetic
from unsteep.core.schedules import steps_of
from unsteep.denoiser import Denoise, Denoiser, unwrapped
from unsteep.guidance import Clip
from unsteep.guidance.setting import Guidance, as_condition, guidance_of
from unsteep.hearing.picture import noised
from unsteep.likelihood import ReverseVariance, reverse_variance
from unsteep.model.beginning import begun
from unsteep.model.description import Description
from unsteep.model.finite import check_finite
from unsteep.model.old import counted
from unsteep.model.placed import Placed
from unsteep.model.request import Request, check_condition, check_solver, grid_asked, request
from unsteep.model.students import takes_whole
from unsteep.networks import compiling
from unsteep.networks.precision import Decision
from unsteep.pages.progress import bar
from unsteep.sampling import (
    DDIM,
    Grid,
    Known,
    Solver,
    Step,
    default_solver,
    driven,
    fitted,
    frame_of,
    levels_for,
    trajectory,
)
from unsteep.storage.schema import spelled


class Sampled(Placed):
    """`statistics`: what was measured on the training data, tensors by name (see `training.statistics`). `origin`:
    where it comes from, in words, for `repr`. `took`, `compiled`: how its network runs, in which precision, and why."""

    def __init__(
        self,
        denoiser: Denoiser,
        description: Description,
        statistics: dict[str, Tensor] | None = None,
        origin: str = "",
    ) -> None:
        self.denoiser = unwrapped(denoiser).eval()
        self.statistics = {} if statistics is None else statistics
        self.description = counted(description, self.statistics)
        self.origin = origin
        self.took = Decision(self.denoiser.precision)
        self.compiled = compiling.Taken(False)

    def __repr__(self) -> str:
        of, parameters = self.description, sum(p.numel() for p in self.denoiser.parameters())
        parts = [
            f"{spelled(type(of.model.network))}, {parameters:,} parameters",
            self.space.describe(),
            f"hears {of.heard}" if of.heard else "unconditional",
            f"on {self.device}{'' if self.precision == 'float32' else f' in {self.precision}'}",
            *([self.origin] if self.origin else []),
        ]
        return f"<Model: {'; '.join(parts)}>"

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the classes; empty for an unconditional model."""
        return self.description.names

    @property
    def default_steps(self) -> int:
        """Steps of a solver where none are asked for: 20, or the chain's where it has fewer; of a map its own."""
        maps = self.description.maps
        return min(20, steps_of(self.denoiser.schedule)) if maps is None else maps.calls

    def sample(
        self,
        n: int,
        *,
        label: Any = None,
        prompt: str | Sequence[str] | None = None,
        picture: Tensor | None = None,
        augment: float = 0.0,
        length: Any = None,
        condition: Condition | Tensor | None = None,
        guidance: float | Guidance = 1.0,
        steps: int | None = None,
        solver: Any = None,
        grid: Grid | str | None = None,
        seed: int = 0,
        start: Tensor | None = None,
        clip: bool | None = None,
        batch_size: int = 64,
        progress: bool = False,
        **others: Any,
    ) -> Any:
        """n samples in the data's own units, as the space decodes them: uint8 (n, c, h, w) for 8-bit pictures, float32
        (n, d) for vectors, a list of (frames, features) for sequences.

        `label`: a class by number or name, or one for each sample; None draws classes as often as the data has them.
        `prompt`: a text, or one for each sample, for a model that hears text; None is no text. `picture`: the aligned
        one, or one for each, noised to the time `augment` (see `hearing.picture`). `length`: frames of a sequence.
        `others`: conditions of one's own kind, by name. `condition`: of n rows, in place of all these.
        `guidance`: the scale of classifier-free guidance, 1 for none; or a `Guidance`, which says more.
        `steps`: default 20, or the chain's where it has fewer. `solver`: one, or its name, as "ddim"; default, see
        `resolved`; a driver, as `Adaptive`, chooses its own steps. `grid`: the name of a spacing, tuned, times that
        fall to 0, or levels; default, the solver's own. `start` (n, ...): latents at the first level, in place of
        noise. `clip` keeps estimates of x0 in the range of pictures; default, where the head predicts eps or the score,
        whose errors grow without bound at t = 1. Sample i depends on `seed` + i alone, to rounding: neither on n nor on
        `batch_size`. `progress` shows a bar. ValueError for what the model cannot do, for what would be ignored, and
        where samples are not finite, by their seeds.
        """
        asks = {"label": label, "prompt": prompt, "picture": noised(picture, augment), "length": length, **others}
        return self.drawn(
            request(
                self,
                n,
                seed=seed,
                asks=asks,
                condition=condition,
                guidance=guidance,
                steps=steps,
                solver=solver,
                grid=grid,  # type: ignore[arg-type]  # the request looks whether the name is one
                clip=clip,
                start=start,
            ),
            batch_size=batch_size,
            progress=progress,
        )

    def drawn(self, of: Request, *, batch_size: int = 64, progress: bool = False) -> Any:
        """The samples of a request (see `sample`)."""
        done = list(self.drawing(of, batch_size=batch_size, progress=progress))
        return torch.cat(done) if isinstance(done[0], Tensor) else [one for part in done for one in part]

    def drawing(self, of: Request, *, batch_size: int = 64, progress: bool = False) -> Iterator[Any]:
        """The samples of a request, batch after batch, for more of them than fit into memory."""
        whole("batch_size", batch_size, 1, MOST_SAMPLES)
        starts = range(0, of.n, batch_size)
        each = of.steps or 1  # a driver's are not known before it ends
        with self.fitting(), bar(progress, len(starts) * each, "sampling") as advance:
            for first in starts:
                part = of.select(slice(first, min(first + batch_size, of.n)))
                for i, step in enumerate(self.steps(part)):
                    x = step.x
                    if not of.driven and i < each:  # what follows the last call is no step
                        advance()
                if of.driven:
                    advance()
                valid = None if part.condition is None else part.condition.get(VALID)
                check_finite(x, part.seeds.start, valid)
                yield self.space.decode(x, valid)

    def steps(self, of: Request) -> Iterator[Step]:
        """Every step of a request's samples, as one batch, in the model's units."""
        denoise = self.denoise(of.condition, of.clip, of.guidance, whole=takes_whole(of.solver))
        schedule, noise = self.denoiser.schedule, NoiseSource(of.seeds)
        if of.driven:
            driver = fitted(of.solver, self.known(of.condition, of.guidance))
            yield from driven(denoise, begun(self, of, schedule(1.0)), schedule, driver, noise)
            return
        assert of.steps is not None
        solver = self.resolved(of.solver, of.condition, of.guidance, of.steps)
        levels = self.levels(of.grid, of.steps, solver, of.guidance)
        yield from trajectory(denoise, begun(self, of, levels[0]), levels, solver, noise, schedule.inverse)

    def trajectory(
        self,
        seed: int,
        n: int,
        condition: Condition | Tensor | None = None,
        steps: int | None = None,
        *,
        guidance: float | Guidance = 1.0,
        solver: Any = None,
        grid: Grid | None = None,
        start: Tensor | None = None,
        clip: bool | None = None,
    ) -> Iterator[Step]:
        """Every step of sampling the n seeds from `seed` on as one batch, in the model's units. `condition`: of n rows,
        or labels (n,) int64, None for none; the rest as `sample` has it."""
        how: Any = {"guidance": guidance, "steps": steps, "solver": solver, "grid": grid, "clip": clip, "start": start}
        given = as_condition(condition)
        if given is None:  # of nothing, as a network hears it that is told nothing
            return self.steps(replace(request(self, n, seed=seed, condition=Condition(), **how), condition=None))
        return self.steps(request(self, n, seed=seed, condition=given, **how))

    def levels(self, grid: Grid | None, steps: int, solver: Solver, guidance: float | Guidance = 1.0) -> NoiseLevel:
        """The levels of a grid, for a solver as `resolved` gives it (see `sampling.default.levels_for`)."""
        how, grid, steps = guidance_of(guidance), grid_asked(grid), whole("steps", steps, 1, MOST_STEPS)
        if isinstance(grid, str) and grid == "tuned" and not how.simple:
            raise ValueError("grid: tuned grids are for a scale of guidance and nothing beside it; take another grid")
        return levels_for(grid, self.denoiser.schedule, steps, solver, self.statistics, how.frame_scale)

    @arithmetic()
    def resolved(
        self,
        solver: Solver | None = None,
        condition: Condition | Tensor | None = None,
        guidance: float | Guidance = 1.0,
        steps: int = 50,
    ) -> Solver:
        """The solver with what this model knows and it listens to (see `sampling.known`): the variance of its reverse
        steps, the frame of its data. None: the default (see `sampling.default`)."""
        steps = whole("steps", steps, 1, MOST_STEPS)
        check_solver(solver, None, None)
        known = self.known(condition, guidance)
        if solver is None and self.description.maps is not None:
            return DDIM()
        if solver is None:
            scale = guidance_of(guidance).frame_scale
            return default_solver(known.frame, self.denoiser.schedule, steps, atoms=known.atoms, guidance=scale)
        return fitted(solver, known)

    @arithmetic()
    def known(self, condition: Condition | Tensor | None = None, guidance: float | Guidance = 1.0) -> Known:
        """What solvers are told of this model, where so is sampled."""
        given = self._given(condition)
        labels = None if given is None else given.get("label")
        return Known(
            frame=frame_of(self.statistics, labels, guidance_of(guidance).frame_scale),
            variance=self.reverse_variance,
            atoms=self.space.levels is not None,
        )

    def denoise(
        self,
        condition: Condition | Tensor | None = None,
        clip: bool | None = None,
        guidance: float | Guidance = 1.0,
        *,
        whole: bool = False,
    ) -> Denoise:
        """The denoiser with its condition bound, or labels (b,) int64, guided, and, if `clip`, its estimates kept in
        the range of pictures (see `sample`). `whole`: for whole steps, as DDIM takes them; all else asks for plain
        estimates, and is a ValueError with a map that was not trained for them."""
        if not (whole and guidance_of(guidance).plain):
            self.description.check_plain()
        how, given = guidance_of(guidance), self._given(condition)
        clip = clip if clip is None else flag("clip", clip)
        if given is not None and how.asks_null and self.description.drop == 0:
            raise ValueError(
                "guidance: this model was trained with condition.drop=0, and so never learned to go without its "
                "condition; train with condition.drop=0.1, or guide by a classifier"
            )
        denoise = how.wrapped(self.denoiser, None if given is None else given.to(self.device))
        if self.space.bounds is None:
            return denoise
        if how.threshold is not None:
            return how.bounded(denoise, *self.space.bounds)
        clip = self.denoiser.prediction in ("eps", "score", "mean") if clip is None else clip
        return Clip(denoise, *self.space.bounds) if clip else denoise

    def _given(self, condition: Condition | Tensor | None) -> Condition | None:
        """A condition that the model hears. ValueError for another."""
        given = as_condition(condition)
        if given is not None:
            check_condition(self, given)
        return given

    def encoded(self, examples: Tensor, condition: Condition | None = None) -> Tensor:
        """Examples in the model's units, on its device; `condition` says which frames of sequences are real."""
        known = None if condition is None else condition.known
        self.space.check(examples)
        return self.space.encode(examples, None if known is None else known.cpu()).to(self.device)

    def reverse_variance(self, name: ReverseVariance | None = None) -> Variance:
        """The variance of reverse steps by name; default "learned" where the model has it, else "beta"."""
        return reverse_variance(name, bool(self.denoiser.learn_variance), self.statistics.get("x0_error"))
