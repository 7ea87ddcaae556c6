"""Questions whose cells are runs, trained equally long on the same data: which schedule, which parts of the network,
which size and how long.

Each is asked of a small network, so that the answer comes in half an hour of two CPU cores; `--set` changes it. One
cell is repeated with another seed: what differs by less than that says nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from unsteep.core.chains import CosineBetas, LinearBetas, QuadraticBetas
from unsteep.core.continuous import Flow, SigmoidAlphaBar
from unsteep.core.open import settings_of
from unsteep.core.schedules import AnySchedule
from unsteep.studies.page import write_page
from unsteep.studies.questions.examiner import Counts, Examiner, Variant, cells_of, with_seed
from unsteep.studies.study import Plot, Study
from unsteep.studies.trained import of_steps
from unsteep.training.run import Run

METRICS = ("fid", "bits-per-dim", "kid", "precision", "recall", "agreement")
WITHOUT: dict[str, tuple[str, dict[str, Any]]] = {  # parts of a network, and the settings that take them out of it
    "no-attention": ("without any attention", {"attention": (), "middle_attention": False}),
    "no-skips": ("without connections from the way down to the way up", {"skip_connections": False}),
    "no-time": ("without being told the noise level", {"time_embedding": False}),
}


def small(run: Run) -> Run:
    """The recipe with a network of 16 channels, where it has groups of them on several levels, as a U-Net: the answer
    sooner, and hardly another one."""
    network: Any = run.model.network
    if not settings_of(network) >= {"width", "groups", "multipliers"}:
        return run
    multipliers = (*network.multipliers[:2], *[2] * (len(network.multipliers) > 2))
    reduced = replace(network, width=16, multipliers=multipliers, **_groups(network, 16))
    training = replace(run.train, learning_rate=2e-3, final_learning_rate=1e-5, ema=0.995, warmup=100)
    return replace(run, model=replace(run.model, network=reduced), train=training)


def _groups(network: Any, width: int) -> dict[str, int]:
    """The groups that it has, as far as they divide another width; nothing to set where they follow it."""
    return {"groups": math.gcd(network.groups, width)} if getattr(network, "groups", None) else {}


def schedules(run: Run, counts: Counts, steps: int, device: str) -> Study:
    """Which noise schedule, at equal budget: the linear one twice, to see what chance does."""
    choices: dict[str, tuple[str, AnySchedule]] = {
        "linear": ("betas from 1e-4 to 0.02 (Ho et al. 2020)", LinearBetas()),
        "cosine": ("alpha_bar a squared cosine (Nichol & Dhariwal 2021)", CosineBetas()),
        "sigmoid": ("alpha_bar a sigmoid (Jabri et al. 2022)", SigmoidAlphaBar()),
        "quadratic": ("square roots of betas evenly spaced", QuadraticBetas()),
    }
    run = of_steps(run, steps)
    variants = [Variant(name, says, replace(run, schedule=schedule)) for name, (says, schedule) in choices.items()]
    flow = replace(run, schedule=Flow(), model=replace(run.model, prediction="flow"))
    variants.append(Variant("flow", "a straight line from data to noise, predicting it (Lipman et al. 2023)", flow))
    again = with_seed(replace(run, schedule=LinearBetas()), run.train.seed + 1)
    variants.insert(1, Variant("linear-again", "the linear one with another seed", again))
    return _study("schedules", "Which noise schedule?", variants, run, counts, device, ("linear", "linear-again"))


def architecture(run: Run, counts: Counts, steps: int, device: str) -> Study:
    """Which parts of the network matter: each taken out of it that can be, or more attention put in."""
    network: Any = run.model.network
    parts = {name: part for name, part in WITHOUT.items() if part[1].keys() <= settings_of(network)}
    if not parts:
        raise ValueError(
            f"model.network: expected one with parts that can be taken out, as UNet, got {type(network).__name__}; "
            "name another"
        )
    run = of_steps(run, steps)

    def changed(name: str, says: str, **settings: object) -> Variant:
        return Variant(name, says, replace(run, model=replace(run.model, network=replace(network, **settings))))

    variants = [
        changed("whole", "the network of the recipe"),
        Variant("whole-again", "the same with another seed", with_seed(run, run.train.seed + 1)),
        *(changed(name, says, **settings) for name, (says, settings) in parts.items()),
    ]
    if "no-attention" in parts and network.attention not in ((), "auto"):
        finer = 2 * network.attention[-1]
        words = f"attention at {finer} x {finer}, too"
        variants.insert(3, changed("more-attention", words, attention=(finer, *network.attention)))
    return _study(
        "architecture", "What matters in the network?", variants, run, counts, device, ("whole", "whole-again")
    )


def scale(run: Run, counts: Counts, steps: int, device: str) -> Study:
    """Width and training time against quality: three widths, each trained for a quarter, half and all of the steps."""
    network: Any = run.model.network
    if "width" not in settings_of(network):
        raise ValueError(f"model.network: expected one with a width, got {type(network).__name__}; name another")
    variants, axes = [], {}
    for width in (network.width // 2, network.width, network.width * 2):
        for share in (4, 2, 1):
            trained = of_steps(run, max(1, steps // share))
            altered = replace(network, width=width, **_groups(network, width))
            name = f"width-{width}-steps-{trained.train.steps}"
            says = f"width {width}, {trained.train.steps:,} steps"
            variants.append(Variant(name, says, replace(trained, model=replace(run.model, network=altered))))
            axes[name] = {"training steps": float(trained.train.steps), "width": float(width)}
    study = _study("scale", "How large a network, and how long?", variants, of_steps(run, steps), counts, device, None)
    return replace(
        study,
        cells=[replace(cell, axes=axes[cell.name]) for cell in study.cells],
        plots=[
            Plot("training steps", "fid", "Frechet distance", xlog=True, ylog=True),
            Plot("training steps", "bits-per-dim", "Bits per dimension", xlog=True),
        ],
        group=lambda name: name.split("-steps-")[0],
    )


QUESTIONS: dict[str, Callable[[Run, Counts, int, str], Study]] = {
    "schedules": schedules,
    "architecture": architecture,
    "scale": scale,
}


def _study(
    name: str,
    question: str,
    variants: Sequence[Variant],
    run: Run,
    counts: Counts,
    device: str,
    repeat: tuple[str, str] | None,
) -> Study:
    examiner = Examiner(run.data, counts, device)
    metrics = [one for one in METRICS if one != "agreement" or run.condition.label]
    cells = cells_of(variants, examiner, metrics)
    train = run.train
    facts = [
        ("training", f"{train.steps:,} steps of {train.batch} examples each, seed {train.seed}"),
        *examiner.facts(),
    ]
    return Study(
        name=name,
        question=question,
        cells=cells,
        asked=examiner.asked(run),
        metrics=metrics,
        facts=facts,
        page=write_page,
        floors=examiner.floors(metrics),
        repeat=repeat,
    )
