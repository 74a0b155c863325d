"""Every public docstring has arguments, results, errors, shapes and equations, and every name is in `docs/api.md`."""

from __future__ import annotations

import ast
import builtins
import dataclasses
import inspect
import re
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import vilt_prompt
from vilt_prompt import losses, methods
from vilt_prompt.adapter.peft_model import PromptPeftModel
from vilt_prompt.adapter.saving import SavingMethods
from vilt_prompt.adapter.several import SeveralAdapters
from vilt_prompt.model.prompted import PromptedModel
from vilt_prompt.sharing.errors import AdapterIOError

API = (Path(__file__).resolve().parents[2] / "docs" / "api.md").read_text()
WRAPPED = (
    PromptedModel,
    SeveralAdapters,
    SavingMethods,
    PromptPeftModel,
)  # where the methods of a wrapped model are written
# Public for PEFT's, open_clip's and the library's own calls, and not meant to be called by users.
NOT_API = {"adapter_content", "create_or_update_model_card", "encode_text_without_prompts", "get_base_model", "train"}
NOT_API |= {"replace", "resolve", "structure"}
CONSTANTS = {"METHODS": methods, "TEMPLATE": losses}  # and the modules that describe them
EQUATIONS = {
    "encode_video": ["Eq. 4"],
    "layer_prompts": ["Eq. 10", "11"],
    "LayerPrompts": ["Eq. 10", "11"],
    "PromptConfig": ["Eq. 10", "11"],
    "scenario_features": ["Eq. 12"],
    "scenario_loss": ["Eq. 12", "1 - mean_i cos(c_i, c_clip_i)"],
    "ScenarioGuidedLoss": ["Eq. 13", "12", "cross_entropy(cos(v, c) / temperature, labels) + alpha * "],
    "wrap": ["Eq. 10", "11"],
}
SHAPE = re.compile(r"\((?:[A-Zdn1-9]\w*, ?)*[A-Zdn1-9]\w*,?\)|scalar|0-dim")
INHERITED = {"target_modules"}  # a field that PEFT asks for


def functions_of(kind: type) -> dict[str, Callable[..., Any]]:
    """The functions that a class itself defines and users call."""
    found = {name: inspect.unwrap(getattr(value, "__func__", value)) for name, value in vars(kind).items()}
    found = {name: value for name, value in found.items() if inspect.isfunction(value)}
    return {name: value for name, value in found.items() if not name.startswith("_") and name not in NOT_API}


def public() -> dict[str, Any]:
    objects = {name: getattr(vilt_prompt, name) for name in vilt_prompt.__all__ if name not in CONSTANTS}
    for kind in (*WRAPPED, *(value for value in list(objects.values()) if inspect.isclass(value))):
        objects |= {f"{kind.__name__}.{name}": value for name, value in functions_of(kind).items()}
    return objects


PUBLIC = public()


def sections(name: str) -> dict[str, str]:
    """The docstring: its beginning under "", its sections under their names.

    A method may refer to the function that does the same, whose first argument is the model.
    """
    doc = inspect.getdoc(PUBLIC[name]) or ""
    if same := re.search(r"The same as `vilt_prompt\.(\w+)\(model, \.\.\.\)`", doc):
        doc = re.sub(r"^    wrapped: .*\n", "", inspect.getdoc(PUBLIC[same[1]]) or "", flags=re.M)
    parts = re.split(r"^(Args|Attributes|Examples?|Returns|Raises|Yields):\n", doc, flags=re.M)
    return {"": parts[0], **dict(zip(parts[1::2], parts[2::2], strict=True))}


def parameters(name: str) -> dict[str, str]:
    """The parameters that a user may give, with their annotations."""
    found = PUBLIC[name]
    if dataclasses.is_dataclass(found):
        own = inspect.get_annotations(found)
        return {
            field.name: str(field.type) for field in dataclasses.fields(found) if field.name in own.keys() - INHERITED
        }
    if inspect.isclass(found) and hasattr(found, "_fields"):
        return {field: str(found.__annotations__[field]) for field in found._fields}
    if found is PromptPeftModel:
        return {}  # PEFT makes it
    signature = inspect.signature(found.__init__ if inspect.isclass(found) else found)
    return {key: str(value.annotation) for key, value in signature.parameters.items() if key not in ("self", "cls")}


