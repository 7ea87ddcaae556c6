"""What `evaluate` and `compare` share: from options to what is measured, by what, against what."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from torch import Tensor

    from unsteep.evaluation.evaluate import Evaluation, Pairwise
    from unsteep.evaluation.held import Real
    from unsteep.evaluation.protocol import Fact
    from unsteep.evaluation.subjects import Subject
    from unsteep.features.looking import Features


def is_model(path: Path) -> bool:
    """Whether it is a run or a saved model, not pictures."""
    return (path / "run.toml").exists() or (path / "model.toml").exists()


def measured(
    subject: Path,
    *,
    data: Path | None,
    split: Literal["train", "test", "all"],
    n: int | None,
    metrics: list[str],
    features: str,
    custom: bool,
    guidance: float,
    steps: int | None,
    solver: str | None,
    seed: int,
    device: str,
    order: int | None = None,
    grid: str | None = None,
    label: str | None = None,
    replicates: int = 1,
    resize: int | None = None,
    batch: int = 64,
    in_order: bool = False,
    pairwise: Pairwise | None = None,
) -> Evaluation:
    """The evaluation that these options, as `evaluate` has them, ask for. `in_order`: take a folder's pictures as they
    come, as prompts do, not at random."""
    from dataclasses import replace

    from unsteep.evaluation import evaluate as study
    from unsteep.evaluation.subjects import Drawn

    of: Subject
    if is_model(subject):
        how: dict[str, Any] = {"guidance": guidance, "steps": steps, "batch_size": batch}
        of, real = _model(subject, data, split, n, seed, label, how, (solver, order, grid), resize, device)
    else:
        of, real = _pictures(subject, data, split, n, resize, in_order)
    study.check(of, real, metrics, replicates)
    if isinstance(of, Drawn):
        next(replace(of, n=1).batches())  # what cannot be drawn is refused before features are trained
    seen, names = _features(features, real, custom, device)
    return study.evaluate(
        of,
        real,
        seen,
        metrics,
        names=names,
        replicates=replicates,
        pairwise=pairwise,
        seed=seed,
        device=device,
        progress=True,
    )


def _model(
    run: Path,
    data: Path | None,
    split: Literal["train", "test", "all"],
    n: int | None,
    seed: int,
    label: str | None,
    how: dict[str, Any],
    solver: tuple[str | None, int | None, str | None],
    resize: int | None,
    device: str,
) -> tuple[Subject, Real]:
    """A model's samples, and the data they are held against."""
    from unsteep.cli.common import chosen_grid, chosen_solver
    from unsteep.evaluation.examples import open_data
    from unsteep.evaluation.held import Real
    from unsteep.evaluation.subjects import Drawn, open_pictures, weights_at
    from unsteep.opening import load

    if (run / "run.toml").exists():
        reference = open_data(run, data, split)
        training = open_data(run, data, "train") if split == "test" else None
    elif data is None:
        raise ValueError(f"--data: {run} is a saved model, which does not know its data; name real pictures")
    else:
        reference = open_pictures(data, split, resize)
        training = open_pictures(data, "train") if split == "test" and _has_splits(data) else None
    model = load(run, device=device)
    how |= {"solver": chosen_solver(solver[0], solver[1], [], None), "grid": chosen_grid(solver[2])}
    asked: list[int | str] | None = None
    if label is not None:
        asked = list(model.names) if label == "all" and model.names else [*label.split(",")]
    count, name = 2000 if n is None else n, run.resolve().name
    drawn = Drawn(model, count, seed, name, how, asked, weights_at(run), reference)
    return drawn, Real(reference, training, split)


