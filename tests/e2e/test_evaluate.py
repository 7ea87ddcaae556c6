"""Evaluating and comparing from the command line: runs, saved models and pictures of any tool."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from command_line import made, unsteep_
from unsteep.features import domain
from unsteep.features.domain import DomainNet
from unsteep.opening import load
from unsteep.training import denoising

TINY = [
    *("data.limit=300", "schedule=CosineBetas", "schedule.steps=5", "train.steps=2", "train.batch=4", "train.warmup=1"),
    *("model.network.width=8", "model.network.groups=4", "model.network.blocks=1", "model.network.attention="),
]
QUICK = ("--metrics", "fid", "precision")


def refused(*arguments: object) -> str:
    before = sorted(Path().rglob("*"))
    code, _, err = unsteep_(*arguments)
    assert code == 2, err
    assert err.startswith("unsteep: ")
    assert err.count("\n") == 1, err
    assert sorted(Path().rglob("*")) == before
    return err


def results(folder: Path | str) -> dict[str, Any]:
    return json.loads((Path(folder) / "results.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module", autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Two runs on digits, a saved model, and folders of pictures by class; features of few steps."""
    folder = tmp_path_factory.mktemp("home")
    random = np.random.default_rng(0)
    with contextlib.chdir(folder), pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        patch.setattr(domain, "DomainNet", lambda: DomainNet(steps=30, batch=32, width=4, dimension=4))
        patch.setattr(denoising, "report", lambda model, out, *_: (out / "report.html").write_text(""))
        for name, seed in (("a", 0), ("b", 1)):
            sets = [part for one in (*TINY, f"train.seed={seed}") for part in ("--set", one)]
            made("train", "digits", *sets, "--out", f"runs/{name}")
        load("runs/a").save("saved")
        for place, count in (("real", 60), ("made", 30)):
            for label, low in (("dark", 0), ("light", 100)):
                (Path(place) / label).mkdir(parents=True)
                for i in range(count):
                    pixels = random.integers(low, low + 156, (8, 8), dtype=np.uint8)
                    Image.fromarray(pixels).save(f"{place}/{label}/{i:02}.png")
        np.savez("made.npz", images=random.integers(0, 256, (40, 8, 8), dtype=np.uint8))
        yield folder


def test_a_run() -> None:
    out = made("evaluate", "runs/a", "-n", 30, *QUICK, "memorization", "--steps", 4, "--guidance", 2, "--label", "4,7")
    for words in ("fid ↓", "fid-infinity ↓", "precision ↑", "too near", "floor: 30 real pictures of the other split"):
        assert words in out
    folder = Path("runs/a/evaluation")
    assert str(folder / "index.html") in out
    found = results(folder)
    assert set(found["values"]) == set(found["floors"]) == {"fid", "fid-infinity", "precision"}
    stated = found["protocol"]
    expected = {"seeds": "0 to 29", "steps": 4, "guidance": 2.0, "classes": "4, 7", "split": "test", "subject": "a"}
    assert {name: stated[name] for name in expected} == expected
    assert stated["weights"] == "averaged while training (EMA)"
    assert (stated["features"], stated["feature dimension"]) == ("domain classifier", 4)
    words = found["command"].split()
    assert words[0] == "unsteep"
    made(*words[1:-1], "again")
    for name, value in results("again")["values"].items():  # the same but for the last bits of a sum
        assert value == pytest.approx(found["values"][name], rel=1e-12, abs=1e-12), name
    assert results("again")["protocol"] == stated


def test_replicates() -> None:
    made("evaluate", "runs/a", "-n", 12, "--metrics", "fid", "--steps", 3, "--replicates", 2, "--out", "two")
    assert results("two")["protocol"]["seeds"] == "0 to 23"


def test_folders_and_arrays() -> None:
    made("evaluate", "made", "--data", "real", "--metrics", "fid", "intra-class", "--out", "same")
    made("evaluate", "made.npz", "--data", "real", "--metrics", "fid", "--out", "noise")
    good, bad = results("same"), results("noise")
    assert good["protocol"]["samples"] == 60
    assert good["protocol"]["samples from"] == "pictures"
    assert bad["values"]["fid"]["low"] > good["values"]["fid"]["high"]
    assert good["floors"]["fid"]["high"] > 0
    code, out, _ = unsteep_("compare", "same", "noise", "--mixed", "--out", "c1")
    assert code == 0
    assert "worse" in out


def test_a_part_of_a_folder_is_of_all_its_classes() -> None:
    """Files come class by class: the first 30 are all dark."""
    made("evaluate", "made", "--data", "real", "--metrics", "intra-class", "-n", 30, "--out", "part")
    with Image.open("part/samples.png") as sheet:
        pixels = np.asarray(sheet.convert("L"))
    assert results("part")["protocol"]["samples"] == 30
    tiles = pixels[12:-12, 12:-12].reshape(-1)
    assert {bool((tiles < 50).any()), bool(((tiles > 200) & (tiles < 250)).any())} == {True}


def test_resized() -> None:
    Path("large").mkdir(exist_ok=True)
    for i in range(20):
        Image.new("L", (12, 16), 10 * i).save(f"large/{i}.png")
    assert "--resize" in refused("evaluate", "large", "--data", "real")
    made("evaluate", "large", "--data", "real", "--resize", 8, "--metrics", "precision", "--out", "resized")
    assert "--resize 8" in results("resized")["command"]


