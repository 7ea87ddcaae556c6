"""Data from where it lies: folders of pictures, arrays, idx files, the digits of scikit-learn.

Every source is a frozen dataclass whose fields are its configuration, and whose `read(split)` gives a
`DataSet` in memory. Nothing is downloaded and nothing that is read can execute.
"""

from unsteep.data.arrays import Array
from unsteep.data.dataset import DataSet, Split
from unsteep.data.digits import Digits
from unsteep.data.folder import Folder
from unsteep.data.idx import Idx, read_idx

__all__ = ["Array", "DataSet", "Digits", "Folder", "Idx", "Split", "read_idx"]
