"""What is idle, contradictory or impossible is refused in the library as on the command line, in the same words."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.command_line import unsteep_

import unsteep
from unsteep.model import Model
from unsteep.sampling import SOLVERS, Adaptive

SMALL = ["model.network.width=8", "model.network.blocks=1"]
PICTURE = torch.zeros(1, 8, 8, dtype=torch.uint8)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A model that hears classes, and one that hears nothing."""
    folder = tmp_path_factory.mktemp("runs")
    made = {}
    for name, more in (("classes", []), ("nothing", ["condition.label=false"])):
        made[name] = folder / name
        quiet: Any = lambda _: None  # noqa: E731
        unsteep.train("digits", out=made[name], steps=2, batch=4, settings=[*SMALL, *more], say=quiet, device="cpu")
    return made


ASKED: list[tuple[str, dict[str, Any], str]] = [
    ("classes", {"steps": 0}, "--steps 0"),
    ("classes", {"steps": 10**9}, f"--steps {10**9}"),
    ("classes", {"label": "99"}, "--label 99"),
    ("classes", {"label": "zebra"}, "--label zebra"),
    ("nothing", {"label": 1}, "--label 1"),
    ("nothing", {"guidance": 2.0}, "--guidance 2"),
    ("classes", {"prompt": "a"}, "--prompt a"),
    ("classes", {"length": 4}, "--length 4"),
    ("classes", {"guidance": float("nan")}, "--guidance nan"),
    ("classes", {"solver": Adaptive(tolerance=0.1), "steps": 4}, "--tolerance 0.1 --steps 4"),
    ("classes", {"solver": Adaptive(tolerance=0.1), "grid": "karras"}, "--tolerance 0.1 --grid karras"),
    ("classes", {"grid": "tuned"}, "--grid tuned"),
    ("classes", {"grid": [0.5, 1.0]}, "--grid 0.5,1"),
    ("classes", {"batch_size": 0}, "--batch 0"),
    ("classes", {"n": 0}, "-n 0"),
    ("classes", {"solver": "dim"}, "--solver dim"),
]


def plain(message: str) -> str:
    """Without what tells an option from an argument: dashes, and names of their own."""
    message = (
        message.strip()
        .removeprefix("unsteep: ")
        .replace("--batch:", "batch_size:")
        .replace("--n:", "n:")
        .replace("-n:", "n:")
    )
    return " ".join(re.sub(r"--(\w)", r"\1", message).split())


@pytest.mark.parametrize(("run", "asked", "options"), ASKED, ids=[options for _, _, options in ASKED])
def test_a_sample_is_refused_alike(
    run: str, asked: dict[str, Any], options: str, runs: dict[str, Path], tmp_path: Path
) -> None:
    model = unsteep.load(runs[run], device="cpu")
    asked = {"n": 2, **asked}
    with pytest.raises(ValueError) as refused:
        model.sample(asked.pop("n"), **asked)
    number = [] if "-n" in options else ["-n", 2]
    out = tmp_path / "x.png"
    code, _, err = unsteep_("sample", runs[run], *number, *options.split(), "--out", out, "--device", "cpu")
    assert code == 2
    assert not out.exists()
    assert plain(err) == plain(str(refused.value))


def test_every_solver_without_steps_of_its_own_refuses_none(runs: dict[str, Path]) -> None:
    assert len(SOLVERS) > 9
    for name in SOLVERS:
        with pytest.raises(ValueError, match=r"^steps: "):
            Model.sample(unsteep.load(runs["classes"], device="cpu"), 1, solver=name, steps=0)
