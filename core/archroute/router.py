"""The router: from a conversation to a decision."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from archroute.batcher import Batching, MicroBatcher
from archroute.conversation import Conversation, History, check_history
from archroute.decision import Decision
from archroute.engines.base import CacheStats, Engine, Scores
from archroute.errors import SettingError
from archroute.models import load_engine
from archroute.policy import OTHER, Domain, Policy, PolicySet
from archroute.rules import choose

logger = logging.getLogger("archroute")

OnError = Literal["default", "raise"]
"""What a failure while routing does: end in the default, with a decision that says why, or be raised."""

ConversationLike = Conversation | str | Iterable[Mapping[str, Any]]
"""A conversation, the text of one user message, or `{role, content}` messages."""


class Router:
    """Decides which policy a conversation's latest turn belongs to.

    Example:
        >>> from archroute import Policy, Router
        >>> router = Router([Policy("tax", "Tax law and returns"), Policy("travel", "Planning trips")], model="embedded")
        >>> router.route("Which flights go to Lisbon on Friday?").route
        'travel'

    Args:
        policies: A `PolicySet`, or policies and domains.
        model: `"embedded"`, a model hub id, a local directory, or an engine. None: the Arch-Router that `archroute pull` prepared
            on this machine, else the embedded model.
        min_confidence: A policy is chosen only from this probability on, from 0 to 1; below, the route is its domain, if the domain
            as a whole is that probable, or `other`.
        min_margin: A policy is chosen only if its probability is so far ahead of the next, from 0 to 1; see `archroute.rules`.
        history: How much of the conversation is read: `"all"`, `"last_user"`, or the last n user turns.
        on_error: `"raise"`, or `"default"`: a failure gives a decision for `other` whose reason is `error`.
        batching: How concurrent async decisions are joined.

    Raises:
        PolicyError: The policies are not valid.
        SettingError: Another argument is not valid.
        ModelError: The model can't be loaded.
    """

    def __init__(
        self,
        policies: PolicySet | Iterable[Policy | Domain],
        *,
        model: str | Path | Engine | None = None,
        min_confidence: float = 0.0,
        min_margin: float = 0.0,
        history: History = "all",
        on_error: OnError = "raise",
        batching: Batching | None = None,
    ) -> None:
        for name, value in (("min_confidence", min_confidence), ("min_margin", min_margin)):
            if not 0 <= value <= 1:
                raise SettingError(f"{name}={value}", hint="give a probability from 0 to 1")
        if on_error not in get_args(OnError):
            raise SettingError(f"on_error={on_error!r}", hint='use "default" or "raise"')
        self.policies = PolicySet.of(policies)
        self.history = check_history(history)
        self.min_confidence = min_confidence
        self.min_margin = min_margin
        self.on_error = on_error
        self.engine = load_engine(model)
        self._batcher = MicroBatcher(self.engine, batching or Batching())

    @property
    def cache_stats(self) -> CacheStats | None:
        """What the engine's cache of prompts has done, for all routers that share it; None for an engine without one."""
        return self.engine.cache_stats

    def route(self, conversation: ConversationLike) -> Decision:
        """Decide on one conversation.

        Raises:
            ConversationError: It has no user turn, or can't be read.
            EngineError: The model failed. (Neither with `on_error="default"`.)
        """
        return self.route_many([conversation])[0]

    def route_many(self, conversations: Sequence[ConversationLike]) -> list[Decision]:
        """Decide on several conversations in one packed call; decisions in their order.

        Raises:
            As `route`; with `on_error="default"` a conversation that can't be read fails alone.
        """
        start = time.perf_counter()
        readable: dict[int, Conversation] = {}
        outcomes: dict[int, Scores | Exception] = {}
        for number, source in enumerate(conversations):
            try:
                readable[number] = Conversation.of(source).window(self.history)
            except Exception as error:
                if self.on_error == "raise":
                    raise
                outcomes[number] = self._told(error)
        if readable:
            outcomes |= zip(readable, self._scores(list(readable.values())), strict=True)
        elapsed = (time.perf_counter() - start) * 1000
        return [self._decision(outcomes[number], elapsed) for number in range(len(outcomes))]

    async def aroute(self, conversation: ConversationLike) -> Decision:
        """`route`, without blocking the event loop; concurrent calls are joined into one call of the engine.

        Raises:
            As `route`, and OverloadedError: More decisions wait than `batching` allows.
        """
        start = time.perf_counter()
        outcome: Scores | Exception
        try:
            readable = Conversation.of(conversation).window(self.history)
            outcome = await asyncio.wrap_future(self._batcher.submit(self.policies.routes, readable))
        except Exception as error:
            if self.on_error == "raise":
                raise
            outcome = self._told(error)
        return self._decision(outcome, (time.perf_counter() - start) * 1000)

    async def aroute_many(self, conversations: Sequence[ConversationLike]) -> list[Decision]:
        """`route_many`, without blocking the event loop."""
        return await asyncio.to_thread(self.route_many, conversations)

    def _scores(self, conversations: list[Conversation]) -> Sequence[Scores | Exception]:
        try:
            return self.engine.score(self.policies.routes, conversations)
        except Exception as error:
            if self.on_error == "raise":
                raise
            return [self._told(error)] * len(conversations)

    def _told(self, error: Exception) -> Exception:
        logger.warning("routing failed, the turn goes to the default: %s", error, exc_info=error)
        return error

    def _decision(self, outcome: Scores | Exception, latency_ms: float) -> Decision:
        if isinstance(outcome, Exception):
            return self.failed(outcome, latency_ms)
        ranked = sorted(outcome.probabilities.values(), reverse=True)
        route, reason = choose(
            outcome.probabilities, self.policies, min_confidence=self.min_confidence, min_margin=self.min_margin
        )
        return Decision(
            route=route,
            policy=None if route == OTHER else self.policies[route],
            probabilities=outcome.probabilities,
            confidence=ranked[0],
            margin=ranked[0] - ranked[1],
            coverage=outcome.coverage,
            reason=reason,
            model=self.engine.name,
            latency_ms=latency_ms,
            prompt_tokens=outcome.prompt_tokens,
            truncated=outcome.truncated,
        )

    def failed(self, error: Exception, latency_ms: float = 0.0) -> Decision:
        """The decision for a turn whose routing failed with `error`."""
        return Decision(
            route=OTHER,
            policy=None,
            probabilities={},
            confidence=0.0,
            margin=0.0,
            coverage=0.0,
            reason="error",
            model=self.engine.name,
            latency_ms=latency_ms,
            prompt_tokens=0,
            truncated=False,
            error=f"{type(error).__name__}: {error}",
        )
