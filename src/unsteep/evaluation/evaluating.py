"""Evaluating in one call: a model or pictures, real data, and the metrics that are wanted."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from unsteep.core.arguments import MOST_SAMPLES, choice, flag, shown, whole
from unsteep.core.noise import permutation
from unsteep.core.protocols import Split
from unsteep.data.examples import Examples
from unsteep.data.given import as_dataset
from unsteep.data.idx import FILE_NAME
from unsteep.data.reading import in_memory
from unsteep.evaluation import evaluate as engine
from unsteep.evaluation.evaluate import USUAL, Evaluation, Pairwise
from unsteep.evaluation.examples import open_data, source_of, usual_split
from unsteep.evaluation.few import DRAWN as FEW_DRAWN
from unsteep.evaluation.few import evaluate_few
from unsteep.evaluation.held import Real
from unsteep.evaluation.motion import evaluate_clips
from unsteep.evaluation.pictures import in_bytes, open_pictures
from unsteep.evaluation.protocol import Fact
from unsteep.evaluation.subjects import Drawn, Stored, Subject, weights_at
from unsteep.features.looking import Features
from unsteep.guidance.setting import Guidance
from unsteep.hearing import Label
from unsteep.model import Model
from unsteep.networks.precision import Asked
from unsteep.opening import chosen_device, load
from unsteep.spaces import Keypoints

DRAWN = 2000  # samples, where nobody says how many


def evaluate(
    subject: Any,
    data: Any = None,
    *,
    n: int | None = None,
    metrics: Sequence[str] | None = None,
    features: str | Features = "domain",
    custom: bool = False,
    split: Split | None = None,
    label: Any = None,
    guidance: float | Guidance = 1.0,
    steps: int | None = None,
    solver: Any = None,
    grid: Any = None,
    replicates: int = 1,
    pairwise: Pairwise | None = None,
    resize: int | None = None,
    in_order: bool = False,
    seed: int = 0,
    batch_size: int = 64,
    device: str = "auto",
    precision: Asked | None = None,
    trust: bool = False,
    progress: bool = False,
) -> Evaluation:
    """Measures how good pictures are, against real ones: every metric with a 95% interval, its floor, and the protocol.

    `subject`: a model, the path of a run or a saved model, or pictures, as a path (a folder, .npy, .npz), a tensor
    (n, c, h, w), an array or a `DataSet`. `data`: the real pictures, in any of these forms, or a source; None: those of
    the run at the path. `n`: how many samples; default 2000, or all pictures. `metrics`: see `evaluate.METRICS`; None:
    the `USUAL` ones, or, of fewer than 40 real pictures, how near samples come to the nearest of them (`few`);
    `features`: "domain", "inception=FILE" or "pretrained=FOLDER", or a net of one's own; `custom` takes weights of
    another hash. `split`: the
    real pictures to hold samples against, where the data have two; None: those held out, or where a run holds none out,
    those of training. `label`: classes to draw in turn, "all" for all;
    default, as often as in the data. `guidance`, `steps`, `solver`, `grid`: as `Model.sample` has them. `replicates`:
    so many sets of n samples, which share none. `precision`: as `load` has it, of what lies at a path.
    `pairwise`: see `pairwise_of`. `resize`: bring the pictures of folders to this size first. `in_order`: take pictures
    as they come, as prompts do, not at random.

    16-bit and continuous pictures are rounded to bytes, and the protocol says so. ValueError for what does not fit,
    before anything is trained or drawn.
    """
    where = chosen_device(device)
    n = None if n is None else whole("n", n, 1, MOST_SAMPLES)
    resize = None if resize is None else whole("resize", resize, 1)
    replicates, seed, batch_size = (
        whole("replicates", replicates),
        whole("seed", seed),
        whole("batch_size", batch_size, 1),
    )
    for name, value in (("custom", custom), ("in_order", in_order), ("trust", trust), ("progress", progress)):
        flag(name, value)
    if split is not None:
        choice("split", split, get_args(Split))
    if metrics is not None and (
        isinstance(metrics, str)
        or not isinstance(metrics, Sequence)
        or not all(isinstance(one, str) for one in metrics)
    ):
        raise ValueError(f'metrics: expected a list of names, got {shown(metrics)}; give one, as ["fid"]')
    if metrics is not None and not metrics:
        raise ValueError('metrics: expected at least one, got none; give some, as ["fid"]')
    for name, one in (("subject", subject), ("data", data)):
        if isinstance(one, str | Path) and not Path(one).exists():
            raise ValueError(f"{name}: expected a run, a model or pictures, found nothing at {one}; check the path")
    of: Subject
    if isinstance(subject, Model) or (isinstance(subject, str | Path) and is_model(Path(subject))):
        how: dict[str, Any] = {
            "guidance": guidance, "steps": steps, "solver": solver, "grid": grid, "batch_size": batch_size
        }  # fmt: skip
        model = _opened(subject, where, precision, trust)
        if isinstance(model.space, Keypoints):
            idle: dict[str, Any] = {
                "label": label,
                "replicates": replicates - 1,
                "pairwise": pairwise,
                "resize": resize,
            }
            idle["features"] = None if features == "domain" else features
            return evaluate_clips(subject, model, data, split, n, seed, how, metrics, idle, trust, progress)
        of, real = _model(subject, model, data, split, n, seed, label, how, resize, trust)
    else:
        asked = {"label": label, "steps": steps, "solver": solver, "grid": grid}
        asked["guidance"] = None if isinstance(guidance, int | float) and guidance == 1 else guidance
        for name in (name for name, value in asked.items() if value is not None):
            raise ValueError(f"{name}: is of what a model draws, and these are pictures; leave it out")
        of, real = _pictures(subject, data, split or "test", n, resize, in_order)
    if metrics is None and isinstance(features, str) and features == "domain" and real.few and replicates == 1:
        return evaluate_few(replace(of, n=FEW_DRAWN) if n is None and isinstance(of, Drawn) else of, real)
    metrics = USUAL if metrics is None else metrics
    engine.check(of, real, metrics, replicates)
    if isinstance(of, Drawn):
        next(replace(of, n=1).batches())  # what cannot be drawn is refused before features are trained
    seen, names = _features(features, real, custom, where, progress)
    return engine.evaluate(
        of,
        real,
        seen,
        metrics,
        names=names,
        replicates=replicates,
        pairwise=pairwise,
        seed=seed,
        device=where,
        progress=progress,
    )


def is_model(path: Path) -> bool:
    """Whether it is a run or a saved model, not pictures."""
    return (path / "run.toml").exists() or (path / "model.toml").exists()


def _opened(subject: Any, device: str, precision: Asked | None, trust: bool) -> Model:
    """The model that is measured."""
    if not isinstance(subject, Model):
        return load(subject, device=device, precision=precision or "float32", trust=trust)
    if precision is not None:
        raise ValueError(f"precision: this model runs in {subject.precision} already; say model.to(precision=...)")
    return subject


def _model(
    subject: Any,
    model: Model,
    data: Any,
    split: Split | None,
    n: int | None,
    seed: int,
    label: Any,
    how: dict[str, Any],
    resize: int | None,
    trust: bool,
) -> tuple[Subject, Real]:
    """A model's samples, and the data they are held against."""
    path = None if isinstance(subject, Model) else Path(subject)
    if path is not None and (path / "run.toml").exists() and (data is None or isinstance(data, str | Path)):
        other = None if data is None else Path(data)
        split = split or usual_split(source_of(path, other, trust))
        reference = in_bytes(open_data(path, other, split, trust))
        training = in_bytes(open_data(path, other, "train", trust)) if split == "test" else None
    elif data is None:
        what = "a model" if path is None else f"{path} is a saved model, which"
        raise ValueError(f"data: {what} does not know its data; name real pictures")
    else:
        split = split or "test"
        reference, training = _real(data, split, resize)
    asked: list[int | str] | None = None
    if label is not None:
        names: Any = Label.several(label, model.names) if isinstance(label, str) else label
        asked = list(names) if hasattr(names, "__len__") else [names]
        if not asked:
            raise ValueError("label: expected a class, or several, got none; name some, or leave it out")
    count = DRAWN if n is None else n
    name = model.origin or "a model" if path is None else path.resolve().name
    weights = None if path is None else weights_at(path)
    return Drawn(model, count, seed, name, how, asked, weights, reference), Real(reference, training, split)


