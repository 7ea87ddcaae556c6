"""What is asked of a model, as one object: which samples, of what, guided how, by which solver on which levels.

It is made once, and checked against the model then: what the model cannot do is refused there, and so is what would be
ignored. It moves to a device, and is cut into batches, as a whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from unsteep.core.arguments import MOST_SAMPLES, MOST_STEPS, check_valid, flag, floats, number, shown, whole
from unsteep.core.condition import LOGSNR, MASK, VALID, WEIGHT, Condition
from unsteep.core.level import NoiseLevel, on_device
from unsteep.guidance.setting import Guidance, as_condition, guidance_of
from unsteep.hearing import Label, asked
from unsteep.model.students import check_map, taught
from unsteep.sampling import SPACINGS, Driver, Grid, called, is_solver, solver_named

if TYPE_CHECKING:
    from unsteep.model.sampled import Sampled


@dataclass(frozen=True, kw_only=True, eq=False)
class Request:
    """`seeds` (n), one a sample; `condition` of n rows; `guidance`; `solver`, a driver, or None for the model's own;
    `steps`, None where the solver chooses them itself; `grid`; `clip`, None for what is usual; `start` (n, ...):
    latents at the first level in place of noise."""

    seeds: range
    condition: Condition | None = None
    guidance: Guidance
    solver: Any = None
    steps: int | None = None
    grid: Grid | None = None
    clip: bool | None = None
    start: Tensor | None = None

    @property
    def n(self) -> int:
        """How many samples."""
        return len(self.seeds)

    @cached_property
    def driven(self) -> bool:
        """Whether the solver lays its own levels as it goes."""
        return isinstance(self.solver, Driver)

    def select(self, rows: slice) -> Request:
        """Some of its samples."""
        return replace(
            self,
            seeds=self.seeds[rows],
            condition=None if self.condition is None else self.condition.select(rows),
            guidance=self.guidance.select(rows),
            start=None if self.start is None else self.start[rows],
        )

    def to(self, device: torch.device) -> Request:
        """With what has rows on a device."""
        return replace(
            self,
            condition=None if self.condition is None else self.condition.to(device),
            guidance=self.guidance.to(device),
            start=None if self.start is None else on_device(self.start, device),
        )


def request(
    model: Sampled,
    n: int,
    *,
    seed: int = 0,
    asks: Mapping[str, Any] | None = None,
    usual: bool = True,
    condition: Condition | Tensor | None = None,
    guidance: float | Guidance = 1.0,
    steps: int | None = None,
    solver: Any = None,
    grid: Grid | None = None,
    clip: bool | None = None,
    start: Tensor | None = None,
) -> Request:
    """A request of n samples, checked. `asks`: what is asked by name, as {"label": 4}; `usual`: what is not named is as
    usual, else none; `condition`, of n rows, or labels (n,), in place of all that. ValueError for what the model cannot
    do, and for what would be ignored."""
    n, drawn = whole("n", n, most=MOST_SAMPLES), seeds(seed, n)
    clip = clip if clip is None else flag("clip", clip)
    values = {name: value for name, value in (asks or {}).items() if value is not None}
    guided = _guidance(model, n, drawn, guidance_of(guidance), values)
    guided, condition, values = taught(model, guided, as_condition(condition), values)
    if condition is not None and values:
        raise ValueError(
            f"condition: it says all that is asked, and {', '.join(values)} would be ignored; give one of the two"
        )
    given = condition
    if given is not None:
        check_condition(model, given)
    without: list[str] = []
    if given is None:
        given, without = asked(model.description.hears, values, n, drawn, usual=usual)
    by = guided.opened
    if by is not None and guided.labels is None and given is not None:
        chosen_names = [model.names[i] for i in given["label"].tolist()]
        guided = replace(guided, labels=Label(names=by.names).asked(chosen_names, n, drawn)["label"])
    if given is not None and len(given) and given.count != n:
        raise ValueError(f"condition: expected {n} rows, one for each sample, got {given.count}; give as many")
    if without:
        check_null(model)
    chosen = solver_named(solver) if isinstance(solver, str) else solver
    asked_for = grid_asked(grid)
    if isinstance(asked_for, list) and start is None and asked_for and asked_for[0] < 1:
        raise ValueError(
            f"grid: it begins at t = {asked_for[0]:g}, and noise is at t = 1; begin there, or give start, latents at "
            "its first level"
        )
    check_solver(chosen, steps, asked_for)
    _check_guidance(model, guided, given, without, clip)
    taken = None if isinstance(chosen, Driver) else _steps(model, steps, asked_for)
    check_map(model, chosen, guided, taken)
    if start is not None and tuple(floats("start", start).shape) != (n, *model.space.shape):
        raise ValueError(f"start: expected latents of shape {(n, *model.space.shape)}, got {tuple(start.shape)}")
    if start is not None and not bool(start.isfinite().all()):
        raise ValueError("start: expected finite latents, got NaN or infinite ones; leave such out")
    return Request(
        seeds=drawn,
        condition=given,
        guidance=guided,
        solver=chosen,
        steps=taken,
        grid=asked_for,
        clip=clip,
        start=start,
    ).to(model.device)


def _steps(model: Sampled, steps: int | None, grid: Grid | None) -> int:
    """How many there are: what is asked for, else those of a grid of levels, else the model's own number."""
    if steps is not None or grid is None or isinstance(grid, str):
        return model.default_steps if steps is None else steps
    return len(grid) - 1


