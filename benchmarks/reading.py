"""What reading costs: start-up, memory and waiting against the number of pictures.

    python benchmarks/reading.py [--counts 1000 10000 100000] [--million] [--work DIR]

Small pictures (16 x 16, PNG) in a folder, or a million in 100 tar shards. Each reading is a process of its own: the
first, which decodes everything once, and the second, which finds it in the cache. Memory is what the process has grown
by since its imports, at its peak, divided by the pictures; captions are not read. Waiting is the share of the time of
200 steps of the recipe's network, batch 32, that was spent on getting examples.
"""

import argparse
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

CHILD = """
import json, sys, time
import torch
from unsteep.core.machine import peak_memory
from unsteep.data import Folder
from unsteep.spaces import Pixels
from unsteep.training.batches import Batches
from unsteep.training.settings import TrainConfig
from unsteep.data import decoding
if int(sys.argv[2]):
    decoding.IN_MEMORY = 1
torch.set_num_threads(1)
before, began = peak_memory(), time.perf_counter()
data = Folder(path=sys.argv[1], size=16).read()
digest = data.digest
started = time.perf_counter() - began
batches = Batches(data, Pixels().fitted(data), (), TrainConfig(batch=32, steps=200))
began = time.perf_counter()
for step in range(200):
    for batch, _ in batches(step):
        pass
each = (time.perf_counter() - began) / 200
print(json.dumps({"n": len(data), "start": started, "bytes": (peak_memory() - before) / len(data), "batch": each}))
"""


def png(i: int) -> bytes:
    file = io.BytesIO()
    pixels = np.random.default_rng(i).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((16, 16)).save(file, "PNG")
    return file.getvalue()


def folder(root: Path, n: int) -> str:
    for i in range(n):
        there = root / f"{i // 1000:04}"
        there.mkdir(parents=True, exist_ok=True)
        (there / f"{i:07}.png").write_bytes(png(i))
    return str(root)


def shards(root: Path, n: int, count: int = 100) -> str:
    root.mkdir(parents=True, exist_ok=True)
    for shard in range(count):
        with tarfile.open(root / f"a-{shard:03}.tar", "w", format=tarfile.USTAR_FORMAT) as archive:
            for i in range(shard * n // count, (shard + 1) * n // count):
                content, head = png(i), tarfile.TarInfo(f"{i:07}.png")
                head.size = len(content)
                archive.addfile(head, io.BytesIO(content))
    return str(root / f"a-{{000..{count - 1:03}}}.tar")


def measured(path: str, cache: Path, apart: bool) -> dict[str, float]:
    environment = os.environ | {"UNSTEEP_CACHE": str(cache), "OMP_NUM_THREADS": "1"}
    told = subprocess.run(
        [sys.executable, "-c", CHILD, path, str(int(apart))],
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    return json.loads(told.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--million", action="store_true")
    parser.add_argument("--work", type=Path)
    parser.add_argument("--keep", action="store_true", help="leave what was made in --work, and use what is there")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=asked.work) as work:
        sets = [(f"{n:,} files", lambda n=n: folder(Path(work) / str(n), n)) for n in asked.counts]
        if asked.million:
            sets.append(("1,000,000 in shards", lambda: shards(Path(work) / "shards", 1_000_000)))
        print("pictures              first start   second start   bytes each (second)   ms a batch of 32")
        for name, make in sets:
            path, cache = make(), Path(work) / f"cache {name}"
            first, second = (measured(path, cache, True) for _ in range(2))
            print(
                f"{name:20}  {first['start']:9.1f} s  {second['start']:11.2f} s  {second['bytes']:20.0f}  "
                f"{1000 * second['batch']:17.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
