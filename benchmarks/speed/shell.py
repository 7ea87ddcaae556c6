"""Whole processes, as a user starts them from a shell: what an import costs, and the first 64 pictures at 20 calls.

`python -m speed.shell LIBRARY FOLDER` is such a process for a library that has no command line: it opens the weights in
FOLDER, samples, and writes the pictures. With --prepare it writes the weights of the small network, untrained.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from speed.rounds import environment

PICTURES, CALLS = 64, 20
IMPORTS = {
    "unsteep": "import unsteep; unsteep.Model, unsteep.train",
    "diffusers": "from diffusers import UNet2DModel, DDIMScheduler",
    "smalldiffusion": "from speed.libraries import stand_in\nwith stand_in(): import smalldiffusion",
    "denoising-diffusion-pytorch": "from speed.libraries import stand_in\n"
    "with stand_in(): import denoising_diffusion_pytorch",
    "azula": "import azula.nn.unet, azula.denoise, azula.sample",
}


@dataclass(frozen=True)
class Whole:
    """A kind of process, by library: CPU and wall-clock seconds of each round, and the peak of its memory in GB."""

    what: str
    library: str
    cpu: Sequence[float]
    wall: Sequence[float]
    peak: float


def whole(libraries: Sequence[str], rounds: int, threads: int, folder: Path, say: Callable[[str], None]) -> list[Whole]:
    """Whole processes that take turns. `folder`: for weights and pictures."""
    commands: dict[tuple[str, str], list[str]] = {}
    for library in libraries:
        here = folder / library
        here.mkdir(parents=True, exist_ok=True)
        run = [sys.executable, "-m", "speed.shell", library, str(here)]
        if subprocess.run(
            [*run, "--prepare"], env=environment(threads), stderr=subprocess.DEVNULL, check=False
        ).returncode:
            say(f"left out  {library}, whose process fails")
            continue
        if library == "unsteep":
            run = [sys.executable, "-m", "unsteep", "sample", str(here / "model"), "-n", str(PICTURES)]
            run += ["--steps", str(CALLS), "--solver", "ddim", "--device", "cpu", "--out", str(here / "pictures.npz")]
        commands["import", library] = [sys.executable, "-c", IMPORTS[library]]
        commands[f"first {PICTURES} pictures at {CALLS} calls", library] = run
    found: dict[tuple[str, str], list[tuple[float, float, float]]] = {}
    for turn in range(rounds):
        order = list(commands.items())
        random.Random(turn).shuffle(order)
        for of, command in order:
            found.setdefault(of, []).append(timed(command, threads))
    return [
        Whole(what, library, *([one[i] for one in found[what, library]] for i in (0, 1)), found[what, library][-1][2])
        for what, library in commands
    ]


def timed(command: Sequence[str], threads: int) -> tuple[float, float, float]:
    """CPU seconds, wall-clock seconds and peak memory of a process."""
    began = time.perf_counter()
    process = subprocess.Popen(command, env=environment(threads), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise ValueError(
            f"{' '.join(command)}: expected it to succeed, got exit code {process.returncode}; run it alone"
        )
    return used.ru_utime + used.ru_stime, time.perf_counter() - began, used.ru_maxrss * 1024 / 1e9


def main() -> None:
    name, folder = sys.argv[1], Path(sys.argv[2])
    import torch

    from speed.libraries import Task, made

    library = made(Task(library=name, size="small", batch=PICTURES))
    weights = folder / "weights.pt"
    if "--prepare" in sys.argv:
        if hasattr(library, "model"):
            library.model.save(folder / "model")
        torch.save(library.network.state_dict(), weights)
        return
    library.network.load_state_dict(torch.load(weights, weights_only=True))
    import numpy as np

    x = library.sample(CALLS)
    np.savez_compressed(folder / "pictures.npz", x=((x + 1) * 127.5).clamp(0, 255).round().byte().numpy())


if __name__ == "__main__":
    main()
