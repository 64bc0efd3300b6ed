"""Preparing a checkpoint: fetched from the model hub, quantised shard by shard, saved for later starts to map."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from archroute.engines.arch_router.checkpoint import Checkpoint
from archroute.engines.quantize import QMAP, int8_tensors, qmap_of
from archroute.errors import DownloadError, ModelError

_WANTED = ["*.safetensors", "*.json", "*.jinja", "merges.txt", "README.md", "LICENSE*"]

_SHARD_BYTES = 2**27  # what is quantised is written whenever it has reached this size

Progress = Callable[[int, int], None]
"""Told after each file how many of how many are done."""


def pull(model: str, directory: Path, progress: Progress | None = None) -> Path:
    """Fetch `model` (`org/name` or `org/name@revision`) from the hub and leave its int8 form in `directory`.

    `HF_HOME`, `HF_TOKEN`, `HF_ENDPOINT` and `HF_HUB_OFFLINE` are respected; the download shows its own progress.

    Raises:
        DownloadError: The hub can't be reached, has no such model, or refuses it.
        ModelError: What came is no usable checkpoint.
    """
    return prepare(download(model), directory, progress)


def download(model: str) -> Path:
    """Fetch `model` from the hub, or find it in the hub's cache; the directory that holds it."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    name, _, revision = model.partition("@")
    try:
        return Path(snapshot_download(name, revision=revision or None, allow_patterns=_WANTED))
    except HFValidationError as error:
        raise ModelError(f"{name!r} is no model hub id", hint="write it as org/name or org/name@revision") from error
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else "no"
        raise DownloadError(
            f"the model hub refused {model} (status {status})",
            hint="check the name and the revision; a gated model needs its licence accepted and HF_TOKEN set",
        ) from error
    except Exception as error:  # the hub's client changes its transport, and with it the errors of a lost connection
        raise DownloadError(
            f"{model} is not on this machine and could not be fetched ({type(error).__name__}: {error})",
            hint='connect and run `archroute pull`, give the directory of a checkpoint, or use model="embedded"',
        ) from error


def prepare(source: Path, directory: Path, progress: Progress | None = None) -> Path:
    """Quantise the checkpoint in `source` into `directory`, a part in memory at a time.

    The result is in optimum-quanto's own format: `QuantizedModelForCausalLM.from_pretrained` reads it too. It appears whole or not at
    all.

    Raises:
        ModelError: `source` holds no usable checkpoint.
    """
    checkpoint = Checkpoint(source)
    if checkpoint.quantized:
        raise ModelError(f"{source} is prepared already", hint="use it as it is")
    checkpoint.shape  # noqa: B018 - a checkpoint that can't be loaded is refused before the work
    unfinished = directory.parent / f".preparing-{directory.name}-{os.getpid()}"
    unfinished.mkdir(parents=True)
    try:
        _write(checkpoint, unfinished, progress)
        if directory.exists():
            shutil.rmtree(directory)
        os.replace(unfinished, directory)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return directory


def _write(checkpoint: Checkpoint, directory: Path, progress: Progress | None) -> None:
    places: dict[str, str] = {}
    quantized: list[str] = []
    shard: dict[str, Tensor] = {}

    def flush() -> None:
        if shard:
            name = f"model-{len(set(places.values())) + 1:05}.safetensors"
            save_file(shard, directory / name, metadata={"format": "pt"})
            places.update(dict.fromkeys(shard, name))
            shard.clear()

    for number, file in enumerate(checkpoint.files):
        for name, tensor in checkpoint.tensors(file):
            if checkpoint.is_linear(name):
                layer = name.removesuffix(".weight")
                quantized.append(layer)
                shard |= int8_tensors(layer, tensor)
            else:
                if (
                    tensor.nbytes > _SHARD_BYTES
                ):  # the embedding stays mapped for good: nothing else shall share its file
                    flush()
                shard[name] = tensor
            if sum(kept.nbytes for kept in shard.values()) > _SHARD_BYTES:
                flush()
        if progress:
            progress(number + 1, len(checkpoint.files))
    flush()
    index = {"metadata": {}, "weight_map": places}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    for file in checkpoint.directory.iterdir():
        if file.suffix in (".json", ".jinja", ".txt", ".md") and not file.name.endswith(".index.json"):
            shutil.copyfile(file, directory / file.name)
    # Written last: a directory that has it is complete.
    (directory / QMAP).write_text(json.dumps(qmap_of(quantized), indent=1), encoding="utf-8")
