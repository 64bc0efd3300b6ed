"""The table's behaviours through LangChain: `RunnableRouter`, and `ArchRouterMiddleware` in an agent."""

from __future__ import annotations

import json
import time
from functools import partial
from typing import Any

from langchain.agents import create_agent
from langchain_core.load import dumps
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import tool

from archroute import PolicySet
from langchain_archroute import ArchRouterMiddleware, Route, RunnableRouter
from tests.langchain.fakes import FakeModel
from tests.parity.behaviours import FILE, Messages
from tests.parity.doors import SECRET


class LangChain:
    def router(self, source: Any = FILE, **arguments: Any) -> RunnableRouter:
        policies = PolicySet.from_yaml(source)
        named = {name for bound in policies.models.values() for name in bound} | {policies.default} - {None}
        named |= {name for serving in policies.serving.values() for name in serving.shadows}
        return RunnableRouter.from_yaml(source, targets={name: self.model(str(name)) for name in named}, **arguments)

    def bound(self, targets: dict[str, Any], **arguments: Any) -> RunnableRouter:
        routes = [Route(name, f"About {name}", target=targets[name]) for name in ("tax", "travel")]
        return RunnableRouter(routes=routes, default=targets["default"], **arguments)

    def model(self, name: str) -> FakeModel:
        wait = partial(time.sleep, 0.5) if name.startswith("slow") else None
        return FakeModel(label=name, api_key=SECRET, fails=name.startswith("broken"), wait=wait)

    def ask(self, router: RunnableRouter, messages: Messages, session: str | None = None) -> tuple[str, dict[str, Any]]:
        return _answer(router.invoke(list(messages), _config(session)))

    async def aask(
        self, router: RunnableRouter, messages: Messages, session: str | None = None
    ) -> tuple[str, dict[str, Any]]:
        return _answer(await router.ainvoke(list(messages), _config(session)))

    def stream(self, router: RunnableRouter, messages: Messages) -> str:
        return "".join(chunk.text for chunk in router.stream(list(messages))).partition(":")[0]

    def dump(self, router: RunnableRouter) -> str:
        return json.dumps(router.model_dump(mode="json")) + dumps(router)

    async def agent(self, arguments: dict[str, Any], question: str) -> list[str]:
        models: dict[str, FakeModel] = {}
        calls: list[str] = []

        def model(name: str) -> FakeModel:
            return models.setdefault(name, FakeModel(label=name, wait=lambda: calls.append(name)))

        def route(name: str, text: str, *actions: Route) -> Route:
            return Route(name, text, target=model(f"{name}-model"), actions=actions)

        @tool
        def look_up() -> str:
            """Look it up."""
            return "a flight"

        routes = [
            route("tax", "Tax law and returns"),
            route("travel", "Anything about trips", route("flights", "Booking flights")),
        ]
        middleware = ArchRouterMiddleware(routes=routes, default=model("default-model"), **arguments)
        agent = create_agent(model("default-model"), tools=[look_up], middleware=[middleware])
        await agent.ainvoke({"messages": [("user", question)]})
        return calls


def _config(session: str | None) -> RunnableConfig:
    return {"configurable": {"thread_id": session}} if session else {}


def _answer(message: AIMessage) -> tuple[str, dict[str, Any]]:
    return message.text.partition(":")[0], message.response_metadata["archroute"]
