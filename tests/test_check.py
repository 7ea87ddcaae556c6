"""`unsteep check`: everything passes on what is right, each kind of damage is a failing row and exit code 1, and a
mistake of the user's is neither."""

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, get_args

import numpy as np
import pytest
import torch
from torch import Tensor

from unsteep.checks import mathematics as check_mathematics
from unsteep.checks import moments as check_moments
from unsteep.checks import solvers as check_solvers
from unsteep.checks import whole as study
from unsteep.checks.rows import Row, below, near, published, rows_of
from unsteep.cli.check import Group, check
from unsteep.core import noise
from unsteep.core.chains import CosineBetas, LinearBetas
from unsteep.core.estimate import Estimate
from unsteep.core.gaussian import Gaussian
from unsteep.core.level import NoiseLevel
from unsteep.core.noise import NoiseSource
from unsteep.core.schedules import Cosine, Karras, Shifted
from unsteep.data import Array
from unsteep.guidance import ClassifierFree
from unsteep.model import Model, ModelConfig
from unsteep.networks import UNetConfig
from unsteep.opening import load
from unsteep.sampling import DDIM, SOLVERS, Ancestral, DPMMultistep, Euler, Heun, Solver, UniPC, grid, sample, traits
from unsteep.storage.manifest import write_manifest
from unsteep.training import denoising
from unsteep.training import run as runs
from unsteep.training.conditioning import Conditioning
from unsteep.training.loop import TrainConfig
from unsteep.training.run import Run

bounds = import_module("unsteep.likelihood.bound")
SOME: dict[str, Solver] = {name: SOLVERS[name] for name in ("ddim", "unipc", "ancestral")}


def by_name(rows: list[Row]) -> dict[str, Row]:
    assert len({row.name for row in rows}) == len(rows)
    return {row.name: row for row in rows}


