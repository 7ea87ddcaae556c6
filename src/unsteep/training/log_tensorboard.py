"""The log of a run for TensorBoard: scalars and previews in the folder tensorboard/, shown by
`tensorboard --logdir RUN`."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image

FOLDER = "tensorboard"


def check_tensorboard() -> None:
    """ValueError where it is not installed."""
    if find_spec("tensorboard") is None:
        raise ValueError('train.log: tensorboard is an extra that is not installed; pip install "unsteep[tensorboard]"')


class TensorBoardLog:
    """Writes events; opened to go on, TensorBoard drops those of later steps."""

    def __init__(self, out: Path, step: int) -> None:
        check_tensorboard()
        from torch.utils.tensorboard import SummaryWriter  # takes seconds to import

        self._writer = SummaryWriter(str(out / FOLDER), purge_step=step + 1)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            if name == "terms":
                self.write(step, {f"loss/{term}": one for term, one in value.items()})  # type: ignore[attr-defined]
            elif name != "step":
                self._writer.add_scalar(name, value, step)

    def picture(self, step: int, path: Path) -> None:
        with Image.open(path) as opened:
            self._writer.add_image("preview", np.asarray(opened.convert("RGB")), step, dataformats="HWC")

    def close(self) -> None:
        self._writer.close()
