"""Which session a call belongs to."""

from __future__ import annotations

import logging
from collections.abc import Callable

from llama_index.core.memory import BaseMemory
from llama_index.core.memory.types import DEFAULT_CHAT_STORE_KEY
from llama_index_instrumentation.dispatcher import active_instrument_tags

from archroute import SettingError

logger = logging.getLogger("archroute")

SessionSource = BaseMemory | Callable[[], str | None] | str | None
"""A memory, whose key is the session's; a function that returns the key of the session that is served now; or the key itself.

None: the instrumentation's tags `session_id` or `thread_id` (`instrument_tags`), else `archroute.dispatch.session`."""

_TAGS = ("session_id", "thread_id")


def check_session(source: SessionSource) -> SessionSource:
    """The source itself.

    Raises:
        SettingError: It can't tell one session from another.
    """
    if isinstance(source, BaseMemory) and _key_of(source) in (None, DEFAULT_CHAT_STORE_KEY):
        raise SettingError(
            f"the memory, a {type(source).__name__}, has no key of its own, so all sessions would be one",
            hint="give it chat_store_key= (or session_id=), or pass session=lambda: key",
        )
    if not (source is None or isinstance(source, str | BaseMemory) or callable(source)):
        raise SettingError(f"session is a {type(source).__name__}", hint="give a memory, a function, or a key")
    return source


def session_key(source: SessionSource) -> str | None:
    """The key of the session that is served now, if anything in LlamaIndex tells it."""
    if isinstance(source, str):
        return source
    if isinstance(source, BaseMemory):
        return _key_of(source)
    key = None
    if source is not None:
        try:
            key = source()
        except Exception:  # the user's own function: a turn without a session is better than none
            logger.exception("session= failed, the turn goes on without a session")
            return None
    if key is None:
        tags = active_instrument_tags.get()
        key = next((tags[name] for name in _TAGS if tags.get(name)), None)
    return None if key is None else str(key)


def _key_of(memory: BaseMemory) -> str | None:
    return getattr(memory, "session_id", None) or getattr(memory, "chat_store_key", None)
