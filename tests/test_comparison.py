"""Comparisons: what is significant, what is paired, and what is not compared at all."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from unsteep.evaluation.compare import Result, cells, compare, header, write
from unsteep.evaluation.protocol import SUBJECT, Fact, differences
from unsteep.metrics.interval import Interval

PROTOCOL: dict[str, Fact] = {
    **dict.fromkeys(SUBJECT, "one"),
    **{"samples": 100, "steps": 20, "solver": "DDIM()", "features digest": "ab" * 32, "guidance": 1.0},
}


def result(name: str, protocol: dict[str, Fact] = PROTOCOL, /, **values: tuple[float, float]) -> Result:
    """Metrics as (value, half-width), with _ for -."""
    intervals = {key.replace("_", "-"): Interval(v, v - half, v + half) for key, (v, half) in values.items()}
    return Result(name, intervals, protocol)


@pytest.mark.parametrize(
    ("metric", "a", "b", "verdict"),
    [
        ("fid", (5.0, 0.3), (4.0, 0.4), "better"),  # 1 apart, and half a wide
        ("fid", (4.0, 0.3), (5.0, 0.4), "worse"),
        ("fid", (5.0, 0.8), (4.0, 0.8), "not significant"),
        ("fid", (5.0, 0.7), (4.0, 0.7), "better"),  # though the two intervals overlap
        ("recall", (0.5, 0.01), (0.6, 0.01), "better"),
        ("recall", (0.6, 0.01), (0.5, 0.01), "worse"),
        ("recall", (0.6, 0.1), (0.5, 0.1), "not significant"),
        ("something", (0.6, 0.01), (0.5, 0.01), "lower"),
        ("something", (0.5, 0.01), (0.6, 0.01), "higher"),
    ],
)
def test_verdicts(metric: str, a: tuple[float, float], b: tuple[float, float], verdict: str) -> None:
    (row,) = compare([result("a", **{metric: a}), result("b", **{metric: b})])
    assert row.verdict == (verdict,)
    apart = row.difference[0]
    assert (apart.value, apart.half) == pytest.approx((b[0] - a[0], (a[1] ** 2 + b[1] ** 2) ** 0.5))


def test_each_side_of_an_uneven_interval_counts_where_it_reaches() -> None:
    a, b = (Result(name, {"recall": interval}, PROTOCOL) for name, interval in
            (("a", Interval(0.5, 0.46, 0.53)), ("b", Interval(0.7, 0.66, 0.82))))  # fmt: skip
    (row,) = compare([a, b])
    assert (row.difference[0].low, row.difference[0].high) == pytest.approx(
        (0.2 - 0.05, 0.2 + (0.12**2 + 0.04**2) ** 0.5)
    )


def test_independent_differences_are_covered() -> None:
    draws = torch.Generator().manual_seed(0)
    held = 0
    for _ in range(400):
        sides = []
        for name, mean, n in (("a", 1.0, 60), ("b", 3.0, 200)):
            x = mean + torch.randn(n, generator=draws, dtype=torch.float64)
            sides.append(Result(name, {"fid": Interval.of(x)}, PROTOCOL))
        apart = compare(sides)[0].difference[0]
        held += apart.low <= 2 <= apart.high
    assert 0.92 < held / 400 < 0.98


def test_pairs_tell_apart_what_their_means_do_not() -> None:
    draws = torch.Generator().manual_seed(1)
    one = torch.randn(200, generator=draws, dtype=torch.float64)
    other = one + 0.05 + 0.1 * torch.randn(200, generator=draws, dtype=torch.float64)
    sides = [
        Result(n, {"bits-per-dim": Interval.of(x)}, PROTOCOL, {"bits-per-dim": x})
        for n, x in (("a", one), ("b", other))
    ]
    paired, unpaired = compare(sides)[0], compare([replace(side, each={}) for side in sides])[0]
    assert paired.difference[0].value == pytest.approx(unpaired.difference[0].value)
    assert paired.difference[0].half < 0.15 * unpaired.difference[0].half
    assert paired.verdict == ("worse",)
    assert unpaired.verdict == ("not significant",)
    half_paired = compare([sides[0], replace(sides[1], each={})])[0]
    assert half_paired == unpaired


@pytest.mark.parametrize("fact", [name for name in PROTOCOL if name not in SUBJECT])
def test_other_protocols_are_refused_by_name(fact: str) -> None:
    other: dict[str, Fact] = {**PROTOCOL, fact: 7}
    sides = [result("a", fid=(1, 0.1)), result("b", other, fid=(2, 0.1))]
    words = re.escape(f"a and b were measured by different protocols ({fact}: {PROTOCOL[fact]} and 7)")
    with pytest.raises(ValueError, match=f"{words}.*mixed=True"):
        compare(sides)
    assert compare(sides, mixed=True)[0].verdict == ("worse",)
    del other[fact]
    assert differences(PROTOCOL, other) == [f"{fact}: {PROTOCOL[fact]} and not stated"]
    assert differences(other, PROTOCOL) == [f"{fact}: not stated and {PROTOCOL[fact]}"]


def test_a_third_result_is_held_against_the_first_as_well() -> None:
    sides = [result(name, fid=(value, 0.1)) for name, value in (("a", 2), ("b", 1), ("c", 3))]
    assert compare(sides)[0].verdict == ("better", "worse")
    with pytest.raises(ValueError, match=r"a and c were .*steps: 20 and 5"):
        compare([*sides[:2], replace(sides[2], protocol={**PROTOCOL, "steps": 5})])


def test_the_subject_itself_may_differ() -> None:
    other: dict[str, Fact] = {**PROTOCOL, **dict.fromkeys(SUBJECT, "another")}
    assert compare([result("a", fid=(1, 0.1)), result("b", other, fid=(2, 0.1))])
    assert {"subject", "model", "weights"} <= set(SUBJECT)
    assert not {"seeds", "samples", "features digest", "reference digest", "guidance"} & set(SUBJECT)


def test_what_came_with_the_models_may_differ() -> None:
    sides = [replace(result(n, fid=(value, 0.1)), own={"chain": value}) for n, value in (("a", 1), ("b", 2))]
    assert compare(sides)[0].verdict == ("worse",)


def test_only_what_all_have_is_compared() -> None:
    sides = [result("a", fid=(1, 0.1), kid=(1, 0.1)), result("b", kid=(2, 0.1), recall=(0.5, 0.1))]
    assert [row.metric for row in compare(sides)] == ["kid"]
    with pytest.raises(ValueError, match="metrics: these results have none in common"):
        compare([sides[0], result("c", recall=(0.5, 0.1))])
    with pytest.raises(ValueError, match="at least two results, got 1"):
        compare(sides[:1])


def test_the_page(tmp_path: Path) -> None:
    other: dict[str, Fact] = {**PROTOCOL, "steps": 5}
    sides = [result("first", fid=(5.0, 0.3)), result("second", other, fid=(4.0, 0.4))]
    rows = compare(sides, mixed=True)
    page = write(rows, sides, tmp_path / "deep" / "c", "unsteep compare these", True).read_text(encoding="utf-8")
    for words in (*header(sides), *cells(rows[0]), "unsteep compare these", "steps: 20 and 5", "not to be trusted"):
        assert words.replace("&", "&amp;") in page
    stored = json.loads((tmp_path / "deep" / "c" / "comparison.json").read_text(encoding="utf-8"))
    assert stored["results"] == {"first": PROTOCOL, "second": other}
    assert stored["rows"][0]["verdict"] == ["better"]
    assert stored["rows"][0]["difference"][0] == pytest.approx({"value": -1.0, "low": -1.5, "high": -0.5})
    alike = [sides[0], replace(sides[1], protocol=PROTOCOL, own={"chain": 17})]
    page = write(compare(alike), alike, tmp_path, "unsteep", False).read_text(encoding="utf-8")
    assert "not to be trusted" not in page
    assert "<dt>second, chain</dt><dd>17</dd>" in page
    stored = json.loads((tmp_path / "comparison.json").read_text(encoding="utf-8"))
    assert stored["own"] == {"first": {}, "second": {"chain": 17}}
