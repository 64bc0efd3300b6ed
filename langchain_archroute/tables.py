"""Where a router's table comes from: given once, or read anew from a policy file that changes."""

from __future__ import annotations

import logging
import threading
from typing import Protocol

from archroute.errors import SettingError
from langchain_archroute.route import Change, RouteTable

logger = logging.getLogger("archroute")


class Tables(Protocol):
    """Gives the table of now; the same object until it changes."""

    def current(self) -> RouteTable:
        """The table to serve a turn by."""

    async def acurrent(self) -> RouteTable:
        """`current`, without blocking the event loop."""

    def reload(self) -> RouteTable:
        """The table, read anew now.

        Raises:
            ArchRouteError: It can't be; what was read before stays.
        """


class Fixed:
    """A table that was given in code."""

    def __init__(self, table: RouteTable) -> None:
        self._table = table

    def current(self) -> RouteTable:
        """See `Tables`."""
        return self._table

    async def acurrent(self) -> RouteTable:
        """See `Tables`."""
        return self._table

    def reload(self) -> RouteTable:
        """Refused: there is no file."""
        raise SettingError("the routes come from no file", hint="use from_yaml(path, reload=True)")


class Mapped:
    """Other tables with each target changed, as `bind_tools` does; the work is done once for each table.

    A table whose targets can't be changed is refused and told of in the log; the one before it stays.
    """

    def __init__(self, tables: Tables, change: Change) -> None:
        self._tables, self._change = tables, change
        self._lock = threading.Lock()
        self._of = tables.current()
        self._mapped = self._of.mapped(change)

    def current(self) -> RouteTable:
        """See `Tables`."""
        return self._changed(self._tables.current())

    async def acurrent(self) -> RouteTable:
        """See `Tables`."""
        return self._changed(await self._tables.acurrent())

    def _changed(self, table: RouteTable) -> RouteTable:
        if table is not self._of:
            with self._lock:
                if table is not self._of:
                    self._of = table
                    try:
                        self._mapped = table.mapped(self._change)
                    except Exception as error:
                        logger.error("new routes are refused, those before stay: %s", error)
        return self._mapped

    def reload(self) -> RouteTable:
        """See `Tables`."""
        self._tables.reload()
        return self.current()
