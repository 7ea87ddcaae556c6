"""What lies in a folder of pictures, before anything is trained on it: kinds, sizes, classes, duplicates, and advice.

Two pictures are near-duplicates where the signs of the differences between neighbours, 8 x 8 of them on a grey
thumbnail of 9 x 8 (the difference hash), are the same but for `NEAR` of 64; equal ones where the files are, byte for
byte.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from unsteep.data.choosing import shorten
from unsteep.data.examples import Examples
from unsteep.data.folder import Folder
from unsteep.data.pictures import DRAWN, Readable
from unsteep.data.places import Places, places
from unsteep.data.reading import in_memory
from unsteep.data.searching import formats

NEAR = 4  # of 64 signs
THUMB = 64  # pixels
FEW, ENOUGH = 100, 1000  # pictures
SIDES = (256, 128, 64, 32, 16)  # that a model may be trained at
AT_ONCE = 1024  # rows of pairs
SHOWN = 3
SEVERAL = "several frames"


@dataclass(frozen=True)
class Survey:
    """`rows`: (name, text), of what is there. `advice`: a sentence each. `examples`: thumbnails, as uint8."""

    rows: list[tuple[str, str]]
    advice: list[str]
    examples: Examples


def survey(path: str | Path) -> Survey:
    """Looks at every picture of a folder. ValueError where there is none."""
    root = Path(path).expanduser()
    examples = in_memory(Folder(path=str(root), size=THUMB, max_bad=1.0).read("all"))
    there = places(root)
    chosen = in_order(there.names, examples.files)
    heads = [_head(there.open(i)) for i in chosen]
    sizes = Counter((width, height) for width, height, _ in heads)
    kinds = Counter(kind for *_, kind in heads)
    classes = Counter(file.split("/")[0] for file in examples.files if "/" in file)
    whole = sum(classes.values()) == len(examples) and len(classes) > 1
    equal, near = _equal(there, chosen), _near(examples.x)
    shorter = sorted(min(width, height) for width, height, _ in heads)
    rows = [
        ("pictures", f"{len(examples):,} in {root}"),
        ("sizes", f"{len(sizes):,} different: {_counts({f'{w} x {h}': n for (w, h), n in sizes.items()})}"),
        ("shorter side", f"{shorter[0]} to {shorter[-1]} pixels, {shorter[len(shorter) // 2]} in the middle"),
        ("kinds", _counts(kinds)),
    ]
    if classes:
        rows.append(("sub-folders", f"{len(classes):,}: {_counts(classes)}"))
    rows += [(name, text) for name, text in examples.summary() if name in ("mind", "value range")]
    rows += _skipped(examples.skipped)
    rows.append(("equal files", _groups(equal, examples.files)))
    rows.append(("near-duplicates", _groups(near, examples.files)))
    advice = _advice(examples, shorter, classes if whole else Counter(), kinds, equal, near)
    return Survey(rows, [*_refused(examples, set(there.left)), *advice], examples)


def _skipped(skipped: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Rows of what is left out: how many, and every kind of reason with its number and a few examples. Reasons that
    differ in their numbers alone, as of bytes that are missing, are one kind."""
    by: dict[str, list[tuple[str, str]]] = {}
    for file, why in skipped:
        by.setdefault(re.sub(r"\d[\d,.]*", "0", why), []).append((file, why))
    rows = [("skipped", f"{len(skipped):,}")] if skipped else []
    for found in sorted(by.values(), key=lambda found: (-len(found), found[0][1])):
        rows.append(("", f"{len(found):,}: {found[0][1]}, as {shorten([file for file, _ in found], SHOWN)}"))
    return rows


def _refused(examples: Examples, left: set[tuple[str, str]]) -> list[str]:
    """That training would refuse the folder, where more picture files are broken than it takes; `left`: what is no
    picture by its name, and does not count."""
    bad = sum(one not in left and one[1] != DRAWN for one in examples.skipped)
    count, most = bad + len(examples), Folder(path="").max_bad
    if bad <= most * count:
        return []
    enough = math.ceil(100 * bad / count) / 100
    return [
        f"{bad:,} of {count:,} picture files cannot be read, and train refuses a folder with more than {most:.0%} of "
        f"such: mend or remove them, or set data.max_bad={enough:g}"
    ]


def in_order(names: Sequence[str], some: Sequence[str]) -> list[int]:
    """The positions of some of the names, in their order; names may be there several times."""
    each, found = iter(enumerate(names)), []
    for one in some:
        found.append(next(i for i, name in each if name == one))
    return found


