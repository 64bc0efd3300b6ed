"""Quantising a checkpoint to int8 with optimum-quanto, a tensor at a time."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

QMAP = "quanto_qmap.json"
"""The file in which optimum-quanto notes which layers are quantised."""


def int8_tensors(name: str, weight: Tensor) -> Iterator[tuple[str, Tensor]]:
    """The tensors quanto's checkpoint format holds for the layer `name` with `weight [out, in]`.

    They are what `optimum.quanto.quantize(model, weights=qint8)`, `freeze` and `state_dict` give: int8 data and a scale a row, in the
    weight's own type.
    """
    import torch
    from optimum.quanto import AbsmaxOptimizer, qint8, quantize_weight

    scale = AbsmaxOptimizer()(weight, qtype=qint8, axis=0)
    quantized = quantize_weight(weight, qtype=qint8, axis=0, scale=scale, optimized=False)
    yield f"{name}.weight._data", quantized._data
    yield f"{name}.weight._scale", quantized._scale
    for unused in ("input_scale", "output_scale"):  # activations stay float, but quanto's loader wants these
        yield f"{name}.{unused}", torch.ones((), dtype=weight.dtype)


def qmap_of(names: list[str]) -> dict[str, dict[str, str]]:
    """The quantisation map of a checkpoint whose layers `names` have int8 weights."""
    return {name: {"weights": "qint8", "activations": "none"} for name in names}
