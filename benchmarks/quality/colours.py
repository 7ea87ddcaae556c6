"""Colour pictures of 32 x 32 from larger ones: `python -m quality.colours FOLDER OUT.npz`.

Up to 16 squares of each picture with 64 pixels a side and more, at random places and sizes, on white, without those
that show little. `apt install tuxpaint-stamps-default` brings such a folder, /usr/share/tuxpaint/stamps.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image

SIDE, EACH, TRIES = 32, 16, 40
LEAST = 2 * SIDE  # pixels of the shorter side of a picture
SHOWN, VARIED = 0.8, 20.0  # of a square: the share that is not clear, and the standard deviation of its grey values


def squares(path: Path, generator: np.random.Generator) -> list[np.ndarray]:
    """Of one picture, uint8 (SIDE, SIDE, 3)."""
    with Image.open(path) as opened:
        picture = opened.convert("RGBA")
    if min(picture.size) < LEAST:
        return []
    opaque, flat = np.asarray(picture)[..., 3], Image.new("RGBA", picture.size, "white")
    flat.alpha_composite(picture)
    found: list[np.ndarray] = []
    for _ in range(TRIES):
        side = int(min(picture.size) * generator.uniform(0.35, 1))
        x, y = (int(generator.integers(0, most - side + 1)) for most in picture.size)
        if len(found) < EACH and side >= SIDE and opaque[y : y + side, x : x + side].mean() >= SHOWN * 255:
            cut = flat.convert("RGB").crop((x, y, x + side, y + side)).resize((SIDE, SIDE), Image.Resampling.BOX)
            found.append(np.asarray(cut))
    return [one for one in found if one.std() > VARIED]


def main() -> None:
    folder, out = Path(sys.argv[1]), Path(sys.argv[2])
    generator = np.random.default_rng(0)
    found = [one for path in sorted(folder.rglob("*.png")) for one in squares(path, generator)]
    pictures = np.stack(found)[generator.permutation(len(found))]
    np.savez(out, x=pictures)
    print(f"{len(pictures):,} pictures in {out}")


if __name__ == "__main__":
    main()
