"""Grids optimised for a model: the search finds what is known to be best, and what it finds is kept safely."""

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import unsteep
from unsteep.analytic import Mixture
from unsteep.cli import main
from unsteep.core.chains import Chain, CosineBetas, LinearBetas
from unsteep.core.level import NoiseLevel
from unsteep.core.noise import NoiseSource
from unsteep.core.schedules import VP, Cosine, Flow, Karras, Schedule
from unsteep.denoiser import Denoiser
from unsteep.hearing import Label
from unsteep.model import Description, Model, ModelConfig
from unsteep.model.tuned_grid import keep, opened, tune_grid
from unsteep.networks import MLPConfig
from unsteep.sampling import DDIM, DEIS, Ancestral, DPMMultistep, GaussianFrame, UniPC, grid, initial_noise, sample
from unsteep.sampling.frame import SCALAR
from unsteep.sampling.tuning import grid_name, log_error, tune, tuned_levels
from unsteep.spaces import Vectors
from unsteep.storage.checkpoint import load_tensors, save_folder, update_tensors
from unsteep.storage.lock import FolderLock
from unsteep.storage.manifest import Corrupt, verify
from unsteep.training.statistics import frame

MIXTURE = Mixture(
    means=torch.tensor([[1.0, 0.3], [-0.8, 0.9], [-0.3, -1.0]]), covariances=torch.tensor([0.01, 0.03, 0.02])
)


def place(levels: NoiseLevel) -> Tensor:
    return torch.log(levels.sigma / levels.alpha)[1:-1]


def proper(levels: NoiseLevel, schedule: Schedule) -> bool:
    """From t = 1 to clean, falling; on a chain, whole steps."""
    t = levels.t
    whole = not isinstance(schedule, Chain) or torch.equal((t * schedule.steps).round() / schedule.steps, t)
    return whole and [float(t[0]), float(t[-1]), float(levels.sigma[-1])] == [1, 0, 0] and bool((t.diff() < 0).all())


class Walker:
    """Walks whose ends are known: R_i = A_i (u - best) + offset_i. Remembers every grid."""

    def __init__(self, best: Tensor, n: int = 12, seed: int = 0) -> None:
        random = torch.Generator().manual_seed(seed)
        self.best, self.offset = best, torch.zeros(n, 5, dtype=torch.float64)
        self.slopes = torch.randn(n, 5, len(best), generator=random, dtype=torch.float64)
        self.grids: list[NoiseLevel] = []
        self.exact = torch.zeros_like(self.offset)

    def __call__(self, levels: NoiseLevel) -> Tensor:
        self.grids.append(levels)
        return self.slopes @ (place(levels) - self.best) + self.offset


class Nonsense:
    """Walks that end at random, and some nowhere."""

    def __init__(self, seed: int) -> None:
        self.random, self.errors = torch.Generator().manual_seed(seed), list[float]()

    def __call__(self, levels: NoiseLevel) -> Tensor:
        end = torch.randn(3, 2, generator=self.random)
        end[0] *= math.nan if torch.rand(1, generator=self.random) < 0.2 else 1
        self.errors.append(float(log_error(end).mean()))
        return end


