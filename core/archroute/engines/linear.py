"""Linear layers over int8 weights, in the form optimum-quanto gives them: int8 data and one scale an output row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional


class Linear(Protocol):
    """`x [M, in] → x · Wᵀ + b [M, out]`, in the type of `x`."""

    def __call__(self, x: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class FloatLinear:
    """A layer whose weights were not quantised: `weight [out, in]`, `bias [out]`."""

    weight: Tensor
    bias: Tensor | None = None

    def __call__(self, x: Tensor) -> Tensor:
        return functional.linear(x, self.weight, self.bias)


@dataclass(frozen=True)
class Int8Linear:
    """A layer with int8 weights: `data [out, in]`, `scale [out]`, `bias [out]`.

    int8 values are exact in bfloat16, so only the product is taken in the type of `x`; the scale comes after it. (quanto's own path
    scales the weights first, which rounds each of them.)
    """

    data: Tensor
    scale: Tensor
    bias: Tensor | None = None

    def __call__(self, x: Tensor) -> Tensor:
        y = functional.linear(x, self.data.to(x.dtype)) * self.scale
        return y if self.bias is None else y + self.bias


def linear_of(tensors: Mapping[str, Tensor], *names: str) -> Linear:
    """The layer `names[0]` of a checkpoint, or several of the same input stacked into one.

    Args:
        tensors: The checkpoint's tensors, weights plain (`NAME.weight`) or quantised by quanto (`NAME.weight._data`, `._scale`).
        names: Layers, without the ending `.weight`.
    """
    biases = [tensors[f"{name}.bias"] for name in names if f"{name}.bias" in tensors]
    bias = torch.cat(biases) if biases else None
    if f"{names[0]}.weight._data" in tensors:
        data = torch.cat([tensors[f"{name}.weight._data"] for name in names])
        scale = torch.cat([tensors[f"{name}.weight._scale"].flatten() for name in names])
        return Int8Linear(data, scale, bias)
    return FloatLinear(torch.cat([tensors[f"{name}.weight"] for name in names]), bias)
