"""Checks of counts, such as frames, views and shots."""

from operator import index


def check_counts(**counts: object) -> None:
    """Checks that every count is an integer of at least 1; NumPy's integers count too.

    Args:
        counts: The counts by their names, which the messages show.

    Raises:
        TypeError: If one is not an integer.
        ValueError: If one is below 1.
    """
    for name, value in counts.items():
        try:
            number = index(value)  # type: ignore[arg-type]
        except TypeError:
            number = None
        if number is None or isinstance(value, bool):
            raise TypeError(f"{name} must be an integer, got {value!r}")
        if number < 1:
            raise ValueError(f"expected {name} of at least 1, got {number}")
