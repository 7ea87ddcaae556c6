"""How likely data are under a model: the variational bound, and the exact likelihood of the flow."""

from unsteep.likelihood.bound import Bound, bound, prior_term
from unsteep.likelihood.decoder import Decoder
from unsteep.likelihood.ode import FlowLikelihood, dequantize, flow_log_prob

__all__ = ["Bound", "Decoder", "FlowLikelihood", "bound", "dequantize", "flow_log_prob", "prior_term"]
