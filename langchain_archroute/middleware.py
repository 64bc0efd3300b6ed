"""The router as a middleware of LangChain's agents."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Annotated, Any, NotRequired, cast

from langchain.agents.middleware.types import (
    AgentMiddleware,
    AgentState,
    ModelCallResult,
    ModelRequest,
    ModelResponse,
    OmitFromSchema,
)
from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnablePassthrough
from langchain_core.tools import BaseTool
from langgraph.errors import GraphBubbleUp
from langgraph.runtime import Runtime

from archroute.conversation import History
from archroute.engines.base import Engine
from archroute.errors import SettingError
from archroute.policy import OTHER
from archroute.router import OnError
from langchain_archroute.attempts import Attempts
from langchain_archroute.decider import Decider
from langchain_archroute.route import Route, RouteTable
from langchain_archroute.serving import METADATA_KEY, marked

_OWN_MODEL: Any = RunnablePassthrough(name="the agent's own model")


class RoutedState(AgentState[Any]):
    """An agent's state with the decision on its latest turn in plain JSON types, which every checkpointer keeps."""

    archroute: NotRequired[Annotated[dict[str, Any], OmitFromSchema(input=True, output=False)]]


class ArchRouterMiddleware(AgentMiddleware[RoutedState, Any, Any]):
    """Lets the model bound to the fitting policy answer in an agent.

    Decides on the whole conversation, once a user turn: the same model goes through the tool loop. Because the model is changed
    before tools and schemas are bound, they are bound to the model that answers. The decision stands in the agent's state under
    `archroute`, with the id of the user's message as `turn`.

    Middleware that replaces the model because an attempt failed, such as `ModelFallbackMiddleware`, is let through, and retries
    are routed as the first attempt was.

    Example:
        >>> from langchain.agents import create_agent
        >>> from langchain_core.language_models import FakeListChatModel
        >>> travel, other = FakeListChatModel(responses=["a flight"]), FakeListChatModel(responses=["hello"])
        >>> routes = [
        ...     Route("tax", "Tax law and returns", target=FakeListChatModel(responses=["a tax answer"])),
        ...     Route("travel", "Planning trips", target=travel, prompt="You plan trips."),
        ... ]
        >>> agent = create_agent(other, middleware=[ArchRouterMiddleware(routes=routes, model="embedded")])
        >>> state = agent.invoke({"messages": [("human", "Which flights go to Lisbon on Friday?")]})
        >>> state["messages"][-1].text, state["archroute"]["route"]
        ('a flight', 'travel')

    Args:
        routes: What the policies are and which chat model serves each, with the tools and the prompt of the route if it has its
            own; see `Route`. Tools given as objects are registered with the agent and seen by their routes alone.
        default: The chat model for what fits no policy, for decisions below `min_confidence`, and for turns whose routing failed.
            None: the agent's own.
        model: `"embedded"`, a model hub id, a local directory, or an engine; see `archroute.Router`.
        history: How much of the conversation is read: `"all"`, `"last_user"`, or the last n user turns.
        on_error: `"default"`: a failure while routing sends the turn to the default; `"raise"`: it is raised.
        min_confidence: A policy is chosen only from this probability on, from 0 to 1.
        every_step: Whether to decide anew before every call of a model, for agents that want another one after a tool's answer.

    Raises:
        PolicyError: The policies are not valid together.
        SettingError: Another argument is not valid, or a target can't be given tools.
        ModelError: The model can't be loaded.
    """

    state_schema = RoutedState

    def __init__(
        self,
        *,
        routes: Iterable[Route],
        default: Any = None,
        model: str | Path | Engine | None = None,
        history: History = "all",
        on_error: OnError = "default",
        min_confidence: float = 0.0,
        every_step: bool = False,
    ) -> None:
        super().__init__()
        self._table = RouteTable(routes, _OWN_MODEL if default is None else default)
        self._table.mapped(_checked)
        self._decider = Decider.of(
            self._table.policies, model=model, history=history, on_error=on_error, min_confidence=min_confidence
        )
        self._seen = Attempts()
        self.every_step = every_step
        brought = [tool for route in self._table.bound.values() for tool in route.tools or ()]
        self.tools = list({tool.name: tool for tool in brought if isinstance(tool, BaseTool)}.values())

    @property
    def decider(self) -> Decider:
        """The decision alone, as a Runnable of its own; see `Decider`."""
        return self._decider

    def before_model(self, state: RoutedState, runtime: Runtime[Any]) -> dict[str, Any] | None:
        """Decide, if the user's turn is new, and keep the decision in the state."""
        turn = self._undecided(state)
        return None if turn is None else _kept(turn, self._decider.invoke(state["messages"]).as_dict())

    async def abefore_model(self, state: RoutedState, runtime: Runtime[Any]) -> dict[str, Any] | None:
        """`before_model`, without blocking the event loop."""
        turn = self._undecided(state)
        return None if turn is None else _kept(turn, (await self._decider.ainvoke(state["messages"])).as_dict())

    def wrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], ModelResponse[Any]]
    ) -> ModelCallResult[Any]:
        """Call the route's model, then its fallbacks."""
        *attempts, last = self._attempts(request)
        with marked(_decided(request.state)):
            for attempt in attempts:
                try:
                    return handler(attempt)
                except GraphBubbleUp:  # LangGraph's own signals, interrupts among them, are no failures
                    raise
                except Exception:  # noqa: S112 - as RunnableWithFallbacks: only the last error is told
                    continue
            return handler(last)

    async def awrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], Awaitable[ModelResponse[Any]]]
    ) -> ModelCallResult[Any]:
        """`wrap_model_call`, asynchronously."""
        *attempts, last = self._attempts(request)
        with marked(_decided(request.state)):
            for attempt in attempts:
                try:
                    return await handler(attempt)
                except GraphBubbleUp:
                    raise
                except Exception:  # noqa: S112
                    continue
            return await handler(last)

    def _undecided(self, state: RoutedState) -> str | None:
        """The turn to decide on, or None if that has been done."""
        turn = _turn(state)
        decided = _decided(state).get("turn")
        return turn if self.every_step or turn != decided else None

    def _attempts(self, request: ModelRequest[Any]) -> list[ModelRequest[Any]]:
        """The request for each model that is to be tried, in order."""
        replaced = self._seen.is_replacement(request)
        route = self._table.bound.get(_decided(request.state).get("route", OTHER))
        request = self._dressed(request, route)
        models = [self._table.default] if route is None else [route.target, *route.fallbacks]
        if replaced or models[0] is _OWN_MODEL:
            return [request]
        return [request.override(model=cast(Any, model)) for model in models]  # whatever binds tools will do

    def _dressed(self, request: ModelRequest[Any], route: Route | None) -> ModelRequest[Any]:
        """The request with the route's own prompt and tools."""
        if route is not None and route.prompt is not None:
            request = request.override(system_message=route.prompt)
        if not request.tools:
            return request
        if route is not None and route.tools is not None:
            seen = {tool if isinstance(tool, str) else _name(tool) for tool in route.tools}
            tools = [tool for tool in request.tools if _name(tool) in seen]
        else:
            brought = {tool.name for tool in self.tools}
            tools = [tool for tool in request.tools if _name(tool) not in brought]
        return request if len(tools) == len(request.tools) else request.override(tools=tools)


def _checked(target: Any, place: str) -> Any:
    if target is not _OWN_MODEL and not hasattr(target, "bind_tools"):
        raise SettingError(
            f"an agent can't use {place}, a {type(target).__name__}", hint="bind a chat model: the agent gives it tools"
        )
    return target


def _turn(state: RoutedState) -> str:
    """What tells the latest user turn from others: its message's id, or its place."""
    for place, message in reversed(list(enumerate(state["messages"]))):
        if isinstance(message, HumanMessage):
            return message.id or str(place)
    return "none"


def _decided(state: Any) -> dict[str, Any]:
    """The decision in an agent's state, with its turn; empty before the first."""
    return state.get(METADATA_KEY) or {}


def _kept(turn: str, decision: dict[str, Any]) -> dict[str, Any]:
    return {METADATA_KEY: {"turn": turn, **decision}}


def _name(tool: Any) -> str:
    """A tool's name; a provider's own tool, which is a dict, may have only a type."""
    if isinstance(tool, dict):
        return str(tool.get("name") or tool.get("type"))
    return str(getattr(tool, "name", None) or getattr(tool, "__name__", tool))
