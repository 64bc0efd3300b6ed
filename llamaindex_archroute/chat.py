"""Chat and completion: each call goes to the target's own method."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    ChatResponseAsyncGen,
    ChatResponseGen,
    CompletionResponse,
    CompletionResponseAsyncGen,
    CompletionResponseGen,
)

from llamaindex_archroute.reading import Call
from llamaindex_archroute.routing import PINNED, RoutingLLM
from llamaindex_archroute.serving import aanswer, answer, astream, stream


class ChatMethods(RoutingLLM):
    """The eight methods of every LLM. Their events are the targets': a callback here would double them."""

    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """The target's answer; the decision is in its `additional_kwargs["archroute"]`."""
        messages = list(messages)  # a shadow may still read them when the caller has changed its own
        return answer(
            self._begin(Call(lambda: messages), kwargs.pop(PINNED, None)), lambda llm: llm.chat(messages, **kwargs)
        )

    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """`chat`, asynchronous."""
        messages = list(messages)
        return await aanswer(
            await self._abegin(Call(lambda: messages), kwargs.pop(PINNED, None)),
            lambda llm: llm.achat(messages, **kwargs),
        )

    def stream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseGen:
        """`chat`, streamed; every chunk has the decision."""
        messages = list(messages)
        return stream(
            self._begin(Call(lambda: messages), kwargs.pop(PINNED, None)),
            lambda llm: llm.stream_chat(messages, **kwargs),
        )

    async def astream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseAsyncGen:
        """`stream_chat`, asynchronous."""
        messages = list(messages)
        return await astream(
            await self._abegin(Call(lambda: messages), kwargs.pop(PINNED, None)),
            lambda llm: llm.astream_chat(messages, **kwargs),
        )

    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """The target's completion; the prompt is read as one user message."""
        return answer(self._begin(_prompt(prompt)), lambda llm: llm.complete(prompt, formatted=formatted, **kwargs))

    async def acomplete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """`complete`, asynchronous."""
        return await aanswer(
            await self._abegin(_prompt(prompt)), lambda llm: llm.acomplete(prompt, formatted=formatted, **kwargs)
        )

    def stream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponseGen:
        """`complete`, streamed."""
        return stream(
            self._begin(_prompt(prompt)), lambda llm: llm.stream_complete(prompt, formatted=formatted, **kwargs)
        )

    async def astream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponseAsyncGen:
        """`stream_complete`, asynchronous."""
        return await astream(
            await self._abegin(_prompt(prompt)),
            lambda llm: llm.astream_complete(prompt, formatted=formatted, **kwargs),
        )


def _prompt(prompt: str) -> Call:
    return Call(lambda: [ChatMessage(prompt)])
