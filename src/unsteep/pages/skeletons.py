"""Points that move, and what joins them, drawn: stills on a sheet, an animation, and a page that plays in a browser.

A `Moving` has points (frames, points, 2), x to the right and y down in any unit, NaN where one is missing: such a point
is not drawn, nor a limb that ends in it. All frames of all that are drawn together are seen through one window, so that
what moves is the figure.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from unsteep.pages import animation
from unsteep.pages.files import PathLike, replacing
from unsteep.pages.html import STYLE

HEIGHT, WIDTH = 96, 72  # pixels of a still on a sheet
STILLS = 4  # of a sequence, side by side
SIDE = 256  # pixels of an animation's pictures
FINER = 3  # drawn so many times larger, and then made small: smooth lines
EDGE = 0.06  # of the window, around what is seen
RARE = 0.002  # the share of points, at either end, that may lie outside the window
DIGITS = 1  # of places on the page, in thousandths of its window


class Moving(NamedTuple):
    """points float (frames, points, 2); limbs (k, 2), which are joined; colours uint8 (points, 3); frames a second."""

    points: np.ndarray
    limbs: np.ndarray
    colours: np.ndarray
    fps: float


class Window(NamedTuple):
    """What is seen: the left upper corner, and the width and height."""

    left: float
    top: float
    width: float
    height: float

    @classmethod
    def of(cls, clips: Sequence[Moving]) -> Window:
        """Around nearly all that is known of some clips; one of unit size where nothing is."""
        points = np.concatenate([one.points.reshape(-1, 2) for one in clips])
        points = points[np.isfinite(points).all(1)]
        if not len(points):
            return cls(0, 0, 1, 1)
        return cls.around(*np.quantile(points, (RARE, 1 - RARE), axis=0))

    @classmethod
    def around(cls, low: np.ndarray, high: np.ndarray) -> Window:
        """From two corners (2,), with an edge."""
        side = np.maximum(high - low, max(1e-9, 0.02 * float((high - low).max())))
        left, top = (low + high) / 2 - side * (0.5 + EDGE)
        width, height = side * (1 + 2 * EDGE)
        return cls(float(left), float(top), float(width), float(height))


def still(clip: Moving, frame: int, window: Window, width: int, height: int) -> np.ndarray:
    """One frame as a picture, uint8 (3, height, width), on white, as large as it fits."""
    sheet = Image.new("RGB", (FINER * width, FINER * height), "white")
    onto = ImageDraw.Draw(sheet)
    scale = FINER * min(width / window.width, height / window.height)
    middle = np.array([window.left + window.width / 2, window.top + window.height / 2])
    at = (clip.points[frame] - middle) * scale + np.array([FINER * width, FINER * height]) / 2
    at = np.clip(at, -4 * FINER * width, 5 * FINER * width)  # NaN stays
    there, thick = np.isfinite(at).all(1), max(1, round(FINER * min(width, height) / 110))
    for a, b in clip.limbs.tolist():
        if there[a] and there[b]:
            colour = tuple(((clip.colours[a].astype(int) + clip.colours[b]) // 2).tolist())
            onto.line([tuple(at[a]), tuple(at[b])], fill=colour, width=thick)
    joined, radius = set(clip.limbs.ravel().tolist()), thick * 0.7
    for i in np.flatnonzero(there).tolist():
        r = radius if i in joined else radius * 0.8
        onto.ellipse((*(at[i] - r), *(at[i] + r)), fill=tuple(clip.colours[i].tolist()))
    small = sheet.resize((width, height), Image.Resampling.LANCZOS)
    return np.asarray(small).transpose(2, 0, 1)


def tiles(clips: Sequence[Moving], window: Window | None = None) -> np.ndarray:
    """Each as a row of its frames, evenly spaced: uint8 (n, 3, 96, 288). `window`: what is seen,
    none: all."""
    window = window or Window.of(clips)
    rows = []
    for clip in clips:
        places = ((np.arange(STILLS) + 0.5) / STILLS * len(clip.points)).astype(int)  # ends are often at rest
        rows.append(np.concatenate([still(clip, i, window, WIDTH, HEIGHT) for i in places], 2))
    return np.stack(rows)


def movie(clips: Sequence[Moving], path: PathLike, captions: Sequence[str] | None = None) -> Path:
    """Several side by side as a looping animation, .gif, .webp or .png, or as a page, .html, by the suffix. One that
    has ended holds its last frame. ValueError where none are given, or they have different speeds."""
    if not clips or len({one.fps for one in clips}) > 1:
        raise ValueError(f"expected clips of one speed, got {sorted({one.fps for one in clips})} frames a second")
    if Path(path).suffix.lower() == ".html":
        return page(clips, path, captions)
    window, frames = Window.of(clips), max(len(one.points) for one in clips)
    side = SIDE if len(clips) <= 4 else SIDE // 2
    pictures = [[still(one, min(i, len(one.points) - 1), window, side, side) for one in clips] for i in range(frames)]
    seconds = frames / clips[0].fps
    return animation.gif(np.array(pictures), path, scale=1, seconds=seconds, hold=0.4, names=captions)


def page(clips: Sequence[Moving], path: PathLike, captions: Sequence[str] | None = None) -> Path:
    """A page of one file that plays in any browser, without a network and without another program: play, pause, one
    frame on, half the speed."""
    window = Window.of(clips)
    side = 1000 / max(window.width, window.height)
    shown = []
    for clip in clips:
        at = (clip.points - np.array([window.left, window.top])) * side
        rows = [[None if not np.isfinite(p).all() else np.round(p, DIGITS).tolist() for p in frame] for frame in at]
        colours = ["#{:02x}{:02x}{:02x}".format(*colour) for colour in clip.colours.tolist()]
        shown.append({"frames": rows, "limbs": clip.limbs.tolist(), "colours": colours, "fps": clip.fps})
    told = {"clips": shown, "width": window.width * side, "height": window.height * side}
    data = json.dumps(told, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    named = captions if captions is not None else [""] * len(clips)
    figures = "".join(f"<figure><canvas></canvas><figcaption>{escape(one)}</figcaption></figure>" for one in named)
    text = (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="generator" content="unsteep">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>Moving points</title>\n<style>{STYLE}{PLAYER_STYLE}</style>\n</head>\n<body>\n<main>\n"
        f'<div class="row">{figures}</div>\n{CONTROLS}\n</main>\n<script>\nconst told = {data};\n{PLAYER}\n</script>\n'
        "</body>\n</html>\n"
    )
    with replacing(path) as beside:
        beside.write_text(text, encoding="utf-8")
    return Path(path)


PLAYER_STYLE = """
main { max-width: 72rem; } .row figure { flex: 1 1 18rem; max-width: 34rem; }
canvas { width: 100%; background: #fff; border-radius: 3px; }
.controls { display: flex; gap: 0.8rem; align-items: center; font: 0.92rem system-ui, sans-serif; }
.controls input { flex: 1; }
"""
CONTROLS = (
    '<div class="controls"><button id="play">Pause</button><button id="slow">Half speed</button>'
    '<input id="at" type="range" min="0" value="0" step="1" aria-label="frame"><output id="said"></output></div>'
)
PLAYER = """
const canvases = [...document.querySelectorAll("canvas")], slider = document.getElementById("at");
const last = Math.max(...told.clips.map(clip => clip.frames.length)) - 1, fps = told.clips[0].fps;
let at = 0, playing = true, speed = 1, before = null;
slider.max = last;
for (const one of canvases) one.style.maxWidth = `${75 * told.width / told.height}vh`;  // all of it is seen
function draw() {
  const now = Math.min(last, Math.floor(at));
  told.clips.forEach((clip, k) => {
    const canvas = canvases[k], wide = canvas.clientWidth * (window.devicePixelRatio || 1);
    canvas.width = wide; canvas.height = wide * told.height / told.width;
    const pen = canvas.getContext("2d"), scale = wide / told.width;
    const frame = clip.frames[Math.min(now, clip.frames.length - 1)];
    pen.lineWidth = Math.max(1, wide / 180); pen.lineCap = "round";
    for (const [a, b] of clip.limbs) if (frame[a] && frame[b]) {
      pen.strokeStyle = clip.colours[b]; pen.beginPath();
      pen.moveTo(frame[a][0] * scale, frame[a][1] * scale); pen.lineTo(frame[b][0] * scale, frame[b][1] * scale);
      pen.stroke();
    }
    frame.forEach((point, i) => { if (point) {
      pen.fillStyle = clip.colours[i]; pen.beginPath();
      pen.arc(point[0] * scale, point[1] * scale, wide / 260, 0, 7); pen.fill();
    } });
  });
  slider.value = now;
  document.getElementById("said").textContent = `frame ${now + 1} of ${last + 1}, ${(now / fps).toFixed(2)} s`;
}
function step(time) {
  if (playing && before !== null) at = (at + (time - before) / 1000 * fps * speed) % (last + 1);
  before = time; draw(); requestAnimationFrame(step);
}
document.getElementById("play").onclick = event => {
  playing = !playing; event.target.textContent = playing ? "Pause" : "Play"; };
document.getElementById("slow").onclick = event => {
  speed = speed === 1 ? 0.5 : 1; event.target.textContent = speed === 1 ? "Half speed" : "Full speed"; };
slider.oninput = () => { playing = false; document.getElementById("play").textContent = "Play"; at = +slider.value; };
requestAnimationFrame(step);
"""
