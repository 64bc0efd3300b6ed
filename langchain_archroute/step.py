"""One call of a model in an agent: what it is asked, and by which of a route's models."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from langchain.agents.middleware.types import ModelRequest
from langchain_core.messages import BaseMessage
from langchain_core.runnables import RunnablePassthrough

from archroute.decision import Decision
from archroute.dispatch import Request
from langchain_archroute.decider import Decider
from langchain_archroute.hearing import unheard
from langchain_archroute.reading import Reading
from langchain_archroute.route import RouteTable

OWN_MODEL: Any = RunnablePassthrough(name="the agent's own model")


class Step:
    """One step of an agent, in which a model is called.

    Args:
        table: Who serves what.
        decider: Reads the conversation.
        request: The agent's.
        decision: What was decided on the user's turn.
        session: What tells the user's session from others.
        brought: Names of tools that routes brought along, which only they see.
        replaced: Whether another middleware has chosen the model.
        fresh: Whether this step was decided on by itself, so that what began the loop over tools doesn't bear on it.
    """

    def __init__(
        self,
        table: RouteTable,
        decider: Decider,
        request: ModelRequest[Any],
        decision: Decision,
        session: str | None,
        brought: frozenset[str],
        *,
        replaced: bool,
        fresh: bool,
    ) -> None:
        self.table, self.decision, self.replaced = table, decision, replaced
        self._request, self._brought = request, brought
        reading = decider.read(messages_of(request))
        tools = bool(self.dressed(decision.route).tools)
        asked = (
            reading.request(session, tools=tools) if isinstance(reading, Reading) else Request.of(None, session=session)
        )
        self.turn_request = replace(asked, in_loop=False) if fresh else asked

    def decided(self, earlier: Decision | None) -> Decision:
        """The decision on the user's turn."""
        return self.decision if earlier is None else earlier

    async def adecided(self, earlier: Decision | None) -> Decision:
        """`decided`, for those who await it."""
        return self.decided(earlier)

    def name(self, model: Any) -> str:
        """What traces call a model."""
        return self.table.model_of(model).name

    def asking(self, model: Any, route: str) -> ModelRequest[Any]:
        """The request to a model; whatever binds tools will do."""
        request = self.dressed(route)
        return request if model is OWN_MODEL else request.override(model=model)

    def dressed(self, name: str) -> ModelRequest[Any]:
        """The request with a route's own prompt and tools."""
        request, route = self._request, self.table.bound.get(name)
        if route is not None and route.prompt is not None:
            request = request.override(system_message=route.prompt)
        if not request.tools:
            return request
        if route is not None and route.tools is not None:
            seen = {tool if isinstance(tool, str) else _name(tool) for tool in route.tools}
            tools = [tool for tool in request.tools if _name(tool) in seen]
        else:
            tools = [tool for tool in request.tools if _name(tool) not in self._brought]
        return request if len(tools) == len(request.tools) else request.override(tools=tools)

    def shadow(self, route: str) -> Callable[[Any], Any]:
        """Asks a shadow what the route's model is asked, past the agent."""

        def ask(model: Any) -> Any:
            with unheard():
                bound, messages = self._bare(model, route)
                return bound.invoke(messages)

        return ask

    def ashadow(self, route: str) -> Callable[[Any], Awaitable[Any]]:
        """`shadow`, without blocking the event loop."""

        async def ask(model: Any) -> Any:
            with unheard():
                bound, messages = self._bare(model, route)
                return await bound.ainvoke(messages)

        return ask

    def _bare(self, model: Any, route: str) -> tuple[Any, list[BaseMessage]]:
        request = self.dressed(route)
        if request.tools:
            bound = model.bind_tools(request.tools, tool_choice=request.tool_choice, **request.model_settings)
        else:
            bound = model.bind(**request.model_settings)
        return bound, messages_of(request)


def messages_of(request: ModelRequest[Any]) -> list[BaseMessage]:
    """All that a model is sent."""
    return [*filter(None, [request.system_message]), *request.messages]


def _name(tool: Any) -> str:
    """A tool's name; a provider's own tool, which is a dict, may have only a type."""
    if isinstance(tool, dict):
        return str(tool.get("name") or tool.get("type"))
    return str(getattr(tool, "name", None) or getattr(tool, "__name__", tool))