def _head(file: Readable) -> tuple[int, int, str]:
    """Width, height and kind."""
    with Image.open(file, formats=formats()) as image:
        clear = "A" in image.getbands() or "transparency" in image.info
        grey = image.mode in ("1", "L", "LA") or image.mode.startswith("I")
        deep = ", 16 bits" if image.mode.startswith("I") else ""
        several = f", {SEVERAL}" if getattr(image, "n_frames", 1) > 1 else ""
        return *image.size, f"{'grey' if grey else 'colour'}{deep}{' with transparency' if clear else ''}{several}"


def _equal(there: Places, chosen: list[int]) -> list[list[int]]:
    by: dict[str, list[int]] = {}
    for row, i in enumerate(chosen):
        opened = there.open(i)
        content = opened.read_bytes() if isinstance(opened, Path) else opened.getvalue()
        by.setdefault(hashlib.sha256(content).hexdigest(), []).append(row)
    return [group for group in by.values() if len(group) > 1]


def signs(x: Tensor) -> np.ndarray:
    """The difference hash of pictures uint8 (n, c, h, w): uint64 (n,)."""
    small = F.adaptive_avg_pool2d(x.float().mean(1, keepdim=True), (8, 9))[:, 0]
    bits = (small[..., 1:] > small[..., :-1]).flatten(1).numpy()
    return np.packbits(bits, axis=1).view(np.uint64)[:, 0]


def _near(x: Tensor) -> list[list[int]]:
    """Groups of pictures each of which is near another of its group."""
    codes, leader = signs(x), list(range(len(x)))

    def root(i: int) -> int:
        while leader[i] != i:
            leader[i] = leader[leader[i]]
            i = leader[i]
        return i

    for at in range(0, len(codes), AT_ONCE):
        apart = np.bitwise_count(codes[at : at + AT_ONCE, None] ^ codes[None, :])
        apart[codes[at : at + AT_ONCE] == 0] = 64  # flat pictures have no signs to be alike in
        for i, j in np.argwhere(apart <= NEAR).tolist():
            if at + i < j:
                leader[root(j)] = root(at + i)
    groups: dict[int, list[int]] = {}
    for i in range(len(codes)):
        groups.setdefault(root(i), []).append(i)
    return [group for group in groups.values() if len(group) > 1]


def _counts(counts: dict[str, int] | Counter[str]) -> str:
    most = sorted(counts.items(), key=lambda one: (-one[1], one[0]))
    return shorten([f"{name}: {n:,}" for name, n in most], 8)


def _groups(groups: list[list[int]], files: tuple[str, ...]) -> str:
    if not groups:
        return "none"
    named = [" = ".join([files[i] for i in group[:2]] + (["..."] if len(group) > 2 else [])) for group in groups]
    return f"{sum(map(len, groups)) - len(groups):,} more than needed, as {shorten(named, SHOWN)}"


def _advice(
    examples: Examples,
    shorter: list[int],
    classes: Counter[str],
    kinds: Counter[str],
    equal: list[list[int]],
    near: list[list[int]],
) -> list[str]:
    """What to do with such data."""
    n, said = len(examples), []
    middle = shorter[len(shorter) // 2]
    side = next((side for side in SIDES if side <= middle), SIDES[-1])
    if side != 64:
        said.append(f"half of the pictures are at least {middle} pixels: data.size={side} keeps what they show")
    if shorter[0] < side:
        few = sum(one < side for one in shorter)
        said.append(f"{few:,} are smaller than {side} pixels and would be enlarged")
    if classes:
        said.append(f"{len(classes):,} sub-folders may be classes: data.labelled=true with condition.label=true")
    if n < FEW:
        said.append(f"{n:,} pictures are few: a model will repeat them; some hundreds are a start")
    elif n < ENOUGH:
        said.append(f"{n:,} pictures are enough to learn colours and shapes, and few for variety; more are better")
    if sum(map(len, equal)) + sum(map(len, near)) > 0.05 * n:
        said.append("many are nearly the same: they are learned by heart, and make numbers look better; leave them out")
    if all(kind.startswith("grey") for kind in kinds):
        said.append("all are grey: data.channels=1")
    if any("transparency" in kind for kind in kinds):
        said.append("transparent parts are laid on white; data.channels=4 keeps them")
    if any("16 bits" in kind for kind in kinds):
        said.append("16-bit pictures are brought to 8: data.bits=16 with data.channels=1 keeps them")
    if any(SEVERAL in kind for kind in kinds):
        said.append("of files with several frames or pages the first is taken")
    said.append("pictures are mirrored while training: if they show text or signs, train.flip=false")
    return said


def sheet(of: Survey, n: int = 64) -> Examples:
    """Some of them, spread evenly over the files, to be looked at."""
    chosen = torch.linspace(0, len(of.examples) - 1, min(n, len(of.examples))).round().long()
    return replace(of.examples.select(chosen), names=())