def _pictures(
    subject: Any, data: Any, split: Split, n: int | None, resize: int | None, in_order: bool
) -> tuple[Subject, Real]:
    """Pictures of any tool, in a random order unless `in_order`, and the real ones."""
    if data is None:
        raise ValueError("data: name the real pictures that these are held against, a folder or a .npz file")
    if isinstance(subject, str | Path):
        path = Path(subject)
        samples = in_bytes(open_pictures(path, "test" if _has_splits(path) else "all", resize))
    else:
        samples = in_bytes(in_memory(as_dataset(subject)))
    if n is not None and n > len(samples):
        raise ValueError(f"n: there are {len(samples)} pictures ({samples.source}), got {n}; ask for as many or fewer")
    reference, training = _real(data, split, resize)
    order = torch.arange(len(samples)) if in_order else permutation(len(samples), 0, 0)
    splits = not isinstance(data, str | Path) or _has_splits(Path(data))
    return Stored(samples, "pictures", order[:n]), Real(reference, training, split if splits else "all")


def _real(data: Any, split: Split, resize: int | None) -> tuple[Examples, Examples | None]:
    """The real pictures, and, where samples are held against the test split of some, their training split."""
    if isinstance(data, str | Path):
        path = Path(data)
        splits = _has_splits(path)
        reference = open_pictures(path, split if splits else "all", resize)
        training = open_pictures(path, "train", resize) if splits and split == "test" else None
    elif hasattr(data, "read"):
        reference = in_memory(data.read(split))
        training = in_memory(data.read("train")) if split == "test" else None
    else:
        reference, training = in_memory(as_dataset(data)), None
    return in_bytes(reference), None if training is None else in_bytes(training)


