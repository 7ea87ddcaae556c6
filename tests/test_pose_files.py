"""Skeletons, clips and the files that they lie in: ours are those of `pose-format`, damaged ones are one line."""

import io
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unsteep.poses import SHIPPED, Part, PoseClip, Skeleton, read_clip, skeleton_of, write_clip
from unsteep.storage import config

COUNTS = {"mediapipe-586": 586, "mediapipe-178": 178, "openpose-137": 137, "skels-50": 50, "smpl-22": 22}


def clip_of(name: str = "mediapipe-586", frames: int = 5, seed: int = 0, fps: float = 25.0) -> PoseClip:
    """A clip of random points, about a fifth of them missing."""
    random, skeleton = np.random.default_rng(seed), skeleton_of(name)
    data = random.standard_normal((frames, len(skeleton), len(skeleton.axes))).astype(np.float32) * 100
    confidence = random.uniform(0.1, 1, data.shape[:2]) * (random.uniform(size=data.shape[:2]) > 0.2)
    return PoseClip(data, confidence.astype(np.float32), fps, skeleton, (640, 480, 100))


@pytest.mark.parametrize("name", SHIPPED)
def test_a_skeleton_is_what_it_says(name: str) -> None:
    skeleton = skeleton_of(name)
    assert len(skeleton) == COUNTS[name] == len(skeleton.colours) == len(skeleton.weights) == len(skeleton.drawn)
    assert config.loads(Skeleton, config.dumps(skeleton)) == skeleton
    assert all(0 <= skeleton.place(one) < len(skeleton) for one in skeleton.shoulders)
    ends = {end for limb in skeleton.limbs.tolist() for end in limb}
    assert len(ends) > len(skeleton) / 4
    for part, span in zip(skeleton.parts, skeleton.spans, strict=True):
        assert len(span) == len(part.points)


def test_the_reduction_is_that_of_pose_format() -> None:
    generic = pytest.importorskip("pose_format.utils.generic")
    pose = theirs(clip_of())
    reduced = generic.reduce_holistic(pose)
    ours = clip_of().reduced(skeleton_of("mediapipe-178"))
    assert [len(c.points) for c in reduced.header.components] == [8, 128, 21, 21]
    assert np.array_equal(np.asarray(reduced.body.data.data)[:, 0], ours.data)
    assert np.array_equal(reduced.body.confidence[:, 0], ours.confidence)


def test_a_skeleton_of_ones_own(tmp_path: Path) -> None:
    own = tmp_path / "own.toml"
    own.write_text('axes = "xy"\n[[parts]]\nname = "arm"\npoints = ["a", "b", "c"]\nlimbs = [[0, 1, 2]]\n')
    skeleton = skeleton_of(str(own))
    assert skeleton.limbs.tolist() == [[0, 1], [1, 2]]
    for wrong, said in (
        ("[[0, 7]]", "limbs: expected places from 0 to 2"),
        ('[["a", "b"]]', "limbs"),
        ("3", "parts"),
    ):
        own.write_text(f'axes = "xy"\n[[parts]]\nname = "arm"\npoints = ["a", "b", "c"]\nlimbs = {wrong}\n')
        with pytest.raises(ValueError, match=said) as caught:
            skeleton_of(str(own))
        assert str(own) in str(caught.value)
    with pytest.raises(ValueError, match="expected one of mediapipe-586, "):
        skeleton_of("mediapipe")


def theirs(clip: PoseClip) -> Any:
    """The same as `pose-format` reads it."""
    pose = pytest.importorskip("pose_format")
    write_clip(clip, path := Path("clip.pose"))
    found = pose.Pose.read(path.read_bytes())
    path.unlink()
    return found


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", SHIPPED)
def test_what_is_written_is_read_by_pose_format_and_back(name: str) -> None:
    """Of numbers, points, limbs and colours."""
    clip = clip_of(name, fps=29.97)
    pose = theirs(clip)
    assert np.array_equal(np.asarray(pose.body.data.data)[:, 0], clip.data)
    assert np.array_equal(np.asarray(pose.body.data.mask)[:, 0, :, 0], ~clip.known)
    assert np.array_equal(pose.body.confidence[:, 0], clip.confidence)
    assert pose.body.fps == np.float32(29.97)
    size = pose.header.dimensions
    assert (size.width, size.height, size.depth) == clip.size
    for component, part in zip(pose.header.components, clip.skeleton.parts, strict=True):
        assert (component.name, tuple(component.points)) == (part.name, part.points)
        assert [tuple(limb) for limb in component.limbs] == list(part.pairs)
        assert [tuple(map(int, colour)) for colour in component.colors] == list(part.colours)
    content = io.BytesIO()
    pose.write(content)
    (again := Path("theirs.pose")).write_bytes(content.getvalue())
    assert again.read_bytes() == write_clip(clip, "ours.pose").read_bytes()
    back = read_clip(again)
    same(back, replace(clip, fps=float(np.float32(29.97))))
    assert [p.weight for p in back.skeleton.parts] == [p.weight for p in clip.skeleton.parts]
    assert back.skeleton.shoulders == clip.skeleton.shoulders
    assert np.array_equal(back.skeleton.drawn, clip.skeleton.drawn)


