"""LangChain's third streaming protocol: a router's chunks as the typed stream that chat models return for `version="v3"`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

from langchain_core.language_models._compat_bridge import achunks_to_events, chunks_to_events
from langchain_core.language_models.chat_model_stream import AsyncChatModelStream, ChatModelStream
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.outputs import ChatGenerationChunk

from archroute.errors import SettingError
from langchain_archroute.serving import ended


def protocol_stream(chunks: Iterator[Any]) -> ChatModelStream:
    """A stream that takes its events from `chunks` as it is read; nothing runs before that."""
    stream = ChatModelStream()
    events = chunks_to_events(map(_generation, chunks))

    def pump() -> bool:
        try:
            stream.dispatch(next(events))
        except StopIteration:
            if not stream.done:
                stream.fail(_empty())
            return False
        except BaseException as error:
            stream.fail(error)
            return False
        return True

    stream.bind_pump(pump)
    return stream


async def aprotocol_stream(chunks: AsyncIterator[Any]) -> AsyncChatModelStream:
    """`protocol_stream` for asynchronous chunks, which are read in a task of their own once the stream is."""
    stream = AsyncChatModelStream()

    async def generations() -> AsyncIterator[ChatGenerationChunk]:
        async with ended(chunks):
            async for chunk in chunks:
                yield _generation(chunk)

    async def produce() -> None:
        try:
            async with ended(generations()) as read:
                async for event in achunks_to_events(read):
                    stream.dispatch(event)
            if not stream.done:
                stream.fail(_empty())
        except asyncio.CancelledError as error:
            stream.fail(error)
            raise
        except BaseException as error:
            stream.fail(error)

    async def start() -> None:
        if stream._producer_task is None:
            stream._producer_task = asyncio.create_task(produce())  # the stream's `aclose` ends it

    stream.set_start(start)
    return stream


def _generation(chunk: Any) -> ChatGenerationChunk:
    if isinstance(chunk, AIMessage) and not isinstance(chunk, AIMessageChunk):  # the target doesn't stream
        chunk = AIMessageChunk(**chunk.model_dump(exclude={"type"}), chunk_position="last")
    if not isinstance(chunk, AIMessageChunk):
        raise SettingError(
            f"a target streams {type(chunk).__name__}, no messages", hint='use version="v2", or chat models as targets'
        )
    return ChatGenerationChunk(message=chunk)


def _empty() -> ValueError:
    return ValueError("No generation chunks were returned")  # what a chat model says
