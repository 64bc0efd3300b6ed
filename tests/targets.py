"""Targets of a core router that fail, stall and break off as they are told."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from operator import methodcaller
from typing import Any

from archroute import Decision
from archroute.decision import Reason
from archroute.dispatch import Turn
from tests.records import a_decision

FORMS = ["run", "arun", "stream", "astream"]
"""The ways in which a turn is served."""


@dataclass(eq=False)
class FakeTarget:
    """Answers with its name, letter by letter where it streams.

    Attributes:
        fails: Whether it raises; a function decides for every call.
        delay: Seconds it takes.
        breaks_after: Pieces after which its stream raises.
        calls: How often it was asked.
    """

    __name__: str
    fails: bool | Callable[[], bool] = False
    delay: float = 0.0
    breaks_after: int | None = None
    calls: int = field(default=0)

    def ask(self) -> str:
        self._begin()
        time.sleep(self.delay)
        return self.__name__

    async def aask(self) -> str:
        self._begin()
        await asyncio.sleep(self.delay)
        return self.__name__

    def stream(self) -> Iterator[str]:
        self._begin()
        time.sleep(self.delay)
        for number, letter in enumerate(self.__name__):
            self._go_on(number)
            yield letter

    async def astream(self) -> AsyncIterator[str]:
        self._begin()
        await asyncio.sleep(self.delay)
        for number, letter in enumerate(self.__name__):
            self._go_on(number)
            yield letter

    def _begin(self) -> None:
        self.calls += 1
        if self.fails() if callable(self.fails) else self.fails:
            raise ConnectionError(f"{self.__name__} is down, key sk-secret")

    def _go_on(self, number: int) -> None:
        if number == self.breaks_after:
            raise ConnectionError(f"{self.__name__} broke off")


ASK, AASK, STREAM, ASTREAM = (methodcaller(name) for name in ("ask", "aask", "stream", "astream"))


async def serve(turn: Turn[FakeTarget], form: str, *, shadow: bool = False) -> str:
    """The answer to a turn, served in one of the four forms."""
    if form == "run":
        return turn.run(ASK, ASK if shadow else None)
    if form == "arun":
        return await turn.arun(AASK, AASK if shadow else None)
    if form == "stream":
        return "".join(turn.stream(STREAM, ASK if shadow else None))
    return "".join([piece async for piece in turn.astream(ASTREAM, AASK if shadow else None)])


def decision(route: str = "tax", reason: Reason = "matched", **changed: Any) -> Decision:
    """A decision, made."""
    return a_decision(route=route, reason=reason, **changed)
