"""unsteep invert: pictures to the latents that they come from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from unsteep.cli.terminal import say


def invert(
    run: Path,
    data: Path,
    /,
    *,
    out: Path = Path("latents.safetensors"),
    label: str | None = None,
    ask: Annotated[list[str] | None, Parameter(negative=())] = None,
    tolerance: float = 1e-4,
    batch: int = 64,
    force: Annotated[bool, Parameter(negative=())] = False,
    trust: Annotated[bool, Parameter(negative=())] = False,
    device: str = "auto",
) -> None:
    """Find the noise that a model makes given pictures of; `unsteep sample RUN --from` goes back.

    Parameters
    ----------
    run
        A run's folder, one of its checkpoints, or a saved model.
    data
        A picture, a folder of pictures, or an array (.npy, .npz). Sub-folders named as the model's classes are classes.
    out
        Where the latents go, a .safetensors file.
    label
        A class by number or name, for all; default: the data's own, or none.
    ask
        A condition of the model's own and what is asked of it, as brightness=0.8; may be repeated.
    tolerance
        The error that a step of the integration may make.
    batch
        Pictures that go through the network together.
    force
        Overwrite a file that unsteep did not write.
    trust
        Import the parts of somebody's own that the model names, as its network.
    device
        auto, cpu, cuda or mps.
    """
    from safetensors.torch import save_file

    from unsteep.cli.common import asked_by_name, chosen_device, many
    from unsteep.cli.reading import examples_at, labels_for
    from unsteep.data.reading import every
    from unsteep.model.invert import invert as inverted
    from unsteep.opening import load
    from unsteep.pages.files import by_suffix, replacing
    from unsteep.pages.ours import METADATA, check_file

    by_suffix(out, {".safetensors": "safetensors"}, "a file of latents")
    check_file(out, force=force)
    model = load(run, device=chosen_device(device), trust=trust)
    examples = examples_at(data, model)
    labels = labels_for(examples, model, label)
    rows = every(examples)
    asks = {"label": labels, "length": None if rows.valid is None else rows.valid.sum(1)}
    asks |= asked_by_name(ask, asks)
    result = inverted(model, rows.x, tolerance=tolerance, batch_size=batch, progress=True, **asks)
    known = None if labels is None else model.labels_of(len(examples), labels)
    tensors = {"latents": result.latents} | ({} if known is None else {"labels": known})
    with replacing(out) as beside:
        save_file(tensors, beside, METADATA)
    calls, error = result.calls.double(), result.error
    say(f"{many(len(examples), 'latent')} in {out}, {float(calls.mean()):.4g} network calls each")
    say(f"they come back with an RMS error of {float(error.median()):.2g} (median; worst {float(error.max()):.2g})")
