"""The part of the routed LLM that routes: its targets, its turns, and what it tells of itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

from llama_index.core.base.llms.types import LLMMetadata
from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.llms.llm import LLM

from archroute import Decision, PolicySet, Router, SettingError
from archroute.dispatch import Dispatch, Request, Turn
from archroute.reload import Reloaded
from llamaindex_archroute.deciding import Readable, adecide, decide
from llamaindex_archroute.events import emit
from llamaindex_archroute.metadata import common_metadata
from llamaindex_archroute.reading import Call
from llamaindex_archroute.session import SessionSource
from llamaindex_archroute.table import LLMTable


@dataclass(frozen=True)
class Bound:
    """Policies, with who decides on them and who serves them; both of one version of the policy file, if they come from one."""

    router: Router
    table: LLMTable | None = field(repr=False)  # None: a pickle, which leaves out the targets


PINNED = "archroute_pinned"
"""Keyword of a chat call that was routed while its tools were prepared: they are in the form of one target's provider."""


@dataclass(frozen=True)
class Asked:
    """What is known of a call before it is served.

    Attributes:
        bound: Who decides and who serves.
        request: What dispatch needs to know.
        read: See `Readable`.
    """

    bound: Bound = field(repr=False)
    request: Request
    read: Readable


class RoutingLLM(FunctionCallingLLM):
    """Decides which target serves a call, once for each user turn."""

    # Private: pydantic leaves them out of model_dump and repr, where a target's key would show.
    _bound: Bound = PrivateAttr()
    _file: Reloaded[Bound] | None = PrivateAttr(default=None)
    _settings: dict[str, Any] = PrivateAttr(default_factory=dict)
    _dispatch: Dispatch = PrivateAttr(default_factory=Dispatch)
    _session: SessionSource = PrivateAttr(default=None)

    @property
    def metadata(self) -> LLMMetadata:
        """What all targets can do; the model's name is the router's own, for any of them may answer."""
        return common_metadata(list(self._table().llms.values()), self.class_name())

    @property
    def policies(self) -> PolicySet:
        """The policies that decide."""
        return self._now().router.policies

    def stats(self) -> dict[str, Any]:
        """Counts and means of all turns so far; see `archroute.observe.Stats.snapshot`."""
        return self._dispatch.stats()

    def change_shares(self, route: str, shares: Mapping[str, float]) -> None:
        """Change the shares of a route's split while turns are served; a policy file that changes later has the last word.

        Raises:
            PolicyError: There is no such route, it has no split, or the shares are not valid.
        """
        self._table().change_shares(route, shares)

    def reload(self) -> None:
        """Read the policy file now. Turns that are being served end as they began.

        Raises:
            SettingError: The router was not made from a file.
            FileFormatError: The file can't be read, and what was read before stays; or whatever else `from_yaml` raises.
        """
        if self._file is None:
            raise SettingError("the router follows no file", hint="make it by from_yaml(path, …, reload=True)")
        self._file.reload()

    def _begin(self, call: Call, pinned: Asked | None = None) -> Turn[LLM]:
        """The turn that a call makes, decided and not yet served."""
        asked = pinned or self._asked(self._now(), call)
        turn = self._dispatch.begin(
            _table(asked.bound), asked.request, lambda earlier: earlier or decide(asked.bound.router, asked.read)
        )
        return _told(turn, asked)

    async def _abegin(self, call: Call, pinned: Asked | None = None) -> Turn[LLM]:
        """`_begin`, without blocking the event loop."""
        bound = self._bound if self._file is None else await self._file.acurrent()
        asked = pinned or self._asked(bound, call)

        async def deciding(earlier: Decision | None) -> Decision:
            return earlier or await adecide(asked.bound.router, asked.read)

        return _told(await self._dispatch.abegin(_table(asked.bound), asked.request, deciding), asked)

    def _pin(self, call: Call) -> tuple[Turn[LLM], LLM, Asked]:
        """The target of a call that is made later: in the form of that target's provider, so that no other can step in."""
        asked = self._asked(self._now(), call)
        turn = self._begin(call, asked)
        first = turn.first
        return turn, first.target, Asked(asked.bound, replace(asked.request, target=first.name), turn.decision)

    def _asked(self, bound: Bound, call: Call) -> Asked:
        return Asked(bound, *call.asked(bound.router.history, self._session))

    def _now(self) -> Bound:
        return self._bound if self._file is None else self._file.current()

    def _table(self) -> LLMTable:
        return _table(self._now())

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name == "callback_manager" and self.__pydantic_private__:
            self._share_callbacks(self._now().table)

    def _share_callbacks(self, table: LLMTable | None) -> None:
        """Hand the router's callbacks on, as `Settings` hands its own to the LLM it holds: only targets send events.

        An empty manager, which `Settings` makes by itself, takes nothing from a target that has callbacks.
        """
        for target in table.llms.values() if table else ():
            if self.callback_manager.handlers or not target.callback_manager.handlers:
                target.callback_manager = self.callback_manager

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        yield "routes", [route.name for route in self.policies]
        yield "model", self._now().router.engine.name

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        return self.model_copy()  # targets hold connections, and the engine its weights: both are shared

    def __reduce__(self) -> tuple[Any, ...]:
        # Without the targets, which hold keys, and the dispatch and the session, which are this process's.
        return _unpickled, (type(self), self.policies, self._settings)


def _table(bound: Bound) -> LLMTable:
    if bound.table is None:
        raise SettingError(
            "the router has no targets: pickles leave them out, for they may hold keys",
            hint="bind them again: router.bind({route: llm}, default=llm)",
        )
    return bound.table


def _told(turn: Turn[LLM], asked: Asked) -> Turn[LLM]:
    if not turn.reused and not isinstance(asked.read, Decision):
        emit(turn.decision)
    return turn


def _unpickled(kind: type[RoutingLLM], policies: PolicySet, settings: dict[str, Any]) -> RoutingLLM:
    router = kind.__new__(kind)
    FunctionCallingLLM.__init__(router)
    router._bound, router._settings = Bound(Router(policies, **settings), None), settings
    return router