def seeds(first: int, n: int) -> range:
    """The seeds of n samples. ValueError for fewer than one, and for numbers that are not whole, or beyond 64 bits."""
    n, first = whole("n", n, most=MOST_SAMPLES), whole("seed", first)
    if n < 1:
        raise ValueError(f"n: expected at least 1 sample, got {n}")
    if not -(2**63) <= first <= 2**63 - n:
        raise ValueError(f"seed: expected a whole number of 64 bits, got {shown(first)}; take a smaller one")
    return range(first, first + n)


def check_null(model: Sampled) -> None:
    """ValueError for a model that never learned to go without its condition."""
    of = model.description
    if of.drop == 0 and of.heard:
        raise ValueError(
            f"this model was trained with condition.drop=0, and never learned to go without its {of.heard}; "
            "give it, or train with condition.drop=0.1"
        )


def _guidance(model: Sampled, n: int, drawn: range, how: Guidance, values: dict[str, Any]) -> Guidance:
    """With what it asks for by name as conditions and numbers; takes a class out of `values` that only a classifier
    knows."""
    by = how.opened
    if by is not None:
        if by.shape != model.space.shape:
            raise ValueError(
                f"classifier: it knows examples {by.shape}, the model makes {model.space.shape}; train one "
                "on the model's data"
            )
        label = how.labels
        if label is None and model.description.hearing("label") is None:
            label = values.pop("label", None)
        if label is not None:
            how = replace(how, labels=Label(names=by.names).asked(label, n, drawn)["label"])
        elif model.description.hearing("label") is None:
            how = replace(how, labels=torch.arange(n) % len(by.names))
    if how.negative is not None and not isinstance(how.negative, Condition):
        try:
            negative, _ = asked(model.description.hears, how.negative, n, drawn, usual=False)
        except ValueError as error:
            raise ValueError(f"negative {error}") from None
        if negative is None:
            raise ValueError("negative: this model hears nothing to be guided away from; leave it out")
        how = replace(how, negative=negative)
    _check_negative(model, how.negative, n)
    if how.labels is not None and how.classifier is None:
        raise ValueError("labels: they say what a classifier is asked for, and there is none; give label=")
    other = how.weaker
    if hasattr(other, "description") and (
        other.space.shape != model.space.shape or other.description.language != model.description.language
    ):
        raise ValueError(
            "weaker: expected a model of the same data and classes as the stronger one, and of the same vocabulary and "
            "kind of picture where it hears any"
        )
    return how


def _check_negative(model: Sampled, negative: Any, n: int) -> None:
    if not isinstance(negative, Condition):
        return
    try:
        check_condition(model, negative)
    except ValueError as error:
        raise ValueError(f"negative {error}") from None
    if negative.count != n:
        raise ValueError(f"negative: expected {n} rows, one for each sample, got {negative.count}; give as many")


