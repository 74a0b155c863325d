"""Shared parts of the literal computations: a prompt's rows, and the columns of ids that may make room for them."""

from __future__ import annotations

from torch import Tensor

Prompts = list[Tensor | None]


def repeated(prompt: Tensor, x: Tensor) -> Tensor:
    """(n, d) -> (len(x), n, d), in the precision of x."""
    return prompt.to(x.dtype).expand(len(x), -1, -1)


def drop_padding(ids: Tensor, kept: int) -> None:
    """Checks that the columns from `kept` on are padding of every row.

    Padding is what lies in a row's trailing run of one repeated id, and one column of that run must be kept.

    Raises:
        ValueError: If they are not.
    """
    for number, row in enumerate(ids.tolist()):
        run = 1
        while run < len(row) and row[-run - 1] == row[-1]:
            run += 1
        if len(row) - kept > run - 1:
            raise ValueError(f"row {number}: {len(row) - kept} columns must go, its padding has {run} and keeps one")
