"""Which session a call belongs to."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from langchain_core.runnables import RunnableConfig

logger = logging.getLogger("archroute")

Session = Callable[[Any, RunnableConfig], str | None]
"""Tells, of a call's input and config, what tells its session from others; None where nothing does."""

_KEYS = ("thread_id", "session_id")  # LangGraph's, and RunnableWithMessageHistory's


def session_of(session: Session | None, input: Any, config: RunnableConfig) -> str | None:
    """The session of a call: as `session` tells it or, without one, the config's or the metadata's thread or session id.

    Example:
        >>> session_of(None, "hello", {"configurable": {"thread_id": 7}})
        '7'
    """
    if session is not None:
        try:
            key = session(input, config)
        except Exception:  # the user's own function: a turn without a session is better than none
            logger.exception("session= failed, the turn goes on without a session")
            return None
        return None if key is None else str(key)
    for place in (config.get("configurable") or {}, config.get("metadata") or {}):
        for name in _KEYS:
            if place.get(name) is not None:
                return str(place[name])
    return None
