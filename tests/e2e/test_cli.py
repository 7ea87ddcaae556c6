"""The command line from end to end: what it makes and says, and what it refuses: in one line, without a trace."""

import contextlib
import gzip
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import unsteep
from unsteep.cli import VERBS as GROUPS
from unsteep.cli import main
from unsteep.cli.examples import EXAMPLES
from unsteep.cli.examples import RECIPES as RECIPE_LINES
from unsteep.metrics.interval import Interval
from unsteep.recipes import RECIPES

NETWORK = {"width": 8, "groups": 4, "multipliers": "1,2", "blocks": 1, "attention": ""}
TRAIN = {"steps": 3, "batch": 4, "warmup": 1, "ema": 0.5, "accumulate": 1}
TINY = [  # a chain of few steps, so that the pictures of a report are drawn in no time
    *("--set", "schedule=CosineBetas", "--set", "schedule.steps=5", "--set", "model.prediction=eps"),
    *(part for name, value in NETWORK.items() for part in ("--set", f"model.network.{name}={value}")),
    *(part for name, value in TRAIN.items() for part in ("--set", f"train.{name}={value}")),
]
VERBS = {verb: summary for verbs in GROUPS.values() for verb, summary in verbs.items()}
PICTURES = {
    "samples.png",
    "real.png",
    "forward.png",
    "reverse.gif",
    "estimates.png",
    "loss.png",
    "schedule.png",
    "report.html",
}


@dataclass(frozen=True)
class Answer:
    """What a command ended with."""

    code: int
    out: str
    err: str


