"""Training objectives: a module and a batch to a loss per example."""

from unsteep.objectives.loss import Loss, Objective, mean_over_valid
from unsteep.objectives.mse import Simple
from unsteep.objectives.times import LogitNormal, Stratified, Uniform

AnyObjective = Simple

__all__ = ["AnyObjective", "LogitNormal", "Loss", "Objective", "Simple", "Stratified", "Uniform", "mean_over_valid"]
