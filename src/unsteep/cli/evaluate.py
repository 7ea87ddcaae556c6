"""unsteep evaluate: how good samples are, in numbers with their protocol and their error."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from unsteep.cli.common import Precision
from unsteep.cli.terminal import say

if TYPE_CHECKING:
    from unsteep.evaluation.evaluate import Evaluation


def evaluate(
    subject: Path,
    /,
    *,
    data: Path | None = None,
    split: Literal["train", "test", "all"] | None = None,
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
    precision: Precision = "float32",
    trust: Annotated[bool, Parameter(negative=())] = False,
) -> None:
    """Measure how good samples are: every number with its interval, its floor and its protocol.

    Parameters
    ----------
    subject
        A run's folder, a saved model, or pictures from any tool: a folder or a .npz file.
    data
        The real pictures: a folder, idx files, a .npz file; default: the run's own.
    split
        The real pictures to hold samples against, where the data have two; default: test, or train where a run holds
        nothing out.
    n
        How many samples; default 2000, or all pictures of a folder.
    metrics
        fid, kid, precision, recall, density, coverage, is, ms-ssim, intra-class, agreement, accuracy, lpips,
        clip-score and memorization; default: the first six, or, of fewer than 40 real pictures, how near samples come
        to the nearest of them. Of clips: dtw, disp-ratio, bone-drift, jerk, retrieval, frechet, asked and diversity;
        default: all that the data have what it takes for.
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
    precision
        In which the network runs: float32, bf16, fp16, or auto for what is measured to be the fastest here.
    trust
        Import the parts of one's own that the run or the model names.
    """
    import shlex

    from unsteep.cli.common import chosen_device, chosen_grid, chosen_solver, claim
    from unsteep.cli.terminal import Terminal
    from unsteep.evaluation import evaluating
    from unsteep.evaluation import page as evaluation_page

    out = out or (subject / "evaluation" if evaluating.is_model(subject) else Path("evaluation"))
    claim(out)
    wanted = list(dict.fromkeys(metrics or []))
    where = chosen_device(device)
    lines = None if prompts is None else prompts.read_text(encoding="utf-8").splitlines()
    result = evaluating.evaluate(
        subject,
        data,
        split=split,
        n=n,
        metrics=wanted or None,
        features=features,
        custom=custom,
        pairwise=evaluating.pairwise_of(wanted, lpips, clip, lines, custom, where),
        label=label,
        guidance=guidance,
        steps=steps,
        solver=chosen_solver(solver, order, [], None),
        grid=chosen_grid(grid),
        replicates=replicates,
        resize=resize,
        seed=seed,
        batch_size=batch,
        in_order=prompts is not None,
        device=where,
        precision=None if precision == "float32" else precision,
        trust=trust,
        progress=True,
    )
    if precision != "float32":
        say(f"precision  {result.protocol.get('precision', 'float32')}")
    words = ["unsteep", "evaluate", str(subject), *([] if data is None else ["--data", str(data)])]
    words += [*([] if split is None else ["--split", split]), "-n", str(result.protocol["samples"])]
    words += [*(["--metrics", *wanted] if wanted else []), "--features", features, "--seed", str(seed)]
    words += ["--guidance", f"{guidance:g}", "--replicates", str(replicates), *(["--custom"] if custom else [])]
    given = {"steps": steps, "solver": solver, "order": order, "grid": grid, "label": label, "resize": resize}
    given["precision"] = None if precision == "float32" else precision
    for name, value in {**given, "clip": clip, "prompts": prompts}.items():
        words += [] if value is None else [f"--{name}", str(value)]
    words += [] if lpips is None else ["--lpips", *map(str, lpips)]
    page = evaluation_page.write(result, out, subject.resolve().name, shlex.join([*words, "--out", str(out)]))
    show(result, Terminal())
    say(f"\nlook at  {page}")


def show(result: Evaluation, console: Any) -> None:
    """The numbers as a table."""
    from rich.table import Table

    from unsteep.evaluation.page import beside, brief, kind, rows, shown
    from unsteep.metrics.measures import titled

    table = Table(box=None, header_style="bold")
    for i, heading in enumerate(("", "samples", f"floor: real {kind(result)}", *result.beside)):
        table.add_column(heading, justify="right" if i else "left", no_wrap=True)
    for name, value, floor in rows(result):
        said = brief if result.beside else shown  # for more columns
        table.add_row(titled(name), said(value), said(floor), *beside(result, name))
    if result.copies is not None:
        near = result.copies.pixels.near
        table.add_row("too near", (near * 100).bracketed("%"), "1%")
    console.print(table, highlight=False, markup=False)
    of = result.protocol
    count = of["reference pictures"]
    real = "1 real picture" if count == 1 else f"{count} real {kind(result)}"
    say(f"\n{of['samples']} samples, {real}, {of['features']} features; 95% intervals")
    say(f"floor: {of['floor']}")