def same(one: PoseClip, other: PoseClip) -> None:
    assert np.array_equal(one.data, other.data)
    assert np.array_equal(one.confidence, other.confidence)
    assert (one.fps, one.size) == (other.fps, other.size)
    assert np.array_equal(one.skeleton.limbs, other.skeleton.limbs)


def as_v01(path: Path, people: int = 1, frames: int | None = None) -> bytes:
    """A file of 0.2 as one of 0.1, as older programs wrote it."""
    clip = read_clip(path)
    head = path.read_bytes()[: -(clip.data.nbytes + clip.confidence.nbytes) - 10]
    body = struct.pack("<3H", round(clip.fps), len(clip) if frames is None else frames, people)
    parts = [one.tobytes() for one in (clip.data, clip.confidence)]
    return struct.pack("<f", 0.1) + head[4:] + body + b"".join(part * people for part in parts)


def test_version_0_1_by_the_size_of_the_file() -> None:
    """What it says of its frames is 16 bits, and too little for a long clip."""
    pose = pytest.importorskip("pose_format")
    clip = clip_of("smpl-22")
    path = write_clip(clip, "a.pose")
    for frames in (len(clip), 0, 3):
        path.write_bytes(as_v01(write_clip(clip, "a.pose"), frames=frames))
        same(read_clip(path), clip)
        assert np.array_equal(np.asarray(pose.Pose.read(path.read_bytes()).body.data.data)[:, 0], clip.data)


def test_npz_back_and_forth() -> None:
    clip = clip_of("openpose-137", fps=23.976)
    back = read_clip(write_clip(clip, "a.npz"))
    same(back, clip)
    assert back.skeleton == clip.skeleton


def test_people() -> None:
    clip = clip_of("smpl-22")
    path = Path("two.pose")
    path.write_bytes(as_v01(write_clip(clip, "a.pose"), people=2))
    with pytest.raises(ValueError, match=r"two\.pose: expected a \.pose file, got 2 people where one was expected"):
        read_clip(path)
    assert len(read_clip(path, person=1)) == len(clip)
    with pytest.raises(ValueError, match="2 people, and no number 2"):
        read_clip(path, person=2)
    path.write_bytes(as_v01(write_clip(clip, "a.pose"), people=0))
    with pytest.raises(ValueError, match="no person"):
        read_clip(path)


def test_zero_frames_and_other_nonsense_are_one_line() -> None:
    clip = clip_of("smpl-22")
    good = write_clip(clip, "a.pose").read_bytes()
    body = len(good) - clip.data.nbytes - clip.confidence.nbytes - 10
    path = Path("bad.pose")
    for content, said in (
        (good[:body] + struct.pack("<fIH", 25, 0, 1), "not a single frame"),
        (good[:body] + struct.pack("<fIH", 0, 5, 1) + good[body + 10 :], "fps: expected frames a second"),
        (good[:body] + struct.pack("<fIH", 25, 2**32 - 1, 65535) + good[body + 10 :], "frames of 65535 people"),
        (good[: body - 3], "ends too early"),
        (good + b"\0", "bytes for 5 frames"),
        (struct.pack("<f", 7) + good[4:], "version 7"),
        (b"", "ends too early"),
        (good[:10] + b"\0\0" + good[12:], "no component"),
    ):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=said) as caught:
            read_clip(path)
        assert str(caught.value).startswith("bad.pose: expected a .pose file, got")
        assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="there is no such file"):
        read_clip(Path("none.pose"))


ARM = Skeleton(
    parts=(Part(name="arm", points=("l", "r", "h")), Part(name="hand", points=("w", "f"), root="w")),
    axes="xy",
    shoulders=("l", "r"),
)


def test_what_is_done_to_a_clip_invents_no_point() -> None:
    random = np.random.default_rng(0)
    data = random.standard_normal((6, 5, 2)).astype(np.float32) + 10
    confidence = np.full((6, 5), 0.5, np.float32)
    confidence[0] = confidence[5] = 0  # nothing is seen
    confidence[2, 4], confidence[3, 3] = 0, 0
    clip = PoseClip(data, confidence, 10.0, ARM).trimmed()
    assert len(clip) == 4
    one = clip.normalised()
    a, b = one.data[:, 0], one.data[:, 1]
    assert np.linalg.norm(a - b, axis=1).mean() == pytest.approx(1, abs=1e-5)
    assert np.allclose((a + b).mean(0), 0, atol=1e-5)
    near = one.relative()
    assert np.array_equal(near.known[:, 4], [True, False, False, True])  # no finger without its wrist
    assert np.allclose(near.absolute().data, one.data, atol=1e-5)
    twice = one.resampled(20.0)
    assert len(twice) == 7
    assert np.array_equal(twice.data[::2], one.data)
    assert twice.known[:, 4].tolist() == [True, False, False, False, True, True, True]
    assert np.allclose(twice.data[1, 0], (one.data[0, 0] + one.data[1, 0]) / 2)
    none = replace(clip, confidence=clip.confidence * np.array([1, 0, 1, 1, 1], np.float32))
    with pytest.raises(ValueError, match="no frame shows both l and r"):
        none.normalised()
    junk = data.copy()
    junk[confidence == 0] = np.nan
    assert np.array_equal(PoseClip(junk, confidence, 10.0, ARM).known, confidence > 0)
    up = replace(one, skeleton=replace(ARM, y="up")).placed(100)
    assert np.allclose(up.data[..., 1], 50 - 40 * one.data[..., 1], atol=1e-4)
