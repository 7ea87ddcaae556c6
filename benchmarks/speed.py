"""How fast are training and sampling beside other libraries? `../peers/bin/python benchmarks/speed.py --out runs/speed`

Interleaved, one process a library, on one thread, at small, CIFAR-10 and DiT size, in float32 and, where the processor
has it, bf16: medians of ratios with their range, peak memory, ceilings, whole processes from a shell, and unsteep
beside itself as a control. Writes results.json and index.html, prints the tables; about 40 minutes of a quiet core.
The libraries need an environment of their own:

    python -m venv ../peers
    ../peers/bin/pip install -c constraints.txt -e .
    ../peers/bin/pip install --no-deps -r benchmarks/peers.txt
"""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from dataclasses import asdict
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from rich.console import Console
from speed import page
from speed.libraries import LIBRARIES, Task
from speed.rounds import Cell, measured
from speed.shell import Whole, whole
from speed.sizes import SIZES

from unsteep.benchmarks.machine import CEILINGS, Ceiling, Rate, bare, rate_of
from unsteep.core.machine import machine
from unsteep.core.precision import Precision
from unsteep.pages.files import write_json
from unsteep.pages.ours import check_folder

PRECISIONS = ("float32", "bf16")


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/speed"))
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--batches", nargs="+", type=int, help="default: those of each size")
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, help="default: those that the machine has")
    parser.add_argument("--libraries", nargs="+", choices=LIBRARIES, default=list(LIBRARIES), help="default: all")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=2.0, help="about how long ours works in a round")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--no-shell", action="store_true", help="leave out whole processes")
    parser.add_argument(
        "--set", dest="settings", action="append", default=[], metavar="KEY=VALUE",
        help="time another network of ours, too, with this changed, as model.network=DiT; may be repeated",
    )  # fmt: skip
    return parser.parse_args()


def main() -> None:
    chosen = options()
    check_folder(chosen.out)
    torch.set_num_threads(chosen.threads)
    console, began = Console(width=None if sys.stdout.isatty() else 160), time.monotonic()
    found = machine(chosen.device)
    precisions = chosen.precisions or (PRECISIONS if found.bf16 else PRECISIONS[:1])
    ceilings = {kind: {one: _ceiling(kind, one, chosen.device) for one in precisions} for kind in CEILINGS}
    left_out = [f"{name} is not installed" for name in chosen.libraries if find_spec(LIBRARIES[name].imports) is None]
    if "unsteep" not in chosen.libraries:
        raise SystemExit("--libraries: expected unsteep among them, which the others are held against")
    there = [name for name in chosen.libraries if find_spec(LIBRARIES[name].imports) is not None]
    there.sort(key=lambda name: name != "unsteep")  # the first
    cells: list[Cell] = []
    wholes: list[Whole] = []
    command = f"../peers/bin/python {shlex.join(sys.argv)}"

    def kept() -> page.Results:
        """Writes what there is so far."""
        results = page.Results(
            machine=found,
            threads=chosen.threads,
            rounds=chosen.rounds,
            ceilings=ceilings,
            cells=cells,
            whole=wholes,
            left_out=list(dict.fromkeys(left_out)),
            versions={name: _version(name) for name in there if name != page.CONTROL},
            seconds=time.monotonic() - began,
        )
        write_json({"command": command, **asdict(results)}, chosen.out / "results.json")
        page.write(results, command, chosen.out)
        return results

    for size in chosen.sizes:
        for batch in chosen.batches or SIZES[size].batches:
            for precision in precisions:
                of = partial(Task, size=size, batch=batch, precision=precision, device=chosen.device)
                tasks = [of(library=name) for name in there if size in LIBRARIES[name].sizes]
                tasks += [of(library="unsteep", settings=tuple(chosen.settings))] if chosen.settings else []
                console.print(f"{size}, batch {batch}, {precision}: {(time.monotonic() - began) / 60:.1f} min so far")
                cells += measured(tasks, chosen.rounds, chosen.seconds, chosen.threads, left_out.append)
                kept()
    if not chosen.no_shell:
        console.print(f"whole processes: {(time.monotonic() - began) / 60:.1f} min so far")
        with TemporaryDirectory() as folder:
            some = [name for name in there if name != page.CONTROL]
            wholes += whole(some, min(chosen.rounds, 5), chosen.threads, Path(folder), left_out.append)
    page.show(kept(), console)
    console.print(f"wrote {chosen.out / 'index.html'}")


def _ceiling(kind: Ceiling, precision: Precision, device: str) -> Rate:
    work = bare(kind, device, precision)
    work()
    return Rate.of([rate_of(work, 0.5, device) for _ in range(5)])


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:  # from a checkout that is not installed
        import unsteep

        return unsteep.__version__


if __name__ == "__main__":
    main()
