"""The embedded model as an engine."""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor

from archroute.conversation import Conversation
from archroute.engines.base import Engine, Scores
from archroute.engines.embedded.encoder import Encoder
from archroute.engines.embedded.text import Reader, batch
from archroute.errors import EngineError, ModelError
from archroute.policy import OTHER, Policy

_Item = TypeVar("_Item")
WEIGHTS = Path(__file__).parent / "weights"
_POLICIES = 4096  # vectors of policies that are kept, 1.5 KB each
_BATCH = 32  # texts that one pass reads


class EmbeddedEngine(Engine):
    """Compares the conversation with each policy in the vector space of a small int8 encoder.

    A policy is embedded once and remembered; a decision costs one pass over the conversation. English; see the model card beside the
    weights.

    Args:
        directory: Holds `model.safetensors`, `tokenizer.json` and `config.json`; None: the model of the package.

    Raises:
        ModelError: The directory does not hold them.
    """

    def __init__(self, directory: Path | None = None) -> None:
        directory = directory or WEIGHTS
        try:
            self.name = str(json.loads((directory / "config.json").read_text(encoding="utf-8"))["name"])
            self._encoder = Encoder(load_file(directory / "model.safetensors"))
            self._reader = Reader(Tokenizer.from_file(str(directory / "tokenizer.json")))
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            raise ModelError(
                f"{directory} holds no embedded model: {error}", hint="install the package again"
            ) from error
        self._vectors: OrderedDict[Policy, Tensor] = OrderedDict()
        self._lock = threading.Lock()

    @torch.inference_mode()
    def score(self, routes: Sequence[Policy], conversations: Sequence[Conversation]) -> list[Scores]:
        """See `Engine.score`.

        Raises:
            EngineError: The pass failed.
        """
        try:
            policies = self._policy_vectors(routes)
            texts = [self._reader.conversation(conversation) for conversation in conversations]
            vectors = torch.cat([self._encoder.embed(*batch(part)) for part in _parts(texts)])
            probabilities = self._encoder.logits(vectors, policies).double().softmax(dim=-1).tolist()
        except RuntimeError as error:
            raise EngineError(f"{self.name} failed on {len(conversations)} conversations: {error}") from error
        names = [*(route.name for route in routes), OTHER]
        return [
            Scores(dict(zip(names, row, strict=True)), 1.0, len(text.tokens), text.truncated)
            for row, text in zip(probabilities, texts, strict=True)
        ]

    def _policy_vectors(self, routes: Sequence[Policy]) -> Tensor:
        """Unit vectors of the policies, those not met before embedded now: [policies, hidden]."""
        with self._lock:
            found = {route: self._vectors[route] for route in routes if route in self._vectors}
        for part in _parts([route for route in routes if route not in found]):
            vectors = self._encoder.embed(*batch([self._reader.policy(policy) for policy in part]))
            found |= zip(part, vectors, strict=True)
        with self._lock:
            for route, vector in found.items():
                self._vectors[route] = vector
                self._vectors.move_to_end(route)
            while len(self._vectors) > _POLICIES:
                self._vectors.popitem(last=False)
        return torch.stack([found[route] for route in routes])


def _parts(items: Sequence[_Item]) -> list[Sequence[_Item]]:
    return [items[start : start + _BATCH] for start in range(0, len(items), _BATCH)]
