"""Features of the user's own domain: what they learn, that they are a function of data and settings, and the cache."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from unsteep.core.noise import Draw
from unsteep.data import Digits, Examples
from unsteep.data.batch import Batch
from unsteep.evaluation.accuracy import classification_accuracy_score
from unsteep.features import domain
from unsteep.features.domain import SMALLEST, TEMPERATURE, Domain, DomainNet, contrast, domain_features, views
from unsteep.features.looking import gather
from unsteep.features.stored import default_cache
from unsteep.metrics.agreement import agreement

FEW = DomainNet(steps=120, batch=64, width=8, dimension=16, learning_rate=0.01)
FEWER = replace(FEW, steps=2)


@pytest.fixture(scope="module")
def digits() -> Examples:
    return Digits().read("train")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def learned(digits: Examples, cache: Path) -> Domain:
    return domain_features(digits, cache, FEW)


def unlabelled(data: Examples) -> Examples:
    return replace(data, labels=None, names=())


def weights(features: Domain) -> dict[str, Tensor]:
    return features.network.state_dict()


def same(one: Domain, other: Domain) -> bool:
    return all(torch.equal(a, b) for a, b in zip(weights(one).values(), weights(other).values(), strict=True))


# What is learned.


def test_the_classifier_is_far_above_chance_and_says_how_far(digits: Examples, learned: Domain) -> None:
    assert learned.accuracy is not None
    assert learned.accuracy.low > 0.5  # one in ten is chance
    test = Digits().read("test")
    logits = learned(test.x).logits
    assert logits is not None
    assert test.labels is not None
    found = agreement(logits, test.labels)
    assert found.value == pytest.approx(float((logits.argmax(1) == test.labels).double().mean()), rel=1e-12)
    assert found.low < learned.accuracy.high  # both measure pictures that the net has not seen
    assert found.high > learned.accuracy.low
    assert learned.names == digits.names


def test_real_pictures_teach_about_as_well_as_themselves(digits: Examples, learned: Domain) -> None:
    test = Digits().read("test")
    assert digits.labels is not None
    assert learned.accuracy is not None
    score = classification_accuracy_score(digits.x, digits.labels, test, FEW)
    assert score.low < learned.accuracy.high
    assert score.high > learned.accuracy.low
    wrong = classification_accuracy_score(digits.x, (digits.labels + 1) % 10, test, FEW)
    assert wrong.high < 0.2
    assert not any(part.training for part in domain.fit(digits, FEWER).modules())  # a picture is named by itself alone


def test_without_labels_the_views_of_a_picture_are_found_among_those_of_others(digits: Examples, cache: Path) -> None:
    data = unlabelled(digits)
    features = domain_features(data, cache, replace(FEW, steps=60))
    assert (features.accuracy, features.names, features(data.x[:3]).logits) == (None, (), None)
    pictures = data.x[:64].float() / 127.5 - 1
    batch, draw = Batch(pictures, None, torch.arange(64)), Draw(9, 9, torch.arange(64), 64)
    untrained = domain_features(data, cache, replace(FEW, steps=1, learning_rate=1e-9))
    before, after = (contrast(of.network.train(), batch, draw).value.mean() for of in (untrained, features))
    assert float(after) < float(before) - 0.5


def test_the_contrast_is_its_formula() -> None:
    """Chen et al. 2020, eq. 1, by loops."""

    class Flat(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return x, x.flatten(1)

    x = torch.randn(5, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    draw = Draw(0, 0, torch.arange(5), 5)
    loss = contrast(Flat(), Batch(x, None, torch.arange(5)), draw).value
    z = views(x, draw).flatten(1).double().numpy()
    for i in range(5):
        total = 0.0
        for a, b in ((i, i + 5), (i + 5, i)):
            near = [np.exp(z[a] @ z[k] / np.linalg.norm(z[a]) / np.linalg.norm(z[k]) / TEMPERATURE) for k in range(10)]
            total -= np.log(near[b] / (sum(near) - near[a]))
        assert float(loss[i]) == pytest.approx(total / 2, rel=1e-4)


def test_views_belong_to_the_example_and_differ_from_each_other() -> None:
    x = torch.rand(6, 3, 9, 12, generator=torch.Generator().manual_seed(0))
    places = torch.arange(6)
    both = views(x, Draw(0, 3, places, 6))
    part = views(x[2:4], Draw(0, 3, places[2:4], 6))
    torch.testing.assert_close(part, both[[2, 3, 8, 9]])
    assert both.shape == (12, 3, 9, 12)
    assert bool(((both[:6] - both[6:]).abs().flatten(1).mean(1) > 0.02).all())
    flat = views(torch.full((4, 1, 8, 8), 0.5), Draw(0, 3, torch.arange(4), 4))  # gain 1/2..3/2, shift -1/2..1/2
    assert bool((flat.flatten(1).std(1) < 1e-6).all())
    assert -0.25 < float(flat.min()) < float(flat.max()) < 1.25
    ramp = torch.linspace(-1, 1, 16).expand(50, 1, 16, 16)
    slopes = views(ramp, Draw(0, 4, torch.arange(50), 50)).diff(dim=3)[..., 1:-1]  # straight: nothing but the picture
    torch.testing.assert_close(slopes, slopes[..., :1].expand_as(slopes), rtol=1e-4, atol=1e-5)
    assert float(slopes.min()) > 0.5 * SMALLEST * 2 / 15 - 1e-5  # gain times size


# What the net is.


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 12, 20), (1, 28, 28), (3, 64, 64), (3, 256, 256)])
def test_pictures_of_any_size_give_features_one_by_one_as_together(shape: tuple[int, int, int], tmp_path: Path) -> None:
    x = torch.randint(0, 256, (20, *shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    of = domain_features(Examples(x), tmp_path, replace(FEWER, steps=1, batch=4))
    together = of(x[:8]).features
    torch.testing.assert_close(together, torch.cat([of(one[None]).features for one in x[:8]]), rtol=1e-5, atol=1e-6)
    assert together.shape == (8, of.dimension)
    assert float(together.std(0).max()) > 0
    assert gather(of, x.split(7)).features.shape == (20, 16)
    sizes: list[int] = []
    for layer in of.network.body:
        layer.register_forward_hook(lambda layer, given, out: sizes.append(max(out.shape[2:])))
    of(x[:1])
    assert sizes[-1] in (3, 4, 5)


def test_the_same_seed_gives_the_same_net_and_leaves_global_randomness(digits: Examples, tmp_path: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    one = domain_features(digits, tmp_path / "one", FEWER)
    assert torch.equal(torch.rand(3), expected)
    other = domain_features(digits, tmp_path / "other", FEWER)
    third = domain_features(digits, tmp_path / "other", replace(FEWER, seed=1))
    assert same(one, other)
    assert one.digest == other.digest != third.digest


# The cache.


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Grows by one with each training."""
    count: list[int] = []
    fit = domain.fit

    def counted(*given: object) -> domain.Network:
        count.append(1)
        return fit(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(domain, "fit", counted)
    return count


def test_what_was_trained_is_used_again(digits: Examples, cache: Path, learned: Domain, trainings: list[int]) -> None:
    again = domain_features(digits, cache, FEW)
    assert not trainings
    assert same(learned, again)
    assert (again.digest, again.accuracy, again.name) == (learned.digest, learned.accuracy, learned.name)
    assert torch.equal(again(digits.x[:9]).features, learned(digits.x[:9]).features)


def test_other_data_settings_or_code_train_another(
    digits: Examples, tmp_path: Path, trainings: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert digits.labels is not None
    changed = digits.x.clone()
    changed[0, 0, 3, 3] ^= 1
    domain_features(digits, tmp_path, FEWER)
    domain_features(replace(digits, x=changed), tmp_path, FEWER)
    domain_features(replace(digits, labels=digits.labels.flip(0)), tmp_path, FEWER)
    domain_features(digits, tmp_path, replace(FEWER, steps=3))
    other = tmp_path / "domain.py"
    other.write_bytes(Path(domain.__file__).read_bytes() + b"#")
    monkeypatch.setattr(domain, "__file__", str(other))
    domain_features(digits, tmp_path, FEWER)
    assert len(trainings) == 5
    assert len(list(tmp_path.glob("domain-*"))) == 5


@pytest.mark.parametrize("file", ["weights.safetensors", "facts.json", "manifest.json"])
def test_a_damaged_cache_is_noticed(digits: Examples, tmp_path: Path, trainings: list[int], file: str) -> None:
    first = domain_features(digits, tmp_path, FEWER)
    (folder,) = tmp_path.glob("domain-*")
    content = bytearray((folder / file).read_bytes())
    content[-9] ^= 1
    (folder / file).write_bytes(content)
    with pytest.warns(UserWarning, match="damaged"):
        second = domain_features(digits, tmp_path, FEWER)
    assert len(trainings) == 2
    assert same(first, second)
    domain_features(digits, tmp_path, FEWER)
    assert len(trainings) == 2


def test_of_two_processes_the_first_wins_and_nothing_is_left(
    digits: Examples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit, nested = domain.fit, []

    def interrupted(*given: object) -> domain.Network:
        if not nested:
            nested.append(None)
            nested.append(domain_features(digits, tmp_path, FEWER))
            return fit(given[0], replace(FEWER, seed=7))  # type: ignore[arg-type]
        return fit(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(domain, "fit", interrupted)
    late = domain_features(digits, tmp_path, FEWER)
    assert same(late, nested[1])  # whose seed is another: the net that lies there is the one to use
    (folder,) = tmp_path.iterdir()
    assert json.loads((folder / "facts.json").read_text())["data"] == digits.digest


def test_the_cache_is_the_users(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("UNSTEEP_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "there"))
    assert default_cache() == tmp_path / "there" / "unsteep" / "features"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_cache() == tmp_path / ".cache" / "unsteep" / "features"
    monkeypatch.setenv("UNSTEEP_CACHE", "off")
    assert default_cache() is None


# Bad input.


def test_what_is_no_picture_is_refused(digits: Examples, learned: Domain, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="vectors"):
        domain_features(Examples(torch.randn(30, 2)), tmp_path)
    with pytest.raises(ValueError, match="at least 20"):
        domain_features(digits.select(slice(0, 19)), tmp_path)
    with pytest.raises(ValueError, match=r"expected pictures \(1, 8, 8\)"):
        learned(torch.zeros(2, 1, 9, 8, dtype=torch.uint8))
    with pytest.raises(ValueError, match="dimension"):
        DomainNet(dimension=0)


def test_labels_that_do_not_fit_are_refused(digits: Examples) -> None:
    x, ten = digits.x[:20], torch.arange(20) % 10
    for labels, words in ((ten + 1, "from 0 to 9, got 1 to 10"), (ten - 1, "got -1 to 8"), (ten[:5], "n labels")):
        with pytest.raises(ValueError, match=words):
            classification_accuracy_score(x, labels, digits, FEWER)
    with pytest.raises(ValueError, match="no classes"):
        classification_accuracy_score(x, ten, unlabelled(digits), FEWER)
    with pytest.raises(ValueError, match="a label for each"):
        agreement(torch.zeros(3, 10), ten)
