"""The Qwen2 decoder, as plain functions over tensors.

Several sequences run packed: one row a token through the linear layers, and each sequence its own attention, over what it read before
and what is new. Equal to `transformers.Qwen2ForCausalLM` on the same weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil

import torch
from torch import Tensor
from torch.nn import functional

from archroute.engines.arch_router.prefix_cache import KeyValues
from archroute.engines.linear import Kernel, Linear, linear_of

_SCORES = 2_000_000  # of attention that are worked on at a time on a CPU
# Rows of the head that are multiplied at a time. Where they have to be widened, larger pieces are slower: each is new memory.
_VOCABULARY_PIECE = 4096


@dataclass(frozen=True)
class Shape:
    """The sizes of a Qwen2 checkpoint."""

    layers: int
    hidden: int
    inner: int
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


@dataclass(frozen=True)
class Segment:
    """One sequence of a packed pass.

    Attributes:
        tokens: Tokens to read. Shape [N].
        positions: Their positions. Shape [N].
        unseen: Where a new token (row) does not see another new one (column). Shape [N, N], bool.
        past: Keys and values of the tokens before, all of them seen, in pieces.
    """

    tokens: Tensor
    positions: Tensor
    unseen: Tensor
    past: tuple[KeyValues, ...] = ()


class Qwen2:
    """A Qwen2 decoder.

    Args:
        shape: The sizes.
        tensors: The checkpoint's tensors by name, plain or quantised by quanto. They are taken out as they are used, so that
            weights that get packed are not held twice.
        kernel: How int8 weights are multiplied.
        dtype: The type of keys, values and raw products. Sums and norms are float32.
    """

    def __init__(self, shape: Shape, tensors: dict[str, Tensor], kernel: Kernel, dtype: torch.dtype) -> None:
        self.shape = shape
        self.dtype = dtype
        self.embedding = tensors["model.embed_tokens.weight"]  # [vocabulary, hidden]
        self.head = tensors.get("lm_head.weight", self.embedding)  # [vocabulary, hidden]
        self.norm = tensors["model.norm.weight"].float()
        self.layers = []
        for number in range(shape.layers):
            prefix = f"model.layers.{number}."
            taken = {name: tensors.pop(name) for name in list(tensors) if name.startswith(prefix)}
            self.layers.append(_layer(taken, prefix, kernel, dtype))
        exponents = torch.arange(0, shape.head_size, 2, dtype=torch.float32, device=self.device) / shape.head_size
        self.frequencies = 1.0 / shape.rope_theta**exponents  # [head size / 2]; float32 always: bfloat16 drifts

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.norm.device

    def forward(self, segments: Sequence[Segment], *, fast: bool = False) -> tuple[Tensor, list[KeyValues]]:
        """Read all segments.

        Args:
            segments: What to read.
            fast: Whether activations may be rounded to int8 where that is faster.

        Returns:
            The last hidden states of all new tokens, normed, packed in order: [sum of N, hidden], float32; and each segment's new keys
            and values.
        """
        tokens = torch.cat([segment.tokens for segment in segments])
        angles = torch.cat([segment.positions for segment in segments]).float()[:, None] * self.frequencies
        rotation = angles.cos()[:, None], angles.sin()[:, None]  # [rows, 1, head size / 2]
        hidden = functional.embedding(tokens, self.embedding).float()
        masks = [_mask(segment, self.shape, self.dtype) for segment in segments]
        read: list[list[tuple[Tensor, Tensor]]] = []
        for number, layer in enumerate(self.layers):
            qkv = layer.qkv(hidden * layer.attention_norm, _norm(hidden, self.shape), fast=fast)
            queries, keys, values = self._heads(qkv, rotation)
            outputs, new, row = [], [], 0
            for segment, mask in zip(segments, masks, strict=True):
                rows = slice(row, row + len(segment.tokens))
                row = rows.stop
                new.append((keys[:, rows], values[:, rows]))
                # One product with all keys costs less than one with each piece, by more than joining them does.
                seen = torch.cat([*(past.keys[number] for past in segment.past), keys[:, rows]], dim=1)
                known = torch.cat([*(past.values[number] for past in segment.past), values[:, rows]], dim=1)
                outputs.append(_attention(queries[:, rows], seen, known, mask))
            read.append(new)
            hidden = hidden + layer.out(torch.cat(outputs), fast=fast)
            hidden = hidden + _mlp(layer, hidden, self.shape, fast=fast)
        hidden = hidden * self.norm * _norm(hidden, self.shape)
        return hidden, [
            KeyValues(torch.stack([keys for keys, _ in layers]), torch.stack([values for _, values in layers]))
            for layers in zip(*read, strict=True)
        ]

    def logits(self, hidden: Tensor, rows: Tensor, tokens: Tensor) -> Tensor:
        """The score of `tokens[i]` after the hidden state `rows[i]`; [states, hidden], [pairs], [pairs] → [pairs], float32.

        Only these tokens' rows of the head are touched.
        """
        return (hidden[rows] * self.head[tokens].float()).sum(dim=-1)

    def log_rest(self, hidden: Tensor, rows: Tensor, tokens: Tensor) -> Tensor:
        """Natural log of the sum of the exponentiated scores over the vocabulary without `tokens[i]` for the state `rows[i]`.

        The head is multiplied a piece at a time, so that a large one that is mapped from a file is never copied whole.

        Args:
            hidden: Shape [states, hidden].
            rows: Shape [pairs].
            tokens: Shape [pairs].

        Returns:
            Shape [states], float32.
        """
        states, sums, start = hidden.to(self.dtype), [], 0
        for piece in torch.split(self.head, _VOCABULARY_PIECE):
            scores = functional.linear(states, piece.to(self.dtype)).float()
            within = (tokens >= start) & (tokens < start + len(piece))
            scores[rows[within], tokens[within] - start] = float("-inf")
            sums.append(scores.logsumexp(dim=-1))
            start += len(piece)
        return torch.stack(sums).logsumexp(dim=0)

    def _heads(self, qkv: Tensor, rotation: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, positions applied: [heads or kv heads, rows, head size] each."""
        shape = self.shape
        queries, keys, values = torch.split(
            qkv.view(len(qkv), -1, shape.head_size), [shape.heads, shape.kv_heads, shape.kv_heads], dim=1
        )
        queries, keys = _rotated(queries, rotation), _rotated(keys, rotation)
        queries = queries * shape.head_size**-0.5
        turned = [part.to(self.dtype).transpose(0, 1) for part in (queries, keys, values)]
        return turned[0], turned[1], turned[2]


