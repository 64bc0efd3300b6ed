"""Checkpoints that tests make."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import AutoTokenizer, Qwen2Config, Qwen2ForCausalLM


def random_checkpoint(
    directory: Path, tokenizer: Path, dtype: torch.dtype = torch.float32, *, decided: float = 4.0
) -> Path:
    """A checkpoint of random weights; the larger `decided`, the more clearly answers differ."""
    torch.manual_seed(7)
    loaded = AutoTokenizer.from_pretrained(tokenizer)
    config = Qwen2Config(
        vocab_size=len(loaded),
        hidden_size=64,
        intermediate_size=176,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=4096,
        tie_word_embeddings=True,
    )
    model = Qwen2ForCausalLM(config)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            parameter.data.mul_(decided)
    model.to(dtype).save_pretrained(directory)
    loaded.save_pretrained(directory)
    return directory
