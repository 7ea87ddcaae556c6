"""A process for one library at one task. It is asked on stdin and answers on stdout, one JSON object a line:

    {"do": "train", "times": 3} or {"do": "sample", "times": 5}    ->  {"cpu": seconds, "wall": seconds, "peak": GB}

Its first line, once it is ready, is {"parameters": ...}, or {"error": ...}. Started as `python -m speed.worker TASK`.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from typing import Any


def main() -> None:
    answers = os.fdopen(os.dup(1), "w", buffering=1)  # libraries may print
    os.dup2(2, 1)
    asked = json.loads(sys.argv[1])
    try:
        import torch

        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
        from speed.libraries import Task, made

        task = Task(**{**asked, "settings": tuple(asked["settings"])})
        library = made(task)
    except Exception as error:
        print(json.dumps({"error": f"{type(error).__name__}: {error}"}), file=answers)
        raise
    print(json.dumps({"parameters": sum(p.numel() for p in library.network.parameters())}), file=answers)
    device = torch.device(task.device)

    def do(what: str, times: int) -> dict[str, Any]:
        cpu, wall = time.process_time(), time.perf_counter()
        if what == "sample":
            library.sample(times)
        else:
            for _ in range(times):
                library.train()
        if device.type != "cpu":
            torch.get_device_module(device).synchronize()
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        return {"cpu": cpu, "wall": wall, "peak": peak(device)}

    for line in sys.stdin:
        request = json.loads(line)
        print(json.dumps(do(request["do"], request["times"])), file=answers)


def peak(device: Any) -> float:
    """The most memory that was held, in GB: the process's, or the device's."""
    if device.type == "cuda":
        import torch

        return torch.cuda.max_memory_allocated(device) / 1e9
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


if __name__ == "__main__":
    main()
