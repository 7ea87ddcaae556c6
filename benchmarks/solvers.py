"""Which solver is the most accurate for a number of network calls? `python benchmarks/solvers.py --out runs/solvers`

Mixtures whose denoiser and probability flow are known exactly, with and without guidance, on the linear and the cosine
chain: the solvers of unsteep beside every deterministic scheduler of diffusers, from the same noise, with the same
number of calls. The peers need an environment of their own: pip install -e ".[benchmarks]". Writes results.json and
index.html, prints the tables. What diffusers answers is kept in --cache: half an hour on one core, then ten minutes.

--model RUN compares on a trained network instead, against the answer of 1000 steps.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import torch
from rich.console import Console
from solvers import network, page, peers, problems
from solvers.cells import Set, our_cells, peer_cells
from solvers.ours import DEFAULT

from unsteep.core.chains import CosineBetas, LinearBetas
from unsteep.pages.files import write_json

CALLS = (5, 8, 10, 20, 50)
QUICK = ("plane-10", "gauss16-10-cfg3")


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/solvers"))
    parser.add_argument("--cache", type=Path, help="default: cache beside --out")
    parser.add_argument(
        "--tasks", nargs="+", metavar="NAME", choices=(names := problems.problems()), help=f"of {', '.join(names)}"
    )
    parser.add_argument("--solvers", nargs="+", default=(), metavar="NAME", help="ours; default: all")
    parser.add_argument("--default", default=DEFAULT, help="what is shown as our default, as it is named")
    parser.add_argument("--calls", type=int, nargs="+", default=CALLS)
    parser.add_argument("--samples", type=int, help="default: 256, of a network 32")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--snapped", action="store_true", help="our levels on the chain's own, not between them")
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--shortlist", action="store_true", help="only the schedulers of diffusers that matter most")
    parser.add_argument("--quick", action="store_true", help=f"--shortlist on {' and '.join(QUICK)} at 5, 10, 20 calls")
    parser.add_argument("--model", type=Path, help="a run of a picture model: compare on it")
    parser.add_argument("--data", type=Path, help="where its data lie, if not where they did")
    parser.add_argument("--device", default="cpu")
    return parser.parse_args()


def main() -> None:
    chosen = options()
    started, console = time.monotonic(), Console(width=None if sys.stdout.isatty() else 200)
    cache = chosen.cache or chosen.out / "cache"
    calls = (5, 10, 20) if chosen.quick else tuple(chosen.calls)
    samples = chosen.samples or (32 if chosen.model else 256)
    if chosen.model:
        tasks, chains = network.tasks_of(chosen.model, chosen.data, chosen.device)
    else:
        known = problems.problems()
        tasks = [known[name] for name in chosen.tasks or (QUICK if chosen.quick else known)]
        chains = [LinearBetas(), CosineBetas()]
    cells = []
    for chain in chains:
        compared = Set(tasks, chain, samples, chosen.seed, cache)
        console.print(f"{compared.name}: {len(tasks)} tasks, {(time.monotonic() - started) / 60:.1f} min so far")
        cells += our_cells(compared, calls, tuple(chosen.solvers), chosen.snapped)
        if not chosen.no_peers:
            some = (peers.shortlist if chosen.shortlist or chosen.quick else peers.peers)(chain)
            cells += peer_cells(compared, calls, some)
    facts = [
        ("samples of each task", f"{samples}, the noise of seeds {chosen.seed} and up"),
        ("our levels", "the chain's own" if chosen.snapped else "between those of the chain, interpolated"),
        ("schedulers of diffusers", f"{len({cell.solver for cell in cells if cell.side == 'diffusers'})} settings"),
        ("versions", ", ".join(f"{name} {version(name)}" for name in ("unsteep", "diffusers", "torch"))),
        ("took", f"{(time.monotonic() - started) / 60:.1f} min on {torch.get_num_threads()} threads"),
    ]
    results = page.Results(cells, chosen.default)
    write_json({"facts": dict(facts), "cells": [asdict(cell) for cell in cells]}, chosen.out / "results.json")
    introduction = page.INTRODUCTION.format(**(network if chosen.model else problems).ANSWER)
    says = {task.name: task.says for task in tasks}
    command = f"python {shlex.join(sys.argv)}"
    written = page.write(results, introduction, says, facts, command, chosen.out / "index.html")
    page.show(results, console)
    console.print(f"wrote {written}")


if __name__ == "__main__":
    main()
