"""unsteep train-classifier: a classifier of noisy pictures, for classifier guidance."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from unsteep.cli.common import USUAL, RunOptions, chosen_device
from unsteep.cli.terminal import say


def train_classifier(
    run: Path,
    /,
    *,
    data: Path | None = None,
    control: bool = True,
    n: Annotated[int, Parameter(name=["-n", "--n"])] = 1000,
    split: Literal["train", "test", "all"] = "test",
    seed: int = 0,
    options: RunOptions = USUAL,
) -> int:
    """Train a classifier of noisy pictures at all levels, on the data of a run; its accuracy by level as a page.

    Then: unsteep sample RUN --classifier RUN/classifier --label 7 --guidance 4. The same command goes on where it was
    interrupted.

    Parameters
    ----------
    run
        The run whose data and schedule it shares; the model need not know classes.
    data
        Where the data are, if not where the run has them.
    control
        Train the same classifier without noise, too, to show what noise in training is worth.
    n
        How many pictures the accuracy is measured on.
    split
        Which pictures these are: test, which it has not seen, train or all.
    seed
        Of the noise they are measured with.
    """
    import shlex

    from unsteep.data import cache
    from unsteep.evaluation.by_level import CONTROL, by_level, write
    from unsteep.evaluation.examples import labelled_source, open_split
    from unsteep.objectives.classification import Classification
    from unsteep.pages.ours import check_folder
    from unsteep.storage.config import override
    from unsteep.training.classifying import ClassifierRun, open_classifier, read_classifier, with_noise
    from unsteep.training.run import read_run, resume, start

    cache.allow(options.cache)
    where, settings, trust, force = chosen_device(options.device), options.changes, options.trust, options.force
    out = options.out or run / "classifier"
    check_folder(out)
    source = labelled_source(run, data, trust)
    schedule = read_run(run, trust).schedule
    chosen = override(ClassifierRun(data=source, objective=Classification(schedule=schedule)), settings)
    measured = open_split(run, chosen.data, split)
    familiar = {"test": "", "train": ", all seen in training", "all": ", most seen in training"}[split]
    wanted = {"with noise": (chosen, out)}
    if control:
        wanted["without noise"] = (with_noise(chosen, False), out / CONTROL)
    found = {}
    for name, (config, folder) in wanted.items():
        say(f"training {name}, {config.train.steps} steps of {config.train.batch}, in {folder}")
        begun = (folder / "run.toml").exists() and not force
        if begun and read_run(folder) != config:
            raise ValueError(
                f"{folder} holds a classifier with other settings; choose another --out, or begin anew with --force"
            )
        if not (
            resume((), folder, device=where, say=say)
            if begun
            else start(config, folder, force=force, device=where, say=say)
        ):
            return 130
        opened, (_, described) = open_classifier(folder, where), read_classifier(folder)
        found[name] = by_level(opened.module, measured, described.space, config.objective.schedule, n=n, seed=seed)
    facts = [
        ("data", measured.source),
        ("measured on", f"{min(n, len(measured))} pictures{familiar}, noise of seeds {seed} and up"),
        ("training", f"{chosen.train.steps:,} steps of {chosen.train.batch}, seed {chosen.train.seed}"),
        ("classes", ", ".join(described.names)),
    ]
    words = ["unsteep", "train-classifier", str(run), *([] if data is None else ["--data", str(data)])]
    words += [word for change in settings for word in ("--set", change)]
    words += [] if control else ["--no-control"]
    words += [] if split == "test" else ["--split", split]
    page = write(found, out, facts, shlex.join([*words, "-n", str(n), "--seed", str(seed), "--out", str(out)]))
    for name, levels in found.items():
        say(f"{name:>14}  {levels.mean:.1%} right on average over {len(levels.times)} levels{familiar}")
    say(f"\nlook at  {page}")
    return 0
