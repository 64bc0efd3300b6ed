"""Rounding the layers to int8 by what they are given, so that their outputs change least.

Two things that other people found. A few channels of a layer's inputs are many times larger than the others, and they set the step in
which all are rounded: they are divided by a factor, and the weights that meet them multiplied by it (SmoothQuant, Xiao et al. 2022,
arXiv:2211.10438). And weights are rounded a column after the other: what rounding one changes in the outputs is made good by those that
are still to come (GPTQ, Frantar et al. 2022, arXiv:2210.17323).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from archroute.engines.embedded.encoder import Encoder, Product
from archroute.engines.embedded.text import Encoded
from archroute.engines.linear import linear_of
from archroute.engines.quantize import int8_tensors

SMOOTHED = ("self.query", "self.key", "self.value", "intermediate.dense")
"""The layers whose inputs have such channels."""

_HIGH = 2.0  # a channel is brought down to so many times the median one
_DAMPING = 0.01  # of the inputs' mean square, added to each: directions that were never seen stay bounded
_MOST = 0.95  # the share of the texts in which a channel is not larger
_LEVELS = 127


class Inputs(NamedTuple):
    """What a layer is given: the mean of `xᵀx` [in, in], and how large each channel gets [in]."""

    moment: Tensor
    largest: Tensor


@torch.inference_mode()
def inputs_of(tensors: Mapping[str, Tensor], texts: Sequence[Encoded]) -> dict[str, Inputs]:
    """What each linear layer of the encoder is given when it reads the texts.

    Args:
        tensors: A float checkpoint.
        texts: Such as the model is made for.

    Returns:
        By the layer's name, without the ending `.weight`.
    """
    sums: dict[str, Tensor] = {}
    largest: dict[str, list[Tensor]] = {}
    together: dict[str, str] = {}  # layers that are given the same

    def watched(tensors: Mapping[str, Tensor], *names: str) -> Product:
        layer, first = linear_of(tensors, *names), names[0]
        together.update(dict.fromkeys(names, first))

        def product(x: Tensor) -> Tensor:
            sums[first] = sums.get(first, 0) + x.T @ x / (len(x) * len(texts))
            largest.setdefault(first, []).append(x.abs().amax(dim=0))
            return layer(x)

        return product

    encoder = Encoder(tensors, watched)
    for text in texts:
        encoder.read([text])
    seen = {first: Inputs(sums[first], torch.stack(largest[first]).quantile(_MOST, dim=0)) for first in sums}
    return {name: seen[first] for name, first in together.items()}


@torch.inference_mode()
def int8_layer(name: str, weight: Tensor, inputs: Inputs) -> dict[str, Tensor]:
    """The layer's int8 tensors, as `int8_tensors` names them, and `NAME.pre_quant_scale [in]`, by which what it is given is multiplied.

    Args:
        name: Of the layer.
        weight: [out, in].
        inputs: What it is given.
    """
    found: dict[str, Tensor] = {}
    moment = inputs.moment
    if name.endswith(SMOOTHED):
        scale = (inputs.largest / (_HIGH * inputs.largest.median())).clamp(min=1).reciprocal()
        weight, moment = weight / scale, moment * scale * scale[:, None]
        found[f"{name}.pre_quant_scale"] = scale
    found |= dict(int8_tensors(name, weight))
    return found | {f"{name}.weight._data": _rounded(weight / found[f"{name}.weight._scale"], moment)}


def _rounded(weight: Tensor, moment: Tensor) -> Tensor:
    """The weights, in steps of one, as int8."""
    # What weighs most comes first, while much can still be made good.
    order = moment.diagonal().argsort(descending=True)
    seen = moment[order][:, order].double()
    seen += _DAMPING * seen.diagonal().mean() * torch.eye(len(seen), dtype=seen.dtype)
    spread = torch.linalg.cholesky(torch.linalg.inv(seen), upper=True).float()
    left = weight[:, order]
    for column in range(left.shape[1]):
        exact = left[:, column].clone()
        left[:, column] = exact.round().clamp(-_LEVELS, _LEVELS)
        missed = (exact - left[:, column]) / spread[column, column]
        left[:, column + 1 :] -= missed[:, None] * spread[column, column + 1 :]
    return left[:, order.argsort()].to(torch.int8)
