"""The router as a middleware of LangChain's agents."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Annotated, Any, NotRequired

from langchain.agents.middleware.types import (
    AgentMiddleware,
    AgentState,
    ExtendedModelResponse,
    ModelCallResult,
    ModelRequest,
    ModelResponse,
    OmitFromSchema,
)
from langchain_core.messages import HumanMessage
from langchain_core.runnables.config import ensure_config
from langchain_core.tools import BaseTool
from langgraph.runtime import Runtime
from langgraph.types import Command

from archroute.conversation import History
from archroute.decision import Decision
from archroute.dispatch import Dispatch
from archroute.engines.base import Engine
from archroute.errors import ConversationError, SettingError
from archroute.models import load_engine
from archroute.router import OnError
from langchain_archroute.attempts import Attempts
from langchain_archroute.controls import Controls
from langchain_archroute.decider import Decider
from langchain_archroute.route import Route, RouteTable
from langchain_archroute.serving import METADATA_KEY, marked
from langchain_archroute.sessions import Session, session_of
from langchain_archroute.step import OWN_MODEL, Step
from langchain_archroute.tables import Fixed, Mapped, Tables
from langchain_archroute.versions import Version, Versions

_UNDECIDED = ConversationError("nothing was decided on this turn")


class RoutedState(AgentState[Any]):
    """An agent's state with the decision on its latest turn in plain JSON types, which every checkpointer keeps."""

    archroute: NotRequired[Annotated[dict[str, Any], OmitFromSchema(input=True, output=False)]]


class ArchRouterMiddleware(Controls, AgentMiddleware[RoutedState, Any, Any]):
    """Lets the model bound to the fitting policy answer in an agent.

    Decides on the whole conversation, once a user turn: the same model goes through the tool loop. Because the model is changed
    before tools and schemas are bound, they are bound to the model that answers. The decision stands in the agent's state under
    `archroute`, with the id of the user's message as `turn`.

    When a model fails or takes too long, its route's next one is asked, then the default; the state's decision has the attempts. The
    model that began a loop over tools goes on with it. Middleware that replaces the model because all of them failed, such as
    `ModelFallbackMiddleware`, is let through, and retries are routed as the first attempt was.

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
        min_margin: A policy is chosen only if its probability is so far ahead of the next, from 0 to 1.
        dispatch: Remembers sessions, circuits and statistics of turns; see `archroute.dispatch.Dispatch`. None: a new one.
        session: Tells the session of a call from the agent's state and config. None: the config's or the metadata's `thread_id` or
            `session_id`, else what `archroute.dispatch.session` says.
        tables: Where the routes come from anew; `from_yaml(path, reload=True)` gives it.
        every_step: Whether to decide anew before every call of a model, for agents that want another one after a tool's answer.

    Raises:
        PolicyError: The policies are not valid together.
        SettingError: Another argument is not valid, or a target can't be given tools.
        ModelError: The model can't be loaded.
    """

    state_schema = RoutedState
    _own_default = OWN_MODEL

    def __init__(
        self,
        *,
        routes: Iterable[Route],
        default: Any = None,
        model: str | Path | Engine | None = None,
        history: History = "all",
        on_error: OnError = "default",
        min_confidence: float = 0.0,
        min_margin: float = 0.0,
        dispatch: Dispatch | None = None,
        session: Session | None = None,
        tables: Tables | None = None,
        every_step: bool = False,
    ) -> None:
        super().__init__()
        given = Fixed(RouteTable(routes, OWN_MODEL if default is None else default)) if tables is None else tables
        engine = load_engine(model)  # once, for all versions of the routes

        def decider_of(table: RouteTable) -> Decider:
            return Decider.of(
                table.policies,
                model=engine,
                history=history,
                on_error=on_error,
                min_confidence=min_confidence,
                min_margin=min_margin,
            )

        self._versions = Versions(Mapped(given, _checked), decider_of)
        self._dispatch = Dispatch() if dispatch is None else dispatch
        self._session = session
        self._seen = Attempts()
        self.every_step = every_step
        brought = [tool for route in self._versions.current().table.bound.values() for tool in route.tools or ()]
        self.tools = list({tool.name: tool for tool in brought if isinstance(tool, BaseTool)}.values())

    def before_model(self, state: RoutedState, runtime: Runtime[Any]) -> dict[str, Any] | None:
        """Decide, if the user's turn is new, and keep the decision in the state."""
        turn = self._undecided(state)
        return None if turn is None else _kept(turn, self.decider.invoke(state["messages"]))

    async def abefore_model(self, state: RoutedState, runtime: Runtime[Any]) -> dict[str, Any] | None:
        """`before_model`, without blocking the event loop."""
        turn = self._undecided(state)
        return None if turn is None else _kept(turn, await self.decider.ainvoke(state["messages"]))

    def wrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], ModelResponse[Any]]
    ) -> ModelCallResult[Any]:
        """Call the route's model and, should it fail, the next one."""
        step = self._step(request, self._versions.current())
        if step.replaced:
            with marked(step.decision):
                return handler(step.dressed(step.decision.route))
        turn = self._dispatch.begin(step.table, step.turn_request, step.decided)

        def ask(model: Any) -> ModelResponse[Any]:
            with marked(turn.decision, step.name(model), turn):
                return handler(step.asking(model, turn.decision.route))

        return _noted(turn.run(ask, step.shadow(turn.decision.route)), request.state, turn.decision)

    async def awrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], Awaitable[ModelResponse[Any]]]
    ) -> ModelCallResult[Any]:
        """`wrap_model_call`, asynchronously."""
        step = self._step(request, await self._versions.acurrent())
        if step.replaced:
            with marked(step.decision):
                return await handler(step.dressed(step.decision.route))
        turn = await self._dispatch.abegin(step.table, step.turn_request, step.adecided)

        async def ask(model: Any) -> ModelResponse[Any]:
            with marked(turn.decision, step.name(model), turn):
                return await handler(step.asking(model, turn.decision.route))

        return _noted(await turn.arun(ask, step.ashadow(turn.decision.route)), request.state, turn.decision)

    def _step(self, request: ModelRequest[Any], version: Version) -> Step:
        table, decider = version
        session = session_of(self._session, request.state, ensure_config())
        kept = _decided(request.state)
        decision = Decision.model_validate(kept) if kept else decider.router.failed(_UNDECIDED)
        brought = frozenset(tool.name for tool in self.tools)
        replaced = self._seen.is_replacement(request)
        return Step(table, decider, request, decision, session, brought, replaced=replaced, fresh=self.every_step)

    def _undecided(self, state: RoutedState) -> str | None:
        """The turn to decide on, or None if that has been done."""
        turn = _turn(state)
        decided = _decided(state).get("turn")
        return turn if self.every_step or turn != decided else None


def _checked(target: Any, place: str) -> Any:
    if target is not OWN_MODEL and not hasattr(target, "bind_tools"):
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


def _kept(turn: str, decision: Decision) -> dict[str, Any]:
    return {METADATA_KEY: {"turn": turn, **decision.as_dict()}}


def _noted(answer: Any, state: Any, decision: Decision) -> ModelCallResult[Any]:
    """The answer, with the attempts that led to it for the state."""
    command: Command[Any] = Command(update=_kept(_decided(state).get("turn", "none"), decision))
    return ExtendedModelResponse(answer, command)
