"""Where the bits go, and what is seen of them: on Gaussian data, whose answers are known, and on a tiny run."""

import contextlib
import json
import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from command_line import unsteep_
from unsteep.analytic import Mixture
from unsteep.core.chains import Chain, CosineBetas, LinearBetas
from unsteep.core.gaussian import optimal_variance
from unsteep.core.level import NoiseLevel
from unsteep.core.noise import NoiseSource
from unsteep.core.schedules import Cosine, Flow, Schedule
from unsteep.data import Digits, Examples
from unsteep.denoiser import Denoiser
from unsteep.evaluation import rate_distortion as rates
from unsteep.evaluation.examples import examples_of, open_data, open_split
from unsteep.evaluation.likelihood import likelihood
from unsteep.hearing import Label
from unsteep.likelihood import Decoder, bound, rate_distortion, strata
from unsteep.metrics.interval import Interval, intervals
from unsteep.model import Description, Model, ModelConfig
from unsteep.model.cost import counting, weights_digest
from unsteep.networks import MLPConfig, UNetConfig
from unsteep.pages import plots
from unsteep.sampling import grid
from unsteep.spaces import AnySpace, Pixels, Vectors

BETAS = partial(LinearBetas, end=0.019)  # as many as 20 steps reach pure noise


class Oracle(nn.Module):
    """A network that knows: the best eps for data N(0, variance I), on a chain, from its step - 1."""

    def __init__(self, chain: Chain, variance: float) -> None:
        super().__init__()
        self.chain, self.variance, self.weight = chain, variance, nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor, heard: Tensor, label: Tensor | None = None) -> Tensor:
        level = self.chain.interpolated()((heard.double() + 1) / self.chain.steps).like(x)
        return level.sigma / (level.alpha**2 * self.variance + level.sigma**2) * x * self.weight


def oracle(space: AnySpace, chain: Chain, variance: float = 1.0, names: tuple[str, ...] = ()) -> Model:
    network = UNetConfig() if isinstance(space, Pixels) else MLPConfig()
    description = Description(
        model=ModelConfig(network=network), schedule=chain, space=space, hears=(Label(names=names),) if names else ()
    )  # type: ignore[arg-type]
    return Model(Denoiser(Oracle(chain, variance), chain), description)


def rows_of(n: int, std: float = 1.0, dimensions: int = 2, seed: int = 0) -> Examples:
    x = std * np.random.default_rng(seed).normal(size=(n, dimensions)).astype(np.float32)
    return Examples(torch.from_numpy(x), source="rows")


def vectors(std: float = 1.0, dimensions: int = 2) -> Vectors:
    return Vectors(mean=(0.0,) * dimensions, std=(std,) * dimensions)


ENTROPY = 0.5 * math.log2(2 * math.pi * math.e)  # of N(0, 1), bits


class Nodes:
    """Three Gauss-Hermite nodes with weights 1/6, 2/3 and 1/6, as rows that count alike: means of quadratics are
    exact."""

    rows = math.sqrt(3) * torch.tensor([-1.0, 0, 0, 0, 0, 1.0], dtype=torch.float64)

    def __init__(self) -> None:
        self.x0, self.eps = self.rows.repeat_interleave(6)[:, None], self.rows.repeat(6)[:, None]

    def normal(self, like: Tensor, draw: int) -> Tensor:
        return self.eps


