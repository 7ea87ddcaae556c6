"""What does a text model make of captions? `python benchmarks/shapes.py runs/shapes [--guidance 1 2 4] [--steps 20]`

A model of drawn shapes is asked for captions of things that it was trained on, and for ones that name a held-out thing,
at each scale of guidance. A checker reads the samples: which share is right, attribute by attribute, beside what it
finds in real pictures of the same captions. Writes index.html and shapes.json, prints the tables: some seven minutes of
a CPU core for a U-Net of width 32.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

import unsteep
from unsteep.data import Shapes
from unsteep.evaluation import shapes_accuracy
from unsteep.evaluation.subjects import weights_at
from unsteep.pages.ours import check_folder
from unsteep.training.run import read_run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--samples", type=int, default=200, help="of each set of captions, at each scale")
    parser.add_argument("--guidance", type=float, nargs="+", default=(1.0, 2.0, 4.0, 8.0), metavar="SCALE")
    parser.add_argument("--steps", type=int, help="of the default solver; default: the model's")
    parser.add_argument("--out", type=Path, default=Path("runs/shapes-captions"))
    parser.add_argument("--device", default="cpu")
    chosen = parser.parse_args()
    check_folder(chosen.out)
    data = read_run(chosen.run).data
    if not isinstance(data, Shapes):
        parser.error(f"{chosen.run}: expected a run of drawn shapes, got one of {type(data).__name__}")

    model = unsteep.load(chosen.run, device=chosen.device)
    console = Console(width=None if sys.stdout.isatty() else 160)
    sets = []
    for name, captions in shapes_accuracy.caption_sets(data, chosen.samples).items():
        found = shapes_accuracy.answers(model, name, captions, chosen.guidance, chosen.steps, shown=True)
        header, rows = found.table()
        table = Table(*header, title=f"{len(captions)} captions of {name}", box=None)
        for row in rows:
            table.add_row(*row)
        console.print(table)
        sets.append(found)
    facts = [*shapes_accuracy.protocol(model, sets, chosen.steps), ("weights", weights_at(chosen.run))]
    command = f"python {shlex.join(sys.argv)}"
    console.print(f"wrote {shapes_accuracy.write(sets, facts, command, chosen.out)}")


if __name__ == "__main__":
    main()
