"""Data from where it lies: folders of pictures, with captions or without, arrays, idx files, the digits of
scikit-learn, the emoji of a font; and shapes, which are drawn.

Every source is a frozen dataclass whose fields are its configuration, and whose `read(split)` gives a
`DataSet` in memory. Nothing is downloaded and nothing that is read can execute.
"""

from unsteep.data.arrays import Array
from unsteep.data.captions import Captions
from unsteep.data.dataset import DataSet, Split
from unsteep.data.digits import Digits
from unsteep.data.emoji import Emoji
from unsteep.data.folder import Folder
from unsteep.data.idx import Idx, read_idx
from unsteep.data.pairs import enlarged, low_resolution
from unsteep.data.shapes import Shapes

__all__ = [
    "Array",
    "Captions",
    "DataSet",
    "Digits",
    "Emoji",
    "Folder",
    "Idx",
    "Shapes",
    "Split",
    "enlarged",
    "low_resolution",
    "read_idx",
]
