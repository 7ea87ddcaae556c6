"""Metrics of motion: each by its definition, number by number; blind to what is missing; and beside their baselines."""

import json
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from command_line import made, unsteep_
from unsteep.data.poses import PoseExamples
from unsteep.data.signer import Signer
from unsteep.evaluation.tracks import Clips, baselines
from unsteep.features import wording as wordings
from unsteep.features.wording import WordingNet, wording
from unsteep.metrics import motion
from unsteep.metrics.motion import MOTIONS, Danced, Track
from unsteep.spaces import Keypoints

LIMBS = torch.tensor([[0, 1], [1, 2]])


def track(frames: int, seed: int, missing: float = 0.3) -> Track:
    generator = torch.Generator().manual_seed(seed)
    weight = torch.rand(frames, 3, generator=generator)
    x = torch.randn(frames, 3, 2, generator=generator).cumsum(0)
    return Track(x, weight * (weight > missing))


def by_paths(a: Track, b: Track) -> float:
    """The warping of least sum, by trying every path."""

    def cost(i: int, j: int) -> tuple[float, int]:
        w = [min(float(a.weight[i, p]), float(b.weight[j, p])) for p in range(3)]
        d = [math.dist(a.x[i, p].tolist(), b.x[j, p].tolist()) for p in range(3)]
        return (sum(x * y for x, y in zip(w, d, strict=True)) / sum(w), 1) if sum(w) else (0.0, 0)

    def best(i: int, j: int) -> tuple[float, int]:
        own = cost(i, j)
        if (i, j) == (0, 0):
            return own
        before = [best(i - m, j - n) for m, n in ((1, 1), (1, 0), (0, 1)) if i >= m and j >= n]
        least = min(before, key=lambda one: one[0])
        return own[0] + least[0], own[1] + least[1]

    total, met = best(len(a) - 1, len(b) - 1)
    return total / met


def test_warping_is_the_best_of_all_paths() -> None:
    for seed in range(4):
        a, b = track(5, seed), track(4, 10 + seed)
        assert motion.dtw(a, b) == pytest.approx(by_paths(a, b), rel=1e-12)
        assert motion.dtw(a, b) == pytest.approx(motion.dtw(b, a), rel=1e-12)
    slow = Track(a.x.repeat_interleave(3, 0), a.weight.repeat_interleave(3, 0))
    assert motion.dtw(a, slow) < 1e-12


def test_each_by_its_definition() -> None:
    one = track(6, 1)
    x, w = one.x, one.weight

    def mean(pairs: list[tuple[Tensor, Tensor]]) -> float:
        return float(sum(v * c for v, c in pairs) / sum(c for _, c in pairs))

    moved = [((x[f + 1, p] - x[f, p]).norm(), min(w[f + 1, p], w[f, p])) for f in range(5) for p in range(3)]
    assert motion.displacement(one) == pytest.approx(mean(moved))
    third = [
        ((x[f + 3, p] - 3 * x[f + 2, p] + 3 * x[f + 1, p] - x[f, p]).norm(), w[f : f + 4, p].min())
        for f in range(3)
        for p in range(3)
    ]
    assert motion.jerk(one, 10.0) == pytest.approx(1000 * mean(third))
    shares = []
    for a, b in LIMBS.tolist():
        lengths = [((x[f, a] - x[f, b]).norm(), min(w[f, a], w[f, b])) for f in range(6)]
        middle = mean(lengths)
        shares.append(mean([((v - middle) ** 2, c) for v, c in lengths]) ** 0.5 / middle)
    assert motion.bone_drift(one, LIMBS) == pytest.approx(sum(shares) / 2)
    rigid = Track(x[:1] + torch.arange(6.0)[:, None, None], torch.ones(6, 3))
    assert motion.bone_drift(rigid, LIMBS) == 0
    assert motion.displacement(rigid) == pytest.approx(2**0.5)
    assert motion.jerk(rigid, 10.0) < 1e-9


def test_what_is_missing_weighs_nothing() -> None:
    """Whatever stands there, and whatever measures it."""
    clean, other = track(7, 0), track(5, 3)
    junk = torch.where(clean.weight[..., None] > 0, clean.x, torch.nan)
    dirty = Track(junk, clean.weight)
    parts = [torch.tensor([0, 1]), torch.tensor([2])]
    for of in (
        lambda one: motion.dtw(one, other),
        motion.displacement,
        lambda one: motion.jerk(one, 25.0),
        lambda one: motion.bone_drift(one, LIMBS),
        lambda one: motion.apart(one, other),
        lambda one: motion.features(one, parts, 25.0).tolist(),
    ):
        assert of(dirty) == of(clean)
    none = Track(torch.full((4, 3, 2), torch.nan), torch.zeros(4, 3))
    assert motion.dtw(none, other) == motion.bone_drift(none, LIMBS) == motion.displacement(none) == 0


