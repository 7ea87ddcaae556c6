"""unsteep study: settle a question by measuring, with a page that says what follows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from unsteep.cli.terminal import say

if TYPE_CHECKING:
    from unsteep.studies.study import Study
    from unsteep.training.run import Run

Question = Literal["schedules", "solvers", "architecture", "scale", "guidance", "few-steps"]
OF_A_MODEL = ("solvers", "guidance", "few-steps")
TRAINING = ("schedules", "architecture", "scale")
USED_BY = {
    **dict.fromkeys(("recipe", "budget", "steps", "images", "set"), TRAINING),
    **{"calls": ("solvers", "few-steps"), "solvers": ("solvers",), "scales": ("guidance",)},
    "students": ("few-steps",),
}
"""The questions that use an option which not all do."""


def study(
    question: Question,
    run: Path | None = None,
    /,
    *,
    data: Path | None = None,
    recipe: str | None = None,
    budget: str | None = None,
    steps: int | None = None,
    samples: int | None = None,
    images: int | None = None,
    calls: Annotated[list[int] | None, Parameter(consume_multiple=True, negative=())] = None,
    solvers: Annotated[list[str] | None, Parameter(consume_multiple=True, negative=())] = None,
    scales: Annotated[list[float] | None, Parameter(consume_multiple=True, negative=())] = None,
    students: Annotated[list[Path] | None, Parameter(consume_multiple=True, negative=())] = None,
    settings: Annotated[list[str] | None, Parameter(name="--set", negative=())] = None,
    seed: int = 0,
    out: Path | None = None,
    force: Annotated[bool, Parameter(negative=())] = False,
    device: str = "auto",
    trust: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Settle a question: a table with intervals, plots, samples, what it cost, and what follows.

    The same command goes on where it was interrupted. At its default size a study takes less than half an hour of two
    CPU cores on Fashion-MNIST.

    Parameters
    ----------
    question
        schedules: which noise schedule; architecture: what matters in the network; scale: how large, and how long;
        solvers: which one for how many network calls; guidance: how strong; few-steps: how good are the students of a
        model at 1, 2 and 4 calls.
    run
        For solvers, guidance and few-steps: a trained run.
    data
        The data to train on, or where those of the run lie now; default: the digits of scikit-learn.
    recipe
        The experiment that is changed; default: digits, fashion-mnist for idx files, folder for pictures.
    budget
        Training time of each run, as 90s, 3m or 1h30m: measured once, and turned into equally many steps for all;
        default 2m.
    steps
        Training steps of each run, instead of --budget.
    samples
        Samples drawn of each cell; default 1000, for solvers 256.
    images
        Unseen pictures whose bits/dim are measured by those that train; default 128, 0: not.
    calls
        For solvers: network calls; default 5 10 20. For few-steps: default 1 2 4.
    solvers
        For solvers: which, as ddim or mine:Straight of your own; default: all of ours.
    scales
        For guidance: default 0 1 1.5 2 3 5.
    students
        For few-steps: runs of students; default: those beside the run that began as it.
    settings
        Change one setting of all runs, as in --set model.network.width=32; may be repeated.
    seed
        Of samples, and of what is measured.
    out
        The folder of the study; default runs/study-QUESTION.
    force
        Start anew, and lose what is there.
    device
        auto, cpu, cuda or mps.
    trust
        Import the parts of one's own that the run or the model names.
    """
    import shlex

    from unsteep.cli.common import chosen_device
    from unsteep.evaluation.examples import source_of
    from unsteep.evaluation.subjects import weights_at
    from unsteep.opening import load
    from unsteep.recipes.sizing import duration
    from unsteep.studies.questions import training
    from unsteep.studies.questions.examiner import Counts, Examiner
    from unsteep.studies.study import run as conduct
    from unsteep.studies.trained import steps_for

    given = {"recipe": recipe, "budget": budget, "steps": steps, "images": images, "set": settings}
    of_its_own = {"calls": calls, "solvers": solvers, "scales": scales, "students": students}
    _used(question, {**given, **of_its_own})
    if steps is not None and steps < 1:
        raise ValueError(f"--steps: expected at least 1, got {steps}")
    where = chosen_device(device)
    out = out or Path("runs") / f"study-{question}"
    asked: Study
    words = ["unsteep", "study", question]
    of_each = samples if samples is not None else 256 if question == "solvers" else 1000
    if question in OF_A_MODEL:
        if run is None:
            raise ValueError(f"study {question}: name a trained run, as in unsteep study {question} runs/demo")
        words += [str(run), *([] if data is None else ["--data", str(data)])]
        counts = Counts(samples=of_each, images=0, seed=seed)
        examiner = Examiner(source_of(run, data, trust), counts, where, weights_at(run))
        model = load(run, device=where, trust=trust)
        asked, own = _of_a_model(question, examiner, model, run, of_its_own, trust)
        words += [*own, "--samples", str(counts.samples)]
    else:
        if run is not None:
            raise ValueError(f"study {question}: trains its own runs; name data with --data DIR, not a run")
        base = _base(data, recipe, settings or [])
        counts = Counts(samples=of_each, images=128 if images is None else images, seed=seed)
        long = steps or steps_for(base, duration(budget or "2m"), where, None if force else out)
        asked = training.QUESTIONS[question](base, counts, long, where)
        words += [*([] if data is None else ["--data", str(data)]), *([] if recipe is None else ["--recipe", recipe])]
        words += ["--steps", str(long), "--samples", str(counts.samples), "--images", str(counts.images)]
        words += [word for change in settings or [] for word in ("--set", change)]
    command = shlex.join([*words, "--seed", str(seed), "--out", str(out)])
    done = conduct(asked, out, command=command, force=force)
    if done is None:
        return 130
    from unsteep.studies.study import conclusions

    say("\n" + "\n".join(conclusions(asked, done)))
    say(f"\nlook at  {out / 'index.html'}")
    return 0


