"""What is told before the first step of a training beside what it takes: `python benchmarks/memory.py [NAME ...]`

Networks on which nothing of the estimate was chosen, each in a process of its own, three steps in float32 on one
thread. The peak is the maximum resident set of the process. Time does not matter; memory is that of the allocator as
the command line sets it.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from typing import Any

NETWORKS: dict[str, Callable[[], tuple[Any, tuple[int, ...], dict[str, Any]]]] = {
    "diffusion transformer, 192 wide, 6 deep, patches of 2, 32 x 32, batch 64": lambda: _with(
        "DiTConfig", (3, 32, 32), batch=64, width=192, depth=6, heads=3
    ),
    "the same, checkpointing": lambda: _with(
        "DiTConfig", (3, 32, 32), batch=64, width=192, depth=6, heads=3, checkpointing=True
    ),
    "transformer of sequences, 256 wide, 6 deep, 128 frames of 96, batch 64": lambda: _with(
        "SequenceConfig", (128, 96), batch=64, width=256, depth=6
    ),
    "the same, checkpointing, batch 128": lambda: _with(
        "SequenceConfig", (128, 96), batch=128, width=256, depth=6, checkpointing=True
    ),
    "MLP, 1024 wide, 4 deep, vectors of 64, batch 4096": lambda: _with(
        "MLPConfig", (64,), batch=4096, width=1024, depth=4
    ),
    "preset small, 128 x 128, batch 32": lambda: _with("small", (3, 128, 128), batch=32),
    "preset medium, 28 x 28 in grey, batch 128": lambda: _with("medium", (1, 28, 28), batch=128),
    "preset large, 32 x 32, batch 32, checkpointing": lambda: _with("large", (3, 32, 32), batch=32, checkpointing=True),
    "U-Net, 48 wide, four levels, attention, 48 x 48, batch 24": lambda: _with(
        "UNetConfig", (3, 48, 48), batch=24, width=48, multipliers=(1, 2, 3, 4), attention=(12,)
    ),
    "the same, two parts of a batch": lambda: _with(
        "UNetConfig", (3, 48, 48), batch=24, accumulate=2, width=48, multipliers=(1, 2, 3, 4), attention=(12,)
    ),
}


def _with(
    name: str, shape: tuple[int, ...], *, batch: int, checkpointing: bool = False, accumulate: int = 1, **fields: Any
) -> tuple[Any, tuple[int, ...], dict[str, Any]]:
    """A network, the shape of an example, and settings of training."""
    from unsteep import networks

    cls: Any = getattr(networks, name, None)
    network = networks.preset(name, max(shape[1:])) if cls is None else cls(**fields)  # type: ignore[arg-type]
    return network, shape, {"batch": batch, "checkpointing": checkpointing, "accumulate": accumulate}


def measured(name: str) -> dict[str, float]:
    """In this process: what is told, and the peak."""
    from unsteep.cli.allocator import keep_freed

    keep_freed()
    import torch

    from unsteep.data import Examples
    from unsteep.data.given import Given
    from unsteep.model import ModelConfig
    from unsteep.training.denoising import Run
    from unsteep.training.loop import train
    from unsteep.training.memory import expected_memory
    from unsteep.training.settings import TrainConfig

    torch.set_num_threads(1)
    network, shape, how = NETWORKS[name]()
    x = torch.randn(2 * how["batch"], *shape, generator=torch.Generator().manual_seed(0))
    valid = torch.ones(len(x), shape[0], dtype=torch.bool) if len(shape) == 2 else None
    pictures = len(shape) == 3
    examples = Examples((128 + 30 * x).clamp(0, 255).byte()) if pictures else Examples(x, valid=valid, levels=None)
    config = TrainConfig(steps=3, **how)
    run = Run(data=Given.of(examples), model=ModelConfig(network=network, prediction="v"), train=config)
    task = run.made(examples, "cpu")
    told = expected_memory(task)
    assert told is not None
    for _ in train(task, config):
        pass
    return {"told": told, "peak": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="those whose names contain one of these; default: all")
    parser.add_argument("--here", action="store_true", help="in this process, as JSON")
    chosen = parser.parse_args()
    some = [one for one in NETWORKS if not chosen.names or any(name in one for name in chosen.names)]
    if chosen.here:
        print(json.dumps(measured(chosen.names[0])))
        return
    print("| | told | peak | error |\n|---|---|---|---|")
    for name in some:
        command = [sys.executable, __file__, name, "--here"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{name}: it failed\n{done.stderr}")
        found = json.loads(done.stdout.splitlines()[-1])
        told, peak = found["told"], found["peak"]
        print(f"| {name} | {told / 1e9:.2f} GB | {peak / 1e9:.2f} GB | {100 * (told / peak - 1):+.0f}% |", flush=True)


if __name__ == "__main__":
    main()
