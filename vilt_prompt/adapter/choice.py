"""The adapter that `use_adapter` chose in this thread or asyncio task.

All threads share the parameters and the active adapter. A choice belongs to only one thread or task.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

# The open choices of this thread or task, innermost first: the owner and the name of the adapter. torch.compile guards
# on the value.
_choices: ContextVar[tuple[tuple[object, str], ...]] = ContextVar("vilt_prompt_choices", default=())


@contextlib.contextmanager
def choose(owner: object, adapter_name: str) -> Iterator[None]:
    """Choose one of the owner's adapters inside the block."""
    choice = (owner, adapter_name)
    _choices.set((choice, *_choices.get()))
    try:
        yield
    finally:
        # Generators that contain such blocks may end in any order, even in another thread. Resetting the variable with
        # its token would then restore the choice of another block.
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
