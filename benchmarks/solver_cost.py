"""What a solver's own arithmetic costs beside the network: CPU time of its steps with a network that answers at once,
over that of the calls of the 35.7M-parameter U-Net of the DDPM paper on CIFAR-10, on one thread.

    python benchmarks/solver_cost.py [--batch 1]
"""

import argparse
import time
from collections.abc import Callable

import torch
from torch import Tensor

from unsteep.core.chains import LinearBetas
from unsteep.core.estimate import Estimate
from unsteep.core.level import NoiseLevel
from unsteep.core.noise import NoiseSource
from unsteep.networks import UNetConfig
from unsteep.sampling import SOLVERS, Frame, GaussianFrame, Solver, grid, sample

STEPS, DIRECTIONS = 20, 256


def cpu_seconds(run: Callable[[], object], times: int) -> float:
    """The best of `times` runs, in CPU seconds."""
    seconds = []
    for _ in range(times):
        began = time.process_time()
        run()
        seconds.append(time.process_time() - began)
    return min(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=1)
    batch = parser.parse_args().batch
    torch.set_num_threads(1)
    schedule, shape = LinearBetas(), (batch, 3, 32, 32)
    noise = NoiseSource(range(batch))
    x = noise.normal(torch.empty(shape), draw=0)
    network = UNetConfig(channels=3, size=32, out_channels=3).build().eval()
    with torch.no_grad():
        call = cpu_seconds(lambda: network(x, torch.full((batch,), 500.0)), 5)
    parameters = sum(p.numel() for p in network.parameters())
    print(f"one call of {parameters:,} parameters, batch {batch}: {1000 * call:.0f} ms\n")

    calls = 0

    def answer(x_t: Tensor, level: NoiseLevel) -> Estimate:
        nonlocal calls
        calls += 1
        return Estimate("v", x, x_t, level)

    d = x[0].numel()
    basis = torch.linalg.qr(torch.randn(d, DIRECTIONS, generator=torch.Generator().manual_seed(0))).Q
    frame = Frame.of(torch.zeros(shape[1:]), torch.full((DIRECTIONS + 1,), 0.5), basis)
    solvers: dict[str, Solver] = {**SOLVERS, f"gaussian-frame, {DIRECTIONS} directions": GaussianFrame(frame=frame)}
    levels = grid(schedule, STEPS)
    for name, solver in solvers.items():
        calls = 0
        own = cpu_seconds(lambda: sample(answer, x, levels, solver, noise, schedule.inverse), 5)  # noqa: B023
        each = calls / 5
        print(f"{name:>32}  {1000 * own / each:6.2f} ms a call, {100 * own / each / call:5.2f}%")


if __name__ == "__main__":
    main()
