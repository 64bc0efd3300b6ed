"""A BERT encoder as plain functions over tensors.

The same code serves and trains: a checkpoint's tensors may be int8 in optimum-quanto's form, or float parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from archroute.engines.embedded.text import Encoded
from archroute.engines.linear import linear_of

Product = Callable[[Tensor], Tensor]
"""A linear layer, `x · Wᵀ + b`: [M, in] → [M, out]."""

HEADS = 12
NORM_EPS = 1e-12


class Span(NamedTuple):
    """Rows of tokens, `texts` texts of `length` tokens each."""

    texts: int
    length: int


@dataclass(frozen=True)
class Layer:
    """One encoder layer's weights; query, key and value are one product."""

    qkv: Product
    out: Product
    attention_norm: tuple[Tensor, Tensor]
    inner: Product
    outer: Product
    mlp_norm: tuple[Tensor, Tensor]


class Encoder:
    """Reads texts.

    Args:
        tensors: The checkpoint, with BERT's names.
        linear: Makes a layer of the checkpoint's tensors and the names of those to stack, as `linear_of` does.
    """

    def __init__(self, tensors: Mapping[str, Tensor], linear: Callable[..., Product] = linear_of) -> None:
        self._tensors = tensors
        self.layers: list[Layer] = []
        while f"encoder.layer.{len(self.layers)}.output.LayerNorm.weight" in tensors:
            self.layers.append(_layer(tensors, f"encoder.layer.{len(self.layers)}.", partial(linear, tensors)))

    def read(self, texts: Sequence[Encoded]) -> list[Tensor]:
        """The vectors of each text's tokens: [tokens, hidden] a text, float32.

        All tokens stand in one row, those of texts of equal length side by side: nothing is padded, and a text's vectors do not
        depend on the others'.
        """
        order = sorted(range(len(texts)), key=lambda number: len(texts[number].tokens))
        sizes = [len(texts[number].tokens) for number in order]
        tokens = torch.tensor([token for number in order for token in texts[number].tokens])
        kinds = torch.tensor([kind for number in order for kind in texts[number].kinds])
        positions = torch.cat([torch.arange(size) for size in sizes])
        hidden = (
            self._rows("embeddings.word_embeddings", tokens)
            + self._tensors["embeddings.position_embeddings.weight"][positions]
            + self._tensors["embeddings.token_type_embeddings.weight"][kinds]
        )
        hidden = _normed(hidden, _norm_of(self._tensors, "embeddings.LayerNorm"))  # [all tokens, hidden]
        spans = [Span(len(list(same)), length) for length, same in groupby(sizes)]
        for layer in self.layers:
            hidden = _normed(hidden + layer.out(self._attended(layer.qkv(hidden), spans)), layer.attention_norm)
            inner = functional.gelu(layer.inner(hidden))
            hidden = _normed(hidden + layer.outer(inner), layer.mlp_norm)
        result = dict(zip(order, hidden.float().split_with_sizes(sizes), strict=True))
        return [result[number] for number in range(len(texts))]

    def _attended(self, mixed: Tensor, spans: Sequence[Span]) -> Tensor:
        """Every text's tokens attend to one another; from queries, keys and values in one: [all tokens, 3 · hidden] → […, hidden]."""
        if len(spans) == 1:  # as it is served
            return self._mixed(mixed.view(*spans[0], -1)).flatten(0, 1)
        parts = mixed.split_with_sizes([texts * length for texts, length in spans])
        return torch.cat(
            [self._mixed(part.view(*span, -1)).flatten(0, 1) for span, part in zip(spans, parts, strict=True)]
        )

    def _mixed(self, rows: Tensor) -> Tensor:
        """Attention within texts of one length: [texts, L, 3 · hidden] → [texts, L, hidden]."""
        queries, keys, values = self._heads(rows)
        return functional.scaled_dot_product_attention(queries, keys, values).transpose(1, 2).flatten(2)

    def _heads(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values: [texts, heads, L, head size] each."""
        queries, keys, values = rows.view(*rows.shape[:2], 3, HEADS, -1).transpose(1, 3).unbind(dim=2)
        return queries, keys, values

    def _rows(self, name: str, tokens: Tensor) -> Tensor:
        if f"{name}.weight._data" in self._tensors:
            scale = self._tensors[f"{name}.weight._scale"]
            return self._tensors[f"{name}.weight._data"][tokens].to(scale.dtype) * scale[tokens]
        return self._tensors[f"{name}.weight"][tokens]


def _layer(tensors: Mapping[str, Tensor], prefix: str, linear: Callable[..., Product]) -> Layer:
    attention = f"{prefix}attention."
    return Layer(
        qkv=linear(*(f"{attention}self.{part}" for part in ("query", "key", "value"))),
        out=linear(f"{attention}output.dense"),
        attention_norm=_norm_of(tensors, f"{attention}output.LayerNorm"),
        inner=linear(f"{prefix}intermediate.dense"),
        outer=linear(f"{prefix}output.dense"),
        mlp_norm=_norm_of(tensors, f"{prefix}output.LayerNorm"),
    )


def _norm_of(tensors: Mapping[str, Tensor], name: str) -> tuple[Tensor, Tensor]:
    return tensors[f"{name}.weight"], tensors[f"{name}.bias"]


def _normed(hidden: Tensor, norm: tuple[Tensor, Tensor]) -> Tensor:
    return functional.layer_norm(hidden, (hidden.shape[-1],), *norm, eps=NORM_EPS)
