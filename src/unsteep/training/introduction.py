"""What a run says of itself before its first step, and its page after it: what is trained, on what, and what in it
cannot be meant."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unsteep.core.machine import machine
from unsteep.core.noise import permutation
from unsteep.core.protocols import DataSet
from unsteep.training.measuring import Measuring
from unsteep.training.memory import check_memory
from unsteep.training.tasks import Task

FEW = 10  # examples, which a network soon knows by heart
LEFT = 0.1  # signal over noise at the last level, beyond which samples suffer
LOOKED_AT = 256  # examples, for what is alike in all of them


def described(run: Any, data: DataSet, task: Task, measuring: Measuring | None) -> list[tuple[str, str]]:
    """Rows (name, text)."""
    train = run.train
    odd = by_heart(data)
    if train.warmup >= train.steps:
        odd.append(f"a warm-up of {train.warmup:,} steps never reaches the full rate; set train.warmup lower")
    if train.ema and train.steps < 1 / (1 - train.ema) / 2:
        odd.append(f"the average reaches back {1 / (1 - train.ema):,.0f} steps, beyond the start; set train.ema lower")
    if train.final_learning_rate is not None and train.final_learning_rate > train.learning_rate:
        odd.append("the rate rises to train.final_learning_rate; it is meant to fall to it")
    condition = getattr(run, "condition", None)
    if condition is not None and condition.drop and condition.asks_nothing:
        odd.append("condition.drop hides what the model hears, and it hears nothing; see condition.label")
    schedule = getattr(run, "schedule", None)
    if schedule is not None and (left := math.exp(float(schedule(1.0).logsnr) / 2)) > LEFT:
        odd.append(
            f"the last level still has {left:.2g} times as much signal as noise, and samples begin with none: they "
            "will be flat or grey; take a schedule that goes further"
        )
    first = next(iter(task.trained.values()))
    every = "" if measuring is None else f"{measuring.about()}, every {train.evaluate_every:,} steps and at the end"
    return [
        *data.summary(),
        *task.about(),
        *([("starts from", run.start_from)] if run.start_from else []),
        ("precision", str(first.precision)),
        *([] if train.compile == "off" and not first.compiled.why else [("compile", str(first.compiled))]),
        ("training", f"{train.steps:,} steps of {train.batch}"),
        *([("measures", every)] if every else []),
        *(("mind", one) for one in odd),
    ]


def introduce(
    run: Any, data: DataSet, task: Task, measuring: Measuring | None, out: Path, say: Callable[[str], None]
) -> None:
    """Says them. ValueError where they take more memory than may be used."""
    device = str(next(iter(task.trained.values())).device)
    memory = check_memory(task, run.train)
    rows = [("device", machine(device).brief), *described(run, data, task, measuring)]
    for name, value in [*rows, *([("memory", memory)] if memory else []), ("run", str(out))]:
        say(f"{name:>12}  {value}")


def by_heart(data: DataSet) -> list[str]:
    """Where there is little to learn: hardly an example, all of them the same, a channel that never changes."""
    n = len(data)
    x = data.rows(permutation(n, seed=0, epoch=0)[:LOOKED_AT]).x
    what, check = "picture" if x.ndim == 4 else "example", "by heart, which is a fine first check"
    said = list[str]()
    if n == 1:
        said.append(f"1 {what}: the model will learn it {check}")
    elif all_the_same(x):
        which = f"all {n:,} {what}s are" if n <= LOOKED_AT else f"of {n:,} {what}s, {len(x)} were looked at, and are"
        said.append(f"{which} the same: the model will learn it {check}")
    elif n <= FEW:
        said.append(f"{n} {what}s: the model will learn them {check}")
    return [*said, *constant_channels(x)]


def constant_channels(x: Tensor) -> list[str]:
    """What never changes in pictures (n, c, h, w); nothing to say of other examples."""
    if x.ndim != 4:
        return []
    values = x.to(torch.float64).transpose(0, 1).flatten(1)
    flat = [i for i, channel in enumerate(values) if bool((channel == channel[0]).all())]
    if len(flat) == len(values):
        return ["the pictures show nothing: each channel has one value everywhere"]
    return [f"channel {i + 1} of {len(values)} is {float(values[i, 0]):g} everywhere" for i in flat]


def all_the_same(x: Tensor) -> bool:
    """Whether n examples (n, ...) are one."""
    x = x.to(torch.int32) if x.dtype == torch.uint16 else x
    return bool((x == x[:1]).all())