class TestSearch:
    def test_it_finds_the_place_where_nothing_is_wrong(self) -> None:
        """Linear answers are known after one probe of each level: then the step is Newton's, but for its damping."""
        schedule = VP()
        best = torch.tensor([1.0, 0.1, -0.6, -1.9, -3.1], dtype=torch.float64)
        walker = Walker(best)
        start = grid(schedule, 6, "logsnr")
        found = tune(walker, walker.exact, schedule, [start], 40)
        torch.testing.assert_close(place(found.levels), best, rtol=0, atol=1e-6)
        assert found.walks == len(walker.grids) == 40
        assert found.first == pytest.approx(float(log_error(walker(start)).mean()))
        assert found.error == pytest.approx(float(log_error(walker(found.levels)).mean()))

    def test_each_level_is_probed_a_little_way_into_its_wider_gap(self) -> None:
        """15% of it; the outermost have only one, and go to the noisier side."""
        start = VP()(torch.tensor([1.0, 0.8, 0.6, 0.2, 0.0]))
        walker = Walker(torch.zeros(3, dtype=torch.float64))
        tune(walker, walker.exact, VP(), [start], 4)
        noisy, middle, clean = place(start)
        moved = torch.stack([place(levels) - place(start) for levels in walker.grids[1:]])
        far = 0.15 * torch.stack([noisy - middle, clean - middle, middle - clean])
        torch.testing.assert_close(moved, far.diag(), rtol=0, atol=1e-9)

    @pytest.mark.parametrize("schedule", [VP(), Flow(), LinearBetas()], ids=lambda s: type(s).__name__)
    def test_a_single_level(self, schedule: Schedule) -> None:
        """Of two steps: it has no neighbours to be measured by."""
        best = torch.tensor([0.3], dtype=torch.float64)
        walker = Walker(best)
        found = tune(walker, walker.exact, schedule, [grid(schedule, 2, "logsnr")], 40)
        torch.testing.assert_close(place(found.levels), best, rtol=0, atol=0.01)  # a chain has no level nearer

    def test_at_the_end_of_its_digits(self) -> None:
        """Where times that differ in the last digit have one log-SNR, a walk over them says nothing new."""
        best = torch.tensor([2.6, -0.5, -3.1], dtype=torch.float64)
        for seed in (3, 18, 22):  # which come to that
            walker = Walker(best, seed=seed)
            found = tune(walker, walker.exact, VP(), [grid(VP(), 4, "logsnr")], 150)
            torch.testing.assert_close(place(found.levels), best, rtol=0, atol=1e-9)

    def test_samples_of_another_basin_do_not_decide(self) -> None:
        """A quarter of the samples is far off, and would be less so elsewhere. A mean of squares would go there."""
        schedule = VP()
        best = torch.tensor([0.5, -1.0, -2.5], dtype=torch.float64)
        walker = Walker(best)
        walker.offset[:3] = 30 * walker.slopes[:3] @ torch.tensor([0.1, -0.1, 0.1], dtype=torch.float64)
        found = tune(walker, walker.exact, schedule, [grid(schedule, 4, "logsnr")], 60)
        torch.testing.assert_close(place(found.levels), best, rtol=0, atol=1e-3)

    @pytest.mark.parametrize(
        "schedule", [LinearBetas(), CosineBetas(steps=8), VP(), Cosine(), Flow(), Karras()], ids=lambda s: repr(s)[:20]
    )
    def test_every_grid_is_a_grid(self, schedule: Schedule) -> None:
        """Whatever the walks answer: nothing, nonsense, or that all should be as noisy or as clean as can be."""
        starts = [grid(schedule, 5, "trailing"), grid(schedule, 5, "logsnr")]
        for far in (100.0, -100.0, math.nan):
            walker = Walker(torch.full((4,), far, dtype=torch.float64))
            found = tune(walker, walker.exact, schedule, starts, 60)
            assert all(proper(levels, schedule) for levels in walker.grids)
            assert len({tuple(levels.t.tolist()) for levels in walker.grids}) == len(walker.grids) == found.walks <= 60
            if far == 100:
                assert place(found.levels).mean() > max(float(place(start).mean()) for start in starts)

    def test_a_short_chain_has_few_grids(self) -> None:
        schedule = CosineBetas(steps=4)
        walker = Walker(torch.zeros(2, dtype=torch.float64))
        found = tune(walker, walker.exact, schedule, [grid(schedule, 3)], 1000)
        assert found.walks <= 3
        assert proper(found.levels, schedule)

    @pytest.mark.parametrize("walks", [1, 2, 3, 30])
    def test_it_is_never_worse_than_a_start(self, walks: int) -> None:
        schedule = LinearBetas()
        starts = [grid(schedule, 5, spacing) for spacing in ("trailing", "logsnr", "karras")]
        for seed in range(5):
            walk = Nonsense(seed)
            found = tune(walk, torch.zeros(3, 2), schedule, starts, walks)
            assert found.error == min((error for error in walk.errors if not math.isnan(error)), default=math.inf)
            assert found.walks == walks == len(walk.errors)

    @pytest.mark.parametrize("schedule", [LinearBetas(), VP()], ids=["chain", "continuous"])
    @pytest.mark.parametrize(
        ("solver", "factor"), [(UniPC(order=2), 1.6), (GaussianFrame(frame=SCALAR), 2.5)], ids=["unipc", "frame"]
    )
    def test_a_mixture_is_sampled_better_from_other_noise(self, schedule: Schedule, solver: Any, factor: float) -> None:
        """Against the flow itself: DEIS in 200 steps, on the interpolated chain."""
        smooth = schedule.interpolated() if isinstance(schedule, LinearBetas) else schedule

        def ends(levels: NoiseLevel, solver: Any = solver, seeds: Any = range(48), at: Any = schedule) -> Tensor:
            noise = NoiseSource(seeds)
            x = initial_noise(torch.empty(len(seeds), 2, dtype=torch.float64), levels[0], noise)
            return sample(MIXTURE, x, levels, solver, noise, at.inverse)

        others = range(1000, 1100)
        exact = ends(grid(smooth, 200, "logsnr"), DEIS(), [*range(48), *others], smooth)
        start = grid(schedule, 6, "trailing") if isinstance(solver, UniPC) else solver.levels(schedule, 6)
        found = tune(ends, exact[:48], schedule, [start], 50)
        before, after = (log_error(ends(levels, seeds=others) - exact[48:]) for levels in (start, found.levels))
        assert proper(found.levels, schedule)
        assert (before.mean() - after.mean()).exp() > factor
        assert (before.median() - after.median()).exp() > factor