def unsteep_(*arguments: object) -> Answer:
    """Runs a command line in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), warnings.catch_warnings():
        warnings.simplefilter("default")
        try:
            main([str(argument) for argument in arguments])
        except SystemExit as ended:
            return Answer(int(ended.code or 0), out.getvalue(), err.getvalue())
    raise AssertionError("a command line ends with an exit code")


def made(*arguments: object) -> Answer:
    """A command that must succeed, and say nothing on stderr but progress."""
    answer = unsteep_(*arguments)
    assert answer.code == 0, answer.err
    assert all(line.startswith("step ") for line in answer.err.splitlines()), answer.err
    return answer


def refused(*arguments: object) -> str:
    """The one line on stderr of a command that must fail and leave the working folder as it was."""
    before = listing()
    answer = unsteep_(*arguments)
    assert answer.code == 2, answer
    assert answer.err.startswith("unsteep: ")
    assert answer.err.count("\n") == 1, answer.err
    assert listing() == before
    return answer.err.removeprefix("unsteep: ").strip()


def listing() -> dict[str, bytes]:
    return {str(path): path.read_bytes() if path.is_file() else b"/" for path in Path().rglob("*")}


# Everything happens in one folder, filled once: data as a person has them, and runs trained on them.


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("home")
    random = np.random.default_rng(0)
    photos(folder / "photos", random)
    idx_files(folder / "fashion-mnist", random)
    np.save(folder / "rows.npy", random.normal(size=(40, 2)).astype(np.float32))
    with contextlib.chdir(folder):
        yield folder


def photos(folder: Path, random: np.random.Generator) -> None:
    for name, count in (("cats", 4), ("dogs", 3)):
        (folder / name).mkdir(parents=True)
        for i in range(count):
            pixels = random.integers(0, 256, (20, 14 + i, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{i}.{'png' if i % 2 else 'jpg'}")


def idx_files(folder: Path, random: np.random.Generator) -> None:
    """One pair gzipped, the other not."""
    folder.mkdir()
    images = random.integers(0, 256, (20, 28, 28), dtype=np.uint8)
    labels = (np.arange(20) % 10).astype(np.uint8)
    for part, opening in (("train", gzip.open), ("t10k", open)):
        for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
            head = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
            name = f"{part}-{kind}-ubyte" + (".gz" if opening is gzip.open else "")
            with opening(folder / name, "wb") as file:
                file.write(head + array.tobytes())


@pytest.fixture(scope="module")
def digits(home: Path) -> Path:
    """Digits 4 and 7, by class, in the folder that is the default."""
    answer = made("train", "digits", *TINY, "--set", "data.labels=[4,7]", "--set", "train.preview_every=2")
    assert "classes  2 (4: " in answer.out
    assert "look at  runs/digits/report.html" in answer.out
    return Path("runs/digits")


@pytest.fixture(scope="module")
def album(home: Path) -> Path:
    """A folder of colour pictures, without classes."""
    out = Path("runs/photos")
    made("train", "folder", "--data", "photos/", "--set", "data.size=8", *TINY, "--out", out)
    return out


@pytest.fixture(scope="module")
def rows(home: Path) -> Path:
    """Rows of two numbers."""
    settings = [f"--set={s}" for s in ("schedule=Cosine", "train.steps=2", "model.network.width=16")]
    made("train", "vectors", "--data", "rows.npy", "--out", "runs/rows", *settings)
    return Path("runs/rows")


def log_of(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


# Training.


@pytest.mark.parametrize("kind", ["digits", "album"])
def test_a_run_shows_what_it_became(kind: str, request: pytest.FixtureRequest) -> None:
    run = request.getfixturevalue(kind)
    assert PICTURES | {"run.toml", "log.jsonl", "checkpoints"} <= {path.name for path in run.iterdir()}
    for name in PICTURES - {"report.html"}:
        with Image.open(run / name) as picture:
            picture.load()
    page = (run / "report.html").read_text()
    for heading in ("Samples", "Forward process", "Reverse process", "Training", "Schedule", "Configuration"):
        assert f">{heading}<" in page
    assert page.count("data:image/") == len(PICTURES) - 1
    assert not re.search(r'(src|href)="(?!data:)', page)  # it holds all that it shows
    assert "schedule.CosineBetas" in page or "CosineBetas" in page
    assert [record["step"] for record in log_of(run)] == [1, 2, 3]


def test_a_movie_has_a_frame_for_every_step(digits: Path) -> None:
    with Image.open(digits / "reverse.gif") as movie:
        assert getattr(movie, "n_frames", 1) == 6  # noise, and the chain has no more
    assert [path.name for path in (digits / "previews").iterdir()] == ["step-00000002.png"]


def test_idx_files_gzipped_and_not(home: Path) -> None:
    answer = made("train", "fashion-mnist", "--data", "fashion-mnist", *TINY, "--set=train.steps=1", "--out", "f")
    assert "28 x 28" in answer.out
    assert "Ankle boot" in answer.out
    made("sample", "f", "-n", 2, "--label", "T-shirt/top", "--steps", 1, "--out", "shirts")
    assert [str(path) for path in sorted(Path("shirts").rglob("*.png"))] == [
        "shirts/T-shirt-top/000000.png",
        "shirts/T-shirt-top/000001.png",
    ]


def test_rows_of_numbers(rows: Path) -> None:
    made("sample", rows, "-n", 5, "--steps", 3, "--out", "rows.npz")
    with np.load("rows.npz") as arrays:
        assert list(arrays) == ["x"]
        assert arrays["x"].shape == (5, 2)
        assert arrays["x"].dtype == np.float32
    assert "rows of 2 numbers, not pictures" in refused("sample", rows, "-n", 2)
    assert "rows of 2 numbers, not pictures" in refused("sample", rows, "-n", 2, "--movie", "rows.gif")
    assert {"samples.png", "report.html"} <= {path.name for path in rows.iterdir()}


def test_resuming_and_overwriting(home: Path) -> None:
    """The run of another's run.toml, continued, refused and begun anew."""
    command = ("train", "folder", "--data", "photos/", "--set", "data.size=8", *TINY, "--out", "again")
    made(*command, "--set", "train.steps=1")
    message = refused(*command)
    assert message == "--out: again holds a run already; go on with --resume, or overwrite it with --force"

    first = log_of(Path("again"))
    answer = made("train", "folder", "--data", "photos/", "--out", "again", "--resume", "--set", "train.steps=3")
    assert "resuming again at step 1 of 3" in answer.out
    assert "again goes on as its run.toml says; the recipe folder is not read again" in answer.out
    assert [record["step"] for record in log_of(Path("again"))] == [1, 2, 3]
    assert log_of(Path("again"))[:1] == first

    assert "only train.steps" in refused("train", "--resume", "--out", "again", "--set", "train.seed=5")
    made("train", "--config", "again/run.toml", "--out", "again", "--force", "--set", "train.steps=2")
    assert [record["step"] for record in log_of(Path("again"))] == [1, 2]


