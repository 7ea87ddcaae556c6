"""What several tests build, as a run builds it."""

from unsteep.core.protocols import DataSet
from unsteep.model import Description
from unsteep.training.batches import Batches
from unsteep.training.denoising import Run


def batches_for(run: Run, data: DataSet, description: Description | None = None) -> Batches:
    """The batches of a run on these data."""
    of = description or run.describe(data)
    return Batches(data, of.space, of.hears, run.train, drop=run.condition.drop)