# Names.


def test_a_grid_is_known_by_what_it_was_made_for() -> None:
    many = [
        grid_name(solver, steps, guidance)
        for solver in (UniPC(), UniPC(order=2), DEIS(), GaussianFrame(), GaussianFrame(start="free"))
        for steps in (5, 6)
        for guidance in (1, 1.5, 2)
    ]
    assert len(set(many)) == len(many)
    assert grid_name(GaussianFrame(frame=SCALAR), 5) == grid_name(GaussianFrame(), 5)
    assert grid_name(UniPC(order=2), 6, 2) == "grid/UniPC(order=2)/6/guidance=2"


def test_a_grid_that_is_missing() -> None:
    statistics = {"mean": torch.zeros(2), "grid/UniPC()/5": torch.tensor([1.0, 0.5, 0.0], dtype=torch.float64)}
    assert tuned_levels(statistics, VP(), UniPC(), 5).t.tolist() == [1, 0.5, 0]
    told = r"none is tuned for UniPC\(\)/6/guidance=2, tuned are UniPC\(\)/5; .* --steps 6 --guidance 2, and"
    with pytest.raises(ValueError, match=told):
        tuned_levels(statistics, VP(), UniPC(), 6, 2)
    with pytest.raises(ValueError, match=r"for DEIS\(\)/5, tuned are none; make one with: unsteep tune-grid RUN"):
        tuned_levels({}, VP(), DEIS(), 5)


# A model's grid.


class Oracle(nn.Module):
    """A network that knows: the best x0 for data of MIXTURE, on a chain, from its step - 1; classes shift the data."""

    def __init__(self, chain: Chain) -> None:
        super().__init__()
        self.chain, self.weight, self.calls = chain, nn.Parameter(torch.ones(())), 0

    def forward(self, x: Tensor, heard: Tensor, label: Tensor | None = None) -> Tensor:
        self.calls += len(x)
        level = self.chain((heard.double() + 1) / self.chain.steps)
        shift = torch.zeros(len(x), 1) if label is None else 0.2 * label[:, None].float()
        return self.weight * (MIXTURE(x - level.like(x).alpha * shift, level).x0 + shift)


