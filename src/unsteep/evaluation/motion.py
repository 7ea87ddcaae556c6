"""How good clips are, in numbers with their protocol, their error and their floor, and beside what needs no model.

    value       a metric of n clips, each asked for by the text, or class, of a real one and held against that one
    floor       the same of real clips of the same texts, of the other half of the split
    baselines   the same of the mean pose, of the clip that a lookup of the text finds, and of the nearest clip

Samples are asked for by texts and classes alone: how long one is, the model says.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from unsteep.core.protocols import DataSet, Split
from unsteep.data.reading import in_memory
from unsteep.evaluation.evaluate import SHOWN, Evaluation
from unsteep.evaluation.examples import open_split, source_of, usual_split
from unsteep.evaluation.subjects import weights_at
from unsteep.evaluation.tracks import Clips, DrawnClips, baselines, namer
from unsteep.features.wording import wording
from unsteep.metrics.interval import Interval
from unsteep.metrics.motion import MOTIONS, Danced, Track
from unsteep.model import Model

FEWEST = 4  # clips of each half
DRAWN = 100  # samples, where nobody says how many


def check(metrics: Sequence[str]) -> None:
    """ValueError for metrics that are none of motion."""
    for name in metrics:
        if name not in MOTIONS:
            raise ValueError(f"metrics: {name!r} is none of clips; choose {', '.join(MOTIONS)}")


def evaluate_clips(
    subject: Any,
    model: Model,
    data: Any,
    split: Split | None,
    n: int | None,
    seed: int,
    how: dict[str, Any],
    metrics: Sequence[str] | None,
    idle: Mapping[str, Any],
    trust: bool,
    progress: bool,
) -> Evaluation:
    """A model's clips, held against those of its run, at the path `subject`, or of a source. `idle`: what is asked of
    pictures alone."""
    for name in (name for name, value in idle.items() if value):
        raise ValueError(f"{name}: is of pictures, and this model makes clips; leave it out")
    check(metrics or ())
    path = None if isinstance(subject, Model) else Path(subject)
    if path is not None and (path / "run.toml").exists() and (data is None or isinstance(data, str | Path)):
        source = source_of(path, None if data is None else Path(data), trust)
        read: Callable[[Split], DataSet] = partial(open_split, path, source)
    elif hasattr(data, "read"):
        source, read = data, data.read
    else:
        raise ValueError("data: name the clips that these are held against: a run's own, or a source of clips")
    split = split or usual_split(source)
    parts: tuple[Split, ...] = ("test", "train") if split == "test" else (split,)
    space: Any = model.space
    real, *training = (Clips(in_memory(read(one)), space) for one in parts)
    space.check(real.data.x[:1, :1])  # longer ones than it makes can be held against it
    name = model.origin or "a model" if path is None else path.resolve().name
    weights = None if path is None else weights_at(path)
    drawn = DrawnClips(model, DRAWN if n is None else n, seed, name, how, None, weights, real.data)
    return evaluate_motion(drawn, real, training[0] if training else None, split, metrics, progress)


def evaluate_motion(
    subject: DrawnClips, real: Clips, training: Clips | None, split: str, metrics: Sequence[str] | None, progress: bool
) -> Evaluation:
    """Measures `metrics`, None: all that these data have what it takes for. `training`: what the model was trained on,
    where `real` are others. ValueError for too few clips, and for metrics that need what there is not."""
    began = time.monotonic()
    check(metrics or ())
    if len(real) < 2 * FEWEST or subject.n < 2:
        raise ValueError(
            f"evaluate: expected at least {2 * FEWEST} real clips and 2 samples, got {len(real)} and {subject.n}"
        )
    reference, others = real.halves()
    known = others if training is None else training
    space = real.space
    places = {place: i for i, place in enumerate(space.of.drawn.nonzero()[0].tolist())}
    limbs = torch.tensor([limb for limb in space.of.limbs.tolist() if set(limb) <= places.keys()]).reshape(-1, 2)
    parts = [torch.tensor(span) for span in space.of.spans if span[0] in places]
    truths = {text: Track(*_tensors(clip)) for text, clip in getattr(real.data, "truths", {}).items()}
    order = [i % len(reference) for i in range(subject.n)]
    of = Danced(
        [],
        [reference.tracks[i] for i in order],
        [reference.texts[i] for i in order] if reference.texts else [],
        limbs,
        parts,
        space.fps,
        truths,
    )
    wanted = _possible(metrics, of, known)
    net = None
    if "retrieval" in wanted:
        drawn = torch.from_numpy(space.of.drawn).repeat_interleave(len(space.of.axes))
        net = wording(known.data, space, drawn, progress=progress)
        of = replace(of, named=namer(net, space))
    samples = list(subject.of(reference))
    values = _taken(wanted, of.of([real.track(one) for one in samples]))
    pairs = reference.alike(others)[: subject.n]
    floors: dict[str, Interval] = {}
    if len(pairs) >= FEWEST:
        floor = Danced(
            [others.tracks[j] for _, j in pairs],
            [reference.tracks[i] for i, _ in pairs],
            [reference.texts[i] for i, _ in pairs],
            *(limbs, parts, space.fps, truths, of.named),
        )
        floors = _taken([name for name in wanted if name != "diversity" or len(floor.repeats) > 1], floor)
    beside = {
        name: _taken(wanted, of.of([tracks[i % len(tracks)] for i in range(subject.n)]))
        for name, tracks in baselines(reference.select(order[: len(reference)]), known).items()
    }
    notes = _notes(reference, known, pairs)
    for note in notes:
        warnings.warn(note, stacklevel=2)
    return Evaluation(
        values=values,
        floors=floors,
        beside=beside,
        protocol={
            **subject.facts(),
            "kind": "clips",
            "samples": subject.n,
            "replicates": 1,
            "reference": real.data.source,
            "reference pictures": len(reference),
            "reference digest": real.data.digest,
            "split": split,
            "floor": f"{len(pairs)} real clips of the same texts" if floors else "none: no text is there twice",
            "features": "no" if net is None else "co-embedding",
            **({} if net is None else {"features digest": net.digest}),
            "skeleton": space.of.describe(),
            "points": f"{int(space.of.drawn.sum())}, all that are drawn, by their confidence, 0 for a missing one",
            "trimming": "none",
            "length": "by the model",
            **{f"{name}, how": MOTIONS[name].signature for name in wanted},
            "unsteep": version("unsteep"),
            "torch": version("torch"),
        },
        kept=space.tiles(samples[:SHOWN]),
        real=space.tiles(
            [one[:n] for one, n in zip(reference.data.x, map(len, reference.tracks), strict=True)][:SHOWN]
        ),
        notes=notes,
        seconds=time.monotonic() - began,
    )


def _tensors(clip: object) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.from_numpy(clip.data), torch.from_numpy(clip.confidence)  # type: ignore[attr-defined]


def _taken(names: Sequence[str], of: Danced) -> dict[str, Interval]:
    return {name: MOTIONS[name].take(of) for name in names}


def _possible(metrics: Sequence[str] | None, of: Danced, known: Clips) -> list[str]:
    """Those of `metrics`, or all that may be taken."""
    there = {
        "": True,
        "texts": bool(of.texts and known.texts),
        "repeated texts": len(of.repeats) > 1,
        "truths": bool(of.truths),
    }
    for name in metrics or ():
        if not there[MOTIONS[name].needs]:
            raise ValueError(f"metrics: {name} needs {MOTIONS[name].needs}, and these data have none; leave it out")
    return [name for name, one in MOTIONS.items() if there[one.needs] and (metrics is None or name in metrics)]


def _notes(reference: Clips, known: Clips, pairs: Sequence[tuple[int, int]]) -> tuple[str, ...]:
    few = min(len(reference), len(known))
    notes = (
        [f"{few} clips are few: intervals hold what varies among them, not what others would be"] if few < 50 else []
    )
    if not pairs:
        notes.append("no text has two clips, so there is no floor")
    return tuple(notes)
