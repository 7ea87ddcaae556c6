"""The low-resolution partner of a picture."""

import numpy as np
import pytest
import torch
from scipy.ndimage import sobel, zoom

from unsteep.hearing.pairs import Aligned, enlarged, low_resolution, shrunk, sketch

PICTURES = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 2, 12, 12), dtype=np.uint8))


def test_shrinking_takes_the_mean_of_each_block():
    x = PICTURES.numpy().astype(float)
    blocks = np.array(
        [[x[:, :, 4 * i : 4 * i + 4, 4 * j : 4 * j + 4].mean((2, 3)) for j in range(3)] for i in range(3)]
    )
    assert abs(shrunk(PICTURES, 3).numpy() - blocks.transpose(2, 3, 0, 1)).max() <= 0.5


def test_enlarging_is_linear_between_the_centres_of_pixels():
    ours = enlarged(PICTURES, 30, 30).numpy()
    theirs = zoom(PICTURES.numpy().astype(float), (1, 1, 2.5, 2.5), order=1, mode="nearest", grid_mode=True)
    assert abs(ours - theirs).max() <= 0.5 + 1e-3
    assert torch.equal(enlarged(PICTURES, 12, 12), PICTURES)


def test_the_partner_is_aligned_and_what_is_flat_stays():
    flat = torch.full((1, 3, 8, 8), 77, dtype=torch.uint8)
    assert torch.equal(low_resolution(flat, 2), flat)
    assert torch.equal(low_resolution(PICTURES, 12), PICTURES)
    partner = low_resolution(PICTURES, 4)
    assert partner.shape == PICTURES.shape
    assert partner.dtype == torch.uint8
    other = low_resolution(PICTURES.flip(-1), 4)
    assert abs(other.int() - partner.flip(-1).int()).max() <= 1  # but for a half rounded: a shared flip is of both


@pytest.mark.parametrize("size", [0, 5, 24])
def test_a_size_that_does_not_divide_is_refused(size):
    with pytest.raises(ValueError, match="divides 12 pixels"):
        low_resolution(PICTURES, size)


def test_a_sketch_is_dark_where_the_brightness_is_steep():
    """Against scipy's Sobel kernels, whose response to a step of 1 is 4."""
    soft = 100 + PICTURES // 3  # so that not all of it is black
    for lines, bright in zip(sketch(soft).numpy()[:, 0], soft.numpy().astype(float).mean(1) / 255, strict=True):
        slope = np.hypot(sobel(bright, 0, mode="nearest"), sobel(bright, 1, mode="nearest")) / 4
        assert abs(lines - 255 * (1 - np.minimum(1, slope / 0.25))).max() <= 0.5 + 1e-3
        assert 0 < lines.mean() < 200
    assert abs(sketch(PICTURES.flip(-1)).int() - sketch(PICTURES).flip(-1).int()).max() <= 1
    assert (sketch(torch.full((1, 3, 8, 8), 9, dtype=torch.uint8)) == 255).all()


@pytest.mark.parametrize("words", ["", "low-resolution", "low-resolution:", "low-resolution:0", "sketch:8", "blur:8"])
def test_an_aligned_picture_that_nobody_knows_is_refused(words):
    with pytest.raises(ValueError, match=r"expected low-resolution:8 .*, sketch or given, got"):
        Aligned.of(words)


def test_what_somebody_has_is_made_to_fit():
    small = Aligned.of("low-resolution:4")
    assert torch.equal(small.fitted(shrunk(PICTURES, 4), 2, 12, 12), low_resolution(PICTURES, 4))
    assert torch.equal(small.fitted(PICTURES, 2, 12, 12), small.made_from(PICTURES))
    lines = sketch(PICTURES)
    assert torch.equal(Aligned.of("sketch").fitted(lines, 2, 12, 12), lines)
    with pytest.raises(ValueError, match=r"expected pictures \(n, 1, 12, 12\), got \(3, 2, 12, 12\)"):
        Aligned.of("sketch").fitted(PICTURES, 2, 12, 12)
    with pytest.raises(ValueError, match=r"\(n, 2, 4, 4\) or \(n, 2, 12, 12\), got \(3, 2, 6, 6\)"):
        small.fitted(shrunk(PICTURES, 6), 2, 12, 12)
    with pytest.raises(ValueError, match=r"set data\.aligned"):
        Aligned.of("given").made_from(PICTURES)
