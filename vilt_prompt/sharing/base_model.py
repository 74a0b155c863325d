"""Which weights an adapter belongs to: the shapes of a base model's parameters, and a few of their values.

What a user may change is left out: `logit_scale` and `logit_bias`, buffers, adapters, and embeddings that are resized.
"""

from __future__ import annotations

import itertools
import math
import re
import warnings
from collections.abc import Iterator
from typing import Any

from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

SAMPLED_MATRICES = 32
SAMPLED_PLACES = (0.236, 0.618, 0.854)  # in each of them, as a fraction of its elements
# Rounding to bfloat16 moves a value by at most 2^-8 of itself: two ways of it may end 2^-7 apart. Below 2^-14, float16
# steps by 2^-24.
RELATIVE_TOLERANCE = 2**-7
ABSOLUTE_TOLERANCE = 2**-24

_TRAINED = ("logit_scale", "logit_bias")
_RESIZED = ("positional_embedding", "pos_embed", "position_embeddings.weight", "token_embedding.weight")


def fingerprint(model: nn.Module) -> dict[str, Any] | None:
    """What tells a base model from others, the same with and without adapters; None on the meta device.

    The shapes of the parameters, numbered blocks together, such as "12 x (768,)", and a few values of some matrices.
    """
    parameters = dict(_base_parameters(model))
    if any(parameter.is_meta for parameter in parameters.values()):
        return None
    return {"shapes": _shapes(parameters), "values": _values(parameters, _chosen(parameters))}


def check_base(model: nn.Module, config: Any, strict: bool) -> bool:
    """Whether a model is the one that an adapter was trained on, as far as its config's `base_fingerprint` tells.

    Another architecture and a damaged fingerprint are a ValueError; so are, if `strict`, other weights, else a warning.
    """
    expected = config.base_fingerprint
    if expected is None:
        return True
    _check_form(expected)
    parameters = dict(_base_parameters(model))
    base = " ".join(str(name) for name in (config.base_model, config.base_pretrained) if name) or "not recorded by name"
    _check_shapes(expected["shapes"], _shapes(parameters), base)
    if any(parameter.is_meta for parameter in parameters.values()):
        return True
    found = _values(parameters, [name for name in expected["values"] if name in parameters])
    different = [name for name, values in expected["values"].items() if not _close(values, found.get(name, []))]
    if not different:
        return True
    message = (
        f"the adapter was trained on other weights (its base: {base}): {len(different)} of {len(expected['values'])} "
        f"sampled parameters differ, such as {different[0]}: {expected['values'][different[0]]} there, "
        f"{found.get(different[0])} in this model"
    )
    if strict:
        raise ValueError(f"{message}. Load those weights, or pass strict_base=False if the features may be off")
    warnings.warn(f"{message}. It is loaded all the same (strict_base=False)", stacklevel=2)
    return False


def _base_parameters(module: nn.Module, path: str = "") -> Iterator[tuple[str, Tensor]]:
    """The base model's parameters under the names that they have without adapters."""
    while isinstance(module, BaseTunerLayer):
        base_layer = getattr(module, "base_layer", None)
        if base_layer is None:
            return
        module = base_layer
    for name, parameter in module.named_parameters(recurse=False):
        if name not in _TRAINED:
            yield path + name, parameter
    for name, child in module.named_children():
        yield from _base_parameters(child, f"{path}{name}.")


def _shapes(parameters: dict[str, Tensor]) -> dict[str, str]:
    grouped: dict[str, list[tuple[int, ...]]] = {}
    for name, parameter in parameters.items():
        if not name.endswith(_RESIZED):
            grouped.setdefault(re.sub(r"\.\d+(?=\.)", ".*", name), []).append(tuple(parameter.shape))
    return {
        name: " + ".join(f"{len(list(run))} x {shape}" for shape, run in itertools.groupby(shapes))
        for name, shapes in grouped.items()
    }


def _chosen(parameters: dict[str, Tensor]) -> list[str]:
    # Norms and biases are alike in many models; matrices never are.
    matrices = [
        name
        for name, parameter in parameters.items()
        if parameter.ndim > 1 and parameter.is_floating_point() and not name.endswith(_RESIZED)
    ]
    count = min(SAMPLED_MATRICES, len(matrices))
    return [matrices[round(i * (len(matrices) - 1) / max(count - 1, 1))] for i in range(count)]


def _values(parameters: dict[str, Tensor], names: list[str]) -> dict[str, list[float]]:
    return {name: [float(f"{value:.6g}") for value in _sample(parameters[name])] for name in names}


def _sample(matrix: Tensor) -> list[float]:
    # Flattening would copy a matrix that is not contiguous.
    index: list[list[int]] = [[] for _ in matrix.shape]
    for place in SAMPLED_PLACES:
        rest = int(place * matrix.numel())
        for dimension in reversed(range(matrix.ndim)):
            rest, position = divmod(rest, matrix.shape[dimension])
            index[dimension].append(position)
    values: list[float] = matrix.detach()[tuple(index)].float().tolist()
    return values


def _close(first: list[float], second: list[float]) -> bool:
    return len(first) == len(second) and all(
        math.isclose(a, b, rel_tol=RELATIVE_TOLERANCE, abs_tol=ABSOLUTE_TOLERANCE)
        for a, b in zip(first, second, strict=True)
    )


def _check_shapes(expected: dict[str, str], found: dict[str, str], base: str) -> None:
    different = [name for name in {**expected, **found} if expected.get(name) != found.get(name)]
    if different:
        shown = "; ".join(
            f"{name} is {expected.get(name, 'missing')} there, {found.get(name, 'missing')} in this model"
            for name in different[:3]
        )
        more = f" (and {len(different) - 3} more)" if len(different) > 3 else ""
        raise ValueError(
            f"the adapter was trained on another architecture (its base: {base}): {shown}{more}. Load it onto that one"
        )


def _check_form(expected: dict[str, Any]) -> None:
    shapes, values = expected.get("shapes"), expected.get("values")
    if (
        not isinstance(shapes, dict)
        or not isinstance(values, dict)
        or not all(isinstance(shape, str) for shape in shapes.values())
        or not all(isinstance(row, list) and all(isinstance(value, float) for value in row) for row in values.values())
    ):
        raise ValueError(
            "base_fingerprint is damaged: expected the shapes and values of wrap(...). Copy the files again"
        )
