"""Weights of quantised base models: the matrix behind a packed tensor, and the error of its values.

Tensors of torchao and bitsandbytes are recognised by their attributes, so that neither library has to be installed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

# The largest error of a value, as a fraction of the largest value with the same scale. Integer formats get one step,
# which is twice their rounding error.
_INT8 = 1 / 127
_FOUR_BITS = {"nf4": 0.16, "fp4": 0.18}  # half of the largest gap between two levels
# By the start of the name of a class, such as Int8Tensor.
_TORCHAO = {"Int8": _INT8, "Float8": 1 / 8, "Int4": 1 / 7, "NF4": _FOUR_BITS["nf4"]}


@dataclass(frozen=True)
class QuantizedWeight:
    """A weight of a quantised base.

    Args:
        shape: The shape of the matrix. The packed tensor's may differ.
        error: The largest error of a value, as a fraction of the largest value with the same scale. None: the format is
            unknown.
        dequantize: Computes the matrix.
        format: The name of the format, for messages.
    """

    shape: tuple[int, ...]
    error: float | None
    dequantize: Callable[[], Tensor]
    format: str

    @property
    def ndim(self) -> int:
        """The number of dimensions of the matrix."""
        return len(self.shape)

    def matrix(self) -> Tensor | None:
        """The values in float32. None: they cannot be computed here, or their error is unknown."""
        if self.error is None:
            return None
        try:
            return self.dequantize().detach().float()
        except (NotImplementedError, RuntimeError, TypeError):  # no kernel on this device
            return None


def is_quantized(tensor: Tensor) -> bool:
    """Whether a tensor is in a quantised format of torchao or bitsandbytes."""
    return _is_torchao(tensor) or type(tensor).__name__ in ("Params4bit", "Int8Params")


def check_unquantized(parameter: Tensor, what: str) -> None:
    """Raise a ValueError if a parameter of an adapter was quantised together with the base model."""
    if is_quantized(parameter):
        raise ValueError(
            f"{what} is quantised ({type(parameter).__name__}): the model was quantised after wrap. Quantise the "
            "open_clip model before wrap, or leave the adapter's modules (prompts.*) out"
        )


def quantized_weight(module: nn.Module, parameter: Tensor) -> QuantizedWeight | None:
    """The quantised weight in a parameter of a module, or None if the parameter is a plain tensor."""
    kind = type(parameter).__name__
    if _is_torchao(parameter):
        return QuantizedWeight(tuple(parameter.shape), _torchao_error(parameter), parameter.dequantize, kind)
    if kind == "Params4bit" and (state := getattr(parameter, "quant_state", None)) is not None:

        def dequantize() -> Tensor:
            return sys.modules["bitsandbytes"].functional.dequantize_4bit(parameter.data, state)

        return QuantizedWeight(tuple(state.shape), _FOUR_BITS.get(state.quant_type), dequantize, state.quant_type)
    if kind == "Int8Params" and parameter.dtype.itemsize == 1:
        # The first forward pass moves the scales from the parameter to the module.
        scales: Any = getattr(parameter, "SCB", None)
        if scales is None:
            scales = getattr(getattr(module, "state", None), "SCB", None)
        error = None if scales is None else _INT8
        return QuantizedWeight(
            tuple(parameter.shape), error, lambda: parameter.data * (scales[:, None] / 127), "bitsandbytes' int8"
        )
    return None


def _is_torchao(tensor: Tensor) -> bool:
    return isinstance(tensor, Tensor) and type(tensor).dequantize is not Tensor.dequantize


def _torchao_error(parameter: Tensor) -> float | None:
    kind = type(parameter).__name__
    bits = str(getattr(parameter, "target_dtype", "")).removeprefix("torch.int")
    if bits.isdecimal() and int(bits) > 1:  # IntxUnpackedToInt8Tensor
        return 1 / (2 ** (int(bits) - 1) - 1)
    return next((error for name, error in _TORCHAO.items() if kind.startswith(name)), None)
