"""Modules import downwards only. `ORDER` states what may know of what, from the lowest to the highest."""

from __future__ import annotations

import ast
import graphlib
from pathlib import Path
from typing import NamedTuple

import pytest

import vilt_prompt

PACKAGE = Path(vilt_prompt.__file__).parent
ORDER = (
    "checks",  # knows nothing of the package
    "late_numbers",  # read from a GPU without waiting
    "towers",  # the encoders of open_clip, timm and Hugging Face, and how prompts enter their layers
    "tokenization",
    "methods",  # the published methods
    "config",  # settings, their checks, how they resolve
    "prompts",  # Eq. 10 and 11
    "model",  # the prompted open_clip model
    "losses",  # Eq. 12 to 14
    "sharing",  # files, the Hub, cards, the base model's fingerprint
    "adapter",  # what PEFT sees
    "conversion",
    "inspection",
    "wrapping",
    "loading",
    "__init__",
)
# Imports inside functions, each with its reason.
LATE = {
    ("config", "sharing.saved_config"): "PEFT calls PromptConfig.from_pretrained, which reads files",
}


class Import(NamedTuple):
    module: str  # who imports, without "vilt_prompt."
    name: str  # what
    late: bool  # whether inside a function, or a condition


def imports() -> list[Import]:
    """All imports of the package's own modules in the package."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        module = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{module}: imports are absolute"
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            else:
                continue
            ours = [name.removeprefix("vilt_prompt.") for name in names if name.startswith("vilt_prompt.")]
            found += [Import(module, module_of(name), node.col_offset > 0) for name in ours]
    return found


def module_of(name: str) -> str:
    """The module that a name stands for, or that has it as an attribute."""
    while not PACKAGE.joinpath(*name.split(".")).with_suffix(".py").is_file():
        name = name.rpartition(".")[0]
    return name


def unit(module: str) -> str:
    """The folder that a module is in, or the module itself."""
    return module.split(".")[0]


IMPORTS = imports()


def test_every_module_has_its_place():
    modules = [path.relative_to(PACKAGE).with_suffix("") for path in PACKAGE.rglob("*.py")]
    assert {module.parts[0] for module in modules} == set(ORDER)


@pytest.mark.parametrize("folder", ORDER)
def test_imports_point_downwards(folder):
    for module, name, late in IMPORTS:
        if unit(module) == folder != unit(name) and not late:
            assert ORDER.index(unit(name)) < ORDER.index(folder), f"{module} imports {name}, which is above it"


def test_there_are_no_cycles_inside_a_folder():
    graph: dict[str, set[str]] = {}
    for module, name, late in IMPORTS:
        if not late:
            graph.setdefault(module, set()).add(name)
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError


def test_late_imports_have_a_reason():
    assert {(each.module, each.name) for each in IMPORTS if each.late} == set(LATE)
