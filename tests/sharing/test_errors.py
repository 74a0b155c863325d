"""The error for failures of the disk and the Hub."""

from __future__ import annotations

import errno

import pytest

from tests.support.wrapped import wrapped
from vilt_prompt.sharing import files
from vilt_prompt.sharing.errors import AdapterIOError


@pytest.mark.parametrize("kind", [OSError, ValueError])
def test_a_failing_disk_is_caught_as_either_kind_of_error(kind, tmp_path, monkeypatch):
    """As an OSError, like other failures of a disk, and as a ValueError, like the library's other errors of files."""

    def refuse(*paths):
        raise OSError(errno.ENOSPC, "no space left on device")

    monkeypatch.setattr(files.os, "replace", refuse)
    with pytest.raises(kind, match="could not be saved.*free some space and save again") as caught:
        wrapped().save_pretrained(tmp_path)
    assert type(caught.value) is AdapterIOError
    assert isinstance(caught.value.__cause__, OSError)