class TestWhole:
    def test_all_passes(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        """A line for each check, no wider than 80 columns, and the verdict is the last."""
        monkeypatch.setattr(check_solvers, "SOLVERS", SOME)
        assert check(device="cpu") == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines[0].startswith("unsteep ")
        assert max(len(line.rstrip()) for line in lines[1:]) <= 80
        assert "…" not in "".join(lines)
        count = sum(line.rstrip().endswith(" ok") for line in lines)
        assert count > 60
        assert lines[-1].startswith(f"all {count} checks passed in ")
        assert [line.rstrip() for line in lines if line.rstrip() in get_args(Group)] == [*study.GROUPS]
        (order,) = (line.split() for line in lines if "order of unipc" in line)
        assert (order[:6], order[-1]) == (["order", "of", "unipc", "4", "±", "0.15"], "ok")
        assert float(order[6]) == pytest.approx(4, abs=0.15)

    @pytest.mark.long
    def test_of_every_solver(self) -> None:
        rows = by_name(study.check(only=["solvers"])["solvers"])
        assert [row for row in rows.values() if row.verdict != "ok"] == []
        for name in SOLVERS:
            assert any(name in row.split() or f"{name}," in row for row in rows), name

    def test_every_order_is_declared(self) -> None:
        assert [name for name, solver in SOLVERS.items() if traits(solver).order is None] == ["predictor-corrector"]

    def test_groups_are_those_of_the_command_line(self) -> None:
        assert (*study.GROUPS, study.RUN) == get_args(Group)
        assert list(study.check(only=["guidance"])) == ["guidance"]

    def test_threads_are_given_back(self) -> None:
        torch.set_num_threads(2)
        try:
            study.check(only=["guidance"])
            assert torch.get_num_threads() == 2
        finally:
            torch.set_num_threads(1)


def tenth_more(change: float = 1.1) -> Callable[..., Any]:
    """A patch for a function whose answer is then `change` times as large."""
    return lambda true: lambda *args, **options: change * true(*args, **options)


@dataclass(frozen=True)
class Claiming:
    """Another solver, of which it says nothing but an order."""

    inner: Solver
    order: float | None = None

    def step(self, *given: Any) -> Any:
        return self.inner.step(*given)


class Wrong(Ancestral):
    """Draws noise in the last step, too."""

    def step(self, denoise: Any, x: Tensor, now: Any, nxt: Any, noise: Any, memory: Any, at: Any) -> Any:
        x, estimate, _ = Ancestral().step(denoise, x, now, nxt, noise, memory, at)
        return x + now.sigma / 20 * noise.normal(x, draw=1), estimate, None


def turned(philox: Any) -> Any:
    return lambda counter, key: philox(counter, key[::-1])


def as_variance_beta(posterior: Any) -> Any:
    def wrong(x0: Tensor, x_t: Tensor, now: NoiseLevel, nxt: NoiseLevel) -> Gaussian:
        q = posterior(x0, x_t, now, nxt)
        return Gaussian(q.mean, 1.001 * q.variance)

    return wrong


def a_little_later(inverse: Any) -> Any:
    def wrong(self: Cosine, logsnr: Tensor) -> NoiseLevel:
        level = inverse(self, logsnr)
        return replace(level, t=level.t + 1e-8)

    return wrong


def guided_more(true: type[ClassifierFree]) -> Any:
    return lambda denoiser, condition, scale: true(denoiser, condition, scale + 1e-6)


# (where, what, how it breaks, the check to run, the row that must fail)
BROKEN: list[tuple[Any, str, Any, str, str, str]] = [
    (check_mathematics, "philox", turned, "numbers", "Philox", "Philox4x32-10 of 243f6a88..."),
    (noise, "_WORD", lambda _: 0x7FFFFFFF, "numbers", "normals", "normals of seed 0"),
    (NoiseSource, "normal", tenth_more(1.01), "numbers", "normals", "variance of 10^6 normals"),
    (NoiseSource, "brownian", lambda _: NoiseSource.normal, "numbers", "Brownian path", "*"),
    (LinearBetas, "betas", tenth_more(1.0001), "schedules", "published values", "alpha_bar_T, linear"),
    (Cosine, "inverse", a_little_later, "schedules", "Cosine", "laws of Cosine"),
    (check_mathematics, "prior_term", tenth_more(1.01), "schedules", "published values", "L_T in bits/dim, E x0^2 = 1"),
    (Estimate, "_eps", tenth_more(1 + 1e-9), "moments", "kinds", "error of 5 kinds, read as each other"),
    (check_moments, "posterior", as_variance_beta, "moments", "posterior", "error of moments by the posterior"),
    (bounds, "step_term", tenth_more(1.001), "moments", "entropy", "bound of N(0, 0.25), optimal, 100"),
    (check_moments, "discretized_log_prob", tenth_more(1.001), "moments", "decoder", "error of the decoder's total"),
    (check_moments.Mixture, "log_prob", tenth_more(1.001), "moments", "flow", "error of a mixture's total"),
    (check_moments.Mixture, "log_prob", tenth_more(1.001), "moments", "score", "error of score = gradient of log q"),
    (
        check_moments,
        "ClassifierFree",
        guided_more,
        "guidance",
        "classifier-free guidance",
        "scale 1 is conditional, in one call",
    ),
    (
        check_moments,
        "ClassifierFree",
        guided_more,
        "guidance",
        "classifier-free guidance",
        "error of the score at scale 3",
    ),
    (DDIM, "step", lambda _: Wrong().step.__func__, "solvers", "equalities", "ddim against euler"),
]


class TestWhatIsWrongFails:
    @pytest.mark.parametrize(
        ("where", "what", "broken", "group", "label", "name"), BROKEN, ids=lambda v: v if isinstance(v, str) else ""
    )
    def test_formulas(
        self, where: Any, what: str, broken: Any, group: str, label: str, name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (of,) = (one for one in study.GROUPS[group]("cpu") if one[0] == label)
        monkeypatch.setattr(where, what, broken(getattr(where, what)))
        failed = [row.name for row in rows_of(of) if not row.passed]
        assert failed if name == "*" else name in failed

    @pytest.mark.parametrize(
        ("name", "solver", "row"),
        [
            ("heun", Claiming(Euler(), order=2), "order of heun"),
            ("dpmpp-3m", Claiming(DPMMultistep(order=3, published=True), order=3), "order of dpmpp-3m"),
            ("unipc", Claiming(UniPC(corrector=False), order=4), "order of unipc"),
            ("ancestral", Wrong(), "order of the spread of ancestral"),
            ("ancestral", Wrong(), "last step: the denoiser, no noise"),
            ("mine", Ancestral(), None),
            ("mine", Claiming(Heun()), None),
            ("mine", Claiming(Ancestral()), None),
        ],
    )
    def test_solvers(self, name: str, solver: Solver, row: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
        """One that claims no order has only to converge."""
        monkeypatch.setattr(check_solvers, "SOLVERS", {name: solver})
        labels = (name, "last step")
        rows = [row for one in check_solvers.checks() if one[0] in labels for row in rows_of(one)]
        assert len(rows) == (3 if isinstance(getattr(solver, "inner", solver), Ancestral) else 2)
        failed = [row.name for row in rows if not row.passed]
        assert row in failed if row else not failed

    def test_one_failure_is_exit_code_1(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(check_mathematics, "philox", turned(noise.philox))
        assert check(only=["numbers"], device="cpu") == 1
        lines = capsys.readouterr().out.splitlines()
        assert lines[-1] == "1 of 9 checks FAILED: Philox4x32-10 of 243f6a88..."
        assert lines[-2] == "FAILED  Philox4x32-10 of 243f6a88...: expected d16cfe09..., got b9afa702..."

    def test_a_check_that_breaks_is_a_row(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """And the others go on."""

        def broken(*_: Any) -> Any:
            raise RuntimeError("out\nof order")

        monkeypatch.setattr(check_mathematics, "philox", broken)
        rows = by_name(study.check(only=["numbers"])["numbers"])
        assert rows["Philox"] == Row("Philox", "no error", "RuntimeError: out of order", "FAILED")
        assert rows["normals of seed 0"].passed
        assert study.verdict([*rows.values()], 3.2) == f"1 of {len(rows)} checks FAILED: Philox"

    def test_rows(self) -> None:
        assert [row.passed for row in (near("", 3, 0.1, x) for x in (2.91, 3.09, 2.89, 3.2, math.nan))] == [
            True,
            True,
            *3 * [False],
        ]
        assert [below("", 1e-3, x).passed for x in (0.0, -9e-4, -2e-3, 2e-3, math.nan)] == [True, True, *3 * [False]]
        for expected, right, wrong in (
            ("4.0358e-5", 4.03584e-5, 4.0341e-5),
            ("0.0042", 0.00424, 0.0044),
            ("41", 41.4, 42.2),
        ):
            assert published("", expected, right) == Row("", expected, expected, "ok")
            assert not published("", expected, wrong).passed
        assert near("", 3, 0.15, 2.98) == Row("", "3 ± 0.15", "2.98", "ok")
        assert below("", 1e-12, 2.2e-16) == Row("", "< 1e-12", "2.2e-16", "ok")


class TestOracles:
    def test_golden_normals_are_those_of_the_definition(self) -> None:
        """Philox4x32-10 and Box-Muller in whole numbers and the math module."""

        def words(block: int) -> list[int]:
            counter, key, mask = [block, 0, 0, 0], [0, 0], 2**32 - 1
            for _ in range(10):
                low, high = counter[0] * 0xD2511F53, counter[2] * 0xCD9E8D57
                counter = [high >> 32 ^ counter[1] ^ key[0], high & mask, low >> 32 ^ counter[3] ^ key[1], low & mask]
                key = [key[0] + 0x9E3779B9 & mask, key[1] + 0xBB67AE85 & mask]
            return counter

        def normals(block: int) -> list[float]:
            a, b, c, d = ((word + 0.5) / 2**32 for word in words(block))
            pairs = ((math.sqrt(-2 * math.log(u)), 2 * math.pi * v) for u, v in ((a, b), (c, d)))
            return [r * turn for r, angle in pairs for turn in (math.cos(angle), math.sin(angle))]

        expected = torch.tensor((normals(0) + normals(1))[:5], dtype=torch.float64).float()
        assert expected.tolist() == list(check_mathematics.GOLDEN)

    def test_exact_flow(self) -> None:
        """It ends where it begins when it goes there and back, and where a solver of 300 steps ends."""
        chain = LinearBetas().interpolated()
        now, nxt = chain(0.7), chain(0.1)
        x = torch.linspace(-2, 2, 7, dtype=torch.float64)
        there = check_solvers.exact_flow(x, now, nxt)
        assert float((check_solvers.exact_flow(there, nxt, now) - x).abs().max()) < 1e-12
        assert float((there - x).abs().max()) > 0.1
        assert check_solvers._error(UniPC(), 300) < 1e-6

    def test_moments_are_those_of_many_samples(self) -> None:
        """Linear or not; with two numbers of noise a step."""
        chain = LinearBetas()
        levels = grid(chain, 6)
        found = check_solvers.moments(Wrong(), chain, levels, (0.3, 1.2))
        assert found is not None
        n = 40_000
        x = 0.3 + 1.2 * NoiseSource(range(n)).normal(torch.empty(n, 1, dtype=torch.float64), draw=0)
        end = sample(check_solvers._gaussian(1), x, levels, Wrong(), NoiseSource(range(n)), chain.inverse)
        assert found == (pytest.approx(float(end.mean()), abs=0.02), pytest.approx(float(end.std()), rel=0.02))

    def test_moments_of_what_is_not_linear(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """None; and its spread is then measured on samples."""
        chain = LinearBetas()
        assert check_solvers.moments(Normed(), chain, grid(chain, 4)[:-1], (0.0, 1.0)) is None
        monkeypatch.setattr(check_solvers, "SOLVERS", {"normed": Normed()})
        monkeypatch.setattr(check_solvers, "STEPS", 30)
        (row,) = rows_of(check_solvers.checks()[0])
        assert (row.name, row.passed) == ("spread of normed, drawn", True)


class Normed(Ancestral):
    """Its noise has, for each sample, the norm of x itself."""

    def step(self, denoise: Any, x: Tensor, now: Any, nxt: Any, noise: Any, memory: Any, at: Any) -> Any:
        class Same(NoiseSource):
            def normal(self, like: Tensor, draw: int) -> Tensor:
                z = noise.normal(like, draw)
                return z * (like.norm(dim=1, keepdim=True) / like.shape[1] ** 0.5).clamp(0.9, 1)

        return Ancestral().step(denoise, x, now, nxt, Same([0] * len(x)), memory, at)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on pictures of three classes, with two checkpoints."""
    folder = tmp_path_factory.mktemp("check")
    random = np.random.default_rng(0)
    np.savez(folder / "data.npz", images=random.integers(0, 256, (30, 8, 8), dtype=np.uint8), labels=np.arange(30) % 3)
    network = UNetConfig(width=8, groups=4, multipliers=(1, 2), blocks=1, attention=())
    run = Run(
        data=Array(path=str(folder / "data.npz")),
        condition=Conditioning(label=True),
        model=ModelConfig(network=network, prediction="v"),
        schedule=CosineBetas(steps=20),
        train=TrainConfig(steps=4, batch=4, warmup=1, checkpoint_every=2, ema=0.5),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(denoising, "report", lambda *_: None)
        assert runs.start(run, folder / "run", say=lambda _: None)
    return folder / "run"


@pytest.fixture
def copy(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "run"))


def of_run(path: Path) -> dict[str, Row]:
    return by_name(study.check(path, only=["run"])["run"])


def failed(path: Path) -> list[str]:
    return [row.name for row in of_run(path).values() if not row.passed]


def rewritten(path: Path, change: Callable[[Model], Any]) -> Path:
    """The model of a run, changed and saved: its manifest says that all is well."""
    model = load(path)
    change(model)
    model.save(path.parent / "saved")
    return path.parent / "saved"


class TestRun:
    def test_passes(self, trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
        before = sorted(trained.rglob("*"))
        assert check(trained, only=["run"], device="cpu") == 0
        out = capsys.readouterr().out
        assert sum("files of step-" in line for line in out.splitlines()) == 2
        assert out.splitlines()[-1].startswith("all 24 checks passed")
        assert sorted(trained.rglob("*")) == before

    def test_a_checkpoint_and_a_saved_model(self, trained: Path, copy: Path) -> None:
        assert failed(trained / "checkpoints" / "step-00000004") == []
        assert failed(rewritten(copy, lambda _: None)) == []

    def test_a_damaged_checkpoint(self, copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """Is a row; the one before it is opened."""
        file = copy / "checkpoints" / "step-00000004" / "ema.safetensors"
        content = bytearray(file.read_bytes())
        content[-1] ^= 1
        file.write_bytes(content)
        assert check(copy, only=["run"], device="cpu") == 1
        said = capsys.readouterr()
        lines = said.out.splitlines()
        assert lines[-1] == "1 of 23 checks FAILED: files of step-00000004"
        assert "ema.safetensors: its bytes are not those that were written" in said.out
        assert "Traceback" not in said.out + said.err

    def test_no_checkpoint_is_whole(self, copy: Path) -> None:
        for file in (copy / "checkpoints").glob("*/weights.safetensors"):
            file.unlink()
        assert failed(copy) == ["files of step-00000002", "files of step-00000004", "opening the model"]

    def test_a_damaged_model(self, copy: Path) -> None:
        saved = rewritten(copy, lambda _: None)
        (saved / "model.toml").write_text("what = ")
        assert failed(saved) == ["files of saved", "opening the model"]
        (saved / "model.toml").unlink()
        assert failed(saved) == ["files of saved", "opening the model"]

    def test_a_damaged_configuration(self, copy: Path) -> None:
        (copy / "run.toml").write_text("[data\n")
        assert failed(copy) == ["run.toml", "schedule of run.toml"]

    def test_another_configuration(self, copy: Path) -> None:
        text = (copy / "run.toml").read_text()
        (copy / "run.toml").write_text(text.replace("steps = 20", "steps = 21"))
        assert failed(copy) == ["schedule of run.toml"]

    def test_losses(self, copy: Path) -> None:
        log = copy / "log.jsonl"
        records = [json.loads(line) for line in log.read_text().splitlines()]
        records[1]["loss"] = math.nan
        log.write_text("".join(json.dumps(record) + "\n" for record in records))
        assert failed(copy) == ["losses in log.jsonl"]

    @pytest.mark.parametrize(
        ("name", "change", "rows"),
        [
            ("label_counts", lambda x: x[:2], {"classes with a count"}),
            ("label_counts", lambda x: 0 * x, {"classes with a count"}),
            ("label_counts", lambda x: x + torch.tensor([90, 0, 0]), {"mean of the classes' means, error"}),
            ("basis", lambda x: 1.001 * x, {"V^T V - 1 of the directions"}),
            ("basis", lambda x: x[:-1], {"shapes of the frame"}),
            ("std", lambda x: -x, {"least std of the frame"}),
            ("mean", lambda x: x + 3, {"mean of the data", "mean of the classes' means, error"}),
            ("x0_error", lambda x: x.flip(1), {"error of x0 by level"}),
            ("x0_error", lambda x: x * torch.tensor([[1.0], [math.nan]]), {"statistics", "error of x0 by level"}),
        ],
    )
    def test_statistics(self, copy: Path, name: str, change: Any, rows: set[str]) -> None:
        def changed(model: Model) -> None:
            model.statistics[name] = change(model.statistics[name]).contiguous()

        assert rows <= set(failed(rewritten(copy, changed)))

    def test_weights(self, copy: Path) -> None:
        def broken(model: Model) -> None:
            next(model.denoiser.parameters()).data[0] = math.nan

        assert {"weights", "output at t = 1", "2 samples of 3 steps"} <= set(failed(rewritten(copy, broken)))

    def test_warnings_pass(self, copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """Signal that is left, a network that is worse than the mean, statistics that an older run has not."""

        def worse(model: Model) -> None:
            for weight in model.denoiser.parameters():
                weight.data += 0.5 * NoiseSource([1]).normal(weight.data[None], 0)[0]

        saved = rewritten(copy, worse)
        model = saved / "model.toml"
        model.write_text(model.read_text().replace("max_beta = 0.999", "max_beta = 0.1"))
        write_manifest(saved)
        rows = of_run(saved)
        assert rows["signal left at t = 1, SNR"].verdict == "warn"
        assert rows["error of x0 in noise, by the mean's"].verdict == "warn"
        bare = rewritten(copy, lambda model: model.statistics.clear())
        rows = of_run(bare)
        assert rows["frame of the data"].verdict == rows["error of x0 by level"].verdict == "warn"
        assert not rows["classes with a count"].passed

        def unmeasured(model: Model) -> None:
            model.statistics = {"label_counts": model.statistics["label_counts"]}

        assert check(rewritten(copy, unmeasured), only=["run"], device="cpu") == 0
        assert capsys.readouterr().out.splitlines()[-1].endswith("2 with a warning")


class TestMistakes:
    def test_no_run(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="is neither a run nor a saved model; give the folder"):
            check(tmp_path, device="cpu")
        with pytest.raises(ValueError, match="nowhere does not exist; give the folder"):
            check(tmp_path / "nowhere", only=["run"], device="cpu")

    def test_groups(self) -> None:
        with pytest.raises(ValueError, match=r"expected groups of numbers, .*, guidance, got run; name a run"):
            check(only=["run"], device="cpu")
        with pytest.raises(ValueError, match=r"got solver, nothing$"):
            study.check(only=["solver", "nothing", "numbers"])


class Claiming(Karras):
    """A schedule that says of itself what is not so."""

    preserving: ClassVar[bool] = True


def test_the_variance_is_preserved_where_a_schedule_says_so() -> None:
    assert check_mathematics.worst(Claiming())[0] == "preserving"
    for schedule in (Karras(), Shifted(schedule=Cosine(), size=256)):
        assert check_mathematics.worst(schedule)[1] < 1e-9
    assert Shifted(schedule=Cosine(), size=256).preserving
