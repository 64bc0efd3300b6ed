"""What routers remember and tell of the turns they serve."""

from __future__ import annotations

import logging
import threading
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from archroute.decision import Decision
from archroute.dispatch.breaker import Breaker
from archroute.dispatch.models import Target
from archroute.dispatch.request import Request
from archroute.dispatch.route import RouteTable
from archroute.dispatch.sessions import MemoryStore, Sessions, SessionStore
from archroute.dispatch.shadows import Shadows
from archroute.dispatch.turn import Turn
from archroute.errors import SettingError
from archroute.observe.record import Observer, ShadowRecord, TurnRecord
from archroute.observe.stats import Stats
from archroute.policy import OTHER

logger = logging.getLogger("archroute")


class Dispatch:
    """From decisions to turns that are served: sessions, circuits, shadows, statistics. Several routers may share one.

    Example:
        >>> from archroute import Policy, Router
        >>> from archroute.dispatch import Request, Route, RouteTable
        >>> table = RouteTable([Route("tax", "Tax law and returns", target=str.upper)], default=str.lower)
        >>> router, dispatch = Router(table.policies, model="embedded"), Dispatch()
        >>> turn = dispatch.begin(table, Request(session="user-1"), lambda earlier: earlier or router.route("What is VAT?"))
        >>> turn.run(lambda target: target("What is VAT?")), turn.decision.target
        ('WHAT IS VAT?', 'upper')

    Args:
        store: Where sessions are kept; None: in this process, for an hour.
        switch_cost: How far, in probability, another route must be ahead of the session's own before the session moves there, from 0
            to 1; None: sessions keep their route through an agent's loop over tools alone.
        breaker_failures: Failures in a row after which a target is left alone.
        breaker_cooldown: For how many seconds.
        shadow_limit: How many shadows may be under way at once.
        shadow_timeout: Seconds after which an asynchronous shadow is given up.
        observers: Are told of every turn; see `archroute.observe`.
        keep_text: Whether records hold the user's turn.

    Raises:
        SettingError: A number is out of its range.
    """

    def __init__(
        self,
        *,
        store: SessionStore | None = None,
        switch_cost: float | None = None,
        breaker_failures: int = 5,
        breaker_cooldown: float = 30.0,
        shadow_limit: int = 16,
        shadow_timeout: float = 60.0,
        observers: Iterable[Observer] = (),
        keep_text: bool = False,
    ) -> None:
        if switch_cost is not None and not 0 <= switch_cost <= 1:
            raise SettingError(f"switch_cost={switch_cost}", hint="give a difference of probabilities, from 0 to 1")
        if shadow_limit < 1 or shadow_timeout <= 0:
            raise SettingError(
                f"shadow_limit={shadow_limit}, shadow_timeout={shadow_timeout}", hint="give positive numbers"
            )
        Breaker(breaker_failures, breaker_cooldown)  # refuses bad numbers now
        self.switch_cost = switch_cost
        self.keep_text = keep_text
        self.sessions = Sessions(MemoryStore() if store is None else store)
        self.shadows = Shadows(shadow_limit, shadow_timeout, self._shadow_ended)
        self._stats = Stats()
        self._observers = (self._stats, *observers)
        self._breaker_settings = breaker_failures, breaker_cooldown
        self._breakers: dict[str, Breaker] = {}
        self._lock = threading.Lock()

    def begin(
        self, table: RouteTable[Target], request: Request, decide: Callable[[Decision | None], Decision]
    ) -> Turn[Target]:
        """A turn, ready to be served.

        Args:
            table: Who serves what.
            request: What is known of the turn.
            decide: Decides; it is given the turn's own decision, if an agent's loop over tools has gone on since, to return it.

        Raises:
            Exception: What `decide` raises.
        """
        earlier = self.sessions.recall(request.turn_key) if request.in_loop and request.turn_key else None
        if earlier and _is_there(earlier, table):
            return Turn(self, table, decide(earlier), request, reused=True)
        before = (
            self.sessions.recall(request.session_key) if self.switch_cost is not None and request.session_key else None
        )
        return Turn(self, table, self._settled(table, before, decide(None)), request, reused=False)

    async def abegin(
        self, table: RouteTable[Target], request: Request, decide: Callable[[Decision | None], Awaitable[Decision]]
    ) -> Turn[Target]:
        """`begin`, without blocking the event loop."""
        earlier = await self.sessions.arecall(request.turn_key) if request.in_loop and request.turn_key else None
        if earlier and _is_there(earlier, table):
            return Turn(self, table, await decide(earlier), request, reused=True)
        before = (
            await self.sessions.arecall(request.session_key)
            if self.switch_cost is not None and request.session_key
            else None
        )
        return Turn(self, table, self._settled(table, before, await decide(None)), request, reused=False)

    def keep(self, request: Request, decision: Decision) -> None:
        """Keep what served a turn, for the steps of its loop and for its session's next turn."""
        kept = decision.model_copy(update={"attempts": ()})
        for key in self._keys(request):
            self.sessions.keep(key, kept)

    async def akeep(self, request: Request, decision: Decision) -> None:
        """`keep`, without blocking the event loop."""
        kept = decision.model_copy(update={"attempts": ()})
        for key in self._keys(request):
            await self.sessions.akeep(key, kept)

    def stats(self) -> dict[str, Any]:
        """Counts and means so far; see `archroute.observe.Stats.snapshot`. Under `circuits`, where each target's breaker stands."""
        with self._lock:
            circuits = {name: breaker.state for name, breaker in self._breakers.items()}
        return {**self._stats.snapshot(), "circuits": circuits}

    def breaker(self, target: str) -> Breaker:
        """The circuit breaker of the target of this name."""
        with self._lock:
            if target not in self._breakers:
                self._breakers[target] = Breaker(*self._breaker_settings)
            return self._breakers[target]

    def mean_latency(self, route: str, target: str) -> float | None:
        """How long a target took on a route so far, on average, in milliseconds."""
        return self._stats.mean_latency(route, target)

    def turn_began(self) -> list[Any]:
        """Tell the observers that a turn begins; what they return, to be given to `turn_ended`."""
        return [self._told(observer.turn_began) for observer in self._observers]

    def turn_ended(self, record: TurnRecord, began: list[Any]) -> None:
        """Tell the observers that a turn is over."""
        for observer, start in zip(self._observers, began, strict=True):
            self._told(observer.turn_ended, record, start)

    def _shadow_ended(self, record: ShadowRecord) -> None:
        for observer in self._observers:
            self._told(observer.shadow_ended, record)

    def _told(self, tell: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return tell(*arguments)
        except Exception:
            logger.exception("an observer failed, the turn goes on")
            return None

    def _keys(self, request: Request) -> list[str]:
        keys = [request.turn_key, request.session_key if self.switch_cost is not None else None]
        return [key for key in keys if key is not None]

    def _settled(self, table: RouteTable[Target], before: Decision | None, decision: Decision) -> Decision:
        """The decision, or the session's own route if no other is so far ahead that it is worth a switch."""
        if before is None or self.switch_cost is None or decision.reason == "error":
            return decision
        own = before.route
        if own in (decision.route, OTHER) or own not in decision.probabilities:
            return decision
        ahead = max(decision.probabilities.values()) - decision.probabilities[own]
        if ahead > self.switch_cost:
            return decision
        return decision.model_copy(update={"route": own, "policy": table.policies[own], "reason": "sticky"})


def _is_there(decision: Decision, table: RouteTable[Target]) -> bool:
    """Whether the route is still among the policies."""
    return decision.route in (*table.bound, OTHER)
