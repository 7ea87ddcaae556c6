"""How anything trains, as settings."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from unsteep.networks import compiling
from unsteep.networks.precision import Asked

FEWEST = 10  # samples that a distance is measured of
Logs = Literal["csv", "tensorboard"]
MOST = 2**22  # examples in a batch


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How a run trains."""

    steps: int = 10_000
    """How many."""
    batch: int = 64
    """Examples of a step."""
    accumulate: int = 1
    """Parts that a batch goes through the network in, for less memory."""
    learning_rate: float = 2e-4
    """AdamW's, at its highest."""
    final_learning_rate: float | None = None
    """Where a half cosine brings it at the last step; none: it stays."""
    warmup: int = 500
    """Steps over which the rate rises from 0."""
    weight_decay: float = 0.0
    """AdamW's."""
    clip: float = 1.0
    """The longest gradient, in its norm; longer ones are shortened."""
    ema: float = 0.9999
    """Decay of the average of the weights, which samples are drawn by: it reaches back 1 / (1 - ema) steps. 0:
    none."""
    flip: bool = False
    """Mirror pictures at random: not for text or signs."""
    precision: Asked = "float32"
    """The network's (see `networks.precision`); of auto, a run keeps what was taken."""
    checkpointing: bool = False
    """Blocks of the network are computed again for the gradient, for less memory and a third more time."""
    compile: compiling.Asked = "off"
    """The network, by torch.compile (see `networks.compiling`); of auto, which compiles for long runs where it can, a
    run keeps what was taken."""
    seed: int = 0
    """Of weights, order, noise and dropout."""
    preview_every: int = 1000
    """Steps between previews; the clock draws others, after a minute and then ever more seldom."""
    checkpoint_every: int = 1000
    """Steps between checkpoints; one is saved with each preview, too, and when it is stopped."""
    keep: int = 2
    """Checkpoints, the newest; the best is kept beside them, where evaluate_every says which it is."""
    evaluate_every: int = 0
    """Steps between measurements of FID, in domain features, by the averaged weights, for pictures; one more at the
    end. 0: none."""
    evaluate_count: int = 1000
    """Samples of such a measurement."""
    cures: int = 3
    """How often a training that diverged goes back to the last good checkpoint and on at a tenth of the rate. 0:
    never."""
    report: bool = True
    """At the end, draw samples and what else the page shows; false: the page has previews, loss and speed alone."""
    log: tuple[Logs, ...] = ()
    """Logs beside log.jsonl: csv is log.csv, a row a step; tensorboard is an extra to install."""

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "accumulate", "preview_every", "checkpoint_every", "keep"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, got {getattr(self, name)}")
        if self.batch > MOST:
            raise ValueError(f"batch: expected at most {MOST:,} examples, got {self.batch:,}; take fewer")
        for name in ("learning_rate", "clip"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}: expected a positive number, got {getattr(self, name)}")
        if self.evaluate_count < FEWEST:
            raise ValueError(f"evaluate_count: expected at least {FEWEST} samples, got {self.evaluate_count}")
        for name in ("warmup", "weight_decay", "final_learning_rate", "evaluate_every", "cures"):
            if (getattr(self, name) or 0) < 0:
                raise ValueError(f"{name}: expected at least 0, got {getattr(self, name)}")
        if not 0 <= self.seed < 2**31:
            raise ValueError(f"seed: expected a whole number from 0 to {2**31 - 1}, got {self.seed}")
        if self.batch % self.accumulate:
            raise ValueError(f"accumulate: {self.accumulate} does not divide a batch of {self.batch}")

    def rate(self, step: int) -> float:
        """The learning rate of step 1, 2, ...: linear warm-up, then constant, or a half cosine to
        `final_learning_rate`."""
        peak = self.learning_rate * min(1.0, step / max(1, self.warmup))
        if self.final_learning_rate is None or step <= self.warmup:
            return peak
        done = (step - self.warmup) / max(1, self.steps - self.warmup)
        low = self.final_learning_rate
        return low + (self.learning_rate - low) * (1 + math.cos(math.pi * min(1.0, done))) / 2