class TestCurve:
    @pytest.mark.parametrize("c", [0.25, 1.0])
    @pytest.mark.parametrize("steps", [60, 10, 2])
    @pytest.mark.parametrize(
        "schedule", [LinearBetas(), CosineBetas(), Cosine(), Flow()], ids=lambda s: type(s).__name__
    )
    def test_gaussian_data_lie_on_their_rate_distortion_function(
        self, schedule: Schedule, steps: int, c: float
    ) -> None:
        """R(D) = 0.5 log2(c / D^2), at every level, on any grid."""
        oracle = Mixture.gaussian(torch.zeros(1), torch.full((1,), c))

        def unknown(level: NoiseLevel) -> Tensor:
            return c * level.sigma**2 / (level.alpha**2 * c + level.sigma**2)

        nodes, levels = Nodes(), grid(schedule, steps)
        terms = bound(oracle, math.sqrt(c) * nodes.x0, levels, Decoder(levels=None), optimal_variance(unknown), nodes)
        curve = rate_distortion(terms, levels)
        squared = curve.distortion**2
        torch.testing.assert_close(squared, unknown(levels[:-1]), rtol=1e-9, atol=0)
        assert len(curve.t) == steps
        prior = 1e-6 if isinstance(schedule, LinearBetas) else 1e-8  # x_T is not quite N(0, 1)
        torch.testing.assert_close(curve.rate, 0.5 * torch.log2(c / squared), rtol=0, atol=prior)

    def test_it_needs_every_term(self) -> None:
        model = oracle(vectors(), BETAS(steps=30))
        levels = grid(model.denoiser.schedule, 30)
        few = model.likelihood(rows_of(4).x, levels=levels, terms=5)
        with pytest.raises(ValueError, match="every term"):
            rate_distortion(few, levels)


class TestSubSampling:
    def test_the_sum_is_unbiased(self) -> None:
        """Over many seeds, few terms of one example and all of them agree within 4 standard errors."""
        model = oracle(vectors(), BETAS(steps=40), variance=0.3)
        x = torch.tensor([[0.5, -1.5]]).expand(3000, 2)
        whole, few = (model.likelihood(x, terms=terms, batch_size=3000, seed=8) for terms in (None, 4))
        sums = [(terms.kl @ terms.weights) for terms in (whole, few)]
        error = sum(float(s.var()) / len(s) for s in sums) ** 0.5
        assert few.kl.shape == (3000, 4)
        assert abs(float(sums[0].mean() - sums[1].mean())) < 4 * error
        assert error < 0.05 * float(sums[0].mean())


class TestRange:
    def test_data_of_another_scale_are_refused_with_both_ranges(self) -> None:
        model = oracle(vectors(), BETAS(steps=20))
        model.statistics["range"] = torch.tensor([-3.0, 5.0], dtype=torch.float64)
        data = rows_of(20)
        data = replace(data, x=torch.linspace(-4, 4, 40).reshape(20, 2))
        assert len(examples_of(model, data, 10, 0)) == 10
        for factor in (1000, 0.01):
            with pytest.raises(ValueError, match=rf"values from -3 to 5, these run from -{4 * factor:g} to"):
                examples_of(model, replace(data, x=factor * data.x), 10, 0)


class TestInterval:
    def test_is_the_standard_one(self) -> None:
        values = torch.tensor([1.0, 2.0, 4.0, 9.0], dtype=torch.float64)
        interval = Interval.of(values)
        assert interval.value == 4.0
        assert interval.half == pytest.approx(1.959964 * math.sqrt((9 + 4 + 0 + 25) / 3) / 2)
        assert interval * -2.0 == Interval(-8.0, -8.0 - 2 * interval.half, -8.0 + 2 * interval.half)
        mean, half = intervals(torch.stack([values, -values], 1))
        assert mean.tolist() == [4.0, -4.0]
        assert float(half[0]) == pytest.approx(float(half[1]), rel=1e-12)

    def test_covers_the_truth(self) -> None:
        """The bound of an oracle on N(0, I) with variance beta is the entropy; 95% of intervals hold it."""
        model = oracle(vectors(dimensions=1), BETAS(steps=20))
        held = 0
        for seed in range(100):
            result = likelihood(model, rows_of(64, dimensions=1, seed=seed), n=64, terms=5, seed=64 * seed)
            held += abs(result.bound.value - ENTROPY) <= result.bound.half
        assert 86 <= held <= 100  # 95 +- 4 standard deviations