def oracle(names: tuple[str, ...] = (), chain: LinearBetas | CosineBetas | None = None) -> Model:
    space, chain = Vectors(mean=(0.0, 0.0), std=(1.0, 1.0)), chain or LinearBetas()
    description = Description(
        model=ModelConfig(network=MLPConfig()),
        schedule=chain,
        space=space,
        hears=(Label(names=names),) if names else (),
    )
    labels = torch.arange(2000) % len(names) if names else None
    x0 = MIXTURE.sample(2000) + (0 if labels is None else 0.2 * labels[:, None])
    return Model(Denoiser(Oracle(chain), chain, "x0"), description, frame(x0, labels, len(names)))


def calls_of(model: Model) -> int:
    assert isinstance(model.denoiser.network, Oracle)
    return model.denoiser.network.calls


def tiny() -> Model:
    """An untrained network that can be saved and opened."""
    network = MLPConfig(width=16, depth=1)
    space = Vectors(mean=(0.0, 0.0), std=(1.0, 1.0))
    description = Description(
        model=ModelConfig(network=network, prediction="v"), schedule=LinearBetas(), space=space
    ).filled()
    torch.manual_seed(0)
    denoiser = description.build()
    for weight in denoiser.parameters():
        weight.data += 0.2 * torch.randn_like(weight)
    return Model(denoiser, description, {"x0_error": torch.rand(2, 3)} | frame(torch.randn(50, 2)))


def ends(model: Model, seed: int, n: int, **how: Any) -> Tensor:
    *_, last = model.trajectory(seed, n, model.labels_of(n, None, seed), **how)
    return last.x


@pytest.mark.parametrize(("names", "guidance"), [((), 1.0), (("a", "b"), 1.5)])
def test_a_models_grid_brings_samples_nearer_the_exact_answer(names: tuple[str, ...], guidance: float) -> None:
    """The default solver in 6 steps, on seeds that were neither tuned nor held out, in batches of its own."""
    model = oracle(names)
    tuned = tune_grid(model, steps=6, guidance=guidance, seeds=48, seed=5, evaluations=40, batch_size=20)
    assert tuned.calls == calls_of(model)
    assert tuned.walks <= 40
    assert proper(tuned.after, model.denoiser.schedule)
    assert len(tuned.after) == len(tuned.before)
    assert tuned.tuning[1] < tuned.tuning[0] / 1.5
    assert tuned.gain == tuned.held_out[0] / tuned.held_out[1] > 1.3
    model.statistics[tuned.name] = tuned.after.t
    how: dict[str, Any] = {"guidance": guidance, "steps": 6}
    fine = ends(model, 500, 64, guidance=guidance, solver=UniPC(), grid=grid(LinearBetas(), 200, "logsnr"))
    before, after = (
        float(log_error(ends(model, 500, 64, grid=chosen, **how) - fine).mean().exp()) for chosen in (None, "tuned")
    )
    assert before / after > 1.3
    held = ends(model, 53, 48, grid="tuned", **how) - ends(
        model, 53, 48, guidance=guidance, solver=DPMMultistep(order=3), grid=grid(LinearBetas(), 100, "logsnr")
    )
    assert float(log_error(held).mean().exp()) == pytest.approx(tuned.held_out[1], rel=0.02)


def test_the_grid_of_a_short_chain() -> None:
    model = oracle(chain=CosineBetas(steps=12))
    tuned = tune_grid(model, steps=11, seeds=3, evaluations=30)
    assert proper(tuned.after, model.denoiser.schedule)
    assert tuned.tuning[1] <= tuned.tuning[0]


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"steps": 1}, "steps: expected at least 2, got 1"),
        ({"steps": 1001}, "steps: the chain has 1000 levels, got 1001"),
        ({"seeds": 0}, "seeds: expected at least 1, got 0"),
        ({"evaluations": 0}, "evaluations: expected at least 1, got 0"),
        ({"batch_size": 0}, "batch_size: expected at least 1"),
        ({"guidance": 2.0}, "nothing to be guided by"),
        ({"solver": Ancestral()}, "Ancestral draws noise on its way"),
        ({"solver": DDIM(eta=0.5)}, "DDIM draws noise on its way"),
    ],
    ids=str,
)
def test_what_cannot_be_tuned(how: dict[str, Any], words: str) -> None:
    model = oracle()
    with pytest.raises(ValueError, match=words):
        tune_grid(model, **{"steps": 4, "seeds": 2, "evaluations": 4} | how)
    assert calls_of(model) < 30


