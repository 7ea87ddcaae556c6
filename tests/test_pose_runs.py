"""Runs on clips, from words to files and films: by the command line, with text, and whatever padding there is."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import unsteep
from command_line import made, unsteep_
from unsteep.core.condition import Condition
from unsteep.data.signer import Signer
from unsteep.networks import SequenceConfig, SequenceDiTConfig, TextEncoderConfig
from unsteep.poses import read_clip
from unsteep.spaces import Keypoints

TINY = [
    *("model.network.width=16", "model.network.depth=1", "model.network.heads=2", "data.count=40", "schedule.steps=20"),
    *("train.batch=8", "train.steps=4", "train.warmup=1"),
]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("poses") / "signer"
    made("train", "signer", "--out", out, *(part for one in TINY for part in ("--set", one)))
    return out


def test_from_words_to_a_file_a_film_and_a_page(run: Path, tmp_path: Path) -> None:
    ask = ("--prompt", "HELLO fast left high", "--length", 9, "--steps", 2)
    said = made("sample", run, *ask, "-n", 2, "--out", tmp_path / "a.pose", "--movie", tmp_path / "a.gif")
    assert "2 clips in" in said
    clips = [read_clip(tmp_path / f"a-{i}.pose") for i in (1, 2)]
    assert [len(clip) for clip in clips] == [9, 9]
    assert clips[0].fps == 25
    assert not np.array_equal(clips[0].data, clips[1].data)
    with Image.open(tmp_path / "a.gif") as image:
        assert image.n_frames > 5
    made("sample", run, *ask, "-n", 1, "--out", tmp_path / "b.pose", "--movie", tmp_path / "b.html")
    assert np.array_equal(read_clip(tmp_path / "b.pose").data, clips[0].data) or np.allclose(
        read_clip(tmp_path / "b.pose").data, clips[0].data, atol=1e-2
    )
    made("sample", run, *ask, "-n", 1, "--out", tmp_path / "b.png", "--movie", tmp_path / "b.html")  # ours: again
    code, _, err = unsteep_("sample", run, *ask, "-n", 2, "--out", tmp_path / "a.pose")
    assert (code, "a-1.pose exists, and unsteep did not write it" in err) == (2, True)
    made("sample", run, *ask, "-n", 2, "--out", tmp_path / "a.pose", "--force")
    made("show", run)
    assert {path.name for path in run.glob("*.png")} >= {"samples.png"}


def test_what_cannot_be_written_is_refused_at_once(run: Path, tmp_path: Path) -> None:
    fixture = Path(__file__).parent / "fixtures" / "0.1" / "run"
    for of, options, words in (
        (fixture, ("--out", tmp_path / "a.pose"), "a .pose file holds clips of a skeleton"),
        (fixture, ("--movie", tmp_path / "a.html"), "a page plays clips of a skeleton"),
        (run, ("--movie", tmp_path / "a.avi"), "an animation is one of .gif, .webp, .png, .html"),
        (run, ("--length", 900), "length: expected a whole number from 1 to"),
    ):
        code, _, err = unsteep_("sample", of, "-n", 1, "--steps", 2, *options)
        assert (code, words in err) == (2, True), err
        assert err.count("\n") == 1


def test_view(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    space = Keypoints(frames=5, mean=(0.0,) * 150, std=(1.0,) * 150, skeleton=Signer(count=1).read().skeleton, fps=10.0)
    space.write([torch.rand(5, 150), torch.rand(3, 150)], Path("a.pose"))
    assert "2 clips in b.html" in made("view", "a-1.pose", "a-2.pose", "--out", "b.html")
    made("view", "a-1.pose")
    made("view", "a-1.pose")  # again, over what it wrote
    assert Path("a-1.gif").exists()
    for words, said in (
        (("none.pose",), "there is no such file"),
        (("a-1.pose", "--out", "b.txt"), "what a clip is shown as is one of"),
        (("a-1.pose", "--skeleton", "smpl-22"), "expected the points of 22 points"),
        (("a-1.pose", "--person", 3), "1 people, and no number 3"),
        ((), "expected a .pose or .npz file, got none"),
    ):
        code, _, err = unsteep_("view", *words)
        assert (code, said in err) == (2, True), err


def model_of(kind: Any) -> tuple[unsteep.Denoiser, int]:
    """An untrained network whose weights are no zeros, and how many pieces its vocabulary has."""
    torch.manual_seed(0)
    config = kind(features=6, width=16, depth=2, heads=2, text=TextEncoderConfig(pieces=9, limit=8, width=16, depth=1))
    network = config.build()
    for weight in network.parameters():
        torch.nn.init.normal_(weight, std=0.2)
    return network, 9


@pytest.mark.parametrize("kind", [SequenceConfig, SequenceDiTConfig])
def test_text_is_heard_and_padding_is_not(kind: Any) -> None:
    """Of the frames and of the text; and no text is the same whatever stands in its place."""
    network, pieces = model_of(kind)
    x = torch.randn(3, 5, 6, generator=torch.Generator().manual_seed(0))
    valid = torch.arange(5) < torch.tensor([5, 3, 1])[:, None]
    text = torch.randint(1, pieces, (3, 4), generator=torch.Generator().manual_seed(1))
    told = torch.tensor([[1, 1, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0]]).bool()
    label = torch.full((3,), 300.0)
    with torch.no_grad():
        first = network(x, label, text=text, text_valid=told, valid=valid)
        longer = torch.cat([x.masked_fill(~valid[..., None], torch.nan), torch.full((3, 4, 6), 1e4)], 1)
        more = torch.cat([valid, torch.zeros(3, 4, dtype=torch.bool)], 1)
        other = torch.where(told, text, 7)
        grown = network(
            longer,
            label,
            text=torch.cat([other, other], 1),
            text_valid=torch.cat([told, torch.zeros_like(told)], 1),
            valid=more,
        )
        torch.testing.assert_close(grown[:, :5], first, rtol=1e-5, atol=1e-5)
        assert not bool(grown[:, 5:].any())
        changed = network(x, label, text=(text % (pieces - 1)) + 1, text_valid=told, valid=valid)
        assert not torch.allclose(changed[0], first[0])
        assert torch.allclose(changed[2], first[2])  # there is no text
        without = network(x, label, valid=valid)
        torch.testing.assert_close(without[2], first[2])
        whole = network(x, label, text=text, text_valid=told)
        torch.testing.assert_close(whole[0], first[0], rtol=1e-5, atol=1e-5)
    with pytest.raises(ValueError, match="text: this network has text=none"):
        kind(features=6, width=16, heads=2).build()(x, label, text=text)


def test_a_sample_does_not_change_when_padding_grows(run: Path) -> None:
    """The same model with room for twice as many frames draws the same clip."""
    model = unsteep.load(run, device="cpu")
    of = model.description
    frames = of.space.shape[0]
    text = of.hearing("prompt").heard(["HELLO fast left high"] * 2)
    drawn = []
    for most in (frames, frames + 7, 2 * frames):
        wider = unsteep.Model(model.denoiser, replace(of, space=replace(of.space, frames=most)), model.statistics)
        valid = torch.arange(most) < torch.tensor([24, 11])[:, None]
        drawn.append(wider.sample(2, condition=Condition(**text, valid=valid), steps=4, guidance=2.0))
    for other in drawn[1:]:
        for one, same in zip(drawn[0], other, strict=True):
            torch.testing.assert_close(one, same, rtol=1e-5, atol=1e-5)
