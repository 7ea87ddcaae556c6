"""unsteep rate-distortion: how well pictures are known after so many bits, drawn."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from unsteep.cli.terminal import say


def rate_distortion(
    run: Path,
    /,
    *,
    data: Path | None = None,
    split: Literal["train", "test", "all"] = "test",
    n: Annotated[int, Parameter(name=["-n", "--n"])] = 16,
    steps: int = 0,
    variance: Literal["beta", "beta_tilde", "learned", "optimal"] | None = None,
    seed: int = 0,
    batch: int = 64,
    out: Path | None = None,
    device: str = "auto",
    trust: Annotated[bool, Parameter(negative=())] = False,
) -> None:
    """Draw the error of the estimates of x0 against the bits received, with pictures along the way.

    Parameters
    ----------
    run
        A run's folder.
    data
        Other data of the same kind; default: the run's own.
    split
        The examples to measure on.
    n
        How many examples, drawn at random.
    steps
        Steps of the grid; 0: the whole chain.
    variance
        Of the model's steps; default: learned where the model has it, else beta.
    seed
        Of the choice of examples and of all noise.
    batch
        Examples that go through the network together.
    out
        A folder for rate-distortion.html, .json and the pictures; default RUN/rate-distortion.
    device
        auto, cpu, cuda or mps.
    trust
        Import the parts of one's own that the run or the model names.
    """
    from rich.table import Table

    from unsteep.cli.common import chosen_device, claim
    from unsteep.cli.terminal import Terminal
    from unsteep.evaluation import rate_distortion as study
    from unsteep.evaluation.examples import open_data
    from unsteep.opening import load

    out = out or run / "rate-distortion"
    claim(out)
    examples = open_data(run, data, split, trust)
    model = load(run, device=chosen_device(device), trust=trust)
    measured = study.measure(
        model, examples, n=n, steps=steps, variance=variance, seed=seed, batch_size=batch, progress=True
    )
    shared = study.shared_latents(model, seed=seed, variance=variance, progress=True)
    study.write(measured, study.reconstructions(model, measured), shared, out, run.resolve().name)
    table = Table(box=None, header_style="bold")
    for heading in ("reverse step", "rate, bits/dim", "RMSE on 0..255"):
        table.add_column(heading, justify="right", no_wrap=True)
    for step, rate, rmse in measured.rows():
        table.add_row(str(step), f"{rate:.5f}", f"{rmse:.5f}")
    Terminal().print(table, highlight=False)
    say(f"\nL_0, what is missing of a lossless code: {measured.lossless} bits/dim")
    say(f"look at  {out / 'rate-distortion.html'}")
