"""The Gaussian that stands for the data: its coordinates, and the one that belongs to what is sampled."""

import math
from functools import partial

import pytest
import torch
from torch import Tensor

from unsteep.analytic import Mixture
from unsteep.core.condition import Condition
from unsteep.core.noise import NoiseSource
from unsteep.core.schedules import VP
from unsteep.data import Examples
from unsteep.sampling import Frame, default_solver, frame_of, initial_noise, levels_for, sample
from unsteep.training.statistics import Walked, deviations
from unsteep.training.statistics import frame as measured


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def close(a: Tensor, b: Tensor, rtol: float = 0.0, atol: float = 0.0) -> None:
    torch.testing.assert_close(a, b, rtol=rtol, atol=atol)


def basis(d: int, k: int) -> Tensor:
    return torch.linalg.qr(normal(d, d, seed=5)).Q[:, :k]


ALPHA = torch.tensor(0.6, dtype=torch.float64)


class TestCoordinates:
    @pytest.mark.parametrize("k", [0, 1, 3, 12])
    @pytest.mark.parametrize("each", [False, True], ids=["one", "each"])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_restore_undoes_project(self, k: int, each: bool, dtype: torch.dtype) -> None:
        """Whatever the basis, to rounding: also one kept in float32, which is orthonormal to its own digits only."""
        mean = normal(4, 3, 2, 2) if each else normal(3, 2, 2)
        frame = Frame.of(mean, torch.ones(k + 1), basis(12, k).float() if k else None)
        x = normal(4, 3, 2, 2, seed=1).to(dtype)
        coordinates = frame.project(x, ALPHA)
        assert coordinates.shape == (4, k + 12)
        assert coordinates.dtype == dtype
        close(frame.restore(coordinates, x, ALPHA), x, atol=1e-6 if dtype == torch.float32 else 1e-14)

    def test_coefficients_and_the_rest(self) -> None:
        """A vector of the basis has one coefficient, of its length, and nothing else; one across has none."""
        v = basis(6, 6)
        frame = Frame.of(normal(6), torch.ones(3), v[:, :2])
        x = ALPHA * frame.mean + torch.stack([3 * v[:, 1], 2 * v[:, 4]])
        coordinates = frame.project(x, ALPHA)
        close(coordinates[:, :2], torch.tensor([[0.0, 3.0], [0.0, 0.0]]).double(), atol=1e-12)
        close(coordinates[:, 2:], torch.stack([0 * v[:, 1], 2 * v[:, 4]]), atol=1e-12)

    def test_a_factor_of_each_direction(self) -> None:
        """Multiplies the coefficients one by one, and all of the rest alike: x becomes V diag(f) V^T x."""
        v, factors = basis(5, 5), torch.tensor([2.0, 3.0, 0.5]).double()
        frame = Frame.of(torch.zeros(5), torch.ones(3), v[:, :2])
        x = normal(4, 5)
        for factor in (factors, factors * torch.arange(1.0, 5.0)[:, None]):
            scaled = frame.restore(frame.wide(factor, x) * frame.project(x, ALPHA), x, ALPHA)
            close(scaled, (x @ v * factor[..., [0, 1, 2, 2, 2]]) @ v.T, atol=1e-12)

    def test_without_a_basis_the_numbers_of_the_last_dimension_have_deviations_of_their_own(self) -> None:
        """As the features of a sequence, of any length: nothing is mixed, whatever stands in a frame."""
        std, mean, x = torch.tensor([0.2, 1.0, 3.0]), normal(3), normal(4, 5, 3)
        for own in (std, std * torch.arange(1.0, 5.0)[:, None]):
            frame = Frame.of(mean, own)
            z = frame.project(x, ALPHA) / frame.wide(frame.floored, x)
            wide = own if own.ndim == 1 else own[:, None]
            close(z.reshape(x.shape), (x - ALPHA * mean) / wide, atol=1e-6)
            assert frame.spread == pytest.approx(float(own.pow(2).mean().sqrt()))
        z = frame.project(x, ALPHA)
        x[:, 2:] = 1e4
        assert torch.equal(frame.project(x, ALPHA)[:, :6], z[:, :6])

    def test_spread(self) -> None:
        """The root mean square over all directions, those left out too; no direction is below the floor."""
        std = torch.tensor([3.0, 1.0, 0.5])
        assert Frame.of(torch.zeros(6), std, basis(6, 2)).spread == pytest.approx(math.sqrt((9 + 1 + 4 * 0.25) / 6))
        assert Frame.of(torch.zeros(6), std[2:]).spread == 0.5
        assert Frame.of(torch.zeros(6), torch.zeros(1)).spread == pytest.approx(3e-3)
        assert Frame.of(torch.zeros(6), torch.zeros(1)).floored.tolist() == [3e-3]


