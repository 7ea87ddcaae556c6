"""unsteep schedules: every schedule in numbers, as curves, and on a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from unsteep.cli.terminal import say


def schedules(
    *, plot: Path | None = None, image: Path | None = None, force: Annotated[bool, Parameter(negative=())] = False
) -> None:
    """List every schedule: how much signal it leaves, and where its log-SNR runs.

    Parameters
    ----------
    plot
        Draw alpha_bar, log-SNR and beta of each, and a picture noised under each, into this file.
    image
        The picture to noise; default: a flower from scikit-learn.
    force
        Overwrite a file that unsteep did not write.
    """
    from rich.table import Table

    from unsteep.cli.terminal import Terminal
    from unsteep.pages import pictures
    from unsteep.pages.files import by_suffix
    from unsteep.pages.ours import check_file
    from unsteep.studies.schedules import draw, named

    if plot is not None:
        by_suffix(plot, pictures.FORMATS, "a picture")
        check_file(plot, force=force, name="plot", reads=[image])
    table = Table(box=None, header_style="bold")
    table.add_column("schedule", no_wrap=True)
    for heading in ("alpha_bar at t=1", "log-SNR at t=1", "log-SNR at t=0.5"):
        table.add_column(heading, justify="right")
    for name, schedule in named().items():
        end, middle = schedule(1.0), schedule(0.5)
        share = float(end.alpha**2 / end.scale**2)
        table.add_row(name, f"{share:.4g}", f"{float(end.logsnr):.3f}", f"{float(middle.logsnr):.3f}")
    Terminal().print(table, highlight=False)
    if plot is not None:
        draw(plot, image)
        say(f"drawn in {plot}")
