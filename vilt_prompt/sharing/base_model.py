"""The fingerprint of a base model: the shapes of its parameters, and a few of their values.

A quantised base is compared by dequantised values, within the error of the quantisation.

Parts that a user may change are left out: `logit_scale` and `logit_bias`, buffers, adapters, and embeddings that are
resized.
"""

from __future__ import annotations

import itertools
import re
import warnings
from collections.abc import Iterable, Iterator

from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

from vilt_prompt.config import JsonObject, PromptConfig
from vilt_prompt.sharing.quantization import QuantizedWeight, quantized_weight

SAMPLED_MATRICES = 32
SAMPLED_PLACES = (0.236, 0.618, 0.854)  # in each of them, as a fraction of its elements
# Rounding to bfloat16 moves a value by at most 2^-8 of itself: two ways of it may end 2^-7 apart. Below 2^-14, float16
# steps by 2^-24.
RELATIVE_TOLERANCE = 2**-7
ABSOLUTE_TOLERANCE = 2**-24
# The scale of a value is estimated from the largest value in its row, and among this many elements on either side.
# Quantised formats have no longer blocks with one scale.
LONGEST_BLOCK = 256

Weight = Tensor | QuantizedWeight

_TRAINED = ("logit_scale", "logit_bias")
_RESIZED = ("positional_embedding", "pos_embed", "position_embeddings.weight", "token_embedding.weight")


def fingerprint(model: nn.Module) -> JsonObject | None:
    """The fingerprint of a base model, which is the same with and without adapters. None on the meta device.

    It contains the shapes of the parameters and a few values of some matrices. The shapes of numbered blocks are
    written together, such as "12 x (768,)".
    """
    weights = dict(_base_weights(model))
    if _has_no_values(weights):
        return None
    values, errors = _values(weights, _chosen(weights))
    found: JsonObject = {"shapes": _shapes(weights), "values": values}
    return {**found, "errors": errors} if errors else found


def check_base(model: nn.Module, config: PromptConfig, strict: bool) -> bool:
    """Compare a model with the base that an adapter was trained on, by the fingerprint in the adapter's config.

    Values of a quantised format whose error is unknown are not compared, with a warning.

    Args:
        model: The model.
        config: The adapter's config. Without a fingerprint, nothing is compared.
        strict: Whether a difference is an error. If not, it is a warning.

    Returns:
        Whether no difference was found.

    Raises:
        ValueError: If the fingerprint is damaged, or if the architecture or the weights differ and `strict` is set.
    """
    expected = config.base_fingerprint
    if expected is None:
        return True
    _check_form(expected)
    weights = dict(_base_weights(model))
    base = " ".join(str(name) for name in (config.base_model, config.base_pretrained) if name) or "not recorded by name"
    shapes = _shapes(weights)
    if shapes != expected["shapes"]:
        message = _other_architecture(expected["shapes"], shapes, base)
        if strict:
            raise ValueError(
                f"{message}. Load it onto that architecture, or pass strict_base=False for a model that its prompts fit"
            )
        warnings.warn(f"{message}. It is loaded all the same (strict_base=False)", stacklevel=2)
        return False
    if _has_no_values(weights):
        return True
    found, errors = _values(weights, [name for name in expected["values"] if name in weights])
    unknown = [name for name in expected["values"] if name in weights and name not in found]
    if unknown:
        warnings.warn(
            f"{len(unknown)} of {len(expected['values'])} sampled parameters could not be compared with the base that "
            f"the adapter was trained on ({base}): {unknown[0]} is in the format {_format(weights[unknown[0]])}, whose "
            "error is not known. Make sure that the weights are the same as in training",
            stacklevel=2,
        )
    former_errors = expected.get("errors", {})
    different = [
        name
        for name, values in expected["values"].items()
        if name not in unknown
        and not _close(values, found.get(name, []), former_errors.get(name, []), errors.get(name, []))
    ]
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


def _base_weights(module: nn.Module, path: str = "") -> Iterator[tuple[str, Weight]]:
    """The base model's parameters under the names that they have without adapters."""
    while isinstance(module, BaseTunerLayer):
        base_layer = getattr(module, "base_layer", None)
        if base_layer is None:
            return
        module = base_layer
    for name, parameter in module.named_parameters(recurse=False):
        if name not in _TRAINED:
            yield path + name, quantized_weight(module, parameter) or parameter
    for name, child in module.named_children():
        yield from _base_weights(child, f"{path}{name}.")


