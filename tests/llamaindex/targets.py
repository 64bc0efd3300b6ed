"""Targets that say who they are, in place of LLMs that cost money."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    CompletionResponse,
    LLMMetadata,
    MessageRole,
    ToolCallBlock,
)
from llama_index.core.llms.callbacks import llm_chat_callback
from llama_index.core.llms.llm import ToolSelection
from llama_index.core.llms.mock import MockFunctionCallingLLM
from pydantic import BaseModel

from archroute.dispatch import Route
from llamaindex_archroute import ArchRouterLLM
from tests.engines import KeywordEngine

SECRET = "sk-not-to-be-seen"
WORDS = {"tax": ["vat"], "travel": ["flight"]}


class Answer(BaseModel):
    """What is asked for in structured predictions."""

    by: str


class Target(MockFunctionCallingLLM):
    """Answers with its name; given tools, first calls each of them once a turn."""

    label: str
    api_key: str = SECRET
    context_window: int = 4000
    num_output: int = 256
    chat_model: bool = True

    def __init__(self, label: str, **fields: Any) -> None:
        super().__init__(label=label, response_generator=self._answer, **fields)
        self.response_generator = self._answer

    @property
    def metadata(self) -> LLMMetadata:
        return LLMMetadata(
            model_name=self.label,
            context_window=self.context_window,
            num_output=self.num_output,
            is_chat_model=self.chat_model,
            is_function_calling_model=True,
        )

    @llm_chat_callback()
    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        # The mock's own goes through `chat` and so sends each event twice.
        return ChatResponse(message=self._answer(messages, **kwargs))

    def _answer(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatMessage:
        last_user = max((n for n, message in enumerate(messages) if message.role == MessageRole.USER), default=0)
        done = any(message.role == MessageRole.TOOL for message in messages[last_user:])
        tools = kwargs.get("tools") or []
        if not tools or done:
            return ChatMessage(f"answer of {self.label}", role=MessageRole.ASSISTANT)
        calls = [
            ToolCallBlock(
                tool_call_id=f"{self.label}-{number}",
                tool_name=tool.metadata.name,
                tool_kwargs={"by": self.label} if "by" in tool.metadata.get_parameters_dict()["properties"] else {},
            )
            for number, tool in enumerate(tools)
        ]
        # Streamed structured output reads the calls from here, agents from the blocks.
        selections = [
            ToolSelection(tool_id=call.tool_call_id or "", tool_name=call.tool_name, tool_kwargs=dict(call.tool_kwargs))
            for call in calls
        ]
        return ChatMessage(role=MessageRole.ASSISTANT, blocks=calls, additional_kwargs={"tool_calls": selections})


class Faulty(Target):
    """Fails on every call, whichever method it comes by, until it is mended; or takes its time."""

    fails: bool = True
    delay: float = 0.0
    calls: int = 0

    def _answer(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatMessage:
        self._begin()
        return super()._answer(messages, **kwargs)

    def _begin(self) -> None:
        self.calls += 1
        time.sleep(self.delay)
        if self.fails:
            raise ConnectionError(f"{self.label} is down")

    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        delay, self.delay = self.delay, 0.0
        await asyncio.sleep(delay)
        return await super().achat(messages, **kwargs)

    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        self._begin()
        return super().complete(prompt, formatted, **kwargs)

    async def acomplete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        self._begin()
        return await super().acomplete(prompt, formatted, **kwargs)

    def stream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> Any:
        self._begin()
        return super().stream_complete(prompt, formatted, **kwargs)

    async def astream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> Any:
        self._begin()
        return await super().astream_complete(prompt, formatted, **kwargs)


def routed(**arguments: Any) -> ArchRouterLLM:
    """A router over two targets and a default, decided by key words."""
    routes = [
        Route("tax", "Tax law and returns", target=Target("tax-llm")),
        Route("travel", "Planning trips", target=Target("travel-llm")),
    ]
    return ArchRouterLLM(
        **{"routes": routes, "default": Target("default-llm"), "model": KeywordEngine(WORDS)} | arguments
    )
