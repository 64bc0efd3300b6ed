"""Targets that are asked beside the one that serves, out of the way of the answer."""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

from archroute.decision import Outcome
from archroute.dispatch.models import Model
from archroute.observe.record import ShadowRecord, Usage


class Shadows:
    """Runs shadows, at most so many at once; beyond, they are passed over, for an answer never waits for them.

    Args:
        limit: How many run at once.
        timeout: Seconds after which an asynchronous one is given up.
        tell: Takes the record of each.
    """

    def __init__(self, limit: int, timeout: float, tell: Callable[[ShadowRecord], None]) -> None:
        self._limit, self._timeout, self._tell = limit, timeout, tell
        self._running = 0
        self._lock = threading.Lock()
        self._tasks: set[asyncio.Task[None]] = set()  # the event loop itself holds its tasks weakly

    def start(self, shadow: Shadow, ask: Callable[[Any], Any]) -> None:
        """Ask a shadow in a thread of its own."""
        if not self._enter(shadow):
            return

        def run() -> None:
            try:
                shadow.answered(ask(shadow.model.target))
            except Exception as error:
                shadow.failed(error)
            finally:
                self._leave(shadow)

        # A thread of its own, which a process that ends doesn't wait for. What the caller has set goes along: a trace's parent, say.
        threading.Thread(
            target=contextvars.copy_context().run, args=(run,), name="archroute-shadow", daemon=True
        ).start()

    def astart(self, shadow: Shadow, ask: Callable[[Any], Awaitable[Any]]) -> None:
        """Ask a shadow in a task of its own."""
        if not self._enter(shadow):
            return

        async def run() -> None:
            try:
                async with asyncio.timeout(self._timeout):
                    shadow.answered(await ask(shadow.model.target))
            except Exception as error:
                shadow.failed(error)
            finally:
                self._leave(shadow)

        task = asyncio.create_task(run())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _enter(self, shadow: Shadow) -> bool:
        with self._lock:
            full = self._running >= self._limit
            self._running += not full
        if full:
            shadow.outcome, shadow.cause = "passed_over", "too many shadows are under way"
            self._tell(shadow.record())
        return not full

    def _leave(self, shadow: Shadow) -> None:
        with self._lock:
            self._running -= 1
        self._tell(shadow.record())


class Shadow:
    """One shadow of one turn.

    Args:
        turn: The turn's id.
        route: The turn's route.
        model: Who is asked.
        usage_of: Reads the tokens that an answer says it took.
    """

    def __init__(self, turn: str, route: str, model: Model[Any], usage_of: Callable[[Any], Usage | None]) -> None:
        self.turn, self.route, self.model = turn, route, model
        self.outcome: Outcome = "left"
        self.cause: str | None = None
        self._usage_of = usage_of
        self._usage: Usage | None = None
        self._started, self._clock = time.time(), time.perf_counter()

    def answered(self, answer: Any) -> None:
        """It has answered."""
        self._usage = self._usage_of(answer)
        self.outcome = "served"

    def failed(self, error: Exception) -> None:
        """It has not."""
        self.outcome = "timed_out" if isinstance(error, TimeoutError) else "failed"
        self.cause = type(error).__name__

    def record(self) -> ShadowRecord:
        """What became of it so far."""
        return ShadowRecord(
            turn=self.turn,
            started=self._started,
            route=self.route,
            target=self.model.name,
            outcome=self.outcome,
            cause=self.cause,
            latency_ms=(time.perf_counter() - self._clock) * 1000,
            usage=self._usage,
            cost=self.model.cost(self._usage),
        )
