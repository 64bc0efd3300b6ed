"""Calling the targets: their place in the trace, and the decision on the answer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeVar

from langchain_core.callbacks import AsyncCallbackManagerForChainRun, BaseCallbackManager, CallbackManagerForChainRun
from langchain_core.messages import BaseMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import ensure_config, patch_config, var_child_runnable_config

from archroute.decision import Decision
from archroute.dispatch import Turn
from langchain_archroute.hearing import watched

_Chunk = TypeVar("_Chunk")

METADATA_KEY = "archroute"
"""Where in an answer's `response_metadata` the decision stands, as `Decision.as_dict()`."""


def attempt_config(
    config: RunnableConfig,
    run_manager: CallbackManagerForChainRun | AsyncCallbackManagerForChainRun,
    turn: Turn[Any],
    target: str,
) -> RunnableConfig:
    """The config one target runs with: a child of the router's run, tagged and marked with the route."""
    decision = turn.decision
    child = patch_config(config, callbacks=watched(run_manager.get_child(f"route:{decision.route}"), turn))
    # Not by merge_configs, which takes in the context's callbacks too, and loses their order.
    child["metadata"] = {**(child.get("metadata") or {}), **_marks(decision, target)}
    return child


@contextmanager
def marked(decision: Decision, target: str | None = None, turn: Turn[Any] | None = None) -> Iterator[None]:
    """Marks the runs that start inside, without a config of their own, with the route, as `attempt_config` does."""
    config = ensure_config()
    config["metadata"] = {**(config.get("metadata") or {}), **_marks(decision, target)}
    config["tags"] = [*(config.get("tags") or []), f"route:{decision.route}"]
    callbacks = config.get("callbacks")
    if turn is not None and isinstance(callbacks, BaseCallbackManager):
        config["callbacks"] = watched(callbacks, turn)  # a copy already
    token = var_child_runnable_config.set(config)
    try:
        yield
    finally:
        var_child_runnable_config.reset(token)


def _marks(decision: Decision, target: str | None) -> dict[str, Any]:
    marks = {"archroute_route": decision.route, "archroute_reason": decision.reason}
    return marks if target is None else {**marks, "archroute_target": target}


def stamped(answer: Any, decision: Decision) -> Any:
    """`answer` with the decision in its `response_metadata`, if it is a message; others have no place for one.

    A copy, because the message at hand may already be with a callback.
    """
    if not isinstance(answer, BaseMessage):
        return answer
    metadata = {**answer.response_metadata, METADATA_KEY: decision.as_dict()}
    return answer.model_copy(update={"response_metadata": metadata})


@asynccontextmanager
async def ended(chunks: AsyncIterator[_Chunk]) -> AsyncIterator[AsyncIterator[_Chunk]]:
    """Ends `chunks` when the block is left, so that whoever leaves our stream ends the provider's at once, not at some later time."""
    try:
        yield chunks
    finally:
        close = getattr(chunks, "aclose", None)  # iterators that are no generators have none
        if close is not None:
            await close()


def joined(chunks: Iterator[Any]) -> Any:
    """The whole input from its chunks, which are added up, or else the last one stands for all."""
    whole: Any = None
    for number, chunk in enumerate(chunks):
        whole = _added(whole, chunk) if number else chunk
    return whole


async def ajoined(chunks: AsyncIterator[Any]) -> Any:
    """`joined` for asynchronous chunks."""
    return joined(iter([chunk async for chunk in chunks]))


def _added(whole: Any, chunk: Any) -> Any:
    try:
        return whole + chunk
    except TypeError:
        return chunk
