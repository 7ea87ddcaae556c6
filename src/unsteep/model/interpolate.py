"""Two pictures and the way between them, as a sheet: one row for each noise level and seed, one through inversion.

The originals stand at both ends. Beside them lambda = 0 and 1 show what of each survives the way up and down again.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from PIL.Image import Image
from torch import Tensor

from unsteep.core.noise import NoiseSource
from unsteep.core.schedules import steps_of
from unsteep.data.pictures import load_picture, reason
from unsteep.model.asking import check_null
from unsteep.model.model import Model
from unsteep.pages import pictures
from unsteep.sampling import DDIM, Ancestral, Solver, sample
from unsteep.sampling.interpolation import interpolate, invert, levels_from, slerp
from unsteep.spaces import Pixels

Label = int | str | None


def at_level(
    model: Model,
    a: Tensor,
    b: Tensor,
    *,
    step: int | None = None,
    frames: int = 9,
    steps: int = 0,
    solver: Solver | None = None,
    label: Label = None,
    seed: int = 0,
    clip: bool = True,
) -> Tensor:
    """From a to b, mixed at a step of the chain (Ho et al. 2020, section 4.4), in the data's own units throughout.

    a, b: one example each, uint8 (c, h, w) for pictures. `step`: default, half of the chain. `steps` of the `solver`
    (default Ancestral()) from there down, 0 for all. `label`: one class for every frame; default, none. Returns
    (frames, ...), the first and last of which are a and b noised to that step and denoised again.
    """
    if not -(2**63) <= seed < 2**63:
        raise ValueError(f"seed: expected a whole number of 64 bits, got {seed}; take a smaller one")
    schedule = model.denoiser.schedule
    levels = levels_from(schedule, half(model) if step is None else step, steps)
    x_a, x_b = model.space.encode(torch.stack([a, b])).to(model.device)
    denoise = model.denoise(_labels(model, frames, label), clip)
    solver = Ancestral() if solver is None else solver
    return model.space.decode(interpolate(denoise, x_a, x_b, shares(frames), levels, solver, seed, schedule.inverse))


def by_inversion(
    model: Model, a: Tensor, b: Tensor, *, frames: int = 9, steps: int = 0, label: Label = None, clip: bool = True
) -> Tensor:
    """From a to b through their deterministic latents: DDIM inversion to t = 1, slerp, DDIM back. Nothing is drawn.

    `steps` of DDIM each way, 0 for every step of the chain; the rest as in `at_level`.
    """
    levels = levels_from(model.denoiser.schedule, _total(model), steps)
    ends = model.space.encode(torch.stack([a, b])).to(model.device)
    latent_a, latent_b = invert(model.denoise(_labels(model, 2, label), clip), ends, levels)
    x = slerp(latent_a, latent_b, shares(frames))
    denoise = model.denoise(_labels(model, frames, label), clip)
    return model.space.decode(sample(denoise, x, levels, DDIM(), NoiseSource([0] * frames)))


def shares(frames: int) -> Tensor:
    """b's share of each frame: float64 (frames,) from 0 to 1."""
    if frames < 2:
        raise ValueError(f"frames: expected at least 2, the ends of the way, got {frames}")
    return torch.linspace(0, 1, frames, dtype=torch.float64)


def half(model: Model) -> int:
    """The step in the middle of the chain."""
    return max(1, _total(model) // 2)


def read(path: Path, model: Model) -> Tensor:
    """The picture at `path` at the model's size and channels: uint8 (c, h, w). ValueError where it cannot be read."""
    if not isinstance(model.space, Pixels):
        raise ValueError("this model makes rows of numbers, not pictures; give a model of pictures")
    try:
        picture = load_picture(path, size=model.space.size, channels=model.space.channels)
    except Exception as error:  # decoders raise nearly anything on damaged files
        raise ValueError(f"{path}: expected a picture, got {reason(error)}; give another file") from None
    return torch.from_numpy(picture.copy())


def sheet(a: Tensor, b: Tensor, rows: Mapping[str, Tensor]) -> Image:
    """The rows by name, frames (n, c, h, w) each, between the originals a and b (c, h, w)."""
    between = len(next(iter(rows.values())))
    columns = ["original", *(f"λ = {float(share):.3g}" for share in shares(between)), "original"]
    whole = torch.stack([torch.cat([a[None], frames, b[None]]) for frames in rows.values()])
    return pictures.strip(whole.numpy(), row_labels=list(rows), column_labels=columns)


def _labels(model: Model, n: int, label: Label) -> Tensor | None:
    """One class for all of n; without one the model is asked for no class, which it has learned if some of its
    training had the class hidden: two pictures of different classes have none in common."""
    if label is None:
        check_null(model.description)
    return None if label is None else model.labels_of(n, label)


def _total(model: Model) -> int:
    return steps_of(model.denoiser.schedule)
