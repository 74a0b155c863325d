"""Editors and type checkers see the methods of the wrapped model with the signatures that they have."""

from __future__ import annotations

import ast
import inspect

import pytest
from peft import PeftModel

import vilt_prompt
from tests.support.architectures import build
from vilt_prompt.adapter.forwarded import Forwarded
from vilt_prompt.adapter.peft_model import PromptPeftModel
from vilt_prompt.model.prompted import PromptedModel

NAMES = ["encode_video", "encode_image", "encode_text", "pack_text", "forward", "layer_prompts"]


def signatures(kind: type) -> dict[str, str]:
    """The parameters and the returned type of each method, as they are written."""
    tree = ast.walk(ast.parse(inspect.getsource(kind)))
    methods = [node for node in tree if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")]
    return {method.name: f"({ast.unparse(method.args)}) -> {ast.unparse(method.returns)}" for method in methods}


@pytest.mark.parametrize("name", NAMES)
def test_the_declared_signature_is_the_models(name):
    assert signatures(Forwarded)[name] == signatures(PromptedModel)[name]


def test_nothing_else_is_declared():
    assert signatures(Forwarded).keys() == {*NAMES}
    assert not {*NAMES} & vars(Forwarded).keys()  # PEFT forwards them


@pytest.mark.parametrize("name", ["wrap", "from_pretrained", "convert", "create_model_and_transforms"])
def test_the_functions_name_the_class_that_they_return(name):
    annotation = inspect.signature(getattr(vilt_prompt, name)).return_annotation
    assert annotation.removeprefix("tuple[").split(",")[0] == "PromptPeftModel"


def test_the_wrapped_model_is_of_this_class_and_has_the_methods():
    model = vilt_prompt.wrap(build("4/4"), K=2, n_ctx=3)
    assert isinstance(model, PromptPeftModel)
    assert isinstance(model, PeftModel)
    for name in set(NAMES) - {"forward"}:
        assert getattr(model, name).__self__ is model.get_base_model()


def test_pushing_as_a_method_has_the_parameters_of_the_function():
    function = inspect.signature(vilt_prompt.push_to_hub).parameters
    method = inspect.signature(PromptPeftModel.push_to_hub).parameters
    assert [str(value) for value in method.values()][1:] == [str(value) for value in function.values()][1:]