def _of_a_model(
    question: Question, examiner: Any, model: Any, run: Path, given: Mapping[str, Any], trust: bool
) -> tuple[Study, list[str]]:
    """The study of a trained run, and what its command has of its own."""
    from unsteep.studies.questions import few_steps, sampling

    calls, where = given["calls"], examiner.device
    if question == "few-steps":
        named = given["students"]
        pupils = few_steps.opened(named, where, trust) if named else few_steps.found(run, where, trust)
        asked = few_steps.few_steps(examiner, model, pupils, calls or few_steps.CALLS)
        given = {**given, "students": [one.run for one in pupils]}
    elif question == "solvers":
        asked = sampling.solvers(examiner, model, calls or sampling.CALLS, _solvers(given["solvers"] or []))
    else:
        asked = sampling.guidance(examiner, model, given["scales"] or sampling.SCALES)
    own = [word for name, values in given.items() if values for word in (f"--{name}", *map(str, values))]
    return asked, own


def _used(question: Question, given: Mapping[str, object]) -> None:
    """ValueError for an option that would be ignored."""
    for name, value in given.items():
        if value is not None and question not in USED_BY[name]:
            raise ValueError(
                f"--{name}: study {question} does not use it, only {', '.join(USED_BY[name])}; leave it out"
            )
    if given["budget"] is not None and given["steps"] is not None:
        raise ValueError("--budget: --steps says already how long runs are trained; give one of the two")


def _solvers(names: list[str]) -> dict[str, Any]:
    """Those of --solvers, ours before a user's own, which go by their class."""
    from unsteep.cli.common import chosen_solver, nearest
    from unsteep.sampling import SOLVERS

    known = {"default": None, **SOLVERS}
    classes = [name.rsplit(":", 1)[-1] for name in names if ":" in name]
    own = {}
    for name in names:
        if ":" in name:  # by its class alone, where that is enough
            cls = name.rsplit(":", 1)[-1]
            own[cls if classes.count(cls) == 1 and cls not in known else name] = chosen_solver(name, None, (), None)
    for name in names:
        if ":" not in name and name not in known:
            raise ValueError(f"--solvers: unknown solver {name!r}; {nearest(name, known)}")
    return {name: solver for name, solver in known.items() if name in names} | own


def _base(data: Path | None, recipe: str | None, settings: list[str]) -> Run:
    """The run whose parts are changed: a recipe's, with a small network, and the user's settings on top."""
    from unsteep.cli.common import nearest
    from unsteep.data.idx import FILE_NAME
    from unsteep.recipes import RECIPES
    from unsteep.storage.config import override
    from unsteep.studies.questions.training import small

    if recipe is None:
        recipe = "digits" if data is None else "array" if data.suffix in (".npz", ".npy") else "folder"
        if data is not None and data.is_dir() and any(FILE_NAME.fullmatch(one.name) for one in data.iterdir()):
            recipe = "fashion-mnist"
    if recipe not in RECIPES:
        raise ValueError(f"--recipe: unknown recipe {recipe!r}; {nearest(recipe, RECIPES)}")
    return override(small(RECIPES[recipe]("" if data is None else str(data))), settings)
