"""The table's behaviours through LlamaIndex: `ArchRouterLLM`."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.base.llms.types import ChatMessage, ChatResponse, MessageRole, TextBlock
from llama_index.core.tools import FunctionTool
from llama_index_instrumentation.dispatcher import instrument_tags
from pydantic import Field

from llamaindex_archroute import ArchRouterLLM, Route
from tests.llamaindex.targets import Target
from tests.parity.behaviours import FILE, Messages
from tests.parity.doors import SECRET


class _Model(Target):
    """A target that writes its name down when it is called."""

    calls: Any = Field(default_factory=list, exclude=True, repr=False)

    def _answer(self, messages: Any, **kwargs: Any) -> ChatMessage:
        self.calls.append(self.label)
        time.sleep(0.5 if self.label.startswith("slow") else 0)
        if self.label.startswith("broken"):
            raise ConnectionError("the provider is down")
        return super()._answer(messages, **kwargs)

    async def achat(self, messages: Any, **kwargs: Any) -> ChatResponse:
        return await asyncio.to_thread(self.chat, messages, **kwargs)


class LlamaIndex:
    def router(self, source: Any = FILE, **arguments: Any) -> ArchRouterLLM:
        return ArchRouterLLM.from_yaml(source, self.model, **arguments)

    def bound(self, targets: dict[str, Any], **arguments: Any) -> ArchRouterLLM:
        routes = [Route(name, f"About {name}", target=targets[name]) for name in ("tax", "travel")]
        return ArchRouterLLM(routes=routes, default=targets["default"], **arguments)

    def model(self, name: str) -> _Model:
        return _Model(name, api_key=SECRET)

    def ask(self, router: ArchRouterLLM, messages: Messages, session: str | None = None) -> tuple[str, dict[str, Any]]:
        with instrument_tags({"session_id": session}):
            return _answer(router.chat(_messages(messages)))

    async def aask(
        self, router: ArchRouterLLM, messages: Messages, session: str | None = None
    ) -> tuple[str, dict[str, Any]]:
        with instrument_tags({"session_id": session}):
            return _answer(await router.achat(_messages(messages)))

    def stream(self, router: ArchRouterLLM, messages: Messages) -> str:
        return "".join(chunk.delta or "" for chunk in router.stream_chat(_messages(messages))).removeprefix(
            "answer of "
        )

    def dump(self, router: ArchRouterLLM) -> str:
        return router.to_json()

    async def agent(self, arguments: dict[str, Any], question: str) -> list[str]:
        calls: list[str] = []
        router = ArchRouterLLM.from_yaml(FILE, lambda name: _Model(name, calls=calls), **arguments)
        tools = [FunctionTool.from_defaults(lambda: "a flight", name="look_up", description="Look it up")]
        await FunctionAgent(llm=router, tools=tools).run(question)
        return calls


def _messages(messages: Messages) -> list[ChatMessage]:
    return [
        ChatMessage(
            role=MessageRole(message["role"]),
            content=message["content"]
            if isinstance(message["content"], str)
            else [TextBlock(text=part["text"]) for part in message["content"]],
        )
        for message in messages
    ]


def _answer(response: ChatResponse) -> tuple[str, dict[str, Any]]:
    return (response.message.content or "").removeprefix("answer of "), response.additional_kwargs["archroute"]
