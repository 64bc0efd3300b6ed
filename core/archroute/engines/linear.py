"""Linear layers over int8 weights, in the form optimum-quanto gives them: int8 data and one scale an output row.

Three ways to multiply, all over the same weights:

- *packed*: activations as int8, weights packed for the CPU's int8 instructions (oneDNN). Exact mode takes two int8 parts of every
  activation, which together hold 15 bits of it, more than bfloat16's 8; fast mode takes the first part alone. Without VNNI a part is
  a bit smaller, and two hold 13.
- *widened*: weights widened to the activations' float type, a layer at a time. For GPUs, and for CPUs without int8 instructions.
- *float*: weights that were never quantised.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, Protocol

import torch
from torch import Tensor
from torch.nn import functional

Kernel = Literal["packed", "widened"]
"""How int8 weights are multiplied."""

LEVELS = (127, 63)
"""What an int8 part can have on either side of zero. CPUs without VNNI sum two products in 16 bits: 127 saturate those, 63 can't."""

_FAR_SLOWER = 10  # times; a reference kernel is by hundreds


class Linear(Protocol):
    """A layer, `[M, in] → [M, out]`."""

    def product(self, x: Tensor, *, fast: bool = False) -> tuple[Tensor, Tensor | None]:
        """`x · Wᵀ` up to a factor a row, and that factor: `[M, out]`, `[M, 1]` (None: 1). The bias is left out."""
        ...

    def __call__(self, x: Tensor, factor: Tensor | None = None, *, fast: bool = False) -> Tensor:
        """`(factor · x) · Wᵀ + b`, float32. factor: [M, 1]; None: 1."""
        ...


class _Affine:
    """The scaling and the bias, which all ways share."""

    bias: Tensor | None

    def product(self, x: Tensor, *, fast: bool = False) -> tuple[Tensor, Tensor | None]:
        raise NotImplementedError

    def __call__(self, x: Tensor, factor: Tensor | None = None, *, fast: bool = False) -> Tensor:
        y, scale = self.product(x, fast=fast)
        y = y.float()
        for rows in (scale, factor):
            if rows is not None:
                y = y.mul_(rows)
        return y if self.bias is None else y.add_(self.bias)


@dataclass(frozen=True)
class FloatLinear(_Affine):
    """A layer whose weights were not quantised: `weight [out, in]`, `bias [out]`."""

    weight: Tensor
    bias: Tensor | None = None

    def product(self, x: Tensor, *, fast: bool = False) -> tuple[Tensor, Tensor | None]:
        """See `Linear.product`; in the weights' type."""
        return functional.linear(x.to(self.weight.dtype), self.weight), None


@dataclass(frozen=True)
class WidenedLinear(_Affine):
    """A layer with int8 weights that are widened for each product: `data [out, in]`, `scale [out]`, `bias [out]`.

    int8 values are exact in bfloat16, so the scale comes after the product. (quanto's own path scales the weights first, which rounds
    each of them.)

    Attributes:
        dtype: The type to multiply in.
    """

    data: Tensor
    scale: Tensor
    dtype: torch.dtype
    bias: Tensor | None = None

    def product(self, x: Tensor, *, fast: bool = False) -> tuple[Tensor, Tensor | None]:
        """See `Linear.product`."""
        return functional.linear(x.to(self.dtype), self.data.to(self.dtype)) * self.scale.to(self.dtype), None


class PackedLinear(_Affine):
    """A layer with int8 weights packed for int8 instructions.

    Args:
        data: Shape [out, in], int8.
        scale: Shape [out].
        dtype: The type of the raw products.
        bias: Shape [out].
        levels: Of an int8 part on either side of zero, one of `LEVELS`; None: the most with which this CPU's products are right.
    """

    def __init__(
        self, data: Tensor, scale: Tensor, dtype: torch.dtype, bias: Tensor | None = None, *, levels: int | None = None
    ) -> None:
        self.packed = torch.ops.onednn.qlinear_prepack(data, None)
        self.scale = scale.float()
        self.zeros = torch.zeros(len(scale), dtype=torch.int32)
        self.dtype = dtype
        self.bias = bias
        self.levels = levels or packed_levels() or LEVELS[0]
        self.zero = self.levels + 1  # oneDNN's fast product wants unsigned activations: zero is stored as this

    def product(self, x: Tensor, *, fast: bool = False) -> tuple[Tensor, Tensor | None]:
        """See `Linear.product`; rounds each row to whole steps, `levels` either way, and what that leaves too unless `fast`."""
        step = x.abs().amax(dim=-1, keepdim=True).float().clamp_min(torch.finfo(torch.float32).tiny) / self.levels
        scaled = x * step.reciprocal()
        if fast:
            return self.multiplied(self._unsigned(scaled.round_())), step
        coarse = scaled.round()
        finer = 2 * self.levels  # rounding leaves half a step at most
        fine = scaled.sub_(coarse).mul_(finer).round_()
        products = self.multiplied(self._unsigned(coarse)), self.multiplied(self._unsigned(fine))
        return torch.add(*products, alpha=1 / finer), step

    def multiplied(self, x: Tensor) -> Tensor:
        """The bare int8 product with scaled weights; x: [M, in], uint8, `zero` for zero."""
        y: Tensor = torch.ops.onednn.qlinear_pointwise(
            x, 1.0, self.zero, self.packed, self.scale, self.zeros, None, 1.0, 0, self.dtype, "none", [], ""
        )
        return y

    def _unsigned(self, parts: Tensor) -> Tensor:
        """Whole numbers, `levels` either way, as oneDNN wants them; through int8, since torch converts to uint8 far slower."""
        return parts.to(torch.int8).view(torch.uint8).add_(self.zero)


