"""A BERT encoder and the head that compares conversations with policies, as plain functions over tensors.

The same code serves and trains: a checkpoint's tensors may be int8 in optimum-quanto's form, or float parameters.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from archroute.engines.linear import Linear, linear_of

HEADS = 12
NORM_EPS = 1e-12
NULL_FEATURES = 6
"""What the null head looks at, see `Encoder.logits`."""


@dataclass(frozen=True)
class Layer:
    """One encoder layer's weights; query, key and value are one product."""

    qkv: Linear
    out: Linear
    attention_norm: tuple[Tensor, Tensor]
    inner: Linear
    outer: Linear
    mlp_norm: tuple[Tensor, Tensor]


class Encoder:
    """Embeds conversations and policies, and scores the one against the other.

    Args:
        tensors: The checkpoint, with BERT's names and the head's (`head.*`).
    """

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self.tensors = tensors
        self.layers: list[Layer] = []
        while f"encoder.layer.{len(self.layers)}.output.LayerNorm.weight" in tensors:
            self.layers.append(_layer(tensors, f"encoder.layer.{len(self.layers)}."))

    def embed(self, tokens: Tensor, kinds: Tensor, mask: Tensor) -> Tensor:
        """Unit vectors of texts, pooled over the tokens of kind 0.

        Args:
            tokens: Shape [B, L].
            kinds: 0 for the text itself, 1 for what came before it. Shape [B, L].
            mask: True where there is a token. Shape [B, L], bool.

        Returns:
            Shape [B, hidden].
        """
        positions = torch.arange(tokens.shape[1], device=tokens.device)
        hidden = (
            self._rows("embeddings.word_embeddings", tokens)
            + self.tensors["embeddings.position_embeddings.weight"][positions]
            + self.tensors["embeddings.token_type_embeddings.weight"][kinds]
        )
        hidden = _normed(hidden, _norm_of(self.tensors, "embeddings.LayerNorm"))
        seen = None if bool(mask.all()) else mask[:, None, None, :]
        for layer in self.layers:
            hidden = _normed(hidden + _attention(layer, hidden, seen), layer.attention_norm)
            hidden = _normed(hidden + layer.outer(functional.gelu(layer.inner(hidden))), layer.mlp_norm)
        pooled = (mask & (kinds == 0)).to(hidden.dtype)[..., None]
        return functional.normalize((hidden * pooled).sum(dim=1) / pooled.sum(dim=1), dim=-1)

    def logits(self, conversations: Tensor, policies: Tensor, offered: Tensor | None = None) -> Tensor:
        """Scores of all policies and of "none of them".

        The null score is decided against the policies at hand: it sees how the likeliest stand out from the others.

        Args:
            conversations: Unit vectors. Shape [B, hidden].
            policies: Unit vectors. Shape [P, hidden].
            offered: Which policies each conversation may go to; None: all. Shape [B, P], bool.

        Returns:
            Shape [B, P + 1], the null last; policies not offered have -inf.
        """
        similarity = conversations @ policies.T
        if offered is None:
            offered = torch.ones_like(similarity, dtype=torch.bool)
        null = self._null(conversations, similarity.masked_fill(~offered, -1.0), offered)
        scores = torch.cat([similarity, null[:, None]], dim=1) * self.tensors["head.scale"].exp()
        return scores.masked_fill(functional.pad(~offered, (0, 1)), float("-inf"))

    def _null(self, conversations: Tensor, similarity: Tensor, offered: Tensor) -> Tensor:
        count = offered.sum(dim=1)
        top = similarity.topk(min(3, similarity.shape[1]), dim=1).values
        top = functional.pad(top, (0, 3 - top.shape[1]), value=-1.0)
        mean = torch.where(offered, similarity, torch.zeros_like(similarity)).sum(dim=1) / count
        square = torch.where(offered, similarity.square(), torch.zeros_like(similarity)).sum(dim=1) / count
        spread = (square - mean.square()).clamp_min(1e-6).sqrt()
        features = torch.stack([*top.unbind(dim=1), mean, spread, count.to(mean.dtype).log()], dim=1)
        features = torch.cat([features, conversations], dim=1)
        inner = functional.gelu(
            functional.linear(features, self.tensors["head.null.0.weight"], self.tensors["head.null.0.bias"])
        )
        return functional.linear(inner, self.tensors["head.null.1.weight"], self.tensors["head.null.1.bias"])[:, 0]

    def _rows(self, name: str, tokens: Tensor) -> Tensor:
        if f"{name}.weight._data" in self.tensors:
            scale = self.tensors[f"{name}.weight._scale"]
            return self.tensors[f"{name}.weight._data"][tokens].to(scale.dtype) * scale[tokens]
        return self.tensors[f"{name}.weight"][tokens]


def _layer(tensors: Mapping[str, Tensor], prefix: str) -> Layer:
    attention = f"{prefix}attention."
    return Layer(
        qkv=linear_of(tensors, *(f"{attention}self.{part}" for part in ("query", "key", "value"))),
        out=linear_of(tensors, f"{attention}output.dense"),
        attention_norm=_norm_of(tensors, f"{attention}output.LayerNorm"),
        inner=linear_of(tensors, f"{prefix}intermediate.dense"),
        outer=linear_of(tensors, f"{prefix}output.dense"),
        mlp_norm=_norm_of(tensors, f"{prefix}output.LayerNorm"),
    )


def _norm_of(tensors: Mapping[str, Tensor], name: str) -> tuple[Tensor, Tensor]:
    return tensors[f"{name}.weight"], tensors[f"{name}.bias"]


def _normed(hidden: Tensor, norm: tuple[Tensor, Tensor]) -> Tensor:
    return functional.layer_norm(hidden, (hidden.shape[-1],), *norm, eps=NORM_EPS)


def _attention(layer: Layer, hidden: Tensor, seen: Tensor | None) -> Tensor:
    batch, length, size = hidden.shape
    heads = layer.qkv(hidden).view(batch, length, 3, HEADS, size // HEADS)
    queries, keys, values = (part.transpose(1, 2) for part in heads.unbind(dim=2))  # [B, heads, L, head size]
    attended = functional.scaled_dot_product_attention(queries, keys, values, attn_mask=seen)
    return layer.out(attended.transpose(1, 2).reshape(batch, length, size))
