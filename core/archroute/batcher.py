"""Joining concurrent decisions into one call of the engine."""

from __future__ import annotations

import atexit
import queue
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from weakref import WeakSet

from archroute.conversation import Conversation
from archroute.engines.base import Engine, Scores
from archroute.errors import OverloadedError, SettingError
from archroute.policy import Policy

_IDLE_SECONDS = 1.0  # after which the thread ends; the next call starts another
_EXIT_SECONDS = 10.0  # that the interpreter's end waits for a decision that is being made


@dataclass(frozen=True)
class Batching:
    """How concurrent async decisions are joined.

    Attributes:
        max_size: Decisions in one call of the engine.
        max_wait_ms: How long a call waits for others to join it, in milliseconds, once calls come several at a time; a lone call
            never waits.
        max_queue: Decisions that may wait; more are refused with an `OverloadedError`.

    Raises:
        SettingError: A value is not positive (`max_wait_ms` may be 0).
    """

    max_size: int = 32
    max_wait_ms: float = 2.0
    max_queue: int = 1024

    def __post_init__(self) -> None:
        if self.max_size < 1 or self.max_queue < 1 or self.max_wait_ms < 0:
            raise SettingError(f"{self}", hint="sizes are at least 1, waits at least 0")


@dataclass(frozen=True)
class _Item:
    routes: tuple[Policy, ...]
    conversation: Conversation
    result: Future[Scores]


class MicroBatcher:
    """Runs decisions in a thread of its own, those that wait together in one call.

    A decision that fails does not fail those it was joined with, and one that is cancelled while it waits is not made.

    Args:
        engine: What decides.
        batching: How calls are joined.
    """

    def __init__(self, engine: Engine, batching: Batching) -> None:
        self._engine = engine
        self._batching = batching
        self._items: queue.Queue[_Item | None] = queue.Queue(batching.max_queue)  # None wakes the thread
        self._stopped = False
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._joined = False  # whether the last call joined several
        _batchers.add(self)

    def submit(self, routes: tuple[Policy, ...], conversation: Conversation) -> Future[Scores]:
        """Ask for a decision.

        Raises:
            OverloadedError: Too many decisions wait already.
        """
        item = _Item(routes, conversation, Future())
        with self._lock:
            try:
                self._items.put_nowait(item)
            except queue.Full:
                raise OverloadedError(
                    f"{self._batching.max_queue} decisions wait already",
                    hint="call again later, or allow more with Batching(max_queue=…)",
                ) from None
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="archroute", daemon=True)
                self._thread.start()
        return item.result

    def stop(self) -> None:
        """End the thread; decisions that wait are not made."""
        self._stopped = True
        with self._lock:
            thread = self._thread
            if thread is not None and self._items.empty():
                self._items.put_nowait(None)
        if thread is not None:
            thread.join(_EXIT_SECONDS)

    def _work(self) -> None:
        while not self._stopped:
            try:
                first = self._items.get(timeout=_IDLE_SECONDS)
            except queue.Empty:
                with self._lock:
                    if self._items.empty():
                        self._thread = None
                        return
                continue
            if first is None:
                continue
            items = [item for item in self._together(first) if item.result.set_running_or_notify_cancel()]
            if items:
                self._decide(items)

    def _together(self, first: _Item) -> list[_Item]:
        """The first item and those that wait with it, or come in time."""
        items = [first]
        deadline = time.monotonic() + (self._batching.max_wait_ms / 1000 if self._joined else 0)
        while len(items) < self._batching.max_size:
            try:
                item = self._items.get(timeout=max(deadline - time.monotonic(), 0.0))
            except queue.Empty:
                break
            if item is None:
                break
            items.append(item)
        self._joined = len(items) > 1
        return items

    def _decide(self, items: Sequence[_Item]) -> None:
        try:
            scores = self._engine.score_each([(item.routes, item.conversation) for item in items])
        except Exception as error:
            if len(items) == 1:
                items[0].result.set_exception(error)
                return
            for item in items:  # one of them may be at fault: the others shall not pay for it
                self._decide([item])
            return
        for item, result in zip(items, scores, strict=True):
            item.result.set_result(result)


_batchers: WeakSet[MicroBatcher] = WeakSet()


@atexit.register
def _stop_all() -> None:
    """A thread that is still there when the interpreter is torn down can abort the process."""
    for batcher in list(_batchers):
        batcher.stop()
