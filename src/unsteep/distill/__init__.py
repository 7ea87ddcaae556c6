"""Distillation: a model of many steps taught to another of few. Here, too, is the list of all objectives of a run."""

from typing import Annotated

from unsteep.core.open import Components
from unsteep.distill.consistency import Consistency
from unsteep.distill.flow_map import FlowMap
from unsteep.distill.matching import DistributionMatching
from unsteep.distill.mean_flow import MeanFlow
from unsteep.distill.progressive import Progressive
from unsteep.objectives import Bound, Hybrid, Motion, Objective, Shortcut, Simple

AnyObjective = Annotated[
    Objective,
    Components(
        Simple, Bound, Hybrid, Motion, Shortcut, Progressive, FlowMap, Consistency, MeanFlow, DistributionMatching
    ),
]

__all__ = ["AnyObjective", "Consistency", "DistributionMatching", "FlowMap", "MeanFlow", "Progressive"]
