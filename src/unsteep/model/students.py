"""What a student can be asked for: whole steps (see `core.maps`), as many as it knows, and guidance that it knows."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from unsteep.core.condition import Condition
from unsteep.guidance.setting import Guidance
from unsteep.hearing import Scale

if TYPE_CHECKING:
    from unsteep.model.sampled import Sampled


def takes_whole(solver: Any) -> bool:
    """Whether a solver takes the whole steps of a map; the default one of a map does."""
    return solver is None or bool(getattr(solver, "whole", False))


def check_map(model: Sampled, solver: Any, guided: Guidance, steps: int | None) -> None:
    """ValueError for what a map cannot be asked for; a warning where it was not trained for so many steps."""
    maps = model.description.maps
    if maps is None:
        return
    if not (takes_whole(solver) and guided.plain):
        model.description.check_plain()
    elif steps is not None and not maps.knows(steps):
        known = ", ".join(map(str, maps.grids))
        calls = "call" if maps.grids == (1,) else "calls"
        said = f"steps: this map was trained for {known} {calls}, and with {steps} it guesses; take one of these"
        warnings.warn(said, stacklevel=3)


def taught(
    model: Sampled, how: Guidance, condition: Condition | None, values: dict[str, Any]
) -> tuple[Guidance, Condition | None, dict[str, Any]]:
    """A scale of guidance as the condition that it is to a model that was taught it, which then takes no second call;
    in `condition` where that says all, else in `values`. Elsewhere all as it was. ValueError for a scale beyond."""
    hears = model.description.hearing(Scale.name)
    if hears is None or not how.simple:
        return how, condition, values
    if condition is None:
        return Guidance(), None, {**values, Scale.name: how.scale}
    scale = hears.asked(how.scale, condition.count, range(condition.count))
    return Guidance(), Condition({**condition, **scale}, nulls=condition.nulls), values
