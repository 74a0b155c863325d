"""Which adapter `use_adapter` chose, in this thread or asyncio task.

The parameters are shared by all threads, and so is the active adapter. A choice belongs to one thread or task alone.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

# The open choices of this thread or task, innermost first: whose choice it is, and the adapter's name. torch.compile
# guards on the value.
_choices: ContextVar[tuple[tuple[object, str], ...]] = ContextVar("vilt_prompt_choices", default=())


@contextlib.contextmanager
def choose(owner: object, adapter_name: str) -> Iterator[None]:
    """Chooses one of the owner's adapters inside the block."""
    choice = (owner, adapter_name)
    _choices.set((choice, *_choices.get()))
    try:
        yield
    finally:
        # Generators inside such blocks may end in any order, even in another thread: a token of the variable would then
        # restore the choice of another block.
        choices = list(_choices.get())
        if choice in choices:
            choices.remove(choice)
            _choices.set(tuple(choices))


def chosen(owner: object) -> str | None:
    """The owner's adapter that the innermost open block chose; None outside of such blocks."""
    for other, adapter_name in _choices.get():
        if other is owner:
            return adapter_name
    return None


def is_chosen(owner: object, adapter_name: str) -> bool:
    """Whether this thread or task is inside a block that chose this adapter."""
    return any(other is owner and name == adapter_name for other, name in _choices.get())
