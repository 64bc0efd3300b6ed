"""The part of the routed LLM that routes: its targets, its decisions, and what it tells of itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Self

from llama_index.core.base.llms.types import ChatMessage, LLMMetadata
from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.llms.llm import LLM

from archroute import Conversation, Decision, PolicySet, Router, SettingError
from archroute.dispatch import RouteTable
from llamaindex_archroute.deciding import adecide, decide, failed
from llamaindex_archroute.metadata import common_metadata
from llamaindex_archroute.served import Served
from llamaindex_archroute.turns import TurnDecisions, read_turn, split_loop


class RoutingLLM(FunctionCallingLLM):
    """Chooses a target for the messages of a call, once for each user turn."""

    # Private: pydantic leaves them out of model_dump and repr, where a target's key would show.
    _table: RouteTable[LLM] | None = PrivateAttr(default=None)
    _settings: dict[str, Any] = PrivateAttr(default_factory=dict)
    _router: Router = PrivateAttr()
    _turns: TurnDecisions = PrivateAttr(default_factory=TurnDecisions)

    @property
    def metadata(self) -> LLMMetadata:
        """What all targets can do; the model's name is the router's own, for any of them may answer."""
        table = self._bound()
        return common_metadata([*table.targets.values(), table.default], self.class_name())

    @property
    def policies(self) -> PolicySet:
        """The policies that decide."""
        return self._router.policies

    def _serve(self, read: Callable[[], Sequence[ChatMessage]]) -> Served:
        """Choose the target for the messages that `read` returns."""
        table = self._bound()
        try:
            turn, decision = self._turn(read())
        except Exception as error:
            return _served(table, failed(self._router, error))
        if decision is None:
            decision = decide(self._router, turn)
            self._turns.put(turn, decision)
        return _served(table, decision)

    async def _aserve(self, read: Callable[[], Sequence[ChatMessage]]) -> Served:
        """`_serve`, without blocking the event loop."""
        table = self._bound()
        try:
            turn, decision = self._turn(read())
        except Exception as error:
            return _served(table, failed(self._router, error))
        if decision is None:
            decision = await adecide(self._router, turn)
            self._turns.put(turn, decision)
        return _served(table, decision)

    def _turn(self, messages: Sequence[ChatMessage]) -> tuple[Conversation, Decision | None]:
        """The user's turn, and what was decided on it if an agent's loop has gone on since."""
        asked, in_loop = split_loop(messages)
        turn = read_turn(asked, self._router.history)
        return turn, self._turns.get(turn) if in_loop else None

    def _bound(self) -> RouteTable[LLM]:
        if self._table is None:
            raise SettingError(
                "the router has no targets: pickles leave them out, for they may hold keys",
                hint="bind them again: router.bind({route: llm}, default=llm)",
            )
        return self._table

    def _set_up(self, policies: PolicySet, settings: dict[str, Any], table: RouteTable[LLM] | None) -> None:
        self._router = Router(policies, **settings)
        self._settings, self._table = settings, table

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name == "callback_manager" and self.__pydantic_private__:
            self._share_callbacks()

    def _share_callbacks(self) -> None:
        """Hand the router's callbacks on, as `Settings` hands its own to the LLM it holds: only targets send events.

        An empty manager, which `Settings` makes by itself, takes nothing from a target that has callbacks.
        """
        for target in self._table_targets():
            if self.callback_manager.handlers or not target.callback_manager.handlers:
                target.callback_manager = self.callback_manager

    def _table_targets(self) -> list[LLM]:
        return [*self._table.targets.values(), self._table.default] if self._table else []

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        yield "routes", [route.name for route in self.policies]
        yield "model", self._router.engine.name

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        return self.model_copy()  # targets hold connections, and the engine its weights: both are shared

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickled, (type(self), self.policies, self._settings)


def _served(table: RouteTable[LLM], decision: Decision) -> Served:
    return Served(decision, table.target_of(decision))


def _unpickled(kind: type[RoutingLLM], policies: PolicySet, settings: dict[str, Any]) -> RoutingLLM:
    router = kind.__new__(kind)
    FunctionCallingLLM.__init__(router)
    router._set_up(policies, settings, None)
    return router
