"""Nets of features that are trained here, once, and kept: each in a folder of the cache whose name is a hash of all
that it depends on."""

from __future__ import annotations

import hashlib
import json
import shutil
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from torch import Tensor

from unsteep.data import cache as caches
from unsteep.storage.checkpoint import fill_folder, load_tensors, load_text
from unsteep.storage.manifest import Corrupt, verify

Stored = tuple[dict[str, Tensor], dict[str, Any]]  # weights, and what there is to know about them


def stored(kind: str, key: Any, trained: Callable[[], Stored], cache: Path | None = None) -> Stored:
    """What lies in `cache` (None: the user's cache folder) of this kind and key, as JSON holds it; `trained` and put
    there if nothing whole does."""
    kept, name = cache or default_cache(), f"{kind}-{hashlib.sha256(json.dumps(key).encode()).hexdigest()[:32]}"
    if kept is None:
        return trained()
    found = _read(kept / name)
    if found is None:
        made = trained()
        _write(kept / name, *made)
        found = _read(kept / name) or made  # another process may have been the first
    return found


def default_cache() -> Path | None:
    """`features` in the folder of what is kept (see `data.cache`); None where nothing is."""
    kept = caches.root()
    return None if kept is None else kept / "features"


def digest_of(weights: dict[str, Tensor]) -> str:
    """SHA-256 of weights by their names."""
    content = b"".join(name.encode() + weights[name].contiguous().numpy().tobytes() for name in sorted(weights))
    return hashlib.sha256(content).hexdigest()


def _read(folder: Path) -> Stored | None:
    """What lies in the cache, None if nothing does or it is not what was written, which is then removed."""
    if not folder.exists():
        return None
    try:
        verify(folder)
    except Corrupt as error:
        warnings.warn(f"the features in the cache are damaged and are trained again: {error}", stacklevel=4)
        shutil.rmtree(folder, ignore_errors=True)
        return None
    return load_tensors(folder, "weights"), json.loads(load_text(folder, "facts.json"))


def _write(folder: Path, weights: dict[str, Tensor], facts: dict[str, Any]) -> None:
    """Whole or not at all; where nothing can be kept, it is trained again the next time."""
    with suppress(OSError), caches.Entry(folder).writing() as beside:
        fill_folder(beside, tensors={"weights": weights}, texts={"facts.json": json.dumps(facts, indent=1) + "\n"})
        if folder.exists():
            raise FileExistsError(folder)  # another process was the first, and all look through its net
