"""Evaluations: what is measured against what, what the protocol says of it, and what is refused before the work."""

import json
import weakref
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import astuple, dataclass, field, replace
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats
from torch import Tensor

import unsteep
from unsteep.core.chains import CosineBetas
from unsteep.core.condition import Condition
from unsteep.data import Examples
from unsteep.evaluation import evaluate as evaluation
from unsteep.evaluation import page as evaluation_page
from unsteep.evaluation import subjects
from unsteep.evaluation.accuracy import classification_accuracy_score
from unsteep.evaluation.evaluate import METRICS, USUAL, Evaluation, Pairwise, check, evaluate
from unsteep.evaluation.held import Real, floors
from unsteep.evaluation.pictures import open_pictures
from unsteep.evaluation.protocol import Fact
from unsteep.evaluation.subjects import Drawn, Stored, aligned, weights_at
from unsteep.features.domain import DomainNet
from unsteep.features.looking import gather
from unsteep.guidance.noisy import NoisyClassifier
from unsteep.guidance.setting import Guidance
from unsteep.hearing import Label, Picture
from unsteep.hearing.pairs import sketch
from unsteep.metrics.frechet import fid
from unsteep.metrics.interval import Interval
from unsteep.metrics.measures import titled
from unsteep.metrics.ms_ssim import ms_ssim
from unsteep.metrics.seen import Seen
from unsteep.model import Description, Model, ModelConfig
from unsteep.model.cost import counting
from unsteep.networks import MLPConfig, UNetConfig
from unsteep.networks.encoder import EncoderConfig
from unsteep.pages.html import unbroken
from unsteep.sampling import DDIM
from unsteep.spaces import Pixels, Vectors

NAMES = ("left", "right")


def bars(n: int, seed: int, names: tuple[str, ...] = NAMES) -> Examples:
    """Grey 8 x 8 pictures of a bright bar on the left or on the right, of any height."""
    draws = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 2, (n,), generator=draws)
    height = torch.randint(1, 9, (n,), generator=draws)
    x = torch.randint(0, 90, (n, 1, 8, 8), generator=draws)
    at = torch.arange(8)
    lit = (at[None, :, None] < height[:, None, None]) & ((at >= 4).long()[None, None, :] == labels[:, None, None])
    return Examples((x + 160 * lit[:, None]).to(torch.uint8), labels, names, source=f"bars of seed {seed}")


def noise(n: int, seed: int) -> Examples:
    x = torch.randint(0, 256, (n, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))
    return replace(bars(n, seed), x=x)


def keys(pictures: Tensor) -> list[bytes]:
    return [picture.numpy().tobytes() for picture in pictures]


@dataclass(frozen=True, eq=False)
class Quarters:
    """The mean grey value of each of the eight 4 x 2 fields; the logits see on which side it is brighter."""

    looked_at: list[Tensor] = field(default_factory=list)
    name: str = "quarters"
    digest: str = "cd" * 32
    dimension: int = 8
    resize: str = "none"

    def __call__(self, pictures: Tensor) -> Seen:
        self.looked_at.append(pictures)
        means = pictures.float().unflatten(2, (4, 2)).unflatten(4, (2, 4)).mean((1, 3, 5)).flatten(1)
        return Seen(means, means.reshape(-1, 4, 2).sum(1) / 100)


REAL = Real(bars(300, 0), bars(400, 1), "test")


@cache
def model(names: tuple[str, ...] = NAMES) -> Model:
    """Of 8 x 8 pictures, with weights that nobody trained."""
    network = UNetConfig(width=8, groups=4, multipliers=(1, 2), blocks=1, attention=())
    config, chain = ModelConfig(network=network, prediction="v"), CosineBetas(steps=10)
    description = Description(
        model=config, schedule=chain, space=Pixels(channels=1, size=8), hears=(Label(names=names),) if names else ()
    ).filled()
    torch.manual_seed(0)
    denoiser = description.build()
    for weight in denoiser.parameters():
        weight.data += 0.1 * torch.randn_like(weight)
    return Model(denoiser, description)


def drawn(n: int = 20, **how: Any) -> Drawn:
    return Drawn(model(), n, 5, "bars", {"steps": 4, **how})


