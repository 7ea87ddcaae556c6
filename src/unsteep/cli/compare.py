"""unsteep compare: models or pictures against each other, by the same protocol."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from unsteep.cli.common import Precision
from unsteep.cli.terminal import say

if TYPE_CHECKING:
    from unsteep.evaluation.compare import Result

TERMS = 50  # of the bound, for each picture
ITS_OWN = ("weights_sha256", "steps", "variance")  # what a bound takes from the model where nothing else is asked for


def compare(
    *subjects: Path,
    data: Path | None = None,
    split: Literal["train", "test", "all"] = "test",
    n: Annotated[int | None, Parameter(name=["-n", "--n"])] = None,
    metrics: Annotated[list[str] | None, Parameter(consume_multiple=True, negative=())] = None,
    features: str = "domain",
    custom: Annotated[bool, Parameter(negative=())] = False,
    guidance: float = 1.0,
    steps: int | None = None,
    solver: str | None = None,
    seed: int = 0,
    images: int = 256,
    mixed: Annotated[bool, Parameter(negative=())] = False,
    out: Path = Path("comparison"),
    device: str = "auto",
    precision: Precision = "float32",
    trust: Annotated[bool, Parameter(negative=())] = False,
) -> None:
    """Hold models, or pictures, against each other: every difference with its interval.

    Parameters
    ----------
    subjects
        Runs, saved models or folders of pictures, measured now by one protocol; or results.json of evaluations that
        were made before, or the folders those lie in. The first is what the others are held against.
    data
        The real pictures; default: each run's own.
    split
        The real pictures to hold samples against, where the data have two.
    n
        How many samples of each; default 2000, or all pictures of a folder.
    metrics
        As of unsteep evaluate, and bits-per-dim: the bound, on the same pictures with the same noise for all models.
    features
        As of unsteep evaluate.
    custom
        Take a file of weights whose hash is not the published one.
    guidance
        The scale of classifier-free guidance.
    steps
        Steps of the solver.
    solver
        As in unsteep sample.
    seed
        The first sample's seed.
    images
        Real pictures that bits-per-dim is measured on.
    mixed
        Compare results of different protocols all the same.
    out
        A folder for index.html and comparison.json.
    device
        auto, cpu, cuda or mps.
    precision
        In which the network runs: float32, bf16, fp16, or auto for what is measured to be the fastest here.
    trust
        Import the parts of one's own that the run or the model names.
    """
    import shlex

    from rich.table import Table

    from unsteep.cli.common import chosen_device, claim
    from unsteep.cli.terminal import Terminal
    from unsteep.evaluation import compare as comparison

    claim(out)
    if len(subjects) < 2:
        raise ValueError(f"compare: expected at least two runs, folders or results, got {len(subjects)}")
    names = _names(subjects)
    asked: dict[str, Any] = {"data": data, "split": split, "n": n, "metrics": metrics, "features": features}
    asked |= {"custom": custom, "guidance": guidance, "steps": steps, "solver": solver, "seed": seed, "trust": trust}
    asked |= {} if precision == "float32" else {"precision": precision}
    where = chosen_device(device)
    results = [_result(path, name, asked, images, where) for path, name in zip(subjects, names, strict=True)]
    rows = comparison.compare(results, mixed=mixed)
    words = ["unsteep", "compare", *map(str, subjects), "--split", split, "--seed", str(seed)]
    words += ["--metrics", *metrics] if metrics else []
    for name, value in (
        ("data", data),
        ("n", n),
        ("steps", steps),
        ("solver", solver),
        ("precision", asked.get("precision")),
    ):
        words += [] if value is None else [f"--{name}", str(value)]
    words += ["--features", features, "--guidance", f"{guidance:g}", "--images", str(images)]
    words += [*(["--custom"] if custom else []), *(["--mixed"] if mixed else [])]
    page = comparison.write(rows, results, out, shlex.join([*words, "--out", str(out)]), mixed)
    table = Table(box=None, header_style="bold")
    for i, heading in enumerate(comparison.header(results)):
        table.add_column(heading, justify="right" if i else "left")
    for row in rows:
        table.add_row(*comparison.cells(row))
    Terminal().print(table, highlight=False, markup=False)
    say(f"\nlook at  {page}")


def _names(subjects: tuple[Path, ...]) -> list[str]:
    """The shortest ends of the paths that tell them apart."""
    parts = [path.resolve().parts for path in subjects]
    if len(set(parts)) < len(parts):
        raise ValueError("compare: the same run, folder or results twice; name different ones")
    for k in range(1, max(map(len, parts)) + 1):
        ends = ["/".join(part[-k:]) for part in parts]
        if len(set(ends)) == len(ends):
            return ends
    return [str(path) for path in subjects]


def _result(path: Path, name: str, asked: dict[str, Any], images: int, device: str) -> Result:
    """What was measured before, or is measured now."""
    from unsteep.evaluation.compare import Result
    from unsteep.evaluation.evaluate import USUAL
    from unsteep.evaluation.evaluating import evaluate, is_model
    from unsteep.evaluation.page import RESULTS, read

    if path.suffix == ".json" or (path / RESULTS).exists():
        return Result(name, *read(path))
    metrics = list(dict.fromkeys(asked["metrics"] or USUAL))
    others = [metric for metric in metrics if metric != "bits-per-dim"]
    values, protocol, each, own = {}, {}, {}, {}
    if others:
        found = evaluate(path, **{**asked, "metrics": others}, device=device, progress=True)
        values, protocol = dict(found.values), dict(found.protocol)
    if "bits-per-dim" in metrics:
        from unsteep.evaluation.examples import open_data
        from unsteep.evaluation.likelihood import likelihood
        from unsteep.opening import load

        if not is_model(path) or not (path / "run.toml").exists():
            raise ValueError(f"--metrics bits-per-dim is of runs, and {path} is none")
        model = load(path, device=device, trust=asked["trust"])
        data = open_data(path, asked["data"], asked["split"], asked["trust"])
        bound = likelihood(model, data, n=images, terms=TERMS, seed=asked["seed"], progress=True)
        values["bits-per-dim"], each["bits-per-dim"] = bound.bound, bound.each
        settings = {
            f"bound: {key}": value if isinstance(value, int | float | str) else str(value)
            for key, value in bound.settings.items()
            if key not in ("data", "pairs")  # their digest says it better; the steps less two
        }
        own = {key: settings.pop(key) for key in (f"bound: {name}" for name in ITS_OWN)}
        protocol |= settings | {"bound: terms": TERMS}  # as asked for: a short chain has fewer
    return Result(name, values, protocol, each, own)