# On disk.


def folder(path: Path) -> Path:
    groups = {"weights": {"w": torch.arange(4.0)}, "statistics": {"a": torch.rand(3), "b": torch.rand(2).double()}}
    save_folder(path, tensors=groups, texts={"model.toml": "x = 1\n"})
    (path / "notes.txt").write_text("the user's")
    return path


NEW = {"b": torch.tensor([0.1, math.nan], dtype=torch.float64), "grid/c(d=e)/1": torch.rand(3).double()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(
        one[name].dtype == other[name].dtype
        and one[name].contiguous().view(torch.uint8).tolist() == other[name].contiguous().view(torch.uint8).tolist()
        for name in one
    )


def test_tensors_are_added_bit_for_bit_and_nothing_else_changes(tmp_path: Path) -> None:
    path = folder(tmp_path / "model")
    before = load_tensors(path, "statistics")
    contents = {file.name: file.read_bytes() for file in path.iterdir()}
    listed = json.loads(contents["manifest.json"])["files"]
    update_tensors(path, "statistics", NEW)
    verify(path)
    assert same(load_tensors(path, "statistics"), before | NEW)
    after = {file.name: file.read_bytes() for file in path.iterdir()}
    changed = {name for name in after if after[name] != contents.get(name)}
    assert changed == {"statistics.safetensors", "manifest.json"}
    assert after.keys() == contents.keys()
    files = json.loads(after["manifest.json"])["files"]
    assert files.keys() == listed.keys()
    assert all(entry.keys() == {"bytes", "sha256"} for entry in files.values())


def replaced(moved: list[Path], stop: int) -> Callable[[Path, Path], Path]:
    """Path.replace that is killed instead of its `stop`-th call."""
    rename = Path.replace

    def replace(self: Path, target: Path) -> Path:
        if len(moved) == stop:
            raise KeyboardInterrupt
        moved.append(target)
        return rename(self, target)

    return replace


@pytest.mark.parametrize("stop", [0, 1, 2])
def test_killed_at_any_moment_it_verifies(tmp_path: Path, stop: int, monkeypatch: pytest.MonkeyPatch) -> None:
    path = folder(tmp_path / "model")
    before = load_tensors(path, "statistics")
    moved: list[Path] = []
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", replaced(moved, stop))
        with pytest.raises(KeyboardInterrupt):
            update_tensors(path, "statistics", NEW)
    assert len(moved) == stop
    assert not (path / ".statistics.safetensors.partial").exists()
    verify(path)
    assert same(load_tensors(path, "statistics"), before | NEW if stop == 2 else before)
    for name in ("statistics.safetensors", "weights.safetensors"):
        whole = (path / name).read_bytes()
        (path / name).write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        with pytest.raises(Corrupt, match=re.escape(name)):
            verify(path)
        (path / name).write_bytes(whole)
    update_tensors(path, "statistics", {"late": torch.ones(1)})
    verify(path)
    assert same(load_tensors(path, "statistics"), (before | NEW if stop == 2 else before) | {"late": torch.ones(1)})


def test_a_grid_of_levels_says_how_many_steps_there_are() -> None:
    """The default solver, whose constants follow the number of steps, is that of the grid's."""
    model = tiny()
    how: Any = {"grid": model.levels("linspace", 4, DDIM()), "guidance": 1.0}
    few, many = model.resolved(steps=4), model.resolved(steps=1000)
    assert few != many  # on a chain of 1000 levels, no free start has one to spare then
    assert torch.equal(model.sample(2, **how), model.sample(2, **how, solver=few))
    assert not torch.equal(model.sample(2, **how), model.sample(2, **how, solver=many))


def test_a_kept_grid_is_found_again(tmp_path: Path) -> None:
    model = tiny()
    model.save(tmp_path / "model")
    tuned = tune_grid(model, steps=4, seeds=4, evaluations=12)
    keep(tuned, model, tmp_path / "model")
    again = unsteep.load(tmp_path / "model")
    assert same(again.statistics, model.statistics)
    assert torch.equal(again.statistics[tuned.name], tuned.after.t)
    # Its times were kept bit for bit; the levels are made of them anew, and may be rounded otherwise.
    given = model.sample(3, steps=4, grid=tuned.after)
    torch.testing.assert_close(again.sample(3, steps=4, grid="tuned"), given, rtol=1e-5, atol=1e-5)
    assert not torch.equal(again.sample(3, steps=4, grid="tuned"), again.sample(3, steps=4))
    with pytest.raises(ValueError, match=r"none is tuned for GaussianFrame\(.*\)/5, tuned are GaussianFrame\(.*\)/4;"):
        again.sample(1, steps=5, grid="tuned")


def test_a_run_is_opened_at_its_latest_checkpoint_and_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tmp_path / "run"
    for step in (1, 2):
        tiny().save(run / "checkpoints" / f"step-{step:08d}")
    (run / "run.toml").write_text("")
    for path in (run, run / "checkpoints" / "step-00000001"):
        with opened(path) as chosen:
            assert chosen == (run / "checkpoints" / "step-00000002" if path == run else path)
            with pytest.raises(ValueError, match="has been writing there"), FolderLock(run):
                pass
        with FolderLock(run), pytest.raises(ValueError, match="has been writing there"), opened(path):
            pass
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(ValueError, match="cannot be written to; tune a copy"), opened(run):
        pass


# The command line.


def unsteep_says(arguments: list[str], capsys: pytest.CaptureFixture[str], code: int = 0) -> str:
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    printed = capsys.readouterr()
    assert ended.value.code == code, printed.err
    return printed.err if code else printed.out


def test_tune_grid_and_sample_with_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "model"
    tiny().save(path)
    few = ["--steps", "4", "--seeds", "8", "--evaluations", "30", "--device", "cpu"]
    said = unsteep_says(["tune-grid", str(path), *few, "--solver", "unipc", "--order", "2"], capsys)
    (name,) = (one for one in load_tensors(path, "statistics") if one.startswith("grid/"))
    assert name == "grid/UniPC(order=2)/4"
    assert "30 grids tried" in said
    assert name in said
    stored = load_tensors(path, "statistics")[name]
    rows = [line.split() for line in said.splitlines() if re.match(r" +\d ", line)]
    assert [float(row[3]) for row in rows] == stored.tolist()
    assert float(rows[1][4]) == pytest.approx(math.exp(float(place(LinearBetas()(stored))[0])), rel=1e-3)
    for line in ("tuning seeds", "held-out seeds"):
        before, after, gain = map(float, said.split(line)[1].split()[:3])
        assert gain == pytest.approx(before / after, rel=0.02)
        assert gain > 1
    (command,) = re.findall("unsteep (sample .*)", said)
    out = tmp_path / "samples.npz"
    unsteep_says([*command.split(), "-n", "3", "--out", str(out), "--device", "cpu"], capsys)
    assert out.exists()
    verify(path)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--steps", "1"], "steps: expected at least 2, got 1"),
        (["--steps", "3", "--solver", "unipcc"], "unknown solver 'unipcc'; did you mean unipc?"),
        (["--steps", "3", "--solver", "ancestral"], "draws noise on its way"),
        (["--steps", "2000"], "the chain has 1000 levels"),
        ([], "steps"),
    ],
    ids=str,
)
def test_mistakes_take_one_line(
    tmp_path: Path, arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny().save(tmp_path / "model")
    said = unsteep_says(["tune-grid", str(tmp_path / "model"), *arguments, "--device", "cpu"], capsys, 2)
    assert words in said
    assert len(said.splitlines()) == 1
    assert not any(name.startswith("grid/") for name in load_tensors(tmp_path / "model", "statistics"))


def test_a_model_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "does not exist" in unsteep_says(["tune-grid", str(tmp_path / "no"), "--steps", "3"], capsys, 2)