def _layer(tensors: Mapping[str, Tensor], prefix: str, kernel: Kernel, dtype: torch.dtype) -> Layer:
    def linear(*names: str) -> Linear:
        return linear_of(tensors, *(f"{prefix}{name}" for name in names), kernel=kernel, dtype=dtype)

    return Layer(
        attention_norm=tensors[f"{prefix}input_layernorm.weight"].float(),
        qkv=linear("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
        out=linear("self_attn.o_proj"),
        mlp_norm=tensors[f"{prefix}post_attention_layernorm.weight"].float(),
        gate_up=linear("mlp.gate_proj", "mlp.up_proj"),
        down=linear("mlp.down_proj"),
    )


def _norm(hidden: Tensor, shape: Shape) -> Tensor:
    """The factor a row by which RMSNorm divides: [rows, 1]."""
    return torch.rsqrt(hidden.square().mean(dim=-1, keepdim=True) + shape.norm_eps)


def _rotated(heads: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
    """Rotary position embedding, the halves of each head as pairs (GPT-NeoX's layout). heads: [rows, heads, head size]."""
    first, second = heads.chunk(2, dim=-1)
    cosine, sine = rotation
    return torch.cat([first * cosine - second * sine, second * cosine + first * sine], dim=-1)


def _mask(segment: Segment, shape: Shape, dtype: torch.dtype) -> Tensor:
    """What is added to the scores of a segment's new tokens, for all queries of a kv head: [queries · N, N]."""
    mask = torch.zeros(segment.unseen.shape, dtype=dtype, device=segment.unseen.device)
    return mask.masked_fill_(segment.unseen, float("-inf")).repeat(shape.heads // shape.kv_heads, 1)


def _attention(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
    """Attention of new tokens to all tokens, the new ones last and masked.

    The queries of one kv head are taken together, so that keys and values are read once for all of them; on a CPU as many at a time
    as have scores that stay in its cache.

    Args:
        queries: Scaled. Shape [heads, N, head size].
        keys: Shape [kv heads, tokens, head size].
        values: Shape [kv heads, tokens, head size].
        mask: Shape [queries a kv head · N, N].

    Returns:
        Shape [N, heads · head size].
    """
    heads, count, size = queries.shape
    kv_heads, tokens, _ = keys.shape
    together = queries.reshape(kv_heads, -1, size)
    attended = torch.empty_like(together)
    rows = together.shape[1]
    if queries.device.type == "cpu":
        rows = ceil(rows / ceil(rows * tokens / _SCORES))
    for head in range(kv_heads):
        for start in range(0, together.shape[1], rows):
            part = slice(start, start + rows)
            scores = together[head, part] @ keys[head].T
            scores[:, tokens - count :] += mask[part]
            torch.mm(scores.softmax(dim=-1), values[head], out=attended[head, part])
    return attended.view(heads, count, size).transpose(0, 1).reshape(count, heads * size)


def _mlp(layer: Layer, hidden: Tensor, shape: Shape, *, fast: bool) -> Tensor:
    raw, scale = layer.gate_up.product(hidden * layer.mlp_norm, fast=fast)
    factor = _norm(hidden, shape) if scale is None else _norm(hidden, shape) * scale
    gate, up = raw.chunk(2, dim=-1)
    # The factor must stand inside the activation of the gate; past it, it is the down projection's.
    return layer.down(functional.silu(gate * factor).mul_(up), factor, fast=fast)
