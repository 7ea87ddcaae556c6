"""What several verbs need."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from unsteep.guiding import Guidance
    from unsteep.model import Model
    from unsteep.sampling import Adaptive, Grid, Solver


def nearest(name: str, known: Iterable[str]) -> str:
    """'did you mean ...? known: ...' for a name that is not known."""
    known = list(known)
    close = difflib.get_close_matches(name, known, n=2)
    meant = f"did you mean {' or '.join(close)}? " if close else ""
    return f"{meant}known: {', '.join(known)}"


def chosen_device(name: str) -> str:
    """The torch device of --device; "auto" takes the first accelerator that is there."""
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        torch.empty(1, device=name)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(
            f"--device {name}: not available here; use auto or cpu ({str(error).splitlines()[0]})"
        ) from None
    return name


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
    if name not in SOLVERS:
        raise ValueError(f"--solver: unknown solver {name!r}; {nearest(name, SOLVERS)}")
    solver = SOLVERS[name]
    if order is not None and not hasattr(solver, "order"):
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
    model: Model,
    n: int,
    scale: float,
    *,
    label: Sequence[int | str] | None = None,
    interval: tuple[float, float] | None = None,
    rescale: float = 0.0,
    threshold: float | None = None,
    negative: str | None = None,
    classifier: Path | None = None,
    weaker: Path | None = None,
) -> Guidance:
    """The guidance of --guidance and the options beside it, for n samples; `label`: the classes asked for, in turn."""
    from unsteep.asking import number_of
    from unsteep.core.condition import Condition
    from unsteep.guiding import Guidance
    from unsteep.opening import load
    from unsteep.training.classifier import open_classifier

    found = Guidance(scale=scale, interval=interval, rescale=rescale, threshold=threshold)
    if classifier is not None:
        module, described = open_classifier(classifier, str(model.device))
        if described.space.shape != model.space.shape:
            raise ValueError(
                f"--classifier {classifier}: it knows pictures {described.space.shape}, the model makes "
                f"{model.space.shape}; train one on the model's data"
            )
        asked = [number_of(described.names, one) for one in label or described.names]
        found = replace(found, classifier=module, labels=torch_labels([asked[i % len(asked)] for i in range(n)]))
    if negative is not None:
        against = model.labels_of(n, negative)
        found = replace(found, negative=Condition(label=against))
    if weaker is not None:
        other = load(weaker, device=model.device)
        if other.space.shape != model.space.shape or other.names != model.names:
            raise ValueError(f"--weaker {weaker}: expected a model of the same data and classes as the stronger one")
        found = replace(found, weaker=other.denoiser)
    return found


def torch_labels(labels: Sequence[int]) -> Tensor:
    """int64 (n,)."""
    import torch

    return torch.tensor(labels)


@contextmanager
def evaluations(model: Model, guidance: Guidance | None = None) -> Iterator[Callable[[], int]]:
    """Counts the rows that go through the model's network, and through that of a weaker model or a classifier that
    guides it: evaluations, over all samples."""
    rows = 0

    def count(module: Any, inputs: tuple[Any, ...], output: Any) -> None:
        nonlocal rows
        rows += len(output)

    others = () if guidance is None else (guidance.weaker, guidance.classifier)
    networks = [model.denoiser.network, *(other.network for other in others if other is not None)]
    handles = [network.register_forward_hook(count) for network in networks]
    try:
        yield lambda: rows
    finally:
        for handle in handles:
            handle.remove()


def read_latents(path: Path, model: Model) -> tuple[Tensor, Tensor | None]:
    """The latents in a file of `unsteep invert`, and the labels they were found under, if any."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        stored = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ValueError(f"--from {path}: not a file of latents ({error}); give what unsteep invert wrote") from None
    if "latents" not in stored:
        raise ValueError(f"--from {path}: holds no latents; give what unsteep invert wrote")
    latents, wanted = stored["latents"], model.space.shape
    if tuple(latents.shape[1:]) != wanted:
        raise ValueError(
            f"--from {path}: expected latents of {wanted}, as this model makes them, got {tuple(latents.shape[1:])}"
        )
    return latents, stored.get("labels") if model.names else None
