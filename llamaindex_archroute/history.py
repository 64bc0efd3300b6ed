"""Where the turns before a query come from: a query bundle carries none."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Iterable

from llama_index.core.memory import BaseMemory

from archroute import Conversation, SettingError
from llamaindex_archroute.messages import Message, to_conversation, with_query

HistorySource = BaseMemory | Iterable[Message] | Callable[[], Iterable[Message] | Awaitable[Iterable[Message]]]
"""A memory, a list of messages that its owner appends to, or a function (async too) that returns the messages."""


def read_history(source: HistorySource | None, query: str) -> Conversation:
    """The conversation so far, ending in `query`.

    Raises:
        SettingError: The source is an async function.
        ConversationError: A message can't be read.
    """
    if isinstance(source, BaseMemory):
        return with_query(to_conversation(source.get(input=query)), query)
    messages = source() if callable(source) else source or ()
    if inspect.isawaitable(messages):
        if inspect.iscoroutine(messages):
            messages.close()
        raise SettingError("history is an async function", hint="query with `aquery`, or pass a plain function")
    return with_query(to_conversation(messages), query)


async def aread_history(source: HistorySource | None, query: str) -> Conversation:
    """`read_history` without blocking the event loop: a memory is asked by `aget`, a plain function runs in a thread."""
    if isinstance(source, BaseMemory):
        return with_query(to_conversation(await source.aget(input=query)), query)
    messages: Iterable[Message] | Awaitable[Iterable[Message]]
    if not callable(source):
        messages = source or ()
    elif inspect.iscoroutinefunction(source):
        messages = source()
    else:
        messages = await asyncio.to_thread(source)
    if inspect.isawaitable(messages):
        messages = await messages
    return with_query(to_conversation(messages), query)