def _has_splits(path: Path) -> bool:
    """Whether it is a folder of idx files, whose authors made a split."""
    return path.is_dir() and any(FILE_NAME.fullmatch(one.name) for one in path.iterdir())


def _features(
    asked: str | Features, real: Real, custom: bool, device: str, progress: bool
) -> tuple[Features, tuple[str, ...]]:
    """The features by name, and the names of the classes that their logits tell apart."""
    if not isinstance(asked, str):
        if not callable(asked) or not hasattr(asked, "name"):
            raise ValueError(
                f"features: expected domain, inception=FILE, pretrained=FOLDER, or features of one's own (see "
                f"unsteep.features.Features), got {shown(asked)}; give one of these"
            )
        return asked, ()
    kind, _, path = asked.partition("=")
    if kind == "domain" and not path:
        from unsteep.features.domain import domain_features

        net = domain_features(real.learned_from, device=device, progress=progress)
        return net, net.names
    if kind == "inception" and path:
        from unsteep.features.inception import inception

        return inception(Path(path), custom=custom, device=device), ()
    if kind == "pretrained" and path:
        from unsteep.features.pretrained import vision_features

        return vision_features(Path(path), device=device), ()
    raise ValueError(f"features: expected domain, inception=FILE or pretrained=FOLDER, got {asked!r}")


def pairwise_of(
    metrics: Sequence[str],
    lpips: tuple[Path, Path] | None = None,
    clip: Path | None = None,
    prompts: Sequence[str] | None = None,
    custom: bool = False,
    device: str = "cpu",
) -> Pairwise | None:
    """What takes LPIPS diversity (`lpips`: trunk and heads, two files of weights) and CLIP scores (`clip`: a folder;
    `prompts`: one for each picture) of the pictures kept, opened here, so that a wrong file is refused before the work;
    None where `metrics` name neither. ValueError where one is named and its weights are not."""
    if "lpips" in metrics and lpips is None:
        raise ValueError("metrics: lpips needs two files of weights, a trunk and its heads: give lpips=TRUNK HEADS")
    if "clip-score" in metrics and (clip is None or prompts is None):
        raise ValueError(
            "metrics: clip-score needs a CLIP model and a line for each picture: give clip=FOLDER and prompts=FILE"
        )
    if "lpips" not in metrics and "clip-score" not in metrics:
        return None
    parts: dict[str, Callable[[Tensor], Tensor]] = {}
    facts: dict[str, Fact] = {}
    if "lpips" in metrics and lpips is not None:
        from unsteep.features.lpips import lpips as open_lpips

        kind: Literal["alex", "vgg"] = "vgg" if "vgg" in lpips[0].name.lower() else "alex"
        distance = open_lpips(*lpips, kind, custom=custom, device=device)
        facts |= {"lpips": distance.name, "lpips digest": distance.digest}
        parts["lpips"] = lambda kept: distance(kept[: len(kept) // 2], kept[len(kept) // 2 : len(kept) // 2 * 2])
    if "clip-score" in metrics and clip is not None and prompts is not None:
        from unsteep.features.pretrained import ClipScore

        score, lines = ClipScore(clip, device=device), list(prompts)
        asked = hashlib.sha256("\n".join(lines).encode()).hexdigest()
        facts |= {"clip": score.name, "clip digest": score.digest, "clip resize": score.resize, "prompts digest": asked}
        parts["clip-score"] = lambda kept: score(kept[: len(lines)], lines[: len(kept)])
    return Pairwise(parts, facts)