def entries(section: str) -> dict[str, str]:
    """The entries of a section by their names."""
    found = re.findall(r"^    (\w+): (.*(?:\n(?:     .*)?)*)", section, flags=re.M)
    return {name: " ".join(text.split()) for name, text in found}


def raised(function: Any) -> set[str]:
    """The names of the exceptions that a function raises itself."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and isinstance(node.exc.func, ast.Name):
            names.add(node.exc.func.id)
    return names


def test_the_wrapped_model_has_what_is_promised():
    promised = """encode_video encode_image encode_text forward layer_prompts set_adapter use_adapter disable_adapter
        delete_adapter rename_adapter combine save_pretrained load_adapter push_to_hub"""
    assert {name.partition(".")[2] for name in PUBLIC} >= set(promised.split())


@pytest.mark.parametrize("name", PUBLIC)
def test_says_what_it_is(name):
    first = sections(name)[""].strip().split("\n\n")[0]
    assert first, f"{name} has no first line"
    assert first.endswith((".", ":", ")")), f"{name}: {first!r} is not a sentence"


@pytest.mark.parametrize("name", CONSTANTS)
def test_a_constant_says_what_it_is(name):
    lines = inspect.getsource(CONSTANTS[name])
    assert re.search(rf'^{name}\b(?:.|\n)*?^(?:}}\n)?"""\w.*\."""$', lines, flags=re.M)


@pytest.mark.parametrize("name", PUBLIC)
def test_explains_each_parameter(name):
    said = sections(name)
    explained = entries(said.get("Args", "")) | entries(said.get("Attributes", ""))
    missing = parameters(name).keys() - explained.keys()
    assert not missing, f"{name} does not explain {', '.join(sorted(missing))} under Args"
    if not inspect.isclass(PUBLIC[name]):
        unknown = entries(said.get("Args", "")).keys() - parameters(name).keys()
        assert not unknown, f"{name} explains {', '.join(sorted(unknown))}, which it does not take"


@pytest.mark.parametrize("name", PUBLIC)
def test_gives_the_shape_of_each_tensor(name):
    said = sections(name)
    explained = entries(said.get("Args", "")) | entries(said.get("Attributes", ""))
    for parameter, annotation in parameters(name).items():
        if "Tensor" in annotation and "Callable" not in annotation and "dict" not in annotation:
            assert SHAPE.search(explained[parameter]), f"{name} gives no shape of {parameter}: {explained[parameter]!r}"
    if inspect.isfunction(PUBLIC[name]) and str(inspect.signature(PUBLIC[name]).return_annotation) == "Tensor":
        assert SHAPE.search(said.get("Returns", "")), f"{name} gives no shape of its result"


@pytest.mark.parametrize("name", PUBLIC)
def test_names_the_errors_that_it_raises(name):
    found = PUBLIC[name]
    if inspect.isclass(found):  # an `__init__` that a decorator made has no source and raises nothing
        found = vars(found).get("__post_init__", vars(found).get("__init__"))
    said = entries(sections(name).get("Raises", ""))
    for error in raised(found) if inspect.isfunction(found) and found.__code__.co_filename != "<string>" else ():
        kinds = {kind.__name__ for kind in getattr(builtins, error, AdapterIOError).__mro__}
        assert said.keys() & kinds, f"{name} raises {error} and does not say when"


@pytest.mark.parametrize("name", EQUATIONS)
def test_shows_its_equation(name):
    (doc,) = {inspect.getdoc(value) for key, value in PUBLIC.items() if key.rpartition(".")[2] == name}
    doc = " ".join(doc.split())
    for part in EQUATIONS[name]:
        assert part in doc, f"{name} does not show {part}"


def test_every_public_name_is_in_the_api_page():
    shown = set(re.findall(r"^::: vilt_prompt\.(\w+)$", API, flags=re.M))
    assert shown == {*vilt_prompt.__all__}
    for kind in (*WRAPPED, *(PUBLIC[name] for name in vilt_prompt.__all__ if inspect.isclass(PUBLIC.get(name)))):
        listed = re.search(rf"^::: vilt_prompt[\w.]*\b{kind.__name__}$(?:\n    .*)*?members: \[(.*)\]", API, flags=re.M)
        members = set() if listed is None else set(listed[1].split(", "))
        assert members == functions_of(kind).keys(), kind.__name__


def test_the_api_page_shows_what_each_method_does():
    """The option holds for the members of a class too, not only for the class."""
    assert "show_docstring_description: false" not in API
