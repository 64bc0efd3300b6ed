"""One decision: ask the router, tell the instrumentation, and let no failure lose the turn."""

from __future__ import annotations

import logging

from archroute import Conversation, Decision, Router
from llamaindex_archroute.events import emit

logger = logging.getLogger("archroute")


def decide(router: Router, conversation: Conversation) -> Decision:
    """The router's decision; a failure is a decision for the default, or raised, as `router.on_error` says."""
    try:
        decision = router.route(conversation)
    except Exception as error:
        return failed(router, error)
    emit(decision)
    return decision


async def adecide(router: Router, conversation: Conversation) -> Decision:
    """`decide`, without blocking the event loop."""
    try:
        decision = await router.aroute(conversation)
    except Exception as error:
        return failed(router, error)
    emit(decision)
    return decision


def failed(router: Router, error: Exception) -> Decision:
    """The decision for a turn that could not be routed; the error itself if the router is to raise it."""
    if router.on_error == "raise":
        raise error
    logger.warning("routing failed, the turn goes to the default: %s", error, exc_info=error)
    decision = router.failed(error)
    emit(decision)
    return decision