class TestLikelihood:
    model = oracle(vectors(), BETAS(steps=20))

    def test_the_parts_add_up(self) -> None:
        result = likelihood(self.model, rows_of(50), n=30, terms=0, draws=2)
        parts = [result.prior, result.kl, result.decoder]
        assert sum(part.value for part in parts) == pytest.approx(result.bound.value)
        assert float(result.step_mean.sum()) == pytest.approx(result.kl.value)
        assert len(result.t) == 19
        assert result.t.tolist() == pytest.approx([(20 - i) / 20 for i in range(19)])
        assert [name for name, _ in result.rows()] == ["L_T", "sum of L_{t-1}", "L_0", "bound"]

    def test_equals_the_bound_of_the_examples_that_were_drawn(self) -> None:
        data = rows_of(50)
        result = likelihood(self.model, data, n=30, terms=6, draws=2, seed=5)
        x = examples_of(self.model, data, 30, 5).x
        each = self.model.likelihood(x, terms=6, draws=2, seed=5).bits_per_dim().numpy()
        assert result.bound.value == pytest.approx(each.mean())
        assert result.bound.half == pytest.approx(1.959964 * each.std(ddof=1) / math.sqrt(30))

    def test_sub_sampled_terms_stand_for_strata_of_the_chain(self) -> None:
        result = likelihood(self.model, rows_of(200), n=200, terms=5, draws=3)
        lengths = strata(grid(self.model.denoiser.schedule, 20), 5).diff().double()
        assert float(result.step_mean @ lengths) == pytest.approx(result.kl.value)
        assert (result.t.diff() < 0).all()
        assert len(result.t) == 5
        assert result.evaluations == 3 * (5 + 1)
        assert result.settings["terms"] == 5

    def test_more_terms_than_there_are_is_all(self) -> None:
        few, every = (likelihood(self.model, rows_of(10), terms=terms) for terms in (50, 0))
        assert few.bound == every.bound
        assert few.settings == every.settings
        assert few.settings["terms"] is None
        assert few.evaluations == 20

    def test_rows_are_measured_in_their_own_units(self) -> None:
        """Data three times as wide in a space three times as wide have log2(3) more bits, in L_0 and in the sum."""
        narrow = likelihood(self.model, rows_of(40), flow=True)
        wide = likelihood(oracle(vectors(std=3.0), BETAS(steps=20)), rows_of(40, std=3.0), flow=True)
        for a, b, more in zip(narrow.rows(), wide.rows(), (0, 0, 1, 1, 1), strict=True):
            assert b[1].value - a[1].value == pytest.approx(more * math.log2(3), abs=1e-4), a[0]
            assert b[1].half == pytest.approx(a[1].half, abs=1e-4)
        assert narrow.nats == pytest.approx(2 * math.log(2))

    def test_a_model_measures_them_so_too(self) -> None:
        """By Jacobi's rule, with scales that differ, in L_0 alone."""
        x = rows_of(12).x
        narrow, wide = (
            oracle(Vectors(mean=(0.0, 0.0), std=std), BETAS(steps=20)).likelihood(x * torch.tensor(std))
            for std in ((1.0, 1.0), (3.0, 0.2))
        )
        more = math.log(3.0) + math.log(0.2)
        torch.testing.assert_close(wide.total() - narrow.total(), torch.full((12,), more).double(), atol=1e-4, rtol=0)
        torch.testing.assert_close(wide.decoder - narrow.decoder, torch.full((12,), more).double(), atol=1e-4, rtol=0)

    def test_the_flow_of_known_data(self) -> None:
        """The density of x with the noise of step 1 in it, for these very examples."""
        data, first = rows_of(40), self.model.denoiser.schedule(1 / 20)
        result = likelihood(self.model, data, n=40, flow=True)
        x, variance = data.x.double(), float(1 + (first.sigma / first.alpha) ** 2)
        bits = (x**2 / variance + math.log(2 * math.pi * variance)) / (2 * math.log(2))
        assert result.flow is not None
        assert result.flow.value == pytest.approx(float(bits.mean()), abs=2e-3)
        assert result.flow_evaluations > 10

    def test_the_flow_of_pictures_is_a_bound_on_their_probability(self) -> None:
        """A model that believes in N(0, 0.1 I), and grey values that are so distributed: the bits of the bins."""
        values, c = 256, 0.1
        x = math.sqrt(c) * np.random.default_rng(0).normal(size=(64, 1, 4, 4))
        data = Examples(torch.from_numpy(np.rint((x.clip(-1, 1) + 1) * 127.5).astype(np.uint8)))
        model = oracle(Pixels(channels=1, size=4), LinearBetas(), variance=c)
        result = likelihood(model, data, n=64, steps=20, flow=True)
        truth = ENTROPY + 0.5 * math.log2(c) + math.log2((values - 1) / 2)
        assert result.flow is not None
        assert abs(result.flow.value - truth) < 2 * result.flow.half + 0.01
        assert result.bound.value > result.flow.value

    def test_examples_are_random_and_nested(self) -> None:
        data = rows_of(100)
        few, more, other = (examples_of(self.model, data, n, seed).x for n, seed in ((10, 1), (20, 1), (10, 2)))
        assert torch.equal(more[:10], few)
        assert not torch.equal(few, other)
        assert not torch.equal(few, data.x[:10])
        assert len(examples_of(self.model, data, 1000, 0)) == 100

    def test_a_large_prior_term_warns(self) -> None:
        faint = oracle(vectors(), LinearBetas(steps=40, end=0.004))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            result = likelihood(faint, rows_of(200), n=200, terms=2)
            said = [str(warning.message) for warning in caught]
            caught.clear()
            likelihood(self.model, rows_of(200), n=200, terms=2)
        assert any(
            text.startswith(f"L_T is {result.prior.value:.3g} bits/dim, and should be below 0.01") for text in said
        )
        assert not caught

    @pytest.mark.parametrize(
        ("setting", "message"),
        [
            ({"n": 1}, "at least 2 examples"),
            ({"steps": 1}, "0 for the whole chain, or at least 2"),
            ({"steps": 21}, "20 levels, got 21"),
            ({"terms": -1}, "0 for all"),
            ({"draws": 0}, "draws"),
            ({"batch_size": 0}, "batch_size"),
            ({"variance": "learned"}, "learned none"),
            ({"variance": "optimal"}, "optimal needs"),
        ],
    )
    def test_refusals(self, setting: dict, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            likelihood(self.model, rows_of(10), **setting)

    def test_counts_and_digest(self) -> None:
        with counting(self.model) as so_far:
            self.model.sample(3, steps=4)
        assert so_far.rows == 12
        self.model.sample(3, steps=4)
        assert so_far.rows == 12  # the hook is gone
        other = oracle(vectors(), BETAS(steps=20))
        assert weights_digest(other) == weights_digest(self.model)
        with torch.no_grad():
            other.denoiser.network.weight.add_(1e-6)  # type: ignore[operator]
        assert weights_digest(other) != weights_digest(self.model)


class TestExamples:
    space = Pixels(channels=1, size=8, levels=17)
    model = oracle(space, BETAS(steps=20), names=tuple("0123456789"))
    digits = Digits().read("test")

    def test_the_models_own_kind_is_taken(self) -> None:
        chosen = examples_of(self.model, self.digits, 20, 0)
        assert chosen.labels is not None
        assert len(chosen.labels) == 20

    def test_classes_are_numbered_as_the_models(self) -> None:
        data = Digits(labels=(7, 2)).read("test")
        chosen = examples_of(self.model, data, 50, 0)
        assert data.labels is not None
        assert chosen.labels is not None
        assert set(chosen.labels.tolist()) == {2, 7}
        sevens = chosen.x[chosen.labels == 7].flatten(1).tolist()
        assert all(row in data.x[data.labels == 0].flatten(1).tolist() for row in sevens)

    def test_an_unconditional_model_needs_no_labels(self) -> None:
        model = oracle(self.space, BETAS(steps=20))
        assert examples_of(model, self.digits, 5, 0).labels is None

    @pytest.mark.parametrize(
        ("change", "messages"),
        [
            ({"x": torch.zeros(9, 1, 28, 28, dtype=torch.uint8)}, ["1 x 8 x 8", "1 x 28 x 28"]),
            ({"x": torch.zeros(9, 3)}, ["1 x 8 x 8", "3 rows"]),
            ({"levels": 256}, ["17 grey levels", "have 256"]),
            ({"x": torch.full((9, 1, 8, 8), 100, dtype=torch.uint8)}, ["17 grey levels", "between them"]),
            ({"labels": None, "names": ()}, ["10 classes", "no labels"]),
            ({"names": (*"012345678", "ten")}, ["class ten", "0, 1, 2"]),
        ],
    )
    def test_another_kind_is_refused(self, change: dict, messages: list[str]) -> None:
        data = replace(self.digits.select(slice(9)), **change)
        with pytest.raises(ValueError) as caught:
            examples_of(self.model, data, 9, 0)
        assert all(message in str(caught.value) for message in messages), caught.value
        assert "\n" not in str(caught.value)


class TestRateDistortionStudy:
    space = Pixels(channels=1, size=4)
    model = oracle(space, LinearBetas(), variance=0.1, names=("a", "b"))

    @staticmethod
    def data(n: int = 24) -> Examples:
        x = 0.1**0.5 * np.random.default_rng(3).normal(size=(n, 1, 4, 4))
        bytes_ = np.rint((x.clip(-1, 1) + 1) * 127.5).astype(np.uint8)
        return Examples(torch.from_numpy(bytes_), torch.arange(n) % 2, ("a", "b"))

    def unknown(self, t: Tensor) -> Tensor:
        """The standard deviation of x0 given x_t, in grey values."""
        level = self.model.denoiser.schedule(t)
        return 127.5 * (0.1 * level.sigma**2 / (level.alpha**2 * 0.1 + level.sigma**2)).sqrt()

    def test_the_curve_in_bits_and_grey_values(self) -> None:
        """Rates rise, errors are what is not known of x0, and the two agree with R(D)."""
        study = rates.measure(self.model, self.data(), n=24, steps=50)
        assert (study.curve.rate.diff() > -1e-6).all()
        assert study.rmse.tolist() == pytest.approx(self.unknown(study.curve.t).tolist(), rel=0.15)
        closed = 0.5 * math.log2(0.1 / float(study.curve.distortion[40]) ** 2)
        assert float(study.curve.rate[40]) == pytest.approx(closed, abs=0.15)

    @pytest.mark.parametrize(("steps", "rows"), [(50, [50, 45, 40, 35, 30, 25, 20, 15, 10, 5]), (3, [3, 2, 1])])
    def test_the_table_has_about_ten_rows(self, steps: int, rows: list[int]) -> None:
        study = rates.measure(self.model, self.data(), n=4, steps=steps)
        assert [row[0] for row in study.rows()] == rows
        assert study.rows()[0][1:] == (float(study.curve.rate[-1]), float(study.rmse[-1]))

    def test_the_reconstructions_end_in_the_originals(self) -> None:
        study = rates.measure(self.model, self.data(), n=8, steps=20)
        sheet = rates.reconstructions(self.model, study)
        assert sheet.shape == (6, 11, 1, 4, 4)
        assert torch.equal(sheet[:, -1], study.examples.x[:6])
        error = (sheet.double() - sheet[:, -1:].double()).pow(2).mean((0, 2, 3, 4)).sqrt()
        assert (error[1:] <= error[:-1] + 2).all()

    def test_samples_that_part_later_have_more_in_common(self) -> None:
        shared = rates.shared_latents(self.model, starts=4, samples=8, steps=50)
        assert shared.t == pytest.approx([1.0, 0.75, 0.5, 0.25, 0.1], abs=0.011)
        assert shared.rows.shape == (4, 5, 10, 1, 4, 4)
        stratas = shared.rows[:, :, 2:].double().var(2).mean((0, 2, 3, 4)).sqrt()
        expected = self.unknown(torch.tensor(shared.t, dtype=torch.float64))
        assert stratas.tolist() == pytest.approx(expected.tolist(), rel=0.15)
        assert float(expected[-1]) < 0.75 * float(expected[0])

    def test_the_first_row_of_a_seed_starts_from_its_own_noise(self) -> None:
        shared = rates.shared_latents(self.model, starts=2, samples=2, steps=10, seed=5)
        x = NoiseSource([5, 6]).at(0).normal(torch.empty(2, 1, 4, 4), draw=0)
        assert torch.equal(shared.rows[:, 0, 0], self.space.decode(x))
        again = rates.shared_latents(self.model, starts=1, samples=2, steps=10, seed=6)
        other = again.rows[0, :, :2].int() - shared.rows[1, :, :2].int()
        assert other.abs().max() <= 1  # the way does not depend on its neighbours, but for a rounding

    def test_rows_of_numbers_are_refused(self) -> None:
        with pytest.raises(ValueError, match="rows of 2 numbers"):
            rates.measure(oracle(vectors(), BETAS(steps=20)), rows_of(10))


def test_panels(tmp_path: Path) -> None:
    plots.panels(tmp_path / "p.png", {"a": ("x", [1, 2], "y", [3, 4]), "b": ("x", [1, 2], "y", [0, 4])}, title="t")
    with Image.open(tmp_path / "p.png") as picture:
        assert picture.size == (1160, 580)
    with pytest.raises(ValueError, match="at least one"):
        plots.panels(tmp_path / "q.png", {})


# The command line, on runs that were trained for three steps.

TINY = [
    *("--set=schedule=CosineBetas", "--set=schedule.steps=8", "--set=model.network.width=8"),
    *("--set=model.network.groups=4", "--set=model.network.multipliers=1,2", "--set=model.network.blocks=1"),
    *("--set=train.steps=3", "--set=train.batch=4", "--set=train.warmup=1", "--set=model.network.attention="),
]


def refused(*arguments: object) -> str:
    """The line on stderr of a command that must fail and leave everything as it was."""
    before = sorted(Path().rglob("*"))
    code, _, err = unsteep_(*arguments)
    assert (code, err.count("\n")) == (2, 1), err
    assert sorted(Path().rglob("*")) == before
    return err


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("home")
    random = np.random.default_rng(0)
    np.save(folder / "rows.npy", random.normal(size=(40, 2)).astype(np.float32))
    np.save(folder / "three.npy", random.normal(size=(40, 3)).astype(np.float32))
    with contextlib.chdir(folder):
        assert unsteep_("train", "digits", *TINY, "--out", "digits")[0] == 0
        of_rows = [s for s in TINY if "network" not in s]
        assert unsteep_("train", "vectors", "--data", "rows.npy", *of_rows, "--out", "rows")[0] == 0
        yield folder


class TestCommandLine:
    def test_likelihood(self, home: Path) -> None:
        code, out, err = unsteep_("likelihood", "digits", "-n", 6, "--terms", 3, "--flow")
        assert (code, err) == (0, "")
        assert "look at  digits/likelihood/likelihood.html" in out
        folder = Path("digits/likelihood")
        assert {path.name for path in folder.iterdir()} == {"likelihood.html", "likelihood.json", "terms.png"}
        found = json.loads((folder / "likelihood.json").read_text())
        total = found["bits_per_dim"]["bound"]
        assert str(Interval(**total)) in out
        parts = [found["bits_per_dim"][name]["value"] for name in ("L_T", "sum of L_{t-1}", "L_0")]
        assert sum(parts) == pytest.approx(total["value"])
        assert found["nats_per_example"]["bound"]["value"] == pytest.approx(64 * math.log(2) * total["value"])
        assert "flow" in found["bits_per_dim"]
        kept = {"n": 6, "steps": 8, "terms": 3, "variance": "beta", "decoder": "pair", "grey_levels": 17, "seed": 0}
        assert {key: found[key] for key in kept} == kept
        assert found["data_sha256"] == Digits().read("test").digest
        assert len(found["steps_bits_per_dim"]["t"]) == 3
        page = (folder / "likelihood.html").read_text()
        assert page.count("<img") == 1
        assert found["weights_sha256"] in page

    def test_the_same_command_gives_the_same_numbers(self, home: Path) -> None:
        for out in ("a", "b"):
            assert unsteep_("likelihood", "digits", "-n", 4, "--terms", 0, "--decoder", "ho", "--out", out)[0] == 0
        a, b = (Path(name, "likelihood.json").read_bytes() for name in "ab")
        assert a == b
        assert (Path("a/terms.png").read_bytes()) == Path("b/terms.png").read_bytes()

    def test_rows_of_numbers_have_a_density(self, home: Path) -> None:
        code, out, err = unsteep_("likelihood", "rows", "--split", "train", "-n", 8)
        assert (code, err) == (0, "")
        assert "density" in out
        assert "log-density" in Path("rows/likelihood/likelihood.html").read_text()
        assert json.loads(Path("rows/likelihood/likelihood.json").read_text())["grey_levels"] is None

    def test_rate_distortion(self, home: Path) -> None:
        code, out, err = unsteep_("rate-distortion", "digits", "-n", 4, "--variance", "optimal")
        assert (code, err) == (0, "")
        assert "look at  digits/rate-distortion/rate-distortion.html" in out
        folder = Path("digits/rate-distortion")
        pictures = {"curve.png", "reconstructions.png", "shared.png"}
        assert {p.name for p in folder.iterdir()} == {"rate-distortion.html", "rate-distortion.json", *pictures}
        found = json.loads((folder / "rate-distortion.json").read_text())
        assert len(found["rate_bits_per_dim"]) == len(found["rmse_255"]) == len(found["t"]) == 8
        assert found["reverse_steps"] == list(range(1, 9))
        assert f"{found['rate_bits_per_dim'][-1]:.5f}" in out
        assert (folder / "rate-distortion.html").read_text().count("<img") == 3
        likelihood_ = json.loads(self._likelihood("--variance", "optimal", "-n", 4, "--terms", 0))
        bits = likelihood_["bits_per_dim"]
        spent = bits["L_T"]["value"] + bits["sum of L_{t-1}"]["value"]
        assert spent == pytest.approx(found["rate_bits_per_dim"][-1], rel=1e-6)  # the same examples, noise and terms
        assert bits["L_0"] == pytest.approx(found["lossless_bits_per_dim"], rel=1e-6)

    @staticmethod
    def _likelihood(*arguments: object) -> str:
        assert unsteep_("likelihood", "digits", *arguments, "--out", "again")[0] == 0
        return Path("again/likelihood.json").read_text()

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["digits", "--variance", "learned"], "learned none"),
            (["digits", "--data", "elsewhere"], "come from no folder"),
            (["digits", "--steps", 9], "8 levels, got 9"),
            (["digits", "-n", 1], "at least 2"),
            (["digits", "--out", "rows.npy"], "is a file"),
            (["nowhere"], "nowhere"),
            (["rows"], "is held out, to test on"),
            (["rows", "--data", "three.npy", "--split", "all"], "3 rows"),
            (["digits", "--split", "dev"], "split"),
        ],
    )
    @pytest.mark.parametrize("verb", ["likelihood", "rate-distortion"])
    def test_refusals(self, home: Path, verb: str, arguments: list[object], message: str) -> None:
        if verb == "rate-distortion" and "three.npy" in arguments:
            message = "rows of 2 numbers"
        assert message in refused(verb, *arguments)

    def test_a_saved_model_is_not_enough(self, home: Path) -> None:
        (checkpoint,) = Path("digits/checkpoints").iterdir()
        assert "is not a run" in refused("likelihood", checkpoint)

    def test_data_from_elsewhere(self, home: Path) -> None:
        np.save("others.npy", np.random.default_rng(1).normal(size=(10, 2)).astype(np.float32))
        data = open_data(Path("rows"), Path("others.npy"), "all")
        assert len(data) == 10
        assert "others.npy" in data.source
        assert open_data(Path("digits"), split="test").source.endswith("test split")

    def test_a_split_is_named_in_whatever_has_its_source_as_a_field(self) -> None:
        @dataclass(frozen=True)
        class Own:
            source: str = "mine"

        class Reader:
            def read(self, split: str) -> Own:
                return Own()

        assert open_split(Path("run"), Reader(), "test") == Own("mine, test split")  # type: ignore[arg-type]
