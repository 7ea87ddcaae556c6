"""Files that were damaged or made to harm: each reader answers with one line that names the file, or reads what is
there; nothing hangs, nothing runs, nothing is written elsewhere."""

import gzip
import io
import json
import os
import shutil
import signal
import tarfile
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save
from safetensors.torch import save_file as save_tensors

import unsteep
from command_line import made, unsteep_
from unsteep.data import Array, Captions, Cifar, Folder, Idx, Poses, Timelines
from unsteep.evaluation import page as evaluations
from unsteep.poses import Part, PoseClip, Skeleton, write_clip
from unsteep.storage.checkpoint import load_tensors
from unsteep.storage.foreign import Unreadable, reading
from unsteep.storage.manifest import write_manifest
from unsteep.studies import study
from unsteep.training import denoising, run
from unsteep.training.verifying import verified

EACH = 6  # damaged copies of each file in the normal suite, and in the long one
MORE = 150
SECONDS = 20  # that one may take


def mutated(content: bytes, seed: int) -> bytes:
    """A damaged copy: cut, bytes changed, swapped, doubled or put in, numbers made huge."""
    draw = np.random.default_rng(seed)
    out = bytearray(content)
    for _ in range(int(draw.integers(1, 5))):
        at, kind = int(draw.integers(0, max(1, len(out)))), int(draw.integers(0, 7))
        if kind == 0:
            out = out[:at]
        elif kind == 1 and out:
            out[at % len(out)] = int(draw.integers(0, 256))
        elif kind == 2:
            out[at:at] = draw.bytes(int(draw.integers(1, 20)))
        elif kind == 3:
            out[at : at + 8] = b"\xff" * 8
        elif kind == 4:
            out[at:at] = out[at : at + int(draw.integers(1, 200))]
        elif kind == 5:
            out = bytearray(bytes(out).replace(b"1", b"99999999999999999999", 1))
        else:
            out[at : at + 1] = [b"[" * 3000, b"{" * 3000, b"\0", b"\xc3", b'"', b"-"][int(draw.integers(0, 6))]
    return bytes(out)


@contextmanager
def limited() -> Iterator[None]:
    """No longer than `SECONDS`."""

    def late(number: int, frame: FrameType | None) -> None:
        raise AssertionError("it hangs")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def picture(i: int = 0) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(i).integers(0, 256, (9, 9, 3), dtype=np.uint8)).save(file, "PNG")
    return file.getvalue()


def saved(write: Callable[..., Any], *arrays: Any, **named: Any) -> bytes:
    file = io.BytesIO()
    write(file, *arrays, **named)
    return file.getvalue()


def idx(array: np.ndarray) -> bytes:
    head = bytes([0, 0, 8, array.ndim]) + b"".join(side.to_bytes(4, "big") for side in array.shape)
    return head + array.tobytes()


def in_tar(files: dict[str, bytes], mode: str = "w") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as archive:  # type: ignore[call-overload]
        for name, content in files.items():
            head = tarfile.TarInfo(name)
            head.size = len(content)
            archive.addfile(head, io.BytesIO(content))
    return out.getvalue()