def check_condition(model: Sampled, given: Condition) -> None:
    """ValueError for names that the model does not hear, and for labels that are none of its classes."""
    nulls = [one.null(1) for one in model.description.hears]
    known = {name for null in nulls for name in null} | {one.name for one in model.description.hears}
    for name in given:
        if all(nulls) and name not in known and name not in (VALID, WEIGHT) and not name.endswith((MASK, LOGSNR)):
            raise ValueError(
                f"condition: this model hears {', '.join(sorted(known)) or 'nothing'}, got {name}; leave it out"
            )
    for null in nulls:
        for name, none in null.items():
            value = given.get(name)
            if value is not None and name not in (VALID, WEIGHT) and value.ndim != none.ndim:
                raise ValueError(
                    f"condition: expected {name} of {none.ndim} axes, (n, ...) as its null {tuple(none.shape)}, got "
                    f"{shown(value)}; reshape it"
                )
    valid = given.get(VALID)
    if valid is not None and len(model.space.shape) == 2:
        check_valid(f"condition: {VALID}", valid, (given.count, model.space.shape[0]))
    label = given.get("label")
    if label is None or not model.names:
        return
    if label.dtype != torch.int64 or label.ndim != 1:
        raise ValueError(f"condition: expected labels as int64 (n,), got {shown(label)}; convert them")
    if len(label) and not -1 <= int(label.min()) <= int(label.max()) < len(model.names):
        raise ValueError(
            f"condition: expected labels from 0 to {len(model.names) - 1}, or -1 for none, got {int(label.min())} to "
            f"{int(label.max())}; give classes of this model"
        )


def check_solver(solver: Any, steps: int | None, grid: Grid | None) -> None:
    """ValueError for what is no solver, no number of steps, and for what a driver would ignore."""
    if not (solver is None or is_solver(solver) or (isinstance(solver, Driver) and not isinstance(solver, type))):
        raise ValueError(
            f"solver: expected a solver, or its name as ddim, got {shown(solver)}; see unsteep.sampling.SOLVERS"
        )
    if steps is not None:
        whole("steps", steps, 1, MOST_STEPS)
    if steps is not None and grid is not None and not isinstance(grid, str):
        own = len(grid) - 1
        if steps != own and not (solver is None and steps == own - 1):  # the default solver's free start makes no call
            raise ValueError(f"steps: the grid has {own} of its own, got {steps}; leave one of the two out")
    if isinstance(solver, Driver):
        for name, value in (("steps", steps), ("grid", grid)):
            if value is not None:
                raise ValueError(f"{name}: {called(solver)} chooses its own steps; leave it out")


def _check_guidance(
    model: Sampled, how: Guidance, condition: Condition | None, without: Sequence[str], clip: bool | None
) -> None:
    """Refuses what would do nothing, or nothing that was meant."""
    of = model.description
    if how.idle:
        raise ValueError(
            f"guidance: {how.scale:g} guides nothing, {', '.join(how.idle)} would do nothing; give a scale, as 2"
        )
    if how.free and how.scale not in (0, 1) and condition is not None and len(without) == len(of.hears) > 0:
        raise ValueError(f"guidance: {how.scale:g} towards what? this model hears a {of.heard}; give one")
    if model.space.bounds is None and (how.threshold is not None or clip):
        what = "threshold" if how.threshold is not None else "clip"
        raise ValueError(f"{what}: {model.space.describe()} have no range to be kept in; leave it out")
    if how.threshold is not None and clip is not None:
        raise ValueError("clip: a threshold stands in the place of clipping; give one of the two")


def grid_asked(grid: Any) -> Any:
    """A name, levels, or times as a list. ValueError for anything else."""
    if isinstance(grid, str) and grid not in (*SPACINGS, "tuned"):
        raise ValueError(f"grid: unknown grid {grid!r}; known: {', '.join((*SPACINGS, 'tuned'))}, or falling times")
    if isinstance(grid, NoiseLevel) and (grid.t.ndim != 1 or len(grid) < 2):
        raise ValueError(f"grid: expected a row of at least two levels, got {tuple(grid.t.shape)}; make it with grid()")
    if grid is not None and not isinstance(grid, str | NoiseLevel):
        try:
            if isinstance(grid, bytes | set | Mapping) or (hasattr(grid, "__len__") and len(grid) > MOST_STEPS):
                raise TypeError
            return [float(number("grid", t, 0, 1)) for t in grid]
        except (TypeError, ValueError, OverflowError):
            raise ValueError(
                f"grid: expected a name, falling times or levels, got {shown(grid)}; give one of these"
            ) from None
    return grid
