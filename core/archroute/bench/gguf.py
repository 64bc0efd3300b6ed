"""The random checkpoint in llama.cpp's format, Q8_0, without a vocabulary: the benchmark passes tokens."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from archroute.engines.arch_router.checkpoint import Checkpoint

_NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}
_OUTER = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight"}


def write_gguf(source: Path, file: Path) -> Path:
    """Convert the checkpoint in `source`, unless it was before."""
    from gguf import GGMLQuantizationType, GGUFWriter

    if file.is_file():
        return file
    checkpoint = Checkpoint(source)
    shape, config = checkpoint.shape, checkpoint.config
    writer = GGUFWriter(file, "qwen2")
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.hidden)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_rope_freq_base(shape.rope_theta)
    writer.add_layer_norm_rms_eps(shape.norm_eps)
    writer.add_vocab_size(config["vocab_size"])
    writer.add_tokenizer_model("none")
    kind = GGMLQuantizationType.Q8_0
    for part in checkpoint.files:
        for name, tensor in checkpoint.tensors(part):
            plain = tensor.to(torch.float32)
            if plain.ndim == 2:
                writer.add_tensor(_translated(name), _q8_0(plain).numpy(), raw_dtype=kind)
            else:
                writer.add_tensor(_translated(name), plain.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def _q8_0(weight: Tensor) -> Tensor:
    """Blocks of 32 weights, each a float16 scale and int8 levels: [rows, columns] → [rows, bytes]. On all cores, unlike gguf's own."""
    blocks = weight.view(len(weight), -1, 32)
    scale = blocks.abs().amax(dim=-1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny) / 127
    levels = (blocks / scale).round_().to(torch.int8)
    return torch.cat([scale.half().view(torch.uint8), levels.view(torch.uint8)], dim=-1).flatten(-2)


def _translated(name: str) -> str:
    if name in _OUTER:
        return _OUTER[name]
    _, _, layer, rest = name.split(".", 3)
    part, _, ending = rest.rpartition(".")
    return f"blk.{layer}.{_NAMES[part]}.{ending}"
