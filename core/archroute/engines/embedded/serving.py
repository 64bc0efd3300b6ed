"""The encoder's layers as they are served: one call each, made for texts of a few tokens."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from functools import lru_cache, partial
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional

from archroute.engines.embedded.encoder import Product

Bits = Literal[8, 7]
"""What an activation is rounded to; 8 where it can be."""

_TINY = 1e-12  # keeps a row of zeros from being divided by 0
_GELU = 0.17  # as far as GELU goes below 0


def served(tensors: Mapping[str, Tensor], *names: str) -> Product:
    """The layer `names[0]` of a checkpoint, or several of the same input stacked into one.

    int8 weights are multiplied as such if this machine does it right; activations are then rounded on the way, to 8 bits or to 7. In
    attention all rows of a call share one step of rounding: give it one text at a time, and a text's vectors depend on that text alone.
    Where a text's first token is tens of times larger than the others, before and within the MLP, each row has its own step. Elsewhere
    the weights are widened once.

    Args:
        tensors: The checkpoint's tensors, weights plain (`NAME.weight`) or quantised by quanto (`NAME.weight._data`, `._scale`), made for
            inputs multiplied by `NAME.pre_quant_scale [in]` where there is one.
        names: Layers, without the ending `.weight`.
    """
    bias = torch.cat([tensors[f"{name}.bias"].float() for name in names])
    if f"{names[0]}.weight._data" not in tensors:
        return partial(_float, torch.cat([tensors[f"{name}.weight"].float() for name in names]), bias)
    data = torch.cat([tensors[f"{name}.weight._data"] for name in names])
    scale = torch.cat([tensors[f"{name}.weight._scale"].flatten().float() for name in names])
    before = tensors.get(f"{names[0]}.pre_quant_scale")
    bits = activation_bits()
    if bits is None:
        weight = data.float() * scale[:, None]
        return partial(_float, weight if before is None else weight * before, bias)
    if "attention" in names[0]:
        product = _packed(data, scale, bias, bits)
    else:
        by_row = _by_row if "intermediate" in names[0] else _by_row_of_gelu
        product = partial(by_row, _packed(data, scale, None, bits), bias)
    return product if before is None else partial(_scaled, product, before)


@lru_cache(maxsize=1)
def activation_bits() -> Bits | None:
    """To how many bits activations are rounded for this CPU's int8 product to be right; None if this torch has none that is.

    Without VNNI, two products are summed in 16 bits, which large numbers of 8 bits saturate.
    """
    data = torch.full((16, 512), 127, dtype=torch.int8)
    x = torch.ones(2, 512)
    tried: tuple[Bits, ...] = get_args(Bits)
    try:
        for bits in tried:
            y = _packed(data, torch.ones(16), torch.zeros(16), bits)(x)
            if torch.isclose(y, torch.full_like(y, 127.0 * 512), rtol=0.01).all():
                return bits
    except (AttributeError, NotImplementedError, RuntimeError):
        pass  # this build of torch has no such product
    return None


def _packed(data: Tensor, scale: Tensor, bias: Tensor | None, bits: Bits) -> Product:
    zeros = torch.zeros(len(scale), dtype=torch.long)
    with (
        warnings.catch_warnings()
    ):  # torch wants its quantised tensors given up for torchao, which has no such product for CPUs
        warnings.simplefilter("ignore", UserWarning)
        weight = torch._make_per_channel_quantized_tensor(data, scale.double(), zeros, 0)
    return partial(_int8, torch.ops.quantized.linear_prepack(weight, bias), bits)


def _int8(packed: torch.ScriptObject, bits: Bits, x: Tensor) -> Tensor:
    y: Tensor = torch.ops.quantized.linear_dynamic(x, packed, bits == 7)
    return y


def _scaled(product: Product, before: Tensor, x: Tensor) -> Tensor:
    return product(x * before)


def _by_row(product: Product, bias: Tensor, x: Tensor) -> Tensor:
    return _in_steps(
        product, bias, x, x.abs().amax(dim=1, keepdim=True).clamp_(min=_TINY)
    )  # the norm is many times slower


def _by_row_of_gelu(product: Product, bias: Tensor, x: Tensor) -> Tensor:
    return _in_steps(product, bias, x, x.amax(dim=1, keepdim=True).clamp_(min=_GELU))


def _in_steps(product: Product, bias: Tensor, x: Tensor, largest: Tensor) -> Tensor:
    """The product, each row of `x [M, in]` rounded in steps of its own: largest [M, 1]."""
    return torch.addcmul(bias, product(x.div(largest)), largest)


def _float(weight: Tensor, bias: Tensor, x: Tensor) -> Tensor:
    return functional.linear(x, weight, bias)
