"""A router's routes with what decides between them, as they are at some time."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from langchain_archroute.decider import Decider
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
    """

    def __init__(self, tables: Tables, decider_of: Callable[[RouteTable], Decider]) -> None:
        self.tables, self._decider_of = tables, decider_of
        self._version = self._made(tables.current())

    def current(self) -> Version:
        """The routes of now."""
        return self._of(self.tables.current())

    async def acurrent(self) -> Version:
        """`current`, without blocking the event loop."""
        return self._of(await self.tables.acurrent())

    def _of(self, table: RouteTable) -> Version:
        if table is not self._version.table:
            self._version = self._made(table)
        return self._version

    def _made(self, table: RouteTable) -> Version:
        return Version(table, self._decider_of(table))
