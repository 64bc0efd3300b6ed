"""The Qwen2 decoder, as plain functions over tensors.

Several sequences run packed: one row a token through the linear layers, and each sequence its own attention, over its own keys
and values. Equal to `transformers.Qwen2ForCausalLM` on the same weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from archroute.engines.linear import Linear, linear_of

_VOCABULARY_PIECE = 16_384  # rows of the head that are multiplied at a time


@dataclass(frozen=True)
class Shape:
    """The sizes of a Qwen2 checkpoint."""

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_size: int
    norm_eps: float
    rope_theta: float
    context: int


@dataclass(frozen=True)
class Layer:
    """One decoder layer's weights; q, k, v are one product, and so are gate and up."""

    attention_norm: Tensor
    qkv: Linear
    out: Linear
    mlp_norm: Tensor
    gate_up: Linear
    down: Linear


class KeyValues:
    """Keys and values of one sequence: `[layers, kv heads, capacity, head size]` each, `length` of them filled."""

    def __init__(self, shape: Shape, capacity: int, dtype: torch.dtype, device: torch.device) -> None:
        size = (shape.layers, shape.kv_heads, capacity, shape.head_size)
        self.keys = torch.empty(size, dtype=dtype, device=device)
        self.values = torch.empty(size, dtype=dtype, device=device)
        self.length = 0


@dataclass(frozen=True)
class Segment:
    """One sequence of a packed pass.

    Attributes:
        tokens: Tokens to read, after those whose keys and values are cached. Shape [N].
        positions: Their positions. Shape [N].
        mask: Whether a token sees a cached or a new one. Shape [N, cached + N], bool.
        cache: Filled up to `cache.length`, which the pass leaves as it is; the new keys and values are written behind.
    """

    tokens: Tensor
    positions: Tensor
    mask: Tensor
    cache: KeyValues


class Qwen2:
    """A Qwen2 decoder.

    Args:
        shape: The sizes.
        tensors: The checkpoint's tensors by name, plain or quantised by quanto.
    """

    def __init__(self, shape: Shape, tensors: Mapping[str, Tensor]) -> None:
        self.shape = shape
        self.embedding = tensors["model.embed_tokens.weight"]  # [vocabulary, hidden]
        self.head = tensors.get("lm_head.weight", self.embedding)  # [vocabulary, hidden]
        self.norm = tensors["model.norm.weight"]
        self.layers = [_layer(tensors, f"model.layers.{number}.") for number in range(shape.layers)]
        exponents = torch.arange(0, shape.head_size, 2, dtype=torch.float32, device=self.norm.device) / shape.head_size
        self.frequencies = 1.0 / shape.rope_theta**exponents  # [head size / 2]; float32 always: bfloat16 drifts

    @property
    def dtype(self) -> torch.dtype:
        """The type activations have."""
        return self.norm.dtype

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.norm.device

    def new_cache(self, capacity: int) -> KeyValues:
        """Room for the keys and values of `capacity` tokens."""
        return KeyValues(self.shape, capacity, self.dtype, self.device)

    def forward(self, sequences: Sequence[Segment]) -> Tensor:
        """Last hidden states of all new tokens, normed, packed in order. Shape [sum of N, hidden]."""
        tokens = torch.cat([sequence.tokens for sequence in sequences])
        angles = torch.cat([sequence.positions for sequence in sequences]).float()[:, None] * self.frequencies
        angles = torch.cat([angles, angles], dim=-1)[:, None]  # [rows, 1, head size]
        rotation = angles.cos().to(self.dtype), angles.sin().to(self.dtype)
        hidden = functional.embedding(tokens, self.embedding).to(self.dtype)
        for number, layer in enumerate(self.layers):
            hidden = hidden + self._attention(number, layer, hidden, rotation, sequences)
            gate, up = layer.gate_up(self._normed(hidden, layer.mlp_norm)).chunk(2, dim=-1)
            hidden = hidden + layer.down(functional.silu(gate) * up)
        return self._normed(hidden, self.norm)

    def log_probabilities(self, hidden: Tensor, rows: Tensor, tokens: Tensor) -> Tensor:
        """Natural log of the probability that `tokens[i]` follows the hidden state `rows[i]`; float32.

        The vocabulary is summed over a piece at a time, so that a large head is never copied whole.

        Args:
            hidden: Shape [states, hidden].
            rows: Shape [pairs].
            tokens: Shape [pairs].
        """
        sums = [
            functional.linear(hidden, piece.to(hidden.dtype)).float().logsumexp(dim=-1)
            for piece in self.head.split(_VOCABULARY_PIECE)
        ]
        logits = (hidden[rows].float() * self.head[tokens].float()).sum(dim=-1)
        return logits - torch.stack(sums).logsumexp(dim=0)[rows]

    def _attention(
        self,
        number: int,
        layer: Layer,
        hidden: Tensor,
        rotation: tuple[Tensor, Tensor],
        sequences: Sequence[Segment],
    ) -> Tensor:
        shape = self.shape
        heads = layer.qkv(self._normed(hidden, layer.attention_norm)).view(len(hidden), -1, shape.head_size)
        queries, keys, values = heads.split([shape.heads, shape.kv_heads, shape.kv_heads], dim=1)
        queries, keys = _rotated(queries, rotation), _rotated(keys, rotation)
        outputs, row = [], 0
        for sequence in sequences:
            start, count = sequence.cache.length, len(sequence.tokens)
            rows, end = slice(row, row + count), sequence.cache.length + count
            cached_keys, cached_values = sequence.cache.keys[number], sequence.cache.values[number]
            cached_keys[:, start:end] = keys[rows].transpose(0, 1)
            cached_values[:, start:end] = values[rows].transpose(0, 1)
            attended = functional.scaled_dot_product_attention(
                queries[rows].transpose(0, 1)[None],
                cached_keys[None, :, :end],
                cached_values[None, :, :end],
                attn_mask=sequence.mask,
                enable_gqa=True,
            )  # [1, heads, N, head size]
            outputs.append(attended[0].transpose(0, 1).reshape(count, -1))
            row += count
        return layer.out(torch.cat(outputs))

    def _normed(self, hidden: Tensor, weight: Tensor) -> Tensor:
        exact = hidden.float()
        scaled = exact * torch.rsqrt(exact.square().mean(dim=-1, keepdim=True) + self.shape.norm_eps)
        return weight * scaled.to(hidden.dtype)


def _layer(tensors: Mapping[str, Tensor], prefix: str) -> Layer:
    attention, mlp = f"{prefix}self_attn.", f"{prefix}mlp."
    return Layer(
        attention_norm=tensors[f"{prefix}input_layernorm.weight"],
        qkv=linear_of(tensors, f"{attention}q_proj", f"{attention}k_proj", f"{attention}v_proj"),
        out=linear_of(tensors, f"{attention}o_proj"),
        mlp_norm=tensors[f"{prefix}post_attention_layernorm.weight"],
        gate_up=linear_of(tensors, f"{mlp}gate_proj", f"{mlp}up_proj"),
        down=linear_of(tensors, f"{mlp}down_proj"),
    )


def _rotated(heads: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
    """Rotary position embedding, the halves of each head as pairs (GPT-NeoX's layout). heads: [rows, heads, head size]."""
    first, second = heads.chunk(2, dim=-1)
    return heads * rotation[0] + torch.cat([-second, first], dim=-1) * rotation[1]
