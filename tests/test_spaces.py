"""Spaces: in and out again, without loss."""

import math

import pytest
import torch

from unsteep.data import Examples
from unsteep.spaces import Pixels, Sequences, Vectors, space_of


class TestPixels:
    space = Pixels(channels=1, size=16)
    every_value = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)

    def test_every_value_comes_back(self) -> None:
        x = self.space.encode(self.every_value)
        assert x.dtype == torch.float32
        assert torch.equal(self.space.decode(x), self.every_value)

    def test_black_is_minus_one_and_white_is_one(self) -> None:
        x = self.space.encode(self.every_value).flatten().double()
        assert (float(x[0]), float(x[-1])) == self.space.bounds == (-1, 1)
        torch.testing.assert_close(x.diff(), torch.full((255,), 2 / 255, dtype=torch.float64), rtol=0, atol=1e-7)

    def test_decoding_rounds_to_the_nearest_value(self) -> None:
        """Noise of less than half a grey value is undone, not only noise upwards or downwards."""
        x = self.space.encode(self.every_value)
        for part in (-0.49, 0.49):
            assert torch.equal(self.space.decode(x + part * 2 / 255), self.every_value)
        for part in (-0.51, 0.51):
            moved = self.space.decode(x + part * 2 / 255).int() - self.every_value.int()
            assert int((moved == (1 if part > 0 else -1)).sum()) == 255  # all but the end, which has nowhere to go

    def test_decoding_clamps(self) -> None:
        x = torch.tensor([-torch.inf, -7.0, -1.001, 1.001, 3.0, torch.inf]).reshape(1, 1, 1, 6)
        assert self.space.decode(x).flatten().tolist() == [0, 0, 0, 255, 255, 255]

    @pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
    def test_what_decoding_gives(self, dtype: torch.dtype) -> None:
        pictures = self.space.decode(torch.zeros(2, 1, 16, 16, dtype=dtype, requires_grad=True).detach())
        assert pictures.dtype == torch.uint8
        assert pictures.shape == (2, 1, 16, 16)

    def test_coarse_greys_lie_evenly(self) -> None:
        """The digits' 17 values, which uint8 can hold only rounded, are 17 equal steps from -1 to 1 again."""
        greys = torch.linspace(0, 255, 17).round().to(torch.uint8).reshape(1, 1, 1, 17)
        space = Pixels(channels=1, size=8, levels=17)
        torch.testing.assert_close(space.encode(greys).flatten(), torch.linspace(-1, 1, 17), rtol=0, atol=1e-7)
        assert torch.equal(space.decode(space.encode(greys)), greys)

    @pytest.mark.parametrize("levels", [2, 17, 64, 256])
    def test_which_pictures_it_holds(self, levels: int) -> None:
        """As many of the 256 values as it has levels, and those alone come back."""
        space, values = Pixels(channels=1, size=1, levels=levels), torch.arange(256, dtype=torch.uint8)
        held = torch.tensor([space.holds(value.reshape(1, 1, 1, 1)) for value in values])
        assert int(held.sum()) == levels
        back = space.decode(space.encode(values.reshape(256, 1, 1, 1))).flatten()
        assert torch.equal(back == values, held)
        assert space.holds(values[held].reshape(-1, 1, 1, 1))
        assert space.holds(values.reshape(-1, 1, 1, 1)) is (levels == 256)

    def test_shape(self) -> None:
        assert Pixels(channels=3, size=8).shape == (3, 8, 8)


class TestVectors:
    rows = torch.randn(500, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor(
        [1e-3, 1.0, 1e4]
    ) + torch.tensor([5.0, 0.0, -2e4])
    space = Vectors.of(rows)

    def test_inside_features_are_standardized(self) -> None:
        x = self.space.encode(self.rows)
        assert x.dtype == torch.float32
        torch.testing.assert_close(x.mean(0), torch.zeros(3), rtol=0, atol=1e-5)
        torch.testing.assert_close(x.double().pow(2).mean(0).sqrt(), torch.ones(3).double(), rtol=1e-6, atol=0)

    def test_there_and_back(self) -> None:
        back = self.space.decode(self.space.encode(self.rows))
        assert back.dtype == torch.float32
        spread = torch.tensor(self.space.std)
        torch.testing.assert_close(back / spread, self.rows / spread, rtol=1e-6, atol=1e-6)
        x = torch.randn(20, 3, generator=torch.Generator().manual_seed(1))
        torch.testing.assert_close(self.space.encode(self.space.decode(x)), x, rtol=1e-3, atol=1e-3)

    def test_other_rows_use_the_same_statistics(self) -> None:
        """What is one standard deviation above the mean of the training rows is 1, alone as well as among others."""
        row = self.rows.double().mean(0) + self.rows.double().std(0, correction=0)
        torch.testing.assert_close(self.space.encode(row[None]), torch.ones(1, 3), rtol=1e-5, atol=0)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    @pytest.mark.parametrize("value", [0.1, -1234.567, 0.0])
    def test_a_constant_feature_keeps_its_scale(self, value: float, dtype: torch.dtype) -> None:
        """Its standard deviation is 0, which is no unit to measure in: exactly 0, whatever the value."""
        rows = torch.stack([torch.full((7,), value, dtype=dtype), torch.arange(7, dtype=dtype)], 1)
        space = Vectors.of(rows)
        torch.testing.assert_close(space.encode(rows)[:, 0], torch.zeros(7), rtol=0, atol=1e-9)
        shifted = space.encode(rows + torch.tensor([0.5, 0.0]))
        torch.testing.assert_close(shifted[:, 0], torch.full((7,), 0.5), rtol=1e-5, atol=0)
        torch.testing.assert_close(space.decode(space.encode(rows)), rows.float(), rtol=1e-6, atol=1e-6)

    def test_shape_and_bounds(self) -> None:
        assert self.space.shape == (3,)
        assert self.space.bounds is None


@pytest.mark.parametrize(("shape", "family"), [((8, 3), Vectors), ((8, 5, 3), Sequences), ((8, 1, 4, 6), Pixels)])
def test_the_space_of_data_is_told_by_their_axes(shape: tuple[int, ...], family: type) -> None:
    x = torch.arange(math.prod(shape)).reshape(shape)
    space = space_of(Examples(x.byte() if family is Pixels else x.float()))
    assert isinstance(space, family)
    assert space.shape == shape[1:]
