"""Editing a clip: some of its frames, or of its parts, stay as they are, and the model makes the rest fit.

It is filling in (`model.fill`), of a mask that is made of frames and parts; what was kept is then put back bit for bit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from unsteep.core.arguments import shown
from unsteep.model.fill import fill
from unsteep.model.model import Model

METHOD = "pigdm"
LEFT = (
    0.3  # for pigdm: between frames of smooth clips, one in thirty seams is then rougher than theirs, at 1 one in three
)


@runtime_checkable
class Clipped(Protocol):
    """A space whose examples are clips of points."""

    def opened(self, clip: Any) -> tuple[Tensor, Tensor]:
        """The clip's numbers (frames, features) in the data's units, and which of them are known."""
        ...

    def closed(self, sample: Tensor, clip: Any, kept: Tensor) -> Any:
        """A sample as a clip, with the points that were `kept` (frames, points) as they are in `clip`."""
        ...

    @property
    def parts(self) -> Mapping[str, Tensor]:
        """Which points are of each part, bool (points,), by its name."""
        ...


def edit(
    model: Model,
    clip: Any,
    n: int = 1,
    *,
    keep: Sequence[int] = (),
    keep_parts: Sequence[str] = (),
    method: Any = METHOD,
    **how: Any,
) -> list[Any]:
    """n clips, those of the seeds from `seed` on, in which the frames `keep`, and the points of `keep_parts` in all
    frames, are those of `clip` (a `PoseClip`), bit for bit, and the model makes the rest fit.

    `method`, and `how`: as `fill` has them. Points that the clip lacks are made in the other frames and stay missing in
    those that are kept. ValueError for a model of anything else than clips, for frames that the clip does not have, and
    where nothing or everything is kept.
    """
    space: Any = model.space
    if not isinstance(space, Clipped):
        raise ValueError(f"model: expected one of clips of a skeleton, and this one makes {space.describe()}")
    x, known = space.opened(clip)
    for frame in keep:
        if isinstance(frame, bool) or not isinstance(frame, int) or not 0 <= frame < len(x):
            raise ValueError(f"keep: expected frames from 0 to {len(x) - 1}, got {frame!r}")
    frames = torch.zeros(len(x), dtype=torch.bool)
    frames[list(keep)] = True
    kept = frames[:, None].expand(-1, len(next(iter(space.parts.values()))))
    for part in keep_parts:
        if part not in space.parts:
            raise ValueError(f"keep_parts: expected some of {', '.join(space.parts)}, got {shown(part)}")
        kept = kept | space.parts[part]
    if not bool(kept.any()) or bool(kept.all()):
        what = "nothing of the clip is kept" if not bool(kept.any()) else "all of the clip is kept"
        raise ValueError(f"keep: {what}; name some frames or parts, and leave some for the model")
    wide = kept.repeat_interleave(x.shape[1] // kept.shape[1], 1) & known
    how = {"left": LEFT, **how} if method == "pigdm" else how
    return [space.closed(one, clip, kept) for one in fill(model, x, ~wide, n, method=method, **how)]
