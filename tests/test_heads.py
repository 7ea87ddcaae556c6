"""Heads in a model: the posterior mean, learned variances, and the likelihood of a model by any of them."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from unsteep.core.chains import CosineBetas, LinearBetas
from unsteep.core.gaussian import posterior
from unsteep.core.level import step_variances
from unsteep.core.noise import NoiseSource
from unsteep.core.schedules import VP, Schedule
from unsteep.denoiser import Denoiser, Head
from unsteep.hearing import Label
from unsteep.likelihood import BoundTerms, Decoder, X0Error, bound, probing_levels
from unsteep.model import Description, Model, ModelConfig
from unsteep.networks import MLPConfig, UNetConfig
from unsteep.sampling import DDIM, Ancestral, grid, initial_noise, trajectory
from unsteep.spaces import Pixels, Vectors

CHAIN = LinearBetas(steps=40)


def close(a: Tensor, b: Tensor, rtol: float = 0.0, atol: float = 0.0) -> None:
    torch.testing.assert_close(a, b, rtol=rtol, atol=atol)


class Gauss(nn.Module):
    """A network on a chain that knows its data to be N(0, c), and says it in the words of the head. `raw`: what it says
    of the variance, a number for each step, if anything."""

    def __init__(self, chain: Any, head: Head = "x0", c: float = 0.25, raw: Tensor | None = None) -> None:
        super().__init__()
        self.chain, self.head, self.c, self.raw = chain, head, c, raw
        self.gain = nn.Parameter(torch.tensor(1.0))  # a model asks its weights where they are
        self.labels: list[Tensor] = []

    def forward(self, x: Tensor, noise_label: Tensor, label: Tensor | None = None) -> Tensor:
        step = noise_label.round().long() + 1
        now, nxt = self.chain.levels[step], self.chain.levels[step - 1]
        at = now.like(x)
        said = self.gain.to(x) * at.alpha * self.c / (at.alpha**2 * self.c + at.sigma**2) * x
        if label is not None:
            self.labels.append(label)
            said = said + 0.1 * label.reshape(-1, *[1] * (x.ndim - 1))
        if self.head == "mean":
            said = posterior(said, x, now, nxt).mean
        if self.raw is None:
            return said
        return torch.cat([said, self.raw[step - 1].to(x).reshape(-1, *[1] * (x.ndim - 1)).expand_as(x)], 1)


class TestMean:
    @pytest.mark.parametrize("solver", [DDIM(), Ancestral()], ids=["ddim", "ancestral"])
    @pytest.mark.parametrize("steps", [1, 7, 40])
    def test_samples_are_those_of_the_x0_it_means(self, solver: Any, steps: int) -> None:
        """On any grid: the mean is always that of one step of the chain."""
        noise = NoiseSource(range(4))
        levels = grid(CHAIN, steps)
        x = initial_noise(torch.empty(4, 3, dtype=torch.float64), levels[0], noise)
        ends = []
        heads: tuple[Head, ...] = ("x0", "mean")
        for head in heads:
            denoise = Denoiser(Gauss(CHAIN, head).double(), CHAIN, head)
            with torch.no_grad():
                *_, last = trajectory(denoise, x, levels, solver, noise, CHAIN.inverse)
            ends.append(last.x)
        close(ends[1], ends[0], rtol=1e-9)

    @pytest.mark.parametrize("chain", [CHAIN, CosineBetas(steps=40), LinearBetas(steps=1000)], ids=str)
    def test_single_precision_is_enough(self, chain: Any) -> None:
        """Reading x0 from the mean multiplies its rounding; what the sampler does with x0 divides it again."""
        x = torch.randn(200, 2, generator=torch.Generator().manual_seed(0))
        for step in (1, 2, chain.steps // 2, chain.steps):
            now, nxt = chain.levels[step], chain.levels[step - 1]
            means = []
            for dtype in (torch.float32, torch.float64):
                estimate = Denoiser(Gauss(chain, "mean").to(dtype), chain, "mean")(x.to(dtype), now)
                means.append(posterior(estimate.x0, x.to(dtype), now, nxt).mean.detach().double())
            close(means[0], means[1], rtol=1e-5, atol=1e-6)


class TestLearnedVariance:
    levels = CHAIN(torch.linspace(1, 0, 41, dtype=torch.float64))

    def terms(self, variance: Any, raw: Tensor | None = None, learns: Any = False, decoder: Any = "pair") -> BoundTerms:
        x0 = torch.randn(5, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        module = Denoiser(Gauss(CHAIN, raw=raw).double(), CHAIN, "x0", learn_variance=learns)
        last = Decoder(levels=None, variance=decoder)
        return bound(module, x0, self.levels, last, variance, NoiseSource(range(5)))

    @pytest.mark.parametrize("decoder", ["pair", "ho"])
    def test_the_ends_of_the_fraction(self, decoder: str) -> None:
        """-1 is beta_tilde, at the decoder what stands for it there; 1 is beta; 0 halfway between the logarithms."""
        low = self.terms("learned", -torch.ones(40), True, decoder)
        high = self.terms("learned", torch.ones(40), True, decoder)
        close(low.total(), self.terms("beta_tilde", decoder=decoder).total(), rtol=1e-12)
        close(high.kl, self.terms("beta").kl, rtol=1e-12)
        close(high.decoder, self.terms("beta", decoder="pair").decoder, rtol=1e-12)
        half = self.terms("learned", torch.zeros(40), True, decoder)

        def geometric(now: Any, nxt: Any) -> Tensor:
            beta, beta_tilde = step_variances(now, nxt)
            return (beta * beta_tilde).sqrt()

        close(half.kl, self.terms(geometric).kl, rtol=1e-12)

    @pytest.mark.parametrize("decoder", ["pair", "ho"])
    def test_a_diagonal_is_the_variance_itself(self, decoder: str) -> None:
        """In logarithms, and at the decoder too: no convention changes what was learned."""
        log_beta = CHAIN.betas().log()
        close(
            self.terms("learned", log_beta, "diagonal", decoder).total(), self.terms("beta").total(), rtol=1e-6
        )  # float32's log


def model_of(
    net: nn.Module | None = None,
    *,
    variance: Any = "fixed",
    schedule: Any = CHAIN,
    pictures: bool = False,
    names: tuple[str, ...] = (),
    statistics: dict[str, Tensor] | None = None,
) -> Model:
    space = Pixels(channels=1, size=4, levels=17) if pictures else Vectors(mean=(0.0, 0.0), std=(1.0, 1.0))
    network = UNetConfig() if pictures else MLPConfig()
    config = ModelConfig(network=network, prediction="x0", variance=variance)
    description = Description(
        model=config, schedule=schedule, space=space, hears=(Label(names=names),) if names else ()
    )
    learns = {"fixed": False, "learned": "fraction", "diagonal": "diagonal"}[variance]
    denoiser = Denoiser(net or Gauss(schedule), schedule, "x0", learn_variance=learns)  # type: ignore[arg-type]
    return Model(denoiser, description, statistics)


GREYS = torch.arange(6 * 16).reshape(6, 1, 4, 4) * 5 % 17
PICTURES = (GREYS * 255 / 16).round().to(torch.uint8)
ROWS = 0.5 * torch.randn(6, 2, generator=torch.Generator().manual_seed(3))


class TestLikelihood:
    def test_it_is_the_bound_of_what_the_data_are_inside(self) -> None:
        """Every step of the chain, bins of the space's values, estimates kept in range, noise of seed + i."""
        model = model_of(pictures=True)
        got = model.likelihood(PICTURES, seed=11)
        inside = GREYS / 8 - 1
        levels = CHAIN(torch.linspace(1, 0, 41, dtype=torch.float64))
        noise = NoiseSource(range(11, 17))
        wanted = bound(model.denoise(clip=True), inside, levels, Decoder(levels=17), "beta", noise)
        assert got.kl.shape == (6, 39)
        assert got.dimensions.tolist() == [16] * len(got.prior)
        close(got.total(), wanted.total(), rtol=1e-5)
        close(got.kl, wanted.kl, rtol=1e-3, atol=1e-5)

    def test_options_arrive(self) -> None:
        model = model_of(pictures=True)
        usual = model.likelihood(PICTURES).total()
        for options in (
            {"variance": "beta_tilde"},
            {"decoder": "ho"},
            {"levels": grid(CHAIN, 5)},
            {"seed": 1},
            {"draws": 2},
            {"terms": 5},
        ):
            assert bool((model.likelihood(PICTURES, **options).total() != usual).all())

    def test_clipping(self) -> None:
        """An estimate far out of the range of pictures is not believed, unless one asks for it."""
        net = Gauss(CHAIN)
        net.gain.data *= 50
        model = model_of(net, pictures=True)
        assert float(model.likelihood(PICTURES).distortion.max()) <= 4
        assert float(model.likelihood(PICTURES, clip=False).distortion.max()) > 4

    @pytest.mark.parametrize("options", [{}, {"terms": 7}, {"draws": 2}, {"terms": 7, "draws": 2}], ids=str)
    def test_an_example_has_its_own_noise_whatever_the_batch(self, options: dict[str, Any]) -> None:
        model = model_of()
        together = model.likelihood(ROWS, seed=4, **options)
        in_parts = model.likelihood(ROWS, seed=4, batch_size=4, **options)
        close(in_parts.total(), together.total(), rtol=1e-5, atol=1e-5)
        assert torch.equal(in_parts.steps, together.steps)
        alone = model.likelihood(ROWS[3:4], seed=7, **options)
        close(alone.total(), together.total()[3:4], rtol=1e-5, atol=1e-5)

    def test_draws_are_independent_and_averaged(self) -> None:
        model = model_of()
        levels = CHAIN(torch.linspace(1, 0, 41, dtype=torch.float64))
        parts = [
            bound(model.denoise(), ROWS, levels, Decoder(levels=None), "beta", NoiseSource(range(6), draw)).total()
            for draw in range(3)
        ]
        assert float((parts[0] - parts[1]).abs().min()) > 0
        close(model.likelihood(ROWS, draws=3).total(), torch.stack(parts).mean(0), rtol=1e-6)

    def test_terms(self) -> None:
        model = model_of()
        some = model.likelihood(ROWS.repeat(20, 1), terms=7)
        assert some.kl.shape == some.steps.shape == (120, 7)
        assert len({tuple(row) for row in some.steps.tolist()}) > 3  # each its own offset
        assert sorted(set(some.steps.flatten().tolist())) == list(range(39))
        for many in (39, 1000):
            assert torch.equal(model.likelihood(ROWS, terms=many).total(), model.likelihood(ROWS).total())

    def test_sub_sampled_and_whole_agree_in_the_mean(self) -> None:
        model, rows = model_of(), ROWS.repeat(200, 1)
        whole, some = model.likelihood(rows, seed=1).total(), model.likelihood(rows, seed=9000, terms=6).total()
        error = torch.sqrt((whole.var() + some.var()) / len(rows))
        assert abs(float(whole.mean() - some.mean())) < 4 * float(error)

    def test_labels_reach_the_network(self) -> None:
        net = Gauss(CHAIN)
        model = model_of(net, names=("a", "b", "c"))
        labels = torch.tensor([2, 0, 1, 1, 0, 2])
        given = model.likelihood(ROWS, labels, batch_size=4).total()
        assert all(label.tolist() in ([2, 0, 1, 1], [0, 2]) for label in net.labels)
        assert bool((given[labels > 0] != model.likelihood(ROWS).total()[labels > 0]).all())

    @pytest.mark.parametrize("schedule", [CHAIN, CosineBetas(steps=40)], ids=["linear", "cosine"])
    def test_data_that_it_knows_cost_their_entropy(self, schedule: Schedule) -> None:
        """With the optimal variance, from errors measured at a few levels: within the error of 3000 draws."""
        levels = probing_levels(schedule)
        table = torch.stack([levels.logsnr, 1 / (4 + levels.logsnr.exp())])[:, levels.logsnr.argsort()]
        model = model_of(schedule=schedule, statistics={"x0_error": table})
        rows = 0.5 * torch.randn(3000, 2, generator=torch.Generator().manual_seed(8))
        got = model.likelihood(rows, variance="optimal", batch_size=3000).bits_per_dim()
        entropy = 0.5 * math.log2(2 * math.pi * math.e * 0.25)
        assert float(got.mean()) == pytest.approx(entropy, abs=4 * float(got.std()) / 3000**0.5 + 2e-3)

    def test_off_a_chain_there_are_a_thousand_steps(self) -> None:
        class Nothing(Gauss):
            def forward(self, x: Tensor, noise_label: Tensor, label: Tensor | None = None) -> Tensor:
                return self.gain * x

        assert model_of(Nothing(CHAIN), schedule=VP()).likelihood(ROWS).kl.shape == (6, 999)

    @pytest.mark.parametrize("name", ["terms", "draws", "batch_size"])
    def test_counts_are_at_least_one(self, name: str) -> None:
        with pytest.raises(ValueError, match=f"^{name}: expected at least 1, got 0; give a larger one$"):
            model_of().likelihood(ROWS, **{name: 0})  # type: ignore[arg-type]


