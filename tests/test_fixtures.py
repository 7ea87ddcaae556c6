"""What earlier releases wrote still opens, and what they drew is still drawn.

`fixtures/0.1` holds a run, a classifier and three saved models as release 0.1 wrote them: digits by class; vectors;
pictures after what is left of them at 2 x 2; drawn shapes by caption (both without their frames, for size).
`golden.npz` holds
what they gave then. Where a default changes, or the last bits of an answer, a golden is added here, and none is edited.
Drawn again on the processor and with the torch that drew them they are equal bit for bit, elsewhere to rounding.
"""

import json
import platform
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import unsteep
from command_line import made, unsteep_
from unsteep.core.schedules import LinearBetas
from unsteep.model import Model
from unsteep.sampling import SOLVERS, UniPC
from unsteep.storage.manifest import write_manifest
from unsteep.training.classifying import open_classifier

FIXTURES = Path(__file__).parent / "fixtures" / "0.1"
GOLDEN = FIXTURES / "golden.npz"
TEXTS = ["a red circle", "two blue squares"]


def processor() -> str:
    """What decides the last bits."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    wanted = ("vendor_id", "cpu family", "model\t", "stepping")
    named = sorted({line for line in lines if line.startswith(wanted)})
    return " ".join([platform.machine(), torch.__version__, torch.backends.cpu.get_cpu_capability(), *named])


def end(model: Model, seed: int = 0, n: int = 3, **how: object) -> Tensor:
    """Where samples end, in the model's units."""
    *_, last = model.trajectory(seed, n, **how)  # type: ignore[arg-type]
    return last.x


def digits(solver: str | None, steps: int = 8, guidance: float = 1.0) -> Callable[[], Tensor]:
    def draw() -> Tensor:
        chosen = None if solver is None else SOLVERS[solver]
        model, labels = unsteep.load(FIXTURES / "run"), torch.tensor([3, 0, 7])
        return end(model, 5, condition=labels, steps=steps, solver=chosen, guidance=guidance)

    return draw


def vectors(solver: str) -> Tensor:
    return end(unsteep.load(FIXTURES / "vectors"), steps=6, solver=SOLVERS[solver])


# By default, until models without a frame got that of standard deviation 0.5.
FIRST: dict[str, Any] = {"solver": UniPC(order=2), "grid": "logsnr"}


def text(**how: Any) -> Tensor:
    model = unsteep.load(FIXTURES / "text")
    return end(model, n=2, condition=model.condition_of(2, prompt=TEXTS), steps=5, guidance=2.0, **how)


def picture(**how: Any) -> Tensor:
    model = unsteep.load(FIXTURES / "picture")
    small = (torch.arange(8).reshape(2, 1, 2, 2) * 30).to(torch.uint8)
    return end(model, n=2, condition=model.condition_of(2, picture=small, augment=0.2), steps=5, **how)


def judged() -> Tensor:
    classifier = open_classifier(FIXTURES / "classifier").module
    x = torch.linspace(-1, 1, 128).reshape(2, 1, 8, 8)
    return classifier(x, LinearBetas()(0.3)).detach()


def bits() -> Tensor:
    model = unsteep.load(FIXTURES / "run")
    examples = (torch.arange(128).reshape(2, 1, 8, 8) % 17 * 255 / 16).round().to(torch.uint8)
    return model.likelihood(examples, torch.tensor([1, 2]), terms=5).bits_per_dim().float()


CASES: dict[str, Callable[[], Tensor]] = {
    **{f"digits {name}": digits(name) for name in ("ddim", "ancestral", "heun", "dpmpp-2m", "gaussian-frame")},
    "digits by default": digits(None),
    "digits by default, guided": digits(None, steps=5, guidance=2.0),
    "vectors by default": lambda: end(unsteep.load(FIXTURES / "vectors"), steps=6),
    "vectors unipc": lambda: vectors("unipc"),
    "vectors euler-maruyama": lambda: vectors("euler-maruyama"),
    "text, guided": lambda: text(**FIRST),
    "picture": lambda: picture(**FIRST),
    "text by default, guided": text,
    "picture by default": picture,
    "classifier": judged,
    "bits": bits,
}


AGAIN = "{}, in other bits"
"""A golden today whose last bits have changed since it was drawn: the frame's steps are summed in another order."""


@pytest.mark.parametrize("name", CASES)
def test_what_was_drawn_is_drawn_still(name: str) -> None:
    with np.load(GOLDEN) as stored:
        drawn_on, again = str(stored["processor"]), AGAIN.format(name) in stored
        first = torch.from_numpy(stored[name])
        golden = torch.from_numpy(stored[AGAIN.format(name)]) if again else first
    got = CASES[name]()
    torch.testing.assert_close(got, golden, rtol=1e-6, atol=2e-6 if again else 1e-6)
    torch.testing.assert_close(got, first, rtol=1e-6, atol=4e-6 if again else 1e-6)
    if drawn_on == processor():
        assert torch.equal(got, golden)


def test_an_old_run_goes_on(tmp_path: Path) -> None:
    """With the same data, by the digest that was stored then."""
    shutil.copytree(FIXTURES / "run", tmp_path / "run")
    made("train", "--resume", "--out", tmp_path / "run", "--set", "train.steps=82")
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [record["step"] for record in log] == list(range(1, 83))
    made("show", tmp_path / "run")
    made("check", tmp_path / "run", "--only", "run")


TODAY = FIXTURES.parent / "0.2"


def test_what_this_release_wrote_opens_draws_and_goes_on(tmp_path: Path) -> None:
    """`fixtures/0.2`: a run of pictures by class, at step 4, and a saved model of it, as the format was fixed."""
    model = unsteep.load(TODAY / "model")
    assert torch.equal(end(model), end(unsteep.load(TODAY / "run")))
    torch.testing.assert_close(end(model)[:, 0, 0, 0], torch.tensor([0.90589, 0.34789, -1.18041]), rtol=1e-4, atol=1e-4)
    shutil.copytree(TODAY / "run", tmp_path / "run")
    made("verify", tmp_path / "run")
    made("train", "--resume", "--out", tmp_path / "run", "--set", "train.steps=6")
    log = [json.loads(line)["step"] for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert log == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("name", ["run.toml", "model.toml", "manifest.json"])
def test_what_a_later_release_wrote_is_told(tmp_path: Path, name: str) -> None:
    shutil.copytree(TODAY / "run", tmp_path / "run")
    (path,) = (tmp_path / "run").rglob(name)
    if name == "manifest.json":
        path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 2}))
    else:
        path.write_text("format = 2\n" + path.read_text())
    if name == "model.toml":
        write_manifest(path.parent)
    said = [unsteep_("show", tmp_path / "run"), unsteep_("train", "--resume", "--out", tmp_path / "run")]
    told = " ".join(err for _, _, err in said)
    assert {code for code, _, _ in said} <= {0, 2}
    assert "expected 1, the one that this release reads, got '2'; it is from a later unsteep, so update yours" in told
    assert str(path) in told or name in told


def test_old_folders_are_small() -> None:
    assert sum(path.stat().st_size for path in FIXTURES.rglob("*") if path.is_file()) < 320_000


if __name__ == "__main__":  # only ever to add a golden: one that is there stays
    kept = dict(np.load(GOLDEN)) if GOLDEN.exists() else {"processor": np.array(processor())}
    np.savez_compressed(GOLDEN, **{name: make().numpy() for name, make in CASES.items()} | kept)
