"""A shuffle that no library version changes."""

import hashlib
from typing import TypeVar

T = TypeVar("T")


def shuffled(items: list[T], stream: str) -> list[T]:
    """Orders items by a hash: unlike a generator's shuffle, it is the same in every version of every library."""
    keys = {n: hashlib.sha256(f"{stream}/{n}".encode()).digest() for n in range(len(items))}
    return [items[n] for n in sorted(keys, key=keys.__getitem__)]
