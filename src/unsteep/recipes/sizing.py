"""How large a network, how large pictures and how many steps: what fits a machine, and a time.

A recipe for pictures of one's own asks for what is worth a GPU. On a CPU it becomes the preset `small` (see
`networks.presets`), which at 64 x 64 shows colour and layout after ten minutes of a core and is done within the hour:
its head predicts x0, unweighted, so that it need not learn to repeat the noise, and a few steps give clean pictures
(`docs/speed.md`). A `budget` of time takes the largest of these that leaves enough steps:

    large, medium, small at the data's size, then small at 32 and 16 pixels, where the source can read pictures smaller

by the speed that is measured here, of one training step of the smallest of them, and by operations from there. What was
taken stands in run.toml like anything else.
"""

from __future__ import annotations

import re
import time
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple, get_args

import torch
from torch.utils.flop_counter import FlopCounterMode

from unsteep.core.arguments import choice, shown
from unsteep.core.machine import settled
from unsteep.networks import UNetConfig, preset
from unsteep.networks.presets import Preset
from unsteep.training.denoising import Run
from unsteep.training.settings import TrainConfig

Shape = tuple[int, int, int]

ASKS_MUCH = ("cifar", "folder", "array", "captions", "upscale", "emoji")  # recipes that are worth a GPU
TRAINING: Mapping[Preset, TrainConfig] = {
    "small": TrainConfig(steps=5000, batch=16, learning_rate=1e-3, final_learning_rate=1e-5, warmup=150, ema=0.995),
    "medium": TrainConfig(steps=20_000, batch=32, learning_rate=5e-4, final_learning_rate=1e-5, ema=0.999),
    "large": TrainConfig(steps=50_000, batch=32, learning_rate=2e-4, final_learning_rate=1e-5, ema=0.9999),
}
ENOUGH: Mapping[Preset, int] = {"large": 20_000, "medium": 6000, "small": 2000}  # steps, below which smaller is better
SMALLER = (32, 16)  # pixels
SPENT = 0.85  # of a budget on training; the rest is for reading, previews and the report
FEWEST = 50  # steps of any run
TAKEN = ("steps", "batch", "learning_rate", "final_learning_rate", "warmup", "ema")


def sized(run: Run, name: Preset, side: int) -> Run:
    """A run with the network of a preset, for pictures of this longer side, and its way of training. ValueError for a
    run of no pictures."""
    choice("preset", name, get_args(Preset))
    network = replace(preset(name, side), dropout=network_of(run).dropout if name == "large" else 0.0)
    train = replace(run.train, **{key: getattr(TRAINING[name], key) for key in TAKEN})
    model = replace(run.model, network=network)
    if name == "small":
        model = replace(model, prediction="x0")
    return replace(run, model=model, train=train)


def network_of(run: Run) -> UNetConfig:
    """The network of a run, of which there are presets. ValueError for another kind."""
    if isinstance(run.model.network, UNetConfig):
        return run.model.network
    raise ValueError(
        f"preset: sizes are of networks of pictures, and this recipe has {type(run.model.network).__name__}; leave "
        "it out, and set model.network.width and train.steps"
    )


def shape_of(source: Any) -> Shape:
    """Channels, height and width of its pictures. ValueError where it gives none."""
    shape = getattr(source, "shape", None) or tuple(source.read("train").rows(torch.tensor([0])).x.shape[1:])
    if len(shape) != 3:
        other = "vectors" if len(shape) == 1 else "sequences"
        raise ValueError(f"data: expected pictures, got examples of shape {tuple(shape)}; take the recipe {other}")
    return shape


