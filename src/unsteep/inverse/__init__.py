"""Pictures from parts of them: filling in, redrawing, and posterior sampling for linear measurements."""

from unsteep.inverse.operators import BlockMean, Blur, LinearOperator, Mask
from unsteep.inverse.posterior import DPS, Kept, PiGDM
from unsteep.inverse.redraw import redraw
from unsteep.inverse.repaint import fill

__all__ = ["DPS", "BlockMean", "Blur", "Kept", "LinearOperator", "Mask", "PiGDM", "fill", "redraw"]
