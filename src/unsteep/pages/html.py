"""One self-contained HTML page: text, facts, tables, code and pictures, inlined.

A page is a single file without scripts and without a single outside reference, so it can be mailed, archived and
opened from a disk. It follows the reader's light or dark setting, fits a phone, and prints. Everything given as text
is escaped.

A picture that carries a print resolution (as the plots here do) is a drawing: shown at its physical size, scaled
smoothly. Any other raster is shown pixel for pixel, and magnified, on fine screens, with sharp edges.
"""

import base64
import io
from collections.abc import Sequence
from html import escape
from pathlib import Path

from PIL import Image

from unsteep.pages.files import PathLike, by_suffix, replacing
from unsteep.pages.ours import GENERATOR

TYPES = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".gif": "image/gif",
    ".webp": "image/webp",
    ".svg": "image/svg+xml",
}

Cell = str | int | float | None

STYLE = """
:root { color-scheme: light dark; --paper: #fbfaf7; --ink: #23221f; --soft: #6a6760; --line: #dedbd2; --panel: #f2f0ea;
  --accent: #14405f; --sans: system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "DejaVu Sans", sans-serif;
  --serif: "Iowan Old Style", Charter, "Palatino Linotype", Palatino, Georgia, "Noto Serif", "DejaVu Serif", serif;
  --mono: ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace; }
@media (prefers-color-scheme: dark) { :root { --paper: #191a1c; --ink: #e4e2dc; --soft: #a09d95; --line: #3a3b3d;
  --panel: #232426; --accent: #8fc1e3; } }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 1.0625rem/1.6 var(--serif); }
main { max-width: 50rem; margin: 0 auto; padding: 3.5rem 1.5rem 5rem; }
header { margin-bottom: 2.5rem; }
h1 { margin: 0; font-size: clamp(1.8rem, 5vw, 2.5rem); line-height: 1.15; font-weight: 600; letter-spacing: -0.015em;
  text-wrap: balance; }
.subtitle { margin: 0.7rem 0 0; color: var(--soft); font-size: 1.15rem; line-height: 1.45; text-wrap: pretty; }
h2 { margin: 3.2rem 0 0.9rem; padding-top: 1.1rem; border-top: 1px solid var(--line); font-size: 1.4rem;
  line-height: 1.25; font-weight: 600; }
p { margin: 0 0 1rem; max-width: 42rem; text-wrap: pretty; overflow-wrap: break-word; }
figure { margin: 1.8rem 0; }
figure img { display: block; max-width: 100%; height: auto; border-radius: 3px; }
img.pixels { image-rendering: pixelated; }
@media (max-width: 50rem) and (max-resolution: 1.4dppx) { img.pixels { image-rendering: auto; } } /* shrunk */
img.drawing { background: #fff; }
figcaption, caption { color: var(--soft); font: 0.9rem/1.45 var(--sans); text-align: left; }
figcaption { margin-top: 0.6rem; max-width: 42rem; }
caption { padding-bottom: 0.5rem; }
.row { display: flex; flex-wrap: wrap; gap: 1.2rem; margin: 1.6rem 0; }
.row figure { margin: 0; flex: 0 1 14rem; min-width: 9rem; }
.scroll { overflow-x: auto; margin: 1.6rem 0; }
table { border-collapse: collapse; font: 0.92rem/1.4 var(--sans); font-variant-numeric: tabular-nums; }
th, td { padding: 0.38rem 1.4rem 0.38rem 0; text-align: left; vertical-align: baseline; }
th { border-bottom: 1.5px solid var(--ink); font-weight: 600; white-space: nowrap; }
td { border-bottom: 1px solid var(--line); }
tbody tr:last-child td { border-bottom: 1.5px solid var(--ink); }
.number { text-align: right; white-space: nowrap; }
:is(th, td):last-child { padding-right: 0.2rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 0.3rem 1.6rem; margin: 1.4rem 0;
  font: 0.92rem/1.45 var(--sans); font-variant-numeric: tabular-nums; }
dt { color: var(--soft); }
dd { margin: 0; min-width: 0; overflow-wrap: anywhere; }
pre { overflow-x: auto; margin: 1.4rem 0; padding: 0.9rem 1.1rem; background: var(--panel); border-left: 3px solid
  var(--accent); border-radius: 3px; font: 0.86rem/1.5 var(--mono); tab-size: 4; }
@media (max-width: 34rem) { body { font-size: 1rem; } main { padding: 2rem 1.1rem 3rem; }
  dl { grid-template-columns: 1fr; gap: 0; } dd { margin-bottom: 0.6rem; } }
@media print { :root { color-scheme: light; --paper: #fff; --ink: #000; --soft: #444; --line: #bbb; --panel: #f4f4f4;
  --accent: #000; } body { font-size: 10.5pt; } main { max-width: none; padding: 0; } figure, tr, pre, dl {
  break-inside: avoid; } h2 { break-after: avoid; } pre { white-space: pre-wrap; } .scroll { overflow: visible; } }
""".strip()


