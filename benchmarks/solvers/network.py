"""The same comparison on a trained network of pictures.

No exact flow is known, so the answer is that of a third-order method on every level of the chain, in as many calls. Its
own error is far below those compared here; what the network gets wrong is in both, for all are asked to solve the same
equation. Nothing is clipped. Samples flip when the training picture nearest to them is of another class.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from solvers.problems import SCALES, Task
from unsteep.core.chains import Chain
from unsteep.core.condition import Condition
from unsteep.core.noise import NoiseSource
from unsteep.data import AnyData, Folder, Idx
from unsteep.data.idx import FILE_NAME
from unsteep.data.reading import in_memory
from unsteep.denoiser import Denoise
from unsteep.guidance import ClassifierFree
from unsteep.model import Model
from unsteep.opening import load
from unsteep.sampling import DEIS, Frame, grid, sample
from unsteep.sampling.frame import frame_of
from unsteep.training.run import read_run
from unsteep.training.statistics import frame as measured

ANSWER = {
    "tasks": "w is the scale of classifier-free guidance to each sample's own class.",
    "answer": "found by DEIS of order 3 on every level of the chain.",
    "basins": "another class than the answer, by the nearest training picture",
}
PICTURES = 10_000  # of the training data, for the frame and the basins


@dataclass(frozen=True, eq=False)
class Trained:
    """A conditional model guided with `scale`, sample i to class i mod the number of classes."""

    name: str
    says: str
    model: Model
    scale: float
    pictures: Tensor
    """(k, *shape), in the model's units, on its device."""
    classes: Tensor
    """int64 (k,)."""
    atoms: bool = True

    def labels(self, n: int) -> Tensor:
        """The label of each of n samples, int64 (n,)."""
        return torch.arange(n, device=self.model.device) % len(self.model.names)

    def denoise(self, n: int) -> Denoise:
        """The network, guided."""
        return ClassifierFree(self.model.denoiser, Condition(label=self.labels(n)), self.scale)

    def start(self, n: int, seed: int) -> Tensor:
        """float32, on the model's device."""
        x = torch.empty(n, *self.model.space.shape, device=self.model.device)
        return NoiseSource(range(seed, seed + n)).normal(x, draw=0)

    def exact(self, chain: Chain, n: int, seed: int, cache: Path) -> Tensor:
        """By DEIS of order 3 on the whole chain."""
        path = cache / f"trained-{self.name}-{self.fingerprint(n, seed)}.npz"
        if not path.exists():
            whole, x = grid(chain, chain.steps), self.start(n, seed)
            x0 = sample(self.denoise(n), x, whole, DEIS(order=3), NoiseSource(range(n)))
            cache.mkdir(parents=True, exist_ok=True)
            np.savez(path, x0=x0.cpu().numpy())
        return torch.from_numpy(np.load(path)["x0"]).to(self.model.device)

    def basin(self, x0: Tensor) -> Tensor:
        """The class of the nearest training picture."""
        return self.classes[torch.cdist(x0.flatten(1), self.pictures.flatten(1)).argmin(1)]

    def frame(self, n: int) -> Frame:
        """The model's own, or measured on the pictures."""
        statistics = self.model.statistics
        if "mean" not in statistics:
            statistics = measured(self.pictures.cpu(), self.classes.cpu(), len(self.model.names))
        frame = frame_of(statistics, self.labels(n), self.scale)
        assert frame is not None
        return frame

    def fingerprint(self, n: int, seed: int) -> str:
        """Of the weights, the guidance and the noise."""
        digest = hashlib.sha256(repr((self.scale, n, seed, str(self.model.denoiser.schedule))).encode())
        for tensor in self.model.denoiser.state_dict().values():
            digest.update(tensor.double().cpu().numpy().tobytes())
        return digest.hexdigest()[:16]


def tasks_of(run: Path, data: Path | None, device: str) -> tuple[list[Task], list[Chain]]:
    """A task for each of SCALES, and the model's chain. `data`: a folder of idx files or pictures, default what the run
    was trained on. ValueError for a model without classes or without a chain."""
    model = load(run, device=device)
    chain = model.denoiser.schedule
    if not model.names or not isinstance(chain, Chain):
        raise ValueError(f"{run}: expected a model with classes on a chain; train one with condition.label=true")
    if data is None:
        source: AnyData = read_run(run).data
    elif any(FILE_NAME.fullmatch(path.name) for path in data.iterdir()):
        source = Idx(path=str(data))
    else:
        source = Folder(path=str(data))
    training = in_memory(source.read("train"))
    assert training.labels is not None
    pictures = model.space.encode(training.x[:PICTURES]).to(device)
    classes = torch.as_tensor(training.labels[:PICTURES]).long().to(device)
    return [
        Trained(f"trained-cfg{scale:g}", f"trained, w = {scale:g}", model, scale, pictures, classes) for scale in SCALES
    ], [chain]
