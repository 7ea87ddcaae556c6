"""Data from where it lies: folders and archives of pictures, with captions or without, arrays, idx files, CIFAR,
sequences, clips of poses, the digits of scikit-learn, the emoji of a font; shapes and signs, which are made; and what a
program gives from Python.

Every source is a frozen dataclass whose fields are its configuration, and whose `read(split)` gives a `DataSet`. A
source of a user's own is as good. Nothing is downloaded and nothing that is read can execute.
"""

from typing import Annotated

from unsteep.core.open import Components
from unsteep.core.protocols import DataSet, Rows, Source, Split
from unsteep.data.arrays import Array
from unsteep.data.captions import Captions
from unsteep.data.cifar import Cifar
from unsteep.data.digits import Digits
from unsteep.data.emoji import Emoji
from unsteep.data.examples import Examples
from unsteep.data.folder import Folder
from unsteep.data.given import Given, as_dataset
from unsteep.data.idx import Idx, read_idx
from unsteep.data.poses import PoseExamples, Poses
from unsteep.data.shapes import Shapes
from unsteep.data.signer import Signer
from unsteep.data.timelines import Timelines

AnyData = Annotated[
    Source, Components(Digits, Idx, Cifar, Folder, Array, Shapes, Captions, Emoji, Timelines, Poses, Signer, Given)
]

__all__ = [
    "AnyData",
    "Array",
    "Captions",
    "Cifar",
    "DataSet",
    "Digits",
    "Emoji",
    "Examples",
    "Folder",
    "Given",
    "Idx",
    "PoseExamples",
    "Poses",
    "Rows",
    "Shapes",
    "Signer",
    "Source",
    "Split",
    "Timelines",
    "as_dataset",
    "read_idx",
]
