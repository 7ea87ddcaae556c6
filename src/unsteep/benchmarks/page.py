"""A benchmark as a page and as numbers: index.html and results.json, with its plots beside them."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from unsteep.benchmarks.bench import FORWARD, Benchmark, ByPrecision, What
from unsteep.benchmarks.machine import DTYPES, Rate
from unsteep.pages import Page, plots
from unsteep.pages.files import write_json
from unsteep.pages.html import unbroken

UNITS: dict[What, str] = {"training": "examples/s", "sampling": "network evaluations/s"}
COUNTED = "training in examples/s, sampling in network evaluations/s: median [slowest, fastest round]"
CEILINGS = ("GFLOP/s", *DTYPES, "ratio")
SPEEDS = ("", "batch", *DTYPES, "ratio", "ceiling")
EXPLAINED = f"""
Training counts examples a second of whole steps, from batch to average; sampling counts evaluations of the network a
second, one for each sample and step of DDIM. Each number is the median of rounds in which the precisions took turns,
with the slowest and the fastest of them; the ratio is bf16 over float32. The ceiling, of which a share is reached in
float32 / bf16, is the faster of bare matrix products and convolutions in that
precision; a training step is taken as {FORWARD["training"]} forward passes.
"""


def shown(rate: Rate) -> str:
    """As in 12.3 [11.9, 12.8], the range in brackets."""
    return unbroken(f"{_digits(rate.value)} [{_digits(rate.low)}, {_digits(rate.high)}]")


def _digits(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _compared(found: ByPrecision) -> list[str]:
    return [*(shown(found.rates[precision]) for precision in DTYPES), shown(found.gain)]


def ceiling_rows(found: Benchmark) -> list[list[str]]:
    """The table of ceilings, under `CEILINGS`."""
    return [[kind, *_compared(one)] for kind, one in found.ceilings.items()]


def speed_rows(found: Benchmark) -> list[list[str]]:
    """The table of speeds, under `SPEEDS`."""
    rows = []
    for speed in found.speeds:
        reached = " / ".join(f"{found.reached(speed, precision):.0%}" for precision in DTYPES)
        rows.append([speed.what, str(speed.batch), *_compared(speed.found), reached])
    return rows


def network(found: Benchmark) -> str:
    """What was measured, in one line."""
    return (
        f"{found.network} of {found.subject}: {found.parameters:,} parameters, {found.gflop:.3g} GFLOP a forward pass"
    )


def write(found: Benchmark, out: Path, command: str) -> Path:
    """Writes all into the folder `out`; the page's path."""
    page = Page(f"How fast is {found.subject} here?", network(found))
    page.section("What follows", "\n\n".join(f"{line[0].upper()}{line[1:]}." for line in found.verdict))
    page.section("The network", EXPLAINED)
    page.table(speed_rows(found), SPEEDS)
    for what, unit in UNITS.items():
        of = [speed for speed in found.speeds if speed.what == what]
        rates = {precision: [speed.found.rates[precision] for speed in of] for precision in DTYPES}
        columns = {
            str(precision): [
                [speed.batch for speed in of],
                *([getattr(rate, name) for rate in each] for name in ("value", "low", "high")),
            ]
            for precision, each in rates.items()
        }
        path = plots.lines(
            out / f"{what}.png", columns, xlabel="batch", ylabel=unit, title=what.capitalize(), xlog=True
        )
        page.figure(path)
    page.section("The machine").facts(found.machine.facts)
    page.table(ceiling_rows(found), CEILINGS)
    page.facts([("took", f"{found.seconds:.0f} s")])
    page.section("To repeat it").code(command)
    where = page.write(out / "index.html")
    write_json({"command": command, "verdict": found.verdict, **asdict(found)}, out / "results.json")
    return where
