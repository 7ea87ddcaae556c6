"""How likely data are under a model: the variational bound, and the exact likelihood of the flow."""

from unsteep.core.gaussian import ReverseVariance
from unsteep.likelihood.bound import BoundTerms, bound, prior_term, spread, strata
from unsteep.likelihood.decoder import Decoder
from unsteep.likelihood.ode import FlowLikelihood, dequantize, flow_log_prob
from unsteep.likelihood.optimal import X0Error, measure_x0_error, probing_levels, reverse_variance
from unsteep.likelihood.rate_distortion import RateDistortion, rate_distortion

__all__ = [
    "BoundTerms",
    "Decoder",
    "FlowLikelihood",
    "RateDistortion",
    "ReverseVariance",
    "X0Error",
    "bound",
    "dequantize",
    "flow_log_prob",
    "measure_x0_error",
    "prior_term",
    "probing_levels",
    "rate_distortion",
    "reverse_variance",
    "spread",
    "strata",
]
