"""Records to a Python logger, and to a file."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import Any

from archroute.errors import SettingError
from archroute.observe.record import Observer, ShadowRecord, TurnRecord


class LogObserver(Observer):
    """Logs one line a turn; the record itself is the log record's `archroute`, for handlers that write structured logs.

    Args:
        logger: Where to; turns that found no answer are warnings.
    """

    def __init__(self, logger: logging.Logger | None = None) -> None:
        self._logger = logger or logging.getLogger("archroute.turns")

    def turn_ended(self, record: TurnRecord, began: Any) -> None:
        """See `Observer`."""
        level = logging.INFO if record.outcome == "served" else logging.WARNING
        line = "route=%s rule=%s target=%s outcome=%s cause=%s attempts=%d ms=%.0f"
        attempts = len(record.decision.attempts)
        told = (record.route, record.rule, record.target, record.outcome, record.cause, attempts, record.latency_ms)
        self._logger.log(level, line, *told, extra={"archroute": record.model_dump(mode="json")})

    def shadow_ended(self, record: ShadowRecord) -> None:
        """See `Observer`."""
        line = "shadow route=%s target=%s outcome=%s cause=%s ms=%.0f"
        told = (record.route, record.target, record.outcome, record.cause, record.latency_ms)
        self._logger.info(line, *told, extra={"archroute": record.model_dump(mode="json")})


class JsonlObserver(Observer):
    """Appends one JSON line a turn, and one a shadow, to a file. Safe under threads.

    Args:
        path: The file; its directory must be there.

    Raises:
        SettingError: The file can't be written.
    """

    def __init__(self, path: str | Path) -> None:
        self._path, self._lock = Path(path), threading.Lock()
        self._write("")  # a wrong path is told now, not at the first turn

    def turn_ended(self, record: TurnRecord, began: Any) -> None:
        """See `Observer`."""
        self._write(record.model_dump_json() + "\n")

    def shadow_ended(self, record: ShadowRecord) -> None:
        """See `Observer`."""
        self._write(record.model_dump_json() + "\n")

    def _write(self, line: str) -> None:
        try:
            with self._lock, self._path.open("a", encoding="utf-8") as file:
                file.write(line)
        except OSError as error:
            raise SettingError(f"{self._path}: can't be written: {error}", hint="check the path") from error
