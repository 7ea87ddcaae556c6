"""Pictures, animations, plots and pages, from arrays and numbers alone.

Nothing here knows a model: pictures come in as `uint8 (n, c, h, w)`, curves as sequences of numbers.
Every file is written beside its final name and renamed, so a reader never meets half of one.
Matplotlib is imported when something is plotted or labelled, not before.
"""

from unsteep.pages.animation import gif
from unsteep.pages.html import Page
from unsteep.pages.pictures import grid, save, strip
from unsteep.pages.plots import lines, loss_curve, schedule_plot

__all__ = ["Page", "gif", "grid", "lines", "loss_curve", "save", "schedule_plot", "strip"]
