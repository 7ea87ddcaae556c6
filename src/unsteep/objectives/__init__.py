"""Training objectives: a module and a batch to a loss per example."""

from unsteep.objectives.bound import Bound, Hybrid
from unsteep.objectives.loss import Loss, Objective, fitted
from unsteep.objectives.motion import Motion
from unsteep.objectives.mse import Simple
from unsteep.objectives.shortcut import Shortcut
from unsteep.objectives.times import Importance, LogitNormal, Stratified, Uniform
from unsteep.objectives.weights import (
    EDM,
    P2,
    SNR,
    VLB,
    Debiased,
    MinSNR,
    Native,
    Sigmoid,
    TruncatedSNR,
    Unit,
)

__all__ = [
    "EDM",
    "P2",
    "SNR",
    "VLB",
    "Bound",
    "Debiased",
    "Hybrid",
    "Importance",
    "LogitNormal",
    "Loss",
    "MinSNR",
    "Motion",
    "Native",
    "Objective",
    "Shortcut",
    "Sigmoid",
    "Simple",
    "Stratified",
    "TruncatedSNR",
    "Uniform",
    "Unit",
    "fitted",
]
