"""The synthetic signer: exact bones, a true clip of every text, and combinations that no training clip has."""

import numpy as np
import pytest

from unsteep.data.signer import HANDS, PLACES, SIGNS, SPEEDS, Signed, Signer, combinations, signed

ALL = [one for part in combinations(6) for one in part]


@pytest.mark.parametrize("text", [one.text for one in ALL[::7]])
def test_every_bone_keeps_its_length(text: str) -> None:
    """In every frame, for any style."""
    random = np.random.default_rng(0)
    lengths = []
    for style in (None, *random.uniform(-1, 1, (3, 5))):
        clip = signed(Signed.of(text), style)
        assert np.isfinite(clip.data).all()
        ends = clip.data[:, clip.skeleton.limbs].astype(np.float64)
        lengths.append(np.linalg.norm(ends[:, :, 0] - ends[:, :, 1], axis=2))
    whole = np.concatenate(lengths)
    assert float((whole.std(0) / whole.mean(0)).max()) < 2e-6
    ab = [clip.skeleton.place(one) for one in clip.skeleton.shoulders]
    assert np.allclose(np.linalg.norm(clip.data[:, ab[0]] - clip.data[:, ab[1]], axis=1), 1, atol=1e-6)


def test_the_wrist_of_the_arm_is_that_of_the_hand() -> None:
    clip = signed(Signed.of("SORRY slow left middle"))
    assert np.allclose(clip.data[:, 7], clip.data[:, 8], atol=1e-6)
    assert np.allclose(clip.data[:, 4], clip.data[:, 29], atol=1e-6)


def test_each_word_does_what_it_says() -> None:
    """The hand that signs moves, where it is told, for as long as it is told, and no two texts are alike."""
    for hand in HANDS:
        clip = signed(Signed(sign="HELLO", speed="medium", hand=hand, place="high"))
        moved = {name: float(np.ptp(clip.data[:, i], axis=0).max()) for name, i in (("left", 8), ("right", 29))}
        assert moved[hand] > 0.5
        assert moved[next(one for one in HANDS if one != hand)] < 1e-6
    heights = [float(signed(Signed.of(f"SORRY medium right {place}")).data[18, 29, 1]) for place in PLACES]
    assert heights == sorted(heights)
    lengths = [len(signed(Signed.of(f"YES {speed} right low"))) for speed in SPEEDS]
    assert lengths == [48, 36, 24]
    seen = {signed(one, frames=30).data.tobytes() for one in ALL}
    assert len(seen) >= len(ALL) - 3 * 3 * 2 * 2 - len(SIGNS) * 2 * 3 * 2  # in one length, speeds are alike
    with pytest.raises(ValueError, match="expected one of each of HELLO"):
        Signed.of("HELLO fast left")
    assert Signed.of("high LEFT hello Fast").text == "HELLO fast left high"


def test_it_moves_smoothly() -> None:
    for one in ALL[::5]:
        clip = signed(one, frames=200)
        assert float(np.abs(np.diff(clip.data, axis=0)).max()) < 0.15


def test_what_is_held_out_is_in_no_training_clip() -> None:
    source = Signer(count=300, test_count=100)
    train, test = source.read("train"), source.read("test")
    held = {one.text for one in combinations(6)[1]}
    assert held.isdisjoint(train.captions)
    assert held >= set(test.captions)
    assert len(set(test.captions)) > 15
    for kind in (SIGNS, SPEEDS, HANDS, PLACES):
        for word in kind:
            assert any(word in text.split() for text in train.captions), word
    assert len(source.read("all")) == 400


def test_a_clip_is_a_function_of_its_place() -> None:
    few, many = Signer(count=5).read(), Signer(count=9).read()
    assert few.captions == many.captions[:5]
    for i in range(5):
        assert np.array_equal(few.clip(i).data, many.clip(i).data)
    assert Signer(count=5, seed=1).read().captions != few.captions
    plain = Signer(count=5, style=0).read()
    assert np.allclose(plain.clip(0).data, signed(Signed.of(plain.captions[0])).data, atol=1e-6)
    for wrong in ({"count": 0}, {"every": 2}, {"style": 2.0}):
        with pytest.raises(ValueError):
            Signer(**wrong)  # type: ignore[arg-type]
