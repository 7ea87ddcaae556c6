"""unsteep likelihood: how many bits data take under a model, and where they go."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from unsteep.cli.terminal import say


def likelihood(
    run: Path,
    /,
    *,
    data: Path | None = None,
    split: Literal["train", "test", "all"] = "test",
    n: Annotated[int, Parameter(name=["-n", "--n"])] = 128,
    terms: int = 50,
    draws: int = 1,
    steps: int = 0,
    variance: Literal["beta", "beta_tilde", "learned", "optimal"] | None = None,
    decoder: Literal["pair", "ho"] = "pair",
    flow: Annotated[bool, Parameter(negative=())] = False,
    seed: int = 0,
    batch: int = 64,
    out: Path | None = None,
    device: str = "auto",
    trust: Annotated[bool, Parameter(negative=())] = False,
) -> None:
    """Measure the variational bound on data: bits per dimension with a 95% interval, and every term of it.

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
    terms
        How many of the chain's terms to evaluate for each example, one in each stratum of log-SNR; unbiased. 0: all.
    draws
        Draws of noise to average over.
    steps
        Steps of the grid; 0: the whole chain.
    variance
        Of the model's steps; default: learned where the model has it, else beta.
    decoder
        The variance of the last term: the pair's own, or as in the code of Ho et al. 2020.
    flow
        Also the likelihood of the probability flow.
    seed
        Of the choice of examples and of all noise.
    batch
        Examples that go through the network together.
    out
        A folder for likelihood.html, .json and terms.png; default RUN/likelihood.
    device
        auto, cpu, cuda or mps.
    trust
        Import the parts of one's own that the run or the model names.
    """
    from rich.table import Table

    from unsteep.cli.common import chosen_device, claim
    from unsteep.cli.terminal import Terminal
    from unsteep.evaluation import likelihood as study
    from unsteep.evaluation.examples import open_data
    from unsteep.opening import load

    out = out or run / "likelihood"
    claim(out)
    examples = open_data(run, data, split, trust)
    model = load(run, device=chosen_device(device), trust=trust)
    result = study.likelihood(
        model,
        examples,
        n=n,
        steps=steps,
        terms=terms,
        draws=draws,
        variance=variance,
        decoder=decoder,
        flow=flow,
        seed=seed,
        batch_size=batch,
        progress=True,
    )
    study.write(result, out, run.resolve().name)
    table = Table(box=None, header_style="bold")
    for i, heading in enumerate(("", "bits/dim", "nats per example")):
        table.add_column(heading, justify="right" if i else "left", no_wrap=True)
    for name, value in result.rows():
        nats = value * result.nats
        style = "bold" if name == "bound" else None
        table.add_row(name, str(value), str(nats), style=style)
    Terminal().print(table, highlight=False, markup=False)
    say()
    for name, text in result.facts():
        say(f"{name:>20}  {text}")
    say(f"\nlook at  {out / 'likelihood.html'}  and  {out / 'terms.png'}")
