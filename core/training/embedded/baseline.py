"""The model the training starts from, as it comes: cosine of mean-pooled vectors, `other` below a threshold."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from tokenizers import Tokenizer

from archroute.conversation import Conversation
from archroute.engines.base import Engine, Scores
from archroute.engines.embedded.comparison import Comparison
from archroute.engines.embedded.encoder import Encoder
from archroute.engines.embedded.text import Encoded, Reader
from archroute.policy import OTHER, Policy
from training.embedded.tensors import base_directory, initial

_SHARPNESS = 20.0  # changes no decision


class ZeroShot(Engine):
    """all-MiniLM-L6-v2 without training, given the last user turn.

    Args:
        threshold: The cosine below which the answer is `other`.
    """

    def __init__(self, threshold: float = -1.0) -> None:
        self.name = "all-MiniLM-L6-v2, zero-shot"
        self.threshold = threshold
        tensors = {name: tensor.detach() for name, tensor in initial(0).items()}
        self._encoder, self._comparison = Encoder(tensors), Comparison(tensors)
        self._known: dict[Policy, torch.Tensor] = {}
        self._reader = Reader(Tokenizer.from_file(str(base_directory() / "tokenizer.json")))

    @torch.inference_mode()
    def cosines(self, routes: Sequence[Policy], conversations: Sequence[Conversation]) -> torch.Tensor:
        """Of each conversation's last turn and each policy: [conversations, policies]."""
        asked = [self._reader.conversation(Conversation(conversation.turns[-1:])) for conversation in conversations]
        offered = torch.stack([self._policy(route) for route in routes])
        return torch.stack([self._vector(text) for text in asked]) @ offered.T

    def _policy(self, policy: Policy) -> torch.Tensor:
        if policy not in self._known:
            self._known[policy] = self._vector(self._reader.policy(policy))
        return self._known[policy]

    def _vector(self, text: Encoded) -> torch.Tensor:
        (hidden,) = self._encoder.read([text])
        return self._comparison.embedding(hidden, text).vector

    def score(self, routes: Sequence[Policy], conversations: Sequence[Conversation]) -> list[Scores]:
        """See `Engine.score`."""
        names = [*(route.name for route in routes), OTHER]
        rows = torch.nn.functional.pad(self.cosines(routes, conversations), (0, 1), value=self.threshold)
        return [
            Scores(dict(zip(names, row, strict=True)), 1.0, 0, truncated=False)
            for row in (rows * _SHARPNESS).softmax(dim=-1).tolist()
        ]
