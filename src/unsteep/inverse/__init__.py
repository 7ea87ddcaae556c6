"""Pictures from parts of them: filling in, redrawing, and posterior sampling for linear measurements."""

from unsteep.inverse.operators import Blur, Downsample, LinearOperator, Mask
from unsteep.inverse.posterior import DPS, Kept, PiGDM
from unsteep.inverse.redraw import redraw
from unsteep.inverse.repaint import fill

__all__ = ["DPS", "Blur", "Downsample", "Kept", "LinearOperator", "Mask", "PiGDM", "fill", "redraw"]
