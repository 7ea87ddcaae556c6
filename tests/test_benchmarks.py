"""The benchmarks beside other libraries, with numbers that were made up: what they say of them.

Nothing is timed, and no other library is needed."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from unsteep.benchmarks.machine import Rate
from unsteep.core.machine import machine

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(autouse=True)
def _on_the_path(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] in ("speed", "quality")]:
        del sys.modules[name]


def cell(library: str, cpu: list[float], what: str = "train", precision: str = "float32") -> Any:
    from speed.libraries import Task
    from speed.rounds import Cell

    task = Task(library=library, size="small", batch=4, precision=precision)  # type: ignore[arg-type]
    return Cell(task, what, 5, 1_600_000, cpu, [2 * one for one in cpu], 0.5)  # type: ignore[arg-type]


def results(cells: list[Any]) -> Any:
    from speed.page import Results
    from speed.shell import Whole

    return Results(
        machine=machine(),
        threads=1,
        rounds=3,
        ceilings={"matrix product": {"float32": Rate(60.0, 50.0, 70.0)}},
        cells=cells,
        whole=[Whole("import", "unsteep", [2.0, 2.5], [3.0, 3.5], 0.3)],
        left_out=["azula is not installed"],
        versions={"unsteep": "1"},
        seconds=60.0,
    )


def test_a_ratio_is_taken_within_a_round() -> None:
    from speed.page import Group

    group = Group([cell("unsteep", [1.0, 10.0, 2.0]), cell("diffusers", [2.0, 20.0, 3.0])])
    assert group.ratio(group.cells[1]) == Rate(2.0, 1.5, 2.0)
    assert group.cells[0].rates == [20.0, 2.0, 10.0]  # 5 steps of 4


def test_the_page_says_who_is_fastest_and_what_is_noise(tmp_path: Path) -> None:
    from speed.page import write

    cells = [
        cell("unsteep", [2.0, 2.0]),
        cell("unsteep again", [1.9, 2.1]),
        cell("diffusers", [3.0, 3.0]),
        cell("smalldiffusion", [2.5, 2.5]),
        cell("azula", [1.0, 1.0]),
        cell("unsteep", [1.0, 1.0], precision="bf16"),
    ]
    found = results(cells)
    ratio_to = [line.replace("\N{NO-BREAK SPACE}", " ") for line in found.best[0]]
    assert ratio_to == [
        "small, batch 4, float32: training", "smalldiffusion 1.25 [1.25, 1.25]", "azula 0.50 [0.50, 0.50]",
        "1.00 [0.95, 1.05]",
    ]  # fmt: skip
    assert ["small, batch 4: training", "diffusers", "3.00"] in found.defaults  # bf16 of ours over their float32
    page = write(found, "python benchmarks/speed.py", tmp_path).read_text()
    assert "azula is not installed" in page
    assert "benchmarks/peers.txt" in page
    assert page.count("<img") == 1  # a group of one alone has no ratios


def test_what_is_kept_is_found_again_wherever_the_data_lie() -> None:
    import importlib.util

    spec = importlib.util.spec_from_file_location("quality_script", BENCHMARKS / "quality.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    asked = {"name": "unsteep", "settings": ["a=1"], "seed": 0, "data": "here"}
    assert script.is_of({**asked, "data": "there", "steps": 3}, asked)
    assert not script.is_of({**asked, "seed": 1}, asked)
    assert not script.is_of({**asked, "settings": []}, asked)


def test_coloured_squares_are_cut_from_what_shows_something(tmp_path: Path) -> None:
    from quality.colours import EACH, SIDE, squares

    generator = np.random.default_rng(0)
    noise = generator.integers(0, 256, (96, 80, 4), dtype=np.uint8)
    for name, alpha, wanted in (("whole", 255, EACH), ("clear", 0, 0)):
        Image.fromarray(np.dstack([noise[..., :3], np.full((96, 80), alpha, np.uint8)])).save(tmp_path / f"{name}.png")
        found = squares(tmp_path / f"{name}.png", np.random.default_rng(1))
        assert len(found) == wanted
        assert all((one.shape, one.dtype) == ((SIDE, SIDE, 3), np.uint8) for one in found)
    for name, picture in (("flat", np.full((96, 80, 3), 90, np.uint8)), ("small", noise[:40, :, :3])):
        Image.fromarray(picture).save(tmp_path / f"{name}.png")
        assert squares(tmp_path / f"{name}.png", generator) == []


def kept(name: str, library: str, fid: float, seed: int = 0) -> dict[str, Any]:
    values = {metric: {"value": fid, "low": fid - 1, "high": fid + 1} for metric in ("fid", "kid", "recall")}
    sampler = {"cpu": 3.0, "values": values, "sheet": ""}
    return {
        "name": name, "library": library, "seed": seed, "steps": 7, "parameters": 10, "samplers": {"DDIM": sampler}
    }  # fmt: skip


def test_recipes_are_ranked_by_the_mean_over_seeds() -> None:
    from quality.page import rows, verdict

    cells = [
        kept("a", "azula", 8.0),
        kept("a", "azula", 12.0, 1),
        kept("u", "unsteep", 4.0),
        kept("u", "unsteep", 6.0, 1),
    ]
    found = rows(cells)
    assert [(row.name, row.metric("fid").value) for row in found] == [("u", 5.0), ("a", 10.0)]
    assert found[0].metric("fid").half > 1  # Student's, of two
    assert "0.50 times the FID" in verdict(found)
    assert rows(cells[:1])[0].metric("fid").high == 9.0  # the sample's own


def test_peers_are_pinned() -> None:
    lines = [line for line in (BENCHMARKS / "peers.txt").read_text().splitlines() if not line.startswith("#")]
    assert all("==" in line for line in lines)
    assert not any(line.startswith(("torch", "torchvision")) for line in lines)


def test_students_of_an_exact_field_come_nearer_to_where_it_leads() -> None:
    """In little; every method, and digits, in `benchmarks/few_steps.py`."""
    import few_steps

    of = few_steps.plane(steps=100)
    found = dict(few_steps.rows(of, 1, 200, ["progressive", "flow-map"], lambda said: None))
    energy = {name: each[1][0][0] for name, each in found.items()}
    apart = {name: each[1][0][1] for name, each in found.items()}
    assert energy["floor"] < 0.01
    assert energy["exact field"] > 0.4  # whose one step is no map's
    assert energy["progressive"] < 0.7 * energy["as long again"]
    assert all(apart[name] < 0.9 * apart["as long again"] for name in ("progressive", "flow-map"))
    assert all(found["flow-map"][4][0][i] < found["flow-map"][1][0][i] for i in (0, 1))


@pytest.mark.long
def test_every_method_comes_nearer_to_where_the_flow_leads_on_digits() -> None:
    import few_steps

    of = few_steps.digits(steps=300)
    found = dict(few_steps.rows(of, 1, 400, list(few_steps.METHODS), lambda said: None))
    assert found["floor"][1][0][0] < 0.005
    apart = {name: each[1][0][1] for name, each in found.items()}
    assert all(apart[name] < 0.95 * apart["as long again"] for name in few_steps.METHODS)
