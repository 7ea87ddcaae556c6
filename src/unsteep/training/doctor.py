"""Whether a training goes well, told from its losses and the norms of its gradients; what is done where it does not.

The median of the last `WINDOW` losses is held against the lowest such median so far, and so is that of the gradients'
norms. Within `HEALTHY` times (norms: `STEEP`), or below what the run began with, a checkpoint may be good; it is known
to be where the loss of the next step, the first of its weights, was in bounds, too. Beyond `GROWN` times it is said
once. Beyond `LOST` times, and `LOST_FIRST` times the first loss, or where a number is not finite, the training has
diverged; before there are so many losses, only `EARLY` times the first is too much. It then goes back to the last
checkpoint that is known to be good, or to its beginning, with the rate divided by `SOFTER`, `CURES` times at most. All
that is a function of the log, so that a run that is stopped and resumed is judged as one that was not.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from statistics import median
from typing import Any

import torch
from torch import Tensor

from unsteep.training.loop import Diverged, State
from unsteep.training.settings import TrainConfig

WINDOW = 20  # steps
HEALTHY, GROWN, LOST, LOST_FIRST = 3.0, 3.0, 30.0, 3.0
STEEP = 30.0
FIRST = 5  # numbers that say what it began with
EARLY = 1e3  # times the first loss, in the first steps
SOFTER = 10.0


class Doctor:
    """Hears every step's record, as the log has it. Where the objective of its `run` `begins(step)` anew at step 0, 1,
    ..., as with another teacher, losses before it tell nothing of those after."""

    def __init__(self, past: Iterable[Mapping[str, Any]] = (), run: Any = None) -> None:
        self._begins: Callable[[int], bool] = getattr(getattr(run, "objective", None), "begins", lambda step: False)
        self._losses, self._norms = Band(), Band()
        self._told = False
        for record in past:
            if isinstance(record.get("loss"), float | int):
                self._hear(record["step"], record["loss"], record.get("gradient_norm"))

    def _hear(self, step: int, loss: float, norm: float | None) -> None:
        if self._begins(step - 1):
            self._losses, self._norms = Band(), Band()
        self._losses.hear(loss)
        self._norms.hear(norm)

    def hear(self, step: int, loss: float, norm: float | None) -> str:
        """Step 1, 2, ... was taken. What is to be said of it; mostly nothing. Diverged where the loss is lost."""
        self._hear(step, loss, norm)
        if len(self._losses) < WINDOW:  # too few to tell noise from growth, unless there is no doubt
            if self._losses.leapt(EARLY):
                raise Diverged(f"the loss has grown from {self._losses.least:.4g} to {self._losses.now:.4g}")
            return ""
        grown = f"the loss has grown from {self._losses.lowest:.4g} to {self._losses.now:.4g}"
        if self._losses.beyond(LOST, LOST_FIRST):
            raise Diverged(grown)
        if self._losses.beyond(GROWN) and not self._told:
            self._told = True
            return f"{grown}; the rate may be too high"
        return ""

    def check_end(self, loss: float) -> None:
        """Diverged where the loss of the last weights, which no step follows, is lost."""
        if not math.isfinite(loss) or self._losses.lost(loss, EARLY):
            raise Diverged(f"after the last step the loss is {loss:.4g}")

    @property
    def healthy(self) -> bool:
        """Whether a checkpoint of this moment is known to be good."""
        few = len(self._losses) < WINDOW
        if few:
            return not self._losses.leapt(EARLY)
        return not self._losses.beyond(HEALTHY) and not self._norms.beyond(STEEP)


class Band:
    """The median of the last few numbers, the lowest of these medians so far, and the first number."""

    def __init__(self) -> None:
        self._last: deque[float] = deque(maxlen=WINDOW)
        self._firsts: list[float] = []
        self._lowest = math.inf

    def __len__(self) -> int:
        return len(self._last)

    def hear(self, number: float | None) -> None:
        """One more; none where there was none."""
        if number is None:
            return
        if len(self._firsts) < FIRST:
            self._firsts.append(number)
        self._last.append(number)
        if len(self._last) == WINDOW:
            self._lowest = min(self._lowest, self.now)

    @property
    def now(self) -> float:
        return median(self._last)

    @property
    def lowest(self) -> float:
        return min(self._lowest, self._first)

    @property
    def _first(self) -> float:
        """What it began with: the median of the first few numbers, of which one may be far off."""
        return median(self._firsts) if self._firsts else 0.0

    @property
    def least(self) -> float:
        """The least of the first few numbers."""
        return min(self._firsts, default=0.0)

    def leapt(self, times: float) -> bool:
        """Whether it is so many times the least of the first numbers."""
        return self.least > 0 and self.now > times * self.least

    def lost(self, number: float, times: float) -> bool:
        """Whether a number is so many times what it began with."""
        return self._first > 0 and number > times * self._first

    def beyond(self, times: float, first: float = 1.0) -> bool:
        """Whether it is more than so many times the lowest, and than so many times the first number: what has come
        close to nothing may double. Numbers that go below 0 have no such ratios."""
        if self.lowest <= 0:
            return False
        return self.now > times * self.lowest and self.now > first * self._first


def proven_by(records: Sequence[Mapping[str, Any]]) -> Callable[[int], bool]:
    """Whether the loss of the step after a checkpoint, which is the first of its weights, was not lost; False where
    there was none."""
    after = {record["step"]: record.get("loss") for record in records}
    first = next((record["loss"] for record in records if isinstance(record.get("loss"), float | int)), 0.0)

    def proven(step: int) -> bool:
        loss = after.get(step + 1)
        return isinstance(loss, float | int) and math.isfinite(loss) and (first <= 0 or loss <= EARLY * first)

    return proven


def check_finite(trained: Mapping[str, State], step: int) -> None:
    """Diverged where a weight, its average or the optimizer's state is not finite."""
    for name, state in trained.items():
        held = {"weights": state.module.state_dict(), "averaged weights": state.ema.module.state_dict()}
        for what, tensors in held.items():
            for layer, value in tensors.items():
                _check(f"{what} of the {name}", layer, value, step)
        for number, values in state.optimizer.state_dict()["state"].items():
            for what, value in values.items():
                if isinstance(value, Tensor):
                    _check(f"optimizer's {what} of the {name}", str(number), value, step)


def _check(what: str, layer: str, value: Tensor, step: int) -> None:
    if value.is_floating_point() and not bool(torch.isfinite(value).all()):
        raise Diverged(f"after step {step} the {what} ({layer}) are not finite")


def cause(error: Diverged, rate: float) -> str:
    """In words, what is the most likely reason."""
    examples = error.details.get("examples not finite")
    if examples:
        return "examples that are not finite: look at them"
    if rate > 1e-2:
        return f"a learning rate of {rate:g}, where 1e-4 to 2e-3 is usual"
    return f"a learning rate of {rate:g} that is too high for this network and batch, or an example unlike all others"


def softened(config: TrainConfig) -> TrainConfig:
    """The same at a lower rate."""
    final = config.final_learning_rate
    return replace(
        config,
        learning_rate=config.learning_rate / SOFTER,
        final_learning_rate=None if final is None else final / SOFTER,
    )
