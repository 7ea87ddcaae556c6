"""Samples that are no numbers: which they are, and what may be wrong."""

from __future__ import annotations

from torch import Tensor


class NotFinite(ValueError):
    """Samples that are not finite."""


def check_finite(samples: Tensor, first: int, valid: Tensor | None = None) -> None:
    """NotFinite where some of the samples (n, ...), of the seeds from `first` on, are not finite where they are
    valid."""
    finite = samples.isfinite()
    if valid is not None:
        finite = finite | ~valid.to(samples.device).reshape(*valid.shape, *(1,) * (samples.ndim - valid.ndim))
    broken = (~finite.flatten(1).all(1)).nonzero().flatten() + first
    if len(broken):
        named = ", ".join(map(str, broken[:5].tolist()))
        raise NotFinite(
            f"sampling: {len(broken)} of {len(samples)} samples are not finite, those of seeds {named}"
            f"{' and more' if len(broken) > 5 else ''}; take more steps or another solver, or see how training ended"
        )
