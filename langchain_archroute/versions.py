"""A router's routes with what decides between them, as they are at some time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from archroute.router import Router
from langchain_archroute.batching import Outcome
from langchain_archroute.decider import Decider, RoutedDecision
from langchain_archroute.route import RouteTable
from langchain_archroute.tables import Tables


class Version(NamedTuple):
    """The routes of a router as they are at some time, and what decides between them."""

    table: RouteTable
    decider: Decider


class Versions:
    """A router's routes with a decider for them, made anew when the routes are.

    Args:
        tables: Where the routes come from.
        decider_of: Makes the decider.

    Attributes:
        latest: What was made last; there may be newer routes.
    """

    def __init__(self, tables: Tables, decider_of: Callable[[RouteTable], Decider]) -> None:
        self.tables, self._decider_of = tables, decider_of
        self.latest = self._made(tables.current())

    def current(self) -> Version:
        """The routes of now."""
        return self._of(self.tables.current())

    async def acurrent(self) -> Version:
        """`current`, without blocking the event loop."""
        return self._of(await self.tables.acurrent())

    def _of(self, table: RouteTable) -> Version:
        if table is not self.latest.table:
            self.latest = self._made(table)
        return self.latest

    def _made(self, table: RouteTable) -> Version:
        return Version(table, self._decider_of(table))


class CurrentDecider(Decider):
    """Decides between a router's routes as they are at each call.

    Args:
        versions: The router's.
    """

    def __init__(self, versions: Versions) -> None:
        latest = versions.latest.decider
        super().__init__(latest.router, on_error=latest.on_error, extract=latest.extract)
        self._versions = versions

    @property
    def router(self) -> Router:
        """What decides now."""
        return self._versions.current().decider.router

    def run(self, *args: Any, **kwargs: Any) -> RoutedDecision:
        """See `Decider.run`."""
        return self._versions.current().decider.run(*args, **kwargs)

    async def arun(self, *args: Any, **kwargs: Any) -> RoutedDecision:
        """See `Decider.arun`."""
        return await (await self._versions.acurrent()).decider.arun(*args, **kwargs)

    def outcomes(self, inputs: Sequence[Any]) -> list[Outcome]:
        """See `Decider.outcomes`."""
        return self._versions.current().decider.outcomes(inputs)

    async def aoutcomes(self, inputs: Sequence[Any]) -> list[Outcome]:
        """See `Decider.aoutcomes`."""
        return await (await self._versions.acurrent()).decider.aoutcomes(inputs)