def _pictures(
    path: Path,
    data: Path | None,
    split: Literal["train", "test", "all"],
    n: int | None,
    resize: int | None,
    in_order: bool,
) -> tuple[Subject, Real]:
    """Pictures of any tool, in a random order unless `in_order`, and the real ones."""
    import torch

    from unsteep.core.noise import permutation
    from unsteep.evaluation.held import Real
    from unsteep.evaluation.subjects import Stored, open_pictures

    if data is None:
        raise ValueError("--data: name the real pictures that these are held against, a folder or a .npz file")
    samples = open_pictures(path, "test" if _has_splits(path) else "all", resize)
    if n is not None and n > len(samples):
        raise ValueError(f"-n {n}: {path} holds {len(samples)} pictures; ask for as many or fewer")
    splits = _has_splits(data)
    reference = open_pictures(data, split if splits else "all", resize)
    training = open_pictures(data, "train") if splits and split == "test" else None
    order = torch.arange(len(samples)) if in_order else permutation(len(samples), 0, 0)
    return Stored(samples, "pictures", order[:n]), Real(reference, training, split if splits else "all")


def _has_splits(path: Path) -> bool:
    """Whether it is a folder of idx files, whose authors made a split."""
    from unsteep.data.idx import FILE_NAME

    return path.is_dir() and any(FILE_NAME.fullmatch(one.name) for one in path.iterdir())


def _features(asked: str, real: Real, custom: bool, device: str) -> tuple[Features, tuple[str, ...]]:
    """The features of --features, and the names of the classes that their logits tell apart."""
    kind, _, path = asked.partition("=")
    if kind == "domain" and not path:
        from unsteep.features.domain import domain_features

        net = domain_features(real.learned_from, device=device, progress=True)
        return net, net.names
    if kind == "inception" and path:
        from unsteep.features.inception import inception

        return inception(Path(path), custom=custom, device=device), ()
    if kind == "pretrained" and path:
        from unsteep.features.pretrained import vision_features

        return vision_features(Path(path), device=device), ()
    raise ValueError(f"--features: expected domain, inception=FILE or pretrained=FOLDER, got {asked!r}")


def pairwise_of(
    metrics: list[str],
    lpips: tuple[Path, Path] | None,
    clip: Path | None,
    prompts: Path | None,
    custom: bool,
    device: str,
) -> Pairwise | None:
    """What takes LPIPS diversity and CLIP scores of the pictures kept."""
    import hashlib

    if "lpips" in metrics and lpips is None:
        raise ValueError("--metrics lpips needs --lpips TRUNK HEADS: two files of weights")
    if "clip-score" in metrics and (clip is None or prompts is None):
        raise ValueError("--metrics clip-score needs --clip FOLDER and --prompts FILE, a line for each picture")
    if "lpips" not in metrics and "clip-score" not in metrics:
        return None

    from unsteep.evaluation.evaluate import Pairwise

    parts: dict[str, Callable[[Tensor], Tensor]] = {}  # opened here, so that a wrong file is refused before the work
    facts: dict[str, Fact] = {}
    if "lpips" in metrics and lpips is not None:
        from unsteep.features.lpips import lpips as open_lpips

        kind: Literal["alex", "vgg"] = "vgg" if "vgg" in lpips[0].name.lower() else "alex"
        distance = open_lpips(*lpips, kind, custom=custom, device=device)
        facts |= {"lpips": distance.name, "lpips digest": distance.digest}
        parts["lpips"] = lambda kept: distance(kept[: len(kept) // 2], kept[len(kept) // 2 : len(kept) // 2 * 2])
    if "clip-score" in metrics and clip is not None and prompts is not None:
        from unsteep.features.pretrained import ClipScore

        score, lines = ClipScore(clip, device=device), prompts.read_text(encoding="utf-8").splitlines()
        asked = hashlib.sha256("\n".join(lines).encode()).hexdigest()
        facts |= {"clip": score.name, "clip digest": score.digest, "clip resize": score.resize, "prompts digest": asked}
        parts["clip-score"] = lambda kept: score(kept[: len(lines)], lines[: len(kept)])
    return Pairwise(parts, facts)
