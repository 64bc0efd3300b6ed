"""What is remembered of a session, so that it stays where it was."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable

from cachetools import TTLCache

from archroute.decision import Decision
from archroute.dispatch.breaker import Breaker
from archroute.errors import SettingError

logger = logging.getLogger("archroute")


class SessionStore(ABC):
    """Where the last decisions of sessions and turns are kept, with the targets that served them. What it raises is logged, and the turn goes on as if nothing were kept."""

    @abstractmethod
    def get(self, key: str) -> Decision | None:
        """What is kept under `key`."""

    @abstractmethod
    def put(self, key: str, decision: Decision) -> None:
        """Keep it, in place of what was kept before."""

    async def aget(self, key: str) -> Decision | None:
        """`get`, without blocking the event loop."""
        return await asyncio.to_thread(self.get, key)

    async def aput(self, key: str, decision: Decision) -> None:
        """`put`, without blocking the event loop."""
        await asyncio.to_thread(self.put, key, decision)


class MemoryStore(SessionStore):
    """Keeps sessions in this process. Safe under threads.

    Args:
        ttl: Seconds until a session that has no turn is forgotten.
        max_sessions: The most that are kept; the one least recently used is forgotten first.
        clock: Seconds, ever growing.

    Raises:
        SettingError: A number is not positive.
    """

    def __init__(
        self, *, ttl: float = 3600.0, max_sessions: int = 10_000, clock: Callable[[], float] = time.monotonic
    ) -> None:
        if ttl <= 0 or max_sessions < 1:
            raise SettingError(f"ttl={ttl}, max_sessions={max_sessions}", hint="give positive numbers")
        self._kept: TTLCache[str, Decision] = TTLCache(max_sessions, ttl, timer=clock)
        self._lock = threading.Lock()

    def __len__(self) -> int:
        with self._lock:
            return len(self._kept)

    def get(self, key: str) -> Decision | None:
        """See `SessionStore`."""
        with self._lock:
            return self._kept.get(key)

    def put(self, key: str, decision: Decision) -> None:
        """See `SessionStore`."""
        with self._lock:
            self._kept[key] = decision

    async def aget(self, key: str) -> Decision | None:
        """See `SessionStore`: nothing here blocks."""
        return self.get(key)

    async def aput(self, key: str, decision: Decision) -> None:
        """See `SessionStore`: nothing here blocks."""
        self.put(key, decision)


class Sessions:
    """A store that fails open, and is left alone for some seconds when it keeps failing.

    Args:
        store: Where sessions are kept.
        breaker: Counts the store's failures.
    """

    def __init__(self, store: SessionStore, breaker: Breaker | None = None) -> None:
        self._store = store
        self._breaker = breaker or Breaker(failures=3, cooldown=5.0)

    def recall(self, key: str) -> Decision | None:
        """What is kept under `key`."""
        if not self._breaker.allows():
            return None
        try:
            decision = self._store.get(key)
        except Exception as error:
            self._told(error)
            return None
        self._breaker.succeeded()
        return decision

    async def arecall(self, key: str) -> Decision | None:
        """`recall`, without blocking the event loop."""
        if not self._breaker.allows():
            return None
        try:
            decision = await self._store.aget(key)
        except Exception as error:
            self._told(error)
            return None
        except BaseException:
            self._breaker.left()
            raise
        self._breaker.succeeded()
        return decision

    def keep(self, key: str, decision: Decision) -> None:
        """Keep a decision under `key`."""
        if not self._breaker.allows():
            return
        try:
            self._store.put(key, decision)
        except Exception as error:
            self._told(error)
        else:
            self._breaker.succeeded()

    async def akeep(self, key: str, decision: Decision) -> None:
        """`keep`, without blocking the event loop."""
        if not self._breaker.allows():
            return
        try:
            await self._store.aput(key, decision)
        except Exception as error:
            self._told(error)
        except BaseException:
            self._breaker.left()
            raise
        else:
            self._breaker.succeeded()

    def _told(self, error: Exception) -> None:
        self._breaker.failed()
        # The kind alone: a client's message may hold its address, with a password in it.
        logger.warning("the session store failed (%s), the turn goes on without it", type(error).__name__)
