"""Reading a Qwen2 checkpoint from a directory: safetensors only, mapped, a tensor at a time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from archroute.engines.arch_router.model import Shape
from archroute.engines.linear import LEVELS, packed_levels
from archroute.engines.quantize import QMAP, int8_tensors
from archroute.errors import ModelError

FAST_CHECK = "fast_check.json"
"""Where the outcome of comparing fast with exact decisions is kept, beside prepared weights."""

LINEAR_LAYERS = (
    "self_attn.q_proj",
    "self_attn.k_proj",
    "self_attn.v_proj",
    "self_attn.o_proj",
    "mlp.gate_proj",
    "mlp.up_proj",
    "mlp.down_proj",
)
"""The layers of a decoder layer that are quantised."""

_MAPPED_BYTES = 2**28  # of a file, before it is mapped anew
_MAPPED = ("model.embed_tokens.weight", "lm_head.weight")  # large, and only some of their rows are read


class Checkpoint:
    """A directory with `config.json`, safetensors and a tokenizer.

    Raises:
        ModelError: Something is missing or is not a Qwen2 model.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.config = self._json("config.json")
        if self.config.get("model_type") != "qwen2":
            raise ModelError(
                f"{directory} holds a {self.config.get('model_type')!r} model, not qwen2",
                hint="Arch-Router is a fine-tune of Qwen2.5; use a checkpoint of that architecture",
            )
        self.quantized = (directory / QMAP).is_file()
        self.fast_is_safe = (directory / FAST_CHECK).is_file() and _holds_here(self._json(FAST_CHECK))
        index = directory / "model.safetensors.index.json"
        if index.is_file():
            self.files = [directory / name for name in sorted(set(self._json(index.name)["weight_map"].values()))]
        else:
            self.files = sorted(directory.glob("*.safetensors"))
        if not self.files:
            raise ModelError(
                f"{directory} has no safetensors",
                hint="other weight formats can run code when loaded; convert them to safetensors",
            )

    @property
    def shape(self) -> Shape:
        """The model's sizes."""
        config = self.config
        try:
            rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
            if rope.get("rope_type", "default") != "default" or config.get("use_sliding_window"):
                raise ModelError(f"{self.directory}: scaled rotary embeddings and sliding windows are not supported")
            return Shape(
                layers=config["num_hidden_layers"],
                hidden=config["hidden_size"],
                inner=config["intermediate_size"],
                heads=config["num_attention_heads"],
                kv_heads=config["num_key_value_heads"],
                head_size=config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"],
                norm_eps=config["rms_norm_eps"],
                rope_theta=rope.get("rope_theta") or config.get("rope_theta") or 10000.0,
                context=config["max_position_embeddings"],
            )
        except KeyError as error:
            raise ModelError(f"{self.directory}/config.json lacks {error}") from error

    @property
    def dtype(self) -> torch.dtype:
        """The float type of the checkpoint's weights, before they were quantised."""
        for file in self.files:
            with _readable(file), safe_open(file, framework="pt") as opened:
                if "model.norm.weight" in opened.keys():  # noqa: SIM118 - the handle is no mapping
                    norm: Tensor = opened.get_tensor("model.norm.weight")
                    return norm.dtype
        raise ModelError(f"{self.directory} lacks model.norm.weight", hint="fetch the checkpoint again")

    def load(self, *, quantize: bool, dtype: torch.dtype, device: torch.device) -> dict[str, Tensor]:
        """All tensors, linear layers in int8 unless `quantize` is False, the others in `dtype`.

        The embedding keeps its type, so that it stays mapped.
        """
        loaded: dict[str, Tensor] = {}
        for file in self.files:
            for name, tensor in self.tensors(file):
                if quantize and self.is_linear(name):
                    loaded |= int8_tensors(name.removesuffix(".weight"), tensor)
                else:
                    loaded[name] = tensor
        for name, tensor in loaded.items():
            cast = dtype if tensor.dtype != torch.int8 and name not in _MAPPED else None
            loaded[name] = tensor.to(device=device, dtype=cast)
        return loaded

    def tensors(self, file: Path) -> Iterator[tuple[str, Tensor]]:
        """Name and tensor of everything in one of the files, mapped from it.

        The file is mapped anew every so often, so that the memory of what was read and dropped is given back.
        """
        with _readable(file):
            with safe_open(file, framework="pt") as opened:
                names = list(opened.keys())
            while names:
                size = 0
                with safe_open(file, framework="pt") as opened:
                    while names and size < _MAPPED_BYTES:
                        name = names.pop(0)
                        tensor = opened.get_tensor(name)
                        size += tensor.nbytes
                        yield name, tensor

    @staticmethod
    def is_linear(name: str) -> bool:
        """Whether the tensor `name` is the plain weight of a layer that is quantised."""
        return name.endswith(".weight") and name.removesuffix(".weight").endswith(LINEAR_LAYERS)

    def _json(self, name: str) -> dict[str, Any]:
        file = self.directory / name
        try:
            return dict(json.loads(file.read_text(encoding="utf-8")))
        except OSError as error:
            raise ModelError(f"{file} is missing", hint="give the directory of a whole checkpoint") from error
        except ValueError as error:
            raise ModelError(f"{file} is no JSON object: {error}") from error


def _holds_here(check: dict[str, Any]) -> bool:
    """Whether a comparison that was kept found fast decisions the same, with activations no finer than this machine's."""
    here, then = packed_levels(), check.get("levels", LEVELS[0])
    return bool(check.get("safe")) and (here is None or (then is not None and then <= here))


@contextmanager
def _readable(file: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{file} can't be read: {error}", hint="fetch the checkpoint again") from error
