"""Clips as data: read, brought together, what is missing stays so, and what is left out is counted; and their space."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from test_pose_files import clip_of
from unsteep.data import Poses
from unsteep.data.signer import Signed, signed
from unsteep.evaluation.examples import usual_split
from unsteep.poses import PoseClip, read_clip, skeleton_of, write_clip
from unsteep.spaces import Keypoints

SPOKEN = ("A", "B", "C", "D", "E", "F")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six clips of MediaPipe's points in two folders, of several lengths and speeds, with a table."""
    rows = ["file,text,language"]
    for i, text in enumerate(SPOKEN):
        clip = clip_of("mediapipe-586", frames=4 + i, seed=i, fps=25.0 if i % 2 else 50.0)
        clip.confidence[:, 11:13] = 1  # shoulders
        where = tmp_path / "clips" / ("xx" if i % 2 else "yy") / f"{text}.pose"
        write_clip(clip, where)
        rows.append(f"{where.relative_to(tmp_path / 'clips').as_posix()},letter {text},{'xx' if i % 2 else 'yy'}")
    (tmp_path / "texts.csv").write_text("\n".join(rows) + "\n")
    return tmp_path


def test_clips_and_what_they_say(folder: Path) -> None:
    data = Poses(path=str(folder / "clips"), texts=str(folder / "texts.csv"), skeleton="mediapipe-178").read()
    assert len(data) == 6
    assert data.x.shape[2] == 178 * 3
    assert data.skeleton == skeleton_of("mediapipe-178")
    assert set(data.captions) == {f"letter {one}" for one in SPOKEN}
    assert data.valid.sum(1).tolist() == [5, 7, 9, 2, 3, 4]  # those of 50 a second are half as long
    weights = data.weight.unflatten(2, (178, 3))
    assert bool((weights == weights[..., :1]).all())
    assert float(weights.max()) <= 1
    assert 0.1 < float((weights[data.valid] == 0).float().mean()) < 0.4
    assert not bool(data.weight[~data.valid].any())
    for i in range(6):
        clip = data.clip(i)
        a, b = (clip.skeleton.place(one) for one in clip.skeleton.shoulders)
        widths = np.linalg.norm(clip.data[:, a] - clip.data[:, b], axis=1)
        assert float(widths.mean()) == pytest.approx(1, abs=1e-4)
    by = Poses(path=str(folder / "clips"), texts=str(folder / "texts.csv"), classes="language").read()
    assert by.names == ("xx", "yy")
    assert by.labels.tolist() == [0, 0, 0, 1, 1, 1]  # type: ignore[union-attr]


def test_a_language_is_held_out(folder: Path) -> None:
    """All of its clips and no other's; the classes are those of both parts."""
    how = {"path": str(folder / "clips"), "texts": str(folder / "texts.csv"), "classes": "language"}
    source = Poses(**how, held=("xx",))
    train, test = source.read("train"), source.read("test")
    assert all(name.startswith("yy") for name in train.files)
    assert all(name.startswith("xx") for name in test.files)
    assert (len(train), len(test), len(source.read("all"))) == (3, 3, 6)
    assert train.names == test.names == ("xx", "yy")
    assert usual_split(source) == "test"
    assert usual_split(Poses(**how)) == "train"
    with pytest.raises(ValueError, match="held: expected some of xx, yy, got zz"):
        Poses(**how, held=("zz",)).read()
    with pytest.raises(ValueError, match="held: expected a table of texts with languages, and holdout=0"):
        Poses(**how, held=("xx",), holdout=0.1)
    again = (folder / "texts.csv").read_text() + "xx/B.pose,another text,zz\n"
    (folder / "texts.csv").write_text(again)
    twice = Poses(**how).read()
    assert twice.names == ("xx", "yy")  # a file is one clip, of the language that names it first
    assert ("xx/B.pose", "a further text of the same file") in twice.skipped


def test_what_is_missing_may_hold_anything(folder: Path, tmp_path: Path) -> None:
    for i, path in enumerate(sorted((folder / "clips").rglob("*.pose"))):
        clip = read_clip(path)
        junk = np.where(clip.known[..., None], clip.data, 1e5 * (i + 1)).astype(np.float32)
        write_clip(replace(clip, data=junk), tmp_path / "other" / path.relative_to(folder / "clips"))
    how = {"skeleton": "mediapipe-178", "relative": True}
    one, other = (Poses(path=str(where), **how).read() for where in (folder / "clips", tmp_path / "other"))  # type: ignore[arg-type]
    assert one.digest == other.digest
    assert torch.equal(one.x, other.x)
    assert Keypoints().fitted(one) == Keypoints().fitted(other)