def test_a_frozen_and_a_true_clip() -> None:
    """What each metric says of the truth itself, and of one that does not move."""
    data = Signer(count=1, test_count=12).read("test")
    space = Keypoints().fitted(data)
    clips = Clips(data, space)
    of = Danced(
        clips.tracks,
        clips.tracks,
        clips.texts,
        torch.from_numpy(space.of.limbs),
        [torch.tensor(span) for span in space.of.spans],
        space.fps,
        {text: Track(torch.from_numpy(c.data), torch.from_numpy(c.confidence)) for text, c in data.truths.items()},
    )
    perfect = {name: one.take(of).value for name, one in MOTIONS.items() if name != "retrieval"}
    assert perfect["dtw"] == perfect["bone-drift"] == 0
    assert perfect["frechet"] == pytest.approx(0, abs=1e-6)
    assert perfect["disp-ratio"] == perfect["asked"] == perfect["diversity"] == 1
    still = of.of([Track(one.x[:1].expand_as(one.x), one.weight) for one in of.tracks])
    assert MOTIONS["disp-ratio"].take(still).value == 0
    assert MOTIONS["dtw"].take(still).value > 0.05
    assert MOTIONS["asked"].take(still).value < 0.2
    assert MOTIONS["frechet"].take(still).value > 10
    found = baselines(clips, Clips(Signer(count=60).read(), space))
    assert list(found) == ["mean pose", "lookup", "nearest"]
    far = {name: MOTIONS["dtw"].take(of.of(tracks)).value for name, tracks in found.items()}
    assert 0 < far["nearest"] < far["lookup"] < far["mean pose"]


def test_words_are_found_whatever_padding_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The net names clips that it has not seen; padding and missing numbers have no part in it; it is kept."""
    data = Signer(count=120, style=0.5, relative=False).read()
    space = Keypoints().fitted(data)
    settings = WordingNet(width=32, steps=80, batch=32)
    all_of_it = torch.ones(150)
    net = wording(data, space, all_of_it, tmp_path, settings)
    new = Signer(count=24, seed=5, style=0.5, relative=False).read()
    signs = [text.split()[0] for text in new.captions]
    texts = sorted(set(new.captions))
    named = net.named(new.x, new.valid, texts)
    assert sum(a.split()[0] == b for a, b in zip(named, signs, strict=True)) > 12
    grown = torch.cat([new.x.masked_fill(~new.valid[..., None], torch.nan), torch.full((24, 9, 150), 1e6)], 1)
    assert net.named(grown, torch.cat([new.valid, torch.zeros(24, 9, dtype=torch.bool)], 1), texts) == named
    monkeypatch.setattr(wordings, "_trained", lambda *_: pytest.fail("it lies in the cache"))
    assert wording(data, space, all_of_it, tmp_path, settings).digest == net.digest


def test_by_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wordings, "WordingNet", lambda: WordingNet(width=8, steps=3, batch=8))
    tiny = ("model.network.width=16", "model.network.depth=1", "model.network.heads=2", "data.count=30")
    more = ("data.test_count=40", "schedule.steps=10", "train.batch=8", "train.steps=2", "train.warmup=1")
    sets = [part for one in (*tiny, *more, "train.report=false") for part in ("--set", one)]
    made("train", "signer", "--out", tmp_path / "run", *sets)
    said = made("evaluate", tmp_path / "run", "-n", 20, "--steps", 2, "--out", tmp_path / "all")
    assert all(name in said for name in ("mean pose", "lookup", "nearest", "floor: real clips", *MOTIONS))
    told = json.loads((tmp_path / "all" / "results.json").read_text())
    assert set(told["values"]) == set(told["beside"]["lookup"]) == set(MOTIONS)
    assert all(f"{name}, how" in told["protocol"] for name in MOTIONS)
    assert (tmp_path / "all" / "samples.png").exists()
    some = ("--metrics", "dtw", "jerk")
    said = made("evaluate", tmp_path / "run", "-n", 4, "--steps", 2, *some, "--out", tmp_path / "some")
    assert "lookup" in said
    assert "frechet" not in said
    for options, words in (
        (("--metrics", "fid"), "'fid' is none of clips; choose dtw"),
        (("--replicates", 3), "replicates: is of pictures"),
        (("-n", 1), "at least 8 real clips and 2 samples"),
    ):
        code, _, err = unsteep_("evaluate", tmp_path / "run", "--steps", 2, *options, "--out", tmp_path / "no")
        assert (code, words in err.replace("--", "")) == (2, True), err


def test_confidence_is_weight() -> None:
    """A point that is half sure counts half, and one that is missing nothing; hidden ones never count."""
    data = Signer(count=4).read()
    assert isinstance(data, PoseExamples)
    space = Keypoints().fitted(data)
    assert data.weight is not None
    data.weight[:, :, 30:33] = 0.5
    data.weight[:, :, 60:63] = 0
    tracks = Clips(data, space).tracks
    assert float(tracks[0].weight[0, 10]) == 0.5
    assert float(tracks[0].weight[0, 20]) == 0
    assert float(tracks[0].weight[0, 11]) == 1
