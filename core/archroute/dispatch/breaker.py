"""A circuit breaker: a target that keeps failing is left alone for a while.

Written here because the libraries there are hold a lock through the call, or know threads or asyncio alone.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Literal

from archroute.errors import SettingError

State = Literal["closed", "open", "half_open"]


class Breaker:
    """Counts failures in a row. Safe under threads; nothing is held while a call runs.

    Closed: calls pass. Open, after `failures` failures in a row: none does, for `cooldown` seconds. Half open, after them: one call
    at a time passes; its success closes the circuit, its failure opens it again.

    Args:
        failures: How many failures in a row open it.
        cooldown: How long it stays open, in seconds.
        clock: Seconds, ever growing.

    Raises:
        SettingError: A number is not positive.
    """

    def __init__(self, failures: int = 5, cooldown: float = 30.0, clock: Callable[[], float] = time.monotonic) -> None:
        if failures < 1 or cooldown <= 0:
            raise SettingError(f"failures={failures}, cooldown={cooldown}", hint="give positive numbers")
        self._limit, self._cooldown, self._clock = failures, cooldown, clock
        self._in_a_row = 0
        self._until: float | None = None  # open until then; None: closed
        self._trial: float | None = None  # when the call that is tried half open began
        self._lock = threading.Lock()

    @property
    def state(self) -> State:
        """Where it stands."""
        with self._lock:
            if self._until is None:
                return "closed"
            return "open" if self._clock() < self._until else "half_open"

    def allows(self) -> bool:
        """Whether a call may pass now. One that may must be told of by `succeeded`, `failed` or `left`."""
        with self._lock:
            if self._until is None:
                return True
            now = self._clock()
            # A trial that was never told of must not keep the circuit open for ever.
            if now < self._until or (self._trial is not None and now < self._trial + self._cooldown):
                return False
            self._trial = now
            return True

    def succeeded(self) -> None:
        """A call that passed has ended well."""
        with self._lock:
            self._in_a_row, self._until, self._trial = 0, None, None

    def failed(self) -> None:
        """A call that passed has failed."""
        with self._lock:
            self._in_a_row += 1
            self._trial = None
            if self._until is not None or self._in_a_row >= self._limit:
                self._until = self._clock() + self._cooldown

    def left(self) -> None:
        """A call that passed was left before its end, so that nothing is known."""
        with self._lock:
            self._trial = None