def test_one_deviation_a_part_and_back_again(folder: Path) -> None:
    for relative in (False, True):
        data = Poses(path=str(folder / "clips"), skeleton="mediapipe-178", relative=relative).read()
        space = Keypoints().fitted(data)
        assert space.relative == relative
        assert len(set(space.std)) == 4 + 2 * relative  # body, face, hands; and both wrists
        inside = space.encode(data.x, data.known)
        assert not bool(inside[~data.known].any())
        samples = space.decode(inside, data.known)
        for i in (0, 3):
            mine, theirs = space.clip(samples[i]), data.clip(i)
            there = data.known[i, : len(mine)].unflatten(1, (-1, 3))[..., 0].numpy()
            assert np.array_equal(mine.known, there)
            assert np.allclose(mine.data[there], theirs.data[: len(mine)][there], atol=1e-4)


def test_what_is_written_is_read_the_same(tmp_path: Path) -> None:
    """A sample as a file, in a picture's pixels, and read as data again."""
    clip = signed(Signed.of("HOUSE fast right low"))
    space = Keypoints(frames=40, mean=(0.0,) * 150, std=(1.0,) * 150, skeleton=clip.skeleton, fps=25.0)
    space.write([torch.from_numpy(clip.normalised().data).flatten(1)], tmp_path / "a" / "a.pose")
    back = Poses(path=str(tmp_path / "a")).read()
    assert back.skeleton == clip.skeleton
    assert np.allclose(back.clip(0).data, clip.normalised().data, atol=1e-4)


def test_a_skeleton_whose_y_grows_up_comes_back_upright(tmp_path: Path) -> None:
    """From a file, in which it stands in a picture."""
    clip = clip_of("smpl-22", frames=4, seed=0)
    clip.confidence[:] = 1
    first = clip.normalised()
    write_clip(first.placed(), tmp_path / "a.pose")
    read = read_clip(tmp_path / "a.pose")
    assert read.skeleton.y == "down"
    assert clip.skeleton.y == "up"
    again = read.reduced(clip.skeleton).normalised()
    assert np.allclose(again.data, first.data, atol=1e-4)


def test_left_out_is_counted_and_too_much_is_refused(folder: Path) -> None:
    clips, table = folder / "clips", folder / "texts.csv"
    table.write_text(table.read_text() + "xx/none.pose,none,xx\nxx/B.pose,again,xx\n")
    data = Poses(path=str(clips), texts=str(table), max_bad=0.2).read()
    assert len(data) == 6
    assert data.skipped == (("xx/none.pose", "text without a clip"), ("xx/B.pose", "a further text of the same file"))
    assert ("skipped", "2: xx/none.pose (text without a clip), xx/B.pose (a further text of the same file)") in (
        data.summary()
    )
    with pytest.raises(ValueError, match="1 of 7 texts name no clip here"):
        Poses(path=str(clips), texts=str(table), max_bad=0.0).read()
    empty = clip_of("mediapipe-586")
    write_clip(replace(empty, confidence=empty.confidence * 0), clips / "zz.pose")
    write_clip(clip_of("openpose-137"), clips / "zzz.pose")
    found = Poses(path=str(clips), max_bad=0.5).read()
    reasons = dict(found.skipped)
    assert reasons["zz.pose"] == "all points are missing"
    assert reasons["zzz.pose"].startswith("skeleton: expected the points of 586 points")
    with pytest.raises(ValueError, match=r"2 of 8 clips will not do \(zz.pose, zzz.pose: all points are missing\)"):
        Poses(path=str(clips)).read()


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"path": "nowhere"}, "expected a folder of .pose or .npz files, found none at nowhere"),
        ({"texts": "nowhere.csv"}, "nowhere.csv: expected a table"),
        ({"skeleton": "mine"}, "skeleton: expected one of mediapipe-586"),
        ({"skeleton": "smpl-22"}, "clips will not do"),
        ({"longest": 1}, "6 of 6 clips will not do .* longer than 1 frames"),
        ({"longest": 1, "max_bad": 1.0}, "not one clip will do"),
        ({"classes": "language"}, "expected a table of texts"),
    ],
)
def test_bad_input_is_one_line(folder: Path, how: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        Poses(**{"path": str(folder / "clips"), **how}).read()
    assert "\n" not in str(caught.value)


def test_another_layout_than_the_model_is_refused() -> None:
    space = Keypoints(frames=4, mean=(0.0,) * 150, std=(1.0,) * 150, skeleton=skeleton_of("skels-50"), fps=25.0)
    with pytest.raises(ValueError, match=r"got examples of shape \(4, 66\).*the model knows 50 points of 3 numbers"):
        space.check(torch.zeros(2, 4, 66))
    with pytest.raises(ValueError, match="these data name no skeleton"):
        Keypoints().fitted(PlainData())


class PlainData:
    source = "mine"


def test_a_clip_of_one_frame(tmp_path: Path) -> None:
    clip = PoseClip(
        np.random.default_rng(0).standard_normal((1, 50, 3)).astype(np.float32),
        np.ones((1, 50), np.float32),
        30.0,
        skeleton_of("skels-50"),
    )
    write_clip(clip, tmp_path / "a.npz")
    assert Poses(path=str(tmp_path)).read().x.shape == (1, 1, 150)