def test_comparing() -> None:
    small = ("-n", 20, "--steps", 3)
    out = made("compare", "runs/a", "runs/b", *small, "--metrics", "fid", "bits-per-dim", "--images", 4)
    assert "b - a" in out
    stored = json.loads(Path("comparison/comparison.json").read_text(encoding="utf-8"))
    rows = {row["metric"]: row for row in stored["rows"]}
    assert set(rows) == {"fid", "fid-infinity", "bits-per-dim"}
    bits = rows["bits-per-dim"]
    half = [value["high"] - value["value"] for value in (*bits["values"], *bits["difference"])]
    assert half[2] < (half[0] ** 2 + half[1] ** 2) ** 0.5  # paired
    assert {"bound: data_sha256", "reference digest"} <= set(stored["results"]["a"])
    words = stored["command"].split()
    made(*words[1:-1], "again2")
    again = json.loads(Path("again2/comparison.json").read_text(encoding="utf-8"))["rows"]
    for one, other in zip(again, stored["rows"], strict=True):  # the same but for the last bits of a sum
        assert (one["metric"], one["verdict"]) == (other["metric"], other["verdict"])
        for a, b in zip(one["values"] + one["difference"], other["values"] + other["difference"], strict=True):
            assert a == pytest.approx(b, rel=1e-6, abs=1e-9)
    for name, steps in (("a", 3), ("b", 4)):
        made("evaluate", f"runs/{name}", "-n", 20, "--metrics", "fid", "--steps", steps, "--out", f"of-{name}")
    message = refused("compare", "of-a", "of-b")
    assert "steps: 3 and 4" in message
    assert "--mixed" in message
    assert "not to be trusted" in Path(made("compare", "of-a", "of-b", "--mixed").split()[-1]).read_text()


def test_the_chain_and_the_variance_of_a_model_are_its_own() -> None:
    own = ("schedule.steps=60", "model.variance=learned")  # more steps than the bound has terms
    made("train", "digits", *[part for one in (*TINY, *own) for part in ("--set", one)], "--out", "runs/longer")
    made("compare", "runs/a", "runs/longer", "--metrics", "bits-per-dim", "--images", 4, "--out", "chains")
    stored = json.loads(Path("chains/comparison.json").read_text(encoding="utf-8"))
    assert len(stored["rows"][0]["difference"]) == 1
    facts = [{key: of[f"bound: {key}"] for key in ("steps", "variance")} for of in stored["own"].values()]
    assert facts == [{"steps": 5, "variance": "beta"}, {"steps": 60, "variance": "learned"}]
    assert "<dt>longer, bound: steps</dt><dd>60</dd>" in Path("chains/index.html").read_text(encoding="utf-8")
    asked = {"n": 4, "terms": 50, "draws": 1, "decoder": "pair", "seed": 0, "grey_levels": 17}
    for protocol in stored["results"].values():
        assert {key: protocol[f"bound: {key}"] for key in asked} == asked
        assert "bound: data_sha256" in protocol


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("evaluate runs/a --metrics fdi", "unknown metric 'fdi'; choose fid, kid, precision"),
        ("evaluate runs/a --metrics fid lpips", "--lpips TRUNK HEADS"),
        ("evaluate runs/a --metrics clip-score", "--clip FOLDER and --prompts FILE"),
        ("evaluate runs/a --features domains", "expected domain, inception=FILE or pretrained=FOLDER"),
        ("evaluate runs/a --features inception=absent.pth", "absent.pth"),
        ("evaluate runs/a --solver dimm", "unknown solver 'dimm'; did you mean ddim"),
        ("evaluate runs/a --steps 9", "the chain has 5 levels, got 9"),
        ("evaluate runs/a --label 12", "'12' is not a class of this model"),
        ("evaluate runs/a -n 5", "at least 10 samples"),
        ("evaluate runs/a --batch 0", "--batch: expected at least 1"),
        ("evaluate runs/a --device abacus", "--device abacus"),
        ("evaluate runs/a --data real", "from no folder; leave it out"),
        ("evaluate saved", "does not know its data; name real pictures"),
        ("evaluate made", "--data: name the real pictures"),
        ("evaluate made --data real -n 90", "got 90; ask for as many or fewer"),
        ("evaluate made --data real --replicates 2", "replicates: expected at least 1, of a model; got 2"),
        ("evaluate made --data real --metrics memorization", "memorization needs training pictures"),
        ("evaluate made.npz --data real --metrics agreement", "agreement needs samples with classes"),
        ("evaluate absent --data real", "expected a run, a model or pictures, found nothing at absent"),
        ("evaluate made --data real --out made.npz", "is a file; name a folder"),
        ("compare runs/a", "at least two runs"),
        ("compare runs/a runs/a", "the same run, folder or results twice"),
        ("compare made runs/a --metrics bits-per-dim", "bits-per-dim is of runs, and made is none"),
    ],
)
def test_mistakes(command: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is told before features are trained."""
    monkeypatch.setattr(domain, "fit", None)
    assert words in refused(*command.split())