# Sampling.


def test_a_grid(album: Path) -> None:
    command = ("sample", album, "-n", 6, "--solver", "ddim", "--steps", 5, "--seed", 0)
    assert "6 samples in deep/er/samples.png" in made(*command, "--out", "deep/er/samples.png").out
    with Image.open("deep/er/samples.png") as sheet:
        assert sheet.mode == "RGB"
        assert min(sheet.size) >= 2 * 64
    made(*command, "--out", "same.png", "--batch", 6)
    made(*command[:-1], 1, "--out", "other.png")
    assert Path("same.png").read_bytes() == Path("deep/er/samples.png").read_bytes() != Path("other.png").read_bytes()
    made("sample", album, "-n", 1, "--steps", 1)
    assert Path("samples.png").is_file()


def test_an_array(digits: Path) -> None:
    made("sample", digits, "-n", 5, "--label", "7,4", "--steps", 3, "--out", "s.npz")
    with np.load("s.npz") as arrays:
        assert arrays["images"].shape == (5, 8, 8, 1)
        assert arrays["images"].dtype == np.uint8
        assert arrays["labels"].tolist() == [1, 0, 1, 0, 1]
        expected = unsteep.load(digits).sample(5, label=["7", "4", "7", "4", "7"], steps=3)
        assert np.array_equal(arrays["images"], expected.permute(0, 2, 3, 1).numpy())
    assert not list(Path().glob("*.tmp*"))


def test_a_folder_of_pictures_that_can_be_trained_on(digits: Path) -> None:
    made("sample", digits, "-n", 6, "--label", "all", "--steps", 2, "--out", "pictures")
    files = sorted(str(path) for path in Path("pictures").rglob("*.png"))
    assert files == [f"pictures/{name}/{i:06d}.png" for name in ("4", "7") for i in range("47".index(name), 6, 2)]
    with Image.open(files[0]) as picture:
        assert (picture.size, picture.mode) == ((8, 8), "L")
    assert "pictures is a folder with files in it" in refused("sample", digits, "-n", 1, "--out", "pictures")
    made("sample", digits, "-n", 1, "--label", "7", "--steps", 1, "--out", "pictures", "--force")
    assert (
        "of size"
        not in made(
            "train",
            "folder",
            "--data",
            "pictures",
            "--out",
            "t",
            *TINY,
            "--set=data.size=8",
            "--set=data.labelled=true",
            "--set=condition.label=true",
            "--set=train.steps=1",
        ).out
    )
    assert unsteep.load("t").names == ("4", "7")


def test_a_movie(digits: Path) -> None:
    made("sample", digits, "-n", 16, "--label", "4", "--steps", 4, "--solver", "ancestral", "--movie", "four.gif")
    with Image.open("four.gif") as movie:
        assert getattr(movie, "n_frames", 1) == 5  # and the noise
        first = np.asarray(movie.convert("L"))
        movie.seek(3)
        assert not np.array_equal(first, np.asarray(movie.convert("L")))
    made("sample", digits, "-n", 2, "--steps", 2, "--movie", "two.webp", "--out", "two.png", "--no-clip")
    assert Path("two.webp").is_file()
    assert Path("two.png").is_file()