def linear_of(
    tensors: Mapping[str, Tensor], *names: str, kernel: Kernel = "widened", dtype: torch.dtype = torch.float32
) -> Linear:
    """The layer `names[0]` of a checkpoint, or several of the same input stacked into one.

    Args:
        tensors: The checkpoint's tensors, weights plain (`NAME.weight`) or quantised by quanto (`NAME.weight._data`, `._scale`).
        names: Layers, without the ending `.weight`.
        kernel: How int8 weights are multiplied.
        dtype: The type to multiply in, or of the raw products of int8 activations.
    """
    biases = [tensors[f"{name}.bias"] for name in names if f"{name}.bias" in tensors]
    bias = _stacked(biases) if biases else None
    if f"{names[0]}.weight._data" not in tensors:
        return FloatLinear(_stacked([tensors[f"{name}.weight"] for name in names]), bias)
    data = _stacked([tensors[f"{name}.weight._data"] for name in names])
    scale = _stacked([tensors[f"{name}.weight._scale"].flatten() for name in names])
    if kernel == "packed":
        return PackedLinear(data, scale, dtype, bias)
    return WidenedLinear(data, scale, dtype, bias)


def fastest_on(device: torch.device) -> tuple[Kernel, torch.dtype]:
    """The kernel and the float type that are fastest on a device."""
    if device.type == "cpu":
        return _fastest_on_cpu()
    if device.type == "cuda" and not torch.cuda.is_bf16_supported():
        return "widened", torch.float16
    return "widened", torch.bfloat16


@lru_cache(maxsize=1)
def _fastest_on_cpu() -> tuple[Kernel, torch.dtype]:
    """Measured once a process on a small layer.

    Packed weights are only taken where their products are right. They are then faster than widened ones, exact products too, unless
    all oneDNN has for this CPU is its reference kernel; a busy machine shall not make that difference look small.
    """
    draw = torch.Generator().manual_seed(0)
    data = torch.randint(-127, 128, (512, 512), dtype=torch.int8, generator=draw)
    x = torch.randn(64, 512, generator=draw)
    floats = {dtype: FloatLinear(data.to(dtype)) for dtype in (torch.float32, torch.bfloat16)}
    seconds = dict(zip(floats, _seconds(list(floats.values()), x), strict=True))
    dtype = min(seconds, key=lambda one: seconds[one])
    if packed_levels() is not None:
        (packed,) = _seconds([PackedLinear(data, torch.full((512,), 0.01), dtype)], x)
        if packed < _FAR_SLOWER * seconds[dtype]:
            return "packed", dtype
    return "widened", dtype


@lru_cache(maxsize=1)
def packed_levels() -> int | None:
    """The most of `LEVELS` with which packed products are right on this machine; None if this build of torch has none that are."""
    data = torch.full((16, 512), 127, dtype=torch.int8)
    try:
        for levels in LEVELS:
            layer = PackedLinear(data, torch.ones(16), torch.float32, levels=levels)
            largest = torch.full((1, 512), layer.zero + levels, dtype=torch.uint8)
            if (layer.multiplied(largest) == levels * 127 * 512).all():
                return levels
    except (AttributeError, NotImplementedError, RuntimeError):
        pass  # this build of torch has no such product
    return None


def _seconds(layers: Sequence[Linear], x: Tensor) -> list[float]:
    """The best of several products' times of each layer; short ones that take turns, since other programs may be busy."""
    times: list[list[float]] = [[] for _ in layers]
    for _ in range(20):
        for layer, measured in zip(layers, times, strict=True):
            start = time.perf_counter()
            layer.product(x)
            measured.append(time.perf_counter() - start)
    return [min(measured) for measured in times]


def _stacked(tensors: list[Tensor]) -> Tensor:
    return tensors[0] if len(tensors) == 1 else torch.cat(tensors)
