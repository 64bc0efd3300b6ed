"""The turns before the query: from a list, a memory or a function, and never twice."""

from __future__ import annotations

import threading

import pytest
from llama_index.core.base.llms.types import ChatMessage, ImageBlock, MessageRole, TextBlock
from llama_index.core.memory import ChatMemoryBuffer, Memory
from llama_index.core.tools.types import ToolMetadata

from archroute.conversation import Turn
from llamaindex_archroute import ArchRouterSelector
from llamaindex_archroute.history import HistorySource
from llamaindex_archroute.messages import to_conversation
from tests.engines import KeywordEngine

TOOLS = [ToolMetadata("Tax law", name="tax"), ToolMetadata("Planning trips", name="travel")]
EARLIER = [
    ChatMessage("Which flight?", role=MessageRole.USER),
    ChatMessage("TP 572.", role=MessageRole.ASSISTANT),
]
ASKED = (Turn("user", "Which flight?"), Turn("assistant", "TP 572."), Turn("user", "And back?"))


def read_by_engine(history: HistorySource | None, window: str | int = "all", query: str = "And back?") -> object:
    engine = KeywordEngine({})
    ArchRouterSelector(model=engine, history=history, window=window, on_error="raise").select(TOOLS, query)  # type: ignore[arg-type]
    return engine.calls[0][1][0].turns


async def aread_by_engine(history: HistorySource) -> object:
    engine = KeywordEngine({})
    await ArchRouterSelector(model=engine, history=history, on_error="raise").aselect(TOOLS, "And back?")
    return engine.calls[0][1][0].turns


def memory() -> ChatMemoryBuffer:
    return ChatMemoryBuffer.from_defaults(chat_history=list(EARLIER))


async def test_from_a_list() -> None:
    assert read_by_engine(EARLIER) == ASKED
    assert await aread_by_engine(EARLIER) == ASKED


async def test_from_a_memory() -> None:
    assert read_by_engine(memory()) == ASKED
    assert await aread_by_engine(memory()) == ASKED


async def test_from_a_memory_that_is_async_inside() -> None:
    kept = Memory.from_defaults(session_id="one", chat_history=list(EARLIER))
    assert await aread_by_engine(kept) == ASKED
    assert kept.sql_store._async_engine
    await kept.sql_store._async_engine.dispose()


async def test_from_a_function() -> None:
    assert read_by_engine(lambda: EARLIER) == ASKED
    assert await aread_by_engine(lambda: EARLIER) == ASKED


async def test_a_plain_function_does_not_run_in_the_event_loops_thread() -> None:
    threads: list[int] = []
    await aread_by_engine(lambda: threads.append(threading.get_ident()) or EARLIER)  # type: ignore[func-returns-value]
    assert threads != [threading.get_ident()]


async def test_from_an_async_function() -> None:
    async def history() -> list[ChatMessage]:
        return EARLIER

    assert await aread_by_engine(history) == ASKED
    assert await aread_by_engine(lambda: history()) == ASKED


def test_an_async_function_needs_the_async_form() -> None:
    async def history() -> list[ChatMessage]:
        return EARLIER

    with pytest.raises(Exception, match="async function"):
        read_by_engine(history)


def test_a_query_that_is_stored_already_is_read_once() -> None:
    assert read_by_engine([*EARLIER, ChatMessage("And back?")]) == ASKED


def test_the_window_says_how_much_is_read() -> None:
    assert read_by_engine(EARLIER, window="last_user") == ASKED[-1:]
    assert read_by_engine(EARLIER, window=1) == ASKED[-1:]


def test_no_history_is_the_query_alone() -> None:
    assert read_by_engine(None) == ASKED[-1:]


def test_an_earlier_turn_decides_where_the_query_alone_says_nothing() -> None:
    selector = ArchRouterSelector(model=KeywordEngine({"travel": ["flight"]}), history=EARLIER)
    assert selector.select(TOOLS, "And back?").ind == 1


async def test_a_history_that_fails_leaves_the_turn_to_the_default() -> None:
    def broken() -> list[ChatMessage]:
        raise ConnectionError("the store is down")

    selector = ArchRouterSelector(1, model=KeywordEngine({"tax": ["vat"]}), history=broken)
    for result in (selector.select(TOOLS, "vat"), await selector.aselect(TOOLS, "vat")):
        assert result.ind == 1
        assert "the store is down" in result.reason


def test_roles_and_blocks_that_say_nothing_of_the_request_are_dropped() -> None:
    messages = [
        ChatMessage("Be brief.", role=MessageRole.SYSTEM),
        ChatMessage(role=MessageRole.USER, blocks=[TextBlock(text="Brighten"), ImageBlock(image=b"GIF89a")]),
        ChatMessage("42", role=MessageRole.TOOL),
        ChatMessage(role=MessageRole.ASSISTANT, blocks=[]),
        ChatMessage("Done.", role=MessageRole.MODEL),
    ]
    assert to_conversation(messages).turns == (Turn("user", "Brighten"), Turn("assistant", "Done."))
