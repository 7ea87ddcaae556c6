"""What the configs of networks have in common when they look at their own fields."""


def check_at_least(least: int, **fields: int) -> None:
    """Raise a ValueError naming the first field below `least`."""
    for name, value in fields.items():
        if value < least:
            raise ValueError(f"{name}: expected a whole number of at least {least}, got {value}")


def check_width(width: int) -> None:
    """Raise a ValueError unless `width` numbers hold sines and cosines of at least two frequencies."""
    if width < 4 or width % 2:
        raise ValueError(f"width: expected an even number of at least 4 (it holds sine and cosine pairs), got {width}")


def check_filled(**fields: int) -> None:
    """Raise a ValueError naming the first field that still waits for the data."""
    for name, value in fields.items():
        if value == 0:
            raise ValueError(f"{name}: 0 means filled from the data; set it to the data's own {name} before build()")
