"""A process that trains one recipe until its CPU seconds are spent, and samples.

`python -m quality.worker CELL FOLDER`: CELL is JSON; the data lie in FOLDER/data.npz. Pictures go to
FOLDER/samples.npz, an array a sampler, and what it took is printed as JSON.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any


def main() -> None:
    cell, folder = json.loads(sys.argv[1]), Path(sys.argv[2])
    print(json.dumps(trained(cell, folder)), file=os.fdopen(os.dup(1), "w"))


def trained(cell: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Trains and samples; what it took."""
    import numpy as np
    import torch

    from quality.recipes import Asked, made

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    with np.load(folder / "data.npz") as held:
        pictures, labels = torch.from_numpy(held["x"]).float() / 127.5 - 1, torch.from_numpy(held["label"])
    asked = Asked(
        library=cell["library"],
        seed=cell["seed"],
        data=cell["data"],
        pictures=pictures,
        labels=labels,
        settings=tuple(cell["settings"]),
    )
    recipe = made(asked)
    began, steps, spent = time.process_time(), 0, 0.0
    while spent < 1:
        recipe.step(spent)
        steps += 1
        spent = (time.process_time() - began) / cell["seconds"]
    found, drawn = {}, {}
    for name, sample in recipe.samplers().items():
        at = time.process_time()
        x = sample(cell["n"], cell["calls"])
        found[name] = time.process_time() - at
        drawn[name] = (x if x.dtype == torch.uint8 else ((x + 1) * 127.5).clamp(0, 255).round().byte()).numpy()
    np.savez_compressed(folder / "samples.npz", **drawn)
    return {
        "steps": steps,
        "trained": spent * cell["seconds"],
        "parameters": sum(p.numel() for p in recipe.network.parameters()),
        "sampling": found,
    }


if __name__ == "__main__":
    main()
