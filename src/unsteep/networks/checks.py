"""What the configs of networks have in common when they look at their own fields."""

from torch import nn

DEEPEST = 1000  # blocks in a row
LEVELS = 16  # beyond, sides of 65536 pixels are halved away


def check_at_least(least: int, **fields: int) -> None:
    """Raise a ValueError naming the first field below `least`."""
    for name, value in fields.items():
        if value < least:
            raise ValueError(f"{name}: expected a whole number of at least {least}, got {value}")


def check_depth(least: int = 1, **fields: int) -> None:
    """Raise a ValueError naming the first field, a number of blocks, below `least` or beyond what anybody trains: to
    build a network takes time for each, whatever its size."""
    check_at_least(least, **fields)
    for name, value in fields.items():
        if value > DEEPEST:
            raise ValueError(f"{name}: expected a whole number of at most {DEEPEST}, got {value}")


def check_levels(multipliers: tuple[int, ...]) -> None:
    """Raise a ValueError unless each is the width of a level, of which each halves the sides of the one before."""
    if not multipliers or min(multipliers) < 1 or len(multipliers) > LEVELS:
        got = str(multipliers) if len(multipliers) <= LEVELS else f"{len(multipliers)} of them"
        raise ValueError(f"multipliers: expected positive whole numbers, one a level, at most {LEVELS}, got {got}")


def check_width(width: int) -> None:
    """Raise a ValueError unless `width` numbers hold sines and cosines of at least two frequencies."""
    if width < 4 or width % 2:
        raise ValueError(f"width: expected an even number of at least 4 (it holds sine and cosine pairs), got {width}")


def check_filled(**fields: int) -> None:
    """Raise a ValueError naming the first field that still waits for the data."""
    for name, value in fields.items():
        if value == 0:
            raise ValueError(f"{name}: 0 means filled from the data; set it to the data's own {name} before build()")


def groups_of(width: int) -> int:
    """Groups of a GroupNorm over `width` channels: as many as divide it, at most 32, of four channels at least, so that
    what is added before the norm is heard after it."""
    return max((groups for groups in range(1, 33) if width % groups == 0 and width >= 4 * groups), default=1)


def check_hears(network: nn.Module, key: str) -> None:
    """ValueError where a block of the network that is set at `key` cannot hear what it is told: it is `deaf`."""
    for name, module in network.named_modules():
        if getattr(module, "deaf", False):
            raise ValueError(
                f"{key}.groups: with one channel a group, the norm removes all that {name} is told of noise level and "
                "class; leave it out, for four channels a group at least"
            )
