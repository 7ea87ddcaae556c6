"""What several verbs need."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from contextvars import ContextVar
from dataclasses import dataclass, field, fields, make_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from unsteep.cli.terminal import say

if TYPE_CHECKING:
    from unsteep.guidance.setting import Guidance
    from unsteep.model import Model
    from unsteep.sampling import Adaptive, Grid, Solver

Precision = Literal["float32", "bf16", "fp16", "auto"]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """What every verb that trains a run is asked.

    Attributes
    ----------
    out
        The folder of what is trained; default runs/RECIPE, of a classifier RUN/classifier.
    settings
        Change one setting, as in --set train.steps=5000 --set schedule=Cosine --set data.labels=[4]; may be repeated.
    force
        Overwrite what is there.
    trust
        Import the parts of one's own that a file names: --config, or the run.
    device
        auto, cpu, cuda or mps.
    cache
        Keep decoded pictures, and take them from there the next time; --no-cache reads them anew.
    log
        Log beside log.jsonl, too: csv writes log.csv, a row a step; tensorboard needs pip install
        "unsteep[tensorboard]". May be repeated; off by default.
    """

    out: Path | None = None
    settings: Annotated[list[str] | None, Parameter(name="--set", negative=())] = None
    force: Annotated[bool, Parameter(negative=())] = False
    trust: Annotated[bool, Parameter(negative=())] = False
    device: str = "auto"
    cache: bool = True
    log: Annotated[list[Literal["csv", "tensorboard"]] | None, Parameter(negative=())] = None

    @property
    def changes(self) -> list[str]:
        """All that is set, as --set takes it."""
        return [*([f"train.log={','.join(self.log)}"] if self.log else []), *(self.settings or [])]


USUAL = RunOptions()
HELD: ContextVar[ExitStack] = ContextVar("HELD")  # what the verb holds, and `main` lets go of when it has ended


def claim(out: Path, *, page: bool = True) -> None:
    """Holds a folder of pages and numbers until the verb has ended. ValueError where it could not be written to after
    all the work, somebody else writes there, or somebody's files lie there. `page`: whether one comes to lie in it."""
    from unsteep.pages.files import swept
    from unsteep.pages.ours import check_folder
    from unsteep.storage.lock import FolderLock

    if page:
        check_folder(out)
    HELD.get().enter_context(FolderLock(out))
    swept(out)


def many(n: int, thing: str) -> str:
    """So many of a thing: 1 sample, 2 samples."""
    return f"{n:,} {thing}{'' if n == 1 else 's'}"


def nearest(name: str, known: Iterable[str]) -> str:
    """'did you mean ...? known: ...' for a name that is not known."""
    known = list(known)
    close = difflib.get_close_matches(name, known, n=2)
    meant = f"did you mean {' or '.join(close)}? " if close else ""
    return f"{meant}known: {', '.join(known)}"


def chosen_device(name: str) -> str:
    """The torch device of --device; "auto" takes the first accelerator that is there."""
    from unsteep.opening import chosen_device as chosen

    try:
        return chosen(name)
    except ValueError as error:
        raise ValueError(f"--{error}") from None


def run_in(model: Model, precision: Precision, rows: int) -> None:
    """Runs a model in the precision of --precision, for so many samples at a time, and says which and why."""
    model.to(precision=precision, rows=max(1, rows))  # fewer are refused by the verb, by their name
    if precision != "float32":
        say(f"precision  {model.took}")


def _held() -> Any:
    """A configuration of a solver alone."""
    from unsteep.sampling import DDIM, AnySolver

    return make_dataclass("Held", [("solver", AnySolver, field(default_factory=DDIM))], frozen=True, kw_only=True)()


def chosen_solver(
    name: str | None, order: int | None, settings: Sequence[str], tolerance: float | None
) -> Solver | Adaptive | None:
    """The solver of --solver, --order, --set and --tolerance; None for the default one."""
    from unsteep.sampling import PAIRS, SOLVERS, Adaptive
    from unsteep.storage.config import override

    if tolerance is not None:
        pair = name or "heun"
        if pair not in PAIRS:
            raise ValueError(f"--tolerance: adaptive steps are those of {' or '.join(PAIRS)}, got --solver {name}")
        return override(Adaptive(pair=pair, tolerance=tolerance), settings)
    if name is None and order is None and not settings:
        return None
    name = name or "gaussian-frame"
    if ":" in name:  # one of the user's own
        return override(_held(), [f"solver={name}", *(f"solver.{one}" for one in settings)]).solver
    if name not in SOLVERS:
        raise ValueError(f"--solver: unknown solver {name!r}; {nearest(name, SOLVERS)}")
    solver = SOLVERS[name]
    if order is not None and "order" not in {f.name for f in fields(solver)}:  # type: ignore[arg-type]
        raise ValueError(f"--order: {name} comes in one order; leave it out")
    return override(solver, [*([] if order is None else [f"order={order}"]), *settings])


def chosen_grid(name: str | None) -> Grid | list[float] | None:
    """The grid of --grid: a spacing's name, or times such as 1,0.5,0."""
    from unsteep.sampling import SPACINGS

    if name is None or name == "tuned" or name in SPACINGS:
        return name  # type: ignore[return-value]  # one of the names
    try:
        return [float(t) for t in name.split(",")]
    except ValueError:
        raise ValueError(
            f"--grid: unknown grid {name!r}; {nearest(name, [*SPACINGS, 'tuned'])}, or times as 1,0.5,0"
        ) from None


def chosen_guidance(
    scale: float,
    *,
    interval: tuple[float, float] | None = None,
    rescale: float = 0.0,
    threshold: float | None = None,
    negative_label: str | None = None,
    negative_prompt: str | None = None,
    classifier: Path | None = None,
    weaker: Path | None = None,
    device: str = "cpu",
    precision: Precision = "float32",
    trust: bool = False,
) -> Guidance:
    """The guidance of --guidance and the options beside it. A model looks at what it means when it is asked."""
    from unsteep.guidance.setting import Guidance
    from unsteep.opening import load
    from unsteep.training.classifying import open_classifier

    asked = {"label": negative_label, "prompt": negative_prompt}
    negative = {name: value for name, value in asked.items() if value is not None}
    return Guidance(
        scale=scale,
        interval=interval,
        rescale=rescale,
        threshold=threshold,
        negative=negative or None,
        classifier=None if classifier is None else open_classifier(classifier, device, precision),
        weaker=None if weaker is None else load(weaker, device=device, precision=precision, trust=trust),
    )


def asked_by_name(pairs: Sequence[str] | None, asked: Mapping[str, Any]) -> dict[str, Any]:
    """The conditions of --ask, beside those that are `asked` for by options of their own. ValueError for one that is
    asked for twice."""
    found: dict[str, Any] = {}
    for name, value in (_pair(one) for one in pairs or []):
        if asked.get(name) is not None or name in found:
            raise ValueError(f"--ask {name}: it is asked for twice; leave one out")
        found[name] = value
    return found


def _pair(text: str) -> tuple[str, Any]:
    """NAME=VALUE of --ask, the value as TOML where it is that, else as text."""
    import tomllib

    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise ValueError(f"--ask {text}: expected NAME=VALUE, a condition of the model's own and what is asked of it")
    try:
        return name.strip(), tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return name.strip(), value.strip()