def following(run: Any, settings: Iterable[str], steps: int) -> Any:
    """A run of fewer steps as a whole run: warm-up and average shrink with it, where no setting says them, and
    intervals."""
    before, train = run.train.steps, run.train
    if steps >= before:
        return run
    share, said = steps / before, {one.partition("=")[0].removeprefix("train.") for one in settings}
    reach = max(1.0, share / (1 - train.ema)) if train.ema < 1 else 1.0
    shorter = {
        "warmup": round(train.warmup * share),
        "ema": round(1 - 1 / reach, 6),
        **{key: min(getattr(train, key), max(50, -(-steps // 4))) for key in ("preview_every", "checkpoint_every")},
    }
    return replace(run, train=replace(train, **{key: value for key, value in shorter.items() if key not in said}))


class Size(NamedTuple):
    """A preset, and pictures of this side; None: as they are."""

    preset: Preset
    side: int | None


def within(run: Run, seconds: float, device: torch.device | str = "cpu", *, smaller: bool = True) -> Run:
    """The largest of the sizes that trains long enough in so many seconds on this device, and for as long. `smaller`:
    pictures may be read smaller."""
    shape = shape_of(run.data)
    sizes = [Size(name, None) for name in ("large", "medium", "small")]
    if smaller and hasattr(run.data, "sized"):
        sizes += [Size("small", side) for side in SMALLER if side < max(shape[1:])]
    found = [(size.preset, *_at(run, size, shape)) for size in sizes]
    _, smallest, least = found[-1]
    unit = step_seconds(smallest, least, device) / operations(smallest, least)
    for name, one, of in found:
        last = one is smallest
        if last or seconds * SPENT >= ENOUGH[name] * unit * operations(one, of):
            each = step_seconds(one, of, device)
            if last or seconds * SPENT >= 0.8 * ENOUGH[name] * each:
                steps = max(FEWEST, int(seconds * SPENT / each))
                if steps * each > seconds:
                    warnings.warn(f"budget: {FEWEST} steps, the fewest, take about {FEWEST * each:.0f} s", stacklevel=2)
                return _of_steps(one, steps)
    raise AssertionError("the last is taken")


def _of_steps(run: Run, steps: int) -> Run:
    """The same as a whole run of so many steps."""
    shorter = following(run, (), steps)
    return replace(shorter, train=replace(shorter.train, steps=steps))


def _at(run: Run, size: Size, shape: Shape) -> tuple[Run, Shape]:
    if size.side is None:
        return sized(run, size.preset, max(shape[1:])), shape
    channels, height, width = shape
    share = size.side / max(height, width)
    smaller = channels, max(1, round(height * share)), max(1, round(width * share))
    return sized(replace(run, data=run.data.sized(smaller)), size.preset, size.side), smaller  # type: ignore[attr-defined]


def _built(run: Run, shape: Shape) -> torch.nn.Module:
    """The network of a run, without what it hears."""
    return replace(network_of(run), channels=shape[0], size=max(shape[1:])).build()


def operations(run: Run, shape: Shape) -> int:
    """Floating-point operations of the network on one example."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        _built(run, shape).eval()(torch.zeros(1, *shape), torch.zeros(1))
    return int(counter.get_total_flops())


def step_seconds(run: Run, shape: Shape, device: torch.device | str = "cpu") -> float:
    """How long a training step of a batch takes here: the better of a few, after one that sets up."""
    module, batch = _built(run, shape).to(device).train(), run.train.batch // run.train.accumulate
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-6)
    x, label = torch.zeros(batch, *shape, device=device), torch.zeros(batch, device=device)
    times: list[float] = []
    while len(times) < 2 or (len(times) < 4 and sum(times) < 5):
        began = time.monotonic()
        for _ in range(run.train.accumulate):
            module(x, label).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        settled(device)
        times.append(time.monotonic() - began)
    return min(times[1:])


def duration(text: str) -> float:
    """Seconds of "90s", "30m", "1.5h", "1h30m" or "2d". ValueError for anything else."""
    found = re.findall(r"(\d+(?:\.\d+)?)([smhd])", text) if isinstance(text, str) else []
    total = sum(float(number) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[unit] for number, unit in found)
    if not total or "".join(number + unit for number, unit in found) != text.strip():
        raise ValueError(f"budget: expected a time, as 90s, 30m, 2h or 1d, got {shown(text)}; write it like these")
    return total
