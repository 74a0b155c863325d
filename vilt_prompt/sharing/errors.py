"""The error for failures of the disk and the Hub, which a repetition may overcome."""

from __future__ import annotations


class AdapterIOError(OSError, ValueError):
    """Raised if the disk or the Hub fails while an adapter is saved, downloaded or pushed, or its base is built."""