def measured(data: Examples, metrics: tuple[str, ...] = USUAL, real: Real = REAL, **how: Any) -> Evaluation:
    return evaluate(Stored(data, "pictures"), real, Quarters(), metrics, **how)


def alike(some: dict[str, Interval], others: dict[str, Interval], rel: float = 1e-12) -> bool:
    """All values and their intervals, but for the last bits of a sum; `rel` for features seen in other batches."""
    assert some.keys() == others.keys()
    return all(astuple(some[name]) == pytest.approx(astuple(others[name]), rel=rel, abs=1e-12) for name in some)


# Values and floors.


def test_real_pictures_lie_on_the_floor_and_others_far_above() -> None:
    good, bad = measured(bars(200, 2)), measured(noise(200, 2))
    assert list(good.values) == ["fid", "fid-infinity", *USUAL[1:]]
    assert alike(good.floors, bad.floors)
    for name, value in good.values.items():
        assert value.below(good.floors[name]) is None, name
    for name in ("fid", "fid-infinity", "kid"):
        assert bad.values[name].low > 10 * bad.floors[name].high
    assert bad.values["precision"].high < 0.1
    assert good.values["precision"].low > 0.6


def test_the_floor_is_of_as_many_pictures_that_the_features_have_not_learned_from() -> None:
    assert REAL.training is not None
    learned, unseen, reference = (set(keys(data.x)) for data in (REAL.learned_from, REAL.unseen, REAL.reference))
    assert learned | unseen == set(keys(REAL.training.x))
    assert not learned & unseen
    features = Quarters()
    found, words = floors(features, REAL, ("fid",), 120, ())
    looked = keys(torch.cat(features.looked_at))
    assert [key for key in looked if key in reference] == keys(REAL.reference.x)
    others = [key for key in looked if key not in reference]
    assert len(others) == 120
    assert set(others) <= unseen
    assert words == "120 real pictures of the other split"
    expected = fid(Quarters()(REAL.unseen.x[:120]).features, Quarters()(REAL.reference.x).features)
    assert found["fid"].value == pytest.approx(expected.value, rel=1e-6)


def test_without_another_split_the_reference_is_halved_and_halved_again() -> None:
    real, features = Real(bars(300, 0)), Quarters()
    found, words = floors(features, real, ("fid",), 60, ())
    looked = keys(torch.cat(features.looked_at))
    assert len(looked) == len(set(looked)) == 120
    assert set(looked) <= set(keys(real.unseen.x))
    assert not set(looked) & set(keys(real.learned_from.x))
    assert words == "60 real pictures against 60 others"
    again, _ = floors(Quarters(), real, ("fid",), 60, (), reference=gather(Quarters(), [real.reference.x]))
    assert alike(again, found)


@pytest.mark.parametrize("real", [REAL, Real(bars(300, 0))], ids=["two splits", "one"])
def test_a_floor_of_fewer_pictures_is_noted(real: Real) -> None:
    most = 200 if real.training is not None else 75
    assert real.floor_of(most + 1) == most
    found = measured(bars(most + 1, 2), ("fid",), real)
    assert found.notes == (f"the floor is of {most} real pictures, for want of more, and that of a distance too high",)
    assert str(found.protocol["floor"]).startswith(f"{most} real pictures")
    assert measured(bars(most, 2), ("fid",), real).notes == ()


def test_neither_order_nor_batches_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    data = bars(150, 2)
    names = ("fid", "precision")  # KID is of random parts
    straight = measured(data, names)
    turned = evaluate(Stored(data, "pictures", torch.arange(150).flip(0)), REAL, Quarters(), names)
    monkeypatch.setattr(subjects, "BATCH", 7)
    monkeypatch.setattr(evaluation, "BATCH", 11)
    small = measured(data, names)
    assert alike(small.values, straight.values, rel=1e-9)
    for name in names:
        assert turned.values[name].value == pytest.approx(straight.values[name].value, rel=1e-6), name