@pytest.mark.parametrize(
    "options",
    [
        ("--solver", "ddim"),
        ("--solver", "ddim", "--set", "eta=1"),
        ("--solver", "ancestral"),
        ("--solver", "unipc", "--order", 3, "--grid", "karras"),
        ("--set", "corrector=false"),
        ("--guidance", 2),
        ("--grid", "1,0.4,0.2,0"),
        ("--solver", "heun", "--tolerance", 1e-2),
        ("--solver", "ancestral", "--set", "variance=beta_tilde"),
        ("--solver", "ddim", "--grid", "linspace"),
        ("--label", "4"),
        ("--seed", 5),
        ("--no-clip",),
    ],
    ids=str,
)
def test_what_changes_a_sample(digits: Path, options: tuple[object, ...]) -> None:
    made("sample", digits, "-n", 4, "--steps", 3, "--out", "plain.npz")
    steps = () if "--tolerance" in options else ("--steps", 3)
    made("sample", digits, "-n", 4, *steps, "--out", "changed.npz", *options)
    with np.load("plain.npz") as plain, np.load("changed.npz") as changed:
        assert not np.array_equal(plain["images"], changed["images"])


def test_there_and_back(digits: Path) -> None:
    """Pictures in folders of their classes, to latents, and to the same pictures: as well as the tiny model allows."""
    made("sample", digits, "-n", 4, "--label", "4,7", "--steps", 4, "--out", "there")
    said = made("invert", digits, "there", "--out", "latents.safetensors", "--tolerance", 1e-4).out
    assert "4 latents in latents.safetensors" in said
    error = float(said.split("RMS error of ")[1].split()[0])
    made("sample", digits, "--from", "latents.safetensors", "--tolerance", 1e-4, "--out", "back")
    for label in "47":
        folders = (sorted(Path(folder, label).iterdir()) for folder in ("there", "back"))
        for before, after in zip(*folders, strict=True):
            difference = np.asarray(Image.open(before)).astype(float) - np.asarray(Image.open(after))
            assert np.sqrt((difference**2).mean()) < 127.5 * 3 * error + 16  # the digits have 17 grey values
    made("sample", digits, "-n", 2, "--from", "latents.safetensors", "--steps", 4, "--out", "two.png")
    assert "holds 4 latents" in refused("sample", digits, "-n", 5, "--from", "latents.safetensors")
    assert "invert" in refused("sample", digits, "--from", "two.png")
    assert "safetensors" in refused("invert", digits, "there", "--out", "latents.npz")


def test_latents_of_another_shape_are_refused(digits: Path, album: Path) -> None:
    made("invert", album, "photos/cats/0.jpg", "--out", "other.safetensors", "--tolerance", 0.1)
    assert "expected latents of (1, 8, 8)" in refused("sample", digits, "--from", "other.safetensors")


def test_guiding_what_has_no_classes(album: Path) -> None:
    assert "nothing to be guided by" in refused("sample", album, "-n", 2, "--guidance", 2)


# Showing.


def test_what_a_run_is(album: Path) -> None:
    said = " ".join(made("show", album).out.split())
    parameters = sum(p.numel() for p in unsteep.load(album).denoiser.parameters())
    for words in (
        "photos/",
        f"UNet, {parameters:,} parameters",
        "CosineBetas",
        "classes none",
        "3 of 3 steps, 4 examples",
    ):
        assert words in said
    loss = Interval.of(torch.tensor([record["loss"] for record in log_of(album)], dtype=torch.float64))
    assert f"{loss}, mean of the last 3 steps" in said
    assert not re.search(r"\w+\(\w+=|\w+=", said), "words, not Python"
    assert "step-00000003" in said
    assert "report.html" in said


def test_what_a_checkpoint_is(digits: Path) -> None:
    said = made("show", digits / "checkpoints" / "step-00000003").out
    assert "classes   4, 7" in said


