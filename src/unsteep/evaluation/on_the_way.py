"""FID while training, as `unsteep evaluate RUN --metrics fid` measures it, of fewer samples: what a run is given to
measure its averaged weights by.

Against the test split where something was held out, else against the training pictures, which rewards copying, and is
said. The features are those of the domain, trained once on the training pictures and kept in the user's cache, where
`unsteep evaluate` finds them, too: numbers of one run are comparable with each other and with its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from unsteep.core.protocols import DataSet
from unsteep.evaluation import evaluate as engine
from unsteep.evaluation.examples import usual_split
from unsteep.evaluation.held import Held, Real
from unsteep.evaluation.pictures import in_bytes
from unsteep.evaluation.subjects import Drawn
from unsteep.features import domain
from unsteep.features.looking import Features, gather
from unsteep.metrics.frechet import fid
from unsteep.metrics.interval import Interval

AT_ONCE = 64  # samples between two questions whether to stop


def fid_on_the_way(run: Any, data: DataSet, task: Any) -> FidOnTheWay:
    """What measures a run's task. ValueError where there is no model that draws pictures, or too few of them."""
    where = "train.evaluate_every"
    try:
        shape = tuple(task.description.space.shape)
        model = task.model if len(shape) == 3 else None
    except AttributeError:
        raise ValueError(f"{where}: FID is of a model that draws, and this run trains none; set it to 0") from None
    if model is None:
        raise ValueError(
            f"{where}: FID is of pictures, and this model makes {task.description.space.describe()}; set it to 0"
        )
    training, held_out = in_bytes(data), usual_split(run.data) == "test"
    real = Real(in_bytes(run.data.read("test")), training, "test") if held_out else Real(training, None, "train")
    found = FidOnTheWay(real, run.train.evaluate_count, str(next(iter(task.trained.values())).device))
    try:
        engine.check(found.subject(model), real, ("fid",))
        if real.few:
            raise ValueError(f"features of the domain are learned from {2 * domain.FEWEST} different pictures or more")
    except ValueError as error:
        raise ValueError(f"{where}: {str(error).removeprefix('evaluate: ')}; set it to 0") from None
    return found


@dataclass(eq=False)
class FidOnTheWay:
    """FID of `count` samples of seeds 0 and up, by the default solver."""

    real: Real
    count: int
    device: str
    _ready: tuple[Features, Held] | None = field(default=None, init=False)

    @property
    def floor(self) -> Interval | None:
        """Of real pictures."""
        return None if self._ready is None else self._ready[1].floors["fid"]

    def about(self) -> str:
        """In words."""
        n, held_out = len(self.real.reference), self.real.training is not None
        against = f"{n:,} held-out pictures" if held_out else f"the {n:,} training pictures, for want of held-out ones"
        return f"FID of {self.count:,} samples against {against}, in features of the domain"

    def subject(self, model: Any) -> Drawn:
        """The samples."""
        return Drawn(model, self.count, 0, "a model on its way", real=self.real.reference)

    def __call__(self, task: Any, stopped: Callable[[], bool]) -> Interval | None:
        """Draws them and measures them; None where it was stopped."""
        if self._ready is None:  # kept for the next time: both take as long as a measurement, or longer
            net = domain.domain_features(self.real.learned_from, device=self.device)
            self._ready = net, Held.of(net, self.real, ("fid",), self.count, net.names)
        features, held = self._ready
        seen = []
        for batch in self.subject(task.model).batches(AT_ONCE):
            if stopped():
                return None
            seen.append(gather(features, [batch]).features)
        return fid(torch.cat(seen), held.reference.features)