def _has_no_values(weights: dict[str, Weight]) -> bool:
    """Whether a model, or a part of it, is on the meta device."""
    return any(isinstance(weight, Tensor) and weight.is_meta for weight in weights.values())


def _format(weight: Weight) -> str:
    return weight.format if isinstance(weight, QuantizedWeight) else str(weight.dtype)


def _shapes(weights: dict[str, Weight]) -> dict[str, str]:
    grouped: dict[str, list[tuple[int, ...]]] = {}
    for name, weight in weights.items():
        if not name.endswith(_RESIZED):
            grouped.setdefault(re.sub(r"\.\d+(?=\.)", ".*", name), []).append(tuple(weight.shape))
    return {
        name: " + ".join(f"{len(list(run))} x {shape}" for shape, run in itertools.groupby(shapes))
        for name, shapes in grouped.items()
    }


def _chosen(weights: dict[str, Weight]) -> list[str]:
    # Norms and biases are alike in many models; matrices never are.
    matrices = [
        name
        for name, weight in weights.items()
        if weight.ndim > 1
        and (isinstance(weight, QuantizedWeight) or weight.is_floating_point())
        and not name.endswith(_RESIZED)
    ]
    count = min(SAMPLED_MATRICES, len(matrices))
    return [matrices[round(i * (len(matrices) - 1) / max(count - 1, 1))] for i in range(count)]


def _values(weights: dict[str, Weight], names: list[str]) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Values of the named weights, and of the quantised ones the largest errors of these values."""
    values, errors = {}, {}
    for name in names:
        weight = weights[name]
        matrix = weight.matrix() if isinstance(weight, QuantizedWeight) else weight
        if matrix is None:
            continue
        values[name] = _rounded(_sample(matrix))
        if isinstance(weight, QuantizedWeight):
            assert weight.error is not None  # there would be no matrix
            errors[name] = _rounded(weight.error * scale for scale in _scales(matrix))
    return values, errors


def _rounded(values: Iterable[float]) -> list[float]:
    return [float(f"{value:.6g}") for value in values]


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


def _scales(matrix: Tensor) -> list[float]:
    """For each sampled value, the largest one in its row, or in a block of whole rows, that may share its scale."""
    flat, width = matrix.flatten().abs(), matrix.shape[-1]
    scales = []
    for place in SAMPLED_PLACES:
        at = int(place * matrix.numel())
        row = at // width * width
        first, last = min(row, at - LONGEST_BLOCK), max(row + width, at + LONGEST_BLOCK)
        scales.append(float(flat[max(first, 0) : last].max()))
    return scales


def _close(first: list[float], second: list[float], *errors: list[float]) -> bool:
    """Whether values agree within the rounding of half precision, and the errors of their formats."""
    allowed = [sum(own) for own in itertools.zip_longest(*errors, fillvalue=0.0)] or [0.0] * len(first)
    return len(first) == len(second) == len(allowed) and all(
        abs(a - b) <= max(RELATIVE_TOLERANCE * max(abs(a), abs(b)), ABSOLUTE_TOLERANCE) + error
        for a, b, error in zip(first, second, allowed, strict=True)
    )


def _other_architecture(expected: dict[str, str], found: dict[str, str], base: str) -> str:
    different = [name for name in {**expected, **found} if expected.get(name) != found.get(name)]
    shown = "; ".join(
        f"{name} is {expected.get(name, 'missing')} there, {found.get(name, 'missing')} in this model"
        for name in different[:3]
    )
    more = f" (and {len(different) - 3} more)" if len(different) > 3 else ""
    return f"the adapter was trained on another architecture (its base: {base}): {shown}{more}"


def _check_form(expected: JsonObject) -> None:
    shapes, values, errors = expected.get("shapes"), expected.get("values"), expected.get("errors", {})
    if (
        not isinstance(shapes, dict)
        or not isinstance(values, dict)
        or not isinstance(errors, dict)
        or not all(isinstance(shape, str) for shape in shapes.values())
        or not all(
            isinstance(row, list) and all(isinstance(value, float) for value in row)
            for row in (*values.values(), *errors.values())
        )
    ):
        raise ValueError(
            "base_fingerprint is damaged: expected the shapes and values of wrap(...). Copy the files again"
        )
