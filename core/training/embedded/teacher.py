"""all-mpnet-base-v2, five times the size: it learns the task first, and the shipped model then learns from its answers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional

from archroute.engines.embedded.encoder import Encoder
from training.embedded.tensors import head

_BUCKETS, _FARTHEST = 32, 128  # MPNet's relative positions, as T5 has them
_RELATIVE = "relative_attention_bias"
_MARKS = {"[CLS]": "<s>", "[SEP]": "</s>", "[PAD]": "<pad>"}
_NAMES = {
    "attention.attn.q": "attention.self.query",
    "attention.attn.k": "attention.self.key",
    "attention.attn.v": "attention.self.value",
    "attention.attn.o": "attention.output.dense",
    "attention.LayerNorm": "attention.output.LayerNorm",
}

TEACHER_FROZEN = ("embeddings.", _RELATIVE, *(f"encoder.layer.{number}." for number in range(4)))
"""What is not trained of the teacher."""


class TeacherEncoder(Encoder):
    """MPNet: BERT whose attention also sees how far apart two tokens are."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        super().__init__(tensors)
        self._biases: dict[int, Tensor] = {}  # by length

    def _mixed(self, rows: Tensor) -> Tensor:
        queries, keys, values = self._heads(rows)
        length = rows.shape[1]
        if length not in self._biases:
            places = torch.arange(length)
            near = self._tensors[_RELATIVE][_bucket(places[None] - places[:, None])]  # [L, L, heads]
            self._biases[length] = near.permute(2, 0, 1)[None].to(rows.dtype)
        attended = functional.scaled_dot_product_attention(queries, keys, values, self._biases[length])
        return attended.transpose(1, 2).flatten(2)


def initial_teacher(directory: Path, tokenizer: Tokenizer, seed: int) -> dict[str, Tensor]:
    """all-mpnet-base-v2 with BERT's names and the tokenizer's numbers, and an untrained head.

    Args:
        directory: Holds its `model.safetensors` and `vocab.txt`.
        tokenizer: all-MiniLM-L6-v2's, which has the same words.
        seed: Of the head.

    Raises:
        SystemExit: The files are not there.
    """
    try:
        loaded = load_file(directory / "model.safetensors")
        lines = (directory / "vocab.txt").read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise SystemExit(f"{error}: --teacher wants a directory with all-mpnet-base-v2's files") from error
    numbers = {word: number for number, word in enumerate(lines)}
    words = sorted(tokenizer.get_vocab().items(), key=lambda entry: entry[1])
    order = [numbers[_MARKS.get(word, word)] for word, _ in words]
    tensors: dict[str, Tensor] = {}
    for name, tensor in loaded.items():
        for theirs, berts in _NAMES.items():
            name = name.replace(theirs, berts)
        if name.startswith(("embeddings.", "encoder.")) and tensor.is_floating_point():
            tensors[name] = tensor.float()
    tensors[_RELATIVE] = tensors.pop(f"encoder.{_RELATIVE}.weight")
    word, place = "embeddings.word_embeddings.weight", "embeddings.position_embeddings.weight"
    tensors |= {word: tensors[word][order], place: tensors[place][2:]}  # MPNet's first two places are not used
    hidden = tensors[word].shape[1]
    tensors["embeddings.token_type_embeddings.weight"] = torch.zeros(2, hidden)
    return tensors | head(hidden, seed)


def _bucket(distance: Tensor) -> Tensor:
    half = _BUCKETS // 2
    exact = half // 2
    size = distance.abs()
    farther = (size.clamp(min=1) / exact).log() / math.log(_FARTHEST / exact) * (half - exact)
    return (distance > 0) * half + torch.where(size < exact, size, (exact + farther.long()).clamp(max=half - 1))