class Page:
    """A page built from top to bottom; every method but `write` returns the page, so calls can be chained."""

    def __init__(self, title: str, subtitle: str = "") -> None:
        self.title = title
        self.subtitle = subtitle
        self._parts: list[str] = []

    def section(self, title: str, text: str | None = None) -> "Page":
        """A heading, and paragraphs under it as `text` sets them."""
        self._parts.append(f"<h2>{escape(title)}</h2>")
        return self.text(text) if text else self

    def text(self, text: str) -> "Page":
        """Paragraphs, parted by blank lines."""
        self._parts += [f"<p>{escape(' '.join(part.split()))}</p>" for part in text.split("\n\n") if part.strip()]
        return self

    def figure(self, picture: PathLike | Image.Image, caption: str = "") -> "Page":
        """A picture, given as an image or as the path of a .png, .jpg, .gif, .webp or .svg, and its caption."""
        below = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
        self._parts.append(f"<figure>{_img(picture, caption)}{below}</figure>")
        return self

    def row(self, pictures: Sequence[tuple[PathLike | Image.Image, str]]) -> "Page":
        """Pictures side by side, each with its caption; they wrap where they do not fit."""
        shown = (f"<figure>{_img(one, said)}<figcaption>{escape(said)}</figcaption></figure>" for one, said in pictures)
        self._parts.append(f'<div class="row">{"".join(shown)}</div>')
        return self

    def table(self, rows: Sequence[Sequence[Cell]], header: Sequence[str], caption: str | None = None) -> "Page":
        """A table; columns of numbers are set to the right, with floats in four digits or to the unit. None is a dash.

        ValueError: a row with another number of cells than the header.
        """
        for i, row in enumerate(rows):
            if len(row) != len(header):
                raise ValueError(
                    f"row {i} has {len(row)} cells, the header {len(header)}: give as many cells as columns"
                )
        numeric = [all(isinstance(row[k], int | float | None) for row in rows) for k in range(len(header))]

        def line(cells: Sequence[Cell], tag: str) -> str:
            marks = [' class="number"' if right else "" for right in numeric]
            return f"<tr>{''.join(f'<{tag}{m}>{_cell(c)}</{tag}>' for m, c in zip(marks, cells, strict=True))}</tr>"

        above = f"<caption>{escape(caption)}</caption>" if caption else ""
        body = "\n".join(line(row, "td") for row in rows)
        head = f"<thead>{line(header, 'th')}</thead>"
        self._parts.append(f'<div class="scroll"><table>{above}{head}\n<tbody>{body}</tbody></table></div>')
        return self

    def facts(self, facts: Sequence[tuple[str, Cell]]) -> "Page":
        """Names and their values, as a list in two columns."""
        self._parts.append(f"<dl>{''.join(f'<dt>{escape(n)}</dt><dd>{_cell(v)}</dd>' for n, v in facts)}</dl>")
        return self

    def code(self, text: str) -> "Page":
        """Text set as it stands, in a fixed width."""
        self._parts.append(f"<pre><code>{escape(text.strip(chr(10)))}</code></pre>")
        return self

    def html(self) -> str:
        """The whole document."""
        below = f'<p class="subtitle">{escape(self.subtitle)}</p>' if self.subtitle else ""
        parts = "\n".join(self._parts)
        return (
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            f"{GENERATOR.decode()}\n"
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f"<title>{escape(self.title)}</title>\n<style>\n{STYLE}\n</style>\n</head>\n"
            f"<body>\n<main>\n<header><h1>{escape(self.title)}</h1>{below}</header>\n{parts}\n</main>\n</body>\n</html>\n"
        )

    def write(self, path: PathLike) -> Path:
        """Write the document as UTF-8, whole or not at all, creating parent folders."""
        with replacing(path) as beside:
            beside.write_text(self.html(), encoding="utf-8")
        return Path(path)


def fragment(facts: Sequence[tuple[str, Cell]]) -> str:
    """Names and their values as a table without a style of its own, for a page that is somebody else's: a notebook."""
    left = ' style="text-align: left"'
    rows = "".join(f"<tr><th{left}>{escape(n)}</th><td{left}>{_cell(v)}</td></tr>" for n, v in facts)
    return f"<table>{rows}</table>"


def unbroken(words: str) -> str:
    """Words that stay on one line, as an interval in a narrow column should."""
    return words.replace(" ", "\N{NO-BREAK SPACE}")


def _img(picture: PathLike | Image.Image, caption: str) -> str:
    if isinstance(picture, Image.Image):
        buffer = io.BytesIO()
        picture.save(buffer, "PNG", optimize=True)
        mime, data = "image/png", buffer.getvalue()
    else:
        mime, data = by_suffix(picture, TYPES, "a figure"), Path(picture).read_bytes()
    look = 'class="drawing"'
    if mime != "image/svg+xml":
        with Image.open(io.BytesIO(data)) as opened:
            (width, height), dpi = opened.size, opened.info.get("dpi")
        if dpi:
            look += f' width="{round(width * 96 / dpi[0])}" height="{round(height * 96 / dpi[1])}"'
        else:
            look = f'class="pixels" width="{width}" height="{height}"'
    return f'<img {look} alt="{escape(caption)}" src="data:{mime};base64,{base64.b64encode(data).decode()}">'


def _cell(value: Cell) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.0f}" if 1e4 <= abs(value) < 1e9 else f"{value:.4g}"
    return escape(str(value))
