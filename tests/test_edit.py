"""Editing clips: what is kept stays bit for bit, what is made fits it, and the command line says what will not do."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import unsteep
from command_line import made, unsteep_
from unsteep.core.estimate import Estimate
from unsteep.core.level import NoiseLevel
from unsteep.data.signer import Signed, Signer, signed
from unsteep.hearing import Length
from unsteep.model import Description, ModelConfig
from unsteep.model.edit import edit
from unsteep.networks import SequenceConfig
from unsteep.poses import Part, PoseClip, Skeleton, read_clip, write_clip
from unsteep.spaces import Keypoints

FRAMES = 28
PLAIN = Skeleton(
    parts=(
        Part(name="body", points=("a", "b"), limbs=((0, 1),)),
        Part(name="hand", points=("w", "f"), limbs=((0, 1),), root="w"),
    ),
    axes="xy",
)
TIME = torch.arange(FRAMES, dtype=torch.float64)
COVARIANCE = torch.exp(-(((TIME[:, None] - TIME) / 3) ** 2)) + 1e-6 * torch.eye(FRAMES, dtype=torch.float64)


class Smooth(unsteep.Model):
    """Of clips whose numbers go as a Gaussian process along the frames, which it knows."""

    def denoise(self, condition: Any = None, clip: bool | None = True, guidance: Any = 1.0) -> Any:
        def known(x: Tensor, level: NoiseLevel) -> Estimate:
            alpha, sigma = (float(one.flatten()[0]) for one in (level.alpha, level.sigma))
            gain = (
                alpha
                * COVARIANCE
                @ torch.linalg.inv(
                    alpha**2 * COVARIANCE + max(sigma, 1e-6) ** 2 * torch.eye(FRAMES, dtype=torch.float64)
                )
            )
            return Estimate("x0", (gain.to(x) @ x), x, level)

        return known


def smooth() -> Smooth:
    space = Keypoints(frames=FRAMES, mean=(0.0,) * 8, std=(1.0,) * 8, skeleton=PLAIN, fps=25.0)
    description = Description(
        model=ModelConfig(network=SequenceConfig(features=8, width=8, depth=1, heads=1), prediction="x0"),
        schedule=unsteep.CosineBetas(),
        space=space,
        hears=(Length(counts=(0,) * FRAMES + (1,), frames=FRAMES),),
    )
    return Smooth(description.build(), description)


def drawn(n: int, seed: int = 0) -> np.ndarray:
    """Clips of that process: float32 (n, frames, points, axes)."""
    noise = torch.randn(n, FRAMES, 8, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    clips: np.ndarray = (torch.linalg.cholesky(COVARIANCE) @ noise).unflatten(2, (4, 2)).float().numpy()
    return clips


def clip_of(data: np.ndarray, fps: float = 25.0) -> PoseClip:
    return PoseClip(data, np.ones(data.shape[:2], np.float32), fps, PLAIN)


def jumps(data: np.ndarray) -> np.ndarray:
    """In velocity, at each frame between two others: (frames - 2,), the mean over points."""
    mean: np.ndarray = np.linalg.norm(np.diff(data, n=2, axis=0), axis=2).mean(1)
    return mean


@pytest.mark.parametrize("keep", [[*range(8), *range(20, 28)], [0, 9, 18, 27]], ids=["between", "keys"])
def test_what_is_made_fits_at_the_seams(keep: list[int]) -> None:
    """Jumps in velocity where kept frames meet others are as the data's own: hardly one in twenty is above their 95th
    percentile. What is put in at each step alone does not fit so."""
    usual = np.quantile(np.concatenate([jumps(one) for one in drawn(200, 1)]), 0.95)
    model, seams = smooth(), [i for i in range(FRAMES - 2) if len({k in keep for k in range(i, i + 3)}) > 1]

    def above(**how: Any) -> float:
        found = []
        for data in drawn(3):
            for one in edit(model, clip_of(data), 4, keep=keep, **how):
                assert np.array_equal(one.data[keep], data[keep])
                assert not np.allclose(one.data[10], data[10], atol=1e-3)
                found.append(jumps(one.data)[seams])
        return float((np.concatenate(found) > usual).mean())

    assert above(steps=20) < 0.08
    assert above(steps=20, method="repaint", resamples=1) > 0.2


def test_what_is_kept_stays_to_the_bit() -> None:
    """In frames and in parts, wherever the clip stands, also what is missing; and what is made is never missing."""
    data = (drawn(1)[0] * 37.123 + 400).astype(np.float32)
    clip = clip_of(data)
    clip.confidence[3, 1] = clip.confidence[15, 0] = 0
    clip.confidence[4] = 0.25
    space: Any = smooth().space
    for relative in (False, True):
        model: Any = smooth()
        model.description = replace(model.description, space=replace(space, relative=relative))
        (one,) = edit(model, clip, keep=[3, 4, 5], keep_parts=["hand"], steps=3)
        assert np.array_equal(one.data[3:6], clip.data[3:6])
        assert np.array_equal(one.confidence[3:6], clip.confidence[3:6])
        assert np.array_equal(one.data[:, 2:], clip.data[:, 2:])
        assert one.confidence[15, 0] == 1
        assert not np.allclose(one.data[15:, :2], clip.data[15:, :2])
        other = replace(clip, data=np.where(clip.known[..., None], clip.data, 1e6))
        (same,) = edit(model, other, keep=[3, 4, 5], keep_parts=["hand"], steps=3)
        assert np.array_equal(same.data[6:], one.data[6:])  # whatever stands where a point is missing


def test_it_comes_back_to_where_the_clip_was() -> None:
    """A normalised model edits a clip in pixels in pixels."""
    space = Keypoints().fitted(Signer(count=20).read())
    clip = signed(Signed.of("HELLO fast left high")).placed()
    x, known = space.opened(clip)
    assert bool(known.all())
    assert np.allclose(space.clip(x).data, signed(Signed.of("HELLO fast left high")).data, atol=1e-5)
    back = space.closed(x, clip, torch.zeros(len(clip), 50, dtype=torch.bool))
    assert np.allclose(back.data, clip.data, atol=1e-3)
    assert back.size == clip.size


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({}, "keep: nothing of the clip is kept"),
        ({"keep": range(FRAMES)}, "keep: all of the clip is kept"),
        ({"keep": [28]}, "keep: expected frames from 0 to 27, got 28"),
        ({"keep_parts": ["foot"]}, "keep_parts: expected some of body, hand, got 'foot'"),
        ({"keep": [1], "of": clip_of(drawn(1)[0], 30.0)}, "clip: the model makes 25 frames a second, and it has 30"),
        ({"keep": [1], "of": signed(Signed.of("YES fast left low"))}, "expected the points of 4 points"),
        ({"keep": [1], "of": clip_of(np.zeros((29, 4, 2), np.float32))}, "the model makes up to 28 frames"),
    ],
)
def test_what_will_not_do(how: dict[str, Any], words: str) -> None:
    of = how.pop("of", clip_of(drawn(1)[0]))
    with pytest.raises(ValueError, match=words):
        edit(smooth(), of, **how)


def test_by_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    tiny = ("model.network.width=16", "model.network.depth=1", "model.network.heads=2", "data.count=20")
    more = ("schedule.steps=10", "train.batch=8", "train.steps=2", "train.warmup=1", "train.report=false")
    made("train", "signer", "--out", "run", *(part for one in (*tiny, *more) for part in ("--set", one)))
    write_clip(signed(Signed.of("HELLO fast left high")).placed(), "a.pose")
    given = read_clip("a.pose")
    ask = ("--steps", 2, "--prompt", "HELLO fast left high")
    said = made(
        "edit", "run", "a.pose", "--keep", "0:4,20:", "--keys", "9", *ask, "--movie", "b.gif", "--out", "b.pose"
    )
    assert "9 frames of a.pose kept" in said
    kept = [0, 1, 2, 3, 9, 20, 21, 22, 23]
    one = read_clip("b.pose")
    assert np.array_equal(one.data[kept], given.data[kept])
    assert not np.allclose(one.data[5:9], given.data[5:9], atol=1)
    made("edit", "run", "a.pose", "--keep-parts", "body", *ask, "-n", 2, "--method", "repaint", "--jump", 1)
    for name in ("edited-1.pose", "edited-2.pose"):
        assert np.array_equal(read_clip(name).data[:, :8], given.data[:, :8])
    for options, words in (
        (("--keep", "4:2"), "--keep: expected stretches as 0:10,40:50, of the clip's 24 frames from 0 on, got '4:2'"),
        (("--keys", "24"), "--keys: expected frames as 0,12,30"),
        (("--keep-parts", "face"), "--keep-parts: expected some of body, left hand, right hand"),
        ((), "--keep: nothing of the clip is kept"),
        (("--keep", "0:3", "--out", "c.gif"), "a clip is one of .pose, .npz"),
    ):
        code, _, err = unsteep_("edit", "run", "a.pose", "--steps", 2, *options)
        assert (code, words in err) == (2, True), err
        assert err.count("\n") == 1