@pytest.mark.parametrize("more", [(), ("accuracy",)], ids=str)
def test_pictures_stream_and_only_the_first_are_kept(more: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "KEPT", 25)
    monkeypatch.setattr(evaluation, "classification_accuracy_score", lambda *_, **__: Interval(0.5, 0.4, 0.6))
    alive: list[weakref.ref[Tensor]] = []
    most = 0

    class Streaming(Stored):
        def batches(self) -> Iterator[Tensor]:
            nonlocal most
            for start in range(0, self.n, 10):
                batch = self.data.x[start : start + 10].clone()
                alive.append(weakref.ref(batch))
                most = max(most, sum(one() is not None for one in alive))
                yield batch
                del batch

    class Forgetful(Quarters):
        def __call__(self, pictures: Tensor) -> Seen:
            seen = super().__call__(pictures)
            self.looked_at.clear()
            return seen

    data = bars(200, 2)
    found = evaluate(Streaming(data, "pictures"), REAL, Forgetful(), ("fid", "ms-ssim", *more))
    assert most <= 2
    assert torch.equal(found.kept, data.x[:25])
    assert alike({"fid": found.values["fid"]}, {"fid": measured(data, ("fid",)).values["fid"]}, rel=1e-9)


def test_halves_of_the_data_are_taken_once(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []
    whole = Examples.select

    def select(self: Examples, index: Tensor) -> Examples:
        taken.append(len(index))
        return whole(self, index)

    monkeypatch.setattr(Examples, "select", select)
    real = Real(bars(41, 0), bars(51, 1))
    assert [len(part) for _ in range(3) for part in (real.learned_from, real.unseen)] == [25, 26] * 3
    assert real.floor_of(100) == 26
    assert taken == [25, 26]


# What is drawn from a model.


quick_score = partial(classification_accuracy_score, settings=DomainNet(steps=3, batch=16, width=4, dimension=4))


def test_samples_are_drawn_once_whatever_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    whole = Model.sample

    def sample(self: Model, n: int, **how: Any) -> Tensor:
        asked.append(n)
        return whole(self, n, **how)

    monkeypatch.setattr(subjects, "BATCH", 7)  # of which none ends where those kept do
    subject = drawn(30)
    samples, labels, floor = torch.cat(list(subject.batches())), subject.labels, REAL.unseen
    assert labels is not None
    assert floor.labels is not None
    monkeypatch.setattr(Model, "sample", sample)
    monkeypatch.setattr(evaluation, "classification_accuracy_score", quick_score)
    monkeypatch.setattr(evaluation, "KEPT", 12)
    found = evaluate(subject, REAL, Quarters(), (*USUAL, "ms-ssim", "accuracy", "memorization"))
    assert sum(asked) == 30
    assert found.values["accuracy"] == quick_score(samples, labels, REAL.reference)
    assert found.floors["accuracy"] == quick_score(floor.x[:30], floor.labels[:30], REAL.reference)
    assert torch.equal(found.kept, samples[:12])
    asked.clear()
    evaluate(subject, REAL, Quarters(), ("accuracy",), replicates=2)
    assert sum(asked) == 60


def test_replicates_share_no_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[range] = []
    whole = Model.sample

    def sample(self: Model, n: int, **how: Any) -> Tensor:
        asked.append(range(how["seed"], how["seed"] + n))
        return whole(self, n, **how)

    monkeypatch.setattr(Model, "sample", sample)
    monkeypatch.setattr(subjects, "BATCH", 12)
    found = evaluate(drawn(), REAL, Quarters(), ("fid", "precision"), replicates=3)
    seeds = [seed for some in asked for seed in some]
    assert seeds == list(range(5, 65))
    assert found.protocol["seeds"] == "5 to 64"
    assert (found.protocol["samples"], found.protocol["replicates"]) == (20, 3)
    alone = [evaluate(replace(drawn(), seed=5 + 20 * r), REAL, Quarters(), ("fid",)) for r in range(3)]
    values = [one.values["fid"].value for one in alone]
    low, high = stats.t.interval(0.95, 2, np.mean(values), stats.sem(values))
    ours = found.values["fid"]
    assert (ours.value, ours.low, ours.high) == pytest.approx((np.mean(values), low, high))
    assert alone[1].protocol["seeds"] == "25 to 44"


def test_what_is_measured_is_what_the_model_samples() -> None:
    labels = model().labels_of(20, None, 5)
    assert labels is not None
    expected = model().sample(20, seed=5, steps=4, label=labels.tolist(), guidance=2.0)
    subject = drawn(guidance=2.0, batch_size=7)
    found = torch.cat(list(subject.batches()))
    assert float((found.int() - expected.int()).abs().max()) <= 1  # a rounding may fall the other way
    assert subject.labels is not None
    assert torch.equal(subject.labels, labels)
    in_turn = replace(subject, label=["right", "left", 1])
    assert in_turn.labels is not None
    assert in_turn.labels[:6].tolist() == [1, 0, 1, 1, 0, 1]


def told_by() -> NoisyClassifier:
    torch.manual_seed(1)
    network = EncoderConfig(channels=1, classes=2, width=8, groups=4, multipliers=(1, 2)).build()
    for weight in network.parameters():
        weight.data += 0.2 * torch.randn_like(weight)
    return NoisyClassifier(network.eval())


def weaker() -> Model:
    of = Model(deepcopy(model().denoiser), model().description)
    for weight in of.denoiser.parameters():
        weight.data /= 2
    return of


@pytest.mark.parametrize(
    ("kind", "given", "own", "all_of_it"),
    [
        ("classifier", told_by, 1, 2),
        ("weaker", weaker, 1, 2),
        ("negative", lambda: {"label": "left"}, 2, 2),
    ],
)
def test_under_every_guidance(kind: str, given: Callable[[], Any], own: int, all_of_it: int) -> None:
    """Measured is what the model samples so, and counted are the calls of all networks: `own` in a step are its."""
    guidance, n, steps = Guidance(**{"scale": 2.0, kind: given()}), 12, 2
    how: dict[str, Any] = {"guidance": guidance, "solver": DDIM(), "steps": steps, "label": "right"}
    with counting(model()) as alone, counting(model(), guidance) as calls:
        found = unsteep.evaluate(model(), bars(60, 0), n=n, metrics=("kid",), features=Quarters(), **how)
    assert float((found.kept.int() - model().sample(n, **how).int()).abs().max()) <= 1
    assert float((found.kept.int() - model().sample(n, **how | {"guidance": 1.0}).int()).abs().max()) > 1
    assert found.protocol["guidance"] == 2
    assert f"guidance: {kind}" in found.protocol
    drawn = n + 1  # one sample more, first: what cannot be drawn is refused before the work
    assert (alone.rows, calls.rows) == (own * steps * drawn, all_of_it * steps * drawn)


def test_no_metric_is_no_question() -> None:
    with pytest.raises(ValueError, match=r"^metrics: expected at least one, got none"):
        unsteep.evaluate(model(), bars(60, 0), n=12, metrics=[])


def test_the_protocol_says_all_that_the_numbers_depend_on() -> None:
    features, subject = Quarters(), drawn(guidance=1.5, solver=DDIM(), grid="linspace")
    found = evaluate(replace(subject, weights="averaged"), REAL, features, ("fid",), seed=3)
    stated = dict(found.protocol)
    assert len(str(stated.pop("model"))) == 64
    assert stated.pop("torch") == version("torch")
    assert stated.pop("unsteep")
    expected: dict[str, Fact] = {
        **{"samples from": "model", "subject": "bars", "weights": "averaged", "seeds": "5 to 24"},
        **{"solver": "DDIM(eta=0.0)", "steps": 4, "grid": "linspace", "guidance": 1.5},
        **{"classes": "as often as in the data", "samples": 20, "replicates": 1},
        **{"reference": "bars of seed 0", "reference pictures": 300, "split": "test"},
        **{"reference digest": REAL.reference.digest, "floor": "20 real pictures of the other split"},
        **{"features": "quarters", "features digest": features.digest, "feature dimension": 8, "resize": "none"},
        **{"quantisation": "uint8", "seed of resampling": 3},
    }
    assert stated == expected
    assert json.loads(json.dumps(dict(found.protocol))) == dict(found.protocol)


def test_each_choice_is_in_the_protocol() -> None:
    usual = drawn().facts()
    changed = {
        "guidance": drawn(guidance=2.0),
        "steps": drawn(steps=5),
        "grid": drawn(grid=[1.0, 0.4, 0.0]),
        "solver": drawn(solver=DDIM()),
        "seeds": replace(drawn(), seed=6),
        "classes": replace(drawn(), label=["left"]),
    }
    for name, subject in changed.items():
        differing = [fact for fact, value in subject.facts().items() if value != usual[fact]]
        assert differing == [name]
    left, right = (replace(drawn(), label=[name]).facts()["classes"] for name in NAMES)
    assert left != right
    other = Model(model().description.build(), model().description)
    assert replace(drawn(), model=other).facts()["model"] != usual["model"]
    assert usual["solver"] == "GaussianFrame(order=3, corrector=True, start='call', end='denoiser') (default)"


def test_the_default_solver_is_named_for_the_steps_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    whole = Model.resolved

    def resolved(self: Model, solver: Any, labels: Any, guidance: float, steps: int) -> Any:
        asked.append(steps)
        return whole(self, solver, labels, guidance, steps)

    monkeypatch.setattr(Model, "resolved", resolved)
    drawn(steps=3).facts()
    Drawn(model(), 10, 0, "bars").facts()
    assert asked == [3, 10]


def test_which_weights_were_taken(tmp_path: Path) -> None:
    model().save(tmp_path / "saved")
    assert weights_at(tmp_path / "saved") == "as saved"
    (tmp_path / "saved" / "ema.safetensors").touch()
    assert weights_at(tmp_path / "saved") == "averaged while training (EMA)"


def test_samples_that_are_not_finite_are_refused_by_their_seeds() -> None:
    description = model().description
    broken = Model(description.build(), description)
    for weight in broken.denoiser.parameters():
        weight.data.fill_(torch.nan)
    with pytest.raises(ValueError, match=r"20 of 20 samples are not finite, those of seeds 5, 6, 7, 8, 9 and more"):
        evaluate(replace(drawn(), model=broken), REAL, Quarters(), ("fid",))


# Metrics that need more.


def test_classes_are_matched_by_name() -> None:
    data = bars(100, 2)
    assert data.labels is not None
    turned = replace(data, labels=1 - data.labels, names=NAMES[::-1])
    for one, share in ((data, 1.0), (turned, 1.0), (replace(data, labels=1 - data.labels), 0.0)):
        found = measured(one, ("agreement", "is"), names=NAMES)
        assert abs(found.values["agreement"].value - share) < 0.05  # a bar of height 1 is hardly seen
    assert found.floors["agreement"].value > 0.95
    assert aligned(data.labels, NAMES, ("up", *NAMES[::-1])) is not None
    assert aligned(data.labels, NAMES, ("left",)) is None


def test_likeness_within_classes_is_by_the_labels_of_the_pictures_kept() -> None:
    data = bars(60, 2)
    assert data.labels is not None
    found = measured(data, ("ms-ssim", "intra-class")).values
    order = data.labels.argsort()
    again = evaluate(Stored(data, "pictures", order), REAL, Quarters(), ("intra-class",)).values
    every = {
        same: torch.cat([
            ms_ssim(data.x[i].expand(60, 1, 8, 8), data.x)[(data.labels == data.labels[i]) == same] for i in range(60)
        ]).mean() for same in (True, False)
    }  # fmt: skip
    for one in (found, again):
        assert one["intra-class"].low < every[True] < one["intra-class"].high
        assert one["intra-class"].low > every[False]
    assert found["ms-ssim"].value < found["intra-class"].value


def test_copies_are_found_and_shown(tmp_path: Path) -> None:
    assert REAL.training is not None
    fresh = bars(60, 2).x
    copied = torch.cat([fresh[:50], REAL.training.x[100:110]])
    found = measured(replace(bars(60, 2), x=copied), ("memorization",))
    assert found.copies is not None
    for seen in (found.copies.pixels, found.copies.features):
        closest = {(pair.first, pair.second) for pair in seen.pairs if pair.distance == 0}
        assert closest <= {(50 + i, 100 + i) for i in range(10)}
        assert len(closest) == 8
        assert seen.near.value > 0.12
    clean = measured(replace(bars(60, 2), x=fresh), ("memorization",)).copies
    assert clean is not None
    assert clean.pixels.near.value < 0.1
    assert evaluation_page.write(found, tmp_path, "bars", "unsteep evaluate").exists()
    assert {path.name for path in tmp_path.iterdir()} >= {"closest.png", "samples.png", "real.png", "results.json"}
    assert "Does it copy?" in (tmp_path / "index.html").read_text(encoding="utf-8")


def test_held_out_pictures_in_order_of_class_are_held_out_at_random(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first 40 of a sorted reference are of one class; distances must be of both."""
    monkeypatch.setattr(evaluation, "KEPT", 40)
    reference = REAL.reference
    assert reference.labels is not None
    taken: list[Tensor] = []
    whole = evaluation.memorization

    def spied(samples: Tensor, training: Tensor, held_out: Tensor) -> Any:
        taken.append(held_out)
        return whole(samples, training, held_out)

    monkeypatch.setattr(evaluation, "memorization", spied)
    real = replace(REAL, reference=reference.select(reference.labels.argsort(stable=True)))
    measured(bars(60, 2), ("memorization",), real)
    pixels, features = taken
    assert torch.equal(Quarters()(pixels).features, features)
    right = (pixels[..., 4:].float().mean((1, 2, 3)) > pixels[..., :4].float().mean((1, 2, 3))).float().mean()
    assert 0.25 < float(right) < 0.75


def test_metrics_by_weights_of_their_own() -> None:
    def lit(pictures: Tensor) -> Tensor:
        return pictures.double().mean((1, 2, 3))

    data = bars(30, 2)
    found = measured(
        data,
        ("fid", "lpips", "clip-score"),
        pairwise=Pairwise({"lpips": lit, "clip-score": lit}, {"lpips digest": "7"}),
    )
    assert alike({"lpips": found.values["lpips"]}, {"lpips": Interval.of(lit(data.x))})
    assert alike({"lpips": found.floors["lpips"]}, {"lpips": Interval.of(lit(REAL.unseen.x[:30]))})
    assert "clip-score" not in found.floors
    assert found.protocol["lpips digest"] == "7"


# What is refused.


@pytest.mark.parametrize(
    ("data", "metrics", "how", "message"),
    [
        (bars(30, 2), ("fdi",), {}, f"unknown metric 'fdi'; choose {', '.join(METRICS)}"),
        (bars(9, 2), ("fid",), {}, "at least 10 samples and 10 real pictures, got 9 and 300"),
        (bars(30, 2), ("fid",), {"real": Real(bars(37, 0))}, "at least 10 samples and 40 real pictures, got 30 and 37"),
        (
            bars(30, 2),
            ("fid",),
            {"real": Real(bars(100, 0), training=bars(8, 1))},
            "at least 10 samples and 10 real pictures beside 20 for training, got 30 and 100 beside 8",
        ),
        (bars(30, 2), ("fid",), {"replicates": 2}, "replicates: expected at least 1, of a model; got 2"),
        (bars(30, 2), ("memorization",), {"real": Real(bars(90, 0))}, "memorization needs training pictures"),
        (bars(30, 2), ("accuracy",), {"real": Real(bars(90, 0))}, "accuracy needs training pictures"),
        (bars(30, 2, ("a", "b")), ("accuracy",), {}, "accuracy needs samples and real pictures of the same classes"),
        (replace(bars(30, 2), labels=None, names=()), ("intra-class",), {}, "intra-class needs samples with classes"),
        (replace(bars(30, 2), labels=None, names=()), ("agreement",), {}, "agreement needs samples with classes"),
        (
            Examples(bars(30, 2).x.repeat(1, 3, 1, 1)),
            ("fid",),
            {},
            r"samples are 3 x 8 x 8 and real pictures 1 x 8 x 8",
        ),
        (Examples(bars(30, 2).x[..., :6, :6]), ("fid",), {}, "or bring folders to one size with resize=SIZE"),
        (bars(30, 2), ("lpips",), {}, "lpips and clip-score are taken by `pairwise`"),
    ],
    ids=lambda given: " ".join(given) if isinstance(given, tuple) else "",
)
def test_mistakes_cost_no_work(data: Examples, metrics: tuple[str, ...], how: dict[str, Any], message: str) -> None:
    features = Quarters()
    with pytest.raises(ValueError, match=message):
        evaluate(Stored(data, "pictures"), how.pop("real", REAL), features, metrics, **how)
    assert not features.looked_at


def test_other_mistakes() -> None:
    with pytest.raises(ValueError, match="agreement needs features trained on the same classes"):
        measured(bars(30, 2), ("agreement",), names=("up", "down"))
    with pytest.raises(
        ValueError, match="samples run from 0 to 15, real pictures from 0 to 249; save samples as bytes"
    ):
        measured(Examples(bars(30, 2).x // 16), ("fid",))
    with pytest.raises(ValueError, match=r"expected pictures of bytes, got rows of numbers \(rows.npy\)"):
        Stored(Examples(torch.zeros(20, 3), source="rows.npy"), "pictures")
    space = Vectors(mean=(0.0,), std=(1.0,))
    rows = Description(
        model=ModelConfig(network=MLPConfig(width=8, depth=1)), schedule=CosineBetas(steps=5), space=space
    ).filled()
    with pytest.raises(ValueError, match="expected a model of pictures, and this one makes rows of 1 numbers"):
        Drawn(Model(rows.build(), rows), 20, 0, "rows")
    with pytest.raises(ValueError, match="'up' is not a class of this model"):
        check(replace(drawn(), label=["left", "up"]), REAL, ("fid",))


def test_too_few_samples_for_the_dimension_warn_with_the_bias() -> None:
    found = pytest.warns(UserWarning, match=r"^15 samples in 8 dimensions of features: .* too large by about")
    with found as warned:
        result = measured(bars(15, 2), ("fid",))
    (said,) = (str(one.message) for one in warned)
    assert result.notes == (said,)
    stated = float(said.split("too large by about ")[1].split(";")[0])
    assert 0.3 * result.floors["fid"].value < stated < 3 * result.floors["fid"].value
    assert measured(bars(16, 2), ("fid",)).notes == ()
    assert measured(bars(15, 2), ("kid",)).notes == ()


# The page, and reading it.


def test_the_page_and_the_numbers(tmp_path: Path) -> None:
    found = measured(bars(150, 2), ("fid", "density"))
    path = evaluation_page.write(found, tmp_path / "deep" / "out", "bars", "unsteep evaluate bars --data real")
    page = path.read_text(encoding="utf-8")
    for name, value in found.values.items():
        assert f"<td>{unbroken(titled(name))}</td>" in page
        assert unbroken(evaluation_page.shown(value)) in page
        assert unbroken(evaluation_page.shown(found.floors[name])) in page
    for words in ("150 samples against 300 real pictures, quarters features", "unsteep evaluate bars --data real"):
        assert words in page
    assert all(name in page for name in found.protocol)
    values, protocol = evaluation_page.read(path.parent)
    assert (values, protocol) == (found.values, found.protocol)
    assert evaluation_page.read(path.parent / "results.json") == (values, protocol)
    stored = json.loads((path.parent / "results.json").read_text(encoding="utf-8"))
    assert {name: Interval(**value) for name, value in stored["floors"].items()} == found.floors


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"values": {"fid": 3}, "protocol": {}}'], ids=repr)
def test_what_are_no_results(tmp_path: Path, text: str) -> None:
    (tmp_path / "results.json").write_text(text)
    with pytest.raises(ValueError, match=r"results.json: expected the results of an evaluation"):
        evaluation_page.read(tmp_path)
    with pytest.raises(ValueError, match="expected the results of an evaluation"):
        evaluation_page.read(tmp_path / "absent.json")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Interval(12.345, 11.9, 12.8), "12.35 [11.90, 12.80]"),
        (Interval(0.12345, 0.1, 0.15), "0.123 [0.100, 0.150]"),
        (Interval(0.00012, 0.0001, 0.00014), "0.000120 [0.000100, 0.000140]"),  # a KID of good samples
        (None, "–"),
    ],
)
def test_numbers_are_shown_to_their_error(value: Interval | None, text: str) -> None:
    assert evaluation_page.shown(value) == text


# Opening pictures of any tool.


def pictures(folder: Path, sizes: list[tuple[int, int]], mode: str = "L") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for i, size in enumerate(sizes):
        Image.new(mode, size, 20 * i if mode == "L" else (20 * i, 0, 9)).save(folder / f"{i}.png")
    return folder


def test_a_folder_is_what_its_pictures_are(tmp_path: Path) -> None:
    grey = open_pictures(pictures(tmp_path / "grey", [(6, 6)] * 3))
    assert grey.x.shape == (3, 1, 6, 6)
    assert grey.x[:, 0, 0, 0].tolist() == [0, 20, 40]
    assert grey.names == ()
    colour = open_pictures(pictures(tmp_path / "colour", [(5, 5)] * 2, "RGB"))
    assert colour.x.shape == (2, 3, 5, 5)
    for name in NAMES:
        pictures(tmp_path / "classes" / name, [(6, 6)] * 2)
    classes = open_pictures(tmp_path / "classes")
    assert classes.names == NAMES
    assert classes.labels is not None
    assert classes.labels.tolist() == [0, 0, 1, 1]
    assert open_pictures(pictures(tmp_path / "mixed", [(6, 6), (8, 4)]), size=3).x.shape == (2, 1, 3, 3)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        (
            [(6, 6), (6, 6), (8, 8)],
            r"of 2 sizes \(2 of 6 x 6, 1 of 8 x 8\); bring them to one with resize=SIZE",
        ),
    ],
    ids=["two sizes"],
)
def test_folders_that_need_a_size(tmp_path: Path, sizes: list[tuple[int, int]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        open_pictures(pictures(tmp_path / "p", sizes))


def test_arrays(tmp_path: Path) -> None:
    images = bars(12, 0).x.permute(0, 2, 3, 1).numpy()
    np.savez(tmp_path / "a.npz", images=images)
    assert np.array_equal(open_pictures(tmp_path / "a.npz").x[:, 0].numpy(), images[..., 0])
    floats = images / 255.0
    floats[[3, 7], 0, 0] = np.nan
    np.savez(tmp_path / "b.npz", images=floats)
    with pytest.raises(ValueError, match=r"b.npz\[images\]: 2 of 12 examples hold NaN.*, the first at 3, 7: remove"):
        open_pictures(tmp_path / "b.npz")
    np.savez(tmp_path / "c.npz", images=images * 2.0)
    with pytest.raises(ValueError, match=r"expected float pictures in \[0, 1\] or \[-1, 1\], got 0 to"):
        open_pictures(tmp_path / "c.npz")
    with pytest.raises(ValueError, match=r"expected a run, a folder or an archive of pictures, idx files, or a \.npz"):
        open_pictures(tmp_path / "absent")


# Models that hear more than classes are asked for what real examples have.


def sketcher() -> Model:
    """Draws after sketches, of the classes of the bars."""
    network = UNetConfig(width=8, groups=4, multipliers=(1, 2), blocks=1, attention=())
    space, chain = Pixels(channels=1, size=8), CosineBetas(steps=10)
    config = ModelConfig(network=network, prediction="v")
    hears = (Label(names=NAMES), Picture(what="sketch", channels=1, height=8, width=8))
    description = Description(model=config, schedule=chain, space=space, hears=hears, drop=0.1).filled()
    return Model(description.build(), description)


def test_samples_are_asked_for_by_what_real_pictures_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sample i by real example i, in turn, in batches of any size; their labels are those asked for."""
    of, real = sketcher(), replace(bars(7, 3), names=NAMES[::-1])  # numbers its classes otherwise than the model
    asked: list[Condition] = []

    def sample(n: int, *, condition: Condition, **_: Any) -> Tensor:
        asked.append(condition)
        return torch.zeros(n, 1, 8, 8, dtype=torch.uint8)

    monkeypatch.setattr(of, "sample", sample)
    monkeypatch.setattr(subjects, "BATCH", 4)
    subject = Drawn(of, 10, 5, "sketcher", real=real)
    assert [len(batch) for batch in subject.batches()] == [4, 4, 2]
    pictures = torch.cat([condition["picture"] for condition in asked])  # type: ignore[misc]
    wanted = of.space.encode(sketch(real.x))
    assert torch.equal(pictures, torch.cat([wanted, wanted[:3]]))
    labels = torch.cat([condition["label"] for condition in asked])  # type: ignore[misc]
    assert real.labels is not None
    assert torch.equal(labels, 1 - torch.cat([real.labels, real.labels[:3]]))
    assert subject.labels is not None
    assert torch.equal(subject.labels, labels)
    assert subject.facts()["asked"] == f"the class, sketch of {real.source}"


def test_a_model_that_needs_examples_says_so() -> None:
    with pytest.raises(ValueError, match="this model hears a class, sketch; give examples"):
        next(Drawn(sketcher(), 10, 5, "sketcher").batches())
    with pytest.raises(ValueError, match="label: this model hears a class, sketch, and is asked as real pictures are"):
        next(Drawn(sketcher(), 10, 5, "sketcher", label=["left"], real=bars(7, 3)).batches())
    assert "asked" not in drawn().facts()
