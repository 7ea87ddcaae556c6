"""The loss of points that move: each term by its definition, apart, weighted by part and confidence, blind to padding
and to what is missing."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from unsteep.core.condition import Condition
from unsteep.core.noise import Draw
from unsteep.core.schedules import Cosine
from unsteep.data.batch import Batch
from unsteep.denoiser import Denoiser
from unsteep.networks import SequenceConfig
from unsteep.objectives import Motion, Simple
from unsteep.objectives.motion import TERMS
from unsteep.poses import Part, Skeleton
from unsteep.recipes import RECIPES
from unsteep.spaces import Keypoints, Vectors
from unsteep.training.log import Log, read_log
from unsteep.training.log_csv import CsvLog
from unsteep.training.loop import train

B, FRAMES = 3, 6
LENGTHS = torch.tensor([6, 4, 2])
VALID = torch.arange(FRAMES) < LENGTHS[:, None]
SKELETON = Skeleton(
    parts=(
        Part(name="body", points=("a", "b", "c"), limbs=((0, 1, 2),)),
        Part(name="hand", points=("w", "f"), limbs=((0, 1),), weight=3.0, root="w"),
    ),
    axes="xy",
)
SPACE = Keypoints(
    frames=FRAMES,
    mean=(0.0, 1.0, 2.0, 1.0, 3.0, 0.0, 1.0, 1.0, 2.0, 2.0),
    std=(0.5,) * 6 + (0.25,) * 4,
    skeleton=SKELETON,
    fps=25.0,
)
X = torch.randn(B, FRAMES, 10, generator=torch.Generator().manual_seed(0)).double()
WEIGHT = torch.rand(B, FRAMES, 5, generator=torch.Generator().manual_seed(1)).repeat_interleave(2, 2)
WEIGHT = WEIGHT * (WEIGHT > 0.25)
EVERY = {name: 0.5 + i for i, name in enumerate(TERMS)}


class Shifting(nn.Module):
    """Says a learned sequence, whatever it sees."""

    def __init__(self, says: Tensor) -> None:
        super().__init__()
        self.says = nn.Parameter(says)

    def forward(self, x: Tensor, noise_label: Tensor, *, valid: Tensor) -> Tensor:
        assert valid.dtype == torch.bool
        return self.says


def losses(
    x: Tensor, says: Tensor, weight: Tensor | None = WEIGHT, valid: Tensor = VALID, space: Any = SPACE, **how: float
) -> Any:
    module = Denoiser(Shifting(says), Cosine(), "x0").double()
    told = {"valid": valid} if weight is None else {"valid": valid, "weight": weight}
    batch = Batch(x, Condition(**told), torch.arange(len(x)))
    objective = Motion(**how).fitted(space, module)  # type: ignore[arg-type]
    return module, objective(module, batch, Draw(0, 0, torch.arange(len(x)), len(x)))


def by_hand(x: Tensor, says: Tensor, i: int) -> dict[str, float]:
    """The terms of example i, number by number."""
    parts = torch.tensor([1.0] * 6 + [3.0] * 4)
    w = (WEIGHT[i] * VALID[i, :, None] * parts).double()
    d, sums = says[i] - x[i], {}
    std, mean = torch.tensor(SPACE.std).double(), torch.tensor(SPACE.mean).double()
    true, mine = (one.double() * std + mean for one in (x[i], says[i]))

    def mean_of(pairs: list[tuple[Tensor, Tensor]]) -> float:
        whole = float(sum(a for a, _ in pairs))
        return float(sum(a * v for a, v in pairs)) / whole if whole else 0.0  # two frames have no acceleration

    frames, features = range(FRAMES), range(10)
    sums["simple"] = mean_of([(w[f, k], d[f, k] ** 2) for f in frames for k in features])
    sums["velocity"] = mean_of(
        [(min(w[f, k], w[f + 1, k]), (d[f + 1, k] - d[f, k]) ** 2) for f in frames[:-1] for k in features]
    )
    sums["acceleration"] = mean_of(
        [
            (min(w[f, k], w[f + 1, k], w[f + 2, k]), (d[f + 2, k] - 2 * d[f + 1, k] + d[f, k]) ** 2)
            for f in frames[:-2]
            for k in features
        ]
    )
    lengths, ways = [], []
    for a, b in ((0, 1), (1, 2), (3, 4)):
        for f in frames:
            ends = [slice(2 * one, 2 * one + 2) for one in (a, b)]
            count = torch.stack([w[f, end].min() for end in ends]).min()
            t, m = (of[f, ends[1]] - of[f, ends[0]] for of in (true, mine))
            lengths.append((count, (m.norm() / t.norm() - 1) ** 2))
            ways.append((count, (m / m.norm() - t / t.norm()).square().sum()))
    return sums | {"bones": mean_of(lengths), "directions": mean_of(ways)}


def test_each_term_is_its_definition() -> None:
    says = torch.randn(B, FRAMES, 10, generator=torch.Generator().manual_seed(2)).double()
    _, loss = losses(X, says, **EVERY)
    assert list(loss.terms) == ["simple", *TERMS]
    for i in range(B):
        wanted = by_hand(X, says, i)
        for name, term in loss.terms.items():
            scale = EVERY.get(name, 1.0)
            assert float(term[i].detach()) == pytest.approx(scale * wanted[name], rel=1e-5, abs=1e-9), (name, i)
    torch.testing.assert_close(loss.value, sum(loss.terms.values()))
    _, alone = losses(X, says, velocity=2.0)
    assert list(alone.terms) == ["simple", "velocity"]


def test_a_perfect_answer_costs_nothing() -> None:
    _, loss = losses(X, X.clone(), **EVERY)
    assert float(loss.value.detach().abs().max()) < 1e-12


def test_a_figure_moved_as_a_whole_keeps_its_bones_and_its_motion() -> None:
    shift = torch.tensor([1.0, -2.0] * 3 + [2.0, -4.0] * 2).double()  # the same in the data's units
    _, loss = losses(X, X + shift, **EVERY)
    for name in TERMS:
        assert float(loss.terms[name].detach().abs().max()) < 1e-10, name
    assert float(loss.terms["simple"].detach().min()) > 1


@pytest.mark.parametrize("junk", [0.0, 1e4, -1e6])
def test_padding_and_what_is_missing_have_no_part(junk: float) -> None:
    known = (WEIGHT > 0) & VALID[..., None]
    says = torch.randn(B, FRAMES, 10, generator=torch.Generator().manual_seed(2)).double()
    module, first = losses(X, says, **EVERY)
    first.value.sum().backward()
    gradient = module.network.says.grad
    assert not bool(gradient[~known].any())
    assert bool(gradient[known].any())

    def longer(one: Tensor, value: float) -> Tensor:
        return torch.cat([one, torch.full((B, 5, *one.shape[2:]), value, dtype=one.dtype)], 1)

    x = longer(X.masked_fill(~known, junk), junk)
    wide = longer(says.masked_fill(~known, junk), junk)
    other, grown = losses(x, wide, longer(WEIGHT, 0.0), longer(VALID, False), replace(SPACE, frames=11), **EVERY)
    torch.testing.assert_close(grown.value, first.value)
    grown.value.sum().backward()
    torch.testing.assert_close(other.network.says.grad[:, :FRAMES], gradient)
    assert not bool(other.network.says.grad[:, FRAMES:].any())


def test_bones_of_hands_that_are_relative_to_their_wrists() -> None:
    """The finger itself is the bone, and no wrist is taken from it."""
    relative = replace(SPACE, relative=True)
    assert relative.bones[-1] == ((), (8, 9))
    assert SPACE.bones[-1] == ((6, 7), (8, 9))
    says = X.clone()
    says[..., 6:8] += 5  # the wrist
    _, near = losses(X, says, None, space=relative, bones=1.0)
    _, far = losses(X, says, None, space=SPACE, bones=1.0)
    assert float(near.terms["bones"].detach().abs().max()) < 1e-12
    assert float(far.terms["bones"].detach().min()) > 0.01


def test_without_terms_it_is_the_weighted_error() -> None:
    says = torch.randn(B, FRAMES, 10, generator=torch.Generator().manual_seed(2)).double()
    module, loss = losses(X, says, None, space=replace(SPACE, skeleton=replace(SKELETON, parts=SAME)))
    batch = Batch(X, Condition(valid=VALID), torch.arange(B))
    torch.testing.assert_close(loss.value, Simple()(module, batch, Draw(0, 0, torch.arange(B), B)).value)


SAME = tuple(replace(part, weight=1.0) for part in SKELETON.parts)


def test_what_it_is_not_for() -> None:
    eps = Denoiser(Shifting(X), Cosine(logsnr_min=-10.0), "eps")
    with pytest.raises(ValueError, match="objective: motion is measured on estimates of x0"):
        Motion(bones=1.0).fitted(SPACE, eps)
    Motion().fitted(SPACE, eps)
    with pytest.raises(ValueError, match="objective: Motion is for the points of a skeleton"):
        Motion().fitted(Vectors(mean=(0.0,), std=(1.0,)), eps)
    with pytest.raises(ValueError, match="velocity: expected 0 to inf"):
        Motion(velocity=-1.0)
    with pytest.raises(ValueError, match="not fitted to a space"):
        Motion()(eps, Batch(X, None, torch.arange(B)), Draw(0, 0, torch.arange(B), B))


def test_each_is_logged_apart(tmp_path: Path) -> None:
    """Whatever parts a batch is seen in."""
    told = []
    for parts in (1, 2):
        run = RECIPES["signer"]("")
        run = replace(
            run,
            data=replace(run.data, count=8),  # type: ignore[type-var]
            model=replace(run.model, network=SequenceConfig(width=16, depth=1, heads=2)),
            objective=Motion(velocity=1.0, directions=0.2),
            train=replace(run.train, steps=1, batch=4, accumulate=parts, warmup=0),
        )
        task = run.made(run.data.read("train"), "cpu")
        (record,) = train(task, run.train)
        log = Log(tmp_path / f"{parts}.jsonl", 0)
        log.write(record)
        log.close()
        (logged,) = read_log(tmp_path / f"{parts}.jsonl")
        assert list(logged["terms"]) == ["simple", "velocity", "directions"]
        assert sum(logged["terms"].values()) == pytest.approx(logged["loss"], rel=1e-5)
        told.append(logged["terms"])
    assert told[0] == pytest.approx(told[1], rel=1e-5)
    (tmp_path / "1.jsonl").rename(tmp_path / "log.jsonl")
    CsvLog(tmp_path, 1).close()
    assert "velocity" in (tmp_path / "log.csv").read_text()
