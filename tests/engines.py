"""Engines whose decisions a test knows beforehand."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence

from archroute.conversation import Conversation
from archroute.engines.base import Engine, Scores
from archroute.errors import EngineError
from archroute.policy import OTHER, Policy


class KeywordEngine(Engine):
    """Scores a policy by the words listed for it: the newest user turn that has any of them decides.

    Example:
        >>> engine = KeywordEngine({"tax": ["vat", "income"]})
        >>> scores = engine.score([Policy("tax", "Tax law")], [Conversation.from_text("What is VAT?")])
        >>> max(scores[0].probabilities, key=scores[0].probabilities.get)
        'tax'

    Args:
        words: Policy name → words, in lower case, that speak for it.

    Attributes:
        calls: Of every call of `score`, the policies' names and the conversations, in order.
        threads: The threads that called, in order.
    """

    name = "keywords"

    def __init__(self, words: Mapping[str, Sequence[str]]) -> None:
        self.words = words
        self.calls: list[tuple[tuple[str, ...], tuple[Conversation, ...]]] = []
        self.threads: list[int] = []

    def score(self, routes: Sequence[Policy], conversations: Sequence[Conversation]) -> list[Scores]:
        """See `Engine.score`."""
        self.calls.append((tuple(route.name for route in routes), tuple(conversations)))
        self.threads.append(threading.get_ident())
        return [self._score(routes, conversation) for conversation in conversations]

    def _score(self, routes: Sequence[Policy], conversation: Conversation) -> Scores:
        hits = {OTHER: 1}
        for turn in reversed(conversation.turns):
            text = turn.content.lower()
            found = {route.name: sum(text.count(word) for word in self.words.get(route.name, ())) for route in routes}
            if turn.role == "user" and any(found.values()):
                hits = found
                break
        names = [*(route.name for route in routes), OTHER]
        rest = 0.1 / len(names)
        total = sum(hits.values())
        probabilities = {name: rest + 0.9 * hits.get(name, 0) / total for name in names}
        return Scores(probabilities, 1.0, sum(len(turn.content.split()) for turn in conversation.turns), False)


class FailingEngine(Engine):
    """Fails on every decision.

    Attributes:
        calls: How often it was asked.
    """

    name = "failing"

    def __init__(self) -> None:
        self.calls = 0

    def score(self, routes: Sequence[Policy], conversations: Sequence[Conversation]) -> list[Scores]:
        """See `Engine.score`.

        Raises:
            EngineError: Always.
        """
        self.calls += 1
        raise EngineError("the engine is out of order", hint="repair it")
