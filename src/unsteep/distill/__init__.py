"""Distillation: a model of many steps taught to another of few. Here, too, is the list of all objectives of a run."""

from typing import Annotated, Any, Literal

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
Method = Literal["shortcut", "progressive", "flow-map", "consistency", "meanflow", "dmd"]
METHODS: dict[Method, Any] = {
    "shortcut": Shortcut,
    "progressive": Progressive,
    "flow-map": FlowMap,
    "consistency": Consistency,
    "meanflow": MeanFlow,
    "dmd": DistributionMatching,
}

__all__ = [
    "METHODS",
    "AnyObjective",
    "Consistency",
    "DistributionMatching",
    "FlowMap",
    "MeanFlow",
    "Method",
    "Progressive",
]
