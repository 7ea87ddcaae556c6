"""unsteep data: what lies in a folder of pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from unsteep.cli.terminal import say


def data(path: Path, /, *, out: Path | None = None, force: Annotated[bool, Parameter(negative=())] = False) -> None:
    """Look at a folder of pictures before training on it: how many, which sizes and kinds, classes, duplicates and
    near-duplicates, what is skipped and why, and what to do about it.



    Parameters
    ----------
    path
        The folder.
    out
        Where a contact sheet goes, by sub-folders: .png, .jpg or .webp; default: none is drawn.
    force
        Overwrite a file that unsteep did not write.
    """
    from rich.table import Table
    from rich.text import Text

    from unsteep.cli.terminal import Terminal
    from unsteep.data.survey import sheet, survey
    from unsteep.pages import pictures
    from unsteep.pages.files import by_suffix
    from unsteep.pages.ours import check_file

    if out is not None:
        by_suffix(out, pictures.FORMATS, "a picture")
        if out.exists() and out.resolve().is_relative_to(path.resolve()):
            raise ValueError(f"--out {out}: it is one of the files that are looked at; choose another name")
        check_file(out, force=force)
    found = survey(path)
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="cyan", no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in found.rows:
        table.add_row(name, Text(text))
    for i, text in enumerate(found.advice):
        table.add_row("" if i else "advice", Text(text))
    Terminal().print(table, highlight=False)
    if out is not None:
        shown = sheet(found)
        folders = [file.split("/")[0] if "/" in file else "" for file in shown.files]
        tiles = shown.x.numpy()
        pictures.save(pictures.named(tiles, folders) if len(set(folders)) > 1 else pictures.grid(tiles), out)
        say(f"\nlook at  {out}")
