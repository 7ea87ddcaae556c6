"""What several verbs need."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


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