def test_the_schedules(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from unsteep.studies import schedules
    from unsteep.studies.schedules import named

    monkeypatch.setattr(schedules, "SIZE", 24)  # a large picture of noise takes seconds to write
    said = made("schedules").out
    assert all(any(line.strip().startswith(f"{name} ") for line in said.splitlines()) for name in named())
    (linear,) = (line for line in said.splitlines() if line.split()[0] == "LinearBetas" and len(line.split()) == 4)
    product = np.prod(1 - np.linspace(1e-4, 0.02, 1000))
    assert linear.split()[1:3] == [f"{product:.4g}", f"{np.log(product / (1 - product)):.3f}"]
    made("schedules", "--plot", "plots/all.png", "--image", "photos/cats/0.jpg")
    with Image.open("plots/all.png") as sheet:
        assert sheet.width > 600
        assert sheet.height > len(named()) * 24


# Mistakes: one line, exit code 2, nothing left behind.

SAMPLE_MISTAKES = {
    ("-n", "0"): "n: expected at least 1 sample, got 0",
    ("-n", "-3"): "n: expected at least 1 sample, got -3",
    ("-n", "-3", "--movie", "x.gif"): "n: expected at least 1 sample, got -3",
    ("-n", "many"): 'unable to convert "many" into int',
    ("--steps", "0"): "steps: expected at least 1, got 0",
    ("--seed", str(2**70)): "seed: expected a whole number of 64 bits",
    ("--batch", "0"): "--batch: expected at least 1, got 0",
    ("--label", "5"): "'5' is not a class of this model; its classes are 0 (4), 1 (7)",
    ("--solver", "ancestrall"): "unknown solver 'ancestrall'; did you mean ancestral?",
    ("--grid", "karas"): "unknown grid 'karas'; did you mean karras?",
    ("--grid", "1,0.5,0.2"): "expected at least two times that fall to 0",
    ("--grid", "1,0.5,0.5,0"): "each on a level of its own",
    ("--grid", "tuned"): "tune-grid",
    ("--solver", "ddim", "--set", "etta=1"): "etta: unknown key; did you mean eta?",
    ("--solver", "ddim", "--set", "eta=2"): "eta: expected a number from 0 (deterministic) to 1 (ancestral), got 2",
    ("--solver", "ddim", "--set", "eta=much"): 'eta: expected float, got "much"',
    ("--solver", "ddim", "--order", "2"): "--order: ddim comes in one order",
    ("--solver", "unipc", "--order", "7"): "order: expected",
    ("--steps", "6"): "the chain has 5 levels, got 6",
    ("--solver", "ddim", "--tolerance", "0.1"): "adaptive steps are those of heun or dormand-prince",
    ("--steps", "4", "--tolerance", "0.1"): "--steps: adaptive heun chooses its own steps; leave it out",
    ("--tolerance", "-1"): "tolerance: expected a number above 0",
    ("--tolerance", "1e-13"): "float32",
    ("-n", "1", "--tolerance", "1e-6", "--set", "max_calls=40"): "cannot be met",
    ("--from", "nowhere.safetensors"): "give what unsteep invert wrote",
    ("--guidance", "much"): "much",
    ("--solver", "ancestral", "--set", "variance=bata"): "did you mean beta?",
    ("--out", "x.tiff"): "a picture is one of .png",
    ("--out", "photos"): "photos is a folder with files in it; choose another --out",
    ("--out", "plain"): "plain is a file; --out without a suffix names a folder",
    ("--movie", "x.mp4"): "an animation is one of .gif",
    ("--device", "abacus"): "--device abacus: not available here; use auto or cpu",
    ("--stops", "3"): "--stops",
}


@pytest.mark.parametrize("options", SAMPLE_MISTAKES, ids=" ".join)
def test_mistakes_in_sampling(digits: Path, options: tuple[str, ...]) -> None:
    Path("plain").touch()
    assert SAMPLE_MISTAKES[options] in refused("sample", digits, *options)


def test_no_class_for_a_model_without(album: Path) -> None:
    for label in ("0", "all"):
        assert "this model was trained without labels" in refused("sample", album, "-n", 1, "--label", label)


FOLDER = ("folder", "--data", "photos", "--set", "data.size=8", *TINY)
DIGITS = ("digits", *TINY, "--set", "data.limit=20")
TRAIN_MISTAKES = {
    ("folder", "--data", "nowhere"): "data.path: expected a folder of pictures, found none at nowhere",
    ("folder", "--data", "empty"): "empty is empty: put pictures in it",
    ("folder", "--data", "texts"): "texts holds 1 files, but no picture",
    ("folder", "--data", "junk"): "none of its 1 picture files can be read",
    ("folder",): "this recipe reads a folder of pictures: give it with --data DIR",
    ("mnist",): "give their folder with --data DIR",
    ("mnist", "--data", "photos"): "photos holds no idx files",
    ("vectors", "--data", "plain"): "plain: expected plain arrays",
    ("digits", "--data", "photos"): "--data: digits come with scikit-learn",
    ("folders",): "unknown recipe 'folders'; did you mean folder?",
    (): "name a recipe (digits, folder, ...; see --help), or give --config FILE",
    ("--resume",): "name a recipe",
    ("digits", "--config", "x.toml"): "give a recipe or --config, not both",
    ("digits", "--resume", "--force"): "leave out --force, --config, --start-from",
    ("--config", "nowhere.toml"): "nowhere.toml",
    ("--config", "plain.toml"): "unknown key",
    ("--config", "texts/a.txt"): "expected TOML, got a syntax error",
    (*DIGITS, "--set", "data.labels=[11]"): "data.labels asks for class 11",
    (*DIGITS, "--set", "data.labels=four"): "data.labels: expected [int, ...]",
    (*DIGITS, "--set", "train.stps=4"): "train.stps: unknown key; did you mean train.steps",
    (*DIGITS, "--set", "stepz=4"): "stepz: unknown key",
    (*DIGITS, "--set", "steps=4"): "did you mean schedule.steps or train.steps",
    (*DIGITS, "--set", "train.steps=few"): 'train.steps: expected int, got "few"',
    (*DIGITS, "--set", "train.steps=0"): "steps: expected at least 1, got 0",
    (*DIGITS, "--set", "train.steps"): "expected KEY=VALUE",
    (*DIGITS, "--set", "train.seed=9999999999"): "seed: expected a whole number from 0",
    (*DIGITS, "--set", "schedule=CosineBeta"): "did you mean CosineBetas?",
    (*DIGITS, "--set", "schedule=Flow"): "predict v, x0 or flow",
    (*DIGITS, "--set", "model.network=Sequence"): "set model.network=",
    (*DIGITS, "--set", "model.network.attention=16"): "attention: expected sizes among 8, 4, got 16",
    (*DIGITS, "--device", "abacus"): "--device abacus: not available here",
    (*DIGITS, "--out", "photos"): "--out: photos exists and is not a run; choose another",
    (*DIGITS, "--out", "photos", "--force"): "--out: photos exists and is not a run; choose another",
    (*DIGITS, "--out", "plain"): "plain exists and is not a run",
    (*DIGITS, "--resume", "--out", "nowhere"): "nowhere is not a run: it has no run.toml",
    (*DIGITS, "--resume", "--out", "photos"): "photos is not a run: it has no run.toml",
    (*DIGITS, "--faster"): "--faster",
    (*FOLDER, "--set", "condition.label=true"): "set data.labelled=true to take sub-folders as classes",
}


@pytest.fixture(scope="module")
def mistaken(home: Path) -> None:
    for folder in ("empty", "texts", "junk"):
        Path(folder).mkdir()
    Path("texts/a.txt").write_text("no TOML, no picture")
    Path("junk/a.png").write_text("no picture")
    Path("plain").touch()
    Path("plain.toml").write_text('dta = "Digits"\n')


@pytest.mark.parametrize("options", TRAIN_MISTAKES, ids=lambda o: " ".join(x for x in o if o and x not in TINY))
def test_mistakes_in_training(mistaken: None, options: tuple[str, ...]) -> None:
    out = () if "--out" in options or options in ((), ("--resume",)) else ("--out", "never")
    assert TRAIN_MISTAKES[options] in refused("train", *options, *out)


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (("trian",), 'Did you mean "train"?'),
        (("show", "nowhere"), "nowhere does not exist; give the folder that unsteep train wrote"),
        (("show", "photos"), "photos is neither a run nor a saved model"),
        (("show",), "RUN"),
        (("sample", "photos"), "photos is neither a run nor a saved model"),
        (("sample",), "RUN"),
        (("schedules", "--plot", "x.tiff"), "x.tiff"),
        (("schedules", "--plot", "x.png", "--image", "plain"), "plain: expected a picture, got not a picture"),
        (("schedules", "--plot", "x.png", "--image", "nowhere.png"), "nowhere.png: expected a picture"),
    ],
    ids=str,
)
def test_other_mistakes(mistaken: None, command: tuple[str, ...], words: str) -> None:
    assert words in refused(*command)


