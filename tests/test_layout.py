"""The tests lie as the package lies: a reader who looks for the test of a module finds a file of its name."""

from __future__ import annotations

from pathlib import Path

import pytest

import vilt_prompt

PACKAGE = Path(vilt_prompt.__file__).parent
TESTS = Path(__file__).parent
MODULES = [path.relative_to(PACKAGE) for path in sorted(PACKAGE.rglob("*.py")) if path.name != "__init__.py"]


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_every_module_has_a_test_file_of_its_name(module):
    assert (TESTS / module.parent / f"test_{module.name}").is_file()


def test_all_folders_of_tests_are_packages():
    """Only then may two files in two folders have one name."""
    folders = {path.parent for path in TESTS.rglob("test_*.py")}
    assert all((folder / "__init__.py").is_file() for folder in folders)
