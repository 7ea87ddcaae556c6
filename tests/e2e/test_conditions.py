"""Conditions and guidance from the command line: classifiers, negatives, intervals, weaker models, prompts."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from command_line import made, unsteep_
from unsteep.denoiser import Denoiser
from unsteep.guidance.noisy import NoisyClassifier
from unsteep.training import denoising

TINY = [
    *("schedule=CosineBetas", "schedule.steps=5", "train.batch=4", "train.warmup=1", "train.steps=2"),
    *("model.network.width=8", "model.network.groups=4", "model.network.blocks=1", "model.network.attention="),
]


HINTS: dict[str, str] = {}


def trained(out: str, *settings: str, recipe: str = "digits", data: str = "") -> None:
    given = ("--data", data) if data else ()
    words = ("train", recipe, *given, *(part for one in (*TINY, *settings) for part in ("--set", one)))
    HINTS[out] = made(*words, "--out", out)


def pictures() -> None:
    """A folder of twelve random pictures of 16 x 16."""
    Path("pictures").mkdir()
    for i, x in enumerate(np.random.default_rng(0).integers(0, 256, (12, 16, 16, 3), dtype=np.uint8)):
        Image.fromarray(x).save(f"pictures/{i}.png")


@pytest.fixture(scope="module", autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with contextlib.chdir(tmp_path_factory.mktemp("home")), pytest.MonkeyPatch.context() as patch:
        patch.setattr(denoising, "report", lambda model, out, *_: (out / "report.html").write_text(""))
        trained("runs/demo", "data.limit=200")
        trained("runs/blind", "data.limit=200", "condition.label=false", "condition.drop=0")
        trained("runs/sure", "data.limit=200", "condition.drop=0")
        small = ("data.size=16", "data.count=20", "data.test_count=5", "model.network.attention=8")
        trained("runs/shapes", *small, "model.network.text_heads=4", recipe="shapes")
        trained("runs/few", *small, "model.network.text_heads=4", "condition.pieces=30", recipe="shapes")
        pictures()
        Path("home.txt").write_text("no picture")
        larger = ("data.size=16", "condition.picture=low-resolution:4", "model.network.multipliers=[1,2]")
        trained("runs/upscale", *larger, recipe="upscale", data="pictures")
        made("train-classifier", "runs/demo", *CLASSIFIER)
        yield


CLASSIFIER = [
    part for one in ("train.steps=3", "train.batch=4", "network.width=8", "network.groups=4") for part in ("--set", one)
] + ["-n", "20"]


def sampled(run: str, *how: object) -> np.ndarray:
    made("sample", run, "-n", 3, "--steps", 3, "--out", "x.npz", *how)
    with np.load("x.npz") as stored:
        return stored["images"]


def test_a_classifier_and_its_page() -> None:
    found = json.loads(Path("runs/demo/classifier/accuracy.json").read_text())
    assert len(found["with noise"]["accuracy"]) == len(found["without noise"]["accuracy"]) == 12
    page = Path("runs/demo/classifier/index.html").read_text()
    assert "20 pictures" in page
    assert "unsteep train-classifier runs/demo" in page
    weights = next(Path("runs/demo/classifier/checkpoints").glob("*/ema.safetensors"))
    before = weights.stat().st_mtime_ns
    assert "right on average" in made("train-classifier", "runs/demo", *CLASSIFIER)  # nothing is left to train
    assert weights.stat().st_mtime_ns == before
    code, _, err = unsteep_("train-classifier", "runs/demo", *CLASSIFIER, "--set", "train.seed=7")
    assert (code, err.count("\n")) == (2, 1)
    assert "holds a classifier with other settings; choose another --out, or begin anew with --force" in err
    made("train-classifier", "runs/demo", *CLASSIFIER, "--set", "train.seed=7", "--force")
    assert "seed = 7" in Path("runs/demo/classifier/run.toml").read_text()


def test_a_classifier_of_data_that_hold_nothing_out_is_told_how_to() -> None:
    for name in "ab":
        Path("classes", name).mkdir(parents=True)
        for i in range(12):
            Image.open(f"pictures/{i}.png").save(f"classes/{name}/{i}.png")
    trained("runs/classes", "data.size=16", recipe="folder", data="classes")
    asked = ("train-classifier", "runs/classes", *CLASSIFIER, "--no-control", "--out", "runs/of-classes")
    code, _, err = unsteep_(*asked)
    assert (code, err.count("\n")) == (2, 1)
    assert "take --split train, or other data, whole, with --split all" in err
    assert "levels, all seen in training" in made(*asked, "--split", "train")
    assert "right on average" in made(*asked, "--set", "data.holdout=0.5", "--force")


def test_it_guides_a_model_without_classes() -> None:
    plain = sampled("runs/blind")
    guided = sampled("runs/blind", "--classifier", "runs/demo/classifier", "--label", 7, "--guidance", 4)
    assert plain.shape == guided.shape == (3, 8, 8, 1)
    code, _, err = unsteep_(
        "sample", "runs/blind", "--classifier", "runs/demo/classifier", "--label", "cat", "--guidance", 4
    )
    assert (code, err.count("\n")) == (2, 1)
    assert "'cat' is not a class" in err


@pytest.mark.parametrize(
    ("how", "calls"),
    [
        (("--guidance", 2), 6),
        (("--guidance", 2, "--guidance-interval", 0.4, 0.8), 4),
        (("--guidance", 2, "--guidance-rescale", 0.5, "--threshold", 0.9), 6),
        (("--guidance", 2, "--negative-label", 3), 6),
        (("--guidance", 2, "--weaker", "runs/sure"), 6),
        (("--guidance", 1), 3),
    ],
)
def test_what_guidance_costs(how: tuple[object, ...], calls: int) -> None:
    asked = ("sample", "runs/demo", "-n", 2, "--steps", 3, "--solver", "ddim", "--out", "y.npz", "--label", 1)
    assert f"{calls} network calls each" in made(*asked, *how)


def test_prompts() -> None:
    red = sampled("runs/shapes", "--prompt", "a red circle", "--guidance", 2)
    two = sampled("runs/shapes", "--prompt", "a red circle", "--prompt", "two blue squares", "--guidance", 2)
    assert red.shape == two.shape == (3, 16, 16, 3)
    made("sample", "runs/shapes", "-n", 2, "--steps", 2, "--prompt", "a red circle", "--movie", "way.gif")
    assert Path("way.gif").exists()


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ("sample runs/sure -n 1 --guidance 2", "condition.drop=0, and so never learned"),
        ("sample runs/demo -n 1 --guidance 2 --weaker runs/blind", "same data and classes"),
        ("sample runs/demo -n 1 --guidance 2 --guidance-interval 0.8 0.2", "expected times 0 <= low < high <= 1"),
        ("sample runs/demo -n 1 --guidance 2 --classifier runs/demo", "not a classifier"),
        ("sample runs/demo -n 1 --prompt red", "trained without text"),
        ("sample runs/demo -n 1 --guidance 2 --negative-label cat", "'cat' is not a class"),
        ("train shapes --data here", "--data: shapes are drawn"),
        ("train captions", "give their folder with --data DIR"),
        ("train digits --set condition.text=bpe --out runs/x", "these data have no captions"),
    ],
)
def test_a_mistake_is_one_line(asked: str, words: str) -> None:
    code, _, err = unsteep_(*asked.split())
    assert (code, err.count("\n")) == (2, 1)
    assert words in err


def test_a_cascade_goes_through_files() -> None:
    """Samples of one model are the pictures that another enlarges; a file is taken whole or small."""
    made("sample", "runs/upscale", "-n", 3, "--steps", 2, "--out", "first.npz")
    out = made(
        "sample", "runs/upscale", "--picture", "first.npz", "--augment", 0.2, "--steps", 2, "--out", "second.npz"
    )
    assert "3 samples in second.npz, 2 network calls each" in out
    with np.load("first.npz") as first, np.load("second.npz") as second:
        assert first["images"].shape == second["images"].shape == (3, 16, 16, 3)
        assert not np.array_equal(first["images"], second["images"])
    Image.fromarray(np.asarray(Image.open("pictures/0.png").reduce(4))).save("small.png")
    whole, small, other = (
        sampled("runs/upscale", "--picture", picture) for picture in ("pictures/0.png", "small.png", "pictures/1.png")
    )
    assert np.abs(whole.astype(int) - small).max() <= 1
    assert not np.array_equal(whole, other)


def test_pictures_of_a_folder_stand_above_their_samples() -> None:
    made("sample", "runs/upscale", "--picture", "pictures", "--steps", 2, "--out", "sheet.png")
    one = made("sample", "runs/upscale", "--picture", "pictures/0.png", "--steps", 2, "--out", "one.png")
    assert one.startswith("8 samples")
    width, height = Image.open("sheet.png").size
    assert width > 5 * height  # twelve columns of two


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("runs/demo", "--picture", "pictures"), "--picture: this model was trained without one"),
        (("runs/upscale", "--picture", "nothing.png"), "nothing.png: there is nothing"),
        (("runs/upscale", "--picture", "home.txt"), "home.txt: expected a picture"),
        (("runs/upscale", "--guidance", "2"), "towards what? this model hears a low-resolution:4; give one"),
        (("runs/shapes", "--guidance", "2"), "towards what? this model hears a caption; give one"),
        (("runs/upscale", "--augment", "0.2"), "--augment: 0.2 is the noise of a picture; give one"),
        (("runs/demo", "--guidance-interval", "0.2", "0.8"), "--guidance: 1 guides nothing, interval would do"),
        (("runs/demo", "--negative-label", "3"), "--guidance: 1 guides nothing, negative would do"),
        (("runs/shapes", "--prompt", "a", "--guidance", "2", "--negative-label", "3"), "--negative-label: this model"),
        (("runs/demo", "--guidance", "2", "--negative-prompt", "a cat"), "--negative-prompt: this model was trained w"),
        (("runs/shapes", "--prompt", "a", "--guidance", "2", "--weaker", "runs/few"), "and of the same vocabulary"),
        (("runs/upscale", "--picture", "pictures", "--augment", "0.9"), "augment: expected a time from 0 to 0.5"),
        (("runs/upscale", "--prompt", "a cat"), "trained without text"),
    ],
)
def test_pictures_that_will_not_do_say_why(arguments: tuple[str, ...], says: str) -> None:
    code, _, err = unsteep_("sample", *arguments, "-n", 2, "--steps", 2)
    assert code != 0
    assert says in " ".join(err.split())


def test_a_negative_prompt() -> None:
    """In the batch of the prompt itself, without a third branch."""
    asked = ("--prompt", "a red circle", "--guidance", 3, "--negative-prompt", "two squares", "-n", 3, "--steps", 3)
    assert "6 network calls each" in made("sample", "runs/shapes", *asked, "--out", "x.npz")


def test_a_classifier_guides_each_sample_to_the_class_it_is_of(monkeypatch: pytest.MonkeyPatch) -> None:
    """A conditional model's own draw of classes, where none is asked for."""
    asked, told = [], []
    seen, heard = NoisyClassifier.log_prob, Denoiser.forward
    monkeypatch.setattr(NoisyClassifier, "log_prob", lambda of, labels: asked.append(labels) or seen(of, labels))
    monkeypatch.setattr(
        Denoiser,
        "forward",
        lambda of, x, level, condition=None: told.append(condition) or heard(of, x, level, condition),
    )
    sampled("runs/demo", "--classifier", "runs/demo/classifier", "--guidance", 2)
    labels = {tuple(condition["label"].tolist()) for condition in told if condition is not None}
    assert {tuple(of.tolist()) for of in asked} == labels
    assert len(labels) == 1


def test_the_hint_after_training_asks_as_the_model_hears() -> None:
    assert "--out samples.png --picture FILE\n" in HINTS["runs/upscale"]
    assert '--out samples.png --prompt "..."\n' in HINTS["runs/shapes"]
    assert "--out samples.png\n" in HINTS["runs/demo"]


def test_filling_in_and_redrawing_by_a_prompt() -> None:
    white = np.zeros((16, 16), np.uint8)
    white[:8] = 255
    Image.fromarray(white).save("mask.png")
    how = ("-n", 2, "--steps", 3, "--prompt", "a red circle", "--guidance", 2)
    filled = ("fill", "runs/shapes", "pictures/0.png", "--mask", "mask.png", "--method", "pigdm", *how)
    assert "6 network calls each" in made(*filled, "--out", "filled.png")
    assert "6 network calls each" in made("redraw", "runs/shapes", "pictures/0.png", *how, "--out", "redrawn.png")
    code, _, err = unsteep_("redraw", "runs/demo", "pictures/0.png", *how)
    assert code != 0
    assert "trained without text" in err
