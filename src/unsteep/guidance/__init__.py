"""Guidance: each wraps a denoiser into another, so that a solver never knows that it is guided.

Network evaluations of a sample at one level, of which a solver of first order makes one a step:

    ClassifierFree       2; 1 at scale 1 (conditional) and at scale 0 (unconditional, or the negative one)
    Composed             k + 1 for k conditions; k where the weights add up to 1; none for a weight of 0
    Auto                 1 and 1 of the weaker model; one of them alone at scale 1 and 0
    ClassifierGuidance   1 and, unless the scale is 0, one of the classifier, forward and backward
    GuidanceInterval     what it guides inside the interval, 1 outside
    Rescale, Clip, DynamicThreshold     none but those of what they wrap

From the inside out: `Clip(GuidanceInterval(Rescale(ClassifierFree(denoiser, condition, 3.0)), 0.2, 0.8))`.
"""

from unsteep.guidance.auto import Auto
from unsteep.guidance.bounds import Clip, DynamicThreshold
from unsteep.guidance.branches import Conditional, Guided
from unsteep.guidance.classifier import ClassifierGuidance, LogProb
from unsteep.guidance.classifier_free import ClassifierFree, Composed
from unsteep.guidance.counted import Counted
from unsteep.guidance.interval import GuidanceInterval
from unsteep.guidance.rescale import Rescale

__all__ = [
    "Auto",
    "ClassifierFree",
    "ClassifierGuidance",
    "Clip",
    "Composed",
    "Conditional",
    "Counted",
    "DynamicThreshold",
    "GuidanceInterval",
    "Guided",
    "LogProb",
    "Rescale",
]