class TestDeviations:
    d, stds = 6, torch.tensor([3.0, 2.0, 1.0, 0.5, 0.4, 0.1]).double()
    v = torch.linalg.qr(normal(6, 6, seed=5)).Q
    centred = normal(20, 6, seed=6) - normal(20, 6, seed=6).mean(0)
    rows = 20**0.5 * torch.linalg.qr(centred).Q * stds @ v.T  # of exactly these deviations along v, and of mean 0

    @pytest.mark.parametrize("k", [1, 2, 3, 5])
    def test_of_the_directions_and_of_all_that_remain(self, k: int) -> None:
        """The mean of the remaining variances, over the directions that remain."""
        found = deviations(self.rows, self.v[:, :k])
        assert found.shape == (k + 1,)
        close(found[:k], self.stds[:k], rtol=1e-12)
        close(found[k], self.stds[k:].square().mean().sqrt(), rtol=1e-12)

    def test_where_none_remain(self) -> None:
        found = deviations(self.rows, self.v)
        close(found[:6], self.stds, rtol=1e-12)
        assert float(found[6]) < 1e-6

    def test_of_a_frame_whose_directions_are_few(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """As many as asked for, those of most variance; of all data and of each class."""
        monkeypatch.setattr("unsteep.training.statistics.DIRECTIONS", 2)
        x0, labels = torch.cat([self.rows, 2 * self.rows]) + 7, torch.arange(40) // 20
        found = measured(x0, labels, 2)
        assert found["basis"].shape == (6, 2)
        rest = self.stds[2:].square().mean().sqrt()
        wanted = torch.stack([self.stds[1], self.stds[0], rest])
        close(found["class_std"], torch.stack([wanted, 2 * wanted]), rtol=1e-6)
        close(found["std"], 2.5**0.5 * wanted, rtol=1e-6)


class TestNoClass:
    """Two classes at -3 and 3, and samples of neither."""

    labels = torch.arange(2000) % 2
    x0 = (0.5 * normal(2000) + torch.where(labels == 0, -3.0, 3.0))[:, None]
    statistics = measured(x0, labels, 2)
    data = Mixture(
        torch.tensor([[-3.0], [3.0]]).double(), torch.tensor([0.25, 0.25]), torch.ones(2), labels=torch.tensor([0, 1])
    )

    @pytest.mark.parametrize("steps", [4, 8])
    @pytest.mark.parametrize("atoms", [False, True])
    def test_they_are_shared_as_without_guidance(self, steps: int, atoms: bool) -> None:
        nobody = torch.full((2000,), -1)
        shares = []
        for scale in (0.0, 1.0, 3.0):
            frame = frame_of(self.statistics, nobody, scale)
            solver = default_solver(frame, VP(), steps, atoms=atoms, guidance=scale)
            levels = levels_for(None, VP(), steps, solver, {})
            x = initial_noise(self.x0, levels[0], NoiseSource(range(2000)))
            denoise = partial(self.data, condition=Condition(label=nobody))
            end = sample(denoise, x, levels, solver, NoiseSource(range(2000)), VP().inverse)
            shares.append(float((end > 0).double().mean()))
        assert shares == pytest.approx([0.5, 0.5, 0.5], abs=0.02)


class TestOfStatistics:
    labels = torch.arange(600) % 3
    x0 = normal(600, 2, 2) @ torch.tensor([[1.0, 0.4], [0.0, 0.3]]).double() + normal(3, 2, 2, seed=1)[labels]
    statistics = measured(x0, labels, 3)

    def test_none_without_a_mean(self) -> None:
        assert frame_of({"range": torch.zeros(2)}) is None

    def test_of_all_data(self) -> None:
        """Without labels, without guidance by them, and for a model that knows no classes."""
        plain = {name: self.statistics[name] for name in ("mean", "std", "basis")}
        for frame in (
            frame_of(self.statistics),
            frame_of(self.statistics, torch.tensor([0, 2]), guidance=0),
            frame_of(plain, torch.tensor([0, 2])),
        ):
            assert frame is not None
            close(frame.mean, self.x0.mean(0), atol=1e-12)
            assert frame.spread == frame.reach == pytest.approx(float((self.x0 - self.x0.mean(0)).pow(2).mean().sqrt()))

    def test_of_no_class(self) -> None:
        """As that of all data, in one batch with samples of classes, whatever the guidance: towards nothing."""
        whole = frame_of(self.statistics)
        for scale in (0.5, 1.0, 3.0):
            frame = frame_of(self.statistics, torch.tensor([2, -1, 0, -1]), scale)
            assert frame is not None
            assert whole is not None
            for row in (1, 3):
                assert torch.equal(frame.mean[row], whole.mean)
                assert torch.equal(frame.std[row], whole.std)
            classes = frame_of(self.statistics, torch.tensor([2, 0]), scale)
            assert classes is not None
            assert torch.equal(frame.mean[::2], classes.mean)
            assert torch.equal(frame.std[::2], classes.std)
            assert (frame.spread, frame.reach) == (classes.spread, classes.reach)

    @pytest.mark.parametrize("scale", [0.3, 0.99])
    def test_the_reach_is_no_less_than_that_of_all_data(self, scale: float) -> None:
        """However weak the guidance: the network was trained on them all. The means do come nearer."""
        weak, plain = (frame_of(self.statistics, torch.tensor([1]), one) for one in (scale, 1.0))
        assert weak is not None
        assert plain is not None
        assert weak.reach == plain.reach == pytest.approx(float((self.x0 - self.x0.mean(0)).pow(2).mean().sqrt()))
        close(weak.mean, torch.lerp(self.x0.mean(0), plain.mean, scale), atol=1e-12)

    def test_without_directions(self) -> None:
        """Statistics of sequences have none."""
        plain = {"mean": torch.zeros(3), "std": torch.tensor([1.0, 2.0, 2.0])}
        frame = frame_of(plain)
        assert frame is not None
        assert frame.basis is None
        assert frame.spread == frame.reach == pytest.approx(3**0.5)

    @pytest.mark.parametrize("scale", [1.0, 1.5, 3.0])
    def test_of_guided_classes(self, scale: float) -> None:
        """Each sample has the mean that guidance moves its class to, and its class's own deviations; the reach is the
        spread of all guided classes together."""
        labels = torch.tensor([2, 0, 0])
        frame = frame_of(self.statistics, labels, scale)
        assert frame is not None
        members = [self.x0[self.labels == label] for label in range(3)]
        means = torch.stack([of.mean(0) for of in members])
        guided = torch.lerp(self.x0.mean(0), means, scale)
        close(frame.mean, guided[labels], atol=1e-12)
        close(frame.std[1], frame.std[2])
        assert frame.basis is not None
        along = (members[2] - means[2]).flatten(1) @ frame.basis.double()
        close(frame.std[0, :4], along.pow(2).mean(0).sqrt(), rtol=1e-6)
        moved = torch.cat([of - m + g for of, m, g in zip(members, means, guided, strict=True)])
        assert frame.reach == pytest.approx(float((moved - moved.mean(0)).pow(2).mean().sqrt()))
        within = torch.cat([of - m for of, m in zip(members, means, strict=True)])
        assert frame.spread == pytest.approx(float(within.pow(2).mean().sqrt()))

    def test_the_grid_does_not_know_the_batch(self) -> None:
        one, other = (frame_of(self.statistics, torch.tensor(labels), 2.0) for labels in ([0], [1, 2, 2]))
        assert one is not None
        assert other is not None
        assert (one.spread, one.reach) == (other.spread, other.reach)


@pytest.mark.parametrize("rank", [5, 90], ids=["fewer directions than are kept", "more"])
@pytest.mark.parametrize("dimensions", [12, 1100])
@pytest.mark.parametrize("flip", [False, True])
def test_statistics_do_not_depend_on_how_many_examples_are_held_at_once(
    dimensions: int, flip: bool, rank: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Above and below the size at which the whole covariance is decomposed; and no direction is kept in which the data
    do not vary, since it would be another at each size."""
    monkeypatch.setattr("unsteep.training.statistics.DIRECTIONS", 8)
    draws = torch.Generator().manual_seed(0)
    scale = torch.linspace(3, 0.1, dimensions) ** 4
    drawn = torch.randn(90, rank, generator=draws) @ torch.randn(rank, dimensions, generator=draws)
    x = (drawn * scale).reshape(90, 1, 2, -1)
    x = torch.cat([x, x.flip(-1)], 2) if rank < 8 else x  # mirrored, they span no more
    data = Examples(x, torch.arange(90) % 3, ("a", "b", "c"), levels=None, range=(-1e6, 1e6))
    walk = Walked(data, torch.arange(90).flip(0), labelled=True, flip=flip)
    whole = walk.frame(3)
    monkeypatch.setattr("unsteep.training.statistics.AT_ONCE", 7 * walk.shape.numel())
    parts = walk.frame(3)
    assert len(list(walk.pieces())) == -(-len(walk) // 7)
    for name in ("mean", "std", "class_mean", "class_std"):
        torch.testing.assert_close(parts[name], whole[name], rtol=1e-6, atol=1e-6)
    mirrored = torch.cat([x, x.flip(-1)]) if flip else x
    torch.testing.assert_close(whole["mean"], mirrored.double().mean(0))
    torch.testing.assert_close(parts["basis"] @ parts["basis"].T, whole["basis"] @ whole["basis"].T, rtol=0, atol=1e-6)
    centred = torch.linalg.svdvals(
        (x - torch.stack([x[c::3].mean(0) for c in range(3)])[torch.arange(90) % 3]).flatten(1)
    )
    assert flip or whole["basis"].shape[1] == min(8, int((centred > 1e-3 * centred[0]).sum()))


def test_frames_of_sequences_do_not_depend_on_how_many_are_held_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    draws = torch.Generator().manual_seed(0)
    x, lengths = torch.randn(40, 6, 2, generator=draws), torch.arange(40) % 5 + 2
    valid = torch.arange(6) < lengths[:, None]
    data = Examples(x, torch.arange(40) % 2, ("a", "b"), levels=None, valid=valid)
    walk = Walked(data, torch.arange(40), labelled=True)
    whole = walk.frame_of_frames(2)
    torch.testing.assert_close(whole["std"], x[valid].double().std(0, correction=0).square().mean().sqrt()[None])
    monkeypatch.setattr("unsteep.training.statistics.AT_ONCE", 36)
    for name, value in walk.frame_of_frames(2).items():
        torch.testing.assert_close(value, whole[name])
