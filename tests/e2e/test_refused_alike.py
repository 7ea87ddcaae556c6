"""What the library refuses, the command line refuses in the same words: of options in the place of arguments."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import unsteep
from command_line import made, unsteep_
from unsteep.model import Model
from unsteep.sampling import Adaptive
from unsteep.training import denoising

TINY = [
    *("schedule=CosineBetas", "schedule.steps=5", "train.batch=4", "train.warmup=1", "train.steps=1", "data.limit=50"),
    *("model.network.width=8", "model.network.groups=4", "model.network.blocks=1", "model.network.attention="),
]
PHOTO = torch.zeros(1, 8, 8, dtype=torch.uint8)
MASK = torch.zeros(1, 8, 8, dtype=torch.bool)
MASK[:, :4] = True


@pytest.fixture(scope="module", autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with contextlib.chdir(tmp_path_factory.mktemp("home")), pytest.MonkeyPatch.context() as patch:
        patch.setattr(denoising, "report", lambda model, out, *_: (out / "report.html").write_text(""))
        for out, more in (("run", ()), ("plain", ("condition.label=false", "condition.drop=0"))):
            made("train", "digits", *(f"--set={one}" for one in (*TINY, *more)), "--out", out)
        Image.fromarray(PHOTO[0].numpy()).save("photo.png")
        Image.fromarray(MASK[0].numpy().astype(np.uint8) * 255).save("mask.png")
        for name in "ab":
            Path("classes", name).mkdir(parents=True)
            Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(f"classes/{name}/0.png")
        yield


def of_model(call: Callable[[Model], Any], run: str = "run") -> Callable[[], Any]:
    return lambda: call(unsteep.load(run, device="cpu"))


def training(recipe: str, data: str | None = None, **how: Any) -> Callable[[], Any]:
    return lambda: unsteep.train(recipe, data=data, **{"out": "new", **how}, device="cpu", say=lambda _: None)


IMPOSSIBLE: dict[str, tuple[Callable[[], Any], str]] = {
    "no samples": (of_model(lambda m: m.sample(0)), "sample run -n 0"),
    "no steps": (of_model(lambda m: m.sample(2, steps=0)), "sample run -n 2 --steps 0"),
    "more steps than there are": (of_model(lambda m: m.sample(2, steps=6)), "sample run -n 2 --steps 6"),
    "a seed beyond 64 bits": (of_model(lambda m: m.sample(2, seed=2**70)), f"sample run -n 2 --seed {2**70}"),
    "no batch": (of_model(lambda m: m.sample(2, batch_size=0)), "sample run -n 2 --batch 0"),
    "steps of an adaptive solver": (
        of_model(lambda m: m.sample(2, steps=4, solver=Adaptive(tolerance=0.1))),
        "sample run -n 2 --steps 4 --tolerance 0.1",
    ),
    "a grid of an adaptive solver": (
        of_model(lambda m: m.sample(2, grid="karras", solver=Adaptive(pair="dormand-prince", tolerance=0.1))),
        "sample run -n 2 --grid karras --solver dormand-prince --tolerance 0.1",
    ),
    "an unknown solver": (of_model(lambda m: m.sample(2, solver="dimm")), "sample run -n 2 --solver dimm"),
    "a grid that is not tuned": (of_model(lambda m: m.sample(2, grid="tuned")), "sample run -n 2 --grid tuned"),
    "an unknown class": (of_model(lambda m: m.sample(2, label="cat")), "sample run -n 2 --label cat"),
    "a class of a model without": (of_model(lambda m: m.sample(2, label=1), "plain"), "sample plain -n 2 --label 1"),
    "a prompt of a model without": (
        of_model(lambda m: m.sample(2, prompt=["red"] * 2)),
        "sample run -n 2 --prompt red",
    ),
    "a length of pictures": (of_model(lambda m: m.sample(2, length=5)), "sample run -n 2 --length 5"),
    "guidance without a condition": (
        of_model(lambda m: m.sample(2, guidance=2.0), "plain"),
        "sample plain -n 2 --guidance 2",
    ),
    "idle guidance": (
        of_model(lambda m: m.sample(2, guidance=unsteep.Guidance(scale=1, interval=(0.2, 0.8)))),
        "sample run -n 2 --guidance-interval 0.2 0.8",
    ),
    "clipping beside a threshold": (
        of_model(lambda m: m.sample(2, clip=True, guidance=unsteep.Guidance(scale=2, threshold=0.9))),
        "sample run -n 2 --clip --threshold 0.9 --guidance 2",
    ),
    "too much strength": (of_model(lambda m: unsteep.redraw(m, PHOTO, 1.5)), "redraw run photo.png --strength 1.5"),
    "no drawings": (of_model(lambda m: unsteep.redraw(m, PHOTO, 0.5, 0)), "redraw run photo.png -n 0"),
    "drawings of an unknown class": (
        of_model(lambda m: unsteep.redraw(m, PHOTO, label="cat")),
        "redraw run photo.png --label cat",
    ),
    "fillings of no number": (
        of_model(lambda m: unsteep.fill(m, PHOTO, MASK, 0)),
        "fill run photo.png --mask mask.png -n 0",
    ),
    "no resamples": (
        of_model(lambda m: unsteep.fill(m, PHOTO, MASK, resamples=0)),
        "fill run photo.png --mask mask.png --resamples 0",
    ),
    "a way of one frame": (
        of_model(lambda m: unsteep.interpolate(m, PHOTO, PHOTO, frames=1)),
        "interpolate run photo.png photo.png --frames 1",
    ),
    "no tolerance": (
        of_model(lambda m: unsteep.invert(m, PHOTO[None], tolerance=-1.0)),
        "invert run photo.png --tolerance -1",
    ),
    "steps beside a grid of times": (
        of_model(lambda m: m.sample(2, steps=5, grid=[1, 0.5, 0])),
        "sample run -n 2 --steps 5 --grid 1,0.5,0",
    ),
    "a jump where nothing is walked again": (
        of_model(lambda m: unsteep.fill(m, PHOTO, MASK, method="pigdm", jump=2)),
        "fill run photo.png --mask mask.png --method pigdm --jump 2",
    ),
    "resamples where nothing is walked again": (
        of_model(lambda m: unsteep.fill(m, PHOTO, MASK, method="pigdm", resamples=2)),
        "fill run photo.png --mask mask.png --method pigdm --resamples 2",
    ),
    "a jump over all steps": (
        of_model(lambda m: unsteep.fill(m, PHOTO, MASK, steps=3, jump=20)),
        "fill run photo.png --mask mask.png --steps 3 --jump 20",
    ),
    "a solver of a way without one": (
        of_model(lambda m: unsteep.interpolate(m, PHOTO, PHOTO, method="slerp", solver="ddim")),
        "interpolate run photo.png photo.png --method slerp --solver ddim",
    ),
    "a step of a way without one": (
        of_model(lambda m: unsteep.interpolate(m, PHOTO, PHOTO, method="slerp", step=100)),
        "interpolate run photo.png photo.png --method slerp --step 100",
    ),
    "classes of pictures that are there": (
        lambda: unsteep.evaluate("classes", "classes", metrics=["kid"], label="cats"),
        "evaluate classes --data classes --metrics kid --label cats",
    ),
    "steps of pictures that are there": (
        lambda: unsteep.evaluate("classes", "classes", metrics=["kid"], steps=5),
        "evaluate classes --data classes --metrics kid --steps 5",
    ),
    "a run that is there": (training("digits", out="run"), "train digits --out run"),
    "no run to go on with": (training("digits", out="none", resume=True), "train digits --out none --resume"),
    "a recipe without data": (training("folder"), "train folder --out new"),
    "data of a recipe that has its own": (training("digits", "classes"), "train digits --data classes --out new"),
    "classes that are not read": (
        training("folder", "classes", settings=["data.size=8", "condition.label=true"]),
        "train folder --data classes --out new --set data.size=8 --set condition.label=true",
    ),
    "an unknown setting": (training("digits", settings=["train.stps=4"]), "train digits --out new --set train.stps=4"),
}


def words(message: str) -> list[str]:
    """Without what makes an argument an option: `force=True` is --force, `split=train` --split train."""
    for mark, plain in (("--", ""), ("=True", ""), ("=", " "), ("_", "-"), ("batch-size:", "batch:")):
        message = message.replace(mark, plain)
    return message.removeprefix("-").split()


@pytest.mark.parametrize("what", IMPOSSIBLE)
def test_both_refuse_in_the_same_words(what: str) -> None:
    call, command = IMPOSSIBLE[what]
    with pytest.raises(ValueError, match=r".+") as refused:
        call()
    code, _, err = unsteep_(*command.split())
    assert (code, err.count("\n")) == (2, 1), err
    assert words(err.removeprefix("unsteep: ").strip()) == words(" ".join(str(refused.value).split()))
    assert not Path("new").exists()
