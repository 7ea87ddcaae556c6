"""What a sample by the default solver costs beside one by DDIM with as many calls, for the networks of the recipes.

    python benchmarks/solver_share.py [--recipes digits mnist] [--calls 20] [--repeats 5]

CPU seconds of one thread, by class where the recipe has classes, guided or not. Untrained networks on data drawn at
random: time does not depend on what they say. A sample's time is that of the solver, measured with a network that
answers at once, and that of as many calls, measured alone: so the difference of two solvers is not lost in the noise of
a large network's calls. The two solvers and the network take turns; the median of the repeats counts.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from statistics import median

import torch
from torch import Tensor, nn

from unsteep.core.protocols import DataSet
from unsteep.data import Examples
from unsteep.model import Model
from unsteep.recipes import RECIPES
from unsteep.training.conditioning import Conditioning
from unsteep.training.statistics import measure

SHAPES = {  # what recipes that read files are given: pictures, vectors, frames
    "fashion-mnist": (1, 28, 28),
    "mnist": (1, 28, 28),
    "cifar": (3, 32, 32),
    "folder": (3, 64, 64),
    "array": (3, 32, 32),
    "captions": (3, 64, 64),
    "upscale": (3, 64, 64),
    "vectors": (8,),
    "sequences": (64, 3),
}
SAME = {"poses": "signer", "emoji": "array"}  # taken with the data of another
BATCHES, EXAMPLES = (64, 1), 400
LONG = 1.0  # CPU seconds of a call, of which two are enough


class AtOnce(nn.Module):
    """A network that answers what it is asked."""

    def forward(self, x: Tensor, noise: Tensor, **heard: Tensor) -> Tensor:
        return x


def drawn(name: str) -> DataSet:
    """Data for a recipe."""
    name = SAME.get(name, name)
    if name not in SHAPES:
        return RECIPES[name]("").data.read("train")
    shape, generator = SHAPES[name], torch.Generator().manual_seed(0)
    x = torch.randn(EXAMPLES, *shape, generator=generator)
    if len(shape) == 2:
        return Examples(x, valid=torch.ones(EXAMPLES, shape[0], dtype=torch.bool), levels=None)
    if len(shape) == 1:
        return Examples(x, levels=None)
    labels = torch.arange(EXAMPLES) % 10
    return Examples((128 + 30 * x).clamp(0, 255).byte(), labels=labels, names=tuple("0123456789"))


def built(name: str) -> Model:
    """The recipe's model, untrained. One that hears texts or pictures is taken without: calls are cheaper so."""
    data, run = drawn(name), RECIPES[name]("." if name in {*SHAPES, *SAME} else "")
    if run.condition.text != "none" or run.condition.picture != "none":
        run = replace(run, condition=Conditioning())
    description = run.describe(data)
    return Model(description.build(), description, measure(data, description))


def cpu_seconds(run: Callable[[], object]) -> float:
    began = time.process_time()
    run()
    return time.process_time() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipes", nargs="+", default=list(RECIPES))
    parser.add_argument("--calls", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=5)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    print("recipe, batch, guidance: default over DDIM; ms a call of the network, and of either solver beside it")
    for name in chosen.recipes:
        model = built(name)
        network, at_once = model.denoiser.network, AtOnce()
        for batch in BATCHES:
            for scale in (1.0, 2.0) if model.names else (1.0,):
                how = {"steps": chosen.calls, "guidance": scale}
                if model.names:
                    how["label"] = [i % len(model.names) for i in range(batch)]
                x, noise = torch.empty(batch, *model.space.shape), torch.full((batch,), 500.0)
                heard = {} if not model.names else {"label": torch.tensor(how["label"])}
                if len(model.space.shape) == 2:
                    heard = {"valid": torch.ones(batch, model.space.shape[0], dtype=torch.bool)}
                own: dict[str | None, list[float]] = {None: [], "ddim": []}
                calls = []
                for _ in range(chosen.repeats + 1):
                    model.denoiser.network = at_once
                    for solver, seconds in own.items():
                        seconds.append(cpu_seconds(lambda: model.sample(batch, solver=solver, **how)) / chosen.calls)  # noqa: B023
                    model.denoiser.network = network
                    if len(calls) > 1 and calls[-1] > LONG:
                        continue
                    with torch.no_grad():
                        asked = 1 if scale == 1 else 2
                        calls.append(cpu_seconds(lambda: [network(x, noise, **heard) for _ in range(asked)]))  # noqa: B023
                call, default, ddim = (1000 * median(seconds[1:]) for seconds in (calls, own[None], own["ddim"]))
                ratio = (call + default) / (call + ddim)
                print(
                    f"{name:>10} {batch:4} {scale:4g}: {ratio:5.2f}   {call:8.2f} {default:6.2f} {ddim:6.2f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
