"""The low-resolution partner of a picture."""

import numpy as np
import pytest
import torch
from scipy.ndimage import zoom

from unsteep.data import enlarged, low_resolution
from unsteep.data.pairs import shrunk

PICTURES = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 2, 12, 12), dtype=np.uint8))


def test_shrinking_takes_the_mean_of_each_block():
    x = PICTURES.numpy().astype(float)
    blocks = np.array(
        [[x[:, :, 4 * i : 4 * i + 4, 4 * j : 4 * j + 4].mean((2, 3)) for j in range(3)] for i in range(3)]
    )
    assert abs(shrunk(PICTURES, 3).numpy() - blocks.transpose(2, 3, 0, 1)).max() <= 0.5


def test_enlarging_is_linear_between_the_centres_of_pixels():
    ours = enlarged(PICTURES, 30).numpy()
    theirs = zoom(PICTURES.numpy().astype(float), (1, 1, 2.5, 2.5), order=1, mode="nearest", grid_mode=True)
    assert abs(ours - theirs).max() <= 0.5 + 1e-3
    assert torch.equal(enlarged(PICTURES, 12), PICTURES)


def test_the_partner_is_aligned_and_what_is_flat_stays():
    flat = torch.full((1, 3, 8, 8), 77, dtype=torch.uint8)
    assert torch.equal(low_resolution(flat, 2), flat)
    assert torch.equal(low_resolution(PICTURES, 12), PICTURES)
    partner = low_resolution(PICTURES, 4)
    assert partner.shape == PICTURES.shape
    assert partner.dtype == torch.uint8
    assert torch.equal(low_resolution(PICTURES.flip(-1), 4), partner.flip(-1))  # so a shared flip is a flip of both


@pytest.mark.parametrize("size", [0, 5, 24])
def test_a_size_that_does_not_divide_is_refused(size):
    with pytest.raises(ValueError, match="divides 12 pixels"):
        low_resolution(PICTURES, size)
