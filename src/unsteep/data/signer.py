"""A synthetic signer: a body and two hands of 21 joints that move as a text says, exactly, whatever it says.

A text is a sign, a speed, a hand and a place: "HELLO fast left high". Its clip is a formula, so there is a true one for
every text and any style; the combinations that are held out are in no training clip, though each of their words is. The
names are names: these are signs of no language.

The wrist of the signing hand goes from where it rests to the place, along the sign's path there, and back; the other
rests, or does the same in a mirror. The elbow lies where the lengths of both arms are kept: on the circle about the
line from shoulder to wrist, at its lowest. A hand is turned as a whole, and its fingers bend in their own planes. So
every bone keeps its length, to rounding. One unit is the width of the shoulders, y grows down, and z towards the viewer
is negative. Clip i of a split is a function of (seed, split, i).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import ClassVar, NamedTuple

import numpy as np
import torch

from unsteep.core.arguments import checked
from unsteep.core.noise import NoiseSource
from unsteep.core.protocols import Split
from unsteep.data.poses import PoseExamples, padded
from unsteep.poses import PoseClip, skeleton_of

FPS = 25.0
SPEEDS = {"slow": 48, "medium": 36, "fast": 24}  # frames
HANDS = ("left", "right")
PLACES = {"high": -0.45, "middle": 0.1, "low": 0.6}  # of the wrist below the shoulders
UPPER, LOWER = 0.8, 0.7  # lengths of the arm
REST = np.array([0.55, 1.25, -0.15])  # a wrist that does nothing, on the right
FORWARD = -0.55  # of a wrist that signs, along z
RAISED = 0.22  # the share of a clip in which the hand comes, and in which it goes
BASES = np.array(  # of thumb, index, middle, ring and little finger in the hand: across, along, out of the palm
    [[0.10, 0.07, -0.02], [0.09, 0.26, 0], [0.03, 0.28, 0], [-0.03, 0.26, 0], [-0.09, 0.23, 0]]
)
SPREAD = np.array([0.75, 0.12, 0.03, -0.06, -0.16])  # radians of each finger from the hand's length
BONES = np.array([[0.09, 0.07, 0.05], [0.11, 0.07, 0.05], [0.12, 0.08, 0.05], [0.11, 0.07, 0.05], [0.09, 0.05, 0.04]])
DRAWS: dict[Split, int] = {"train": 1 << 17, "test": (1 << 17) + 1}  # far from the draws of a training step


class Gesture(NamedTuple):
    """A sign: how its five fingers bend at the beginning and at the end of each of so many `beats` (0 stretched, 1
    closed); how far the wrist goes from its place at a phase (n,) in turns: (n, 3); how the hand turns then, (n, 3) in
    radians about x, y and z; and whether both hands do it."""

    first: tuple[float, ...]
    last: tuple[float, ...]
    beats: float
    goes: Callable[[np.ndarray], np.ndarray]
    turns: Callable[[np.ndarray], np.ndarray]
    both: bool = False


def _wave(x: float = 0.0, y: float = 0.0, z: float = 0.0, quarter: float = 0.0) -> Callable[[np.ndarray], np.ndarray]:
    """So far along each axis; y `quarter` turns later."""

    def at(phase: np.ndarray) -> np.ndarray:
        turn = 2 * math.pi * phase
        return np.stack([x * np.sin(turn), y * np.sin(turn + 2 * math.pi * quarter), z * np.sin(turn)], 1)

    return at


OPEN, FIST, POINT, PINCH, THUMB = (
    (0.0, 0.0, 0.0, 0.0, 0.0),
    (0.6, 1.0, 1.0, 1.0, 1.0),
    (0.6, 0.0, 1.0, 1.0, 1.0),
    (0.5, 0.45, 0.5, 1.0, 1.0),
    (0.0, 1.0, 1.0, 1.0, 1.0),
)
SIGNS: Mapping[str, Gesture] = {
    "HELLO": Gesture(OPEN, OPEN, 2, _wave(0.22), _wave(z=0.45)),
    "YES": Gesture(FIST, FIST, 2, _wave(y=0.05), _wave(x=0.7)),
    "NO": Gesture((0.0, 0.0, 0.0, 1.0, 1.0), PINCH, 2, _wave(z=0.04), _wave()),
    "THANKS": Gesture(OPEN, OPEN, 1, _wave(y=0.12, z=0.18), _wave(x=-0.6)),
    "WHERE": Gesture(POINT, POINT, 3, _wave(0.09), _wave(z=0.5)),
    "SORRY": Gesture(FIST, FIST, 2, _wave(0.14, 0.14, quarter=0.25), _wave()),
    "HOUSE": Gesture(OPEN, OPEN, 1, _wave(0.2, -0.2), _wave(z=-0.5), both=True),
    "MORE": Gesture(OPEN, PINCH, 2, _wave(-0.1), _wave(y=0.4), both=True),
}


@dataclass(frozen=True, kw_only=True)
class Signed:
    """What a text says."""

    sign: str
    speed: str
    hand: str
    place: str

    @property
    def text(self) -> str:
        """As "HELLO fast left high"."""
        return f"{self.sign} {self.speed} {self.hand} {self.place}"

    @classmethod
    def of(cls, text: str) -> Signed:
        """What a text says, in any order and case. ValueError for other words, or not one of each kind."""
        words = {word.lower() for word in text.split()}
        found = [[one for one in kind if one.lower() in words] for kind in (SIGNS, SPEEDS, HANDS, PLACES)]
        if [len(one) for one in found] != [1, 1, 1, 1] or len(words) != 4:
            known = "; ".join(", ".join(kind) for kind in (SIGNS, SPEEDS, HANDS, PLACES))
            raise ValueError(f"text: expected one of each of {known}, as HELLO fast left high, got {text!r}")
        return cls(**dict(zip(("sign", "speed", "hand", "place"), (one[0] for one in found), strict=True)))


def combinations(every: int) -> tuple[list[Signed], list[Signed]]:
    """All there are, in those to learn from and those held out: one of `every`, spread so that no two words are always
    held out together."""
    parts: tuple[list[Signed], list[Signed]] = ([], [])
    for (i, sign), (j, speed), (k, hand), (m, place) in product(*map(enumerate, (SIGNS, SPEEDS, HANDS, PLACES))):
        held = every > 0 and (i + 2 * j + 3 * k + 4 * m) % every == 0
        parts[held].append(Signed(sign=sign, speed=speed, hand=hand, place=place))
    return parts


@dataclass(frozen=True, kw_only=True)
class Signer:
    """count, test_count: clips of the two splits; seed: which; every: one of so many combinations is held out, 0: none;
    style: how much clips of one text differ, from 0 to 1; relative: points of hands relative to their wrists."""

    count: int = 2000
    test_count: int = 200
    seed: int = 0
    every: int = 6
    style: float = 1.0
    relative: bool = True
    axes: ClassVar[int] = 2  # of one example
    mirrors: ClassVar[bool] = False  # texts say left and right

    def __post_init__(self) -> None:
        checked(self)
        if self.count < 1 or self.test_count < 0 or not 0 <= self.style <= 1:
            raise ValueError("count, test_count, style: expected a clip or more, none or more, and 0 to 1; set such")
        if self.every and self.every < 4:
            raise ValueError(f"every: expected at least 4, so that each word is learned, or 0, got {self.every}")

    def read(self, split: Split = "train") -> PoseExamples:
        """float32 (n, frames, 150) with texts; "all" is train, then test. ValueError for a test split of nothing."""
        if split == "test" and not (self.every and self.test_count):
            raise ValueError("no combination is held out for testing: set data.every and data.test_count")
        sizes = {"train": self.count, "test": self.test_count if self.every else 0}
        made = [self._clips(part, sizes[part]) for part in DRAWS if split in (part, "all") and sizes[part]]
        clips = [clip.relative() if self.relative else clip for part, _ in made for clip in part]
        x, weight, valid = padded(clips, max(map(len, clips)))
        return PoseExamples(
            x,
            levels=None,
            source=f"a synthetic signer (seed {self.seed}), one of {self.every} combinations held out for testing",
            captions=tuple(said.text for _, part in made for said in part),
            valid=valid,
            weight=weight,
            skeleton=clips[0].skeleton,
            fps=FPS,
            relative=self.relative,
            truths={said.text: signed(said) for part in combinations(self.every) for said in part},
        )

    def _clips(self, split: Split, count: int) -> tuple[list[PoseClip], list[Signed]]:
        said = combinations(self.every)[split == "test"]
        source = NoiseSource(torch.full((count,), self.seed), torch.arange(count))
        u = source.uniform(torch.empty(count, 6, dtype=torch.float64), DRAWS[split]).numpy()
        chosen = [said[int(one * len(said))] for one in u[:, 0]]
        return [signed(one, self.style * (2 * v - 1)) for one, v in zip(chosen, u[:, 1:], strict=True)], chosen


def signed(said: Signed, style: np.ndarray | None = None, frames: int | None = None) -> PoseClip:
    """The true clip of a text. `style` (5,), from -1 to 1, moves its length, its width, its place (across and down) and
    the bend of its fingers; `frames`: in so many."""
    tempo, width, across, down, bend = np.zeros(5) if style is None else style
    gesture = SIGNS[said.sign]
    count = frames or round(SPEEDS[said.speed] * (1 + 0.08 * tempo))
    s = np.linspace(0, 1, count)
    here = _smooth(np.minimum(s, 1 - s) / RAISED)[:, None]  # 0 at rest, 1 at the place
    phase = gesture.beats * np.clip((s - RAISED) / (1 - 2 * RAISED), 0, 1)
    place = np.array([0.35 + 0.06 * across, PLACES[said.place] + 0.06 * down, FORWARD])
    wrist = REST + here * (place + (1 + 0.15 * width) * gesture.goes(phase) - REST)
    turn = here * (1 + 0.15 * width) * gesture.turns(phase) + (1 - here) * [math.pi, 0, 0]
    share = (0.5 - 0.5 * np.cos(2 * math.pi * phase))[:, None]
    fingers = here * ((1 - share) * gesture.first + share * np.array(gesture.last)) + (1 - here) * 0.25
    active = _arm(wrist, turn, fingers * (1 - 0.1 * abs(bend)) + 0.05 * (1 + bend))
    idle = active if gesture.both else tuple(one.repeat(count, 0) for one in _resting())
    right, left = (active, idle) if said.hand == "right" else (idle, active)
    left = tuple(one * [-1, 1, 1] for one in left)
    middle = np.broadcast_to([[0, -0.62, 0], [0, -0.15, 0]], (count, 2, 3))
    data = np.concatenate([middle, right[0], left[0], left[1], right[1]], 1)
    return PoseClip(
        (data * [-1, 1, 1]).astype(np.float32),  # seen from the front: the right hand is on the left of the picture
        np.ones(data.shape[:2], np.float32),
        FPS,
        skeleton_of("skels-50"),
    )


@cache
def _resting() -> tuple[np.ndarray, np.ndarray]:
    """The right arm and hand that do nothing, in one frame."""
    return _arm(REST[None], np.array([[math.pi, 0, 0]]), np.full((1, 5), 0.25))


def _smooth(share: np.ndarray) -> np.ndarray:
    """From 0 to 1 with no jump in velocity, and none in acceleration."""
    s = np.clip(share, 0, 1)
    smooth: np.ndarray = s**3 * (10 - 15 * s + 6 * s**2)
    return smooth


def _arm(wrist: np.ndarray, turn: np.ndarray, fingers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Shoulder, elbow and wrist (n, 3, 3), and the hand (n, 21, 3), of the right arm: of the wrist's places (n, 3), its
    turns about x, y and z (n, 3), and the bend of five fingers (n, 5)."""
    shoulder = np.array([0.5, 0.0, 0.0])
    reach = wrist - shoulder
    length = np.linalg.norm(reach, axis=1, keepdims=True)
    kept = np.clip(length, abs(UPPER - LOWER) + 0.02, UPPER + LOWER - 0.02)
    along = reach / length
    wrist = shoulder + kept * along
    near = (UPPER**2 - LOWER**2 + kept**2) / (2 * kept)  # of the elbow's circle from the shoulder
    down = np.array([0.45, 1.0, 0.35])
    aside = down - (along @ down)[:, None] * along
    aside /= np.linalg.norm(aside, axis=1, keepdims=True)
    elbow = shoulder + near * along + np.sqrt(UPPER**2 - near**2) * aside
    arm = np.stack([np.broadcast_to(shoulder, wrist.shape), elbow, wrist], 1)
    return arm, wrist[:, None] + np.einsum("nij,nkj->nki", _turned(turn), _hand(fingers))


