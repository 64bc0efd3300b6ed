"""Every method of an LLM that asks a model, called for the same thing: what VAT is."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from llama_index.core.base.llms.types import ChatMessage, MessageRole
from llama_index.core.llms.llm import LLM
from llama_index.core.prompts import PromptTemplate
from llama_index.core.tools import FunctionTool

from tests.llamaindex.targets import Answer

VAT = [ChatMessage("Be brief.", role=MessageRole.SYSTEM), ChatMessage("What is VAT?")]
TEMPLATE = PromptTemplate("Tell me of {topic}.")


def clock() -> str:
    """The time."""
    return "noon"


TOOLS = [FunctionTool.from_defaults(clock)]

METHODS: dict[str, Callable[[LLM], Any]] = {
    "chat": lambda llm: llm.chat(VAT),
    "achat": lambda llm: llm.achat(VAT),
    "stream_chat": lambda llm: llm.stream_chat(VAT),
    "astream_chat": lambda llm: llm.astream_chat(VAT),
    "complete": lambda llm: llm.complete("VAT"),
    "acomplete": lambda llm: llm.acomplete("VAT"),
    "stream_complete": lambda llm: llm.stream_complete("VAT"),
    "astream_complete": lambda llm: llm.astream_complete("VAT"),
    "predict": lambda llm: llm.predict(TEMPLATE, topic="VAT"),
    "apredict": lambda llm: llm.apredict(TEMPLATE, topic="VAT"),
    "stream": lambda llm: llm.stream(TEMPLATE, topic="VAT"),
    "astream": lambda llm: llm.astream(TEMPLATE, topic="VAT"),
    "chat_with_tools": lambda llm: llm.chat_with_tools(TOOLS, "VAT?"),  # type: ignore[attr-defined]
    "achat_with_tools": lambda llm: llm.achat_with_tools(TOOLS, "VAT?"),  # type: ignore[attr-defined]
    "stream_chat_with_tools": lambda llm: llm.stream_chat_with_tools(TOOLS, chat_history=VAT),  # type: ignore[attr-defined]
    "astream_chat_with_tools": lambda llm: llm.astream_chat_with_tools(TOOLS, chat_history=VAT),  # type: ignore[attr-defined]
    "predict_and_call": lambda llm: llm.predict_and_call(TOOLS, "VAT?"),
    "apredict_and_call": lambda llm: llm.apredict_and_call(TOOLS, ChatMessage("VAT?")),
    "structured_predict": lambda llm: llm.structured_predict(Answer, TEMPLATE, topic="VAT"),
    "astructured_predict": lambda llm: llm.astructured_predict(Answer, TEMPLATE, topic="VAT"),
    "stream_structured_predict": lambda llm: llm.stream_structured_predict(Answer, TEMPLATE, topic="VAT"),
    "astream_structured_predict": lambda llm: llm.astream_structured_predict(Answer, TEMPLATE, topic="VAT"),
}


async def last(result: Any) -> Any:
    """The result of any method: awaited, and the last item of a stream."""
    if inspect.isawaitable(result):
        result = await result
    if isinstance(result, AsyncIterator):
        return [item async for item in result][-1]
    return list(result)[-1] if isinstance(result, Iterator) else result
