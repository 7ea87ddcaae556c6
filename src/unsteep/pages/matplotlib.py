"""Matplotlib, imported so that the environment has no say: its MPLBACKEND may name a backend that is not installed
here, as a notebook's is, and the import would fail. Nothing here needs a backend.
"""

import os
from typing import Any


def imported() -> Any:
    """The module, with its styles."""
    asked = os.environ.pop("MPLBACKEND", None)
    try:
        import matplotlib.style
    finally:
        if asked is not None:
            os.environ["MPLBACKEND"] = asked
    return matplotlib
