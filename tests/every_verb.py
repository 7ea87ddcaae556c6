"""Every verb of the command line at its smallest, on a tiny run: for what must hold of all of them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from command_line import made
from unsteep.cli import VERBS
from unsteep.core.chains import CosineBetas
from unsteep.data.signer import Signed, Signer, signed
from unsteep.features import domain
from unsteep.features.domain import DomainNet
from unsteep.hearing import Length
from unsteep.model import Description, Model, ModelConfig
from unsteep.networks import SequenceConfig
from unsteep.poses import write_clip
from unsteep.spaces import Keypoints

SETTINGS = [
    *("train.steps=2", "train.batch=2", "train.report=false", "data.limit=40"),
    *("model.network.width=8", "schedule.type=CosineBetas", "schedule.steps=4"),
]
CHAIN = CosineBetas(steps=4)
NAMES = [verb for verbs in VERBS.values() for verb in verbs]


@contextmanager
def small_features() -> Iterator[None]:
    """Metrics look through a net that is trained in no time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(domain, "DomainNet", lambda: DomainNet(steps=2, batch=8, width=4, dimension=4))
        yield


def setting(settings: list[str]) -> list[str]:
    return [word for one in settings for word in ("--set", one)]


def trained(out: Path) -> Path:
    """A run of two steps on 40 digits."""
    made("train", "digits", "--out", out, *setting(SETTINGS))
    return out


def surroundings(folder: Path) -> Path:
    """What verbs read beside a run: two folders of pictures, and a clip."""
    for seed, name in enumerate(("photos", "others")):
        (folder / name).mkdir(parents=True)
        for i, one in enumerate(np.random.default_rng(seed).integers(0, 256, (40, 8, 8), dtype=np.uint8)):
            Image.fromarray(one).save(folder / name / f"{i}.png")
    write_clip(signed(Signed.of("HELLO fast left high")).placed(), folder / "hello.pose")
    space = Keypoints().fitted(Signer(count=2).read())
    hears = (Length(counts=(0,) * space.frames + (1,), frames=space.frames),)
    network = SequenceConfig(width=8, depth=1, heads=2)
    of = Description(model=ModelConfig(network=network, prediction="x0"), schedule=CHAIN, space=space, hears=hears)
    Model(of.build(), of).save(folder / "clips")
    return folder


def writing_folders(run: Path, beside: Path, out: Path) -> dict[str, list[object]]:
    """Those that write a folder, each with `out` for it; tune-grid writes to the run itself."""
    cell = ["--samples", 10, "--images", 2, "--terms", 2, "--only", "v-simple-fixed"]
    few = ["-n", 10, "--metrics", "kid"]
    two = [f"{name}={count}" for name, count in (("train.steps", 1), ("train.batch", 2), ("train.report", "false"))]
    return {
        "train": ["digits", "--out", out, *setting(SETTINGS)],
        "distill": [run, "--steps", 1, "--out", out, *setting(two)],
        "train-classifier": [run, "-n", 2, "--no-control", "--out", out, *setting([*two, "network.width=8"])],
        "sample": [run, "-n", 2, "--steps", 2, "--out", out],
        "tune-grid": [run, "--steps", 2, "--seeds", 2, "--evaluations", 1],
        "evaluate": [run, *few, "--steps", 2, "--out", out],
        "compare": [beside / "photos", beside / "others", *few, "--data", beside / "photos", "--out", out],
        "likelihood": [run, "-n", 2, "--terms", 2, "--out", out],
        "rate-distortion": [run, "-n", 2, "--steps", 2, "--out", out],
        "study": ["solvers", run, "--samples", 10, "--calls", 2, "--solvers", "ddim", "euler", "--out", out],
        "ablate": ["digits", "--steps", 1, *cell, "--out", out, *setting(SETTINGS[1:])],
        "bench": [run, "--batches", 1, "--seconds", 0.01, "--out", out],
    }


def cases(run: Path, beside: Path, out: Path) -> dict[str, list[object]]:
    """Every verb with its arguments."""
    photo = beside / "photos" / "0.png"
    return {
        **writing_folders(run, beside, out),
        "data": [beside / "photos"],
        "settings": ["digits"],
        "report": [run],
        "show": [run],
        "view": [beside / "hello.pose", "--out", out.with_suffix(".gif")],
        "verify": [run],
        "edit": [
            beside / "clips",
            beside / "hello.pose",
            "--keep",
            "0:9",
            "--steps",
            2,
            "--out",
            out.with_suffix(".pose"),
        ],
        "fill": [run, photo, "--mask", photo, "-n", 1, "--steps", 2, "--out", out.with_suffix(".png")],
        "redraw": [run, photo, "-n", 1, "--steps", 2, "--out", out.with_suffix(".png")],
        "interpolate": [run, photo, photo, "--frames", 2, "--out", out.with_suffix(".png")],
        "invert": [run, photo, "--tolerance", 0.1, "--out", out.with_suffix(".safetensors")],
        "check": ["--only", "numbers"],
        "schedules": [],
    }
