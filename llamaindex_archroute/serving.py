"""Serving a turn: its target is asked, its shadows beside it, and the decision is noted on the answer.

A stream is opened at once and not when it is first read: up to its first piece another target may take over, and what the targets
tell the instrumentation stands in the span of the call.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterator
from contextlib import aclosing, closing, contextmanager
from typing import Any, TypeVar

from llama_index.core.llms.llm import LLM
from llama_index_instrumentation.dispatcher import active_instrument_tags, instrument_tags
from llama_index_instrumentation.span import active_span_id

from archroute.dispatch import Turn
from llamaindex_archroute.notes import noted

SHADOW = "archroute_shadow"
"""The instrumentation's tag of all that a shadow tells; it holds the name of its route."""

_Answer = TypeVar("_Answer")
_END: Any = object()  # in place of a first piece, where a stream has none
_OPENED: Any = object()  # comes before it


def answer(turn: Turn[LLM], ask: Callable[[LLM], _Answer]) -> _Answer:
    """What the turn's target answers."""
    tag = turn.decision.route

    def shadow(llm: LLM) -> _Answer:
        with _apart(tag):
            return ask(llm)

    answered = turn.run(ask, shadow)
    return noted(answered, turn.decision.as_dict())


async def aanswer(turn: Turn[LLM], ask: Callable[[LLM], Awaitable[_Answer]]) -> _Answer:
    """`answer`, asynchronous."""
    tag = turn.decision.route

    async def shadow(llm: LLM) -> _Answer:
        with _apart(tag):
            return await ask(llm)

    answered = await turn.arun(ask, shadow)
    return noted(answered, turn.decision.as_dict())


def stream(turn: Turn[LLM], ask: Callable[[LLM], Generator[_Answer]]) -> Generator[_Answer]:
    """What the turn's target streams, the decision noted on every piece: agents read tool calls from each.

    Closing it closes the target's stream.
    """
    tag = turn.decision.route

    def shadow(llm: LLM) -> Any:
        last = None
        with _apart(tag):
            for last in ask(llm):  # noqa: B007 - to its end, where the tokens stand
                pass
        return last

    pieces = _pieces(turn, turn.stream(ask, shadow))
    next(pieces)
    return pieces


async def astream(turn: Turn[LLM], ask: Callable[[LLM], Awaitable[AsyncGenerator[_Answer]]]) -> AsyncGenerator[_Answer]:
    """`stream`, asynchronous."""
    tag = turn.decision.route

    async def shadow(llm: LLM) -> Any:
        last = None
        with _apart(tag):
            async for last in await ask(llm):  # noqa: B007
                pass
        return last

    pieces = _apieces(turn, turn.astream(ask, shadow))
    await anext(pieces)
    return pieces


def _pieces(turn: Turn[LLM], given: Generator[_Answer]) -> Generator[_Answer]:
    with closing(given):
        first = next(given, _END)
        yield _OPENED
        note = turn.decision.as_dict()
        if first is not _END:
            yield noted(first, note)
        for piece in given:
            yield noted(piece, note)


async def _apieces(turn: Turn[LLM], given: AsyncGenerator[_Answer]) -> AsyncGenerator[_Answer]:
    async with aclosing(given):
        first = await anext(given, _END)
        yield _OPENED
        note = turn.decision.as_dict()
        if first is not _END:
            yield noted(first, note)
        async for piece in given:
            yield noted(piece, note)


@contextmanager
def _apart(route: str) -> Iterator[None]:
    """What is told inside belongs to no span of the caller's, and is tagged: there is no way to tell the dispatcher nothing."""
    span = active_span_id.set(None)
    try:
        with instrument_tags({**active_instrument_tags.get(), SHADOW: route}):
            yield
    finally:
        active_span_id.reset(span)
