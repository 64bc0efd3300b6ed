"""The embedded model as an engine."""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from tokenizers import Tokenizer

from archroute.conversation import Conversation
from archroute.engines.base import Engine, Scores
from archroute.engines.embedded.comparison import Comparison, Embedding, Offer
from archroute.engines.embedded.encoder import Encoder
from archroute.engines.embedded.serving import served
from archroute.engines.embedded.spelling import Speller
from archroute.engines.embedded.text import Encoded, Reader
from archroute.engines.threads import undivided
from archroute.errors import EngineError, ModelError
from archroute.policy import OTHER, Policy

WEIGHTS = Path(__file__).parent / "weights"
_POLICIES = 2048  # policies that are kept, some 10 KB each
_OFFERS = 32  # sets of policies that are kept


class EmbeddedEngine(Engine):
    """Compares the conversation with each policy by the vectors that a small int8 encoder gives them.

    A policy is read once and remembered; a decision costs one pass over the conversation, on one core unless it is made in the main
    thread. English; see the model card beside the weights.

    Example:
        >>> from archroute import Conversation, Policy
        >>> engine = EmbeddedEngine()
        >>> policies = [Policy("recipes", "Cooking and baking"), Policy("trips", "Planning holidays and flights")]
        >>> (scores,) = engine.score(policies, [Conversation.from_text("how long do I bake a lasagne?")])
        >>> max(scores.probabilities, key=scores.probabilities.get)
        'recipes'

    Args:
        directory: Holds `model.safetensors`, `tokenizer.json`, `words.txt` and `config.json`; None: the model of the package.

    Raises:
        ModelError: The directory does not hold them.
    """

    def __init__(self, directory: Path | None = None) -> None:
        directory = directory or WEIGHTS
        try:
            self.name = str(json.loads((directory / "config.json").read_text(encoding="utf-8"))["name"])
            tensors = load_file(directory / "model.safetensors")
            self._encoder, self._comparison = Encoder(tensors, served), Comparison(tensors)
            speller = Speller((directory / "words.txt").read_text(encoding="utf-8").split())
            self._reader = Reader(Tokenizer.from_file(str(directory / "tokenizer.json")), speller)
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            raise ModelError(
                f"{directory} holds no embedded model: {error}", hint="install the package again"
            ) from error
        self._known: OrderedDict[Policy, Embedding] = OrderedDict()
        self._offers: OrderedDict[tuple[Policy, ...], Offer] = OrderedDict()
        self._lock = threading.Lock()

    def score(self, routes: Sequence[Policy], conversations: Sequence[Conversation]) -> list[Scores]:
        """See `Engine.score`.

        Raises:
            EngineError: The pass failed.
        """
        return self.score_each([(routes, conversation) for conversation in conversations])

    @torch.inference_mode()
    def score_each(self, asked: Sequence[tuple[Sequence[Policy], Conversation]]) -> list[Scores]:
        """See `Engine.score_each`; a conversation that is asked of several times is read once.

        Raises:
            As `score`.
        """
        try:
            different = dict.fromkeys(conversation for _, conversation in asked)
            texts = {conversation: self._reader.conversation(conversation) for conversation in different}
            with undivided():
                read = {conversation: self._embedding(text) for conversation, text in texts.items()}
                return [self._scores(routes, texts[conversation], read[conversation]) for routes, conversation in asked]
        except RuntimeError as error:
            raise EngineError(f"{self.name} failed on {len(asked)} conversations: {error}") from error

    def _scores(self, routes: Sequence[Policy], text: Encoded, read: Embedding) -> Scores:
        logits = self._comparison.logits(read, self._offer(tuple(routes)))
        names = [*(route.name for route in routes), OTHER]
        probabilities = dict(zip(names, logits.double().softmax(dim=-1).tolist(), strict=True))
        return Scores(probabilities, 1.0, len(text.tokens), text.truncated)

    def _embedding(self, text: Encoded) -> Embedding:
        (hidden,) = self._encoder.read([text])  # one by one, see `served`
        return self._comparison.embedding(hidden, text)

    def _offer(self, routes: tuple[Policy, ...]) -> Offer:
        """The policies side by side; those not met before are read now."""
        with self._lock:
            if routes in self._offers:
                self._offers.move_to_end(routes)
                return self._offers[routes]
            found = {route: self._known[route] for route in routes if route in self._known}
        found |= {route: self._embedding(self._reader.policy(route)) for route in routes if route not in found}
        offer = Offer.of([found[route] for route in routes])
        with self._lock:
            self._offers[routes] = offer
            for route, embedding in found.items():
                self._known[route] = embedding
                self._known.move_to_end(route)
            while len(self._known) > _POLICIES:
                self._known.popitem(last=False)
            while len(self._offers) > _OFFERS:
                self._offers.popitem(last=False)
        return offer
