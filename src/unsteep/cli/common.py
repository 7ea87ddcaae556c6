"""What several verbs need."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from unsteep.guidance.setting import Guidance
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
    if order is not None and "order" not in {field.name for field in fields(solver)}:
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
    negative_label: str | None = None,
    negative_prompt: str | None = None,
    classifier: Path | None = None,
    weaker: Path | None = None,
) -> Guidance:
    """The guidance of --guidance and the options beside it, for n samples; `label`: the classes asked for, in turn."""
    from unsteep.core.condition import Condition
    from unsteep.guidance.setting import Guidance
    from unsteep.model.asking import number_of, text_of
    from unsteep.opening import load
    from unsteep.training.classifier import open_classifier

    negative = negative_label is not None or negative_prompt is not None
    idle = {"interval": interval, "rescale": rescale, "negative": negative, "weaker": weaker}
    if scale == 1 and classifier is None and any(idle.values()):
        names = ", ".join(name for name, given in idle.items() if given)
        raise ValueError(f"--guidance 1 guides nothing, {names} would do nothing; give a scale, as --guidance 2")
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
    if negative:
        try:
            against = None if negative_label is None else model.labels_of(n, negative_label)
            told = negative_prompt
            text, valid = (None, None) if told is None else text_of(model.description, n, told)
        except ValueError as error:
            raise ValueError(f"--negative-{error}") from None
        found = replace(found, negative=Condition(label=against, text=text, text_valid=valid))
    if weaker is not None:
        other = load(weaker, device=model.device)
        if other.space.shape != model.space.shape or other.description.language != model.description.language:
            raise ValueError(
                f"--weaker {weaker}: expected a model of the same data and classes as the stronger one, and of the same"
                " vocabulary and kind of picture where it hears any"
            )
        found = replace(found, weaker=other.denoiser)
    return found


def torch_labels(labels: Sequence[int]) -> Tensor:
    """int64 (n,)."""
    import torch

    return torch.tensor(labels)


def read_given(path: Path, model: Model) -> Tensor:
    """Aligned pictures for a model that hears them, uint8 (n, c, h, w), as it takes them: one file, a folder of
    pictures, or the array that unsteep sample wrote."""
    import numpy as np
    import torch
    from PIL import Image

    from unsteep.data import Array
    from unsteep.data.folder import picture_files
    from unsteep.data.pairs import Aligned
    from unsteep.data.pictures import FORMATS, load_picture, reason
    from unsteep.spaces import Pixels

    of, space = model.description, model.space
    if not of.picture or not isinstance(space, Pixels):
        raise ValueError("--picture: this model was trained without one; see unsteep train upscale")
    if not path.exists():
        raise ValueError(f"--picture {path}: there is nothing; give a picture, a folder of them, or a .npz")
    if path.suffix == ".npz":
        return Array(path=str(path)).read("all").x
    aligned, read = Aligned.of(of.picture), []
    for file in [path / name for name in picture_files(path)] if path.is_dir() else [path]:
        try:
            with Image.open(file, formats=FORMATS) as image:
                small = aligned.kind == "low-resolution" and max(image.size) <= aligned.side
            side = aligned.side if small else space.size
            read.append(load_picture(file, size=side, channels=aligned.channels(space.channels)))
        except Exception as error:  # decoders raise nearly anything on damaged files
            raise ValueError(f"--picture {file}: expected a picture, got {reason(error)}; give another") from None
    sides = {one.shape for one in read}
    if len(sides) > 1:
        raise ValueError(f"--picture {path}: some are small, as the model takes them, and some whole; give one kind")
    return torch.from_numpy(np.stack(read))


def fitted(given: Tensor, model: Model) -> Tensor:
    """Such pictures as the model hears them, before noise: uint8 (n, c, h, w) of its size."""
    from unsteep.data.pairs import Aligned

    channels, size, _ = model.space.shape
    return Aligned.of(model.description.picture).fitted(given, channels, size)


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