def in_zip(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return out.getvalue()


BYTES = np.random.default_rng(0).integers(0, 256, (6, 9, 9), dtype=np.uint8)
FRAMES = np.random.default_rng(0).standard_normal((4, 5, 2)).astype(np.float32)
SKELETON = Skeleton(parts=(Part(name="arm", points=("a", "b", "c"), limbs=((0, 1, 2),)),), axes="xy")
with tempfile.TemporaryDirectory() as _folder:
    clip = PoseClip(FRAMES[:, :3], np.ones((4, 3), np.float32), 25.0, SKELETON)
    POSE = write_clip(clip, Path(_folder) / "a.pose").read_bytes()
PHOTOS = {f"{i}.png": picture(i) for i in range(3)}
CIFAR = {"train.bin": bytes(3074 * 2), "test.bin": bytes(3074)}


def beside(name: str) -> dict[str, bytes]:
    return {**PHOTOS, name: b""}


# What is damaged: its name, its content, what lies beside it, and how it is read.
READERS: dict[str, tuple[str, bytes, dict[str, bytes], Callable[[Path], Any]]] = {
    "npy": ("a.npy", saved(np.save, BYTES), {}, lambda p: Array(path=str(p / "a.npy")).read()),
    "npz": (
        "a.npz",
        saved(np.savez_compressed, images=BYTES, labels=np.arange(6)),
        {},
        lambda p: Array(path=str(p / "a.npz")).read(),
    ),
    "sequences": (
        "a.npz",
        saved(np.savez, x=FRAMES, lengths=np.full(4, 5)),
        {},
        lambda p: Timelines(path=str(p / "a.npz")).read(),
    ),
    "pose": (
        "a.pose",
        POSE,
        {},
        lambda p: Poses(path=str(p / "a.pose"), normalise=False).read(),
    ),
    "png": ("0.png", picture(), {f"{i}.png": picture(i) for i in range(1, 3)}, lambda p: Folder(path=str(p)).read()),
    "idx": (
        "train-images-idx3-ubyte",
        idx(BYTES),
        {"train-labels-idx1-ubyte": idx(np.arange(6, dtype=np.uint8))},
        lambda p: Idx(path=str(p)).read(),
    ),
    "idx.gz": (
        "train-labels-idx1-ubyte.gz",
        gzip.compress(idx(np.arange(6, dtype=np.uint8))),
        {"train-images-idx3-ubyte": idx(BYTES)},
        lambda p: Idx(path=str(p)).read(),
    ),
    "zip": ("a.zip", in_zip(PHOTOS), {}, lambda p: Folder(path=str(p / "a.zip"), size=8).read()),
    "tar": ("a.tar", in_tar(PHOTOS), {}, lambda p: Folder(path=str(p / "a.tar"), size=8).read()),
    "tar.gz": ("a.tar.gz", in_tar(PHOTOS, "w:gz"), {}, lambda p: Folder(path=str(p / "a.tar.gz"), size=8).read()),
    "cifar": ("train.bin", CIFAR["train.bin"], CIFAR, lambda p: Cifar(path=str(p)).read()),
    "cifar.tar.gz": ("c.tar.gz", in_tar(CIFAR, "w:gz"), {}, lambda p: Cifar(path=str(p / "c.tar.gz")).read()),
    "csv": (
        "a.csv",
        b"file,caption\n0.png,one\n1.png,two\n2.png,three\n",
        PHOTOS,
        lambda p: Captions(path=str(p), size=8).read(),
    ),
    "jsonl": (
        "a.jsonl",
        b"".join(b'{"file": "%d.png", "caption": "number 1"}\n' % i for i in range(3)),
        PHOTOS,
        lambda p: Captions(path=str(p), size=8).read(),
    ),
    "json": ("0.json", b'{"caption": "number 1"}', PHOTOS, lambda p: Captions(path=str(p), size=8, max_bad=1.0).read()),
    "results": (
        "results.json",
        b'{"values": {"fid": {"value": 1.0, "low": 0.5, "high": 1.5}}, "protocol": {"samples": 10}}',
        {},
        evaluations.read,
    ),
    "cell": (
        "result.json",
        b'{"values": {}, "facts": {}, "protocol": {}, "seconds": 1.0, "diverged": null}',
        {},
        study.read,
    ),
    "pickle": ("w.pt", b"\x80\x02}q\x00.", {}, lambda p: unsteep.load(p / "w.pt")),
    "safetensors": (
        "statistics.safetensors",
        save({"range": np.zeros(2)}),
        {},
        lambda p: load_tensors(p, "statistics"),
    ),
}


def check(folder: Path, path: Path, read: Callable[[Path], Any]) -> None:
    """Reads it; whatever that raises is one line about the file."""
    before, failed = sorted(folder.rglob("*")), None
    with limited(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            read(folder)
        except (ValueError, OSError) as error:
            failed = error
    said = str(failed or "")
    assert "\n" not in said
    assert failed is None or str(folder) in said or path.name in said or "data." in said, said
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize("count", [EACH, pytest.param(MORE, marks=pytest.mark.long)])
@pytest.mark.parametrize("kind", READERS)
def test_a_damaged_file_is_one_line_or_still_read(tmp_path: Path, kind: str, count: int, monkeypatch: Any) -> None:
    name, content, others, read = READERS[kind]
    monkeypatch.setenv("UNSTEEP_CACHE", str(tmp_path / "cache"))
    for other, held in others.items():
        (tmp_path / "in").mkdir(exist_ok=True)
        (tmp_path / "in" / other).write_bytes(held)
    for seed in range(count):
        path = tmp_path / "in" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(mutated(content, seed))
        check(tmp_path / "in", path, read)


HEADS = {  # that promise more than there is
    "a.npy": b"\x93NUMPY\x01\x00v\x00{'descr': '|u1', 'fortran_order': False, 'shape': (1000000000000000, 9, 9), }"
    + b" " * 34
    + b"\n",
    "train-images-idx3-ubyte": bytes([0, 0, 8, 3]) + b"\xff" * 12,
    "w.safetensors": (1 << 40).to_bytes(8, "little") + b"{}",
}


def test_a_head_that_promises_more_than_there_is_is_refused(tmp_path: Path) -> None:
    for name, content in HEADS.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx(np.arange(6, dtype=np.uint8)))
    with limited(), pytest.raises(ValueError, match=r"a\.npy"):
        Array(path=str(tmp_path / "a.npy")).read()
    with limited(), pytest.raises(ValueError, match="train-images"):
        Idx(path=str(tmp_path)).read()


# Runs, checkpoints and models that a stranger gives.


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("foreign") / "run"
    settings = (
        "train.steps=2",
        "train.batch=2",
        "data.limit=20",
        "model.network.width=8",
        "schedule.type=CosineBetas",
        "schedule.steps=4",
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(denoising, "report", lambda *_: None)
        made("train", "digits", "--out", out, *(word for one in settings for word in ("--set", one)))
    return out


OF_A_CHECKPOINT = (
    *("model.toml", "state.json", "optimizer.json", "trained-as.toml"),
    *("weights.safetensors", "optimizer.safetensors"),
)
OF_A_RUN = ("run.toml", "log.jsonl", "times.jsonl", "about.json", "history.jsonl", "diagnosis.json")


@pytest.mark.parametrize("count", [EACH, pytest.param(MORE, marks=pytest.mark.long)])
@pytest.mark.parametrize("name", [*OF_A_CHECKPOINT, "manifest.json"])
def test_a_forged_checkpoint_is_one_line_or_still_read(
    tmp_path: Path, whole: Path, name: str, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever forges a file can forge the manifest, too."""
    monkeypatch.setattr(denoising, "report", lambda *_: None)
    out = tmp_path / "run"
    shutil.copytree(whole, out)
    (folder,) = (out / "checkpoints").iterdir()
    content = (folder / name).read_bytes()
    for seed in range(count):
        (folder / name).write_bytes(mutated(content, seed))
        if name != "manifest.json":
            write_manifest(folder)
        check(folder, folder / name, unsteep.load)
        check(out, folder / name, lambda p: run.resume(["train.steps=2"], p, say=lambda _: None))
        verified(out)


@pytest.mark.parametrize("name", OF_A_RUN)
def test_a_damaged_file_of_a_run_is_one_line_or_still_read(tmp_path: Path, whole: Path, name: str) -> None:
    out = tmp_path / "run"
    shutil.copytree(whole, out)
    content = (whole / name).read_bytes() if (whole / name).exists() else b'{"step": 1, "key": "a", "to": 1}\n'
    for seed in range(EACH):
        (out / name).write_bytes(mutated(content, seed))
        for verb in (["show", out], ["report", out], ["verify", out]):
            code, _, err = unsteep_(*verb)
            assert code in (0, 1, 2)
            assert len([line for line in err.splitlines() if line.startswith("unsteep: ")]) == (code == 2), err


# The one way in which it is done.


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (KeyError("step"), "nothing called 'step' in it"),
        (MemoryError(), "sizes beyond this machine's memory"),
        (RecursionError("deep"), "parts within parts without end"),
        (OverflowError("too large\nto convert"), "too large"),
        (NotImplementedError(), "NotImplementedError"),
        (json.JSONDecodeError("Expecting value", "x", 0), "Expecting value"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid"), "text that is not UTF-8"),
    ],
)
def test_whatever_fails_is_said_in_one_line(error: Exception, words: str) -> None:
    with pytest.raises(Unreadable, match=words) as told, reading("a/file", "a thing", "mend it"):
        raise error
    assert str(told.value).startswith("a/file: expected a thing, got ")
    assert str(told.value).endswith("; mend it")
    assert "\n" not in str(told.value)
    assert told.value.__cause__ is error


@pytest.fixture(scope="module")
def short_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("short") / "run"
    settings = ["train.checkpoint_every=1", "model.network.width=8", "train.report=false", "data.limit=40"]
    unsteep.train("digits", out=folder, steps=2, settings=settings, say=lambda _: None)
    return folder


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="a system without pipes that have names")
@pytest.mark.parametrize(
    "name", ["run.toml", "log.jsonl", "times.jsonl", "about.json", "report.html", "manifest.json", "state.json"]
)
def test_a_pipe_in_the_place_of_a_file_of_a_run_is_not_waited_for(name: str, short_run: Path, tmp_path: Path) -> None:
    shutil.copytree(short_run, tmp_path / "run")
    inside = next(path for path in sorted((tmp_path / "run").rglob(name), reverse=True))
    inside.unlink()
    os.mkfifo(inside)
    for command in (["verify"], ["show"], ["train", "--resume", "--set", "train.steps=3", "--out"], ["report"]):
        with limited():
            code, _, err = unsteep_(*command, tmp_path / "run")
        assert code in (0, 2) or command == ["verify"], err
        if command == ["verify"]:
            assert bool(code) == (name not in ("about.json", "report.html"))


def test_what_is_whole_to_the_byte_and_no_training_would_make_is_not_good(short_run: Path, tmp_path: Path) -> None:
    def step(folder: Path) -> Path:
        return folder / "checkpoints" / "step-00000002"

    def spoil_weights(folder: Path) -> None:
        tensors = load_tensors(step(folder), "ema")
        save_tensors({name: x * float("nan") for name, x in tensors.items()}, step(folder) / "ema.safetensors")

    def spoil(name: str, content: str) -> Callable[[Path], None]:
        return lambda folder: [*folder.rglob(name)][-1].write_text(content) and None

    lines = (short_run / "log.jsonl").read_text()
    first, second = lines.splitlines()
    spoiled: dict[str, tuple[Callable[[Path], object], str]] = {
        "nan": (spoil_weights, "not finite"),
        "optimizer": (lambda folder: (step(folder) / "optimizer.json").write_text("[]"), "state of an optimizer"),
        "gap": (spoil("log.jsonl", second + "\n"), "1 steps have no line, 1 for one"),
        "far": (spoil("log.jsonl", lines + second.replace('"step": 2', f'"step": {10**18}') + "\n"), "steps have no"),
        "twice": (spoil("log.jsonl", lines + lines), "do not rise"),
    }
    for name, (do, said) in spoiled.items():
        shutil.copytree(short_run, tmp_path / name)
        do(tmp_path / name)
        write_manifest(step(tmp_path / name))
        bad = [one.said for one in verified(tmp_path / name) if not one.good]
        assert any(said in one for one in bad), (name, bad)
    shutil.copytree(short_run, tmp_path / "junk")
    (tmp_path / "junk" / "log.jsonl").write_text(first + '\n{"step": -1, "loss": "high"}\n' + second + "\n")
    assert all(one.good for one in verified(tmp_path / "junk"))
    assert (tmp_path / "junk" / "log.jsonl").read_text() == lines
    shutil.copytree(short_run, tmp_path / "outer" / "classifier")
    shutil.copytree(short_run, tmp_path / "outer", dirs_exist_ok=True)
    weights = step(tmp_path / "outer" / "classifier") / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + bytes(4))
    assert "classifier/checkpoints/step-00000002" in [one.what for one in verified(tmp_path / "outer") if not one.good]
