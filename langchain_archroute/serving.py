"""Calling the chosen target: its place in the trace, and the decision on its answer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeVar

from langchain_core.callbacks import AsyncCallbackManagerForChainRun, CallbackManagerForChainRun
from langchain_core.messages import BaseMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import ensure_config, merge_configs, patch_config, var_child_runnable_config

from archroute.decision import Decision

_Chunk = TypeVar("_Chunk")

METADATA_KEY = "archroute"
"""Where in an answer's `response_metadata` the decision stands, as `Decision.as_dict()`."""


def target_config(
    config: RunnableConfig,
    run_manager: CallbackManagerForChainRun | AsyncCallbackManagerForChainRun,
    decision: Decision,
) -> RunnableConfig:
    """The config the target runs with: a child of the router's run, tagged and marked with the route."""
    child = patch_config(config, callbacks=run_manager.get_child(f"route:{decision.route}"))
    marks = {"archroute_route": decision.route, "archroute_reason": decision.reason}
    return merge_configs(child, {"metadata": marks})


def stamped(answer: Any, decision: Decision) -> Any:
    """`answer` with the decision in its `response_metadata`, if it is a message; others have no place for one.

    A copy, because the message at hand may already be with a callback.
    """
    if not isinstance(answer, BaseMessage):
        return answer
    metadata = {**answer.response_metadata, METADATA_KEY: decision.as_dict()}
    return answer.model_copy(update={"response_metadata": metadata})


def stamped_stream(chunks: Iterator[Any], decision: Decision) -> Iterator[Any]:
    """`chunks` with the decision on the first alone: strings that stand on several are joined when chunks are added up."""
    for number, chunk in enumerate(chunks):
        yield chunk if number else stamped(chunk, decision)


@asynccontextmanager
async def ended(chunks: AsyncIterator[_Chunk]) -> AsyncIterator[AsyncIterator[_Chunk]]:
    """Ends `chunks` when the block is left, so that whoever leaves our stream ends the provider's at once, not at some later time."""
    try:
        yield chunks
    finally:
        close = getattr(chunks, "aclose", None)  # iterators that are no generators have none
        if close is not None:
            await close()


async def astamped_stream(chunks: AsyncIterator[Any], decision: Decision) -> AsyncIterator[Any]:
    """`stamped_stream` for an asynchronous target."""
    first = True
    async with ended(chunks):
        async for chunk in chunks:
            yield stamped(chunk, decision) if first else chunk
            first = False


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


@contextmanager
def marked(decision: Mapping[str, Any] | None) -> Iterator[None]:
    """Marks the runs that start inside, without a config of their own, with the route, as `target_config` does."""
    if not decision:
        yield
        return
    marks = {"archroute_route": decision["route"], "archroute_reason": decision["reason"]}
    marked = RunnableConfig(metadata=marks, tags=[f"route:{decision['route']}"])
    token = var_child_runnable_config.set(merge_configs(ensure_config(), marked))
    try:
        yield
    finally:
        var_child_runnable_config.reset(token)