def test_a_damaged_run(album: Path, home: Path) -> None:
    shutil.copytree(album, "damaged")
    weights = Path("damaged/checkpoints/step-00000003/ema.safetensors")
    weights.write_bytes(weights.read_bytes()[:-1])
    answer = unsteep_("sample", "damaged", "-n", 1)
    assert answer.code == 2
    warning, error = answer.err.splitlines()
    assert warning.startswith("warning: skipped step-00000003: ")
    assert "ema.safetensors" in warning
    assert "every checkpoint is damaged" in error
    assert "ema.safetensors: expected" in refused("sample", weights.parent, "-n", 1)


def test_every_verb_has_an_example_of_options_that_it_has() -> None:
    assert EXAMPLES.keys() == VERBS.keys()
    for verb, example in EXAMPLES.items():
        said = " ".join(made(verb, "--help").out.split())
        assert example in said
        assert example.split()[:2] == ["unsteep", verb]
        assert all(word in said for word in example.split()[2:] if word.startswith("-"))


def test_the_help_of_train_has_a_line_for_every_recipe() -> None:
    said = made("train", "--help").out
    assert list(RECIPE_LINES) == list(RECIPES)
    assert all(f"{name}: {what}" in said for name, what in RECIPE_LINES.items())


# The process.


def test_help_waits_for_nothing() -> None:
    """Every help page, without torch and within half a second of computing (the best of three)."""
    code = f"""
import sys, time, contextlib
from unsteep.cli import main
for arguments in [["--help"], ["--version"], *([verb, "--help"] for verb in {list(VERBS)})]:
    with contextlib.suppress(SystemExit):
        main(arguments)
    if arguments == ["--help"]:
        print("SECONDS", time.process_time())
print("LOADED", *({{"torch", "numpy", "matplotlib", "sklearn", "PIL"}} & set(sys.modules)))
"""
    seconds = []
    for _ in range(3):
        out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        assert out.splitlines()[-1].split() == ["LOADED"]
        assert all(f"Usage: unsteep {verb}" in out for verb in VERBS)
        assert all(summary in out for summary in VERBS.values())
        assert unsteep.__version__ in out
        (line,) = (line for line in out.splitlines() if line.startswith("SECONDS"))
        seconds.append(float(line.split()[1]))
        if seconds[-1] < 0.5:
            break
    assert min(seconds) < 0.5


def test_ctrl_c_saves_and_says_how_to_go_on(home: Path) -> None:
    command = [sys.executable, "-c", "import unsteep.cli; unsteep.cli.main()", "train", *FOLDER, "--out", "stopped"]
    settings = [f"--set={s}" for s in ("train.steps=100000", "train.checkpoint_every=100000")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    log = Path("stopped/log.jsonl")
    with subprocess.Popen(
        [*command, *settings], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        until = time.monotonic() + 60
        while not (log.exists() and log.stat().st_size) and process.poll() is None and time.monotonic() < until:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    step = int(log_of(Path("stopped"))[-1]["step"])
    assert f"stopped at step {step} and saved; go on with: unsteep train --resume --out stopped" in out
    assert [path.name for path in Path("stopped/checkpoints").iterdir()] == [f"step-{step:08d}"]
    made("train", "--resume", "--out", "stopped", "--set", f"train.steps={step + 1}")
    assert [record["step"] for record in log_of(Path("stopped"))] == list(range(1, step + 2))
