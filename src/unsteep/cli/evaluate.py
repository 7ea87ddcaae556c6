"""unsteep evaluate: how good samples are, in numbers with their protocol and their error."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from unsteep.metrics.features import Features
    from unsteep.metrics.protocol import Fact
    from unsteep.studies.evaluation import Evaluation, Pairwise, Real
    from unsteep.studies.subjects import Subject


ARROWS = {"lower": "↓", "higher": "↑", "": ""}  # which way is better


def evaluate(
    subject: Path,
    /,
    *,
    data: Path | None = None,
    split: Literal["train", "test", "all"] = "test",
    n: Annotated[int | None, Parameter(name=["-n", "--n"])] = None,
    metrics: Annotated[list[str] | None, Parameter(consume_multiple=True, negative=())] = None,
    features: str = "domain",
    custom: Annotated[bool, Parameter(negative=())] = False,
    lpips: Annotated[tuple[Path, Path] | None, Parameter(consume_multiple=True)] = None,
    clip: Path | None = None,
    prompts: Path | None = None,
    label: str | None = None,
    guidance: float = 1.0,
    steps: int | None = None,
    solver: str | None = None,
    order: int | None = None,
    grid: str | None = None,
    replicates: int = 1,
    resize: int | None = None,
    seed: int = 0,
    batch: int = 64,
    out: Path | None = None,
    device: str = "auto",
) -> None:
    """Measure how good samples are: every number with its interval, its floor and its protocol.

    Parameters
    ----------
    subject
        A run's folder, a saved model, or pictures from any tool: a folder or a .npz file.
    data
        The real pictures: a folder, idx files, a .npz file; default: the run's own.
    split
        The real pictures to hold samples against, where the data have two.
    n
        How many samples; default 2000, or all pictures of a folder.
    metrics
        fid, kid, precision, recall, density, coverage, is, ms-ssim, intra-class, agreement, accuracy, lpips,
        clip-score and memorization; default: the first six.
    features
        domain: a small net trained once on the real pictures; inception=FILE: the canonical Inception weights;
        pretrained=FOLDER: a DINOv2 or CLIP model in the Hugging Face layout.
    custom
        Take a file of weights whose hash is not the published one.
    lpips
        Two files for the metric lpips: an AlexNet or VGG16 trunk, and its linear heads.
    clip
        A folder with a CLIP model, for the metric clip-score.
    prompts
        A text file with a line for each of the first 1000 pictures, in order, for the metric clip-score.
    label
        Classes to draw, as in unsteep sample; default: as often as in the data.
    guidance
        The scale of classifier-free guidance.
    steps
        Steps of the solver; default 20, or the chain's where it has fewer.
    solver
        As in unsteep sample.
    order
        The order of a solver that comes in several.
    grid
        As in unsteep sample.
    replicates
        Draw so many sets of n samples, which share none, and give the mean.
    resize
        Bring the pictures of folders to this size first.
    seed
        The first sample's seed, and that of resampling.
    batch
        Samples that go through the network together.
    out
        A folder for index.html, results.json and pictures; default RUN/evaluation, or evaluation.
    device
        auto, cpu, cuda or mps.
    """
    import shlex

    from rich.console import Console

    from unsteep.cli.common import chosen_device
    from unsteep.studies import evaluation as study
    from unsteep.studies import evaluation_page
    from unsteep.studies.measuring import check_folder

    out = out or (subject / "evaluation" if is_model(subject) else Path("evaluation"))
    check_folder(out)
    wanted = list(dict.fromkeys(metrics or study.USUAL))
    where = chosen_device(device)
    result = measured(
        subject,
        data=data,
        split=split,
        n=n,
        metrics=wanted,
        features=features,
        custom=custom,
        pairwise=_pairwise(wanted, lpips, clip, prompts, custom, where),
        label=label,
        guidance=guidance,
        steps=steps,
        solver=solver,
        order=order,
        grid=grid,
        replicates=replicates,
        resize=resize,
        seed=seed,
        batch=batch,
        in_order=prompts is not None,
        device=where,
    )
    words = ["unsteep", "evaluate", str(subject), *([] if data is None else ["--data", str(data)]), "--split", split]
    words += ["-n", str(result.protocol["samples"]), "--metrics", *wanted, "--features", features, "--seed", str(seed)]
    words += ["--guidance", f"{guidance:g}", "--replicates", str(replicates), *(["--custom"] if custom else [])]
    given = {"steps": steps, "solver": solver, "order": order, "grid": grid, "label": label, "resize": resize}
    for name, value in {**given, "clip": clip, "prompts": prompts}.items():
        words += [] if value is None else [f"--{name}", str(value)]
    words += [] if lpips is None else ["--lpips", *map(str, lpips)]
    page = evaluation_page.write(result, out, subject.resolve().name, shlex.join([*words, "--out", str(out)]))
    show(result, Console())
    print(f"\nlook at  {page}")


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

    from unsteep.studies import evaluation as study
    from unsteep.studies.subjects import Drawn

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


def show(result: Evaluation, console: Any) -> None:
    """The numbers as a table."""
    from rich.table import Table

    from unsteep.metrics.measures import BETTER
    from unsteep.studies.evaluation_page import rows, shown

    table = Table(box=None, header_style="bold")
    for i, heading in enumerate(("", "samples", "floor: real pictures")):
        table.add_column(heading, justify="right" if i else "left", no_wrap=True)
    for name, value, floor in rows(result):
        table.add_row(f"{name} {ARROWS[BETTER.get(name, '')]}", shown(value), shown(floor))
    if result.copies is not None:
        near = result.copies.pixels.near
        table.add_row("too near", f"{near.value:.1%} [{near.low:.1%}, {near.high:.1%}]", "1%")
    console.print(table, highlight=False, markup=False)
    of = result.protocol
    print(
        f"\n{of['samples']} samples, {of['reference pictures']} real pictures, {of['features']} features; 95% intervals"
    )
    print(f"floor: {of['floor']}")


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
    from unsteep.opening import load
    from unsteep.studies.evaluation import Real
    from unsteep.studies.examples import open_data
    from unsteep.studies.subjects import Drawn, open_pictures, weights_at

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
    drawn = Drawn(model, 2000 if n is None else n, seed, run.resolve().name, how, asked, weights_at(run))
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
    from unsteep.studies.evaluation import Real
    from unsteep.studies.subjects import Stored, open_pictures

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
        from unsteep.metrics.domain import domain_features

        net = domain_features(real.learned_from, device=device, progress=True)
        return net, net.names
    if kind == "inception" and path:
        from unsteep.metrics.inception import inception

        return inception(Path(path), custom=custom, device=device), ()
    if kind == "pretrained" and path:
        from unsteep.metrics.pretrained import vision_features

        return vision_features(Path(path), device=device), ()
    raise ValueError(f"--features: expected domain, inception=FILE or pretrained=FOLDER, got {asked!r}")


def _pairwise(
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

    from unsteep.studies.evaluation import Pairwise

    parts: dict[str, Callable[[Tensor], Tensor]] = {}  # opened here, so that a wrong file is refused before the work
    facts: dict[str, Fact] = {}
    if "lpips" in metrics and lpips is not None:
        from unsteep.metrics.lpips import lpips as open_lpips

        kind: Literal["alex", "vgg"] = "vgg" if "vgg" in lpips[0].name.lower() else "alex"
        distance = open_lpips(*lpips, kind, custom=custom, device=device)
        facts |= {"lpips": distance.name, "lpips digest": distance.digest}
        parts["lpips"] = lambda kept: distance(kept[: len(kept) // 2], kept[len(kept) // 2 : len(kept) // 2 * 2])
    if "clip-score" in metrics and clip is not None and prompts is not None:
        from unsteep.metrics.pretrained import ClipScore

        score, lines = ClipScore(clip, device=device), prompts.read_text(encoding="utf-8").splitlines()
        asked = hashlib.sha256("\n".join(lines).encode()).hexdigest()
        facts |= {"clip": score.name, "clip digest": score.digest, "clip resize": score.resize, "prompts digest": asked}
        parts["clip-score"] = lambda kept: score(kept[: len(lines)], lines[: len(kept)])
    return Pairwise(parts, facts)
