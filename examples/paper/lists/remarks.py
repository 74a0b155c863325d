"""Warnings about a data set: each kind is counted, and its first three cases are named."""

from collections.abc import Iterable

NAMED = 3


def remark(count: int, what: str, cases: Iterable[str]) -> str:
    """Returns one line of the form "12 rows ...: first, second, third, ...".

    Args:
        count: How many cases there are.
        what: A description of them, and how they are treated.
        cases: The cases, in the order in which they were met; the first three are named. Without any, the count alone.
    """
    named = [case for case, _ in zip(cases, range(NAMED), strict=False)]
    return f"{count} {what}" + (f": {', '.join(named)}{', ...' if count > len(named) else ''}" if named else "")