def _hand(fingers: np.ndarray) -> np.ndarray:
    """A hand that stands upright before its wrist, by the bend of its fingers (n, 5): (n, 21, 3)."""
    n = len(fingers)
    points = [np.zeros((n, 1, 3))]
    for finger in range(5):
        joint = np.broadcast_to(BASES[finger], (n, 3))
        points.append(joint[:, None])
        across = np.array([math.sin(SPREAD[finger]), math.cos(SPREAD[finger])])
        for k, bone in enumerate(BONES[finger]):
            angle = fingers[:, finger] * (1.45 * (k + 1) if finger else 0.7 * (k + 1))
            step = np.stack([across[0] * np.cos(angle), across[1] * np.cos(angle), np.sin(angle)], 1)
            joint = joint + bone * step
            points.append(joint[:, None])
    return np.concatenate(points, 1) * [-1, -1, -1]  # fingers up, palm towards the viewer


def _turned(turn: np.ndarray) -> np.ndarray:
    """Rotations (n, 3, 3) about x, then y, then z, by angles (n, 3)."""
    c, s = np.cos(turn), np.sin(turn)
    whole = np.empty((len(turn), 3, 3))
    (cx, cy, cz), (sx, sy, sz) = c.T, s.T
    whole[:, 0] = np.stack([cy * cz, sx * sy * cz - cx * sz, cx * sy * cz + sx * sz], 1)
    whole[:, 1] = np.stack([cy * sz, sx * sy * sz + cx * cz, cx * sy * sz - sx * cz], 1)
    whole[:, 2] = np.stack([-sy, sx * cy, cx * cy], 1)
    return whole
