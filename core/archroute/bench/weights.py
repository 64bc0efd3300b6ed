"""A checkpoint of Arch-Router's exact shape with random weights: speed does not depend on the values."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

CONFIG = {
    "architectures": ["Qwen2ForCausalLM"],
    "model_type": "qwen2",
    "hidden_size": 1536,
    "intermediate_size": 8960,
    "num_hidden_layers": 28,
    "num_attention_heads": 12,
    "num_key_value_heads": 2,
    "vocab_size": 151_936,
    "max_position_embeddings": 32_768,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1_000_000.0,
    "hidden_act": "silu",
    "tie_word_embeddings": True,
    "use_sliding_window": False,
    "torch_dtype": "bfloat16",
}
"""`config.json` of Qwen2.5-1.5B, of which Arch-Router is a fine-tune."""

_SHARDS = 4
_SCALE = 0.02
_DECIDED = (
    8.0  # of the last norm: scores then spread as a trained model's do, so that as few branches of answers stay likely
)


def write_random_checkpoint(directory: Path, config: dict[str, object] = CONFIG) -> Path:
    """Write a bfloat16 checkpoint of `config`'s shape, in four shards as large models come, without a tokenizer."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(json.dumps(config), encoding="utf-8")
    layers = int(str(config["num_hidden_layers"]))

    def written(shard: int) -> dict[str, str]:
        name = f"model-{shard + 1:05}-of-{_SHARDS:05}.safetensors"
        first, last = layers * shard // _SHARDS, layers * (shard + 1) // _SHARDS
        tensors = dict(_tensors(config, range(first, last), outer=shard == 0))
        save_file(tensors, directory / name, metadata={"format": "pt"})
        return dict.fromkeys(tensors, name)

    with ThreadPoolExecutor(2) as pool:  # drawing numbers takes one core
        places = {tensor: name for shard in pool.map(written, range(_SHARDS)) for tensor, name in shard.items()}
    index = {"metadata": {}, "weight_map": places}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    return directory


def _tensors(config: dict[str, object], layers: range, *, outer: bool) -> Iterator[tuple[str, Tensor]]:
    size = {name: value for name, value in config.items() if isinstance(value, int)}
    draw = torch.Generator().manual_seed(layers.start)
    hidden, inner = size["hidden_size"], size["intermediate_size"]
    values = hidden // size["num_attention_heads"] * size["num_key_value_heads"]

    def random(*shape: int) -> Tensor:
        return torch.empty(shape, dtype=torch.bfloat16).normal_(0, _SCALE, generator=draw)

    for layer in layers:
        prefix = f"model.layers.{layer}."
        for name, rows, columns in (
            ("self_attn.q_proj", hidden, hidden),
            ("self_attn.k_proj", values, hidden),
            ("self_attn.v_proj", values, hidden),
            ("self_attn.o_proj", hidden, hidden),
            ("mlp.gate_proj", inner, hidden),
            ("mlp.up_proj", inner, hidden),
            ("mlp.down_proj", hidden, inner),
        ):
            yield f"{prefix}{name}.weight", random(rows, columns)
            if name.endswith(("q_proj", "k_proj", "v_proj")):
                yield f"{prefix}{name}.bias", random(rows)
        for name in ("input_layernorm", "post_attention_layernorm"):
            yield f"{prefix}{name}.weight", torch.ones(hidden, dtype=torch.bfloat16)
    if outer:
        yield "model.embed_tokens.weight", random(size["vocab_size"], hidden)
        yield "model.norm.weight", torch.full((hidden,), _DECIDED, dtype=torch.bfloat16)
