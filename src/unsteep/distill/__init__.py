"""Distillation: a model of many steps taught to another of few. Here, too, is the list of all objectives of a run."""

from typing import Annotated

from unsteep.core.open import Components
from unsteep.distill.progressive import Progressive
from unsteep.objectives import Bound, Hybrid, Motion, Objective, Shortcut, Simple

AnyObjective = Annotated[Objective, Components(Simple, Bound, Hybrid, Motion, Shortcut, Progressive)]

__all__ = ["AnyObjective", "Progressive"]
