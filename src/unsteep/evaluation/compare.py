"""Two or more evaluations against each other: each metric's difference to the first, and whether it is significant.

The interval of a difference is that of two independent estimates, sqrt(half_a^2 + half_b^2) around it; of bits per
dimension, measured on the same pictures with the same noise, that of the mean of paired differences. Where it holds 0
the difference is not significant. Results of different protocols are refused, unless that is asked for.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from torch import Tensor

from unsteep.evaluation.page import shown
from unsteep.evaluation.protocol import Fact, differences
from unsteep.metrics.interval import Interval
from unsteep.metrics.measures import BETTER
from unsteep.pages import Page
from unsteep.pages.files import write_json

Verdict = str  # better, worse, not significant


@dataclass(frozen=True, eq=False)
class Result:
    """One side: `values` by metric, its `protocol`, and `each`, one value for each example where those are paired.
    `own`: facts that came with the model itself, and may differ."""

    name: str
    values: Mapping[str, Interval]
    protocol: Mapping[str, Fact]
    each: Mapping[str, Tensor] = field(default_factory=dict)
    own: Mapping[str, Fact] = field(default_factory=dict)


@dataclass(frozen=True)
class Compared:
    """A metric of each result; `difference` and `verdict` of each but the first against it."""

    metric: str
    values: tuple[Interval, ...]
    difference: tuple[Interval, ...]
    verdict: tuple[Verdict, ...]


def compare(results: Sequence[Result], *, mixed: bool = False) -> list[Compared]:
    """The metrics that all of at least two results have. ValueError where protocols differ, unless `mixed`."""
    if len(results) < 2:
        raise ValueError(f"compare: expected at least two results, got {len(results)}")
    first, others = results[0], results[1:]
    for other in others:
        apart = differences(first.protocol, other.protocol)
        if apart and not mixed:
            raise ValueError(
                f"compare: {first.name} and {other.name} were measured by different protocols ({'; '.join(apart)}); "
                "measure both alike, or compare all the same, with mixed=True"
            )
    shared = [name for name in first.values if all(name in other.values for other in others)]
    if not shared:
        raise ValueError("metrics: these results have none in common; measure both by the same")
    rows = []
    for name in shared:
        apart_by = tuple(_difference(name, first, other) for other in others)
        verdicts = tuple(_verdict(name, one) for one in apart_by)
        rows.append(Compared(name, tuple(one.values[name] for one in results), apart_by, verdicts))
    return rows


def _difference(name: str, a: Result, b: Result) -> Interval:
    """b - a."""
    if name in a.each and name in b.each:
        return Interval.of(b.each[name] - a.each[name])
    one, other = a.values[name], b.values[name]
    apart = other.value - one.value
    low = math.hypot(other.value - other.low, one.high - one.value)
    high = math.hypot(other.high - other.value, one.value - one.low)
    return Interval(apart, apart - low, apart + high)


def _verdict(name: str, apart: Interval) -> Verdict:
    if apart.low <= 0 <= apart.high:
        return "not significant"
    better = BETTER.get(name, "")
    if not better:
        return "higher" if apart.value > 0 else "lower"
    return "better" if (apart.value < 0) == (better == "lower") else "worse"


def header(results: Sequence[Result]) -> list[str]:
    """Of the table of rows."""
    columns = ["metric", *(result.name for result in results)]
    for other in results[1:]:
        columns += [f"{other.name} - {results[0].name}", "and so"]
    return columns


def cells(row: Compared) -> list[str]:
    """One line of that table."""
    line = [row.metric, *map(shown, row.values)]
    for apart, verdict in zip(row.difference, row.verdict, strict=True):
        line += [apart.bracketed(signed=True), verdict]
    return line


def write(rows: Sequence[Compared], results: Sequence[Result], out: Path, command: str, mixed: bool) -> Path:
    """The page and comparison.json in `out`; the page's path."""
    out.mkdir(parents=True, exist_ok=True)
    page = Page(" or ".join(result.name for result in results), "A comparison")
    if mixed:
        apart = {text for other in results[1:] for text in differences(results[0].protocol, other.protocol)}
        page.text(f"Mind: measured by different protocols ({'; '.join(sorted(apart))}), and so not to be trusted.")
    page.section("The numbers", "Intervals are of 95%. A difference whose interval holds 0 is not significant.")
    page.table([cells(row) for row in rows], header(results))
    page.section("Protocol").facts([(name, value) for name, value in results[0].protocol.items() if value is not None])
    own = [(f"{result.name}, {name}", value) for result in results for name, value in result.own.items()]
    if own:
        page.section("Of each model").facts(own)
    page.section("To repeat it").code(command)
    where = page.write(out / "index.html")
    write_json(
        {
            "command": command,
            "mixed": mixed,
            "results": {result.name: dict(result.protocol) for result in results},
            "own": {result.name: dict(result.own) for result in results},
            "rows": [asdict(row) for row in rows],
        },
        out / "comparison.json",
    )
    return where
