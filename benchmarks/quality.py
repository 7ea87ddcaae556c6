"""How good after how long? `../peers/bin/python benchmarks/quality.py --data DIR --out runs/quality`

Fashion-MNIST: the recipe of unsteep and those of diffusers', azula's and smalldiffusion's own examples, each trained on
one thread for the same CPU seconds, and sampled at the same number of calls; FID, KID and recall by unsteep's protocol.
Or pictures without classes, an .npz as `python -m quality.colours FOLDER` makes of a folder: a fifth is held out.
What is done is kept in results.jsonl, and the same command goes on where it was interrupted. Writes index.html, prints
the table. The libraries need an environment of their own, see benchmarks/peers.txt.

    --ours NAME KEY=VALUE ...    another recipe of ours, with these settings, as --ours flow schedule=Flow
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from quality import page
from quality.recipes import HELD_OUT
from rich.console import Console
from speed.rounds import environment

import unsteep
from unsteep.core.machine import machine
from unsteep.data import Array, Idx
from unsteep.evaluation.evaluate import Evaluation
from unsteep.pages import grid, save
from unsteep.pages.ours import check_folder

LIBRARIES = ("unsteep", "diffusers", "azula", "smalldiffusion")
METRICS = ("fid", "kid", "recall")
PROTOCOL = ("reference", "reference pictures", "features", "features digest")
SHOWN = 30


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", type=Path, required=True, help="the folder of Fashion-MNIST's idx files, or an .npz of pictures"
    )
    parser.add_argument("--out", type=Path, default=Path("runs/quality"))
    parser.add_argument("--libraries", nargs="+", choices=LIBRARIES, default=list(LIBRARIES))
    parser.add_argument("--ours", nargs="+", action="append", default=[], metavar=("NAME", "KEY=VALUE"))
    parser.add_argument("--seconds", type=float, default=480.0, help="CPU seconds of training")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("-n", type=int, default=512, help="samples")
    parser.add_argument("--calls", type=int, default=20, help="network calls of a sample")
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


def asked(chosen: argparse.Namespace) -> list[dict[str, Any]]:
    """The cells: seeds first, so that a run that is stopped has compared all."""
    named = [(name, name, []) for name in chosen.libraries] + [(one[0], "unsteep", one[1:]) for one in chosen.ours]
    return [
        {
            "name": name,
            "library": library,
            "settings": settings,
            "seed": seed,
            "seconds": chosen.seconds,
            "n": chosen.n,
            "calls": chosen.calls,
            "threads": chosen.threads,
            "data": str(chosen.data),
            "pictures": chosen.data.stem,
        }
        for seed in chosen.seeds
        for name, library, settings in named
    ]


def main() -> None:
    chosen = options()
    check_folder(chosen.out)
    console = Console(width=None if sys.stdout.isatty() else 140)
    torch.set_num_threads(chosen.threads)
    source, kept = source_of(str(chosen.data)), chosen.out / "results.jsonl"
    training = source.read("train")
    work = chosen.out / "work"
    work.mkdir(parents=True, exist_ok=True)
    labels = torch.zeros(len(training), dtype=torch.int64) if training.labels is None else training.labels
    np.savez(work / "data.npz", x=training.x.numpy(), label=labels.numpy())
    done = [json.loads(line) for line in kept.read_text().splitlines()] if kept.exists() else []
    cells = asked(chosen)
    for cell in cells:
        if any(is_of(one, cell) for one in done):
            continue
        console.print(f"{cell['name']}, seed {cell['seed']}: {cell['seconds']:g} CPU seconds", highlight=False)
        found = measured(cell, work, source, chosen.out)
        done.append({**cell, **found})
        with kept.open("a") as file:
            print(json.dumps(done[-1]), file=file)
    mine = [one for one in done if any(is_of(one, cell) for cell in cells)]
    rows = page.rows(mine)
    sheets = {
        f"{row.name}, {row.sampler}": Image.open(chosen.out / row.cells[0]["samplers"][row.sampler]["sheet"])
        for row in rows
    }
    facts = [
        *machine().facts,
        (
            "trained",
            f"{chosen.seconds:g} CPU seconds on {chosen.threads} threads; seeds {', '.join(map(str, chosen.seeds))}",
        ),
        ("sampled", f"{chosen.n} at {chosen.calls} calls"),
        *((name, str(mine[0]["protocol"][name])) for name in PROTOCOL),
    ]
    page.show(rows, console)
    command = f"../peers/bin/python {shlex.join(sys.argv)}"
    console.print(f"wrote {page.write(rows, sheets, facts, command, chosen.out)}")


def source_of(path: str) -> Array | Idx:
    """The pictures at a path, with some of them held out."""
    return Array(path=path, holdout=HELD_OUT) if path.endswith(".npz") else Idx(path=path)


def is_of(kept: Mapping[str, Any], cell: Mapping[str, Any]) -> bool:
    """Whether what was kept is of this cell."""
    return all(kept.get(key, value) == value for key, value in cell.items() if key != "data")  # which may have moved


def measured(cell: Mapping[str, Any], work: Path, source: Array | Idx, out: Path) -> dict[str, Any]:
    """Trains a cell in a process of its own, and measures its samples. Exits with what the process said if it fails."""
    command = [sys.executable, "-m", "quality.worker", json.dumps(cell), str(work)]
    finished = subprocess.run(command, env=environment(cell["threads"]), capture_output=True, text=True, check=False)
    if finished.returncode:
        raise SystemExit(f"{cell['name']}: it failed with exit code {finished.returncode}\n{finished.stderr}")
    said = json.loads(finished.stdout.splitlines()[-1])
    samplers, protocol = {}, {}
    with np.load(work / "samples.npz") as drawn:
        for sampler in drawn.files:
            pictures = torch.from_numpy(drawn[sampler])
            evaluation: Evaluation = unsteep.evaluate(pictures, source, n=len(pictures), metrics=METRICS, device="cpu")
            sheet = f"{cell['name']}-{cell['seed']}-{cell['seconds']:g}-{sampler}.png".replace(" ", "-")
            save(grid(pictures[:SHOWN].numpy(), columns=10), out / sheet)
            values = {name: vars(value) for name, value in evaluation.values.items()}
            samplers[sampler] = {"cpu": said["sampling"][sampler], "values": values, "sheet": sheet}
            protocol = {name: value for name, value in evaluation.protocol.items() if value is not None}
    return {
        **{key: said[key] for key in ("steps", "trained", "parameters")},
        "samplers": samplers,
        "protocol": protocol,
    }


if __name__ == "__main__":
    main()
