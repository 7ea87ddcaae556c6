"""Opening a local file of published weights.

The SHA-256 of a file says which weights a number was computed with, so a file is known by its hash or named as custom.
Nothing that is read here can execute: safetensors holds tensors only, and a `.pt` or `.pth` file goes through the
restricted unpickler of `torch.load(weights_only=True)`.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load
from torch import Tensor, nn

PICKLED = (".pt", ".pth")


def open_weights(path: Path, known: Mapping[str, str], custom: bool = False) -> tuple[dict[str, Tensor], str]:
    """The tensors of the file, on the CPU, and its SHA-256 in full.

    `known`: what the files that are expected here are, by their SHA-256 or its first digits; any other is refused
    unless `custom`. Raises ValueError if the file is missing, of another kind than .safetensors, .pt or .pth, not
    known, broken, or holds anything but named tensors.
    """
    files = "; ".join(f"{what} (SHA-256 {digest})" for digest, what in known.items())
    if path.suffix not in (".safetensors", *PICKLED):
        raise ValueError(f"{path}: expected a .safetensors, .pt or .pth file of weights; give {files}")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror}); give a local copy of {files}") from error
    digest = hashlib.sha256(data).hexdigest()
    if not custom and not any(digest.startswith(prefix) for prefix in known):
        raise ValueError(
            f"{path}: its SHA-256 {digest} is not that of {files}; give that file, or name these weights as custom"
        )
    try:
        pickled = path.suffix in PICKLED
        found = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True) if pickled else load(data)
    except Exception as error:  # what a broken file raises depends on where it is broken
        raise ValueError(
            f"{path}: cannot be read as tensors and nothing else: it is broken, or holds objects, which may execute "
            "and are never opened; save its state_dict as .safetensors"
        ) from error
    if not isinstance(found, dict) or not all(isinstance(one, Tensor) for one in found.values()):
        raise ValueError(f"{path}: expected tensors by name (a state_dict), got {type(found).__name__} of other things")
    return found, digest


def fill(network: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Give `network`, which may be on the meta device, its float32 parameters and statistics from `tensors`, read from
    `path`, and make it one that is only looked through: no gradients, no training. Tensors of other names are left
    out. ValueError if one is missing or of another shape."""
    wanted = {name: one.shape for name, one in network.state_dict().items() if one.is_floating_point()}
    for name, shape in wanted.items():
        if name not in tensors or tensors[name].shape != shape:
            got = tuple(tensors[name].shape) if name in tensors else f"none of that name among {len(tensors)}"
            raise ValueError(
                f"{path}: expected a tensor {name} of shape {tuple(shape)}, got {got}: these are the weights of "
                "another network, or named otherwise"
            )
    network.load_state_dict({name: tensors[name].float() for name in wanted}, assign=True)
    network.eval().requires_grad_(False)