class TestReverseVariance:
    def test_by_default_what_was_learned(self) -> None:
        assert model_of().reverse_variance() == "beta"
        for variance in ("learned", "diagonal"):
            assert model_of(variance=variance).reverse_variance() == "learned"
        learned = model_of(Gauss(CHAIN, raw=torch.linspace(-1, 1, 40)), variance="learned")
        assert torch.equal(learned.likelihood(ROWS).total(), learned.likelihood(ROWS, variance="learned").total())
        assert not torch.equal(learned.likelihood(ROWS).total(), learned.likelihood(ROWS, variance="beta").total())

    def test_by_name(self) -> None:
        assert model_of().reverse_variance("beta_tilde") == "beta_tilde"
        assert model_of(variance="learned").reverse_variance("beta") == "beta"

    def test_optimal_is_from_the_statistics(self) -> None:
        table = torch.tensor([[-5.0, 0.0, 5.0], [0.3, 0.2, 0.01]], dtype=torch.float64)
        variance = model_of(statistics={"x0_error": table}).reverse_variance("optimal")
        assert callable(variance)
        now, nxt = CHAIN.levels[20], CHAIN.levels[19]
        beta, beta_tilde = step_variances(now, nxt)
        gain = nxt.alpha * beta / now.sigma**2
        assert float(variance(now, nxt)) == pytest.approx(float(beta_tilde + gain**2 * X0Error(table)(now)), rel=1e-12)

    def test_a_fixed_one_is_not_learned(self) -> None:
        said = "^variance: this model learned none, its variance is fixed; choose beta, beta_tilde or optimal$"
        with pytest.raises(ValueError, match=said):
            model_of().likelihood(ROWS, variance="learned")

    def test_optimal_needs_its_measurement(self) -> None:
        with pytest.raises(ValueError, match=r"^variance: optimal needs the error measured at the end of training"):
            model_of().likelihood(ROWS, variance="optimal")
