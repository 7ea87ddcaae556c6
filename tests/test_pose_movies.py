"""Skeletons as pictures: not blank, the right way up, without what is missing or hidden; and as a page that plays."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from unsteep.data.signer import Signed, signed
from unsteep.pages import skeletons
from unsteep.poses import PoseClip, skeleton_of
from unsteep.spaces import Keypoints
from unsteep.spaces.keypoints import moving

CLIP = signed(Signed.of("HELLO fast right high"), frames=14)
HEAD, LEFT = 0, range(8, 29)


def ink(picture: np.ndarray) -> np.ndarray:
    """Where a picture (3, h, w) is not white."""
    return picture.min(0) < 200


def drawn(clip: PoseClip, frame: int = 5) -> np.ndarray:
    of = moving(clip)
    return skeletons.still(of, frame, skeletons.Window.of([moving(CLIP)]), 128, 128)


def test_it_is_the_right_way_up() -> None:
    """y grows down in this skeleton, and up in that of SMPL: heads are above either way."""
    rows = np.flatnonzero(ink(drawn(CLIP)).any(1))
    alone = replace(CLIP, confidence=np.where(np.arange(50) == HEAD, 1, 0) * CLIP.confidence)
    head = np.flatnonzero(ink(drawn(alone)).any(1))
    assert len(head)
    assert head.mean() < rows.mean() - 10
    skeleton = skeleton_of("smpl-22")
    data = np.zeros((1, 22, 3), np.float32)
    data[0, :, 1] = np.linspace(0, 1, 22)
    data[0, skeleton.place("head"), 1] = 3
    up = moving(PoseClip(data, np.ones((1, 22), np.float32), 25.0, skeleton))
    assert up.points[0, skeleton.place("head"), 1] == up.points[0, :, 1].min()


def test_what_is_missing_is_not_drawn() -> None:
    """Nor the limbs that end in it; junk in its place changes not one pixel."""
    confidence = CLIP.confidence.copy()
    confidence[:, LEFT] = 0
    junk = CLIP.data.copy()
    junk[:, LEFT] = 1e6
    without, with_junk = (drawn(PoseClip(x, confidence, 25.0, CLIP.skeleton)) for x in (CLIP.data, junk))
    assert np.array_equal(without, with_junk)
    red = (178, 60, 40)  # of the left hand
    assert near(drawn(CLIP), red).sum() > 20
    assert near(without, red).sum() == 0
    assert ink(without).sum() > 100


def test_nor_a_limb_that_ends_in_it() -> None:
    confidence = CLIP.confidence.copy()
    confidence[:, 6] = 0  # an elbow between a shoulder and a wrist that are there
    of = moving(replace(CLIP, confidence=confidence))
    assert (of.limbs == 6).any()
    window = skeletons.Window.of([moving(CLIP)])
    without = of._replace(limbs=of.limbs[(of.limbs != 6).all(1)])
    assert np.array_equal(skeletons.still(of, 5, window, 128, 128), skeletons.still(without, 5, window, 128, 128))


def near(picture: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    return (np.abs(picture.astype(int) - np.array(colour)[:, None, None]) < 25).all(0)


def test_world_points_do_not_move_the_window() -> None:
    """They are metres beside pixels: drawn with the others, they would make blank pictures."""
    skeleton = skeleton_of("mediapipe-586")
    random = np.random.default_rng(0)
    data = random.uniform(200, 400, (3, 586, 3)).astype(np.float32)
    data[:, 553:] = random.uniform(-1e5, 1e5, (3, 33, 3))
    of = moving(PoseClip(data, np.ones((3, 586), np.float32), 25.0, skeleton))
    assert np.isnan(of.points[:, 553:]).all()
    window = skeletons.Window.of([of])
    assert 180 < window.width < 260
    assert of.limbs.max() < 553
    assert ink(skeletons.still(of, 0, window, 64, 64)).mean() > 0.1


def test_nothing_known_is_a_white_picture() -> None:
    none = replace(CLIP, confidence=CLIP.confidence * 0)
    assert not ink(skeletons.tiles([moving(none)])[0]).any()


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png"])
def test_an_animation(tmp_path: Path, suffix: str) -> None:
    other = signed(Signed.of("NO slow left low"), frames=10)
    path = skeletons.movie([moving(CLIP), moving(other)], tmp_path / f"a{suffix}", ["one", "two"])
    with Image.open(path) as image:
        frames, seen = image.n_frames, []
        for i in (0, frames // 2):
            image.seek(i)
            seen.append(np.asarray(image.convert("RGB")))
    assert frames <= len(CLIP)
    assert frames > len(CLIP) - 6  # equal neighbours may be one
    assert (seen[0] != seen[1]).any(2).sum() > 100
    with pytest.raises(ValueError, match="clips of one speed"):
        skeletons.movie([moving(CLIP), moving(replace(other, fps=10.0))], path)


def test_a_page_that_plays(tmp_path: Path) -> None:
    """One file, without a reference outside of it; a missing point is null."""
    confidence = CLIP.confidence.copy()
    confidence[3, HEAD] = 0
    path = skeletons.movie([moving(replace(CLIP, confidence=confidence))], tmp_path / "a.html", ["</script><b>"])
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"(src|href)\s*=|url\(|https?:|import\s", text)
    assert "&lt;/script&gt;&lt;b&gt;" in text
    told = json.loads(re.search(r"const told = (.*);\n", text)[1])  # type: ignore[index]
    (clip,) = told["clips"]
    assert len(clip["frames"]) == len(CLIP)
    assert clip["frames"][3][HEAD] is None
    assert clip["frames"][2][HEAD][1] < clip["frames"][2][1][1]  # the head above the neck
    assert text.count("<script>") == text.count("</script>") == 1


def test_the_space_draws_writes_and_plays(tmp_path: Path) -> None:
    space = Keypoints(frames=30, mean=(0.0,) * 150, std=(1.0,) * 150, skeleton=CLIP.skeleton, fps=25.0)
    samples = [torch.from_numpy(CLIP.data).flatten(1)] * 3
    assert space.tiles(samples).shape[:2] == (3, 3)
    assert space.show(samples, captions=["a", "b", "c"]).size[0] > 100
    assert space.play(samples, tmp_path / "a.gif").stat().st_size > 1000
    assert [path.name for path in space.write(samples, tmp_path / "a.pose")] == ["a-1.pose", "a-2.pose", "a-3.pose"]
    assert [path.name for path in space.write(samples[:1], tmp_path / "b.npz")] == ["b.npz"]
