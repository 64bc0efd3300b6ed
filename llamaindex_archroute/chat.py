"""Chat and completion: each call goes to the chosen target's own method."""

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

from llamaindex_archroute.routing import RoutingLLM
from llamaindex_archroute.served import Served

PINNED = "archroute_served"
"""Keyword of a chat call that was routed while its tools were prepared: they are in the form of that target's provider."""


class ChatMethods(RoutingLLM):
    """The eight methods of every LLM. Their events are the targets': a callback here would double them."""

    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """The chosen target's answer; the decision is in its `additional_kwargs["archroute"]`."""
        served = _pinned(kwargs) or self._serve(lambda: messages)
        return served.noted(served.target.chat(messages, **kwargs))

    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """`chat`, asynchronous."""
        served = _pinned(kwargs) or await self._aserve(lambda: messages)
        return served.noted(await served.target.achat(messages, **kwargs))

    def stream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseGen:
        """`chat`, streamed; every chunk has the decision."""
        served = _pinned(kwargs) or self._serve(lambda: messages)
        return served.stream(served.target.stream_chat(messages, **kwargs))

    async def astream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseAsyncGen:
        """`stream_chat`, asynchronous."""
        served = _pinned(kwargs) or await self._aserve(lambda: messages)
        return served.astream(await served.target.astream_chat(messages, **kwargs))

    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """The chosen target's completion; the prompt is read as one user message."""
        served = self._serve(lambda: [ChatMessage(prompt)])
        return served.noted(served.target.complete(prompt, formatted=formatted, **kwargs))

    async def acomplete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """`complete`, asynchronous."""
        served = await self._aserve(lambda: [ChatMessage(prompt)])
        return served.noted(await served.target.acomplete(prompt, formatted=formatted, **kwargs))

    def stream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponseGen:
        """`complete`, streamed."""
        served = self._serve(lambda: [ChatMessage(prompt)])
        return served.stream(served.target.stream_complete(prompt, formatted=formatted, **kwargs))

    async def astream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponseAsyncGen:
        """`stream_complete`, asynchronous."""
        served = await self._aserve(lambda: [ChatMessage(prompt)])
        return served.astream(await served.target.astream_complete(prompt, formatted=formatted, **kwargs))


def _pinned(kwargs: dict[str, Any]) -> Served | None:
    """The target that the call is bound to; its keyword is for us, not for the target."""
    served = kwargs.pop(PINNED, None)
    return served if isinstance(served, Served) else None
