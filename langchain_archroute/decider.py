"""The decision as a Runnable: the one place where all routers of this package read their input and decide."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from operator import attrgetter
from pathlib import Path
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForChainRun, CallbackManagerForChainRun
from langchain_core.runnables import Runnable, RunnableConfig, RunnableLambda, ensure_config

from archroute.conversation import Conversation, History
from archroute.decision import Decision
from archroute.engines.base import Engine
from archroute.errors import SettingError
from archroute.policy import PolicySet
from archroute.router import OnError, Router
from langchain_archroute.batching import Outcome, PackedBatches
from langchain_archroute.reading import Extract, Reading, read

logger = logging.getLogger("archroute")

EVENT = "archroute.decision"
"""The custom event that every decision sends to the callbacks; its data is `Decision.as_dict()`."""


class RoutedDecision(Decision):
    """A decision that is found where its route's name is looked up, as LangGraph does in the map of a conditional edge.

    Example:
        >>> from archroute import Policy, Router
        >>> router = Router([Policy("tax", "Tax law and returns"), Policy("travel", "Planning trips")], model="embedded")
        >>> {"tax": 1, "travel": 2}[Decider(router).invoke("Which flights go to Lisbon on Friday?")]
        2
    """

    def __eq__(self, other: object) -> bool:
        return self.route == other if isinstance(other, str) else super().__eq__(other)

    def __hash__(self) -> int:
        return hash(self.route)


class Decider(PackedBatches[RoutedDecision]):
    """Takes what a router takes and answers with the decision alone; its run in the trace is named `ArchRouter.decide`.

    In LangGraph it leads an edge: `graph.add_conditional_edges(START, decider, {"tax": "tax_node", "other": "general_node"})`.

    Example:
        >>> from archroute import Policy, Router
        >>> router = Router([Policy("tax", "Tax law and returns"), Policy("travel", "Planning trips")], model="embedded")
        >>> Decider(router).invoke("Which flights go to Lisbon on Friday?").route
        'travel'

    Args:
        router: Decides, with `on_error="raise"`: failures are handled here, each input's by itself.
        on_error: `"default"`: a failure gives a decision for `other` whose reason is `error`; `"raise"`.
        extract: Where in the input the conversation is; see `langchain_archroute.reading.read`.
    """

    name = "ArchRouter.decide"

    def __init__(self, router: Router, *, on_error: OnError = "default", extract: Extract | None = None) -> None:
        if on_error not in ("default", "raise"):
            raise SettingError(f"on_error={on_error!r}", hint='use "default" or "raise"')
        self._router = router
        self.on_error = on_error
        self.extract = extract

    @classmethod
    def of(
        cls,
        policies: PolicySet,
        *,
        model: str | Path | Engine | None = None,
        history: History = "all",
        min_confidence: float = 0.0,
        min_margin: float = 0.0,
        on_error: OnError = "default",
        extract: Extract | None = None,
    ) -> Decider:
        """A decider from the arguments that all routers of this package share; see `Router`."""
        router = Router(
            policies,
            model=model,
            history=history,
            min_confidence=min_confidence,
            min_margin=min_margin,
            on_error="raise",
        )
        return cls(router, on_error=on_error, extract=extract)

    @property
    def router(self) -> Router:
        """What decides."""
        return self._router

    @property
    def route_name(self) -> Runnable[Any, str]:
        """The name of the route alone: for conditional edges without a map, whose nodes are named as the routes are."""
        return (self | RunnableLambda(attrgetter("route"), name="route")).with_config(run_name="ArchRouter.route_name")

    def run(
        self,
        input: Any,
        config: RunnableConfig | None = None,
        outcome: Outcome | None = None,
        reading: Reading | Exception | None = None,
        **kwargs: Any,
    ) -> RoutedDecision:
        """Decide on one input, or trace what has been decided; the input may have been read already.

        Raises:
            ArchRouteError: Routing failed, and `on_error` is `"raise"`.
        """
        return self._call_with_config(
            self._decide, input, self._traced(config), run_type="llm", outcome=outcome, reading=reading
        )

    async def arun(
        self,
        input: Any,
        config: RunnableConfig | None = None,
        outcome: Outcome | None = None,
        reading: Reading | Exception | None = None,
        **kwargs: Any,
    ) -> RoutedDecision:
        """`run`, without blocking the event loop."""
        return await self._acall_with_config(
            self._adecide, input, self._traced(config), run_type="llm", outcome=outcome, reading=reading
        )

    def outcomes(self, inputs: Sequence[Any]) -> list[Outcome]:
        """Decide on several inputs in one packed call, without a trace; an input that fails fails alone."""
        return self._outcomes([self.read(source) for source in inputs])

    async def aoutcomes(self, inputs: Sequence[Any]) -> list[Outcome]:
        """`outcomes`, without blocking the event loop."""
        return await self._aoutcomes([self.read(source) for source in inputs])

    def read(self, source: Any) -> Reading | Exception:
        """What is in an input, or why it can't be decided on."""
        try:
            reading = read(source, self.extract)
            reading.conversation.window(self.router.history)  # here, so that one without a user turn fails alone
        except Exception as error:  # a user's extract may raise anything
            return error
        return reading

    def _outcomes(self, read: Sequence[Reading | Exception]) -> list[Outcome]:
        return self._merged(read, self._route([item.conversation for item in read if isinstance(item, Reading)]))

    async def _aoutcomes(self, read: Sequence[Reading | Exception]) -> list[Outcome]:
        readable = [item.conversation for item in read if isinstance(item, Reading)]
        if len(readable) != 1:
            return self._merged(read, await asyncio.to_thread(self._route, readable))
        try:  # one alone is joined by the router with those of other calls
            return self._merged(read, [await self.router.aroute(readable[0])])
        except Exception as error:
            return self._merged(read, [error])

    def _route(self, conversations: Sequence[Conversation]) -> list[Outcome]:
        try:
            return list(self.router.route_many(conversations)) if conversations else []
        except Exception as error:
            if len(conversations) == 1:
                return [error]
            # One of them may be at fault: the others shall not pay for it.
            return [outcome for conversation in conversations for outcome in self._route([conversation])]

    def _decide(
        self,
        input: Any,
        run_manager: CallbackManagerForChainRun,
        *,
        outcome: Outcome | None = None,
        reading: Reading | Exception | None = None,
    ) -> RoutedDecision:
        if outcome is None:
            outcome = self._outcomes([self.read(input) if reading is None else reading])[0]
        if isinstance(outcome, Exception):
            raise outcome
        run_manager.get_child().on_custom_event(EVENT, outcome.as_dict(), run_id=run_manager.run_id)
        return RoutedDecision.model_construct(**dict(outcome))

    async def _adecide(
        self,
        input: Any,
        run_manager: AsyncCallbackManagerForChainRun,
        *,
        outcome: Outcome | None = None,
        reading: Reading | Exception | None = None,
    ) -> RoutedDecision:
        if outcome is None:
            outcome = (await self._aoutcomes([self.read(input) if reading is None else reading]))[0]
        if isinstance(outcome, Exception):
            raise outcome
        await run_manager.get_child().on_custom_event(EVENT, outcome.as_dict(), run_id=run_manager.run_id)
        return RoutedDecision.model_construct(**dict(outcome))

    def _traced(self, config: RunnableConfig | None) -> RunnableConfig:
        config = ensure_config(config)
        seen = {"ls_provider": "archroute", "ls_model_name": self.router.engine.name, "ls_model_type": "chat"}
        config["metadata"] = {**(config.get("metadata") or {}), **seen}
        return config

    def _merged(self, read: Sequence[Reading | Exception], decided: Sequence[Outcome]) -> list[Outcome]:
        """One outcome an input, failures turned into decisions if that is what `on_error` wants."""
        left = iter(decided)
        merged: list[Outcome] = [item if isinstance(item, Exception) else next(left) for item in read]
        if self.on_error == "raise":
            return merged
        return [self._failed(item) if isinstance(item, Exception) else item for item in merged]

    def _failed(self, error: Exception) -> Decision:
        logger.warning("routing failed, the turn goes to the default: %s", error, exc_info=error)
        return self.router.failed(error)
